"""Classification: one class of several, or of two.

A model gives a value for each class, or for two classes one value alone: that of the second.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..errors import DataError, OptionError
from . import _endings, _metrics, _task
from ._task import Metric, Task, mean_of

_TOP_K = re.compile(r"top_([1-9]\d*)_accuracy")
_MOST_LISTED = 5  # top_5_accuracy is listed where there are more classes


class Classification(Task):
    """y is an int32 class index."""

    name = "classification"

    def __init__(self, data: Any):
        super().__init__(data)
        _task.check_labels(data, 0, False, "a class index for each example, int32 of shape ()")
        if data.num_classes < 2:
            raise DataError(f"data {data.name!r}: has {data.num_classes} classes; classification needs two or more")

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """Accuracies, then the macro averages over classes, then what looks at probabilities; of two classes of the second."""
        found = {"accuracy": mean_of(lambda y, p: _right(y, p, 1), share=True)}
        chosen = _TOP_K.fullmatch(self.data.metric or "")
        for k in sorted({*([_MOST_LISTED] if self.data.num_classes > _MOST_LISTED else []), *([int(chosen[1])] if chosen else [])}):
            found[f"top_{k}_accuracy"] = mean_of(lambda y, p, k=k: _right(y, p, k), share=True)
        for at, name in enumerate(("precision", "recall", "f1")):
            found[name] = Metric(lambda y, p, at=at: float(self._averaged(y, p)[at]), share=True)
        found["roc_auc"] = Metric(lambda y, p: _metrics.macro("roc_auc_score", y, _metrics.finite(p)))
        found["average_precision"] = Metric(lambda y, p: _metrics.macro("average_precision_score", y, _metrics.finite(p)))
        found["cross_entropy"] = mean_of(_entropy, greater_is_better=False)
        return found

    def _averaged(self, y: np.ndarray, p: np.ndarray) -> tuple[Any, ...]:
        labels = [1] if self.data.num_classes == 2 else np.unique(y)
        return _metrics.precision_recall_f1(y, _metrics.classes(p), "macro", labels=labels)

    def outputs(self) -> tuple[tuple[int, ...], ...]:
        """A value a class; of two classes one value will do."""
        return ((self.data.num_classes,), (1,)) if self.data.num_classes == 2 else ((self.data.num_classes,),)

    @property
    def ending(self) -> str:
        """A softmax over the classes."""
        return f"Dense({self.data.num_classes}, activation='softmax')"

    @property
    def activation(self) -> str:
        """Of probabilities that sum to 1."""
        return "softmax"

    def loss(self, model: Any, *, soft: bool = False, smoothing: float = 0.0) -> Any:
        """Cross-entropy, of probabilities after a softmax, else of logits."""
        alone = _is_alone(model)
        activation, right = _endings.activation_of(model), "sigmoid" if alone else "softmax"
        if activation not in ("linear", right):
            kind = "one value for two classes" if alone else "one class of several"
            raise DataError(f"model {model.name!r} ends in {activation}; {kind} needs a {right} or logits")
        if alone and soft:
            raise DataError(
                f"model {model.name!r} has one output, and the labels of {self.data.name!r} are shares of two classes; "
                f"end it in {self.ending}"
            )
        if soft and not smoothing and str(self.data.loss).startswith("sparse_"):
            raise OptionError(
                f"loss = {self.data.loss!r}: takes class indices, and the labels of {self.data.name!r} become shares of the classes "
                f"(mixup, cutmix); use {self.data.loss.removeprefix('sparse_')!r}, or leave loss out"
            )
        usual = "binary_crossentropy" if alone else "categorical_crossentropy" if soft else "sparse_categorical_crossentropy"
        return _task.keras_loss(self.data, usual, from_logits=activation == "linear", label_smoothing=smoothing)

    def watched(self, model: Any) -> list[Any]:
        """Accuracy."""
        return [_task.binary_accuracy("accuracy", _endings.activation_of(model))] if _is_alone(model) else ["accuracy"]

    def agreement(self, outputs: np.ndarray, expected: np.ndarray) -> float:
        """The share of examples with the same class."""
        mine, theirs = (_metrics.classes(self.prepared(one, expected)) for one in (outputs, expected))
        return float(np.mean((mine == theirs) & (mine >= 0)))

    def prepared(self, outputs: np.ndarray, expected: np.ndarray) -> np.ndarray:
        """Probabilities (n, classes)."""
        if outputs.shape[1] == 1 < self.data.num_classes:
            alone = outputs if _metrics.are_probabilities(expected) else _metrics.sigmoid(outputs)
            return np.concatenate([1 - alone, alone], axis=1)
        return outputs if _metrics.are_probabilities(expected) else _metrics.softmax(outputs)

    def per_class(self, truth: np.ndarray, outputs: np.ndarray) -> dict[str, dict[str, float]]:
        """Precision, recall, F1 and average precision of each class, and how many examples it has."""
        number = self.data.num_classes
        columns = _metrics.precision_recall_f1(truth, _metrics.classes(outputs), None, labels=range(number))
        return {
            name: dict(zip(("precision", "recall", "f1", "examples"), map(float, values), strict=True))
            for name, *values in zip(self.data.classes, *columns, strict=True)
        }

    def confusion(self, truth: np.ndarray, outputs: np.ndarray) -> tuple[tuple[int, ...], ...]:
        """Counts, as scikit-learn's confusion_matrix; outputs that are no numbers are in no column."""
        predicted = _metrics.classes(outputs)
        matrix = np.zeros((self.data.num_classes,) * 2, np.int64)
        np.add.at(matrix, (truth[predicted >= 0], predicted[predicted >= 0]), 1)
        return tuple(tuple(map(int, row)) for row in matrix)


def _is_alone(model: Any) -> bool:
    """Whether a model of two classes gives one value."""
    return tuple(model.outputs[0].shape)[1:] == (1,)


def _right(y: np.ndarray, p: np.ndarray, k: int) -> np.ndarray:
    """1 where fewer than k classes have a greater value than the true one, of equals those that come first."""
    if k == 1:
        return (_metrics.classes(p) == y).astype(np.float64)
    order = np.argsort(-p, axis=1, kind="stable")[:, :k]
    return ((order == y[:, np.newaxis]).any(axis=1) & np.isfinite(p).all(axis=1)).astype(np.float64)


def _entropy(y: np.ndarray, p: np.ndarray) -> np.ndarray:
    return _metrics.entropy(np.take_along_axis(_metrics.finite(p), y[:, np.newaxis], axis=1)[:, 0])
