"""Builders: their published sizes, fixed names, options, and that each goes the whole way to int8."""

from __future__ import annotations

import re

import nets
import numpy as np
import pytest

import tfopt
from tfopt import backend, models, options, pipelines, runtime
from tfopt.errors import DataError, OptionError

IMAGE, TOKENS, SERIES = (16, 16, 3), (12,), (32, 3)
SMALL = {"words": 50}
# What examples each builder takes, and options that keep it small; the first case is that of most tests.
CASES = {
    "bilstm": [(TOKENS, SMALL), (SERIES, {"depth": 2, "dropout": 0.1})],
    "conv1d": [(SERIES, {}), (TOKENS, SMALL)],
    "conv3d": [((4, 8, 8, 3), {"width": 4})],
    "convnet": [(IMAGE, {}), ((4, 4, 1), {"blocks": 4, "dropout": 0.5})],
    "densenet": [(IMAGE, {"blocks": [2, 2], "growth": 4}), ((64, 64, 3), {"blocks": [1, 1], "growth": 4})],
    "dscnn": [((49, 10, 1), {"width": 8})],
    "efficientnet_lite": [((32, 32, 3), {}), ((64, 64, 3), {"version": 1, "dropout": 0.2})],
    "gru": [(TOKENS, SMALL), (SERIES, {})],
    "lenet5": [(IMAGE, {}), ((28, 28, 1), {"dropout": 0.2})],
    "linear": [(IMAGE, {}), ((7,), {})],
    "lstm": [(TOKENS, SMALL), ((20, 8, 1), {"depth": 2})],
    "mlp": [(IMAGE, {}), ((7,), {"dropout": 0.5})],
    "mobilenet": [
        (IMAGE, {"version": 1, "alpha": 0.25}),
        (IMAGE, {"version": 2, "alpha": 0.25}),
        (IMAGE, {"version": 3, "alpha": 0.25}),
        ((64, 64, 3), {"version": 3, "alpha": 0.25, "size": "large"}),
    ],
    "resnet": [
        (IMAGE, {}),
        ((8, 8, 1), {"depth": 14, "width": 4}),
        (IMAGE, {"version": 2, "width": 4}),
        (IMAGE, {"depth": 18, "width": 4}),
        ((64, 64, 3), {"depth": 50, "width": 4, "version": 2}),
    ],
    "textcnn": [(TOKENS, SMALL), (SERIES, {"sizes": [3], "dropout": 0.0})],
    "transformer": [(TOKENS, SMALL), (SERIES, {"dropout": 0.0})],
    "two_input": [
        ({"image": IMAGE, "row": (5,)}, {}),
        ({"sound": (20, 8, 1), "text": (6,), "wave": (40, 2)}, {"texts": ["text"], **SMALL, "dropout": 0.1}),
    ],
    "vgg": [(IMAGE, {"width": 4, "hidden": [16]}), (IMAGE, {"width": 2, "depth": 16, "dropout": 0.5})],
    "vit": [(IMAGE, {"depth": 2, "width": 24})],
}
EVERY = [pytest.param(name, *case, id=f"{name}-{number}") for name, cases in CASES.items() for number, case in enumerate(cases)]
# The layers that quantization-aware training leaves in float, by what their names begin and end with: all others are int8.
IN_FLOAT = {
    "bilstm": {"bilstm1", "bilstm2"},
    "conv3d": {f"{kind}{number}" for kind in ("conv", "relu") for number in (1, 2, 3)},
    "gru": {"gru1"},
    "lstm": {"lstm1", "lstm2"},
    "transformer": {"norm", *(f"block{number}_norm{which}" for number in (1, 2) for which in (1, 2))},
    "vit": {"norm", *(f"block{number}_norm{which}" for number in (1, 2) for which in (1, 2))},
}


def built(name, shape, given, classes=7):
    return models.MODELS[name](shape, classes, **given)


def test_every_builder_has_its_cases():
    assert list(CASES) == sorted(models.MODELS)


@pytest.mark.parametrize("name", models.MODELS)
def test_the_sizes_in_the_docstring_are_true(name):
    builder = models.MODELS[name]
    call, parameters, macs = re.search(r">>> model = \w+(\(.*\))\n.*\n +\((\d+), (\d+)\)", builder.__doc__).groups()
    model = eval(f"build{call}", {"build": builder})
    assert (model.count_params(), tfopt.inspect(model).macs) == (int(parameters), int(macs))


# Parameters as published, with the two moving statistics of each channel of a BatchNorm.
PUBLISHED = [
    ("resnet", {"depth": 18}, 11_689_512 + 2 * 4_800),
    ("resnet", {"depth": 34}, 21_797_672 + 2 * 8_512),
    ("resnet", {"depth": 50}, 25_557_032 + 2 * 26_560),
    ("mobilenet", {"version": 2}, 3_504_872 + 2 * 17_056),
    ("mobilenet", {"version": 1}, 4_253_864),
    ("efficientnet_lite", {}, 4_652_008 + 2 * 21_008),
    ("densenet", {"blocks": [6, 12, 24, 16], "growth": 32}, 7_978_856 + 2 * 41_824),
]


@pytest.mark.parametrize(("name", "given", "parameters"), PUBLISHED)
def test_the_published_nets_have_their_published_sizes(name, given, parameters):
    assert models.MODELS[name]((224, 224, 3), 1000, **given).count_params() == parameters


@pytest.mark.parametrize(("name", "shape", "given"), EVERY)
def test_two_builds_have_the_same_names(name, shape, given):
    first, second = (built(name, shape, given) for _ in range(2))
    assert [w.name for w in first.weights] == [w.name for w in second.weights]
    assert [layer.name for layer in first.layers][-2:] == ["logits", "probabilities"]
    assert first.output_shape == (None, 7)
    assert not any(type(layer).__name__ in ("Lambda", "TFOpLambda", "SlicingOpLambda") for layer in first.layers)


@pytest.mark.parametrize("name", CASES)
def test_the_weights_follow_from_the_seed(name):
    def weights(seed):
        with backend.seeded(seed):
            return built(name, *CASES[name][0]).get_weights()

    first, again, other = weights(3), weights(3), weights(4)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize(("name", "shape", "given"), EVERY)
def test_every_layer_is_quantized_or_known_to_stay_float(name, shape, given):
    plan = tfopt.techniques.PLANS["quantize_aware"](built(name, shape, given))
    left = {one.layer for one in plan if not one.treated and "folded into" not in one.reason and "dropped: " not in one.reason}
    assert left <= IN_FLOAT.get(name, set())


def data_for(shape):
    """Examples of this shape: of texts word indices below 50, else numbers of a normal distribution."""
    generator = np.random.default_rng(0)

    def some(shape, is_text):
        if is_text:
            return generator.integers(0, 50, (60, *shape)).astype(np.int32)
        return generator.normal(size=(60, *shape)).astype(np.float32)

    x = {name: some(one, name == "text") for name, one in shape.items()} if isinstance(shape, dict) else some(shape, shape == TOKENS)
    return tfopt.datasets.arrays(x=x, y=np.arange(60) % 7, calibration=20)


QUICK = {"convnet-0", "mlp-0", "resnet-0", "mobilenet-1"}


@pytest.mark.parametrize(
    ("name", "shape", "given"),
    [case if case.id in QUICK else pytest.param(*case.values, id=case.id, marks=pytest.mark.slow) for case in EVERY],
)
def test_each_goes_the_whole_way_to_int8(name, shape, given):
    data = data_for(shape)
    model = nets.randomized(built(name, shape, given))
    artifact = tfopt.convert(tfopt.quantize_aware(model, data), "int8")
    measured = tfopt.measure(artifact)
    assert measured.int8_operations > 0 and bool(measured.float_operations) == (name in IN_FLOAT)
    x = pipelines.to_arrays(data.test)[0]
    assert runtime.Session(artifact).run(x).shape == (len(pipelines.to_arrays(data.test)[1]), 7)


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


@pytest.mark.parametrize("name", ["convnet", "densenet", "dscnn", "efficientnet_lite", "lenet5", "mobilenet", "resnet", "vgg", "vit"])
def test_examples_that_are_no_images_are_refused(name):
    with pytest.raises(DataError, match=r"\(12,\); use mlp"):
        models.MODELS[name]((12,), 3)


@pytest.mark.parametrize(
    ("name", "shape", "given", "message"),
    [
        ("lstm", (8, 8, 3), {}, "takes word indices .*, series .* or features of sound"),
        ("conv3d", (8, 8, 3), {}, "takes clips"),
        ("lenet5", (8, 8, 1), {}, "12 x 12 pixels or more"),
        ("vit", (10, 10, 3), {}, "no whole patches of 4x4"),
        ("two_input", (8,), {}, "shapes of two inputs by name"),
        ("two_input", {"a": (8,), "b": (8, 8, 8, 8)}, {}, "the input 'b' is"),
        ("two_input", {"a": (8,), "b": (8,)}, {"texts": ["c"]}, "no input 'c', but a, b"),
        *((name, {"a": (8,), "b": (8,)}, {}, f"{name} takes one input") for name in sorted({*CASES} - {"two_input"})),
    ],
)
def test_examples_of_another_shape_are_refused(name, shape, given, message):
    with pytest.raises(DataError, match=message):
        models.MODELS[name](shape, 3, **given)


@pytest.mark.parametrize("name", CASES)
def test_every_option_has_a_default(name):
    assert all(option.default is not options.REQUIRED for option in options.options_of(models.MODELS[name]).values())


def test_deep_nets_on_tiny_images_stop_pooling():
    assert tfopt.models.convnet((4, 4, 1), 3, blocks=4).output_shape == (None, 3)
    assert tfopt.models.resnet((8, 8, 1), 3, depth=14, width=4).output_shape == (None, 3)
