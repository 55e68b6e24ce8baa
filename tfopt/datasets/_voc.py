"""Pictures with boxes as Pascal VOC keeps them: an XML file for each."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree

from .. import options
from ..errors import DataError, shown
from ..types import Data
from . import _boxes, _decoding, _files, _folders, _headers, _labels, _unpacking
from ._boxes import Box, Picture
from ._building import Cache, Count, Preprocess, Seed, Share
from ._decoding import Channels, Size
from ._folders import Tolerated

LARGEST_XML = 16 * 2**20  # bytes; VOC's have a few thousand


@options.checked
def voc(
    *,
    folder: str | Path,
    size: Size,
    channels: Channels = 3,
    masks: _boxes.Masks | None = None,
    first_pixel: Literal[0, 1] | None = None,
    corrupt: Tolerated = 0.05,
    validation: Share = 0.15,
    test: Share = 0.2,
    seed: Seed = 0,
    calibration: Count = 200,
    preprocess: Preprocess = (),
    cache: Cache = "memory",
) -> Data:
    """Pictures with boxes as Pascal VOC keeps them: `Annotations/*.xml` and `JPEGImages`, with `ImageSets/Main/{train,val,test}.txt` or
    without, in a folder (or one that it holds alone) or an archive of it.

    x: (height, width, channels) uint8, stretched to `size`. y: "boxes" (m, 4) float32 as ymin, xmin, ymax, xmax in shares of the picture,
    and "labels" (m,) int32, filled up with -1 to the most boxes of a picture. Boxes are cut off at the picture's edge; those that are
    "difficult" are taken like others. A picture is turned by its EXIF only where its annotation gives the turned size.

    Args:
      size: [height, width] that each picture is resized to, bilinearly.
      masks: "ellipses" for masks in place of boxes, and the task segmentation: y (height, width) integers, 0 for "background", which is the
        first class then, and an ellipse that fills each box, the larger boxes drawn first. Labels derived in this way say where things
        are, not their outlines.
      first_pixel: whether the upper left pixel is (1, 1), as VOC counts, where a box from 1 to 10 is ten pixels wide, or its corner (0, 0);
        without it 0 where some box of the set begins at 0 or below, else 1.
      corrupt: up to this share of the pictures may be unreadable, or their annotations; they are left out and named in the data's notes.
      validation, test: the shares that are drawn for these parts, by `seed`, where ImageSets do not say.

    >>> tfopt.datasets.voc(folder="bccd.zip", size=[120, 160]).classes
    ('Platelets', 'RBC', 'WBC')

    Raises:
      DataError: there are no annotations, no boxes, a class without a box to learn from, or too much that can't be read.
    """
    form = _decoding.Form(tuple(size), channels)
    top = _files.existing_folder(_unpacking.folder_of(folder))
    where = _root(top)
    pictures, notes = _pictures(where)
    zero_based = _begins_at_zero(pictures) if first_pixel is None else first_pixel == 0
    if not zero_based:
        pictures = [_from_one(one) for one in pictures]
    return _boxes.build(
        top.name,
        pictures,
        root=where,
        form=form,
        classes=None,
        corrupt=corrupt,
        cache=cache,
        validation=validation,
        test=test,
        seed=seed,
        calibration=calibration,
        preprocess=preprocess,
        notes=notes,
        source=f"folder = {folder}",
        masks=masks,
    )


def _root(top: Path) -> Path:
    """The folder that holds Annotations: this one or, as in VOCdevkit/VOC2012, one or two below."""
    found = next((below for depth in ("", "*/", "*/*/") if (below := sorted(top.glob(f"{depth}Annotations")))), [])
    if not found:
        raise DataError(f"folder = {top}: holds no Annotations; should hold Annotations/*.xml and JPEGImages, as Pascal VOC does")
    if len(found) > 1:
        several = ", ".join(one.parent.name for one in found)
        raise DataError(f"folder = {top}: holds several sets ({several}); name the folder of one of them")
    return found[0].parent


def _pictures(where: Path) -> tuple[list[Picture], list[str]]:
    files = {path.stem: path for path in sorted((where / "Annotations").glob("*.xml")) if not path.name.startswith(".")}
    if not files:
        raise DataError(f"{where / 'Annotations'}: holds no .xml files; should hold one for each picture")
    place = where / "JPEGImages" if (where / "JPEGImages").is_dir() else where
    images = {path.stem: path for path in _folders.files_below(place) if path.suffix.lower() in _headers.ENDINGS}
    parts = _parts(where)
    if not parts:
        parts = dict.fromkeys(files, "train")
    pictures = [_picture(name, files.get(name), images.get(name), part) for name, part in parts.items()]
    notes = []
    if left := [name for name in files if name not in parts]:
        notes.append(f"{len(left):,} annotations are in no list of ImageSets and were passed over: {_folders.some(left)}")
    if left := [name for name in images if name not in files]:
        notes.append(f"{len(left):,} pictures have no annotation and were passed over: {_folders.some(left)}")
    return pictures, notes


def _parts(where: Path) -> dict[str, str]:
    """The part of each picture by ImageSets, by its name; empty where they do not say what to learn from."""
    lists = {part: where / "ImageSets" / "Main" / f"{name}.txt" for part, name in zip(_labels.PARTS, ("train", "val", "test"), strict=True)}
    if not lists["train"].is_file():
        return {}
    parts: dict[str, str] = {}
    for part, path in lists.items():
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []:
            for name in line.split()[:1]:  # behind the name may stand whether a class is there
                if parts.setdefault(name, part) != part:
                    raise DataError(f"{path}: {shown(name)} is in {parts[name]} as well; a picture belongs into one part")
    return parts


def _picture(name: str, annotation: Path | None, path: Path | None, part: str) -> Picture:
    if annotation is None:
        return Picture(name, part=part, problem="is in ImageSets, but there is no annotation of it")
    try:
        size, boxes = _annotation(annotation)
    except ValueError as error:
        return Picture(annotation.name, part=part, problem=str(error))
    if path is None:
        return Picture(name, part=part, problem="has an annotation, but there is no picture of that name")
    return Picture(path.name, path, size, boxes, part)


def _annotation(path: Path) -> tuple[tuple[int, int] | None, tuple[Box, ...]]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"can't be opened ({error.strerror or error})") from error
    if len(content) > LARGEST_XML or b"<!ENTITY" in content:
        raise ValueError("holds more than an annotation needs (entities, or megabytes), and is not read")
    try:
        tree = ElementTree.fromstring(content)
    except (ElementTree.ParseError, LookupError, ValueError) as error:
        raise ValueError(f"is no XML ({error})") from error
    height, width = (_number(tree, f"size/{side}", default=0.0) for side in ("height", "width"))
    boxes = tuple(_box(one) for one in tree.iter("object"))
    return (int(height), int(width)) if height > 0 and width > 0 else None, boxes  # some tools write 0 where they don't know


def _box(tree: ElementTree.Element) -> Box:
    label = (tree.findtext("name") or "").strip()
    if not label:
        raise ValueError("holds an object without a name")
    return Box(label, *(_number(tree, f"bndbox/{side}") for side in ("ymin", "xmin", "ymax", "xmax")))


def _number(tree: ElementTree.Element, path: str, default: float | None = None) -> float:
    text = tree.findtext(path)
    if text is None and default is not None:
        return default
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"has {shown(text)} as {path}, which should be a number")
    return value


def _begins_at_zero(pictures: list[Picture]) -> bool:
    return any(min(box.xmin, box.ymin) < 1 for picture in pictures for box in picture.boxes)


def _from_one(picture: Picture) -> Picture:
    """With boxes from the corner of their first pixel, counted from 1, to that of their last one, which they include."""
    boxes = tuple(Box(one.label, one.ymin - 1, one.xmin - 1, one.ymax, one.xmax) for one in picture.boxes)
    return Picture(picture.name, picture.path, picture.size, boxes, picture.part, picture.problem)
