"""What the data sets share: the kinds of their options, the checks of their examples, the stratified split, and the `Data` itself.

A *part* is a pair (x, y): x an array (n, ...) of uint8, float32 or int32, or a dict of such arrays by input name; y (n,) int32.
"""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from .. import pipelines
from ..errors import DataError, OptionError
from ..types import Data

Seed = Annotated[int, Field(ge=0, lt=2**31)]
Share = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
Inputs = np.ndarray | dict[str, np.ndarray]
Part = tuple[Inputs, np.ndarray]


def build(
    name: str,
    parts: Mapping[str, Part],
    *,
    classes: Sequence[str],
    seed: int,
    calibration: int,
    augmentation: Callable[[Any, Any], Any] | None = None,
) -> Data:
    """The Data of three checked parts, "train", "validation" and "test", with calibration drawn from train by seed."""
    x, y = parts["train"]
    drawn = np.random.default_rng(seed).permutation(len(y))[:calibration]
    parts = {**parts, "calibration": (_rows(x, drawn), y[drawn])}
    return Data(
        name=name,
        task="classification",
        **{part: pipelines.examples(*arrays) for part, arrays in parts.items()},
        input_shape=pipelines.per_input(lambda one: one.shape[1:], x),
        input_dtype=pipelines.per_input(lambda one: "int32" if one.dtype == np.int32 else "float32", x),
        classes=tuple(classes),
        fingerprint=_fingerprint(parts, classes, seed),
        augmentation=augmentation,
    )


def _fingerprint(parts: Mapping[str, Part], classes: Sequence[str], seed: int) -> str:
    digest = hashlib.sha256(repr((tuple(classes), seed)).encode())
    for part in sorted(parts):
        x, y = parts[part]
        named = [(f"{part} {name}", x[name]) for name in sorted(x)] if isinstance(x, dict) else [(part, x)]
        for name, array in [*named, (part, y)]:
            digest.update(repr((name, array.shape, array.dtype.str)).encode())
            digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()


def _rows(x: Inputs, rows: np.ndarray) -> Inputs:
    return pipelines.per_input(lambda one: one[rows], x)


def split(x: Inputs, y: np.ndarray, *, validation: float, test: float, seed: int, source: str) -> dict[str, Part]:
    """Train, validation and test, disjoint, with the shares of the classes alike in each.

    Raises:
      DataError: a class has too few examples for it. OptionError: `validation` and `test` leave nothing to train on.
    """
    if validation + test >= 1:
        raise OptionError(f"validation = {validation} and test = {test}: should sum to less than 1, to leave examples for training")
    rest, tested = _stratified(np.arange(len(y)), y, round(test * len(y)), seed, source)
    trained, validated = _stratified(rest, y, round(validation * len(y)), seed, source)
    return {part: (_rows(x, at), y[at]) for part, at in (("train", trained), ("validation", validated), ("test", tested))}


def split_off(x: np.ndarray, y: np.ndarray, share: float, *, seed: int, source: str) -> tuple[Part, Part]:
    """What stays, and a stratified share of it."""
    stays, goes = _stratified(np.arange(len(y)), y, round(share * len(y)), seed, source)
    return (x[stays], y[stays]), (x[goes], y[goes])


def _stratified(rows: np.ndarray, y: np.ndarray, count: int, seed: int, source: str) -> tuple[np.ndarray, np.ndarray]:
    model_selection = sklearn("model_selection")
    try:
        stays, goes = model_selection.train_test_split(rows, test_size=count, stratify=y[rows], random_state=seed)
    except ValueError as error:
        raise DataError(
            f"{source}: {len(rows)} examples of {len(np.unique(y[rows]))} classes can't be split with every class in each part "
            f"({error}); give more examples, or larger shares"
        ) from error
    return stays, goes


def sklearn(module: str) -> Any:
    """A module of scikit-learn, imported when it is needed: that takes a second."""
    return importlib.import_module(f"sklearn.{module}")


def check_examples(x: Inputs, y: np.ndarray, num_classes: int, *, x_name: str | dict[str, str] = "x", y_name: str = "y") -> Part:
    """The examples as a part: x as uint8, float32 or int32, y as int32. For a dict of inputs, `x_name` is a dict as well.

    Raises:
      DataError: they are empty, of the wrong kind or shape, of different lengths, or hold NaN or labels outside the classes.
    """
    x = pipelines.per_input(_checked_inputs, x, x_name)
    y = _checked_labels(y, num_classes, y_name)
    for name, one in [(x_name[name], x[name]) for name in x] if isinstance(x, dict) else [(x_name, x)]:
        if len(one) != len(y):
            raise DataError(f"{name} has {len(one):,} examples and {y_name} {len(y):,} labels; they should be as many")
    return x, y


def _checked_inputs(x: np.ndarray, name: str) -> np.ndarray:
    if x.ndim < 2 or 0 in x.shape:
        raise DataError(f"{name} has shape {x.shape}; should be (examples, ...), with at least one example and nothing empty")
    if x.dtype == np.uint8:
        return x
    if x.dtype in (np.int32, np.int64):
        return _checked_indices(x, name)
    if x.dtype.kind != "f":
        raise DataError(
            f"{name} holds {x.dtype}; should be uint8 (0..255, scaled to 0..1), floats, or int32 or int64 such as word indices "
            "(both taken as they are): convert it first"
        )
    with np.errstate(over="ignore"):  # what is too large for float32 becomes infinite, and is found below
        x = x.astype(np.float32)
    bad = np.flatnonzero(~np.isfinite(x.reshape(len(x), -1)).all(axis=1))
    if len(bad):
        raise DataError(
            f"{name}: {len(bad):,} of {len(x):,} examples hold NaN, infinity or numbers too large for float32, "
            f"the first at index {bad[0]}; remove or repair them"
        )
    return x


def _checked_indices(x: np.ndarray, name: str) -> np.ndarray:
    limits = np.iinfo(np.int32)
    if x.min() < limits.min or x.max() > limits.max:
        raise DataError(f"{name}: holds integers from {x.min()} to {x.max()}; should fit int32, as word indices do")
    return x.astype(np.int32)


def _checked_labels(y: np.ndarray, num_classes: int, name: str) -> np.ndarray:
    if y.ndim != 1 or not len(y):
        fix = "; one-hot labels become class indices with .argmax(axis=1)" if y.ndim == 2 and y.shape[1] > 1 else ""
        raise DataError(f"{name} has shape {y.shape}; should be (examples,), a class index for each{fix}")
    if y.dtype.kind not in "iu":
        raise DataError(f"{name} holds {y.dtype}; should be integers, the indices of the classes")
    bad = np.flatnonzero((y < 0) | (y >= num_classes))
    if len(bad):
        raise DataError(
            f"{name}: {len(bad):,} labels are outside 0..{num_classes - 1}, the first at index {bad[0]} is {y[bad[0]]}; "
            f"with {num_classes} classes they are counted from 0"
        )
    return y.astype(np.int32)
