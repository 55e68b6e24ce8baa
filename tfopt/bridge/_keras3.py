"""The door to Keras 3."""

from __future__ import annotations

import functools
import importlib
import os
from types import ModuleType
from typing import Any

from .. import backend
from ..errors import UnsupportedModel


@functools.cache
def keras3() -> ModuleType:
    """The module `keras` (Keras 3), after TensorFlow, whose chatter is kept off the terminal.

    Raises:
      UnsupportedModel: Keras is set to a framework that is not installed.
    """
    backend.tensorflow()
    try:
        return importlib.import_module("keras")
    except ImportError as error:
        chosen = os.environ.get("KERAS_BACKEND", "what ~/.keras/keras.json says")
        raise UnsupportedModel(
            f"Keras 3 can't be imported with its backend set to {chosen} ({error}); install that, or set KERAS_BACKEND=tensorflow"
        ) from error


def private(path: str) -> ModuleType:
    """A module of Keras 3 that its public names do not reach, e.g. `"ops.numpy"`."""
    keras3()
    return importlib.import_module(f"keras.src.{path}")


def is_keras3(thing: Any) -> bool:
    """Whether something is a Keras 3 model; asked of its classes' names, so that Keras 3 need not be loaded."""
    return any(kind.__module__.startswith("keras.src.models") and kind.__name__ == "Model" for kind in type(thing).__mro__)


def functional(model3: Any) -> Any:
    """The model, or the functional one inside a Sequential."""
    return model3._functional if isinstance(model3, keras3().Sequential) else model3


def nodes_of(model3: Any) -> list[Any]:
    """The calls of a model's layers and operations, each after those that it needs; inputs, and what computes masks only, left out.

    Keras 3 keeps a mask that it hands on by itself as if it had been given to the call, and the operations that computed it as the
    model's own. Here they are no part of the model: either Keras computes them again from the layers.
    """
    model = functional(model3)
    needed, waiting = set(), [tensor._keras_history for tensor in model.outputs]
    while waiting:
        operation, index, _ = waiting.pop()
        node = operation._inbound_nodes[index]
        if id(node) not in needed:
            needed.add(id(node))
            waiting.extend(tensor._keras_history for tensor in node.arguments.keras_tensors if id(tensor) not in handed_on(node))
    ordered = (node for depth in sorted(model._nodes_by_depth, reverse=True) for node in model._nodes_by_depth[depth])
    return [node for node in ordered if id(node) in needed and not node.is_input]


def handed_on(node: Any) -> set[int]:
    """The ids of the masks that a call was given by Keras, since its tensors carry them, not by the user."""
    carried = {id(getattr(tensor, "_keras_mask", None)) for tensor in node.arguments.keras_tensors}
    given = [value for key, value in node.arguments.kwargs.items() if key.endswith("mask")]
    return {id(mask) for mask in keras3().tree.flatten(given) if mask is not None and id(mask) in carried}
