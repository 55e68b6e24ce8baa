"""Data sets that the user has already: tf.data, Keras Sequences, and what tf.data.Dataset.save has saved."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np

from .. import backend, options, pipelines
from ..errors import DataError, OptionError, shown
from ..pipelines import Stream
from ..types import Data
from . import _building, _labels, _opening, _records, _targets
from ._building import Cache, Count, Preprocess, Seed
from ._opening import Opened

Source = Annotated[Any, "tf.data.Dataset, Keras Sequence, or the folder of a saved one"]
PartOrShare = Annotated[Any, "the same, or a share between 0 and 1"]


@options.checked
def wrap(
    *,
    train: Source,
    batched: bool | None = None,
    task: _targets.OfArrays = "classification",
    classes: list[str] | tuple[str, ...] | None = None,
    name: str = "wrap",
    validation: PartOrShare = 0.15,
    test: PartOrShare = 0.2,
    seed: Seed = 0,
    calibration: Count = 200,
    preprocess: Preprocess = (),
    cache: Cache = "memory",
) -> Data:
    """Data sets of (x, y) that you have already: a tf.data.Dataset, a Sequence (or PyDataset) of Keras, or the path of a folder that
    tf.data.Dataset.save has written, which a recipe can name.

    Args:
      train, validation, test: a data set each; for validation and test also the share of `train` that is split off by `seed`, alike in
        its classes. Leave augmentation, `shuffle` and `repeat` out of them: they are the pipeline's (see `preprocess`).
      batched: whether an element is a batch; by default it is found out from its shape, and asked for where that can't tell.
      task: what is learnt, and so what y is, as in `arrays`.
      classes: their names, in the order of the labels; by default as many as the largest label says, named by their index.
      cache: "memory" reads all once. "none" goes through the data sets in each epoch, and a folder keeps there what they gave: for what
        does not fit in memory. Then validation and test must be given. They are always gone through once, to count and check them.

    x: uint8 (scaled to 0..1), floats, int32 or int64, of one shape; or a dict of such, by the names of the model's inputs. y: class
    indices or one-hot rows, which become indices.

    >>> tfopt.datasets.wrap(train=tf.data.Dataset.from_tensor_slices((images, labels)), classes=["cat", "dog"]).num_classes
    2

    Raises:
      DataError: it is no such data set, does not end, or its elements are no (x, y) of one shape. OptionError: it can't be told whether
        elements are batches; a share that is none.
    """
    given = {"train": train, "validation": validation, "test": test}
    shares = {part: _share(value, part) for part, value in given.items() if part != "train"}
    rank = _targets.RANKS.get(task)
    opened = {part: _opening.opened(value, part, batched, rank) for part, value in given.items() if shares.get(part) is None}
    streamed = cache != "memory"
    if streamed and len(opened) < len(given):
        raise OptionError(
            f"wrap: cache = {shown(str(cache))}: what is gone through anew each time may come in another order, so no share of it can be "
            "split off; give validation and test as data sets, or leave cache out"
        )
    walked = {part: _walked(of, preprocess, task, keep=not streamed) for part, of in opened.items()}
    y, names = _learnt(walked, task, classes)
    facts = _records.facts_of(walked["train"].x)
    if streamed:
        parts = {part: _stream(opened[part], walked[part], y[part], str(cache)) for part in opened}
        notes = _labels.missing_classes(y, names, f"wrap: {name}", needed=False)
    else:
        parts = _records.parted({part: (walked[part].x, y[part]) for part in opened}, shares, seed=seed, source=f"wrap: {name}", task=task)
        notes = _labels.missing_classes({part: labels for part, (_, labels) in parts.items()}, names, f"wrap: {name}", needed=False)
    return _building.build(
        name, parts, classes=names, task=task, seed=seed, calibration=calibration, preprocess=preprocess, source=facts, notes=notes
    )


@dataclass(frozen=True, eq=False)
class _Walked:
    """What was found on the way through a data set: x (n, ...), of which only the first are kept where it is streamed; the labels (n,)."""

    x: Any
    labels: np.ndarray
    mark: str


def _share(value: Any, part: str) -> float | None:
    """The share of train that a part is; None where it is a data set."""
    if value is None:
        return {"validation": _records.VALIDATION, "test": _records.TEST}[part]
    if not isinstance(value, int | float):
        return None
    if isinstance(value, bool) or not 0 < value < 1:
        raise OptionError(f"wrap: {part} = {value}: should be a data set, or a share above 0 and below 1")
    return float(value)


def _walked(opened: Opened, preprocess: Sequence[Any], task: str, *, keep: bool) -> _Walked:
    """Goes through a data set once."""
    kept, labels, taken, mark, first = [], [], 0, hashlib.sha256(), None
    for x, y in opened.batches():
        x, _ = _building.check_examples(x, np.zeros(len(y), np.int32), 1, x_name=_names_of(x, opened), preprocess=preprocess)
        form = pipelines.nested(lambda one: (one.shape[1:], one.dtype), x)
        first = first or form
        if form != first:
            raise DataError(f"{opened.source}: its examples are of different shapes, {first} and {form}; bring them to one")
        y = _targets.flat(y, f"{opened.source}: y") if task == "classification" else np.asarray(y)
        if keep:
            taken += sum(one.nbytes for one in (x.values() if isinstance(x, dict) else [x]))
            pipelines.check_memory(taken)  # once more for all of them together
        else:
            mark.update(_building.digest(*(x.values() if isinstance(x, dict) else [x]), y).encode())
        if keep or not kept:
            kept.append(x)
        labels.append(y)
    if not kept:
        raise _records.no_example(opened.source)
    x = kept[0] if len(kept) == 1 else pipelines.nested(lambda *parts: np.concatenate(parts), *kept)
    return _Walked(x, np.concatenate(labels), mark.hexdigest())


def _names_of(x: Any, opened: Opened) -> Any:
    return {name: f"{opened.source}: x[{name!r}]" for name in x} if isinstance(x, dict) else f"{opened.source}: x"


def _learnt(walked: Mapping[str, _Walked], task: str, classes: Sequence[str] | None) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """What is learnt in each part, and the classes' names."""
    labels = {part: of.labels for part, of in walked.items()}
    if task != "classification":
        return _targets.learnt(labels, task, classes, lambda part: f"wrap: {part}: y")
    for part, of in labels.items():
        if of.dtype.kind in "OSU":
            raise DataError(f"wrap: {part}: y holds words; should be class indices: map them first, as tf.keras.layers.StringLookup does")
    labels = {part: _targets.whole(of, f"wrap: {part}: y") for part, of in labels.items()}
    names = tuple(classes) if classes is not None else max((_targets.numbered(of, f"wrap: {p}: y") for p, of in labels.items()), key=len)
    _targets.check_several(labels["train"], "wrap: train: y")
    return {part: _targets.indices(of, names, f"wrap: {part}: y") for part, of in labels.items()}, names


def _stream(opened: Opened, walked: _Walked, y: np.ndarray, cache: str) -> Stream:
    specs = pipelines.nested(lambda one: (one.shape[1:], one.dtype.name), walked.x)

    def example(x: Any, label: Any) -> tuple[Any, Any]:
        tf = backend.tensorflow()
        x = pipelines.nested(lambda one, spec: tf.ensure_shape(tf.cast(one, spec[1]), spec[0]), x, specs)
        if label.shape.rank == 1 and y.ndim == 1:
            label = label[0] if label.shape[0] == 1 else tf.argmax(label)
        return x, tf.cast(label, y.dtype)

    @functools.cache  # each use would build its graph anew
    def make(index: int, count: int) -> Any:
        return opened.examples().shard(count, index).map(example)

    return Stream(make, len(y), f"{opened.source} {walked.mark}", cache)
