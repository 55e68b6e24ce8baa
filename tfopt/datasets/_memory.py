"""Arrays that are in memory already, or in .npy files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .. import options, pipelines
from ..errors import DataError
from ..types import Data
from . import _building, _cleaning
from ._building import Count, Preprocess, Seed, Share
from ._cleaning import Clean


@options.checked
def arrays(
    *,
    x: str | Path | np.ndarray | dict[str, str | Path | np.ndarray],
    y: str | Path | np.ndarray,
    classes: list[str] | tuple[str, ...] | None = None,
    name: str = "arrays",
    validation: Share = 0.15,
    test: Share = 0.2,
    seed: Seed = 0,
    calibration: Count = 200,
    preprocess: Preprocess = (),
    clean: Clean = (),
) -> Data:
    """Examples from numpy arrays, or from the .npy files that `x` and `y` name.

    x: (n, ...) uint8, scaled to 0..1, or floats or int32 or int64 (word indices), taken as they are; for a model of several inputs a
    dict of such, by the names of the model's inputs. y: (n,) integers, the indices of `classes`; without `classes`, as many as the
    largest label says, named by their index. Split, `seed` and `calibration` as in `digits`.

    clean: which examples are left out: `drop_missing` and `drop_duplicates` before the split, `drop_outliers` of the training examples
    only. x may hold NaN where `drop_missing` is among them, or `preprocess` begins with `fill_missing` or `interpolate_missing`.

    >>> tfopt.datasets.arrays(x=images, y=labels, classes=["cat", "dog"]).num_classes
    2
    >>> tfopt.datasets.arrays(x={"image": images, "row": rows}, y=labels).input_shape
    {'image': (8, 8, 1), 'row': (5,)}

    Raises:
      DataError: a file is missing or damaged; x holds NaN; labels are outside the classes; a class has fewer than 3 examples; ...
    """
    if isinstance(x, dict) and not x:
        raise DataError("x: is a dict without inputs; should hold an array for each input of the model, by name")
    names_of_x = {name: f"x[{name!r}]" for name in x} if isinstance(x, dict) else "x"
    x_name, y_name = pipelines.nested(_name, x, names_of_x), _name(y, "y")
    x, y = pipelines.nested(_array, x), _array(y)
    names = _class_names(y, y_name) if classes is None else tuple(classes)
    x, y = _building.check_examples(x, y, len(names), x_name=x_name, y_name=y_name, clean=clean, preprocess=preprocess)
    x, y, notes = _cleaning.cleaned(x, y, clean, source=name)
    _cleaning.check_fillable(x, preprocess, name)
    _check_enough(y, names, y_name)
    parts = _building.split(x, y, validation=validation, test=test, seed=seed, source=y_name)
    return _building.build(name, parts, classes=names, seed=seed, calibration=calibration, preprocess=preprocess, clean=clean, notes=notes)


def _name(value: str | Path | np.ndarray, otherwise: str) -> str:
    """By which messages call an array: its file's path, where it has one."""
    return str(value) if isinstance(value, str | Path) else otherwise


def _array(value: str | Path | np.ndarray) -> np.ndarray:
    if isinstance(value, np.ndarray):
        return value
    try:
        array = np.load(value, allow_pickle=False)
    except FileNotFoundError as error:
        raise DataError(f"{value}: there is no such file; should be an array saved with numpy.save") from error
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{value}: can't be read as a .npy file ({error}); save the array again with numpy.save") from error
    if not isinstance(array, np.ndarray):
        array.close()
        raise DataError(f"{value}: holds several arrays (.npz); should be one, saved with numpy.save")
    return array


def _class_names(y: np.ndarray, y_name: str) -> tuple[str, ...]:
    if not y.size or y.dtype.kind not in "iu":
        return ()  # no labels at all: check_examples says what is wrong with them
    largest = int(y.max())
    if largest >= y.size:
        raise DataError(f"{y_name}: the largest of {y.size:,} labels is {largest}; should be class indices, counted from 0 without gaps")
    return tuple(str(index) for index in range(max(largest, 0) + 1))


def _check_enough(y: np.ndarray, names: tuple[str, ...], y_name: str) -> None:
    counts = np.bincount(y, minlength=len(names))
    if counts.min() < 3:
        few = [f"{name!r} has {count}" for name, count in zip(names, counts, strict=True) if count < 3]
        shown = ", ".join(few[:5]) + (f" and {len(few) - 5} more" if len(few) > 5 else "")
        raise DataError(
            f"{y_name}: too few examples of a class: {shown}; each needs at least 3, one for each of train, validation and test "
            "(labels are counted from 0)"
        )
