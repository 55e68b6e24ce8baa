"""The contrast of images, each on its own: batches (n, height, width, channels) of floats. A deployed app has to repeat it."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from pydantic import Field

from .. import backend, options
from ..errors import OptionError
from ._checking import images, size_of

Percentile = Annotated[float, Field(ge=0, le=100)]


@options.checked
def contrast_stretch(x: Any, *, low_percentile: Percentile = 2.0, high_percentile: Percentile = 98.0) -> Any:
    """Each image stretched so that its values between two percentiles fill 0..1; what lies outside is cut off.

    The percentiles are of all channels together, so that colors keep their tint. An image of one value is only cut to 0..1.

    >>> contrast_stretch(dark).numpy().max()
    1.0

    Raises:
      DataError: x holds no images. OptionError: the percentiles are the wrong way round.
    """
    tf = backend.tensorflow()
    if low_percentile >= high_percentile:
        raise OptionError(
            f"contrast_stretch: low_percentile = {low_percentile} should be below high_percentile = {high_percentile}, such as 2 and 98"
        )
    x = images(x, "contrast_stretch")
    size = size_of(x, "contrast_stretch")
    ordered = tf.sort(tf.reshape(x, [-1, size]), axis=1)
    low, high = (_percentile(ordered, share, size) for share in (low_percentile, high_percentile))
    flat = high <= low
    low, high = tf.where(flat, tf.zeros_like(low), low), tf.where(flat, tf.ones_like(high), high)
    return tf.clip_by_value((x - low) / (high - low), 0.0, 1.0)


def _percentile(ordered: Any, share: float, size: int) -> Any:
    """Of each row of sorted values, interpolated as numpy does: (n, 1, 1, 1)."""
    place = share / 100 * (size - 1)
    below, above = int(np.floor(place)), int(np.ceil(place))
    value = ordered[:, below] + (ordered[:, above] - ordered[:, below]) * np.float32(place - below)
    return value[:, np.newaxis, np.newaxis, np.newaxis]


@options.checked
def histogram_equalization(x: Any, *, bins: Annotated[int, Field(ge=2, le=65_536)] = 256) -> Any:
    """Each value replaced by the share of the image's values that are not above it, so that all brightnesses are about equally frequent.

    The shares are of a histogram of `bins` bins between the image's smallest and largest value, over all channels together, and
    interpolated between their centres, as scikit-image's `equalize_hist` does. An image of one value becomes 0.5.

    >>> histogram_equalization(dark).numpy().mean()
    0.5

    Raises:
      DataError: x holds no images.
    """
    tf = backend.tensorflow()
    x = images(x, "histogram_equalization")
    size = size_of(x, "histogram_equalization")
    flat = tf.reshape(x, [-1, size])
    low, high = tf.reduce_min(flat, 1, keepdims=True), tf.reduce_max(flat, 1, keepdims=True)
    one_value = high <= low
    low, high = tf.where(one_value, low - 0.5, low), tf.where(one_value, high + 0.5, high)
    place = (flat - low) / (high - low) * bins  # 0..bins
    # Bytes often lie on the border of two bins, where rounding would put equal values into different ones; a nudge puts all into the upper.
    cumulative = _shares(tf.minimum(tf.cast(place + 1e-3, tf.int32), bins - 1), bins, size)
    place = tf.clip_by_value(place - 0.5, 0.0, bins - 1.0)  # counted from the first bin's centre
    below = tf.minimum(tf.cast(place, tf.int32), bins - 2)
    left, right = (tf.gather(cumulative, at, batch_dims=1) for at in (below, below + 1))
    return tf.reshape(left + (right - left) * (place - tf.cast(below, tf.float32)), tf.shape(x))


def _shares(at: Any, bins: int, size: int) -> Any:
    """The cumulative histogram of each row of bin numbers, ending in 1: (n, bins)."""
    tf = backend.tensorflow()
    count = tf.shape(at)[0]
    rows = tf.broadcast_to(tf.range(count)[:, tf.newaxis], tf.shape(at))
    counts = tf.scatter_nd(tf.reshape(tf.stack([rows, at], 2), [-1, 2]), tf.ones([count * size]), [count, bins])
    return tf.cumsum(counts, 1) / size
