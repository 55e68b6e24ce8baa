"""What tasks share whose outputs are a symbol at each of several places: their loss, and how sequences are compared.

A sequence of symbols is int32: the indices of classes in their order, filled up with -1 behind the last one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .. import backend, pipelines
from ..errors import DataError
from ..types import Data
from . import _endings, _metrics, _task
from ._task import Task

SEQUENCES = ("transcription", "sequence_to_sequence", "generation")  # tasks whose y are class indices in their order
NONE = -1  # what fills a sequence up
BROKEN = -2  # where an output is no number: no symbol, and so never right
SMALLEST = 1e-7  # probability, as in Keras's cross-entropy


class Written(Task):
    """A task in which a text is written symbol by symbol: y is (length,) int32, the indices of classes, filled up with -1, and an input
    holds the symbols before each one: 0 at its first place, and then what y is one place earlier, plus 1.

    Attributes:
      before: that input's name; None where there is one input.
      builder: tfopt's own for it.
    """

    undefined = "its test set holds no symbols"
    before: str | None = None
    builder: str

    def __init__(self, data: Data):
        super().__init__(data)
        _task.check_labels(data, 1, False, "the indices of classes in their order, int32 of shape (length,), filled up with -1")
        self.length = tuple(_task.label_spec(data).shape)

    def outputs(self) -> tuple[tuple[int, ...], ...]:
        """A value for each symbol at each place."""
        return ((*self.length, self.data.num_classes),)

    @property
    def asked(self) -> Mapping[str, Any]:
        """The symbols."""
        return {"num_classes": self.data.num_classes}

    @property
    def ending(self) -> str:
        """A Dense at each place."""
        return f"Dense({self.data.num_classes}) of (length, channels), or use tfopt's {self.builder}"

    def problem(self, model: Any) -> str | None:
        """None. Data whose input does not hold what comes before each symbol is refused here, by the first examples of the validation set,
        which no augmentation has changed.
        """
        x, y = pipelines.to_arrays(self.data.validation, 64)
        before = x if self.before is None else x[self.before]
        if len(y) and (before[:, 0].any() or not ((before[:, 1:] == y[:, :-1] + 1) | (y[:, 1:] == NONE)).all()):
            raise DataError(
                f"data {self.data.name!r}: {self.before or 'x'} does not hold what comes before each symbol: should be 0 at the first "
                "place, then y of one place earlier, plus 1; tfopt.datasets.text_lines and text_pairs make such data"
            )
        return None

    def loss(self, model: Any, *, soft: bool = False, smoothing: float = 0.0) -> Any:
        """Cross-entropy of each symbol."""
        return _task.own_loss(self.data, smoothing) if callable(self.data.loss) else cross_entropy(model, smoothing)

    def watched(self, model: Any) -> list[Any]:
        """The share of right symbols, each with the right ones before it."""
        return [accuracy()]


def logits_of(model: Any) -> Any:
    """A function in TensorFlow's operations: a model's outputs -> float32 logits, of which a softmax gives its probabilities.

    Raises:
      DataError: the model ends in something else than a softmax or logits.
    """
    tf, activation = backend.tensorflow(), _endings.activation_of(model)
    if activation not in ("linear", "softmax"):
        raise DataError(f"model {model.name!r} ends in {activation}; a symbol at each place needs a softmax or logits")
    if activation == "linear":
        return lambda outputs: tf.cast(outputs, tf.float32)
    return lambda outputs: tf.math.log(tf.clip_by_value(tf.cast(outputs, tf.float32), SMALLEST, 1.0))


def cross_entropy(model: Any, smoothing: float) -> Any:
    """A loss (y, outputs) -> (n,) of y (n, length), -1 where nothing is to be learnt, and outputs (n, length, symbols).

    The mean of what it gives for a batch is the mean over all symbols of the batch, so that each counts alike, in a long sequence or a
    short one. `smoothing`: the share of the target that goes to all symbols alike.
    """
    tf, logits_from = backend.tensorflow(), logits_of(model)

    def loss(y: Any, outputs: Any) -> Any:
        y, logits = tf.cast(y, tf.int32), logits_from(outputs)
        there = y != NONE
        entropy = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.maximum(y, 0), logits)
        if smoothing:
            others = tf.reduce_logsumexp(logits, axis=-1) - tf.reduce_mean(logits, axis=-1)
            entropy = (1 - smoothing) * entropy + smoothing * others
        sums = tf.reduce_sum(tf.where(there, entropy, 0.0), axis=1)
        count = tf.cast(tf.math.count_nonzero(there), tf.float32)
        return sums * (tf.cast(tf.shape(y)[0], tf.float32) / tf.maximum(count, 1.0))

    return loss


def accuracy() -> Any:
    """The share of an example's symbols that are right, each with the right ones before it: a Keras metric, of logits or probabilities."""
    tf = backend.tensorflow()

    def accuracy(y: Any, outputs: Any) -> Any:
        y = tf.cast(y, tf.int32)
        there = y != NONE
        right = there & (tf.argmax(outputs, axis=-1, output_type=tf.int32) == y)
        return tf.math.divide_no_nan(*(tf.reduce_sum(tf.cast(one, tf.float32), axis=1) for one in (right, there)))

    return accuracy


def likeliest(outputs: np.ndarray) -> np.ndarray:
    """(n, length) int32: the symbol with the greatest value at each place of outputs (n, length, symbols); -2 where one is no number."""
    return np.where(np.isfinite(outputs).all(axis=-1), outputs.argmax(axis=-1), BROKEN).astype(np.int32)


def log_probabilities(outputs: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """(n, length, symbols) float32 of outputs; `expected`, those of the trained model, tell logits from probabilities."""
    if _metrics.are_probabilities(expected):
        return np.log(np.clip(outputs, SMALLEST, 1))
    with np.errstate(invalid="ignore"):  # of infinite ones
        shifted = outputs - outputs.max(axis=-1, keepdims=True)
        return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def entropies(y: np.ndarray, p: np.ndarray) -> np.ndarray:
    """(n, length) float64: -log of the probability of the true symbol at each place, 0 where there is none.

    A probability counts as 1e-7 at least, and as that where it is no number.
    """
    chosen = np.take_along_axis(p, np.maximum(y, 0)[..., np.newaxis], axis=-1)[..., 0].astype(np.float64)
    worst = np.log(SMALLEST)
    return np.where(y == NONE, 0.0, -np.maximum(np.nan_to_num(chosen, nan=worst, neginf=worst), worst))


def sequences(symbols: np.ndarray) -> list[np.ndarray]:
    """Each sequence of (n, length) without what fills it up."""
    return [row[row != NONE] for row in symbols]


def edits(one: Any, other: Any) -> int:
    """The fewest symbols that have to be left out, put in or replaced to make one sequence of the other (Levenshtein 1965).

    >>> edits([1, 2, 3], [1, 3, 3, 4])
    2
    """
    one, other = np.asarray(one), np.asarray(other)
    places = np.arange(len(other) + 1)
    row = places.copy()
    for number, symbol in enumerate(one, 1):
        replaced = row[:-1] + (other != symbol)
        row = np.concatenate([[number], np.minimum(replaced, row[1:] + 1)])
        row = np.minimum.accumulate(row - places) + places  # symbols put in, any number of them one after the other
    return int(row[-1])


def equal(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(n,) float64: 1 where two sequences are the same from their first symbol to their last."""
    length = max(one.shape[1], other.shape[1])
    one, other = (np.pad(of, ((0, 0), (0, length - of.shape[1])), constant_values=NONE) for of in (one, other))
    return ((one == other) & (one != BROKEN)).all(axis=1).astype(np.float64)
