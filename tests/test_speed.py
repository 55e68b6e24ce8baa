"""Precision, XLA and steps in a call: the same weights come out, and what is left to "auto" is measured once."""

from __future__ import annotations

import json

import numpy as np
import pytest

import tfopt
from tfopt import _speed, backend, pipelines, training
from tfopt.errors import OptionError, RecipeError
from tfopt.tracing import Trace
from tfopt.types import Fit

FIT = Fit(epochs=3, batch_size=64, learning_rate=5e-3)


def net():
    with backend.seeded(0):
        return tfopt.models.convnet((8, 8, 1), 10, width=4)


def score(model, data):
    x, y = pipelines.to_arrays(data.validation)
    return float(np.mean(model.predict(x, verbose=0).argmax(axis=1) == y))


def with_(**options):
    return tfopt.Fit(**{**vars(FIT), **options})


@pytest.fixture
def eager(monkeypatch, tmp_path):
    """A trial for every fit, however short, with a cache of its own."""
    monkeypatch.setattr(_speed, "FEWEST", 0)
    monkeypatch.setattr(_speed, "SHORTEST", 0.0)
    monkeypatch.setattr(_speed, "LONG", 0.0)
    monkeypatch.setattr(_speed, "OVERHEAD", float("inf"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "tfopt" / "speed.json"


def test_several_steps_in_a_call_give_the_same_weights(digits):
    one = tfopt.train(net(), digits, with_(steps_per_execution=1))
    many = tfopt.train(net(), digits, with_(steps_per_execution=7))  # 19 steps an epoch: the last call has fewer
    assert all(np.array_equal(a, b) for a, b in zip(one.get_weights(), many.get_weights(), strict=True))


@pytest.mark.parametrize("precision", ["mixed_bfloat16", pytest.param("mixed_float16", marks=pytest.mark.slow)])
def test_half_precision_trains_a_float32_model(digits, precision):
    model = net()
    with Trace() as trace:
        trained = tfopt.train(model, digits, with_(precision=precision, epochs=8))
    full = tfopt.train(model, digits, with_(precision="float32", epochs=8))
    assert {layer.compute_dtype for layer in trained.layers} == {"float32"} == {weight.dtype.name for weight in trained.weights}
    assert [layer.get_config() for layer in trained.layers] == [layer.get_config() for layer in model.layers]
    history = next(entry["history"] for entry in trace.entries if entry["kind"] == "curve")
    assert history["loss"][-1] < 0.6 * history["loss"][0]
    assert not np.array_equal(trained.get_weights()[0], full.get_weights()[0])  # it was computed otherwise
    assert abs(score(trained, digits) - score(full, digits)) < 0.1


@pytest.mark.slow
def test_xla_trains_alike(digits):
    plain, compiled = (tfopt.train(net(), digits, with_(xla=xla, epochs=8)) for xla in (False, True))
    assert abs(score(plain, digits) - score(compiled, digits)) < 0.1


def test_short_fits_are_not_tried_out(digits):
    with Trace() as trace:
        fit = training.resolved(net(), digits, FIT)
    assert (fit.precision, fit.xla, fit.steps_per_execution) == ("float32", False, 1) and trace.entries == []


def test_the_fastest_way_is_found_kept_and_told(digits, eager, monkeypatch):
    monkeypatch.setattr(_speed, "half_precision", lambda *_: "mixed_bfloat16")
    with Trace() as trace:
        first = training.resolved(net(), digits, FIT)
    known = next(iter(json.loads(eager.read_text()).values()))
    rates = known["tried"]
    assert len(rates) == 4 and all(rate > 0 for rate in rates.values())
    chosen = _speed.Way(**known["chosen"])
    assert _speed.way_of(first) == chosen and rates[str(chosen)] >= rates["float32"]
    assert str(chosen) in trace.entries[0]["text"] and "examples a second" in trace.entries[0]["text"]
    monkeypatch.setattr(_speed._Trial, "found", lambda *_: pytest.fail("it was measured again"))
    assert training.resolved(net(), digits, FIT) == first
    with pytest.raises(pytest.fail.Exception):  # another batch size is another trial
        training.resolved(net(), digits, with_(batch_size=32))


def test_what_was_found_for_a_short_fit_is_not_the_last_word_for_a_long_one(digits, eager, monkeypatch):
    monkeypatch.setattr(_speed, "half_precision", lambda *_: None)
    monkeypatch.setattr(_speed, "LONG", 1e9)
    assert training.resolved(net(), digits, FIT).steps_per_execution == 1
    monkeypatch.setattr(_speed, "LONG", 0.0)
    training.resolved(net(), digits, FIT)
    known = next(iter(json.loads(eager.read_text()).values()))
    assert known["compared"] == ["xla", "steps_per_execution"]
    monkeypatch.setattr(_speed, "LONG", 1e9)
    assert _speed.way_of(training.resolved(net(), digits, FIT)) == _speed.Way(**known["chosen"])  # and a short one profits


@pytest.mark.parametrize("seconds, on_gpu, tried", [(0.002, False, True), (0.04, False, False), (0.04, True, True)])
def test_xla_is_tried_on_a_cpu_only_for_short_steps(monkeypatch, seconds, on_gpu, tried):
    monkeypatch.setattr(_speed, "_gpu_capabilities", lambda: [(8, 0)] * on_gpu)
    assert ("xla" in _speed._worth_trying(seconds, 100_000, _speed.FIELDS)) == tried


@pytest.mark.parametrize("damage", ["", "[]", '{"a": {}}', '{"a": {"chosen": {"precision": "x"}, "tried": {}, "step": 1, "compared": []}}'])
def test_a_damaged_cache_is_measured_anew(digits, eager, damage, monkeypatch):
    found = {"chosen": vars(_speed.USUAL), "tried": {"float32": 1.0}, "step": 1.0, "compared": ["steps_per_execution"]}
    monkeypatch.setattr(_speed._Trial, "found", lambda *_: found)
    eager.parent.mkdir()
    eager.write_text(damage)
    assert training.resolved(net(), digits, with_(precision="float32", xla=False)).steps_per_execution in (1, _speed.MANY)
    assert len(json.loads(eager.read_text())) == 1


def test_what_a_fit_says_is_not_tried(digits, eager):
    fit = training.resolved(net(), digits, with_(precision="mixed_bfloat16", xla=False, steps_per_execution=3))
    assert (fit.precision, fit.xla, fit.steps_per_execution) == ("mixed_bfloat16", False, 3) and not eager.exists()


@pytest.mark.parametrize(
    "options", [{"ema": 0.9}, {"max_norm": 1.0}, {"accumulate": 2}, {"schedule": "step"}, {"schedule": "constant", "warmup_epochs": 1}]
)
def test_what_happens_after_each_step_keeps_to_one_step_a_call(digits, eager, options):
    assert training.resolved(net(), digits, with_(precision="float32", xla=False, **options)).steps_per_execution == 1
    with pytest.raises(OptionError, match=r"fit\.steps_per_execution = 5: .* act after each step"):
        tfopt.train(net(), digits, with_(steps_per_execution=5, **options))


def test_callbacks_of_the_users_keep_to_one_step_a_call(digits):
    with pytest.raises(OptionError, match="callbacks act after each step"):
        tfopt.train(net(), digits, with_(steps_per_execution=5), callbacks=[backend.keras().callbacks.Callback()])


def test_a_model_inside_a_model_stays_in_float32(digits, eager):
    keras = backend.keras()
    outer = keras.Sequential([keras.Input((8, 8, 1)), net()])
    with pytest.raises(OptionError, match="has models inside it"):
        tfopt.train(outer, digits, with_(precision="mixed_bfloat16"))
    assert training.resolved(outer, digits, with_(xla=False, steps_per_execution=1)).precision == "float32"


@pytest.mark.parametrize(
    ("flags", "capabilities", "expected"),
    [
        (["avx2", "avx512f"], [], None),
        (["avx512_bf16"], [], "mixed_bfloat16"),
        (["amx_bf16", "amx_tile"], [], "mixed_bfloat16"),
        (["avx512_bf16"], [(7, 5)], "mixed_float16"),
        ([], [(8, 0), (8, 6)], "mixed_bfloat16"),
        ([], [(8, 0), (6, 1)], None),
    ],
)
def test_half_precision_is_for_hardware_that_has_it(flags, capabilities, expected):
    assert _speed.half_precision(flags, capabilities) == expected


def test_a_run_writes_the_choice_before_training_and_takes_it_from_there(tmp_path, monkeypatch):
    recipe = {
        "name": "mine",
        "data": {"use": "digits"},
        "model": {"use": "mlp", "hidden": [8]},
        "fit": {"epochs": 1},
        "export": {"formats": ["float32"]},
    }
    chosen = _speed.Way("mixed_bfloat16", False, 4)
    monkeypatch.setattr(training._speed, "resolved", lambda model, data, fit, **_: tfopt.Fit(**{**vars(fit), **vars(chosen)}))
    monkeypatch.setattr(training, "fit_in_place", lambda *_, **__: 1 / 0)  # killed at the first step
    monkeypatch.setattr("tfopt.runs._worth_keeping", lambda _: True)  # as after a kill, which leaves the folder as it is
    with pytest.raises(ZeroDivisionError):
        tfopt.run(recipe, out=tmp_path / "run")
    written = tmp_path / "run" / "resolved.toml"
    assert 'precision = "mixed_bfloat16"' in written.read_text()
    monkeypatch.undo()
    seen = []
    train = training.train
    monkeypatch.setattr(training, "train", lambda model, data, fit: seen.append(fit) or train(model, data, fit))
    tfopt.run(recipe, out=tmp_path / "run")
    assert _speed.way_of(seen[0]) == chosen
    again = tfopt.run(str(written), out=tmp_path / "other")
    assert _speed.way_of(again.recipe.fit) == chosen


@pytest.mark.parametrize(("key", "value"), [("precision", "float8"), ("xla", "yes"), ("steps_per_execution", 0)])
def test_a_wrong_way_is_refused(key, value):
    with pytest.raises(OptionError, match=key):
        Fit(**{key: value})
    with pytest.raises(RecipeError, match=f"fit.{key} = "):
        tfopt.run({"name": "x", "data": {"use": "digits"}, "model": {"use": "mlp"}, "fit": {key: value}})
