"""A model without some of its channels: the same layers under the same names, with fewer units and filters."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from .. import backend
from . import rewriting
from .ties import FIXED, Ties


def without(model: Any, ties: Ties, gone: Collection[int]) -> Any:
    """A copy of the model without these channels, nested models and shared layers as they were.

    Args:
      model: sequential or functional.
      ties: its channels, as `coupling.coupled` finds them.
      gone: the numbers that stand for what is cut (`ties.of`); none of them may be kept, and each weight keeps one.

    >>> ties = coupled(model)
    >>> small = without(model, ties, gone={17, 18, 40})
    """
    gone = np.fromiter(gone, int)
    return _Cutting(ties, lambda ids: ~np.isin(ties.of(ids), gone)).model(model)


def silent(ties: Ties) -> set[int]:
    """The channels that can be cut since all weights that make them are zero, biases and BatchNorms' scales and offsets among them.

    Each weight keeps one, so that no layer goes empty.
    """
    made = [slot for slot in ties.slots.values() if slot.makes and "variance" not in slot.variable.name]
    numbers = {id(slot): ties.of(slot.ids) for slot in ties.slots.values()}
    heard = {FIXED}
    for slot in made:
        values = np.moveaxis(slot.variable.numpy(), slot.axis, 0).reshape(len(slot.ids), -1)
        heard.update(numbers[id(slot)][values.any(axis=1)].tolist())
    found = {number for slot in made for number in numbers[id(slot)].tolist()} - heard
    gone = {number for number in found if ties.kept(number) is None}
    for of_slot in numbers.values():
        if gone.issuperset(of_slot.tolist()):
            gone.discard(int(of_slot[0]))
    return gone


class _Cutting:
    """One run of `without`: the layers made so far, each with the one that it replaces."""

    def __init__(self, ties: Ties, stays: Any):
        self.ties, self.stays = ties, stays
        self.made: list[tuple[Any, Any]] = []

    def model(self, model: Any) -> Any:
        with backend.seeded(0), backend.trusted_lambdas(), rewriting.own_functions(model._flatten_layers()):
            new = backend.remade(model, self._layer, self._resized)
        for old, layer in self.made:
            layer.set_weights([self._weight(variable) for variable in old.weights])
        new._set_dtype_policy(model.dtype_policy)
        return new

    def _layer(self, layer: Any) -> Any:
        keras = backend.keras()
        if isinstance(layer, keras.Model) and layer._is_graph_network:
            return backend.remade(layer, self._layer, self._resized)
        new = type(layer).from_config(self._resized(layer, layer.get_config()))
        self.made.append((layer, new))
        return new

    def _resized(self, layer: Any, settings: dict[str, Any]) -> dict[str, Any]:
        """A layer's configuration, or an operation's arguments, with the numbers of channels that stay."""
        for path, ids in self.ties.settings.get(id(layer), {}).items():
            settings = _changed(settings, path, int(self.stays(ids).sum()))
        return settings

    def _weight(self, variable: Any) -> np.ndarray:
        value = variable.numpy()
        if (shift := self.ties.shifts.get(id(variable))) is not None:
            kernel = shift.kernel.numpy()
            lost = np.tensordot(np.where(self.stays(shift.ids), 0, shift.values), kernel, axes=(0, shift.axis))
            value = value + lost.reshape(-1, lost.shape[-1]).sum(axis=0).astype(value.dtype)
        for axis in range(value.ndim):
            slot = self.ties.slots.get((id(variable), axis))
            if slot is not None:
                value = value.compress(self.stays(slot.ids), axis)
        return value


def _changed(structure: Any, path: Sequence[str | int], value: int) -> Any:
    """Nested dicts, lists and tuples with one number replaced; unchanged where the path does not lead anywhere."""
    if not path:
        return value
    first, *rest = path
    if isinstance(structure, Mapping):
        return {**structure, first: _changed(structure[first], rest, value)} if first in structure else structure
    if isinstance(structure, int):  # one number where a list of one may stand
        return value
    places = list(structure)
    places[first] = _changed(places[first], rest, value)
    return type(structure)(places) if isinstance(structure, list | tuple) else places
