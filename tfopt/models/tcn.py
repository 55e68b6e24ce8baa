"""A temporal convolutional network: at each place of a text an output, from what came up to there."""

from __future__ import annotations

from typing import Any

from .. import backend, options
from ..errors import DataError
from ._blocks import Count, Share, bn_relu, check_one_input


@options.checked
def tcn(
    input_shape: tuple[int, ...],
    num_classes: int,
    *,
    width: Count = 128,
    blocks: Count = 5,
    size: Count = 3,
    words: Count = 10_000,
    dropout: Share = 0.1,
) -> Any:
    """For the task `generation`: logits (length, num_classes), at each place from what stands up to there.

    `blocks` times a causal convolution whose places lie 1, 2, 4, 8, ... apart, and a 1x1 one, each with BatchNorm and ReLU, added to their
    input: the last place sees 1 + (size - 1) (2^blocks - 1) of them, 63 by default (van den Oord et al. 2016, arXiv:1609.03499; Bai et al.
    2018, arXiv:1803.01271). All of it becomes int8.

    Args:
      width: channels. size: of the dilated convolutions, in places.
      words: size of the vocabulary; filled in from the data where it is known.

    x: (length,) indices, such as `tfopt.datasets.text_lines` makes them.

    >>> model = tcn((128,), 60, words=61)
    >>> model.count_params(), tfopt.inspect(model).macs
    (348348, 42926080)
    """
    keras = backend.keras()
    layers = keras.layers
    check_one_input(input_shape, "tcn")
    if len(input_shape) != 1:
        raise DataError(
            f"tcn takes indices of symbols (length,), the examples are {input_shape}; tfopt.datasets.text_lines makes such data"
        )
    inputs = keras.Input(input_shape, dtype="int32", name="input")
    x = layers.Embedding(words, width, name="embedding")(inputs)
    for number in range(1, blocks + 1):
        name = f"block{number}"
        convolution = layers.Conv1D(width, size, padding="causal", dilation_rate=2 ** (number - 1), use_bias=False, name=f"{name}_dilated")
        y = bn_relu(convolution(x), f"{name}_dilated")
        y = bn_relu(layers.Conv1D(width, 1, use_bias=False, name=f"{name}_pointwise")(y), f"{name}_pointwise")
        if dropout:
            y = layers.Dropout(dropout, name=f"{name}_dropout")(y)
        x = layers.Add(name=f"{name}_add")([x, y])
    return keras.Model(inputs, layers.Dense(num_classes, name="logits")(x), name="tcn")
