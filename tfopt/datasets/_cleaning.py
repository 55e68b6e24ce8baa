"""Which examples in memory are left out: what `clean` asks for, before the split, and for what looks at training examples only, after."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
from pydantic import AfterValidator

from .. import preprocessing
from ..errors import DataError
from ..pipelines import Rows
from ..types import Call

Clean = Annotated[
    list[str | dict[str, Any]] | tuple[str | dict[str, Any], ...],
    AfterValidator(preprocessing.check_cleaners),
    "list of cleaners: drop_duplicates, drop_missing, drop_outliers",
]


def cleaned(x: Any, y: np.ndarray, clean: Sequence[Any], *, source: str) -> tuple[Any, np.ndarray, tuple[str, ...]]:
    """The examples of a whole set that `clean` leaves, and a note for each cleaner that left some out.

    To be called before the split, so that equal examples do not come into several parts. Outliers stay: `build`, given the same
    `clean`, leaves them out of the training examples.

    x: an array (n, ...) or a dict of such, y: (n,).

    Raises:
      DataError: no example is left.
    """
    rows, notes = Rows(x, y), []
    for call in preprocessing.cleaners(clean):
        if call.use not in preprocessing.OF_TRAINING:
            rows, note = _without(rows, call, "examples", source)
            notes += note
    return rows.x, rows.y, tuple(notes)


def without_outliers(train: Rows, clean: Sequence[Any], source: str) -> tuple[Rows, tuple[str, ...]]:
    """The training examples that those cleaners leave that look at them only, and notes.

    Raises:
      DataError: none is left, or none of a class.
    """
    notes = []
    for call in preprocessing.cleaners(clean):
        if call.use in preprocessing.OF_TRAINING:
            before = train
            train, note = _without(train, call, "training examples", source)
            if before.y.dtype.kind in "iu" and (lost := np.setdiff1d(before.y, train.y)).size:
                raise DataError(f"{source}: {call.use} leaves no training example of class {lost[0]}; raise its limit, or leave it out")
            notes += note
    return train, tuple(notes)


def _without(rows: Rows, call: Call, what: str, source: str) -> tuple[Rows, list[str]]:
    stays = preprocessing.CLEANERS[call.use](rows.x, rows.y, **call.options)
    count, note = int((~stays).sum()), f"{call.use} left out {(~stays).sum():,} of {len(stays):,} {what}"
    if not count:
        return rows, []
    if count == len(stays):
        raise DataError(f"{source}: {note}, so that none is left; {_HINTS[call.use]}")
    return rows.take(np.flatnonzero(stays)), [note]


_HINTS = {
    "drop_missing": 'fill the gaps in instead, with preprocess = ["fill_missing"], or leave the column out that has no values',
    "drop_outliers": "raise its limit, or leave it out: it is for tables, not for images",
}


def check_fillable(x: Any, steps: Sequence[Any], name: str) -> None:
    """Refuses series without any value where nothing but their neighbours in time is to fill them.

    Raises:
      DataError: `interpolate_missing` without `fill_missing`, and a series of NaN only.
    """
    uses = [call.use for call in preprocessing.calls(steps)]
    if "interpolate_missing" in uses and "fill_missing" not in uses and not isinstance(x, dict) and x.dtype.kind == "f":
        empty = np.isnan(x).all(axis=1).reshape(len(x), -1).any(axis=1)
        if empty.any():
            raise DataError(
                f"{name}: {empty.sum():,} of {len(x):,} examples have a series of NaN only, the first at index {np.argmax(empty)}, "
                "from which nothing can be interpolated; put fill_missing behind interpolate_missing, or leave these examples out"
            )


def allows_missing(x: Any, clean: Sequence[Any], preprocess: Sequence[Any]) -> bool:
    """Whether NaN in x is dropped or filled in before it can do harm."""
    dropped = any(call.use == "drop_missing" for call in preprocessing.cleaners(clean))
    return dropped or (not isinstance(x, dict) and preprocessing.takes_missing(preprocessing.calls(preprocess)))
