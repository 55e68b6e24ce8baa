"""Segmentation: a class for each pixel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .. import backend
from ..errors import DataError, OptionError
from . import _endings, _metrics, _task
from ._task import Metric, Task

VOID = -1  # of a pixel that does not count


class Segmentation(Task):
    """y is a mask (height, width) of class indices, integers; the background is a class like others. A pixel of -1 counts neither in the
    loss nor in a metric.

    Metrics are made of the pixels of all pictures together, not of means over pictures: a picture without a class says nothing of it.
    """

    name = "segmentation"
    undefined = "every pixel of its masks is void; give it masks with classes"

    def __init__(self, data: Any):
        super().__init__(data)
        _task.check_labels(data, 2, False, "a mask of class indices for each picture, integers of shape (height, width)")
        self.shape = tuple(_task.label_spec(data).shape)
        if isinstance(data.input_shape, dict) or tuple(data.input_shape[:2]) != self.shape:
            raise DataError(
                f"data {data.name!r}: pictures are {_size(data.input_shape)} and masks {_size(self.shape)}; segmentation needs both of one "
                "size: leave steps out that change it for pictures alone"
            )
        if data.num_classes < 2:
            raise DataError(f"data {data.name!r}: has {data.num_classes} classes; segmentation needs two or more, with the background")

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """The mean over the classes of intersection by union, as Keras's MeanIoU, and of Dice's coefficient; the share of right pixels."""
        return {
            "iou": Metric(lambda counts, _: _metrics.mean_of_known(_ious(counts.sum(axis=0))), share=True),
            "dice": Metric(lambda counts, _: _metrics.mean_of_known(_dices(counts.sum(axis=0))), share=True),
            "accuracy": Metric(lambda counts, _: _accuracy(counts.sum(axis=0)), share=True),
        }

    def outputs(self) -> tuple[tuple[int, ...], ...]:
        """A value a class for each pixel."""
        return ((*self.shape, self.data.num_classes),)

    @property
    def ending(self) -> str:
        """A softmax over the classes at each pixel."""
        return f"Conv2D({self.data.num_classes}, 1, activation='softmax') at the size of the picture, as tfopt's unet does"

    @property
    def activation(self) -> str:
        """Of probabilities that sum to 1 at each pixel."""
        return "softmax"

    @property
    def asked(self) -> Mapping[str, Any]:
        """As many classes."""
        return {"num_classes": self.data.num_classes, "activation": self.activation}

    def loss(self, model: Any, *, soft: bool = False, smoothing: float = 0.0) -> Any:
        """Cross-entropy of each pixel, of probabilities after a softmax, else of logits. `smoothed` has smoothed the targets already."""
        activation = _endings.activation_of(model)
        if activation not in ("linear", "softmax"):
            raise DataError(f"model {model.name!r} ends in {activation}; one class of several at each pixel needs a softmax or logits")
        if smoothing and str(self.data.loss).startswith("sparse_"):
            raise OptionError(f"fit.label_smoothing: the loss {self.data.loss} has no label smoothing; leave one of both out")
        usual = "categorical_crossentropy" if soft else "sparse_categorical_crossentropy"
        settings = {"from_logits": activation == "linear", "ignore_class": VOID}
        return _task.keras_loss(self.data, usual, **settings)

    def smoothed(self, target: Any, smoothing: float) -> Any:
        """Shares of the classes, smoothed but for void pixels, whose shares are all 0 and give no loss; the loss would give them some."""
        tf = backend.tensorflow()
        return target * (1 - smoothing) + smoothing / self.data.num_classes * tf.reduce_sum(target, -1, keepdims=True)

    def watched(self, model: Any) -> list[Any]:
        """The share of right pixels."""
        return [accuracy]

    def agreement(self, outputs: np.ndarray, expected: np.ndarray) -> float:
        """The share of pixels with the same class."""
        mine, theirs = (self.prepared(one, expected) for one in (outputs, expected))
        return float(np.mean((mine == theirs) & (mine >= 0)))

    def prepared(self, outputs: np.ndarray, expected: np.ndarray) -> np.ndarray:
        """The class of each pixel (n, height, width); -1, which is always wrong, where an output is no number."""
        return _metrics.classes(outputs)

    def compared(self, truth: np.ndarray, outputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """For each picture how many pixels of each class (a row) were taken for each class, (n, classes, classes + 1); in the last column
        stand those of which an output is no number.
        """
        number = self.data.num_classes
        return np.stack([_counts(one, taken, number) for one, taken in zip(truth, outputs, strict=True)]), outputs

    def per_class(self, truth: np.ndarray, outputs: np.ndarray) -> dict[str, dict[str, float]]:
        """Intersection by union, precision and recall of each class, and how many pixels it has."""
        counts = truth.sum(axis=0)
        hits, pixels = np.diagonal(counts), counts.sum(axis=1)
        columns = {
            "iou": _ious(counts),
            "precision": _shares(hits, counts[:, :-1].sum(axis=0)),
            "recall": _shares(hits, pixels),
            "pixels": pixels,
        }
        return {name: {of: float(one[at]) for of, one in columns.items()} for at, name in enumerate(self.data.classes)}

    def confusion(self, truth: np.ndarray, outputs: np.ndarray) -> tuple[tuple[int, ...], ...]:
        """Counts of pixels."""
        return tuple(tuple(map(int, row[:-1])) for row in truth.sum(axis=0))


def accuracy(targets: Any, outputs: Any) -> Any:
    """The share of right pixels of a batch, as a Keras metric; targets are class indices, or the classes' shares."""
    tf = backend.tensorflow()
    counts = targets >= 0
    if targets.shape.rank == outputs.shape.rank:
        counts, targets = tf.reduce_any(targets > 0, -1), tf.argmax(targets, -1)
    right = counts & (tf.argmax(outputs, -1, tf.int32) == tf.cast(targets, tf.int32))
    return tf.math.divide_no_nan(*(tf.reduce_sum(tf.cast(one, tf.float32)) for one in (right, counts)))


def _counts(truth: np.ndarray, taken: np.ndarray, number: int) -> np.ndarray:
    counted = truth >= 0
    columns = np.where(taken < 0, number, taken)[counted]
    places = truth[counted].astype(np.int64) * (number + 1) + columns
    return np.bincount(places, minlength=number * (number + 1)).reshape(number, number + 1)


def _shares(some: np.ndarray, of: np.ndarray) -> np.ndarray:
    return np.divide(some, of, out=np.full(len(of), np.nan), where=of > 0)


def _ious(counts: np.ndarray) -> np.ndarray:
    """(classes,); NaN of a class that is neither there nor found."""
    hits = np.diagonal(counts)
    return _shares(hits, counts.sum(axis=1) + counts[:, :-1].sum(axis=0) - hits)


def _dices(counts: np.ndarray) -> np.ndarray:
    return _shares(2 * np.diagonal(counts), counts.sum(axis=1) + counts[:, :-1].sum(axis=0))


def _accuracy(counts: np.ndarray) -> float:
    total = counts.sum()
    return float(np.trace(counts) / total) if total else float("nan")


def _size(shape: Any) -> str:
    return "several inputs" if isinstance(shape, dict) else "x".join(map(str, shape[:2])) or "single numbers"
