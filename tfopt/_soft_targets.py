"""Soft targets: how far a student's outputs are from a teacher's.

With logits v of a teacher (of several the mean) and z of the student, both at a temperature T, where classes exclude each other

    distance = T^2 KL(softmax(v / T) || softmax(z / T))

T^2 keeps the gradients' size, whatever T is. Where labels do not exclude each other the same is done with a sigmoid of each; where outputs
are numbers it is their squared difference. A detector's classes are labels, its offsets numbers: see `_detected`.

Hinton, Vinyals & Dean 2015, "Distilling the Knowledge in a Neural Network" (arXiv:1503.02531).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import backend, tasks
from .types import Data

_ONE_OF_SEVERAL = ("classification", "segmentation", "transcription", "sequence_to_sequence", "generation")


def logits_of(data: Data, model: Any) -> Callable[[Any], Any]:
    """Outputs -> float32 logits: of probabilities their logarithms, which a softmax takes for the same."""
    tf, activation = backend.tensorflow(), tasks.activation_of(model)

    def logits(outputs: Any) -> Any:
        outputs = tf.cast(outputs, tf.float32)
        if activation == "softmax":
            return tf.math.log(tf.maximum(outputs, 1e-30))
        if activation == "sigmoid" and data.task in ("classification", "multi_label"):
            outputs = tf.clip_by_value(outputs, 1e-7, 1 - 1e-7)
            return tf.math.log(outputs) - tf.math.log1p(-outputs)
        return outputs

    return logits


def distance_of(data: Data, student: Any) -> Callable[[Any, Any, float], Any]:
    """(teacher's logits, student's, T) -> how far they are apart, for each place of an output."""
    if data.task in _ONE_OF_SEVERAL and student.output_shape[-1] != 1:
        return _softened
    if data.task in ("classification", "multi_label"):
        return _softened_alone
    return _detected if data.task == "detection" else _squared


def _softened(wanted: Any, found: Any, temperature: float) -> Any:
    tf = backend.tensorflow()
    wanted, found = tf.nn.log_softmax(wanted / temperature), tf.nn.log_softmax(found / temperature)
    return temperature**2 * tf.reduce_sum(tf.exp(wanted) * (wanted - found), axis=-1)


def _softened_alone(wanted: Any, found: Any, temperature: float) -> Any:
    tf = backend.tensorflow()
    share = tf.sigmoid(wanted / temperature)
    cross = tf.nn.sigmoid_cross_entropy_with_logits(share, found / temperature)
    return temperature**2 * (cross - tf.nn.sigmoid_cross_entropy_with_logits(share, wanted / temperature))


def _squared(wanted: Any, found: Any, temperature: float) -> Any:
    return backend.tensorflow().square(wanted - found)


def _detected(wanted: Any, found: Any, temperature: float) -> Any:
    """(n,) distances of outputs (n, anchors, 4 + classes), as the task's loss is: over all anchors, by the number of those on objects.

    Nearly all anchors are on nothing, and would be all of the distance: each counts by p^2, as in the focal loss, where p is the largest
    probability of a class there: the teacher's or the student's for the classes, which are labels; the teacher's for the offsets, which
    tell nothing where it sees nothing, and of which Huber's distance is taken. After Chen et al. 2017, "Learning Efficient Object
    Detection Models with Knowledge Distillation" (NeurIPS).
    """
    tf = backend.tensorflow()
    classes = tf.reduce_sum(_softened_alone(wanted[..., 4:], found[..., 4:], temperature), -1)
    apart = tf.abs(wanted[..., :4] - found[..., :4])
    offsets = tf.reduce_sum(tf.where(apart < 1, 0.5 * apart**2, apart - 0.5), -1)
    seen, thought = (tf.reduce_max(tf.sigmoid(tf.stop_gradient(logits[..., 4:])), -1) ** 2 for logits in (wanted, found))
    far = tf.reduce_sum(tf.maximum(seen, thought) * classes + seen * offsets, -1)
    return far / tf.maximum(tf.reduce_sum(seen, -1), 1.0)
