"""Pictures with masks: a folder of pictures, and beside it one of files that hold the class of each pixel."""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from .. import options, pipelines
from ..errors import DataError, OptionError, shown
from ..types import Data
from . import _building, _decoding, _files, _folders, _headers, _labels, _masks, _unpacking
from ._building import Cache, Count, Preprocess, Seed, Share
from ._decoding import Channels, Size
from ._folders import Tolerated
from ._headers import Header

Index = Annotated[int, Field(ge=0, le=65_535)]


@options.checked
def image_masks(
    *,
    folder: str | Path,
    size: Size,
    classes: list[str] | tuple[str, ...],
    images: str = "images",
    masks: str = "masks",
    void: Index | None = 255,
    channels: Channels = 3,
    corrupt: Tolerated = 0.05,
    validation: Share = 0.15,
    test: Share = 0.2,
    seed: Seed = 0,
    calibration: Count = 200,
    preprocess: Preprocess = (),
    cache: Cache = "memory",
) -> Data:
    """Pictures with masks in two folders, `folder/images` and `folder/masks`, or `folder/train/images` and so on with `val` (`validation`,
    `valid`) or `test` beside it; an archive of such a folder is unpacked. A picture's mask has its name, up to the ending, in the same
    folder inside of `masks`.

    x: (height, width, channels) uint8, stretched to `size` bilinearly; see `image_folder` for which pictures are read. y: (height, width)
    integers, the index of each pixel's class, stretched by nearest neighbours; -1 for what does not count. A mask is a PNG (or another file
    without losses) of one channel of class indices, by a palette or gray, as large as its picture. All masks are kept in memory, a byte for
    each pixel of `size`.

    Args:
      size: [height, width] that each picture and mask is resized to.
      classes: the names of the indices 0, 1, ...; the background is one of them.
      images, masks: the names of the two folders.
      void: the index of pixels that do not count, such as the borders that Pascal VOC draws; None for none.
      corrupt: up to this share of the pictures may be unreadable, or without a mask that suits them; they are left out and named in the
        data's notes.
      validation, test: the shares that are drawn for these parts, by `seed`, where no folder says.

    >>> tfopt.datasets.image_masks(folder="cells.zip", size=[128, 160], classes=["background", "cell"]).task
    'segmentation'

    Raises:
      DataError: there are no pictures or masks, a class has no pixel to learn from, or too many pictures can't be used.
      OptionError: there are fewer than two classes, or `void` is the index of one.
    """
    form = _decoding.Form(tuple(size), channels)
    _check_classes(classes, void)
    where = _files.existing_folder(_unpacking.folder_of(folder))
    pairs, notes = _pairs(where, images, masks)
    pipelines.check_memory(len(pairs) * form.size[0] * form.size[1])
    headers = _headers.inspected([one.picture for one in pairs])
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = list(pool.map(lambda pair, header: _used(pair, header, form.size, len(classes), void), pairs, headers))
    bad = [f"{_folders.within(pair.picture, where)} {one}" for pair, one in zip(pairs, found, strict=True) if isinstance(one, str)]
    notes += _folders.left_out(bad, len(pairs), corrupt, f"folder = {where}", "pictures or their masks")
    good = [(pair, *one) for pair, one in zip(pairs, found, strict=True) if not isinstance(one, str)]
    kept, headers, y = [one[0] for one in good], [one[1] for one in good], np.stack([one[2] for one in good])
    numbers = _labels.divided(
        np.zeros(len(kept), np.int32),
        {part: sum(one.part == part for one in kept) for part in _labels.PARTS},
        validation=validation,
        test=test,
        seed=seed,
        source=f"folder = {where}",
        stratified=False,
    )
    if few := [part for part in _labels.PARTS if not len(numbers[part])]:
        raise DataError(f"folder = {where}: {len(kept)} pictures leave none for {' and '.join(few)}; give more, or larger shares")
    notes += _labels.missing_classes({part: y[numbers[part]] for part in numbers}, classes, f"folder = {where}")
    held = _decoding.rows([one.picture for one in kept], headers, where, y, form, cache)
    return _building.build(
        where.name,
        {part: held.take(numbers[part]) for part in numbers},
        classes=classes,
        seed=seed,
        calibration=calibration,
        preprocess=preprocess,
        task="segmentation",
        source=form.facts,
        notes=notes,
    )


@dataclass(frozen=True)
class _Pair:
    """A picture, its mask (None where there is none), and their part."""

    picture: Path
    mask: Path | None
    part: str


def _check_classes(classes: Sequence[str], void: int | None) -> None:
    if len(classes) < 2:
        raise OptionError(f"classes = {list(classes)}: should be two or more, the background among them")
    if void is not None and void < len(classes):
        raise OptionError(f"void = {void}: is the index of the class {shown(classes[void])}; give another one, or none")


def _pairs(where: Path, images: str, masks: str) -> tuple[list[_Pair], list[str]]:
    """The pictures, those to learn from first, and notes of what was passed over."""
    parts, pairs, notes = _folders.parts_of(where), [], []
    for part in _labels.PARTS:
        if part not in parts:
            continue
        folders = [parts[part] / name for name in (images, masks)]
        if missing := [one for one in folders if not one.is_dir()]:
            raise DataError(f"folder = {where}: there is no {missing[0]}; should hold pictures in {images}, and their masks in {masks}")
        pictures, found = (_by_name(one) for one in folders)
        pairs += [_Pair(path, found.get(name), part) for name, path in pictures.items()]
        if left := [_folders.within(found[name], where) for name in found if name not in pictures]:
            notes.append(f"{len(left):,} masks have no picture and were passed over: {_folders.some(left)}")
    if not any(one.part == "train" for one in pairs):
        raise DataError(f"folder = {parts['train'] / images}: holds no pictures; should hold {_headers.KINDS} files")
    return pairs, notes


def _by_name(folder: Path) -> dict[str, Path]:
    """The picture files below a folder, by their place in it without the ending."""
    files: dict[str, Path] = {}
    for path in _folders.files_below(folder):
        if path.suffix.lower() in _headers.ENDINGS:
            name = _folders.within(path.with_suffix(""), folder)
            if name in files:
                raise DataError(f"{path}: {files[name].name} is there as well; a picture and its mask need a name of their own")
            files[name] = path
    return files


def _used(pair: _Pair, header: Header | str, size: tuple[int, int], classes: int, void: int | None) -> tuple[Header, np.ndarray] | str:
    """The picture's header, and its mask in the size that is asked for; or why it can't be used, as the end of a sentence."""
    if isinstance(header, str):
        return header
    if pair.mask is None:
        return "has no mask of that name"
    try:
        mask = _read(pair.mask)
        meant = _decoding.meant(header, mask.shape, "its mask has")
        if isinstance(meant, str):
            return meant
        return meant, _in_size(mask, size, classes, void)
    except ValueError as error:
        return f"has a mask that {error}"


def _read(path: Path) -> np.ndarray:
    """(height, width) indices.

    Raises:
      ValueError: it is none, as the end of a sentence.
    """
    try:
        header = _headers.header_of(path)
        with importlib.import_module("PIL.Image").open(path) as image:
            kind, mode = image.format, image.mode
            mask = np.asarray(image)
    except OSError as error:
        raise ValueError(f"can't be opened ({error.strerror or error})") from error
    if kind == "JPEG":
        raise ValueError("is a JPEG, whose losses change classes; save it as PNG")
    if mask.ndim != 2 or mask.dtype.kind not in "biu":
        raise ValueError(f"holds colors ({mode}); should hold an index for each pixel, gray or by a palette")
    return mask.astype(np.int32).reshape(header.height, header.width)


def _in_size(mask: np.ndarray, size: tuple[int, int], classes: int, void: int | None) -> np.ndarray:
    """The mask in another size, -1 where it is void.

    Raises:
      ValueError: it holds an index of no class, as the end of a sentence.
    """
    outside = (mask >= classes) & (mask != (-1 if void is None else void))
    if outside.any():
        but = "" if void is None else f", but for {void}, which is void"
        raise ValueError(f"holds the index {mask[outside].max()}; with {classes} classes they go from 0 to {classes - 1}{but}")
    small = _masks.resized(mask, size)
    return np.where(small >= classes, -1, small).astype(_masks.dtype_for(classes))
