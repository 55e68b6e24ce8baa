"""Texts of which each symbol is learnt from those before it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..errors import DataError
from ..preprocessing import text
from ..tasks import END
from . import _labels

Parts = Mapping[str, Sequence[str]]  # texts by part


def vocabulary(texts: Sequence[str], size: int, unit: text.Unit) -> tuple[str, ...]:
    """Of training texts, for what comes before a symbol: 0 begins and fills up, 1 is unknown, 2 the end; all but the first are classes."""
    return text.vocabulary(texts, size, unit, more=[END])


def sequences(texts: Sequence[str], vocabulary: Sequence[str], length: int, unit: text.Unit) -> tuple[np.ndarray, np.ndarray]:
    """What comes before each symbol, and the symbols, (n, length) int32 each: indices in the vocabulary, and of classes with -1 behind the
    end.
    """
    y = text.encoded(texts, vocabulary, length, unit, end=[END]) - 1
    return np.pad(y + 1, ((0, 0), (1, 0)))[:, :-1], y


def divided(found: Parts, *, validation: float, test: float, seed: int, source: str) -> dict[str, np.ndarray]:
    """The numbers of each part's texts, of all texts one after the other; what no file is given for is drawn from the training texts.

    Raises:
      DataError: there are too few.
    """
    sizes = {part: len(found[part]) for part in _labels.PARTS}
    if sizes["train"] < 3:
        raise DataError(f"{source}: has {sizes['train']} lines; should have at least 3, one for each of train, validation and test")
    y = np.zeros(sum(sizes.values()), np.int32)
    numbers = _labels.divided(y, sizes, validation=validation, test=test, seed=seed, source=source, stratified=False)
    if empty := [part for part in numbers if not len(numbers[part])]:
        raise DataError(f"{source}: its {sizes['train']} lines leave none for {empty[0]}; give more, or a larger share ({empty[0]} = 0.3)")
    return numbers


def cut_off(texts: Sequence[str], most: int, unit: text.Unit, room: str, what: str) -> list[str]:
    """A note, where texts have more words (or characters) than `most`, which is what `room` says."""
    count = sum(len(text.tokens(one, unit)) > most for one in texts)
    return [f"{count:,} of {len(texts):,} {what} have more than {room} = {most} {unit}; their ends were cut off"] if count else []
