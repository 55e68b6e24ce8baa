"""A model of mixed or half precision as one that computes in float32, and the other way round."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .rewriting import rebuilt, twin

_HALVES = ("float16", "bfloat16")


def in_float32(model: Any) -> Any:
    """The same model with each layer computing in float32; the model itself where all do already.

    TFLite's float kernels are those of float32, so the converter refuses half precision ("tf.Relu(tensor<?x8x8x3xf16>)"), and TF-MOT's
    wrappers raise a TypeError in it. The weights of a mixed-precision model are float32 as they are; predictions change by what half
    precision rounded.

    >>> in_float32(model).compute_dtype
    'float32'
    """
    if not any(layer.compute_dtype in _HALVES for layer in model._flatten_layers()):
        return model
    return rebuilt(model, lambda layer: twin(layer, **_wider(layer.get_config())))


def mixed(model: Any, policy: str) -> Any:
    """A copy of the model whose layers compute by a policy such as "mixed_bfloat16"; its outputs, and all variables, are float32.

    The layers that the outputs come from stay in float32, behind logits the softmax as well, as Keras advises: half precision loses the
    small differences that a loss lives of.
    """
    last = {id(tensor._keras_history.layer) for tensor in model.outputs}
    new = rebuilt(model, lambda layer: twin(layer, **({} if id(layer) in last else {"dtype": policy})))
    new._set_dtype_policy(policy)
    return new


def _wider(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with float32 for each dtype of half precision, in the layers inside it as well."""
    return {key: "float32" if key == "dtype" and _is_half(value) else _inside(value) for key, value in config.items()}


def _inside(value: Any) -> Any:
    if isinstance(value, Mapping):
        return _wider(value)
    return [_inside(one) for one in value] if isinstance(value, list) else value


def _is_half(dtype: Any) -> bool:
    name = dtype.get("config", {}).get("name") if isinstance(dtype, Mapping) else dtype
    return isinstance(name, str) and name.removeprefix("mixed_") in _HALVES
