"""Pictures with boxes around what is on them, from whatever file they were read, as the examples of a detector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..errors import DataError, shown
from ..types import Data
from . import _building, _decoding, _folders, _headers, _labels, _masks
from ._headers import Header

# A box may stick out of its picture by so many pixels without a word: tools that draw boxes round.
ROUNDING = 1.0
Masks = Literal["ellipses"]


@dataclass(frozen=True)
class Box:
    """In pixels, from the picture's upper left corner: where it begins and ends."""

    label: str
    ymin: float
    xmin: float
    ymax: float
    xmax: float


@dataclass(frozen=True)
class Picture:
    """What was annotated: by which name it is told, its file, the height and width that the boxes are meant for (None where that is not
    said), its boxes, its part, or the reason why it can't be used, as the end of a sentence.
    """

    name: str
    path: Path | None = None
    size: tuple[int, int] | None = None
    boxes: tuple[Box, ...] = ()
    part: str = "train"
    problem: str | None = None


@dataclass
class Found:
    """Pictures that can be used, with their headers and boxes (m, 4) in shares, and what was done to them."""

    pictures: list[Picture] = field(default_factory=list)
    headers: list[Header] = field(default_factory=list)
    boxes: list[np.ndarray] = field(default_factory=list)
    labels: list[list[str]] = field(default_factory=list)
    bad: list[str] = field(default_factory=list)
    clipped: list[str] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)


def build(
    name: str,
    pictures: Sequence[Picture],
    *,
    root: Path,
    form: _decoding.Form,
    classes: Sequence[str] | None,
    corrupt: float,
    cache: str | Path,
    validation: float,
    test: float,
    seed: int,
    calibration: int,
    preprocess: Sequence[Any],
    notes: Sequence[str],
    source: str,
    masks: Masks | None = None,
) -> Data:
    """The Data of them, as `voc` and `coco` describe it.

    Args:
      masks: what is drawn into the boxes, for masks in their place.
      root: of all files.
      classes: their order; without it the alphabet's. One without a box is left out.
      source: what messages name.
    """
    found = _usable(sorted(pictures, key=lambda one: _labels.PARTS.index(one.part)))
    notes = [*notes, *_folders.left_out(found.bad, len(pictures), corrupt, source, "pictures or their annotations")]
    notes += _told(found)
    used = {label for labels in found.labels for label in labels}
    if not used:
        raise DataError(f"{source}: there is not one box in {len(found.pictures):,} pictures; a detector needs some to learn from")
    names = tuple(one for one in classes if one in used) if classes is not None else tuple(sorted(used))
    if unused := [shown(one) for one in classes or () if one not in used]:
        notes.append(f"{source}: no box is of {_folders.some(unused)}; left out of the classes")
    y = _filled(found, names)
    labels = y["labels"]
    if masks is not None:
        names = _masks.with_background(names, source)
        y = labels = _drawn(y, form.size, len(names))
        notes.append("masks are ellipses that fill the boxes, derived labels: nobody has drawn these outlines")
    sizes = {part: sum(one.part == part for one in found.pictures) for part in _labels.PARTS}
    numbers = _labels.divided(
        np.zeros(len(found.pictures), np.int32), sizes, validation=validation, test=test, seed=seed, source=source, stratified=False
    )
    if few := [part for part in _labels.PARTS if not len(numbers[part])]:
        raise DataError(f"{source}: {len(found.pictures)} pictures leave none for {' and '.join(few)}; give more, or larger shares")
    notes += _labels.missing_classes({part: labels[numbers[part]] for part in numbers}, names, source)
    held = _decoding.rows([one.path for one in found.pictures], found.headers, root, y, form, cache)
    return _building.build(
        name,
        {part: held.take(numbers[part]) for part in numbers},
        classes=names,
        seed=seed,
        calibration=calibration,
        preprocess=preprocess,
        task="detection" if masks is None else "segmentation",
        source=form.facts,
        notes=notes,
    )


def _usable(pictures: Sequence[Picture]) -> Found:
    found = Found()
    headers = iter(_headers.inspected([one.path for one in pictures if one.path and not one.problem]))
    for picture in pictures:
        header = picture.problem or next(headers)
        turned = _decoding.meant(header, picture.size, "its annotation says") if isinstance(header, Header) else header
        if isinstance(turned, str):
            found.bad.append(f"{picture.name} {turned}")
            continue
        boxes, labels = _shares(picture, turned, found)
        found.pictures.append(picture)
        found.headers.append(turned)
        found.boxes.append(boxes)
        found.labels.append(labels)
    return found


def _shares(picture: Picture, header: Header, found: Found) -> tuple[np.ndarray, list[str]]:
    """The boxes (m, 4) in shares of the picture, without those of which nothing is in it, and their labels."""
    sides = (header.width, header.height) if header.turn != 1 else (header.height, header.width)
    pixels = np.array([(one.ymin, one.xmin, one.ymax, one.xmax) for one in picture.boxes], np.float64).reshape(-1, 4)
    limits = np.array([*sides, *sides], np.float64)
    outside = ((pixels < -ROUNDING) | (pixels > limits + ROUNDING)).any(axis=1)
    inside = np.clip(pixels, 0, limits)
    kept = (inside[:, 2:] > inside[:, :2]).all(axis=1)
    if (outside & kept).any():
        found.clipped.append(picture.name)
    if not kept.all():
        found.empty.append(picture.name)
    return (inside / limits)[kept].astype(np.float32), [one.label for one, keep in zip(picture.boxes, kept, strict=True) if keep]


def _told(found: Found) -> list[str]:
    notes = []
    if found.clipped:
        notes.append(
            f"boxes reached out of their pictures and were cut off at the edge in {len(found.clipped):,}: {_folders.some(found.clipped)}"
        )
    if found.empty:
        notes.append(f"boxes without a pixel in their picture were left out in {len(found.empty):,}: {_folders.some(found.empty)}")
    if bare := [picture.name for picture, labels in zip(found.pictures, found.labels, strict=True) if not labels]:
        notes.append(f"{len(bare):,} pictures have no box and are kept as such: {_folders.some(bare)}")
    return notes


def _filled(found: Found, names: Sequence[str]) -> dict[str, np.ndarray]:
    """All boxes and labels, filled up with -1 to the most that a picture has."""
    count, most, index = len(found.pictures), max(map(len, found.labels)), {name: number for number, name in enumerate(names)}
    boxes, labels = np.full((count, most, 4), -1, np.float32), np.full((count, most), -1, np.int32)
    for row, (some, of) in enumerate(zip(found.boxes, found.labels, strict=True)):
        boxes[row, : len(of)] = some
        labels[row, : len(of)] = [index[label] for label in of]
    return {"boxes": boxes, "labels": labels}


def _drawn(y: Mapping[str, np.ndarray], size: tuple[int, int], classes: int) -> np.ndarray:
    """(n, height, width): the masks of all boxes."""
    pairs = zip(y["boxes"], y["labels"], strict=True)
    return np.stack([_masks.ellipses(boxes[labels >= 0], labels[labels >= 0], size) for boxes, labels in pairs]).astype(
        _masks.dtype_for(classes)
    )
