"""Times as they stand in files, and the stretches of time that are labelled as anomalies."""

from __future__ import annotations

import difflib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError, OptionError, shown
from . import _columns, _tables
from ._tables import Table

Stretch = tuple[float, float]  # from and to, seconds since 1970, both inclusive


def seconds(text: str, form: str | None) -> float | None:
    """The seconds since 1970 of a time, in ISO 8601 or as a number of seconds, or by the `form` of strptime; None where it is no time.

    A time without a time zone is taken as UTC.
    """
    try:
        time = datetime.fromisoformat(text) if form is None else datetime.strptime(text, form)
    except ValueError:
        return _columns.number(text) if form is None else None
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()


def times_of(table: Table, column: str, form: str | None) -> np.ndarray:
    """(n,) float64, the seconds of each field of a column.

    Raises:
      DataError: one that is no time, with its line.
    """
    fields = table.column(column)
    times = [seconds(field, form) for field in fields]
    if None in times:
        bad = times.index(None)
        raise DataError(
            f"{table.place(bad)}: {shown(fields[bad])} in the column {shown(column)} is no time ({times.count(None):,} of {len(times):,} "
            f"are none); should be {'like 2014-04-01 00:05:00, or seconds since 1970' if form is None else repr(form)}; "
            "say time_format = '%d.%m.%Y %H:%M' or the like, or time for another column"
        )
    return np.array(times, np.float64)


def read_labels(path: str | Path) -> dict[str, list[Stretch]]:
    """The anomalies of a JSON file as NAB (numenta/NAB) has it: `{"folder/file.csv": [["from", "to"], ...], ...}`; a single time is a
    stretch of its own.

    Raises:
      DataError: the file is missing, no JSON, or of another form.
    """
    try:
        content = json.loads(_tables.text_of(path, "utf-8"))
    except ValueError as error:
        raise DataError(f"{path}: is no JSON ({error}); should be like NAB's combined_windows.json") from error
    if not isinstance(content, dict) or not all(isinstance(stretches, list) for stretches in content.values()):
        raise DataError(f'{path}: should be like NAB\'s combined_windows.json: {{"file.csv": [["from", "to"], ...]}}')
    return {key: [_stretch(one, f"{path}, {shown(key)}") for one in stretches] for key, stretches in content.items()}


def _stretch(value: Any, where: str) -> Stretch:
    ends = [value, value] if isinstance(value, str) else value
    times = [seconds(end, None) for end in ends if isinstance(end, str)] if isinstance(ends, list) else []
    if len(times) != 2 or None in times or times[0] > times[1]:
        raise DataError(
            f'{where}: {shown(value)} is no stretch of time; should be ["from", "to"] or one time, such as "2014-04-01 00:05:00"'
        )
    return times[0], times[1]


def stretches_for(path: Path, labels: dict[str, list[Stretch]], source: str) -> list[Stretch]:
    """Those of the key that the file's path ends in.

    Raises:
      DataError: there is no such key.
    """
    whole = "/" + path.resolve().as_posix()
    if keys := [key for key in labels if whole.endswith("/" + key)]:
        return labels[max(keys, key=len)]
    names = {key.rpartition("/")[2]: key for key in labels}
    close = [names[name] for name in difflib.get_close_matches(path.name, names)]
    near = f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(map(shown, sorted(labels)[:5]))}"
    raise DataError(f"{source}: has no key that the path {path} ends in; {near}; a series without anomalies has an empty list there")


def check_form(form: str | None) -> None:
    """Refuses what strptime does not know."""
    try:
        if form is not None:
            datetime.strptime(datetime(2000, 1, 2, 3, 4, 5).strftime(form), form)
    except ValueError as error:
        raise OptionError(f"time_format = {form!r}: is no format of strptime ({error}); such as '%d.%m.%Y %H:%M'") from error
