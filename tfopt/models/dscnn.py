"""The keyword spotter of MLPerf Tiny: depthwise separable convolutions over features of sound."""

from __future__ import annotations

from typing import Any

from .. import backend, options
from ._blocks import Activation, Count, Share, bn_relu, conv_bn_relu, depthwise_bn_relu, head, image_input


@options.checked
def dscnn(
    input_shape: tuple[int, ...],
    num_classes: int,
    *,
    width: Count = 64,
    blocks: Count = 4,
    dropout: Share = 0.2,
    activation: Activation = "softmax",
) -> Any:
    """DS-CNN (Zhang et al. 2017, arXiv:1711.07128) as MLPerf Tiny has it: a convolution of 10 x 4 with stride 2, `blocks` times a depthwise
    3x3 and a 1x1 convolution, each with BatchNorm and ReLU, average pooling and a Dense.

    x: features of sound (frames, bins, 1), such as `mfcc` makes them: (49, 10, 1). With 12 classes it has 24,908 parameters there, as
    MLPerf's: its convolutions have biases, though BatchNorms follow.

    >>> model = dscnn((49, 10, 1), 12)
    >>> model.count_params(), tfopt.inspect(model).macs
    (24908, 2656768)
    """
    keras = backend.keras()
    layers = keras.layers
    inputs = image_input(input_shape, "dscnn")
    x = layers.Conv2D(width, (10, 4), strides=2, padding="same", name="stem")(inputs)
    x = bn_relu(x, "stem")
    if dropout:
        x = layers.Dropout(dropout, name="stem_dropout")(x)
    for number in range(1, blocks + 1):
        x = depthwise_bn_relu(x, name=f"block{number}_depthwise", bias=True)
        x = conv_bn_relu(x, width, name=f"block{number}_pointwise", size=1, bias=True)
    x = layers.GlobalAveragePooling2D(name="average")(x)
    if dropout:
        x = layers.Dropout(dropout, name="dropout")(x)
    return keras.Model(inputs, head(x, num_classes, activation), name="dscnn")
