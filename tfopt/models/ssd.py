"""SSD: boxes and their classes in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator

from .. import backend, options
from ._blocks import Alpha, Count, conv_bn_relu, depthwise_bn_relu, image_input, rounded

# Channels and stride of MobileNet's blocks, version 1, and of further ones in its manner, and the stride of the maps that go to the heads.
_BLOCKS = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1), (512, 2), (256, 2)]
_MAPS = {5: 8, 11: 16, 13: 32, 14: 64, 15: 128}  # block -> stride
_PRIOR = -4.6  # the logit of 0.01: at first nothing is anywhere, or the many empty anchors would be all of the first steps


def _rising(values: Sequence[int]) -> Sequence[int]:
    if not values or list(values) != sorted(set(values)):
        raise ValueError("should rise, such as [8, 16, 32]")
    return values


Strides = Annotated[
    list[Literal[8, 16, 32, 64, 128]] | tuple[Literal[8, 16, 32, 64, 128], ...], AfterValidator(_rising), "list of 8, 16, ... 128"
]


@options.checked
def ssd(
    input_shape: tuple[int, ...],
    num_classes: int,
    *,
    alpha: Alpha = 0.5,
    strides: Strides = (8, 16, 32),
    anchors: Count = 6,
) -> Any:
    """A single-shot detector (Liu et al. 2016, arXiv:1512.02325) on MobileNet (version 1; Howard et al. 2017, arXiv:1704.04861), with the
    light heads of SSDLite (Sandler et al. 2018, arXiv:1801.04381): (height, width, channels) -> (anchors, 4 + num_classes), offsets and
    logits for each anchor; see `tfopt.tasks.anchors`.

    For each stride a depthwise convolution of 3 and two of 1, for offsets and for logits, on the last map of that stride. It needs no
    activation at its end; `tfopt.tasks.detections` makes boxes of its outputs, and `tfopt.with_detections` puts that into the
    model.

    Args:
      alpha: the number of channels is that of the paper times this, rounded to a multiple of 8.
      strides: how far the places of each map are apart, in pixels; a recipe fills in those of its task, and so it does with
      anchors: how many there are at each place, the task's scales times its ratios.

    >>> model = ssd((240, 320, 3), 3)
    >>> model.count_params(), tfopt.inspect(model).macs
    (878942, 243878400)
    """
    layers = backend.keras().layers
    inputs = image_input(input_shape, "ssd")
    x = conv_bn_relu(inputs, rounded(32 * alpha), name="stem", stride=2)
    found = []
    for number, (channels, stride) in enumerate(_BLOCKS, 1):
        x = depthwise_bn_relu(x, name=f"block{number}_depthwise", stride=stride)
        x = conv_bn_relu(x, rounded(channels * alpha), name=f"block{number}_pointwise", size=1)
        if _MAPS.get(number) in strides:
            found.append(_heads(x, num_classes, anchors, f"stride{_MAPS[number]}"))
        if len(found) == len(strides):
            break
    joined = found[0] if len(found) == 1 else layers.Concatenate(axis=1, name="detections")(found)
    return backend.keras().Model(inputs, joined, name="ssd")


def _heads(x: Any, num_classes: int, anchors: int, name: str) -> Any:
    layers = backend.keras().layers
    prior = backend.keras().initializers.Constant(_PRIOR)
    x = depthwise_bn_relu(x, name=f"{name}_depthwise")
    offsets = layers.Conv2D(4 * anchors, 1, name=f"{name}_offsets")(x)
    logits = layers.Conv2D(num_classes * anchors, 1, bias_initializer=prior, name=f"{name}_logits")(x)
    places = x.shape[1] * x.shape[2] * anchors
    offsets = layers.Reshape((places, 4), name=f"{name}_offsets_of_anchors")(offsets)
    logits = layers.Reshape((places, num_classes), name=f"{name}_logits_of_anchors")(logits)
    return layers.Concatenate(name=f"{name}_outputs")([offsets, logits])
