"""Regression: a number, or several."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..errors import DataError
from . import _endings, _task
from ._task import Metric, Task, mean_of

_BOUNDED = ("softmax", "sigmoid", "tanh", "hard_sigmoid", "softsign")


class Regression(Task):
    """y is a float32 number, or (k,) of them.

    Where the source of the data has scaled its targets (`source["target_scale"]`: mean, std), a model gives scaled numbers, and mse, rmse
    and mae are in the units from before.
    """

    name = "regression"
    agrees = _task.LIKENESS
    undefined = "its targets are all the same; choose another score"

    def __init__(self, data: Any):
        super().__init__(data)
        rank = 1 if len(getattr(_task.label_spec(data), "shape", ())) == 1 else 0
        _task.check_labels(data, rank, True, "a number for each example, float32 of shape () or (k,)")
        self.shape = tuple(_task.label_spec(data).shape)
        self.unit = float(data.source.get("target_scale", {}).get("std", 1.0))

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """Errors in the targets' units, and R2."""
        square = self.unit**2
        return {
            "r2": Metric(_r2),
            "mae": mean_of(lambda y, p: self.unit * _absolute(y, p), greater_is_better=False),
            "mse": mean_of(lambda y, p: square * _squares(y, p), greater_is_better=False),
            "rmse": Metric(lambda y, p: self.unit * float(np.sqrt(_squares(y, p).mean())), False),
        }

    def outputs(self) -> tuple[tuple[int, ...], ...]:
        """A value for each number."""
        return ((1,), ()) if not self.shape else (self.shape,)

    @property
    def ending(self) -> str:
        """A Dense without an activation."""
        return f"Dense({self.outputs()[0][0]})"

    def loss(self, model: Any, *, soft: bool = False, smoothing: float = 0.0) -> Any:
        """The mean squared error."""
        activation = _endings.activation_of(model)
        if activation in _BOUNDED:
            raise DataError(f"model {model.name!r} ends in {activation}; regression needs an output without it, such as {self.ending}")
        return _task.keras_loss(self.data, "mean_squared_error", label_smoothing=smoothing)

    def watched(self, model: Any) -> list[Any]:
        """The mean absolute error."""
        return ["mean_absolute_error"]

    def agreement(self, outputs: np.ndarray, expected: np.ndarray) -> float:
        """R2 of the outputs as a prediction of the expected ones."""
        return _task.likeness(outputs, expected)

    def prepared(self, outputs: np.ndarray, expected: np.ndarray) -> np.ndarray:
        """As the targets are."""
        return outputs.reshape(len(outputs), *self.shape)


def _squares(y: np.ndarray, p: np.ndarray) -> np.ndarray:
    """The mean over an example's numbers."""
    return np.square(_task.number_errors(y, p)).mean(axis=1)


def _absolute(y: np.ndarray, p: np.ndarray) -> np.ndarray:
    return np.abs(_task.number_errors(y, p)).mean(axis=1)


def _r2(y: np.ndarray, p: np.ndarray) -> float:
    """As scikit-learn's r2_score: the mean over the numbers of an example."""
    spread = np.square(y.astype(np.float64) - y.mean(axis=0, dtype=np.float64)).reshape(len(y), -1).sum(axis=0)
    if not spread.all():
        return float("nan")
    return float(np.mean(1 - np.square(_task.number_errors(y, p)).sum(axis=0) / spread))
