"""What an operation is called with, as JSON can hold it: tensors stand there as numbers, the rest as it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ._keras3 import keras3


def encoded(value: Any, tensors: list[Any], is_tensor: Callable[[Any], bool]) -> Any:
    """Arguments without tensors; those are appended to `tensors`.

    Raises:
      TypeError: a function, or another thing that JSON has no word for.

    >>> tensors = []
    >>> encoded((x, slice(0, 2)), tensors, is_tensor)
    {'tuple': [{'tensor': 0}, {'slice': [0, 2, None]}]}
    """

    def inner(value):
        return encoded(value, tensors, is_tensor)

    if is_tensor(value):
        tensors.append(value)
        return {"tensor": len(tensors) - 1}
    if isinstance(value, dict):
        return {"dict": {key: inner(one) for key, one in value.items()}}
    if isinstance(value, list | tuple):
        return {"tuple" if isinstance(value, tuple) else "list": [inner(one) for one in value]}
    if isinstance(value, slice):
        return {"slice": [inner(part) for part in (value.start, value.stop, value.step)]}
    if value is Ellipsis:
        return {"ellipsis": []}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.dtype | type) or hasattr(value, "as_numpy_dtype"):
        return keras3().backend.standardize_dtype(value)
    if callable(value):
        raise TypeError(f"{value!r} is Python code")
    array = np.asarray(keras3().ops.convert_to_numpy(value))
    return {"array": [array.tolist(), array.dtype.name]}


def decoded(value: Any, tensors: list[Any]) -> Any:
    """The arguments that `encoded` made, with these tensors in them."""
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "array":
        return np.asarray(content[0], content[1])
    if kind == "dict":
        return {key: decoded(one, tensors) for key, one in content.items()}
    parts = [decoded(one, tensors) for one in content]
    return {"list": list, "tuple": tuple, "slice": lambda it: slice(*it), "ellipsis": lambda it: Ellipsis}[kind](parts)
