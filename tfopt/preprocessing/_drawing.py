"""What the augmentations share: seeds, random numbers of which each example has its own, and what they ask of a batch of images."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, Field

from .. import backend
from ..errors import DataError

Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Chance = Annotated[float, Field(ge=0, le=1)]
Side = Annotated[int, Field(ge=1)]
Size = Annotated[Side | Annotated[list[Side], Field(min_length=2, max_length=2)], "int or list of height and width, at least 1"]


def _in_order(values: list[float] | tuple[float, ...]) -> list[float] | tuple[float, ...]:
    if len(values) != 2 or not 0 < values[0] <= values[1] < float("inf"):
        raise ValueError("should be two numbers above 0, the smaller one first")
    return values


def _shares(values: list[float] | tuple[float, ...]) -> list[float] | tuple[float, ...]:
    if _in_order(values)[1] > 1:
        raise ValueError("should be two numbers from 0 to 1, the smaller one first")
    return values


Range = Annotated[list[float] | tuple[float, ...], AfterValidator(_in_order), "list of two numbers above 0"]
Shares = Annotated[list[float] | tuple[float, ...], AfterValidator(_shares), "list of two numbers above 0 and up to 1"]


def split(seed: Any, count: int = 2) -> list[Any]:
    """`count` seeds, independent of each other, from one."""
    tf = backend.tensorflow()
    return tf.unstack(tf.random.experimental.stateless_split(seed, count))


def uniform(seed: Any, count: Any, low: Any = 0.0, high: Any = 1.0) -> Any:
    """(count,) float32, evenly from `low` up to `high`, both numbers or (count,) tensors."""
    return low + (high - low) * backend.tensorflow().random.stateless_uniform([count], seed)


def integers(seed: Any, count: Any, low: int, high: Any) -> Any:
    """(count,) int32, evenly from `low` to `high` - 1."""
    tf = backend.tensorflow()
    return tf.random.stateless_uniform([count], seed, low, high, tf.int32)


def happens(seed: Any, count: Any, chance: float) -> Any:
    """(count,) bool, each true with this chance."""
    return backend.tensorflow().random.stateless_uniform([count], seed) < chance


def images(x: Any, step: str) -> Any:
    """A batch of images (n, height, width, channels) of one size as a tensor of their own dtype.

    Raises:
      DataError: it is something else.
    """
    if isinstance(x, dict):
        raise DataError(f"{step}: takes images, and the examples have {len(x)} inputs ({', '.join(x)}); leave it out of preprocess")
    x = backend.tensorflow().convert_to_tensor(x)
    if x.shape.rank != 4 or None in x.shape[1:]:
        raise DataError(f"{step}: takes images (height, width, channels) of one size, got examples of shape {tuple(x.shape[1:])}")
    return x


def colored(x: Any, step: str) -> Any:
    """The same, of floats in 0..1 and one channel or three.

    Raises:
      DataError: it is something else.
    """
    x = images(x, step)
    if not x.dtype.is_floating:
        raise DataError(f"{step}: takes brightness as floats in 0..1, got {x.dtype.name}; put rescale in front of it")
    if x.shape[-1] not in (1, 3):
        raise DataError(f"{step}: takes images of 1 channel (gray) or 3 (RGB), got examples of shape {tuple(x.shape[1:])}")
    return x


def per_image(values: Any, rank: int = 4) -> Any:
    """(n,) -> (n, 1, ...), to be multiplied with a batch of this rank; one number for all stays as it is."""
    return values if isinstance(values, int | float) else backend.tensorflow().reshape(values, [-1, *[1] * (rank - 1)])
