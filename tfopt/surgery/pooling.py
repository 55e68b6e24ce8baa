"""Average pooling before the linear layer that stands before it, which then has fewer places to work on.

A Dense or a 1x1 convolution without an activation does the same at each place, so that of an average is the average of what it gives. The
transitions of a DenseNet are of this kind: their convolution takes a quarter of its multiply-accumulates behind the pooling.
"""

from __future__ import annotations

from typing import Any

from .. import backend
from ._linear import CONVOLUTIONS, is_pointwise, macs
from .rewriting import Change, Changes, changed, kind, pairs, twin

_POOLINGS = tuple(f"{name}Pooling{number}D" for name in ("Average", "GlobalAverage") for number in (1, 2, 3))


def pooled_first(model: Any) -> tuple[Any, Changes]:
    """The same model with average pooling before linear Dense layers and 1x1 convolutions, where that lowers the multiply-accumulates.

    Behind a global pooling, which leaves no places, the convolution is a Dense.

    Args:
      model: a tf_keras model without models inside it.

    >>> faster, changes = pooled_first(model)
    >>> changes["conv"].reason, changes["pool"].reason
    ('comes behind pool', 'comes before conv')
    """
    moved: dict[str, list[Any]] = {}
    poolings: dict[str, str] = {}
    for before, after in pairs(model):
        if before.name in poolings or not _swap(before, after):
            continue
        layers = [twin(after), _behind(before, after)]
        now, then = macs([before, after], before.input_shape), macs(layers, before.input_shape)
        if now is not None and then is not None and then < now:
            moved[before.name], poolings[after.name] = layers, before.name

    def remake(layer):
        return None if layer.name in poolings else [twin(each) for each in moved.get(layer.name, [layer])]

    def weights(layer):
        arrays = layer.get_weights()
        if layer.name in moved and kind(moved[layer.name][-1]) != kind(layer):
            arrays[0] = arrays[0].reshape(arrays[0].shape[-2:])
        return arrays

    changes = {name: Change(f"comes behind {layers[0].name}", (name,)) for name, layers in moved.items()}
    changes |= {name: Change(f"comes before {into}", (name,)) for name, into in poolings.items()}
    return changed(model, changes, remake, weights=weights)


def _swap(before: Any, after: Any) -> bool:
    if kind(after) not in _POOLINGS or not is_pointwise(before) or after.data_format != "channels_last":
        return False
    masked = getattr(before.output, "_keras_mask", None) is not None  # by which steps count
    return not masked and (_keeps_places(after) or kind(before) == "Dense" or before.groups == 1)


def _keeps_places(pooling: Any) -> bool:
    return not kind(pooling).startswith("Global") or pooling.keepdims


def _behind(layer: Any, pooling: Any) -> Any:
    """The layer as it has to be behind the pooling."""
    if kind(layer) not in CONVOLUTIONS or _keeps_places(pooling):
        return twin(layer)
    settings = {key: getattr(layer, key) for key in ("use_bias", "name", "trainable")}
    return backend.keras().layers.Dense(layer.filters, dtype="float32", **settings)
