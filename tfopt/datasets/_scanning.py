"""Files of records (TFRecord), read through once: how many there are, their labels, and whether the files are whole."""

from __future__ import annotations

import glob
import gzip
import itertools
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import backend
from ..errors import DataError, said, shown
from . import _files, _records

Files = str | Path | list[str]
_AROUND = 16  # bytes around each record in its file: its length, and checksums of the length and of the record
_BATCH = 256
_OPTIONS = {"train": "files", "validation": "validation_files", "test": "test_files"}


@dataclass(frozen=True, eq=False)
class Scan:
    """A file, the labels of its records, and what tells its content from that of others."""

    path: Path
    labels: np.ndarray
    mark: str


def found(patterns: Mapping[str, Files]) -> dict[str, list[Path]]:
    """The files of each part.

    Raises:
      DataError: there are none, or one is in two parts.
    """
    paths = {part: _matching(pattern, _OPTIONS[part]) for part, pattern in patterns.items()}
    for (part, ones), (other, others) in itertools.combinations(paths.items(), 2):
        if common := {path.resolve() for path in ones} & {path.resolve() for path in others}:
            raise DataError(f"{min(common)}: is in {_OPTIONS[part]} and in {_OPTIONS[other]}; a file should be in one of them")
    return paths


def _matching(pattern: Files, option: str) -> list[Path]:
    patterns = pattern if isinstance(pattern, list) else [pattern]
    paths = sorted({Path(path) for one in patterns for path in ([one] if Path(one).exists() else glob.glob(str(one), recursive=True))})
    missing = [one for one in patterns if not Path(one).exists() and not glob.has_magic(str(one))]
    if missing or not paths:
        where = Path(missing[0] if missing else patterns[0] if patterns else ".").parent
        there = sorted(path.name for path in where.iterdir()) if where.is_dir() else None
        listing = "there is no such folder" if there is None else f"the folder holds {', '.join(there[:5]) or 'nothing'}"
        raise DataError(
            f"{option} = {shown(pattern)}: no such file, {listing}; should be a pattern like 'folder/*.tfrecord', or a list of paths"
        )
    if folders := [path for path in paths if path.is_dir()]:
        raise DataError(f"{option}: {folders[0]} is a folder; name its files, such as '{folders[0]}/*.tfrecord'")
    return paths


def compression(path: Path) -> str:
    """How a file is packed, by its ending, as TensorFlow calls it."""
    return "GZIP" if path.suffix in (".gz", ".gzip") else ""


def records(paths: Sequence[Path]) -> Any:
    """A tf.data set of the records of files, one file after the other, as strings."""
    tf = backend.tensorflow()
    files = tf.data.Dataset.from_tensor_slices(([str(path) for path in paths], [compression(path) for path in paths]))
    return files.flat_map(lambda path, packed: tf.data.TFRecordDataset(path, packed))


def scanned(path: Path, parse: Mapping[str, Any], y: str) -> Scan:
    """A file, read through.

    parse: the features that each record should have, as for tf.io.parse_example. y: that of the label.

    Raises:
      DataError: the file is damaged or cut off, or a record lacks a feature; it names the record.
    """
    tf = backend.tensorflow()
    size, labels = 0, []
    dataset = records([path]).batch(_BATCH).map(
        lambda batch: (tf.reduce_sum(tf.strings.length(batch)), tf.io.parse_example(batch, dict(parse))[y]), tf.data.AUTOTUNE
    )  # fmt: skip
    try:
        for length, batch in dataset.as_numpy_iterator():
            size += int(length) + _AROUND * len(batch)
            labels.append(batch)
    except tf.errors.OpError as error:
        raise located([path], parse, error) from error
    count = sum(map(len, labels))
    if not _is_whole(path, size):
        raise DataError(
            f"{path}: is cut off in its record {count} (counted from 0), behind {count:,} whole ones; copy or make the file again"
        )
    empty = np.empty(0, parse[y].dtype.as_numpy_dtype)
    return Scan(path, np.concatenate(labels) if labels else empty, f"{path.name} {_files.mark_of(path)}")


def _is_whole(path: Path, size: int) -> bool:
    """Whether a file holds nothing behind `size` unpacked bytes: TensorFlow takes a few bytes of a record for the file's end."""
    if not compression(path):
        return path.stat().st_size == size
    with path.open("rb") as file:
        file.seek(-4, 2)
        if struct.unpack("<I", file.read())[0] == size % 2**32:  # a .gz file ends in the size of what it holds
            return True
    try:  # several in one file, or one that is cut off
        with gzip.open(path) as file:
            return sum(map(len, iter(lambda: file.read(2**20), b""))) == size
    except (OSError, EOFError, zlib.error):
        return False


def located(paths: Sequence[Path], parse: Mapping[str, Any], error: Exception) -> DataError:
    """The error of files that can't be read through, with the file and the record at which."""
    errors = (wrong for path in paths if (wrong := _wrong_in(path, parse)))
    return next(errors, DataError(f"{paths[0]}: can't be read ({said(error)}); did the files change meanwhile?"))


def _wrong_in(path: Path, parse: Mapping[str, Any]) -> DataError | None:
    tf = backend.tensorflow()
    iterator = iter(records([path]))
    for number in itertools.count():
        try:
            record = next(iterator)
        except StopIteration:
            return None
        except tf.errors.OpError as wrong:
            what = "is no TFRecord file, or packed in another way than its ending says" if number == 0 else "is damaged or cut off"
            return DataError(f"{path}: {what}, at its record {number} (counted from 0): {said(wrong)}; copy or make the file again")
        try:
            if parse:
                tf.io.parse_single_example(record, dict(parse))
        except tf.errors.OpError as wrong:
            return DataError(
                f"{path}: record {number} (counted from 0) is not like the others, or not as features says: {said(wrong)}; "
                f"each should have {', '.join(parse)}"
            )


def first_value(paths: Sequence[Path], parse: Mapping[str, Any], x: str) -> tuple[Any, str]:
    """The value of x in the first record, and where that is."""
    tf = backend.tensorflow()
    for path in paths:
        for record in records([path]).take(1):
            return tf.io.parse_single_example(record, {x: parse[x]})[x], f"{path}: record 0 (counted from 0)"
    raise _records.no_example(", ".join(map(str, paths[:3])))
