"""What can be quantized: which layers TF-MOT and the converter take to int8, with which QuantizeConfig, and why the others stay float."""

from __future__ import annotations

from typing import Any

from .. import backend
from ..surgery import activations, rewriting

# After these, and when nothing else reads their output, TF-MOT folds a BatchNorm while training, as the converter will. After a Dense it
# would wrap one as well, but the converter then leaves the FULLY_CONNECTED in float.
_FOLDING = ("Conv2D", "DepthwiseConv2D", "SeparableConv2D")
BATCH_NORMS = ("BatchNormalization", "SyncBatchNormalization")
# What TF-MOT takes as `activation=` of a layer with weights, less swish, which the converter leaves in float there.
_INLINE_ACTIVATIONS = ("linear", "relu", "gelu", "softmax", "sigmoid", "tanh")
_LAYER_ACTIVATIONS = (*_INLINE_ACTIVATIONS, "relu6", "swish")
# What TF-MOT does not know, but the converter computes in int8 once the range of its output is known (all measured)...
_WITH_OUTPUT = ("Multiply", "Subtract", "PReLU", "Rescaling", "UnitNormalization", "Dot")
# ... and what hands on the values, and so the range, that it is given. TF-MOT gives averages a range of their own, but TFLite computes them
# in that of their input: with two readers the converter refuses the two ranges ("violate the same scale constraint", DenseNet121).
_AVERAGING = ("AveragePooling1D", "AveragePooling2D")
_HANDING_ON = ("MaxPooling1D", "UpSampling1D", "RepeatVector", "GaussianNoise", "GaussianDropout", "AlphaDropout", *_AVERAGING)


def is_live(before: Any, after: Any) -> bool:
    """Whether TF-MOT folds this BatchNorm itself, so that it goes on learning."""
    linear = rewriting.activation_name(before) == "linear"
    return rewriting.kind(after) in BATCH_NORMS and rewriting.kind(before) in _FOLDING and linear and not _is_dilated(before)


def may_stay_inside(layer: Any) -> bool:
    name = rewriting.activation_name(layer)
    return name in _INLINE_ACTIVATIONS or name in activations.FUSABLE.get(rewriting.kind(layer), ())


def problem_with(layer: Any) -> str | None:
    """Why a layer can't be quantized; None where it can."""
    kind, activation = type(layer).__name__, rewriting.activation_name(layer)
    if kind in BATCH_NORMS:
        return f"a {kind} that neither follows a linear layer alone nor is one of the last axis"
    if kind in ("Maximum", "Minimum"):
        return f"TF-MOT can't quantize {kind}, and the converter gives all its inputs the range of one: look at the agreement"
    if not (kind == "SeparableConv2D" or own_config(layer) is not None or _registry().supports(layer)):
        return f"TF-MOT can't quantize {kind}"
    if kind == "Activation" and not (activation in _LAYER_ACTIVATIONS or own_config(layer) is not None):
        return f"the converter computes {activation} in float"
    if kind != "Activation" and activation is not None and not may_stay_inside(layer):
        return f"{kind} with activation {activation!r} does not become int8"
    if kind == "ReLU" and layer.threshold:
        return "the converter computes a ReLU with a threshold in float"
    if kind in ("Dense", "BatchNormalization") and len(layer.input_shape) > 2:
        return f"the converter computes a {kind} on more than one axis in float"
    if _is_dilated(layer):
        return f"the converter computes a dilated {kind} that is quantization-aware in float"
    return None


def _is_dilated(layer: Any) -> bool:
    return any(rate != 1 for rate in getattr(layer, "dilation_rate", ()))


def own_config(layer: Any) -> Any | None:
    """A QuantizeConfig where TF-MOT's default refuses the layer."""
    kind, registry = rewriting.kind(layer), backend.tfmot_private("quantization.keras.default_8bit.default_8bit_quantize_registry")
    configs = backend.tfmot_private("quantization.keras.default_8bit.default_8bit_quantize_configs")
    if kind in _WITH_OUTPUT or (kind == "Activation" and activations.computes(layer, activations.hard_swish)):
        return configs.Default8BitOutputQuantizeConfig()
    if kind in _HANDING_ON:
        return configs.NoOpQuantizeConfig()
    if kind == "Activation" or rewriting.activation_name(layer) != "relu6":
        return None
    kernel = "depthwise_kernel" if kind == "DepthwiseConv2D" else "kernel"  # ReLU6 fused into it, which the converter can fuse as well
    config = {
        "Dense": registry.Default8BitQuantizeConfig,
        "Conv2DTranspose": registry.Default8BitConvTransposeQuantizeConfig,
    }.get(kind, registry.Default8BitConvQuantizeConfig)
    return config([kernel], [], True)


def _registry() -> Any:
    return backend.tfmot_private("quantization.keras.default_8bit.default_8bit_quantize_registry").Default8BitQuantizeRegistry()
