"""Pictures with boxes as COCO keeps them: one JSON file for all."""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NotRequired

from pydantic import TypeAdapter, ValidationError
from typing_extensions import TypedDict

from .. import options
from ..errors import DataError, OptionError, nearest, shown
from ..types import Data
from . import _boxes, _decoding, _files, _folders, _labels, _unpacking
from ._boxes import Box, Picture
from ._building import Cache, Count, Preprocess, Seed, Share
from ._decoding import Channels, Size
from ._folders import Tolerated

Places = str | Path | dict[str, str]


class _Image(TypedDict):
    id: int
    file_name: str
    height: NotRequired[int]
    width: NotRequired[int]


class _Annotation(TypedDict):
    image_id: int
    category_id: int
    bbox: list[float]


class _Category(TypedDict):
    id: int
    name: str


class _Set(TypedDict):
    images: list[_Image]
    annotations: list[dict[str, Any]]
    categories: list[_Category]


_SET, _ANNOTATION = TypeAdapter(_Set), TypeAdapter(_Annotation)


@options.checked
def coco(
    *,
    annotations: Places,
    images: Places,
    size: Size,
    channels: Channels = 3,
    corrupt: Tolerated = 0.05,
    validation: Share = 0.15,
    test: Share = 0.2,
    seed: Seed = 0,
    calibration: Count = 200,
    preprocess: Preprocess = (),
    cache: Cache = "memory",
) -> Data:
    """Pictures with boxes as COCO keeps them: `annotations`, a JSON file with "images", "annotations" and "categories", and `images`, the
    folder that the pictures' names start from, or an archive of it.

    Both may be tables by part, like `annotations = { train = "train.json", validation = "val.json" }`; parts that they don't name are drawn
    from train, by `seed`. x and y are those of `voc`; classes are in the order of their ids. Crowds (`iscrowd`), one box around many, are
    left out.

    Args:
      size: [height, width] that each picture is resized to, bilinearly.
      corrupt: up to this share of the pictures may be unreadable, or their annotations; they are left out and named in the data's notes.

    >>> tfopt.datasets.coco(annotations="instances.json", images="photos", size=[240, 320]).task
    'detection'

    Raises:
      DataError: a file is missing or is not COCO's, a class has no box to learn from, or too much can't be read.
    """
    form = _decoding.Form(tuple(size), channels)
    files = _by_part("annotations", annotations)
    folders = _by_part("images", images)
    folders = folders if isinstance(images, dict) else dict.fromkeys(files, folders["train"])
    if missing := [part for part in files if part not in folders]:
        raise OptionError(
            f"images: says nothing of {', '.join(missing)}, which annotations has; name the folder of each part, or one for all"
        )
    where = {part: _files.existing_folder(_unpacking.folder_of(folders[part])).absolute() for part in files}
    pictures, notes, classes = [], [], {}
    for part, file in files.items():
        tree = _read(file)
        classes |= _categories(tree, classes, file)
        crowds = sum(bool(one.get("iscrowd")) for one in tree["annotations"])
        notes += [f"{file}: {crowds:,} boxes are around crowds and were left out"] if crowds else []
        pictures += _pictures(tree, file, where[part], part)
    if twice := [path for path, count in Counter(one.path for one in pictures if one.path).items() if count > 1]:
        told = _folders.some([str(path) for path in twice])
        raise DataError(f"annotations: {len(twice):,} pictures are there twice: {told}; give each once, in one part")
    return _boxes.build(
        Path(files["train"]).stem,
        pictures,
        root=Path(os.path.commonpath(where.values())),
        form=form,
        classes=[classes[key] for key in sorted(classes)],
        corrupt=corrupt,
        cache=cache,
        validation=validation,
        test=test,
        seed=seed,
        calibration=calibration,
        preprocess=preprocess,
        notes=notes,
        source=f"annotations = {files['train']}",
    )


def _by_part(option: str, given: Places) -> dict[str, str | Path]:
    if not isinstance(given, dict):
        return {"train": given}
    if wrong := [name for name in given if name not in _labels.PARTS]:
        raise OptionError(f"{option}: {shown(wrong[0])} is no part; {nearest(wrong[0], _labels.PARTS)}")
    if "train" not in given:
        raise OptionError(f"{option}: lacks train, from which is learnt; say train = ...")
    return {part: given[part] for part in _labels.PARTS if part in given}


def _read(file: str | Path) -> dict[str, Any]:
    path = _files.existing_file(Path(file), "name COCO's JSON file of the boxes")
    try:
        tree = _SET.validate_python(json.loads(path.read_bytes()))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"])) or "it"
        raise DataError(f'{path}: {place}: {first["msg"]}; should be COCO\'s JSON: "images", "annotations" and "categories"') from error
    except (ValueError, RecursionError, OSError) as error:
        raise DataError(f"{path}: can't be read as JSON ({error}); save it again, or name another file") from error
    ids = Counter(one["id"] for one in tree["images"])
    if twice := [one for one, count in ids.items() if count > 1]:
        raise DataError(f"{path}: {len(twice):,} images have the id of another, such as {twice[0]}; each needs one of its own")
    return tree


def _categories(tree: Mapping[str, Any], known: Mapping[int, str], file: str | Path) -> dict[int, str]:
    names = {one["id"]: one["name"] for one in tree["categories"]}
    if twice := [name for name, count in Counter(names.values()).items() if count > 1]:
        raise DataError(f"{file}: two categories are named {shown(twice[0])}; give each a name of its own")
    for key, name in names.items():
        if known.get(key, name) != name:
            raise DataError(f"{file}: category {key} is {shown(name)}, for train it is {shown(known[key])}; all parts need the same ones")
    return names


def _pictures(tree: Mapping[str, Any], file: str | Path, where: Path, part: str) -> list[Picture]:
    boxes, problems = _boxes_of(tree)
    known = {one["id"] for one in tree["images"]}
    if stray := [key for key in {*boxes, *problems} if key not in known]:
        raise DataError(f"{file}: {len(stray):,} annotations are of images that it does not list, such as {shown(stray[0])}; repair it")
    return [_picture(one, tuple(boxes.get(one["id"], ())), problems.get(one["id"]), where, part) for one in tree["images"]]


def _picture(image: Mapping[str, Any], boxes: tuple[Box, ...], problem: str | None, where: Path, part: str) -> Picture:
    name = image["file_name"]
    inner = PurePosixPath(name)
    if inner.is_absolute() or ".." in inner.parts or "\\" in name or "\0" in name:
        return Picture(shown(name), part=part, problem="leads out of the pictures' folder")
    path = where / name
    if not problem and not path.is_file():
        problem = "is not in the pictures' folder"
    size = (image["height"], image["width"]) if "height" in image and "width" in image else None
    return Picture(name, path, size, boxes, part, problem)


def _boxes_of(tree: Mapping[str, Any]) -> tuple[dict[Any, list[Box]], dict[Any, str]]:
    """The boxes, and what is wrong with the annotations, by the images' ids."""
    names = {one["id"]: one["name"] for one in tree["categories"]}
    boxes: dict[Any, list[Box]] = {}
    problems: dict[Any, str] = {}
    for one in tree["annotations"]:
        if one.get("iscrowd"):
            continue
        try:
            key, box = _box(one, names)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            key, box = str(one.get("image_id")), f"has an annotation that is wrong: {'.'.join(map(str, first['loc']))}: {first['msg']}"
            key = int(key) if key.isascii() and key.isdigit() else key
        if isinstance(box, str):
            problems[key] = box
        else:
            boxes.setdefault(key, []).append(box)
    return boxes, problems


def _box(annotation: Mapping[str, Any], names: Mapping[int, str]) -> tuple[int, Box | str]:
    one = _ANNOTATION.validate_python(annotation)
    key, numbers = one["image_id"], one["bbox"]
    if one["category_id"] not in names:
        return key, f"has a box of category {one['category_id']}, which there is not"
    if len(numbers) != 4 or not all(map(math.isfinite, numbers)):
        return key, f"has a box of {shown(numbers)}, which should be x, y, width and height"
    left, top, width, height = numbers
    return key, Box(names[one["category_id"]], top, left, top + height, left + width)
