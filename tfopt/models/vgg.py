"""VGG: 3x3 convolutions one behind the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from .. import backend, options
from ._blocks import Activation, Count, Share, conv_bn_relu, head, image_input

# How many convolutions each of the five blocks has.
_BLOCKS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}


@options.checked
def vgg(
    input_shape: tuple[int, ...],
    num_classes: int,
    *,
    depth: Literal[11, 13, 16, 19] = 11,
    width: Count = 64,
    hidden: Sequence[Count] = (512,),
    dropout: Share = 0.0,
    activation: Activation = "softmax",
) -> Any:
    """Five blocks of 3x3 convolutions, each with BatchNorm and ReLU, and a 2x2 max pooling behind each block; then Dense layers.

    Simonyan & Zisserman 2015, arXiv:1409.1556; the paper has no BatchNorm, `hidden = (4096, 4096)` and dropout 0.5. The blocks have
    `width`, 2, 4, 8 and 8 times `width` channels; pooling stops where the image is one pixel wide. On 32 x 32 x 3 inputs with 10 classes
    and the defaults it has 9,496,522 parameters.

    >>> model = vgg((32, 32, 3), 10)
    >>> model.count_params(), tfopt.inspect(model).macs
    (9496522, 153031680)
    """
    keras = backend.keras()
    inputs = x = image_input(input_shape, "vgg")
    for block, (count, factor) in enumerate(zip(_BLOCKS[depth], (1, 2, 4, 8, 8), strict=True), 1):
        for number in range(1, count + 1):
            x = conv_bn_relu(x, factor * width, name=f"block{block}_conv{number}")
        if min(x.shape[1:3]) >= 2:
            x = keras.layers.MaxPooling2D(name=f"pool{block}")(x)
    x = keras.layers.Flatten(name="flatten")(x)
    for number, units in enumerate(hidden, 1):
        x = keras.layers.Dense(units, activation="relu", name=f"dense{number}")(x)
        if dropout:
            x = keras.layers.Dropout(dropout, name=f"dropout{number}")(x)
    return keras.Model(inputs, head(x, num_classes, activation), name=f"vgg{depth}")
