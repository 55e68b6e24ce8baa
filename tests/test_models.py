"""Builders: their published sizes, fixed names, options, and that each goes the whole way to int8."""

from __future__ import annotations

import re

import nets
import numpy as np
import pytest

import tfopt
from tfopt import backend, models, options
from tfopt.errors import DataError, OptionError


@pytest.fixture(params=sorted(models.MODELS))
def builder(request):
    return models.MODELS[request.param]


def test_the_parameter_count_in_the_docstring_is_true(builder):
    call, count = re.search(r">>> \w+(\(.*\))\.count_params\(\)\n +(\d+)", builder.__doc__).groups()
    assert eval(f"build{call}", {"build": builder}).count_params() == int(count)


def test_two_builds_have_the_same_names(builder):
    first, second = (builder((16, 16, 3), 7) for _ in range(2))
    assert [w.name for w in first.weights] == [w.name for w in second.weights]
    assert [layer.name for layer in first.layers][-2:] == ["logits", "probabilities"]
    assert first.output_shape == (None, 7)


def test_the_weights_follow_from_the_seed(builder):
    def built(seed):
        with backend.seeded(seed):
            return builder((8, 8, 1), 10).get_weights()

    assert all(np.array_equal(a, b) for a, b in zip(built(3), built(3), strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(built(3), built(4), strict=True))


def test_every_layer_is_quantized_and_computes_in_int8(builder, digits):
    model = nets.randomized(builder((8, 8, 1), 10))
    assert all(choice.treated for choice in tfopt.techniques.PLANS["quantize_aware"](model))
    measured = tfopt.measure(tfopt.convert(tfopt.quantize_aware(model, digits), "int8"))
    assert not measured.float_operations and measured.int8_operations > 0


@pytest.mark.parametrize(
    "name, wrong",
    [
        ("resnet", {"depth": 9}),
        ("convnet", {"width": 0}),
        ("convnet", {"dropout": 1.0}),
        ("mlp", {"hidden": [0]}),
        ("mlp", {"hidden": "8"}),
    ],
)
def test_options_out_of_range_are_refused(name, wrong):
    assert options.problems_with(models.MODELS[name], wrong)  # found by `tfopt check`
    with pytest.raises(OptionError, match=next(iter(wrong))):
        models.MODELS[name]((8, 8, 1), 10, **wrong)


@pytest.mark.parametrize("name", ["convnet", "resnet"])
def test_examples_that_are_no_images_are_refused(name):
    with pytest.raises(DataError, match=r"\(12,\); use mlp"):
        models.MODELS[name]((12,), 3)


def test_every_option_has_a_default(builder):
    assert all(option.default is not options.REQUIRED for option in options.options_of(builder).values())


def test_deep_nets_on_tiny_images_stop_pooling():
    assert tfopt.models.convnet((4, 4, 1), 3, blocks=4).output_shape == (None, 3)
    assert tfopt.models.resnet((8, 8, 1), 3, depth=14, width=4).output_shape == (None, 3)
