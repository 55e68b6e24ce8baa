"""Channels, and which of them can only go together: what `coupling` writes down while it walks over a model's layers.

Every place along the axis of a tensor that can be cut has a number, its channel. A layer makes new ones (the outputs of a convolution),
hands on those that it is given (pooling), puts them in another order (a concatenation, a Flatten), or ties some together: those that an
Add sums are one from then on. What a weight has along an axis is written down as the channels that it belongs to. So a channel's number
tells all that has to be cut with it, through whatever layers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Shape = tuple[int | None, ...]
FIXED = 0  # the one channel of everything that is never cut


@dataclass(frozen=True)
class Channels:
    """What the places along one axis of a tensor hold.

    Attributes:
      axis: the axis that may be cut, the batch counted; None where none may.
      ids: the channel of each place along it.
      rest: what each place holds, at every example and position, once the weights that make its channel are zero; NaN where that depends
        on the example.
      reason: why none may.
    """

    axis: int | None = None
    ids: np.ndarray = field(default_factory=lambda: np.zeros(0, int))
    rest: np.ndarray = field(default_factory=lambda: np.zeros(0))
    reason: str = "it is not known how it is made"


@dataclass(frozen=True)
class Call:
    """A call of a layer.

    Attributes:
      inputs, shapes: what goes in, and the shapes, with the batch.
      outputs: the shapes of what comes out.
      arguments: what the layer is called with, in place and by name, an input as its number: (positional, keywords).
    """

    inputs: Sequence[Channels]
    shapes: Sequence[Shape]
    outputs: Sequence[Shape]
    arguments: tuple[tuple, dict] = ((), {})


@dataclass(frozen=True, eq=False)
class Slot:
    """An axis of a weight.

    Attributes:
      layer: that has it.
      variable, axis: which.
      ids: the channel of each place along the axis.
      makes: whether the weight makes these channels (the outputs of a kernel, a bias, BatchNorm's scale) or reads them.
    """

    layer: Any
    variable: Any
    axis: int
    ids: np.ndarray
    makes: bool


@dataclass(frozen=True, eq=False)
class Shift:
    """A bias that takes over what channels of a constant value contributed: bias[j] += sum of value * kernel along the cut places."""

    kernel: Any
    axis: int
    ids: np.ndarray
    values: np.ndarray


class Ties:
    """Channels by number, which of them are one, and where they are in the weights and settings of layers."""

    def __init__(self):
        self._parents = [FIXED]
        self._reasons: dict[int, str] = {}
        self.slots: dict[tuple[int, int], Slot] = {}
        self.settings: dict[int, dict[tuple[str | int, ...], np.ndarray]] = {}
        self.shifts: dict[int, Shift] = {}

    def new(self, count: int) -> np.ndarray:
        """Numbers of so many new channels."""
        first = len(self._parents)
        self._parents += range(first, first + count)
        return np.arange(first, first + count)

    @property
    def count(self) -> int:
        """How many numbers there are."""
        return len(self._parents)

    def of(self, ids: np.ndarray) -> np.ndarray:
        """The number that stands for all that a channel is tied to, for each."""
        return np.array([self._root(number) for number in np.asarray(ids).ravel().tolist()], int).reshape(np.shape(ids))

    def tie(self, one: np.ndarray, other: np.ndarray) -> None:
        """Makes each channel of `one` and that at the same place of `other` one channel."""
        for a, b in zip(one.tolist(), other.tolist(), strict=True):
            a, b = self._root(a), self._root(b)
            if a != b:
                low, high = min(a, b), max(a, b)
                self._parents[high] = low
                if reason := self._reasons.pop(high, None):
                    self._reasons.setdefault(low, reason)

    def kept_ones(self, shape: Shape, reason: str) -> Channels:
        """New channels along the last axis of a tensor that can't be cut, so that what is coupled with them knows why."""
        if len(shape) < 2 or shape[-1] is None:
            return Channels(reason=reason)
        self.keep(ids := self.new(shape[-1]), reason)
        return Channels(len(shape) - 1, ids, np.full(len(ids), np.nan))

    def keep(self, ids: np.ndarray, reason: str) -> None:
        """Says that these channels can't be cut. The first reason counts."""
        for number in set(self.of(ids).tolist()) - {FIXED}:
            self._reasons.setdefault(number, reason)

    def kept(self, number: int) -> str | None:
        """Why the channel that a number stands for can't be cut; None where it can."""
        return self._reasons.get(number)

    def slot(self, layer: Any, variable: Any, axis: int, ids: np.ndarray, *, makes: bool) -> np.ndarray:
        """Writes down what an axis of a weight has, and returns it.

        A weight that is used a second time keeps its channels, and these are tied to them.
        """
        known = self.slots.setdefault((id(variable), axis), Slot(layer, variable, axis, np.asarray(ids), makes))
        self.tie(known.ids, np.asarray(ids))
        return known.ids

    def setting(self, layer: Any, path: Sequence[str | int], ids: np.ndarray) -> None:
        """Writes down that a number in a layer's configuration counts these channels."""
        self.settings.setdefault(id(layer), {})[tuple(path)] = np.asarray(ids)

    def shift(self, kernel: Any, axis: int, bias: Any, ids: np.ndarray, values: np.ndarray, reason: str) -> None:
        """Writes down what a bias takes over. Channels that another call finds at another value are kept, for that `reason`."""
        known = self.shifts.setdefault(id(bias), Shift(kernel, axis, ids, values))
        self.keep(ids[known.values != values], reason)

    def _root(self, number: int) -> int:
        parents = self._parents
        while parents[number] != number:
            parents[number] = parents[parents[number]]
            number = parents[number]
        return number


def groups_in(ids_of: Mapping[Any, np.ndarray]) -> dict[tuple[Any, ...], list[int]]:
    """Channels by where they are: those that are in the same slots are alternatives to each other."""
    places: dict[int, list[Any]] = {}
    for key, ids in ids_of.items():
        for number in dict.fromkeys(ids.tolist()):
            places.setdefault(number, []).append(key)
    found: dict[tuple[Any, ...], list[int]] = {}
    for number, keys in places.items():
        found.setdefault(tuple(keys), []).append(number)
    return found
