"""The vision transformer, small."""

from __future__ import annotations

from typing import Any

from .. import backend, options
from ..errors import DataError
from ._blocks import Activation, Count, Share, encoded, head, image_input


@options.checked
def vit(
    input_shape: tuple[int, ...],
    num_classes: int,
    *,
    patch: Count = 4,
    depth: Count = 4,
    width: Count = 96,
    heads: Count = 3,
    hidden: Count = 192,
    dropout: Share = 0.0,
    activation: Activation = "softmax",
) -> Any:
    """Patches of `patch` x `patch` pixels as vectors of `width` numbers, `depth` blocks of a transformer's encoder, and a Dense on their
    average (Dosovitskiy et al. 2021, arXiv:2010.11929; the average, and the place of a patch as in `transformer`, instead of a class token
    and a table).

    Raises:
      DataError: the images are no whole number of patches wide and high.

    >>> model = vit((32, 32, 3), 10)
    >>> model.count_params(), tfopt.inspect(model).macs
    (305962, 22371264)
    """
    keras = backend.keras()
    layers = keras.layers
    inputs = image_input(input_shape, "vit")
    if input_shape[0] % patch or input_shape[1] % patch:
        sides = f"{input_shape[0]}x{input_shape[1]}"
        raise DataError(f"vit: images of {sides} are no whole patches of {patch}x{patch}; change patch, or the size")
    x = layers.Conv2D(width, patch, strides=patch, name="patches")(inputs)
    x = layers.Add(name="placed")([x, layers.DepthwiseConv2D(3, padding="same", name="places")(x)])
    x = layers.Reshape((x.shape[1] * x.shape[2], width), name="sequence")(x)
    for number in range(1, depth + 1):
        x = encoded(x, heads, hidden, dropout, name=f"block{number}")
    x = layers.GlobalAveragePooling1D(name="average")(layers.LayerNormalization(name="norm")(x))
    return keras.Model(inputs, head(x, num_classes, activation), name="vit")
