"""Lines of text, of which each symbol is learnt from those before it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from .. import options
from ..errors import DataError, shown
from ..preprocessing import text
from ..types import Data
from . import _building, _following, _tables, _text
from ._building import Count, Preprocess, Seed, Share
from ._pairs import Length, Size


@options.checked
def text_lines(
    *,
    file: str | Path,
    test_file: str | Path | None = None,
    validation_file: str | Path | None = None,
    skip: Annotated[int, Field(ge=0)] = 0,
    encoding: str = "utf-8",
    unit: text.Unit = "characters",
    symbols: Size = 256,
    length: Length = 128,
    name: str | None = None,
    validation: Share = 0.15,
    test: Share = 0.2,
    seed: Seed = 0,
    calibration: Count = 200,
    preprocess: Preprocess = (),
) -> Data:
    """Lines of text for the task `generation`: each character (or word) is learnt from those before it.

    y: (length,) int32, the line's symbols as indices of the classes, the last of them "[END]", filled up with -1. x: (length,) int32, the
    symbol before each one: 0 at the first place, then y of the place before plus 1, which is its index in the vocabulary. Parts that no
    file is given for are drawn from `file`, by `seed`.

    Args:
      skip: how many words each line begins with that are left out, such as a label.
      unit: "characters", as they are, or "words" in lower case, punctuation marks each on its own.
      symbols: the size of the vocabulary: the most frequent ones of the training lines, with three special ones. All others are "[UNK]".
      length: in symbols, the end among them; longer lines lose their end.

    >>> tfopt.datasets.text_lines(file="rt-polarity.all", encoding="latin-1", skip=1, symbols=64).num_classes
    63

    Raises:
      DataError: a file is missing, empty or not text in `encoding`, or nothing is left of a line.
    """
    given = {"train": file, "validation": validation_file, "test": test_file}
    found = {part: [] if path is None else _from_lines(Path(path), skip, encoding) for part, path in given.items()}
    numbers = _following.divided(found, validation=validation, test=test, seed=seed, source=str(file))
    texts = np.array([line for of in found.values() for line in of], object)
    vocabulary = _following.vocabulary(texts[numbers["train"]], symbols, unit)
    x, y = _following.sequences(texts, vocabulary, length, unit)
    return _building.build(
        name or Path(file).stem,
        {part: (x[at], y[at]) for part, at in numbers.items()},
        classes=vocabulary[1:],
        task="generation",
        source=_text.facts(vocabulary, length, unit),
        notes=_following.cut_off(texts, length - 1, unit, "length - 1", "lines"),
        seed=seed,
        calibration=calibration,
        preprocess=preprocess,
    )


def _from_lines(path: Path, skip: int, encoding: str) -> list[str]:
    lines = []
    for number, line in _tables.lines_of(_tables.text_of(path, encoding)):
        left = line.strip().split(maxsplit=skip)[skip:]
        if not left:
            raise DataError(
                f"{path}, line {number}: is {shown(line)}, of which skip = {skip} leaves nothing; repair the line, or skip fewer"
            )
        lines.append(left[0])
    return lines
