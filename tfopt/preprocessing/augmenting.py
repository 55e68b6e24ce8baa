"""Training images moved, cut, turned and stretched at random, in ways that leave their class as it is.

Each function takes a batch of images x (n, height, width, channels), their labels y, and an int32 seed of shape (2,) as
`tf.random.stateless_*` do, and returns the changed x and y: the same batch and seed give the same result, whatever ran before and in
whatever order. Each image is changed in its own way. Dtypes are kept, and shapes, where no `size` is given. What comes from outside of an
image is black. A seed is for one function only.

The labels y are given back as they are. For detection, y = {"boxes": (n, m, 4), "labels": (n, m)}, the boxes are moved along: each becomes
the upright hull of what is left of it inside the image, and goes where that is less than a fifth of its area. For segmentation, y = masks
(n, height, width) of class indices, these are moved along: each pixel takes the class of the nearest one, and -1, which does not count,
where nothing was.

`random_crop` and `resized_crop` with a `size` make other shapes, and what is not augmented needs them, too: `center_crop` of the same size
behind them takes the middle of it, and of a training example, which has that size already, everything.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from .. import backend, options
from ..errors import DataError
from ._drawing import Amount, Range, Shares, Side, Size, images, split, uniform
from ._geometry import Moves, by_whole_pixels, labels_moved, slanted, stretched, turned, upright

PADDING = 4


@options.checked
def random_flip(x: Any, y: Any, seed: Any, *, vertical: bool = False) -> tuple[Any, Any]:
    """Each image, or with an even chance its mirror image (left and right exchanged).

    vertical: also up and down exchanged, with an even chance of its own.
    """
    return moved(x, y, seed, [("random_flip", {"vertical": vertical})])


def _flips(numbers: Any, shape: Any, *, vertical: bool = False) -> tuple[Moves, tuple[int, int]]:
    tf = backend.tensorflow()
    return Moves(tf.where(numbers < [0.5 if vertical else 0.0, 0.5], -1.0, 1.0), tf.zeros_like(numbers)), tuple(shape)


@options.checked
def pad_and_crop(x: Any, y: Any, seed: Any, *, padding: Annotated[int, Field(ge=0)] = PADDING) -> tuple[Any, Any]:
    """Each image moved by up to `padding` pixels up or down and left or right.

    All (2 * padding + 1)**2 places are equally likely. With 4 pixels on 32x32 images, and `random_flip`, this is the customary
    augmentation of CIFAR-10 (He et al. 2016, arXiv:1512.03385, section 4.2).
    """
    return moved(x, y, seed, [("pad_and_crop", {"padding": padding})])


def _shifts(numbers: Any, shape: Any, *, padding: int = PADDING) -> tuple[Moves, tuple[int, int]]:
    return Moves(1.0, backend.tensorflow().floor(numbers * (2 * padding + 1)) - padding), tuple(shape)


@options.checked
def random_crop(x: Any, y: Any, seed: Any, *, size: Size) -> tuple[Any, Any]:
    """A piece of each image, at a place of its own, all equally likely. Put `center_crop` of the same size behind it.

    size: of the piece in pixels: its side, or its height and width.

    >>> datasets.image_folder(path="photos", size=40, preprocess=[{"use": "random_crop", "size": 32}, {"use": "center_crop", "size": 32}])

    Raises:
      DataError: the images are smaller.
    """
    return moved(x, y, seed, [("random_crop", {"size": size})])


def _pieces(numbers: Any, shape: Any, *, size: int | list[int]) -> tuple[Moves, tuple[int, int]]:
    size = sides(size, shape, "random_crop")
    free = np.subtract(shape, size).astype(np.float32)
    return Moves(1.0, backend.tensorflow().floor(numbers * (free + 1)) - free / 2), size


def sides(size: int | list[int], shape: Any, step: str) -> tuple[int, int]:
    """Height and width of a piece of images of this shape.

    Raises:
      DataError: they are smaller.
    """
    height, width = (size, size) if isinstance(size, int) else size
    if height > shape[0] or width > shape[1]:
        raise DataError(f"{step}: size = {size} is larger than the images of {shape[0]}x{shape[1]}; give a smaller one")
    return height, width


@options.checked
def center_crop(x: Any, *, size: Size) -> Any:
    """The middle of each image. A preparation: the app has to cut its images, too.

    size: of the piece in pixels: its side, or its height and width.

    Raises:
      DataError: the images are smaller.
    """
    x = images(x, "center_crop")
    height, width = sides(size, x.shape[1:], "center_crop")
    top, left = (x.shape[1] - height) // 2, (x.shape[2] - width) // 2
    return x[:, top : top + height, left : left + width]


def labels_of_middle(x: Any, y: Any, *, size: int | list[int]) -> Any:
    """The boxes or masks y of the images x, moved along as `center_crop` cuts them; any other y as it is."""
    tf = backend.tensorflow()
    old = tuple(x.shape[1:3])
    moves, new = _middles(tf.zeros([tf.shape(x)[0], 2]), old, size=size)
    return labels_moved(y, Moves(1.0, moves.shift).matrices, old, new)


def _middles(numbers: Any, shape: Any, *, size: int | list[int]) -> tuple[Moves, tuple[int, int]]:
    size = sides(size, shape, "center_crop")
    free = np.subtract(shape, size)
    return Moves(1.0, (free // 2 - free / 2).astype(np.float32) + backend.tensorflow().zeros_like(numbers)), size


# What moves whole pixels, as (numbers, shape, **options) -> the moves by (n, 2) random numbers in 0..1, and the new height and width.
_MOVES = {"random_flip": _flips, "pad_and_crop": _shifts, "random_crop": _pieces, "center_crop": _middles}


def are_one(names: Sequence[str]) -> bool:
    """Whether steps of these names are one move of whole pixels: each takes from inside of what the one before left."""
    return all(name in _MOVES for name in names) and "pad_and_crop" not in names[1:]


def moved(x: Any, y: Any, seed: Any, steps: Sequence[tuple[str, Mapping[str, Any]]], *, floats: bool = False) -> tuple[Any, Any]:
    """The steps (name, options) that are one move, in one operation.

    floats: bytes may come out as floats from 0 to 255, where they are wanted next and come cheaper so.
    """
    tf = backend.tensorflow()
    x = images(x, steps[0][0])
    size, moves = tuple(x.shape[1:3]), None
    drawn = tf.random.stateless_uniform([len(steps), tf.shape(x)[0], 2], seed)  # at once: each operation has to be built and optimized
    for (name, options_), numbers in zip(steps, tf.unstack(drawn), strict=True):
        own, size = _MOVES[name](numbers, size, **options_)
        moves = own if moves is None else moves.then(own)
    flips = [options_.get("vertical", False) for name, options_ in steps if name == "random_flip"]
    new = by_whole_pixels(x, moves, size, mirrored=(any(flips), bool(flips)), shifted=len(flips) < len(steps))
    y = labels_moved(y, moves.matrices, tuple(x.shape[1:3]), size) if y is not None else y
    return (new if floats else tf.cast(new, x.dtype)), y


@options.checked
def resized_crop(
    x: Any, y: Any, seed: Any, *, size: Side | None = None, scale: Shares = (0.08, 1.0), ratio: Range = (3 / 4, 4 / 3)
) -> tuple[Any, Any]:
    """A piece of each image, of any place, size and proportions, stretched to the image's own size: Inception's augmentation.

    Szegedy et al. 2015, arXiv:1409.4842, section 6; what is stretched out of the image is cut at its edges.

    size: side of the square that the piece is stretched to instead, in pixels; put `center_crop` of this size behind it.
    scale: least and largest share of the image's area. ratio: least and largest width divided by height.
    """
    tf = backend.tensorflow()
    x = images(x, "resized_crop")
    count, (height, width), seeds = tf.shape(x)[0], x.shape[1:3], split(seed, 4)
    size = (height, width) if size is None else sides(size, x.shape[1:], "resized_crop")
    area = uniform(seeds[0], count, *scale) * (height * width)
    shape = tf.exp(uniform(seeds[1], count, *map(math.log, ratio)))
    lengths = [tf.clip_by_value(tf.sqrt(one), min(2.0, old), old) for one, old in ((area * shape, width), (area / shape, height))]
    moves = [uniform(one, count, -0.5, 0.5) * (old - length) for one, old, length in zip(seeds[2:], (width, height), lengths, strict=True)]
    # From the middle of the piece's first pixel to the middle of its last.
    factors = [(length - 1) / max(new - 1, 1) for length, new in zip(lengths, size[::-1], strict=True)]
    return upright(x, y, stretched(*moves, *factors), size)


@options.checked
def rotation(x: Any, y: Any, seed: Any, *, degrees: Amount = 15.0) -> tuple[Any, Any]:
    """Each image turned about its middle by up to so many degrees, to either side."""
    x = images(x, "rotation")
    if not degrees:
        return x, y
    tf = backend.tensorflow()
    angle = uniform(seed, tf.shape(x)[0], -math.radians(degrees), math.radians(degrees))
    return turned(x, y, slanted(angle, tf.zeros_like(angle), tf.zeros_like(angle)))


@options.checked
def shear(x: Any, y: Any, seed: Any, *, degrees: Annotated[float, Field(ge=0, lt=45)] = 10.0) -> tuple[Any, Any]:
    """Each image slanted by up to so many degrees, to the sides as well as up and down."""
    x = images(x, "shear")
    if not degrees:
        return x, y
    tf = backend.tensorflow()
    across, down = (tf.tan(uniform(one, tf.shape(x)[0], -math.radians(degrees), math.radians(degrees))) for one in split(seed))
    return turned(x, y, slanted(tf.zeros_like(across), across, down))


@options.checked
def translation(x: Any, y: Any, seed: Any, *, share: Annotated[float, Field(ge=0, le=1)] = 0.1) -> tuple[Any, Any]:
    """Each image moved by up to this share of its height up or down, and of its width left or right, parts of pixels included."""
    x = images(x, "translation")
    if not share:
        return x, y
    count = backend.tensorflow().shape(x)[0]
    down, across = (uniform(one, count, -share * length, share * length) for one, length in zip(split(seed), x.shape[1:3], strict=True))
    return upright(x, y, stretched(across, down))


@options.checked
def zoom(x: Any, y: Any, seed: Any, *, share: Annotated[float, Field(ge=0, lt=1)] = 0.2) -> tuple[Any, Any]:
    """Each image enlarged or made smaller about its middle: what fills the image then is 1 - `share` to 1 + `share` times its sides."""
    x = images(x, "zoom")
    if not share:
        return x, y
    factor = uniform(seed, backend.tensorflow().shape(x)[0], 1 - share, 1 + share)
    zero = backend.tensorflow().zeros_like(factor)
    return upright(x, y, stretched(zero, zero, factor, factor))
