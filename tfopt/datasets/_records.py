"""Examples in parts that are given, or drawn from those to train on; and records of files, read into memory or streamed in each epoch."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import backend, pipelines
from ..errors import DataError
from ..pipelines import Stream
from ..types import Data
from . import _building, _decoding, _labels, _targets
from ._building import Part

VALIDATION, TEST = 0.15, 0.2  # the shares that are split off where nobody says how many
_BATCH = 256


@dataclass(frozen=True, eq=False)
class Records:
    """Records in an order that stays.

    Attributes:
      read: `(index, count)` -> a tf.data set of (number, record), the share of the worker `index` of `count`. Each record has the same
        number, its place among all, on whichever worker it comes.
      decode: a record, as a tensor -> the raw example's x, in TensorFlow's operations.
      spec: the TensorSpec of what `decode` returns.
      labels: (n, ...) the label of each record, as it stands there.
      mark: tells its content from that of others.
      source: begins messages, such as "birds.tfrecord".
    """

    read: Callable[[int, int], Any]
    decode: Callable[[Any], Any]
    spec: Any
    labels: np.ndarray
    mark: str
    source: str

    def __len__(self) -> int:
        return len(self.labels)


def numbers_of(
    sizes: Mapping[str, int], y: np.ndarray, shares: Mapping[str, float | None], *, seed: int, source: str, task: str
) -> dict[str, np.ndarray]:
    """Which examples make which part, by their numbers: those to train on are counted first, then those given for validation and test.

    sizes: of the parts that are given. shares: of the examples to train on, for the parts that are not.
    """
    whole = {part: sizes.get(part, 0) for part in _labels.PARTS}
    if task == "classification" and len(sizes) < len(_labels.PARTS):
        there, numbers = np.unique(y[: whole["train"]], return_inverse=True)
        fix = "give more, leave these classes out, or name another feature if that is no class"
        _labels.check_enough(numbers, list(map(str, there)), source, fix)
    drawn = {part: otherwise if shares[part] is None else shares[part] for part, otherwise in (("validation", VALIDATION), ("test", TEST))}
    return _labels.divided(y, whole, **drawn, seed=seed, source=source, stratified=task == "classification")


def parted(
    given: Mapping[str, Part], shares: Mapping[str, float | None], *, seed: int, source: str, task: str = "classification"
) -> dict[str, Part]:
    """Train, validation and test of arrays: the given parts, and what is split off from train for those that are not."""
    y = np.concatenate([given[part][1] for part in _labels.PARTS if part in given])
    numbers = numbers_of({part: len(of[1]) for part, of in given.items()}, y, shares, seed=seed, source=source, task=task)
    x, labels = given["train"]

    def rows(part: str) -> Part:
        return pipelines.nested(lambda one: one[numbers[part]], x), labels[numbers[part]]

    return {part: given[part] if part in given and part != "train" else rows(part) for part in _labels.PARTS}


def built(
    name: str,
    found: Mapping[str, Records],
    *,
    y_name: str,
    task: _targets.Task,
    classes: Sequence[str] | None,
    shares: Mapping[str, float | None],
    cache: str | Path,
    seed: int,
    undecodable: Callable[[Exception], DataError],
    facts: Mapping[str, Any] | Callable[[dict[str, Part]], dict[str, Any]],
    **given: Any,
) -> Data:
    """The Data of records, "train" and those of the others that are given; `given` as for `_building.build`.

    Args:
      undecodable: what to say of an error that TensorFlow raises while the records are decoded.
      facts: how an app makes a raw example; or for examples that are encoded by what is in them, such as texts by their words, a function
        of the parts in memory that does so, in place, and then says how.
    """
    source = found["train"].source
    labels = np.concatenate([of.labels for of in found.values()])
    y, names, notes = _targets.of(labels, task=task, classes=classes, source=f"{source}: {y_name}")
    numbers = numbers_of({part: len(of) for part, of in found.items()}, y, shares, seed=seed, source=source, task=task)
    try:
        parts = parts_of(found, y, numbers, str(cache))
        facts = facts(parts) if callable(facts) else facts
        parts = {part: _checked(of, source, given["preprocess"]) for part, of in parts.items()}
        notes += _labels.missing_classes({part: y[at] for part, at in numbers.items()}, names, source, needed=False)
        return _building.build(name, parts, classes=names, task=task, seed=seed, source=facts, notes=notes, **given)
    except backend.tensorflow().errors.OpError as error:
        raise undecodable(error) from error


def _checked(part: Part | Stream, source: str, preprocess: Sequence[Any]) -> Part | Stream:
    if isinstance(part, Stream):
        return part
    x, y = part
    return _building.check_examples(x, np.zeros(len(x), np.int32), 1, x_name=source, preprocess=preprocess)[0], y


def parts_of(found: Mapping[str, Records], y: np.ndarray, numbers: Mapping[str, np.ndarray], cache: str) -> dict[str, Part | Stream]:
    """The parts of records, read now (`cache` = "memory") or in each epoch.

    y: what is learnt from each record, and numbers: those of each part; both counted as in `numbers_of`.

    Raises:
      DataError: a record that can't be decoded, or more than fits in memory.
    """
    starts = dict(zip(found, np.cumsum([0, *map(len, found.values())]), strict=False))
    owners = {part: part if part in found else "train" for part in numbers}
    own = {part: at - starts[owners[part]] for part, at in numbers.items()}
    if cache != "memory":
        return {part: _stream(found[owners[part]], own[part], y[at], str(cache)) for part, at in numbers.items()}
    _check_memory(found)
    x = {}
    for owner in found:
        x |= _read(found[owner], {part: at for part, at in own.items() if owners[part] == owner})
    return {part: (x[part], y[numbers[part]]) for part in numbers}


def _stream(records: Records, own: np.ndarray, y: np.ndarray, cache: str) -> Stream:
    tf = backend.tensorflow()
    keep, targets = np.zeros(len(records), bool), np.zeros(len(records), y.dtype)
    keep[own], targets[own] = True, y

    @functools.cache  # each use would build its graph anew, which takes longer than reading a small set
    def make(index: int, count: int) -> Any:
        chosen, learnt = tf.constant(keep), tf.constant(targets)
        dataset = records.read(index, count)
        if not keep.all():  # before decoding, which costs the most
            dataset = dataset.filter(lambda number, _: chosen[number])
        return dataset.map(lambda number, record: (records.decode(record), learnt[number]), num_parallel_calls=tf.data.AUTOTUNE)

    return Stream(make, len(own), f"{records.mark} {_building.digest(own, y)}", cache)


def _read(records: Records, own: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The x of each part, decoded in one pass, straight into its place."""
    tf = backend.tensorflow()
    spec, names = records.spec, list(own)
    owner, place = np.full(len(records), -1), np.zeros(len(records), np.int64)
    for part, at in enumerate(own.values()):
        owner[at], place[at] = part, np.arange(len(at))
    x = [np.empty((len(at), *spec.shape), spec.dtype.as_numpy_dtype) for at in own.values()]
    dataset = records.read(0, 1).map(lambda number, record: (number, records.decode(record)), num_parallel_calls=tf.data.AUTOTUNE)
    for numbers, batch in dataset.batch(_BATCH).prefetch(2).as_numpy_iterator():
        for part, values in enumerate(x):
            chosen = owner[numbers] == part
            values[place[numbers[chosen]]] = batch[chosen]
    return dict(zip(names, x, strict=True))


def _check_memory(found: Mapping[str, Records]) -> None:
    pipelines.check_memory(sum(len(of) * math.prod(of.spec.shape) * of.spec.dtype.size for of in found.values()))


def resized(image: Any, size: tuple[int, int]) -> Any:
    """An image (height, width, channels) of another size, of the same dtype, as `_decoding.Form.facts` says."""
    tf = backend.tensorflow()
    stretched = tf.image.resize(image, size)
    return tf.saturate_cast(tf.round(stretched) if image.dtype.is_integer else stretched, image.dtype)


def image_facts(shape: Sequence[int]) -> dict[str, Any]:
    """How an app makes a raw example of an image."""
    return {**_decoding.Form(tuple(shape[:2]), shape[2]).facts, "orientation": "as stored"}


def facts_of(x: Any) -> dict[str, Any]:
    """How an app makes a raw example of arrays (n, ...): one that is like those."""
    if isinstance(x, dict):
        return {"kind": "inputs", **{name: facts_of(x[name]) for name in sorted(x)}}
    is_image = x.dtype == np.uint8 and x.ndim == 4 and x.shape[-1] in (1, 3)
    return image_facts(x.shape[1:]) if is_image else {"kind": "values", "shape": list(x.shape[1:])}


def no_example(source: str) -> DataError:
    """The error of a source in which nothing is found."""
    return DataError(f"{source}: holds no example; should hold some of two classes or more")
