"""Random changes to training images that leave their class as it is.

Each function takes a batch of images x (n, height, width, channels), float32 in 0..1, its labels y, and an int32 seed of shape (2,) as
`tf.random.stateless_*` do, and returns the changed x and y: the same batch and seed give the same result, whatever ran before and in
whatever order. Each image is changed in its own way. Shapes and dtypes are kept. A seed is for one function only; `split` makes several
of one.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from .. import backend, options


def split(seed: Any, count: int = 2) -> list[Any]:
    """`count` seeds, independent of each other, from one."""
    tf = backend.tensorflow()
    return tf.unstack(tf.random.experimental.stateless_split(seed, count))


@options.checked
def random_flip(x: Any, y: Any, seed: Any) -> tuple[Any, Any]:
    """Each image, or with an even chance its mirror image (left and right exchanged)."""
    tf = backend.tensorflow()
    mirrored = tf.random.stateless_uniform([tf.shape(x)[0], 1, 1, 1], seed) < 0.5
    return tf.where(mirrored, tf.reverse(x, [2]), x), y


@options.checked
def pad_and_crop(x: Any, y: Any, seed: Any, *, padding: Annotated[int, Field(ge=1)] = 4) -> tuple[Any, Any]:
    """Each image moved by up to `padding` pixels up or down and left or right, black where nothing is left of it.

    All (2 * padding + 1)**2 places are equally likely. With 4 pixels on 32x32 images, and `random_flip`, this is the customary
    augmentation of CIFAR-10 (He et al. 2016, arXiv:1512.03385, section 4.2).
    """
    tf = backend.tensorflow()
    x = tf.convert_to_tensor(x)
    count, (height, width) = tf.shape(x)[0], x.shape[1:3]
    padded = tf.pad(x, [[0, 0], [padding, padding], [padding, padding], [0, 0]])
    top, left = tf.unstack(tf.random.stateless_uniform([2, count], seed, 0, 2 * padding + 1, dtype=tf.int32))
    # Rows, then columns: one gather of whole rows each, where a gather of pixels by both indices takes four times as long.
    rows = tf.gather(padded, top[:, tf.newaxis] + tf.range(height), axis=1, batch_dims=1)
    columns = tf.gather(tf.transpose(rows, [0, 2, 1, 3]), left[:, tf.newaxis] + tf.range(width), axis=1, batch_dims=1)
    return tf.ensure_shape(tf.transpose(columns, [0, 2, 1, 3]), x.shape), y
