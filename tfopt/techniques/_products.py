"""Matrices and kernels as products of smaller ones: what is kept of them at each rank, and the factors.

The energy of a matrix is the sum of its squared singular values, which is that of its squared numbers. Singular vectors are those of the
Gram matrix, whose size is the matrix's smaller side.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

Factors = tuple[np.ndarray, ...]


class Product:
    """A matrix W (m, n) as A B of rank r, by truncated SVD: no other product of that rank is nearer to it.

    With W = U S V', A = U sqrt(S) and B = sqrt(S) V', of the r largest singular values: both factors have the same size.
    """

    def __init__(self, matrix: np.ndarray):
        self.matrix = matrix

    @cached_property
    def kept(self) -> np.ndarray:
        """The share of the energy that is kept at rank 1, 2, ... min(m, n)."""
        matrix = self.matrix.astype("float32")  # values alone can't be had more cheaply, and ranks hang on no more digits
        gram = matrix @ matrix.T if matrix.shape[0] < matrix.shape[1] else matrix.T @ matrix
        return _shares(np.linalg.eigvalsh(gram)[::-1])

    def factors(self, rank: int) -> Factors:
        """A (m, r) and B (r, n), float32."""
        matrix = self.matrix.astype("float64")
        if matrix.shape[0] < matrix.shape[1]:
            right, left = Product(matrix.T).factors(rank)
            return left.T, right.T
        directions = _directions(matrix.T @ matrix)[:, :rank]
        left = matrix @ directions
        sizes = np.linalg.norm(left, axis=0)
        roots = np.sqrt(np.maximum(sizes, 1e-12 * sizes[0]))
        return (left / roots).astype("float32"), (directions * roots).T.astype("float32")


class Tucker:
    """A kernel (places, m, n) as a smaller one (places, r, s) between two matrices (m, r) and (s, n), by HOSVD.

    The matrices hold the first singular vectors of the kernel along its inputs and its outputs; what is between them is the kernel as
    they see it, K_p = U' W_p V, and holds all the energy that is kept.
    """

    def __init__(self, kernel: np.ndarray):
        self.kernel = kernel

    @cached_property
    def kept(self) -> np.ndarray:
        """The share of the energy that is kept at ranks (r, s), as a table (m, n)."""
        energies = np.square(self._between(*self._sides, "float32")).sum(axis=0)
        table = energies.cumsum(axis=0, dtype="float64").cumsum(axis=1)
        return table / table[-1, -1]

    def factors(self, inner: int, outer: int) -> Factors:
        """U (m, r), the kernel between (places, r, s), and V' (s, n), float32."""
        before, behind = self._sides
        before, behind = before[:, :inner], behind[:, :outer]
        if inner == len(before):
            before = np.eye(inner)
        if outer == len(behind):
            behind = np.eye(outer)
        between = self._between(before, behind, "float64")
        return tuple(factor.astype("float32") for factor in (before, between, behind.T))

    @cached_property
    def _sides(self) -> tuple[np.ndarray, np.ndarray]:
        """The singular vectors along the inputs and along the outputs, as columns."""
        kernel = self.kernel.astype("float64")
        across, along = kernel.transpose(1, 0, 2).reshape(kernel.shape[1], -1), kernel.reshape(-1, kernel.shape[2])
        return _directions(across @ across.T), _directions(along.T @ along)

    def _between(self, before: np.ndarray, behind: np.ndarray, dtype: str) -> np.ndarray:
        return before.T.astype(dtype) @ (self.kernel.astype(dtype) @ behind.astype(dtype))


def _directions(gram: np.ndarray) -> np.ndarray:
    """The eigenvectors as columns, that of the largest eigenvalue first."""
    return np.linalg.eigh(gram)[1][:, ::-1]


def _shares(energies: np.ndarray) -> np.ndarray:
    sums = np.cumsum(np.maximum(energies, 0), dtype="float64")
    return sums / sums[-1]
