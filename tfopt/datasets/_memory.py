"""Arrays that are in memory already, or in .npy and .npz files."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from .. import options, pipelines
from ..errors import DataError
from ..types import Data
from . import _building, _cleaning, _labels, _records, _targets
from ._building import Count, Part, Preprocess, Seed, Share
from ._cleaning import Clean


@options.checked
def arrays(
    *,
    x: str | Path | np.ndarray | dict[str, str | Path | np.ndarray],
    y: str | Path | np.ndarray | None = None,
    task: _targets.OfArrays = "classification",
    classes: list[str] | tuple[str, ...] | None = None,
    name: str = "arrays",
    validation: Share = 0.15,
    test: Share = 0.2,
    seed: Seed = 0,
    calibration: Count = 200,
    preprocess: Preprocess = (),
    clean: Clean = (),
) -> Data:
    """Examples from numpy arrays, or from the .npy files that `x` and `y` name; or, without `y`, both from the .npz file that `x` names.

    x: (n, ...) uint8, scaled to 0..1, or floats or int32 or int64 (word indices), taken as they are; for a model of several inputs a
    dict of such, by the names of the model's inputs. y: (n,) integers, the indices of `classes`; without `classes`, as many as the
    largest label says, named by their index. With task = "regression" y are the numbers to learn, (n,) or (n, k); with task = "multi_label"
    (n, classes) of 0 and 1; with task = "segmentation" masks (n, height, width) of class indices, -1 for pixels that do not count; with
    task = "transcription", "sequence_to_sequence" or "generation" (n, length) integers, indices of classes in their order, filled up with
    -1.

    A .npz file holds x and y; or x_train and y_train and, where these parts are given, x_validation, y_validation, x_test and y_test, as
    Keras's mnist.npz does. Parts that are not given are split off, as shares `validation` and `test` by `seed`, as in `digits`.

    clean: which examples are left out: `drop_missing` and `drop_duplicates` before the split, `drop_outliers` of the training examples
    only. x may hold NaN where `drop_missing` is among them, or `preprocess` begins with `fill_missing` or `interpolate_missing`.

    >>> tfopt.datasets.arrays(x=images, y=labels, classes=["cat", "dog"]).num_classes
    2
    >>> tfopt.datasets.arrays(x={"image": images, "row": rows}, y=labels).input_shape
    {'image': (8, 8, 1), 'row': (5,)}
    >>> tfopt.datasets.arrays(x="mnist.npz").input_shape
    (28, 28, 1)

    Raises:
      DataError: a file is missing or damaged; x holds NaN; labels are outside the classes; a class has fewer than 3 examples; ...
    """
    if isinstance(x, dict) and not x:
        raise DataError("x: is a dict without inputs; should hold an array for each input of the model, by name")
    given = _archive(x) if y is None else {"train": (x, y)}
    names_of_x = {name: f"x[{name!r}]" for name in x} if isinstance(x, dict) else "x"
    x_name, y_name = pipelines.nested(_name, x, names_of_x), _name(x if y is None else y, "y")
    found = {part: (pipelines.nested(_array, one), _array(labels)) for part, (one, labels) in given.items()}
    ys = {part: labels for part, (_, labels) in found.items()}
    if task != "classification":
        ys, names = _targets.learnt(ys, task, classes, lambda part: y_name)
    elif classes is not None:
        names = tuple(classes)
    else:
        names = max((_targets.numbered(labels, y_name) for labels in ys.values()), key=len)
    known = {"x_name": x_name, "y_name": y_name, "clean": clean, "preprocess": preprocess}
    notes: list[str] = []
    for part, (one, _) in found.items():
        if task == "classification":
            one, labels = _building.check_examples(one, ys[part], len(names), **known)
        else:
            labels = ys[part]
            one, _ = _building.check_examples(one, np.zeros(len(labels), np.int32), 1, **known)
        stay, more = _cleaning.kept(one, labels, clean, source=name)
        one, labels = pipelines.nested(lambda values, stay=stay: values[stay], one), labels[stay]
        _cleaning.check_fillable(one, preprocess, name)
        found[part] = one, labels
        notes += more
    if task == "classification" and len(found) < len(_labels.PARTS):
        _labels.check_enough(found["train"][1], names, y_name, "labels are counted from 0")
    parts = _records.parted(found, {"validation": validation, "test": test}, seed=seed, source=y_name, task=task)
    notes += _labels.missing_classes({part: labels for part, (_, labels) in parts.items()}, names, y_name, needed=False)
    given = {"seed": seed, "calibration": calibration, "preprocess": preprocess, "clean": clean, "notes": notes}
    return _building.build(name, parts, classes=names, task=task, source=_records.facts_of(parts["train"][0]), **given)


def _archive(x: Any) -> dict[str, Part]:
    """The arrays of a .npz file, by part."""
    if not isinstance(x, str | Path):
        raise DataError("y: is missing; should be the labels of x, or x the path of a .npz file that holds both")
    found = _loaded(x, "numpy.savez")
    if isinstance(found, np.ndarray):
        raise DataError(f"{x}: holds one array; give its labels by y, or save both with numpy.savez(file, x=..., y=...)")
    keys = {"train": ("x", "y")} if {"x", "y"} & set(found) else {part: (f"x_{part}", f"y_{part}") for part in _labels.PARTS}
    keys = {part: pair for part, pair in keys.items() if part == "train" or set(pair) & set(found)}
    for key in (key for pair in keys.values() for key in pair):
        if key not in found:
            there = ", ".join(found) or "none at all"
            raise DataError(f"{x}: has no array {key!r}, but {there}; should hold x and y, or x_train, y_train, x_test and y_test")
    return {part: (_with_channel(found[one]), found[other]) for part, (one, other) in keys.items()}


def _with_channel(x: np.ndarray) -> np.ndarray:
    """Grey pictures without a channel, as Keras's files hold them, with one."""
    return x[..., np.newaxis] if x.ndim == 3 and x.dtype == np.uint8 else x


def _name(value: str | Path | np.ndarray, otherwise: str) -> str:
    """By which messages call an array: its file's path, where it has one."""
    return str(value) if isinstance(value, str | Path) else otherwise


def _array(value: str | Path | np.ndarray) -> np.ndarray:
    found = value if isinstance(value, np.ndarray) else _loaded(value, "numpy.save")
    if isinstance(found, dict):
        raise DataError(f"{value}: holds several arrays (.npz); should be one, saved with numpy.save; for x and y in one file leave out y")
    return found


def _loaded(path: str | Path, saving: str) -> np.ndarray | dict[str, np.ndarray]:
    """The array of a .npy file, or those of a .npz file."""
    try:
        with Path(path).open("rb") as file:
            found = np.load(file, allow_pickle=False)
            return found if isinstance(found, np.ndarray) else dict(found)
    except FileNotFoundError as error:
        raise DataError(f"{path}: there is no such file; should be one that is saved with {saving}") from error
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path}: can't be read as a file of arrays ({error}); save it again with {saving}") from error
