"""A Keras 3 layer -> a tf_keras layer of the same name and settings, without its weights.

Most configs say the same in both. What Keras 2 has no key for may be left out where it holds Keras 3's default; where it does not,
and where Keras 2 has no such layer at all, the Keras 3 layer itself is carried in a `Keras3Layer`.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import numpy as np

from .. import backend
from ..errors import UnsupportedModel
from ._keras3 import keras3

# Say how a layer is computed or drawn, not what.
_NO_MATTER = {"use_cudnn", "flash_attention", "seed", "bounding_box_format", "factor", "build_config", "registered_name"}
_NO_MATTER |= {"vocabulary_size", "oov_method"}  # `_lookup` sees to these
_RENAMED = {"LeakyReLU": {"negative_slope": "alpha"}}
_NEVER = ("TorchModuleWrapper", "JaxLayer", "FlaxLayer", "TFSMLayer")  # hold what no config can say
_CARRIED = {  # layers that Keras 2 has, too, but not as they are needed
    "GroupNormalization": "its .tflite does not run: LiteRT 2.3 refuses its BROADCAST_TO",
    "SpectralNormalization": "it takes its InputSpec from tf.keras, and can't be built where that is Keras 3 (tf_keras 2.21)",
}
_MERGING = {"Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum", "Concatenate"}
_ACTIVATIONS = ("activation", "recurrent_activation")
_VALUES = ("initializer", "regularizer", "constraint")


class Carried(Exception):
    """Keras 2 has no counterpart of a layer; the message says what is missing."""


def counterpart(layer: Any, custom: Mapping[str, Any]) -> Any:
    """A new, unbuilt tf_keras layer for a Keras 3 one, or a `Keras3Layer` that carries it.

    Args:
      layer: a built Keras 3 layer.
      custom: the user's own classes and functions by name; a tf_keras class among them is taken for the Keras 3 class of its name.

    Raises:
      UnsupportedModel: a layer that is neither Keras's own nor in `custom`, or one that holds another framework's module.
    """
    kind = type(layer).__name__
    if kind in _NEVER:
        raise UnsupportedModel(f"layer {layer.name!r}: a {kind} holds a module of another framework, which can't be brought to Keras 2")
    if problem := backend.lambda_activation(layer):
        raise UnsupportedModel(problem)
    try:
        new = _rebuilt(layer, custom)
    except Carried:
        new = _carried(layer)
    new.trainable = layer.trainable
    return new


def _rebuilt(layer: Any, custom: Mapping[str, Any]) -> Any:
    kind = type(layer).__name__
    if not type(layer).__module__.startswith("keras.src."):
        return _of_user(layer, custom)
    if kind in _CARRIED:
        raise Carried(_CARRIED[kind])
    if kind in _MERGING and _gets_masks(layer):
        raise Carried("of several masks Keras 2 keeps the steps that all of them keep, Keras 3 those that any keeps")
    if kind.startswith("GlobalAveragePooling") and layer.compute_dtype == "float16":
        raise Carried("Keras 2 adds up in float16, Keras 3 in float32")
    if kind in _BUILDERS:
        return _BUILDERS[kind](layer, custom)
    return _from_config(layer, custom, {})


def _gets_masks(layer: Any) -> bool:
    return any(getattr(tensor, "_keras_mask", None) is not None for node in layer._inbound_nodes for tensor in node.input_tensors)


def _of_user(layer: Any, custom: Mapping[str, Any]) -> Any:
    """The tf_keras class that the user gave for their own layer, with the layer's config; otherwise the layer is carried."""
    kind = type(layer).__name__
    given = custom.get(keras3().saving.get_registered_name(type(layer)), custom.get(kind))
    if isinstance(given, type) and issubclass(given, backend.keras().layers.Layer):
        return given.from_config({**layer.get_config(), "dtype": policy(layer), "name": valid_name(layer.name)})
    raise Carried("a custom layer")


def _carried(layer: Any) -> Any:
    from . import _tf_layers

    if keras3().config.backend() != "tensorflow":
        raise UnsupportedModel(
            f"layer {layer.name!r}: Keras 2 has no {type(layer).__name__}, and Keras 3's own can be carried over only where "
            f"Keras runs on TensorFlow, not on {keras3().config.backend()}: set KERAS_BACKEND=tensorflow before Keras is imported"
        )
    if not type(layer).__module__.startswith("keras.src."):
        _tf_layers.remember({keras3().saving.get_registered_name(type(layer)): type(layer), type(layer).__name__: type(layer)})
    try:
        config = keras3().saving.serialize_keras_object(layer)
        return _tf_layers.Keras3Layer(config, name=valid_name(layer.name))
    except Exception as error:  # a layer's own get_config or build_from_config may raise anything
        raise UnsupportedModel(
            f"layer {layer.name!r}: {type(layer).__name__} can't be rebuilt from its own config ({type(error).__name__}: {error}); "
            "give it get_config and from_config (and get_build_config and build_from_config where build takes more than a shape)"
        ) from error


def _from_config(layer: Any, custom: Mapping[str, Any], given: Mapping[str, Any]) -> Any:
    """By the layer's config in Keras 2's words; what is in `given` is taken instead."""
    kind = type(layer).__name__
    cls = getattr(backend.keras().layers, kind, None)
    if cls is None:
        raise Carried(f"Keras 2 has no {kind}")
    renamed = _RENAMED.get(kind, {})
    config = {renamed.get(key, key): value for key, value in layer.get_config().items()}
    config = {**config, "name": valid_name(layer.name), "dtype": policy(layer), **given}
    known, defaults = parameters(cls), parameters(type(layer))
    for key in [key for key in config if key not in known]:
        says_nothing = config[key] == defaults[key] if key in defaults else not config[key]
        if key not in _NO_MATTER and not says_nothing:
            raise Carried(f"Keras 2's {kind} has no {key}")
        del config[key]
    return cls(**translated(config, backend.keras(), lambda key: activation(getattr(layer, key), custom)))


def translated(config: Mapping[str, Any], keras: ModuleType, activation_of: Callable[[str], Any]) -> dict[str, Any]:
    """A config with its initializers, regularizers and constraints, and its activations, as those of another Keras.

    Args:
      keras: the module that they are to be of.
      activation_of: "activation" or "recurrent_activation" -> the function.
    """

    def one(key: str, value: Any) -> Any:
        if key in _ACTIVATIONS:
            return activation_of(key)
        return _value(keras, key.rpartition("_")[2] + "s", value) if key.endswith(_VALUES) else value

    return {key: one(key, value) for key, value in config.items()}


@functools.cache
def parameters(cls: type) -> dict[str, Any]:
    """What a layer class may be constructed with, and the defaults, over all its parents."""
    found: dict[str, Any] = {}
    for parent in cls.__mro__:
        if "__init__" in vars(parent):
            own = list(inspect.signature(parent.__init__).parameters.values())[1:]
            for parameter in own:
                if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
                    found.setdefault(parameter.name, parameter.default)
            if all(parameter.kind is not parameter.VAR_KEYWORD for parameter in own):
                break  # it hands nothing on to its parents
    if issubclass(cls, backend.keras().layers.RNN):
        found.setdefault("zero_output_for_mask", False)  # taken from its **kwargs
    return {**dict.fromkeys(("name", "dtype", "trainable", "activity_regularizer")), **found}


def activation(function: Callable | None, custom: Mapping[str, Any]) -> Any:
    """Keras 2's activation for one of Keras 3's; a function of the user's own as it is."""
    from . import _tf_activations

    if function is None:
        return None
    if isinstance(function, keras3().layers.Layer):
        raise Carried("an activation that is a layer")
    if not callable(function) or not getattr(function, "__module__", "").startswith("keras.src"):
        return function
    if function.__module__.startswith("keras.src.ops"):  # not what activations calls by the same name: ops.gelu is the approximate one
        return _tf_activations.Keras3Activation(f"ops.{function.__name__}")
    name = {"silu": "swish"}.get(function.__name__, function.__name__)
    return _tf_activations.Keras3Activation(name) if name in _tf_activations.BY_NAME else name


def _value(keras: ModuleType, module: str, value: Any) -> Any:
    """An initializer, regularizer or constraint; none where that Keras has none: a fit from here starts at given weights."""
    if not isinstance(value, Mapping):
        return value
    cls = getattr(getattr(keras, module), value["class_name"], None)
    if cls is None:
        return "glorot_uniform" if module == "initializers" else None
    return cls(**{key: one for key, one in value["config"].items() if key in parameters(cls) and one is not None})


def policy(layer: Any) -> str:
    """The name of a layer's dtype policy, e.g. "mixed_float16".

    Raises:
      UnsupportedModel: the layer was quantized by Keras.
    """
    own = layer.dtype_policy
    if getattr(own, "quantization_mode", None) is not None:
        raise UnsupportedModel(f"layer {layer.name!r} was quantized by Keras ({own.name}); bring the model from before `quantize`")
    return own.name


def valid_name(name: str) -> str:
    """The name with what TensorFlow does not take in a name replaced by underscores."""
    fitting = "".join(c if c.isascii() and (c.isalnum() or c in "_.-") else "_" for c in name)
    return fitting if fitting[:1].isalnum() or fitting[:1] == "." else f"layer{fitting}"


# Layers whose config holds other layers


def _inner(layer: Any, custom: Mapping[str, Any]) -> Any:
    """The counterpart of a layer in a layer; where it would have to be carried, the outer one is, as a whole."""
    new = _rebuilt(layer, custom)
    new.trainable = layer.trainable
    return new


def _bidirectional(layer: Any, custom: Mapping[str, Any]) -> Any:
    inner, back = _inner(layer.forward_layer, custom), _inner(layer.backward_layer, custom)
    return backend.keras().layers.Bidirectional(
        inner, backward_layer=back, merge_mode=layer.merge_mode, name=valid_name(layer.name), dtype=policy(layer)
    )


def _wrapper(layer: Any, custom: Mapping[str, Any]) -> Any:
    return _from_config(layer, custom, {"layer": _inner(layer.layer, custom)})


def _rnn(layer: Any, custom: Mapping[str, Any]) -> Any:
    cell = layer.cell
    cells = getattr(cell, "cells", None)
    new = _inner(cell, custom) if cells is None else [_inner(one, custom) for one in cells]
    return _from_config(layer, custom, {"cell": new})


def _stacked(layer: Any, custom: Mapping[str, Any]) -> Any:
    return _from_config(layer, custom, {"cells": [_inner(one, custom) for one in layer.cells]})


# Layers whose config holds a function, or not all that they know


def _lambda(layer: Any, custom: Mapping[str, Any]) -> Any:
    names = {"name": valid_name(layer.name), "dtype": policy(layer)}
    return backend.keras().layers.Lambda(layer.function, mask=layer.mask, arguments=layer.arguments, **names)


def _normalization(layer: Any, custom: Mapping[str, Any]) -> Any:
    """With its mean and variance given: Keras 2 computes with copies of the weights, which `set_weights` leaves as they were."""
    given = {"mean": layer.input_mean, "variance": layer.input_variance}
    if layer.input_mean is None:
        given = {"mean": np.asarray(layer.adapt_mean), "variance": np.asarray(layer.adapt_variance)}
    return _from_config(layer, custom, given)


_COUNTING = "Keras 2 counts there by an operation that TFLite does not have"


def _category_encoding(layer: Any, custom: Mapping[str, Any]) -> Any:
    if layer.output_mode == "one_hot":
        raise Carried(_COUNTING)
    return _from_config(layer, custom, {})


def _discretization(layer: Any, custom: Mapping[str, Any]) -> Any:
    if layer.output_mode == "one_hot":
        raise Carried(_COUNTING)
    return _from_config(layer, custom, {"bin_boundaries": list(layer.bin_boundaries), "num_bins": None})


def _lookup(layer: Any, custom: Mapping[str, Any]) -> Any:
    """With the vocabulary given, which an adapted layer has in a table."""
    if getattr(layer, "oov_method", "floormod") != "floormod":
        raise Carried("Keras 2 has no other way of numbering unknown words")
    text = type(layer).__name__ == "TextVectorization"
    inner = layer._lookup_layer if text else layer
    if inner.output_mode == "tf_idf":
        raise Carried("Keras 2 keeps the words' weights in a variable")
    dtype = "string" if text else "int64" if inner.output_mode == "int" else policy(layer)
    given = {"vocabulary": inner.get_vocabulary(include_special_tokens=False), "dtype": dtype}
    return _from_config(layer, custom, given)


_BUILDERS = {
    "Bidirectional": _bidirectional,
    "TimeDistributed": _wrapper,
    "RNN": _rnn,
    "StackedRNNCells": _stacked,
    "Lambda": _lambda,
    "Normalization": _normalization,
    "Discretization": _discretization,
    "CategoryEncoding": _category_encoding,
    "IntegerLookup": _lookup,
    "StringLookup": _lookup,
    "TextVectorization": _lookup,
}


def weights(layer: Any) -> list[np.ndarray]:
    """A Keras 3 layer's weights in the order of its counterpart's."""
    return [] if type(layer).__name__ in ("Normalization", "Discretization") else layer.get_weights()
