"""The residual net for small images."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator

from .. import backend, options
from ._blocks import Count, conv_bn, head, image_input


def _six_n_plus_2(depth: int) -> int:
    if depth < 8 or (depth - 2) % 6:
        raise ValueError("should be 6 n + 2, such as 8, 14, 20, 26, 32, 44 or 56")
    return depth


Depth = Annotated[int, AfterValidator(_six_n_plus_2)]


@options.checked
def resnet(input_shape: tuple[int, ...], num_classes: int, *, depth: Depth = 8, width: Count = 16) -> Any:
    """The CIFAR ResNet (He et al. 2016, arXiv:1512.03385, section 4.2) of `depth` = 6 n + 2 layers, with `width` filters at first.

    Three stacks of n blocks with `width`, 2 `width` and 4 `width` filters. As in MLPerf Tiny's reference, convolutions have a bias and
    the shortcut of the second and third stack is a 1x1 convolution. ResNet-8 with 16 filters on 32 x 32 x 3 has 78,666 parameters.

    Raises:
      OptionError: a depth that is not 6 n + 2.

    >>> model = resnet((32, 32, 3), 10, depth=8, width=16)
    >>> model.count_params(), tfopt.inspect(model).macs
    (78666, 12501632)
    """
    keras = backend.keras()
    inputs = image_input(input_shape, "resnet")
    x = conv_bn(inputs, width, name="stem", bias=True)
    x = keras.layers.ReLU(name="stem_relu")(x)
    for stack in range(3):
        for block in range((depth - 2) // 6):
            x = _block(x, width * 2**stack, first=stack > 0 and block == 0, name=f"stack{stack + 1}_block{block + 1}")
    x = keras.layers.GlobalAveragePooling2D(name="average")(x)
    return keras.Model(inputs, head(x, num_classes), name=f"resnet{depth}")


def _block(x: Any, filters: int, *, first: bool, name: str) -> Any:
    layers = backend.keras().layers
    y = conv_bn(x, filters, stride=2 if first else 1, name=f"{name}_conv1", bias=True)
    y = layers.ReLU(name=f"{name}_relu1")(y)
    y = conv_bn(y, filters, name=f"{name}_conv2", bias=True)
    if first:
        x = layers.Conv2D(filters, 1, strides=2, padding="same", name=f"{name}_shortcut")(x)
    x = layers.Add(name=f"{name}_add")([x, y])
    return layers.ReLU(name=f"{name}_relu2")(x)
