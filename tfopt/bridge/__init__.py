"""Keras 3 model <-> Keras 2 model: the one place that knows Keras 3.

A model crosses layer by layer: each is made anew from its settings, called as the old one was, and given the old one's weights. What the
other Keras does not have is carried as it is (`Keras3Layer`, `Keras3Operation`). Then both models run on the same random input, and unless
their outputs agree to 1e-5 of the largest, nothing is returned and the first layer that differs is named.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .. import backend
from ..errors import UnsupportedModel
from ._backward import Returned
from ._checking import check
from ._compiling import carry_compilation
from ._forward import Bridged
from ._keras3 import is_keras3, keras3


def to_keras2(model: Any, custom_objects: Mapping[str, Any] | None = None) -> Any:
    """The tf_keras model that computes what a Keras 3 model does; with its names, weights, frozen layers, and compiled like it.

    Args:
      model: sequential or functional, built. It is not changed. Models inside it, shared layers, several inputs and outputs,
        and operations of `keras.ops` are fine; a mixed-precision model keeps its precision.
      custom_objects: name -> tf_keras class for layers of your own. Without one, a layer of your own is carried as it is.

    Raises:
      UnsupportedModel: a subclassed or unbuilt model, one that Keras has quantized, or a layer that can't be rebuilt from its config.
      BridgeError: the new model does not compute the same; the message names the first layer that differs.

    >>> model2 = to_keras2(keras.applications.MobileNetV2(weights=None))
    """
    if not is_keras3(model):
        raise UnsupportedModel(f"expected a Keras 3 model, got {type(model).__module__}.{type(model).__name__}")
    new = _bridged(model, custom_objects)
    carry_compilation(model, new, backend.keras())
    return new


def to_keras3(model: Any, custom_objects: Mapping[str, Any] | None = None) -> Any:
    """The Keras 3 model that computes what a plain tf_keras model does; with its names, weights, frozen layers, and compiled like it.

    Args:
      model: sequential or functional, built, without quantization or pruning wrappers. It is not changed.
      custom_objects: name -> Keras 3 class for layers of your own.

    Raises:
      UnsupportedModel: another kind of model, or a layer that Keras 3 does not have.
      BridgeError: the new model does not compute the same; the message names the first layer that differs.

    >>> to_keras3(tfopt.prune(model, sparsity=0.5)).save("small.keras")
    """
    if not isinstance(model, backend.keras().Model):
        raise UnsupportedModel(f"expected a tf_keras model, got {type(model).__module__}.{type(model).__name__}")
    returned = Returned(model, dict(custom_objects or {}))
    check(returned.model, model, returned.pairs)
    carry_compilation(model, returned.model, keras3())
    return returned.model


def plain(model: Any) -> Any:
    """A model as tfopt works on it: a Keras 3 model bridged, but not compiled; anything else as it is."""
    return _bridged(model, None) if is_keras3(model) else model


def _bridged(model: Any, custom_objects: Mapping[str, Any] | None) -> Any:
    with backend.log_without("Mixed precision compatibility"):  # of a model that the user has in mixed precision already
        bridged = Bridged(model, dict(custom_objects or {}))
        if model.dtype_policy.name.startswith("mixed_"):  # by which compile() scales the loss of a float16 model
            bridged.model._set_dtype_policy(model.dtype_policy.name)
    check(model, bridged.model, bridged.pairs)
    return bridged.model


def custom_objects() -> dict[str, Any]:
    """The classes of tfopt that a bridged or quantization-aware model may hold, by the names under which files know them."""
    from . import _tf_activations, _tf_layers, _tf_quantizable

    carrying = (_tf_layers.Keras3Layer, _tf_layers.Keras3Operation, _tf_activations.Keras3Activation)
    own = (*carrying, _tf_quantizable.DirectConv2D, _tf_quantizable.Product)
    return {name: it for it in own for name in (f"tfopt>{it.__name__}", it.__name__)}


__all__ = ["custom_objects", "is_keras3", "keras3", "plain", "to_keras2", "to_keras3"]
