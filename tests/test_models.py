"""Builders: their published sizes, fixed names, options, and that each goes the whole way to int8."""

from __future__ import annotations

import dataclasses
import re

import nets
import numpy as np
import pytest

import tfopt
from tfopt import backend, models, options, pipelines, runtime, tasks
from tfopt.errors import DataError, OptionError

IMAGE, TOKENS, SERIES = (16, 16, 3), (12,), (32, 3)
SMALL = {"words": 50}
# What examples each builder takes, and options that keep it small; the first case is that of most tests.
CASES = {
    "autoencoder": [
        ((24,), {"hidden": [16, 8], "code": 4}),
        ((6, 4, 1), {"hidden": [12]}),
        ((28, 28, 1), {"kind": "convolutional", "hidden": [8, 8, 8]}),
        ((9, 5, 3), {"kind": "convolutional", "hidden": [4, 8]}),
        ((3, 1, 2), {"kind": "convolutional", "hidden": [4, 4, 4]}),
        ((48, 1), {"kind": "convolutional", "hidden": [4, 8]}),
        ((45, 2), {"kind": "convolutional", "hidden": [4, 8]}),
    ],
    "backbone": [((32, 32, 3), {"net": "MobileNet", "alpha": 0.25, "dropout": 0.1})],
    "bilstm": [(TOKENS, SMALL), (SERIES, {"depth": 2, "dropout": 0.1})],
    "conv1d": [(SERIES, {}), (TOKENS, SMALL)],
    "conv3d": [((4, 8, 8, 3), {"width": 4})],
    "convnet": [(IMAGE, {}), ((4, 4, 1), {"blocks": 4, "dropout": 0.5})],
    "ctc": [((32, 8, 1), {"width": 8, "blocks": 1}), ((32, 8, 1), {"width": 8, "blocks": 1, "units": 4, "dropout": 0.0})],
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
    "seq2seq": [({"text": (8,), "before": (6,)}, {"width": 8, "encoder": 1, "decoder": 1, "heads": 2, **SMALL})],
    "ssd": [
        ((32, 48, 3), {"alpha": 0.25, "strides": [8, 16], "anchors": 2}),
        ((40, 40, 1), {"alpha": 0.1, "strides": [32, 64, 128], "anchors": 1}),
        ((24, 24, 3), {"alpha": 0.1, "strides": [16], "anchors": 3}),
    ],
    "tcn": [(TOKENS, {"width": 8, "blocks": 3, **SMALL}), (TOKENS, {"width": 8, "blocks": 2, "size": 5, "dropout": 0.0, **SMALL})],
    "textcnn": [(TOKENS, SMALL), (SERIES, {"sizes": [3], "dropout": 0.0})],
    "transformer": [(TOKENS, SMALL), (SERIES, {"dropout": 0.0})],
    "two_input": [
        ({"image": IMAGE, "row": (5,)}, {}),
        ({"sound": (20, 8, 1), "text": (6,), "wave": (40, 2)}, {"texts": ["text"], **SMALL, "dropout": 0.1}),
    ],
    "unet": [(IMAGE, {"width": 4, "depth": 2}), ((9, 14, 1), {"width": 2, "depth": 3}), ((3, 1, 2), {"width": 2, "depth": 2})],
    "vgg": [(IMAGE, {"width": 4, "hidden": [16]}), (IMAGE, {"width": 2, "depth": 16, "dropout": 0.5})],
    "vit": [(IMAGE, {"depth": 2, "width": 24})],
}
EVERY = [pytest.param(name, *case, id=f"{name}-{number}") for name, cases in CASES.items() for number, case in enumerate(cases)]
# The layers that quantization-aware training leaves in float, by what their names begin and end with: all others are int8.
IN_FLOAT = {
    "bilstm": {"bilstm1", "bilstm2"},
    "conv3d": {f"{kind}{number}" for kind in ("conv", "relu") for number in (1, 2, 3)},
    "ctc": {"lstm"},
    "gru": {"gru1"},
    "lstm": {"lstm1", "lstm2"},
    "transformer": {"norm", *(f"block{number}_norm{which}" for number in (1, 2) for which in (1, 2))},
    "vit": {"norm", *(f"block{number}_norm{which}" for number in (1, 2) for which in (1, 2))},
}


# What those put out for an example of a shape that give no (classes,).
OUTPUTS = {
    "autoencoder": lambda shape, given, classes: shape,
    "ctc": lambda shape, given, classes: (shape[0] // 2, classes + 1),
    "seq2seq": lambda shape, given, classes: (*shape["before"], classes),
    "ssd": lambda shape, given, classes: (given["anchors"] * sum(places(shape, stride) for stride in given["strides"]), 4 + classes),
    "tcn": lambda shape, given, classes: (shape[0], classes),
    "unet": lambda shape, given, classes: (*shape[:2], classes),
}


def places(shape, stride):
    return -(-shape[0] // stride) * -(-shape[1] // stride)


def output_of(name, shape, given, classes=7):
    return OUTPUTS[name](shape, given, classes) if name in OUTPUTS else (classes,)


def stays_in_float(name, given):
    return name in IN_FLOAT and (name != "ctc" or "units" in given)


def every(quick):
    """A parameter for each case of each builder; `quick` ones ("resnet-0") run by default, the others with --slow."""
    found = [(f"{name}-{number}", (name, *case)) for name, cases in CASES.items() for number, case in enumerate(cases)]
    return [pytest.param(*case, id=key, marks=[] if key in quick else [pytest.mark.slow]) for key, case in found]


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
    ("backbone", {"net": "MobileNetV2"}, 3_538_984),
]


@pytest.mark.parametrize(("name", "given", "parameters"), PUBLISHED)
def test_the_published_nets_have_their_published_sizes(name, given, parameters):
    assert models.MODELS[name]((224, 224, 3), 1000, **given).count_params() == parameters


@pytest.mark.parametrize(("name", "shape", "given"), EVERY)
def test_two_builds_have_the_same_names(name, shape, given):
    first, second = (built(name, shape, given) for _ in range(2))
    assert [w.name for w in first.weights] == [w.name for w in second.weights]
    assert first.output_shape == (None, *output_of(name, shape, given))
    assert not any(type(layer).__name__ in ("Lambda", "TFOpLambda", "SlicingOpLambda") for layer in first.layers)


@pytest.mark.parametrize("activation", ["sigmoid", "linear"])
@pytest.mark.parametrize("name", sorted({*CASES} - {*OUTPUTS} | {"unet"}))
def test_every_builder_has_the_other_ends(name, activation):
    shape, given = CASES[name][0]
    model = built(name, shape, {**given, "activation": activation}, classes=3)
    ends = ["logits", "probabilities"] if activation == "sigmoid" else ["values"]
    assert [layer.name for layer in model.layers if layer.name in ("logits", "probabilities", "values")] == ends
    x = pipelines.to_arrays(data_for(name, shape).test)[0]
    outputs = model.predict(x, verbose=0)
    assert outputs.shape == (12, *output_of(name, shape, given, 3)) and np.isfinite(outputs).all()
    assert tasks.activation_of(model) == activation


@pytest.mark.parametrize("outputs", [1, 3])
def test_the_ends_are_softmax_sigmoid_and_the_values_themselves(outputs):
    x = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    kernel, bias = np.random.default_rng(1).normal(size=(4, outputs)), np.random.default_rng(2).normal(size=outputs)
    values = x @ kernel + bias
    wanted = {
        "softmax": np.exp(values) / np.exp(values).sum(1, keepdims=True),
        "sigmoid": 1 / (1 + np.exp(-values)),
        "linear": values,
    }
    for activation, expected in wanted.items():
        model = models.linear((4,), outputs, activation=activation)
        model.set_weights([kernel, bias])
        np.testing.assert_allclose(model(x), expected, rtol=1e-5, atol=1e-6)


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


def data_for(name, shape):
    """Examples of this shape, for the builder's task: of texts word indices below 50, else numbers of a normal distribution."""
    generator = np.random.default_rng(0)
    tasks_of = {"ctc": "transcription", "seq2seq": "sequence_to_sequence", "tcn": "generation"}
    if name in tasks_of:
        length = {"ctc": 3, "seq2seq": 6}.get(name) or shape[0]
        y = generator.integers(0, 7, (60, length))
        before = np.pad(y + 1, ((0, 0), (1, 0)))[:, :-1]
        x = {"seq2seq": lambda: {"text": generator.integers(0, 50, (60, *shape["text"])), "before": before}, "tcn": lambda: before}
        x = x.get(name, lambda: generator.normal(size=(60, *shape)))()
        names = ["[END]", *"abcdef"]
        return tfopt.datasets.arrays(x=x, y=y, calibration=20, task=tasks_of[name], classes=names)

    def some(shape, is_text):
        if is_text:
            return generator.integers(0, 50, (60, *shape)).astype(np.int32)
        return generator.normal(size=(60, *shape)).astype(np.float32)

    x = {name: some(one, name == "text") for name, one in shape.items()} if isinstance(shape, dict) else some(shape, shape == TOKENS)
    if name == "unet":
        return tfopt.datasets.arrays(x=x, y=generator.integers(0, 7, (60, *shape[:2])), task="segmentation", calibration=20)
    data = tfopt.datasets.arrays(x=x, y=np.arange(60) % 7, calibration=20)
    if name == "ssd":
        return with_boxes(data, CASES["ssd"])
    return tasks.autoencoding(data) if name == "autoencoder" else data


def with_boxes(data, cases):
    """A detector's data of the same pictures, with a box in the middle of each, and the anchors of the case of their shape."""
    boxes, parts = np.array([[0.25, 0.25, 0.75, 0.75]], np.float32), {}
    for part in ("train", "validation", "test", "calibration"):
        x, y = pipelines.to_arrays(getattr(data, part))
        y = {"boxes": np.tile(boxes, (len(y), 1, 1)), "labels": y[:, np.newaxis]}
        parts[part] = pipelines.examples(x, y)
    given = next(given for shape, given in cases if shape == data.input_shape)
    plain = dataclasses.replace(data, task="detection", **parts)
    return tasks.detection(plain, strides=given["strides"], scales=[2.0], ratios=[1.0 + number for number in range(given["anchors"])])


def int8_of(name, shape, given):
    """The measures of the builder's int8 file, what it gives for the test examples, and what the Keras model gives."""
    data = data_for(name, shape)
    model = nets.randomized(built(name, shape, given))
    artifact = tfopt.convert(tfopt.quantize_aware(model, data), "int8")
    x = pipelines.to_arrays(data.test)[0]
    return tfopt.measure(artifact), runtime.Session(artifact).run(x), model.predict(x, verbose=0)


QUICK = {"autoencoder-0", "convnet-0", "mlp-0", "resnet-0"}


@pytest.mark.parametrize(
    ("name", "shape", "given"),
    [case if case.id in QUICK else pytest.param(*case.values, id=case.id, marks=pytest.mark.slow) for case in EVERY],
)
def test_each_goes_the_whole_way_to_int8(name, shape, given):
    measured, outputs, expected = int8_of(name, shape, given)
    assert measured.int8_operations > 0 and bool(measured.float_operations) == stays_in_float(name, given)
    assert outputs.shape == expected.shape


@pytest.mark.parametrize("activation", ["sigmoid", "linear"])
@pytest.mark.parametrize(
    "name", ["mlp", "convnet", pytest.param("conv1d", marks=pytest.mark.slow), pytest.param("vit", marks=pytest.mark.slow)]
)
def test_each_end_goes_to_int8(name, activation):
    shape, given = CASES[name][0]
    measured, outputs, expected = int8_of(name, shape, {**given, "activation": activation})
    assert bool(measured.float_operations) == (name in IN_FLOAT)
    assert np.abs(outputs - expected).mean() < 0.1 * expected.std()


@pytest.mark.parametrize(
    "name, wrong",
    [
        ("resnet", {"depth": 9}),
        ("convnet", {"width": 0}),
        ("convnet", {"dropout": 1.0}),
        ("mlp", {"hidden": [0]}),
        ("mlp", {"hidden": "8"}),
        ("mlp", {"activation": "relu"}),
        ("autoencoder", {"kind": "deep"}),
        ("backbone", {"net": "mobilnetv2"}),
        ("backbone", {"frozen": 1.5}),
        ("backbone", {"frozen": -1}),
        ("backbone", {"weights": 3}),
    ],
)
def test_options_out_of_range_are_refused(name, wrong):
    assert options.problems_with(models.MODELS[name], wrong)  # found by `tfopt check`
    with pytest.raises(OptionError, match=next(iter(wrong))):
        models.MODELS[name]((8, 8, 1), 10, **wrong)


@pytest.mark.parametrize(
    "name", ["backbone", "convnet", "densenet", "dscnn", "efficientnet_lite", "lenet5", "mobilenet", "resnet", "ssd", "unet", "vgg", "vit"]
)
def test_examples_that_are_no_images_are_refused(name):
    with pytest.raises(DataError, match=r"\(12,\); use mlp"):
        models.MODELS[name]((12,), 3)


@pytest.mark.parametrize(
    ("name", "shape", "given", "message"),
    [
        ("lstm", (8, 8, 3), {}, "takes word indices .*, series .* or features of sound"),
        ("conv3d", (8, 8, 3), {}, "takes clips"),
        ("lenet5", (8, 8, 1), {}, "12 x 12 pixels or more"),
        ("autoencoder", (4, 8, 8, 3), {"kind": "convolutional"}, "images .* or series .*use kind = 'dense'"),
        ("autoencoder", (8,), {"kind": "convolutional"}, "images .* or series .*use kind = 'dense'"),
        ("backbone", (32, 32, 1), {}, "RGB images.*gray_to_rgb"),
        ("backbone", (16, 16, 3), {}, "MobileNetV2: Input size must be at least 32x32.*use larger images"),
        ("vit", (10, 10, 3), {}, "no whole patches of 4x4"),
        ("two_input", (8,), {}, "shapes of two inputs by name"),
        ("two_input", {"a": (8,), "b": (8, 8, 8, 8)}, {}, "the input 'b' is"),
        ("two_input", {"a": (8,), "b": (8,)}, {"texts": ["c"]}, "no input 'c', but a, b"),
        ("ctc", (32, 8), {}, r"ctc takes features of sound \(frames, bins, 1\), the examples are \(32, 8\); put log_mel"),
        ("tcn", (8, 3), {}, r"tcn takes indices of symbols \(length,\), the examples are \(8, 3\)"),
        ("seq2seq", (8,), {}, r"takes the inputs 'text' and 'before', .* the examples are \(8,\); tfopt.datasets.text_pairs"),
        ("seq2seq", {"text": (8,), "before": (8, 2)}, {}, "takes the inputs 'text' and 'before'"),
        *((name, {"a": (8,), "b": (8,)}, {}, f"{name} takes one input") for name in sorted({*CASES} - {"two_input", "seq2seq"})),
    ],
)
def test_examples_of_another_shape_are_refused(name, shape, given, message):
    with pytest.raises(DataError, match=message):
        models.MODELS[name](shape, 3, **given)


@pytest.mark.parametrize("name", CASES)
def test_every_option_has_a_default(name):
    assert all(option.default is not options.REQUIRED for option in options.options_of(models.MODELS[name]).values())


def test_the_autoencoder_of_640_numbers_is_mlperf_tinys():
    """As its keras_model.py has it: Dense layers of 128 four times, 8, and 128 four times, each with BatchNorm and ReLU; then a Dense."""
    model = models.autoencoder((640,))
    kinds = [type(layer).__name__ for layer in model.layers[1:]]
    assert kinds == ["Dense", "BatchNormalization", "ReLU"] * 9 + ["Dense"]
    assert [layer.units for layer in model.layers if hasattr(layer, "units")] == [128] * 4 + [8] + [128] * 4 + [640]
    assert sum(np.prod(weight.shape) for weight in model.trainable_weights) == 267_928


@pytest.mark.parametrize(("name", "shape", "given"), [case for case in EVERY if case.values[0] == "autoencoder"])
def test_the_code_of_an_autoencoder_can_be_taken_and_tells_all(name, shape, given):
    model = nets.randomized(built(name, shape, given))
    code = model.get_layer("code").output
    assert tuple(code.shape) == (None, given.get("code", 8))
    assert len(backend.keras().Model(code, model.outputs).layers) > 1  # nothing goes around it


def test_an_autoencoder_learns_to_copy(digits):
    data = tasks.autoencoding(digits)
    with backend.seeded(0):
        model = models.autoencoder(data.input_shape, hidden=[64], code=16)
    model = tfopt.train(model, data, tfopt.Fit(epochs=15, batch_size=32, learning_rate=1e-2))
    x = pipelines.to_arrays(data.test)[0]
    left = np.square(model.predict(x, verbose=0) - x).sum() / np.square(x - x.mean(0)).sum()
    assert left < 0.35  # of the variance; the mean of all digits leaves 1, their 16 principal components 0.16


def test_deep_nets_on_tiny_images_stop_pooling():
    assert tfopt.models.convnet((4, 4, 1), 3, blocks=4).output_shape == (None, 3)
    assert tfopt.models.resnet((8, 8, 1), 3, depth=14, width=4).output_shape == (None, 3)
