"""What a model learns from others: soft targets from their outputs, and hints from layers inside, beside the loss of its task.

    loss = (1 - alpha) loss of the task + alpha distance of the outputs (`_soft_targets`) + weight * loss of the hints (`_hinting`)

Where nothing augments the examples, a teacher says the same of each in every epoch: it is asked once, before the first.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import _hinting, _soft_targets, backend, bridge, loading, pipelines
from .errors import DataError, OptionError, shown
from .surgery import copying, precision
from .tracing import record
from .types import Data, Fit

TEMPERATURE, ALPHA, HINT_WEIGHT = 4.0, 0.9, 1.0
MOST = 2**28  # bytes of the teachers' outputs for all examples that are kept in memory
Teacher = Any  # "self", a model's path, a model, or several of them; in a recipe also "trained"
Hints = _hinting.Named | None


@dataclass(frozen=True)
class Teaching:
    """Who teaches a model, and how.

    Attributes:
      teachers: models of the same outputs; their logits are averaged.
      temperature, alpha: T and alpha above.
      hints, hint_weight: which layers learn from which of an only teacher, and the factor of their loss.
    """

    teachers: tuple[Any, ...]
    temperature: float = TEMPERATURE
    alpha: float = ALPHA
    hints: Hints = None
    hint_weight: float = HINT_WEIGHT

    def of(self, data: Data, student: Any) -> Lesson:
        """For one student, in its strategy's scope."""
        return Lesson(self, data, student)


class Lesson:
    """What a student is taught in a fit, in TensorFlow's operations.

    Attributes:
      variables: what is learnt beside the student's weights.
    """

    def __init__(self, teaching: Teaching, data: Data, student: Any):
        self.teaching, self.data = teaching, data
        self._distance, self._logits = _soft_targets.distance_of(data, student), _soft_targets.logits_of(data, student)
        self._teachers = [(teacher, _soft_targets.logits_of(data, teacher)) for teacher in teaching.teachers]
        self._hints = None if teaching.hints is None else _hinting.Hints(teaching.hints, student, *teaching.teachers)
        self._student = student if self._hints is None else self._hints.student
        self._known = False
        self.variables = [] if self._hints is None else self._hints.variables

    def beside(self, batches: Any, fit: Fit, first_epoch: int) -> Any:
        """A fit's batches, each with the teachers' logits for it, where these are known before; else the batches as they are."""
        rows = None if self._hints is not None or fit.epochs == 1 else pipelines.training_rows(self.data, fit, first_epoch)
        logits = None if rows is None else self._of_all()
        if logits is None:
            return batches
        self._known, tf = True, backend.tensorflow()
        with tf.device("CPU:0"):
            logits = tf.constant(logits)
        return tf.data.Dataset.zip((batches, rows.map(lambda numbers: tf.gather(logits, numbers))))

    def _of_all(self) -> np.ndarray | None:
        """(n, ...) float32, the logits for all training examples; None where they are too large to be kept."""
        count, shape = pipelines.size(self.data.train), self.teaching.teachers[0].output_shape[1:]
        if None in shape or (needed := 4 * count * math.prod(shape)) > MOST:
            return None
        batches = pipelines.batches(self.data.train, pipelines.at_once(self.data.input_shape))
        found = np.concatenate([self._asked(x).numpy() for x, _ in batches])
        kept = f"{needed / 1e6:.1f} MB"
        record("note", text=f"the teacher was asked once for all {count:,} training examples, which nothing augments; kept in {kept}")
        return found

    def opened(self, batch: Any) -> tuple[Any, Any]:
        """A batch of `beside` as Keras has them, and what is wanted for it."""
        if self._known:
            batch, logits = batch
            return batch, (logits, [])
        return batch, self.wanted(batch[0])

    def wanted(self, x: Any) -> tuple[Any, list[Any]]:
        """The teachers' mean logits for a batch, and the maps that they give as hints."""
        if self._hints is None:
            return self._asked(x), []
        outputs, maps = self._hints.teacher(x, training=False)
        ((_, logits),) = self._teachers
        return logits(outputs), maps

    def _asked(self, x: Any) -> Any:
        return backend.tensorflow().add_n([logits(teacher(x, training=False)) for teacher, logits in self._teachers]) / len(self._teachers)

    def answered(self, x: Any) -> tuple[Any, list[Any]]:
        """What the student gives in training: its outputs, and the maps that learn from hints."""
        given = self._student(x, training=True)
        return (given, []) if self._hints is None else given

    def loss(self, of_task: Any, wanted: tuple[Any, list[Any]], outputs: Any, maps: Sequence[Any] = ()) -> Any:
        """A replica's loss, from that of the task and what the student gives."""
        tf, (alpha, (logits, theirs)) = backend.tensorflow(), (self.teaching.alpha, wanted)
        taught = alpha * tf.reduce_mean(self._distance(logits, self._logits(outputs), self.teaching.temperature))
        if self._hints is not None:
            taught += self.teaching.hint_weight * self._hints.missed(theirs, maps)
        return (1 - alpha) * tf.cast(of_task, tf.float32) + taught / tf.distribute.get_strategy().num_replicas_in_sync


def teaching_by(
    teacher: Teacher,
    model: Any,
    fit: Fit | None,
    *,
    temperature: float = TEMPERATURE,
    alpha: float = ALPHA,
    hints: Hints = None,
    hint_weight: float = HINT_WEIGHT,
    at: str = "",
) -> Teaching | None:
    """Who an option `teacher` means for a model that is about to be changed; None where it is None.

    Args:
      teacher: "self", the model as it is; the path of a model's file; a model of Keras 2 or 3; or several of these in a list.
      at: what stands before the options' names in messages, such as "steps[0].".

    Raises:
      OptionError: something else, no fit in which something could be learnt, or hints that can't be given.
      DataError: a teacher that takes or gives something else than the model.

    >>> teaching = teaching_by("self", model, fit)
    """
    if teacher is None:
        return None
    if fit is None:
        raise OptionError(f"{at}teacher: needs a fit; without training nothing is learnt from it")
    teachers = tuple(_model_of(each, model) for each in several(teacher))
    if not teachers:
        raise OptionError(f"{at}teacher = []: should name a teacher or more")
    for each in teachers:
        _check_same(each, model, at)
    if problem := contradiction(teacher=teacher, hints=hints):
        raise OptionError(f"{at}{problem}")
    if hints is not None:
        _hinting.check(hints, model, *teachers, f"{at}hints")
    return Teaching(teachers, temperature, alpha, hints, hint_weight)


def contradiction(*, teacher: Teacher = None, hints: Hints = None, **_: Any) -> str | None:
    """Why there can't be such hints from such teachers, as a sentence that begins with the option; None where there can."""
    if hints is None:
        return None
    if not hints:
        return f"hints = {shown(hints)}: names no layer; leave it out to learn from outputs alone"
    count = len(several(teacher))
    return f"hints: come from one teacher, and there are {count}; leave hints out, or name one teacher" if count > 1 else None


def _check_same(teacher: Any, model: Any, at: str) -> None:
    for what, of in (("input_shape", _inputs), ("output_shape", lambda one: one.output_shape)):
        if (its := of(teacher)) != (mine := of(model)):
            raise DataError(
                f"{at}teacher {teacher.name!r}: its {what} is {its}, and that of {model.name!r} is {mine}; they should be the same"
            )


def _inputs(model: Any) -> Any:
    """The shape of an only input; of several by name, as they are given."""
    shapes = {name: tuple(tensor.shape) for name, tensor in zip(model.input_names, model.inputs, strict=True)}
    return shapes if len(shapes) > 1 else next(iter(shapes.values()))


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
