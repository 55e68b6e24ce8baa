"""Color spaces: each function takes and returns a batch of images (n, height, width, channels), and a deployed app has to repeat it.

RGB is sRGB as cameras and files have it, float32 in 0..1.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import backend, options
from ._checking import images

# The weights of the eye for red, green and blue (ITU-R BT.601), those of Y in YUV and YIQ, and of PIL's "L".
_LUMA = np.array([[0.299], [0.587], [0.114]], np.float32)

# Linear RGB to CIE XYZ (IEC 61966-2-1), a row for each of X, Y, Z, and the white of daylight (D65, 2 degrees).
_XYZ = np.array([[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]])
_WHITE = np.array([0.95047, 1.0, 1.08883])
# Lab's cube root has a straight line in place of its steep end, below this.
_BEND = 6 / 29


@options.checked
def rgb_to_gray(x: Any) -> Any:
    """The brightness 0.299 R + 0.587 G + 0.114 B of each pixel: three channels -> one.

    >>> rgb_to_gray([[[[1.0, 0.0, 0.0]]]])
    [[[[0.299]]]]

    Raises:
      DataError: x holds no RGB images in floats; so all functions of this file.
    """
    return _mixed(images(x, "rgb_to_gray", 3), _LUMA)


@options.checked
def gray_to_rgb(x: Any) -> Any:
    """The one channel three times, as a model for colors takes it.

    >>> gray_to_rgb([[[[0.5]]]])
    [[[[0.5, 0.5, 0.5]]]]
    """
    tf = backend.tensorflow()
    return tf.tile(images(x, "gray_to_rgb", 1), [1, 1, 1, 3])


@options.checked
def rgb_to_hsv(x: Any) -> Any:
    """Hue, saturation and value, each in 0..1; gray has hue and saturation 0.

    >>> rgb_to_hsv([[[[0.0, 1.0, 0.0]]]])
    [[[[0.333, 1., 1.]]]]
    """
    tf = backend.tensorflow()  # whose own rgb_to_hsv has no operation in TFLite
    x = images(x, "rgb_to_hsv", 3)
    red, green, blue = tf.unstack(x, axis=-1)
    value = tf.reduce_max(x, -1)
    spread = value - tf.reduce_min(x, -1)
    width = tf.where(spread > 0, spread, tf.ones_like(spread))
    sixths = tf.where(
        value == red,
        (green - blue) / width,
        tf.where(value == green, 2 + (blue - red) / width, 4 + (red - green) / width),
    )
    hue = tf.where(sixths < 0, sixths + 6, sixths) / 6
    saturation = spread / tf.where(value > 0, value, tf.ones_like(value))
    return tf.stack([hue, saturation, value], -1)


@options.checked
def hsv_to_rgb(x: Any) -> Any:
    """The inverse of `rgb_to_hsv`.

    >>> hsv_to_rgb([[[[0.0, 1.0, 1.0]]]])
    [[[[1., 0., 0.]]]]
    """
    tf = backend.tensorflow()
    hue, saturation, value = tf.unstack(images(x, "hsv_to_rgb", 3), axis=-1)
    # Around the circle of hues a color rises for a sixth, stays for two, falls for one and is away for two; the others follow at thirds.
    shares = [tf.clip_by_value(tf.abs(_turned(hue, third) * 6 - 3) - 1, 0.0, 1.0) for third in (0, 2 / 3, 1 / 3)]
    return tf.stack([value * (1 - saturation * (1 - share)) for share in shares], -1)


def _turned(hue: Any, third: float) -> Any:
    tf = backend.tensorflow()
    turned = hue + third
    return turned - tf.floor(turned)


@options.checked
def rgb_to_yuv(x: Any) -> Any:
    """Brightness Y in 0..1, and U and V around 0, as in PAL television.

    >>> rgb_to_yuv([[[[1.0, 1.0, 1.0]]]])
    [[[[1., 0., 0.]]]]
    """
    tf = backend.tensorflow()
    return tf.image.rgb_to_yuv(images(x, "rgb_to_yuv", 3))


@options.checked
def yuv_to_rgb(x: Any) -> Any:
    """The inverse of `rgb_to_yuv`."""
    tf = backend.tensorflow()
    return tf.image.yuv_to_rgb(images(x, "yuv_to_rgb", 3))


@options.checked
def rgb_to_yiq(x: Any) -> Any:
    """Brightness Y in 0..1, and I and Q around 0, as in NTSC television.

    >>> rgb_to_yiq([[[[1.0, 1.0, 1.0]]]])
    [[[[1., 0., 0.]]]]
    """
    tf = backend.tensorflow()
    return tf.image.rgb_to_yiq(images(x, "rgb_to_yiq", 3))


@options.checked
def yiq_to_rgb(x: Any) -> Any:
    """The inverse of `rgb_to_yiq`."""
    tf = backend.tensorflow()
    return tf.image.yiq_to_rgb(images(x, "yiq_to_rgb", 3))


@options.checked
def rgb_to_lab(x: Any) -> Any:
    """CIE L*a*b* in daylight (D65): L in 0..100, a and b about -128..127; equal distances look about equally different.

    >>> rgb_to_lab([[[[1.0, 1.0, 1.0]]]])
    [[[[100., 0., 0.]]]]
    """
    tf = backend.tensorflow()
    x = images(x, "rgb_to_lab", 3)
    linear = tf.where(x > 0.04045, tf.pow((tf.maximum(x, 0.0) + 0.055) / 1.055, 2.4), x / 12.92)
    xyz = _mixed(linear, _XYZ.T / _WHITE)
    curved = tf.where(xyz > _BEND**3, tf.pow(tf.maximum(xyz, _BEND**3), 1 / 3), xyz / (3 * _BEND**2) + 4 / 29)
    return _mixed(curved, [[0, 500, 0], [116, -500, 200], [0, 0, -200]]) - tf.constant([16.0, 0.0, 0.0])


@options.checked
def lab_to_rgb(x: Any) -> Any:
    """The inverse of `rgb_to_lab`; colors that no screen can show are cut to 0..1."""
    tf = backend.tensorflow()
    x = images(x, "lab_to_rgb", 3) + tf.constant([16.0, 0.0, 0.0])
    curved = _mixed(x, [[1 / 116, 1 / 116, 1 / 116], [1 / 500, 0, 0], [0, 0, -1 / 200]])
    xyz = tf.where(curved > _BEND, tf.pow(tf.maximum(curved, _BEND), 3.0), (curved - 4 / 29) * (3 * _BEND**2))
    linear = _mixed(xyz, np.linalg.inv(_XYZ.T / _WHITE))
    rgb = tf.where(linear > 0.0031308, 1.055 * tf.pow(tf.maximum(linear, 0.0031308), 1 / 2.4) - 0.055, 12.92 * linear)
    return tf.clip_by_value(rgb, 0.0, 1.0)


def _mixed(x: Any, matrix: Any) -> Any:
    """Each pixel times a matrix (channels in, channels out)."""
    tf = backend.tensorflow()
    return tf.tensordot(x, tf.constant(np.asarray(matrix), tf.float32), 1)
