"""Data sets of tf.data and Keras, opened: whether their elements are batches, and what they are made of."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import backend, pipelines
from ..errors import DataError, OptionError, said, shown
from . import _files, _records

_BATCH = 256
_SEQUENCES = {"Sequence", "PyDataset"}  # Keras's classes, of either version


@dataclass(frozen=True, eq=False)
class Opened:
    """A tf.data set of (x, y), or of batches of them; `source` begins messages."""

    dataset: Any
    batched: bool
    source: str

    def batches(self) -> Iterator[tuple[Any, np.ndarray]]:
        """Its examples in batches, as numpy arrays, gone through once.

        Raises:
          DataError: they are of different shapes, or making them fails.
        """
        together = self.dataset if self.batched else self.dataset.batch(_BATCH)
        try:
            yield from together.prefetch(1).as_numpy_iterator()
        except backend.tensorflow().errors.OpError as error:
            raise DataError(
                f"{self.source}: going through it fails ({said(error)}); its elements should be (x, y), all of one shape"
            ) from error

    def examples(self) -> Any:
        """A tf.data set of its single examples."""
        return self.dataset.unbatch() if self.batched else self.dataset


def opened(value: Any, option: str, batched: bool | None, rank: int | None) -> Opened:
    """What an option of `wrap` names. rank: how many dimensions the y of one example has, where the task says that.

    Raises:
      DataError: it is no data set of (x, y) that ends. OptionError: whether it is one of batches can't be told.
    """
    tf, source = backend.tensorflow(), f"wrap: {option}"
    if _is_sequence(value):
        return Opened(_from_sequence(value, source), True, source)
    if isinstance(value, str | Path):
        value = _saved(Path(value), source)
    if not isinstance(value, tf.data.Dataset):
        raise DataError(
            f"{source}: is {type(value).__name__}; should be a tf.data.Dataset, a Keras Sequence or a folder; {_way_out(value)}"
        )
    if value.cardinality() == tf.data.INFINITE_CARDINALITY:
        raise DataError(f"{source}: has no end; leave out .repeat(): epochs are counted by the pipeline")
    _check_form(value.element_spec, source)
    return Opened(value, _are_batches(value, source, batched, rank), source)


def _way_out(value: Any) -> str:
    if inspect.isgenerator(value) or inspect.isgeneratorfunction(value) or isinstance(value, Iterator):
        return (
            "a generator has no size and may be read only once: make a data set of it by "
            "tf.data.Dataset.from_generator(function, output_signature=...)"
        )
    if isinstance(value, list | tuple | dict | np.ndarray):
        return "for arrays there is tfopt.datasets.arrays(x=..., y=...)"
    return "tf.data.Dataset.from_generator makes a data set of anything that yields (x, y)"


def _saved(folder: Path, source: str) -> Any:
    tf = backend.tensorflow()
    folder = _files.existing_folder(folder)
    try:
        return tf.data.Dataset.load(str(folder))
    except (tf.errors.OpError, OSError, ValueError) as error:
        raise DataError(
            f"{source} = {folder}: can't be read ({said(error)}); should be a folder that tf.data.Dataset.save has written"
        ) from error


def _check_form(spec: Any, source: str) -> None:
    tf = backend.tensorflow()
    should = "its elements should be (x, y), such as dataset.map(lambda element: (element['image'], element['label'])) gives"
    if isinstance(spec, tuple) and len(spec) == 3:
        raise DataError(f"{source}: has (x, y, weights), and weights of examples are not used here; {should}")
    if not isinstance(spec, tuple) or len(spec) != 2:
        keys = f"dicts of {', '.join(map(str, spec))}" if isinstance(spec, dict) else shown(spec)
        raise DataError(f"{source}: its elements are {keys}; {should}")
    x, y = spec
    for name, one in (("x", x), ("y", y)):
        parts = list(one.values()) if isinstance(one, dict) and name == "x" else [one]
        if not all(isinstance(part, tf.TensorSpec) for part in parts):
            fix = "name several inputs by a dict" if isinstance(one, tuple | list) else "make it a dense tensor, such as by .to_tensor()"
            raise DataError(f"{source}: {name} is {shown(one)}; should be one tensor{' or a dict of them' if name == 'x' else ''}; {fix}")


def _are_batches(dataset: Any, source: str, batched: bool | None, rank: int | None) -> bool:
    """Whether the elements are batches, from the rank of y or their shapes and, where all sizes are known, from whether y looks one-hot."""
    first = next(dataset.take(1).as_numpy_iterator(), None)
    if first is None:
        raise _records.no_example(source)
    (x_spec, y_spec), (x, y) = ((next(iter(x.values())) if isinstance(x, dict) else x, y) for x, y in (dataset.element_spec, first))
    x, y = np.asarray(x), np.asarray(y)
    if batched is not None:
        if batched and not (y.ndim and x.ndim and len(x) == len(y)):
            raise OptionError(f"wrap: batched = true, and an element of {source} is x of shape {x.shape} and y of {y.shape}: no batch")
        return batched
    if rank is not None:
        return y.ndim > rank
    if not x.ndim or y.ndim != 1:
        return y.ndim > 1 and x.ndim > 0
    if all(spec.shape.rank and spec.shape[0] is None for spec in (x_spec, y_spec)):
        return True
    if len(x) != len(y):
        return False  # y is one-hot
    if np.count_nonzero(y) == 1 and y.max() == 1:
        raise OptionError(
            f"wrap: batched: elements of {source} are x of shape {x.shape} and y of {y.shape}, which may be a batch, or an example with a "
            "one-hot label; say batched = true or false"
        )
    return True


def _is_sequence(value: Any) -> bool:
    """Whether it is Keras's Sequence or PyDataset, of whichever Keras."""
    return any(of.__name__ in _SEQUENCES and of.__module__.partition(".")[0] in ("keras", "tf_keras") for of in type(value).__mro__)


def _from_sequence(value: Any, source: str) -> Any:
    tf = backend.tensorflow()
    try:
        count = len(value)
    except TypeError as error:  # a PyDataset without end says None
        raise DataError(f"{source}: a {type(value).__name__} of no length; it should tell how many batches it has") from error
    if not count:
        raise _records.no_example(source)

    def batch(number: int) -> tuple[Any, np.ndarray]:
        given = value[number]
        if not isinstance(given, tuple | list) or len(given) != 2:
            raise DataError(f"{source}: its batches should be (x, y), without weights; batch {number} is {shown(type(given).__name__)}")
        return pipelines.nested(np.asarray, given[0]), np.asarray(given[1])

    signature = tuple(pipelines.nested(lambda one: tf.TensorSpec((None, *one.shape[1:]), tf.as_dtype(one.dtype)), one) for one in batch(0))
    return tf.data.Dataset.from_generator(lambda: (batch(number) for number in range(count)), output_signature=signature)
