"""The rows of a kernel in which weights share values: one of all weights, or one an output channel; and the values themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..surgery import kernels
from ..surgery.kernels import Kernel
from ._centroids import centroids

LARGEST = 256  # values that a kernel may have to be taken for a clustered one: int8 has no more
MOST_DIFFERENT = 0.98  # of what shares values, the share that may still be different


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

    They do where one in fifty or more repeats another's, which weights that nobody clustered do not: one of 4,096 in a random layer.
    Values that hardly occur in more than one output channel are the channel's own.
    """
    rows = rows_of(kernel, True)
    of_rows = [np.unique(row[row != 0]) for row in rows]
    whole, weights = np.unique(np.concatenate(of_rows)), np.count_nonzero(rows)
    by_channel = len(whole) > MOST_DIFFERENT * sum(map(len, of_rows))
    values = of_rows if by_channel else [whole]
    most = 0.5 if _is_rounded(whole) else MOST_DIFFERENT
    if len(whole) + (weights < rows.size) < 2 or max(map(len, values)) > LARGEST or sum(map(len, values)) > most * weights:
        return None
    return by_channel, _padded(values)


def _is_rounded(values: np.ndarray) -> bool:
    """Whether all values are such as half precision has: then some weights are equal by chance."""
    in_bfloat16 = not (values.astype("float32").view("uint32") & 0xFFFF).any()
    return in_bfloat16 or np.array_equal(values, values.astype("float16"))


def in_layer(layer: Any) -> bool:
    """Whether a layer has a kernel whose weights share values."""
    return any(found_in(kernel) is not None for kernel in kernels.kernels_of(layer))


def _padded(values: Sequence[np.ndarray]) -> np.ndarray:
    """As a matrix, a row with fewer values repeating its last; a row without any holds zeros."""
    longest = max(1, max(map(len, values)))
    filled = [row if len(row) else np.zeros(1) for row in values]
    return np.stack([np.pad(row, (0, longest - len(row)), mode="edge") for row in filled]).astype("float32")
