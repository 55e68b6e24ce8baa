"""Residual nets, for small images and for photographs."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator

from .. import backend, options
from ._blocks import Activation, Count, bn_relu, conv_bn, conv_bn_relu, first_stride, head, image_input

# Of those for photographs: how many blocks each stack has, and whether these are bottlenecks.
_LARGE = {18: ((2, 2, 2, 2), False), 34: ((3, 4, 6, 3), False), 50: ((3, 4, 6, 3), True)}


def _known(depth: int) -> int:
    if depth not in _LARGE and (depth < 8 or (depth - 2) % 6):
        raise ValueError("should be 6 n + 2, such as 8, 14, 20, 26, 32, 44 or 56, or one of 18, 34 and 50, which are built for photographs")
    return depth


Depth = Annotated[int, AfterValidator(_known)]


@options.checked
def resnet(
    input_shape: tuple[int, ...],
    num_classes: int,
    *,
    depth: Depth = 8,
    width: Count | None = None,
    version: Literal[1, 2] = 1,
    activation: Activation = "softmax",
) -> Any:
    """ResNets, for small images (He et al. 2016, arXiv:1512.03385, section 4.2) of `depth` = 6 n + 2 layers, and for photographs of 18, 34
    or 50 layers (section 3.3).

    Those for small images have three stacks of n blocks with `width`, 2 `width` and 4 `width` filters, by default 16. As in MLPerf Tiny's
    reference, convolutions have a bias and the shortcut of the second and third stack is a 1x1 convolution.

    Those for photographs have four stacks, by default of 64 to 512 filters, behind a 7x7 convolution and a max pooling, both of stride 2;
    images of less than 64 pixels begin with a 3x3 convolution instead. With 50 layers each block is a bottleneck: a third convolution gives
    four times the filters.

    Args:
      version: 2 has BatchNorm and ReLU before each convolution (He et al. 2016, arXiv:1603.05027).

    Raises:
      OptionError: another depth.

    >>> model = resnet((32, 32, 3), 10, depth=8, width=16)
    >>> model.count_params(), tfopt.inspect(model).macs
    (78666, 12501632)
    """
    keras = backend.keras()
    large = depth in _LARGE
    counts, bottleneck = _LARGE.get(depth, (((depth - 2) // 6,) * 3, False))
    width = width or (64 if large else 16)
    inputs = image_input(input_shape, "resnet")
    x = _stem(inputs, width, large, version)
    for stack, count in enumerate(counts):
        for block in range(count):
            first = block == 0 and stack > 0
            name = f"stack{stack + 1}_block{block + 1}"
            shape = {"stride": 2 if first else 1, "project": first or (block == 0 and bottleneck), "bottleneck": bottleneck, "name": name}
            x = _preactivated(x, width * 2**stack, **shape) if version == 2 else _block(x, width * 2**stack, **shape, large=large)
    x = bn_relu(x, "last") if version == 2 else x
    x = keras.layers.GlobalAveragePooling2D(name="average")(x)
    return keras.Model(inputs, head(x, num_classes, activation), name=f"resnet{depth}" + ("_v2" if version == 2 else ""))


def _stem(inputs: Any, width: int, large: bool, version: int) -> Any:
    layers = backend.keras().layers
    photograph = large and first_stride(inputs) == 2
    size, stride = (7, 2) if photograph else (3, 1)
    if version == 2:
        x = layers.Conv2D(width, size, strides=stride, padding="same", use_bias=False, name="stem")(inputs)
    else:
        x = conv_bn_relu(inputs, width, size=size, stride=stride, name="stem", bias=not large)
    return layers.MaxPooling2D(3, 2, padding="same", name="stem_pool")(x) if photograph else x


def _block(x: Any, filters: int, *, stride: int, project: bool, bottleneck: bool, name: str, large: bool) -> Any:
    layers = backend.keras().layers
    if bottleneck:
        y = layers.ReLU(name=f"{name}_relu1")(conv_bn(x, filters, size=1, name=f"{name}_conv1"))
        y = layers.ReLU(name=f"{name}_relu2")(conv_bn(y, filters, stride=stride, name=f"{name}_conv2"))
        y = conv_bn(y, 4 * filters, size=1, name=f"{name}_conv3")
    else:
        y = layers.ReLU(name=f"{name}_relu1")(conv_bn(x, filters, stride=stride, name=f"{name}_conv1", bias=not large))
        y = conv_bn(y, filters, name=f"{name}_conv2", bias=not large)
    if project and large:
        x = conv_bn(x, y.shape[-1], size=1, stride=stride, name=f"{name}_shortcut")
    elif project:
        x = layers.Conv2D(filters, 1, strides=stride, padding="same", name=f"{name}_shortcut")(x)
    x = layers.Add(name=f"{name}_add")([x, y])
    return layers.ReLU(name=f"{name}_relu3" if bottleneck else f"{name}_relu2")(x)


def _preactivated(x: Any, filters: int, *, stride: int, project: bool, bottleneck: bool, name: str) -> Any:
    layers = backend.keras().layers
    # Filters, size and stride of the convolutions, the last without a BatchNorm behind it.
    basic = [(filters, 3, stride), (filters, 3, 1)]
    convolutions = [(filters, 1, 1), (filters, 3, stride), (4 * filters, 1, 1)] if bottleneck else basic
    before = y = bn_relu(x, f"{name}_1")
    for number, (channels, size, step) in enumerate(convolutions, 1):
        y = bn_relu(y, f"{name}_{number}") if number > 1 else y
        y = layers.Conv2D(channels, size, strides=step, padding="same", use_bias=False, name=f"{name}_conv{number}")(y)
    if project:
        x = layers.Conv2D(y.shape[-1], 1, strides=stride, padding="same", use_bias=False, name=f"{name}_shortcut")(before)
    return layers.Add(name=f"{name}_add")([x, y])
