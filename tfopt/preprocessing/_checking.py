"""What preparations ask of the batch or the array that they are given, and how they refuse another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from .. import backend
from ..errors import DataError

Finite = Annotated[float, Field(allow_inf_nan=False)]
Numbers = list[Finite]
Per = Literal["feature", "channel", "all"]


def floats(x: Any, step: str) -> Any:
    """A batch as a float32 tensor.

    Raises:
      DataError: it is a dict of several inputs.
    """
    tf = backend.tensorflow()
    check_single(x, step)
    return tf.cast(tf.convert_to_tensor(x), tf.float32)


def check_single(x: Any, step: str) -> None:
    """Refuses examples of several inputs, for a step that changes one.

    Raises:
      DataError: they are such.
    """
    if isinstance(x, dict):
        raise DataError(f"{step}: takes one input, and the examples have {len(x)} ({', '.join(x)}); prepare these arrays beforehand")


def of_rank(x: Any, ranks: Sequence[int], step: str, what: str) -> Any:
    """The tensor x again.

    Raises:
      DataError: its number of dimensions, with that of the batch, is none of `ranks`; `what` says in words what is taken.
    """
    if x.shape.rank not in ranks:
        raise DataError(f"{step}: takes {what}, got examples of shape {tuple(x.shape[1:])}")
    return x


def images(x: Any, step: str, channels: int | None = None) -> Any:
    """A batch of images (n, height, width, channels) as a float32 tensor.

    Raises:
      DataError: it is of another rank, has another number of channels, or, where that is asked for, holds integers.
    """
    tf = backend.tensorflow()
    what = "images (height, width, " + ("channels)" if channels is None else f"{channels})")
    check_single(x, step)
    x = of_rank(tf.convert_to_tensor(x), (4,), step, what)
    if channels is not None and x.shape[-1] != channels:
        raise DataError(f"{step}: takes {what}, got examples of shape {tuple(x.shape[1:])}")
    if channels is not None and not x.dtype.is_floating:
        raise DataError(f"{step}: takes colors as floats in 0..1, got {x.dtype.name}; put rescale in front of it")
    return tf.cast(x, tf.float32)


def size_of(x: Any, step: str) -> int:
    """How many values an example of the tensor has.

    Raises:
      DataError: that is free.
    """
    if None in x.shape[1:]:
        raise DataError(f"{step}: takes examples of one size, got shape {tuple(x.shape[1:])}; bring them to one size first")
    return int(np.prod(x.shape[1:]))


def broadcast(values: Sequence[float], x: Any, per: Per, step: str, name: str) -> np.ndarray:
    """Statistics as an array in the shape that goes with a batch (n, ...): float64.

    Raises:
      DataError: there are not as many as `per` asks for.
    """
    size_of(x, step)
    shape = {"feature": tuple(x.shape[1:]), "channel": tuple(x.shape[-1:]), "all": (1,)}[per]
    if len(values) != np.prod(shape):
        raise DataError(
            f"{step}: {name} holds {len(values)} numbers, and {np.prod(shape)} are needed per {per!r} of examples of shape "
            f"{tuple(x.shape[1:])}; leave {name} out to learn it from the training examples"
        )
    return np.reshape(np.asarray(values, np.float64), shape)


def given(step: str, **statistics: Any) -> None:
    """Raises DataError where one of the statistics is None, saying how to come by it."""
    lacking = [name for name, value in statistics.items() if value is None]
    if lacking:
        raise DataError(
            f"{step}: {' and '.join(lacking)} not given; a data set's preprocess learns what is left out from its training examples, "
            "and data.steps holds it"
        )


def numbers(x: Any, step: str, *, missing: bool = False) -> np.ndarray:
    """Training examples to learn from, as an array (n, ...) of floats.

    Raises:
      DataError: they are several inputs, no numbers, or hold NaN, unless `missing` allows it.
    """
    check_single(x, step)
    x = np.asarray(x)
    if x.dtype.kind not in "fiub":
        raise DataError(f"{step}: takes numbers, got {x.dtype}")
    if x.dtype.kind == "f" and not missing and (bad := np.isnan(x.reshape(len(x), -1)).any(axis=1)).any():
        raise DataError(
            f"{step}: {bad.sum():,} of {len(x):,} training examples hold NaN; put fill_missing or interpolate_missing in front of it"
        )
    return x if x.dtype.kind == "f" else x.astype(np.float32)


def axes_of(x: np.ndarray, per: Per) -> tuple[int, ...]:
    """The axes of an array (n, ...) that a statistic is taken over."""
    return {"feature": (0,), "channel": tuple(range(x.ndim - 1)), "all": tuple(range(x.ndim))}[per]


def listed(values: Any) -> list[float]:
    """An array as a flat list, for JSON."""
    return [float(value) for value in np.ravel(values)]
