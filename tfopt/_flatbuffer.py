"""What stands in a .tflite file: graphs of tensors and operations, read from its FlatBuffer without running it."""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from .errors import ArtifactError, shown
from .types import Artifact

MARK = b"TFL3"  # at bytes 4 to 7 of every .tflite
PACKED_BITS = {"int4": 4, "int2": 2}
_UNSIZED = ("string", "resource", "variant")


def contents(source: Artifact | str | os.PathLike | bytes) -> tuple[str, bytes]:
    """The name by which messages call a .tflite, and its bytes.

    Raises:
      ArtifactError: the file is missing, can't be read, is empty, or is something else than a .tflite; `source` is of none of the types.
    """
    if isinstance(source, Artifact):
        name, content = source.name, source.content
    elif isinstance(source, bytes | bytearray | memoryview):
        name, content = "the given bytes", bytes(source)
    elif not isinstance(source, str | os.PathLike):
        raise ArtifactError(f"{shown(source)} is no .tflite: expected an artifact, a path or the file's bytes; convert a model first")
    else:
        name = str(source)
        try:
            content = Path(source).read_bytes()
        except FileNotFoundError:
            raise ArtifactError(f"{name}: no such file; give the path of a .tflite file") from None
        except OSError as error:
            raise ArtifactError(f"{name}: can't be read ({error.strerror}); give the path of a .tflite file") from error
    if not content:
        raise ArtifactError(f"{name}: is empty; convert the model again")
    if content[4:8] != MARK:
        raise ArtifactError(f"{name}: is no .tflite file (the mark {MARK.decode()} at its start is missing); convert a model first")
    return name, content


@dataclass(frozen=True)
class Tensor:
    """A tensor of a graph: `content` holds its bytes where it is a constant, else None; `sparse` ones are packed in a way not read here.

    `shape` has a 1 for each free dimension, the batch's among them; `signature` has a -1 there. `scales` are those that it is
    quantized with (none: not at all), `axis` the dimension along which they change where there are several. A `variable` keeps its
    values from one run to the next.
    """

    name: str
    shape: tuple[int, ...]
    signature: tuple[int, ...]
    dtype: str
    zero_points: np.ndarray = field(repr=False)
    content: np.ndarray | None = field(repr=False)
    sparse: bool
    scales: np.ndarray = field(repr=False)
    axis: int
    variable: bool

    @property
    def size(self) -> int:
        """How many elements it has."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def bytes(self) -> int:
        """How many bytes it takes; 0 for what has no fixed size (strings, handles) and is no constant."""
        if self.content is not None:
            return len(self.content)
        return 0 if self.dtype in _UNSIZED else _bytes(self.shape, self.dtype)

    def values(self) -> np.ndarray:
        """A constant's elements, in its shape. int4 and int2 come as int8; bfloat16 as float32."""
        if self.sparse:
            raise ArtifactError(f"tensor {self.name} is stored sparse, which tfopt does not read; convert without EXPERIMENTAL_SPARSITY")
        if self.dtype in PACKED_BITS:
            flat = _unpacked(self.content, PACKED_BITS[self.dtype])[: self.size]
        elif self.dtype == "bfloat16":
            flat = (self.content.view("<u2").astype(np.uint32) << 16).view(np.float32)
        else:
            flat = self.content.view(np.dtype(self.dtype).newbyteorder("<"))
        return flat.reshape(self.shape)


@dataclass(frozen=True)
class Node:
    """An operation: its kind, e.g. "CONV_2D", the indices of its inputs (-1: left out) and outputs, its options in the schema's class."""

    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Any = field(repr=False)


@dataclass(frozen=True)
class Graph:
    """Tensors and the nodes that read and write them, in the order in which they run; the indices of its inputs and outputs."""

    tensors: tuple[Tensor, ...]
    nodes: tuple[Node, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def graphs(name: str, content: bytes) -> tuple[Graph, ...]:
    """All graphs of a file: the main one first, then the bodies of its loops and branches.

    Raises:
      ArtifactError: the file is damaged.
    """
    with damage_named(name):
        model = schema().ModelT.InitFromPackedBuf(content, 0)
        kinds = [_kind(code) for code in model.operatorCodes]
        return tuple(_graph(graph, model, kinds, content) for graph in model.subgraphs)


@contextlib.contextmanager
def damage_named(name: str) -> Iterator[None]:
    """Turns whatever goes wrong while a file is read into an ArtifactError: offsets that lead anywhere end in any exception."""
    try:
        yield
    except ArtifactError:
        raise
    except Exception as error:
        raise ArtifactError(f"{name}: the file is damaged ({type(error).__name__}: {error}); copy or convert it again") from error


@functools.cache
def schema() -> ModuleType:
    """The classes of the file format's tables, made from its schema."""
    return importlib.import_module("ai_edge_litert.schema_py_generated")


@functools.cache
def _names(table: str) -> dict[int, str]:
    return {value: name for name, value in vars(getattr(schema(), table)).items() if isinstance(value, int)}


def _kind(code: Any) -> str:
    number = max(code.builtinCode, code.deprecatedBuiltinCode)  # the old field has a byte only
    kind = _names("BuiltinOperator")[number]
    return f"CUSTOM {code.customCode.decode()}" if kind == "CUSTOM" else kind


def _graph(graph: Any, model: Any, kinds: list[str], content: bytes) -> Graph:
    tensors = tuple(_tensor(tensor, model.buffers[tensor.buffer], content) for tensor in graph.tensors)
    nodes = tuple(Node(kinds[o.opcodeIndex], _indices(o.inputs), _indices(o.outputs), o.builtinOptions) for o in _list(graph.operators))
    inputs, outputs = _indices(graph.inputs), _indices(graph.outputs)
    for kind, indices in [(node.kind, (*node.inputs, *node.outputs)) for node in nodes] + [("the graph", (*inputs, *outputs))]:
        for index in indices:
            if not -1 <= index < len(tensors):
                raise ValueError(f"{kind} names tensor {index} of {len(tensors)}")
    return Graph(tensors, nodes, inputs, outputs)


def _tensor(tensor: Any, buffer: Any, content: bytes) -> Tensor:
    name = (tensor.name or b"").decode(errors="replace")
    shape = _indices(tensor.shape)
    dtype = _names("TensorType")[tensor.type].lower()
    quantization = tensor.quantization
    zero_points = quantization.zeroPoint if quantization is not None else None
    sparse = tensor.sparsity is not None
    constant = _constant(buffer, content)
    if constant is not None and not sparse and dtype != "string":
        _check_size(name, shape, dtype, constant)
    signature = _indices(tensor.shapeSignature) or shape
    points = np.zeros(1, np.int64) if zero_points is None else np.asarray(zero_points)
    scales, axis = ((), 0) if quantization is None else (_list(quantization.scale), quantization.quantizedDimension)
    return Tensor(name, shape, signature, dtype, points, constant, sparse, np.asarray(scales), axis, bool(tensor.isVariable))


def _constant(buffer: Any, content: bytes) -> np.ndarray | None:
    if buffer.data is not None and len(buffer.data):
        return np.asarray(buffer.data, np.uint8)
    if buffer.offset > 1:  # files above 2 GB hold their buffers behind the FlatBuffer
        return np.frombuffer(content, np.uint8, buffer.size, buffer.offset)
    return None


def _check_size(name: str, shape: tuple[int, ...], dtype: str, constant: np.ndarray) -> None:
    expected = _bytes(shape, dtype)
    if len(constant) != expected:
        raise ValueError(f"tensor {name} of {dtype}{list(shape)} should have {expected} bytes, has {len(constant)}")


def _bytes(shape: tuple[int, ...], dtype: str) -> int:
    bits = PACKED_BITS.get(dtype) or (16 if dtype == "bfloat16" else np.dtype(dtype).itemsize * 8)
    return -(-int(np.prod(shape, dtype=np.int64)) * bits // 8)


def _unpacked(content: np.ndarray, bits: int) -> np.ndarray:
    """Signed numbers of 4 or 2 bits, the first in each byte's lowest bits, as int8."""
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    numbers = (content[:, None] >> shifts) & np.uint8(2**bits - 1)
    return ((numbers.astype(np.int8) ^ 2 ** (bits - 1)) - 2 ** (bits - 1)).astype(np.int8).ravel()


def _indices(values: Any) -> tuple[int, ...]:
    return tuple(int(value) for value in _list(values))


def _list(values: Any) -> Any:
    return () if values is None else values
