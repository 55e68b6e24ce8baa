"""Pictures in class folders."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from .. import options
from ..errors import DataError
from ..types import Data
from . import _building, _decoding, _files, _folders, _headers, _labels, _unpacking
from ._building import Cache, Count, Preprocess, Seed, Share
from ._decoding import Channels, Resize, Size
from ._folders import Tolerated


@options.checked
def image_folder(
    *,
    folder: str | Path,
    size: Size,
    channels: Channels = 3,
    resize: Resize = "stretch",
    corrupt: Tolerated = 0.05,
    validation: Share = 0.15,
    test: Share = 0.2,
    seed: Seed = 0,
    calibration: Count = 200,
    preprocess: Preprocess = (),
    cache: Cache = "memory",
) -> Data:
    """Pictures in one folder for each class: `folder/CLASS/**`, or `folder/train/CLASS/**` with `val` (`validation`, `valid`) or `test`
    beside it; an archive of such a folder is unpacked.

    x: (height, width, channels) uint8. Read are JPEG, PNG, WebP, BMP and the first picture of a GIF, told by their content and not by their
    names' endings: gray ones as three equal channels, 16 bits as their upper 8, CMYK as RGB, without transparency, a JPEG turned upright
    as its EXIF says. The files are looked through at once, read when they are needed for the first time, and kept by `cache`: "memory",
    "none", or a folder for what does not fit.

    Args:
      size: [height, width] that each picture is resized to, bilinearly.
      channels: 3 for RGB, 1 for gray.
      resize: "stretch" ignores the sides' proportion, "crop" cuts off what is too long, in the middle, "pad" fills up with black.
      corrupt: up to this share of the files may be unreadable; they are left out and named in the data's notes.
      validation, test: the shares that are drawn for these parts, stratified, by `seed`, where no folder says.

    >>> tfopt.datasets.image_folder(folder="flowers.zip", size=[96, 96]).input_shape
    (96, 96, 3)

    Raises:
      DataError: there are no pictures, no classes or only one, too few of a class, or too many unreadable files.
    """
    form = _decoding.Form(tuple(size), channels, resize)
    where = _files.existing_folder(_unpacking.folder_of(folder))
    parts = _folders.parts_of(where)
    files, notes = _found(where, parts)
    headers = _headers.inspected([path for path, _, _ in files])
    bad = [f"{_folders.within(file[0], where)} {one}" for file, one in zip(files, headers, strict=True) if isinstance(one, str)]
    notes += _folders.left_out(bad, len(files), corrupt, f"folder = {where}", "pictures")
    files, headers = zip(*((file, one) for file, one in zip(files, headers, strict=True) if not isinstance(one, str)), strict=True)
    paths, labels, _ = zip(*files, strict=True)
    classes = [one.name for root in parts.values() for one in _folders.classes_in(root)]
    names = _labels.names_of(labels, f"folder = {where}", _FIX, classes)
    y = _labels.indices(labels, names, lambda number: str(paths[number]))
    sizes = Counter(part for _, _, part in files)
    _check_counts(y[: sizes["train"]], names, where, divided=len(parts) == 3)
    numbers = _labels.divided(
        y, {part: sizes[part] for part in _labels.PARTS}, validation=validation, test=test, seed=seed, source=f"folder = {where}"
    )
    notes += _labels.missing_classes({part: y[numbers[part]] for part in numbers}, names, f"folder = {where}")
    held = _decoding.rows(paths, headers, where, y, form, cache)
    return _building.build(
        where.name,
        {part: held.take(numbers[part]) for part in numbers},
        classes=names,
        seed=seed,
        calibration=calibration,
        preprocess=preprocess,
        source=form.facts,
        notes=notes,
    )


_FIX = "name the folder that holds the classes' folders"


def _found(where: Path, parts: dict[str, Path]) -> tuple[list[tuple[Path, str, str]], list[str]]:
    """The pictures as (path, class, part), those to learn from first, and notes of what was passed over."""
    files, others = [], []
    for part in _labels.PARTS:
        for folder in _folders.classes_in(parts[part]) if part in parts else []:
            for path in _folders.files_below(folder):
                if path.suffix.lower() in _headers.ENDINGS:
                    files.append((path, folder.name, part))
                else:
                    others.append(_folders.within(path, where))
    lonely = [path for root in parts.values() for path in root.iterdir() if path.suffix.lower() in _headers.ENDINGS and path.is_file()]
    if not files:
        raise DataError(f"folder = {where}: {_nothing(lonely, others)}")
    if not any(part == "train" for _, _, part in files):
        raise DataError(f"folder = {parts['train']}: holds no pictures in class folders, so there is nothing to learn from")
    notes = [f"{len(others):,} files are no pictures by their names and were passed over: {_folders.some(others)}"] if others else []
    if lonely:
        told = _folders.some([_folders.within(path, where) for path in lonely])
        notes.append(f"{len(lonely):,} pictures stand in no class folder and were passed over: {told}")
    return files, notes


def _nothing(lonely: list[Path], others: list[str]) -> str:
    if lonely:
        return f"its {len(lonely):,} pictures stand in no class folders; put those of each class into a folder that bears its name"
    there = f" (but {_folders.some(others)})" if others else ""
    return f"holds no pictures in class folders{there}; should hold {_headers.KINDS} files, in one folder for each class"


def _check_counts(y: np.ndarray, names: tuple[str, ...], where: Path, *, divided: bool) -> None:
    """Of the examples to learn from, from which parts may have to be drawn."""
    empty = [name for index, name in enumerate(names) if not (y == index).any()]
    if empty:
        what = f"the {'class' if len(empty) == 1 else 'classes'} {_folders.some(empty)}"
        raise DataError(f"folder = {where}: there is no picture to learn from of {what}; give some, or remove the folder")
    if not divided:
        _labels.check_enough(y, names, f"folder = {where}", "give more, or leave the class out")
