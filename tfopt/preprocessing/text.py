"""Texts as indices of words or characters: pure functions that a deployed app repeats, and what drops words from training examples.

The indices are those of Keras' `TextVectorization`: 0 fills up, 1 stands for every word that is not in the vocabulary.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from .. import backend, options
from . import _checking

PADDING, UNKNOWN = "", "[UNK]"  # the first two words of every vocabulary
PATTERN = r"\w+(?:'\w+)*|[^\w\s]"  # words, with apostrophes inside them, and single marks such as ? and ,
CHARACTER = r"(?s)."
Unit = Literal["words", "characters"]


def tokens(text: str, unit: Unit = "words") -> list[str]:
    """The words of a text in lower case, and its punctuation marks, each on its own; or its characters as they are. Letters are those of
    Unicode, in its form NFC.

    >>> tokens("What's the Fermi-level?")
    ["what's", 'the', 'fermi', '-', 'level', '?']
    """
    text = unicodedata.normalize("NFC", text)
    return re.findall(PATTERN, text.lower()) if unit == "words" else re.findall(CHARACTER, text)


def vocabulary(texts: Iterable[str], size: int, unit: Unit = "words", more: Sequence[str] = ()) -> tuple[str, ...]:
    """The words (or characters) of training texts by falling frequency, then by alphabet, behind the padding, the unknown word and `more`
    of that kind; `size` with all of these.

    >>> vocabulary(["to be or not to be"], 4)
    ('', '[UNK]', 'be', 'to')
    """
    counts = Counter(token for text in texts for token in tokens(text, unit))
    frequent, first = sorted(counts, key=lambda word: (-counts[word], word)), (PADDING, UNKNOWN, *more)
    return (*first, *frequent[: max(size - len(first), 0)])


def encoded(texts: Sequence[str], vocabulary: Sequence[str], length: int, unit: Unit = "words", end: Sequence[str] = ()) -> np.ndarray:
    """(n, length) int32: the index in the vocabulary of each word, and of what `end` adds behind the last one; shorter texts are filled up
    with 0, of longer ones the end is cut off.

    >>> encoded(["be or not"], ("", "[UNK]", "be", "to"), 5)
    array([[2, 1, 1, 0, 0]], dtype=int32)
    """
    index = {word: number for number, word in enumerate(vocabulary)}
    x = np.zeros((len(texts), length), np.int32)
    for row, text in zip(x, texts, strict=True):
        words = [*tokens(text, unit), *end][:length]
        row[: len(words)] = [index.get(word, 1) for word in words]
    return x


@options.checked
def token_dropout(x: Any, y: Any, seed: Any, *, rate: Annotated[float, Field(ge=0, lt=1)] = 0.1, unknown: int = 1) -> tuple[Any, Any]:
    """Each word, with the chance `rate`, becomes the `unknown` one, so that a model learns not to hang on single words.

    x: (n, length) int32 word indices; the padding (0) stays.
    """
    tf = backend.tensorflow()
    _checking.check_single(x, "token_dropout")
    x = tf.convert_to_tensor(x)
    dropped = (tf.random.stateless_uniform(tf.shape(x), seed) < rate) & (x != 0)
    return tf.ensure_shape(tf.where(dropped, tf.cast(unknown, x.dtype), x), x.shape), y
