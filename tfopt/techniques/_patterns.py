"""Which weights of a matrix become zero: the smallest, one by one, in blocks, or some of every few.

All functions work on matrices (inputs, outputs) of numbers and give masks of the same shape, True where a weight stays.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Pattern:
    """How zeros lie: `block` rows x columns become zero together; or, where `group` is given, `zeros` of each `group` inputs in a row."""

    block: tuple[int, int] = (1, 1)
    zeros: int = 0
    group: int = 0

    def problem(self, channels: int, shape: tuple[int, int], share: float) -> str | None:
        """Why it does not fit a kernel of so many input channels, (inputs, outputs) and share of zeros; None where it does."""
        if self.group and channels % self.group:
            return f"its {channels} input channels can't be divided into groups of {self.group}"
        blocks = -(-shape[0] // self.block[0]) * -(-shape[1] // self.block[1])
        if self.block != (1, 1) and share and not round(blocks * share):
            return f"of {blocks} block{'s' * (blocks > 1)} of {self.block[0]}x{self.block[1]}, {share:.0%} are none"
        return None

    def scores(self, matrix: np.ndarray) -> np.ndarray:
        """The mean magnitude of each block, as a matrix of blocks; blocks at the edge may be smaller."""
        magnitudes = np.abs(matrix)
        if self.block == (1, 1):
            return magnitudes
        rows, columns = (np.arange(0, size, step) for size, step in zip(matrix.shape, self.block, strict=True))
        sums, ones = (np.add.reduceat(np.add.reduceat(values, rows, 0), columns, 1) for values in (magnitudes, np.ones_like(magnitudes)))
        return sums / ones

    def spread(self, kept: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
        """A mask of blocks as one of weights."""
        if self.block == (1, 1):
            return kept
        return kept.repeat(self.block[0], 0).repeat(self.block[1], 1)[: shape[0], : shape[1]]


def pattern_of(text: str) -> Pattern:
    """The pattern that an option names: "unstructured", "4x1" (blocks of 4 inputs x 1 output), "2:4" (2 zeros in each 4 inputs).

    Raises:
      ValueError: it names none; the message is the end of a sentence.
    """
    if text == "unstructured":
        return Pattern()
    if match := re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text):
        return Pattern(block=(int(match[1]), int(match[2])))
    match = re.fullmatch(r"([1-9]\d*):([1-9]\d*)", text)
    if not match or int(match[1]) >= int(match[2]):
        raise ValueError('should be "unstructured", rows x columns of a block such as "4x1", or m:n with m < n such as "2:4"')
    return Pattern(zeros=int(match[1]), group=int(match[2]))


def masks(matrices: Sequence[np.ndarray], shares: Sequence[float], pattern: Pattern, together: bool) -> list[np.ndarray]:
    """The masks of several kernels, with the asked-for share of zeros in each, or (`together`) in all of them: one threshold.

    The count of zeros is exact: the share of the weights, or blocks, rounded to a whole number. Weights that are zero go first.
    """
    if pattern.group:
        return [_of_groups(matrix, pattern) for matrix in matrices]
    scores = [pattern.scores(matrix) for matrix in matrices]
    if together:
        kept = np.split(_largest(np.concatenate([s.ravel() for s in scores]), shares[0]), np.cumsum([s.size for s in scores])[:-1])
    else:
        kept = [_largest(s.ravel(), share) for s, share in zip(scores, shares, strict=True)]
    return [pattern.spread(k.reshape(s.shape), m.shape) for k, s, m in zip(kept, scores, matrices, strict=True)]


def _largest(scores: np.ndarray, share: float) -> np.ndarray:
    """False for the share of the smallest."""
    kept = np.ones(scores.size, bool)
    count = round(scores.size * share)
    if count:
        kept[np.argpartition(scores, count - 1)[:count]] = False
    return kept


def _of_groups(matrix: np.ndarray, pattern: Pattern) -> np.ndarray:
    groups = np.abs(matrix).reshape(-1, pattern.group, matrix.shape[1])
    ranks = groups.argsort(1, kind="stable").argsort(1, kind="stable")
    return (ranks >= pattern.zeros).reshape(matrix.shape)
