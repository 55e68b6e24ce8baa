"""One series in order of time, and its windows in train, validation and test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from ..errors import DataError
from ._labels import PARTS


@dataclass(frozen=True)
class Series:
    """Points in order of time.

    Attributes:
      name: of its file.
      times: (n,) float64, seconds, rising.
      values: (n, columns) float64.
      anomalous: (n,) bool.
      notes: what was done to it.
    """

    name: str
    times: np.ndarray
    values: np.ndarray
    anomalous: np.ndarray
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.times)

    @property
    def blocks(self) -> list[tuple[int, int]]:
        """The (start, stop) of each run of anomalous points."""
        edges = np.flatnonzero(np.diff(np.concatenate([[False], self.anomalous, [False]]).astype(np.int8)))
        return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def in_order(name: str, times: np.ndarray, values: np.ndarray, anomalous: np.ndarray) -> Series:
    """The series sorted by time; of rows with one time the last is kept, a missing value is the one before it. What was done is noted.

    Raises:
      DataError: a column has no value.
    """
    notes = []
    if count := int((np.diff(times) < 0).sum()):
        notes.append(f"{name}: its rows are not in order of time ({count} go back); they were sorted")
    order = np.argsort(times, kind="stable")
    times, values, anomalous = times[order], values[order], anomalous[order]
    last = np.append(np.diff(times) > 0, True)
    if count := int((~last).sum()):
        notes.append(f"{name}: {count} rows have the time of another one; the last of each was kept")
    times, values, anomalous = times[last], values[last], anomalous[last]
    if count := int(np.isnan(values).sum()):
        values, notes = _filled(values, name), [*notes, f"{name}: {count} missing values were replaced by those before them"]
    return Series(name, times, values, anomalous, (*notes, *_unevenness(name, times)))


def _filled(values: np.ndarray, name: str) -> np.ndarray:
    known = ~np.isnan(values)
    if not known.any(axis=0).all():
        raise DataError(f"{name}: a column of values is empty; name the others with values")
    before = np.maximum.accumulate(np.where(known, np.arange(len(values))[:, np.newaxis], -1), axis=0)
    first = known.argmax(axis=0)  # what is missing at the start has nothing before it, and takes the first value that there is
    return np.take_along_axis(values, np.where(before < 0, first, before), axis=0)


def _unevenness(name: str, times: np.ndarray) -> list[str]:
    steps = np.diff(times)
    usual = float(np.median(steps)) if len(steps) else 0.0
    uneven = int((np.abs(steps - usual) > usual / 2).sum())
    if not uneven:
        return []
    return [f"{name}: is not evenly spaced: {uneven} of {len(steps):,} steps are not about {usual:g} s, the longest is {steps.max():g} s; "
            "windows count rows, not time"]  # fmt: skip


def by_time(series: Series, validation: float, test: float) -> list[tuple[str, int, int]]:
    """(part, start, stop) of its earliest, its middle and its latest points."""
    first, second = (round(share * len(series)) for share in (1 - validation - test, 1 - test))
    return [("train", 0, first), ("validation", first, second), ("test", second, len(series))]


def by_blocks(every: Sequence[Series], validation: float, test: float, seed: int) -> list[list[tuple[str, int, int]]]:
    """(part, start, stop) of the stretches of each series: cut in the middle between anomalies, so that each anomaly is whole in one part.

    A series without one is cut by time.

    Raises:
      DataError: there are fewer than 3 anomalies.
    """
    stretches = [(number, start, stop) for number, series in enumerate(every) for start, stop in _around_blocks(series)]
    count = len(stretches)
    if count < 3:
        raise DataError(f"split = 'blocks': there are {count} anomalies in all series together; should be 3, one for each part")
    tested, validated = (max(1, min(round(share * count), count - 2)) for share in (test, validation))
    validated = min(validated, count - tested - 1)
    part_of = ["test"] * tested + ["validation"] * validated + ["train"] * (count - tested - validated)
    parts: list[list[tuple[str, int, int]]] = [[] for _ in every]
    for part, at in zip(part_of, np.random.default_rng(seed).permutation(count), strict=True):
        number, start, stop = stretches[at]
        parts[number].append((part, start, stop))
    return [sorted(own, key=lambda one: one[1]) or by_time(series, validation, test) for own, series in zip(parts, every, strict=True)]


def _around_blocks(series: Series) -> list[tuple[int, int]]:
    blocks = series.blocks
    cuts = [(stop + start) // 2 for (_, stop), (start, _) in pairwise(blocks)]
    return list(pairwise([0, *cuts, len(series)])) if blocks else []


def windows_of(series: Series, x: np.ndarray, stretches: Any, length: int, stride: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The windows (n, length, columns) of x, (points, columns), by part, and whether the last point of each is anomalous (n,) int32.

    A window lies in one stretch wholly.
    """
    found: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {part: [] for part in PARTS}
    for part, start, stop in stretches:
        first = np.arange(start, stop - length + 1, stride)
        at = first[:, np.newaxis] + np.arange(length)
        found[part].append((x[at], series.anomalous[first + length - 1].astype(np.int32)))
    none = np.empty((0, length, x.shape[1]), x.dtype), np.empty(0, np.int32)
    return {part: tuple(map(np.concatenate, zip(none, *own, strict=True))) for part, own in found.items()}
