"""EfficientNet-Lite: EfficientNet as phones' integer kernels like it, without squeeze and excite and with ReLU6 in place of swish."""

from __future__ import annotations

import math
from typing import Any, Literal

from .. import backend, options
from ._blocks import Activation, Share, conv_bn_relu, first_stride, head, image_input, inverted, rounded

# Expansion, channels, how many blocks, stride of the first, kernel.
_BLOCKS = [(1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 40, 2, 2, 5), (6, 80, 3, 2, 3), (6, 112, 3, 1, 5), (6, 192, 4, 2, 5), (6, 320, 1, 1, 3)]
# Channels and depth as multiples of those of Lite0.
_SCALES = {0: (1.0, 1.0), 1: (1.0, 1.1), 2: (1.1, 1.2), 3: (1.2, 1.4), 4: (1.4, 1.8)}


@options.checked
def efficientnet_lite(
    input_shape: tuple[int, ...],
    num_classes: int,
    *,
    version: Literal[0, 1, 2, 3, 4] = 0,
    dropout: Share = 0.0,
    activation: Activation = "softmax",
) -> Any:
    """EfficientNet-Lite0 to Lite4 (https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite), whose images were 224,
    240, 260, 280 and 300 pixels wide. Images of less than 64 pixels are not halved by the first convolution.

    >>> model = efficientnet_lite((224, 224, 3), 1000)
    >>> model.count_params(), tfopt.inspect(model).macs
    (4694024, 385187552)
    """
    keras, (wider, deeper) = backend.keras(), _SCALES[version]
    inputs = image_input(input_shape, "efficientnet_lite")
    x, number = conv_bn_relu(inputs, 32, name="stem", stride=first_stride(inputs), most=6.0), 0
    for at, (expansion, channels, count, first, size) in enumerate(_BLOCKS):
        repeats = count if at in (0, len(_BLOCKS) - 1) else math.ceil(deeper * count)  # the first and the last block are not repeated
        for stride in (first, *[1] * (repeats - 1)):
            number += 1
            x = inverted(x, expansion, rounded(channels * wider), stride=stride, size=size, name=f"block{number}")
    x = conv_bn_relu(x, 1280, name="features", size=1, most=6.0)
    x = keras.layers.GlobalAveragePooling2D(name="average")(x)
    if dropout:
        x = keras.layers.Dropout(dropout, name="dropout")(x)
    return keras.Model(inputs, head(x, num_classes, activation), name=f"efficientnet_lite{version}")
