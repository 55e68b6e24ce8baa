"""The convolutional net for short clips of pictures."""

from __future__ import annotations

from typing import Any

from .. import backend, options
from ..errors import DataError
from ._blocks import Activation, Count, Share, check_one_input, head


@options.checked
def conv3d(
    input_shape: tuple[int, ...],
    num_classes: int,
    *,
    width: Count = 16,
    blocks: Count = 3,
    dropout: Share = 0.0,
    activation: Activation = "softmax",
) -> Any:
    """`blocks` times convolution 3x3x3 with stride 2 in space and time, BatchNorm and ReLU, then average pooling and a Dense.

    x: (frames, height, width, channels). The first block has `width` channels, each further one twice as many. Strides stand in place of
    poolings, which TFLite does not have for clips.

    Raises:
      DataError: examples of another shape.

    >>> model = conv3d((8, 32, 32, 3), 5)
    >>> model.count_params(), tfopt.inspect(model).macs
    (71189, 3981632)
    """
    check_one_input(input_shape, "conv3d")
    if len(input_shape) != 4:
        raise DataError(f"conv3d takes clips (frames, height, width, channels), the examples are {input_shape}")
    keras = backend.keras()
    layers = keras.layers
    inputs = x = keras.Input(input_shape, name="input")
    for number in range(1, blocks + 1):
        halved = tuple(2 if length >= 2 else 1 for length in x.shape[1:4])
        x = layers.Conv3D(width * 2 ** (number - 1), 3, strides=halved, padding="same", use_bias=False, name=f"conv{number}")(x)
        x = layers.BatchNormalization(momentum=0.9, name=f"conv{number}_bn")(x)
        x = layers.ReLU(name=f"relu{number}")(x)
    x = layers.GlobalAveragePooling3D(name="average")(x)
    if dropout:
        x = layers.Dropout(dropout, name="dropout")(x)
    return keras.Model(inputs, head(x, num_classes, activation), name="conv3d")
