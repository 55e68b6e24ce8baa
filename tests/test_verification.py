from __future__ import annotations

import dataclasses
import types

import numpy as np
import pytest

import tfopt
from tfopt import backend, conversion, pipelines, verification
from tfopt.errors import ArtifactError, DataError, OptionError, UnsupportedModel
from tfopt.results import Measures, Timing, Verdict


@pytest.fixture(scope="module")
def model(digits):
    """A small net, trained for a few seconds."""
    keras = backend.keras()
    layers = keras.layers
    model = keras.Sequential(
        [
            layers.Conv2D(8, 3, activation="relu", input_shape=(8, 8, 1)),
            layers.Flatten(),
            layers.Dense(10, activation="softmax"),
        ],
        name="net",
    )
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    model.fit(*pipelines.to_arrays(digits.train), epochs=5, verbose=0)
    return model


@pytest.fixture(scope="module")
def reference(model, digits):
    return verification.reference(model, digits)


@pytest.mark.parametrize("format", conversion.FORMATS)
def test_every_format_scores_what_the_model_scores(format, model, reference, digits):
    verdict = tfopt.verify(tfopt.convert(model, format, data=digits), against=reference, data=digits)
    x, y = pipelines.to_arrays(digits.test)
    assert verdict.metric == "accuracy" and verdict.examples == len(y)
    assert verdict.baseline == pytest.approx(np.mean(model(x).numpy().argmax(axis=1) == y)) and verdict.baseline > 0.9
    off = {"float32": 0, "float16": 1 / len(y)}.get(format, 0.02)  # an example on the border may fall to the other side in float16
    assert abs(verdict.drop) <= off + 1e-9 and verdict.agreement >= 1 - off - 1e-9
    assert verdict.largest_error < {"float32": 1e-5, "float16": 5e-3}.get(format, 0.3)


def test_outputs_that_do_not_fit_in_memory_are_refused(model, digits, monkeypatch):
    monkeypatch.setattr("psutil.virtual_memory", lambda: types.SimpleNamespace(available=20_000))
    with pytest.raises(DataError, match=r"the outputs for the test set of digits would take .* GB of memory, .*; verify with fewer"):
        verification.reference(model, digits)


def test_a_model_and_its_reference_give_the_same(model, reference, digits):
    artifact = tfopt.convert(model)
    assert tfopt.verify(artifact, against=model, data=digits) == tfopt.verify(artifact, against=reference, data=digits)


def test_models_of_every_kind_can_be_verified_against(model, reference, digits, tmp_path):
    artifact = tfopt.convert(model)
    expected = tfopt.verify(artifact, against=reference, data=digits)
    tf = backend.tensorflow()
    module = tf.Module()
    module.parts = model.variables
    spec = tf.TensorSpec([None, 8, 8, 1], tf.float32, name="x")
    module.predict = tf.function(lambda x: {"y": model(x, training=False)}, input_signature=[spec], autograph=False)
    tf.saved_model.save(module, str(tmp_path / "graph"), signatures=module.predict)
    for other in (tfopt.to_keras3(model), tfopt.load(tmp_path / "graph"), tfopt.load(artifact.save(tmp_path / "net.tflite"))):
        verdict = tfopt.verify(artifact, against=other, data=digits)
        assert (verdict.score, verdict.baseline, verdict.agreement) == (expected.score, expected.baseline, 1.0)
        assert verdict.largest_error < 1e-5


def test_the_interval_is_wilsons(model, reference, digits):
    verdict = tfopt.verify(tfopt.convert(model), against=reference, data=digits)
    n, p, z = verdict.examples, verdict.score, 1.959964
    half = z / (1 + z * z / n) * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    assert verdict.interval == pytest.approx((middle - half, middle + half), abs=1e-6)


def test_a_file_that_forgot_everything_is_seen(model, reference, digits):
    keras = backend.keras()
    blank = keras.models.clone_model(model)
    verdict = tfopt.verify(tfopt.convert(blank, name="blank"), against=reference, data=digits)
    assert verdict.score < 0.4 < verdict.drop and verdict.agreement < 0.4 < verdict.largest_error


def test_outputs_that_are_no_numbers_count_as_wrong(model, reference, digits):
    keras = backend.keras()
    broken = keras.models.clone_model(model)
    broken.set_weights([np.full(weight.shape, np.nan) for weight in model.get_weights()])
    verdict = tfopt.verify(tfopt.convert(broken), against=reference, data=digits)
    assert (verdict.score, verdict.agreement, verdict.largest_error) == (0, 0, float("inf"))


def test_a_model_of_a_free_image_size_is_verified_at_the_datas_size(digits):
    keras = backend.keras()
    layers = keras.layers
    model = keras.Sequential([keras.Input((None, None, 1)), layers.Conv2D(4, 3), layers.GlobalAveragePooling2D(), layers.Dense(10)])
    for format in ("float32", "int8"):
        verdict = tfopt.verify(tfopt.convert(model, format, data=digits), against=model, data=digits)
        assert verdict.largest_error < (1e-5 if format == "float32" else 0.1)


# What does not fit


def test_arguments_of_another_type_are_refused(model, digits):
    artifact = tfopt.convert(model)
    with pytest.raises(UnsupportedModel, match=r"'m\.keras' is no model to verify against: expected a tf_keras or Keras 3 model"):
        tfopt.verify(artifact, against="m.keras", data=digits)
    for data in ("digits", None):
        with pytest.raises(DataError, match=f"got {type(data).__name__}"):
            tfopt.verify(artifact, against=model, data=data)


def converted(shape, outputs):
    keras = backend.keras()
    return tfopt.convert(keras.Sequential([keras.layers.Flatten(input_shape=shape), keras.layers.Dense(outputs)]), name="mine")


def test_a_file_for_other_data_is_refused(reference, digits):
    with pytest.raises(DataError, match=r"mine: takes \(5, 3\), the examples of digits are \(8, 8, 1\)"):
        tfopt.verify(converted((5, 3), 10), against=reference, data=digits)
    with pytest.raises(DataError, match=r"mine: puts out \(3,\), digits has 10 classes"):
        tfopt.verify(converted((8, 8, 1), 3), against=reference, data=digits)


def test_a_reference_of_another_test_set_is_refused(model, reference, digits):
    with pytest.raises(DataError, match="the reference was made on another test set"):
        tfopt.verify(tfopt.convert(model), against=reference, data=dataclasses.replace(digits, test=digits.validation))


def test_an_empty_test_set_and_another_task_are_refused(model, digits):
    with pytest.raises(DataError, match="digits: the test set is empty"):
        verification.reference(model, dataclasses.replace(digits, test=digits.test.take(0)))
    with pytest.raises(DataError, match=r"y is int32 of shape .* regression needs a number for each example"):
        verification.reference(model, dataclasses.replace(digits, task="regression"))


def test_a_truncated_file_is_refused(model, reference, digits, tmp_path):
    path = tmp_path / "cut.tflite"
    path.write_bytes(tfopt.convert(model).content[:500])
    with pytest.raises(ArtifactError, match=r"cut\.tflite: the file is damaged"):
        tfopt.verify(path, against=reference, data=digits)


# Limits

VERDICT = Verdict("accuracy", 0.96, (0.94, 0.98), 0.97, 0.99, 0.1, 360)
MEASURES = Measures(40_000, 30_000, 1, 1, 0.0, (), ())
TIMING = Timing((1.0, 2.0, 3.0), 0, 1, "LiteRT", "CPU", "random values")


@pytest.mark.parametrize(
    ("limit", "kept", "broken", "sentence"),
    [
        ("score", 0.96, 0.961, "score is 0.96, the limit is at least 0.961"),
        ("agreement", 0.99, 0.995, "agreement is 0.99, the limit is at least 0.995"),
        ("score_drop", 0.01, 0.005, "score_drop is 0.01, the limit is at most 0.005"),
        ("bytes", 40_000, 39_999, "bytes is 40000, the limit is at most 39999"),
        ("gzip_bytes", 30_000.0, 29_999.5, "gzip_bytes is 30000, the limit is at most 29999.5"),
        ("latency_ms", 2, 1.5, "latency_ms is 2, the limit is at most 1.5"),
    ],
)
def test_each_limit_is_kept_to_its_value_and_broken_beyond(limit, kept, broken, sentence):
    assert verification.broken_limits({limit: kept}, VERDICT, MEASURES, TIMING) == ()
    assert verification.broken_limits({limit: broken}, VERDICT, MEASURES, TIMING) == (sentence,)


def test_every_limit_is_tested_above_and_all_broken_ones_are_told():
    limits = {"score": 1, "agreement": 1, "score_drop": 0, "bytes": 1, "gzip_bytes": 1, "latency_ms": 0}
    assert limits.keys() == verification.LIMITS.keys()
    assert len(verification.broken_limits(limits, VERDICT, MEASURES, TIMING)) == len(limits)


def test_an_unknown_limit_is_answered_with_the_nearest():
    with pytest.raises(OptionError, match="latency: no such limit; did you mean 'latency_ms'"):
        verification.broken_limits({"latency": 1}, VERDICT, MEASURES, TIMING)
