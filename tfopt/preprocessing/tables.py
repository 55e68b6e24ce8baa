"""Rows of a table as vectors of numbers."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from .. import backend, options


@options.checked
def encode_columns(x: Any, *, categories: list[Annotated[int, Field(ge=0)]]) -> Any:
    """Each column of categories as that many columns of 0 and 1, of which the one of its category is 1; columns of numbers as they are.

    x: (n, columns) float32; a category is its number, counted from 0. One that is missing (NaN) or unknown (any other number) has all
    zeros. categories: how many each column has, 0 for a column of numbers.

    >>> encode_columns([[1.5, 0.0], [2.5, 2.0]], categories=[0, 3])
    [[1.5, 1, 0, 0], [2.5, 0, 0, 1]]
    """
    tf = backend.tensorflow()
    x = tf.cast(tf.convert_to_tensor(x), tf.float32)
    if len(x.shape) != 2 or x.shape[1] != len(categories):
        raise ValueError(f"x has shape {tuple(x.shape)}, should be (n, {len(categories)}), a column for each number of categories")
    columns = [x[:, at : at + 1] for at in range(len(categories))]
    # compared, not looked up: NaN equals nothing, so that what is missing becomes zeros with no operation more
    encoded = [
        tf.cast(tf.equal(column, tf.range(count, dtype=tf.float32)), tf.float32) if count else column
        for column, count in zip(columns, categories, strict=True)
    ]
    return tf.concat(encoded, axis=1)
