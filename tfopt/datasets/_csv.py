"""Tables: a CSV file with a row for each example, columns of numbers and of categories, and one that is to be predicted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from .. import options
from ..errors import DataError, shown
from ..preprocessing._checking import Finite
from ..types import Data
from . import _building, _cleaning, _columns, _labels, _tables
from ._building import Count, Preprocess, Seed, Share
from ._cleaning import Clean
from ._columns import Column
from ._tables import Table

Names = list[str] | tuple[str, ...]
Task = Literal["classification", "regression"]


@options.checked
def csv(
    *,
    file: str | Path,
    target: str,
    test_file: str | Path | None = None,
    validation_file: str | Path | None = None,
    task: Task | None = None,
    numbers: Names = (),
    categories: Names = (),
    ignore: Names = (),
    missing: Literal["mean", "median", "most_frequent", "constant", "drop"] = "mean",
    fill: Finite = 0.0,
    scale: Literal["z_score", "none"] = "z_score",
    scale_target: Literal["z_score", "none"] = "none",
    delimiter: str = ",",
    encoding: str = "utf-8",
    header: Names | None = None,
    name: str | None = None,
    validation: Share = 0.15,
    test: Share = 0.2,
    seed: Seed = 0,
    calibration: Count = 200,
    preprocess: Preprocess = (),
    clean: Clean = (),
) -> Data:
    """A table: the column `target` is predicted from the others but those in `ignore`.

    A raw example is (columns,) float32: numbers as they are, a category as its number, NaN where a value is missing, -1 for a category
    that the training rows do not have. Steps make the x of it: `encode_columns` (a column of 0 and 1 for each category; a missing or
    unknown one has zeros only), `fill_missing` of numbers by their `mean`, `median` or most frequent number, or by `fill`, `z_score` of the
    numbers. All their statistics are of the training rows. Then comes `preprocess`.

    A column is of numbers where all its values are, else of categories; `numbers` and `categories` say it otherwise. A target of words or
    whole numbers makes classes, one with decimals is a number to predict; `task` says it otherwise. `missing = "drop"` leaves rows out in
    which something is missing, and fills nothing in. `clean` leaves rows out as well: `drop_duplicates` in each file, before the split,
    `drop_outliers` (by the numbers) of the training rows only. A number to predict is learnt as it is, or with `scale_target` without the
    mean and standard deviation of the training rows, which stand in `source["target_scale"]`; scores are in its own units all the same.
    `header` names the columns of a file without a first line that does.

    >>> tfopt.datasets.csv(file="penguins.csv", target="species", ignore=["island"]).classes
    ('Adelie', 'Chinstrap', 'Gentoo')

    Raises:
      DataError: a file is missing, empty or not text in `encoding`; a row has too many or too few fields; there is no such column; ...
    """
    paths = {"train": file, "validation": validation_file, "test": test_file}
    tables = {part: _tables.table_of(path, delimiter=delimiter, encoding=encoding, names=header) for part, path in paths.items() if path}
    tables["train"].index(target, "target")
    kinds = _columns.chosen(tables["train"], target, numbers, categories, ignore)
    tables = {part: _complete(table, target, list(kinds) if missing == "drop" else []) for part, table in tables.items()}
    tables = {part: _cleaned(table, target, kinds, clean) for part, table in tables.items()} if clean else tables
    sizes = {part: len(tables[part]) if part in tables else 0 for part in _labels.PARTS}
    whole, source = _tables.joined(list(tables.values())), str(file)
    task = task or _task_of(tables["train"].column(target))
    y, classes = _targets(whole, target, task, sizes)
    rows = _labels.divided(y, sizes, validation=validation, test=test, seed=seed, source=source, stratified=task == "classification")
    if empty := [part for part, numbers in rows.items() if not len(numbers)]:
        raise DataError(f"{source}: has too few rows, none is left for {', '.join(empty)}; give more rows, or larger shares")
    columns = _learnt_columns(whole.take(rows["train"]), kinds)
    x = _values(whole, columns)
    train, of_numbers = rows["train"], [column.categories is None for column in columns]
    stay, notes = _cleaning.kept(x[train][:, of_numbers], y[train], clean, source=source, training=True)
    rows["train"], notes = train[stay], whole.notes + notes
    parts = {part: (x[numbers], y[numbers]) for part, numbers in rows.items()}
    if task == "classification":
        notes += _labels.missing_classes({part: y for part, (_, y) in parts.items()}, classes, source)
    if task == "regression" and scale_target == "z_score":
        middle, spread = float(parts["train"][1].mean(dtype=np.float64)), float(parts["train"][1].std(dtype=np.float64)) or 1.0
        parts = {part: (x, ((y - middle) / spread).astype(np.float32)) for part, (x, y) in parts.items()}
    facts = {
        "kind": "table",
        "columns": [column.facts for column in columns],
        "missing_values": list(_columns.MISSING),
        "missing_values_in": "any case",
        "blanks_around_fields": "removed",
        "unknown_category": _columns.UNKNOWN,
        "target": target,
    }
    if task == "regression" and scale_target == "z_score":
        facts["target_scale"] = {"mean": middle, "std": spread}
    return _building.build(
        name or Path(file).stem,
        parts,
        classes=classes,
        seed=seed,
        calibration=calibration,
        preprocess=[*_steps(columns, parts["train"][0], missing, fill, scale), *preprocess],
        task=task,
        source=facts,
        notes=notes,
    )


def _complete(table: Table, target: str, others: Sequence[str]) -> Table:
    """The rows that have a target, and a value in each of the `others`; how many have not is noted."""
    needed = [table.index(name, "the training file") for name in (target, *others)]
    kept = [row for row, fields in enumerate(table.rows) if not any(_columns.is_missing(fields[at]) for at in needed)]
    if len(kept) == len(table):
        return table
    what = "a missing value" if others else f"no value in the target {shown(target)}"
    note = f"{table.path}: {len(table) - len(kept)} of {len(table):,} rows have {what} and were left out"
    if not kept:
        raise DataError(f"{note}: none is left; {'fill values in, with missing' if others else 'name another target'}")
    return replace(table.take(kept), notes=(*table.notes, note))


def _cleaned(table: Table, target: str, kinds: Mapping[str, bool], clean: Sequence[Any]) -> Table:
    """The rows that the cleaners of whole sets leave."""
    columns = [Column(name, None if of_numbers else _columns.categories_of(table.column(name))) for name, of_numbers in kinds.items()]
    _, labels = np.unique(table.column(target), return_inverse=True)
    numbers, notes = _cleaning.kept(_values(table, columns), labels, clean, source=str(table.path))
    return replace(table.take(numbers), notes=(*table.notes, *(f"{table.path}: {note}" for note in notes)))


def _values(table: Table, columns: Sequence[Column]) -> np.ndarray:
    """(rows, columns) float32"""
    return np.stack([_columns.values_of(table, column, f"repair it, or say categories = [{column.name!r}]") for column in columns], axis=1)


def _targets(table: Table, target: str, task: Task, sizes: Mapping[str, int]) -> tuple[np.ndarray, tuple[str, ...]]:
    """The targets, and the classes."""
    if task == "regression":
        return _columns.values_of(table, Column(target), "repair it, or say task = 'classification'"), ()
    labels, fix = table.column(target), "name another target, or say task = 'regression' if it is a number to predict"
    classes = _labels.names_of(labels[: sizes["train"]], str(table.path), fix)
    y = _labels.indices(labels, classes, table.place)
    if not (sizes["validation"] and sizes["test"]):
        _labels.check_enough(y[: sizes["train"]], classes, str(table.path), fix)
    return y, classes


def _task_of(labels: Sequence[str]) -> Task:
    values = [_columns.number(label) for label in labels]
    if any(value is None for value in values) or all(value.is_integer() for value in values):
        return "classification"
    return "regression"


def _learnt_columns(train: Table, kinds: Mapping[str, bool]) -> list[Column]:
    """The columns, with the categories that the training rows have."""
    columns = []
    for name, of_numbers in kinds.items():
        fields = train.column(name)
        if all(map(_columns.is_missing, fields)):
            raise DataError(
                f"{train.path}: the column {shown(name)} has no value in the training rows; leave it out with ignore = [{name!r}]"
            )
        columns.append(Column(name, None if of_numbers else _columns.categories_of(fields)))
    return columns


def _steps(columns: Sequence[Column], x: np.ndarray, missing: str, fill: float, scale: str) -> list[dict[str, Any]]:
    """What makes a vector of numbers of a raw example. The zeros and ones of categories are not scaled: a rare category would come out
    as a large number, for which int8 would lose the small ones.
    """
    counts = [0 if column.categories is None else len(column.categories) for column in columns]
    steps: list[dict[str, Any]] = [{"use": "encode_columns", "categories": counts}] if any(counts) else []
    if missing != "drop":
        steps.append({"use": "fill_missing", "how": missing, **({"value": fill} if missing == "constant" else {})})
    if scale == "z_score" and not all(counts):
        means, spreads = np.nanmean(x, axis=0, dtype=np.float64), np.nanstd(x, axis=0, dtype=np.float64)
        mean, std = [], []
        for count, middle, spread in zip(counts, means, spreads, strict=True):
            mean += [0.0] * count or [float(middle)]
            std += [1.0] * count or [float(spread) or 1.0]
        steps.append({"use": "z_score", "per": "feature", "mean": mean, "std": std})
    return steps
