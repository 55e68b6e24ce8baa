"""Activations moved: a ReLU layer into the layer before it, and other functions out of the layer that they are written in.

TF-MOT quantizes a layer with weights when its activation is one that it knows; any other it refuses together with the weights. And a ReLU
layer straight behind a convolution makes it leave that one's weights unquantized.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import backend
from .rewriting import Change, Changes, activation_name, changed, free_name, kind, pairs, twin

# Into what is fused what. TF-MOT splits a SeparableConv2D in two and then refuses the ReLU6 of the second half.
FUSABLE = {
    "Dense": ("relu", "relu6"),
    "Conv2D": ("relu", "relu6"),
    "DepthwiseConv2D": ("relu", "relu6"),
    "Conv2DTranspose": ("relu", "relu6"),
    "SeparableConv2D": ("relu",),
}
# Layers whose `activation` comes after everything else that they do.
_LINEAR = ("Dense", "Conv1D", "Conv2D", "Conv3D", "Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose",
           "DepthwiseConv1D", "DepthwiseConv2D", "SeparableConv1D", "SeparableConv2D")  # fmt: skip


def relu_fused(model: Any) -> tuple[Any, Changes]:
    """The same model with each ReLU pulled into the linear Dense or convolution before it, and what was fused: relu -> layer.

    A plain ReLU or ReLU6, as a layer or as an Activation, whose input nobody else reads. TFLite computes the two in one operation, so a
    quantization-aware model has to round once, after the ReLU. Nested models are to be laid open before.
    """
    fusable = [
        (before, relu)
        for before, relu in pairs(model)
        if _relu_name(relu) in FUSABLE.get(kind(before), ()) and activation_name(before) == "linear"
    ]
    fused = {relu.name: before.name for before, relu in fusable}
    activations = {before.name: _relu_name(relu) for before, relu in fusable}

    def remake(layer):
        if layer.name in fused:
            return None
        return twin(layer, activation=activations[layer.name]) if layer.name in activations else twin(layer)

    return changed(model, {relu: Change(f"fused into {before}", (before,), merged=True) for relu, before in fused.items()}, remake)


def activations_split(model: Any, keep: Callable[[Any], bool] = lambda layer: False) -> tuple[Any, Changes]:
    """The same model with each activation that is written in a Dense or convolution as a layer behind it.

    Args:
      model: a tf_keras model without models inside it.
      keep: `layer -> whether its activation stays where it is`.

    >>> split, changes = activations_split(model, keep=lambda layer: activation_name(layer) == "relu")
    >>> changes["conv"].into
    ('conv', 'conv_swish')
    """
    names = {layer.name for layer in model.layers}
    inside = [
        layer for layer in model.layers if kind(layer) in _LINEAR and activation_name(layer) not in (None, "linear") and not keep(layer)
    ]
    outside = {layer.name: free_name(f"{layer.name}_{activation_name(layer).lower()}", names) for layer in inside}

    def remake(layer):
        if layer.name not in outside:
            return twin(layer)
        return twin(layer, activation="linear"), _as_layer(layer.activation, outside[layer.name])

    changes = {layer.name: Change(f"its {activation_name(layer)} as a layer", (layer.name, outside[layer.name])) for layer in inside}
    return changed(model, changes, remake)


def relu6_as_layers(model: Any, keep: Callable[[Any], bool] = lambda layer: False) -> tuple[Any, Changes]:
    """The same model with each Activation("relu6"), and each relu6 that is written in a Dense or convolution, as a ReLU(6.) layer.

    TF-MOT quantizes between a BatchNormalization and an Activation("relu6") once more, which the converter then can't fuse; it refuses
    relu6 in a layer with weights. It takes both as a ReLU(6.).

    Args:
      model: a tf_keras model without models inside it.
      keep: `layer -> whether the relu6 in it stays where it is`, for who quantizes it there.
    """
    split, changes = activations_split(model, lambda layer: activation_name(layer) != "relu6" or keep(layer))
    activations = [layer for layer in split.layers if kind(layer) == "Activation" and activation_name(layer) == "relu6"]
    found = {layer.name: Change("becomes a ReLU(6.)", (layer.name,)) for layer in activations}

    def remake(layer):
        return backend.keras().layers.ReLU(6.0, name=layer.name) if layer.name in found else twin(layer)

    return changed(split, found, remake)[0], {**found, **changes}


def bounded_as_relu6(model: Any) -> tuple[Any, Changes]:
    """The same model with each ReLU that ends at another height than 6, and each hard sigmoid, as a ReLU(6.) between Rescalings.

    min(max(x, 0), c) = relu6(6 x / c) c / 6, and a hard sigmoid is such a ReLU of an a x + b. TFLite has an int8 operation for a ReLU that
    ends at 6; any other comes out as three in float.
    """
    found = {layer.name: bound for layer in model.layers if (bound := _bound_of(layer)) is not None}
    names = {layer.name for layer in model.layers}

    def named(layer):
        return [layer.name, *(free_name(f"{layer.name}_{end}", names) for end in ("scale", "offset", "unscale"))]

    def remake(layer):
        if layer.name not in found:
            return twin(layer)
        layers, (scale, offset, height) = backend.keras().layers, found[layer.name]
        own, first, second, last = named(layer)
        before = [layers.Rescaling(scale * 6 / height, name=first)] if scale * 6 != height else []
        shift = [layers.Rescaling(1.0, offset * 6 / height, name=second)] if offset else []
        return [*before, *shift, layers.ReLU(6.0, name=own), layers.Rescaling(height / 6, name=last)]

    remade = {layer.name: remake(layer) for layer in model.layers if layer.name in found}
    words = "becomes a ReLU(6.) between Rescalings"
    changes = {name: Change(words, (name, *(each.name for each in layers if each.name != name))) for name, layers in remade.items()}
    return changed(model, changes, lambda layer: remade.get(layer.name) or twin(layer))


def _bound_of(layer: Any) -> tuple[float, float, float] | None:
    """a, b and c of a layer that computes min(max(a x + b, 0), c) with c other than 6."""
    if kind(layer) == "ReLU" and layer.max_value is not None and not layer.negative_slope and not layer.threshold:
        height = float(layer.max_value)
        return (1.0, 0.0, height) if height not in (0.0, 6.0) else None
    if kind(layer) == "Activation":
        return next((bound for bound, function in _HARD_SIGMOIDS.items() if computes(layer, function)), None)
    return None


def computes(layer: Any, function: Callable[[np.ndarray], np.ndarray]) -> bool:
    """Whether an Activation layer's function is this one, judged by its values from -8 to 8.

    The name says too little: Keras 2 and Keras 3 have different functions that are called hard_sigmoid.
    """
    if "hard" not in (activation_name(layer) or ""):
        return False
    points = np.linspace(-8, 8, 641, dtype="float32")
    return bool(np.allclose(np.asarray(layer.activation(backend.tensorflow().constant(points))), function(points), atol=1e-5))


def hard_swish(x: np.ndarray) -> np.ndarray:
    """Gives x relu6(x + 3) / 6."""
    return x * np.clip(x + 3, 0, 6) / 6


# (a, b, c) -> min(max(a x + b, 0), c): Keras 2's and Keras 3's.
_HARD_SIGMOIDS = {(0.2, 0.5, 1.0): lambda x: np.clip(0.2 * x + 0.5, 0, 1), (1 / 6, 0.5, 1.0): lambda x: np.clip(x + 3, 0, 6) / 6}


def _as_layer(activation: Any, name: str) -> Any:
    """The layer that does what an activation function, or a layer that is used as one, does."""
    keras = backend.keras()
    if isinstance(activation, keras.layers.Layer):
        return twin(activation, name=name)
    own = {
        "relu": lambda: keras.layers.ReLU(name=name),
        "relu6": lambda: keras.layers.ReLU(6.0, name=name),
        "leaky_relu": lambda: keras.layers.LeakyReLU(0.2, name=name),  # tf.nn.leaky_relu's slope
        "elu": lambda: keras.layers.ELU(name=name),
    }
    known = activation.__name__ in own and not _of_the_users_own(activation)
    return own[activation.__name__]() if known else keras.layers.Activation(activation, name=name)


def _of_the_users_own(function: Any) -> bool:
    return not getattr(function, "__module__", "").startswith(("tensorflow", backend.keras().__name__))


def _relu_name(layer: Any) -> str | None:
    if kind(layer) == "Activation":
        return activation_name(layer) if activation_name(layer) in ("relu", "relu6") else None
    if kind(layer) == "ReLU" and not layer.negative_slope and not layer.threshold:
        return {None: "relu", 6.0: "relu6"}.get(None if layer.max_value is None else float(layer.max_value))
    return None
