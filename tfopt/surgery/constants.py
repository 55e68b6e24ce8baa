"""Branches that come to the same whatever the input is, folded: sums and products with them lose an operand.

A convolution whose kernel is all zero gives its bias everywhere, a BatchNorm whose scale is zero its offset, a product with zeros zero.
Such a constant c, one number a channel, is followed as 0 x + c: through activations, averages and copies, and through layers with weights
where nothing is padded. x + c then is a Rescaling, which the layer before or behind takes in; what only made the constant is dead.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import backend
from . import _scaling
from .rewriting import Change, Changes, activation_name, called_once, kind, rebuilt, twin

_ELEMENTWISE = ("ReLU", "LeakyReLU", "ELU", "ThresholdedReLU")
_NEUTRAL = {"Add": 0.0, "Multiply": 1.0}


def constants_folded(model: Any) -> tuple[Any, Changes]:
    """The same model with each Add and Multiply of one tensor and constants as a Rescaling, without the branches that made these.

    Of a sum of several tensors, branches of zeros are left out. An input of the model that nothing reads any more stays an input.

    Args:
      model: a tf_keras model without models inside it.

    >>> smaller, changes = constants_folded(model)
    >>> changes["add"].reason, changes["branch"].reason
    ('a constant branch folded', 'dead: what it gave does not depend on the input')
    """
    constants = _constants(model)
    kept: dict[str, list[bool]] = {}  # layer -> which of its operands stay
    scalings: dict[str, Any] = {}  # layer -> the Rescaling that it becomes
    for layer, node in called_once(model):
        values = [constants.get(id(tensor)) for tensor in node.keras_inputs]
        if not _folds(layer, node, values):
            continue
        kept[layer.name] = [value is None for value in values]
        if kept[layer.name].count(True) == 1:
            scalings[layer.name] = _rescaling(layer, [value for value in values if value is not None])
    if not kept:
        return model, {}

    def arrange(layer, arguments, keywords):
        if layer.name not in kept:
            return arguments, keywords
        operands = arguments[0] if arguments else keywords["inputs"]
        staying = [operand for operand, stays in zip(operands, kept[layer.name], strict=True) if stays]
        return (staying[0] if layer.name in scalings else staying,), {}

    new = rebuilt(model, lambda layer: scalings.get(layer.name) or twin(layer), arrange=arrange)
    there = {layer.name for layer in new.layers}
    dead = Change("dead: what it gave does not depend on the input", merged=True)
    changes = {name: Change("a constant branch folded", (name,)) for name in kept}
    return new, changes | {layer.name: dead for layer in model.layers if layer.name not in there}


def _folds(layer: Any, node: Any, values: list[Any]) -> bool:
    """Whether a sum or product loses an operand, and keeps its shape."""
    staying = [tensor for tensor, value in zip(node.keras_inputs, values, strict=True) if value is None]
    constants = [value for value in values if value is not None]
    if kind(layer) not in _NEUTRAL or layer.compute_dtype != "float32" or not staying or not constants:
        return False
    if kind(layer) == "Multiply" and any(not value.any() for value in constants):
        return False  # it gives zeros itself, which those see that read it
    if len(staying) > 1 and any(np.any(value != _NEUTRAL[kind(layer)]) for value in constants):
        return False
    masked = any(getattr(tensor, "_keras_mask", None) is not None for tensor in node.keras_inputs)
    return not masked and any(repr(tensor.shape) == repr(node.outputs.shape) for tensor in staying)


def _rescaling(layer: Any, constants: list[np.ndarray]) -> Any:
    scale, offset = (1.0, _together("Add", constants)) if kind(layer) == "Add" else (_together("Multiply", constants), 0.0)
    values = (np.asarray(value, "float32").tolist() for value in (scale, offset))
    return backend.keras().layers.Rescaling(*values, name=layer.name, dtype="float32")


def _together(name: str, constants: list[np.ndarray]) -> np.ndarray:
    return sum(constants) if name == "Add" else np.prod(np.broadcast_arrays(*constants), axis=0)


def _constants(model: Any) -> dict[int, np.ndarray]:
    """The tensors that hold the same whatever the input is, by id: float64 of shape () or (channels,)."""
    found: dict[int, np.ndarray] = {}
    for layer, node in called_once(model):
        if node.call_kwargs.get("training") is True or not hasattr(node.outputs, "dtype") or not _scaling.floating(node.outputs):
            continue
        value = _value(layer, [found.get(id(tensor)) for tensor in node.keras_inputs])
        if value is not None and np.isfinite(value).all():
            found[id(node.outputs)] = value
    return found


def _value(layer: Any, given: list[np.ndarray | None]) -> np.ndarray | None:
    name = kind(layer)
    if name == "Multiply" and any(value is not None and not value.any() for value in given):
        return np.zeros(())
    if name in _NEUTRAL and all(value is not None for value in given):
        return _together(name, given)
    if len(given) != 1:
        return None
    (value,) = given
    if name in _scaling.KERNELS:
        offset = _scaling.offset_of(layer, value)
        return None if offset is None else _activated(layer, offset)
    scaling = _scaling.scaling_of(layer)
    if scaling is not None:
        a, b = scaling
        return a * value + b if value is not None else b + np.zeros_like(a) if not a.any() else None
    if value is None:
        return None
    if name == "Activation" or name in _ELEMENTWISE:
        return _activated(layer, value)
    passed = _scaling.through(layer, (np.zeros_like(value), value))
    return None if passed is None else passed[1]


def _activated(layer: Any, value: np.ndarray) -> np.ndarray | None:
    """The constant behind an activation that works on each value alone."""
    keras = backend.keras()
    function = layer.call if kind(layer) in _ELEMENTWISE else layer.activation
    if function is not layer.call and (activation_name(layer) == "softmax" or not hasattr(keras.activations, activation_name(layer))):
        return None
    return np.asarray(function(backend.tensorflow().constant(value.astype("float32"))), "float64")
