"""A case of the bridge's matrix, and what its inputs are drawn from."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

WORDS = ("red", "green", "blue", "a red cat", "The green, green grass!", "nothing known")


@dataclasses.dataclass(frozen=True)
class Case:
    """A model of the matrix.

    name: what the table calls it; "Conv2D: strides" promises that the model holds a layer of class Conv2D.
    build: () -> a Keras 3 model.
    values: what the inputs are drawn from, a kind of `values_of`; for several inputs a kind each, or one for all.
    custom_objects: name -> Keras 3 class, as the bridge is given them.
    random: whether the weights are to be randomized: not tables that a layer computed from its configuration.
    """

    name: str
    build: Callable[[], Any]
    values: str | Sequence[str] = "normal"
    custom_objects: Mapping[str, Any] | None = None
    random: bool = True


def values_of(kind: str, shape: tuple[int, ...], dtype: str, generator: np.random.Generator) -> np.ndarray:
    """Random values for an input.

    "normal" is normal, or integers below 8 where the dtype is an integer's; "unit" 0 to 1; "positive" 0.5 to 2; "images" 0 to 255;
    "steps" normal with zeros in the last two steps; "padded" 1 to 7 with 0 in the last two places; "words" sentences.
    """
    if kind == "words":
        return generator.choice(WORDS, shape)
    if kind == "steps":
        values = generator.normal(size=shape)
        values[:, -2:] = 0
    elif kind == "padded":
        values = generator.integers(1, 8, shape)
        values[..., -2:] = 0
    elif kind in RANGES:
        values = generator.uniform(*RANGES[kind], shape)
    elif dtype == "bool":
        values = generator.random(shape) < 0.5
    elif "int" in dtype:
        values = generator.integers(0, 8, shape)
    else:
        values = generator.normal(size=shape)
    return values.astype(dtype)


RANGES = {"images": (0, 255), "unit": (0, 1), "positive": (0.5, 2)}
