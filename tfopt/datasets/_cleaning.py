"""Which examples in memory are left out: what `clean` asks for, before the split, and for what looks at training examples only, after."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
from pydantic import AfterValidator

from .. import preprocessing
from ..errors import DataError
from ..pipelines import Rows

Clean = Annotated[
    list[str | dict[str, Any]] | tuple[str | dict[str, Any], ...],
    AfterValidator(preprocessing.check_cleaners),
    "list of cleaners: drop_duplicates, drop_missing, drop_outliers",
]


def kept(x: Any, y: np.ndarray, clean: Sequence[Any], *, source: str, training: bool = False) -> tuple[np.ndarray, tuple[str, ...]]:
    """The numbers of the examples that `clean` leaves, and a note for each cleaner that left some out.

    x: an array (n, ...) or a dict of such, y: (n,).
    training: False for a whole set, before the split, so that equal examples do not come into several parts; True for the training
      examples, to apply those cleaners that look at them only.

    Raises:
      DataError: no example is left, or of training examples none of a class.
    """
    rows, numbers, notes = Rows(x, y), np.arange(len(y)), []
    for call in preprocessing.cleaners(clean):
        if (call.use in preprocessing.OF_TRAINING) == training:
            stays = preprocessing.CLEANERS[call.use](rows.x, rows.y, **call.options)
            if not stays.all():
                notes.append(_told(call.use, stays, "training examples" if training else "examples", source))
                rows, numbers = rows.take(np.flatnonzero(stays)), numbers[stays]
    if training and y.dtype.kind in "iu" and (lost := np.setdiff1d(y, rows.y)).size:
        raise DataError(f"{source}: {'; '.join(notes)}, so that no training example of class {lost[0]} is left; raise its limit")
    return numbers, tuple(notes)


def _told(cleaner: str, stays: np.ndarray, what: str, source: str) -> str:
    note = f"{cleaner} left out {(~stays).sum():,} of {len(stays):,} {what}"
    if not stays.any():
        raise DataError(f"{source}: {note}, so that none is left; {_HINTS[cleaner]}")
    return note


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
