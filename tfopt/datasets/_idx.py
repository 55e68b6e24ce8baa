"""Arrays in the idx format, which MNIST and the sets like it come in."""

from __future__ import annotations

import gzip
import math
import re
import struct
import zlib
from pathlib import Path

import numpy as np

from .. import options
from ..errors import DataError, OptionError
from ..types import Data
from . import _building, _files, _records, _targets, _unpacking
from ._building import Count, Preprocess, Seed, Share

# By the third byte of a file; all are big-endian.
_DTYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
_GZIP = b"\x1f\x8b"
_FIX = "download or copy the original file again"


@options.checked
def idx(
    *,
    folder: str | Path | None = None,
    images: str | Path | None = None,
    labels: str | Path | None = None,
    classes: list[str] | tuple[str, ...] | None = None,
    name: str = "idx",
    validation: Share = 0.15,
    test: Share = 0.2,
    seed: Seed = 0,
    calibration: Count = 200,
    preprocess: Preprocess = (),
) -> Data:
    """Examples and labels from files in MNIST's format, packed by gzip or not, of any number type and shape that it knows.

    Args:
      folder: a folder or an archive of it, which holds train-images-idx3-ubyte and train-labels-idx1-ubyte and, for the test set,
        t10k-... or test-... (or named like these, such as EMNIST's), with .gz or without.
      images, labels: in place of `folder`, a file of examples and one of their labels.
      classes: their names, in the order of the labels from 0; by default each different label is a class.
      validation, test: shares that are split off from the examples to train on by `seed`, alike in their classes; `test` only where
        there are no test files.

    x: (height, width) images get a channel: (height, width, 1). Bytes are scaled to 0..1; other numbers come as float32 or int32.

    >>> tfopt.datasets.idx(folder="data/fashion_mnist").input_shape
    (28, 28, 1)

    Raises:
      OptionError: neither `folder` nor both of `images` and `labels`. DataError: a file is missing or damaged; labels are outside the
        classes; ...
    """
    if (folder is None) == (images is None) or (images is None) != (labels is None):
        raise OptionError("idx: give either folder, or images and labels")
    files = {"train": (Path(images), Path(labels))} if folder is None else _pairs(_files.existing_folder(_unpacking.folder_of(folder)))
    given = {part: (_images(x), read(y)) for part, (x, y) in files.items()}
    source = str(files["train"][1])
    y, names, notes = _targets.of(np.concatenate([y for _, y in given.values()]), task="classification", classes=classes, source=source)
    learnt = dict(zip(given, np.split(y, np.cumsum([len(y) for _, y in given.values()])[:-1]), strict=True))
    checked = {
        part: _building.check_examples(x, learnt[part], len(names), x_name=str(files[part][0]), y_name=str(files[part][1]))
        for part, (x, _) in given.items()
    }
    parts = _records.parted(checked, {"validation": validation, "test": test}, seed=seed, source=source)
    facts = _records.facts_of(checked["train"][0])
    return _building.build(name, parts, classes=names, seed=seed, calibration=calibration, preprocess=preprocess, source=facts, notes=notes)


def _pairs(folder: Path) -> dict[str, tuple[Path, Path]]:
    """The files of images and labels for "train" and, where they are there, "test"."""
    found = {
        (part, kind): [
            path for path in sorted(folder.iterdir()) if re.search(rf"(^|[-_.])({part})[-_.]({kind})", path.name) and path.is_file()
        ]
        for part in ("train", "t10k|test")
        for kind in ("images", "labels")
    }
    if several := next((paths for paths in found.values() if len(paths) > 1), None):
        raise DataError(f"folder = {folder}: holds {several[0].name} and {several[1].name}; give the files to read by images and labels")
    missing = [f"{part.partition('|')[0]}-{kind}-..." for (part, kind), paths in found.items() if not paths]
    if len(missing) == 4 or any(name.startswith("train") for name in missing) or len(missing) == 1:
        raise DataError(f"folder = {folder}: lacks {' and '.join(missing)}; name the folder of MNIST's files, or give images and labels")
    train, test = ([paths for (one, _), paths in found.items() if one == part] for part in ("train", "t10k|test"))
    pairs = {"train": (train[0][0], train[1][0])}
    return pairs if missing else {**pairs, "test": (test[0][0], test[1][0])}


def _images(path: Path) -> np.ndarray:
    x = read(path)
    x = x[..., np.newaxis] if x.ndim == 3 else x
    return x.astype(np.int32) if x.dtype.kind == "i" else x


def read(path: Path, *, shape: tuple[int, ...] | None = None) -> np.ndarray:
    """The array of one file in the idx format: 0, 0, a byte for the type, one for the number of dimensions, each dimension as a
    big-endian int32, then the numbers, big-endian.

    shape: with it, the file should hold bytes of this shape.

    Raises:
      DataError: there is no such file, it is damaged, or holds something else.
    """
    content = _content(path)
    expected = None if shape is None else struct.pack(">HBB", 0, 8, len(shape))
    begin = content[:4]
    if expected not in (None, begin):
        raise DataError(
            f"{path}: starts with {begin.hex()!r}, not {expected.hex()!r}: no idx file of bytes in {len(shape)} dimensions; {_FIX}"
        )
    if len(begin) < 4 or begin[:2] != b"\0\0" or begin[2] not in _DTYPES or not begin[3]:
        raise DataError(f"{path}: starts with {begin.hex()!r}: no idx file, which starts with 0000, its type and dimensions; {_FIX}")
    dtype, head = np.dtype(_DTYPES[begin[2]]), 4 + 4 * begin[3]
    found = struct.unpack(f">{begin[3]}I", content[4:head]) if len(content) >= head else None
    size = head + math.prod(found or ()) * dtype.itemsize
    if found is None or shape not in (None, found) or len(content) != size:
        should = f"{shape} in {head + math.prod(shape):,} bytes" if shape else f"{size:,} bytes" if found else "at least its dimensions"
        raise DataError(f"{path}: says that its shape is {found or 'unknown'} and holds {len(content):,} bytes; should be {should}; {_FIX}")
    return np.frombuffer(content, dtype, offset=head).reshape(found).astype(dtype.newbyteorder("="), copy=False)


def _content(path: Path) -> bytes:
    content = _files.existing_file(path, _FIX).read_bytes()
    if path.suffix != ".gz" and not content.startswith(_GZIP):
        return content
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: damaged, not a whole .gz file ({error}); {_FIX}") from error
