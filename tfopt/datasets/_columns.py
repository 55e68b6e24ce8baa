"""Columns of a table as numbers: which hold numbers and which categories, and the array that comes of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import DataError, OptionError, shown
from ._tables import Table

# What counts as missing, in any case: as pandas has it, without "None", which is a fine category, and with the ? of UCI's tables.
MISSING = ("", "NA", "N/A", "#N/A", "#NA", "<NA>", "NaN", "-NaN", "NULL", "?")
_MISSING = {one.lower() for one in MISSING}
UNKNOWN = -1.0  # the number of a category that is not in the list


@dataclass(frozen=True)
class Column:
    """A column that a model sees; of numbers where `categories` is None, else the names of its categories."""

    name: str
    categories: tuple[str, ...] | None = None

    @property
    def facts(self) -> dict[str, Any]:
        """As JSON has it."""
        return {"name": self.name} if self.categories is None else {"name": self.name, "categories": list(self.categories)}


def is_missing(text: str) -> bool:
    """Whether a field holds no value."""
    return text.lower() in _MISSING


def number(text: str) -> float | None:
    """The finite number that a field holds, or None."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and "_" not in text else None


def of_numbers(table: Table, name: str) -> bool:
    """Whether a column holds numbers, judged by its fields.

    Raises:
      DataError: no field has a value, some of many numbers can't be read, or it is neither numbers nor categories.
    """
    fields = [(text, row) for row, text in enumerate(table.column(name)) if not is_missing(text)]
    if not fields:
        raise DataError(f"{table.path}: the column {shown(name)} has no value at all; leave it out with ignore = [{name!r}]")
    bad = [(text, row) for text, row in fields if number(text) is None]
    if not bad:
        return True
    if len(bad) < len(fields) / 10:
        (text, row), count = bad[0], len(fields) - len(bad)
        raise DataError(
            f"{table.place(row)}: {shown(text)} is no number, as the other {count:,} values of the column {shown(name)} are; "
            f"repair it, or say categories = [{name!r}]"
        )
    different = len({text for text, _ in fields})
    if different > max(20, len(fields) / 2):
        raise DataError(
            f"{table.path}: the column {shown(name)} has {different:,} different texts in {len(fields):,} rows, too many for categories; "
            f"leave it out with ignore = [{name!r}], or say categories = [{name!r}] if it has to be"
        )
    return False


def chosen(table: Table, target: str, numbers: Sequence[str], categories: Sequence[str], ignore: Sequence[str]) -> dict[str, bool]:
    """The columns that a model sees, and whether each holds numbers, as given or else as its fields say.

    Raises:
      OptionError: a column is named for two things. DataError: one that is named is not there; none is left.
    """
    for option, named in (("numbers", numbers), ("categories", categories), ("ignore", ignore)):
        for name in named:
            table.index(name, option)
    named = [target, *numbers, *categories, *ignore]
    if twice := sorted({name for name in named if named.count(name) > 1}):
        raise OptionError(f"the column {shown(twice[0])} is named twice in target, numbers, categories and ignore; should be once")
    left = [name for name in table.names if name not in (target, *ignore)]
    if not left:
        raise DataError(f"{table.path}: no column is left beside the target {shown(target)}; ignore fewer")
    return {name: name in numbers or (name not in categories and of_numbers(table, name)) for name in left}


def categories_of(fields: Sequence[str]) -> tuple[str, ...]:
    """The categories that fields hold, in the order of the alphabet."""
    return tuple(sorted({text for text in fields if not is_missing(text)}))


def values_of(table: Table, column: Column, fix: str) -> np.ndarray:
    """(rows,) float32 of one column: its numbers, or its categories' numbers, UNKNOWN for others, NaN where the value is missing.

    Raises:
      DataError: what should be a number is none, or too large for float32; `fix` ends the sentence.
    """
    fields = table.column(column.name)
    if column.categories is not None:
        index = {name: float(position) for position, name in enumerate(column.categories)}
        return np.array([math.nan if is_missing(text) else index.get(text, UNKNOWN) for text in fields], np.float32)
    values = [math.nan if is_missing(text) else number(text) for text in fields]
    for row, value in enumerate(values):
        if value is None or abs(value) > np.finfo(np.float32).max:
            raise DataError(
                f"{table.place(row)}: {shown(fields[row])} in the column {shown(column.name)} is no number that float32 holds; {fix}"
            )
    return np.array(values, np.float32)
