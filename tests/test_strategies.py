"""Strategies by name, on two logical CPUs."""

from __future__ import annotations

import pytest

from tfopt import backend, strategies
from tfopt.errors import OptionError


def test_auto_means_one():
    assert strategies.pick() is strategies.pick("one") is backend.tensorflow().distribute.get_strategy()


def test_one_on_a_given_device():
    strategy = strategies.pick("one", devices=["CPU:1"])
    with strategy.scope():
        variable = backend.tensorflow().Variable(1.0)
    assert variable.device.endswith("CPU:1")


def test_mirrored_copies_onto_each_device_and_is_shared():
    strategy = strategies.pick("mirrored", devices=["CPU:0", "/device:cpu:1"])
    assert strategy.num_replicas_in_sync == 2
    assert strategy is strategies.pick("mirrored", devices=["CPU:0", "CPU:1"])


@pytest.mark.parametrize(
    "name, options, words",
    [
        ("mirored", {}, "did you mean 'mirrored'"),
        ("mirrored", {"devices": ["GPU:7"]}, "no 'GPU:7'"),
        ("mirrored", {"devices": []}, "at least 1 item"),
        ("one", {"devices": 3}, "devices = 3"),
    ],
)
def test_what_is_not_there_is_refused(name, options, words):
    with pytest.raises(OptionError, match=words):
        strategies.pick(name, **options)
