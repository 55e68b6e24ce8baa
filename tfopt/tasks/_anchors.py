"""Anchors of a detector: boxes all over the picture that its outputs are told against, and the arithmetic of boxes.

The outputs of a detector are (anchors, 4 + classes): for each anchor four offsets, by the encoding of Faster R-CNN (Ren et al. 2015,
arXiv:1506.01497) with SSD's variances of 0.1 and 0.2, and a logit for each class. With the anchor's middle (ay, ax) and sides (ah, aw):

    ty = (y - ay) / ah / 0.1    tx = (x - ax) / aw / 0.1    th = log(h / ah) / 0.2    tw = log(w / aw) / 0.2

so that offsets have about the size of logits, and one int8 scale serves both.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import backend

STRIDES, SCALES, RATIOS = (8, 16, 32), (2.0, 2.8), (0.5, 1.0, 2.0)
VARIANCES = (0.1, 0.1, 0.2, 0.2)
LARGEST = 4.0  # of log(h / ah): e**4 times an anchor's side is more than any picture has


def anchors_of(size: Sequence[int], strides: Sequence[int], scales: Sequence[float], ratios: Sequence[float]) -> np.ndarray:
    """(anchors, 4) float32, each as the middle y, x and the sides h, w, in shares of a picture of this (height, width).

    For each stride a grid of ceil(height / stride) rows and ceil(width / stride) columns, row by row; at each place for each scale, and in
    it for each ratio, one with the area of a square of scale * stride pixels, ratio times as wide as high.
    """
    height, width = size
    found = []
    for stride in strides:
        rows, columns = (-(-length // stride) for length in size)
        y, x = (np.arange(rows) + 0.5) / rows, (np.arange(columns) + 0.5) / columns
        sides = [
            (scale * stride / math.sqrt(ratio) / height, scale * stride * math.sqrt(ratio) / width) for scale in scales for ratio in ratios
        ]
        grid = np.stack(np.broadcast_arrays(y[:, None, None], x[None, :, None]), -1)
        middles = np.broadcast_to(grid, (rows, columns, len(sides), 2))
        found.append(np.concatenate([middles, np.broadcast_to(sides, middles.shape)], -1).reshape(-1, 4))
    return np.concatenate(found).astype(np.float32)


def corners(middles: np.ndarray) -> np.ndarray:
    """(..., 4) middles and sides as ymin, xmin, ymax, xmax."""
    half = middles[..., 2:] / 2
    return np.concatenate([middles[..., :2] - half, middles[..., :2] + half], -1)


def ious(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(m, k) intersection by union of boxes (m, 4) and others (k, 4), as ymin, xmin, ymax, xmax."""
    low, high = np.maximum(boxes[:, None, :2], others[None, :, :2]), np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    common = np.prod(np.maximum(high - low, 0), axis=-1)
    areas = [np.prod(one[:, 2:] - one[:, :2], axis=-1) for one in (boxes, others)]
    return common / np.maximum(areas[0][:, None] + areas[1][None] - common, 1e-12)


def decoded(offsets: np.ndarray, anchors: np.ndarray) -> np.ndarray:
    """(..., anchors, 4) boxes as ymin, xmin, ymax, xmax of the offsets, cut off at the picture's edges."""
    offsets = offsets.astype(np.float64) * VARIANCES
    sides = np.exp(np.minimum(offsets[..., 2:], LARGEST)) * anchors[:, 2:]
    return np.clip(corners(np.concatenate([offsets[..., :2] * anchors[:, 2:] + anchors[:, :2], sides], -1)), 0, 1)


def targets(boxes: Any, labels: Any, anchors: np.ndarray, *, positive: float, negative: float) -> Any:
    """(n, anchors, 5) float32 in TensorFlow's operations: the offsets that each anchor should have, and its class; -1 for none, where it is
    on no box, and -2 where it is left out of the loss.

    An anchor belongs to the box with which its intersection by union is largest, if that is `positive` or more; below `negative` it is
    on none. The best anchor of each box always belongs to it.

    Args:
      boxes: (n, m, 4); labels: (n, m), -1 where there is none. anchors: (anchors, 4) as `anchors_of` has them.
    """
    tf = backend.tensorflow()
    there = labels >= 0
    overlap = tf.where(there[:, tf.newaxis], _overlaps(tf.constant(corners(anchors)), boxes), -1.0)  # (n, anchors, m)
    most, whose = tf.reduce_max(overlap, 2), tf.argmax(overlap, 2, tf.int32)
    reached = tf.cast(there & (tf.reduce_max(overlap, 1) > 0), tf.float32)
    best = tf.one_hot(tf.argmax(overlap, 1, tf.int32), len(anchors), axis=1) * reached[:, tf.newaxis]
    forced = tf.reduce_max(best, 2) > 0
    whose = tf.where(forced, tf.argmax(best * (2.0 + overlap), 2, tf.int32), whose)
    own = tf.gather(labels, whose, batch_dims=1)
    classes = tf.where(forced | (most >= positive), own, tf.where(most < negative, -1, -2))
    offsets = _encoded(tf.gather(boxes, whose, batch_dims=1), anchors)
    offsets = tf.where((classes >= 0)[..., tf.newaxis], offsets, 0.0)
    return tf.concat([offsets, tf.cast(classes, tf.float32)[..., tf.newaxis]], 2)


def _overlaps(anchors: Any, boxes: Any) -> Any:
    """(n, anchors, m) intersection by union."""
    tf = backend.tensorflow()
    mine, theirs = anchors[tf.newaxis, :, tf.newaxis], boxes[:, tf.newaxis]
    common = tf.reduce_prod(tf.maximum(tf.minimum(mine[..., 2:], theirs[..., 2:]) - tf.maximum(mine[..., :2], theirs[..., :2]), 0.0), -1)
    areas = [tf.reduce_prod(one[..., 2:] - one[..., :2], -1) for one in (mine, theirs)]
    return common / tf.maximum(areas[0] + areas[1] - common, 1e-12)


def _encoded(boxes: Any, anchors: np.ndarray) -> Any:
    tf = backend.tensorflow()
    middles, sides = (boxes[..., :2] + boxes[..., 2:]) / 2, tf.maximum(boxes[..., 2:] - boxes[..., :2], 1e-6)
    return tf.concat([(middles - anchors[:, :2]) / anchors[:, 2:], tf.math.log(sides / anchors[:, 2:])], -1) / VARIANCES


def boxes_of(offsets: Any, anchors: np.ndarray) -> Any:
    """`decoded` of (anchors, 4) offsets in TensorFlow's operations, float32."""
    tf = backend.tensorflow()
    offsets = offsets * np.array(VARIANCES, np.float32)
    middles = offsets[:, :2] * anchors[:, 2:] + anchors[:, :2]
    half = tf.exp(tf.minimum(offsets[:, 2:], LARGEST)) * (anchors[:, 2:] / 2)
    return tf.clip_by_value(tf.concat([middles - half, middles + half], 1), 0.0, 1.0)
