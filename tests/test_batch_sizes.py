"""batch_find: what a step of each batch size takes, and which size is enough."""

from __future__ import annotations

import dataclasses
import resource
from pathlib import Path

import numpy as np
import pytest

import tfopt
from tfopt import backend, strategies
from tfopt.errors import DataError, OptionError
from tfopt.finding import BatchSize, BatchSizes, _batch_sizes
from tfopt.types import Fit


def convnet(width=4):
    with backend.seeded(0):
        return tfopt.models.convnet((8, 8, 1), 10, width=width)


def test_each_size_is_measured(digits):
    model = convnet(width=32)
    before = model.get_weights()
    found = tfopt.batch_find(model, digits, sizes=(512, 8, 8))
    small, large = found.rows
    assert (small.size, large.size) == (8, 512)
    assert small.examples_per_second == pytest.approx(8e3 / small.step_ms)
    assert large.examples_per_second > 2 * small.examples_per_second  # a step of 8 is mostly overhead
    assert found.suggested == 512
    # its first activation alone, with its gradient, is (512, 8, 8, 32) float32
    assert large.memory > small.memory + 2 * 512 * 8 * 8 * 32 * 4
    assert all(np.array_equal(one, other) for one, other in zip(before, model.get_weights(), strict=True)) and model.optimizer is None
    lines = str(found).splitlines()
    assert lines[0].split() == ["batch", "step", "ms", "examples/s", "memory"] and lines[1].split()[0] == "8"
    assert "batch size 512 suggested; the smallest within 10 % of the most examples a second" in lines[3]


def test_a_size_that_can_not_be_has_its_reason(digits):
    found = tfopt.batch_find(convnet(), digits, Fit(accumulate=4), sizes=(2, 16, 4096))
    too_small, measured, too_large = found.rows
    assert "accumulate = 4: should be at most batch_size = 2" in too_small.reason and too_small.step_ms is None
    assert too_large.reason == "there are 1,168 training examples" and too_large.examples_per_second is None
    assert not measured.reason and found.suggested == 16
    assert str(found).splitlines()[3].split(maxsplit=4) == ["4096", "–", "–", "–", "there are 1,168 training examples"]


def test_where_none_can_be_measured_none_is_suggested(digits):
    found = tfopt.batch_find(convnet(), digits, sizes=[5000])
    assert found.suggested is None and str(found).endswith("no batch size suggested: none could be measured")
    assert not found.plot().axes[0].lines[0].get_xdata().size


def test_a_size_that_does_not_fit_in_memory_has_its_reason(digits):
    keras = backend.keras()
    layers = [keras.layers.Flatten(input_shape=(8, 8, 1)), keras.layers.Dense(1), keras.layers.RepeatVector(2**21)]  # 8 MB an example
    model = keras.Sequential([*layers, keras.layers.GlobalAveragePooling1D(), keras.layers.Dense(10)])
    limits = resource.getrlimit(resource.RLIMIT_AS)
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + 2**32, limits[1]))
    try:
        found = tfopt.batch_find(model, digits, sizes=(1, 1024))
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
    fits, does_not = found.rows
    assert not fits.reason and fits.step_ms > 0
    assert does_not.reason == "does not fit in memory" and found.suggested == 1


def test_a_size_that_would_not_fit_is_not_tried():
    assert _batch_sizes.foreseen({16: 100, 32: 180}, 64) == 340
    assert _batch_sizes.foreseen({8: 500, 16: 100, 32: 90}, 64) == 90  # no promise to become less
    assert _batch_sizes.foreseen({16: 100}, 64) == 0
    rows = [BatchSize(16, memory=10**12), BatchSize(32, memory=2 * 10**12)]
    with pytest.raises(OptionError, match=r"would take about 4,000\.0 GB of memory, and \S+ GB are free"):
        _batch_sizes._check_room(64, rows)
    _batch_sizes._check_room(64, [BatchSize(16, memory=10**6), BatchSize(32, memory=2 * 10**6)])


def test_the_suggestion_is_the_smallest_within_a_tenth_of_the_best():
    def found(*milliseconds):
        return BatchSizes(tuple(BatchSize(2**at, one) for at, one in enumerate(milliseconds)), "a machine")

    assert found(1.0, 1.0, 1.0).suggested == 4
    assert found(1.0, 1.6, 3.0).suggested == 2  # 1,000, 1,250 and 1,333 examples a second
    assert found(1.0, 1.7, 3.0).suggested == 4
    assert found(1.0, 2.1, 4.3).suggested == 1


def test_two_replicas_share_a_batch(digits):
    with strategies.pick("mirrored", devices=["CPU:0", "CPU:1"]).scope():
        model = convnet()
    one, many = tfopt.batch_find(model, digits, sizes=(1, 32)).rows
    assert "too few for 2 replicas" in one.reason
    assert many.step_ms > 0


def test_wrong_options_are_refused(digits):
    for sizes, words in (((), "sizes"), ((0,), "greater than or equal to 1"), (("16",), "valid integer"), (16, "sizes = 16")):
        with pytest.raises(OptionError, match=words):
            tfopt.batch_find(convnet(), digits, sizes=sizes)
    with pytest.raises(DataError, match="takes examples of shape"):
        tfopt.batch_find(tfopt.models.mlp((4, 4, 1), 10), digits)


def test_the_plot_has_throughput_and_memory(tmp_path):
    rows = (BatchSize(16, 2.0, 10**7), BatchSize(32, 3.0, 2 * 10**7), BatchSize(64, reason="does not fit"))
    found = BatchSizes(rows, "a machine")
    throughput, memory = (axes.lines[0] for axes in found.plot().axes)
    assert throughput.get_xdata().tolist() == memory.get_xdata().tolist() == [16, 32]
    assert throughput.get_ydata().tolist() == pytest.approx([8000, 32e3 / 3]) and memory.get_ydata().tolist() == [10, 20]
    assert len(BatchSizes((dataclasses.replace(rows[0], memory=None),), "a machine").plot().axes) == 1
    assert b"<svg" in found.save(tmp_path / "batches.svg").read_bytes()
