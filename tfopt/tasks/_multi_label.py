"""Multi-label classification: each class is there or not, by itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..errors import DataError
from . import _endings, _metrics, _task
from ._task import Metric, Task, mean_of


class MultiLabel(Task):
    """y is (classes,) float32 of 0 and 1. A class is taken for there from a probability of 0.5."""

    name = "multi_label"
    undefined = "some class has to be there in some examples and not in others; or choose another score"

    def __init__(self, data: Any):
        super().__init__(data)
        _task.check_labels(data, 1, True, "a 0 or 1 for each class, float32 of shape (classes,)")

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """Macro averages over the classes; accuracy is the share of single labels, exact_match that of examples with all labels right."""
        found = {
            name: Metric(lambda y, p, at=at: float(_metrics.precision_recall_f1(y, _there(p), "macro")[at]), share=True)
            for at, name in ((2, "f1"), (0, "precision"), (1, "recall"))
        }
        found["accuracy"] = mean_of(lambda y, p: _right(y, p).mean(axis=1), share=True)
        found["exact_match"] = mean_of(_exact, share=True)
        found["average_precision"] = Metric(lambda y, p: _metrics.macro("average_precision_score", y, _metrics.finite(p)))
        found["roc_auc"] = Metric(lambda y, p: _metrics.macro("roc_auc_score", y, _metrics.finite(p)))
        return found

    def outputs(self) -> tuple[tuple[int, ...], ...]:
        """A value a class."""
        return ((self.data.num_classes,),)

    @property
    def ending(self) -> str:
        """A sigmoid for each class."""
        return f"Dense({self.data.num_classes}, activation='sigmoid')"

    @property
    def activation(self) -> str:
        """Of probabilities, each by itself."""
        return "sigmoid"

    def loss(self, model: Any, *, soft: bool = False, smoothing: float = 0.0) -> Any:
        """Binary cross-entropy, of probabilities after a sigmoid, else of logits."""
        activation = _endings.activation_of(model)
        if activation not in ("linear", "sigmoid"):
            raise DataError(f"model {model.name!r} ends in {activation}; several labels at once need a sigmoid or logits")
        return _task.keras_loss(self.data, "binary_crossentropy", from_logits=activation == "linear", label_smoothing=smoothing)

    def watched(self, model: Any) -> list[Any]:
        """The share of single labels that are right."""
        return [_task.binary_accuracy("accuracy", _endings.activation_of(model))]

    def agreement(self, outputs: np.ndarray, expected: np.ndarray) -> float:
        """The share of single labels that both give."""
        mine, theirs = (self.prepared(one, expected) for one in (outputs, expected))
        return float(np.mean((_there(mine) == _there(theirs)) & np.isfinite(mine)))

    def prepared(self, outputs: np.ndarray, expected: np.ndarray) -> np.ndarray:
        """Probabilities (n, classes)."""
        return outputs if _metrics.are_probabilities(expected) else _metrics.sigmoid(outputs)

    def per_class(self, truth: np.ndarray, outputs: np.ndarray) -> dict[str, dict[str, float]]:
        """Precision, recall, F1, average precision and ROC AUC of each class, and in how many examples it is."""
        columns = _metrics.precision_recall_f1(truth, _there(outputs), None)
        more = [_metrics.each(name, truth, _metrics.finite(outputs)) for name in ("average_precision_score", "roc_auc_score")]
        names = ("precision", "recall", "f1", "examples", "average_precision", "roc_auc")
        return {
            name: dict(zip(names, map(float, values), strict=True))
            for name, *values in zip(self.data.classes, *columns, *more, strict=True)
        }


def _there(p: np.ndarray) -> np.ndarray:
    return (p >= 0.5).astype(np.int32)


def _right(y: np.ndarray, p: np.ndarray) -> np.ndarray:
    return ((_there(p) == y) & np.isfinite(p)).astype(np.float64)


def _exact(y: np.ndarray, p: np.ndarray) -> np.ndarray:
    return _right(y, p).min(axis=1)
