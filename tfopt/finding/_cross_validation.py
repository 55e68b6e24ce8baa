"""k-fold cross-validation: what a score is worth where a test set is too small to tell."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from .. import _tables, backend, options, pipelines, tasks, training, verification
from ..datasets import _building
from ..errors import DataError, OptionError, shown
from ..pipelines import Rows, Stream
from ..types import Data, Fit

Seed = Annotated[int, Field(ge=0, lt=2**31)]


@dataclass(frozen=True)
class CrossValidation:
    """What the models of all folds scored on the examples that each of them had not seen.

    Attributes:
      data: the name of the data.
      metric: what the score measures, such as "accuracy".
      greater_is_better: whether a greater score is a better one.
      examples: how many were held out in each fold.
      metrics: every metric of the task by name, a value a fold; NaN where it is not defined on a fold's examples.
    """

    data: str
    metric: str
    greater_is_better: bool
    examples: tuple[int, ...]
    metrics: Mapping[str, tuple[float, ...]]

    @property
    def scores(self) -> tuple[float, ...]:
        """The score of each fold."""
        return self.metrics[self.metric]

    @property
    def mean(self) -> float:
        """Of the scores."""
        return float(np.mean(self.scores))

    @property
    def std(self) -> float:
        """The standard deviation of the scores between folds (n - 1 in its denominator)."""
        return _deviation(self.scores)

    def __str__(self) -> str:
        names = [self.metric, *(name for name in self.metrics if name != self.metric)]
        rows = [("fold", "examples", *names)]
        for number, count in enumerate(self.examples):
            rows.append((str(number + 1), f"{count:,}", *(_shown(self.metrics[name][number]) for name in names)))
        for title, of in (("mean", np.mean), ("std", _deviation)):
            rows.append((title, "", *(_shown(of(self.metrics[name])) for name in names)))
        side = "" if self.greater_is_better else ", the smaller the better"
        return f"{_tables.table(rows)}\n{self.data}: {self.metric} {self.mean:.4g} ± {self.std:.2g} over {len(self.examples)} folds{side}"


def _deviation(values: Sequence[float]) -> float:
    return float(np.std(values, ddof=1))


def _shown(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.4g}"


@options.checked
def cross_validate(
    build: Callable[[], Any],
    data: Data,
    fit: Fit = Fit(),  # noqa: B008 - it is frozen
    *,
    folds: Annotated[int, Field(ge=2)] = 5,
    seed: Seed = 0,
) -> CrossValidation:
    """Trains a new model in each of several folds, and scores it on the part of the examples that it has not seen.

    The training and validation examples together are divided into parts, with the shares of the classes alike in each where classes exclude
    each other. Each part is held out once. From the others as large a share is split off for validation, which `patience` looks at, as the
    data has it; the held-out part decides nothing. The test set stays untouched, for the model that is chosen in the end.

    Args:
      build: () -> a new, untrained tf_keras or Keras 3 model; its random weights follow from `seed` and the fold's number.
      data: its examples are read into memory. What preparations have learnt from its training examples, such as the mean of z_score, stays.
      fit: how each model is trained.
      folds: how many parts.
      seed: of the division.

    Raises:
      OptionError: an option out of range.
      DataError: examples that can only be streamed, windows of a series, which overlap, anomalies, or too few examples (of a class) for
        so many folds; and as `train`.
      UnsupportedModel: `build` gives no model that can be trained.

    >>> found = tfopt.cross_validate(lambda: tfopt.models.mlp(data.input_shape, data.num_classes), data, Fit(epochs=20, patience=5))
    >>> print(found)
    >>> found.mean, found.std
    """
    if not callable(build):
        raise OptionError(f"build: expected a function without arguments that returns a new model, got {shown(build)}")
    task, found = tasks.of(data), []
    metric = task.metric(task.score)
    for number, fold in enumerate(divided(data, folds, seed)):
        with backend.seeded(seed * 1_000_003 + number):
            model = build()
        reference = verification.reference(training.train(model, fold, fit), fold)
        found.append((len(reference.outputs), tasks.of(fold).scores(reference.truth, reference.outputs, reference.outputs).metrics))
    examples, metrics = zip(*found, strict=True)
    return CrossValidation(
        data=data.name,
        metric=task.score,
        greater_is_better=metric.greater_is_better,
        examples=examples,
        metrics={name: tuple(one[name] for one in metrics) for name in metrics[0]},
    )


def divided(data: Data, folds: int, seed: int) -> Iterator[Data]:
    """The data of each fold: its test set is the part that is held out."""
    _check(data)
    whole, steps = _together(data), pipelines.behind(data.train)[1]
    stratified = data.task == "classification"
    _check_enough(whole, data, folds)
    kind = getattr(backend.sklearn("model_selection"), "StratifiedKFold" if stratified else "KFold")
    parts = kind(folds, shuffle=True, random_state=seed).split(np.zeros(len(whole)), whole.y if stratified else None)
    for number, (rest, held_out) in enumerate(parts, 1):
        name = f"{data.name}, fold {number}"
        count = max(1, round(len(rest) * pipelines.size(data.validation) / len(whole)))
        trained, validated = _split(rest, whole.y if stratified else None, count, seed, name)
        numbers = {"train": trained, "validation": validated, "test": held_out}
        yield dataclasses.replace(
            data,
            name=name,
            fingerprint=hashlib.sha256(f"{data.fingerprint} {folds} {seed} {number}".encode()).hexdigest(),
            **{part: pipelines.dataset_of(whole.take(of), steps) for part, of in numbers.items()},
        )


def _check(data: Data) -> None:
    streamed = [part for part in ("train", "validation") if isinstance(pipelines.behind(getattr(data, part))[0], Stream)]
    if streamed:
        fix = "load it with cache = 'memory', or as arrays"
        raise DataError(f"data {data.name!r} is streamed, and its examples can't be divided into folds by their numbers; {fix}")
    if pipelines.behind(data.train)[1] != pipelines.behind(data.validation)[1]:
        raise DataError(f"data {data.name!r}: validation is prepared otherwise than train; give both the same steps")
    if data.source.get("kind") == "series":
        raise DataError(
            f"data {data.name!r} holds windows of a series; of neighbours, which overlap, one would be held out and the other learnt from. "
            "Several time_series with other shares of test tell more"
        )
    if data.source.get("rounds", 1) > 1:
        raise DataError(
            f"data {data.name!r} holds each recording in {data.source['rounds']} sequences, of which one would be held out and the others "
            "learnt from; leave rounds out"
        )
    if data.task == "anomaly_detection" and data.metric != "mse":
        raise DataError(
            f"data {data.name!r}: train and validation hold normal examples only, of which no {tasks.of(data).score} can be taken; "
            "choose the score mse, or look at the test set"
        )


def _together(data: Data) -> Rows:
    """The raw examples of train and validation, in memory."""
    raw = [pipelines.raw(dataset) for dataset in (data.train, data.validation)]
    needed = sum(len(held) * _bytes(held.x_spec) for held, _ in map(pipelines.behind, raw) if held.read)
    pipelines.check_memory(needed)
    (x, y), (more_x, more_y) = map(pipelines.to_arrays, raw)
    return Rows(*(pipelines.nested(lambda one, other: np.concatenate([one, other]), *pair) for pair in ((x, more_x), (y, more_y))))


def _bytes(spec: Any) -> int:
    return sum(map(_bytes, spec.values())) if isinstance(spec, Mapping) else math.prod(spec.shape) * spec.dtype.size


def _check_enough(whole: Rows, data: Data, folds: int) -> None:
    if data.task == "classification":
        counts = np.bincount(whole.y, minlength=data.num_classes)
        few, what = int(counts.min()), f"examples of {data.classes[int(counts.argmin())]!r}"
    else:
        few, what = len(whole), "examples"
    if few <= folds:  # so that after one is held out, more than one is left
        raise DataError(f"data {data.name!r}: train and validation have {few} {what}, too few for {folds} folds; give more, or fewer folds")


def _split(rest: np.ndarray, y: np.ndarray | None, count: int, seed: int, name: str) -> tuple[np.ndarray, np.ndarray]:
    """The numbers to train on and to validate with, of those that are not held out; by the classes y, where there are."""
    if y is None:
        order = np.random.default_rng(seed).permutation(rest)
        return order[count:], order[:count]
    (trained, _), (validated, _) = _building.split_off(rest, y[rest], count / len(rest), seed=seed, source=name)
    return trained, validated
