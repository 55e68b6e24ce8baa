"""A SavedModel's folder, read as data: its operations, its signature, and the Keras model that it was made from, where that can be told.

Nothing of its graph is run. Keras 2 writes a model's config beside the graph, and the weights are an ordinary checkpoint, so that a
functional or Sequential model can be built anew from these.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from . import backend
from ._archives import LARGEST_CONFIG
from ._safety import reaches_out
from .errors import UnsupportedModel, nearest
from .types import SavedModel, TensorSpec

USUAL = "serving_default"
LARGEST_GRAPH = 2**31 - 1  # bytes; a protobuf message can't be larger
_SAVER = ("SaveV2", "RestoreV2", "MergeV2Checkpoints", "ShardedFilename")
_NETWORKS = ("_tf_keras_network", "_tf_keras_sequential")


def read(path: Path) -> tuple[SavedModel, dict[str, Any] | None]:
    """What a SavedModel's folder holds, and the config of the functional or Sequential Keras model that it was made from, if any.

    Raises:
      UnsupportedModel: it is damaged, has no signature, or its graph runs Python or touches files.
    """
    graph = _graph(path)
    _check_operations(path, graph)
    name = _signature(path, graph)
    signature = graph.signature_def[name]
    inputs, outputs = _specs(signature.inputs), _specs(signature.outputs)
    config, reason = _keras_config(path, graph)
    return SavedModel(path.resolve(), name, inputs, outputs, reason), config


def revived(path: Path, config: Mapping[str, Any], custom: Mapping[str, Any]) -> Any:
    """The tf_keras model of a config that has been looked through, with the weights of the folder's checkpoint.

    Raises:
      Exception: whatever Keras raises where they don't fit each other.
    """
    keras = backend.keras()
    with keras.saving.custom_object_scope(dict(custom)):
        model = keras.models.model_from_json(json.dumps(config), custom_objects=dict(custom))
    status = model.load_weights(path / "variables" / "variables")
    status.assert_existing_objects_matched().expect_partial()
    return model


def _message(path: Path, message: Any) -> Any:
    try:
        if path.stat().st_size > LARGEST_GRAPH:
            raise ValueError("it is larger than a protobuf message can be")
        message.ParseFromString(path.read_bytes())
    except Exception as error:  # protobuf's DecodeError has no public place
        raise UnsupportedModel(f"{path}: can't be read as a part of a SavedModel ({error}); copy or save it again") from error
    return message


def _graph(path: Path) -> Any:
    graphs = _message(path / "saved_model.pb", backend.saved_model_message()).meta_graphs
    serving = [graph for graph in graphs if "serve" in graph.meta_info_def.tags]
    if not serving:
        raise UnsupportedModel(f"{path}: holds no graph to be served (none is tagged 'serve'); save the model again")
    if len(graphs) > 1:
        raise UnsupportedModel(f"{path}: holds {len(graphs)} graphs; save the model again, with one")
    return serving[0]


def _check_operations(path: Path, graph: Any) -> None:
    """Looks at every operation; those of the saver may write and read the folder's own variables, where nothing else calls them."""
    functions = {function.signature.name: function for function in graph.graph_def.library.function}
    nodes = {node.name: node for node in graph.graph_def.node}
    saver = graph.saver_def
    ends = [nodes[name] for end in (saver.save_tensor_name, saver.restore_op_name) if (name := end.partition(":")[0]) in nodes]
    private = _functions_under(ends, functions)
    others = [node for node in nodes.values() if all(node is not end for end in ends)]
    others += [node for name, function in functions.items() if name not in private for node in function.node_def]
    public = _functions_under(others, functions)
    for place, node in _placed(graph):
        own = (place in private and place not in public) or (not place and any(node is end for end in ends))
        if reaches_out(node.op) and not (node.op in _SAVER and own):
            raise UnsupportedModel(
                f"{path}: holds the operation {node.op} ({node.name}), which runs Python or touches files instead of computing; "
                "save the model without it"
            )


def _placed(graph: Any) -> Iterator[tuple[str, Any]]:
    """Every operation, with the function that it stands in ("" for none)."""
    for node in graph.graph_def.node:
        yield "", node
    for function in graph.graph_def.library.function:
        for node in function.node_def:
            yield function.signature.name, node


def _functions_under(nodes: list[Any], functions: Mapping[str, Any]) -> set[str]:
    """The functions that these operations call, and those that they call."""
    found, waiting = set(), list(nodes)
    while waiting:
        for value in waiting.pop().attr.values():
            for name in [value.func.name, *(function.name for function in value.list.func)]:
                if name in functions and name not in found:
                    found.add(name)
                    waiting += functions[name].node_def
    return found


def _signature(path: Path, graph: Any) -> str:
    names = [name for name, signature in graph.signature_def.items() if signature.inputs and signature.outputs]
    if USUAL in names:
        return USUAL
    if len(names) == 1:
        return names[0]
    raise UnsupportedModel(f"{path}: has no signature {USUAL!r}; save it with one, such as model.export writes ({nearest(USUAL, names)})")


def _specs(tensors: Mapping[str, Any]) -> tuple[TensorSpec, ...]:
    tf = backend.tensorflow()
    return tuple(
        TensorSpec(name, tuple(tf.TensorShape(tensors[name].tensor_shape).as_list()), tf.dtypes.as_dtype(tensors[name].dtype).name)
        for name in sorted(tensors)
    )


def _keras_config(path: Path, graph: Any) -> tuple[dict[str, Any] | None, str]:
    """The config that Keras 2 left, and why there is none."""
    beside = path / "keras_metadata.pb"
    if beside.is_file():  # since TensorFlow 2.5
        nodes = _message(beside, backend.keras_metadata_message()).nodes
        root = next((node for node in nodes if node.node_path == "root"), None)
    else:
        objects = graph.object_graph_def.nodes
        root = objects[0].user_object if objects else None
    kind, text = ("", "") if root is None else (root.identifier, root.metadata)
    if kind == "_tf_keras_model":
        return None, "it was made from a subclassed Keras model, whose layers' connections it does not tell"
    if kind not in _NETWORKS or not 0 < len(text) <= LARGEST_CONFIG:
        return None, "it holds a graph of operations and no config of Keras layers"
    try:
        metadata = json.loads(text)
        return {"class_name": metadata["class_name"], "config": metadata["config"]}, ""
    except (ValueError, RecursionError, KeyError, TypeError) as error:
        return None, f"the Keras config in it can't be read ({type(error).__name__})"
