"""What makes detections of a detector's outputs, as operations of a .tflite behind the detector's own."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import backend
from ._joining import Output
from .tasks import _anchors


class Suppression:
    """Non-maximum suppression as a function to be converted in the place of a model: it has no variables.

    It takes what a file puts out, (1, anchors, 4 + classes), quantized where that is, and computes in float32.

    Args:
      output: of that file. anchors: (anchors, 4), see `tasks.anchors`. most, least, same: see `tasks.detections`.
    """

    variables = ()

    def __init__(self, output: Output, anchors: np.ndarray, *, most: int, least: float, same: float):
        self.output, self.anchors, self.most, self.least, self.same = output, anchors, most, least, same
        self.specs = [backend.tensorflow().TensorSpec([1, *output.shape[1:]], output.dtype, name=output.name)]

    def __call__(self, outputs: Any, training: bool = False) -> dict[str, Any]:
        """What `conversion.with_detections` says, by name."""
        tf = backend.tensorflow()
        values = tf.cast(outputs[0], tf.float32)
        if self.output.scale:
            values = (values - float(self.output.zero_point)) * self.output.scale
        boxes, scores = _anchors.boxes_of(values[:, :4], self.anchors), tf.sigmoid(values[:, 4:])
        number = scores.shape[1]
        # Each class by itself: its boxes are moved to where those of no other are.
        apart = boxes[:, tf.newaxis] + 2.0 * np.arange(number, dtype=np.float32)[:, np.newaxis]
        chosen, sure, count = tf.raw_ops.NonMaxSuppressionV5(
            boxes=tf.reshape(apart, [-1, 4]),
            scores=tf.reshape(scores, [-1]),
            max_output_size=self.most,
            iou_threshold=self.same,
            score_threshold=self.least,
            soft_nms_sigma=0.0,
            pad_to_max_output_size=True,
        )
        there = tf.range(self.most) < count
        found = {
            "boxes": tf.where(there[:, tf.newaxis], tf.gather(boxes, chosen // number), 0.0),
            "scores": tf.where(there, sure, 0.0),
            "classes": tf.where(there, tf.cast(chosen % number, tf.float32), -1.0),
            "count": tf.cast(count, tf.float32)[tf.newaxis],
        }
        return {name: one[tf.newaxis] for name, one in found.items()}
