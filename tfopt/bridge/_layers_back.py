"""A tf_keras layer -> a Keras 3 layer of the same name and settings, without its weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..errors import UnsupportedModel
from ._keras3 import keras3
from ._layers import parameters, translated

_RENAMED = {"LeakyReLU": {"alpha": "negative_slope"}}
_OTHER_NAME = {"SyncBatchNormalization": ("BatchNormalization", {"synchronized": True})}
# How something is computed, or the shape that the model's input says already.
_NO_MATTER = {
    "implementation",
    "batch_input_shape",
    "batch_shape",
    "sparse",
    "ragged",
    "autocast",
    "query_shape",
    "key_shape",
    "value_shape",
    "vocabulary_size",
}


def counterpart(layer: Any, custom: Mapping[str, Any]) -> Any:
    """A new Keras 3 layer for a tf_keras one. What the bridge carried from Keras 3 (`Keras3Layer`) comes out as it went in.

    Args:
      custom: name -> Keras 3 class for the user's own layers.

    Raises:
      UnsupportedModel: Keras 3 has no such layer, or not with these settings.
    """
    kind = kind_of(layer)
    if kind == "Keras3Layer":
        new = layer.current()
    elif kind in custom:
        new = custom[kind].from_config({**layer.get_config(), "dtype": layer.dtype_policy.name})
    elif not type(layer).__module__.startswith("tf_keras.src."):
        raise UnsupportedModel(f"layer {layer.name!r}: {kind} is no layer of Keras's own; give a Keras 3 class for it in custom_objects")
    elif kind in _BUILDERS:
        new = _BUILDERS[kind](layer, custom)
    else:
        new = _from_config(layer, {})
    new.trainable = layer.trainable
    return new


def kind_of(layer: Any) -> str:
    """The name of a layer's class."""
    return type(layer).__name__


def _from_config(layer: Any, given: Mapping[str, Any]) -> Any:
    name, more = _OTHER_NAME.get(kind_of(layer), (kind_of(layer), {}))
    cls = getattr(keras3().layers, name, None)
    if cls is None:
        raise UnsupportedModel(f"layer {layer.name!r}: Keras 3 has no {name}; replace it, or save the model as .h5")
    renamed = _RENAMED.get(name, {})
    config = {renamed.get(key, key): value for key, value in layer.get_config().items()}
    config = {**config, **more, **given, "dtype": layer.dtype_policy.name}
    del config["trainable"]  # set afterwards, since some classes do not take it
    known, defaults = parameters(cls), parameters(type(layer))
    for key in [key for key in config if key not in known]:
        says_nothing = config[key] == defaults[key] if key in defaults else config[key] in (None, False, 1)
        if key not in _NO_MATTER and not key.endswith("initializer") and not says_nothing:
            raise UnsupportedModel(f"layer {layer.name!r}: Keras 3's {name} has no {key} = {config[key]!r}; save the model as .h5")
        del config[key]
    axis = config.get("axis")
    if isinstance(axis, list | tuple):
        config["axis"] = axis[0] if len(axis) == 1 else list(axis)
    return cls(**translated(config, keras3(), lambda key: _activation(getattr(layer, key), layer)))


def _activation(function: Callable | None, layer: Any) -> Any:
    """Keras 3's activation for one of Keras 2's; a function of the user's own as it is."""
    from . import _tf_activations

    if function is None:
        return None
    if isinstance(function, _tf_activations.Keras3Activation):
        return function.of_keras3()
    name = getattr(function, "__name__", "").removesuffix("_v2")  # tf.nn.softmax is softmax_v2
    if name == "hard_sigmoid":
        raise UnsupportedModel(
            f"layer {layer.name!r}: Keras 2's hard_sigmoid is clip(0.2 x + 0.5, 0, 1), which Keras 3 has no name for; save the model as .h5"
        )
    known = getattr(keras3().activations, name, None)
    return known if callable(known) and function.__module__.startswith(("tf_keras.", "tensorflow.")) else function


# Layers whose config holds other layers, or a function


def _bidirectional(layer: Any, custom: Mapping[str, Any]) -> Any:
    inner, back = counterpart(layer.forward_layer, custom), counterpart(layer.backward_layer, custom)
    return keras3().layers.Bidirectional(
        inner, backward_layer=back, merge_mode=layer.merge_mode, name=layer.name, dtype=layer.dtype_policy.name
    )


def _wrapper(layer: Any, custom: Mapping[str, Any]) -> Any:
    return _from_config(layer, {"layer": counterpart(layer.layer, custom)})


def _rnn(layer: Any, custom: Mapping[str, Any]) -> Any:
    cells = getattr(layer.cell, "cells", None)
    new = counterpart(layer.cell, custom) if cells is None else [counterpart(one, custom) for one in cells]
    return _from_config(layer, {"cell": new})


def _lambda(layer: Any, custom: Mapping[str, Any]) -> Any:
    if keras3().config.backend() != "tensorflow":
        raise UnsupportedModel(f"layer {layer.name!r}: a Lambda of Keras 2 computes with TensorFlow: set KERAS_BACKEND=tensorflow")
    return keras3().layers.Lambda(
        layer.function, mask=layer.mask, arguments=layer.arguments, name=layer.name, dtype=layer.dtype_policy.name
    )


_BUILDERS = {
    "Bidirectional": _bidirectional,
    "TimeDistributed": _wrapper,
    "SpectralNormalization": _wrapper,
    "RNN": _rnn,
    "Lambda": _lambda,
}
