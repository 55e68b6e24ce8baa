"""Factorization: products that are exact where a kernel is one, what the plan promises, budgets, and what is left alone."""

from __future__ import annotations

import re

import nets
import numpy as np
import pytest
from test_channels import inputs_of, outputs_of, without_ending
from test_models import built as built_by
from test_models import every

import tfopt
from tfopt import _layer_macs, backend, runtime, techniques
from tfopt.errors import DataError, OptionError, RecipeError, UnsupportedModel
from tfopt.surgery import copying, kernels
from tfopt.techniques import _parts
from tfopt.techniques._products import Product, Tucker
from tfopt.types import Fit, Step

FIT = Fit(epochs=1, batch_size=256, learning_rate=1e-3)
NEARLY_ALL = 0.999999


def plan(model, **options):
    return {choice.layer: choice for choice in techniques.PLANS["factorize"](model, **options)}


def treated(model, **options):
    return {name for name, choice in plan(model, **options).items() if choice.treated}


def made(build, *shape, **given):
    """A model of `build(inputs, layers)` with random weights."""
    keras = backend.keras()
    inputs = keras.Input(shape, **given)
    return nets.randomized(keras.Model(inputs, build(inputs, keras.layers)))


def lowered(model, share=0.25):
    """The model with kernels that have a low rank along inputs and along outputs."""
    generator = np.random.default_rng(0)
    for kernel in kernels.of_all(model.layers):
        if kernel.name.rpartition("/")[2] in ("kernel", "embeddings"):
            old = kernel.variable.numpy()
            inputs, outputs = old.shape[-2:]
            ranks = [max(1, round(share * size)) for size in (inputs, outputs)]
            left, right = (generator.normal(size=(size, rank)) for size, rank in zip((inputs, outputs), ranks, strict=True))
            new = np.einsum("mr,...rs,ns->...mn", left, generator.normal(size=(*old.shape[:-2], *ranks)), right)
            kernel.variable.assign((new / new.std() * old.std()).astype(old.dtype))
    return model


def macs_of(model):
    return sum(_layer_macs.macs(layer, call) or 0 for _, layer, call in _layer_macs.calls(model))


def same(old, new, x, share=1e-5):
    for before, after in zip(outputs_of(old, x), outputs_of(new, x), strict=True):
        assert before.shape == after.shape and before.std() > 1e-4 * np.abs(before).max()
        assert np.abs(before - after).max() <= share * np.abs(before).max()
    return True


def check_promises(model, small, choices):
    """What the plan says that each layer costs in parts is what it costs, to the last one; other layers are as they were."""
    before, after = dict(copying.all_layers(model)), dict(copying.all_layers(small))
    costs = dict.fromkeys(after, 0)
    for name, layer, call in _layer_macs.calls(small):
        costs[name] += _layer_macs.macs(layer, call) or 0
    for name, choice in choices.items():
        parts = [part for part in (f"{name}_in", f"{name}_core", name) if part in after and (part == name or part not in before)]
        if not choice.treated:
            assert parts == [name] and all(map(np.array_equal, before[name].get_weights(), after[name].get_weights()))
            continue
        unit, old, new = re.search(r", (MACs|parameters) ([\d,]+) -> ([\d,]+)", choice.reason).groups()
        counts = {
            "MACs": sum(costs[part] for part in parts),
            "parameters": sum(after[part].count_params() for part in parts),
        }
        assert len(parts) > 1 and counts[unit] == int(new.replace(",", "")) < int(old.replace(",", ""))
        assert unit == "MACs" or before[name].count_params() == int(old.replace(",", ""))


# ---- products


@pytest.mark.parametrize("shape", [(12, 7), (7, 12), (9, 9), (1, 5)])
def test_a_product_is_the_truncated_svd_and_keeps_what_it_says(shape):
    matrix = np.random.default_rng(0).normal(size=shape).astype("float32")
    product, energies = Product(matrix), np.linalg.svd(matrix)[1] ** 2
    assert np.allclose(product.kept, energies.cumsum() / energies.sum(), atol=1e-5)
    for rank in range(1, min(shape) + 1):
        left, right = product.factors(rank)
        assert left.shape == (shape[0], rank) and right.shape == (rank, shape[1])
        assert np.square(matrix - left @ right).sum() == pytest.approx(energies[rank:].sum(), abs=1e-5 * float(energies.sum()))
        assert np.allclose(np.linalg.norm(left, axis=0), np.linalg.norm(right, axis=1), rtol=1e-4)


def test_a_matrix_of_lower_rank_than_its_product_gives_finite_factors():
    left, right = Product(np.outer(np.arange(1, 6), np.arange(1, 5)).astype("float32")).factors(3)
    assert np.isfinite(left).all() and np.allclose(left @ right, np.outer(np.arange(1, 6), np.arange(1, 5)), atol=1e-4)


@pytest.mark.parametrize("ranks", [(1, 1), (2, 4), (5, 3), (5, 4), (5, 6), (3, 6)])
def test_a_tucker_product_keeps_what_it_says(ranks):
    kernel = np.random.default_rng(0).normal(size=(9, 5, 6)).astype("float32")
    tucker = Tucker(kernel)
    left, core, right = tucker.factors(*ranks)
    assert (left.shape, core.shape, right.shape) == ((5, ranks[0]), (9, *ranks), (ranks[1], 6))
    lost = np.square(kernel - np.einsum("mr,prs,sn->pmn", left, core, right)).sum() / np.square(kernel).sum()
    assert tucker.kept[ranks[0] - 1, ranks[1] - 1] == pytest.approx(1 - lost, abs=1e-5)


# ---- a kernel of low rank is replaced exactly, in each way that there is


def convolutions():
    for size, strides, padding in [((3, 3), 1, "same"), ((3, 3), 2, "same"), ((3, 5), (2, 1), "same"), ((4, 3), (2, 3), "valid"),
                                   ((1, 5), (1, 2), "same"), ((5, 1), 2, "same"), ((1, 1), 2, "same"), ((1, 1), 1, "valid")]:  # fmt: skip
        yield "Conv2D", (9, 12), {"kernel_size": size, "strides": strides, "padding": padding}
    yield "Conv2D", (9, 12), {"kernel_size": 3, "dilation_rate": (2, 3), "padding": "same"}
    yield "Conv2D", (9, 12), {"kernel_size": 3, "dilation_rate": 2, "padding": "valid", "use_bias": False}
    for padding, strides, rate in [("same", 2, 1), ("valid", 1, 2), ("causal", 1, 2), ("causal", 3, 1)]:
        yield "Conv1D", (17,), {"kernel_size": 4, "strides": strides, "dilation_rate": rate, "padding": padding}
    yield "Conv1D", (17,), {"kernel_size": 1, "strides": 2}
    yield "Conv3D", (4, 5, 6), {"kernel_size": 3, "strides": (1, 2, 2), "padding": "same"}
    for padding, strides, output in [("same", 2, None), ("valid", (2, 3), None), ("same", 2, 1), ("valid", 1, None)]:
        yield "Conv2DTranspose", (5, 6), {"kernel_size": 3, "strides": strides, "padding": padding, "output_padding": output}
    yield "Conv2DTranspose", (5, 6), {"kernel_size": 1, "strides": 2}
    yield "Conv1DTranspose", (7,), {"kernel_size": 4, "strides": 2, "padding": "same"}
    yield "Conv3DTranspose", (3, 4, 4), {"kernel_size": 2, "strides": 2}


CONVOLUTIONS = [
    pytest.param(kind, sizes, given, id="-".join([kind, *(f"{value}" for value in given.values())]))
    for kind, sizes, given in convolutions()
]


@pytest.mark.parametrize(("kind", "sizes", "given"), CONVOLUTIONS)
def test_a_convolution_of_low_rank_is_replaced_exactly(kind, sizes, given):
    model = lowered(made(lambda x, layers: getattr(layers, kind)(12, activation="tanh", name="conv", **given)(x), *sizes, 8))
    x, choices = nets.examples(*sizes, 8), plan(model, energy=NEARLY_ALL)
    small = tfopt.factorize(model, energy=NEARLY_ALL)
    assert choices["conv"].treated and same(model, small, x)
    check_promises(model, small, choices)
    ((_, layer, call),) = _layer_macs.calls(model)
    for way in _parts.whole(layer, [call]).ways:
        ranks = [max(1, size - 1) for size in way.kept.shape]
        by_hand = in_way(model, way, ranks)
        assert same(model, by_hand, x)
        assert macs_of(by_hand) == way.costs[tuple(rank - 1 for rank in ranks)]


def in_way(model, way, ranks):
    """A model of one layer, in these parts."""
    keras, parts = backend.keras(), way.made(*ranks)
    x = inputs = keras.Input(model.input_shape[1:])
    for layer, weights in parts:
        x = layer(x)
        layer.set_weights(weights)
    return keras.Model(inputs, x)


@pytest.mark.parametrize("shape", [(24,), (5, 24), (3, 4, 24)])
def test_a_dense_of_low_rank_is_replaced_exactly(shape):
    model = lowered(made(lambda x, layers: layers.Dense(16, activation="tanh", name="dense")(x), *shape))
    small = tfopt.factorize(model, energy=NEARLY_ALL)
    assert [layer.units for layer in small.layers[1:]] == [4, 16] and same(model, small, nets.examples(*shape))
    check_promises(model, small, plan(model, energy=NEARLY_ALL))


SETTINGS = [{}, {"return_sequences": True, "go_backwards": True}, {"both": "concat"}, {"both": "sum"}]
RECURRENT = [  # most of them slow: a loop takes seconds to build
    pytest.param(kind, given, marks=[] if (kind, place) in (("LSTM", 0), ("SimpleRNN", 2)) else [pytest.mark.slow])
    for kind in ("LSTM", "GRU", "SimpleRNN")
    for place, given in enumerate(SETTINGS)
]


@pytest.mark.parametrize(("kind", "given"), RECURRENT)
def test_a_recurrent_input_kernel_of_low_rank_is_replaced_exactly(kind, given):
    def build(x, layers):
        both, settings = given.get("both"), {key: value for key, value in given.items() if key != "both"}
        layer = getattr(layers, kind)(6, name="inner" if both else "rnn", **settings)
        x = layers.Masking(name="masking")(x)
        return (layers.Bidirectional(layer, merge_mode=both, name="rnn") if both else layer)(x)

    model = lowered(made(build, 7, 16), share=0.125)
    x = nets.examples(7, 16)
    x[:, 4:] = 0  # masked
    small = tfopt.factorize(model, energy=NEARLY_ALL)
    assert [type(layer) for layer in small.layers[-1:]] == [type(layer) for layer in model.layers[-1:]]
    assert treated(model, energy=NEARLY_ALL) == {"rnn"} and same(model, small, x)
    check_promises(model, small, plan(model, energy=NEARLY_ALL))


def test_an_embedding_of_low_rank_has_fewer_parameters_and_keeps_its_mask():
    def build(x, layers):
        x = layers.Embedding(40, 16, mask_zero=True, name="embed", embeddings_regularizer="l2")(x)
        return layers.GlobalAveragePooling1D(name="mean")(x)  # over what is not masked

    model = lowered(made(build, 9, dtype="int32"))
    x = np.random.default_rng(0).integers(0, 40, (8, 9))
    x[:, 5:] = 0
    small = tfopt.factorize(model, energy=NEARLY_ALL)
    assert same(model, small, x) and small.count_params() == 4 * (40 + 16) < model.count_params()
    assert small.get_layer("embed_in").embeddings_regularizer is not None and small.get_layer("embed").kernel_regularizer is not None
    check_promises(model, small, plan(model, energy=NEARLY_ALL))
    assert "fewer parameters, but more MACs" in plan(model, macs=0.9)["embed"].reason


def test_an_embedding_that_began_with_a_matrix_of_its_own_can_be_factorized():
    begun = backend.keras().initializers.Constant(np.random.default_rng(0).normal(size=(40, 16)))
    model = made(lambda x, layers: layers.Embedding(40, 16, embeddings_initializer=begun, name="embed")(x), 9, dtype="int32")
    assert tfopt.factorize(model, rank=4).get_layer("embed_in").output_dim == 4


def test_channels_first_is_kept():
    model = made(lambda x, layers: layers.Conv2D(12, 3, strides=2, padding="same", data_format="channels_first", name="conv")(x), 8, 9, 12)
    last = made(lambda x, layers: layers.Conv2D(12, 3, strides=2, padding="same", name="conv")(x), 9, 12, 8)
    assert plan(model, rank=0.25) == plan(last, rank=0.25)
    small = tfopt.factorize(model, rank=0.25)
    assert small.output_shape == model.output_shape and {layer.data_format for layer in small.layers[1:]} == {"channels_first"}


# ---- whole models


@pytest.mark.parametrize(("name", "shape", "given"), every(quick={"convnet-0"}))
def test_a_builders_model_is_factorized_and_goes_into_a_file(name, shape, given):
    model = without_ending(built_by(name, shape, given))
    x = inputs_of(model, 8)
    lowered(nets.scaled(model, x))
    exact = tfopt.factorize(model, energy=NEARLY_ALL)
    assert same(model, exact, x, 1e-4)
    check_promises(model, exact, plan(model, energy=NEARLY_ALL))
    small = tfopt.factorize(model, energy=0.8)
    assert small.output_shape == model.output_shape and small.count_params() <= exact.count_params() < model.count_params()
    assert macs_of(small) <= macs_of(exact) < macs_of(model)
    named = dict(zip(small.input_names, backend.tensorflow().nest.flatten(x), strict=True))
    found = runtime.Session(tfopt.convert(small)).run(named if len(named) > 1 else x)
    (expected,) = outputs_of(small, x)
    assert np.abs(found - expected).max() <= 1e-3 * np.abs(expected).max()


def test_nested_and_shared_layers_stay_what_they_are():
    keras = backend.keras()
    layers = keras.layers
    shared = layers.Dense(16, activation="relu", name="shared")
    inner = keras.Sequential([keras.Input((16,)), layers.Dense(16, name="first"), layers.Dropout(0.5, name="dropout")], name="inner")
    outer = keras.Sequential([keras.Input((16,)), inner, layers.Dense(16, name="last")], name="outer")
    inputs = keras.Input((16,))
    x = layers.Add()([outer(shared(inputs)), outer(inputs), shared(inputs)])
    model = lowered(nets.randomized(keras.Model(inputs, layers.Dense(12, name="end")(x))))
    small = tfopt.factorize(model, energy=NEARLY_ALL)
    assert same(model, small, nets.examples(16))
    names = [name for name, _ in copying.all_layers(small)]
    assert [name for name in names if "/" in name] == ["outer/inner/first_in", "outer/inner/first", "outer/inner/dropout", "outer/last_in",
                                                       "outer/last"]  # fmt: skip
    assert len([name for name in names if name.startswith("shared")]) == 2
    assert macs_of(model) == 6 * 256 + 192 and macs_of(small) == 6 * 4 * 32 + 3 * (16 + 12)
    assert treated(model, rank=2, where="outer/inner") == {"outer/inner/first"}
    again = tfopt.prune(small, sparsity=0.5, where=["outer/inner/first", "end_in"])
    assert np.mean(again.get_layer("end_in").get_weights()[0] == 0) == 0.5


def test_parts_have_the_layers_settings():
    def build(x, layers):
        x = layers.Conv2D(12, 3, activation="relu", kernel_regularizer="l2", activity_regularizer="l1", name="conv")(x)
        x = layers.Conv2D(12, 1, use_bias=False, trainable=False, name="frozen")(x)
        return layers.Dense(12, activation="softmax", dtype="float64", name="end")(layers.Flatten()(x))

    small = tfopt.factorize(made(build, 6, 6, 8), rank=0.25)
    before, conv, frozen, end = (small.get_layer(name) for name in ("conv_in", "conv", "frozen_in", "end_in"))
    assert before.activation.__name__ == "linear" and conv.activation.__name__ == "relu"
    assert not before.use_bias and conv.use_bias and not small.get_layer("frozen").use_bias
    assert before.kernel_regularizer is not None and conv.kernel_regularizer is not None
    assert before.activity_regularizer is None and conv.activity_regularizer is not None
    assert not frozen.trainable and not small.get_layer("frozen").trainable and before.trainable
    assert end.compute_dtype == "float64" and len(small.trainable_weights) == 6


def test_other_layers_keep_names_that_parts_would_have():
    model = made(lambda x, layers: layers.Dense(16, name="end")(layers.Dense(16, activation="tanh", name="end_in")(x)), 16)
    small = tfopt.factorize(lowered(model), energy=NEARLY_ALL)
    assert [layer.name for layer in small.layers[1:]] == ["end_in_in", "end_in", "end_in_", "end"]
    assert same(model, small, nets.examples(16))


# ---- how ranks are chosen


@pytest.fixture
def net():
    """Layers of all kinds whose kernels lose some of their energy with each rank."""

    def build(x, layers):
        x = layers.Conv2D(12, 3, padding="same", activation="relu", name="conv")(x)
        x = layers.Conv2D(16, 3, strides=2, name="narrow")(x)
        x = layers.Conv2D(24, 1, activation="relu", name="point")(x)
        return layers.Dense(20, name="end")(layers.Flatten()(x))

    return made(build, 12, 12, 6)


def told(choice):
    """The energy and the cost of a choice."""
    energy, cost = re.search(r": ([\d.]+)% of its energy, .* -> ([\d,]+)", choice.reason).groups()
    return float(energy) / 100, int(cost.replace(",", ""))


def test_each_kernel_keeps_the_energy_that_is_asked_for_at_the_least_cost(net):
    assert all(told(choice)[0] >= 0.7 for choice in plan(net, energy=0.7).values() if choice.treated)
    sigma = np.linalg.svd(net.get_layer("end").kernel.numpy())[1] ** 2
    rank = int(np.searchsorted(sigma.cumsum() / sigma.sum(), 0.7)) + 1
    assert f"Dense({rank}), Dense(20): " in plan(net, energy=0.7)["end"].reason
    costs = [macs_of(tfopt.factorize(net, energy=energy)) for energy in (0.5, 0.7, 0.8)]
    assert costs == sorted(costs) and costs[0] < costs[-1] < macs_of(net)
    assert plan(net) == plan(net, energy=0.9)
    assert "parts that keep 0.999 of its energy would cost no less" in plan(net, energy=0.999)["end"].reason


def test_a_rank_is_a_number_or_a_share_of_the_full_one(net):
    widths = {given: tfopt.factorize(net, rank=given, where=["end", "point"]).get_layer("end_in").units for given in (5, 0.25, 1, 0.01)}
    assert widths == {5: 5, 0.25: 5, 1: 1, 0.01: 1}
    assert treated(net, rank=1.0) == treated(net, rank=1000) == set()
    assert "parts of 1 times its full rank would cost no less" in plan(net, rank=1.0)["end"].reason
    same = tfopt.factorize(net, rank=1.0)
    assert [layer.name for layer in same.layers] == [layer.name for layer in net.layers]


@pytest.mark.parametrize("rank", [2, 4, 8])
def test_a_convolution_gets_the_better_of_two_ways_at_the_cost_of_a_truncated_svd(net, rank):
    ((layer, call),) = [(layer, call) for name, layer, call in _layer_macs.calls(net) if name == "conv"]
    split, tucker = _parts.whole(layer, [call]).ways
    energy, cost = told(plan(net, rank=rank)["conv"])
    limit = split.costs[rank - 1]
    assert cost <= limit
    assert energy == pytest.approx(max(split.kept[rank - 1], tucker.kept[tucker.costs <= limit].max()), abs=1e-3)


def test_kernels_come_apart_in_their_way():
    model = made(lambda x, layers: layers.Conv2D(16, 3, name="conv")(x), 8, 8, 16)
    kernel, generator = model.layers[-1].kernel, np.random.default_rng(0)
    crossed = np.einsum("imr,jrn->ijmn", generator.normal(size=(3, 16, 3)), generator.normal(size=(3, 3, 16)))
    kernel.assign(crossed)
    assert plan(model, energy=NEARLY_ALL)["conv"].reason.startswith("3x1 to 3 channels, 1x3 to 16: 100.0%")
    kernel.assign(np.einsum("mr,ijrs,sn->ijmn", *(generator.normal(size=size) for size in ((16, 3), (3, 3, 3, 4), (4, 16)))))
    assert plan(model, energy=NEARLY_ALL)["conv"].reason.startswith("1x1 to 3, 3x3 to 4 channels, 1x1 to 16: 100.0%")


@pytest.mark.parametrize("macs", [0.7, 0.45, 0.2, 60_000])
def test_a_budget_is_met_and_used_up(net, macs):
    target = macs * macs_of(net) if macs < 1 else macs
    small = tfopt.factorize(net, macs=macs)
    assert 0.97 * target <= macs_of(small) <= target
    check_promises(net, small, plan(net, macs=macs))


def test_a_budget_loses_less_than_the_same_share_of_each_rank(net):
    budget = macs_of(tfopt.factorize(net, rank=0.25))
    kept = {
        name: np.prod([told(choice)[0] for choice in plan(net, **options).values() if choice.treated])
        for name, options in {"rank": {"rank": 0.25}, "macs": {"macs": budget}}.items()
    }
    assert kept["macs"] > kept["rank"]


def test_the_least_that_is_told_can_be_had(net):
    with pytest.raises(OptionError, match=r"macs = 0.01: the least that the model can have is [\d,]+ MACs of") as refused:
        tfopt.factorize(net, macs=0.01)
    least = int(re.search(r"can have is ([\d,]+)", str(refused.value))[1].replace(",", ""))
    assert macs_of(tfopt.factorize(net, macs=least)) == least
    assert treated(net, macs=macs_of(net)) == set()
    assert plan(net, macs=macs_of(net))["end"].reason == "stays whole: the budget is met without it"


def test_free_sizes_are_compared_place_by_place_and_have_no_budget():
    model = made(lambda x, layers: layers.Conv2D(16, 3, strides=2, padding="same", name="conv")(x), None, None, 16)
    assert re.search(r"MACs a place 2,304 -> [\d,]+$", plan(model, rank=0.25)["conv"].reason)
    small = tfopt.factorize(lowered(model), energy=NEARLY_ALL)
    assert same(model, small, nets.examples(9, 7, 16))
    assert "can't be counted, as a size is free" in plan(model, macs=0.5)["conv"].reason


# ---- what is left alone


def test_what_is_left_alone_says_why():
    keras = backend.keras()

    class Mine(keras.layers.Dense):
        pass

    def build(x, layers):
        x = layers.Conv2D(16, 3, groups=2, name="grouped")(x)
        x = layers.DepthwiseConv2D(3, name="depthwise")(x)
        x = layers.SeparableConv2D(16, 3, name="separable")(x)
        x = layers.Conv2D(16, 3, kernel_constraint="max_norm", name="bounded")(x)
        x = layers.Reshape((4, 16))(layers.Conv2D(16, 3, name="conv")(x))
        x = layers.MultiHeadAttention(2, 8, name="attention")(x, x)
        x = layers.TimeDistributed(layers.Dense(16), name="distributed")(x)
        state = layers.Dense(16, name="state")(layers.Flatten()(x))
        x = layers.GRU(16, name="begun")(x, initial_state=state)
        x = layers.Dropout(0.1)(Mine(16, name="mine")(x))
        return layers.Dense(1, name="one")(x)

    model = made(build, 12, 12, 8)
    choices = plan(model, rank=2)
    reasons = {
        "grouped": "a grouped convolution",
        "depthwise": "no rank to lower",
        "separable": "product of two kernels already",
        "bounded": "has a constraint",
        "attention": "projections are inside",
        "distributed": "TimeDistributed: no parts are known",
        "begun": "is called with several tensors",
        "mine": "Mine: no parts are known",
        "one": "parts of rank 1 would cost no less than its 16 MACs",
    }
    assert {name for name, choice in choices.items() if choice.treated} == {"conv", "state"}
    assert {name: choices[name].reason for name in reasons if reasons[name] not in choices[name].reason} == {}
    check_promises(model, tfopt.factorize(model, rank=2), choices)


def test_zeros_and_shared_values_of_earlier_steps_are_kept():
    model = made(lambda x, layers: layers.Dense(12, name="c")(layers.Dense(32, name="b")(layers.Dense(32, name="a")(x))), 32)
    model = tfopt.cluster(tfopt.prune(model, sparsity=0.5, where="a"), clusters=8, where="b")
    choices = plan(model, rank=2)
    assert choices["a"].reason == "50% of its kernel is zero, which parts would not keep"
    assert choices["b"].reason == "the weights of its kernel share values, which parts would not keep"
    assert treated(model, rank=2) == {"c"}


def test_training_afterwards_keeps_them_too(digits):
    model = tfopt.cluster(tfopt.prune(nets.randomized(nets.sequential()), sparsity=0.5, where="conv"), clusters=4, where="conv")
    small = tfopt.factorize(model, digits, rank=2, fit=FIT)
    before, after = (each.get_layer("conv").kernel.numpy() for each in (model, small))
    assert not np.array_equal(before, after)
    assert np.array_equal(before == 0, after == 0) and len(np.unique(after)) <= 4
    plain = tfopt.factorize(model, digits, rank=2)
    assert not np.array_equal(plain.get_layer("logits_in").kernel, small.get_layer("logits_in").kernel)


# ---- what is refused


def test_bad_input_is_refused_before_training(net, digits):
    with pytest.raises(OptionError, match="factorize: rank and macs: give one of them"):
        tfopt.factorize(net, rank=2, macs=0.5)
    for bad in ({"rank": 0}, {"rank": 1.5}, {"rank": "half"}, {"energy": 1.0}, {"macs": 0}):
        with pytest.raises(OptionError, match=f"{next(iter(bad))} = .*should be"):
            tfopt.factorize(net, **bad)
    with pytest.raises(DataError):
        tfopt.factorize(net, digits, rank=2, fit=FIT)  # which gives other inputs
    with pytest.raises(UnsupportedModel, match=r"factorize.*depthwise"):
        tfopt.factorize(made(lambda x, layers: layers.DepthwiseConv2D(3, name="depthwise")(x), 8, 8, 4))


def test_steps_are_checked_before_anything_runs(net):
    with pytest.raises(RecipeError, match=r"steps\[0\].energy and macs: give one of them"):
        tfopt.chain(Step("factorize", {"energy": 0.9, "macs": 0.5}))
    behind = [Step("factorize", {"rank": 2}), Step("prune", {"where": ["end_in", "conv_core", "point"]})]
    techniques.check_layers(behind, net, None)
    with pytest.raises(OptionError, match=r"steps\[1\].where = 'end_out': no layer has this name"):
        techniques.check_layers([behind[0], Step("prune", {"where": "end_out"})], net, None)
    with pytest.raises(OptionError, match=r"steps\[0\].where = 'end_in': no layer"):
        techniques.check_layers([Step("prune", {"where": "end_in"}), behind[0]], net, None)
    with pytest.raises(OptionError, match="the least that the model can have"):
        techniques.check_layers([Step("factorize", {"macs": 0.01})], net, None)
