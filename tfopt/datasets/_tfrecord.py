"""TFRecord files of tf.train.Example: counted, checked, then read into memory or streamed."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .. import backend, options
from ..errors import DataError, said
from ..types import Data
from . import _features, _records, _scanning, _targets
from ._building import Cache, Count, Preprocess, Seed, Share
from ._decoding import Size
from ._records import Records
from ._scanning import Files, Scan

_FILES_AT_ONCE = 16  # files whose records are read in turn


@options.checked
def tfrecord(
    *,
    files: Files,
    validation_files: Files | None = None,
    test_files: Files | None = None,
    x: str | None = None,
    y: str | None = None,
    features: _features.Features | None = None,
    size: Size | None = None,
    task: _targets.Task = "classification",
    classes: list[str] | tuple[str, ...] | None = None,
    name: str = "tfrecord",
    validation: Share = 0.15,
    test: Share = 0.2,
    seed: Seed = 0,
    calibration: Count = 200,
    preprocess: Preprocess = (),
    cache: Cache = "memory",
) -> Data:
    """Examples from TFRecord files, one or many, plain or GZIP (by their ending .gz or .gzip).

    Args:
      files: a pattern such as "birds/train-*.tfrecord", or a list of paths. validation_files, test_files: the same for those parts;
        where they are not given, the shares `validation` and `test` are split off from `files` by `seed`, alike in their classes.
      x, y: the features to learn from and to learn. By default the only image, and "label" or else the only number or word.
      features: what the records hold: a table of names to "image" (encoded), "int", "float", "string", or with a shape, such as
        { kind = "float", shape = [8, 8, 1] } or { kind = "bytes", shape = [28, 28, 1] } for raw pixels. By default the first 100 records
        tell it.
      size: (height, width) that images are resized to; without it they must all be of one size.
      task: "regression" where y is a number to learn.
      classes: their names; words are found among them, numbers are their indices. By default each different label is a class.
      cache: "memory" reads all once. "none" reads the files in each epoch, and a folder keeps there what was decoded: for what does
        not fit in memory. Workers then share the files where there are enough of them, else the records.

    x: uint8 images or bytes (scaled to 0..1), float32, or int32. All files are read through once, to count the records and check them.

    >>> tfopt.datasets.tfrecord(files="birds/*.tfrecord", size=[96, 96]).input_shape
    (96, 96, 3)

    Raises:
      DataError: no such file; a file that is damaged, with the record at which; a record without a feature; no such feature; ...
    """
    patterns = {"train": files, "validation": validation_files, "test": test_files}
    paths = _scanning.found({part: pattern for part, pattern in patterns.items() if pattern is not None})
    first = paths["train"][0]
    known = _features.given(features) if features else _features.inferred(paths["train"])
    x = _features.x_of(known, x, str(first))
    y = _features.y_of(known, y, x, str(first))
    parse = {feature: known[feature].parsing() for feature in (x, y)}
    scans = {part: [_scanning.scanned(path, parse, y) for path in of] for part, of in paths.items()}
    feature = _features.with_shape(known[x], *_scanning.first_value(paths["train"], parse, x))
    decode, spec = _features.decoding(feature, size and tuple(size))

    def decode_record(record: Any) -> Any:
        return decode(backend.tensorflow().io.parse_single_example(record, {x: parse[x]})[x])

    found = {part: _records_of(scans[part], decode_record, spec, f"{x} {feature} {size}") for part in paths}
    return _records.built(
        name,
        found,
        y_name=y,
        task=task,
        classes=classes,
        shares={"validation": validation, "test": test},
        cache=cache,
        seed=seed,
        undecodable=lambda error: _undecodable(paths, decode_record, size, error),
        calibration=calibration,
        preprocess=preprocess,
        facts=_features.facts(feature, spec),
    )


def _records_of(scans: Sequence[Scan], decode: Callable[[Any], Any], spec: Any, mark: str) -> Records:
    paths, starts = [str(scan.path) for scan in scans], np.cumsum([0, *(len(scan.labels) for scan in scans)])[:-1]
    labels = np.concatenate([scan.labels for scan in scans])
    if not len(labels):
        raise _records.no_example(", ".join(paths[:3]))

    def read(index: int, count: int) -> Any:
        tf = backend.tensorflow()
        by_file = len(paths) >= count
        own = slice(index, None, count) if by_file else slice(None)
        dataset = tf.data.Dataset.from_tensor_slices((paths[own], [_scanning.compression(scan.path) for scan in scans][own], starts[own]))
        dataset = dataset.interleave(
            lambda path, compression, start: tf.data.TFRecordDataset(path, compression).enumerate(start),
            cycle_length=min(len(paths[own]), _FILES_AT_ONCE),
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )
        return dataset if by_file else dataset.shard(count, index)

    return Records(read, decode, spec, labels, f"{[scan.mark for scan in scans]} {mark}", paths[0])


def _undecodable(paths: Mapping[str, Sequence[Path]], decode: Callable[[Any], Any], size: Any, error: Exception) -> DataError:
    fix = "repair it, or leave it out" if size else "give size = [height, width] if the images are of different sizes, else repair it"
    for path in itertools.chain(*paths.values()):
        for number, record in enumerate(_scanning.records([path])):
            try:
                decode(record)
            except backend.tensorflow().errors.OpError as found:
                return DataError(f"{path}: record {number} (counted from 0) can't be decoded ({said(found)}); {fix}")
    return DataError(f"{next(iter(paths.values()))[0]}: can't be read ({said(error)}); did the files change meanwhile?")
