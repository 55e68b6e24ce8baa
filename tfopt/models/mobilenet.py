"""MobileNet, versions 1 to 3: depthwise convolutions for phones."""

from __future__ import annotations

from typing import Any, Literal

from .. import backend, options
from ._blocks import Activation, Alpha, conv_bn, conv_bn_relu, depthwise_bn_relu, first_stride, head, image_input, inverted, rounded

# Channels and stride of the blocks.
_V1 = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)]
# Expansion, channels, how many blocks, stride of the first.
_V2 = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]
# Kernel, inner channels, channels, squeeze and excite, hard swish, stride.
_V3 = {
    "small": [
        (3, 16, 16, True, False, 2), (3, 72, 24, False, False, 2), (3, 88, 24, False, False, 1), (5, 96, 40, True, True, 2),
        (5, 240, 40, True, True, 1), (5, 240, 40, True, True, 1), (5, 120, 48, True, True, 1), (5, 144, 48, True, True, 1),
        (5, 288, 96, True, True, 2), (5, 576, 96, True, True, 1), (5, 576, 96, True, True, 1),
    ],
    "large": [
        (3, 16, 16, False, False, 1), (3, 64, 24, False, False, 2), (3, 72, 24, False, False, 1), (5, 72, 40, True, False, 2),
        (5, 120, 40, True, False, 1), (5, 120, 40, True, False, 1), (3, 240, 80, False, True, 2), (3, 200, 80, False, True, 1),
        (3, 184, 80, False, True, 1), (3, 184, 80, False, True, 1), (3, 480, 112, True, True, 1), (3, 672, 112, True, True, 1),
        (5, 672, 160, True, True, 2), (5, 960, 160, True, True, 1), (5, 960, 160, True, True, 1),
    ],
}  # fmt: skip


@options.checked
def mobilenet(
    input_shape: tuple[int, ...],
    num_classes: int,
    *,
    version: Literal[1, 2, 3] = 2,
    alpha: Alpha = 1.0,
    size: Literal["small", "large"] = "small",
    activation: Activation = "softmax",
) -> Any:
    """MobileNet: version 1 (Howard et al. 2017, arXiv:1704.04861), 2 (Sandler et al. 2018, arXiv:1801.04381) or 3 (Howard et al. 2019,
    arXiv:1905.02244).

    Version 1 has ReLUs, so that MLPerf Tiny's visual wake words net is `mobilenet((96, 96, 3), 2, version=1, alpha=0.25)` (221,794
    parameters with its biases); version 2 ReLU6; version 3 hard swish, and squeeze and excite. Images of less than 64 pixels are not halved
    by the first convolution.

    Args:
      alpha: the number of channels is that of the paper times this, rounded to a multiple of 8.
      size: of version 3.

    >>> model = mobilenet((96, 96, 3), 10)
    >>> model.count_params(), tfopt.inspect(model).macs
    (2270794, 55021952)
    """
    inputs = image_input(input_shape, "mobilenet")
    build = {1: _version_1, 2: _version_2, 3: _version_3}[version]
    x = build(inputs, alpha, size) if version == 3 else build(inputs, alpha)
    x = backend.keras().layers.GlobalAveragePooling2D(name="average")(x)
    if version == 3:
        layers = backend.keras().layers
        x = _hard_swish(layers.Dense(1024 if size == "small" else 1280, name="features")(x), "features")
    return backend.keras().Model(inputs, head(x, num_classes, activation), name=f"mobilenet_v{version}")


def _version_1(inputs: Any, alpha: float) -> Any:
    x = conv_bn_relu(inputs, rounded(32 * alpha), name="stem", stride=first_stride(inputs))
    for number, (channels, stride) in enumerate(_V1, 1):
        x = depthwise_bn_relu(x, name=f"block{number}_depthwise", stride=stride)
        x = conv_bn_relu(x, rounded(channels * alpha), name=f"block{number}_pointwise", size=1)
    return x


def _version_2(inputs: Any, alpha: float) -> Any:
    x = conv_bn_relu(inputs, rounded(32 * alpha), name="stem", stride=first_stride(inputs), most=6.0)
    number = 0
    for expansion, channels, count, first in _V2:
        for stride in (first, *[1] * (count - 1)):
            number += 1
            x = inverted(x, expansion, rounded(channels * alpha), stride=stride, name=f"block{number}")
    return conv_bn_relu(x, rounded(1280 * max(alpha, 1.0)), name="features", size=1, most=6.0)


def _version_3(inputs: Any, alpha: float, size: str) -> Any:
    layers = backend.keras().layers
    x = _hard_swish(conv_bn(inputs, rounded(16 * alpha), name="stem", stride=first_stride(inputs)), "stem")
    for number, (kernel, inner, channels, excite, swish, stride) in enumerate(_V3[size], 1):
        name, before, channels = f"block{number}", x, rounded(channels * alpha)

        def activated(x, part, name=name, swish=swish):
            return _hard_swish(x, f"{name}_{part}") if swish else layers.ReLU(name=f"{name}_{part}_relu")(x)

        inner = rounded(inner * alpha)
        if inner != x.shape[-1]:
            x = activated(conv_bn(x, inner, name=f"{name}_expand", size=1), "expand")
        x = layers.DepthwiseConv2D(kernel, strides=stride, padding="same", use_bias=False, name=f"{name}_depthwise")(x)
        x = activated(layers.BatchNormalization(momentum=0.9, name=f"{name}_depthwise_bn")(x), "depthwise")
        if excite:
            x = _excited(x, rounded(inner / 4), name)
        x = conv_bn(x, channels, name=f"{name}_project", size=1)
        if stride == 1 and before.shape[-1] == channels:
            x = layers.Add(name=f"{name}_add")([before, x])
    return _hard_swish(conv_bn(x, rounded(6 * x.shape[-1]), name="last", size=1), "last")


def _excited(x: Any, units: int, name: str) -> Any:
    """Squeeze and excite: each channel times a factor that follows from the averages of all."""
    layers = backend.keras().layers
    factor = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_squeeze")(x)
    factor = layers.Conv2D(units, 1, activation="relu", name=f"{name}_squeeze_conv")(factor)
    factor = layers.Conv2D(x.shape[-1], 1, name=f"{name}_excite_conv")(factor)
    return layers.Multiply(name=f"{name}_excite")([x, _hard_sigmoid(factor, f"{name}_excite")])


def _hard_sigmoid(x: Any, name: str) -> Any:
    """Hard sigmoid: relu6(x + 3) / 6."""
    layers = backend.keras().layers
    x = layers.ReLU(max_value=6.0, name=f"{name}_relu6")(layers.Rescaling(1.0, 3.0, name=f"{name}_add_3")(x))
    return layers.Rescaling(1 / 6, name=f"{name}_by_6")(x)


def _hard_swish(x: Any, name: str) -> Any:
    """Hard swish: x * relu6(x + 3) / 6."""
    return backend.keras().layers.Multiply(name=f"{name}_swish")([x, _hard_sigmoid(x, name)])
