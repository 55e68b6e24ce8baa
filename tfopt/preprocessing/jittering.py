"""The brightness and colors of training images changed at random, noise, blur and holes: pixels stay where they are, and so do boxes.

Each function takes a batch of images x (n, height, width, channels) of floats in 0..1, channels 1 or 3, their labels y, and an int32 seed
of shape (2,), and returns the changed x, again in 0..1, and the same y. Each image is changed in its own way, which follows from the seed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import Field

from .. import backend, options
from . import _tones
from ._drawing import Amount, Chance, colored, images, integers, split, uniform
from ._tones import Colors

Share = Annotated[float, Field(ge=0, le=1)]
AMOUNT, HUE, CHANCE = 0.2, 0.05, 0.1


@options.checked
def brightness(x: Any, y: Any, seed: Any, *, amount: Share = AMOUNT) -> tuple[Any, Any]:
    """Up to this much added to all values of an image, or taken from them."""
    return recolored(x, y, seed, [("brightness", {"amount": amount})])


@options.checked
def contrast(x: Any, y: Any, seed: Any, *, amount: Share = AMOUNT) -> tuple[Any, Any]:
    """The distances from an image's mean brightness times 1 - `amount` to 1 + `amount`."""
    return recolored(x, y, seed, [("contrast", {"amount": amount})])


@options.checked
def saturation(x: Any, y: Any, seed: Any, *, amount: Share = AMOUNT) -> tuple[Any, Any]:
    """The colors made weaker or stronger: the distances from gray times 1 - `amount` to 1 + `amount`. Images of one channel stay."""
    return recolored(x, y, seed, [("saturation", {"amount": amount})])


@options.checked
def hue(x: Any, y: Any, seed: Any, *, amount: Annotated[float, Field(ge=0, le=0.5)] = HUE) -> tuple[Any, Any]:
    """All colors turned by up to this share of the color circle, to either side, the brightness kept. Images of one channel stay.

    The circle is that of the YIQ colors, in which a turn is one matrix; that of HSV, as `tf.image.adjust_hue` has it, takes ten times as
    long, and does not keep the brightness.
    """
    return recolored(x, y, seed, [("hue", {"amount": amount})])


@options.checked
def grayscale(x: Any, y: Any, seed: Any, *, chance: Chance = CHANCE) -> tuple[Any, Any]:
    """Each image, with this chance, without its colors, in three channels as before. Images of one channel stay."""
    return recolored(x, y, seed, [("grayscale", {"chance": chance})])


def _brightened(colors: Colors, number: Any, *, amount: float = AMOUNT) -> Colors:
    return colors.scaled(1.0, _between(number, -amount, amount))


def _contrasted(colors: Colors, number: Any, *, amount: float = AMOUNT) -> Colors:
    return colors.contrasted(_between(number, 1 - amount, 1 + amount))


def _saturated(colors: Colors, number: Any, *, amount: float = AMOUNT) -> Colors:
    return colors.saturated(_between(number, 1 - amount, 1 + amount))


def _turned(colors: Colors, number: Any, *, amount: float = HUE) -> Colors:
    return colors.turned(_between(number, -2 * math.pi * amount, 2 * math.pi * amount))


def _grayed(colors: Colors, number: Any, *, chance: float = CHANCE) -> Colors:
    return colors.saturated(backend.tensorflow().where(number < chance, 0.0, 1.0))


def _rescaled(colors: Colors, number: Any, *, scale: float = 1 / 255, offset: float = 0.0) -> Colors:
    return colors.scaled(scale, offset)


def _between(number: Any, low: float, high: float) -> Any:
    return low + (high - low) * number


# What changes the colors of an image by a matrix and an offset, as (colors, number, **options) -> colors, by (n,) random numbers in 0..1.
_RECOLORING = {
    "brightness": _brightened,
    "contrast": _contrasted,
    "grayscale": _grayed,
    "hue": _turned,
    "rescale": _rescaled,
    "saturation": _saturated,
}


def are_one(names: Sequence[str]) -> bool:
    """Whether steps of these names are one change of colors: none is cut off at 0 and 1 before a `rescale` that follows."""
    return all(name in _RECOLORING for name in names) and "rescale" not in names[1:]


def recolored(x: Any, y: Any, seed: Any, steps: Sequence[tuple[str, Mapping[str, Any]]]) -> tuple[Any, Any]:
    """The steps (name, options) that are one change of colors, in one operation, cut off at 0 and 1 at its end only."""
    tf = backend.tensorflow()
    names = [name for name, _ in steps]
    if names[0] == "rescale":
        x = tf.cast(images(x, names[1]), tf.float32)
    x = colored(x, names["rescale" in names])
    changing = [(name, options_) for name, options_ in steps if name == "rescale" or not options_ or any(options_.values())]
    if not changing:
        return x, y
    colors = Colors(x)
    drawn = tf.unstack(tf.random.stateless_uniform([len(changing), _count(x)], seed))
    for (name, options_), number in zip(changing, drawn, strict=True):
        colors = _RECOLORING[name](colors, number, **options_)
    return colors.done(), y


@options.checked
def gaussian_noise(x: Any, y: Any, seed: Any, *, std: Amount = 0.05) -> tuple[Any, Any]:
    """A normally distributed number of this standard deviation added to each value."""
    x = colored(x, "gaussian_noise")
    if not std:
        return x, y
    tf = backend.tensorflow()
    return _tones.cut(x + tf.random.stateless_normal(tf.shape(x), seed, stddev=std)), y


@options.checked
def gaussian_blur(x: Any, y: Any, seed: Any, *, sigma: Amount = 1.0) -> tuple[Any, Any]:
    """Each image smoothed with a Gaussian of a standard deviation from 0 to `sigma` pixels."""
    x = colored(x, "gaussian_blur")
    if not sigma:
        return x, y
    return _tones.blurred(x, uniform(seed, _count(x), 0.0, sigma)), y


@options.checked
def cutout(x: Any, y: Any, seed: Any, *, size: Annotated[int, Field(ge=0)]) -> tuple[Any, Any]:
    """A black square somewhere in each image: its middle is at any pixel, and what is outside of the image is cut off.

    DeVries & Taylor 2017, arXiv:1708.04552, who take 16 pixels for CIFAR-10's 32x32, and 8 for CIFAR-100's.

    size: side of the square in pixels.
    """
    tf = backend.tensorflow()
    x = images(x, "cutout")
    if not size:
        return x, y
    height, width, channels = x.shape[1:]
    tops, lefts = (integers(one, _count(x), 0, length) - size // 2 for one, length in zip(split(seed), (height, width), strict=True))
    # As rows of height * channels values: half the time of four axes.
    rows, columns = tf.range(height), tf.range(width * channels) // channels
    in_rows = (rows >= tops[:, tf.newaxis]) & (rows < tops[:, tf.newaxis] + size)
    in_columns = (columns >= lefts[:, tf.newaxis]) & (columns < lefts[:, tf.newaxis] + size)
    stays = tf.cast(~(in_rows[:, :, tf.newaxis] & in_columns[:, tf.newaxis]), x.dtype)
    return _tones.like(tf.reshape(x, [-1, height, width * channels]) * stays, x), y


def _count(x: Any) -> Any:
    return backend.tensorflow().shape(x)[0]
