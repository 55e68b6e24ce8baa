"""Whether two models compute the same: on random input, before a last softmax."""

from __future__ import annotations

import collections
import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from .. import backend
from ..errors import BridgeError
from ._keras3 import functional, keras3, nodes_of

TOLERANCE = 1e-5  # of the largest output
# In half precision two right models differ by its rounding, wherever the two Keras write a product in another order: attention by up to
# 0.0064 in bfloat16 and 0.0018 in float16, which is more than either is off from float32. So four times the distance from 1 to the next.
_TOLERANCES = {"float16": 4 * 2.0**-10, "bfloat16": 4 * 2.0**-7}
_SIZES = (32, 64, 128, 256)  # for dimensions that are free: tried in turn, as a deep net leaves nothing of a small image
_COUNTED = {
    "Embedding": "input_dim",
    "ReversibleEmbedding": "input_dim",
    "CategoryEncoding": "num_tokens",
}  # layers that read numbers of words

Pair = tuple[str, Any, Any]


class _Place(NamedTuple):
    """A value that is compared: a tensor of either model, and the layers that are then applied to it without their softmax."""

    tensor3: Any
    tensor2: Any
    layer3: Any = None
    layer2: Any = None


def check(model3: Any, model2: Any, pairs: Sequence[Pair]) -> None:
    """Raises BridgeError, naming the first layer that differs, unless both models give the same on random input, but for rounding.

    Args:
      model3, model2: a functional Keras 3 model and its tf_keras counterpart.
      pairs: for each call of a layer, in the order of computing: its name and its output tensor in either model.
    """
    tolerance = max(_TOLERANCES.get(layer.compute_dtype, TOLERANCE) for layer in model3._flatten_layers())
    places = _places(model3, model2, pairs)
    inputs, values3 = _tried(model3, [place.tensor3 for place in places])
    values2 = _run2(model2, [place.tensor2 for place in places], inputs)
    worst = max(
        difference(_finished(a, place.layer3), _finished(b, place.layer2)) for place, a, b in zip(places, values3, values2, strict=True)
    )
    if not worst <= tolerance and not worst <= min(10 * tolerance, 4 * _unsteadiness(model3, places, inputs, values3)):
        raise BridgeError(_told(model3, model2, pairs, inputs, worst, tolerance))


def _unsteadiness(model3: Any, places: Sequence[_Place], inputs: Sequence[np.ndarray], values: Sequence[Any]) -> float:
    """How much the model's own outputs move where each number of its input moves by a millionth.

    A net whose outputs are small differences of large values makes much of rounding, and layers round as often as there are: a right one
    was 1.2e-5 off, and moved by 6e-6 itself.
    """
    generator = np.random.default_rng(1)
    moved = [x * (1 + 1e-6 * generator.choice([-1, 1], x.shape)).astype(x.dtype) if x.dtype.kind == "f" else x for x in inputs]
    others = _run3(model3, [place.tensor3 for place in places], moved)
    return max(difference(_finished(a, p.layer3), _finished(b, p.layer3)) for p, a, b in zip(places, values, others, strict=True))


def difference(a: Any, b: Any) -> float:
    """max|a - b| / max|a|; infinite where the shapes, or the places of what is no finite number, differ."""
    a, b = _array(a), _array(b)
    if a.shape != b.shape:
        return np.inf
    if a.dtype.kind not in "fiub":
        return 0.0 if np.array_equal(a, b) else np.inf
    a, b = a.astype(np.float64), b.astype(np.float64)
    finite = np.isfinite(a)
    if not np.array_equal(a[~finite], b[~finite], equal_nan=True):
        return np.inf
    largest = np.abs(a[finite]).max(initial=0.0)
    return float(np.abs(a[finite] - b[finite]).max(initial=0.0) / (largest or 1.0))


def _array(value: Any) -> np.ndarray:
    array = np.asarray(keras3().ops.convert_to_numpy(value)) if not isinstance(value, np.ndarray) else value
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array


# What is compared


def _places(model3: Any, model2: Any, pairs: Sequence[Pair]) -> list[_Place]:
    """The outputs and, where a softmax makes one of them, what is before it: softmax hides differences."""
    partners = {id(tensor): other for _, tensor, other in pairs}
    partners |= {id(tensor): other for tensor, other in zip(model3.inputs, model2.inputs, strict=True)}
    places = []
    for tensor, other in zip(model3.outputs, model2.outputs, strict=True):
        places.append(_Place(tensor, other))
        operation = tensor._keras_history.operation
        if _makes_softmax(operation):
            before = _node(tensor).arguments.keras_tensors[0]
            layers = (operation, other._keras_history.layer) if getattr(operation, "weights", ()) else (None, None)
            if layers[1] is None or type(layers[0]).__name__ == type(layers[1]).__name__:
                places.append(_Place(before, partners[id(before)], *layers))
    return places


def _makes_softmax(operation: Any) -> bool:
    return type(operation).__name__ == "Softmax" or getattr(getattr(operation, "activation", None), "__name__", None) == "softmax"


def _node(tensor: Any) -> Any:
    history = tensor._keras_history
    return history.operation._inbound_nodes[history.node_index]


def _finished(value: Any, layer: Any) -> Any:
    """The value, or what the layer makes of it without its activation."""
    if layer is None:
        return value
    linear = type(layer).from_config({**layer.get_config(), "activation": "linear"})
    linear.build(value.shape)
    linear.set_weights(layer.get_weights())
    return linear(value)


# Running


def _tried(model3: Any, tensors: Sequence[Any]) -> tuple[list[np.ndarray], list[Any]]:
    """Random inputs on which the Keras 3 model runs, and its values there."""
    for size in _SIZES:
        inputs = random_inputs(model3, size)
        try:
            return inputs, _run3(model3, tensors, inputs)
        except Exception as error:  # a layer may raise anything on an image that is too small for it
            failure = error
            if not any(None in tensor.shape[1:] for tensor in model3.inputs):
                break
    reason = str(failure).strip().splitlines()[0] if str(failure).strip() else type(failure).__name__
    raise BridgeError(f"{model3.name!r} could not be compared, since it does not run on random input itself: {reason}") from failure


def random_inputs(model3: Any, size: int) -> list[np.ndarray]:
    """Two examples for each input: one drawn around zero, one between 0 and 1; whole numbers where words are looked up.

    Where the model itself scales its input down, as a net that takes pixels does, both are as much larger: a net is steady only on
    signals of the size that it is made for.
    """
    generator = np.random.default_rng(0)
    words = _smallest_vocabulary(model3)
    return [_random(tensor, size, words if _reads_words(tensor) else None, generator) for tensor in model3.inputs]


def _random(tensor: Any, size: int, words: int | None, generator: np.random.Generator) -> np.ndarray:
    shape = (tensor.shape[0] or 2, *(dimension or size for dimension in tensor.shape[1:]))
    if tensor.dtype == "string":
        return generator.choice(np.array(["a", "word", "of", "many"], object), shape)
    if tensor.dtype == "bool":
        return generator.random(shape) < 0.5
    if words is not None or "int" in tensor.dtype:
        return generator.integers(0, words or 10, shape).astype(tensor.dtype)
    values = generator.normal(size=shape)
    values[1:] = generator.random(values[1:].shape)
    values *= _largeness(tensor)
    return values.astype("float32" if tensor.dtype == "bfloat16" else tensor.dtype)


def _largeness(tensor: Any) -> float:
    """1, or what a Rescaling that reads this input divides by: 127.5 or 255 for pixels."""
    readers = [node.operation for node in tensor._keras_history.operation._outbound_nodes]
    scales = [np.abs(reader.scale).max() for reader in readers if type(reader).__name__ == "Rescaling"]
    return float(1 / scales[0]) if scales and 0 < scales[0] < 1 else 1.0


def _reads_words(tensor: Any) -> bool:
    """Whether a layer that reads this input takes it for numbers of words, whatever its dtype says."""
    if "int" in tensor.dtype:
        return True
    readers = [node.operation for node in tensor._keras_history.operation._outbound_nodes]
    return any(type(layer).__name__ in _COUNTED for reader in readers for layer in [reader, *_inside(reader)[:1]])


def _inside(model: Any) -> list[Any]:
    flatten = getattr(model, "_flatten_layers", None)
    return [] if flatten is None else [layer for layer in flatten(include_self=False) if type(layer).__name__ != "InputLayer"]


def _smallest_vocabulary(model3: Any) -> int | None:
    return min(
        (getattr(layer, _COUNTED[type(layer).__name__]) for layer in _inside(model3) if type(layer).__name__ in _COUNTED), default=None
    )


def _run3(model3: Any, tensors: Sequence[Any], inputs: Sequence[np.ndarray]) -> list[Any]:
    """The values of some of a Keras 3 model's tensors; each other one is dropped once it has been read for the last time.

    Keras 3 itself keeps all of them until the end: for a MobileNetV2 80 MB, six times the model.
    """
    with _at_rest(model3):
        return _run3_on(model3, tensors, inputs)


def _run3_on(model3: Any, tensors: Sequence[Any], inputs: Sequence[np.ndarray]) -> list[Any]:
    nodes = nodes_of(model3)
    readings = collections.Counter(id(tensor) for node in nodes for tensor in node.arguments.keras_tensors)
    wanted = {id(tensor) for tensor in tensors}
    convert = keras3().ops.convert_to_tensor
    values = {id(tensor): convert(array) for tensor, array in zip(functional(model3).inputs, inputs, strict=True)}
    for node in nodes:
        args, kwargs = node.arguments.fill_in(values)
        results = node.operation(
            *args, **({**kwargs, "training": False} if getattr(node.operation, "_call_has_training_arg", False) else kwargs)
        )
        values.update({id(tensor): value for tensor, value in zip(node.outputs, keras3().tree.flatten(results), strict=True)})
        for tensor in node.arguments.keras_tensors:
            readings[id(tensor)] -= 1
            if not readings[id(tensor)] and id(tensor) not in wanted:
                values.pop(id(tensor), None)
    return [values[id(tensor)] for tensor in tensors]


def _run2(model2: Any, tensors: Sequence[Any], inputs: Sequence[np.ndarray]) -> list[Any]:
    probe = backend.keras().Model(model2.inputs, list(tensors))
    with _at_rest(probe):
        results = probe([backend.tensorflow().convert_to_tensor(array) for array in inputs], training=False)
    return list(results) if isinstance(results, list | tuple) else [results]


@contextlib.contextmanager
def _at_rest(model: Any) -> Iterator[None]:
    """With the states of a model's stateful layers at zero, and afterwards as they were."""
    layers = [layer for layer in model._flatten_layers(include_self=False) if getattr(layer, "stateful", False)]
    held = backend.tensorflow().nest.flatten([getattr(layer, "states", None) for layer in layers])
    states = [state for state in held if hasattr(state, "assign")]
    kept = [np.array(state.numpy()) for state in states]
    for state in states:
        state.assign(np.zeros(state.shape))
    try:
        yield
    finally:
        for state, value in zip(states, kept, strict=True):
            state.assign(value)


# What is said of a difference


def _told(model3: Any, model2: Any, pairs: Sequence[Pair], inputs: Sequence[np.ndarray], worst: float, tolerance: float) -> str:
    values3 = _run3(model3, [tensor for _, tensor, _ in pairs], inputs)
    values2 = _run2(model2, [tensor for _, _, tensor in pairs], inputs)
    off = (name for (name, _, _), a, b in zip(pairs, values3, values2, strict=True) if not difference(a, b) <= tolerance)
    first = next(off, None)
    where = f"the first layer that differs is {first!r} ({_kind(pairs, first)})" if first else "no single layer differs by as much"
    return (
        f"{model3.name!r}: the Keras 2 model's outputs differ from the Keras 3 model's by {worst:.2g} of the largest, "
        f"more than {tolerance:g}; "
        f"{where}. Replace that layer by others, or give a tf_keras class for it: tfopt.load(model, custom_objects={{...}})"
    )


def _kind(pairs: Sequence[Pair], name: str) -> str:
    return next(type(tensor._keras_history.operation).__name__ for one, tensor, _ in pairs if one == name)
