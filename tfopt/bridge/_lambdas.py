"""TensorFlow functions that a Keras 2 model calls between its layers -> operations of `keras.ops`.

Keras 2 keeps each such call as a TFOpLambda layer, or a SlicingOpLambda where a tensor was indexed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..errors import UnsupportedModel
from ._keras3 import keras3


def called(layer: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """The Keras 3 tensors that a TFOpLambda or SlicingOpLambda makes of Keras 3 tensors.

    Raises:
      UnsupportedModel: a function that is not in the table below.
    """
    symbol = layer.get_config()["function"]
    kwargs = {key: value for key, value in kwargs.items() if key != "name" and value is not None}
    if symbol == "__operators__.getitem":
        return args[0][_slices(kwargs.get("slice_spec", args[1] if len(args) > 1 else ()))]
    make = _FUNCTIONS.get(symbol)
    if make is None:
        raise UnsupportedModel(
            f"layer {layer.name!r}: tf.{symbol} has no counterpart here; put a Keras layer in its place, or save the model as .h5"
        )
    try:
        return make(keras3().ops)(*args, **kwargs)
    except TypeError as error:  # an argument that the table does not know
        raise UnsupportedModel(f"layer {layer.name!r}: tf.{symbol} can't be told to Keras 3 ({error}); save the model as .h5") from error


def _slices(spec: Any) -> Any:
    """What stands in the brackets of x[...]; Keras 2 writes a slice as {"start": 0, "stop": 2, "step": None}."""

    def one(part: Any) -> Any:
        return slice(part["start"], part["stop"], part["step"]) if isinstance(part, dict) else part

    return tuple(map(one, spec)) if isinstance(spec, list | tuple) else one(spec)


def _reducing(name: str) -> Callable:
    return lambda ops: lambda input_tensor, axis=None, keepdims=False: getattr(ops, name)(input_tensor, axis=axis, keepdims=keepdims)


def _of_two(name: str) -> Callable:
    return lambda ops: lambda x, y: getattr(ops, name)(x, y)


def _of_one(name: str, argument: str = "x") -> Callable:
    return lambda ops: lambda *args, **kwargs: getattr(ops, name)(args[0] if args else kwargs[argument])


_FUNCTIONS: dict[str, Callable] = {
    **{f"__operators__.{name}": _of_two(op) for name, op in {"add": "add", "ne": "not_equal", "eq": "equal"}.items()},
    **{f"math.{name}": _of_two(name) for name in ("add", "subtract", "multiply", "maximum", "minimum", "greater", "less")},
    "math.truediv": _of_two("true_divide"),
    "math.divide": _of_two("true_divide"),
    "math.floordiv": _of_two("floor_divide"),
    "math.pow": _of_two("power"),
    "math.squared_difference": lambda ops: lambda x, y: ops.square(ops.subtract(x, y)),
    "math.negative": _of_one("negative"),
    "math.abs": _of_one("abs"),
    "math.square": _of_one("square"),
    "math.sqrt": _of_one("sqrt"),
    "math.rsqrt": _of_one("rsqrt"),
    "math.exp": _of_one("exp"),
    "math.log": _of_one("log"),
    "math.tanh": _of_one("tanh"),
    "math.sigmoid": _of_one("sigmoid"),
    "math.reduce_mean": _reducing("mean"),
    "math.reduce_sum": _reducing("sum"),
    "math.reduce_max": _reducing("max"),
    "math.reduce_min": _reducing("min"),
    "nn.relu": _of_one("relu", "features"),
    "nn.relu6": _of_one("relu6", "features"),
    "nn.silu": _of_one("silu", "features"),
    "nn.swish": _of_one("silu", "features"),
    "nn.softmax": lambda ops: lambda logits, axis=-1: ops.softmax(logits, axis=axis),
    "nn.gelu": lambda ops: lambda features, approximate=False: ops.gelu(features, approximate=approximate),
    "nn.leaky_relu": lambda ops: lambda features, alpha=0.2: ops.leaky_relu(features, negative_slope=alpha),
    "clip_by_value": lambda ops: lambda t, clip_value_min, clip_value_max: ops.clip(t, clip_value_min, clip_value_max),
    "reshape": lambda ops: lambda tensor, shape: ops.reshape(tensor, shape),
    "transpose": lambda ops: lambda a, perm=None: ops.transpose(a, perm),
    "concat": lambda ops: lambda values, axis: ops.concatenate(values, axis=axis),
    "stack": lambda ops: lambda values, axis=0: ops.stack(values, axis=axis),
    "expand_dims": lambda ops: lambda input, axis: ops.expand_dims(input, axis),
    "compat.v1.squeeze": lambda ops: lambda input, axis=None: ops.squeeze(input, axis),
    "squeeze": lambda ops: lambda input, axis=None: ops.squeeze(input, axis),
    "cast": lambda ops: lambda x, dtype: ops.cast(x, getattr(dtype, "name", dtype)),
    "identity": lambda ops: lambda input: input,
    "stop_gradient": lambda ops: lambda input: ops.stop_gradient(input),
    "linalg.matmul": lambda ops: lambda a, b: ops.matmul(a, b),
}
