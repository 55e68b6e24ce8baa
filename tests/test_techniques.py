"""The laws that every technique obeys, on nets with randomized weights and BatchNorm statistics."""

from __future__ import annotations

import nets
import numpy as np
import pytest

import tfopt
from tfopt import backend, bridge, strategies, techniques
from tfopt.errors import DataError, OptionError, UnsupportedModel
from tfopt.tracing import Trace
from tfopt.types import Fit, Step

FIT = Fit(epochs=1, batch_size=256, learning_rate=1e-3)
NETS = {"branching": nets.branching, "odd": nets.odd, "sequential": nets.sequential}
# What is set so that the effect is plain to see; the neutral options that change nothing; whether a plain model comes back.
CASES = {
    "prune": {"options": {"sparsity": 0.6}, "neutral": {"sparsity": 0.0}, "plain": True},
    "quantize_aware": {"options": {}, "neutral": None, "plain": False},
}


@pytest.fixture(params=sorted(techniques.TECHNIQUES))
def technique(request):
    return request.param


@pytest.fixture(params=sorted(NETS))
def net(request):
    return nets.randomized(NETS[request.param]())


@pytest.fixture(scope="module")
def images(digits):
    return np.stack([x for x, _ in digits.test.take(32).as_numpy_iterator()])


def apply(technique, model, data, fit=None):
    return techniques.TECHNIQUES[technique](model, data, **CASES[technique]["options"], fit=fit)


def test_every_technique_has_a_case():
    assert set(CASES) == set(techniques.TECHNIQUES) == set(techniques.PLANS) == set(techniques.EFFECTS)


@pytest.mark.parametrize("fit", [None, FIT], ids=["data-free", "trained"])
def test_law_1_the_input_model_is_unchanged(technique, net, digits, images, fit):
    weights, outputs, layers = net.get_weights(), net(images).numpy(), list(net.layers)
    apply(technique, net, digits, fit)
    assert all(np.array_equal(a, b) for a, b in zip(weights, net.get_weights(), strict=True))
    assert np.array_equal(outputs, net(images).numpy())
    assert all(before is after for before, after in zip(layers, net.layers, strict=True))
    assert net.optimizer is None


def test_law_2_a_plain_model_of_the_same_shapes_comes_back(technique, net, digits):
    result = apply(technique, net, digits, FIT)
    assert isinstance(result, backend.keras().Model)
    assert result.input_shape == net.input_shape and result.output_shape == net.output_shape
    if CASES[technique]["plain"]:
        assert [type(layer) for layer in result.layers] == [type(layer) for layer in net.layers]
        assert [layer.name for layer in result.layers] == [layer.name for layer in net.layers]
        assert all(len(layer._inbound_nodes) == len(old._inbound_nodes) for layer, old in zip(result.layers, net.layers, strict=True))


def test_law_3_a_keras_3_model_is_accepted(technique, digits, images):
    model = nets.in_keras_3()
    weights, outputs = model.get_weights(), np.asarray(model(images))
    result = apply(technique, model, digits, FIT)
    twin = apply(technique, bridge.to_keras2(model), digits, FIT)
    assert all(np.array_equal(a, b) for a, b in zip(result.get_weights(), twin.get_weights(), strict=True))
    assert {choice.layer for choice in techniques.PLANS[technique](model) if choice.treated} >= {"conv", "logits"}
    assert all(np.array_equal(a, b) for a, b in zip(weights, model.get_weights(), strict=True))
    assert np.array_equal(outputs, np.asarray(model(images)))
    if CASES[technique]["plain"]:
        back = bridge.to_keras3(result)
        assert [layer.name for layer in back.layers] == [layer.name for layer in result.layers]


def test_law_4_it_works_under_two_replicas(technique, digits):
    strategy = strategies.pick("mirrored", devices=["CPU:0", "CPU:1"])
    with strategy.scope():
        model = nets.randomized(nets.branching())
        result = apply(technique, model, digits, FIT)
    conversion_format, measure = techniques.EFFECTS[technique]
    artifact = tfopt.convert(result, conversion_format, data=digits)
    assert getattr(tfopt.measure(artifact), measure) > 0


def test_law_5_same_seed_same_result(technique, digits):
    first, second = (apply(technique, nets.randomized(nets.branching()), digits, FIT) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(first.get_weights(), second.get_weights(), strict=True))
    other = apply(technique, nets.randomized(nets.branching()), digits, Fit(epochs=1, batch_size=256, seed=1))
    assert not all(np.array_equal(a, b) for a, b in zip(first.get_weights(), other.get_weights(), strict=True))


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case["neutral"] is not None])
def test_law_6_the_neutral_value_changes_no_prediction(name, net, digits, images):
    result = techniques.TECHNIQUES[name](net, digits, **CASES[name]["neutral"], fit=None)
    before, after = nets.logits(net, images), nets.logits(result, images)
    assert np.abs(before - after).max() <= 1e-5 * np.abs(before).max()


def test_law_7_what_can_not_be_treated_is_left_alone_and_said(technique, digits):
    model = nets.randomized(nets.odd())
    with Trace() as trace:
        apply(technique, model, digits)
    choices = {choice.layer: choice for choice in techniques.PLANS[technique](model)}
    assert {name.split("/")[-1] for name in choices} >= {layer.name for layer in model.layers[1:]}
    assert all(choice.reason for choice in choices.values())
    assert choices["conv"].treated and choices["logits"].treated
    assert not choices["rescaling"].treated and not choices["lambda"].treated
    recorded = next(entry for entry in trace.entries if entry["kind"] == "choices")
    assert {choice["layer"] for choice in recorded["choices"]} == set(choices)


def test_law_8_the_effect_is_in_the_converted_file(technique, digits):
    model = nets.randomized(nets.branching())
    conversion_format, measure = techniques.EFFECTS[technique]
    with_it = tfopt.measure(tfopt.convert(apply(technique, model, digits), conversion_format, data=digits))
    without = tfopt.measure(tfopt.convert(model, "float32", data=digits))
    assert getattr(with_it, measure) > getattr(without, measure)


@pytest.mark.parametrize("bad", [{"where": "nowhere"}, {"where": ["conv", "nope*"]}])
def test_where_that_fits_no_layer_is_refused(technique, digits, bad):
    with pytest.raises(OptionError, match=r"no layer has this name or class.*there are"):
        techniques.TECHNIQUES[technique](nets.branching(), digits, **bad)


@pytest.mark.parametrize("where", ["conv", ["conv"], "con?", lambda layer: layer.name == "conv"])
def test_where_chooses_by_name_pattern_list_and_predicate(technique, where):
    plan = techniques.PLANS[technique](nets.randomized(nets.branching()), where=where)
    treated = {choice.layer for choice in plan if choice.treated}
    assert treated == ({"conv"} if technique == "prune" else {"conv", "bn"})  # BatchNorm goes with its convolution


def test_models_that_can_not_be_seen_are_refused_with_advice(technique, digits):
    keras = backend.keras()

    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__(name="mine")
            self.dense = keras.layers.Dense(10)

        def call(self, x):
            return self.dense(x)

    model = Subclassed()
    model(np.zeros((1, 4), "float32"))
    with pytest.raises(UnsupportedModel, match="functional API"):
        apply(technique, model, digits)
    with pytest.raises(UnsupportedModel, match="not built"):
        apply(technique, keras.Sequential([keras.layers.Dense(3)]), digits)
    with pytest.raises(UnsupportedModel, match="expected a tf_keras model"):
        apply(technique, "model.h5", digits)
    with pytest.raises(UnsupportedModel, match=r"not built.*keras\.Input"):
        apply(technique, bridge.keras3().Sequential([bridge.keras3().layers.Dense(3)]), digits)


def test_quantized_models_are_refused_by_every_technique(technique, digits):
    quantized = tfopt.quantize_aware(nets.sequential(), digits)
    with pytest.raises(UnsupportedModel, match="comes last"):
        apply(technique, quantized, digits)


def test_chain_is_the_steps_one_after_the_other(digits, images):
    model = nets.randomized(nets.branching())
    by_hand = tfopt.prune(tfopt.prune(model, digits, sparsity=0.3, where="conv"), digits, sparsity=0.7, where="dense")
    shrink = tfopt.chain(Step("prune", {"sparsity": 0.3, "where": "conv"}), Step("prune", {"sparsity": 0.7, "where": "dense"}))
    assert np.array_equal(shrink(model, digits)(images), by_hand(images))
    with pytest.raises(OptionError, match="did you mean 'prune'"):
        tfopt.chain(Step("prun", {}))


def test_quantize_aware_needs_data():
    with pytest.raises(DataError, match="calibration"):
        tfopt.quantize_aware(nets.sequential())
