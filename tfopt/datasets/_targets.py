"""Labels as they stand in records and arrays, as what a model learns: indices of classes, or numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np

from ..errors import DataError, shown
from ..tasks import SEQUENCES
from . import _labels, _masks

Task = Literal["classification", "multi_label", "regression"]
OfArrays = Literal["classification", "multi_label", "regression", "segmentation", "transcription", "sequence_to_sequence", "generation"]
RANKS = {"segmentation": 2, **dict.fromkeys(SEQUENCES, 1)}  # of one example's y, where the task says it


def of(labels: np.ndarray, *, task: Task, classes: Sequence[str] | None, source: str) -> tuple[np.ndarray, tuple[str, ...], list[str]]:
    """What is learnt, (n,) int32 or float32, or (n, k) float32; the classes' names; notes.

    Args:
      labels: (n,), (n, 1) or, one-hot, (n, classes): whole numbers, floats, or strings.
      classes: their names: strings are found among them, numbers are their indices. Without it each different label is a class.
      source: begins messages, such as "birds.tfrecord: label".

    Raises:
      DataError: all labels are of one class, or they are no labels for the task.
    """
    if task == "regression":
        return numbers(labels, source), (), []
    if task == "multi_label":
        return *several(labels, classes, source), []
    labels = flat(labels, source)
    if labels.dtype.kind in "OSU":
        y, names = _of_words(labels, classes, source)
        return y, names, []
    labels = whole(labels, source)
    if classes is not None:
        return indices(labels, classes, source), tuple(classes), []
    check_several(labels, source)
    values, y = np.unique(labels, return_inverse=True)
    names = _labels.names_of([str(value) for value in values], source, "give examples of another class")
    renumbered = not np.array_equal(values, np.arange(len(values)))
    note = f"{source}: the labels {_range(names)} became the class indices 0 to {len(names) - 1}, and are the classes' names"
    return y.astype(np.int32), names, [note] if renumbered else []


def learnt(
    labels: Mapping[str, np.ndarray], task: str, classes: Sequence[str] | None, source: Callable[[str], str]
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """What is learnt in each part, of any task but classification, and the classes' names; without `classes` as many as the largest index
    says.

    source: of a part, begins messages.

    Raises:
      DataError: they are no labels for the task.
    """
    if task == "regression":
        return {part: numbers(of, source(part)) for part, of in labels.items()}, ()
    if task == "multi_label":
        found = {part: several(of, classes, source(part)) for part, of in labels.items()}
        return {part: y for part, (y, _) in found.items()}, found["train"][1]
    names = tuple(classes) if classes is not None else max((numbered(of, source(part)) for part, of in labels.items()), key=len)
    checked = masks if task == "segmentation" else sequences
    return {part: checked(of, len(names), source(part)) for part, of in labels.items()}, names


def flat(labels: np.ndarray, source: str) -> np.ndarray:
    """(n,) labels of (n,), (n, 1) or one-hot (n, classes) ones."""
    if labels.ndim == 1:
        return labels
    if labels.ndim == 2 and labels.shape[1] == 1:
        return labels[:, 0]
    if labels.ndim == 2 and labels.dtype.kind in "biuf" and ((labels == 0) | (labels == 1)).all() and (labels.sum(1) == 1).all():
        return labels.argmax(1)
    raise DataError(
        f"{source}: labels have the shape {labels.shape[1:]} each, and are not one-hot; should be a number or a word for each example, "
        "or a one-hot row"
    )


def several(labels: np.ndarray, classes: Sequence[str] | None, source: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """(n, classes) float32 of 0 and 1, and the classes' names.

    Raises:
      DataError: they are not such, or as many classes.
    """
    if labels.ndim != 2 or labels.shape[1] < 2 or labels.dtype.kind not in "biuf" or not ((labels == 0) | (labels == 1)).all():
        raise DataError(
            f"{source}: labels have the shape {labels.shape[1:]} each; for task = 'multi_label' should be a row of 0 and 1 for each "
            "example, with a column for each class"
        )
    names = tuple(map(str, range(labels.shape[1]))) if classes is None else tuple(classes)
    if len(names) != labels.shape[1]:
        raise DataError(f"{source}: labels have {labels.shape[1]} columns for {len(names)} classes; should be as many")
    return labels.astype(np.float32), names


def numbers(labels: np.ndarray, source: str) -> np.ndarray:
    """Labels as float32, (n,) or, where there are several to an example, (n, k)."""
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim not in (1, 2):
        raise DataError(f"{source}: labels have the shape {labels.shape[1:]} each; for task = 'regression' should be a number or a row")
    if labels.dtype.kind not in "biuf":
        raise DataError(f"{source}: holds {labels.dtype}; for task = 'regression' should be numbers")
    with np.errstate(over="ignore"):
        y = labels.astype(np.float32)
    bad = np.flatnonzero(~np.isfinite(y.reshape(len(y), -1)).all(axis=1))
    if len(bad):
        raise DataError(
            f"{source}: {len(bad):,} of {len(y):,} values are NaN, infinite or too large for float32, the first at index {bad[0]}; "
            "remove or repair them"
        )
    return y


def sequences(labels: np.ndarray, classes: int, source: str) -> np.ndarray:
    """(n, length) int32, indices of classes in their order.

    Raises:
      DataError: they are not such, or something else than -1 fills them up.
    """
    if labels.ndim != 2 or labels.dtype.kind not in "iu" or not labels.size:
        raise DataError(
            f"{source}: holds {labels.dtype} of shape {labels.shape}; for a task of sequences should be whole numbers, (examples, length), "
            "the indices of classes in their order, filled up with -1"
        )
    there = labels >= 0
    wrong = (labels < -1) | (labels >= classes) | (there & (np.cumsum(~there, axis=1) > 0))
    if (bad := np.flatnonzero(wrong.any(axis=1))).size:
        raise DataError(
            f"{source}: {len(bad):,} of {len(labels):,} rows hold something else than indices from 0 to {classes - 1} with -1 behind "
            f"the last one, the first at index {bad[0]}: {shown(labels[bad[0]].tolist())}"
        )
    return labels.astype(np.int32)


def whole(labels: np.ndarray, source: str) -> np.ndarray:
    """Labels as int64."""
    if labels.dtype.kind in "biu":
        return labels.astype(np.int64)
    if labels.dtype.kind == "f" and np.isfinite(labels).all() and (labels == np.rint(labels)).all():
        return labels.astype(np.int64)
    raise DataError(
        f"{source}: holds {labels.dtype} such as {shown(labels[0].item())}; for classes should be whole numbers or words; "
        "task = 'regression' learns numbers"
    )


def indices(labels: np.ndarray, classes: Sequence[str], source: str) -> np.ndarray:
    """Whole numbers as they are, if they are indices of the classes."""
    bad = np.flatnonzero((labels < 0) | (labels >= len(classes)))
    if len(bad):
        raise DataError(
            f"{source}: {len(bad):,} labels are outside 0..{len(classes) - 1}, the first at index {bad[0]} is {labels[bad[0]]}; "
            f"with {len(classes)} classes they are counted from 0"
        )
    check_several(labels, source)
    return labels.astype(np.int32)


def check_several(labels: np.ndarray, source: str) -> None:
    """Refuses labels that are all the same."""
    if (labels == labels[0]).all():
        raise DataError(f"{source}: all {len(labels):,} examples are of one class, {shown(labels[0].item())}; should be two or more")


def _of_words(labels: np.ndarray, classes: Sequence[str] | None, source: str) -> tuple[np.ndarray, tuple[str, ...]]:
    words = [label.decode("utf-8", "replace") if isinstance(label, bytes) else str(label) for label in labels.tolist()]
    found = _labels.names_of(words, source, "give examples of another class")
    names = found if classes is None else tuple(classes)
    return _labels.indices(words, names, lambda row: f"{source}, example {row}"), names


def _range(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 5 else f"{names[0]}, {names[1]}, ... {names[-1]}"


def masks(labels: np.ndarray, classes: int, source: str) -> np.ndarray:
    """Masks (n, height, width) as they are kept.

    Raises:
      DataError: they are none, or hold an index of no class.
    """
    if labels.ndim != 3 or labels.dtype.kind not in "iu":
        raise DataError(
            f"{source}: holds {labels.dtype} of shape {labels.shape[1:]} each; for task = 'segmentation' should be class indices, "
            "(height, width) integers, -1 for what does not count"
        )
    bad = np.flatnonzero(((labels < -1) | (labels >= classes)).reshape(len(labels), -1).any(axis=1))
    if len(bad):
        first = labels[bad[0]]
        raise DataError(
            f"{source}: {len(bad):,} masks hold an index outside 0..{classes - 1}, the first at index {bad[0]} has "
            f"{first.max() if first.max() >= classes else first.min()}; -1 is for what does not count"
        )
    return labels.astype(_masks.dtype_for(classes))


def numbered(y: np.ndarray, y_name: str) -> tuple[str, ...]:
    """Names for as many classes as the largest label says, which are their indices."""
    if not y.size or y.dtype.kind not in "iu":
        return ()  # no labels at all: check_examples says what is wrong with them
    largest = int(y.max())
    if largest >= y.size:
        raise DataError(f"{y_name}: the largest of {y.size:,} labels is {largest}; should be class indices, counted from 0 without gaps")
    return tuple(str(index) for index in range(max(largest, 0) + 1))
