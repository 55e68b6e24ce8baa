from __future__ import annotations

import os
import re

import numpy as np
import pytest

import tfopt
from tfopt import backend, runtime, timing
from tfopt.errors import ArtifactError, DataError, OptionError


def dense(width: int, name: str, shape=(8, 8, 1)):
    keras = backend.keras()
    layers = [keras.layers.Flatten(input_shape=shape), keras.layers.Dense(width), keras.layers.Dense(width), keras.layers.Dense(10)]
    return keras.Sequential(layers, name=name)


@pytest.fixture(scope="module")
def artifact():
    return tfopt.convert(dense(16, "net"))


def test_every_sample_is_kept_and_what_was_measured_is_said(artifact):
    took = tfopt.benchmark(artifact, threads=2, runs=60, warmup=3)
    assert len(took.samples_ms) == 60 and min(took.samples_ms) > 0
    assert min(took.samples_ms) <= took.median_ms <= took.p90_ms <= took.p99_ms <= max(took.samples_ms)
    assert (took.warmup, took.threads, took.inputs) == (3, 2, "random values")
    assert re.fullmatch(r"LiteRT \d+\.\d+.*", took.runtime)
    assert took.machine.endswith(f", {os.cpu_count()} cores" if os.cpu_count() > 1 else ", 1 core")
    assert len(took.machine.partition(",")[0]) > 3


def test_more_work_takes_longer(artifact):
    small, large = timing.compare([artifact, tfopt.convert(dense(1024, "large"))])
    assert large.median_ms > 5 * small.median_ms


def test_a_model_is_converted_to_float32_first(caplog):
    caplog.set_level("INFO", "tfopt")
    assert len(tfopt.benchmark(dense(16, "net")).samples_ms) == 50
    assert "net: converted to float32 to be timed" in caplog.text


def test_test_examples_are_the_inputs_where_there_is_data(artifact, digits, monkeypatch):
    fed = []
    feed = runtime.Session.feed
    monkeypatch.setattr(runtime.Session, "feed", lambda self, example: (fed.append(example[0]), feed(self, example))[1])
    took = tfopt.benchmark(artifact, data=digits, warmup=0)
    expected = np.stack([x.numpy() for x, _ in digits.test.take(50)])
    assert took.inputs == "test examples"
    assert np.allclose(np.stack(fed), expected)


def test_what_is_compared_runs_in_turns(artifact, digits, monkeypatch):
    names = []
    invoke = runtime.Session.invoke
    monkeypatch.setattr(runtime.Session, "invoke", lambda self: (names.append(self.name), invoke(self))[1])
    other = tfopt.convert(dense(16, "other"), "int8", data=digits)
    assert len(timing.compare([artifact, other], runs=50, warmup=5)) == 2
    assert names == ["net-float32", "other-int8"] * 55


@pytest.mark.parametrize("io", ["int8", "uint8", "float32"])
def test_random_values_fit_every_input(io, digits):
    assert len(tfopt.benchmark(tfopt.convert(dense(8, "net"), "int8", data=digits, io=io)).samples_ms) == 50


def test_random_indices_fit_an_embedding():
    keras = backend.keras()
    model = keras.Sequential([keras.Input((5,), dtype="int32"), keras.layers.Embedding(11, 4)])
    assert len(tfopt.benchmark(tfopt.convert(model)).samples_ms) == 50


@pytest.mark.parametrize(("options", "message"), [({"runs": 49}, "runs = 49: should be at least 50"), ({"warmup": -1}, "warmup = -1")])
def test_options_out_of_range_are_refused(options, message, artifact):
    with pytest.raises(OptionError, match=message):
        tfopt.benchmark(artifact, **options)


def test_arguments_of_another_type_are_refused(artifact):
    with pytest.raises(ArtifactError, match=r"is no \.tflite: expected an artifact, a path or the file's bytes"):
        tfopt.benchmark(5)
    with pytest.raises(DataError, match="got str"):
        tfopt.benchmark(artifact, data="digits")
    for options in ({"threads": 1.5}, {"runs": "60"}, {"warmup": None}):
        (name,) = options
        with pytest.raises(OptionError, match=f"{name} = .*: should be a valid integer"):
            tfopt.benchmark(artifact, **options)


def test_data_of_another_shape_is_refused(digits):
    with pytest.raises(DataError, match=r"takes examples of shape \(5, 3\) in batches of 1, got \(8, 8, 1\)"):
        tfopt.benchmark(tfopt.convert(dense(8, "net", (5, 3))), data=digits)


def test_a_truncated_file_is_refused(artifact, tmp_path):
    path = tmp_path / "cut.tflite"
    path.write_bytes(artifact.content[:-200])
    with pytest.raises(ArtifactError, match=r"cut\.tflite: the file is damaged"):
        tfopt.benchmark(path)
