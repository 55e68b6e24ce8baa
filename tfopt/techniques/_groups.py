"""The channels of a model in groups of which one is as good as the other to be cut, and what cutting them saves."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from .. import _layer_macs, backend
from ..surgery import copying, kernels, rewriting
from ..surgery.coupling import coupled
from ..surgery.ties import FIXED, Slot, Ties, groups_in


@dataclass(frozen=True, eq=False)
class Group:
    """Channels that are in the same places of the same weights.

    Attributes:
      name: of the first layer that makes them.
      channels: the number of each (`Ties.of`).
      slots: where they are.
      makers: the layers that make them; depthwise convolutions, which only change them, left out.
      each: how many outputs of its first maker one channel is: as many as it has groups, of a grouped convolution.
      reason: why they can't be cut; None where they can.
    """

    name: str
    channels: np.ndarray
    slots: Sequence[Slot]
    makers: tuple[str, ...]
    each: int
    reason: str | None

    def __len__(self) -> int:
        return len(self.channels)

    @property
    def layers(self) -> int:
        """How many layers make or read the channels by a kernel."""
        return len({id(slot.layer) for slot in self.slots if kernels.name_of(slot.variable) in kernels.NAMES})


class Grouped:
    """The groups of a model.

    Attributes:
      model: the model.
      ties: its channels.
      groups: all of them, also those that can't be cut, in the order of the layers.
      norms: by a layer's id, the BatchNorm right behind it.
    """

    def __init__(self, model: Any):
        self.model, self.ties = model, coupled(model)
        self.names = {id(inner): name for name, layer in copying.all_layers(model) for inner in layer._flatten_layers()}
        self.groups = _groups(self.ties, self.names)
        self.norms = dict(_norms(model))
        self._places: dict[tuple[int, int], list[np.ndarray]] = {}

    def places(self, group: Group, slot: Slot) -> list[np.ndarray]:
        """Where each of a group's channels is along a slot."""
        key = id(group), id(slot)
        if key not in self._places:
            numbers = self.ties.of(slot.ids)
            self._places[key] = [np.flatnonzero(numbers == number) for number in group.channels]
        return self._places[key]

    @cached_property
    def costs(self) -> Costs:
        """What the model costs by how many channels each group has."""
        return Costs(self)


def _norms(model: Any) -> Iterator[tuple[int, Any]]:
    for node in backend.nodes_of(model):
        if rewriting.kind(node.layer) == "BatchNormalization":
            yield id(node.keras_inputs[0]._keras_history.layer), node.layer
        elif isinstance(node.layer, backend.keras().Model):
            yield from _norms(node.layer)


def _groups(ties: Ties, names: dict[int, str]) -> list[Group]:
    ids_of = {key: ties.of(slot.ids) for key, slot in ties.slots.items()}
    split: dict[tuple, list[int]] = {}
    for keys, numbers in groups_in(ids_of).items():
        for number in numbers:
            if number != FIXED:
                split.setdefault((keys, ties.kept(number)), []).append(number)
    found = []
    for (keys, reason), numbers in split.items():
        slots = [ties.slots[key] for key in keys]
        making = [slot for slot in slots if slot.makes and _makes_new(slot)]
        if not making:
            continue
        makers = dict.fromkeys(names[id(slot.layer)] for slot in making)
        each = _each(ties, making[0], numbers[0])
        lone = "only one channel" if len(numbers) == 1 else None
        found.append(Group(next(iter(makers)), np.array(numbers), slots, tuple(makers), each, reason or lone))
    return found


def _each(ties: Ties, slot: Slot, number: int) -> int:
    """How often a channel counts in what its maker calls its filters, units or heads."""
    counts = [int((ties.of(ids) == number).sum()) for ids in ties.settings.get(id(slot.layer), {}).values()]
    return min((count for count in counts if count), default=1)


def _makes_new(slot: Slot) -> bool:
    """Whether a slot is that of a kernel's outputs, but for a depthwise one's."""
    name = kernels.name_of(slot.variable)
    return name in kernels.NAMES and name != "depthwise_kernel"


@dataclass(frozen=True, eq=False)
class Term:
    """So much for each element of a weight whose axes have these sizes: `fixed`, and `per` channel of some groups."""

    factor: float
    axes: tuple[tuple[int, dict[int, int]], ...]

    def at(self, kept: Sequence[int]) -> float:
        """Its share of the cost."""
        return self.factor * math.prod(fixed + sum(each * kept[group] for group, each in per.items()) for fixed, per in self.axes)


class Costs:
    """Parameters and multiply-accumulates by how many channels of each group are kept."""

    def __init__(self, grouped: Grouped):
        self.full = [len(group) for group in grouped.groups]
        number_of = {number: index for index, group in enumerate(grouped.groups) for number in group.channels.tolist()}
        sizes = {id(variable): self._axes(grouped.ties, variable, number_of) for variable in grouped.model.weights}
        self.parameters = [Term(1.0, sizes[id(variable)]) for variable in _unique(grouped.model.weights)]
        self.macs = []
        for _, layer, call in _layer_macs.calls(grouped.model):
            self.macs += _of_call(layer, call, sizes)

    @staticmethod
    def _axes(ties: Ties, variable: Any, number_of: dict[int, int]) -> tuple[tuple[int, dict[int, int]], ...]:
        axes = []
        for axis, size in enumerate(variable.shape):
            slot = ties.slots.get((id(variable), axis))
            groups: dict[int, int] = {}
            channels: dict[int, set[int]] = {}
            for number in ties.of(slot.ids).tolist() if slot is not None else ():
                if (group := number_of.get(number)) is not None:
                    groups[group] = groups.get(group, 0) + 1
                    channels.setdefault(group, set()).add(number)
            axes.append((size - sum(groups.values()), {group: count // len(channels[group]) for group, count in groups.items()}))
        return tuple(axes)

    def total(self, what: str, kept: Sequence[int]) -> float:
        """The model's "parameters" or "macs"."""
        return sum(term.at(kept) for term in getattr(self, what))


def _of_call(layer: Any, call: _layer_macs.Call, sizes: dict[int, Any]) -> list[Term]:
    """A layer's kernels each as often as they are used, and what it does besides with each head or not at all."""
    count = _layer_macs.macs(layer, call)
    if not count:
        return []
    found, used = kernels.kernels_of(layer), {}
    attention = type(layer).__name__ == "MultiHeadAttention" and len(call.named.get("query", ())) == 3
    for kernel in found:
        if attention:
            shape = call.named["value"] if "/key/" in kernel.variable.name or "/value/" in kernel.variable.name else call.named["query"]
            used[kernel] = shape[0] * shape[1]
        else:
            used[kernel] = count / sum(math.prod(other.shape) for other in found)
    terms = [Term(times, sizes[id(kernel.variable)]) for kernel, times in used.items()]
    beside = count - sum(times * math.prod(kernel.shape) for kernel, times in used.items())
    if beside > 1e-6 * count:
        heads = sizes[id(layer._query_dense.kernel)][1:2] if attention else ()
        terms.append(Term(beside / layer._num_heads, heads) if attention else Term(beside, ()))
    return terms


def _unique(variables: Sequence[Any]) -> list[Any]:
    return list({id(variable): variable for variable in variables}.values())
