"""Transcription: a sequence of symbols from a longer sequence of outputs, of which nobody says where each symbol is (CTC).

At each place a model says which symbol is there, or the blank, which is none. What is read off is the likeliest of each place, neighbours
that are the same taken together, without the blanks (Graves et al. 2006, "Connectionist Temporal Classification").
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .. import backend, pipelines
from ..errors import DataError, OptionError
from . import _symbols, _task
from ._symbols import BROKEN, NONE
from ._task import Metric, Task, mean_of, sums_of


class Transcription(Task):
    """y is (most,) int32: the indices of classes in their order, filled up with -1. The blank stands behind the classes."""

    name = "transcription"
    undefined = "the test set holds no words; choose another score"

    def __init__(self, data: Any):
        super().__init__(data)
        _task.check_labels(data, 1, False, "the indices of classes in their order, int32 of shape (most,), filled up with -1")
        if not data.classes:
            raise DataError(f"data {data.name!r}: has no classes; transcription needs the symbols' names")

    @property
    def spelt(self) -> bool:
        """Whether the symbols are characters of words with spaces between them; else each is a word."""
        return " " in self.data.classes and all(len(name) == 1 for name in self.data.classes)

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """Words that are wrong, missing or too many for each word that there is; of characters the same; transcripts without a mistake."""
        found = {"wer": sums_of(self._word_errors, greater_is_better=False, share=True)}
        if self.spelt:
            found["cer"] = sums_of(_errors, greater_is_better=False, share=True)
        return {**found, "exact_match": mean_of(_symbols.equal, share=True)}

    def _word_errors(self, truth: np.ndarray, found: np.ndarray) -> np.ndarray:
        if not self.spelt:
            return _errors(truth, found)
        return _counted(*([self._words(one) for one in _symbols.sequences(of)] for of in (truth, found)))

    def _words(self, symbols: np.ndarray) -> list[str]:
        return "".join("\ufffd" if symbol == BROKEN else self.data.classes[symbol] for symbol in symbols).split()

    def outputs(self) -> tuple[tuple[int | None, ...], ...]:
        """A value for each symbol and for the blank, at any number of places."""
        return ((None, self.data.num_classes + 1),)

    @property
    def asked(self) -> Mapping[str, Any]:
        """The symbols; a builder for transcription adds the blank."""
        return {"num_classes": self.data.num_classes}

    @property
    def ending(self) -> str:
        """A Dense at each place."""
        return f"Dense({self.data.num_classes + 1}) of (frames, channels), the last output for the blank, or use tfopt's ctc"

    def problem(self, model: Any) -> str | None:
        """Of a model with fewer frames than a transcript of the training, validation or test set needs."""
        frames = model.outputs[0].shape[1]
        needed = max(_frames_needed(pipelines.labels(of)) for of in (self.data.train, self.data.validation, self.data.test))
        if frames is None or needed <= frames:
            return None
        return (
            f"gives {frames} frames; the longest transcript of {self.data.name!r} needs {needed}, one for each symbol and one for a blank "
            "between two that are the same; halve the frames less often in the model (stride), or give features with a shorter stride_ms"
        )

    def loss(self, model: Any, *, soft: bool = False, smoothing: float = 0.0) -> Any:
        """-log of the probability of all ways to say the transcript."""
        if callable(self.data.loss):
            return self.data.loss
        if smoothing:
            raise OptionError("fit.label_smoothing: nobody says at which place a symbol stands that could be smoothed; leave it out")
        tf, logits_from = backend.tensorflow(), _symbols.logits_of(model)

        def ctc(y: Any, outputs: Any) -> Any:
            logits = logits_from(outputs)
            shape = tf.shape(logits)
            there = tf.sparse.from_dense(tf.cast(y, tf.int32) + 1)  # which leaves zeros out: what was -1
            labels = tf.sparse.map_values(tf.subtract, there, 1)
            lengths = tf.fill(shape[:1], shape[1])
            return tf.nn.ctc_loss(labels, logits, None, lengths, logits_time_major=False, blank_index=-1)

        return ctc

    def agreement(self, outputs: np.ndarray, expected: np.ndarray) -> float:
        """The share of examples with the same transcript."""
        return float(_symbols.equal(decoded(outputs), decoded(expected)).mean())

    def prepared(self, outputs: np.ndarray, expected: np.ndarray) -> np.ndarray:
        """Transcripts (n, frames) int32, filled up with -1; -2 alone for an example whose outputs are not all numbers."""
        return decoded(outputs)


def decoded(outputs: np.ndarray) -> np.ndarray:
    """What is read off outputs (n, frames, symbols + 1): (n, frames) int32, filled up with -1.

    >>> decoded(np.eye(3)[[[0, 0, 2, 0, 1, 2]]])
    array([[ 0,  0,  1, -1, -1, -1]], dtype=int32)
    """
    likeliest, blank = _symbols.likeliest(outputs), outputs.shape[2] - 1
    first = np.diff(likeliest, axis=1, prepend=NONE) != 0
    found = np.full_like(likeliest, NONE)
    for row, symbols, said in zip(found, likeliest, first & (likeliest != blank), strict=True):
        said = symbols[said] if (symbols != BROKEN).all() else [BROKEN]
        row[: len(said)] = said
    return found


def _errors(truth: np.ndarray, found: np.ndarray) -> np.ndarray:
    return _counted(_symbols.sequences(truth), _symbols.sequences(found))


def _counted(truth: Sequence[Any], found: Sequence[Any]) -> np.ndarray:
    """(n, 2) float64: how many mistakes are in each, and how many words it should have."""
    return np.array([(_symbols.edits(one, other), len(one)) for one, other in zip(truth, found, strict=True)], np.float64)


def _frames_needed(y: np.ndarray) -> int:
    """Of the longest transcript: its symbols, and a blank between neighbours that are the same."""
    there = y != NONE
    repeats = (y[:, 1:] == y[:, :-1]) & there[:, 1:]
    return int((there.sum(axis=1) + repeats.sum(axis=1)).max(initial=0))
