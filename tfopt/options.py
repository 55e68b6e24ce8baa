"""The signature is the schema: a function's keyword-only parameters, read and checked from their annotations by pydantic.

Datasets, models, techniques and formats are plain functions. What a recipe may say of one, what `tfopt list` prints of it, and what
is refused when it is called from Python all come from here, and so from its signature alone.
"""

from __future__ import annotations

import collections.abc
import functools
import inspect
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pydantic

from .errors import OptionError, nearest, shown, shown_key

REQUIRED = inspect.Parameter.empty


@dataclass(frozen=True)
class Option:
    """A keyword-only parameter: its name, its resolved annotation and its default (REQUIRED without one)."""

    name: str
    annotation: Any
    default: Any


@functools.cache
def options_of(function: Callable) -> Mapping[str, Option]:
    """The options of a function, by name. Each annotation is resolved alone, so that the others may name what is not loaded."""
    function = inspect.unwrap(function)
    return {
        parameter.name: Option(parameter.name, _resolve(parameter.annotation, function), parameter.default)
        for parameter in inspect.signature(function).parameters.values()
        if parameter.kind is parameter.KEYWORD_ONLY
    }


def _resolve(annotation: Any, function: Callable) -> Any:
    holder = type("Holder", (), {"__annotations__": {"it": annotation}, "__module__": function.__module__})
    return typing.get_type_hints(holder, globalns=function.__globals__, include_extras=True)["it"]


@functools.cache
def _adapter(function: Callable, name: str) -> pydantic.TypeAdapter:
    return pydantic.TypeAdapter(options_of(function)[name].annotation, config={"arbitrary_types_allowed": True})


def problem_with(function: Callable, name: str, value: Any) -> str | None:
    """What is wrong with a value for an option, as the end of a sentence; None where nothing is.

    >>> problem_with(prune, "sparsity", 1.2)
    'should be less than 1'
    """
    return _problem(_adapter(function, name), value)


def problem_of_type(annotation: Any, value: Any) -> str | None:
    """What is wrong with a value for an annotation, as the end of a sentence; None where nothing is.

    >>> problem_of_type(int, "5")
    'should be a valid integer'
    """
    return _problem(pydantic.TypeAdapter(annotation), value)


def _problem(adapter: pydantic.TypeAdapter, value: Any) -> str | None:
    value = value.item() if isinstance(value, np.generic) else value  # a number of numpy's is as good as Python's
    try:
        adapter.validate_python(value, strict=True)
    except pydantic.ValidationError as error:
        found = error.errors(include_url=False)
        of_value = [
            one for one in found if not one["type"].endswith(("_type", "is_instance_of"))
        ]  # of several kinds the one that the value is of
        return " or ".join(dict.fromkeys(_plainly(one) for one in of_value or found))
    return None


def _plainly(error: Mapping[str, Any]) -> str:
    where = ".".join(str(part) for part in error["loc"] if isinstance(part, int))
    text = error["msg"].removeprefix("Input ").removeprefix("Value error, ")
    return f"element {where} {text}" if where else text


def problems_with(function: Callable, given: Mapping[str, Any]) -> list[str]:
    """Everything that is wrong with a set of options: unknown names, missing ones, wrong types and values; a sentence each."""
    known = options_of(function)
    problems = [f"{shown_key(name)}: unknown option; {nearest(name, known)}" for name in given if name not in known]
    problems += [f"{o.name}: missing; it has no default" for o in known.values() if o.default is REQUIRED and o.name not in given]
    for name, value in given.items():
        if name in known and (problem := problem_with(function, name, value)):
            problems.append(f"{name} = {shown(value)}: {problem}")
    return problems


def checked(function: Callable) -> Callable:
    """A decorator: calls from Python are refused with the same sentences as recipes are.

    Raises (on call):
      OptionError: a keyword-only argument of the wrong type or out of range, or one that there is not.
    """
    positional = {name for name, it in inspect.signature(function).parameters.items() if it.kind is it.POSITIONAL_OR_KEYWORD}

    @functools.wraps(function)
    def call(*args, **kwargs):
        problems = problems_with(function, {k: v for k, v in kwargs.items() if k not in positional})
        problems = [p for p in problems if not p.endswith("missing; it has no default")]  # Python's own TypeError says it
        if problems:
            raise OptionError(f"{function.__name__}: " + "; ".join(problems))
        return function(*args, **kwargs)

    return call


def type_in_words(annotation: Any) -> str:
    """An annotation as `tfopt list` prints it.

    >>> type_in_words(Annotated[float, Field(ge=0, lt=1)] | None)
    'float (at least 0, less than 1) or None'
    """
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        if words := next((each for each in annotation.__metadata__ if isinstance(each, str)), None):
            return words  # an annotation whose values no type tells
        bounds = ", ".join(_bounds(annotation.__metadata__))
        return type_in_words(inner[0]) + (f" ({bounds})" if bounds else "")
    if origin in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(map(type_in_words, inner)))
    if origin is typing.Literal:
        return " or ".join(map(repr, inner))
    if origin is collections.abc.Callable or annotation is collections.abc.Callable:
        return "function"
    if isinstance(origin, type) and issubclass(origin, collections.abc.Mapping):
        return f"table of {type_in_words(inner[1])}"
    if isinstance(origin, type) and issubclass(origin, collections.abc.Sequence):
        return f"list of {type_in_words(inner[0])}"
    return "None" if annotation is type(None) else getattr(annotation, "__name__", str(annotation))


_BOUNDS = {"gt": "above", "ge": "at least", "lt": "less than", "le": "at most", "min_length": "at least long", "max_length": "at most long"}


def _bounds(metadata: tuple[Any, ...]) -> list[str]:
    constraints = [c for entry in metadata for c in (entry.metadata if isinstance(entry, pydantic.fields.FieldInfo) else [entry])]
    return [f"{words} {getattr(c, key)}" for key, words in _BOUNDS.items() for c in constraints if getattr(c, key, None) is not None]
