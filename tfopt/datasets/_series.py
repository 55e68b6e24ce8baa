"""Time series with labelled anomalies: windows of points, each labelled by whether its last point lies in an anomaly."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from .. import options, tasks
from ..errors import DataError, OptionError, shown
from ..types import Data
from . import _building, _columns, _files, _folders, _labels, _tables, _times, _unpacking, _windows
from ._building import Count, Preprocess, Seed, Share
from ._tables import Table
from ._windows import Series

CLASSES = ("normal", "anomaly")
_FALSE, _TRUE = {"0", "0.0", "false", "no", "normal"}, {"1", "1.0", "true", "yes", "anomaly"}
Names = list[str] | tuple[str, ...]


@options.checked
def time_series(
    *,
    file: str | Path | list[str | Path] | tuple[str | Path, ...],
    labels: str | Path | None = None,
    label: str | None = None,
    time: str | None = None,
    values: Names | None = None,
    length: Count = 64,
    stride: Count = 1,
    split: Literal["time", "blocks"] = "time",
    scale: Literal["series", "none"] = "series",
    task: Literal["classification", "anomaly_detection"] = "classification",
    time_format: str | None = None,
    delimiter: str = ",",
    encoding: str = "utf-8",
    name: str | None = None,
    validation: Share = 0.15,
    test: Share = 0.2,
    seed: Seed = 0,
    calibration: Count = 200,
    preprocess: Preprocess = (),
) -> Data:
    """Windows of `length` points, every `stride` points, of one series or several, and whether each ends in an anomaly.

    `file` is a CSV file, a list of them, or a folder or archive with some, all with the same columns: `time` (without it the first one)
    and the `values` (without them all others). The anomalies are stretches of time in the JSON file `labels`, of the form of NAB's
    combined_windows.json, whose keys are the ends of the files' paths; or a column `label` of 0 and 1.

    x: (length, columns) float32. With `scale = "series"` the mean and standard deviation of each series are taken out, as they are in the
    earliest points, whose share is that of train; `source` holds them. y: 1 where the window's last point lies in an anomaly, so that the
    model tells at each point, from the points up to it, whether something is wrong now; else 0.

    With `split = "time"` the earliest points of each series are train, the next validation, the latest test, and no window overlaps
    two parts. Where anomalies are so few that train has none then, `split = "blocks"` cuts between the anomalies instead, and gives each
    part its share of them by `seed`; a part may then be earlier than train.

    With `task = "anomaly_detection"` a model learns what is normal, from the windows that end in no anomaly: those that do are left out of
    train, validation and calibration, and at the last point of a window the error is looked at. See `tfopt.tasks.anomaly_detection`.

    >>> tfopt.datasets.time_series(file="nab/data", labels="nab/labels/combined_windows.json", length=48).classes
    ('normal', 'anomaly')

    Raises:
      DataError: a file is missing, empty or has rows of different lengths, a time can't be read, a series is shorter than a window, ...
    """
    if (labels is None) == (label is None):
        raise OptionError("labels or label: one of them should say where the anomalies are: a JSON file of stretches of time, or a column")
    _check_shares(validation, test)
    _times.check_form(time_format)
    known = None if labels is None else (_times.read_labels(labels), str(labels))
    tables = [(_tables.table_of(path, delimiter=delimiter, encoding=encoding), shown_as) for path, shown_as in _paths(file).items()]
    columns = _common_columns([table for table, _ in tables], time, values, label)
    every = [_series(table, shown_as, columns, label, known, time_format) for table, shown_as in tables]
    _check_lengths(every, length)
    if split == "time":
        stretches = [_windows.by_time(series, validation, test) for series in every]
    else:
        stretches = _windows.by_blocks(every, validation, test, seed)
    scales = [_scale(series, 1 - validation - test) if scale == "series" else None for series in every]
    found = [
        _windows.windows_of(series, _scaled(series.values, own), at, length, stride)
        for series, own, at in zip(every, scales, stretches, strict=True)
    ]
    parts = {part: tuple(map(np.concatenate, zip(*(one[part] for one in found), strict=True))) for part in _labels.PARTS}
    source = name or _name(file)
    notes = tuple(note for series in every for note in series.notes) + _checked(parts, source, split, task)
    facts = {
        "kind": "series",
        "time": columns[0],
        "values": list(columns[1:]),
        "length": length,
        "series": {series.name: own for series, own in zip(every, scales, strict=True) if own is not None},
    }
    data = _building.build(
        source, parts, classes=CLASSES, seed=seed, calibration=calibration, preprocess=preprocess, source=facts, notes=notes
    )
    return data if task == "classification" else tasks.anomaly_detection(data, error="last")


def _check_shares(validation: float, test: float) -> None:
    if validation + test >= 1:
        raise OptionError(f"validation = {validation} and test = {test}: should sum to less than 1, to leave points for training")


def _name(file: Any) -> str:
    return "time_series" if isinstance(file, list | tuple) else Path(file).stem


def _paths(file: Any) -> dict[Path, str]:
    """The CSV files, and what each series is called."""
    if isinstance(file, list | tuple):
        if not file:
            raise DataError("file: is an empty list; should name at least one CSV file")
        return {Path(one): str(one) for one in file}
    path = Path(file)
    if path.is_file() and path.suffix.lower() in (".csv", ".tsv", ".txt"):
        return {path: path.name}
    if not path.exists():
        raise DataError(f"file = {path}: there is no such file or folder; name a CSV file, or a folder of them")
    folder = _files.existing_folder(_unpacking.folder_of(path))
    found = [one for one in _folders.files_below(folder) if one.suffix.lower() == ".csv"]
    if not found:
        raise DataError(f"file = {path}: holds no .csv files; name the folder that they are in, or a list of them")
    return {one: one.relative_to(folder).as_posix() for one in found}


def _common_columns(tables: Sequence[Table], time: str | None, values: Names | None, label: str | None) -> tuple[str, ...]:
    """The time column, then those of the values, the same in all tables."""
    columns = _taken(tables[0], time, values, label)
    for table in tables[1:]:
        if (own := _taken(table, time, values, label)) != columns:
            raise DataError(f"{table.path}: has the columns {', '.join(own)}, the files before it {', '.join(columns)}; should be the same")
    return columns


def _taken(table: Table, time: str | None, values: Names | None, label: str | None) -> tuple[str, ...]:
    """The time column, then those of the values."""
    time = table.names[0] if time is None else table.names[table.index(time, "time")]
    others = [name for name in table.names if name not in (time, label)] if values is None else list(values)
    if not others or time in others or label in others:
        raise DataError(
            f"{table.path}: has the columns {', '.join(table.names)}; should be one of times, and others of values, named by values"
        )
    for name in others:
        table.index(name, "values")
    return (time, *others)


def _series(table: Table, name: str, columns: Sequence[str], label: str | None, labels: Any, form: str | None) -> Series:
    times = _times.times_of(table, columns[0], form)
    fix = "name the columns of numbers with values"
    values = np.stack([_columns.values_of(table, _columns.Column(column), fix) for column in columns[1:]], axis=1)
    if label is not None:
        anomalous = _flags(table, label)
    else:
        known, source = labels
        anomalous = np.zeros(len(table), bool)
        for start, stop in _times.stretches_for(table.path, known, source):
            anomalous |= (times >= start) & (times <= stop)
    series = _windows.in_order(name, times, values, anomalous)
    return Series(series.name, series.times, series.values, series.anomalous, (*table.notes, *series.notes))


def _flags(table: Table, label: str) -> np.ndarray:
    table.index(label, "label")
    fields = [field.lower() for field in table.column(label)]
    for row, field in enumerate(fields):
        if field not in _FALSE | _TRUE:
            raise DataError(f"{table.place(row)}: {shown(field)} in the column {shown(label)}; should be 0 or 1")
    return np.array([field in _TRUE for field in fields])


def _check_lengths(every: Sequence[Series], length: int) -> None:
    for series in every:
        if len(series) < length:
            raise DataError(
                f"{series.name}: has {len(series):,} points, fewer than a window's {length:,}; make length smaller, or leave it out"
            )


def _scale(series: Series, share: float) -> dict[str, list[float]]:
    earliest = series.values[: max(1, round(share * len(series)))].astype(np.float64)
    spread = earliest.std(axis=0)
    return {"mean": earliest.mean(axis=0).tolist(), "std": np.where(spread > 0, spread, 1.0).tolist()}


def _scaled(values: np.ndarray, own: dict[str, list[float]] | None) -> np.ndarray:
    return (values if own is None else (values - own["mean"]) / own["std"]).astype(np.float32)


def _checked(parts: Any, source: str, split: str, task: str) -> tuple[str, ...]:
    """Notes of the parts without an anomaly."""
    for part, (_, y) in parts.items():
        if not len(y):
            raise DataError(f"{source}: no window lies in {part} wholly; make length smaller, or the share of {part} larger")
    other = "blocks" if split == "time" else "time"
    if task == "anomaly_detection":
        if not parts["test"][1].any():
            raise DataError(f"{source}: no window in test ends in an anomaly, so nothing can be measured; say split = {other!r}")
        return ()
    if not parts["train"][1].any():
        raise DataError(f"{source}: no window in train ends in an anomaly, so a model can't learn what one is; say split = {other!r}")
    if parts["train"][1].all():
        raise DataError(f"{source}: all windows in train end in an anomaly; should be some that do not; say split = {other!r}")
    return _labels.missing_classes({part: y for part, (_, y) in parts.items()}, CLASSES, source)
