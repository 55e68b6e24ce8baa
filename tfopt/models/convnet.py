"""A small plain convolutional net for small images."""

from __future__ import annotations

from typing import Any

from .. import backend, options
from ._blocks import Count, Share, conv_bn, head, image_input


@options.checked
def convnet(input_shape: tuple[int, ...], num_classes: int, *, width: Count = 16, blocks: Count = 2, dropout: Share = 0.0) -> Any:
    """`blocks` times convolution 3x3, BatchNorm, ReLU and 2x2 max pooling, then average pooling and a Dense.

    The first block has `width` channels, each further one twice as many; pooling stops where the image is one pixel wide. On 28 x 28 x 1
    inputs, with 10 classes and the default width it has 5,274 parameters.

    >>> convnet((28, 28, 1), 10).count_params()
    5274
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
    return keras.Model(inputs, head(x, num_classes), name="convnet")
