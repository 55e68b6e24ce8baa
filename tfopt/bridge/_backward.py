"""Keras 2 -> Keras 3: a walk over a functional model's calls, each layer made anew and called on the new tensors."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import backend
from ..errors import BridgeError, UnsupportedModel
from . import _lambdas, _layers_back
from ._arguments import decoded
from ._keras3 import keras3, nodes_of
from ._layers_back import kind_of


class Returned:
    """A Keras 3 model and which of its tensors stands for which of the tf_keras model's.

    Attributes:
      model: the new model.
      pairs: in the order of the walk, for each call of a layer: its name, and its Keras 3 and tf_keras output tensors.
    """

    def __init__(self, model2: Any, custom: dict[str, Any]):
        self._custom = custom
        self._layers: dict[int, tuple[Any, Any]] = {}
        self.pairs: list[tuple[str, Any, Any]] = []
        self.model = self._model(model2, top=True)
        for old, new in self._layers.values():
            if not isinstance(old, backend.keras().Model):
                _copy_weights(old, new)

    def _model(self, model2: Any, top: bool = False) -> Any:
        check_functional(model2)
        keras, tree = keras3(), backend.tensorflow().nest
        named = zip(model2.inputs, model2.input_names, strict=True)
        tensors = {id(x): keras.Input(batch_shape=tuple(x.shape), dtype=x.dtype.name, name=name) for x, name in named}
        if isinstance(model2, backend.keras().Sequential):
            return self._sequential(model2, tensors, top)
        self._walk(model2, tensors, top)
        inputs = tree.map_structure(lambda x: tensors[id(x)], model2._nested_inputs)
        outputs = tree.map_structure(lambda x: tensors[id(x)], model2._nested_outputs)
        return keras.Model(inputs, outputs, name=model2.name)

    def _sequential(self, model2: Any, tensors: dict[int, Any], top: bool) -> Any:
        new = keras3().Sequential([tensors[id(model2.inputs[0])]], name=model2.name)
        for layer in model2.layers:
            new.add(self._layer(layer))
        if top:
            for node3, node2 in zip(nodes_of(new), backend.nodes_of(model2), strict=True):
                self.pairs.append((node2.layer.name, node3.outputs[0], node2.outputs))
        return new

    def _walk(self, model2: Any, tensors: dict[int, Any], top: bool) -> None:
        tree = backend.tensorflow().nest
        for node in backend.nodes_of(model2):
            args, kwargs = tree.map_structure(lambda x: tensors.get(id(x), x), (node.call_args, node.call_kwargs))
            results = self._called(node.layer, args, kwargs)
            for old, new in zip(tree.flatten(node.outputs), keras3().tree.flatten(results), strict=True):
                tensors[id(old)] = new
                if top:
                    self.pairs.append((node.layer.name, new, old))

    def _called(self, layer: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        if kind_of(layer) == "Keras3Operation":
            tensors = list(args[0]) if isinstance(args[0], list | tuple) else [args[0]]
            arguments, keywords = decoded(layer.arguments["args"], tensors), decoded(layer.arguments["kwargs"], tensors)
            return layer.fresh()(*arguments, **keywords)
        if kind_of(layer) in ("TFOpLambda", "SlicingOpLambda"):
            return _lambdas.called(layer, args, kwargs)
        kwargs = {key: value for key, value in kwargs.items() if value is not None}
        if isinstance(layer, backend.keras().layers.RNN | backend.keras().layers.Bidirectional) and isinstance(args[0], list | tuple):
            (first, *states), *rest = args  # Keras 2 keeps states that were given as more inputs
            args, kwargs = (first, *rest), {**kwargs, "initial_state": states}
        return self._layer(layer)(*args, **kwargs)

    def _layer(self, layer: Any) -> Any:
        if id(layer) not in self._layers:
            inner = isinstance(layer, backend.keras().Model)
            new = self._model(layer) if inner else _layers_back.counterpart(layer, self._custom)
            if inner and not layer.trainable:
                new.trainable = False
            self._layers[id(layer)] = (layer, new)
        return self._layers[id(layer)][1]


def check_functional(model2: Any) -> None:
    """Raises UnsupportedModel, saying what to do, for a tf_keras model that can't go to Keras 3."""
    for layer in model2._flatten_layers():
        if backend.is_quantized(layer):
            raise UnsupportedModel(
                f"{model2.name!r} is quantization-aware (layer {layer.name!r}), which Keras 3 has no layers for: save it as .h5, or "
                "take the model from before quantize_aware"
            )
        if backend.is_wrapped(layer):
            raise UnsupportedModel(
                f"{model2.name!r} holds TF-MOT's wrapper {layer.name!r}; strip it first: strip_pruning, strip_clustering"
            )
    if not model2.inputs or not model2._is_graph_network:
        raise UnsupportedModel(
            f"{model2.name!r} is a subclassed model, or not built: its layers' connections can't be seen. Rebuild it with the functional "
            "API: tf_keras.Model(inputs, outputs)"
        )


def _copy_weights(old: Any, new: Any) -> None:
    if kind_of(old) == "Keras3Layer" or not old.weights:
        return  # it brought its own
    values = old.get_weights()
    if kind_of(old) == "Normalization":
        values = values[: len(new.weights)]  # Keras 2 counts the examples as well
    shapes, expected = [value.shape for value in values], [tuple(weight.shape) for weight in new.weights]
    if shapes != expected:
        raise BridgeError(f"layer {old.name!r} ({kind_of(old)}): its weights have the shapes {shapes}, Keras 3's have {expected}")
    new.set_weights([np.asarray(value) for value in values])
    if kind_of(old) == "Normalization":
        new.finalize_state()
