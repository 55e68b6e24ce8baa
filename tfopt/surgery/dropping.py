"""Layers left out that hand on what they are given: at inference, whatever they do in training, or by their settings at any time."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import numpy as np

from .. import backend
from .rewriting import Change, Changes, activation_name, changed, kind, twin

# At inference these hand on what they are given. A RandomCrop does not: it crops or resizes. RandomHeight and RandomWidth do, but the
# size that they declare is open, which later layers may rely on.
IDENTITIES = (
    "Dropout", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D", "AlphaDropout", "GaussianDropout", "GaussianNoise",
    "ActivityRegularization", "StochasticDepth", "RandomBrightness", "RandomContrast", "RandomFlip", "RandomRotation", "RandomTranslation",
    "RandomZoom",
)  # fmt: skip


def identities_dropped(model: Any) -> tuple[Any, Changes]:
    """The same model without dropout, noise and augmentation layers: no prediction changes, but it can't be trained as before.

    A layer stays that is called with `training=True` (Monte Carlo dropout), or that turns integers into floats on the way. Converting
    drops these layers by itself; this is for a Keras model that is deployed as it is.

    >>> lean, changes = identities_dropped(model)
    >>> changes["dropout"].reason
    'dropped: identity at inference'
    """
    idle = {node.layer.name for node in backend.nodes_of(model) if kind(node.layer) in IDENTITIES}
    at_work = {node.layer.name for node in backend.nodes_of(model) if node.call_kwargs.get("training") is True or not _same(node)}
    return _without(model, idle - at_work, "dropped: identity at inference")


def idle_dropped(model: Any) -> tuple[Any, Changes]:
    """The same model without layers that do nothing as they are set: a linear Activation, a padding or cropping of nothing, pooling one by
    one, a Reshape, Flatten or Permute into the same shape, a Rescaling by 1.

    >>> lean, changes = idle_dropped(model)
    >>> changes["activation"].reason
    'dropped: does nothing'
    """
    idle = {node.layer.name for node in backend.nodes_of(model) if _does_nothing(node.layer)}
    at_work = {node.layer.name for node in backend.nodes_of(model) if not _same(node) or _is_masked(node)}
    return _without(model, idle - at_work, "dropped: does nothing")


def _without(model: Any, gone: Collection[str], reason: str) -> tuple[Any, Changes]:
    changes = {name: Change(reason, merged=True) for name in sorted(gone)}
    return changed(model, changes, lambda layer: None if layer.name in gone else twin(layer))


def _same(node: Any) -> bool:
    if len(node.keras_inputs) != 1:
        return False
    given, made = node.keras_inputs[0], node.outputs
    return getattr(made, "dtype", None) == given.dtype and repr(made.shape) == repr(given.shape)  # of unknown rank there is no list


def _is_masked(node: Any) -> bool:
    """Whether it is given a mask, which it may keep from those behind it."""
    return any(getattr(tensor, "_keras_mask", None) is not None for tensor in node.keras_inputs)


def _does_nothing(layer: Any) -> bool:
    """By its settings, given that shape and type stay."""
    rule = _IDLE.get(kind(layer).rstrip("123D"))
    return rule is not None and bool(rule(layer))


def _ones(*names: str) -> Callable[[Any], bool]:
    return lambda layer: all(np.all(np.asarray(getattr(layer, name)) == 1) for name in names)


_IDLE: dict[str, Callable[[Any], bool]] = {
    "Activation": lambda layer: activation_name(layer) == "linear",
    **dict.fromkeys(("Reshape", "Flatten"), lambda layer: True),  # as the shape stays
    "Permute": lambda layer: list(layer.dims) == sorted(layer.dims),
    "ZeroPadding": lambda layer: not np.any(layer.padding),
    "Cropping": lambda layer: not np.any(layer.cropping),
    **dict.fromkeys(("MaxPooling", "AveragePooling"), _ones("pool_size", "strides")),
    "UpSampling": _ones("size"),
    "Rescaling": lambda layer: np.all(np.asarray(layer.scale) == 1) and not np.any(layer.offset),
}
