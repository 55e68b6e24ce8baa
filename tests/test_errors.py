"""The errors' tree and the small sentences that messages are made of."""

from __future__ import annotations

import pytest

import tfopt
from tfopt import errors


def test_every_error_is_public_and_stands_in_the_tree_of_the_docstring():
    children = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, errors.TfoptError)]
    assert len(children) == 10
    for error in children:
        assert getattr(tfopt, error.__name__) is error
        assert error.__name__ in errors.__doc__


def test_a_recipe_error_with_one_problem_is_one_line():
    error = errors.RecipeError("a.toml", ["name: missing"])
    assert str(error) == "a.toml: name: missing"
    assert error.problems == ("name: missing",)


def test_a_recipe_error_with_several_problems_lists_them():
    error = errors.RecipeError("a.toml", ["name: missing", "data: missing"])
    assert str(error) == "a.toml: 2 problems\n  - name: missing\n  - data: missing"


def test_an_option_error_is_a_value_error():
    with pytest.raises(ValueError, match="epochs = 0: should be a whole number, at least 1"):
        tfopt.Fit(epochs=0)


def test_nearest_names_the_nearest_and_all():
    assert errors.nearest("digit", ["digits", "cifar10"]) == "did you mean 'digits'? (there are: cifar10, digits)"
    assert errors.nearest("zebra", ["digits", "cifar10"]) == "there are: cifar10, digits"
    assert errors.nearest("zebra", []) == "there are none"


@pytest.mark.parametrize("value", ["x" * 1000, "two\nlines\x1b[31m", 16**5000, ["a"] * 1000, 1.2, None], ids=lambda v: type(v).__name__)
def test_shown_is_one_short_line_without_control_characters(value):
    text = errors.shown(value)
    assert len(text) <= 80
    assert text.isprintable()


def test_shown_keeps_what_is_short():
    assert errors.shown(1.2) == "1.2"
    assert errors.shown("digits") == "'digits'"


def test_an_odd_key_is_quoted_and_a_plain_one_is_not():
    assert errors.shown_key("learning_rate") == "learning_rate"
    assert errors.shown_key("a b\n") == r"'a b\n'"
    assert len(errors.shown_key("k" * 1000)) <= 80
