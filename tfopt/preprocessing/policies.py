"""Several random operations one after the other, for images of floats in 0..1 with one channel or three: RandAugment and AugMix."""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import Field

from .. import backend, options
from ..errors import DataError
from . import _tones
from ._drawing import colored, integers, split, uniform
from ._geometry import is_mask
from ._operations import GEOMETRIC, TONAL, one_each

_RAND_AUGMENT = ("identity", *GEOMETRIC, *TONAL)
# Not what AugMix's robustness is tested with: changes of color, contrast, brightness and sharpness are left out.
_AUG_MIX = (*GEOMETRIC, "autocontrast", "equalize", "posterize", "solarize")
_LONGEST = 3


@options.checked
def rand_augment(
    x: Any, y: Any, seed: Any, *, operations: Annotated[int, Field(ge=0)] = 2, magnitude: Annotated[float, Field(ge=0, le=30)] = 9.0
) -> tuple[Any, Any]:
    """Each image changed by so many operations, each drawn for itself from 14, all equally strong.

    Cubuk et al. 2020, arXiv:1909.13719. The operations: identity, rotate, shear and translate (across; down), autocontrast, brightness,
    color, contrast, equalize, posterize, sharpness, solarize. Boxes and masks are moved along.

    magnitude: of 30, at which an image is turned by 30 degrees, sheared by 0.3, moved by 45 % of its side; brightness, color, contrast and
    sharpness are changed by 90 %, posterize keeps 4 bits, and solarize inverts everything. 0 changes nothing.
    """
    tf = backend.tensorflow()
    x = colored(x, "rand_augment")
    if not operations or not magnitude:
        return x, y
    strength = tf.fill([tf.shape(x)[0]], magnitude / 30)
    for one in split(seed, operations):
        x, y = one_each(x, y, one, _RAND_AUGMENT, strength, move=0.45)
    return x, y


@options.checked
def aug_mix(
    x: Any, y: Any, seed: Any, *, severity: Annotated[float, Field(ge=0, le=10)] = 3.0, width: Annotated[int, Field(ge=1)] = 3
) -> tuple[Any, Any]:
    """Each image mixed with a mixture of `width` versions of it, each changed by a chain of one to three operations.

    Hendrycks et al. 2020, arXiv:1912.02781, without its loss: the weights of the versions from Dirichlet(1, ..., 1), that of the image
    from Beta(1, 1). The operations: rotate, shear and translate (across; down), autocontrast, equalize, posterize, solarize.

    severity: an operation's strength is drawn from 0 to this, of 10, at which an image is turned by 30 degrees, sheared by 0.3, moved by a
    third of its side; posterize goes from 4 bits to none, and solarize inverts everything. 0 changes nothing.

    Raises:
      DataError: the examples have boxes or masks, which can't be mixed.
    """
    tf = backend.tensorflow()
    x = colored(x, "aug_mix")
    if isinstance(y, dict) or is_mask(y):
        what = "boxes in it" if isinstance(y, dict) else "mask of it"
        raise DataError(f"aug_mix: mixes versions of an image, and of the {what} there is no mixture; leave it out of preprocess")
    if not severity:
        return x, y
    count, seeds = tf.shape(x)[0], split(seed, 3 + 2 * _LONGEST)
    versions = tf.ensure_shape(tf.tile(x, [width, 1, 1, 1]), [x.shape[0] and x.shape[0] * width, *x.shape[1:]])
    lengths = integers(seeds[0], count * width, 1, _LONGEST + 1)
    for step in range(_LONGEST):
        strength = uniform(seeds[3 + 2 * step], count * width, 0.0, severity / 10)
        where = lengths > step
        versions, _ = one_each(versions, None, seeds[4 + 2 * step], _AUG_MIX, strength, move=1 / 3, bits=4, where=where)
    weights = -tf.math.log(1 - tf.random.stateless_uniform([width, count], seeds[1]))  # Dirichlet(1, ...) is exponentials by their sum
    weights = weights / tf.reduce_sum(weights, 0) * (1 - uniform(seeds[2], count))  # Beta(1, 1) is even
    versions = tf.reshape(versions, [width, count, math.prod(x.shape[1:])])
    mixed = _tones.flat(x) * (1 - tf.reduce_sum(weights, 0))[:, tf.newaxis] + tf.reduce_sum(versions * weights[:, :, tf.newaxis], 0)
    return _tones.cut(_tones.like(mixed, x)), y
