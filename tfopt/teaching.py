"""What a model learns from the outputs of others: soft targets, beside the loss of its task.

With teachers of mean logits v and a student of logits z, both at a temperature T,

    loss = (1 - alpha) loss of the task + alpha T^2 KL(softmax(v / T) || softmax(z / T))

T^2 keeps the gradients' size, whatever T is. Where labels do not exclude each other the same is done with a sigmoid of each, where outputs
are numbers with their squared distance; a detector's offsets are numbers, its classes labels.

Hinton, Vinyals & Dean 2015, "Distilling the Knowledge in a Neural Network" (arXiv:1503.02531).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from . import backend, bridge, loading, tasks
from .errors import DataError, OptionError
from .surgery import copying, precision
from .types import Data, Fit

TEMPERATURE, ALPHA = 4.0, 0.9
_ONE_OF_SEVERAL = ("classification", "segmentation", "transcription", "sequence_to_sequence", "generation")
Teacher = Any  # "self", a model's path, a model, or several of them; in a recipe also "trained"


@dataclass(frozen=True)
class Teaching:
    """Who teaches a model, and how.

    Attributes:
      teachers: models of the same outputs; their logits are averaged.
      temperature, alpha: T and alpha above.
    """

    teachers: tuple[Any, ...]
    temperature: float = TEMPERATURE
    alpha: float = ALPHA

    def of(self, data: Data, student: Any) -> Lesson:
        """For one student."""
        return Lesson(self, data, student)


class Lesson:
    """The soft targets of a student, in TensorFlow's operations."""

    def __init__(self, teaching: Teaching, data: Data, student: Any):
        self.teaching = teaching
        self._distance, self._logits = _distance(data, student), _logits_of(data, student)
        self._teachers = [(teacher, _logits_of(data, teacher)) for teacher in teaching.teachers]

    def wanted(self, x: Any) -> Any:
        """The teachers' mean logits for a batch."""
        return backend.tensorflow().add_n([logits(teacher(x, training=False)) for teacher, logits in self._teachers]) / len(self._teachers)

    def loss(self, of_task: Any, wanted: Any, outputs: Any) -> Any:
        """A replica's loss, from that of the task and the student's outputs."""
        tf, alpha = backend.tensorflow(), self.teaching.alpha
        far = self._distance(wanted, self._logits(outputs), self.teaching.temperature)
        taught = tf.reduce_mean(far) / tf.distribute.get_strategy().num_replicas_in_sync
        return (1 - alpha) * tf.cast(of_task, tf.float32) + alpha * taught


def teaching_by(
    teacher: Teacher, model: Any, fit: Fit | None, *, temperature: float = TEMPERATURE, alpha: float = ALPHA
) -> Teaching | None:
    """Who an option `teacher` means for a model that is about to be changed; None where it is None.

    Args:
      teacher: "self", the model as it is; the path of a model's file; a model of Keras 2 or 3; or several of these in a list.

    Raises:
      OptionError: something else, or no fit in which something could be learnt.
      DataError: a teacher that takes or gives something else than the model.

    >>> teaching = teaching_by("self", model, fit)
    """
    if teacher is None:
        return None
    if fit is None:
        raise OptionError("teacher: needs a fit; without training nothing is learnt from it")
    teachers = tuple(_model_of(each, model) for each in several(teacher))
    if not teachers:
        raise OptionError("teacher = []: should name a teacher or more")
    for each in teachers:
        for what in ("input_shape", "output_shape"):
            if (its := getattr(each, what)) != (mine := getattr(model, what)):
                raise DataError(
                    f"teacher {each.name!r}: its {what} is {its}, and that of {model.name!r} is {mine}; they should be the same"
                )
    return Teaching(teachers, temperature, alpha)


def several(teacher: Teacher) -> list[Any]:
    """Those that an option `teacher` names, one by one; none where it is None."""
    if teacher is None:
        return []
    return list(teacher) if isinstance(teacher, Sequence) and not isinstance(teacher, str) else [teacher]


def files_of(teacher: Teacher) -> list[str]:
    """The model files among them, as a recipe names them."""
    return [each for each in several(teacher) if isinstance(each, str) and each not in ("self", "trained")]


def _model_of(teacher: Any, model: Any) -> Any:
    if teacher == "trained":
        raise OptionError("teacher = 'trained': is the model that a recipe has trained; outside of one give the model itself, or 'self'")
    if teacher == "self":
        teacher = model
    elif isinstance(teacher, str | os.PathLike):
        teacher = loading.load(teacher)
    elif not isinstance(teacher, backend.keras().Model) and not bridge.is_keras3(teacher):
        raise OptionError(f"teacher: should be 'self', a model's path, a model, or a list of these; got {type(teacher).__name__}")
    return precision.in_float32(copying.copy_of(teacher))


def _logits_of(data: Data, model: Any) -> Callable[[Any], Any]:
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


def _distance(data: Data, student: Any) -> Callable[[Any, Any, float], Any]:
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
    tf = backend.tensorflow()
    classes = _softened_alone(wanted[..., 4:], found[..., 4:], temperature)
    return tf.reduce_sum(classes, -1) + tf.reduce_sum(_squared(wanted[..., :4], found[..., :4], temperature), -1)
