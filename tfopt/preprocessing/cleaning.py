"""Examples that are wrong left out, and values that are missing (NaN) filled in.

The *cleaners* say which rows stay: `(x, y) -> mask`, x a numpy array (n, ...) or a dict of such by input name, y an array (n,), and the
mask booleans (n,). `fill_missing` and `interpolate_missing` are preparations, on a batch of tensors, which a deployed app has to repeat.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from .. import backend, options
from ..errors import DataError
from ._checking import Finite, Numbers, broadcast, floats, given, listed, numbers, of_rank, size_of

_LIMITS = {"iqr": 1.5, "z_score": 3.0}


@options.checked
def drop_missing(x: Any, y: np.ndarray) -> np.ndarray:
    """The rows without NaN, in x and in y.

    >>> drop_missing(np.array([[1.0], [np.nan]]), np.array([0, 1]))
    [True, False]
    """
    return ~np.any([_is_missing(one) for one in (*_inputs(x), y)], axis=0)


def _is_missing(values: np.ndarray) -> np.ndarray:
    if values.dtype.kind != "f":
        return np.zeros(len(values), bool)
    return np.isnan(values.reshape(len(values), -1)).any(axis=1)


def _inputs(x: Any) -> list[np.ndarray]:
    return list(x.values()) if isinstance(x, dict) else [x]


@options.checked
def drop_duplicates(x: Any, y: np.ndarray) -> np.ndarray:
    """Of rows that are equal in x and in y, the first. Equal examples with different labels stay: which of them is right is not known.

    >>> drop_duplicates(np.array([[1], [2], [1]]), np.array([0, 0, 0]))
    [True, True, False]
    """
    # A hash of 16 bytes a row in place of the row: sorting images would take a copy of all of them.
    arrays = [_comparable(one) for one in (*_inputs(x), y)]
    marks = [hashlib.blake2b(b"".join(one[row].tobytes() for one in arrays), digest_size=16).digest() for row in range(len(y))]
    _, first = np.unique(np.array(marks), return_index=True)
    stays = np.zeros(len(y), bool)
    stays[first] = True
    return stays


def _comparable(values: np.ndarray) -> np.ndarray:
    """The values with the same bytes for equal ones: one NaN, and one zero."""
    return np.where(np.isnan(values), np.nan, values + 0).astype(values.dtype) if values.dtype.kind == "f" else values


@options.checked
def drop_outliers(
    x: Any, y: np.ndarray, *, method: Literal["iqr", "z_score"] = "iqr", limit: Annotated[float, Field(gt=0)] | None = None
) -> np.ndarray:
    """The rows that are far out in no feature, a feature being a position in an example.

    method: "iqr" counts in widths of the middle half, beyond its edges (Tukey's fences); "z_score" in standard deviations from the mean.
    limit: how many of them are far; by default 1.5 for "iqr" and 3 for "z_score".

    For tables: of thousands of pixels one is always far out. Features without such a width, and NaN, count for nothing.

    >>> drop_outliers(np.array([[1.0], [2.0], [3.0], [99.0]]), np.array([0, 0, 0, 0]))
    [True, True, True, False]
    """
    limit = _LIMITS[method] if limit is None else limit
    return ~np.any([_is_far(one, method, limit) for one in _inputs(x)], axis=0)


def _is_far(values: np.ndarray, method: str, limit: float) -> np.ndarray:
    far, flat = np.zeros(len(values), bool), values.reshape(len(values), -1)
    for column in flat.T:  # one by one, since percentiles copy what they are of
        column = column.astype(np.float64)
        there = column[~np.isnan(column)]
        if len(there):
            low, high = _fences(there, method, limit)
            far |= (column < low) | (column > high)
    return far


def _fences(values: np.ndarray, method: str, limit: float) -> tuple[float, float]:
    if method == "iqr":
        low, high = np.percentile(values, [25, 75])
        width = high - low
    else:
        low = high = values.mean()
        width = 0.0 if values.min() == values.max() else values.std()
    return (low - limit * width, high + limit * width) if width > 0 else (-np.inf, np.inf)


@options.checked
def fill_missing(
    x: Any,
    *,
    how: Literal["mean", "median", "most_frequent", "constant"] = "mean",
    value: Finite = 0.0,
    values: Numbers | None = None,
) -> Any:
    """NaN replaced by what its feature is like among the training examples, a feature being a position in an example.

    how: by the feature's mean, median or most frequent value (of several the smallest), or "constant": by `value`.
    values: learnt, a number for each feature.

    >>> fill_missing([[1.0, nan], [nan, 4.0]], values=[5.0, 6.0])
    [[1., 6.], [5., 4.]]

    Raises:
      DataError: statistics that are missing, or not as many as an example has values.
    """
    tf = backend.tensorflow()
    x = floats(x, "fill_missing")
    if how == "constant":
        return tf.where(_is_there(x), x, np.float32(value))
    given("fill_missing", values=values)
    return tf.where(_is_there(x), x, broadcast(values, x, "feature", "fill_missing", "values").astype(np.float32))


def learn_fill_missing(x: np.ndarray, *, how: str = "mean", value: float = 0.0, values: Any = None) -> dict[str, Any]:
    """The options with `values`.

    Raises:
      DataError: a feature without any value.
    """
    if how == "constant" or values is not None:
        return {"how": how, "value": value, **({} if values is None else {"values": values})}
    x = numbers(x, "fill_missing", missing=True)
    flat = x.reshape(len(x), -1).astype(np.float64)
    if (empty := np.isnan(flat).all(axis=0)).any():
        place = tuple(int(index) for index in np.unravel_index(np.argmax(empty), x.shape[1:]))
        raise DataError(
            f"fill_missing: {empty.sum()} of {flat.shape[1]} features have no value in any training example, the first at {place}; "
            "leave them out, or fill with how = 'constant'"
        )
    imputer = backend.sklearn("impute").SimpleImputer(strategy=how).fit(flat)
    return {"how": how, "value": value, "values": listed(imputer.statistics_)}


@options.checked
def interpolate_missing(x: Any) -> Any:
    """NaN in series (n, time) or (n, time, features) replaced by the straight line between its neighbours in time.

    Before the first and behind the last value that is there, that value goes on. A series of nothing but NaN stays so: a `fill_missing`
    behind this one fills it.

    >>> interpolate_missing([[nan, 1.0, nan, nan, 4.0]])
    [[1., 1., 2., 3., 4.]]

    Raises:
      DataError: x holds no series.
    """
    tf = backend.tensorflow()
    x = of_rank(floats(x, "interpolate_missing"), (2, 3), "interpolate_missing", "series (time,) or (time, features)")
    size_of(x, "interpolate_missing")
    length, there = x.shape[1], _is_there(x)
    known = tf.where(there, x, tf.zeros_like(x))
    before, since = _carried(known, there)
    after, until = (tf.reverse(one, [1]) for one in _carried(tf.reverse(known, [1]), tf.reverse(there, [1])))
    is_before, is_after = since < length, until < length
    share = since / tf.maximum(since + until, 1)
    line = tf.where(is_before, tf.where(is_after, before + (after - before) * share, before), tf.where(is_after, after, x))
    return tf.where(there, x, line)


def _carried(known: Any, there: Any) -> tuple[Any, Any]:
    """The last known value up to each time, and how many steps ago that was: at least the length of the series where there is none.

    By doubling: after looking 1, 2, 4, ... steps back each value has come as far as it may, in log2(length) operations for all series.
    """
    tf = backend.tensorflow()
    length, inner = known.shape[1], [[0, 0]] * (known.shape.rank - 2)
    far = float(2 * length)
    since, step = tf.where(there, tf.zeros_like(known), far * tf.ones_like(known)), 1
    while step < length:
        paddings = [[0, 0], [step, 0], *inner]
        earlier = tf.pad(known[:, :-step], paddings)
        then = tf.pad(since[:, :-step] + step, paddings, constant_values=far)
        nearer = then < since
        known, since, step = tf.where(nearer, earlier, known), tf.where(nearer, then, since), 2 * step
    return known, since


def _is_there(x: Any) -> Any:
    return x == x  # only NaN is not itself; tf.math.is_nan has no operation in TFLite
