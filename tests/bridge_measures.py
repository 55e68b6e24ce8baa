"""Measures a case of the bridge's matrix: builds it with random weights, bridges it, converts it, bridges it back, and compares.

It shares nothing with the bridge's own check: its inputs, its way to the values before a last softmax and its comparisons are its own, and
the .tflite runs on the LiteRT interpreter itself. Errors are the largest difference, relative to the largest output.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from bridge_case import Case, values_of
from bridge_layers import keras

import tfopt
from tfopt import backend, bridge

tf = backend.tensorflow()

EXAMPLES = 4
BRIDGE_LIMIT, TFLITE_LIMIT, LEAST_DIFFERENCE = 1e-5, 1e-4, 1e-3
LONGEST_REASON = 200
BOILERPLATE = re.compile(r"; another format may work.*?$|^ConversionError: \S+ to float32: | : {.*$", re.MULTILINE)
DEEP = 30  # weights, of the nets whose signals need care


@dataclasses.dataclass
class Row:
    """What came out of a case.

    layers: the classes of the model's layers, nested ones too. carried: those, and operations, that Keras 2 has no counterpart of.
    parameters: the Keras 3 model's.
    difference: between the outputs of two examples, before a last softmax; where it is small, the case shows nothing.
    bridged: the error of the Keras 2 model. tflite: that of its float32 .tflite. back: that of the Keras 3 model made of it again. None
    where it failed; then `reasons` says under the same name why.
    unchanged: whether the bridge left the Keras 3 model's outputs as they were.
    bridge_seconds: of `to_keras2` with its check. seconds: of everything.
    """

    layers: list[str] = dataclasses.field(default_factory=list)
    carried: list[str] = dataclasses.field(default_factory=list)
    parameters: int = 0
    difference: float | None = None
    unchanged: bool | None = None
    bridged: float | None = None
    tflite: float | None = None
    back: float | None = None
    reasons: dict[str, str] = dataclasses.field(default_factory=dict)
    bridge_seconds: float | None = None
    seconds: float = 0.0

    @property
    def good(self) -> bool:
        """Whether the model came through the bridge both ways, and the case would have shown it if it had not."""
        return bool(self.unchanged and self.telling and within(self.bridged, BRIDGE_LIMIT) and self.came_back)

    @property
    def telling(self) -> bool:
        return self.difference is not None and self.difference >= LEAST_DIFFERENCE

    @property
    def came_back(self) -> bool:
        return within(self.back, BRIDGE_LIMIT)

    @property
    def converted(self) -> bool:
        return within(self.tflite, TFLITE_LIMIT)


def within(error: float | None, limit: float) -> bool:
    return error is not None and error <= limit


def measure(case: Case, *, tflite: bool = True) -> Row:
    """The row of a case. What the bridge or the converter raises stands in it; what the case itself does wrong is raised."""
    start = time.perf_counter()
    generator = np.random.default_rng(zlib.crc32(case.name.encode()))
    keras.utils.set_random_seed(0)
    model = case.build()
    inputs = inputs_of(model, case.values, generator)
    if case.random:
        randomize(model, generator)
        settle(model, structured(model, inputs), generator)
    given = structured(model, inputs)
    expected = outputs(model, given)
    row = begun(model, expected)
    plain = there(row, "bridged", lambda: bridge.to_keras2(model, case.custom_objects), expected, given)
    row.unchanged = all(map(np.array_equal, called(model, given), expected[-1]))
    if plain is not None:
        row.carried = sorted({carried(layer) for layer in flattened(plain)} - {None})
        if tflite:
            row.tflite = step(row, "tflite", lambda: error(expected[-1:], [run(tfopt.convert(plain).content, plain, inputs)]))
        there(row, "back", lambda: bridge.to_keras3(plain), expected, given)
    row.seconds = time.perf_counter() - start
    return row


def measure_keras2(model: Any) -> Row:
    """The row of a trained tf_keras model: here `back`, to Keras 3, comes first, and what is converted came through the bridge twice."""
    start = time.perf_counter()
    inputs = inputs_of(model, "normal", np.random.default_rng(0))
    given = tf.constant(inputs[0]) if len(inputs) == 1 else [tf.constant(array) for array in inputs]
    expected = outputs(model, given)
    row = begun(model, expected)
    model3 = there(row, "back", lambda: bridge.to_keras3(model), expected, given)
    row.unchanged = all(map(np.array_equal, called(model, given), expected[-1]))
    if model3 is not None:
        plain = there(row, "bridged", lambda: bridge.to_keras2(model3), expected, given)
        row.tflite = step(row, "tflite", lambda: error(expected[-1:], [run(tfopt.convert(plain).content, plain, inputs)]))
    row.seconds = time.perf_counter() - start
    return row


def begun(model: Any, expected: Sequence[Sequence[np.ndarray]]) -> Row:
    """A row with what is known of the model itself and of its outputs."""
    kinds = sorted({type(layer).__name__ for layer in flattened(model)})
    return Row(layers=kinds, parameters=int(model.count_params()), difference=max(map(variation, expected[0])))


def there(row: Row, name: str, bridged: Callable[[], Any], expected: Sequence[Sequence[np.ndarray]], inputs: Any) -> Any:
    """The model that the bridge makes, its error and seconds written into the row; None where it makes none."""
    start = time.perf_counter()
    model = step(row, name, bridged)
    if name == "bridged":
        row.bridge_seconds = time.perf_counter() - start
    if model is not None:
        setattr(row, name, step(row, name, lambda: error(expected, outputs(model, inputs))))
    return model


def carried(layer: Any) -> str | None:
    """What a layer of the bridged model carries of Keras 3: a layer's class, or an operation's."""
    kind = type(layer).__name__
    if kind == "Keras3Operation":
        return f"ops {layer.operation['class_name']}"
    return type(layer.layer).__name__ if kind == "Keras3Layer" else None


def step(row: Row, name: str, work: Callable[[], Any]) -> Any:
    """What a step gives, or None with its reason in the row."""
    try:
        return work()
    except Exception as problem:  # whatever it is, the row has to say it
        lines = [line.strip() for line in f"{type(problem).__name__}: {problem}".splitlines() if line.strip()]
        words = ": ".join(BOILERPLATE.sub("", line) for line in [lines[0], *lines[1:][-1:]])
        row.reasons[name] = words if len(words) <= LONGEST_REASON else f"{words[: LONGEST_REASON - 3]}..."
        return None


def flattened(model: Any) -> Iterator[Any]:
    """All layers, those inside models and layers too."""
    yield from model._flatten_layers(include_self=False)


# Weights


def randomize(model: Any, generator: np.random.Generator) -> None:
    """Random values for all weights and statistics, such that signals neither vanish nor explode.

    Kernels are normal with He's deviation and a gain from 0.7 to 1.3 each; what multiplies lies around 1, variances from 0.5 to 2.
    """
    for layer in [model, *flattened(model)]:
        for weight in layer._trainable_variables + layer._non_trainable_variables:
            if "float" in keras.backend.standardize_dtype(weight.dtype):
                weight.assign(random_weight(layer, weight, generator))
        if hasattr(layer, "finalize_state"):  # Normalization computes with copies of its statistics
            layer.finalize_state()


def settle(model: Any, inputs: Any, generator: np.random.Generator) -> None:
    """Gives a deep net the statistics of its own signals, the means then moved and the variances scaled at random, and outputs around 1.

    With statistics from nowhere EfficientNetB0 gave the same output for any input. With an offset (beta) around 0 such a net is chaotic:
    in ResNet50 one float32 rounding of the input made 1e-5 of the output, in EfficientNetB0 1e-3; with 0.8 it is 1e-6 in both.
    """
    if len(model.weights) < DEEP:
        return
    norms = [layer for layer in flattened(model) if type(layer).__name__ == "BatchNormalization"]
    momenta = [layer.momentum for layer in norms]
    for layer in norms:
        layer.momentum = 0.0
        layer.beta.assign(generator.normal(0.8, 0.3, layer.beta.shape))
        if layer.scale:
            layer.gamma.assign(generator.uniform(0.4, 1.0, layer.gamma.shape))
    model(inputs, training=True)
    for layer, momentum in zip(norms, momenta, strict=True):
        layer.momentum = momentum
        mean, variance = layer.moving_mean.numpy(), layer.moving_variance.numpy()
        layer.moving_mean.assign(mean + generator.normal(0, 0.3, mean.shape) * np.sqrt(variance))
        layer.moving_variance.assign(variance * generator.uniform(0.5, 2.0, variance.shape) + 1e-3)
    head = [layer for layer in flattened(model) if hasattr(layer, "kernel")][-1]
    head.kernel.assign(head.kernel * (2 / np.abs(outputs(model, inputs)[0][0]).max()))


def random_weight(layer: Any, weight: Any, generator: np.random.Generator) -> np.ndarray:
    shape, name = tuple(weight.shape), weight.name
    if "variance" in name:
        return generator.uniform(0.5, 2.0, shape)
    if name in ("gamma", "scale", "moving_stddev"):
        return generator.uniform(0.5, 1.5, shape)
    if name == "alpha":  # the slope of a PReLU
        return generator.uniform(0.05, 0.5, shape)
    if len(shape) < 2:
        return generator.normal(0, 0.1, shape)
    depthwise = "depthwise" in f"{type(layer).__name__} {name}".lower()
    fan_in = np.prod(shape[:-2] if depthwise else shape[:-1])
    return generator.normal(0, generator.uniform(0.7, 1.3) * np.sqrt(2 / fan_in), shape)


# Inputs and outputs


def inputs_of(model: Any, values: str | Sequence[str], generator: np.random.Generator) -> list[np.ndarray]:
    """An array for each input, of four examples where the batch is free."""
    kinds = [values] * len(model.inputs) if isinstance(values, str) else values
    shapes = [(tensor.shape[0] or EXAMPLES, *(size or 8 for size in tensor.shape[1:])) for tensor in model.inputs]
    dtypes = [getattr(tensor.dtype, "name", tensor.dtype) for tensor in model.inputs]  # a string in Keras 3
    return [values_of(kind, shape, dtype, generator) for kind, shape, dtype in zip(kinds, shapes, dtypes, strict=True)]


def structured(model: Any, arrays: Sequence[np.ndarray]) -> Any:
    """The arrays as the Keras 3 model takes them: alone, or in its lists and dictionaries."""
    structure = model._functional._inputs_struct if isinstance(model, keras.Sequential) else model._inputs_struct
    tensors = [keras.ops.convert_to_tensor(array) if array.dtype.kind != "U" else backend.tensorflow().constant(array) for array in arrays]
    return keras.tree.pack_sequence_as(structure, tensors)


def outputs(model: Any, inputs: Any) -> list[list[np.ndarray]]:
    """Before a last softmax where there is one, and as they are: the outputs, of either Keras, dictionaries by their sorted keys."""
    with without_softmax(model) as (bare, had_any):
        before = [called(bare, inputs)] if had_any else []
    return [*before, called(model, inputs)]


def called(model: Any, inputs: Any) -> list[np.ndarray]:
    """The outputs in order, the states of recurrent layers at zero before."""
    reset = "reset_states" if is_keras2(model) else "reset_state"
    for layer in flattened(model):
        if getattr(layer, "stateful", False) and hasattr(layer, reset):
            getattr(layer, reset)()
    return in_order(model(inputs, training=False))


def is_keras2(model: Any) -> bool:
    return isinstance(model, backend.keras().Model)


@contextlib.contextmanager
def without_softmax(model: Any) -> Iterator[tuple[Any, bool]]:
    """The model without the softmax of its last layers: Softmax layers are left out, activations are taken off meanwhile."""
    kind = backend.keras().Model if is_keras2(model) else keras.Model
    changed, ends = [], []
    for tensor in model.outputs:
        layer = tensor._keras_history.layer if is_keras2(model) else tensor._keras_history.operation
        ends.append(layer.input if type(layer).__name__ == "Softmax" and not isinstance(layer.input, list | dict) else tensor)
        if getattr(getattr(layer, "activation", None), "__name__", "") == "softmax":
            changed.append((layer, layer.activation))
    if not changed and all(end is tensor for end, tensor in zip(ends, model.outputs, strict=True)):
        yield model, False
        return
    for layer, _ in changed:
        layer.activation = linear
    try:
        yield kind(model.inputs, ends), True
    finally:
        for layer, activation in changed:
            layer.activation = activation


def linear(x: Any) -> Any:
    return x


def in_order(result: Any) -> list[np.ndarray]:
    if isinstance(result, Mapping):
        return [array for key in sorted(result) for array in in_order(result[key])]
    if isinstance(result, list | tuple):
        return [array for one in result for array in in_order(one)]
    return [np.asarray(result)]


def run(content: bytes, plain: Any, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The outputs of a .tflite on LiteRT, example by example unless its batch is fixed; inputs are told apart by name."""
    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    runner = interpreter.get_signature_runner()
    details = runner.get_input_details()
    ways = dict(zip(plain.input_names, arrays, strict=True)) if len(arrays) > 1 else {next(iter(details)): arrays[0]}
    size = max(detail["shape"][0] for detail in details.values())
    rows = []
    for first in range(0, len(arrays[0]), size):
        interpreter.reset_all_variables()
        rows.append(runner(**{name: array[first : first + size] for name, array in ways.items()}))
    return [np.concatenate([row[name] for row in rows]) for name in sorted(rows[0], key=lambda name: (len(name), name))]


# Comparisons


def error(expected: Sequence[Sequence[np.ndarray]], found: Sequence[Sequence[np.ndarray]]) -> float:
    """The largest difference of any output, relative to the largest value of that output. Raises where shapes or counts differ."""
    if len(expected) != len(found):  # the softmax is inside a layer that is carried as a whole, or takes a mask
        expected, found = expected[-1:], found[-1:]
    if [[array.shape for array in arrays] for arrays in expected] != [[array.shape for array in arrays] for arrays in found]:
        raise ValueError(f"outputs of shapes {[a.shape for a in expected[-1]]} became {[a.shape for a in found[-1]]}")
    pairs = [pair for one, other in zip(expected, found, strict=True) for pair in zip(one, other, strict=True)]
    return max(relative(one, other) for one, other in pairs)


def relative(expected: np.ndarray, found: np.ndarray) -> float:
    if expected.dtype.kind in "OSU":
        return float((expected != found).any())
    expected, found = expected.astype("float64"), found.astype("float64")
    if not np.isfinite(expected).all():
        raise ValueError("the Keras 3 model's own output is not finite")
    return float(np.abs(expected - found).max() / (np.abs(expected).max() or 1.0))


def variation(array: np.ndarray) -> float:
    """How far the outputs of any example are from the first's."""
    if array.dtype.kind in "OSU":
        return float((array != array[:1]).any())
    return relative(array, np.broadcast_to(array[:1], array.shape))
