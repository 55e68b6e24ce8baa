"""Keras 3 -> Keras 2: a walk over a functional model's calls, each layer made anew and called on the new tensors."""

from __future__ import annotations

from typing import Any

from .. import backend
from ..errors import BridgeError, UnsupportedModel
from . import _layers, _operations
from ._keras3 import handed_on, is_keras3, keras3, nodes_of, private


class Bridged:
    """A tf_keras model and which of its tensors stands for which of the Keras 3 model's.

    Attributes:
      model: the new model.
      pairs: in the order of the walk, for each call of a layer or operation: its name, and its Keras 3 and tf_keras output tensors.
    """

    def __init__(self, model3: Any, custom: dict[str, Any]):
        self._custom = custom
        self._layers: dict[int, tuple[Any, Any]] = {}
        self._names: set[str] = set()
        self.pairs: list[tuple[str, Any, Any]] = []
        with backend.seeded(0):  # initializers draw numbers, all of them thrown away: the user's random state stays as it is
            self.model = self._model(model3, top=True)
            for old, new in self._layers.values():
                if not isinstance(old, keras3().Model):
                    _copy_weights(old, new)

    def _model(self, model3: Any, top: bool = False) -> Any:
        check_functional(model3)
        if isinstance(model3, keras3().Sequential):
            return self._sequential(model3, top)
        keras, tree = backend.keras(), keras3().tree
        tensors: dict[int, Any] = {}
        for tensor in model3.inputs:
            tensors[id(tensor)] = _input(tensor)
        self._walk(model3, tensors, top)
        inputs = tree.map_structure(lambda x: tensors[id(x)], model3._inputs_struct)
        outputs = tree.map_structure(lambda x: tensors[id(x)], model3._outputs_struct)
        return keras.Model(inputs, outputs, name=_layers.valid_name(model3.name))

    def _sequential(self, model3: Any, top: bool) -> Any:
        new = backend.keras().Sequential(name=_layers.valid_name(model3.name))
        new.add(_input(model3.inputs[0])._keras_history.layer)
        for node in nodes_of(model3):
            new.add(self._layer(node.operation))
            if top:
                self.pairs.append((node.operation.name, node.outputs[0], new.outputs[0]))
        return new

    def _walk(self, model3: Any, tensors: dict[int, Any], top: bool) -> None:
        for node in nodes_of(model3):
            masks = handed_on(node)
            args, kwargs = node.arguments.convert(lambda x, masks=masks: None if id(x) in masks else tensors.get(id(x), x))
            results = self._called(node.operation, args, kwargs)
            for old, new in zip(node.outputs, keras3().tree.flatten(results), strict=True):
                tensors[id(old)] = new
                if top:
                    self.pairs.append((node.operation.name, old, new))

    def _called(self, operation: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
        if not isinstance(operation, keras3().layers.Layer):
            return _operations.called(operation, self._name(operation.name), args, kwargs)
        # Keras 3 notes each layer's default for `training` with the call, and lets the model's own go before it; Keras 2 would obey it.
        kwargs = {key: value for key, value in kwargs.items() if value is not None and key != "training"}
        return self._layer(operation)(*args, **kwargs)

    def _layer(self, layer: Any) -> Any:
        """The layer's counterpart, made once however often it is called."""
        if id(layer) not in self._layers:
            new = self._model(layer) if is_keras3(layer) else _layers.counterpart(layer, self._custom)
            new._name = self._name(new.name)
            if is_keras3(layer) and not layer.trainable:  # what is set of a model, Keras sets of all its layers
                new.trainable = False
            self._layers[id(layer)] = (layer, new)
        return self._layers[id(layer)][1]

    def _name(self, name: str) -> str:
        """The name as TensorFlow takes it, and as nobody else has it, in a model inside either: TF-MOT finds weights by it."""
        name = _layers.valid_name(name)
        while name in self._names:
            name += "_"
        self._names.add(name)
        return name


def check_functional(model3: Any) -> None:
    """Raises UnsupportedModel, saying what to do, for a Keras 3 model whose layers' connections can't be seen."""
    functional = private("models.functional").Functional
    if isinstance(model3, keras3().Sequential):
        if not model3.built or model3._functional is None:
            raise UnsupportedModel(f"{model3.name!r} is not built yet, so it has no weights: start it with keras.Input")
    elif not isinstance(model3, functional) or type(model3).call is not functional.call:
        raise UnsupportedModel(
            f"{model3.name!r} is a subclassed model ({type(model3).__name__}): its layers' connections can't be seen. Rebuild it with the "
            "functional API, keras.Model(inputs, outputs), from the same layers, so that the weights stay"
        )


def _input(tensor: Any) -> Any:
    return backend.keras().Input(
        batch_shape=tensor.shape, dtype=tensor.dtype, name=_layers.valid_name(tensor._keras_history.operation.name)
    )


def _copy_weights(old: Any, new: Any) -> None:
    from . import _tf_layers

    carried = isinstance(new, _tf_layers.Keras3Layer)
    values = [variable.numpy() for variable in old.variables] if carried else _layers.weights(old)
    targets = new._values if carried else new.weights
    shapes, expected = [value.shape for value in values], [tuple(target.shape) for target in targets]
    if shapes != expected:
        raise BridgeError(f"layer {old.name!r} ({type(old).__name__}): its weights have the shapes {shapes}, Keras 2's have {expected}")
    for target, value in zip(targets, values, strict=True):
        target.assign(value)
