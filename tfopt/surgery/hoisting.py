"""Preprocessing layers at the input, brought to the very front as one."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import backend
from . import _scaling
from .rewriting import Change, Changes, changed, kind, pairs, twin

_PREPROCESSING = ("Rescaling", "Normalization")


def hoisted(model: Any) -> tuple[Any, Changes]:
    """The same model with its Rescaling and Normalization layers at an input as one Rescaling each, as far to the front as is exact.

    At an input means: reached from it through nothing but each other and layers that average, copy, crop, pad or reshape, each read by
    nobody else. Layers that follow each other become one; it goes before those others, so that what follows it is the model proper and
    can be quantized. It stays behind zero padding where it adds something (the padding's zeros would be shifted), behind a maximum
    where it multiplies by a negative number, and behind a Reshape where channels are scaled differently. A layer on integers stays, since
    it makes floats of them as well.

    The factor is not folded into weights here; `folding.folded_forward` does that, where it is exact.
    """
    places: dict[str, Any] = {}  # a layer that gets a Rescaling before it, or becomes one -> that Rescaling
    changes: Changes = {}
    for chain in _chains(model):
        for start, group, (scale, offset) in _groups(chain):
            if [layer.name for layer in chain[start : start + 1]] == [layer.name for layer in group] and kind(group[0]) == "Rescaling":
                continue  # alone and in its place
            name = group[0].name
            places[chain[start].name] = backend.keras().layers.Rescaling(
                scale.astype("float32").tolist(), offset.astype("float32").tolist(), name=name
            )
            words = "becomes a Rescaling" if chain[start] is group[0] else "goes to the front"
            changes[name] = Change(words, (name,))
            changes.update({other.name: Change(f"joins {name}", (name,), merged=True) for other in group[1:]})

    def remake(layer):
        if layer.name not in places:
            return None if layer.name in changes else twin(layer)
        return places[layer.name] if layer.name in changes else (places[layer.name], twin(layer))

    return changed(model, changes, remake)


def _chains(model: Any) -> list[list[Any]]:
    """From each first reader of an input the layers behind it, one after the other, as far as they preprocess or let that pass."""
    behind = {before.name: after for before, after in pairs(model)}
    inputs = {id(tensor) for tensor in model.inputs if _scaling.floating(tensor)}
    starts = [node.layer for node in backend.nodes_of(model) if len(node.keras_inputs) == 1 and id(node.keras_inputs[0]) in inputs]
    chains = []
    for layer in starts:
        chain = []
        while layer is not None and len(layer._inbound_nodes) == 1 and (_preprocesses(layer) or _passes(layer)):
            chain.append(layer)
            layer = behind.get(layer.name)
        chains.append(chain)
    return chains


def _preprocesses(layer: Any) -> bool:
    return kind(layer) in _PREPROCESSING and layer.compute_dtype == "float32" and _scaling.scaling_of(layer) is not None


def _passes(layer: Any) -> bool:
    return _scaling.through(layer, (np.ones(()), np.zeros(()))) is not None


def _groups(chain: list[Any]) -> list[tuple[int, list[Any], _scaling.Scaling]]:
    """The preprocessing layers that become one: where in the chain, which, first to last, and what they do together."""
    found = []
    at, group, scaling = 0, [], None
    for number in reversed(range(len(chain))):
        layer = chain[number]
        if _preprocesses(layer):
            inner = _scaling.scaling_of(layer)
            scaling = inner if scaling is None else (scaling[0] * inner[0], scaling[0] * inner[1] + scaling[1])
            group.insert(0, layer)
            at = number
        elif scaling is not None:
            if _scaling.through(layer, scaling) is scaling:
                at = number
            else:
                found.append((at, group, scaling))
                group, scaling = [], None
    return found if scaling is None else [*found, (at, group, scaling)]
