"""U-Net: a class for each pixel."""

from __future__ import annotations

from typing import Any

from .. import backend, options
from ._blocks import Activation, Count, conv_bn_relu, enlarged, halving, image_input, pixel_head


@options.checked
def unet(
    input_shape: tuple[int, ...],
    num_classes: int,
    *,
    width: Count = 16,
    depth: Count = 4,
    activation: Activation = "softmax",
) -> Any:
    """U-Net (Ronneberger et al. 2015, arXiv:1505.04597): down to coarse maps of many channels, and up again, with the fine maps of the way
    down beside those of the way up. (height, width, channels) -> (height, width, num_classes).

    On each level two convolutions of 3 with BatchNorm and ReLU; between levels the size is halved by maxima, and doubled by nearest
    neighbours and a convolution. Convolutions pad with zeros, so that the output has the size of the input; a size that is odd is cropped
    to on the way up. With `width=64` the channels are the paper's.

    Args:
      width: channels of the first level; each next one has twice as many.
      depth: how often the picture is halved.

    >>> model = unet((128, 160, 3), 4, width=8)
    >>> model.count_params(), tfopt.inspect(model).macs
    (542812, 323584000)
    """
    layers = backend.keras().layers
    inputs = x = image_input(input_shape, "unet")
    skips = []
    for level in range(depth):
        x = _two(x, width * 2**level, f"down{level + 1}")
        skips.append(x)
        x = layers.MaxPooling2D(halving(tuple(x.shape[1:3])), padding="same", name=f"down{level + 1}_pool")(x)
    x = _two(x, width * 2**depth, "bottom")
    for level in reversed(range(depth)):
        name = f"up{level + 1}"
        x = enlarged(x, tuple(skips[level].shape[1:3]), name)
        x = conv_bn_relu(x, width * 2**level, name=f"{name}_conv")
        x = layers.Concatenate(name=f"{name}_concat")([skips[level], x])
        x = _two(x, width * 2**level, name)
    return backend.keras().Model(inputs, pixel_head(x, num_classes, activation), name="unet")


def _two(x: Any, channels: int, name: str) -> Any:
    for number in (1, 2):
        x = conv_bn_relu(x, channels, name=f"{name}_conv{number}")
    return x
