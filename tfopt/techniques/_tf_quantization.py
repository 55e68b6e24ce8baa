"""TF-MOT's quantization scheme, quantizers and transforms, as far as tfopt changes them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from .. import backend

_transforms = backend.tfmot_private("quantization.keras.default_8bit.default_8bit_transforms")
_layout = backend.tfmot_private("quantization.keras.default_8bit.default_8bit_quantize_layout_transform")
_schemes = backend.tfmot_private("quantization.keras.default_8bit.default_8bit_quantize_scheme")
_registry = backend.tfmot_private("quantization.keras.default_8bit.default_8bit_quantize_registry")
_n_bits = backend.tfmot_private("quantization.keras.experimental.default_n_bit.default_n_bit_quantize_registry")
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
    """TF-MOT's graph transforms without those that go wrong, and with the asked-for weights where they answer for a layer themselves.

    Those of Concatenate do: they ask TF-MOT's own registry for what feeds it, 8 bits with a scale a channel.
    """

    def __init__(self, weight_bits: int, per_axis: bool):
        self.weight_bits, self.per_axis = weight_bits, per_axis

    def apply(self, model, layer_quantize_map):
        chosen = [InputTransform(), SeparableTransform(), *(getattr(_transforms, name)() for name in _TRANSFORMS)]
        model, found = _transformer.ModelTransformer(model, chosen, set(layer_quantize_map), layer_quantize_map).transform()
        for told in found.values():
            told["quantize_config"] = adjusted(told.get("quantize_config"), self.weight_bits, self.per_axis)
        return model, found


class Scheme(_schemes.Default8BitQuantizeScheme):
    """TF-MOT's 8-bit scheme with our transforms, and weights of so many bits.

    Args:
      weight_bits: 8 or 4.
      per_axis: whether each output channel of a convolution has a scale of its own.
    """

    def __init__(self, weight_bits: int = 8, per_axis: bool = True):
        super().__init__()
        self.weight_bits, self.per_axis = weight_bits, per_axis

    def get_layout_transformer(self):
        return LayoutTransform(self.weight_bits, self.per_axis)

    def get_quantize_registry(self):
        return Registry(self.weight_bits, self.per_axis)


class Registry(_registry.Default8BitQuantizeRegistry):
    """TF-MOT's 8-bit registry, its answers changed to the asked-for weights."""

    def __init__(self, weight_bits: int, per_axis: bool):
        super().__init__()
        self.weight_bits, self.per_axis = weight_bits, per_axis

    def get_quantize_config(self, layer):
        return adjusted(super().get_quantize_config(layer), self.weight_bits, self.per_axis)


def adjusted(config: Any, weight_bits: int, per_axis: bool) -> Any:
    """A QuantizeConfig of TF-MOT's 8-bit scheme for weights of so many bits, with a scale for each channel or not.

    Unchanged where there are no weights, where they are so already, and for what the converter takes in 8 bits only.
    """
    kind, names = type(config).__name__, getattr(config, "weight_attrs", None)
    done = weight_bits == 8 and (per_axis or "Conv" not in kind)
    if not names or done or not kind.startswith("Default8Bit") or "ConvTranspose" in kind or names == ["embeddings"]:
        return config
    parts = names, config.activation_attrs, config.quantize_output
    if "Conv" in kind and per_axis:
        return _n_bits.DefaultNBitConvQuantizeConfig(*parts, num_bits_weight=weight_bits)
    return _n_bits.DefaultNBitQuantizeConfig(*parts, num_bits_weight=weight_bits)


class OneRange:
    """A weight quantizer that gives all channels the range of the whole kernel.

    For kernels whose weights share a few values: with a range for each channel the same value becomes another integer in each, and the
    file compresses worse.
    """

    def __init__(self, bits: int):
        self.bits = bits

    def __call__(self, inputs, training, weights, **kwargs):
        tf = backend.tensorflow()
        low, high = weights["min_var"], weights["max_var"]
        if training:
            largest = tf.fill(high.shape, tf.reduce_max(tf.abs(inputs)))
            low, high = low.assign(-largest), high.assign(largest)
        return tf.quantization.fake_quant_with_min_max_vars_per_channel(inputs, low, high, num_bits=self.bits, narrow_range=True)


class Freezing(backend.keras().callbacks.Callback):
    """Freezes BatchNorm's statistics for the last part of a fit: from then on it computes with what the converter will fold.

    Args:
      layers: BatchNormalizations, the layers inside the wrappers.
      step: the first that runs with them frozen, counted from 0 over the whole fit.
    """

    def __init__(self, layers: Iterable[Any], step: int):
        super().__init__()
        self.layers, self.at = [layer for layer in layers if layer.trainable], step

    def on_train_begin(self, logs=None):
        self.step = int(self.model.optimizer.iterations.numpy())
        self._freeze_if(self.step >= self.at)

    def on_train_batch_end(self, batch, logs=None):
        self.step += 1
        self._freeze_if(self.step == self.at)

    def _freeze_if(self, now: bool) -> None:
        if now and self.layers:
            for layer in self.layers:
                layer.trainable = False  # which is what makes a BatchNormalization use its statistics while it trains
            self.model.make_train_function(force=True)

    def on_train_end(self, logs=None):
        for layer in self.layers:
            layer.trainable = True


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
