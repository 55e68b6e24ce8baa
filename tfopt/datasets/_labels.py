"""Labels as they stand in files, words or numbers, as indices of classes; and which example goes into which part."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ..errors import DataError, OptionError, nearest, shown
from . import _building

PARTS = ("train", "validation", "test")
_EFFECTS = {"train": "it can't be learnt"}  # of a class that is missing there


def names_of(labels: Sequence[str], source: str, fix: str, folders: Sequence[str] = ()) -> tuple[str, ...]:
    """The classes that there are, in the order of the numbers where all are whole numbers, else of the alphabet.

    folders: the names of classes that there are as well, with or without examples.

    Raises:
      DataError: there is only one; `fix` ends the sentence.
    """
    names = {*labels, *folders}
    if len(names) < 2:
        raise DataError(
            f"{source}: all {len(labels):,} examples are of one class, {shown(next(iter(names), ''))}; should be two or more; {fix}"
        )
    return tuple(sorted(names, key=int if all(map(_whole, names)) else None))


def _whole(text: str) -> bool:
    try:
        return bool(text.isascii() and int(text) is not None)
    except ValueError:
        return False


def indices(labels: Sequence[str], names: Sequence[str], place: Callable[[int], str]) -> np.ndarray:
    """(n,) int32, the index of each label among the names.

    place: of a label by its number, the file and line.

    Raises:
      DataError: a label that is no name, with its place.
    """
    index = {name: number for number, name in enumerate(names)}
    for row, label in enumerate(labels):
        if label not in index:
            raise DataError(f"{place(row)}: the class {shown(label)} is not among those to learn from; {nearest(label, names)}")
    return np.array([index[label] for label in labels], np.int32)


def check_enough(y: np.ndarray, names: Sequence[str], source: str, fix: str) -> None:
    """Refuses classes that can't be in each of three parts."""
    counts = np.bincount(y, minlength=len(names))
    few = [f"{shown(name)} has {count}" for name, count in zip(names, counts, strict=True) if count < 3]
    if few:
        more = f" and {len(few) - 5} more" if len(few) > 5 else ""
        raise DataError(
            f"{source}: too few examples of {len(few)} of the {len(names)} classes: {', '.join(few[:5])}{more}; "
            f"each needs at least 3, one for each of train, validation and test; {fix}"
        )


def divided(
    y: np.ndarray, sizes: Mapping[str, int], *, validation: float, test: float, seed: int, source: str, stratified: bool = True
) -> dict[str, np.ndarray]:
    """The numbers of the examples of each part, of examples that stand one after the other: those of the file to learn from, then the
    official ones for validation and for testing (`sizes`, by part; a part of size 0 is drawn from the first file).
    """
    stops = np.cumsum([sizes[part] for part in PARTS])
    train, *official = np.split(np.arange(stops[-1]), stops[:-1])
    shares = [0.0 if len(given) else share for given, share in zip(official, (validation, test), strict=True)]
    drawn = _drawn(train, y, *shares, seed, source, stratified)
    return {part: given if part != "train" and len(given) else drawn[part] for part, given in zip(PARTS, (train, *official), strict=True)}


def _drawn(
    train: np.ndarray, y: np.ndarray, validation: float, test: float, seed: int, source: str, stratified: bool
) -> dict[str, np.ndarray]:
    if validation + test >= 1:
        raise OptionError(f"validation = {validation} and test = {test}: should sum to less than 1, to leave examples for training")
    if not stratified:
        order = np.random.default_rng(seed).permutation(train)
        tested, validated = (round(share * len(train)) for share in (test, validation))
        return dict(zip(PARTS, (order[tested + validated :], order[tested : tested + validated], order[:tested]), strict=True))
    if validation and test:
        parts = _building.split(train, y[train], validation=validation, test=test, seed=seed, source=source)
        return {part: numbers for part, (numbers, _) in parts.items()}
    if not validation and not test:
        return {"train": train}
    (stays, _), (goes, _) = _building.split_off(train, y[train], validation or test, seed=seed, source=source)
    return {"train": stays, "validation" if validation else "test": goes}


def missing_classes(y: Mapping[str, np.ndarray], names: Sequence[str], source: str, *, needed: bool = True) -> tuple[str, ...]:
    """A note for each part that lacks a class, where there are classes.

    y: by part: class indices (of any shape, -1 for none), or (n, classes) float32 of 0 and 1.

    Raises:
      DataError: train lacks one, and they are all `needed` there.
    """
    notes = []
    for part in y if names else ():
        there = y[part].any(axis=0) if y[part].dtype.kind == "f" else np.isin(np.arange(len(names)), y[part])
        if missing := [shown(name) for name, is_there in zip(names, there, strict=True) if not is_there]:
            text = f"{source}: {part} has no example of {', '.join(missing[:5])}" + (" and others" if len(missing) > 5 else "")
            if part == "train" and needed:
                raise DataError(f"{text}; a model can't learn it: give examples of it, or leave the class out")
            notes.append(f"{text}; {_EFFECTS.get(part, 'nothing is measured on it there')}")
    return tuple(notes)
