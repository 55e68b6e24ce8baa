"""What a deployed app has to repeat: as JSON, and inside a .tflite that takes raw examples."""

from __future__ import annotations

import dataclasses
import functools
import json

import nets
import numpy as np
import pytest
from typer.testing import CliRunner

import tfopt
from tfopt import backend, cli, conversion, deployment, measures, models, pipelines, preprocessing, runtime, timing
from tfopt.errors import ArtifactError, ConversionError, DataError
from tfopt.types import Call, Fit

SLOW = pytest.mark.slow
PARTS = ("train", "validation", "test", "calibration")


def raw(data, part="test"):
    return pipelines.to_arrays(pipelines.raw(getattr(data, part)))[0]


def prepared(data, part="test"):
    return pipelines.to_arrays(getattr(data, part))[0]


def equal(one, other):
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[name], other[name]) for name in one)
    return one.dtype == other.dtype and np.array_equal(one, other)


def as_bytes(digits):
    """All digits as pixels 0..255, and their labels."""
    x, y = zip(*(pipelines.to_arrays(getattr(digits, part)) for part in ("train", "validation", "test")), strict=True)
    return np.rint(255 * np.concatenate(x)).astype(np.uint8), np.concatenate(y)


@pytest.fixture(scope="module")
def data(digits):
    """The digits as bytes, brought to 0..1, flipped in training, then to mean 0 and deviation 1 at each place."""
    x, y = as_bytes(digits)
    return tfopt.datasets.arrays(x=x, y=y, name="bytes", preprocess=["rescale", "random_flip", {"use": "z_score", "per": "channel"}])


@pytest.fixture(scope="module")
def model(data):
    with backend.seeded(0):
        return tfopt.train(models.convnet(data.input_shape, 10, width=16), data, Fit(epochs=8, batch_size=32, learning_rate=5e-3))


# As JSON


def penguins(folder):
    return tfopt.datasets.csv(file=str(folder("tables/penguins.csv")), target="species")


SOURCES = {
    "digits": lambda folder: tfopt.datasets.digits(preprocess=[{"use": "z_score", "per": "feature"}, "random_flip"]),
    "images": lambda folder: tfopt.datasets.cifar10(
        folder=str(folder("cifar10")), preprocess=["pad_and_crop", "rgb_to_gray", "z_score"], calibration=50
    ),
    "table": penguins,
    "waves": lambda folder: tfopt.datasets.arrays(
        x=np.random.default_rng(0).normal(scale=0.1, size=(60, 8000)), y=np.arange(60) % 3, preprocess=[{"use": "log_mel", "rate": 8000}]
    ),
    "words": lambda folder: tfopt.datasets.arrays(x=np.random.default_rng(0).integers(0, 50, (60, 7)), y=np.arange(60) % 3),
    "two": lambda folder: tfopt.datasets.arrays(
        x={"image": np.random.default_rng(0).integers(0, 256, (60, 4, 4, 1)).astype(np.uint8), "row": np.random.rand(60, 3)},
        y=np.arange(60) % 3,
    ),
}


def some_slow(slow, names):
    return [pytest.param(name, marks=SLOW) if name in slow else name for name in names]


@pytest.mark.parametrize("name", some_slow(["images", "words", "two"], SOURCES))
def test_what_is_read_back_makes_of_every_part_what_training_saw(name, data_folder, tmp_path):
    data = SOURCES[name](data_folder)
    found = tfopt.load_preprocessing(tfopt.preprocessing_of(data).save(tmp_path))
    for part in PARTS:
        assert equal(found.apply(raw(data, part)), prepared(data, part)), part
    assert found.classes == data.classes and found.source == json.loads(json.dumps(dict(data.source)))


def test_the_json_says_all_that_an_app_needs(data, tmp_path):
    path = tfopt.preprocessing_of(data).save(tmp_path)
    assert path.name == "preprocessing.json"
    tree = json.loads(path.read_text())
    assert tree["tfopt_preprocessing"] == 1 and tree["data"] == "bytes" and tree["classes"] == list("0123456789")
    assert tree["raw"] == {"shape": [8, 8, 1], "dtype": "uint8"} and tree["input"] == {"shape": [8, 8, 1], "dtype": "float32"}
    scaling, standardizing = tree["steps"]  # the flip is training's alone
    assert scaling == {"use": "rescale", "scale": 1 / 255, "offset": 0.0}  # the defaults spelt out
    x = raw(data, "train").astype(np.float64) / 255
    assert standardizing["use"] == "z_score" and np.allclose(standardizing["mean"], x.mean(), atol=1e-6)
    by_hand = (raw(data) * np.float32(scaling["scale"]) - standardizing["mean"][0]) / standardizing["std"][0]  # as another language would
    assert np.allclose(by_hand, prepared(data), atol=1e-6)


def test_it_takes_numbers_of_another_precision_but_none_of_another_meaning(digits):
    found = tfopt.preprocessing_of(digits)
    x = raw(digits)
    assert equal(found.apply(x.astype(np.float64)), x)
    with pytest.raises(DataError, match=r"raw examples of digits are float32, got uint8"):
        found.apply((255 * x).astype(np.uint8))
    with pytest.raises(DataError, match=r"batches of shape \(n, 8, 8, 1\), got \(8, 8, 1\)"):
        found.apply(x[0])
    with pytest.raises(DataError, match="lacks 'row'"):
        tfopt.preprocessing_of(SOURCES["two"](None)).apply({"image": np.zeros((1, 4, 4, 1), np.uint8)})


def test_another_file_is_not_overwritten(data, digits, tmp_path):
    path = tfopt.preprocessing_of(data).save(tmp_path / "p.json")
    assert tfopt.preprocessing_of(data).save(path) == path
    with pytest.raises(ArtifactError, match=r"p\.json: another file stands here already"):
        tfopt.preprocessing_of(digits).save(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tree: tree.update(tfopt_preprocessing=2), r"p\.json: is laid out in version 2, this tfopt reads version 1"),
        (lambda tree: tree.pop("tfopt_preprocessing"), "is no preprocessing"),
        (lambda tree: tree.pop("raw"), r"is damaged \(KeyError: 'raw'\)"),
        (lambda tree: tree["raw"].update(dtype="unit8"), "is damaged .*unit8"),
        (lambda tree: tree["steps"][0].update(use="rescal"), "is damaged .*did you mean 'rescale'"),
        (lambda tree: tree["steps"][0].update(scale="big"), "is damaged .*scale = 'big': should be a valid number"),
        (lambda tree: tree["steps"].append({"use": "random_flip"}), "random_flip changes training examples only"),
    ],
)
def test_a_wrong_file_is_refused(change, message, data, tmp_path):
    tree = json.loads(tfopt.preprocessing_of(data).as_json())
    change(tree)
    (tmp_path / "p.json").write_text(json.dumps(tree))
    with pytest.raises(ArtifactError, match=message):
        tfopt.load_preprocessing(tmp_path / "p.json")


def test_no_file_and_no_json_are_refused(tmp_path):
    with pytest.raises(ArtifactError, match=r"none\.json: can't be read"):
        tfopt.load_preprocessing(tmp_path / "none.json")
    (tmp_path / "half.json").write_text('{"tfopt_preprocessing": 1, "da')
    with pytest.raises(ArtifactError, match=r"half\.json: is damaged"):
        tfopt.load_preprocessing(tmp_path / "half.json")


def test_what_json_can_not_say_is_refused(data):
    with pytest.raises(DataError, match=r"bytes: its preprocessing can't be written as JSON"):
        tfopt.preprocessing_of(dataclasses.replace(data, source={"gain": float("nan")}))


# Inside the file


@pytest.fixture(scope="module")
def pairs(model, data):
    """`pairs(format)`: its files without and with the preprocessing inside, made once."""
    return functools.cache(lambda name: [tfopt.convert(model, name, data=data, preprocessing=inside) for inside in (False, True)])


def test_the_model_learned_enough_to_be_compared(pairs, model, data):
    assert tfopt.verify(pairs("float32")[0], against=model, data=data).score > 0.85


@pytest.mark.parametrize("name", some_slow(["float16", "dynamic"], conversion.FORMATS))
def test_raw_examples_give_what_prepared_ones_give_the_file_without_it(name, pairs, model, data):
    plain, whole = pairs(name)
    assert whole.format == f"{name}-preprocessing"
    session = runtime.Session(whole)
    (port,) = session.inputs
    assert (port.dtype, port.shape, port.scale) == ("uint8", (1, 8, 8, 1), None)  # pixels as they are, whatever the rest computes in
    expected, got = runtime.Session(plain).run(prepared(data)), session.run(raw(data))
    if name == "int8":  # a rounding in front may move a value over int8's edge
        assert np.mean(expected.argmax(1) == got.argmax(1)) >= 0.99
        assert session.outputs[0].dtype == "int8"
    else:
        assert np.allclose(got, expected, atol=1e-5)
    verdicts = [tfopt.verify(artifact, against=model, data=data) for artifact in (plain, whole)]
    assert abs(verdicts[0].score - verdicts[1].score) <= 0.01 and verdicts[1].agreement >= 0.97
    assert 0 < len(whole.content) - len(plain.content) < 3_000
    assert tfopt.load_preprocessing(whole) == tfopt.preprocessing_of(data)
    assert measures.measure(whole).macs >= measures.measure(plain).macs


def test_the_file_alone_is_enough(pairs, data, tmp_path):
    path = pairs("int8")[1].save(tmp_path)
    found = tfopt.load_preprocessing(path)
    assert equal(found.apply(raw(data)), prepared(data))
    best = runtime.Session(path).run(raw(data)).argmax(1)
    assert np.mean(np.array(found.classes)[best] == np.array(data.classes)[pipelines.to_arrays(data.test)[1]]) > 0.85
    with pytest.raises(ArtifactError, match="holds no preprocessing; it takes prepared examples"):
        tfopt.load_preprocessing(pairs("int8")[0])


def test_inspect_says_it_and_finds_the_name_kept(pairs):
    found = tfopt.inspect(pairs("int8")[1])
    assert found.preprocessing == ("rescale", "z_score") and found.warnings == ()
    assert "takes raw examples and prepares them itself: rescale, z_score" in str(found)
    assert tfopt.inspect(pairs("int8")[0]).preprocessing is None


def test_it_is_timed_on_raw_examples_beside_the_one_without(pairs, data):
    assert [timed.inputs for timed in timing.compare(pairs("float32"), data=data)] == ["test examples"] * 2


@SLOW
def test_the_same_bytes_every_time(pairs, model, data):
    assert tfopt.convert(model, "int8", data=data, preprocessing=True).content == pairs("int8")[1].content


@SLOW
@pytest.mark.parametrize("io", ["uint8", "float32"])
def test_io_is_the_type_of_the_outputs(io, model, data):
    artifact = tfopt.convert(model, "int8", data=data, io=io, preprocessing=True)
    session = runtime.Session(artifact)
    assert artifact.format == f"int8-{io}-preprocessing"
    assert (session.inputs[0].dtype, session.outputs[0].dtype) == ("uint8", io)


def test_missing_and_large_numbers_of_a_table_reach_an_int8_file(data_folder):
    data = penguins(data_folder)
    with backend.seeded(0):
        model = tfopt.train(models.mlp(data.input_shape, data.num_classes), data, Fit(epochs=10, learning_rate=2e-2))
    plain, whole = (tfopt.convert(model, "int8", data=data, preprocessing=inside) for inside in (False, True))
    assert runtime.Session(whole).inputs[0].dtype == "float32" and np.isnan(raw(data, "train")).any()
    x = raw(data, "train")
    assert np.array_equal(runtime.Session(whole).run(x), runtime.Session(plain).run(prepared(data, "train")))
    assert tfopt.verify(whole, against=model, data=data).score > 0.9


@SLOW
def test_waves_become_spectrograms_in_the_file():
    data = SOURCES["waves"](None)
    keras = backend.keras()
    layers = [keras.Input(data.input_shape), keras.layers.Flatten(), keras.layers.Dense(3, activation="softmax")]
    model = keras.Sequential(layers)
    for name in ("float32", "int8"):
        plain, whole = (tfopt.convert(model, name, data=data, preprocessing=inside) for inside in (False, True))
        got, expected = runtime.Session(whole).run(raw(data)), runtime.Session(plain).run(prepared(data))
        assert np.allclose(got, expected, atol=1e-5 if name == "float32" else 0.02)


@SLOW
@pytest.mark.parametrize("make", [nets.recurrent, nets.gated])
def test_recurrent_models_keep_their_loops_and_states(make, data):
    model = nets.randomized(make())
    plain, whole = (tfopt.convert(model, "float32", data=data, preprocessing=inside) for inside in (False, True))
    x = slice(0, 20)
    assert np.allclose(runtime.Session(whole).run(raw(data)[x]), runtime.Session(plain).run(prepared(data)[x]), atol=1e-5)


@SLOW
def test_of_several_inputs_those_of_bytes_are_rescaled(digits):
    x, y = as_bytes(digits)
    data = tfopt.datasets.arrays(x={"image": x, "row": x.mean(axis=(2, 3)) / 50}, y=y, name="two")
    model = nets.randomized(nets.two_inputs())
    plain, whole = (tfopt.convert(model, "int8", data=data, preprocessing=inside) for inside in (False, True))
    session = runtime.Session(whole)
    dtypes = dict(zip(session.input_names, [port.dtype for port in session.inputs], strict=True))
    assert dtypes == {"image": "uint8", "row": "float32"}
    assert np.array_equal(session.run(raw(data)), runtime.Session(plain).run(prepared(data)))
    verdicts = [tfopt.verify(artifact, against=model, data=data) for artifact in (plain, whole)]
    assert verdicts[0] == verdicts[1]


@SLOW
def test_a_saved_model_takes_it_as_well(model, data, tmp_path):
    tf = backend.tensorflow()
    module = tf.Module()
    module.model = model
    spec = tf.TensorSpec([None, 8, 8, 1], tf.float32, name="picture")
    tf.saved_model.save(module, str(tmp_path / "saved"), signatures=tf.function(lambda picture: model(picture)).get_concrete_function(spec))
    saved = tfopt.load(tmp_path / "saved")
    whole = tfopt.convert(saved, "float32", data=data, preprocessing=True)
    assert np.allclose(runtime.Session(whole).run(raw(data)), model.predict(prepared(data), verbose=0), atol=1e-5)
    assert tfopt.verify(whole, against=saved, data=data).agreement == 1


@SLOW
def test_a_quantization_aware_model_takes_it_as_well(model, data):
    aware = tfopt.quantize_aware(model, data)
    plain, whole = (tfopt.convert(aware, "int8", data=data, preprocessing=inside) for inside in (False, True))
    got, expected = runtime.Session(whole).run(raw(data)), runtime.Session(plain).run(prepared(data))
    assert np.mean(got.argmax(1) == expected.argmax(1)) >= 0.99


@SLOW
def test_without_preparations_only_the_classes_and_the_source_are_added():
    data = SOURCES["words"](None)
    keras = backend.keras()
    model = keras.Sequential(
        [keras.Input((7,)), keras.layers.Embedding(50, 4), keras.layers.Flatten(), keras.layers.Dense(3, activation="softmax")]
    )
    plain, whole = (tfopt.convert(model, "int8", data=data, preprocessing=inside) for inside in (False, True))
    assert tfopt.load_preprocessing(whole).steps == () and runtime.Session(whole).inputs[0].dtype == "int32"
    assert np.array_equal(runtime.Session(whole).run(raw(data)), runtime.Session(plain).run(raw(data)))
    assert tfopt.verify(whole, against=model, data=data) == tfopt.verify(plain, against=model, data=data)


def test_data_that_is_prepared_otherwise_is_refused(pairs, model, data, digits):
    x, y = as_bytes(digits)
    whole = pairs("float32")[1]

    def other(*steps, **options):
        return tfopt.datasets.arrays(x=options.pop("x", x), y=y, name="other", preprocess=list(steps), **options)

    z_score = {"use": "z_score", "per": "channel"}
    for data_, message in [
        (other("rescale"), "does its preprocessing itself, and not as other has it: does the steps .*rescale, z_score.* not .*rescale'"),
        (other("rescale", {**z_score, "mean": [0.5], "std": [1.0]}), r"its step z_score has mean = \[0\.3.*\], not \[0\.5\]"),
        (other("rescale", z_score, x=x[:, :, :6]), r"takes raw examples of uint8\[8, 8, 1\], not uint8\[8, 6, 1\]"),
        (dataclasses.replace(data, classes=tuple("abcdefghij")), r"has the classes '0, 1, .*, not 'a, b"),
        (dataclasses.replace(data, source={"width": 8}), "its raw examples are made with width = None, not 8"),
    ]:
        for use in (lambda data: tfopt.verify(whole, against=model, data=data), lambda data: tfopt.benchmark(whole, data=data)):
            with pytest.raises(DataError, match=message):
                use(data_)


def test_it_needs_data_that_fit_the_model(model):
    with pytest.raises(DataError, match=r"to float32-preprocessing: its preprocessing is that of the data; give data="):
        tfopt.convert(model, preprocessing=True)
    with pytest.raises(DataError, match=r"takes examples of shape \(8, 8, 1\), those of digits are \(4, 4, 1\)"):
        tfopt.convert(model, data=tfopt.datasets.digits(preprocess=[{"use": "center_crop", "size": 4}]), preprocessing=True)


def test_a_step_that_no_file_can_hold_is_named():
    data = tfopt.datasets.arrays(x=_COLORS, y=np.arange(60) % 3, preprocess=["rgb_to_yuv", "non_local_means", "l2_normalize"])
    model = models.mlp(data.input_shape, 3)
    with pytest.raises(ConversionError, match=r"the step 'non_local_means' of the preprocessing can't become part of a \.tflite") as caught:
        tfopt.convert(model, data=data, preprocessing=True)
    assert "PyFunc" in str(caught.value) and len(str(caught.value)) < 1_500


def test_a_set_that_is_read_from_its_start_keeps_its_raw_examples_when_it_is_cut():
    tf = backend.tensorflow()
    x = np.arange(40, dtype=np.uint8).reshape(10, 4)

    def make(index, count):
        return tf.data.Dataset.from_tensor_slices((x, np.zeros(10, np.int32))).shard(count, index)

    cut = pipelines.first(pipelines.dataset_of(pipelines.Stream(make, 10, "mark"), (Call("rescale"),)), 3)
    assert np.array_equal(pipelines.to_arrays(pipelines.raw(cut))[0], x[:3])
    assert np.allclose(pipelines.to_arrays(cut)[0], x[:3] / 255)


# In a run


@SLOW
def test_a_run_writes_both(tmp_path):
    recipe = {
        "name": "both",
        "data": {"use": "digits", "preprocess": ["z_score", "random_flip"]},
        "model": {"use": "convnet", "width": 8},
        "export": {"formats": ["float32", {"use": "int8", "preprocessing": True}, {"use": "int8"}]},
        "limits": {"int8-preprocessing": {"bytes": 100_000}},
    }
    report = tfopt.run(recipe, out=tmp_path / "run", quick=True)
    assert [row.artifact.name for row in report.rows] == ["plain-float32", "plain-int8-preprocessing", "plain-int8"]
    beside = tfopt.load_preprocessing(tmp_path / "run" / "artifacts" / "preprocessing.json")
    assert beside == tfopt.load_preprocessing(tmp_path / "run" / "artifacts" / "plain-int8-preprocessing.tflite")
    assert [step.use for step in beside.steps] == ["z_score"] and len(beside.classes) == 10


def test_the_command_line_writes_a_file_that_takes_raw_examples(model, tmp_path):
    tfopt.save(model, tmp_path / "model.h5")
    saved, out = str(tmp_path / "model.h5"), str(tmp_path / "raw.tflite")
    invoke = CliRunner().invoke
    made = invoke(cli.app, ["convert", saved, "--format", "float32", "--preprocessing", "--out", out, "--data", "digits"])
    assert made.exit_code == 0 and "raw.tflite" in made.stdout
    assert tfopt.load_preprocessing(out).data == "digits"
    checked = invoke(cli.app, ["verify", out, "--against", saved, "--data", "digits", "--set", 'preprocess=["l2_normalize"]'])
    assert checked.exit_code == 1 and "does its preprocessing itself, and not as digits has it" in checked.stderr


# Law over all preparations

_RANDOM = np.random.default_rng(0)
_COLORS = _RANDOM.integers(0, 256, (60, 12, 12, 3)).astype(np.uint8)
_WAVES = _RANDOM.normal(scale=0.1, size=(60, 4000))
_TABLE = np.where(_RANDOM.random((60, 6)) < 0.1, np.nan, _RANDOM.normal(size=(60, 6)) * [1, 10, 100, 1000, 1, 5])
# what they take where it is no color image, and the options that they need
_TAKES = {
    "gray_to_rgb": _COLORS[..., :1],
    "encode_columns": np.stack([_RANDOM.random(60), _RANDOM.integers(0, 3, 60)], axis=1),
    "one_hot": _RANDOM.integers(0, 5, (60, 4)),
    **dict.fromkeys(("fill_missing", "interpolate_missing"), _TABLE),
    **dict.fromkeys(("log_mel", "mfcc"), _WAVES),
    **dict.fromkeys(("pca", "whiten"), _RANDOM.normal(size=(60, 6))),
}
_OPTIONS = {
    "center_crop": {"size": [8, 6]},
    "encode_columns": {"categories": [0, 3]},
    "log_mel": {"rate": 8000},
    "mfcc": {"rate": 8000},
    "one_hot": {"depth": 5},
    "pca": {"components": 3},
}
_IN_NUMPY = {"non_local_means"}  # an app has to do it itself


@SLOW
@pytest.mark.parametrize("name", preprocessing.PREPARATIONS)
def test_every_preparation_can_be_written_down_and_become_part_of_a_file(name):
    y = np.arange(60) % 3
    data = tfopt.datasets.arrays(x=_TAKES.get(name, _COLORS), y=y, preprocess=[{"use": name, **_OPTIONS.get(name, {})}])
    found = tfopt.preprocessing_of(data)
    assert found.steps[-1].use == name and equal(found.apply(raw(data)), prepared(data))
    keras = backend.keras()
    model = keras.Sequential([keras.Input(data.input_shape), keras.layers.Flatten(), keras.layers.Dense(3)])
    if name in _IN_NUMPY:
        with pytest.raises(ConversionError, match=f"the step '{name}'"):
            tfopt.convert(model, data=data, preprocessing=True)
        return
    plain, whole = (tfopt.convert(model, data=data, preprocessing=inside) for inside in (False, True))
    expected = runtime.Session(plain).run(prepared(data))
    assert np.allclose(runtime.Session(whole).run(raw(data)), expected, atol=1e-5 * max(1, np.abs(expected).max()))


def test_a_damaged_entry_is_refused(pairs):
    content = pairs("float32")[1].content
    at = content.index(b'"tfopt_preprocessing": 1')
    with pytest.raises(ArtifactError, match="is damaged"):
        deployment.load_preprocessing(content[:at] + b"#" + content[at + 1 :])
