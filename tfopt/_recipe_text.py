"""The writing half of `recipes`: a Recipe as TOML text."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import tomli_w

from . import _toml
from .errors import RecipeError, shown
from .types import Call, Fit, ModelFile, Recipe

# What a fit does not take from [fit] where it has another value of the key: there it means nothing, or something else.
FOLLOWERS = {"schedule": ("decay", "decay_epochs"), "optimizer": ("momentum",)}
_UNSAID = tuple(field.name for field in dataclasses.fields(Fit) if field.default is None)  # whose None is said by leaving them out


def text_of(recipe: Recipe) -> str:
    """A recipe as TOML text, which reads back to the same recipe.

    Raises:
      RecipeError: it holds what TOML has no word for, such as an array in memory or a function.
    """
    problems: list[str] = []
    table = _writable(table_of(recipe), "", problems)
    named = {f"steps[{index}]": step for index, step in enumerate(recipe.steps)}
    for where, step in (({"unfreeze": recipe.unfreeze} if recipe.unfreeze else {}) | named).items():
        fit = step.options.get("fit")
        for name in _UNSAID if fit and recipe.fit else ():
            usual = getattr(recipe.fit, name)
            follows = any(name in names and getattr(fit, key) != getattr(recipe.fit, key) for key, names in FOLLOWERS.items())
            if getattr(fit, name) is None and usual is not None and not follows:
                problems.append(f"{where}.fit.{name} = None: TOML has no word for it, and left out it would be {usual}")
    if problems:
        raise RecipeError(f"recipe {shown(recipe.name)}", problems)
    return tomli_w.dumps(table)


def table_of(recipe: Recipe) -> dict[str, Any]:
    """A recipe as the tree that its TOML text says."""
    table = {
        "name": recipe.name,
        "note": recipe.note,
        "seed": recipe.seed,
        "quick": recipe.quick,
        "strategy": _table_of_call(recipe.strategy, recipe) if recipe.strategy.options else recipe.strategy.use,
        "data": _table_of_call(recipe.data, recipe),
        "task": recipe.task and (_table_of_call(recipe.task, recipe) if recipe.task.options else recipe.task.use),
        "model": _table_of_file(recipe.model) if isinstance(recipe.model, ModelFile) else _table_of_call(recipe.model, recipe),
        "fit": recipe.fit and _table_of_fit(recipe.fit, recipe),
        "unfreeze": recipe.unfreeze and _table_of_options(recipe.unfreeze, recipe),
        "steps": [_table_of_call(step, recipe) for step in recipe.steps],
        "export": {"formats": [_table_of_call(call, recipe) if call.options else call.use for call in recipe.formats]},
        "embeddings": recipe.embeddings,
        "limits": {label: dict(limits) for label, limits in recipe.limits.items()},
    }
    optional = {"note": "", "quick": False, "task": None, "fit": None, "unfreeze": None, "steps": [], "embeddings": False, "limits": {}}
    return {key: value for key, value in table.items() if key not in optional or value != optional[key]}


def _table_of_call(call: Call, recipe: Recipe) -> dict[str, Any]:
    options = _table_of_options(call, recipe)
    if call is recipe.data and options.get("seed") == recipe.seed:
        del options["seed"]  # it came from the recipe's and follows it
    return {"use": call.use, **options}


def _table_of_options(call: Call, recipe: Recipe) -> dict[str, Any]:
    return {key: _table_of_fit(value, recipe) if isinstance(value, Fit) else value for key, value in call.options.items()}


def _table_of_file(file: ModelFile) -> dict[str, Any]:
    return {"path": file.path, **({"trust": True} if file.trust else {})}


def _table_of_fit(fit: Fit, recipe: Recipe) -> dict[str, Any]:
    table = {field.name: getattr(fit, field.name) for field in dataclasses.fields(fit)}
    if fit.seed in (recipe.seed, 0):
        del table["seed"]  # it follows the recipe's; another one stays, to be refused
    return table


def _writable(value: Any, where: str, problems: list[str]) -> Any:
    if isinstance(value, Mapping):
        told = {key: inner for key, inner in value.items() if key not in _UNSAID or inner is not None}
        return {key: _writable(inner, _toml.join(where, key), problems) for key, inner in told.items()}
    if isinstance(value, list | tuple):
        return [_writable(inner, f"{where}[{index}]", problems) for index, inner in enumerate(value)]
    if not isinstance(value, str | bool | int | float):
        problems.append(f"{where}: TOML has no word for {shown(value)}")
    return value
