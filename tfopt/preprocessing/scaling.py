"""Values brought to a scale: each function takes and returns a batch (n, ...), and a deployed app has to repeat it.

Those that need statistics have a `learn_...` beside them, which takes training examples (n, ...) and the options, and returns the options
with the statistics filled in, as lists of numbers. `per` says what shares a statistic: "feature" is each position in an example (a column
of a table, a pixel), "channel" the last axis (a color), "all" everything.
"""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from pydantic import Field

from .. import backend, options
from ..errors import DataError
from ._checking import Numbers, Per, axes_of, broadcast, floats, given, listed, numbers

_SMALLEST = float(np.finfo(np.float32).tiny)
_CHUNK = 1024  # examples whose squares are summed at a time, in float64


@options.checked
def rescale(x: Any, *, scale: float = 1 / 255, offset: float = 0.0) -> Any:
    """`scale * x + offset` as float32; by default bytes 0..255 come out as 0..1.

    x: a batch, or a dict of batches by input name, of which those that hold bytes are rescaled and the others left as they are.
    """
    if isinstance(x, dict):
        tf = backend.tensorflow()
        return {name: rescale(one, scale=scale, offset=offset) if one.dtype == tf.uint8 else one for name, one in x.items()}
    tf = backend.tensorflow()
    # Multiplied, not divided: TensorFlow's graph optimizer rewrites a division into this in some graphs and not in others.
    x = tf.cast(x, tf.float32) * np.float32(scale)
    return x + np.float32(offset) if offset else x


@options.checked
def min_max(x: Any, *, per: Per = "feature", low: Numbers | None = None, high: Numbers | None = None) -> Any:
    """`(x - low) / (high - low)`: the training examples come out in 0..1, others perhaps outside. What was constant becomes 0.

    low, high: learnt: the smallest and the largest value.

    >>> min_max([[2.0, 5.0], [4.0, 5.0]], low=[0.0, 5.0], high=[4.0, 5.0])
    [[0.5, 0.], [1., 0.]]

    Raises:
      DataError: statistics that are missing, or not as many as `per` asks for.
    """
    x = floats(x, "min_max")
    given("min_max", low=low, high=high)
    low, high = (broadcast(values, x, per, "min_max", name) for name, values in (("low", low), ("high", high)))
    return _scaled(x, low, high - low)


def learn_min_max(x: np.ndarray, *, per: Per = "feature", **known: Any) -> dict[str, Any]:
    """The options with `low` and `high`."""
    x = numbers(x, "min_max")
    axes = axes_of(x, per)
    return {"per": per, "low": listed(x.min(axes)), "high": listed(x.max(axes)), **_said(known)}


@options.checked
def z_score(x: Any, *, per: Per = "feature", mean: Numbers | None = None, std: Numbers | None = None) -> Any:
    """`(x - mean) / std`: the training examples come out with mean 0 and standard deviation 1. What was constant becomes 0.

    mean, std: learnt. std is that of the population (divided by n).

    >>> z_score([[2.0, 5.0], [4.0, 5.0]], mean=[3.0, 5.0], std=[1.0, 0.0])
    [[-1., 0.], [1., 0.]]

    Raises:
      DataError: statistics that are missing, or not as many as `per` asks for.
    """
    x = floats(x, "z_score")
    given("z_score", mean=mean, std=std)
    mean, std = (broadcast(values, x, per, "z_score", name) for name, values in (("mean", mean), ("std", std)))
    return _scaled(x, mean, std)


def learn_z_score(x: np.ndarray, *, per: Per = "feature", **known: Any) -> dict[str, Any]:
    """The options with `mean` and `std`."""
    x = numbers(x, "z_score")
    axes = axes_of(x, per)
    mean = x.mean(axes, dtype=np.float64)
    # In chunks, since numpy's std makes a float64 copy of everything.
    squares = sum(np.square(x[at : at + _CHUNK] - mean).sum(axes) for at in range(0, len(x), _CHUNK))
    std = np.sqrt(squares / (x.size / mean.size))
    constant = x.min(axes) == x.max(axes)  # of n equal numbers the mean may be off by a rounding, and std is then no zero
    return {"per": per, "mean": listed(mean), "std": listed(np.where(constant, 0, std)), **_said(known)}


def _scaled(x: Any, offset: np.ndarray, width: np.ndarray) -> Any:
    """`(x - offset) / width`, and 0 where the width is 0, or so small that its inverse is no float32."""
    factor = np.where(width > _SMALLEST, 1 / np.maximum(width, _SMALLEST), 0)
    return (x - offset.astype(np.float32)) * factor.astype(np.float32)


def _said(known: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in known.items() if value is not None}


@options.checked
def l1_normalize(x: Any) -> Any:
    """Each example divided by the sum of its absolute values; one of zeros stays as it is.

    >>> l1_normalize([[1.0, -3.0]])
    [[0.25, -0.75]]
    """
    tf = backend.tensorflow()
    x = floats(x, "l1_normalize")
    return x / tf.maximum(tf.reduce_sum(tf.abs(x), _inner(x), keepdims=True), _SMALLEST)


@options.checked
def l2_normalize(x: Any) -> Any:
    """Each example divided by the root of the sum of its squares; one of zeros stays as it is.

    >>> l2_normalize([[3.0, -4.0]])
    [[0.6, -0.8]]
    """
    tf = backend.tensorflow()
    x = floats(x, "l2_normalize")
    return x / tf.maximum(tf.sqrt(tf.reduce_sum(tf.square(x), _inner(x), keepdims=True)), _SMALLEST)


def _inner(x: Any) -> list[int]:
    return list(range(1, x.shape.rank))


@options.checked
def binarize(x: Any, *, threshold: float = 0.5) -> Any:
    """1 where a value is above `threshold`, else 0.

    >>> binarize([[0.2, 0.5, 0.7]])
    [[0., 0., 1.]]
    """
    tf = backend.tensorflow()
    return tf.cast(floats(x, "binarize") > threshold, tf.float32)


@options.checked
def one_hot(x: Any, *, depth: Annotated[int, Field(ge=1)]) -> Any:
    """Each index (int32) as a vector of `depth` numbers, on a new last axis: 1 at its place, else 0.

    An index outside 0..depth-1 among the training examples is an error; later on it becomes all zeros.

    >>> one_hot([[2, 0]], depth=3)
    [[[0., 0., 1.], [1., 0., 0.]]]

    Raises:
      DataError: x holds no integers.
    """
    tf = backend.tensorflow()
    if isinstance(x, dict) or not tf.convert_to_tensor(x).dtype.is_integer:
        kind = "several inputs" if isinstance(x, dict) else tf.convert_to_tensor(x).dtype.name
        raise DataError(f"one_hot: takes indices (int32), got {kind}; convert them first, for example with x.astype('int32')")
    return tf.one_hot(tf.cast(x, tf.int32), depth, dtype=tf.float32)


def learn_one_hot(x: np.ndarray, *, depth: int) -> dict[str, Any]:
    """The options as they are.

    Raises:
      DataError: a training example holds an index outside 0..depth-1.
    """
    x = numbers(x, "one_hot")
    bad = np.flatnonzero(((x < 0) | (x >= depth)).reshape(len(x), -1).any(axis=1))
    if len(bad):
        raise DataError(
            f"one_hot: {len(bad):,} of {len(x):,} training examples hold indices outside 0..{depth - 1} (they go from {x.min():g} to "
            f"{x.max():g}); depth should be at least {int(x.max()) + 1}, and indices counted from 0"
        )
    return {"depth": depth}
