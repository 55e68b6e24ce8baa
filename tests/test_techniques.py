"""The laws that every technique obeys, on nets with randomized weights and BatchNorm statistics.

One data-free run of each technique on each net, and one trained, is made when it is first needed; the laws look at it from all sides.
What costs most (training, replicas, other precisions) runs on the net that shows most, on the others with --slow.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

import nets
import numpy as np
import pytest

import tfopt
from tfopt import backend, bridge, datasets, options, pipelines, strategies, techniques
from tfopt.errors import DataError, OptionError, RecipeError, UnsupportedModel
from tfopt.surgery import copying
from tfopt.tracing import Trace
from tfopt.types import Fit, Step

FIT = Fit(epochs=1, batch_size=256, learning_rate=1e-3)
OTHER_SEED = Fit(epochs=1, batch_size=256, learning_rate=1e-3, seed=1)
NETS = {
    "attention": nets.attention,
    "both_ways": nets.both_ways,
    "branching": nets.branching,
    "gated": nets.gated,
    "odd": nets.odd,
    "recurrent": nets.recurrent,
    "sequential": nets.sequential,
    "two_inputs": nets.two_inputs,
}
QUICK = tuple(net for net in NETS if net != "both_ways")  # which takes as long as all others together
FEW = ("branching", "odd")  # for techniques whose own tests go over every builder, and one that treats kernels of all kinds alike
COSTLY = ("clip_weights", "equalize", "factorize", "fold", "quantize_aware")  # to train, for what it shows here; with --slow
ON_FEW = ("clip_weights", "equalize", "factorize", "fold", "prune_channels")
IN_THE_ANSWERS = {"distill", "equalize"}  # techniques whose effect no measure of a file shows, but what it answers
UNSURE = {"fold"}  # those that many a model gives nothing to do
SMALLER = {"parameters", "largest_weight"}  # measures of which less is the effect
# options: set so that the effect is plain to see; neutral: those that change nothing, if there are; plain: whether a plain model of the
# same layers comes back; parts: whether its layers may stand in parts, of which the last has the layer's name; with_conv: what is treated
# along with the convolution "conv" of `branching`; nothing: nets in which it can treat no layer.
CASES = {
    "clip_weights": {"options": {"limit": 0.2}, "neutral": {"percentile": 100}, "plain": True, "with_conv": ()},
    "cluster": {"options": {"clusters": 8}, "neutral": {"clusters": 100_000}, "plain": True, "with_conv": ()},
    "distill": {"options": {"teacher": "self"}, "neutral": {"teacher": "self"}, "plain": True, "with_conv": ()},
    "factorize": {"options": {"rank": 0.25}, "neutral": {"rank": 1.0}, "plain": True, "parts": True, "with_conv": ()},
    "fold": {"options": {}, "neutral": {}, "plain": False, "with_conv": ()},  # has no options, and changes no prediction
    "prune_channels": {
        "options": {"keep": 0.5, "multiple_of": 1},
        "neutral": {"keep": 1.0},
        "plain": True,
        "with_conv": ("bn", "depthwise", "inner/point"),  # what stands behind it and reads its channels
    },
    "equalize": {
        "options": {},
        "neutral": {},
        "plain": False,  # BatchNorms are folded
        "nothing": ("attention", "both_ways", "gated", "recurrent"),  # no factor goes through gates and normalizations
    },
    "prune": {"options": {"sparsity": 0.6}, "neutral": {"sparsity": 0.0}, "plain": True, "with_conv": ()},
    "quantize_aware": {"options": {}, "neutral": None, "plain": False, "with_conv": ("bn",)},  # BatchNorm goes with its convolution
}
TRAINING = tuple(name for name in CASES if "fit" in options.options_of(techniques.TECHNIQUES[name]))


def pairs(*quick, names=tuple(CASES), slow=()):
    """Every technique on every net; only with --slow the `slow` ones, and those on other nets than the `quick` ones (else QUICK or FEW)."""

    def marks(name, net):
        return [] if net in (quick or (FEW if name in ON_FEW else QUICK)) and name not in slow else [pytest.mark.slow]

    return pytest.mark.parametrize(
        ("technique", "net"),
        [
            pytest.param(name, net, id=f"{name}-{net}", marks=marks(name, net))
            for name in sorted(names)
            for net in NETS
            if net not in CASES[name].get("nothing", ())
        ],
    )


@dataclass
class Run:
    """What a technique made of a model, and what the model was before."""

    model: Any
    weights: list[np.ndarray]
    layers: list[Any]
    outputs: np.ndarray
    result: Any
    trace: Trace


@pytest.fixture(scope="module")
def data(digits):
    """The scanned digits, with a row of a table beside each for the net of two inputs: the sums of its rows, on a larger scale."""
    x, y = zip(*(pipelines.to_arrays(part) for part in (digits.train, digits.validation, digits.test)), strict=True)
    x = np.concatenate(x)
    two = datasets.arrays(x={"image": x, "row": 3 * x.sum(axis=(2, 3))}, y=np.concatenate(y), name="two")
    return {net: two if net == "two_inputs" else digits for net in NETS}


@pytest.fixture(scope="module")
def examples(data):
    """Test examples for each net, as it takes them."""
    return {net: pipelines.to_arrays(it.test, 32)[0] for net, it in data.items()}


@pytest.fixture(scope="module")
def untreated():
    """`untreated(technique, net)`: what the technique's measure is without it, in a file of the net itself."""
    made = {}

    def measure(technique, net):
        if net not in made:
            made[net] = tfopt.measure(tfopt.convert(built(net)))
        return getattr(made[net], measure_of(technique)[1])

    return measure


@pytest.fixture(scope="module")
def ran(data, examples):
    """`ran(technique, net, fit, keras)`: one run, made when it is first asked for."""
    made = {}

    def run(technique, net, fit=None, keras=2):
        key = technique, net, fit, keras
        if key not in made:
            model = built(net, keras)
            before = model.get_weights(), list(model.layers), said(model, examples[net])
            with Trace() as trace:
                result = apply(technique, model, data[net], fit)
            made[key] = Run(model, *before, result, trace)
        return made[key]

    return run


def built(net, keras=2):
    """The net in Keras 2 or 3, with the same random weights in each."""
    if keras == 2:
        return nets.randomized(NETS[net]())
    model = NETS[net](bridge.keras3())
    model.set_weights(weights_for_keras_3(net, model))
    return model


def weights_for_keras_3(net, model):
    twin = bridge.to_keras2(model)
    twin.set_weights(built(net).get_weights())
    return bridge.to_keras3(twin).get_weights()


def said(model, x):
    return np.asarray(model(x, training=False)).astype("float32")


def apply(technique, model, data, fit=None):
    training = {"fit": fit} if technique in TRAINING else {}
    return techniques.TECHNIQUES[technique](model, data, **CASES[technique]["options"], **training)


def planned(technique, model, **options):
    return techniques.PLANS[technique](model, **CASES[technique]["options"], **options)


def in_file(technique, net, model, data):
    """The measure that the technique moves, in the file that is made of what it made of a net."""
    conversion_format, measure = measure_of(technique)
    return getattr(tfopt.measure(tfopt.convert(model, conversion_format, data=data[net])), measure)


def measure_of(technique):
    """The format and the measure of it that the technique moves; one that moves none does not make the file larger."""
    return techniques.EFFECTS.get(technique, ("float32", "parameters"))


def moved(technique, after, before):
    """Whether the technique's measure is on the better side of what it was; of one that moves none, on no worse side."""
    if technique not in techniques.EFFECTS:
        return after <= before
    return after < before if measure_of(technique)[1] in SMALLER else after > before


def treated_of(technique, net):
    """A layer of the net that is certainly treated; None where there is nothing to fold."""
    if technique == "fold":
        return {"branching": "bn", "odd": "rescaling", "two_inputs": "bn"}.get(net)
    normalized = technique == "prune_channels" and net == "attention"  # the width behind its LayerNormalization is kept
    return "attention" if normalized else "logits"


def same_weights(first, second):
    return all(np.array_equal(a, b) for a, b in zip(first.get_weights(), second.get_weights(), strict=True))


@pytest.fixture(params=sorted(techniques.TECHNIQUES))
def technique(request):
    return request.param


def test_every_technique_has_a_case():
    assert set(CASES) == set(techniques.TECHNIQUES) == set(techniques.PLANS) == {*techniques.EFFECTS, *IN_THE_ANSWERS, *UNSURE}


# ---- law 1: the input model is unchanged


def check_unchanged(run, x):
    assert all(np.array_equal(a, b) for a, b in zip(run.weights, run.model.get_weights(), strict=True))
    assert np.array_equal(run.outputs, said(run.model, x))
    assert all(before is after for before, after in zip(run.layers, run.model.layers, strict=True))
    assert getattr(run.model, "optimizer", None) is None


@pairs()
def test_law_1_the_input_model_is_unchanged(technique, net, ran, examples):
    check_unchanged(ran(technique, net), examples[net])


@pairs("branching", "two_inputs", slow=COSTLY, names=TRAINING)
def test_law_1_the_input_model_is_unchanged_by_training(technique, net, ran, examples):
    check_unchanged(ran(technique, net, FIT), examples[net])


# ---- law 2: a plain model of the same shapes comes back


def check_plain(technique, run):
    net, result = run.model, run.result
    assert isinstance(result, backend.keras().Model)
    assert result.input_shape == net.input_shape and result.output_shape == net.output_shape
    assert result.input_names == net.input_names
    if CASES[technique].get("parts"):
        homes = {type(layer).__module__.split(".")[0] for layer in result._flatten_layers()}
        assert homes == {type(layer).__module__.split(".")[0] for layer in net._flatten_layers()}
        assert {name for name, _ in copying.all_layers(net)} < {name for name, _ in copying.all_layers(result)}
    elif CASES[technique]["plain"]:
        assert [type(layer) for layer in result.layers] == [type(layer) for layer in net.layers]
        assert [layer.name for layer in result.layers] == [layer.name for layer in net.layers]
        assert all(len(layer._inbound_nodes) == len(old._inbound_nodes) for layer, old in zip(result.layers, net.layers, strict=True))


@pairs()
def test_law_2_a_plain_model_of_the_same_shapes_comes_back(technique, net, ran):
    check_plain(technique, ran(technique, net))


@pairs("branching", "two_inputs", slow=COSTLY, names=TRAINING)
def test_law_2_a_plain_model_of_the_same_shapes_comes_back_from_training(technique, net, ran):
    check_plain(technique, ran(technique, net, FIT))


# ---- law 3: a Keras 3 model is accepted, and the result is that of its Keras 2 twin


def check_accepted(technique, net, ran, examples, fit):
    run = ran(technique, net, fit, keras=3)
    assert bridge.is_keras3(run.model)
    check_unchanged(run, examples[net])
    assert same_weights(run.result, ran(technique, net, fit).result)
    if CASES[technique]["plain"]:
        back = bridge.to_keras3(run.result)
        assert [layer.name for layer in back.layers] == [layer.name for layer in run.result.layers]


@pairs(slow=("quantize_aware",))
def test_law_3_a_keras_3_model_is_accepted(technique, net, ran, examples):
    check_accepted(technique, net, ran, examples, None)


@pairs("branching", slow=COSTLY, names=TRAINING)
def test_law_3_a_keras_3_model_is_accepted_for_training(technique, net, ran, examples):
    check_accepted(technique, net, ran, examples, FIT)


def test_law_3_a_keras_3_model_with_operations_of_its_own_is_accepted(technique, digits, examples):
    model = nets.in_keras_3()
    weights, outputs = model.get_weights(), said(model, examples["branching"])
    result = apply(technique, model, digits, FIT)
    assert same_weights(result, apply(technique, bridge.to_keras2(model), digits, FIT))
    treated = {choice.layer for choice in planned(technique, model) if choice.treated}
    folding = technique in ("equalize", "fold")  # whose factors stop at silu, and at what it is added to
    assert treated >= {"conv", "bn" if folding else "logits"}
    assert all(np.array_equal(a, b) for a, b in zip(weights, model.get_weights(), strict=True))
    assert np.array_equal(outputs, said(model, examples["branching"]))


# ---- law 4: it works under a strategy of two replicas


@pytest.mark.parametrize("keras", [2, pytest.param(3, marks=pytest.mark.slow)])
@pairs("branching", slow=("cluster", "distill", *COSTLY))
def test_law_4_it_works_under_two_replicas(technique, net, data, untreated, keras):
    strategy = strategies.pick("mirrored", devices=["CPU:0", "CPU:1"])
    with strategy.scope():
        result = apply(technique, built(net, keras), data[net], FIT)
    assert result.distribute_strategy.num_replicas_in_sync == 2
    assert moved(technique, in_file(technique, net, result, data), untreated(technique, net))


# ---- law 5: same seed, same result


@pairs("branching", slow=COSTLY, names=TRAINING)
def test_law_5_same_seed_same_result(technique, net, data, ran):
    again, other = (apply(technique, built(net), data[net], fit) for fit in (FIT, OTHER_SEED))
    assert same_weights(again, ran(technique, net, FIT).result)
    assert not same_weights(again, other)


# ---- law 6: the neutral value changes no prediction


@pairs(names=[name for name, case in CASES.items() if case["neutral"] is not None])
def test_law_6_the_neutral_value_changes_no_prediction(technique, net, data, examples):
    model = built(net)
    result = techniques.TECHNIQUES[technique](model, data[net], **CASES[technique]["neutral"])
    before, after = nets.logits(model, examples[net]), nets.logits(result, examples[net])
    assert np.abs(before - after).max() <= 1e-5 * np.abs(before).max()


# ---- law 7: what can't be treated is left alone, and said


@pairs()
def test_law_7_what_can_not_be_treated_is_left_alone_and_said(technique, net, ran):
    run = ran(technique, net)
    choices = {choice.layer: choice for choice in planned(technique, run.model)}
    assert set(choices) == {name for name, _ in copying.all_layers(run.model)}
    assert all(choice.reason for choice in choices.values())
    surely = treated_of(technique, net)
    assert surely is None or choices[surely].treated
    recorded = next(entry for entry in run.trace.entries if entry["kind"] == "choices")
    assert {choice["layer"] for choice in recorded["choices"]} == set(choices)
    if CASES[technique]["plain"]:
        found = dict(copying.all_layers(run.result))
        for name, old in copying.all_layers(run.model):
            assert choices[name].treated or same_weights(old, found[name]), name


def test_law_7_an_odd_layer_does_not_kill_the_model(technique, ran):
    choices = {choice.layer: choice for choice in planned(technique, ran(technique, "odd").model)}
    around = "conv1d" if technique in ("prune_channels", "equalize") else "conv"  # whose channels do not go through the Lambda
    assert choices[around].treated and not choices["lambda"].treated
    folds = technique == "fold"  # which takes the Rescaling into the convolution, and leaves the end as it is
    assert choices["logits"].treated != folds and choices["rescaling"].treated == folds


# ---- law 8: the effect is in the converted file


@pairs(names=tuple(techniques.EFFECTS))
def test_law_8_the_effect_is_in_the_converted_file(technique, net, ran, data, untreated):
    assert moved(technique, in_file(technique, net, ran(technique, net).result, data), untreated(technique, net))


@pairs("branching", names=tuple(techniques.EFFECTS))
def test_law_8_the_effect_of_training_is_in_the_converted_file(technique, net, ran, data, untreated):
    assert moved(technique, in_file(technique, net, ran(technique, net, FIT).result, data), untreated(technique, net))


# ---- law 9: a mixed-precision model is treated, and a plain one keeps its precision


@contextlib.contextmanager
def mixed_precision():
    keras2, keras3 = backend.keras().mixed_precision, bridge.keras3().mixed_precision
    try:
        keras2.set_global_policy("mixed_bfloat16")
        keras3.set_dtype_policy("mixed_bfloat16")
        yield
    finally:
        keras2.set_global_policy("float32")
        keras3.set_dtype_policy("float32")


def policies(model):
    """The model's own policy, which decides how it is trained, and its layers'."""
    return {"model": model.dtype_policy.name, **{name: layer.dtype_policy.name for name, layer in copying.all_layers(model)}}


def check_mixed(technique, net, data, untreated, fit, keras=2):
    with mixed_precision():
        model = built(net, keras)
    before = policies(bridge.plain(model))
    assert before["model"] == before["logits"] == "mixed_bfloat16"
    result = apply(technique, model, data[net], fit)
    assert policies(bridge.plain(model)) == before
    if CASES[technique]["plain"]:
        assert policies(result).items() >= before.items()
    elif technique in TRAINING and technique != techniques.LAST:
        left = {name.rpartition("/")[2]: policy for name, policy in before.items()}  # of a nested model's layers that are laid open, too
        assert {name.rpartition("/")[2]: policy for name, policy in policies(result).items()}.items() <= left.items()
    assert moved(technique, in_file(technique, net, result, data), untreated(technique, net))


@pytest.mark.parametrize("keras", [2, pytest.param(3, marks=pytest.mark.slow)])
@pairs("branching")
def test_law_9_a_mixed_precision_model_is_treated(technique, net, data, untreated, keras):
    check_mixed(technique, net, data, untreated, None, keras)


@pairs("branching", slow=COSTLY, names=TRAINING)
def test_law_9_a_mixed_precision_model_is_treated_and_trained(technique, net, data, untreated):
    check_mixed(technique, net, data, untreated, FIT)


# ---- what they all refuse, and how they are put together


CHOOSING = sorted(name for name, it in techniques.TECHNIQUES.items() if "where" in options.options_of(it))


@pytest.mark.parametrize("technique", CHOOSING)
@pytest.mark.parametrize("bad", [{"where": "nowhere"}, {"where": ["conv", "nope*"]}])
def test_where_that_fits_no_layer_is_refused(technique, digits, bad):
    with pytest.raises(OptionError, match=r"no layer has this name or class.*there are"):
        techniques.TECHNIQUES[technique](nets.branching(), digits, **bad)


@pytest.mark.parametrize("technique", CHOOSING)
@pytest.mark.parametrize("where", ["conv", ["conv"], "con?", lambda layer: layer.name == "conv"])
def test_where_chooses_by_name_pattern_list_and_predicate(technique, where):
    plan = planned(technique, nets.randomized(nets.branching()), where=where)
    treated = {choice.layer for choice in plan if choice.treated}
    assert treated == {"conv", *CASES[technique]["with_conv"]}


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


def test_chain_is_the_steps_one_after_the_other(digits, examples):
    model = nets.randomized(nets.branching())
    by_hand = tfopt.prune(tfopt.prune(model, digits, sparsity=0.3, where="conv"), digits, sparsity=0.7, where="dense")
    shrink = tfopt.chain(Step("prune", {"sparsity": 0.3, "where": "conv"}), Step("prune", {"sparsity": 0.7, "where": "dense"}))
    assert np.array_equal(shrink(model, digits)(examples["branching"]), by_hand(examples["branching"]))
    with pytest.raises(RecipeError, match="did you mean 'prune'"):
        tfopt.chain(Step("prun", {}))


def test_quantize_aware_needs_data():
    with pytest.raises(DataError, match="calibration"):
        tfopt.quantize_aware(nets.sequential())
