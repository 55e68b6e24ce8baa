"""Sequence to sequence: a text as another one, written symbol by symbol, each from the text and the symbols before it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..errors import DataError
from . import _symbols
from ._symbols import NONE, Written
from ._task import Metric, mean_of, sums_of

BEFORE = "before"  # the input that holds the symbols that are written already
END = "[END]"


class SequenceToSequence(Written):
    """x has an input "before" beside others, (length,) int32; y is (length,) int32: the indices of classes, one of which is "[END]", filled
    up with -1 behind it.

    "before" is 0 at its first place, and then what y is one place earlier, plus 1. So it is in training; when a model is scored, it gets
    what it has written itself.
    """

    name = "sequence_to_sequence"
    before = BEFORE
    builder = "seq2seq"

    def __init__(self, data: Any):
        super().__init__(data)
        if not isinstance(data.input_shape, dict) or data.input_shape.get(BEFORE) != self.length or data.input_dtype[BEFORE] != "int32":
            raise DataError(
                f"data {data.name!r}: {self.name} needs an input {BEFORE!r} beside that of the text, int32 of y's shape {self.length}; use "
                "tfopt.datasets.text_pairs"
            )
        if END not in data.classes:
            raise DataError(f"data {data.name!r}: has no class {END!r}, with which each y ends; {self.name} needs it")

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """Sequences without a mistake, and symbols that are right at their place, of what a model writes by itself."""
        return {"exact_match": mean_of(_symbols.equal, share=True), "token_accuracy": sums_of(_right, share=True)}

    def predict(self, run: Callable[[Any], np.ndarray], x: Any) -> np.ndarray:
        """The outputs while a model writes by itself: at each place the likeliest symbol goes into "before"; zeros behind "[END]"."""
        end, length = self.data.classes.index(END), self.data.input_shape[BEFORE][0]
        before = np.zeros_like(x[BEFORE])
        outputs = np.zeros((len(before), length, self.data.num_classes), np.float32)
        writing = np.arange(len(before))
        for place in range(length):
            found = run({**{name: one[writing] for name, one in x.items()}, BEFORE: before[writing]})[:, place]
            outputs[writing, place] = found
            symbols = np.nan_to_num(found).argmax(axis=1)
            if place + 1 < length:
                before[writing, place + 1] = symbols + 1
            writing = writing[symbols != end]
            if not len(writing):
                break
        return outputs

    def agreement(self, outputs: np.ndarray, expected: np.ndarray) -> float:
        """The share of examples for which both write the same."""
        return float(_symbols.equal(*(self.prepared(one, expected) for one in (outputs, expected))).mean())

    def prepared(self, outputs: np.ndarray, expected: np.ndarray) -> np.ndarray:
        """What was written, (n, length) int32 up to and with "[END]", filled up with -1."""
        symbols = _symbols.likeliest(outputs)
        ended = np.cumsum(symbols == self.data.classes.index(END), axis=1)
        return np.where(np.pad(ended, ((0, 0), (1, 0)))[:, :-1] > 0, NONE, symbols)


def _right(truth: np.ndarray, found: np.ndarray) -> np.ndarray:
    """(n, 2) float64: how many symbols are right, and how many there should be."""
    there = truth != NONE
    return np.stack([(there & (truth == found)).sum(axis=1), there.sum(axis=1)], axis=1).astype(np.float64)
