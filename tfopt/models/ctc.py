"""A net that transcribes: depthwise separable convolutions over features of sound, and a symbol or the blank at each frame."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from .. import backend, options
from ..errors import DataError
from ._blocks import Count, Share, bn_relu, check_one_input, conv_bn_relu, depthwise_bn_relu


@options.checked
def ctc(
    input_shape: tuple[int, ...],
    num_classes: int,
    *,
    width: Count = 48,
    blocks: Count = 4,
    context: Count = 2,
    stride: Count = 2,
    units: Annotated[int, Field(ge=0)] = 0,
    dropout: Share = 0.1,
) -> Any:
    """For the task `transcription`: logits (frames / stride, num_classes + 1), the last of which is the blank of connectionist temporal
    classification (Graves et al. 2006).

    A convolution of 10 x 4 with stride 2 over the bins, `blocks` times a depthwise 3x3 and a 1x1 convolution, as in `dscnn`; then one over
    all bins of a frame, and `context` times a depthwise one over 9 frames and a 1x1, each with BatchNorm and ReLU. All of it becomes int8.

    Args:
      width: channels; twice as many behind the bins. stride: of the frames: there have to be as many left as there are symbols to say, and
        one more between two that are the same.
      units: of an LSTM that reads the frames in both directions before the logits, and stays in float; 0 for none.

    x: features of sound (frames, bins, 1), such as `log_mel` makes them.

    >>> model = ctc((124, 40, 1), 10)
    >>> model.count_params(), tfopt.inspect(model).macs
    (129899, 22980672)
    """
    check_one_input(input_shape, "ctc")
    if len(input_shape) != 3 or input_shape[2] != 1:
        raise DataError(
            f"ctc takes features of sound (frames, bins, 1), the examples are {input_shape}; put log_mel or mfcc into preprocess"
        )
    keras = backend.keras()
    layers = keras.layers
    inputs = keras.Input(input_shape, name="input")
    x = layers.Conv2D(width, (10, 4), strides=(stride, 2), padding="same", use_bias=False, name="stem")(inputs)
    x = bn_relu(x, "stem")
    for number in range(1, blocks + 1):
        x = depthwise_bn_relu(x, name=f"block{number}_depthwise")
        x = conv_bn_relu(x, width, name=f"block{number}_pointwise", size=1)
    x = layers.Conv2D(2 * width, (1, x.shape[2]), use_bias=False, name="bins")(x)
    x = bn_relu(x, "bins")
    for number in range(1, context + 1):
        x = depthwise_bn_relu(x, name=f"context{number}_depthwise", size=(9, 1))
        x = conv_bn_relu(x, 2 * width, name=f"context{number}_pointwise", size=1)
    x = layers.Reshape((x.shape[1], x.shape[3]), name="frames")(x)
    if dropout:
        x = layers.Dropout(dropout, name="dropout")(x)
    if units:
        x = layers.Bidirectional(layers.LSTM(units, return_sequences=True, name="lstm_one_way"), name="lstm")(x)
    return keras.Model(inputs, layers.Dense(num_classes + 1, name="logits")(x), name="ctc")
