"""The transformer's encoder, for texts, series and features of sound."""

from __future__ import annotations

from typing import Any

from .. import backend, options
from ._blocks import Activation, Count, Share, encoded, head, sequence


@options.checked
def transformer(
    input_shape: tuple[int, ...],
    num_classes: int,
    *,
    depth: Count = 2,
    width: Count = 64,
    heads: Count = 4,
    hidden: Count = 128,
    words: Count = 10_000,
    dropout: Share = 0.1,
    activation: Activation = "softmax",
) -> Any:
    """`depth` blocks of self-attention and two Dense layers, each with a LayerNorm before it and its input added behind it (Vaswani et al.
    2017, arXiv:1706.03762, in the order of Xiong et al. 2020, arXiv:2002.04745), then the average over all places and a Dense.

    Where something stands is told by a depthwise convolution that is added to the input (Chu et al. 2021, arXiv:2102.10882), which needs no
    table of places.

    Args:
      width: numbers at each place. heads: of attention, of `width / heads` numbers each. hidden: units of the first Dense of a block.
      words: size of the vocabulary; filled in from the data where it is known.

    >>> model = transformer((40,), 6, words=1000)
    >>> model.count_params(), tfopt.inspect(model).macs
    (131718, 3039104)
    """
    keras = backend.keras()
    layers = keras.layers
    inputs, x = sequence(input_shape, "transformer", words, width)
    if len(input_shape) > 1:
        x = layers.Dense(width, name="project")(x)
    x = layers.Add(name="placed")([x, layers.DepthwiseConv1D(3, padding="same", name="places")(x)])
    for number in range(1, depth + 1):
        x = encoded(x, heads, hidden, dropout, name=f"block{number}")
    x = layers.GlobalAveragePooling1D(name="average")(layers.LayerNormalization(name="norm")(x))
    return keras.Model(inputs, head(x, num_classes, activation), name="transformer")
