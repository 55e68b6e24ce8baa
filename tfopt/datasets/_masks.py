"""Masks: a class for each pixel of a picture, -1 where a pixel does not count."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import DataError, shown

BACKGROUND = "background"


def dtype_for(classes: int) -> type:
    """Of masks in memory: a byte a pixel where that is enough."""
    return np.int8 if classes <= np.iinfo(np.int8).max else np.int16


def resized(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A mask (height, width) stretched to a size: each pixel is the one at its middle."""
    rows, columns = (((np.arange(new) + 0.5) * old / new).astype(np.int64) for new, old in zip(size, mask.shape, strict=True))
    return mask[rows[:, np.newaxis], columns]


def with_background(names: Sequence[str], source: str) -> tuple[str, ...]:
    """The classes of masks that are drawn from boxes.

    Raises:
      DataError: one is called like what is in no box.
    """
    if BACKGROUND in names:
        raise DataError(f"{source}: boxes of a class are called {shown(BACKGROUND)}, as what is in no box has to be; rename them")
    return (BACKGROUND, *names)


def ellipses(boxes: np.ndarray, labels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(height, width) int16: a filled ellipse in each box, of the class label + 1, on a background of 0. Larger boxes are drawn first, so
    that small things before large ones stay to be seen.

    Args:
      boxes: (m, 4) as ymin, xmin, ymax, xmax in shares of the picture. labels: (m,) from 0; a pixel is in if its middle is.
    """
    mask = np.zeros(size, np.int16)
    down, across = ((np.arange(length) + 0.5) / length for length in size)
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    for at in np.argsort(-areas, kind="stable"):
        (top, left, bottom, right), label = boxes[at].astype(np.float64), labels[at]
        y, x = (2 * down - top - bottom) / (bottom - top), (2 * across - left - right) / (right - left)
        mask[y[:, np.newaxis] ** 2 + x**2 <= 1] = label + 1
    return mask
