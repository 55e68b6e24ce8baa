from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import nets
import numpy as np
import pytest

import tfopt
from tfopt import _flatbuffer, backend, bridge, conversion, pipelines, runtime
from tfopt.errors import ConversionError, DataError, OptionError, UnsupportedModel
from tfopt.types import Call, Data


def convnet(name: str = "net"):
    keras = backend.keras()
    layers = keras.layers
    return keras.Sequential(
        [
            layers.Conv2D(8, 3, activation="relu", input_shape=(8, 8, 1), name="conv"),
            layers.Flatten(name="flatten"),
            layers.Dense(10, activation="softmax", name="dense"),
        ],
        name=name,
    )


def recurrent(layer):
    keras = backend.keras()
    return keras.Sequential([keras.Input((5, 3)), layer, keras.layers.Dense(3)], name="recurrent")


def sequences() -> Data:
    x = np.random.default_rng(0).normal(size=(20, 5, 3)).astype("float32")
    dataset = pipelines.examples(x, np.zeros(20, "int32"))
    return Data("sequences", "classification", dataset, dataset, dataset, dataset, (5, 3), ("a", "b", "c"), "fingerprint")


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """`folders()`: what the converter, started anew, has in its temporary folder."""
    conversion.shut_down()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    yield lambda: list(tmp_path.glob("tfopt-*"))
    conversion.shut_down()


@pytest.fixture(scope="module")
def model():
    return convnet()


@pytest.fixture(scope="module")
def images(digits):
    return pipelines.to_arrays(digits.test, 100)[0]


@pytest.mark.parametrize("format", conversion.FORMATS)
def test_every_format_gives_a_file_that_computes_what_the_model_does(format, model, digits, images):
    artifact = tfopt.convert(model, format, data=digits, steps=("train",))
    assert (artifact.name, artifact.format, artifact.steps) == (f"net-{format}", format, ("train",))
    error = np.abs(runtime.Session(artifact).run(images) - model(images).numpy()).max()
    assert error < {"float32": 1e-6, "float16": 1e-3, "dynamic": 0.05, "int8": 0.05}[format]


def test_the_formats_shrink_the_file_as_they_promise(digits):
    keras = backend.keras()
    wide = keras.Sequential([keras.layers.Flatten(input_shape=(8, 8, 1)), keras.layers.Dense(256), keras.layers.Dense(10)])
    bytes_of = {format: len(tfopt.convert(wide, format, data=digits).content) for format in conversion.FORMATS}
    assert bytes_of["float16"] < 0.55 * bytes_of["float32"]
    assert max(bytes_of["dynamic"], bytes_of["int8"]) < 0.35 * bytes_of["float32"]


@pytest.mark.parametrize("io", ["int8", "uint8", "float32"])
def test_int8_has_the_asked_for_type_at_its_borders(io, model, digits, images):
    session = runtime.Session(tfopt.convert(model, "int8", data=digits, io=io))
    assert (session.inputs[0].dtype, session.outputs[0].dtype) == (io, io)
    assert np.abs(session.run(images) - model(images).numpy()).max() < 0.05


def test_labels_name_only_what_differs_from_the_defaults():
    assert [conversion.label(Call("int8", options)) for options in ({}, {"io": "int8"}, {"io": "uint8"})] == ["int8", "int8", "int8-uint8"]


def test_an_artifact_of_another_io_is_labelled_so(model, digits):
    artifact = tfopt.convert(model, "int8", data=digits, io="uint8", name="mine")
    assert (artifact.name, artifact.format) == ("mine", "int8-uint8")


@pytest.mark.slow
def test_the_same_weights_give_the_same_bytes_in_another_process(model, digits):
    first = [tfopt.convert(model, format, data=digits).content for format in conversion.FORMATS]
    conversion.shut_down()
    copy = convnet()
    copy.set_weights(model.get_weights())
    assert [tfopt.convert(copy, format, data=digits).content for format in conversion.FORMATS] == first


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "SimpleRNN", "Bidirectional"])
def test_recurrent_models_are_converted_and_start_each_example_afresh(kind):
    layers = backend.keras().layers
    model = recurrent(layers.Bidirectional(layers.LSTM(4)) if kind == "Bidirectional" else getattr(layers, kind)(4))
    x = np.random.default_rng(1).normal(size=(10, 5, 3)).astype("float32")
    assert np.abs(runtime.Session(tfopt.convert(model)).run(x) - model(x).numpy()).max() < 1e-5


def test_a_recurrent_layer_is_found_inside_a_nested_model():
    keras = backend.keras()
    inner = keras.Sequential([keras.Input((5, 3)), keras.layers.LSTM(4)], name="inner")
    model = keras.Sequential([keras.Input((5, 3)), inner, keras.layers.Dense(2)], name="outer")
    assert runtime.Session(tfopt.convert(model)).outputs[0].shape == (1, 2)


def test_a_model_of_two_inputs_is_converted_in_float():
    keras = backend.keras()
    left, right = keras.Input((3,), name="left"), keras.Input((4,), name="right")
    model = keras.Model([left, right], keras.layers.Dense(2)(keras.layers.concatenate([left, right])))
    x = [np.ones((5, 3), "float32"), np.arange(20, dtype="float32").reshape(5, 4)]
    session = runtime.Session(tfopt.convert(model))
    order = [0, 1] if session.inputs[0].shape == (1, 3) else [1, 0]
    assert np.allclose(session.run([x[index] for index in order]), model(x).numpy(), atol=1e-5)


def test_a_model_made_under_two_replicas_is_converted():
    tf = backend.tensorflow()
    with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
        model = convnet()
    x = np.ones((1, 8, 8, 1), "float32")
    assert np.allclose(runtime.Session(tfopt.convert(model)).run(x), model(x).numpy(), atol=1e-6)


# Quantization-aware models


@pytest.fixture(scope="module")
def quantization_aware(digits):
    model = backend.tfmot().quantization.keras.quantize_model(convnet())
    model.compile("adam", "sparse_categorical_crossentropy")
    x, y = pipelines.to_arrays(digits.train)
    model.fit(x, y, verbose=0)
    return model


@pytest.mark.parametrize("io", ["int8", "float32"])
def test_a_quantization_aware_model_becomes_int8_without_data(io, quantization_aware, images):
    session = runtime.Session(tfopt.convert(quantization_aware, "int8", io=io))
    assert session.inputs[0].dtype == io
    assert np.abs(session.run(images) - quantization_aware(images, training=False).numpy()).max() < 0.05


@pytest.mark.parametrize("format", [format for format in conversion.FORMATS if format != "int8"])
def test_a_quantization_aware_model_is_refused_in_float_formats(format, quantization_aware):
    with pytest.raises(ConversionError, match=f"{format}: the model is quantization-aware.*convert it to int8"):
        tfopt.convert(quantization_aware, format)


# Models of other kinds


def exported(path, function, shape):
    tf = backend.tensorflow()
    module = tf.Module()
    module.scale = tf.Variable(3.0)
    signature = [tf.TensorSpec(shape, tf.float32, name="x")]
    module.predict = tf.function(lambda x: {"y": function(x) * module.scale}, input_signature=signature, autograph=False)
    tf.saved_model.save(module, str(path), signatures={"only": module.predict})
    return tfopt.load(path)


@pytest.mark.parametrize("format", conversion.FORMATS)
def test_a_saved_model_is_converted_by_its_signature(format, digits, images, tmp_path):
    tf = backend.tensorflow()
    kernel = np.random.default_rng(0).normal(size=(64, 10)).astype("float32")
    saved = exported(tmp_path / "graph", lambda x: tf.nn.softmax(tf.reshape(x, [-1, 64]) @ kernel), [None, 8, 8, 1])
    assert (saved.signature, saved.inputs[0].shape, saved.outputs[0].name) == ("only", (None, 8, 8, 1), "y")
    artifact = tfopt.convert(saved, format, data=digits)
    assert artifact.name == f"graph-{format}"
    expected = 3 * tf.nn.softmax(images.reshape(-1, 64) @ kernel).numpy()
    assert np.abs(runtime.Session(artifact).run(images) - expected).max() < {"float32": 1e-5, "float16": 1e-2}.get(format, 0.2)


def test_int8_of_a_saved_model_needs_data_that_fits(tmp_path, digits):
    saved = exported(tmp_path / "graph", lambda x: x, [None, 4])
    with pytest.raises(DataError, match="graph to int8: calibration data is needed"):
        tfopt.convert(saved, "int8")
    with pytest.raises(DataError, match=r"takes examples of shape \(4,\), those of digits are \(8, 8, 1\)"):
        tfopt.convert(saved, "int8", data=digits)


def test_a_keras_3_model_is_converted(images):
    keras = bridge.keras3()
    model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Conv2D(4, 3, activation="silu"), keras.layers.Flatten()], name="three")
    artifact = tfopt.convert(model)
    assert artifact.name == "three-float32"
    assert np.abs(runtime.Session(artifact).run(images) - np.asarray(model(images))).max() < 1e-5


def test_a_tflite_is_converted_already(model):
    with pytest.raises(UnsupportedModel, match=r"net-float32: is a \.tflite, so it is converted already"):
        tfopt.convert(tfopt.convert(model), "int8")


# What goes wrong


def test_int8_without_data_says_what_is_needed(model):
    with pytest.raises(DataError, match=r"net to int8: calibration data is needed .*data="):
        tfopt.convert(model, "int8")


def test_data_of_another_shape_is_refused(model):
    with pytest.raises(DataError, match=r"takes examples of shape \(8, 8, 1\), those of sequences are \(5, 3\)"):
        tfopt.convert(model, "int8", data=sequences())


def test_data_fixes_free_dimensions_and_has_to_fit_them(digits):
    keras = backend.keras()
    model = keras.Sequential([keras.Input((None, None, 1)), keras.layers.Conv2D(4, 3)], name="free")
    session = runtime.Session(tfopt.convert(model, data=digits))
    assert (session.inputs[0].shape, session.outputs[0].shape) == ((1, 8, 8, 1), (1, 6, 6, 4))
    free = _flatbuffer.graphs("free", tfopt.convert(model).content)[0]
    assert free.tensors[free.nodes[0].inputs[0]].signature == (-1, -1, -1, 1)
    with pytest.raises(DataError, match=r"free to float32: the model takes examples of shape \(None, None, 1\), those of sequences"):
        tfopt.convert(model, data=sequences())


@pytest.mark.parametrize("timeout", [None, float("inf"), float("nan"), -1, 0, "60", 1e9])
def test_a_timeout_that_is_none_is_refused(timeout, model):
    with pytest.raises(OptionError, match=f"timeout = {timeout!r}: should be".replace("+", r"\+")):
        tfopt.convert(model, timeout=timeout)


def test_arguments_of_another_type_are_refused(model):
    with pytest.raises(DataError, match="got str"):
        tfopt.convert(model, "int8", data="digits")
    for format in (5, None, ["int8"]):
        with pytest.raises(OptionError, match="no such format; there are: dynamic, float16, float32, int8"):
            tfopt.convert(model, format)


def test_an_unknown_format_is_answered_with_the_nearest(model):
    with pytest.raises(OptionError, match="'int9': no such format; did you mean 'int8'"):
        tfopt.convert(model, "int9")


@pytest.mark.parametrize(("options", "message"), [({"io": "int4"}, "io = 'int4': should be"), ({"iu": "int8"}, "iu: unknown option; .*io")])
def test_wrong_options_are_refused(options, message, model, digits):
    with pytest.raises(OptionError, match=message):
        tfopt.convert(model, "int8", data=digits, **options)


def test_what_is_no_built_keras_2_model_is_refused():
    keras = backend.keras()
    with pytest.raises(UnsupportedModel, match=r"a builtins\.str can't be converted: expected a tf_keras\.Model, a Keras 3 model"):
        tfopt.convert("model.h5")
    with pytest.raises(UnsupportedModel, match="not built yet"):
        tfopt.convert(bridge.keras3().Sequential())
    with pytest.raises(UnsupportedModel, match="raw: the shape of its input is unknown"):
        tfopt.convert(keras.Sequential([keras.layers.Dense(1)], name="raw"))


def test_a_refusal_names_the_layer_in_a_few_lines():
    tf, keras = backend.tensorflow(), backend.keras()
    odd = keras.layers.Lambda(lambda x: tf.cast(tf.strings.length(tf.strings.as_string(x)), tf.float32), name="counting")
    model = keras.Sequential([keras.Input((8,)), odd, keras.layers.Dense(3)], name="odd")
    with pytest.raises(ConversionError, match="odd to float32: the converter refused; another format may work") as caught:
        tfopt.convert(model)
    text = str(caught.value)
    assert "odd/counting/StringLength: 'tf.StringLength' op is neither a custom op nor a flex op" in text
    assert len(text) < 1_800 and text.count("\n") <= 16


def test_a_converter_that_crashes_takes_only_itself_along(model, folders):
    with pytest.raises(ConversionError, match=r"recurrent to int8: the converter crashed \(SIGSEGV\); another format may work"):
        tfopt.convert(recurrent(backend.keras().layers.GRU(4)), "int8", data=sequences())
    assert not folders()
    assert tfopt.convert(model).content


def test_a_converter_that_takes_too_long_is_stopped(model, folders):
    with pytest.raises(ConversionError, match=r"net to float32: the converter took longer than 0.1 seconds and was stopped; give it more"):
        tfopt.convert(model, timeout=0.1)
    assert not folders()


def test_after_ctrl_c_the_next_conversion_gets_its_own_answer(model, images):
    conversion.shut_down()  # so that the converter is still starting when it is interrupted
    threading.Timer(1, signal.raise_signal, [signal.SIGINT]).start()
    with pytest.raises(KeyboardInterrupt):
        tfopt.convert(convnet("another"))
    assert np.abs(runtime.Session(tfopt.convert(model)).run(images) - model(images).numpy()).max() < 1e-6


def test_only_the_warm_process_keeps_a_folder_and_it_is_empty(model, folders):
    tfopt.convert(model)
    (mine,) = folders()
    assert not list(mine.iterdir())
    conversion.shut_down()
    assert not folders()


def test_one_process_serves_all_conversions(model):
    conversion.warm_up()
    conversion.warm_up()
    process = conversion._worker._process.pid
    tfopt.convert(model)
    assert conversion._worker._process.pid == process


def test_an_unwritable_temporary_folder_is_named(model, monkeypatch, tmp_path):
    conversion.shut_down()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    conversion.warm_up()  # says nothing
    with pytest.raises(ConversionError, match=r"temporary files can't be written .*gone.*set TMPDIR"):
        tfopt.convert(model)


def test_the_users_own_modules_do_not_get_into_the_converter(model, monkeypatch, tmp_path):
    conversion.shut_down()
    (tmp_path / "json.py").write_text("raise SystemExit('the wrong json')")
    monkeypatch.chdir(tmp_path)
    assert tfopt.convert(model).content


PARENT = """
import sys, time
from tfopt import backend, conversion
keras = backend.keras()
conversion.warm_up()
print(conversion._worker._process.pid, conversion._worker.folder, flush=True)
if sys.argv[1] == "idle":
    time.sleep(100)
layers = [layer for n in range(30) for layer in (keras.layers.Dense(512), keras.layers.ReLU())]
written = conversion._written
conversion._written = lambda *arguments: (written(*arguments), print("asked", flush=True))[0]
while True:
    conversion.convert(keras.Sequential([keras.Input((512,)), *layers]))
"""


@pytest.mark.parametrize("doing", ["idle", "converting"])
def test_no_process_and_no_file_outlive_a_killed_parent(doing):
    environment = {**os.environ, "PYTHONPATH": str(Path(tfopt.__file__).parents[1])}
    with subprocess.Popen([sys.executable, "-c", PARENT, doing], stdout=subprocess.PIPE, text=True, env=environment) as parent:
        try:
            child, folder = parent.stdout.readline().split()
            time.sleep(1)
            assert doing == "idle" or parent.stdout.readline() == "asked\n"
        finally:
            parent.kill()
    deadline = time.monotonic() + 30
    while (_runs(int(child)) or Path(folder).exists()) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not _runs(int(child)) and not Path(folder).exists()


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{process}/stat")
    return not status.exists() or status.read_text().rpartition(")")[2].split()[0] != "Z"


def test_a_mixed_precision_model_is_converted_as_one_of_float32(digits):
    keras = backend.keras()
    inputs = keras.Input((8, 8, 1))
    x = keras.layers.Conv2D(8, 3, activation="relu", dtype="mixed_float16")(inputs)
    x = keras.layers.TimeDistributed(keras.layers.Dense(4, dtype="mixed_float16"), dtype="mixed_float16")(x)
    x = keras.layers.Dense(10, dtype="mixed_float16")(keras.layers.Flatten(dtype="mixed_float16")(x))
    model = nets.randomized(keras.Model(inputs, x))
    weights = model.get_weights()
    images = np.stack([image for image, _ in digits.test.take(8).as_numpy_iterator()])
    expected, got = model(images).numpy().astype("float32"), runtime.Session(tfopt.convert(model)).run(images)
    assert np.abs(expected - got).max() <= 0.01 * np.abs(expected).max()  # float16 has 11 bits
    assert model.layers[1].compute_dtype == "float16" and all(
        np.array_equal(a, b) for a, b in zip(weights, model.get_weights(), strict=True)
    )
    int8 = tfopt.convert(tfopt.quantize_aware(model, digits), "int8")
    assert tfopt.measure(int8).int8_operations > 3
