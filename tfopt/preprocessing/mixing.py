"""Training examples mixed with others of their batch, and their labels with them.

A class index becomes the classes' shares, float32 (n, classes), which training takes as it takes indices; labels that are shares already,
or numbers to be learnt (float32), are mixed as they are. How many classes there are, a data set's `preprocess` fills in.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from .. import backend, options
from ..errors import DataError
from . import _tones
from ._drawing import Amount, colored, happens, images, integers, per_image, split
from ._geometry import is_mask

Classes = Annotated[int, Field(ge=1)] | None


@options.checked
def mixup(x: Any, y: Any, seed: Any, *, alpha: Amount = 0.2, classes: Classes = None) -> tuple[Any, Any]:
    """Each image and its label as a weighted mean with another's: `weight * x + (1 - weight) * x_other`.

    The weight is drawn from Beta(alpha, alpha) (Zhang et al. 2018, arXiv:1710.09412): the smaller `alpha` is, the more often it is close to
    0 or 1; 0 mixes nothing.

    classes: how many there are; filled in.

    Raises:
      DataError: the examples have boxes or masks, or `classes` is missing.
    """
    x, y = colored(x, "mixup"), _labels(y, classes, "mixup")
    if not alpha:
        return x, y
    tf = backend.tensorflow()
    weights, partners = split(seed)
    weight, other = _beta(weights, tf.shape(x)[0], alpha), _partners(partners, x)
    return _mean(x, tf.gather(x, other), weight), _mean(y, tf.gather(y, other), weight)


@options.checked
def cutmix(x: Any, y: Any, seed: Any, *, alpha: Amount = 1.0, classes: Classes = None) -> tuple[Any, Any]:
    """A rectangle of each image replaced by what another has there; the label is mixed by the shares of the area.

    The share that stays is drawn from Beta(alpha, alpha), and the rectangle's middle is at any pixel (Yun et al. 2019, arXiv:1905.04899);
    what is outside of the image is cut off before the area is taken. `alpha` = 0 mixes nothing.

    classes: how many there are; filled in.

    Raises:
      DataError: the examples have boxes or masks, or `classes` is missing.
    """
    x, y = images(x, "cutmix"), _labels(y, classes, "cutmix")
    if not alpha:
        return x, y
    tf = backend.tensorflow()
    count, (height, width, channels), seeds = tf.shape(x)[0], x.shape[1:], split(seed, 4)
    side, other = tf.sqrt(1 - _beta(seeds[0], count, alpha)), _partners(seeds[1], x)
    rows, columns = (_stretch(one, side, length) for one, length in zip(seeds[2:], (height, width), strict=True))
    stays = 1 - tf.reduce_sum(rows, 1) * tf.reduce_sum(columns, 1) / (height * width)
    hole = rows[:, :, tf.newaxis] * tf.repeat(columns, channels, 1)[:, tf.newaxis]
    old, new = (tf.reshape(one, [-1, height, width * channels]) for one in (x, tf.gather(x, other)))
    hole = tf.cast(hole, x.dtype)
    return _tones.like(old * (1 - hole) + new * hole, x), _mean(y, tf.gather(y, other), stays)


def _stretch(seed: Any, share: Any, length: int) -> Any:
    """(n, length) of 1 where a stretch of (n,) shares of the length, cut off at both ends, covers a pixel, and 0 elsewhere."""
    tf = backend.tensorflow()
    size = tf.cast(share * length, tf.int32)
    start = (integers(seed, tf.shape(share)[0], 0, length) - size // 2)[:, tf.newaxis]
    at = tf.range(length)
    return tf.cast((at >= start) & (at < start + size[:, tf.newaxis]), tf.float32)


def _beta(seed: Any, count: Any, alpha: float) -> Any:
    """(count,) float32 from Beta(alpha, alpha)."""
    tf = backend.tensorflow()
    drawn, either = split(seed)
    one, other = tf.unstack(tf.random.stateless_gamma([2, count], drawn, tf.constant(alpha, tf.float64), dtype=tf.float64))
    # Of a small alpha both are often too small for a number, and equal then. Their share would be 0 or 1, evenly.
    share = tf.where(one == other, tf.cast(happens(either, count, 0.5), tf.float64), one / (one + other))
    return tf.cast(share, tf.float32)


def _partners(seed: Any, x: Any) -> Any:
    """Which other each image is mixed with: a permutation of the batch."""
    tf = backend.tensorflow()
    return tf.random.experimental.stateless_shuffle(tf.range(tf.shape(x)[0]), seed)


def _mean(one: Any, other: Any, weight: Any) -> Any:
    tf = backend.tensorflow()
    if one.shape.rank == 1:
        return one * weight + other * (1 - weight)
    weight = per_image(weight, 2)
    mixed = _tones.flat(one) * weight + _tones.flat(other) * (1 - weight)
    return tf.ensure_shape(tf.reshape(mixed, tf.shape(one)), one.shape)


def _is_sequence(y: Any) -> bool:
    return len(y.shape) == 2 and backend.tensorflow().as_dtype(y.dtype).is_integer


def _labels(y: Any, classes: int | None, step: str) -> Any:
    tf = backend.tensorflow()
    have = "boxes" if isinstance(y, dict) else "masks" if is_mask(y) else "sequences of symbols" if _is_sequence(y) else None
    if have is not None:
        raise DataError(f"{step}: mixes the labels of whole examples, and these have {have}; leave it out of preprocess")
    y = tf.convert_to_tensor(y)
    if y.dtype.is_floating:
        return y
    if classes is None:
        raise DataError(f"{step}: classes, their number, is not given; a data set's preprocess fills it in")
    return tf.one_hot(y, classes)
