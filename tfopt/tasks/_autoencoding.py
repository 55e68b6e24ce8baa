"""Autoencoding: a model puts out its own input; and finding anomalies by how badly it does so."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..errors import DataError
from . import _metrics, _task
from ._task import Metric, Task, mean_of


class Autoencoding(Task):
    """The target is x; y is not looked at."""

    name = "autoencoding"
    agrees = _task.LIKENESS
    undefined = "its examples are all the same; choose another score"

    def __init__(self, data: Any):
        super().__init__(data)
        if isinstance(data.input_shape, dict):
            raise DataError(f"data {data.name!r} has several inputs ({', '.join(data.input_shape)}); {self.name} needs one")
        if data.input_dtype != "float32":
            raise DataError(f"data {data.name!r}: x is {data.input_dtype}; {self.name} needs float32, which an error can be taken of")

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """Errors in the units of x, and R2: 1 for a perfect copy, 0 for the mean of all examples."""
        return {
            "mse": mean_of(errors, greater_is_better=False),
            "mae": mean_of(_absolute, greater_is_better=False),
            "r2": Metric(_r2),
        }

    def outputs(self) -> tuple[tuple[int, ...], ...]:
        """That of the input."""
        return (self.data.input_shape,)

    @property
    def ending(self) -> str:
        """The input's own shape."""
        return f"Dense({math.prod(self.data.input_shape)}) and Reshape({self.data.input_shape}), or use tfopt's autoencoder"

    def loss(self, model: Any, *, soft: bool = False, smoothing: float = 0.0) -> Any:
        """The mean squared error."""
        return _task.keras_loss(self.data, "mean_squared_error", label_smoothing=smoothing)

    def watched(self, model: Any) -> list[Any]:
        """The mean absolute error."""
        return ["mean_absolute_error"]

    def target(self, x: Any, y: Any) -> Any:
        """x, augmented where it is."""
        return x

    def truth(self, x: Any, y: Any) -> Any:
        """The examples themselves."""
        return x

    def agreement(self, outputs: np.ndarray, expected: np.ndarray) -> float:
        """R2 of the outputs as a prediction of the expected ones."""
        return _task.likeness(outputs.reshape(len(outputs), -1), expected.reshape(len(expected), -1))


class AnomalyDetection(Autoencoding):
    """Trained on normal examples; y is 0 for normal and 1 for an anomaly. An example is the more suspicious the larger its error is.

    The option "error" of the data says which: "mean" over all of an example, "max", or "last": the mean at the last place of a series
    (length, channels), for windows that are labelled by their end.
    """

    name = "anomaly_detection"
    undefined = "the test set should hold normal examples and anomalies; or choose the score mse"

    def __init__(self, data: Any):
        super().__init__(data)
        _task.check_labels(data, 0, False, "0 for a normal example and 1 for an anomaly, int32 of shape ()")
        self.error = data.task_options.get("error", "mean")

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """How well the error tells anomalies from normal examples, and the mean squared error of the normal ones."""
        return {
            "roc_auc": Metric(lambda truth, p: _metrics.macro("roc_auc_score", truth["labels"], self._suspicion(truth, p))),
            "average_precision": Metric(
                lambda truth, p: _metrics.macro("average_precision_score", truth["labels"], self._suspicion(truth, p))
            ),
            "mse": Metric(self._normal_error, False),
        }

    def truth(self, x: Any, y: Any) -> Any:
        """The examples and their labels."""
        return {"inputs": x, "labels": y}

    def _suspicion(self, truth: Any, p: np.ndarray) -> np.ndarray:
        """(n, 2), of which the second column counts. An output that is no number is an error beyond all others."""
        found = np.minimum(errors(truth["inputs"], p, self.error), np.finfo(np.float64).max)
        return np.stack([-found, found], axis=1)

    def _normal_error(self, truth: Any, p: np.ndarray) -> float:
        normal = truth["labels"] == 0
        return float(errors(truth["inputs"][normal], p[normal]).mean()) if normal.any() else float("nan")


def errors(x: np.ndarray, outputs: np.ndarray, which: str = "mean") -> np.ndarray:
    """(n,) float64: the squared error of each example: its mean, its maximum, or its mean at the last place."""
    if which == "last":
        x, outputs = x[:, -1], outputs[:, -1]
    squares = np.square(_task.number_errors(x, outputs))
    return squares.max(axis=1) if which == "max" else squares.mean(axis=1)


def _absolute(x: np.ndarray, outputs: np.ndarray) -> np.ndarray:
    return np.abs(_task.number_errors(x, outputs)).mean(axis=1)


def _r2(x: np.ndarray, outputs: np.ndarray) -> float:
    spread = float(np.square(x - x.mean(axis=0, dtype=np.float64)).sum())
    return 1 - float(np.square(_task.number_errors(x, outputs)).sum()) / spread if spread else float("nan")
