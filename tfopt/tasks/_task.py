"""What a task is: the outputs that a model needs for it, its loss, its metrics, and what its scores are made of."""

from __future__ import annotations

import abc
import inspect
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .. import backend
from ..errors import DataError, OptionError, nearest, said, shown
from ..types import Data
from . import _intervals

LIKENESS = "R2 as a prediction of the trained model's outputs"


@dataclass(frozen=True)
class Metric:
    """A number that tells how good outputs are.

    Attributes:
      of: (truth, outputs) -> the number.
      greater_is_better: whether more of it is better.
      share: whether it is a share of 0 to 1 that people speak of in percent.
      each: (truth, outputs) -> (n,), one value an example, of which the metric is the mean; None where it is no such mean.
      parts: (truth, outputs) -> (n, 2), two numbers an example, whose sums over all examples the metric follows from by `joined`; or None.
      joined: (sum of the first, sum of the second) -> the number.
    """

    of: Callable[[Any, np.ndarray], float]
    greater_is_better: bool = True
    share: bool = False
    each: Callable[[Any, np.ndarray], np.ndarray] | None = None
    parts: Callable[[Any, np.ndarray], np.ndarray] | None = None
    joined: Callable[[float, float], float] | None = None


def mean_of(each: Callable[[Any, np.ndarray], np.ndarray], **known: bool) -> Metric:
    """The metric that is the mean of a value that each example has; `known` as for `Metric`."""
    return Metric(lambda truth, outputs: float(each(truth, outputs).mean()), each=each, **known)


def ratio(part: float, whole: float) -> float:
    """NaN of nothing."""
    return float(part / whole) if whole else float("nan")


def sums_of(parts: Callable[[Any, np.ndarray], np.ndarray], joined: Callable[[float, float], float] = ratio, **known: bool) -> Metric:
    """The metric that follows from the sums of two numbers that each example has, such as errors and words; `known` as for `Metric`."""
    return Metric(lambda truth, outputs: joined(*parts(truth, outputs).sum(axis=0)), parts=parts, joined=joined, **known)


@dataclass(frozen=True)
class Scores:
    """What outputs are worth.

    Attributes:
      metric, value, interval: the metric that limits speak of, its value, and its 95 % confidence interval.
      greater_is_better, share: see `Metric`.
      metrics: every metric of the task by name; NaN where it is not defined on these examples.
      per_class: class -> metric -> value.
      confusion: (classes, classes) counts, a row for each true class; empty for other tasks.
    """

    metric: str
    value: float
    interval: tuple[float, float]
    greater_is_better: bool
    share: bool
    metrics: Mapping[str, float]
    per_class: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    confusion: tuple[tuple[int, ...], ...] = ()


class Task(abc.ABC):
    """One task for one `Data`.

    *Truth* is what outputs are compared with when they are scored, and *target* what a loss compares them with: mostly both are y.
    """

    name: str
    agrees = "with the trained Keras model's answers"  # what `agreement` says, behind "agrees: "
    undefined = "give it examples of each class, or choose another score"

    def __init__(self, data: Data):
        self.data = data

    @property
    @abc.abstractmethod
    def metrics(self) -> Mapping[str, Metric]:
        """Of the task, by name; the first is the score unless the data says another."""

    @abc.abstractmethod
    def outputs(self) -> tuple[tuple[int, ...], ...]:
        """The shapes that an example's output may have; the first is that of tfopt's own models."""

    def accepts(self, shape: tuple[int | None, ...]) -> bool:
        """Whether a model's outputs may have this shape; None in it, or in `outputs`, stands for any size."""
        return any(
            len(shape) == len(one) and all(mine == yours or None in (mine, yours) for mine, yours in zip(shape, one, strict=True))
            for one in self.outputs()
        )

    def problem(self, model: Any) -> str | None:
        """Why a model whose outputs have the right shape can't do for this data all the same, and what would; None where it can."""
        return None

    @property
    @abc.abstractmethod
    def ending(self) -> str:
        """How a model for it may end, such as "Dense(10, activation='softmax')"."""

    @property
    def activation(self) -> str:
        """At the end of tfopt's own models."""
        return "linear"

    @abc.abstractmethod
    def loss(self, model: Any, *, soft: bool = False, smoothing: float = 0.0) -> Any:
        """The Keras loss of a model's outputs. `soft`: the targets are shares of the classes. `smoothing`: of labels."""

    def watched(self, model: Any) -> list[Any]:
        """The Keras metrics whose curves are drawn while the model is trained."""
        return []

    def target(self, x: Any, y: Any) -> Any:
        """What the loss compares the outputs with, of a batch; in TensorFlow's operations."""
        return y

    def smoothed(self, target: Any, smoothing: float) -> Any:
        """Shares of the classes with label smoothing, where the loss itself does not do it."""
        return target

    def truth(self, x: Any, y: Any) -> Any:
        """What the outputs are compared with when they are scored, of a batch of arrays."""
        return y

    def predict(self, run: Callable[[Any], np.ndarray], x: Any) -> np.ndarray:
        """The outputs for a batch of arrays by `run`, which is a Keras model or a file: x -> (n, ...) float32."""
        return run(x)

    @abc.abstractmethod
    def agreement(self, outputs: np.ndarray, expected: np.ndarray) -> float:
        """How far a file's outputs say what the trained model's do, from 0 to 1."""

    def per_class(self, truth: Any, outputs: np.ndarray) -> dict[str, dict[str, float]]:
        """Metrics of each class, where there are classes."""
        return {}

    def confusion(self, truth: Any, outputs: np.ndarray) -> tuple[tuple[int, ...], ...]:
        """How often each true class (a row) was taken for each class."""
        return ()

    def prepared(self, outputs: np.ndarray, expected: np.ndarray) -> np.ndarray:
        """Outputs as metrics take them; `expected` are those of the trained Keras model, which tells logits from probabilities."""
        return outputs

    def compared(self, truth: Any, outputs: np.ndarray) -> tuple[Any, np.ndarray]:
        """The truth and the prepared outputs, or in place of the truth what the metrics need of both, example by example: what takes long
        to compare is compared once, and an interval's draws choose among that.
        """
        return truth, outputs

    @property
    def asked(self) -> Mapping[str, Any]:
        """What tfopt's builders are told, beside the shape of the input: how many outputs, classes or values, and options by name."""
        return {"num_classes": self.outputs()[0][0], "activation": self.activation}

    @property
    def score(self) -> str:
        """The name of the metric that limits speak of."""
        return self.data.metric or next(iter(self.metrics))

    def metric(self, name: str) -> Metric:
        """The metric of that name.

        Raises:
          OptionError: the task has none such.
        """
        if name not in self.metrics:
            raise OptionError(f"score = {shown(name)}: {self.name} has no such metric; {nearest(name, self.metrics)}")
        return self.metrics[name]

    def value(self, truth: Any, outputs: np.ndarray, expected: np.ndarray) -> float:
        """The score alone.

        Raises:
          DataError: it is not defined on this truth.
        """
        return self._defined(self.metric(self.score).of(*self.compared(truth, self.prepared(outputs, expected))))

    def scores(self, truth: Any, outputs: np.ndarray, expected: np.ndarray) -> Scores:
        """Every metric of the outputs (n, ...), and the score's interval.

        Raises:
          DataError: the score is not defined on this truth.
        """
        metric = self.metric(self.score)
        truth, outputs = self.compared(truth, self.prepared(outputs, expected))
        metrics = {name: one.of(truth, outputs) for name, one in self.metrics.items()}
        return Scores(
            metric=self.score,
            value=self._defined(metrics[self.score]),
            interval=_intervals.of(metric, truth, outputs),
            greater_is_better=metric.greater_is_better,
            share=metric.share,
            metrics=metrics,
            per_class=self.per_class(truth, outputs),
            confusion=self.confusion(truth, outputs),
        )

    def _defined(self, value: float) -> float:
        if math.isnan(value):
            raise DataError(f"{self.data.name}: {self.score} is not defined on this test set; {self.undefined}")
        return value


def keras_loss(data: Data, usual: str, **settings: Any) -> Any:
    """The loss that the data names, else the usual one of its task.

    A function of the user's own, (targets, outputs) -> (n,), is taken as it is. A named one gets those of the `settings` that it has.

    Raises:
      OptionError: there is no such loss, or it takes no such settings.
    """
    if callable(data.loss):
        return own_loss(data, settings.get("label_smoothing", 0.0))
    losses = backend.keras().losses
    name = data.loss or usual
    known = {_snake(one): kind for one, kind in vars(losses).items() if inspect.isclass(kind) and kind is not losses.Loss}
    kind = known.get(name)
    if kind is None:
        raise OptionError(f"loss = {shown(name)}: no such loss; {nearest(name, known)}")
    taken = inspect.signature(kind).parameters
    if settings.get("label_smoothing") and "label_smoothing" not in taken:
        raise OptionError(f"fit.label_smoothing: the loss {name} has no label smoothing; leave one of both out")
    try:
        return kind(**{key: value for key, value in settings.items() if key in taken})
    except (TypeError, ValueError) as error:
        raise OptionError(f"loss = {shown(name)}: can't be made ({said(error)}); choose another one") from error


def own_loss(data: Data, smoothing: float) -> Any:
    """The data's loss that is a function of the user's.

    Raises:
      OptionError: it would be given labels that are not smoothed, where `smoothing` asks for it.
    """
    if smoothing:
        raise OptionError("fit.label_smoothing: a loss of your own is given the labels as they are; leave one of both out")
    return data.loss


def _snake(name: str) -> str:
    """
    >>> _snake("KLDivergence")
    'kl_divergence'
    """
    return re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def number_errors(truth: np.ndarray, outputs: np.ndarray) -> np.ndarray:
    """(n, numbers) float64: outputs minus truth; infinite where an output is no number."""
    return np.nan_to_num(outputs.astype(np.float64) - truth, nan=np.inf, posinf=np.inf, neginf=-np.inf).reshape(len(truth), -1)


def likeness(outputs: np.ndarray, expected: np.ndarray) -> float:
    """Of numbers: the coefficient of determination of the outputs as a prediction of the expected ones, and 0 where it is below 0."""
    if not np.isfinite(outputs).all():
        return 0.0
    difference = float(np.sum(np.square(outputs.astype(np.float64) - expected)))
    spread = float(np.sum(np.square(expected - expected.mean(axis=0, dtype=np.float64))))
    return max(0.0, 1 - difference / spread) if spread else float(difference == 0)


def label_spec(data: Data) -> Any:
    """The TensorSpec of an example's y, or a dict of them."""
    return data.train.element_spec[1]


def check_labels(data: Data, rank: int, floating: bool, needed: str) -> None:
    """Refuses data whose y is something else than the task learns.

    Raises:
      DataError: says what y is and what it should be.
    """
    spec = label_spec(data)
    if isinstance(spec, dict):
        raise DataError(f"data {data.name!r}: y is a dict ({', '.join(spec)}); {data.task} needs {needed}")
    if len(spec.shape) != rank or spec.dtype.is_floating != floating:
        raise DataError(f"data {data.name!r}: y is {spec.dtype.name} of shape {tuple(spec.shape)}; {data.task} needs {needed}")


def binary_accuracy(name: str, activation: str) -> Any:
    """The Keras metric; of logits, whose sign decides."""
    return backend.keras().metrics.BinaryAccuracy(name=name, threshold=0.0 if activation == "linear" else 0.5)
