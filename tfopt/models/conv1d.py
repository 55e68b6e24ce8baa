"""The convolutional net for series of sensors."""

from __future__ import annotations

from typing import Any

from .. import backend, options
from ._blocks import Activation, Count, Share, head, sequence


@options.checked
def conv1d(
    input_shape: tuple[int, ...],
    num_classes: int,
    *,
    width: Count = 32,
    blocks: Count = 3,
    size: Count = 5,
    words: Count = 10_000,
    embedding: Count = 64,
    dropout: Share = 0.0,
    activation: Activation = "softmax",
) -> Any:
    """`blocks` times convolution along time, BatchNorm, ReLU and max pooling by 2, then average pooling and a Dense.

    The first block has `width` channels, each further one twice as many; pooling stops where one step of time is left.

    Args:
      size: of the convolutions, in steps of time.
      words, embedding: as of `lstm`.

    >>> model = conv1d((128, 6), 5)
    >>> model.count_params(), tfopt.inspect(model).macs
    (53701, 2089600)
    """
    keras = backend.keras()
    layers = keras.layers
    inputs, x = sequence(input_shape, "conv1d", words, embedding)
    for number in range(1, blocks + 1):
        x = layers.Conv1D(width * 2 ** (number - 1), size, padding="same", use_bias=False, name=f"conv{number}")(x)
        x = layers.BatchNormalization(momentum=0.9, name=f"conv{number}_bn")(x)
        x = layers.ReLU(name=f"relu{number}")(x)
        if x.shape[1] >= 2:
            x = layers.MaxPooling1D(name=f"pool{number}")(x)
    x = layers.GlobalAveragePooling1D(name="average")(x)
    if dropout:
        x = layers.Dropout(dropout, name="dropout")(x)
    return keras.Model(inputs, head(x, num_classes, activation), name="conv1d")
