"""Detection: boxes around what is in a picture, and their classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .. import backend, pipelines
from ..errors import DataError, OptionError, shown
from ..types import Data
from . import _anchors, _average_precision, _metrics, _task
from ._task import Metric, Task

POSITIVE, NEGATIVE = 0.5, 0.4  # of the intersection by union of an anchor and a box
SAME = 0.5  # from which two boxes of a class are one, for suppression and agreement
LEAST, SURE = 0.01, 0.5  # scores: of detections that metrics look at, and of those that agreement does
MOST = 100  # detections of a picture
ALPHA, GAMMA = 0.25, 2.0


class Detection(Task):
    """y is {"boxes": (m, 4), "labels": (m,)}, filled up with -1.

    A model gives four offsets and a logit a class for each anchor: see `tasks.anchors`. An anchor is positive from an intersection by union
    of 0.5 with a box, or where no other is nearer to that; below 0.4 it is negative, and between it teaches nothing. The loss is the focal
    loss of the logits (Lin et al. 2017, arXiv:1708.02002) and Huber's of the positive anchors' offsets, both by the number of those.

    Detections are what is left of all anchors and classes with a score (the logit's sigmoid) of 0.01 when, in each class, those go that
    cover a surer one by half (non-maximum suppression); at most 100 a picture.
    """

    name = "detection"
    undefined = "there is no box in it; give it pictures with boxes"

    def __init__(self, data: Any):
        super().__init__(data)
        spec = _task.label_spec(data)
        if not isinstance(spec, dict) or {"boxes", "labels"} - {*spec}:
            raise DataError(
                f"data {data.name!r}: y has no boxes; detection needs a dict of boxes (m, 4) and labels (m,), as voc and coco give"
            )
        if isinstance(data.input_shape, dict) or len(data.input_shape) != 3:
            raise DataError(f"data {data.name!r}: examples are {data.input_shape}; detection needs pictures (height, width, channels)")
        options = {**DEFAULTS, **{name: data.task_options[name] for name in DEFAULTS if name in data.task_options}}
        self.strides, self.per_place = tuple(options["strides"]), len(options["scales"]) * len(options["ratios"])
        self.anchors = _anchors.anchors_of(data.input_shape[:2], **options)

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """The mean average precision over the classes, as COCO's: of boxes that are found from an intersection by union of 0.5, and the
        mean of that over 0.5, 0.55, ... 0.95.
        """
        return {
            "map_50": Metric(lambda found, _: _metrics.mean_of_known(_average_precision.average_precisions(found, slice(1))), share=True),
            "map": Metric(lambda found, _: _metrics.mean_of_known(_average_precision.average_precisions(found)), share=True),
        }

    def outputs(self) -> tuple[tuple[int, ...], ...]:
        """Four offsets and a logit a class for each anchor."""
        return ((len(self.anchors), 4 + self.data.num_classes),)

    @property
    def ending(self) -> str:
        """One output of all anchors, as tfopt's ssd has it."""
        return (
            f"4 offsets and {self.data.num_classes} logits for each of {len(self.anchors):,} anchors, of strides {list(self.strides)} with "
            f"{self.per_place} a place, as tfopt's ssd does"
        )

    @property
    def asked(self) -> Mapping[str, Any]:
        """The classes, and where anchors are."""
        return {"num_classes": self.data.num_classes, "strides": list(self.strides), "anchors": self.per_place}

    def loss(self, model: Any, *, soft: bool = False, smoothing: float = 0.0) -> Any:
        """Focal loss and Huber's."""
        if smoothing:
            raise OptionError("fit.label_smoothing: the loss of detection has no label smoothing; leave it out")
        return self.data.loss or focal_and_huber

    def target(self, x: Any, y: Any) -> Any:
        """(n, anchors, 5): offsets and class, see `_anchors.targets`."""
        return _anchors.targets(y["boxes"], y["labels"], self.anchors, positive=POSITIVE, negative=NEGATIVE)

    def truth(self, x: Any, y: Any) -> Any:
        """Boxes and their labels."""
        return {"boxes": y["boxes"], "labels": y["labels"]}

    def prepared(self, outputs: np.ndarray, expected: np.ndarray) -> np.ndarray:
        """Detections (n, 100, 6)."""
        return np.stack([detected(one, self.anchors) for one in outputs])

    def compared(self, truth: Any, outputs: np.ndarray) -> tuple[Any, np.ndarray]:
        """Which detections find a box."""
        return _average_precision.matched(truth, outputs, self.data.num_classes), outputs

    def agreement(self, outputs: np.ndarray, expected: np.ndarray) -> float:
        """The share of detections, with scores from 0.5 on, that have a partner in the other's: of the same class, covering it by half."""
        mine, theirs = (self.prepared(one, expected) for one in (outputs, expected))
        pairs = [_paired(one[one[:, 4] >= SURE], other[other[:, 4] >= SURE]) for one, other in zip(mine, theirs, strict=True)]
        partners, total = (sum(of) for of in zip(*pairs, strict=True))
        return partners / total if total else 1.0

    def per_class(self, truth: Any, outputs: np.ndarray) -> dict[str, dict[str, float]]:
        """Average precision at 0.5 and over 0.5 to 0.95 of each class, and how many boxes it has."""
        found, counts = _average_precision.average_precisions(truth), truth["boxes"].sum(axis=0)
        return {
            name: {"ap_50": float(of[0]), "ap": float(of.mean()), "boxes": float(count)}
            for name, of, count in zip(self.data.classes, found, counts, strict=True)
        }


DEFAULTS = {"strides": _anchors.STRIDES, "scales": _anchors.SCALES, "ratios": _anchors.RATIOS}


def focal_and_huber(targets: Any, outputs: Any) -> Any:
    """(n,) losses of `Detection`: targets (n, anchors, 5), outputs (n, anchors, 4 + classes)."""
    tf = backend.tensorflow()
    outputs = tf.cast(outputs, tf.float32)
    offsets, logits, classes = outputs[..., :4], outputs[..., 4:], tf.cast(targets[..., 4], tf.int32)
    positive, counted = tf.cast(classes >= 0, tf.float32), tf.cast(classes >= -1, tf.float32)
    right = tf.one_hot(classes, logits.shape[-1])
    # of the probability of what is wrong, p where nothing is and 1 - p where something is
    wrong = tf.sigmoid(logits * (1 - 2 * right))
    weight = tf.abs(1 - right - ALPHA) * wrong**GAMMA
    focal = weight * tf.nn.sigmoid_cross_entropy_with_logits(right, logits)
    distance = tf.abs(offsets - targets[..., :4])
    huber = tf.where(distance < 1, 0.5 * distance**2, distance - 0.5)
    number = tf.maximum(tf.reduce_sum(positive, 1), 1)
    return (tf.reduce_sum(tf.reduce_sum(focal, 2) * counted, 1) + tf.reduce_sum(tf.reduce_sum(huber, 2) * positive, 1)) / number


def detected(outputs: np.ndarray, anchors: np.ndarray, *, least: float = LEAST, most: int = MOST, same: float = SAME) -> np.ndarray:
    """(most, 6): the detections of one picture as ymin, xmin, ymax, xmax, score, class, the surest first, filled up with -1.

    outputs: (anchors, 4 + classes). An anchor of which an output is no number is no detection.
    """
    good = np.isfinite(outputs).all(axis=1)
    scores = np.where(good[:, np.newaxis], _metrics.sigmoid(np.where(good[:, np.newaxis], outputs[:, 4:], 0)), 0)
    boxes = _anchors.decoded(np.where(good[:, np.newaxis], outputs[:, :4], 0), anchors)
    found = [
        np.concatenate([boxes[kept], scores[kept, label, np.newaxis], np.full((len(kept), 1), label)], axis=1)
        for label in range(scores.shape[1])
        if len(kept := _suppressed(boxes, scores[:, label], least, most, same))
    ]
    every = np.concatenate([np.full((0, 6), -1.0), *found])
    every = every[np.argsort(-every[:, 4], kind="stable")][:most]
    return np.concatenate([every, np.full((most - len(every), 6), -1.0)])


def _suppressed(boxes: np.ndarray, scores: np.ndarray, least: float, most: int, same: float) -> np.ndarray:
    """The numbers of those that stay, the surest first."""
    left = np.flatnonzero(scores >= least)
    left = left[np.argsort(-scores[left], kind="stable")]
    kept: list[int] = []
    while len(left) and len(kept) < most:
        kept.append(left[0])
        left = left[1:][_anchors.ious(boxes[left[:1]], boxes[left[1:]])[0] <= same]
    return np.array(kept, np.int64)


def _paired(mine: np.ndarray, theirs: np.ndarray) -> tuple[int, int]:
    """How many detections of both have a partner in the other, and how many there are; the surest choose first."""
    free, partners = np.ones(len(theirs), bool), 0
    for one in mine:
        overlaps = np.where(free & (theirs[:, 5] == one[5]), _anchors.ious(one[np.newaxis, :4], theirs[:, :4])[0], -1)
        if len(theirs) and overlaps.max() >= SAME:
            free[overlaps.argmax()] = False
            partners += 2
    return partners, len(mine) + len(theirs)


def anchors(data: Data) -> np.ndarray:
    """The anchors of a detector for some data, (anchors, 4) float32: the middle y, x and the sides h, w of each, in shares of a picture.

    A model for it gives, for each anchor in this order, ty, tx, th, tw, and a logit for each class; the box that they mean has its middle
    at (ay + 0.1 ty ah, ax + 0.1 tx aw), and the sides ah exp(0.2 th), aw exp(0.2 tw).

    For each stride there is a grid of ceil(height / stride) rows and ceil(width / stride) columns, row by row, and at each place an anchor
    for each scale and, in it, each ratio: with the area of a square of scale * stride pixels, and ratio times as wide as high.

    Raises:
      DataError: the data has no boxes.
    """
    return _of(data).anchors


def detections(
    outputs: np.ndarray, data: Data, *, least: float = 0.25, most: int = MOST, same: float = SAME
) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """What a detector has found in each picture, from its outputs: of a Keras model, or of a file on LiteRT.

    Args:
      outputs: (n, anchors, 4 + classes).
      least: a detection's least score, from 0 to 1.
      most: detections of a picture, the surest.
      same: of two of a class that cover each other by more than this, as intersection by union, only the surer one stays.

    Returns:
      For each picture boxes (k, 4) float32 as ymin, xmin, ymax, xmax in shares of it, scores (k,) float32 and labels (k,) int32, indices
      of `data.classes`, the surest first.

    Raises:
      DataError: the data has no boxes, or the outputs are not those of a model for it. OptionError: an option out of range.

    >>> for boxes, scores, labels in tfopt.tasks.detections(tfopt.Session(int8).run(x), data): ...
    """
    task = _of(data)
    outputs = np.asarray(outputs)
    if outputs.ndim != 3 or outputs.shape[1:] != task.outputs()[0]:
        raise DataError(
            f"outputs are of shape {outputs.shape}; detection in data {data.name!r} needs (n, {', '.join(map(str, task.outputs()[0]))})"
        )
    every = [detected(one, task.anchors, **checked_suppression(most, least, same)) for one in outputs]
    kept = [one[one[:, 5] >= 0] for one in every]
    return [(one[:, :4].astype(np.float32), one[:, 4].astype(np.float32), one[:, 5].astype(np.int32)) for one in kept]


def checked_suppression(most: int, least: float, same: float) -> dict[str, Any]:
    """The options of suppression by name.

    Raises:
      OptionError: one is out of range.
    """
    if isinstance(most, bool) or not isinstance(most, int) or most < 1:
        raise OptionError(f"most = {shown(most)}: should be a whole number from 1")
    for name, value in (("least", least), ("same", same)):
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
            raise OptionError(f"{name} = {shown(value)}: should be a number from 0 to 1")
    return {"most": most, "least": float(least), "same": float(same)}


def _of(data: Data) -> Detection:
    pipelines.check_data(data)
    if data.task != "detection":
        raise DataError(f"data {data.name!r} is for {data.task}; anchors are of data for detection")
    return Detection(data)
