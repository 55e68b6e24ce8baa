"""Brightness and colors changed, by numbers of which each image of a batch has its own.

Images are (n, height, width, channels) of floats in 0..1, channels 1 or 3, and so are the results.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import backend
from ._drawing import per_image

LUMA = np.array([0.299, 0.587, 0.114], np.float32)
# RGB to luma and two color differences: YIQ. A turn of the two is a turn of the hue that keeps the luma.
_YIQ = np.array([LUMA, [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]], np.float64)
# A turn as matrices for RGB, a pixel being a row: the first, plus the cosine times the second, plus the sine times the third.
_TURN = [
    (_YIQ.T @ np.array(turn) @ np.linalg.inv(_YIQ.T)).astype(np.float32)
    for turn in ([[1, 0, 0], [0, 0, 0], [0, 0, 0]], [[0, 0, 0], [0, 1, 0], [0, 0, 1]], [[0, 0, 0], [0, 0, 1], [0, -1, 0]])
]
_LEVELS = 256
_TOGETHER = 8  # pixels: with 1 it takes twice the time, with 16 a third more


def cut(x: Any) -> Any:
    """What is outside of 0..1 becomes 0 or 1."""
    return backend.tensorflow().clip_by_value(x, 0.0, 1.0)


def flat(x: Any) -> Any:
    """(n, values): what is multiplied by one number an image is quicker by half in this shape."""
    return backend.tensorflow().reshape(x, [-1, math.prod(x.shape[1:])])


def like(new: Any, x: Any) -> Any:
    """`new` in the shape of x."""
    tf = backend.tensorflow()
    return tf.ensure_shape(tf.reshape(new, [-1, *x.shape[1:]]), x.shape)


class Colors:
    """Changes of the brightness, contrast and colors of a batch, gathered and then done at once: factor * (x @ matrix) + offset.

    Each image has numbers of its own, and a gray offset. One pass over the pixels, and one cut at 0 and 1, take a third of the time that
    brightness, contrast, saturation and hue take one after the other. Gray images have no colors that could be changed.
    """

    def __init__(self, x: Any):
        self.x, self.matrix, self.factor, self.offset = x, None, 1.0, 0.0

    def scaled(self, factor: Any, offset: Any = 0.0) -> Colors:
        """All values times a factor, and an offset added: a number or (n,) each."""
        self.factor, self.offset = self.factor * factor, self.offset * factor + offset
        return self

    def contrasted(self, factor: Any) -> Colors:
        """The distances from the image's mean luma times (n,) factors."""
        return self.scaled(factor, self._luma() * (1 - factor))

    def saturated(self, factor: Any) -> Colors:
        """0 makes an image gray, 1 leaves it, more makes it colorful."""
        gray, factor = np.repeat(LUMA[:, np.newaxis], 3, axis=1), per_image(factor, 3)
        return self._multiplied(factor * np.eye(3, dtype=np.float32) + (1 - factor) * gray)

    def turned(self, angle: Any) -> Colors:
        """All hues turned by (n,) radians, luma kept."""
        tf = backend.tensorflow()
        angle, (still, in_phase, across) = per_image(angle, 3), _TURN
        return self._multiplied(still + tf.cos(angle) * in_phase + tf.sin(angle) * across)

    def done(self) -> Any:
        """The changed images, float32."""
        tf = backend.tensorflow()
        x = tf.cast(self.x, tf.float32)
        new = flat(x) * per_image(self.factor, 2) if self.matrix is None else _recolored(x, self.matrix * per_image(self.factor, 3))
        return cut(like(flat(new) + per_image(self.offset, 2), x))

    def _multiplied(self, matrix: Any) -> Colors:
        if self.x.shape[-1] == 3:  # gray stays gray in all of them, and so does the offset
            self.matrix = matrix if self.matrix is None else self.matrix @ matrix
        return self

    def _luma(self) -> Any:
        """(n,) mean luma of the images as they are by now."""
        tf = backend.tensorflow()
        height, width, channels = self.x.shape[1:]
        rows = tf.reshape(tf.cast(self.x, tf.float32), [-1, height, width * channels])
        rows = tf.reduce_mean(rows, 1)  # the long axis first: five times as quick
        means = tf.reduce_mean(tf.reshape(rows, [-1, width, channels]), 1)
        means = means if self.matrix is None else tf.linalg.matvec(self.matrix, means, transpose_a=True)
        return tf.linalg.matvec(means, LUMA if channels == 3 else np.ones(1, np.float32)) * self.factor + self.offset


def _recolored(x: Any, matrices: Any) -> Any:
    """RGB images times matrices (n, 3, 3), a pixel being a row; several pixels in a row, since matrices so narrow are multiplied slowly."""
    tf = backend.tensorflow()
    pixels = x.shape[1] * x.shape[2]
    together = math.gcd(pixels, _TOGETHER)
    blocks = np.eye(together, dtype=np.float32)[:, np.newaxis, :, np.newaxis] * matrices[:, np.newaxis, :, np.newaxis, :]
    return tf.matmul(tf.reshape(x, [-1, pixels // together, 3 * together]), tf.reshape(blocks, [-1, 3 * together, 3 * together]))


def sharpened(x: Any, factor: Any) -> Any:
    """0 blurs an image a little, 1 leaves it, more sharpens it. Its outermost pixels stay (as with Pillow)."""
    tf = backend.tensorflow()
    if min(x.shape[1:3]) < 3:
        return x
    # Sums, since a depthwise convolution of no images at all, as a group may be, comes out in a wrong shape.
    rows = x[:, :-2] + x[:, 1:-1] + x[:, 2:]
    smooth = (rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:] + 4 * x[:, 1:-1, 1:-1]) / 13
    change = tf.pad(x[:, 1:-1, 1:-1] - smooth, [[0, 0], [1, 1], [1, 1], [0, 0]])
    return cut(like(flat(x) + flat(change) * per_image(factor - 1, 2), x))


def solarized(x: Any, threshold: Any) -> Any:
    """What is at least as bright as the threshold is turned into its negative."""
    tf = backend.tensorflow()
    values = flat(x)
    return like(tf.where(values >= per_image(threshold, 2), 1 - values, values), x)


def posterized(x: Any, bits: Any) -> Any:
    """Only so many bits of the 8 of each value kept; (n,) whole numbers as floats."""
    tf = backend.tensorflow()
    step = per_image(2.0 ** (8 - bits), 2)
    return like(tf.floor(tf.floor(flat(x) * (_LEVELS - 1) + 0.5) / step) * step / (_LEVELS - 1), x)


def stretched(x: Any) -> Any:
    """Each channel of each image brought to the range from 0 to 1; one of a single value stays (autocontrast)."""
    tf = backend.tensorflow()
    height, width, channels = x.shape[1:]
    rows = tf.reshape(x, [-1, height, width * channels])  # the long axis first, as above
    low, high = (
        tf.tile(reduce(tf.reshape(reduce(rows, 1), [-1, width, channels]), 1), [1, width])[:, tf.newaxis]
        for reduce in (tf.reduce_min, tf.reduce_max)
    )
    several = high > low
    scale, low = tf.where(several, tf.math.divide_no_nan(1.0, high - low), 1.0), tf.where(several, low, 0.0)
    return cut(like((rows - low) * scale, x))


def equalized(x: Any) -> Any:
    """Each channel of each image with its 256 levels about equally frequent; one of a single value stays."""
    tf = backend.tensorflow()
    height, width, channels = x.shape[1:]
    histograms = tf.shape(x)[0] * channels
    own = tf.reshape(tf.range(histograms) * _LEVELS, [-1, 1, 1, channels])  # where the histogram of each channel begins
    levels = tf.cast(cut(x) * (_LEVELS - 1) + 0.5, tf.int32) + own
    size = histograms * _LEVELS
    counts = tf.math.bincount(tf.reshape(levels, [-1]), minlength=size, maxlength=size, dtype=tf.float32)
    counts = tf.reshape(counts, [-1, _LEVELS])
    top = tf.reduce_max(tf.where(counts > 0, tf.range(_LEVELS), 0), 1)
    others = height * width - tf.gather(counts, top, batch_dims=1)[:, tf.newaxis]  # pixels below the brightest level
    new = tf.where(others > 0, tf.cumsum(counts, 1, exclusive=True) / others, tf.range(_LEVELS, dtype=tf.float32) / (_LEVELS - 1))
    return like(tf.gather(tf.reshape(new, [-1]), levels), x)


def blurred(x: Any, sigma: Any) -> Any:
    """Each image smoothed with a Gaussian of its own standard deviation in pixels: rows and columns times a matrix of weights."""
    tf = backend.tensorflow()
    height, width, channels = x.shape[1:]
    new = tf.matmul(_weights(height, sigma), tf.reshape(x, [-1, height, width * channels]))
    new = tf.transpose(tf.reshape(new, [-1, height, width, channels]), [0, 2, 1, 3])
    new = tf.matmul(_weights(width, sigma), tf.reshape(new, [-1, width, height * channels]))
    return cut(like(tf.transpose(tf.reshape(new, [-1, width, height, channels]), [0, 2, 1, 3]), x))


def _weights(length: int, sigma: Any) -> Any:
    """(n, length, length): how much each place takes of each; at the edges only what is there counts."""
    tf = backend.tensorflow()
    distance = np.subtract.outer(np.arange(length), np.arange(length)).astype(np.float32)
    weights = tf.exp(-0.5 * tf.square(distance / tf.maximum(per_image(sigma, 3), 1e-3)))
    return weights / tf.reduce_sum(weights, 2, keepdims=True)
