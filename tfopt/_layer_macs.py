"""Multiply-accumulates of Keras layers, from their kind and their shapes, for one example; counted as they are in a .tflite file.

A product that is summed is one. What is done element by element (BatchNormalization, activations, biases) counts nothing, as in
`measures`. A layer that is called twice counts twice. None stands where it can't be known: a layer of the user's own, a Lambda, free
dimensions other than the batch.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from . import backend

Shape = tuple[int | None, ...]


class Call(NamedTuple):
    """One call of a layer: the shapes of its inputs, of those given by name or place in `named`, and of its outputs; a free batch is 1."""

    inputs: Sequence[Shape]
    outputs: Sequence[Shape]
    named: Mapping[str, Any] = {}


class _Open(Exception):
    """A dimension that is not known is asked for."""


def calls(model: Any, inputs: Sequence[Shape] | None = None, prefix: str = "") -> Iterator[tuple[str, Any, Call]]:
    """Each call of each layer of a functional model, in order: the layer's name (outer/inner), the layer, the call."""
    keras, nest = backend.keras(), backend.tensorflow().nest
    shapes = dict(zip(map(id, model.inputs), inputs or [_one(tensor.shape) for tensor in model.inputs], strict=True))
    for node in backend.nodes_of(model):
        layer, outputs = node.layer, nest.flatten(node.outputs)
        call = Call([shapes[id(tensor)] for tensor in node.keras_inputs], _outputs(node, outputs, shapes), _named(node, shapes))
        shapes.update(zip(map(id, outputs), call.outputs, strict=True))
        if isinstance(layer, keras.Model) and layer._is_graph_network:
            yield from calls(layer, call.inputs, f"{prefix}{layer.name}/")
        else:
            yield prefix + layer.name, layer, call


def macs(layer: Any, call: Call) -> int | None:
    """Multiply-accumulates of one call; None where they can't be known."""
    try:
        return _macs(layer, call)
    except _Open:
        return None


def _one(shape: Any) -> Shape:
    """A shape with a free batch as 1; of one whose very rank got lost, one open size."""
    if getattr(shape, "rank", 0) is None:
        return (None,)
    sizes = tuple(shape)
    return (1, *sizes[1:]) if sizes and sizes[0] is None else sizes


def _outputs(node: Any, outputs: Sequence[Any], shapes: Mapping[int, Shape]) -> list[Shape]:
    """The output shapes: the node's own, or where they leave something open, those that follow from the shapes that go in."""
    own = [_one(tensor.shape) for tensor in outputs]
    if not any(None in shape for shape in own):
        return own
    given = [shapes[id(tensor)] for tensor in node.keras_inputs]
    if any(None in shape for shape in given) or type(node.layer).__name__ in ("TFOpLambda", "SlicingOpLambda"):
        return own
    found = node.layer.compute_output_shape(given if len(given) > 1 else given[0])
    found = found if isinstance(found, list) else [found]
    return [_one(shape) for shape in found] if len(found) == len(own) else own


def _named(node: Any, shapes: Mapping[int, Shape]) -> dict[str, Any]:
    """The arguments of a call by name, shapes in place of tensors."""
    try:
        arguments = inspect.signature(node.layer.call).bind(*node.call_args, **node.call_kwargs).arguments
    except TypeError:
        return {}
    return {name: shapes.get(id(value), value) for name, value in arguments.items()}


def _size(shape: Sequence[int | None]) -> int:
    if None in shape:
        raise _Open
    return math.prod(shape)


# Rules: (layer, call) -> multiply-accumulates


def _macs(layer: Any, call: Call) -> int | None:
    keras = backend.keras()
    if isinstance(layer, keras.Model):
        return _total(layer, call.inputs) if layer._is_graph_network else None
    if not _is_known(layer):
        return None
    for kind in type(layer).__mro__:
        if kind.__name__ in _RULES:
            return _RULES[kind.__name__](layer, call)
    return _without_rule(layer)


def _total(model: Any, inputs: Sequence[Shape]) -> int | None:
    counts = [macs(layer, call) for _, layer, call in calls(model, inputs)]
    return None if None in counts else sum(counts)


def _is_known(layer: Any) -> bool:
    """Whether what a layer does is written in one of the libraries: a class of the user's own may do anything in its `call`."""
    home = next(kind for kind in type(layer).__mro__ if "call" in vars(kind)).__module__
    return home.split(".")[0] in ("tf_keras", "tensorflow_model_optimization", "tfopt")


def _nothing(layer: Any, call: Call) -> int:
    return 0


def _unknown(layer: Any, call: Call) -> None:
    return None


def _convolution(layer: Any, call: Call) -> int:
    return _size(call.outputs[0]) * math.prod(layer.kernel.shape[:-1])  # kernel: sizes, in / groups, out


def _transposed(layer: Any, call: Call) -> int:
    return _size(call.inputs[0]) * math.prod(layer.kernel.shape[:-1])  # kernel: sizes, out, in


def _depthwise(layer: Any, call: Call) -> int:
    return _size(call.outputs[0]) * math.prod(layer.kernel_size)


def _separable(layer: Any, call: Call) -> int:
    deep, places = layer.pointwise_kernel.shape[-2], _size(call.outputs[0]) // layer.filters
    return places * deep * (math.prod(layer.kernel_size) + layer.filters)


def _locally_connected(layer: Any, call: Call) -> int:
    channels = call.inputs[0][1 if layer.data_format == "channels_first" else -1]
    return _size(call.outputs[0]) * math.prod(layer.kernel_size) * channels


def _dense(layer: Any, call: Call) -> int:
    return _size(call.outputs[0]) * layer.kernel.shape[0]


def _einsum(layer: Any, call: Call) -> int:
    """Each index of the equation once: those of the output times those that are summed."""
    _, kernel = layer.equation.partition("->")[0].split(",")
    output = layer.equation.partition("->")[2]
    summed = [size for letter, size in zip(kernel, layer.kernel.shape, strict=True) if letter not in output]
    return _size(call.outputs[0]) * math.prod(summed)


def _recurrent(layer: Any, call: Call) -> int | None:
    cells = getattr(layer.cell, "cells", [layer.cell])
    if not all(_is_known(cell) and hasattr(cell, "recurrent_kernel") for cell in cells):
        return None
    steps = _size(call.inputs[0][:2])  # batch and time, in either order
    return steps * sum(math.prod(cell.kernel.shape) + math.prod(cell.recurrent_kernel.shape) for cell in cells)


def _convolutional_recurrent(layer: Any, call: Call) -> int:
    """In each step the input's kernel and the state's meet every place of the output."""
    steps = _size([call.inputs[0][1]])
    places = _size(call.outputs[0]) // layer.cell.filters // (steps if layer.return_sequences else 1)
    return steps * places * (math.prod(layer.cell.kernel.shape) + math.prod(layer.cell.recurrent_kernel.shape))


def _bidirectional(layer: Any, call: Call) -> int | None:
    halves = [macs(half, _call_of(half, call.inputs[:1])) for half in (layer.forward_layer, layer.backward_layer)]
    return None if None in halves else sum(halves)


def _distributed(layer: Any, call: Call) -> int | None:
    batch, steps, *rest = call.inputs[0]
    once = macs(layer.layer, _call_of(layer.layer, [(batch, *rest)]))
    return None if once is None else 0 if once == 0 else _size([steps]) * once


def _wrapped(layer: Any, call: Call) -> int | None:
    return macs(layer.layer, call)


def _call_of(layer: Any, inputs: Sequence[Shape]) -> Call:
    found = layer.compute_output_shape(inputs[0])
    return Call(inputs, [_one(shape) for shape in (found if isinstance(found, list) else [found])])


def _multi_head(layer: Any, call: Call) -> int | None:
    """The four projections, each query with each key, and the mean of the values, in every head."""
    query, value = call.named.get("query"), call.named.get("value")
    if query is None or value is None or len(query) != 3:
        return None
    batch, asking, answering = query[0], query[1], value[1]
    query_tokens, value_tokens = _size([batch, asking]), _size([batch, answering])
    projections = {name: math.prod(getattr(layer, f"_{name}_dense").kernel.shape) for name in ("query", "key", "value", "output")}
    projected = query_tokens * (projections["query"] + projections["output"]) + value_tokens * (projections["key"] + projections["value"])
    if type(layer).__name__ == "GroupedQueryAttention":
        return projected + layer.num_query_heads * query_tokens * answering * 2 * layer.head_dim
    return projected + layer._num_heads * query_tokens * answering * (layer._key_dim + layer._value_dim)


def _attention(layer: Any, call: Call) -> int:
    query, value = call.inputs[:2]
    additive = type(layer).__name__ == "AdditiveAttention" or layer.score_mode == "concat"  # scores element by element
    return _size(query[:-1]) * _size(value[1:-1]) * ((0 if additive else query[-1]) + value[-1])


def _dot(layer: Any, call: Call) -> int:
    axis = layer.axes if isinstance(layer.axes, int) else layer.axes[0]
    return _size(call.outputs[0]) * _size([call.inputs[0][axis]])


def _operator(layer: Any, call: Call) -> int | None:
    """A TensorFlow function called on a model's tensors, by its name."""
    if layer.symbol.rpartition(".")[2] == "matmul" and isinstance(call.named.get("a"), tuple):
        return _size(call.outputs[0]) * _size([call.named["a"][-2 if call.named.get("transpose_a") else -1]])
    if layer.symbol == "einsum":
        return _products(call.named["equation"], call.inputs)
    return None if _multiplies(layer.symbol) else 0


def _carried_layer(layer: Any, call: Call) -> int | None:
    """A Keras 3 layer that the bridge carries as it is: its attributes are named as in Keras 2."""
    inner = layer.layer
    if not type(inner).__module__.startswith("keras.src."):
        return None
    if len(call.inputs) > 1:
        call = call._replace(named={"query": call.inputs[0], "value": call.inputs[1]})
    rule = next((_RULES[kind.__name__] for kind in type(inner).__mro__ if kind.__name__ in _RULES), None)
    return rule(inner, call) if rule else _without_rule(layer)


def _carried_operation(layer: Any, call: Call) -> int | None:
    kind = layer.operation["class_name"]
    if kind == "Matmul" and len(call.inputs) == 2:
        return _size(call.outputs[0]) * _size(call.inputs[0][-1:])
    if kind == "Einsum":
        return _products(layer.operation["config"]["subscripts"], call.inputs)
    return None if _multiplies(kind) else 0


def _products(equation: str, shapes: Sequence[Shape]) -> int | None:
    """Of an einsum of two tensors: every combination of its indices once, where some are summed."""
    before, _, after = equation.replace(" ", "").partition("->")
    operands = before.split(",")
    if len(operands) != 2 or len(shapes) != 2 or "." in equation or not after:
        return None
    sizes = {letter: size for operand, shape in zip(operands, shapes, strict=True) for letter, size in zip(operand, shape, strict=True)}
    return 0 if set(after) == set(sizes) else _size(list(sizes.values()))


def _multiplies(name: str) -> bool:
    return any(word in name.lower() for word in _PRODUCTS)


def _without_rule(layer: Any) -> int | None:
    return None if any(weight.dtype.is_floating for weight in layer.weights) else 0


_PRODUCTS = ("matmul", "conv", "einsum", "dot", "matvec", "attention", "inner", "outer")
_CONVOLUTIONS = ("Conv1D", "Conv2D", "Conv3D")
_ELEMENTWISE = ("BatchNormalization", "SyncBatchNormalization", "LayerNormalization", "GroupNormalization", "UnitNormalization",
                "RMSNormalization", "PReLU", "Normalization", "Embedding", "QuantizeLayer")  # fmt: skip

_RULES: dict[str, Callable[[Any, Call], int | None]] = {
    "Conv1DTranspose": _transposed,
    "Conv2DTranspose": _transposed,
    "Conv3DTranspose": _transposed,
    "DepthwiseConv1D": _depthwise,
    "DepthwiseConv2D": _depthwise,
    "SeparableConv1D": _separable,
    "SeparableConv2D": _separable,
    **dict.fromkeys(_CONVOLUTIONS, _convolution),
    "LocallyConnected1D": _locally_connected,
    "LocallyConnected2D": _locally_connected,
    "Dense": _dense,
    "EinsumDense": _einsum,
    "ConvLSTM": _convolutional_recurrent,
    "RNN": _recurrent,
    "Bidirectional": _bidirectional,
    "TimeDistributed": _distributed,
    "Wrapper": _wrapped,
    "MultiHeadAttention": _multi_head,
    "GroupedQueryAttention": _multi_head,
    "Attention": _attention,
    "AdditiveAttention": _attention,
    "Dot": _dot,
    "TFOpLambda": _operator,
    "Lambda": _unknown,
    "Keras3Layer": _carried_layer,
    "Keras3Operation": _carried_operation,
    **dict.fromkeys(_ELEMENTWISE, _nothing),
}
