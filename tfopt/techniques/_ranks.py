"""Which ranks a layer's parts get: by a rank, by the energy that is to be kept, or for a budget of the whole model."""

from __future__ import annotations

import heapq
import numbers
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ._parts import Made, Whole


@dataclass(frozen=True, eq=False)
class Parts:
    """Parts that stand for a layer.

    Attributes:
      cost, kept: what they cost, and the share of the kernel's energy that they keep.
    """

    whole: Whole
    way: int
    ranks: tuple[int, ...]
    cost: int
    kept: float

    def __str__(self) -> str:
        parts = self.whole.ways[self.way].parts(*self.ranks)
        return f"{parts}: {self.kept:.1%} of its energy, {self.whole.unit} {self.whole.cost:,} -> {self.cost:,}{self.whole.beside}"

    def made(self) -> Made:
        """The layers and their weights."""
        return self.whole.ways[self.way].made(*self.ranks)


class Candidates:
    """The parts that a layer can have at less than it costs, the cheapest first.

    Attributes:
      costs, kept: of each.
    """

    def __init__(self, whole: Whole):
        self.whole = whole
        costs = np.concatenate([way.costs.ravel() for way in whole.ways])
        kept = np.concatenate([way.kept.ravel() for way in whole.ways])
        places = np.flatnonzero(costs < whole.cost)
        self._places = places[np.lexsort((places, -kept[places], costs[places]))]
        self.costs, self.kept = costs[self._places], kept[self._places]

    def __len__(self) -> int:
        return len(self.costs)

    def at(self, index: int) -> Parts:
        """One of them."""
        place = int(self._places[index])
        for way, found in enumerate(self.whole.ways):
            if place < found.costs.size:
                ranks = tuple(int(each) + 1 for each in np.unravel_index(place, found.costs.shape))
                return Parts(self.whole, way, ranks, int(self.costs[index]), float(self.kept[index]))
            place -= found.costs.size
        raise IndexError(index)

    def by_energy(self, share: float) -> Parts | None:
        """The cheapest that keep this share of the energy."""
        enough = self.kept >= share
        return self.at(int(np.argmax(enough))) if enough.any() else None

    def by_rank(self, rank: float) -> Parts | None:
        """Those that keep most at no more than what a truncated SVD of this rank costs: a number, or a share of the full rank."""
        costs = self.whole.ways[0].costs
        number = min(rank, len(costs)) if isinstance(rank, numbers.Integral) else max(1, round(rank * len(costs)))
        fitting = int(np.searchsorted(self.costs, costs[number - 1], side="right")) if costs[number - 1] < self.whole.cost else 0
        return self.at(int(np.argmax(self.kept[:fitting]))) if fitting else None


class _Curve:
    """What a layer loses at what it costs: of all its candidates those that lose less than each cheaper one, and last itself as it is.

    A layer loses -log(share of the energy that is kept), so that the last of it is dear.
    """

    def __init__(self, candidates: Candidates):
        self.candidates = candidates
        best = np.maximum.accumulate(candidates.kept)
        self._indices = np.flatnonzero(np.concatenate([[True], candidates.kept[1:] > best[:-1]]))
        self.costs = np.append(candidates.costs[self._indices], candidates.whole.cost)
        self.lost = np.append(-np.log(np.maximum(candidates.kept[self._indices], 1e-12)), 0.0)
        self.at = len(self.costs) - 1  # where the layer stands

    @property
    def parts(self) -> Parts | None:
        """Those of the place where it stands; None where it stays whole."""
        return None if self.at == len(self._indices) else self.candidates.at(int(self._indices[self.at]))

    def below(self) -> tuple[float, int] | None:
        """The step down that loses least for what it saves: what it loses for each unit, and where it leads."""
        if self.at == 0:
            return None
        prices = (self.lost[: self.at] - self.lost[self.at]) / (self.costs[self.at] - self.costs[: self.at])
        return float(prices.min()), int(prices.argmin())

    def above(self, spare: int) -> tuple[float, int]:
        """The highest place that costs no more than `spare` above this one, and what it wins back."""
        place = int(np.searchsorted(self.costs, self.costs[self.at] + spare, side="right")) - 1
        return float(self.lost[self.at] - self.lost[place]), place


def least(all_candidates: Sequence[Candidates]) -> int:
    """What the cheapest parts of all layers save."""
    return sum(each.whole.cost - int(each.costs[0]) for each in all_candidates)


def by_budget(all_candidates: Sequence[Candidates], saved: int) -> list[Parts | None]:
    """Parts that together save this much, at most `least`: step by step what loses least for each unit; then back up where that fits."""
    curves = [_Curve(each) for each in all_candidates]
    steps = [(*step, number) for number, curve in enumerate(curves) if (step := curve.below())]
    heapq.heapify(steps)
    while saved > 0:
        _, place, number = heapq.heappop(steps)
        curve = curves[number]
        saved -= int(curve.costs[curve.at] - curve.costs[place])
        curve.at = place
        if step := curve.below():
            heapq.heappush(steps, (*step, number))
    while True:
        won, place, number = max(((*curve.above(-saved), number) for number, curve in enumerate(curves)), default=(0, 0, 0))
        if won <= 0:
            return [curve.parts for curve in curves]
        saved += int(curves[number].costs[place] - curves[number].costs[curves[number].at])
        curves[number].at = place
