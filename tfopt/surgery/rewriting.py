"""The layer graph rebuilt: nested models laid open, ReLU layers pulled into the layers before them."""

from __future__ import annotations

import collections
from collections.abc import Callable
from typing import Any

from .. import backend

# Into what is fused what. TF-MOT splits a SeparableConv2D in two and then refuses the ReLU6 of the second half.
FUSABLE = {
    "Dense": ("relu", "relu6"),
    "Conv2D": ("relu", "relu6"),
    "DepthwiseConv2D": ("relu", "relu6"),
    "Conv2DTranspose": ("relu", "relu6"),
    "SeparableConv2D": ("relu",),
}


def flattened(model: Any) -> Any:
    """The same model without models inside it: a nested model's layers in its place, with an underscore behind a name that is taken."""
    return rebuilt(model, twin)


def relu_fused(model: Any) -> tuple[Any, dict[str, str]]:
    """The same model with each ReLU pulled into the linear Dense or convolution before it, and what was fused: relu -> layer.

    A plain ReLU or ReLU6, as a layer or as an Activation, whose input nobody else reads. TFLite computes the two in one operation, so a
    quantization-aware model has to round once, after the ReLU. Nested models are laid open on the way.
    """
    model = flattened(model)
    fusable = [
        (before, relu)
        for before, relu in pairs(model)
        if _relu_name(relu) in FUSABLE.get(type(before).__name__, ()) and activation_name(before) == "linear"
    ]
    fused = {relu.name: before.name for before, relu in fusable}
    activations = {before.name: _relu_name(relu) for before, relu in fusable}

    def remake(layer):
        if layer.name in fused:
            return None
        return twin(layer, activation=activations[layer.name]) if layer.name in activations else twin(layer)

    return rebuilt(model, remake), fused


def rebuilt(model: Any, remake: Callable[[Any], Any | None], after: Callable[[Any, Any], Any] = lambda layer, results: results) -> Any:
    """A new functional model: each layer replaced by `remake(layer)`, or left out where that is None; weights are copied.

    Args:
      model: sequential or functional; nested models are laid open.
      remake: gives a new layer with the same weights' shapes, or None for a layer with one input that may be skipped.
      after: `(old layer, its new results) -> what its readers get instead`, at each call of a layer.
    """
    keras = backend.keras()
    named = zip(model.inputs, model.input_names, strict=True)
    inputs = [keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype, name=name) for tensor, name in named]
    tensors = {id(old): new for old, new in zip(model.inputs, inputs, strict=True)}
    made: dict[int, Any] = {}
    _walk(model, tensors, made, remake, after, set())
    outputs = _mapped(model._nested_outputs, tensors)
    new = keras.Model(_nested_like(model, inputs), outputs, name=model.name)
    for old, layer in made.values():
        layer.set_weights(old.get_weights())
    return new


def readings(model: Any) -> list[tuple[Any, list[Any]]]:
    """For each tensor that a layer makes, the layer and those that read it; the model's own outputs count as a reader None."""
    readers: dict[int, list[Any]] = {id(tensor): [None] for tensor in model.outputs}
    for node in _nodes(model):
        for tensor in _flat(node.keras_inputs):
            readers.setdefault(id(tensor), []).append(node.layer)
    return [(node.layer, readers.get(id(tensor), [])) for node in _nodes(model) for tensor in _flat(node.outputs)]


def pairs(model: Any) -> list[tuple[Any, Any]]:
    """The layers (before, after) of which the one reads the other's output, both called once and nobody else reading it."""
    calls = collections.Counter(id(node.layer) for node in _nodes(model))
    alone = [(before, layers[0]) for before, layers in readings(model) if len(layers) == 1 and layers[0] is not None]
    return [(before, after) for before, after in alone if calls[id(before)] == calls[id(after)] == 1]


def activation_name(layer: Any) -> str | None:
    """The name of a layer's activation function, or None where it has none."""
    return getattr(getattr(layer, "activation", None), "__name__", None)


def _relu_name(layer: Any) -> str | None:
    if type(layer).__name__ == "Activation":
        return activation_name(layer) if activation_name(layer) in ("relu", "relu6") else None
    if type(layer).__name__ == "ReLU" and not layer.negative_slope and not layer.threshold:
        return {None: "relu", 6.0: "relu6"}.get(None if layer.max_value is None else float(layer.max_value))
    return None


def twin(layer: Any, **changes: Any) -> Any:
    with backend.trusted_lambdas():
        return type(layer).from_config({**layer.get_config(), **changes})


def _walk(model: Any, tensors: dict, made: dict, remake: Callable, after: Callable, names: set[str]) -> None:
    keras = backend.keras()
    for node in _nodes(model):
        arguments, keywords = _mapped(node.call_args, tensors), _mapped(node.call_kwargs, tensors)
        if isinstance(node.layer, keras.Model):
            inner = node.layer
            tensors.update({id(old): new for old, new in zip(inner.inputs, _flat(arguments[0]), strict=True)})
            _walk(inner, tensors, made, remake, after, names)
            results = _mapped(inner._nested_outputs, tensors)
        else:
            layer = _made(node.layer, made, remake, names)
            results = after(node.layer, layer(*arguments, **keywords)) if layer is not None else arguments[0]
        tensors.update({id(old): new for old, new in zip(_flat(node.outputs), _flat(results), strict=True)})


def _made(layer: Any, made: dict, remake: Callable, names: set[str]) -> Any | None:
    """The layer's replacement, made once however often it is called, and under a name that is still free."""
    if id(layer) not in made:
        new = remake(layer)
        if new is None:
            return None
        while new.name in names:
            new._name += "_"
        names.add(new.name)
        made[id(layer)] = (layer, new)
    return made[id(layer)][1]


def _nodes(model: Any) -> list[Any]:
    """The calls of the model's layers, each after those that it needs; inputs left out."""
    by_depth = model._nodes_by_depth
    return [node for depth in sorted(by_depth, reverse=True) for node in by_depth[depth] if not node.is_input]


def _mapped(structure: Any, tensors: dict) -> Any:
    return backend.tensorflow().nest.map_structure(lambda item: tensors.get(id(item), item), structure)


def _flat(structure: Any) -> list[Any]:
    return backend.tensorflow().nest.flatten(structure)


def _nested_like(model: Any, inputs: list[Any]) -> Any:
    """The new inputs in the structure (one, list, dict) of the old ones; a Sequential's single input as it is."""
    return backend.tensorflow().nest.pack_sequence_as(model._nested_inputs, inputs)
