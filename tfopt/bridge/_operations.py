"""An operation of `keras.ops` in a functional graph -> a tf_keras layer.

Those that a Keras layer computes just so become that layer, because the techniques know layers; every other is carried as it is, in a
`Keras3Operation`. A tensor that carries a mask is never given to such a layer: Keras 3's operations drop the mask, a layer may hand it on.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

from .. import backend
from ..errors import UnsupportedModel
from . import _layers
from ._arguments import encoded
from ._keras3 import keras3


def called(operation: Any, name: str, args: tuple, kwargs: dict[str, Any]) -> Any:
    """The tf_keras tensors that an operation makes of tf_keras tensors.

    Args:
      operation: of `keras.ops`.
      name: for the new layer.
      args, kwargs: what it is called with, tf_keras tensors in place of Keras 3's.
    """
    make = _LAYERS.get(type(operation).__name__)
    names = {"name": name}
    tensors = [x for x in backend.tensorflow().nest.flatten((args, kwargs)) if is_tensor(x)]
    if make is not None and not kwargs and not any(getattr(x, "_keras_mask", None) is not None for x in tensors):
        dtype = {"dtype": tensors[0].dtype.name}
        found = make(operation, args, {**names, **dtype}) if tensors[0].dtype.is_floating else None
        if found is not None:
            layer, inputs = found
            return layer(inputs)
    return _carried(operation, args, kwargs, names)


def is_tensor(thing: Any) -> bool:
    """Whether it is a symbolic tensor of tf_keras."""
    return isinstance(thing, backend.keras().__internal__.KerasTensor)


def _carried(operation: Any, args: tuple, kwargs: dict[str, Any], names: dict[str, str]) -> Any:
    from . import _tf_layers

    kind = type(operation).__name__
    if keras3().config.backend() != "tensorflow":
        raise UnsupportedModel(
            f"the operation {operation.name!r} ({kind}) can be carried to Keras 2 only where Keras runs on TensorFlow, not on "
            f"{keras3().config.backend()}: set KERAS_BACKEND=tensorflow before Keras is imported"
        )
    try:
        config = {key: value for key, value in operation.get_config().items() if key != "name"}
        json.dumps(config)
        tensors: list[Any] = []
        arguments = {"args": encoded(args, tensors, is_tensor), "kwargs": encoded(kwargs, tensors, is_tensor)}
        layer = _tf_layers.Keras3Operation({"class_name": kind, "config": config}, arguments, **names)
    except (TypeError, ValueError, NotImplementedError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UnsupportedModel(f"the operation {operation.name!r} ({kind}) can't be written down: {reason}; put it into a layer") from error
    return layer(tensors[0] if len(tensors) == 1 else tensors)


# Operation -> (layer, its inputs), or None where that case needs the operation itself

Made = tuple[Any, Any] | None


def _merging(kind: str) -> Callable[..., Made]:
    def make(operation: Any, args: tuple, names: dict[str, str]) -> Made:
        if len(args) == 2 and all(map(is_tensor, args)) and args[0].dtype == args[1].dtype and len(args[0].shape) == len(args[1].shape) > 1:
            return getattr(backend.keras().layers, kind)(**names), list(args)
        return _scaled(kind, args, names)

    return make


def _scaled(kind: str, args: tuple, names: dict[str, str]) -> Made:
    """Makes x + 2, 2 * x, 1 - x and their like a Rescaling: scale and offset."""
    numbers = [x for x in args if isinstance(x, int | float) and not isinstance(x, bool)]
    if len(args) != 2 or len(numbers) != 1 or not any(map(is_tensor, args)):
        return None
    number, first = float(numbers[0]), is_tensor(args[0])
    scale, offset = {
        "Add": (1.0, number),
        "Multiply": (number, 0.0),
        "Subtract": (1.0, -number) if first else (-1.0, number),
        "Divide": (1.0 / number if number else math.nan, 0.0) if first else (math.nan, 0.0),
    }.get(kind, (math.nan, 0.0))
    if not math.isfinite(scale) or not math.isfinite(offset):
        return None
    return backend.keras().layers.Rescaling(scale, offset, **names), args[0] if first else args[1]


def _activation(name: Any) -> Callable[..., Made]:
    def make(operation: Any, args: tuple, names: dict[str, str]) -> Made:
        function = _layers.activation(getattr(keras3().activations, name), {})
        return backend.keras().layers.Activation(function, **names), args[0]

    return make


def _relu(limit: float | None) -> Callable[..., Made]:
    return lambda operation, args, names: (backend.keras().layers.ReLU(limit, **names), args[0])


def _gelu(operation: Any, args: tuple, names: dict[str, str]) -> Made:
    return None if operation.approximate else _activation("gelu")(operation, args, names)


def _leaky_relu(operation: Any, args: tuple, names: dict[str, str]) -> Made:
    return backend.keras().layers.LeakyReLU(operation.negative_slope, **names), args[0]


def _softmax(operation: Any, args: tuple, names: dict[str, str]) -> Made:
    return (backend.keras().layers.Softmax(operation.axis, **names), args[0]) if isinstance(operation.axis, int) else None


def _concatenate(operation: Any, args: tuple, names: dict[str, str]) -> Made:
    tensors = args[0] if isinstance(args[0], list | tuple) else ()
    if len(tensors) < 2 or not all(map(is_tensor, tensors)) or len({x.dtype for x in tensors}) > 1 or operation.axis in (None, 0):
        return None
    return backend.keras().layers.Concatenate(operation.axis, **names), list(tensors)


def _reshape(operation: Any, args: tuple, names: dict[str, str]) -> Made:
    """Where the batch stays what it is: its size left open, and the others fill an example."""
    shape, before = tuple(operation.newshape), tuple(args[0].shape[1:])
    if len(shape) < 2 or shape[0] not in (-1, None) or None in before or None in shape[1:] or -1 in shape[1:]:
        return None
    same = math.prod(shape[1:]) == math.prod(before)
    return (backend.keras().layers.Reshape(shape[1:], **names), args[0]) if same else None


def _transpose(operation: Any, args: tuple, names: dict[str, str]) -> Made:
    axes = operation.axes
    return (backend.keras().layers.Permute(tuple(axes[1:]), **names), args[0]) if axes and axes[0] == 0 and len(axes) > 1 else None


def _pooled(kind: str) -> Callable[..., Made]:
    def make(operation: Any, args: tuple, names: dict[str, str]) -> Made:
        rank, axis = len(args[0].shape), operation.axis
        axes = sorted(one % rank for one in (axis if isinstance(axis, list | tuple) else [] if axis is None else [axis]))
        if rank not in (3, 4, 5) or axes != list(range(1, rank - 1)) or getattr(operation, "initial", None) is not None:
            return None
        layer = getattr(backend.keras().layers, f"Global{kind}Pooling{rank - 2}D")
        return layer(data_format="channels_last", keepdims=bool(operation.keepdims), **names), args[0]

    return make


_LAYERS: dict[str, Callable[..., Made]] = {
    "Add": _merging("Add"),
    "Subtract": _merging("Subtract"),
    "Multiply": _merging("Multiply"),
    "Maximum": _merging("Maximum"),
    "Minimum": _merging("Minimum"),
    "Divide": lambda operation, args, names: _scaled("Divide", args, names),
    "TrueDivide": lambda operation, args, names: _scaled("Divide", args, names),
    "Negative": lambda operation, args, names: (backend.keras().layers.Rescaling(-1.0, **names), args[0]),
    "Relu": _relu(None),
    "Relu6": _relu(6.0),
    "LeakyRelu": _leaky_relu,
    "Sigmoid": _activation("sigmoid"),
    "Tanh": _activation("tanh"),
    "Silu": _activation("silu"),
    "HardSigmoid": _activation("hard_sigmoid"),
    "HardSilu": _activation("hard_silu"),
    "Gelu": _gelu,
    "Softmax": _softmax,
    "Concatenate": _concatenate,
    "Reshape": _reshape,
    "Transpose": _transpose,
    "Mean": _pooled("Average"),
    "Max": _pooled("Max"),
}
