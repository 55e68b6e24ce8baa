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
_LEVELS = 256


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


def recolored(x: Any, matrices: Any) -> Any:
    """RGB images times matrices (n, 3, 3), a pixel being a row: a third of the time that sums over the last axis take."""
    tf = backend.tensorflow()
    return cut(like(tf.matmul(tf.reshape(x, [-1, x.shape[1] * x.shape[2], 3]), matrices), x))


def saturated(x: Any, factor: Any) -> Any:
    """0 makes an image gray, 1 leaves it, more makes it colorful. Gray images stay."""
    if x.shape[-1] == 1:
        return x
    gray = np.repeat(LUMA[:, np.newaxis], 3, axis=1)
    factor = per_image(factor, 3)
    return recolored(x, factor * np.eye(3, dtype=np.float32) + (1 - factor) * gray)


def turned(x: Any, angle: Any) -> Any:
    """All hues turned by (n,) radians, luma kept. Gray images stay."""
    if x.shape[-1] == 1:
        return x
    tf = backend.tensorflow()
    cos, sin, zero, one = tf.cos(angle), tf.sin(angle), tf.zeros_like(angle), tf.ones_like(angle)
    turn = tf.reshape(tf.stack([one, zero, zero, zero, cos, sin, zero, -sin, cos], 1), [-1, 3, 3])
    return recolored(x, _YIQ.T.astype(np.float32) @ turn @ np.linalg.inv(_YIQ.T).astype(np.float32))


def brightened(x: Any, amount: Any) -> Any:
    """An amount added."""
    return cut(like(flat(x) + per_image(amount, 2), x))


def scaled(x: Any, factor: Any) -> Any:
    """All values times a factor."""
    return cut(like(flat(x) * per_image(factor, 2), x))


def contrasted(x: Any, factor: Any) -> Any:
    """The distances from the image's mean luma times a factor."""
    tf = backend.tensorflow()
    (height, width, channels), values = x.shape[1:], flat(x)
    rows = tf.reduce_mean(tf.reshape(values, [-1, height, width * channels]), 1)  # the long axis first: five times as quick
    weights = np.tile(LUMA * 3, width) if channels == 3 else 1.0
    mean, factor = tf.reduce_mean(rows * weights, 1, keepdims=True), per_image(factor, 2)
    return cut(like(values * factor + mean * (1 - factor), x))


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
