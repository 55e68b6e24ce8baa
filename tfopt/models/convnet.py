"""A small plain convolutional net for small images."""

from __future__ import annotations

from typing import Any

from .. import backend, options
from ..errors import DataError
from ._blocks import Activation, Count, Share, conv_bn, head, image_input


@options.checked
def convnet(
    input_shape: tuple[int, ...],
    num_classes: int,
    *,
    width: Count = 16,
    blocks: Count = 2,
    dropout: Share = 0.0,
    activation: Activation = "softmax",
) -> Any:
    """`blocks` times convolution 3x3, BatchNorm, ReLU and 2x2 max pooling, then average pooling and a Dense.

    The first block has `width` channels, each further one twice as many; pooling stops where the image is one pixel wide. On 28 x 28 x 1
    inputs, with 10 classes and the default width it has 5,274 parameters.

    >>> model = convnet((28, 28, 1), 10)
    >>> model.count_params(), tfopt.inspect(model).macs
    (5274, 1016384)
    """
    keras = backend.keras()
    inputs = x = image_input(input_shape, "convnet")
    for number in range(1, blocks + 1):
        x = conv_bn(x, width * 2 ** (number - 1), name=f"conv{number}")
        x = keras.layers.ReLU(name=f"relu{number}")(x)
        if min(x.shape[1:3]) >= 2:
            x = keras.layers.MaxPooling2D(name=f"pool{number}")(x)
    x = keras.layers.GlobalAveragePooling2D(name="average")(x)
    if dropout:
        x = keras.layers.Dropout(dropout, name="dropout")(x)
    return keras.Model(inputs, head(x, num_classes, activation), name="convnet")


@options.checked
def lenet5(input_shape: tuple[int, ...], num_classes: int, *, dropout: Share = 0.0, activation: Activation = "softmax") -> Any:
    """LeNet-5 (LeCun et al. 1998) with ReLUs and max pooling: convolutions 5x5 to 6 and 16 channels, Dense layers of 120 and 84 units.

    >>> model = lenet5((28, 28, 1), 10)
    >>> model.count_params(), tfopt.inspect(model).macs
    (61706, 416520)

    Raises:
      DataError: examples are no images, or smaller than 12 pixels.
    """
    keras = backend.keras()
    layers = keras.layers
    inputs = image_input(input_shape, "lenet5")
    if min(input_shape[:2]) < 12:
        raise DataError(f"lenet5 takes images of 12 x 12 pixels or more, the examples are {input_shape}; use convnet")
    x = layers.Conv2D(6, 5, padding="same", activation="relu", name="conv1")(inputs)
    x = layers.MaxPooling2D(name="pool1")(x)
    x = layers.Conv2D(16, 5, activation="relu", name="conv2")(x)
    x = layers.MaxPooling2D(name="pool2")(x)
    x = layers.Flatten(name="flatten")(x)
    for number, units in enumerate((120, 84), 1):
        x = layers.Dense(units, activation="relu", name=f"dense{number}")(x)
        if dropout:
            x = layers.Dropout(dropout, name=f"dropout{number}")(x)
    return keras.Model(inputs, head(x, num_classes, activation), name="lenet5")
