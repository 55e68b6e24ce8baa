"""Metrics of scikit-learn, the same for a Keras model and a .tflite, and NaN where they are not defined."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import backend


def macro(name: str, truth: np.ndarray, values: np.ndarray) -> float:
    """The mean over the classes of `roc_auc_score` or `average_precision_score`; of two classes that of the second alone.

    truth: (n,) class indices, or (n, classes) of 0 and 1. values: (n, classes). Classes without an example on both sides are left out, as
    scikit-learn can't tell them.
    """
    return mean_of_known(each(name, truth, values))


def mean_of_known(values: Sequence[float] | np.ndarray) -> float:
    """Without those that are NaN; NaN where all are."""
    known = np.asarray(values)[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")


def each(name: str, truth: np.ndarray, values: np.ndarray) -> list[float]:
    """The metric of each class against all others; of two classes that exclude each other of the second alone."""
    function: Callable = getattr(backend.sklearn("metrics"), name)
    classes = values.shape[1]
    flags = truth if truth.ndim == 2 else truth[:, np.newaxis] == np.arange(classes)
    columns = [1] if truth.ndim == 1 and classes == 2 else range(classes)
    return [float(function(flags[:, c], values[:, c])) if 0 < flags[:, c].sum() < len(flags) else float("nan") for c in columns]


def precision_recall_f1(truth: np.ndarray, predicted: np.ndarray, average: str | None, labels: Any = None) -> tuple[Any, ...]:
    """Precision, recall, F1 and how many examples there are; where nothing was predicted of a class its precision is 0."""
    function = backend.sklearn("metrics").precision_recall_fscore_support
    with warnings.catch_warnings():  # the number of labels that differ between draws is of no interest
        warnings.filterwarnings("ignore", category=UserWarning, module="sklearn")
        return function(truth, predicted, average=average, labels=labels, zero_division=0)


def entropy(share: np.ndarray) -> np.ndarray:
    """-log of a probability, cut off as Keras does: int8 says 0 of what it takes for less than 1/512."""
    return -np.log(np.clip(share.astype(np.float64), 1e-7, 1))


def finite(p: np.ndarray) -> np.ndarray:
    """Probabilities, 0 where an output is no number."""
    return np.nan_to_num(p, nan=0.0, posinf=1.0, neginf=0.0)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities (n, classes)."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Probabilities, one by one."""
    return 1 / (1 + np.exp(-np.clip(logits.astype(np.float64), -50, 50)))


def classes(p: np.ndarray) -> np.ndarray:
    """The class of each example or pixel, of (n, ..., classes); -1, which none has, where an output is no number."""
    finite = np.isfinite(p).all(axis=-1)
    return np.where(finite, np.argmax(p if finite.all() else np.where(np.isnan(p), -np.inf, p), axis=-1), -1)


def are_probabilities(outputs: np.ndarray) -> bool:
    """Whether outputs over a whole test set lie in 0..1, as logits never do."""
    finite = outputs[np.isfinite(outputs)]
    return bool(finite.size and finite.min() >= -1e-4 and finite.max() <= 1 + 1e-4)
