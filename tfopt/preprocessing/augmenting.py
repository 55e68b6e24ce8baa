"""Random changes to one training image that leave its class as it is.

Each function takes one image of shape (height, width, channels) and a seed of shape (2,), int32, as `tf.random.stateless_*` do:
the same image and seed give the same result, whatever ran before and in whatever order. Shape and dtype are kept. A seed is for
one function only; `split` makes several of one.
"""

from __future__ import annotations

from typing import Any

from .. import backend


def split(seed: Any, count: int = 2) -> list[Any]:
    """`count` seeds, independent of each other, from one.

    >>> first, second = split(seed)
    >>> image = random_flip(pad_and_crop(image, first), second)
    """
    tf = backend.tensorflow()
    return tf.unstack(tf.random.experimental.stateless_split(seed, count))


def random_flip(image: Any, seed: Any) -> Any:
    """The image, or with an even chance its mirror image (left and right exchanged)."""
    tf = backend.tensorflow()
    image = tf.convert_to_tensor(image)
    mirrored = tf.random.stateless_uniform([], seed) < 0.5
    return tf.cond(mirrored, lambda: tf.reverse(image, [1]), lambda: image)


def pad_and_crop(image: Any, seed: Any, *, padding: int = 4) -> Any:
    """The image moved by up to `padding` pixels up or down and left or right, black where nothing is left of it.

    All (2 * padding + 1)**2 places are equally likely. With 4 pixels on 32x32 images, and `random_flip`, this is the customary
    augmentation of CIFAR-10 (He et al. 2016, arXiv:1512.03385, section 4.2).
    """
    tf = backend.tensorflow()
    image = tf.convert_to_tensor(image)
    padded = tf.pad(image, [[padding, padding], [padding, padding], [0, 0]])
    top, left = tf.unstack(tf.random.stateless_uniform([2], seed, 0, 2 * padding + 1, dtype=tf.int32))
    return tf.ensure_shape(tf.slice(padded, [top, left, 0], tf.shape(image)), image.shape)
