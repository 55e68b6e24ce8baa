"""Models of several inputs, and of word indices, through the whole line: data, training, techniques, files, verification, timing."""

from __future__ import annotations

import dataclasses
import tomllib

import nets
import numpy as np
import pytest

import tfopt
from tfopt import backend, bridge, datasets, models, pipelines, recipes, runtime
from tfopt.errors import DataError
from tfopt.types import Fit

TUNE = Fit(epochs=2, batch_size=32)


def whole(data):
    """All examples of a data set, whatever part they are in."""
    x, y = zip(*(pipelines.to_arrays(part) for part in (data.train, data.validation, data.test)), strict=True)
    return np.concatenate(x), np.concatenate(y)


@pytest.fixture(scope="module")
def data(digits):
    """The scanned digits, and as a row of a table beside each the sums of its rows, on another scale than the image."""
    x, y = whole(digits)
    return datasets.arrays(x={"image": x, "row": 5 * x.sum(axis=(2, 3))}, y=y, name="two")


@pytest.fixture(scope="module")
def model(data):
    backend.keras().utils.set_random_seed(0)
    return tfopt.train(nets.two_inputs(), data, Fit(epochs=12, batch_size=32, learning_rate=3e-3))


@pytest.fixture(scope="module")
def pruned(model, data):
    return tfopt.prune(model, data, sparsity=0.5, fit=TUNE)


def test_it_learns(model, data):
    assert tfopt.verify(tfopt.convert(model), against=model, data=data).score > 0.9


def test_the_float_file_says_the_same(model, data):
    artifact = tfopt.convert(model)
    verdict = tfopt.verify(artifact, against=model, data=data)
    assert verdict.agreement == 1 and verdict.largest_error < 1e-5
    x = pipelines.to_arrays(data.test, 5)[0]
    session = runtime.Session(artifact)
    assert list(session.input_names) != model.input_names  # or nothing would be shown
    expected = model(x).numpy()
    assert np.allclose(session.run(x), expected, atol=1e-5)
    assert np.allclose(session.run({"row": x["row"][0], "image": x["image"][0]}), expected[0], atol=1e-5)
    assert np.allclose(session.run([x[name] for name in session.input_names]), expected, atol=1e-5)


@pytest.mark.parametrize("io", ["int8", "uint8", "float32"])
def test_each_input_of_an_int8_file_has_its_own_scale(model, data, io):
    artifact = tfopt.convert(model, "int8", data=data, io=io)
    session = runtime.Session(artifact)
    assert [port.dtype for port in session.inputs] == [io, io]
    if io != "float32":
        scales = dict(zip(session.input_names, (port.scale for port in session.inputs), strict=True))
        assert scales["row"] > 10 * scales["image"]
    verdict = tfopt.verify(artifact, against=model, data=data)
    assert verdict.agreement > 0.97 and abs(verdict.drop) < 0.02


def test_pruned_and_quantized_it_is_as_good(model, pruned, data):
    final = tfopt.quantize_aware(pruned, data, fit=TUNE)
    int8 = tfopt.convert(final, "int8")
    verdict = tfopt.verify(int8, against=model, data=data)
    assert verdict.drop < 0.02 and verdict.agreement > 0.95
    assert [port.dtype for port in runtime.Session(int8).inputs] == ["int8", "int8"]
    measured = tfopt.measure(tfopt.convert(pruned))
    assert abs(measured.sparsity - 0.5) < 0.02
    assert tfopt.measure(int8).sparsity > 0.49


def test_the_file_is_timed_on_the_data_and_without(model, data):
    artifact = tfopt.convert(model, "int8", data=data)
    on_data, without = tfopt.benchmark(artifact, data=data), tfopt.benchmark(artifact)
    assert (on_data.inputs, without.inputs) == ("test examples", "random values")
    assert on_data.median_ms > 0 and without.median_ms > 0


def test_a_keras_3_model_of_several_inputs(data):
    model = nets.two_inputs(bridge.keras3())
    trained = tfopt.train(model, data, dataclasses.replace(TUNE, epochs=1))
    assert trained.input_names == ["row", "image"]
    assert tfopt.verify(tfopt.convert(trained, "int8", data=data), against=trained, data=data).agreement > 0.9
    assert tfopt.verify(tfopt.convert(model), against=model, data=data).agreement == 1


def test_a_saved_model_of_several_inputs(model, data, tmp_path):
    model.export(tmp_path / "exported")
    saved = tfopt.load(tmp_path / "exported")
    verdict = tfopt.verify(tfopt.convert(saved, "int8", data=data), against=saved, data=data)
    assert verdict.agreement > 0.97
    assert tfopt.verify(tfopt.convert(saved), against=model, data=data).largest_error < 1e-5


@pytest.mark.slow
def test_a_recipe_names_a_file_for_each_input(data, model, digits, tmp_path):
    x, y = whole(digits)
    for name, array in (("image", x), ("row", 5 * x.sum(axis=(2, 3))), ("y", y)):
        np.save(tmp_path / f"{name}.npy", array)
    model.save(tmp_path / "model.keras")
    recipe = tmp_path / "two.toml"
    recipe.write_text(
        f"""
        name = "two"
        data = {{ use = "arrays", x = {{ image = "{tmp_path}/image.npy", row = "{tmp_path}/row.npy" }}, y = "{tmp_path}/y.npy" }}
        model = {{ path = "{tmp_path}/model.keras" }}
        export = {{ formats = ["float32", "int8"] }}
        steps = [{{ use = "prune", sparsity = 0.5, fit = {{ epochs = 1 }} }}, {{ use = "quantize_aware", fit = {{ epochs = 1 }} }}]
        """
    )
    read = recipes.read(recipe)
    assert recipes.parse(tomllib.loads(recipes.write(read)), source="again") == read
    report = tfopt.run(recipe, out=tmp_path / "run")
    assert {row.artifact.format for row in report.rows} == {"float32", "int8"}
    assert all(row.verdict.score > 0.9 for row in report.rows)


def test_augmentation_gets_all_inputs_of_a_batch(data):
    def turned(x, y, seed):
        tf = backend.tensorflow()
        sign = tf.where(tf.random.stateless_uniform([tf.shape(y)[0], 1], seed) < 0.5, 1.0, -1.0)
        return {"image": x["image"] * sign[..., None, None], "row": x["row"] * sign}, y

    changed = dataclasses.replace(data, augmentation=turned)
    (x, _), *_ = pipelines.training_batches(changed, TUNE).as_numpy_iterator()
    signs = np.sign(x["image"].sum(axis=(1, 2, 3)))
    assert set(signs) == {-1, 1} and np.array_equal(signs, np.sign(x["row"].sum(axis=1)))


# ---- word indices


@pytest.fixture(scope="module")
def words(digits):
    """Six words of a thousand for each digit; the first three say which digit it is."""
    labels = whole(digits)[1]
    indices = np.random.default_rng(0).integers(0, 1000, (len(labels), 6))
    indices[:, :3] = (labels * 97)[:, None] + [3, 10, 20]
    return datasets.arrays(x=indices, y=labels, name="words")


@pytest.mark.parametrize("dtype", ["int32", "float32"])  # float32 is what Input takes if nobody says otherwise
@pytest.mark.parametrize("io", ["int8", "uint8"])
def test_word_indices_come_through_unrounded(words, dtype, io):
    keras = backend.keras()
    layers = keras.layers
    inputs = keras.Input((6,), dtype=dtype, name="words")
    x = layers.Flatten(name="flatten")(layers.Embedding(1000, 8, name="embedding")(inputs))
    model = keras.Model(inputs, layers.Dense(10, name="logits")(x), name="reader")
    model = tfopt.train(model, words, Fit(epochs=4, batch_size=32, learning_rate=1e-2))
    for artifact in (tfopt.convert(model, data=words), tfopt.convert(model, "int8", data=words, io=io)):
        assert runtime.Session(artifact).inputs[0].dtype == "int32"
        verdict = tfopt.verify(artifact, against=model, data=words)
        assert verdict.score > 0.98 and verdict.agreement > 0.98
    assert tfopt.benchmark(artifact, data=words).median_ms > 0


# ---- what goes wrong


def renamed(data, digits, **names):
    x, y = whole(digits)
    arrays = {"image": x, "row": x.sum(axis=(2, 3))}
    return datasets.arrays(x={new: arrays[old] for new, old in names.items()}, y=y, name="renamed")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({"image": "image"}, r"takes the inputs 'row', 'image'; data 'renamed' lacks 'row'; name the arrays like"),
        ({"image": "image", "rows": "row"}, r"lacks 'row' and has 'rows', which is no input"),
        ({"image": "image", "row": "row", "more": "row"}, r"'renamed' has 'more', which is no input"),
        ({"row": "image", "image": "row"}, r"takes examples of shape \(8,\) at the input 'row', data 'renamed' has \(8, 8, 1\)"),
    ],
)
def test_data_with_other_inputs_are_refused(model, data, digits, names, message):
    with pytest.raises(DataError, match=message):
        tfopt.train(model, renamed(data, digits, **names), TUNE)


def test_files_and_conversion_say_what_they_miss(model, data, digits):
    artifact = tfopt.convert(model)
    other = renamed(data, digits, image="image", rows="row")
    for use in (
        lambda wrong: tfopt.verify(artifact, against=model, data=wrong),
        lambda wrong: tfopt.benchmark(artifact, data=wrong),
        lambda wrong: tfopt.convert(model, "int8", data=wrong),
    ):
        with pytest.raises(DataError, match=r"two_inputs.* takes the inputs .*; renamed lacks 'row' and has 'rows'"):
            use(other)
        with pytest.raises(DataError, match="has 2 inputs, digits one array without a name"):
            use(digits)
    with pytest.raises(DataError, match=r"takes 2 inputs, got 3"):
        runtime.Session(artifact).run([np.zeros(8)] * 3)
    with pytest.raises(DataError, match=r"batches of different lengths"):
        runtime.Session(artifact).run({"image": np.zeros((2, 8, 8, 1)), "row": np.zeros((3, 8))})


def test_one_array_for_a_model_of_several_inputs_is_refused(model, digits):
    with pytest.raises(DataError, match=r"has 2 inputs, data 'digits' one array without a name.*'row': \.\.\., 'image'"):
        tfopt.prune(model, digits, fit=TUNE)


def test_several_arrays_for_a_model_of_one_input_are_refused(data):
    with pytest.raises(DataError, match=r"takes the input 'conv_input'; data 'two' lacks 'conv_input' and has 'image', which"):
        tfopt.train(nets.sequential(), data, TUNE)
    for build in (models.mlp, models.convnet, models.resnet):
        with pytest.raises(DataError, match=rf"{build.__name__} takes one input, the data has an array for each of 'image', 'row'"):
            build(data.input_shape, 10)
