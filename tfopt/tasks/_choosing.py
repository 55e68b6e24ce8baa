"""Data for another task, or another score of its own: what `task` in a recipe calls."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from .. import options, pipelines
from ..errors import DataError, nearest, shown
from ..pipelines import Rows
from ..types import Data
from . import _anchors, _task
from ._autoencoding import AnomalyDetection, Autoencoding
from ._classification import Classification
from ._detection import Detection
from ._generation import Generation
from ._multi_label import MultiLabel
from ._regression import Regression
from ._segmentation import Segmentation
from ._sequence_to_sequence import SequenceToSequence
from ._task import Task
from ._transcription import Transcription

Loss = Annotated[str | Callable, "name of a Keras loss"]
Own = Annotated[Callable, "function (targets, outputs) -> (n,)"]
TopK = Annotated[str, Field(pattern=r"^top_[1-9]\d*_accuracy$")]
Length = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Names = list[str] | tuple[str, ...]


@options.checked
def classification(
    data: Data,
    *,
    score: Literal["accuracy", "precision", "recall", "f1", "roc_auc", "average_precision", "cross_entropy"] | TopK | None = None,
    loss: Loss | None = None,
) -> Data:
    """One class of several, or of two.

    Args:
      score: the metric that limits speak of: "accuracy" (without another), "top_5_accuracy" with any number for the 5, "precision",
        "recall", "f1", "roc_auc", "average_precision" (macro averages; of two classes those of the second) or "cross_entropy".
      loss: a Keras loss by name, such as "categorical_focal_crossentropy", or a function (targets, outputs) -> (n,).

    >>> tfopt.tasks.classification(tfopt.datasets.digits(), score="f1").metric
    'f1'

    Raises:
      DataError: the data's y is no class index. OptionError: there is no such score.
    """
    return _for(Classification, data, score, loss)


@options.checked
def multi_label(
    data: Data,
    *,
    score: Literal["f1", "precision", "recall", "accuracy", "exact_match", "average_precision", "roc_auc"] | None = None,
    loss: Loss | None = None,
) -> Data:
    """Each class is there or not, by itself.

    Args:
      score: "f1" (without another), "precision", "recall", "average_precision", "roc_auc" (macro averages), "accuracy" (the share of single
        labels that are right) or "exact_match" (the share of examples with all labels right).
      loss: as of `classification`.

    Raises:
      DataError: the data's y is not (classes,) of 0 and 1. OptionError: there is no such score.
    """
    return _for(MultiLabel, data, score, loss)


@options.checked
def regression(
    data: Data,
    *,
    score: Literal["r2", "mae", "mse", "rmse"] | None = None,
    loss: Loss | None = None,
) -> Data:
    """A number, or several.

    Args:
      score: "r2" (without another), "mae", "mse" or "rmse"; of those the smaller is the better, and a limit is an upper one.
      loss: a Keras loss by name, such as "huber", or a function (targets, outputs) -> (n,); mean_squared_error without one.

    Raises:
      DataError: the data's y is no number. OptionError: there is no such score.
    """
    return _for(Regression, data, score, loss)


@options.checked
def detection(
    data: Data,
    *,
    score: Literal["map_50", "map"] | None = None,
    loss: Annotated[Callable | None, "function"] = None,
    strides: Annotated[list[Length] | tuple[Length, ...], Field(min_length=1), "list of pixels"] = _anchors.STRIDES,
    scales: Annotated[list[Positive] | tuple[Positive, ...], Field(min_length=1), "list of numbers"] = _anchors.SCALES,
    ratios: Annotated[list[Positive] | tuple[Positive, ...], Field(min_length=1), "list of numbers"] = _anchors.RATIOS,
) -> Data:
    """Boxes around what is in a picture, and their classes. The data has boxes: `voc` and `coco` give such.

    A model tells boxes against anchors, which follow from the size of the pictures and these options; see `tfopt.tasks.anchors`. Choose
    them so that each box that there is has one that covers it by half or more.

    Args:
      score: "map_50" (without another: the mean average precision of boxes covered by half) or "map" (the mean of that over 0.5 to 0.95).
      loss: a function (targets (n, anchors, 5), outputs (n, anchors, 4 + classes)) -> (n,), with each anchor's offsets and class for
        targets; -1 for no class, -2 for what does not count.
      strides: how far the places of anchors are apart in pixels, for each map of a model.
      scales: the sides of square anchors, in strides.
      ratios: width by height.

    >>> tfopt.tasks.detection(cells, scales=[2.5, 3.5]).task_options["scales"]
    [2.5, 3.5]

    Raises:
      DataError: the data has no boxes. OptionError: there is no such score, or an option out of range.
    """
    return _for(Detection, data, score, loss, strides=list(strides), scales=list(scales), ratios=list(ratios))


@options.checked
def segmentation(
    data: Data,
    *,
    score: Literal["iou", "dice", "accuracy"] | None = None,
    loss: Loss | None = None,
) -> Data:
    """A class for each pixel. The data has masks: `image_masks`, or `voc` with `masks`, makes such.

    Args:
      score: "iou" (without another: the mean over the classes of intersection by union), "dice" or "accuracy" (the share of right pixels).
      loss: as of `classification`.

    >>> tfopt.tasks.segmentation(cells, score="dice").metric
    'dice'

    Raises:
      DataError: the data's y is no mask of the pictures' size. OptionError: there is no such score.
    """
    return _for(Segmentation, data, score, loss)


@options.checked
def autoencoding(
    data: Data,
    *,
    score: Literal["mse", "mae", "r2"] | None = None,
    loss: Loss | None = None,
) -> Data:
    """A model puts out its own input. Any data with one input of float32 will do; what it has for y stays beside it.

    Args:
      score: "mse" (without another), "mae" or "r2".
      loss: as of `regression`.

    >>> tfopt.tasks.autoencoding(tfopt.datasets.digits()).task
    'autoencoding'

    Raises:
      DataError: the data has several inputs, or word indices. OptionError: there is no such score.
    """
    return _for(Autoencoding, data, score, loss)


@options.checked
def anomaly_detection(
    data: Data,
    *,
    normal: Names | None = None,
    error: Literal["mean", "max", "last"] = "mean",
    score: Literal["roc_auc", "average_precision", "mse"] | None = None,
    loss: Loss | None = None,
) -> Data:
    """Autoencoding of normal examples, so that an anomaly shows by its error. The data has classes: examples of others than the normal
    ones are left out of train, validation and calibration, and are the anomalies of the test set.

    Args:
      normal: the classes that are normal; without it the one of that name.
      error: which squared error of an example is looked at: its "mean", its "max", or its mean at the "last" place of a series.
      score: "roc_auc" (without another), "average_precision", or "mse" of the normal examples.
      loss: as of `regression`.

    >>> tfopt.tasks.anomaly_detection(tfopt.datasets.digits(), normal=["0", "1"]).classes
    ('normal', 'anomaly')

    Raises:
      DataError: the data has no classes, or none of these names, or nothing normal in train. OptionError: there is no such score.
    """
    if data.task == "anomaly_detection":
        return _for(AnomalyDetection, data, score, loss, error=error)
    _task.check_labels(dataclasses.replace(data, task="anomaly_detection"), 0, False, "data with a class index for each example")
    names = ["normal"] if normal is None else list(normal)
    if unknown := [name for name in names if name not in data.classes]:
        raise DataError(f"data {data.name!r} has no class {shown(unknown[0])} to be normal; {nearest(unknown[0], data.classes)}")
    if len(set(names)) == data.num_classes:
        raise DataError(f"data {data.name!r}: all its classes are normal; leave those out of `normal` that are anomalies")
    flags = np.array([name not in names for name in data.classes], np.int32)
    parts = {part: _flagged(data, part, flags) for part in _PARTS}
    renamed = dataclasses.replace(data, classes=("normal", "anomaly"), **parts)
    return _for(AnomalyDetection, renamed, score, loss, normal=tuple(names), error=error)


@options.checked
def transcription(
    data: Data,
    *,
    score: Literal["wer", "cer", "exact_match"] | None = None,
    loss: Own | None = None,
) -> Data:
    """A sequence of symbols that are said one after the other, at places that nobody marks (CTC).

    Args:
      score: "wer" (without another): words that are wrong, missing or too many for each word that there is; "cer", of characters the same,
        where the classes are characters with a space among them; or "exact_match", the share of transcripts without a mistake. Of errors
        the smaller is the better, and a limit is an upper one.
      loss: a function (targets, outputs) -> (n,); connectionist temporal classification without one.

    >>> tfopt.tasks.transcription(data, score="exact_match").metric
    'exact_match'

    Raises:
      DataError: the data's y are no sequences of class indices. OptionError: there is no such score.
    """
    return _for(Transcription, data, score, loss)


@options.checked
def sequence_to_sequence(
    data: Data,
    *,
    score: Literal["exact_match", "token_accuracy"] | None = None,
    loss: Own | None = None,
) -> Data:
    """A text as another one.

    Args:
      score: "exact_match" (without another), the share of texts that come out without a mistake, or "token_accuracy", the share of symbols
        that are right at their place. Both are of what a model writes by itself, symbol by symbol.
      loss: a function (targets, outputs) -> (n,); without one the cross-entropy of each symbol, with the right ones before it.

    >>> tfopt.tasks.sequence_to_sequence(tfopt.datasets.number_words(), score="token_accuracy").metric
    'token_accuracy'

    Raises:
      DataError: the data has no input "before" or no such y. OptionError: there is no such score.
    """
    return _for(SequenceToSequence, data, score, loss)


@options.checked
def generation(
    data: Data,
    *,
    score: Literal["perplexity", "accuracy"] | None = None,
    loss: Own | None = None,
) -> Data:
    """The next symbol of a text, from those before it.

    Args:
      score: "perplexity" (without another), e to the mean cross-entropy of a symbol: the smaller the better, and a limit is an upper one;
        or "accuracy", the share of symbols for which the likeliest one is right.
      loss: a function (targets, outputs) -> (n,); without one the cross-entropy of each symbol.

    >>> tfopt.tasks.generation(tfopt.datasets.text_lines(file="rt-polarity.all", encoding="latin-1"), score="accuracy").metric
    'accuracy'

    Raises:
      DataError: the data's y is not what comes after its x. OptionError: there is no such score.
    """
    return _for(Generation, data, score, loss)


_PARTS = ("train", "validation", "calibration", "test")


def _flagged(data: Data, part: str, flags: np.ndarray) -> Any:
    """The examples of a part with 0 or 1 for their classes; without those of 1 but in the test set."""
    held, steps = pipelines.behind(getattr(data, part))
    if not isinstance(held, Rows):
        raise DataError(f"data {data.name!r} is streamed, and its anomalies can't be left out of training; load it with cache = 'memory'")
    held = held.take(slice(None) if part == "test" else np.flatnonzero(flags[held.y] == 0))
    if not len(held):
        raise DataError(f"data {data.name!r}: {part} has no normal example; choose other shares, or name other classes as normal")
    return pipelines.dataset_of(dataclasses.replace(held, y=flags[held.y]), steps)


def _for(kind: type[Task], data: Data, score: str | None, loss: Any, **more: Any) -> Data:
    """The data with its task, score and loss, under another fingerprint, and checked."""
    pipelines.check_data(data)
    told = loss if isinstance(loss, str | None) else f"{loss.__module__}.{loss.__qualname__}"
    fingerprint = hashlib.sha256(repr((data.fingerprint, kind.name, score, told, sorted(more.items()))).encode()).hexdigest()
    task_options = {key: value for key, value in more.items() if key != "normal"}
    chosen = dataclasses.replace(data, task=kind.name, metric=score, loss=loss, fingerprint=fingerprint, task_options=task_options)
    task = kind(chosen)
    task.metric(task.score)
    return chosen
