"""Noise taken away by filters. A deployed app has to repeat it.

Each function takes and returns a float32 batch of images (n, height, width, channels), filtered along height and width, or of series,
(n, time) or (n, time, features), filtered along time; each channel on its own. Beyond its edges an example goes on as its mirror image
(scipy's mode "reflect").
"""

from __future__ import annotations

import importlib
from typing import Annotated, Any

import numpy as np
from pydantic import AfterValidator, Field

from .. import backend, options
from ._checking import floats, images, of_rank, size_of


def _odd(size: int) -> int:
    if size % 2 == 0:
        raise ValueError("should be odd, so that it has a middle")
    return size


Size = Annotated[int, Field(ge=3), AfterValidator(_odd)]


@options.checked
def mean_filter(x: Any, *, size: Size = 3) -> Any:
    """Each value replaced by the mean of the `size` x `size` (of a series: `size`) values around it.

    >>> mean_filter([[0.0, 3.0, 0.0, 0.0]])
    [[1., 1., 1., 0.]]

    Raises:
      DataError: x holds neither images nor series; so all functions of this file.
    """
    tf = backend.tensorflow()
    x = floats(x, "mean_filter")
    wide, window = _widened(x, size // 2, "mean_filter")
    return tf.reshape(tf.nn.avg_pool2d(wide, window, 1, "VALID"), _shape(x))


@options.checked
def median_filter(x: Any, *, size: Size = 3) -> Any:
    """Each value replaced by the median of the `size` x `size` (of a series: `size`) values around it: takes single wrong pixels away.

    Time grows with the fourth power of `size`: 0.06, 0.4 and 1.9 ms for 32x32 pixels in colors and sizes 3, 5 and 7.

    >>> median_filter([[0.0, 3.0, 0.0, 0.0]])
    [[0., 0., 0., 0.]]
    """
    tf = backend.tensorflow()
    x = floats(x, "median_filter")
    wide, (down, across) = _widened(x, size // 2, "median_filter")
    height, width = wide.shape[1] - down + 1, wide.shape[2] - across + 1
    around = [wide[:, top : top + height, left : left + width] for top in range(down) for left in range(across)]
    return tf.reshape(_median(around), _shape(x))


def _median(values: list[Any]) -> Any:
    """Of an odd number of tensors, elementwise.

    Of a few more than half of them the smallest and the largest can't be the median and are dropped, one of the others joins, and so on.
    With minimum and maximum only, this takes a twelfth (3 x 3) or a quarter (7 x 7) of the time that sorting takes.
    """
    tf = backend.tensorflow()
    half = len(values) // 2 + 2
    kept, others = values[:half], values[half:]
    while len(kept) > 1:
        for at in range(1, len(kept)):
            kept[0], kept[at] = tf.minimum(kept[0], kept[at]), tf.maximum(kept[0], kept[at])
        for at in range(1, len(kept) - 1):
            kept[at], kept[-1] = tf.minimum(kept[at], kept[-1]), tf.maximum(kept[at], kept[-1])
        kept = kept[1:-1] + [others.pop() for _ in others[:1]]
    return kept[0]


@options.checked
def gaussian_filter(x: Any, *, sigma: Annotated[float, Field(gt=0, le=100)] = 1.0) -> Any:
    """Each value replaced by a mean of those around it, weighted by a bell of the standard deviation `sigma`, in pixels (or time steps).

    The bell is cut off at 4 sigma, as scipy does.

    >>> gaussian_filter([[0.0, 0.0, 1.0, 0.0, 0.0]], sigma=0.5)
    [[0.0003, 0.1065, 0.7866, 0.1065, 0.0003]]
    """
    tf = backend.tensorflow()
    x = floats(x, "gaussian_filter")
    radius = int(4 * sigma + 0.5)
    wide, window = _widened(x, radius, "gaussian_filter")
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    weights = (weights / weights.sum()).astype(np.float32)
    for axis in range(2):  # a bell in two dimensions is one along each, one after the other
        if window[axis] > 1:
            kernel = weights[:, None, None, None] if axis == 0 else weights[None, :, None, None]
            wide = tf.nn.depthwise_conv2d(wide, np.tile(kernel, (1, 1, wide.shape[-1], 1)), [1, 1, 1, 1], "VALID")
    return tf.reshape(wide, _shape(x))


@options.checked
def non_local_means(
    x: Any, *, patch_size: Size = 7, patch_distance: Annotated[int, Field(ge=1)] = 11, strength: Annotated[float, Field(gt=0)] = 0.1
) -> Any:
    """Each pixel replaced by a mean of pixels whose surroundings look alike, which keeps edges and texture; images only.

    Buades, Coll, Morel 2005 (doi:10.1109/CVPR.2005.38), by scikit-image's `denoise_nl_means`, one image after the other on the CPU: slow
    (milliseconds for 32x32 pixels). It is Python code, so no .tflite can hold it: an app has to filter with a library of its own.

    patch_size: the side of the surroundings that are compared, in pixels. patch_distance: how far away they are looked for.
    strength: how unlike they may be, in x's unit; about the standard deviation of the noise.

    >>> non_local_means(images, strength=0.08).shape
    (10, 32, 32, 3)
    """
    tf = backend.tensorflow()
    x = images(x, "non_local_means")
    size_of(x, "non_local_means")

    def denoised(batch: np.ndarray) -> np.ndarray:
        restoration = importlib.import_module("skimage.restoration")
        asked = {"patch_size": patch_size, "patch_distance": patch_distance, "h": strength, "channel_axis": -1}
        # of one channel scikit-image leaves out the axis
        new = [restoration.denoise_nl_means(image, **asked).reshape(image.shape) for image in batch]
        return np.stack(new).astype(np.float32) if len(batch) else batch

    return tf.ensure_shape(tf.numpy_function(denoised, [x], tf.float32, stateful=False), x.shape)


def _widened(x: Any, radius: int, step: str) -> tuple[Any, tuple[int, int]]:
    """The batch as images (n, height, width, channels) with so many mirrored values on each side, and the window (height, width) to slide.

    A series becomes an image of width 1, which stays so.
    """
    tf = backend.tensorflow()
    of_rank(x, (2, 3, 4), step, "images (height, width, channels) or series (time,) or (time, features)")
    size_of(x, step)
    wide = {2: lambda: x[:, :, tf.newaxis, tf.newaxis], 3: lambda: x[:, :, tf.newaxis], 4: lambda: x}[x.shape.rank]()
    for axis in (1, 2) if x.shape.rank == 4 else (1,):
        # By gather, since tf.pad mirrors once only: a window may be larger than the image.
        wide = tf.gather(wide, np.pad(np.arange(wide.shape[axis]), radius, mode="symmetric"), axis=axis)
    side = 2 * radius + 1
    return wide, (side, side if x.shape.rank == 4 else 1)


def _shape(x: Any) -> list[int]:
    return [-1, *x.shape[1:]]
