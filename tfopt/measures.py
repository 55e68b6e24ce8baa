"""What a .tflite is made of: bytes, parameters, multiply-accumulates, zeros and distinct values, read back from the file.

Nothing here trusts a technique's own word, or a file's name: what is not in the file did not happen.
"""

from __future__ import annotations

import gzip
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from . import _flatbuffer
from ._flatbuffer import Graph, Node, Tensor
from .results import Kernel, Measures, Operation
from .runtime import Source


class Weighted(NamedTuple):
    """Where a kind of operation keeps its weights, and how many multiply-accumulates it does.

    Attributes:
      axes: the input that holds a kernel -> the kernel's axis of output channels.
      biases: the inputs that hold biases.
      macs: of one run, from its inputs, its output and the node.
    """

    axes: Mapping[int, int]
    biases: Sequence[int]
    macs: Callable[[Sequence[Tensor | None], Tensor, Node], int]


def _per_output(first: int, last: int) -> Callable:
    """Each element of the output sums over the kernel's dimensions from `first` to before `last`."""
    return lambda inputs, output, node: output.size * math.prod(inputs[1].shape[first:last])


def _per_input(last: int) -> Callable:
    """A transposed convolution: each element of the input meets the kernel's dimensions before `last`."""
    return lambda inputs, output, node: inputs[2].size * math.prod(inputs[1].shape[:last])


def _of_matmul(inputs: Sequence[Tensor | None], output: Tensor, node: Node) -> int:
    return output.size * inputs[0].shape[-2 if node.options.adjX else -1]


def _of_lstm(inputs: Sequence[Tensor | None], output: Tensor, node: Node) -> int:
    steps = math.prod(inputs[0].shape[:2])  # time and batch, in either order
    return steps * sum(tensor.size for index, tensor in enumerate(inputs) if index in _LSTM and tensor is not None)


def _of_lookup(inputs: Sequence[Tensor | None], output: Tensor, node: Node) -> int:
    return 0  # a row is copied, nothing multiplied


_LSTM = {**dict.fromkeys(range(1, 9), 0), 16: 0}  # the gates' input and recurrent weights; the projection; peepholes are vectors

WEIGHTED = {
    "CONV_2D": Weighted({1: 0}, [2], _per_output(1, 4)),  # kernel: out, height, width, in / groups
    "DEPTHWISE_CONV_2D": Weighted({1: 3}, [2], _per_output(1, 3)),  # 1, height, width, out
    "FULLY_CONNECTED": Weighted({1: 0}, [2], _per_output(1, 2)),  # out, in
    "TRANSPOSE_CONV": Weighted({1: 0}, [3], _per_input(3)),  # out, height, width, in
    "CONV_3D": Weighted({1: 4}, [2], _per_output(0, 4)),  # depth, height, width, in, out
    "CONV_3D_TRANSPOSE": Weighted({1: 3}, [3], _per_input(4)),  # depth, height, width, out, in
    "BATCH_MATMUL": Weighted({0: -2, 1: -1}, [], _of_matmul),  # rows, inner times inner, columns
    "UNIDIRECTIONAL_SEQUENCE_LSTM": Weighted(_LSTM, [12, 13, 14, 15, 17], _of_lstm),  # out, in
    "GATHER": Weighted({0: -1}, [], _of_lookup),  # an embedding: words, out
    "EMBEDDING_LOOKUP": Weighted({1: -1}, [], _of_lookup),
}
_NUMBERS = ("float32", "float16", "bfloat16", "int8", "uint8", "int16", "int4", "int2")
_PASSING_ON = ("DEQUANTIZE", "QUANTIZE")  # float16 weights stand in front of a DEQUANTIZE
_FOLDING = ("RESHAPE", "FULLY_CONNECTED", "SPACE_TO_BATCH_ND", "BATCH_TO_SPACE_ND")  # the first input is the data
_ELEMENTWISE = ("ADD", "SUB", "MUL", "DIV", "MAXIMUM", "MINIMUM", "SQUARED_DIFFERENCE", "PRELU", "SELECT_V2")  # nothing is summed
CALLING = ("WHILE", "IF")  # run other graphs, their bodies


def measure(source: Source) -> Measures:
    """Reads a .tflite's measures from the file, without running it.

    Args:
      source: an artifact, a path, or the file's bytes.

    Raises:
      ArtifactError: the file is missing or damaged.

    Example:
      measure(artifact).sparsity
    """
    name, content = _flatbuffer.contents(source)
    with _flatbuffer.damage_named(name):
        return measured(content, readers(name, content))


def readers(name: str, content: bytes) -> list[Reader]:
    """What is known of each graph of a file: the main one first."""
    return [Reader(graph) for graph in _flatbuffer.graphs(name, content)]


def measured(content: bytes, graphs: Sequence[Reader]) -> Measures:
    """The measures of a file whose graphs are read already."""
    kernels = [kernel for graph in graphs for kernel in graph.kernels()]
    weights = sum(math.prod(kernel.shape) for kernel in kernels)
    zeros = sum(math.prod(kernel.shape) * sum(kernel.zeros) / len(kernel.zeros) for kernel in kernels)
    return Measures(
        bytes=len(content),
        gzip_bytes=len(gzip.compress(content, 9, mtime=0)),
        parameters=sum(graph.parameters() for graph in graphs),
        macs=graphs[0].macs(),
        sparsity=zeros / weights if weights else 0.0,
        kernels=tuple(kernels),
        operations=tuple(operation for graph in graphs for operation in graph.operations()),
        uncounted=tuple(sorted(set().union(*(graph.uncounted() for graph in graphs)) | _loops(graphs))),
    )


def _loops(graphs: Sequence[Reader]) -> set[str]:
    """The kinds of operation whose bodies multiply: how often a body runs, and so how much it multiplies, is not in the file."""
    if any(graph.macs() for graph in graphs[1:]):
        return {node.kind for graph in graphs for node in graph.nodes if node.kind in CALLING}
    return set()


class Reader:
    """One graph, and which constant stands behind each of its tensors: what its nodes weigh and multiply."""

    def __init__(self, graph: Graph):
        self.graph = graph
        self.nodes = graph.nodes
        self._tensors = graph.tensors
        self._rows = _rows(graph)
        self._computing = [node for node in graph.nodes if node.kind not in (*_PASSING_ON, *CALLING)]
        self._passed = {node.outputs[0]: node.inputs[0] for node in graph.nodes if node.kind in _PASSING_ON}

    def kernels(self) -> Iterator[Kernel]:
        """Each weight tensor once, by the first operation that reads it."""
        seen = set()
        for node in self._computing:
            for index, axis in self.weights(node):
                if index not in seen:
                    seen.add(index)
                    tensor = self._tensors[index]
                    yield Kernel(tensor.name, node.kind, tensor.dtype, tensor.shape, *_per_channel(tensor, axis))

    def parameters(self) -> int:
        """Elements of the kernels, the biases and the other constants of numbers (a BatchNorm's scale that was not folded), each once."""
        counted = set()
        for node in self._computing:
            biases = WEIGHTED[node.kind].biases if node.kind in WEIGHTED else ()
            for place, index in enumerate(node.inputs):
                source = self.constant(index)
                if source is not None and (place in biases or self._tensors[source].dtype in _NUMBERS):
                    counted.add(source)
        return sum(self._tensors[index].size for index in counted)

    def macs(self) -> int:
        """Multiply-accumulates of the operations that are counted."""
        return sum(self.macs_of(node) or 0 for node in self._computing)

    def operations(self) -> Iterator[Operation]:
        """Each operation, in the order in which they run."""
        for node in self.nodes:
            output = self._tensors[node.outputs[0]] if node.outputs else None
            weights = [self._tensors[index].dtype for index, _ in self.weights(node)]
            yield Operation(node.kind, output.name if output else "", output.dtype if output else "", weights[0] if weights else None)

    def uncounted(self) -> set[str]:
        """The kinds of operation that multiply, and whose multiply-accumulates are not counted."""
        return {node.kind for node in self._computing if self.macs_of(node) is None}

    def rows(self, index: int) -> Fraction | None:
        """How often a tensor's shape stands there for one example, which is more than once where more is folded into the batch."""
        return None if _is_open(self._tensors[index]) else self._rows.get(index, Fraction(1))

    def macs_of(self, node: Node) -> int | None:
        """A node's multiply-accumulates for one example; None where free dimensions or an unknown kind leave them open."""
        if node.kind in _ELEMENTWISE:
            return 0
        if node.kind not in WEIGHTED:
            return None if any(True for _ in self.weights(node)) else 0
        inputs = [None if index < 0 else self._tensors[index] for index in node.inputs]
        output = self._tensors[node.outputs[0]]
        macs = WEIGHTED[node.kind].macs(inputs, output, node)
        sized = [output] if node.kind == "FULLY_CONNECTED" else [output, *(tensor for tensor in inputs if tensor is not None)]
        rows = None if any(map(_is_open, sized)) else self._rows.get(node.outputs[0], 1)
        return 0 if macs == 0 else None if rows is None else int(macs * rows)

    def constant(self, index: int) -> int | None:
        """The index of the constant that an input reads, through a DEQUANTIZE where there is one; None for what is no constant."""
        source = self._passed.get(index, index)
        return source if source >= 0 and self._tensors[source].content is not None else None

    def weights(self, node: Node) -> Iterator[tuple[int, int]]:
        """A node's weights: a tensor's index and its output channel axis. Of a kind not in WEIGHTED: its matrices."""
        if node.kind in (*_PASSING_ON, *CALLING):
            return
        for place, index in enumerate(node.inputs):
            source = self.constant(index)
            if source is None or self._tensors[source].dtype not in _NUMBERS:
                continue
            if node.kind not in WEIGHTED:
                if sum(size > 1 for size in self._tensors[source].shape) > 1:
                    yield source, 0
            elif place in WEIGHTED[node.kind].axes and len(self._tensors[source].shape) > 1:
                axis = WEIGHTED[node.kind].axes[place]
                transposed = node.kind == "BATCH_MATMUL" and (node.options.adjX, node.options.adjY)[place]
                yield source, -3 - axis if transposed else axis


def _is_open(tensor: Tensor) -> bool:
    """Whether more than the batch is free."""
    return tensor.signature.count(-1) > 1


def _rows(graph: Graph) -> dict[int, Fraction | None]:
    """By tensor, how often its shape stands there for one example; None where that can't be known.

    A free batch has size 1 in the shapes, also where time steps (TimeDistributed) or a dilated convolution's interleaved parts are
    folded into it. An output has one row, so this goes from the outputs back: a RESHAPE keeps the number of elements, and of
    BATCH_TO_SPACE_ND's input counts what is left after its cropping.
    """
    rows: dict[int, Fraction | None] = {}
    outside: dict[int, Fraction | None] = {}  # between SPACE_TO_BATCH_ND and BATCH_TO_SPACE_ND: the rows around both
    for node in reversed([node for node in graph.nodes if node.kind != "SHAPE" and node.outputs]):
        output = graph.tensors[node.outputs[0]]
        after = rows.setdefault(node.outputs[0], None if _is_open(output) else Fraction(1))
        for index in node.inputs[:1] if node.kind in _FOLDING else node.inputs:
            tensor = graph.tensors[index]
            if index < 0 or tensor.content is not None or rows.get(index) is not None:
                continue
            outside[index] = after if node.kind == "BATCH_TO_SPACE_ND" else outside.get(node.outputs[0])
            if node.kind == "SPACE_TO_BATCH_ND":
                rows[index] = outside.pop(index)
            elif after is None or not tensor.size:
                rows[index] = None
            elif node.kind in ("RESHAPE", "BATCH_TO_SPACE_ND"):
                rows[index] = after * output.size / tensor.size
            elif node.kind == "FULLY_CONNECTED":
                units, inner = graph.tensors[node.inputs[1]].shape
                rows[index] = after * output.size * inner / (units * tensor.size)
            else:
                rows[index] = None if _is_open(tensor) and tensor.signature != output.signature else after
    return rows


def _per_channel(tensor: Tensor, axis: int) -> tuple[tuple[float, ...], tuple[int, ...], tuple[float, ...]]:
    """Per output channel: the share of zeros, how many values are different, and the largest |w|."""
    rows = np.moveaxis(tensor.values(), axis, 0)
    rows = np.sort(rows.reshape(len(rows), -1), axis=1)
    points, scales = (
        values[:, None] if len(values) == len(rows) else values[:1]
        for values in (tensor.zero_points, tensor.scales if len(tensor.scales) else np.ones(1))
    )
    zeros = np.mean(rows == points, axis=1)
    largest = np.abs(scales * (rows[:, [0, -1]].astype("float64") - points)).max(axis=1)
    distinct = 1 + np.count_nonzero(rows[:, 1:] != rows[:, :-1], axis=1)
    return tuple(zeros.tolist()), tuple(distinct.tolist()), tuple(largest.tolist())
