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
_HANDING_ON = (
    "MaxPooling1D", "UpSampling1D", "RepeatVector", "GaussianNoise", "GaussianDropout", "AlphaDropout", "Identity", *_AVERAGING,
)  # fmt: skip
# Layers that come out as operations in float whatever ranges stand around them, with those operations (measured).
_NORMALIZING = "MEAN, SQUARED_DIFFERENCE, RSQRT and MUL"
_IN_FLOAT = {
    "LayerNormalization": _NORMALIZING,
    "GroupNormalization": _NORMALIZING,
    "RMSNormalization": "SQUARE, MEAN, RSQRT and MUL",
    "ELU": "ELU",
    "Conv3D": "CONV_3D",
    "Conv3DTranspose": "CONV_3D_TRANSPOSE",
    "ThresholdedReLU": "CAST and MUL",
    "LocallyConnected1D": "BATCH_MATMUL",
    "LocallyConnected2D": "BATCH_MATMUL",
    "Attention": "BATCH_MATMUL and SOFTMAX, where there is a mask or a scale to learn",
    "AdditiveAttention": "ADD, TANH, SUM and SOFTMAX",
    "MultiHeadAttention": "FULLY_CONNECTED, BATCH_MATMUL and SOFTMAX, where there is a mask, or scores are handed out",
    "GroupedQueryAttention": "FULLY_CONNECTED, BATCH_MATMUL and SOFTMAX",
}
# Layers whose weights the converter takes in 8 bits only, and the operations that it refuses with 4.
EIGHT_BITS = {"Conv2DTranspose": "TRANSPOSE_CONV", "Embedding": "what reads the rows"}
_RECURRENT = (
    "LSTM", "GRU", "SimpleRNN", "RNN", "Bidirectional", "ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D",
)  # fmt: skip


def is_live(before: Any, after: Any) -> bool:
    """Whether TF-MOT folds this BatchNorm itself, so that it goes on learning."""
    linear = rewriting.activation_name(before) == "linear"
    return rewriting.kind(after) in BATCH_NORMS and rewriting.kind(before) in _FOLDING and linear and not _is_dilated(before)


def may_stay_inside(layer: Any) -> bool:
    name = rewriting.activation_name(layer)
    return name in _INLINE_ACTIVATIONS or name in activations.FUSABLE.get(_kind(layer), ())


def _kind(layer: Any) -> str:
    """The class of a layer of Keras's own, or of the one that does its work."""
    return "Conv2D" if _is_direct(layer) else rewriting.kind(layer)


def _is_direct(layer: Any) -> bool:
    return type(layer).__name__ == "DirectConv2D"


def problem_with(layer: Any) -> str | None:
    """Why a layer can't be quantized; None where it can."""
    return _problem_of_kind(layer) or _problem_of_settings(layer) or _problem_with_masks(layer)


def _problem_of_kind(layer: Any) -> str | None:
    kind = _carried(layer) or type(layer).__name__
    if kind in BATCH_NORMS:
        return f"a {kind} that neither follows a linear layer alone nor is one of the last axis"
    if kind in _RECURRENT:
        return _recurrent(layer)
    if kind == "GroupNormalization" and not _carried(layer):
        return "LiteRT 2.3 does not run the file that a GroupNormalization of Keras 2 becomes (BROADCAST_TO); that of Keras 3 it does"
    if kind in _IN_FLOAT:
        return f"the converter computes {'an' if kind[0] in 'AEIOU' else 'a'} {kind} in float: {_IN_FLOAT[kind]}"
    if not (kind == "SeparableConv2D" or own_config(layer) is not None or _registry().supports(layer)):
        guessed = ", and the converter may give it ranges that it guesses: look at the agreement" if _carried(layer) else ""
        return f"TF-MOT can't quantize {kind}{guessed}"
    return None


def _problem_of_settings(layer: Any) -> str | None:
    kind, activation = type(layer).__name__, rewriting.activation_name(layer)
    if kind == "Activation" and not (activation in _LAYER_ACTIVATIONS or own_config(layer) is not None):
        return f"the converter computes {activation} in float"
    if kind != "Activation" and activation is not None and not may_stay_inside(layer):
        return f"{kind} with activation {activation!r} does not become int8"
    if kind == "ReLU" and layer.threshold:
        return "the converter computes a ReLU with a threshold in float"
    if kind == "ReLU" and layer.negative_slope and layer.max_value is not None:
        return "the converter computes a ReLU with a slope and a bound in float: MINIMUM, NEG and SUB"
    if kind in ("Dense", "BatchNormalization") and len(layer.input_shape) > 2:
        return f"the converter computes a {kind} on more than one axis in float"
    if _is_dilated(layer):
        return f"the converter computes a dilated {kind} in float, between SPACE_TO_BATCH_ND and BATCH_TO_SPACE_ND"
    return None


def _problem_with_masks(layer: Any) -> str | None:
    """TF-MOT's wrappers hand a mask to layers that take none, and none on to those behind."""
    if getattr(layer, "mask_zero", False):
        return f"{type(layer).__name__} with mask_zero: TF-MOT's wrapper loses the mask"
    given = [getattr(tensor, "_keras_mask", None) for node in layer._inbound_nodes for tensor in node.keras_inputs]
    return None if all(mask is None for mask in given) else "it is given a mask, with which TF-MOT's wrapper can't call it"


def _recurrent(layer: Any) -> str:
    after = "; of the plain model the format int8 quantizes it after training" if _is_of_lstms(layer) else ""
    return f"recurrent: there is no quantization-aware training of it, and it computes in float{after}"


def _is_of_lstms(layer: Any) -> bool:
    cells = [
        each.cell
        for each in (layer, getattr(layer, "forward_layer", None), getattr(layer, "backward_layer", None))
        if hasattr(each, "cell")
    ]
    return bool(cells) and all(type(cell).__name__ == "LSTMCell" for cell in cells)


def _carried(layer: Any) -> str | None:
    """The class of the Keras 3 layer, or operation of keras.ops, that a layer of the bridge carries; None for any other."""
    if type(layer).__name__ == "Keras3Operation":
        return f"keras.ops {layer.operation['class_name']}"
    return type(layer.layer).__name__ if type(layer).__name__ == "Keras3Layer" else None


def _is_dilated(layer: Any) -> bool:
    return not _is_direct(layer) and any(rate != 1 for rate in getattr(layer, "dilation_rate", ()))


def own_config(layer: Any) -> Any | None:
    """A QuantizeConfig where TF-MOT's default refuses the layer."""
    kind, registry = _kind(layer), backend.tfmot_private("quantization.keras.default_8bit.default_8bit_quantize_registry")
    configs = backend.tfmot_private("quantization.keras.default_8bit.default_8bit_quantize_configs")
    if (
        kind in _WITH_OUTPUT
        or type(layer).__name__ == "Product"
        or (kind == "Activation" and activations.computes(layer, activations.hard_swish))
    ):
        return configs.Default8BitOutputQuantizeConfig()
    if kind in _HANDING_ON:
        return configs.NoOpQuantizeConfig()
    if kind == "Embedding":  # rows of a table: they have its range
        return registry.Default8BitQuantizeConfig(["embeddings"], [], False)
    if _is_direct(layer) and rewriting.activation_name(layer) != "relu6":
        return registry.Default8BitConvQuantizeConfig(["kernel"], ["activation"], False)
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
