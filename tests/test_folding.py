"""Folding: that predictions stay, what becomes of which layer, that nothing grows, and what the plan says of it."""

from __future__ import annotations

import itertools

import nets
import numpy as np
import pytest
from bridge_cases import FAMILIES
from nets import chain, examples, kinds, layers
from test_channels import inputs_of, of_family, outputs_of, without_ending
from test_models import built as built_by
from test_models import every

import tfopt
from tfopt import backend
from tfopt.surgery import composing, copying, rewriting
from tfopt.techniques import PLANS
from tfopt.tracing import Trace
from tfopt.types import Choice

# ---- the law: the same predictions, in no more of anything, and the plan says what was done


def check_law(model, x=None, within=1e-5, *, larger=False):
    """Returns the folded model, and the reasons by layer. Only a convolution that pools may be `larger` than it was."""
    x = inputs_of(model, 4) if x is None else x
    with Trace() as trace:
        small = tfopt.fold(model)
    choices = [Choice(**choice) for choice in trace.entries[0]["choices"]]
    for one, other in zip(outputs_of(model, x), outputs_of(small, x), strict=True):
        assert one.shape == other.shape and np.isfinite(one).all()
        assert np.abs(one - other).max() <= within * np.abs(one).max()
    assert small.input_names == model.input_names and len(small.layers) <= len(rewriting.flattened(model)[0].layers)
    assert larger or small.count_params() <= model.count_params()
    before, after = tfopt.inspect(model).macs, tfopt.inspect(small).macs
    assert before == after or after < before
    assert [choice.layer for choice in choices] == [path for path, _ in copying.all_layers(model)]
    there = {layer.name: layer for layer in small.layers}
    for choice, (path, layer) in zip(choices, copying.all_layers(model), strict=True):
        name = path.rpartition("/")[2]
        same = name in there and type(there[name]) is type(layer)
        same = same and (kinds(model).count("Lambda") or there[name].get_config() == layer.get_config())
        same = same and all(np.array_equal(a, b) for a, b in zip(layer.get_weights(), there[name].get_weights(), strict=True))
        assert choice.reason and (choice.treated or same), choice
        if "folded into" in choice.reason or "merged into" in choice.reason or choice.reason.startswith(("dropped", "dead")):
            assert path not in there, choice
    return small, {choice.layer: choice.reason for choice in choices}


@pytest.mark.parametrize(("name", "shape", "given"), every(quick=()))  # the laws of all techniques look at nets of each kind
def test_a_folded_builders_model_says_the_same(name, shape, given):
    model = without_ending(built_by(name, shape, given))
    small, _ = check_law(nets.scaled(model, inputs_of(model, 8)), within=1e-4)
    assert not {"Dropout", "SpatialDropout1D"} & set(kinds(small))


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_a_folded_family_says_the_same(name):
    model, x = of_family(name)
    nets.scaled(without_ending(model), x)
    for weight in model.weights:
        if "layer_scale" in weight.name:
            weight.assign(np.random.default_rng(0).uniform(0.5, 1.5, weight.shape))
    small, _ = check_law(model, x, within=1e-4)
    assert len(small.layers) < len(model.layers)


@pytest.mark.parametrize("net", ["branching", "odd", pytest.param("everything", marks=pytest.mark.slow)])
def test_a_folded_net_says_the_same(net):
    check_law(nets.randomized(getattr(nets, net)()))


def folded(*given, shape=(8, 8, 3), **options):
    return check_law(chain(*given, shape=shape), examples(*shape), **options)


# ---- linear layers one behind the other


def test_two_dense_layers_become_one_unless_they_are_a_bottleneck():
    small, reasons = folded(layers().Dense(20, name="wide"), layers().Dense(4, activation="tanh", name="end"), shape=(7,))
    assert kinds(small) == ["Dense"] and small.get_layer("end").activation.__name__ == "tanh"
    assert reasons == {"wide": "merged into end", "end": "takes in wide"}
    small, _ = folded(layers().Dense(2, use_bias=False), layers().Dense(9, use_bias=False), shape=(7,))
    assert kinds(small) == ["Dense", "Dense"]
    small, _ = folded(layers().Dense(20, use_bias=False), layers().Dense(5), layers().Dense(3, use_bias=False), shape=(5, 7))
    assert kinds(small) == ["Dense"]
    small, _ = folded(layers().Dense(20, activation="relu"), layers().Dense(5), shape=(7,))
    assert kinds(small) == ["Dense", "Dense"]


PAIRS = list(itertools.product((1, 2, 3), (1, 2), ("valid", "same"), (True, False), (1, 2, 3), (1, 2), ("valid", "same")))
SOME = PAIRS[::13]
ALL = pytest.param(PAIRS, id="all", marks=pytest.mark.slow)


@pytest.mark.parametrize("pairs", [pytest.param(SOME, id="some"), ALL])
@pytest.mark.parametrize("size", [9, pytest.param(10, marks=pytest.mark.slow), pytest.param(None, marks=pytest.mark.slow)])
def test_two_convolutions_become_one_where_their_padding_allows(pairs, size):
    merged = 0
    for k1, s1, p1, bias, k2, s2, p2 in pairs:
        one = layers().Conv1D(16, k1, strides=s1, padding=p1, use_bias=bias)
        model = chain(one, layers().Conv1D(1, k2, strides=s2, padding=p2), shape=(size, 1))
        small, changes = composing.composed(model)
        assert small.output_shape == model.output_shape
        assert nets.same(model, small, examples(size or 10, 1)), (k1, s1, p1, bias, k2, s2, p2)
        merged += len(changes)
        assert changes or not p1 == p2 == "valid", (k1, s1, p1, bias, k2, s2, p2)
    assert merged > len(pairs) // 3


@pytest.mark.parametrize("pairs", [pytest.param(SOME, id="some"), ALL])
def test_an_average_pooling_goes_into_the_convolution_before_it_where_its_windows_are_whole(pairs):
    merged = 0
    for k1, s1, p1, bias, k2, s2, p2 in pairs:
        for size in (8, 9):
            one = layers().Conv1D(3, k1, strides=s1, padding=p1, use_bias=bias)
            model = chain(one, layers().AveragePooling1D(k2, s2, padding=p2), shape=(size, 4))
            small, changes = composing.composed(model)
            assert nets.same(model, small, examples(size, 4)), (size, k1, s1, p1, bias, k2, s2, p2)
            merged += len(changes)
    assert merged > len(pairs) // 8


def test_convolutions_on_a_plane():
    def conv(filters, size, **settings):
        return layers().Conv2D(filters, size, **settings)

    alone = [
        (conv(24, 1), conv(4, (3, 2), padding="valid", activation="relu")),
        (conv(24, 1, use_bias=False), conv(4, 3, padding="same", strides=2)),
        (conv(24, 3, padding="same"), conv(4, 1)),
        (conv(24, (1, 3), strides=(1, 2)), conv(4, 1, strides=2)),
        (conv(24, 3), conv(2, 3)),
        (layers().DepthwiseConv2D(1), conv(4, 1)),
        (layers().DepthwiseConv2D(2, depth_multiplier=8), conv(1, 1, padding="same")),
    ]
    for pair in alone:
        assert len(kinds(folded(*pair)[0])) == 1, pair
    both = [
        (conv(24, 1), conv(4, 3, padding="same")),  # the bias of the first is not there where zeros are padded
        (conv(24, 3, padding="same"), conv(4, 3, padding="same")),
        (conv(24, 3, dilation_rate=2), conv(1, 1)),
        (conv(24, 3, groups=3), conv(1, 1)),
        (conv(2, 1), conv(8, 1)),  # a bottleneck
        (layers().DepthwiseConv2D(3), conv(4, 1)),
        (layers().SeparableConv2D(4, 3), conv(2, 1)),
        (layers().ReLU(), conv(4, 1)),
    ]
    for pair in both:
        assert len(kinds(folded(*pair)[0])) == 2, pair


@pytest.mark.parametrize("depthwise", [False, True])
def test_a_convolution_and_the_pooling_behind_it_are_one_with_strides(depthwise):
    make = layers().DepthwiseConv2D if depthwise else lambda size, **settings: layers().Conv2D(6, size, **settings)
    small, reasons = folded(make(3, padding="same", use_bias=False, name="conv"), layers().AveragePooling2D(name="pool"), larger=True)
    conv = small.get_layer("conv")
    assert conv.kernel_size == (4, 4) and conv.strides == (2, 2) and conv.padding == "same" and not conv.use_bias
    assert reasons == {"conv": "takes in pool", "pool": "merged into conv"}
    assert tfopt.inspect(small).macs == 16 / 4 / 9 * tfopt.inspect(chain(make(3, padding="same"))).macs
    small, _ = folded(make(3, padding="same"), layers().AveragePooling2D(padding="same"), shape=(7, 8, 3))  # pads the pooling's windows
    assert len(kinds(small)) == 2
    small, _ = folded(make(3), layers().AveragePooling2D(2, strides=1))  # nearly as many places, and more for each
    assert len(kinds(small)) == 2


@pytest.mark.parametrize("pooling", ["AveragePooling2D", "GlobalAveragePooling2D"])
@pytest.mark.parametrize("layer", ["Dense", "Conv2D"])
def test_pooling_goes_before_what_does_the_same_at_each_place(pooling, layer):
    one = layers().Dense(5, name="one") if layer == "Dense" else layers().Conv2D(5, 1, use_bias=False, name="one")
    for settings in [{"padding": "same"}, {"pool_size": 3, "strides": 2}] if pooling == "AveragePooling2D" else [{}, {"keepdims": True}]:
        small, reasons = folded(one, getattr(layers(), pooling)(name="pool", **settings), layers().ReLU(), shape=(7, 6, 3))
        expected = "Dense" if settings == {} else layer
        assert kinds(small) == [pooling, expected, "ReLU"]
        assert reasons["one"] == "comes behind pool" and reasons["pool"] == "comes before one"
        one = type(one).from_config(one.get_config())
    small, _ = folded(layers().Dense(5), layers().AveragePooling2D(2, strides=1, padding="same"))  # as many places
    assert kinds(small) == ["Dense", "AveragePooling2D"]


def test_masked_steps_are_pooled_where_they_were():
    keras = backend.keras()
    words = keras.Input((6,), dtype="int32")
    x = layers().Embedding(9, 4, mask_zero=True)(words)
    model = nets.randomized(keras.Model(words, layers().GlobalAveragePooling1D()(layers().Dense(3)(x))))
    assert kinds(check_law(model)[0]) == ["Embedding", "Dense", "GlobalAveragePooling1D"]


def test_a_densenets_transition_takes_a_quarter_also_in_the_file():
    transition = [layers().Conv2D(12, 1, use_bias=False), layers().AveragePooling2D(), layers().ReLU(), layers().Conv2D(5, 3)]
    model = chain(layers().BatchNormalization(), layers().ReLU(), *transition)
    small = tfopt.fold(model)
    before, after = (tfopt.measure(tfopt.convert(each)) for each in (model, small))
    assert before.macs - after.macs == 8 * 8 * 3 * 12 * 3 / 4 == tfopt.inspect(model).macs - tfopt.inspect(small).macs
    assert after.parameters == before.parameters and len(after.operations) == len(before.operations)


# ---- what does nothing


def test_what_does_nothing_is_dropped():
    idle = [
        layers().Activation("linear"), layers().ZeroPadding2D(0), layers().Cropping2D(0), layers().MaxPooling2D(1),
        layers().UpSampling2D(1), layers().AveragePooling2D(1),
        layers().Reshape((8, 8, 3)), layers().Permute((1, 2, 3)), layers().Rescaling(1.0),
        layers().Dropout(0.5),
    ]  # fmt: skip
    small, reasons = folded(*idle, layers().Flatten(), layers().Flatten(), layers().Dense(3), layers().ReLU())
    assert kinds(small) == ["Flatten", "Dense", "ReLU"] and sum(reason.startswith("dropped") for reason in reasons.values()) == 11
    busy = [layers().MaxPooling2D(1, strides=2), layers().ZeroPadding2D(1), layers().Permute((2, 1, 3)), layers().Reshape((36, 3))]
    assert len(folded(*busy)[0].layers) == 5


def test_two_rescalings_are_one():
    normalization = layers().Normalization(mean=[0.4, 0.5, -0.6], variance=[0.1, 0.2, 3.0], name="two")
    small, reasons = folded(layers().Rescaling(0.5, 1.0, name="one"), normalization, layers().ReLU())
    assert kinds(small) == ["Rescaling", "ReLU"] and (reasons["one"], reasons["two"]) == ("joins two", "takes in one")


# ---- branches that do not depend on the input, and dead channels


def branched(make, join="Add"):
    """A sum of x and make(x), or another way to join them, with a convolution behind."""
    keras = backend.keras()
    inputs = keras.Input((8, 8, 4), name="image")
    x = layers().Conv2D(6, 1, activation="relu", name="before")(inputs)
    x = getattr(layers(), join)(name="join")([x, make(x)])
    return nets.randomized(keras.Model(inputs, layers().Conv2D(3, 1, name="end")(x)))


def zero(model, *names):
    for name in names:
        layer = model.get_layer(name)
        layer.set_weights([0 * weight if number == 0 else weight for number, weight in enumerate(layer.get_weights())])
    return model


def residual(x):
    x = layers().BatchNormalization(name="first")(layers().Conv2D(5, 3, padding="same", name="conv")(x))
    x = layers().Conv2D(6, 3, padding="same", name="second")(layers().ReLU(name="relu")(x))
    return layers().BatchNormalization(name="gamma")(x)  # zero at first in many a ResNet


def test_a_residual_branch_that_is_scaled_by_zero_goes():
    model = zero(branched(residual), "gamma")
    small, reasons = check_law(model)
    assert kinds(small) == ["Conv2D", "Conv2D"]  # its beta went into the bias behind
    assert reasons["conv"] == reasons["relu"] == "dead: what it gave does not depend on the input"
    assert reasons["join"] == "a constant branch folded; folded into end"
    assert len(check_law(branched(residual))[0].layers) == 7


def test_a_kernel_of_zeros_is_a_constant_behind_activations_and_pooling():
    def gate(x):
        x = layers().Dense(6, activation="sigmoid", name="gate")(layers().GlobalAveragePooling2D(keepdims=True, name="mean")(x))
        return layers().Activation("tanh", name="tanh")(x)

    small, reasons = check_law(zero(branched(gate, "Multiply"), "gate"))
    assert kinds(small) == ["Conv2D", "Conv2D"] and reasons["mean"].startswith("dead")
    small, _ = check_law(zero(branched(gate, "Add"), "gate"))
    assert kinds(small) == ["Conv2D", "Conv2D"]


def test_a_product_with_zeros_is_dead_where_it_is_added():
    def silent(x):
        gate = layers().Conv2D(6, 1, use_bias=False, name="gate")(x)
        return layers().Multiply(name="product")([layers().Conv2D(6, 3, padding="same", name="inner")(x), gate])

    small, reasons = check_law(zero(branched(silent), "gate"))
    assert kinds(small) == ["Conv2D", "Conv2D"] and {"gate", "product", "inner"} <= {k for k, v in reasons.items() if v.startswith("dead")}


def test_of_three_branches_the_one_of_zeros_is_left_out():
    keras = backend.keras()
    inputs = keras.Input((5,))
    named = [layers().Dense(4, activation="relu", use_bias=False, name=name)(inputs) for name in "abc"]
    model = zero(nets.randomized(keras.Model(inputs, layers().Dense(2)(layers().Add(name="sum")(named)))), "b")
    small, reasons = check_law(model)
    assert len(small.layers) == 5 and reasons["b"].startswith("dead")


def test_a_constant_that_is_the_output_or_is_widened_stays():
    keras = backend.keras()
    inputs = keras.Input((5,))
    model = zero(nets.randomized(keras.Model(inputs, [layers().Dense(3, name="fixed")(inputs), layers().Dense(2)(inputs)])), "fixed")
    small = tfopt.fold(model)
    assert [np.allclose(a, b, atol=1e-6) for a, b in zip(model(examples(5)), small(examples(5)), strict=True)] == [True, True]

    image, row = keras.Input((8, 8, 4)), keras.Input((1, 1, 4))
    x = layers().Add(name="join")([layers().Conv2D(4, 1, name="wide")(image), layers().ReLU()(row)])
    model = zero(nets.randomized(keras.Model([image, row], layers().Conv2D(2, 3)(x))), "wide")
    assert "join" in {layer.name for layer in tfopt.fold(model).layers}
    assert nets.same(model, tfopt.fold(model), [examples(8, 8, 4), examples(1, 1, 4)])


def test_channels_of_zeros_are_cut():
    keras = backend.keras()
    inputs = keras.Input((8, 8, 4))
    x = layers().Conv2D(6, 3, padding="same", activation="relu", name="one")(inputs)
    x = layers().Add()([layers().Conv2D(6, 3, padding="same", activation="relu", name="two")(x), x])
    x = layers().Conv2D(8, 3, padding="same", activation="relu", name="three")(x)
    model = nets.randomized(keras.Model(inputs, layers().Dense(3, name="end")(layers().GlobalMaxPooling2D()(x))))
    for name, silent in {"one": [0, 1, 2], "two": [1, 2, 3], "three": [0, 4, 5]}.items():
        kernel, bias = model.get_layer(name).get_weights()
        kernel[..., silent], bias[silent] = 0, 0
        if name == "three":
            bias[4] = 0.5  # a constant, but no silence
        model.get_layer(name).set_weights([kernel, bias])
    small, reasons = check_law(model)
    assert [small.get_layer(name).filters for name in ("one", "two", "three")] == [4, 4, 6]  # those that the Add ties go together
    assert small.count_params() < model.count_params() and reasons["end"] == "channels of zeros cut"


# ---- what is kept


def test_zeros_and_shared_values_that_other_steps_left_stay():
    def model():
        return chain(
            layers().ReLU(), layers().BatchNormalization(name="bn"), layers().Conv2D(24, 1, use_bias=False, name="wide"),
            layers().Conv2D(4, 3, name="end"),
        )  # fmt: skip

    assert kinds(tfopt.fold(model())) == ["ReLU", "Conv2D"]
    small, _ = check_law(tfopt.prune(model(), sparsity=0.5))
    assert kinds(small) == ["ReLU", "Conv2D", "Conv2D"]  # two kernels are not multiplied, but their channels of zeros are cut
    assert all((layer.kernel.numpy() == 0).mean() > 0.4 for layer in small.layers[-2:])
    small, reasons = check_law(tfopt.cluster(model(), clusters=4))
    assert kinds(small) == ["ReLU", "BatchNormalization", "Conv2D", "Conv2D"] and reasons["bn"].startswith("left: neither")
    behind = chain(layers().Conv2D(5, 3, name="conv"), layers().BatchNormalization())
    small = tfopt.fold(tfopt.prune(behind, sparsity=0.5)).get_layer("conv")
    assert (small.kernel.numpy() == 0).mean() >= 0.5  # a factor for each output takes none away


def test_what_computes_with_the_batch_or_is_called_twice_stays_and_says_why():
    keras = backend.keras()
    inputs = keras.Input((8, 8, 3))
    x = layers().BatchNormalization(name="batch")(layers().Conv2D(4, 3)(inputs), training=True)
    x = layers().Dropout(0.5, name="always")(layers().ReLU()(x), training=True)
    twice = layers().BatchNormalization(name="twice")
    x = layers().ReLU()(twice(layers().ReLU()(twice(x))))
    model = nets.randomized(keras.Model(inputs, layers().BatchNormalization(name="behind")(x)))
    reasons = {choice.layer: choice.reason for choice in PLANS["fold"](model)}
    assert reasons["batch"] == "left: it computes with the statistics of each batch"
    assert reasons["twice"] == "left: it is called several times"
    assert reasons["behind"].startswith("left: neither re_lu") and not reasons["always"].startswith("dropped")
    assert len(tfopt.fold(model).layers) == len(model.layers)


def test_layers_called_on_a_constant_are_a_constant_for_keras_itself():
    keras, tf = backend.keras(), backend.tensorflow()
    inputs = keras.Input((4,))
    fixed = layers().Dense(4, name="fixed")(tf.ones((1, 4)))
    model = nets.randomized(keras.Model(inputs, layers().Dense(3, name="end")(layers().ReLU()(layers().Dense(4)(inputs) + fixed))))
    assert "fixed" not in {layer.name for layer in model.layers}
    check_law(model, examples(4))


def test_a_mixed_precision_model_comes_back_in_float32():
    keras = backend.keras()
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        model = nets.randomized(nets.branching())
    finally:
        keras.mixed_precision.set_global_policy("float32")
    small = tfopt.fold(model)
    assert {layer.compute_dtype for layer in small.layers} == {"float32"} and "BatchNormalization" not in kinds(small)
    before, after = (np.asarray(each(examples(8, 8, 1)), "float32") for each in (model, small))
    assert np.abs(before - after).max() < 0.1


def test_there_is_nothing_to_train():
    with pytest.raises(tfopt.RecipeError, match="fit: unknown option"):
        tfopt.chain(tfopt.Step("fold", {"fit": tfopt.Fit()}))


@pytest.mark.slow
def test_what_is_folded_can_be_quantized(digits):
    model = nets.randomized(nets.branching())
    small = tfopt.chain(tfopt.Step("fold"), tfopt.Step("quantize_aware"))(model, digits)
    file = tfopt.convert(small, "int8", data=digits)
    assert not tfopt.measure(file).float_operations
