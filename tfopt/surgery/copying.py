"""A model of one's own to change: every technique begins with `copy_of`."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import backend, bridge
from ..errors import UnsupportedModel
from ..types import Artifact, SavedModel
from . import rewriting


def copy_of(model: Any) -> Any:
    """A new model of the same layers, names and weights, in the current distribution strategy; not compiled.

    Args:
      model: a built tf_keras model, sequential or functional, without quantization or pruning wrappers; or a Keras 3 model, which comes
        through the bridge.

    Raises:
      UnsupportedModel: another kind of model; the message says what to do.
      BridgeError: a Keras 3 model that does not come through the bridge unchanged.

    >>> twin = copy_of(model)
    >>> twin is model, twin.predict(x) == model.predict(x)
    """
    if bridge.is_keras3(model):
        return bridge.plain(model)  # a copy already
    check_supported(model)
    _check_numbers(model)
    # Seeded, so that initializers, whose numbers are thrown away, leave the user's random states as they are.
    with backend.seeded(0), backend.trusted_lambdas(), rewriting.own_functions(model._flatten_layers()):
        copy = backend.keras().models.clone_model(model)
    copy.set_weights(model.get_weights())
    copy._set_dtype_policy(model.dtype_policy)  # clone_model gives it the global one; by it compile() scales a float16 model's loss
    return copy


def check_supported(model: Any) -> None:
    """Raises UnsupportedModel, saying what to do, for a model whose layers can't be seen or must not be touched."""
    keras = backend.keras()
    if isinstance(model, SavedModel):
        raise UnsupportedModel(
            f"{model.path}: can't be trained or changed: {model.reason}. It can be converted, verified, inspected and benchmarked; "
            "for more give the .keras or .h5 file that it was made from"
        )
    if isinstance(model, Artifact):
        raise UnsupportedModel(
            f"{model.name}: is a .tflite, which can't be trained or changed; give the .keras or .h5 file that it was made from"
        )
    if not isinstance(model, keras.Model):
        raise UnsupportedModel(f"expected a tf_keras model, got {type(model).__module__}.{type(model).__name__}")
    if isinstance(model, keras.Sequential) and not model.built:
        raise UnsupportedModel(f"{model.name!r} is not built yet, so it has no weights: give its first layer an input_shape")
    if not model._is_graph_network:  # subclassed models, and Sequential ones that were built without an input shape
        raise UnsupportedModel(
            f"{model.name!r} is a subclassed model: its layers' connections can't be seen. Rebuild it with the functional API: "
            "tf_keras.Model(inputs, outputs)"
        )
    for layer in model._flatten_layers():
        if problem := backend.lambda_activation(layer):
            raise UnsupportedModel(f"{model.name!r}: {problem}")
        if backend.is_quantized(layer):
            raise UnsupportedModel(f"{model.name!r} is quantization-aware already (layer {layer.name!r}); quantize_aware comes last")
        if backend.is_wrapped(layer):
            raise UnsupportedModel(f"{model.name!r} holds TF-MOT's wrapper {layer.name!r}; strip it first: strip_pruning")


def _check_numbers(model: Any) -> None:
    for weight in model.weights:
        if weight.dtype.is_floating and not np.isfinite(weight.numpy().astype("float32")).all():
            raise UnsupportedModel(f"{model.name!r}: {weight.name.split(':')[0]} holds NaN or infinity; train the model anew")


def all_layers(model: Any, prefix: str = "") -> list[tuple[str, Any]]:
    """Every layer with its name, those of nested models as `outer/inner`, in the model's order; input layers left out."""
    keras = backend.keras()
    found = []
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            found += all_layers(layer, f"{prefix}{layer.name}/")
        elif not isinstance(layer, keras.layers.InputLayer):
            found.append((prefix + layer.name, layer))
    return found
