"""Tasks: what is learnt. Each decides which outputs a model needs, its loss, its metrics, and the score that limits speak of.

`TASKS` are the functions that a recipe's `task` calls: `(data, *, options) -> data` for that task. `of(data)` is the task of some data,
with all that training and verification ask of it.
"""

from __future__ import annotations

from typing import Any

from .. import pipelines
from ..errors import DataError
from ..types import Call, Data
from ._autoencoding import AnomalyDetection, Autoencoding
from ._choosing import (
    anomaly_detection,
    autoencoding,
    classification,
    detection,
    generation,
    multi_label,
    regression,
    segmentation,
    sequence_to_sequence,
    transcription,
)
from ._classification import Classification
from ._detection import Detection, anchors, checked_suppression, detections
from ._endings import activation_of
from ._generation import Generation
from ._intervals import wilson
from ._multi_label import MultiLabel
from ._regression import Regression
from ._segmentation import Segmentation
from ._sequence_to_sequence import BEFORE, END, SequenceToSequence
from ._symbols import SEQUENCES
from ._task import Metric, Scores, Task
from ._transcription import Transcription

TASKS = {
    "anomaly_detection": anomaly_detection,
    "autoencoding": autoencoding,
    "classification": classification,
    "detection": detection,
    "generation": generation,
    "multi_label": multi_label,
    "regression": regression,
    "segmentation": segmentation,
    "sequence_to_sequence": sequence_to_sequence,
    "transcription": transcription,
}
_KINDS: dict[str, type[Task]] = {
    kind.name: kind
    for kind in (
        AnomalyDetection,
        Autoencoding,
        Classification,
        Detection,
        Generation,
        MultiLabel,
        Regression,
        Segmentation,
        SequenceToSequence,
        Transcription,
    )
}
_OF_CLASSES = ("classification", "detection", "multi_label", "segmentation")
_UNBOUNDED = {"autoencoding": "mse", "generation": "perplexity"}  # scores of tasks without another that may be above 1

__all__ = [
    "BEFORE",
    "END",
    "SEQUENCES",
    "TASKS",
    "Metric",
    "Scores",
    "Task",
    "activation_of",
    "anchors",
    "bounded",
    "check_fits",
    "checked_suppression",
]
__all__ += ["detections", "of", "wilson", *TASKS]


def of(data: Data) -> Task:
    """The task of some data.

    Raises:
      DataError: `data` is none, there is no such task yet, or its labels don't fit the task.
      OptionError: the task has no such score.
    """
    pipelines.check_data(data)
    if data.task not in _KINDS:
        raise DataError(f"data {data.name!r} is for {data.task}; models are trained and verified for {', '.join(_KINDS)}")
    task = _KINDS[data.task](data)
    task.metric(task.score)
    return task


def bounded(call: Call | None, own: str | None) -> bool:
    """Whether the score that a recipe's `task` chooses is at most 1, as all are but errors and perplexities. own: the data's own task,
    where that is known.
    """
    chosen = _UNBOUNDED.get(own) if call is None else call.options.get("score") or _UNBOUNDED.get(call.use)
    return chosen not in ("mse", "mae", "rmse", "cross_entropy", "perplexity")


def check_fits(model: Any, data: Data) -> None:
    """Refuses a model that can't take the data's examples, or whose outputs are not those of its task.

    Raises:
      DataError: says both shapes, and how to make them the same; or `data` is none, or its labels don't fit its task.
    """
    task = of(data)
    if not model.inputs or len(model.outputs or ()) != 1:
        raise DataError(
            f"model {model.name!r} has {len(model.inputs or ())} inputs and {len(model.outputs or ())} outputs; "
            f"data {data.name!r} needs inputs and one output, a functional or sequential model that has been built"
        )
    shapes = pipelines.in_order(data.input_shape, model.input_names, f"model {model.name!r}", f"data {data.name!r}")
    for name, tensor, given in zip(model.input_names, model.inputs, shapes, strict=True):
        takes = tuple(tensor.shape)[1:]
        if not pipelines.same_shape(takes, given):
            at = f" at the input {name!r}" if isinstance(data.input_shape, dict) else ""
            raise DataError(
                f"model {model.name!r} takes examples of shape {takes}{at}, data {data.name!r} has {given}; "
                "build the model with data.input_shape, or bring the data into the model's shape"
            )
    gives = tuple(model.outputs[0].shape)[1:]
    if not task.accepts(gives):
        of_classes = f" with {data.num_classes} classes" if task.name in _OF_CLASSES else ""
        wanted = " or ".join(map(str, task.outputs()))
        raise DataError(
            f"model {model.name!r} gives outputs of shape {gives}; data {data.name!r}, which is for {data.task}{of_classes}, needs "
            f"{wanted}; end the model in {task.ending}"
        )
    if problem := task.problem(model):
        raise DataError(f"model {model.name!r} {problem}")
