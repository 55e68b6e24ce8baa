"""Generation: a text symbol by symbol, each from those before it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..errors import DataError
from . import _symbols, _task
from ._symbols import NONE
from ._task import Metric, Task, sums_of


class Generation(Task):
    """x is (length,) int32 and y (length,) int32: the indices of classes, filled up with -1. x is 0 at its first place, and then what y is
    one place earlier, plus 1.
    """

    name = "generation"
    undefined = "its test set holds no symbols"

    def __init__(self, data: Any):
        super().__init__(data)
        _task.check_labels(data, 1, False, "the indices of classes in their order, int32 of shape (length,), filled up with -1")
        length = tuple(_task.label_spec(data).shape)
        if data.input_shape != length or data.input_dtype != "int32":
            raise DataError(
                f"data {data.name!r}: {self.name} needs one input, int32 of y's shape {length}, the symbols before each one; use "
                "tfopt.datasets.text_lines"
            )

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """Among how many symbols, on average, the next one is as uncertain as a guess; and how often the likeliest one is right."""
        return {
            "perplexity": sums_of(_entropies, _perplexity, greater_is_better=False),
            "accuracy": sums_of(_right, share=True),
        }

    def outputs(self) -> tuple[tuple[int, ...], ...]:
        """A value for each symbol at each place."""
        return ((*self.data.input_shape, self.data.num_classes),)

    @property
    def asked(self) -> Mapping[str, Any]:
        """The symbols."""
        return {"num_classes": self.data.num_classes}

    def problem(self, model: Any) -> str | None:
        """None; data that does not hold what comes before each symbol is refused here."""
        _symbols.check_before(self.data, None)
        return None

    @property
    def ending(self) -> str:
        """A Dense at each place."""
        return f"Dense({self.data.num_classes}) of (length, channels), or use tfopt's tcn"

    def loss(self, model: Any, *, soft: bool = False, smoothing: float = 0.0) -> Any:
        """Cross-entropy of each symbol."""
        return _task.own_loss(self.data, smoothing) if callable(self.data.loss) else _symbols.cross_entropy(model, smoothing)

    def watched(self, model: Any) -> list[Any]:
        """The share of right symbols."""
        return [_symbols.accuracy()]

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
