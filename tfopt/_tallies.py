"""Statistics of more examples than memory holds: each tally is given batches, and keeps a few bytes of every example at most."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ._descriptions import Boxes, Numbers, Values, Words

_SHOWN = 5  # pairs of copies that are named
_SLACK = 1e-4  # by which a box may reach out of its image: what rounding makes of a box at its border


class Moments:
    """Extremes, mean and spread of all values, or of each column of a table."""

    def __init__(self, columns: int = 1):
        self.count, self.missing, self.infinite = (np.zeros(columns, np.int64) for _ in range(3))
        self.low, self.high = np.full(columns, np.inf), np.full(columns, -np.inf)
        self.mean, self.squares = np.zeros(columns), np.zeros(columns)  # squares: the sum of (value - mean)²

    def add(self, batch: np.ndarray) -> None:
        """Takes a batch (n, ...) in; what is no number has no range, and is passed over."""
        if not len(batch) or batch.dtype.kind in "OSU":
            return
        values = batch.astype(np.float64).reshape(-1, len(self.count))
        finite = np.isfinite(values)
        self.missing += np.isnan(values).sum(axis=0)
        self.infinite += np.isinf(values).sum(axis=0)
        self.low = np.minimum(self.low, values.min(axis=0, where=finite, initial=np.inf))
        self.high = np.maximum(self.high, values.max(axis=0, where=finite, initial=-np.inf))
        count = finite.sum(axis=0)
        mean = values.sum(axis=0, where=finite) / np.maximum(count, 1)
        squares = ((values - mean) ** 2).sum(axis=0, where=finite)
        # two sets of values joined without loss of digits (Chan, Golub & LeVeque 1979)
        total, apart = self.count + count, mean - self.mean
        share = count / np.maximum(total, 1)
        self.squares += squares + apart**2 * self.count * share
        self.mean += apart * share
        self.count = total

    def values(self, columns: Sequence[str] = ("",), **of: Any) -> list[Values]:
        """What was found, for each column."""
        return [
            Values(
                column=column,
                low=float(self.low[at]) if self.count[at] else None,
                high=float(self.high[at]) if self.count[at] else None,
                mean=float(self.mean[at]) if self.count[at] else None,
                std=float(np.sqrt(self.squares[at] / self.count[at])) if self.count[at] else None,
                missing=int(self.missing[at]),
                infinite=int(self.infinite[at]),
                **of,
            )
            for at, column in enumerate(columns)
        ]


def hashes(x: Any) -> np.ndarray:
    """(n,) uint64: equal for examples of the same bytes. Of a million examples, two others agree with a chance of 3 in 100 million.

    x: a batch (n, ...), or a dict of them by input name.
    """
    inputs = [x[name] for name in sorted(x)] if isinstance(x, Mapping) else [x]
    return np.array([_hash([one[at] for one in inputs]) for at in range(len(inputs[0]))], np.uint64)


def _hash(example: Sequence[Any]) -> int:
    digest = hashlib.blake2b(digest_size=8)
    for one in example:
        one = np.asarray(one)
        digest.update(repr(one.tolist()).encode() if one.dtype.kind == "O" else np.ascontiguousarray(one))
    return int.from_bytes(digest.digest(), "little")


def repeated(found: np.ndarray) -> tuple[int, list[tuple[int, int]]]:
    """How many hashes stood there before, and where the first few of them stand: (place, place of the first one)."""
    _, first, whose = np.unique(found, return_index=True, return_inverse=True)
    again = np.flatnonzero(first[whose] != np.arange(len(found)))
    return len(again), [(int(at), int(first[whose[at]])) for at in again[:_SHOWN]]


def shared(found: np.ndarray, others: np.ndarray) -> tuple[int, list[tuple[int, int]]]:
    """How many hashes are among the `others`, too, and where the first few of them stand: (place, place among the others)."""
    there = np.flatnonzero(np.isin(found, others))
    return len(there), [(int(at), int(np.flatnonzero(others == found[at])[0])) for at in there[:_SHOWN]]


class Lengths:
    """How long texts are, and how much of them is in the vocabulary; see `datasets.text_file` for what the indices mean."""

    def __init__(self, places: int, facts: Mapping[str, Any]):
        self.padding, self.unknown = facts.get("padding", 0), facts.get("unknown")
        self.vocabulary = sum(index not in (self.padding, self.unknown) for index in range(len(facts["vocabulary"])))
        self.counts, self.strange = np.zeros(places + 1, np.int64), 0  # texts of each length; words that are unknown

    def add(self, batch: np.ndarray) -> None:
        """Takes a batch of word indices (n, places) in."""
        self.counts += np.bincount((batch != self.padding).sum(axis=1), minlength=len(self.counts))
        self.strange += int((batch == self.unknown).sum())

    def words(self, **of: Any) -> Words | None:
        """What was found; None without texts."""
        texts, lengths = self.counts.sum(), np.flatnonzero(self.counts)
        if not texts:
            return None
        words = int(self.counts @ np.arange(len(self.counts)))
        return Words(
            vocabulary=self.vocabulary,
            shortest=int(lengths[0]),
            median=int(np.searchsorted(self.counts.cumsum(), texts / 2)),
            longest=int(lengths[-1]),
            full=float(self.counts[-1] / texts),
            unknown=self.strange / max(words, 1),
            **of,
        )


class Classes:
    """How often each class comes; `several` may be there at once."""

    def __init__(self, count: int, several: bool = False):
        self.several = several
        self.counts, self.outside = np.zeros(count, np.int64), 0  # outside: labels that are the index of no class

    def add(self, y: Any) -> None:
        """Takes a batch of labels in: class indices (n,), sequences of them (n, length) or masks (n, height, width), in which -1 is none,
        shares of the classes or 0 and 1 for several (n, classes), or the boxes of a detection set.
        """
        if self.several:
            self.counts += y.astype(np.int64).sum(axis=0)
            return
        labels = y["labels"] if isinstance(y, Mapping) else y
        filled = isinstance(y, Mapping) or labels.ndim == 3 or (labels.ndim == 2 and labels.dtype.kind == "i")
        if not filled and labels.ndim == 2 and labels.shape[1] == len(self.counts):
            labels = labels.argmax(axis=1)
        labels = labels.ravel().astype(np.int64)
        if filled:
            labels = labels[labels != -1]
        good = (labels >= 0) & (labels < len(self.counts))
        self.counts += np.bincount(labels[good], minlength=len(self.counts))
        self.outside += int((~good).sum())


class Targets:
    """The numbers to predict: all of them are kept, 4 bytes each."""

    def __init__(self):
        self.parts: list[np.ndarray] = []

    def add(self, y: np.ndarray) -> None:
        """Takes a batch (n, ...) in."""
        self.parts.append(np.asarray(y, np.float32).ravel())

    def numbers(self, split: str) -> Numbers:
        """What was found."""
        every = np.concatenate([np.empty(0, np.float32), *self.parts]).astype(np.float64)
        values = every[np.isfinite(every)]
        found = [*np.quantile(values, (0, 0.25, 0.5, 0.75, 1)), values.mean(), values.std()] if len(values) else [None] * 7
        return Numbers(split, *(None if one is None else float(one) for one in found), missing=len(every) - len(values))


class BoxSizes:
    """How many boxes there are and how large: for each image its count and for each box its size are kept.

    size: of the raw image in pixels, (height, width); None where it is not known.
    """

    def __init__(self, size: tuple[int, int] | None):
        self.size, self.outside = size, 0
        self.counts: list[np.ndarray] = []
        self.sizes: list[np.ndarray] = []  # (boxes, 2) as height, width in shares of the image

    def add(self, y: Mapping[str, np.ndarray]) -> None:
        """Takes a batch of {"boxes": (n, m, 4), "labels": (n, m)} in; boxes with the label -1 are filled up and none."""
        real = y["labels"] >= 0
        boxes = np.asarray(y["boxes"], np.float64)[real]
        self.counts.append(real.sum(axis=1))
        self.sizes.append((boxes[:, 2:] - boxes[:, :2]).astype(np.float32))
        inside = (boxes >= -_SLACK).all(axis=1) & (boxes <= 1 + _SLACK).all(axis=1) & (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
        self.outside += int((~inside).sum())

    def boxes(self, split: str) -> Boxes | None:
        """What was found; None without images."""
        counts = np.concatenate([np.empty(0, np.int64), *self.counts])
        if not len(counts):
            return None
        sizes = np.concatenate(self.sizes) * (self.size or (1, 1))
        height, width = (tuple(map(float, np.quantile(one, (0, 0.5, 1)))) if len(one) else None for one in sizes.T)
        return Boxes(
            split, int(counts.sum()), int(counts.min()), float(counts.mean()), int(counts.max()), int((counts == 0).sum()),
            "pixels" if self.size else "shares", width, height, self.outside,
        )  # fmt: skip
