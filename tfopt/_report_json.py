"""A report's nouns as plain trees for JSON, and back."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import pydantic

from .results import Row
from .types import Fit, Recipe

VERSION = 1  # of the file's form; goes up when an older reader could not read it


def plain(value: Any) -> Any:
    """The value as dicts, lists, strings, numbers, booleans and None. NaN and the infinities, which JSON lacks, become their names."""
    if isinstance(value, bool | int | str | None):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}[str(value)]
    if dataclasses.is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return _named(value)


def _named(value: Any) -> str:
    """What a recipe made in Python may hold and a file can't, by a name that tells two of them apart and is the same in the next run."""
    if isinstance(value, np.ndarray):
        return f"{value.dtype} array {value.shape}, sha256 {hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()}"
    if callable(value):
        return f"{value.__module__}.{value.__qualname__}" if hasattr(value, "__qualname__") else f"a {type(value).__qualname__}"
    return repr(value)


def tree_of_row(row: Row) -> dict[str, Any]:
    """A row for JSON: all its fields but the file's bytes, and what readers of the JSON would otherwise have to work out."""
    artifact = plain(dataclasses.replace(row.artifact, content=b"")) | {"sha256": row.artifact.sha256}
    del artifact["content"]
    return {
        "artifact": artifact,
        "verdict": plain(row.verdict) | {"drop": plain(row.verdict.drop)},
        "timing": plain(row.timing) | {name: plain(getattr(row.timing, name)) for name in ("median_ms", "p90_ms", "p99_ms")},
        "measures": plain(row.measures) | {"int8_operations": row.measures.int8_operations},
    }


def row_of_tree(tree: Mapping[str, Any], content: bytes) -> Row:
    """The row that `tree_of_row` was given.

    Raises:
      pydantic.ValidationError: the tree is not that of a row.
    """
    return pydantic.TypeAdapter(Row).validate_python({**tree, "artifact": {**tree["artifact"], "content": content}})


def recipe_of_tree(tree: Mapping[str, Any]) -> Recipe:
    """The recipe whose `plain` the tree is; what a file can't hold stays the name that it was given.

    Raises:
      pydantic.ValidationError: the tree is not that of a recipe.
    """
    recipe = pydantic.TypeAdapter(Recipe).validate_python(tree)
    steps = tuple(dataclasses.replace(step, options=_with_fit(step.options)) for step in recipe.steps)
    unfreeze = recipe.unfreeze and dataclasses.replace(recipe.unfreeze, options=_with_fit(recipe.unfreeze.options))
    return dataclasses.replace(recipe, unfreeze=unfreeze, steps=steps, limits=dict(tree["limits"]))  # validation made 40_000 bytes 40000.0


def _with_fit(options: Mapping[str, Any]) -> dict[str, Any]:
    fit = options.get("fit")
    return {**options, "fit": pydantic.TypeAdapter(Fit).validate_python(fit)} if isinstance(fit, Mapping) else dict(options)
