"""Generation: a text symbol by symbol, each from those before it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..errors import DataError
from . import _symbols
from ._symbols import NONE, Written
from ._task import Metric, sums_of


class Generation(Written):
    """x is (length,) int32 and y (length,) int32: the indices of classes, filled up with -1. x is 0 at its first place, and then what y is
    one place earlier, plus 1.
    """

    name = "generation"
    builder = "tcn"

    def __init__(self, data: Any):
        super().__init__(data)
        if data.input_shape != self.length or data.input_dtype != "int32":
            raise DataError(
                f"data {data.name!r}: {self.name} needs one input, int32 of y's shape {self.length}, the symbols before each one; use "
                "tfopt.datasets.text_lines"
            )

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """Among how many symbols, on average, the next one is as uncertain as a guess; and how often the likeliest one is right."""
        return {
            "perplexity": sums_of(_entropies, _perplexity, greater_is_better=False),
            "accuracy": sums_of(_right, share=True),
        }

    def predict(self, run: Callable[[Any], np.ndarray], x: Any) -> np.ndarray:
        """The outputs, zeros where there is no symbol before the place any more: nothing is asked there."""
        there = x != 0
        there[:, 0] = True
        return np.where(there[:, :, np.newaxis], run(x), 0.0)

    def agreement(self, outputs: np.ndarray, expected: np.ndarray) -> float:
        """The share of places, of those where something is asked, with the same likeliest symbol."""
        asked = expected.any(axis=-1)
        return float((_symbols.likeliest(outputs) == _symbols.likeliest(expected))[asked].mean())

    def prepared(self, outputs: np.ndarray, expected: np.ndarray) -> np.ndarray:
        """Logarithms of probabilities."""
        return _symbols.log_probabilities(outputs, expected)


def _entropies(truth: np.ndarray, p: np.ndarray) -> np.ndarray:
    """(n, 2) float64: -log of the probability of an example, and its symbols."""
    return np.stack([_symbols.entropies(truth, p).sum(axis=1), (truth != NONE).sum(axis=1)], axis=1)


def _perplexity(entropy: float, count: float) -> float:
    return float(np.exp(entropy / count)) if count else float("nan")


def _right(truth: np.ndarray, p: np.ndarray) -> np.ndarray:
    there = truth != NONE
    return np.stack([(there & (_symbols.likeliest(p) == truth)).sum(axis=1), there.sum(axis=1)], axis=1).astype(np.float64)
