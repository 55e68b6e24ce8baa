"""What a model's outputs come from: a softmax, a sigmoid, or neither."""

from __future__ import annotations

from typing import Any

from .. import backend

# What may stand behind an activation without making its outputs anything else.
_PASSING = ("Reshape", "Flatten", "Dropout", "Permute", "Activation", "QuantizeLayer")
_ACTIVATIONS = ("softmax", "sigmoid", "tanh", "hard_sigmoid", "softsign", "exponential", "relu", "softplus")


def activation_of(model: Any) -> str:
    """The activation that a model's output comes from, as a layer, an activation or an operation: "softmax", "sigmoid", ...; "linear" where
    there is none.
    """
    layer = model.outputs[0]._keras_history.layer
    while type(_inner(layer)).__name__ in _PASSING and _activation(_inner(layer)) in ("", "linear"):
        layer = layer.input._keras_history.layer
    layer = _inner(layer)
    if isinstance(layer, backend.keras().Model):
        return activation_of(layer)
    if type(layer).__name__ in ("Softmax", "ReLU"):
        return type(layer).__name__.lower()
    activation, symbol = _activation(layer), getattr(layer, "symbol", "")
    return next((name for name in _ACTIVATIONS if activation == name or symbol.rpartition(".")[2] == name), "linear")


def _inner(layer: Any) -> Any:
    return getattr(layer, "layer", layer)  # inside TF-MOT's wrappers


def _activation(layer: Any) -> str:
    activation = getattr(layer, "activation", None)
    activation = getattr(activation, "activation", activation)  # inside TF-MOT's QuantizeAwareActivation
    return getattr(activation, "__name__", "")
