"""What a model or a .tflite file is made of, and what each technique would do with it: `inspect("mine.keras")`, `inspect("mine.tflite")`.

A file's name is not believed: what is in it is read.
"""

from __future__ import annotations

import collections
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from . import _flatbuffer, _layer_macs, _lifetimes, _promises, backend, deployment, loading, measures, runtime, timing
from ._inspections import (
    Coverage,
    Dtypes,
    Fallback,
    FileInspection,
    FileOperation,
    FileTensor,
    Inspection,
    KerasInspection,
    Layer,
    Memory,
    OperationCount,
    Plan,
    Port,
    SavedModelInspection,
    Shape,
)
from .errors import ArtifactError, TfoptError, UnsupportedModel
from .surgery import copying
from .techniques import PLANS
from .types import Artifact, SavedModel

_OF_XNNPACK = ("float32", "float16", "int8", "uint8", "int4", "int2")  # the dtypes that its operations compute with


def inspect(source: Any, custom_objects: Mapping[str, Any] | None = None, *, trust: bool = False) -> Inspection:
    """What a model or a .tflite file is made of, and what each technique would do with it.

    Args:
      source: a Keras model, or whatever else `load` takes: a model file, a SavedModel's folder; or a .tflite file: its path, its bytes,
        or an artifact.
      custom_objects, trust: as in `load`, for a model that is loaded from a file.

    Returns:
      A KerasInspection (layers, their parameters and multiply-accumulates, each technique's plan) or a FileInspection (operations, real
      dtypes, what XNNPACK takes, activation memory, and a warning where the name promises something else); of a SavedModel whose layers
      can't be had back a SavedModelInspection (signature and operations). Printed, it is a table; `as_dict()` has everything.

    Raises:
      ArtifactError: a .tflite file is missing or damaged.
      UnsupportedModel: no model, one that can't be loaded, or one without weights since it is not built.
      BridgeError: a Keras 3 model that does not come through the bridge unchanged.

    >>> print(inspect("digits.tflite"))
    >>> inspect(model).macs
    """
    if isinstance(source, Artifact | bytes) or (isinstance(source, str | os.PathLike) and Path(source).suffix == ".tflite"):
        return _of_file(source)
    model = loading.load(source, custom_objects, trust=trust)
    if isinstance(model, Artifact):  # a .tflite under another ending
        return _of_file(model)
    return _of_saved_model(model) if isinstance(model, SavedModel) else _of_keras(model)


# Keras models


def _of_keras(model: Any) -> KerasInspection:
    if not model.built:
        raise UnsupportedModel(
            f"{model.name!r} is not built yet, so it has no weights: give its first layer an input_shape, or call it once"
        )
    calls: dict[str, list[_layer_macs.Call]] = {}
    for name, _, call in _layer_macs.calls(model) if model._is_graph_network else ():
        calls.setdefault(name, []).append(call)
    free = bool(model.inputs) and model.inputs[0].shape[0] is None
    layers = tuple(_layer(name, layer, calls.get(name, []), free) for name, layer in copying.all_layers(model))
    return KerasInspection(
        name=model.name,
        inputs=_keras_ports(model.input_names, model.inputs),
        outputs=_keras_ports(model.output_names, model.outputs),
        layers=layers,
        parameters=sum(map(_size, model.weights)),
        trainable_parameters=sum(map(_size, model.trainable_weights)),
        bytes=sum(map(_bytes, model.weights)),
        macs=sum(layer.macs or 0 for layer in layers),
        uncounted=tuple(layer.name for layer in layers if layer.macs is None),
        plans=tuple(_plan(technique, model) for technique in PLANS),
    )


def _layer(name: str, layer: Any, calls: Sequence[_layer_macs.Call], free: bool) -> Layer:
    macs = [_layer_macs.macs(layer, call) for call in calls]
    return Layer(
        name=name,
        kind=type(layer).__name__,
        output_shapes=tuple(
            (None, *shape[1:]) if free and shape[:1] == (1,) else tuple(shape) for call in calls[:1] for shape in call.outputs
        ),
        parameters=sum(map(_size, layer.weights)),
        bytes=sum(map(_bytes, layer.weights)),
        macs=None if None in macs or not calls else sum(macs),
        calls=len(calls),
    )


def _size(weight: Any) -> int:
    return int(weight.shape.num_elements())


def _bytes(weight: Any) -> int:
    return _size(weight) * weight.dtype.size


def _keras_ports(names: Sequence[str] | None, tensors: Sequence[Any] | None) -> tuple[Port, ...]:
    """None of a subclassed model, which does not say what it takes."""
    return tuple(
        Port(name, (None,) if x.shape.rank is None else tuple(x.shape), x.dtype.name)
        for name, x in zip(names or (), tensors or (), strict=True)
    )


def _plan(technique: str, model: Any) -> Plan:
    try:
        copying.check_supported(model)
        return Plan(technique, tuple(PLANS[technique](model)), None)
    except TfoptError as error:
        return Plan(technique, (), str(error))


# SavedModels


def _of_saved_model(model: SavedModel) -> SavedModelInspection:
    counts = collections.Counter(_saved_operations(model))
    files = [path for path in model.path.rglob("*") if path.is_file()]
    return SavedModelInspection(
        name=str(model.path),
        signature=model.signature,
        inputs=tuple(Port(spec.name, spec.shape, spec.dtype) for spec in model.inputs),
        outputs=tuple(Port(spec.name, spec.shape, spec.dtype) for spec in model.outputs),
        bytes=sum(path.stat().st_size for path in files),
        operations=tuple(OperationCount(kind, count) for kind, count in sorted(counts.items(), key=lambda it: (-it[1], it[0]))),
        reason=model.reason,
    )


def _saved_operations(model: SavedModel) -> Iterator[str]:
    """The kind of each operation that the signature's outputs come from, and of those in the functions that are called there."""
    message = backend.saved_model_message()
    message.ParseFromString((model.path / "saved_model.pb").read_bytes())
    (graph,) = message.meta_graphs
    functions = {function.signature.name: list(function.node_def) for function in graph.graph_def.library.function}
    nodes = {node.name: node for node in graph.graph_def.node}
    waiting, seen = [output.name for output in graph.signature_def[model.signature].outputs.values()], set()
    found = []
    while waiting:
        name = waiting.pop().lstrip("^").partition(":")[0]
        if name not in nodes:
            raise UnsupportedModel(f"{model.path}: its signature needs the operation {name!r}, which is not in its graph; save it again")
        if name not in seen:
            seen.add(name)
            found.append(nodes[name])
            waiting += nodes[name].input
    seen.clear()
    while found:
        node = found.pop()
        values = node.attr.values()
        called = {name for value in values for name in (value.func.name, *(one.name for one in value.list.func))} & functions.keys()
        found += [inner for name in called - seen for inner in functions[name]]  # a body counts once: it may be called a million times
        seen |= called
        if not called:
            yield node.op


# .tflite files


def _of_file(source: runtime.Source) -> FileInspection:
    name, content = _flatbuffer.contents(source)
    with _flatbuffer.damage_named(name):
        graphs = measures.readers(name, content)
        measured = measures.measured(content, graphs)
        tensors = tuple(tensor for number, graph in enumerate(graphs) for tensor in _tensors(number, graph))
        memory = _lifetimes.memory(graphs) or (None, None)
        prepares = deployment.inside(name, content)
    said = f"{source.name}-{source.format}" if isinstance(source, Artifact) else name
    parts, coverage = _coverage(source, graphs[0])
    inputs, outputs = (_file_ports(graphs[0], indices) for indices in (graphs[0].graph.inputs, graphs[0].graph.outputs))
    return FileInspection(
        name=name,
        warnings=_promises.warnings(said, measured, [port.dtype for port in (*inputs, *outputs)], preprocessing=prepares is not None),
        inputs=inputs,
        outputs=outputs,
        preprocessing=None if prepares is None else tuple(step.use for step in prepares.steps),
        bytes=measured.bytes,
        gzip_bytes=measured.gzip_bytes,
        parameters=measured.parameters,
        macs=measured.macs,
        uncounted=measured.uncounted,
        sparsity=measured.sparsity,
        dtypes=tuple(_dtypes(tensors)),
        operations=tuple(o for number, graph in enumerate(graphs) for o in _operations(number, graph, parts, measured.uncounted)),
        tensors=tensors,
        coverage=coverage,
        memory=Memory(*memory),
    )


def _tensors(number: int, graph: measures.Reader) -> Iterator[FileTensor]:
    for index, tensor in enumerate(graph.graph.tensors):
        rows = 1 if tensor.content is not None else graph.rows(index) or 1
        yield FileTensor(
            graph=number,
            index=index,
            name=tensor.name,
            shape=_shape(tensor),
            dtype=tensor.dtype,
            bytes=int(tensor.bytes * rows),
            constant=tensor.content is not None,
            scales=len(tensor.scales),
            quantized_dimension=tensor.axis if len(tensor.scales) > 1 else None,
        )


def _shape(tensor: _flatbuffer.Tensor) -> Shape:
    return tuple(None if size == -1 else size for size in tensor.signature)


def _file_ports(graph: measures.Reader, indices: Sequence[int]) -> tuple[Port, ...]:
    tensors = [graph.graph.tensors[index] for index in indices]
    return tuple(Port(tensor.name, _shape(tensor), tensor.dtype) for tensor in tensors)


def _dtypes(tensors: Sequence[FileTensor]) -> Iterator[Dtypes]:
    for dtype in sorted({tensor.dtype for tensor in tensors}):
        sizes = {held: [t.bytes for t in tensors if t.dtype == dtype and t.constant == held] for held in (True, False)}
        yield Dtypes(dtype, len(sizes[True]), sum(sizes[True]), len(sizes[False]), sum(sizes[False]))


def _operations(number: int, graph: measures.Reader, parts: Mapping[int, int], looping: Sequence[str]) -> Iterator[FileOperation]:
    for index, node in enumerate(graph.nodes):
        output = graph.graph.tensors[node.outputs[0]] if node.outputs else None
        kernel = next((graph.graph.tensors[weights] for weights, _ in graph.weights(node)), None)
        yield FileOperation(
            graph=number,
            index=index,
            kind=node.kind,
            output=output.name if output else "",
            shape=_shape(output) if output else (),
            dtype=output.dtype if output else "",
            weights=kernel.dtype if kernel else None,
            scales=len(kernel.scales) if kernel else None,
            quantized_dimension=kernel.axis if kernel and len(kernel.scales) > 1 else None,
            macs=None if node.kind in looping else graph.macs_of(node),
            part=parts.get(index) if number == 0 else None,
        )


def _coverage(source: runtime.Source, graph: measures.Reader) -> tuple[dict[int, int], Coverage]:
    """The part of each operation that XNNPACK takes, and all that the runtime tells of it."""
    asked = {"runtime": runtime.version(), "machine": timing.machine(), "operations": len(graph.nodes)}
    try:
        taken = runtime.Session(source).delegated()
    except ArtifactError as error:
        return {}, Coverage(**asked, taken=0, parts=0, fallbacks=(), problem=str(error))
    parts = {index: part for part, indices in enumerate(taken) for index in indices}
    left = [(index, node) for index, node in enumerate(graph.nodes) if index not in parts]
    fallbacks = tuple(Fallback(index, node.kind, _reason(node, graph)) for index, node in left)
    return parts, Coverage(**asked, taken=len(parts), parts=len(taken), fallbacks=fallbacks, problem=None)


def _reason(node: _flatbuffer.Node, graph: measures.Reader) -> str:
    """What the file shows of why XNNPACK leaves an operation alone."""
    if node.kind.startswith("CUSTOM"):
        return "an operation of somebody's own"
    if node.kind in measures.CALLING:
        return "runs other graphs"
    tensors = graph.graph.tensors
    if node.outputs and tensors[node.outputs[0]].dtype not in _OF_XNNPACK:
        return f"puts out {tensors[node.outputs[0]].dtype}"
    computed = [tensors[index].dtype for index in node.inputs if index >= 0 and graph.constant(index) is None]
    other = sorted(set(computed) - set(_OF_XNNPACK))
    return f"reads {', '.join(other)} that is computed while it runs" if other else "the runtime does not say why"
