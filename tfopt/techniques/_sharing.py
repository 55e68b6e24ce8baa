"""The rows of a kernel in which weights share values: one of all weights, or one an output channel; and the values themselves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..surgery.kernels import Kernel
from ._centroids import centroids

LARGEST = 256  # values that a kernel may have to be taken for a clustered one: int8 has no more


def layout(kernel: Kernel, per_channel: bool) -> tuple[tuple[int, ...], int]:
    """The order of the kernel's axes in which rows come one after the other, and how many rows there are."""
    if not per_channel:
        return tuple(range(len(kernel.shape))), 1
    inputs = kernel.order[: -len(kernel.outputs)]
    return (*kernel.outputs, *inputs), int(np.prod([kernel.shape[axis] for axis in kernel.outputs]))


def rows_of(kernel: Kernel, per_channel: bool) -> np.ndarray:
    """The weights as (rows, weights)."""
    matrix = kernel.matrix()
    return matrix.T if per_channel else matrix.reshape(1, -1)


def shared_values(rows: np.ndarray, clusters: int, init: str, seed: int) -> np.ndarray:
    """The values of each row beside zero, (rows, k) float32: together with zero, where a row has zeros, at most `clusters`."""
    return _padded([centroids(row[row != 0], clusters - (not row.all()), init, seed) for row in rows])


def found_in(kernel: Kernel) -> tuple[bool, np.ndarray] | None:
    """Whether a kernel is clustered by channels, and its values beside zero (rows, k); None where its weights share no values.

    They do where no row has more than half as many different values as weights, zeros left out, and no more than int8 has.
    """
    for per_channel in (False, True):
        rows = [row[row != 0] for row in rows_of(kernel, per_channel)]
        values = [np.unique(row) for row in rows]
        if all(len(v) <= min(LARGEST, len(row) / 2) for v, row in zip(values, rows, strict=True)) and any(map(len, rows)):
            return per_channel, _padded(values)
    return None


def _padded(values: Sequence[np.ndarray]) -> np.ndarray:
    """As a matrix, a row with fewer values repeating its last; a row without any holds zeros."""
    longest = max(1, *map(len, values)) if len(values) > 1 else max(1, len(values[0]))
    filled = [row if len(row) else np.zeros(1) for row in values]
    return np.stack([np.pad(row, (0, longest - len(row)), mode="edge") for row in filled]).astype("float32")
