"""Multiplications and additions of constants taken into the weights of the layer before or behind.

A BatchNormalization at inference, a Rescaling, a Normalization and a LayerScale compute a x + b with constants of each channel. Behind a
linear layer,

    a (W x + c) + b = (a W) x + (a c + b),

and before one, W (a x + b) + c = (W a) x + (W b + c), as long as no zeros are put around x in between unless b = 0. Everything is
computed in float64 and rounded once. Jacob et al. 2018 (arXiv:1712.05877), section 3.2.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import backend
from . import _scaling
from ._scaling import BATCH_NORMS
from .rewriting import Change, Changes, activation_name, called_once, changed, free_name, kind, pairs, twin

Chosen = Callable[[Any, Any], bool]


def folded_back(model: Any, chosen: Chosen = lambda before, after: True) -> tuple[Any, Changes]:
    """The same model with each a x + b folded into the linear layer before it, and what was folded: layer -> where it is now.

    The layers before: Dense, Conv1D to Conv3D and their transposes, SeparableConv, DepthwiseConv; without an activation, called once, and
    read by nobody else. One without a bias gets one. A BatchNormalization that is called with `training=True` is left, as it uses
    the batch's own statistics.

    Args:
      model: a tf_keras model without models inside it (`rewriting.flattened`).
      chosen: `(layer before, layer behind) -> whether to fold`.

    >>> smaller, changes = folded_back(model)
    >>> changes["bn"].reason
    'folded into conv'
    """
    fixed = _fixed(model)
    folded: dict[str, tuple[Any, list[Any]]] = {}
    for before, after in pairs(model):
        scaling = _scaling.scaling_of(after) if after.name in fixed and chosen(before, after) else None
        weights = None if scaling is None else _scaling.scaled_after(before, scaling)
        if weights is not None:
            folded[before.name] = (after, weights)
    gone = {after.name: name for name, (after, _) in folded.items()}
    return _with_weights(model, {name: weights for name, (_, weights) in folded.items()}, gone)


def norms_behind(model: Any) -> dict[str, str]:
    """The linear layers, by path (`outer/inner`), that the converter folds a BatchNorm into, and that BatchNorm's name."""
    found = {
        before.name: after.name
        for before, after in pairs(model)
        if kind(after) in BATCH_NORMS and kind(before) in _scaling.KERNELS and activation_name(before) == "linear"
    }
    for layer in model.layers:
        if isinstance(layer, backend.keras().Model):
            found |= {f"{layer.name}/{name}": norm for name, norm in norms_behind(layer).items()}
    return found


def folded_forward(model: Any, chosen: Chosen = lambda layer, behind: True) -> tuple[Any, Changes]:
    """The same model with each a x + b folded into the layer with weights behind it, where that is exact.

    Layers in between are passed where the order does not matter: averages, copies and Dropout always, zero padding where b = 0, a maximum
    where a >= 0, Flatten and Reshape where channels stay apart. Padding in the layer with weights itself forbids b != 0 too.

    Args:
      model: a tf_keras model without models inside it.
      chosen: `(layer that computes a x + b, layer with weights behind) -> whether to fold`.
    """
    fixed, behind = _fixed(model), {before.name: after for before, after in pairs(model)}
    weights: dict[str, list[Any]] = {}
    gone: dict[str, str] = {}
    for name, layer in fixed.items():
        scaling, reader = _scaling.scaling_of(layer), behind.get(name)
        while scaling is not None and reader is not None and kind(reader) not in _scaling.KERNELS:
            scaling, reader = _scaling.through(reader, scaling), behind.get(reader.name)
        fitting = scaling is not None and reader is not None and chosen(layer, reader)
        changed = _scaling.scaled_before(reader, scaling) if fitting else None
        if changed is not None:
            weights[reader.name], gone[name] = changed, reader.name
    return _with_weights(model, weights, gone)


def scalings_as_convolutions(model: Any, chosen: Callable[[Any], bool] = lambda layer: True) -> tuple[Any, Changes]:
    """The same model with BatchNormalization and LayerScale as 1x1 DepthwiseConv2D, with Reshapes around it below four axes.

    For those that can't be folded: behind an Add or a Concatenate (pre-activation networks), or an activation. A depthwise convolution can
    be quantized and can take in a ReLU; a BatchNormalization by itself can't. Its numbers stay as they are, and stay to be learned.

    Args:
      model: a tf_keras model without models inside it.
      chosen: `layer -> whether it should become one`.
    """
    keras, names = backend.keras(), {layer.name for layer in model.layers}
    alone = {
        name: layer
        for name, layer in _fixed(model).items()
        if (kind(layer) in BATCH_NORMS or kind(layer) == "LayerScale")
        and len(layer.output_shape) <= 4
        and chosen(layer)
        and _scaling.scaling_of(layer) is not None
    }

    def around(layer):
        return () if len(layer.output_shape) == 4 else [free_name(f"{layer.name}_{end}", names) for end in ("plane", "back")]

    def remake(layer):
        if layer.name not in alone:
            return twin(layer)
        convolution = keras.layers.DepthwiseConv2D(1, name=layer.name, trainable=layer.trainable)
        if len(layer.output_shape) == 4:
            return convolution
        shape = [-1 if size is None else size for size in layer.output_shape[1:]]
        plane, back = around(layer)
        before = keras.layers.Reshape((*[1] * (3 - len(shape)), *shape), name=plane)
        return before, convolution, keras.layers.Reshape(shape, name=back)

    def weights(layer):
        if layer.name not in alone:
            return layer.get_weights()
        scale, offset = (np.broadcast_to(value, layer.output_shape[-1:]).astype("float32") for value in _scaling.scaling_of(layer))
        return [scale[None, None, :, None], offset]

    changes = {name: Change("becomes a 1x1 DepthwiseConv2D", (name, *around(layer))) for name, layer in alone.items()}
    return changed(model, changes, remake, weights=weights)


def rescalings_joined(model: Any) -> tuple[Any, Changes]:
    """The same model with each Rescaling or Normalization that stands behind another as one Rescaling with it.

    >>> shorter, changes = rescalings_joined(model)
    >>> changes["rescaling"].reason
    'joins normalization'
    """
    fixed = {name: layer for name, layer in _fixed(model).items() if kind(layer) in ("Rescaling", "Normalization")}
    joined: dict[str, Any] = {}
    gone: dict[str, str] = {}
    for before, after in pairs(model):
        alone = not {before.name, after.name} & (joined.keys() | gone.keys())
        both = [_scaling.scaling_of(fixed[each.name]) for each in (before, after) if each.name in fixed]
        if alone and len(both) == 2 and None not in both:
            (a, b), (scale, offset) = both
            values = (np.asarray(value, "float32").tolist() for value in (scale * a, scale * b + offset))
            joined[after.name] = backend.keras().layers.Rescaling(*values, name=after.name, dtype="float32")
            gone[before.name] = after.name

    def remake(layer):
        return None if layer.name in gone else joined.get(layer.name) or twin(layer)

    changes = {name: Change(f"joins {into}", (into,), merged=True) for name, into in gone.items()}
    return changed(model, changes, remake)


def rescalings_split(model: Any) -> tuple[Any, Changes]:
    """The same model with each Rescaling that multiplies and adds as two, of which one multiplies and one adds.

    Each alone can be quantized; of both together the converter rounds the product, which has no range, in float.
    """
    names = {layer.name for layer in model.layers}
    both = {
        layer.name: free_name(f"{layer.name}_offset", names)
        for layer in model.layers
        if kind(layer) == "Rescaling" and np.any(np.asarray(layer.scale) != 1) and np.any(np.asarray(layer.offset) != 0)
    }

    def remake(layer):
        if layer.name not in both:
            return twin(layer)
        return twin(layer, offset=0.0), backend.keras().layers.Rescaling(1.0, layer.offset, name=both[layer.name], dtype=layer.dtype)

    return changed(model, {name: Change("in two: its factor, its offset", (name, offset)) for name, offset in both.items()}, remake)


def _with_weights(model: Any, weights: dict[str, list[Any]], gone: dict[str, str]) -> tuple[Any, Changes]:
    """The model with those weights, which have a bias, and without the layers that are gone."""

    def remake(layer):
        if layer.name in gone:
            return None
        return twin(layer, **_scaling.with_bias(layer)) if layer.name in weights else twin(layer)

    changes = {name: Change(f"folded into {into}", (into,), merged=True) for name, into in gone.items()}
    return changed(model, changes, remake, weights=lambda layer: weights[layer.name] if layer.name in weights else layer.get_weights())


def _fixed(model: Any) -> dict[str, Any]:
    """The layers by name that are called once, on floating point numbers, and whose constants do not change with the batch."""
    return {
        layer.name: layer
        for layer, node in called_once(model)
        if node.call_kwargs.get("training") is not True
        and len(node.keras_inputs) == 1
        and _scaling.floating(node.keras_inputs[0])
        and layer.compute_dtype == "float32"
    }
