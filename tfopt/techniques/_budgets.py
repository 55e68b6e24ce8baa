"""How many channels of each group to keep, so that a model meets a budget at the least loss of importance."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from ._groups import Group, Grouped, Term

Kept = list[int]
Multiples = Sequence[tuple[int, int, int]]  # in layers of so many channels or more a multiple of so many stays, or so few

MULTIPLES: Multiples = ((32, 8, 8), (16, 4, 4))
# For time. XNNPACK's int8 kernels compute 16 channels at a time with AVX512-VNNI and ARM's dot product, 8 with AVX2. On VNNI a ResNet-8
# cut to layers of 4, 8 and 12 channels took 0.70 of the time with 0.25 of the MACs; half of the channels inside each block 0.74 with 0.53.
KERNELS: Multiples = ((16, 16, 8),)


class Ladder:
    """The numbers of channels that each group may have, from all of them downwards, and what a step down loses and saves.

    Attributes:
      levels: of each group, descending.
      kept: as it stands.
    """

    def __init__(
        self, grouped: Grouped, scores: Sequence[np.ndarray], free: Sequence[bool], levels: list[list[int]], what: str, relative: bool
    ):
        self.terms = _terms(grouped, free) if what == "keep" else getattr(grouped.costs, what)
        self.by_group = _by_group(self.terms, len(free))
        self.levels = levels
        self.lost = [_lost(group, each, relative) for group, each in zip(grouped.groups, scores, strict=True)]
        self.kept = [len(group) for group in grouped.groups]

    @property
    def cost(self) -> float:
        """Of what is kept."""
        return self.cost_of(self.kept)

    def cost_of(self, kept: Sequence[int]) -> float:
        """Of other numbers of channels."""
        return sum(term.at(kept) for term in self.terms)

    @property
    def least(self) -> Kept:
        """The fewest channels that each group may have."""
        return [levels[-1] for levels in self.levels]

    def next(self, group: int) -> int | None:
        """The next lower number of channels of a group."""
        return next((level for level in self.levels[group] if level < self.kept[group]), None)

    def above(self, group: int) -> int | None:
        """The next higher one."""
        return next((level for level in reversed(self.levels[group]) if level > self.kept[group]), None)

    def change(self, group: int, level: int) -> float:
        """How the cost changes where a group is brought to a level."""
        before = sum(term.at(self.kept) for term in self.by_group[group])
        kept = self.kept[group]
        self.kept[group] = level
        after = sum(term.at(self.kept) for term in self.by_group[group])
        self.kept[group] = kept
        return after - before

    def price(self, group: int, level: int) -> float:
        """The importance that a step down loses for each unit of cost that it saves."""
        full = self.levels[group][0]
        lost = self.lost[group][full - level] - self.lost[group][full - self.kept[group]]
        saved = -self.change(group, level)
        return lost / saved if saved > 0 else math.inf

    def path(self) -> Iterator[tuple[int, int]]:
        """Steps down, the cheapest first, to the fewest channels: (group, level), each taken when it is asked for."""
        heap = [(self.price(group, level), group) for group in range(len(self.levels)) if (level := self.next(group)) is not None]
        heapq.heapify(heap)
        while heap:
            _, group = heapq.heappop(heap)
            level = self.next(group)
            price = self.price(group, level)  # its neighbours may have shrunk since, so that it saves less now
            if heap and price > heap[0][0]:
                heapq.heappush(heap, (price, group))
                continue
            self.kept[group] = level
            yield group, level
            if (level := self.next(group)) is not None:
                heapq.heappush(heap, (self.price(group, level), group))

    def refill(self, fits: Callable[[Kept], bool], scope: str) -> None:
        """Takes steps back as long as what is kept still fits: those that lose most first, or of the groups with the smallest shares."""
        while True:
            steps = [(group, level) for group in range(len(self.levels)) if (level := self.above(group)) is not None]
            first = self._price_of_return if scope == "global" else self._share_cut
            for group, level in sorted(steps, key=lambda step: first(*step), reverse=True):
                before, self.kept[group] = self.kept[group], level
                if fits(self.kept):
                    break
                self.kept[group] = before
            else:
                return

    def _share_cut(self, group: int, level: int) -> float:
        return 1 - level / self.levels[group][0]

    def _price_of_return(self, group: int, level: int) -> float:
        full = self.levels[group][0]
        lost = self.lost[group][full - self.kept[group]] - self.lost[group][full - level]
        return lost / max(self.change(group, level), 1e-9)


def _lost(group: Group, scores: np.ndarray, relative: bool) -> np.ndarray:
    """What is lost with the n least important channels, n = 0 ... all of them.

    Relative to what is left, -log(share), so that the last channels of a group are dear: scores that are 1 on average in each group would
    otherwise take nearly all from the one group that saves most for each channel. And as often as layers compute with the group: the
    channels of a residual stream, which many share, save most and are missed most. (A ResNet-8 on CIFAR-10 at half its MACs, 4 epochs
    later: 83.7 % with that factor, 80.0 % without; losses measured with channels silenced have the same proportions.)
    """
    lost = np.concatenate([[0.0], np.cumsum(np.sort(scores))])
    return -np.log(np.maximum(1 - lost / lost[-1], 1e-12)) * group.layers if relative and lost[-1] else lost


def _by_group(terms: Sequence[Term], groups: int) -> list[list[Term]]:
    """The terms that each group has a part in."""
    found: list[list[Term]] = [[] for _ in range(groups)]
    for term in terms:
        for group in {group for _, per in term.axes for group in per}:
            found[group].append(term)
    return found


def _terms(grouped: Grouped, free: Sequence[bool]) -> list[Term]:
    """Of the channels that can be cut each as one."""
    return [Term(1.0, ((0, {index: group.each}),)) for index, (group, may) in enumerate(zip(grouped.groups, free, strict=True)) if may]


def levels_of(group: Group, multiple_of: int | None, multiples: Multiples) -> list[int]:
    """How many channels a group may have, downwards: all, the multiples below, and the fewest."""
    chosen = ((0, multiple_of, multiple_of),) if multiple_of is not None else (*multiples, (0, 1, 1))
    places = next((multiple, fewest) for least, multiple, fewest in chosen if group.each * len(group) >= least)
    multiple, fewest = (count // math.gcd(count, group.each) for count in places)
    found = {len(group), *range(multiple, len(group), multiple), min(fewest, len(group))}
    return sorted(found, reverse=True)


def at_ratio(ladder: Ladder, ratio: float) -> Kept:
    """The same share of each group: the level that is nearest to it."""
    return [min(levels, key=lambda level: abs(level - ratio * levels[0])) for levels in ladder.levels]


def within(ladder: Ladder, target: float, scope: str) -> None:
    """Brings a ladder down to a cost of no more than the target, and no lower than that asks for."""
    if scope == "global":
        steps = ladder.path()
        while ladder.cost > target:
            next(steps)
    else:
        ratios = sorted({level / levels[0] for levels in ladder.levels for level in levels})
        fitting = [ratio for ratio in ratios if ladder.cost_of(_below(ladder, ratio)) <= target]
        ladder.kept = _below(ladder, fitting[-1] if fitting else 0)
    ladder.refill(lambda kept: ladder.cost_of(kept) <= target, scope)


def _below(ladder: Ladder, ratio: float) -> Kept:
    return [next((level for level in levels if level <= ratio * levels[0] + 1e-9), levels[-1]) for levels in ladder.levels]


def removed(grouped: Grouped, scores: Sequence[np.ndarray], kept: Sequence[int]) -> list[np.ndarray]:
    """The numbers of the channels of each group that are cut: those with the lowest scores; of equal ones the first are kept."""
    found = []
    for group, each, count in zip(grouped.groups, scores, kept, strict=True):
        order = np.lexsort((-np.arange(len(group)), each))
        found.append(group.channels[order[: len(group) - count]])
    return found
