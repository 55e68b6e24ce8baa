"""The signature is the schema."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pytest
from pydantic import Field

from tfopt import errors, options

if TYPE_CHECKING:
    import tensorflow as tf

Share = Annotated[float, Field(ge=0, lt=1)]


@options.checked
def shrink(
    model: tf.Module,
    data: Any = None,
    *,
    sparsity: Share,
    schedule: Literal["slow", "fast"] = "slow",
    where: str | Sequence[str] | Callable | None = None,
    width: Annotated[int, Field(ge=1)] = 16,
) -> tuple:
    """Returns what it was given."""
    return model, data, sparsity, schedule, where, width


def test_only_keyword_only_parameters_are_options():
    assert list(options.options_of(shrink)) == ["sparsity", "schedule", "where", "width"]
    assert options.options_of(shrink)["sparsity"].default is options.REQUIRED
    assert options.options_of(shrink)["width"].default == 16


def test_an_annotation_of_what_is_not_imported_is_no_obstacle():
    assert shrink(1, sparsity=0.5) == (1, None, 0.5, "slow", None, 16)


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("sparsity", 1.2, "should be less than 1"),
        ("sparsity", -0.1, "should be greater than or equal to 0"),
        ("sparsity", float("nan"), "should be"),
        ("sparsity", "0.5", "should be a valid number"),
        ("sparsity", True, "should be a valid number"),
        ("sparsity", 10**400, "should be a valid number"),
        ("schedule", "slwo", "should be 'slow' or 'fast'"),
        ("width", 1.0, "should be a valid integer"),
        ("width", True, "should be a valid integer"),
        ("width", 0, "should be greater than or equal to 1"),
        ("where", 3, "should be a valid string or should be"),
    ],
)
def test_a_wrong_value_is_refused_with_what_it_should_be(name, value, problem):
    assert options.problem_with(shrink, name, value).startswith(problem)
    with pytest.raises(errors.OptionError, match=f"shrink: {name} = "):
        shrink(None, **{"sparsity": 0.5, name: value})


@pytest.mark.parametrize(
    ("name", "value"), [("sparsity", 0), ("sparsity", 0.99), ("where", "conv*"), ("where", ["a", "b"]), ("where", len), ("where", None)]
)
def test_a_right_value_is_accepted(name, value):
    assert options.problem_with(shrink, name, value) is None


def test_all_problems_are_found_at_once():
    found = options.problems_with(shrink, {"widht": 3, "schedule": "never", "two\nlines": 1})
    assert len(found) == 4
    assert found[0].startswith("widht: unknown option; did you mean 'width'?")
    assert r"'two\nlines': unknown option" in found[1]
    assert "sparsity: missing; it has no default" in found
    assert "schedule = 'never': should be 'slow' or 'fast'" in found


def test_a_missing_argument_is_pythons_own_error_and_for_an_unknown_one_there_is_the_nearest():
    with pytest.raises(TypeError, match="missing 1 required keyword-only argument: 'sparsity'"):
        shrink(None)
    with pytest.raises(errors.OptionError, match="widht: unknown option; did you mean 'width'"):
        shrink(None, sparsity=0.5, widht=3)


def test_an_enormous_value_makes_no_enormous_message():
    assert len(options.problems_with(shrink, {"sparsity": "x" * 10_000})[0]) < 200
    assert "thousands of digits" in options.problems_with(shrink, {"sparsity": 16**5000})[0]


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (Share, "float (at least 0, less than 1)"),
        (int | None, "int or None"),
        (Literal["a", "b"], "'a' or 'b'"),
        (str | Sequence[str] | Callable | None, "str or list of str or function or None"),
        (list[str] | tuple[str, ...] | None, "list of str or None"),
        (Share | None, "float (at least 0, less than 1) or None"),
    ],
)
def test_types_are_said_in_words(annotation, words):
    assert options.type_in_words(annotation) == words
