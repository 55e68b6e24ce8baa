"""Layers that do something in training only, left out: for a model that is done learning."""

from __future__ import annotations

from typing import Any

from .. import backend
from .rewriting import Change, Changes, changed, kind, twin

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
    gone = idle - at_work
    changes = {name: Change("dropped: identity at inference", merged=True) for name in sorted(gone)}
    return changed(model, changes, lambda layer: None if layer.name in gone else twin(layer))


def _same(node: Any) -> bool:
    if len(node.keras_inputs) != 1:
        return False
    given, made = node.keras_inputs[0], node.outputs
    return getattr(made, "dtype", None) == given.dtype and repr(made.shape) == repr(given.shape)  # of unknown rank there is no list
