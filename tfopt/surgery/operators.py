"""TensorFlow's operations in a functional model as Keras layers: `a + b` as an Add, `x * 2` as a Rescaling, `tf.nn.relu6` as a ReLU(6.).

Keras keeps an operation on its tensors as a TFOpLambda or a SlicingOpLambda, which TF-MOT refuses. Each operation of the table below has
a layer that computes the same; it takes the operation's name.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from typing import Any

import numpy as np

from .. import backend
from ._scaling import floating
from .rewriting import Change, Changes, called_once, changed, kind, twin


def as_layers(model: Any, kinds: Collection[str] | None = None) -> tuple[Any, Changes]:
    """The same model with operations as layers, where there is a layer that does the same.

    Arithmetic of two tensors with as many axes, or of a tensor and a number (or one number a channel); relu, relu6, leaky_relu, elu,
    selu, sigmoid, tanh, swish, gelu, softplus, softmax; clip_by_value from 0, maximum with 0; reshape, expand_dims, squeeze and transpose
    that leave the batch alone; concat; pad with zeros; reduce_mean and reduce_max over the spatial axes; slices of spatial axes. Only on
    float32. Everything else stays an operation.

    Args:
      model: a tf_keras model without models inside it.
      kinds: the classes of layers that operations may become; None for any.

    >>> model, changes = as_layers(keras.Model(x, x * 2.0))
    >>> changes["tf.math.multiply"].reason
    'becomes a Rescaling'
    """
    found: dict[str, tuple[list[Any], Any]] = {}
    for layer, node in called_once(model):
        if kind(layer) in ("TFOpLambda", "SlicingOpLambda"):
            made = _replacement(layer, node)
            if made is not None and (kinds is None or all(kind(new) in kinds for new in made[0])):
                found[layer.name] = made

    def remake(layer):
        return found[layer.name][0] if layer.name in found else twin(layer)

    def arrange(layer, arguments, keywords):
        if layer.name not in found:
            return arguments, keywords
        picked = _bound(layer, arguments, keywords)
        names = found[layer.name][1]
        return (picked[names] if isinstance(names, str) else [picked[name] for name in names],), {}

    changes = {name: Change(_words(layers), tuple(layer.name for layer in reversed(layers))) for name, (layers, _) in found.items()}
    return changed(model, changes, remake, arrange=arrange)


def _words(layers: list[Any]) -> str:
    return "becomes a " + " and a ".join(type(layer).__name__ for layer in layers) if layers else "left out: it changes nothing"


def _replacement(layer: Any, node: Any) -> tuple[list[Any], Any] | None:
    """The layers for an operation, the last under its name, and the arguments, by name, that are their input; None where there are none."""
    make = _TABLE.get(layer.symbol.removeprefix("compat.v1."))
    outputs = node.outputs
    if make is None or not hasattr(outputs, "shape") or not all(floating(tensor) for tensor in _tensors(node)) or not floating(outputs):
        return None
    if any(getattr(tensor, "_keras_mask", None) is not None for tensor in node.keras_inputs):
        return None  # an operation drops the mask, a layer may hand it on
    try:
        bound = _bound(layer, node.call_args, node.call_kwargs)
    except TypeError:  # a call that the operation's signature does not describe
        return None
    made = make(bound, outputs)
    if made is None:
        return None
    layers, names = made
    for number, new in enumerate(reversed(layers)):
        new._name = layer.name + number * "_first"
    return layers, names


def _bound(layer: Any, arguments: tuple, keywords: dict) -> dict[str, Any]:
    """The operation's arguments by their names."""
    if layer.symbol == "__operators__.getitem":
        return {"x": arguments[0], "slice": arguments[1] if len(arguments) > 1 else keywords["slice_spec"]}
    bound = inspect.signature(layer.function).bind(*arguments, **keywords)
    bound.apply_defaults()
    return bound.arguments


def _tensors(node: Any) -> list[Any]:
    """The symbolic tensors that count: a shape may be one of integers."""
    return [tensor for tensor in node.keras_inputs if not tensor.dtype.is_integer]


def _is_tensor(value: Any) -> bool:
    return hasattr(value, "_keras_history")


def _rank(tensor: Any) -> int | None:
    return tensor.shape.rank


def _constant(value: Any, other: Any) -> Any:
    """A number, or a list of one number a channel, that may be scaled with; None for what else there is."""
    if _is_tensor(value) or _rank(other) is None:
        return None
    array = np.asarray(value, "float32")
    if array.size == 1 and array.ndim <= _rank(other):
        return float(array.reshape(()))
    channels = array.ndim and array.ndim <= _rank(other) and array.shape[-1] == array.size == other.shape[-1]
    return array.ravel().tolist() if channels else None


def _arithmetic(joined: str | None, right: Callable | None, left: Callable | None = None) -> Callable:
    """Of an operation on x and y: the layer for two tensors, and scale and offset where y (or x) is a constant."""

    def make(bound: dict, output: Any) -> Any:
        (x_name, x), (y_name, y), *_ = bound.items()
        layers = backend.keras().layers
        if _is_tensor(x) and _is_tensor(y):
            return ([getattr(layers, joined)()], (x_name, y_name)) if joined and _rank(x) == _rank(y) and _rank(x) else None
        given, tensor, name, scale = (y, x, x_name, right) if _is_tensor(x) else (x, y, y_name, left or right)
        constant = _constant(given, tensor) if _is_tensor(tensor) else None
        values = None if constant is None or scale is None else scale(np.asarray(constant))
        if values is None or not all(np.isfinite(value).all() for value in values):
            return None
        return [layers.Rescaling(*(np.asarray(value, "float32").tolist() for value in values))], name

    return make


def _extremum(joined: str) -> Callable:
    def make(bound: dict, output: Any) -> Any:
        (x_name, x), (y_name, y), *_ = bound.items()
        layers = backend.keras().layers
        if _is_tensor(x) and _is_tensor(y):
            return ([getattr(layers, joined)()], (x_name, y_name)) if _rank(x) == _rank(y) and _rank(x) else None
        given, name = (y, x_name) if _is_tensor(x) else (x, y_name)
        return ([layers.ReLU()], name) if joined == "Maximum" and np.size(given) == 1 and not np.any(given) else None

    return make


def _function(make_layer: Callable[[dict], Any]) -> Callable:
    """Of an operation on one tensor, its first argument."""

    def make(bound: dict, output: Any) -> Any:
        layer = make_layer(bound)
        name = next(iter(bound))
        return None if layer is None or not _is_tensor(bound[name]) else ([layer], name)

    return make


def _activation(name: str) -> Callable:
    return _function(lambda bound: backend.keras().layers.Activation(name))


def _gelu(bound: dict) -> Any:
    if bound["approximate"]:
        return None  # an Activation knows the exact one only
    return backend.keras().layers.Activation("gelu")


def _softmax(bound: dict) -> Any:
    axis = bound.get("axis")
    return backend.keras().layers.Softmax(-1 if axis is None else axis)


def _clip(bound: dict) -> Any:
    low, high = bound["clip_value_min"], bound["clip_value_max"]
    if _is_tensor(low) or _is_tensor(high) or np.size(high) != 1 or np.size(low) != 1 or np.any(low) or not np.all(np.asarray(high) > 0):
        return None
    return backend.keras().layers.ReLU(float(np.asarray(high).reshape(())))


def _same_elements(bound: dict, output: Any) -> Any:
    """A reshape: the batch must stay what it is, so one example must have as many elements after as before."""
    name, tensor = next(iter(bound.items()))
    if not _is_tensor(tensor) or _rank(tensor) is None or _rank(output) is None or not _rank(tensor) or not _rank(output):
        return None
    before, after = tensor.shape.as_list(), output.shape.as_list()
    if None in before[1:] or None in after[1:] or np.prod(before[1:]) != np.prod(after[1:]) or before[0] != after[0]:
        return None
    return [backend.keras().layers.Reshape(after[1:])], name


def _transpose(bound: dict, output: Any) -> Any:
    perm = bound.get("perm")
    if perm is None or _is_tensor(perm) or bound.get("conjugate") or len(perm) < 2 or np.asarray(perm)[0] != 0:
        return None
    return [backend.keras().layers.Permute([int(axis) for axis in np.asarray(perm)[1:]])], next(iter(bound))


def _concat(bound: dict, output: Any) -> Any:
    values, axis = bound["values"], bound["axis"]
    if _is_tensor(axis) or not isinstance(values, list | tuple) or len(values) < 2 or not all(_is_tensor(value) for value in values):
        return None
    axis = int(np.asarray(axis)) % _rank(output)
    return ([backend.keras().layers.Concatenate(axis)], "values") if axis else None


def _sum(bound: dict, output: Any) -> Any:
    values = bound["inputs"]
    good = isinstance(values, list | tuple) and len(values) > 1 and all(_is_tensor(value) for value in values)
    return ([backend.keras().layers.Add()], "inputs") if good else None


def _pooling(name: str) -> Callable:
    def make(bound: dict, output: Any) -> Any:
        tensor, axis = bound["input_tensor"], bound["axis"]
        if not _is_tensor(tensor) or axis is None or _is_tensor(axis) or _rank(tensor) not in (3, 4, 5):
            return None
        rank = _rank(tensor)
        if sorted(int(each) % rank for each in np.ravel(axis)) != list(range(1, rank - 1)):
            return None
        pooling = getattr(backend.keras().layers, f"{name}{rank - 2}D")
        return [pooling(keepdims=bool(bound["keepdims"]), data_format="channels_last")], "input_tensor"

    return make


def _pad(bound: dict, output: Any) -> Any:
    tensor, paddings = bound["tensor"], bound["paddings"]
    if not _is_tensor(tensor) or _is_tensor(paddings) or bound["mode"].upper() != "CONSTANT" or np.any(bound["constant_values"]):
        return None
    amounts = np.asarray(paddings).tolist()
    if _rank(tensor) not in (3, 4) or any(amounts[0]) or any(amounts[-1]):
        return None
    layers = backend.keras().layers
    return [layers.ZeroPadding1D(amounts[1]) if _rank(tensor) == 3 else layers.ZeroPadding2D(amounts[1:-1])], "tensor"


def _slice(bound: dict, output: Any) -> Any:
    """x[:, a:b] and x[:, a:b, c:d] as a Cropping; an index i is i:i+1, and its axis goes in a Reshape."""
    tensor, places = bound["x"], bound["slice"]
    places = list(places) if isinstance(places, list | tuple) else [places]
    rank = _rank(tensor)
    if rank not in (3, 4) or len(places) > rank or None in tensor.shape[1:-1]:
        return None
    bounds = [_bounds(place, size) for place, size in zip(places, tensor.shape, strict=False)]
    bounds += [_bounds(_ALL, size) for size in tensor.shape[len(bounds) :]]
    if places[0] != _ALL or any(found is None for found in bounds[1:]) or bounds[-1] != (0, tensor.shape[-1]):
        return None
    crops = [(start, size - stop) for (start, stop), size in zip(bounds[1:-1], tensor.shape[1:-1], strict=True)]
    layers = backend.keras().layers
    cropped = layers.Cropping1D(crops[0]) if rank == 3 else layers.Cropping2D(crops, data_format="channels_last")
    if _rank(output) == rank:
        return [cropped], "x"
    return [cropped, layers.Reshape(output.shape.as_list()[1:])], "x"


_ALL = {"start": None, "stop": None, "step": None}


def _bounds(place: Any, size: int | None) -> tuple[int, int] | None:
    if place == _ALL:
        return 0, size
    if isinstance(place, int) and size is not None:
        return place % size, place % size + 1
    if isinstance(place, dict) and all(each is None or isinstance(each, int) for each in place.values()) and size is not None:
        start, stop, step = slice(*(place[key] for key in ("start", "stop", "step"))).indices(size)
        return (start, stop) if step == 1 and stop > start else None
    return None


_relu = _function(lambda bound: backend.keras().layers.ReLU())
_relu6 = _function(lambda bound: backend.keras().layers.ReLU(6.0))
_add = _arithmetic("Add", lambda c: (1.0, c))
_multiply = _arithmetic("Multiply", lambda c: (c, 0.0))
_subtract = _arithmetic("Subtract", lambda c: (1.0, -c), lambda c: (-1.0, c))
_divide = _arithmetic(None, lambda c: (1 / c, 0.0) if np.all(c) else None, lambda c: None)
_TABLE: dict[str, Callable] = {
    **dict.fromkeys(("__operators__.add", "math.add"), _add),
    **dict.fromkeys(("math.multiply", "__operators__.mul"), _multiply),
    **dict.fromkeys(("math.subtract", "__operators__.sub"), _subtract),
    **dict.fromkeys(("math.truediv", "math.divide", "__operators__.truediv"), _divide),
    "math.negative": _function(lambda bound: backend.keras().layers.Rescaling(-1.0)),
    "math.add_n": _sum,
    "math.maximum": _extremum("Maximum"),
    "math.minimum": _extremum("Minimum"),
    "nn.relu": _relu,
    "nn.relu6": _relu6,
    "nn.leaky_relu": _function(lambda bound: backend.keras().layers.LeakyReLU(float(bound["alpha"]))),
    "nn.elu": _function(lambda bound: backend.keras().layers.ELU()),
    "nn.selu": _activation("selu"),
    "nn.silu": _function(lambda bound: backend.keras().layers.Activation("swish") if bound["beta"] == 1.0 else None),
    "nn.gelu": _function(_gelu),
    "nn.softmax": _function(_softmax),
    "math.softplus": _activation("softplus"),
    "math.sigmoid": _activation("sigmoid"),
    "math.tanh": _activation("tanh"),
    "clip_by_value": _function(_clip),
    "reshape": _same_elements,
    "expand_dims": _same_elements,
    "squeeze": _same_elements,
    "transpose": _transpose,
    "concat": _concat,
    "pad": _pad,
    "math.reduce_mean": _pooling("GlobalAveragePooling"),
    "math.reduce_max": _pooling("GlobalMaxPooling"),
    "__operators__.getitem": _slice,
}
