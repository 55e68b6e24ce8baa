"""DenseNet: each layer sees the outputs of all before it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .. import backend, options
from ._blocks import Activation, Count, bn_relu, first_stride, head, image_input


@options.checked
def densenet(
    input_shape: tuple[int, ...],
    num_classes: int,
    *,
    blocks: Sequence[Count] = (6, 6, 6),
    growth: Count = 12,
    activation: Activation = "softmax",
) -> Any:
    """DenseNet-BC (Huang et al. 2017, arXiv:1608.06993): in each block so many times BatchNorm, ReLU, a 1x1 convolution to 4 `growth`
    channels, BatchNorm, ReLU and a 3x3 convolution to `growth`, which are put beside what was there; between blocks half the channels and
    half the sides.

    The default is that of the paper for CIFAR with 40 layers. DenseNet-121 is `blocks = (6, 12, 24, 16)`, `growth = 32`; images of at least
    64 pixels begin, as there, with a 7x7 convolution and a max pooling, both of stride 2.

    >>> model = densenet((32, 32, 3), 10)
    >>> model.count_params(), tfopt.inspect(model).macs
    (181210, 72365352)
    """
    keras = backend.keras()
    layers = keras.layers
    inputs = image_input(input_shape, "densenet")
    large = first_stride(inputs) == 2
    x = layers.Conv2D(2 * growth, 7 if large else 3, strides=first_stride(inputs), padding="same", use_bias=False, name="stem")(inputs)
    if large:
        x = bn_relu(x, "stem")
        x = layers.MaxPooling2D(3, 2, padding="same", name="stem_pool")(x)
    for block, count in enumerate(blocks, 1):
        for number in range(1, count + 1):
            name = f"block{block}_layer{number}"
            y = layers.Conv2D(4 * growth, 1, use_bias=False, name=f"{name}_conv1")(bn_relu(x, f"{name}_1"))
            y = layers.Conv2D(growth, 3, padding="same", use_bias=False, name=f"{name}_conv2")(bn_relu(y, f"{name}_2"))
            x = layers.Concatenate(name=f"{name}_join")([x, y])
        if block < len(blocks):
            x = layers.Conv2D(x.shape[-1] // 2, 1, use_bias=False, name=f"half{block}")(bn_relu(x, f"half{block}"))
            if min(x.shape[1:3]) >= 2:
                x = layers.AveragePooling2D(name=f"half{block}_pool")(x)
    x = layers.GlobalAveragePooling2D(name="average")(bn_relu(x, "last"))
    return keras.Model(inputs, head(x, num_classes, activation), name="densenet")
