"""TF-MOT's quantization scheme, quantizers and transforms, as far as tfopt changes them."""

from __future__ import annotations

import math
from typing import Any

from .. import backend

_transforms = backend.tfmot_private("quantization.keras.default_8bit.default_8bit_transforms")
_layout = backend.tfmot_private("quantization.keras.default_8bit.default_8bit_quantize_layout_transform")
_schemes = backend.tfmot_private("quantization.keras.default_8bit.default_8bit_quantize_scheme")
_transformer = backend.tfmot_private("quantization.keras.graph_transformations.model_transformer")

# Of TF-MOT's nineteen transforms those that do what the converter does, besides the two below. Left out: LayerReLUQuantize and
# LayerReluActivationQuantize, which take the weight quantizer away from the layer before a ReLU (0 of 1 kernels quantized, measured with
# 0.8.1); DenseBatchNorm*, after which the converter computes in float; SeparableConv1D and the Reshape forms that only it needs,
# which fail on a lambda of their own.
_TRANSFORMS = (
    "Conv2DBatchNormReLUQuantize",
    "Conv2DBatchNormActivationQuantize",
    "Conv2DBatchNormQuantize",
    "ConcatTransform6Inputs",
    "ConcatTransform5Inputs",
    "ConcatTransform4Inputs",
    "ConcatTransform3Inputs",
    "ConcatTransform",
)


class InputTransform(_transforms.InputLayerQuantize):
    """TF-MOT's transform for inputs, with a name for the new layer that does not count up: it reaches the .tflite's bytes.

    Inputs of whole numbers (words of an Embedding, pixels before a Rescaling) stay as they are: they can't be quantized.
    """

    def replacement(self, match_layer):
        if not backend.tensorflow().as_dtype(match_layer.layer["config"]["dtype"]).is_floating:
            return match_layer
        node = super().replacement(match_layer)
        node.layer["config"]["name"] = node.layer["name"] = f"quantize_{match_layer.layer['config']['name']}"
        return node


class SeparableTransform(_transforms.SeparableConvQuantize):
    """TF-MOT's transform that makes two layers of a SeparableConv2D, with names that follow from its own.

    TF-MOT's are Keras's next free ones, "conv2d" in a fresh process. In a model from a file that may be another layer's name, and the
    weights of one were put into the other.
    """

    def replacement(self, match_layer):
        pointwise = super().replacement(match_layer)
        if pointwise is not match_layer:
            name = match_layer.layer["config"]["name"]
            for node, part in ((pointwise, "pointwise"), (pointwise.input_layers[0], "depthwise")):
                node.layer["config"]["name"] = node.layer["name"] = f"{name}_{part}"
        return pointwise


class LayoutTransform(_layout.Default8BitQuantizeLayoutTransform):
    """TF-MOT's graph transforms without those that go wrong."""

    def apply(self, model, layer_quantize_map):
        chosen = [InputTransform(), SeparableTransform(), *(getattr(_transforms, name)() for name in _TRANSFORMS)]
        return _transformer.ModelTransformer(model, chosen, set(layer_quantize_map), layer_quantize_map).transform()


class Scheme(_schemes.Default8BitQuantizeScheme):
    """TF-MOT's 8-bit scheme with our transforms."""

    def get_layout_transformer(self):
        return LayoutTransform()


class KeepZeros:
    """A weight quantizer that multiplies with a mask first: where the mask is zero no gradient passes, so the weight stays zero."""

    def __init__(self, quantizer: Any, mask: Any):
        self.quantizer, self.mask = quantizer, mask

    def __call__(self, inputs, training, weights, **kwargs):
        return self.quantizer(inputs * self.mask, training, weights, **kwargs)


class Remask(backend.keras().callbacks.Callback):
    """Keeps the zeros of weights that nothing quantizes, and in which therefore no mask can stand: they are put back after each step."""

    def __init__(self, masks: list[tuple[Any, Any]]):
        super().__init__()
        self.masks = masks

    def on_train_batch_end(self, batch, logs=None):
        for weight, mask in self.masks:
            weight.assign(weight * mask)


class Observer:
    """Stands in for the activation quantizers during calibration: lets values pass and notes their smallest and largest.

    Attributes:
      seen: for each quantizer, its two range variables and the smallest and largest value that came by.
    """

    def __init__(self):
        self.seen: dict[int, tuple[Any, float, float]] = {}

    def __call__(self, inputs, training, weights, **kwargs):
        tf = backend.tensorflow()
        _, low, high = self.seen.get(id(weights["min_var"]), (weights, math.inf, -math.inf))
        low, high = min(low, float(tf.reduce_min(inputs))), max(high, float(tf.reduce_max(inputs)))
        self.seen[id(weights["min_var"])] = (weights, low, high)
        return inputs
