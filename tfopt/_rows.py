"""Where the examples of a data set are: `Rows` can be fetched in any order, a `Stream` is read from its start.

What is read or decoded is kept, in memory or in a folder on disk, so that only the first epoch pays for it.
"""

from __future__ import annotations

import dataclasses
import fcntl
import functools
import importlib
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from . import backend
from .errors import DataError, said
from .tracing import log

MEMORY, NOTHING = "memory", "none"  # what `cache` may be; anything else is a folder's path


def nested(function: Callable[..., Any], values: Any, *others: Any) -> Any:
    """`function` of a value; where it is a dict, of each value in it, and of the same one of the `others`.

    >>> nested(len, {"image": [1, 2], "row": [3]})
    {'image': 2, 'row': 1}
    """
    if isinstance(values, dict):
        return {name: nested(function, one, *(other[name] for other in others)) for name, one in values.items()}
    return function(values, *others)


@dataclass(frozen=True, eq=False)
class Rows:
    """Examples by number.

    Attributes:
      x: an array (n, ...), or a dict of them by input name: the raw examples or, with `read`, what they are read from, such as paths.
      y: an array (n, ...), or a dict of them.
      read: one row of x, as a tensor -> the raw example, in TensorFlow's operations; None where x holds the raw examples themselves.
      spec: with `read`, the TensorSpec of what it returns (no dimension free).
      cache: what keeps the read examples: "memory", "none", or the path of a folder, for what does not fit in memory.
      marks: with `read`, (n,) strings that tell the content of each row apart, such as path, size and time; they go into the fingerprint.
    """

    x: Any
    y: Any
    read: Callable[[Any], Any] | None = None
    spec: Any = None
    cache: str = MEMORY
    marks: np.ndarray | None = None

    def __len__(self) -> int:
        y = self.y
        while isinstance(y, dict):
            y = next(iter(y.values()))
        return len(y)

    def take(self, numbers: Any) -> Rows:
        """The rows of these numbers (an index array or a slice)."""
        marks = None if self.marks is None else self.marks[numbers]
        x, y = (nested(lambda one: one[numbers], values) for values in (self.x, self.y))
        return dataclasses.replace(self, x=x, y=y, marks=marks)

    @property
    def x_spec(self) -> Any:
        """The TensorSpec of one raw example's x, or a dict of them."""
        tf = backend.tensorflow()
        return self.spec if self.read else nested(lambda one: tf.TensorSpec(one.shape[1:], one.dtype), self.x)

    def fetch(self, numbers: Any, *, keep: bool = True) -> tuple[Any, Any]:
        """The raw examples (x, y) of a vector of row numbers, as one batch; inside a tf.data function.

        keep: whether to put what is read into the cache, and to look there first.
        """
        tf = backend.tensorflow()
        x, y = self._tensors
        labels = nested(lambda one: tf.gather(one, numbers), y)
        if self.read is None:
            return nested(lambda one: tf.gather(one, numbers), x), labels
        return (self._store.fetch(numbers, self._read) if keep else self._read(numbers)), labels

    def _read(self, numbers: Any) -> Any:
        tf = backend.tensorflow()
        x, _ = self._tensors
        return tf.map_fn(self.read, nested(lambda one: tf.gather(one, numbers), x), fn_output_signature=self.spec)

    def failure(self) -> str | None:
        """The first row that can't be read, as a sentence that names its file; None where all can be. Reads all in front of it."""
        tf = backend.tensorflow()
        if self.read is None:
            return None
        x, _ = self._tensors

        numbers = tf.data.Dataset.range(len(self))
        examples = numbers.map(
            lambda number: self.read(nested(lambda one: one[number], x)), num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
        )
        read = 0
        try:
            for _ in examples:
                read += 1
        except tf.errors.OpError as error:
            return f"{self.file_of(read) or f'example {read}'}: can't be read any more ({said(error)}); repair it, or leave it out"
        return None

    def file_of(self, number: int) -> str | None:
        """The path that a row is read from, where it is read from a file."""
        for one in () if self.read is None else self.x.values() if isinstance(self.x, dict) else [self.x]:
            if one.ndim == 1 and one.dtype.kind in "OSU":
                path = one[number]
                return path.decode(errors="replace") if isinstance(path, bytes) else str(path)
        return None

    @functools.cached_property
    def _tensors(self) -> tuple[Any, Any]:
        tf = backend.tensorflow()
        with tf.init_scope(), tf.device("CPU:0"):
            return nested(tf.constant, self.x), nested(tf.constant, self.y)

    @functools.cached_property
    def _store(self) -> Any:
        if self.cache == NOTHING:
            return _Unkept()
        if self.cache == MEMORY:
            return _Memory(len(self), self.spec)
        return _Disk(Path(self.cache), len(self), self.spec)


@dataclass(frozen=True, eq=False)
class Stream:
    """Examples that are read from their start each time.

    Attributes:
      make: `(index, count)` -> a tf.data set of single raw examples (x, y): the share of the worker `index` of `count`. All shares
        together hold each example once.
      size: how many examples there are over all shares.
      mark: tells its content from that of others, such as its files' names, sizes and times; it goes into the fingerprint.
      cache: "none", or the path of a folder.
      buffer: how many examples are shuffled among each other.
    """

    make: Callable[[int, int], Any]
    size: int
    mark: str
    cache: str = NOTHING
    buffer: int = 10_000

    def __len__(self) -> int:
        return self.size

    @property
    def x_spec(self) -> Any:
        """As of `Rows`."""
        return self.make(0, 1).element_spec[0]

    def dataset(self, index: int = 0, count: int = 1) -> Any:
        """The share's raw examples, from the cache once they have been read through."""
        dataset = self.make(index, count)
        if self.cache == NOTHING:
            return dataset
        path = _folder(self.cache) / f"stream-{index}-of-{count}"
        return dataset.cache(str(path)) if _usable(path) else dataset

    def failure(self) -> str | None:
        """Why the examples can't be read through, as a sentence; None where they can be. Reads all in front of that."""
        read = 0
        try:
            for _ in self.dataset():
                read += 1
        except backend.tensorflow().errors.OpError as error:
            fix = "did its file change or go meanwhile?"
            if self.cache != NOTHING:
                fix = f"if its file is whole, remove the cache {self.cache}"
            return f"example {read} of {len(self)}: can't be read any more ({said(error)}); {fix}"
        return None


_owners: dict[Path, int] = {}


def _usable(path: Path) -> bool:
    """Whether a cache of tf.data is complete or this process's alone to fill; where another is filling it, that is logged.

    tf.data marks one that is being filled by a file, and refuses it for ever where the process was killed. The system's lock goes with its
    process, so whoever gets it may clear away what another left unfinished.
    """
    if path in _owners or path.with_name(f"{path.name}.index").exists():
        return True
    owner = os.open(path.with_name(f"{path.name}.owner"), os.O_CREAT | os.O_RDWR)
    try:
        fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(owner)
        log.warning("cache = %s: another run is filling it; this one reads the files in each epoch", path.parent)
        return False
    for left in path.parent.glob(f"{path.name}_*"):
        left.unlink()
    _owners[path] = owner  # the lock lasts as long as this is open
    return True


def _folder(path: str | Path) -> Path:
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"cache = {folder}: can't be made ({error.strerror or error}); name a folder that can be written") from error
    return folder


class _Unkept:
    def fetch(self, numbers: Any, read: Callable[[Any], Any]) -> Any:
        return read(numbers)


class _Memory:
    """A tensor for all rows, filled as they are read for the first time.

    A batch comes from it as a whole or not at all. Batches are made side by side and may find a row of an unfinished one missing; then
    they read it again. `there` is written after `values`, so that what it promises is there.
    """

    def __init__(self, count: int, spec: Any):
        tf = backend.tensorflow()
        check_memory(count * math.prod(spec.shape) * spec.dtype.size)
        # made directly, since in a strategy's scope tf.Variable would make one for each of its devices
        with tf.init_scope(), tf.device("CPU:0"):
            # not filled: the system gives a page of memory when it is first written, so that what is never read takes none
            self.values = backend.plain_variable(tf.raw_ops.Empty(shape=[count, *spec.shape], dtype=spec.dtype, init=False))
            self.there = backend.plain_variable(tf.zeros([count], tf.bool))

    def fetch(self, numbers: Any, read: Callable[[Any], Any]) -> Any:
        tf = backend.tensorflow()

        def fresh():
            batch = read(numbers)
            kept = tf.raw_ops.ResourceScatterUpdate(resource=self.values.handle, indices=numbers, updates=batch)
            with tf.control_dependencies([kept]):
                flags = tf.ones_like(numbers, tf.bool)
                told = tf.raw_ops.ResourceScatterUpdate(resource=self.there.handle, indices=numbers, updates=flags)
            with tf.control_dependencies([told]):
                return tf.identity(batch)

        return tf.cond(tf.reduce_all(tf.gather(self.there, numbers)), lambda: tf.gather(self.values, numbers), fresh)


def check_memory(
    needed: float,
    what: str = "the examples",
    fix: str = "give cache = a folder to keep them on disk, or cache = 'none' to read them again in each epoch",
) -> None:
    """Refuses what takes more bytes than are free.

    Raises:
      DataError: it does.
    """
    free = importlib.import_module("psutil").virtual_memory().available
    if needed > free:  # TensorFlow would ask for it and be killed
        raise DataError(f"{what} would take {needed / 1e9:,.1f} GB of memory, and {free / 1e9:,.1f} GB are free; {fix}")


class _Disk:
    """The same in two files of a folder, which the next run finds again: examples.npy, and there.npy with a byte for each."""

    def __init__(self, folder: Path, count: int, spec: Any):
        self.spec, shape, dtype = spec, (count, *spec.shape), spec.dtype.as_numpy_dtype
        self.values, self.there = (
            _mapped(_folder(folder) / name, shape, dtype)
            for name, shape, dtype in (("examples.npy", shape, dtype), ("there.npy", (count,), bool))
        )

    def fetch(self, numbers: Any, read: Callable[[Any], Any]) -> Any:
        tf = backend.tensorflow()

        def keep(numbers, batch):
            self.values[numbers] = batch
            self.there[numbers] = True
            return batch

        def fresh():
            return tf.numpy_function(keep, [numbers, read(numbers)], self.spec.dtype)

        def stored():
            return tf.numpy_function(lambda numbers: self.values[numbers], [numbers], self.spec.dtype)

        complete = tf.numpy_function(lambda numbers: self.there[numbers].all(), [numbers], tf.bool)
        batch = tf.cond(tf.ensure_shape(complete, []), stored, fresh)
        return tf.ensure_shape(batch, [numbers.shape[0], *self.spec.shape])


def _mapped(path: Path, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    if not path.exists():
        try:
            return np.lib.format.open_memmap(path, "w+", dtype, shape)
        except OSError as error:
            raise DataError(f"{path}: can't be written ({error.strerror or error}); name another folder as cache") from error
    try:
        np.load(path, mmap_mode="r")  # which fails on one that is cut off; "r+" would fill it up with zeros
        kept = np.load(path, mmap_mode="r+")
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: can't be read as a cache ({error}); remove its folder, or name another folder as cache") from error
    if kept.shape != shape or kept.dtype != dtype:
        raise DataError(
            f"{path}: is the cache of other data, of shape {kept.shape}, not {shape}; remove it, or name another folder as cache"
        )
    return kept
