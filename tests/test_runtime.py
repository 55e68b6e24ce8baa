from __future__ import annotations

import numpy as np
import pytest

import tfopt
from tfopt import backend, runtime
from tfopt.errors import ArtifactError, DataError, OptionError

RESNET = "../models/mlperf_tiny/image_classification/pretrainedResnet.tflite"
RESNET_INT8 = "../models/mlperf_tiny/image_classification/pretrainedResnet_quant.tflite"


@pytest.fixture(scope="module")
def model():
    keras = backend.keras()
    return keras.Sequential([keras.layers.Flatten(input_shape=(8, 8, 1)), keras.layers.Dense(10, activation="softmax")], name="net")


@pytest.fixture(scope="module")
def artifact(model):
    return tfopt.convert(model)


def test_an_artifact_a_path_and_bytes_give_the_same(artifact, tmp_path):
    x = np.random.default_rng(0).random((3, 8, 8, 1), "float32")
    path = artifact.save(tmp_path)
    sources = (artifact, path, str(path), artifact.content)
    results = [runtime.Session(source).run(x) for source in sources]
    assert all(np.array_equal(result, results[0]) for result in results)


def test_one_example_gives_what_it_gives_in_a_batch(model, artifact):
    x = np.random.default_rng(0).random((3, 8, 8, 1), "float32")
    session = runtime.Session(artifact)
    batch = session.run(x)
    assert batch.shape == (3, 10) and batch.dtype == np.float32
    assert np.array_equal(session.run(x[1]), batch[1])
    assert np.allclose(batch, model(x).numpy(), atol=1e-6)


def test_ports_say_what_goes_in_and_out(data_folder):
    float32, int8 = runtime.Session(data_folder(RESNET)), runtime.Session(data_folder(RESNET_INT8))
    assert (float32.inputs[0].shape, float32.inputs[0].dtype, float32.inputs[0].scale) == ((1, 32, 32, 3), "float32", None)
    assert (int8.inputs[0].dtype, int8.inputs[0].scale, int8.inputs[0].zero_point) == ("int8", 1.0, -128)
    assert (int8.outputs[0].shape, int8.outputs[0].scale) == ((1, 10), 1 / 256)


def test_float_inputs_are_rounded_to_nearest_and_clipped_and_outputs_dequantized(data_folder):
    session = runtime.Session(data_folder(RESNET_INT8))  # scale 1, zero point -128: 0 to 255 become -128 to 127
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3))
    expected = session.run((pixels - 128).astype("int8"))
    assert np.array_equal(session.run(pixels.astype("float32")), expected)
    assert np.array_equal(session.run((pixels + 0.4).astype("float32")), expected)
    assert np.array_equal(session.run((pixels + np.where(pixels == 255, 1000, 0)).astype("float32")), expected)
    assert abs(expected.sum() - 1) < 0.05  # the softmax of ten classes


def test_the_published_int8_file_agrees_with_the_float_one(data_folder):
    x = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3)).astype("float32")
    float32, int8 = (runtime.Session(data_folder(name)).run(x) for name in (RESNET, RESNET_INT8))
    assert np.array_equal(float32.argmax(axis=1), int8.argmax(axis=1))
    assert np.abs(float32 - int8).mean() < 0.02


# What goes wrong


def test_a_file_cut_anywhere_is_refused(artifact, tmp_path):
    path = tmp_path / "cut.tflite"
    for length in (*range(1, 60), *range(60, len(artifact.content) - 8, 97)):
        path.write_bytes(artifact.content[:length])
        with pytest.raises(ArtifactError, match=r"cut\.tflite: .*(copy or convert it again|convert a model first)"):
            runtime.Session(path)


@pytest.mark.parametrize(("content", "problem"), [(b"", "is empty"), (b"PK\x03\x04 a zip archive", "is no .tflite file")])
def test_what_is_no_tflite_is_refused(content, problem, tmp_path):
    path = tmp_path / "file.tflite"
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match=rf"file\.tflite: {problem}"):
        runtime.Session(path)


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    with pytest.raises(ArtifactError, match=r"gone\.tflite: no such file"):
        runtime.Session(tmp_path / "gone.tflite")
    with pytest.raises(ArtifactError, match="can't be read"):
        runtime.Session(tmp_path)


def test_examples_of_another_shape_are_refused(artifact):
    with pytest.raises(DataError, match=r"net-float32: takes examples of shape \(8, 8, 1\)"):
        runtime.Session(artifact).run(np.zeros((2, 9, 9, 1), "float32"))
    with pytest.raises(DataError, match="a batch without examples"):
        runtime.Session(artifact).run(np.zeros((0, 8, 8, 1), "float32"))


def test_threads_are_at_least_one(artifact):
    with pytest.raises(OptionError, match="threads = 0"):
        runtime.Session(artifact, threads=0)
    for threads in (1.5, "2", None):
        with pytest.raises(OptionError, match=f"threads = {threads!r}: should be a valid integer"):
            runtime.Session(artifact, threads=threads)


@pytest.fixture(scope="module")
def any_size():
    """A net for images of any size from 3x3 on, which can't run at the size 1x1 that stands in its file."""
    keras = backend.keras()
    layers = [keras.layers.Conv2D(4, 3), keras.layers.GlobalMaxPooling2D(), keras.layers.Dense(10)]
    return keras.Sequential([keras.Input((None, None, 1)), *layers], name="any_size")


def test_a_file_of_free_sizes_runs_on_examples_of_any_size(any_size):
    session = runtime.Session(tfopt.convert(any_size))
    for size in (8, 12, 5):
        x = np.random.default_rng(size).random((3, size, size, 1), "float32")
        assert np.allclose(session.run(x), any_size(x), atol=1e-5)
    with pytest.raises(DataError, match="takes examples of shape"):
        session.run(np.zeros((2, 8, 8, 3), "float32"))


def test_a_file_of_free_sizes_is_verified_and_timed_on_data(any_size, digits):
    artifact = tfopt.convert(any_size)
    assert tfopt.verify(artifact, against=any_size, data=digits).agreement == 1
    assert tfopt.benchmark(artifact, data=digits).median_ms > 0


def test_a_file_of_free_sizes_without_data_says_what_it_needs(any_size):
    with pytest.raises(ArtifactError, match="its sizes are free: run it on data of another size"):
        tfopt.benchmark(tfopt.convert(any_size))
