"""Any set of tensorflow-datasets: its splits, what it learns from, and how that becomes an example of fixed shape."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from .. import backend, options
from ..errors import DataError, OptionError, nearest, said, shown
from ..types import Data
from . import _files, _forms, _records, _tfds
from ._building import Cache, Count, Preprocess, Seed, Share
from ._forms import Form
from ._records import Records
from ._text import Words

Split = str | Share | None
_BATCH = 1024
Size = Annotated[list[Count] | tuple[Count, ...], Field(min_length=1, max_length=2), "[height, width], or [length]"]


@options.checked
def tfds(
    *,
    name: str | None = None,
    folder: str | Path | None = None,
    data_dir: str | Path | None = None,
    train: str = "train",
    x: str | None = None,
    y: str | None = None,
    size: Size | None = None,
    words: Words = 10_000,
    task: Literal["classification", "regression"] = "classification",
    validation: Split = None,
    test: Split = None,
    seed: Seed = 0,
    calibration: Count = 200,
    preprocess: Preprocess = (),
    cache: Cache = "memory",
) -> Data:
    """Any set of tensorflow-datasets that learns a class or a number from an image, a sound, a text or an array.

    Args:
      name: of the set, such as "mnist", "glue/sst2" or "mnist:3.0.1". It is downloaded once; one that is prepared needs no network.
      folder: in place of `name`, the folder of a prepared set's version, such as "sets/mnist/3.0.1".
      data_dir: where prepared sets are found and kept; by default where tensorflow-datasets keeps them.
      train, validation, test: what makes each part, in the set's own words: "train[:80%]", "train+test[:100]". A number is the share of
        `train` that is split off by `seed`, alike in its classes. By default validation and test are the splits of these names, and where
        there is none, 15 and 20 percent of `train`.
      x, y: the features to learn from and to learn; by default the set's own supervised keys.
      size: what examples of different sizes are brought to: images are resized to [height, width], sounds and arrays cut or filled with
        zeros behind to [length], texts to so many words (by default [64]).
      words: for texts, how many words the vocabulary has, the most frequent ones in `train`.
      task: "regression" where y is a number to learn.
      cache: "memory" reads all once. "none" reads the files in each epoch, and a folder keeps there what was decoded: for what does
        not fit in memory.

    x: uint8 images (scaled to 0..1), float32 sounds in -1..1, int32 word indices, float32 or int32 arrays.

    >>> tfopt.datasets.tfds(name="mnist", data_dir="sets").input_shape
    (28, 28, 1)

    Raises:
      DataError: there is no such set, split or feature; the set is not here and can't be downloaded; splits overlap; ...
    """
    if (name is None) == (folder is None):
        raise OptionError("tfds: give either name or folder")
    builder = _tfds.prepared(name, data_dir) if folder is None else _tfds.from_folder(_files.existing_folder(folder))
    called = builder.info.full_name
    x, y = _keys(builder, x, y)
    splits, shares = _splits(builder, {"train": train, "validation": validation, "test": test})
    form = _forms.of(builder, x, size, words)
    if form.only_in_memory and cache != "memory":
        raise OptionError(f"tfds: {called}: x = {x!r} holds texts, which are read into memory: leave out cache = {shown(str(cache))}")
    found = {part: _records_of(builder, split, x, y, form) for part, split in splits.items()}
    return _records.built(
        called,
        found,
        y_name=y,
        task=task,
        classes=_classes(builder, y, found),
        shares=shares,
        cache=cache,
        seed=seed,
        undecodable=lambda error: DataError(f"{called}: {x} can't be decoded ({said(error)}); {form.fix}"),
        facts=form.facts,
        calibration=calibration,
        preprocess=preprocess,
    )


def _keys(builder: Any, x: str | None, y: str | None) -> tuple[str, str]:
    """The features to learn from and to learn."""
    called, features, keys = builder.info.full_name, builder.info.features, builder.info.supervised_keys
    usual = keys if isinstance(keys, tuple) and len(keys) == 2 and all(isinstance(key, str) for key in keys) else (None, None)
    chosen = [given or otherwise for given, otherwise in zip((x, y), usual, strict=True)]
    for option, key in zip("xy", chosen, strict=True):
        if key is None:
            listing = ", ".join(f"{name} ({type(feature).__name__})" for name, feature in features.items())
            raise DataError(f"{called}: does not say what is learnt from what; give {option} as one of: {listing}")
        if key not in features:
            raise DataError(f"{called}: {option} = {shown(key)}: there is no such feature; {nearest(key, features)}")
    x, y = chosen
    if features[y].shape not in ((), (1,)):
        kind = f"{type(features[y]).__name__} of shape {features[y].shape}"
        raise DataError(f"{called}: y = {y!r} is {kind}; should be one label or number for each example")
    return x, y


def _splits(builder: Any, given: Mapping[str, str | float | None]) -> tuple[dict[str, str], dict[str, float | None]]:
    """The split of each part that has one of its own, and the shares for the others."""
    there = builder.info.splits
    chosen = {part: part if value is None and part in there else value for part, value in given.items()}
    splits = {part: value for part, value in chosen.items() if isinstance(value, str)}
    files = {part: _files_of(builder, split, part) for part, split in splits.items()}
    for one, other in itertools.combinations(splits, 2):
        if _overlap(files[one], files[other]):
            raise DataError(
                f"{builder.info.full_name}: {one} = {shown(splits[one])} and {other} = {shown(splits[other])} have examples in common; "
                f"should be disjoint, such as 'train[:80%]' and 'train[80%:]'"
            )
    return splits, {part: None if part in splits else chosen[part] for part in ("validation", "test")}


def _files_of(builder: Any, split: str, option: str) -> list[tuple[str, int, int]]:
    """(file, first record, record behind the last) of what a split is made of."""
    called = builder.info.full_name
    try:
        instructions = builder.info.splits[split].file_instructions
    except Exception as error:  # a ValueError, or an AssertionError, ...
        fix = f"{nearest(split.partition('[')[0], builder.info.splits)}, and the form is like 'train[:80%]'"
        raise DataError(f"{called}: {option} = {shown(split)}: is no split of it; {fix}") from error
    if not instructions:
        raise DataError(f"{called}: {option} = {shown(split)}: holds no example; should hold some")
    return [(one.filename, one.skip, one.skip + one.examples_in_shard if one.take < 0 else one.skip + one.take) for one in instructions]


def _overlap(some: list[tuple[str, int, int]], others: list[tuple[str, int, int]]) -> bool:
    return any(
        file == other and max(first, begin) < min(last, end) for (file, first, last), (other, begin, end) in itertools.product(some, others)
    )


def _records_of(builder: Any, split: str, x: str, y: str, form: Form) -> Records:
    package, info = _tfds.package(), builder.info
    # File after file, so that a record's number says which it is on every worker; what takes the time is done in parallel behind it.
    reading = {"read_config": package.ReadConfig(interleave_cycle_length=1, try_autocache=False), "shuffle_files": False}
    count_all = info.splits[split].num_examples

    def features(name: str, part: Any) -> Any:
        decoders = package.decode.PartialDecoding({name: True}, decoders={name: package.decode.SkipDecoding()} if name == x else None)
        return builder.as_dataset(split=part, decoders=decoders, **reading).map(lambda example: example[name])

    def read(index: int, count: int) -> Any:
        if count == 1 or "+" in split or count > count_all:
            return features(x, split).enumerate().shard(count, index)
        shares = package.even_splits(split, count)
        start = sum(info.splits[share].num_examples for share in shares[:index])
        return features(x, shares[index]).enumerate(start)

    try:
        labels = np.concatenate(list(features(y, split).batch(_BATCH).as_numpy_iterator()))
    except backend.tensorflow().errors.OpError as error:
        raise DataError(f"{info.full_name}: {y} can't be read ({said(error)}); {form.fix}") from error
    mark = f"{info.full_name} {x} {form.mark} {[(Path(file).name, *place) for file, *place in _files_of(builder, split, x)]}"
    return Records(read, form.decode, form.spec, labels, f"{mark} {info.splits[split].num_bytes}", info.full_name)


def _classes(builder: Any, y: str, found: Mapping[str, Records]) -> tuple[str, ...] | None:
    """The names of a ClassLabel's classes; None for labels of other kinds."""
    called, names = builder.info.full_name, getattr(builder.info.features[y], "names", None)
    for part, records in found.items():
        if names and (records.labels < 0).all():
            raise DataError(
                f"{called}: {part} has no labels (all are -1), as in competitions; give {part} as another split, or as a share like 0.2"
            )
    return tuple(names) if names else None
