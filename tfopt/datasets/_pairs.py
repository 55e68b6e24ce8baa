"""Texts and what they become: pairs in a file, and numbers in words."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from .. import options
from ..errors import DataError, OptionError, shown
from ..preprocessing import text
from ..tasks import BEFORE
from ..types import Data
from . import _building, _following, _tables, _text
from ._building import Count, Preprocess, Seed, Share

Pairs = list[tuple[str, str]]
Size = Annotated[int, Field(ge=4)]
Length = Annotated[int, Field(ge=2)]


@options.checked
def text_pairs(
    *,
    file: str | Path,
    test_file: str | Path | None = None,
    validation_file: str | Path | None = None,
    separator: str = "\t",
    encoding: str = "utf-8",
    unit: text.Unit = "words",
    target_unit: text.Unit = "words",
    words: Size = 10_000,
    symbols: Size = 10_000,
    length: Count = 64,
    target_length: Length = 64,
    name: str | None = None,
    validation: Share = 0.15,
    test: Share = 0.2,
    seed: Seed = 0,
    calibration: Count = 200,
    preprocess: Preprocess = (),
) -> Data:
    """Texts and what they become, a pair a line: `text<TAB>other text`; for the task `sequence_to_sequence`.

    x: {"text": (length,), "before": (target_length,)} int32: the indices of the text's words in their vocabulary, as `text_file` has them,
    and the symbols of the other text that come before each one: 0 at the first place. y: (target_length,) int32, the other text's symbols
    as indices of the classes, the last of them "[END]", filled up with -1. Parts that no file is given for are drawn from `file`, by
    `seed`.

    Args:
      unit, target_unit: what the text and the other text are made of: "words" (in lower case, punctuation marks each on its own) or
        "characters".
      words, symbols: the size of either vocabulary: the most frequent ones of the training texts, with the special ones.
      length, target_length: longer texts lose their end; `target_length` counts the end symbol.

    >>> tfopt.datasets.text_pairs(file="numbers.tsv", target_unit="characters", length=16, target_length=8).input_shape
    {'text': (16,), 'before': (8,)}

    Raises:
      DataError: a file is missing, empty or not text in `encoding`, or a line is no pair.
    """
    if not separator or "\n" in separator:
        raise OptionError(f"separator = {separator!r}: should be what stands between the two texts, such as '\\t'")
    given = {"train": file, "validation": validation_file, "test": test_file}
    pairs = {part: [] if path is None else _from_lines(Path(path), separator, encoding) for part, path in given.items()}
    return _built(
        name or Path(file).stem, pairs, str(file), units=(unit, target_unit), sizes=(words, symbols), lengths=(length, target_length),
        shares={"validation": validation, "test": test}, seed=seed, calibration=calibration, preprocess=preprocess,
    )  # fmt: skip


@options.checked
def number_words(
    *,
    limit: Annotated[int, Field(ge=100, le=10**12)] = 1_000_000,
    examples: Annotated[int, Field(ge=20, le=1_000_000)] = 10_000,
    validation: Share = 0.15,
    test: Share = 0.2,
    seed: Seed = 0,
    calibration: Count = 200,
) -> Data:
    """English number words and their digits, such as "three hundred and twelve" and "312": generated pairs for the task
    `sequence_to_sequence`, which need no file and no network.

    `examples` different numbers below `limit`, drawn by `seed`, as many of each number of digits as there are or are asked for; no number
    is in two parts. x and y are those of `text_pairs`, with words on one side and digits on the other.

    >>> data = tfopt.datasets.number_words(limit=1000, examples=500)
    >>> data.classes
    ('[UNK]', '[END]', '1', '4', '5', '2', '3', '7', '8', '9', '6', '0')

    Raises:
      OptionError: there are fewer numbers below `limit` than `examples`.
    """
    if examples > limit:
        raise OptionError(f"examples = {examples}: there are only {limit} numbers below limit = {limit}; ask for fewer")
    pairs = [(in_words(number), str(number)) for number in _drawn(limit, examples, seed)]
    lengths = tuple(max(len(text.tokens(pair[side], unit)) for pair in pairs) for side, unit in enumerate(("words", "characters")))
    return _built(
        "number_words", {"train": pairs, "validation": [], "test": []}, "number_words", units=("words", "characters"), sizes=(100, 100),
        lengths=(lengths[0], lengths[1] + 1), shares={"validation": validation, "test": test}, seed=seed, calibration=calibration,
        notes=[f"generated: {examples:,} numbers below {limit:,} in English words, and their digits"],
    )  # fmt: skip


_ONES = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen", "fourteen",
    "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
]  # fmt: skip
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_SCALES = ((10**9, "billion"), (10**6, "million"), (1000, "thousand"))


def in_words(number: int) -> str:
    """A number from 0 to 10^12 - 1 in English, as it is said in Britain.

    >>> in_words(312_045)
    'three hundred and twelve thousand and forty five'
    """
    words = []
    for size, name in _SCALES:
        if number >= size:
            words += [_below_thousand(number // size), name]
            number %= size
    if words and 0 < number < 100:
        words.append("and")
    if number or not words:
        words.append(_below_thousand(number))
    return " ".join(words)


def _below_thousand(number: int) -> str:
    words = []
    if number >= 100:
        words += [_ONES[number // 100], "hundred"]
        number %= 100
        if not number:
            return " ".join(words)
        words.append("and")
    if number < 20:
        return " ".join([*words, _ONES[number]])
    words.append(_TENS[number // 10 - 2])
    return " ".join([*words, _ONES[number % 10]] if number % 10 else words)


def _drawn(limit: int, count: int, seed: int) -> list[int]:
    """`count` different numbers below the limit, as many with each number of digits as far as there are so many."""
    rng, found, longest = random.Random(seed), [], len(str(limit - 1))
    for digits in range(1, longest + 1):
        every = range(10 ** (digits - 1) if digits > 1 else 0, min(10**digits, limit))
        found += rng.sample(every, min(len(every), (count - len(found)) // (longest - digits + 1)))
    if len(found) < count:  # there were too few of the longest; if most others are taken, drawing again would find none
        seen = set(found)
        others = (number for number in iter(lambda: rng.randrange(limit), None) if number not in seen)
        if limit < 4 * count:
            others = iter(rng.sample(sorted(set(range(limit)) - seen), count - len(found)))
        for number in others:
            seen.add(number)
            found.append(number)
            if len(found) == count:
                break
    rng.shuffle(found)
    return found


def _from_lines(path: Path, separator: str, encoding: str) -> Pairs:
    pairs = []
    for number, line in _tables.lines_of(_tables.text_of(path, encoding)):
        one, found, other = line.partition(separator)
        if not (found and one.strip() and other.strip()):
            form = f"text{separator}other text"
            raise DataError(f"{path}, line {number}: is {shown(line)}; should be {form!r}; repair the line, or say separator")
        pairs.append((one.strip(), other.strip()))
    return pairs


def _built(
    name: str,
    pairs: Mapping[str, Pairs],
    source: str,
    *,
    units: tuple[text.Unit, text.Unit],
    sizes: tuple[int, int],
    lengths: tuple[int, int],
    shares: Mapping[str, float],
    notes: Sequence[str] = (),
    **given: Any,
) -> Data:
    every = [pair for part in pairs.values() for pair in part]
    texts, targets = (np.array(side, object) for side in zip(*every, strict=True))
    numbers = _following.divided({part: [one for one, _ in of] for part, of in pairs.items()}, **shares, seed=given["seed"], source=source)
    words = text.vocabulary(texts[numbers["train"]], sizes[0], units[0])
    symbols = _following.vocabulary(targets[numbers["train"]], sizes[1], units[1])
    x = text.encoded(texts, words, lengths[0], units[0])
    before, y = _following.sequences(targets, symbols, lengths[1], units[1])
    notes = [
        *notes,
        *_following.cut_off(texts, lengths[0], units[0], "length", "texts"),
        *_following.cut_off(targets, lengths[1] - 1, units[1], "target_length - 1", "targets"),
    ]
    facts = {"text": _text.facts(words, lengths[0], units[0]), BEFORE: _text.facts(symbols, lengths[1], units[1])}
    parts = {part: ({"text": x[at], BEFORE: before[at]}, y[at]) for part, at in numbers.items()}
    return _building.build(name, parts, classes=symbols[1:], task="sequence_to_sequence", source=facts, notes=notes, **given)
