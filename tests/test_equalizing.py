"""equalize: no prediction changes whatever the model, ranges meet, where a factor stops is said, and int8 gets better."""

from __future__ import annotations

import nets
import numpy as np
import pytest
from bridge_cases import FAMILIES
from test_channels import inputs_of, of_family, outputs_of, without_ending
from test_models import built as built_by
from test_models import every
from test_techniques import CASES as TECHNIQUES

import tfopt
from tfopt import backend, pipelines
from tfopt.errors import DataError, UnsupportedModel
from tfopt.surgery.factors import Factors

LEFT = TECHNIQUES["equalize"]["nothing"]


def plan(model):
    return {choice.layer: choice for choice in tfopt.techniques.PLANS["equalize"](model)}


def kernel(model, name):
    """The layer's largest |w| by (input, output) channel; of a depthwise one by (channel, multiplier)."""
    layer = model.get_layer(name)
    values = np.abs(next(weight for weight in layer.weights if "kernel" in weight.name).numpy())
    return values.max(axis=tuple(range(values.ndim - 2)))


# ---- the law: no prediction changes


def check_law(model, x=None):
    """Returns the equalized model. Of nets in which nothing can be treated, None."""
    x = inputs_of(model) if x is None else x
    without_ending(model)
    try:
        even = tfopt.equalize(model)
    except UnsupportedModel:
        assert not any(choice.treated for choice in plan(model).values())
        return None
    for one, other in zip(outputs_of(model, x), outputs_of(even, x), strict=True):
        assert np.isfinite(one).all() and one.std() > 0
        assert np.abs(one - other).max() <= 1e-4 * np.abs(one).max(), f"{np.abs(one - other).max() / np.abs(one).max():.1e}"
    return even


@pytest.mark.parametrize(("name", "shape", "given"), every(quick={"dscnn-0"}))
def test_no_prediction_of_a_builders_model_changes(name, shape, given):
    model = built_by(name, shape, given)
    check_law(nets.scaled(model, inputs_of(model, 8)))


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_no_prediction_of_a_familys_model_changes(name):
    model, x = of_family(name)
    check_law(nets.scaled(model, x), x)


@pytest.mark.parametrize("net", [pytest.param(net, marks=[] if net == "attention" else [pytest.mark.slow]) for net in LEFT])
def test_a_net_in_which_no_factor_can_go_anywhere_is_refused(net):
    assert check_law(nets.randomized(getattr(nets, net)())) is None


# ---- what shares a factor


def made(build, *shape):
    """A model of `build(inputs, layers)`, and the same equalized."""
    keras = backend.keras()
    inputs = keras.Input(shape)
    model = nets.randomized(keras.Model(inputs, build(inputs, keras.layers)))
    return model, check_law(model)


def meet(one, other):
    """Whether the ranges of channels are the same, to the sweep at which equalizing ends."""
    return np.allclose(np.log(one), np.log(other), atol=0.03)


def test_the_ranges_of_a_pair_meet_at_their_geometric_mean():
    def build(x, layers):
        x = layers.LeakyReLU()(layers.Conv2D(6, 3, name="one")(x))
        return layers.Conv2D(5, 3, name="two")(layers.MaxPooling2D()(layers.ZeroPadding2D()(layers.Dropout(0.5)(x))))

    model, even = made(build, 9, 9, 2)
    before = np.sqrt(kernel(model, "one").max(axis=0) * kernel(model, "two").max(axis=1))
    for found in (kernel(even, "one").max(axis=0), kernel(even, "two").max(axis=1)):
        assert meet(found, before)
    assert not meet(kernel(model, "one").max(axis=0), kernel(model, "two").max(axis=1))


def test_a_depthwise_convolution_has_factors_on_both_sides():
    def build(x, layers):
        x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(6, 1, name="one")(x)))
        x = layers.ReLU()(layers.BatchNormalization()(layers.DepthwiseConv2D(3, depth_multiplier=2, name="depthwise")(x)))
        return layers.Conv2D(4, 1, name="two")(x)

    _, even = made(build, 6, 6, 3)
    depthwise = kernel(even, "depthwise")
    assert meet(kernel(even, "one").max(axis=0), depthwise.max(axis=1))
    assert meet(kernel(even, "two").max(axis=1), depthwise.ravel())
    assert "BatchNormalization" not in nets.kinds(even)


def test_a_residual_stream_has_one_factor():
    def build(x, layers):
        x = layers.Conv2D(4, 3, padding="same", name="one")(x)
        y = layers.Conv2D(4, 3, padding="same", activation="relu", name="two")(x)
        x = layers.Add()([x, y])
        return layers.Dense(3, name="end")(layers.GlobalAveragePooling2D()(x))

    _, even = made(build, 6, 6, 2)
    makes = np.maximum(kernel(even, "one").max(axis=0), kernel(even, "two").max(axis=0))
    reads = np.maximum(kernel(even, "two").max(axis=1), kernel(even, "end").max(axis=1))
    assert meet(makes, reads)


def flattened(x, layers):
    return layers.Dense(3, name="end")(layers.Flatten()(layers.Conv2D(4, 3, activation="relu", name="one")(x)))


def concatenated(x, layers):
    a, b = layers.Conv2D(3, 3, name="one")(x), layers.Conv2D(4, 3, activation="relu", name="other")(x)
    return layers.Conv2D(2, 1, name="end")(layers.PReLU()(layers.Concatenate()([a, b])))


def grouped(x, layers):
    x = layers.Conv2D(8, 3, activation="relu", name="one")(x)
    return layers.Conv2D(6, 1, name="end")(layers.Conv2D(12, 3, groups=4, activation="relu", name="grouped")(x))


def transposed(x, layers):
    x = layers.Conv2DTranspose(5, 3, strides=2, activation="relu", name="one")(x)
    return layers.Conv2DTranspose(3, 3, padding="same", name="end")(layers.Rescaling(0.5)(layers.UpSampling2D()(x)))


def separable(x, layers):
    x = layers.SeparableConv2D(5, 3, depth_multiplier=2, activation="relu", name="one")(x)
    return layers.SeparableConv2D(3, 3, name="end")(layers.SpatialDropout2D(0.2)(x))


def called_twice(x, layers):
    shared = layers.Conv2D(2, 3, padding="same", activation="relu", name="one")
    return layers.Dense(3, name="end")(layers.GlobalMaxPooling2D()(layers.Maximum()([shared(shared(layers.Conv2D(2, 1)(x))), shared(x)])))


def rows(x, layers):
    x = layers.Conv1D(6, 3, padding="causal", activation="relu", name="one")(layers.Reshape((8, 16))(x))
    return layers.DepthwiseConv1D(3, name="end")(layers.AveragePooling1D()(x))


BUILDS = {build.__name__: build for build in (flattened, concatenated, grouped, transposed, separable, rows)}


@pytest.mark.parametrize("name", BUILDS)
def test_factors_go_through(name):
    model, even = made(BUILDS[name], 8, 8, 2)
    choices = plan(model)
    assert choices["one"].reason == "outputs scaled; inputs stay: an input of the model" and choices["one"].treated
    assert choices["end"].reason == "outputs stay: an output of the model; inputs scaled"
    assert any(np.abs(old - new).max() > 0.01 for old, new in zip(model.get_weights(), even.get_weights(), strict=True))


def test_a_layer_that_is_called_on_its_own_outputs_and_on_the_input_has_no_factor():
    model, even = made(called_twice, 8, 8, 2)
    assert even is None
    assert plan(model)["one"].reason == "outputs stay: an input of the model; inputs stay: an input of the model"


@pytest.mark.parametrize(
    ("between", "reason"),
    [
        (lambda layers: layers.ReLU(6.0, name="six"), "a factor does not go through ReLU 'six'"),
        (lambda layers: layers.Activation("sigmoid", name="gate"), "a factor does not go through Activation 'gate'"),
        (lambda layers: layers.Rescaling(1.0, 1.0, name="more"), "a factor does not go through Rescaling 'more'"),
        (lambda layers: layers.LayerNormalization(name="norm"), "a factor does not go through LayerNormalization 'norm'"),
        (lambda layers: layers.Lambda(lambda x: x + 1.0, name="own"), "it is not known what Lambda 'own' does with channels"),
        (lambda layers: layers.Conv2D(4, 1, activation="elu", name="elu"), "a factor does not go through the elu of 'elu'"),
    ],
)
def test_where_a_factor_stops_the_plan_says_why(between, reason):
    layers = nets.layers()
    ends = (layers.Conv2D(4, 1, name="one"), between(layers), layers.Conv2D(4, 1, name="two"), layers.Conv2D(4, 1, name="three"))
    model = nets.chain(*ends)
    check_law(model)
    choices = plan(model)
    assert f"inputs stay: {reason}" in choices["two"].reason and choices["two"].reason.startswith("outputs scaled")
    assert choices["three"].reason == "outputs stay: an output of the model; inputs scaled"


def test_a_channel_of_zeros_stays_finite():
    model = nets.chain(nets.layers().Conv2D(4, 1, name="one"), nets.layers().Conv2D(3, 1, name="two"))
    for name, at in (("one", (..., 0)), ("two", (..., 1, slice(None)))):
        values = model.get_layer(name).kernel.numpy()
        values[at] = 0
        model.get_layer(name).kernel.assign(values)
    even = check_law(model)
    assert all(np.isfinite(values).all() for values in even.get_weights())
    assert meet(kernel(even, "one").max(axis=0)[2:], kernel(even, "two").max(axis=1)[2:])


def test_zeros_and_shared_values_stay():
    model = tfopt.cluster(tfopt.prune(nets.randomized(nets.two_inputs()), sparsity=0.5), clusters=8, where="logits")
    even = tfopt.equalize(model)
    assert np.array_equal(even.get_layer("logits").kernel, model.get_layer("logits").kernel)
    assert tfopt.measure(tfopt.convert(even)).sparsity == tfopt.measure(tfopt.convert(model)).sparsity > 0.4
    assert plan(model)["conv"].reason == "takes in bn; outputs stay: the weights of logits share values; inputs stay: an input of the model"


# ---- what it is good for


def badly_scaled(model, seed=0):
    """The same net in float: each channel's weights times 10^u, u from -1.5 to 1.5, and divided by it where they are read."""
    model = tfopt.equalize(model)
    factors = Factors(model)
    by = 10 ** np.random.default_rng(seed).uniform(-1.5, 1.5, factors.count)
    factors.multiply(np.where(factors.free(), by, 1.0))
    return model


@pytest.fixture(scope="module")
def spotter(digits):
    """A trained net of depthwise convolutions."""
    model = tfopt.models.dscnn(digits.input_shape, 10, width=16, blocks=2, dropout=0.0)
    return tfopt.train(model, digits, tfopt.Fit(epochs=8, batch_size=64, learning_rate=1e-2))


def agreement(model, spotter, data):
    return tfopt.verify(tfopt.convert(model, "int8", data=data), against=spotter, data=data).agreement


def test_int8_of_a_badly_scaled_depthwise_net_is_restored(digits, spotter):
    bad = badly_scaled(spotter)
    x, _ = pipelines.to_arrays(digits.test)
    assert np.abs(np.asarray(bad(x)) - np.asarray(spotter(x))).max() < 1e-4
    assert agreement(bad, spotter, digits) < 0.8 < 0.95 < agreement(tfopt.equalize(bad), spotter, digits)


def rounded(model):
    """The model with kernels as int8 has them: a scale for each output."""
    copy = tfopt.clip_weights(model, limit=float("inf"))
    for weight in copy.weights:
        if "kernel" in weight.name:
            values = weight.numpy()
            axes = tuple(range(values.ndim - (2 if "depthwise" in weight.name else 1)))
            scales = np.abs(values).max(axis=axes, keepdims=True) / 127
            weight.assign(np.round(values / scales) * scales)
    return copy


def test_bias_correction_takes_away_what_rounding_adds_on_average(digits, spotter):
    x, _ = pipelines.to_arrays(digits.calibration)
    plain, corrected = tfopt.equalize(spotter), tfopt.equalize(spotter, digits, bias_correction=True)
    for kernel_old, kernel_new in zip(plain.weights, corrected.weights, strict=True):
        assert "bias" in kernel_old.name or np.array_equal(kernel_old, kernel_new)
    truth = nets.logits(plain, x)
    without, with_it = (np.abs((nets.logits(rounded(one), x) - truth).mean(axis=0)).mean() for one in (plain, corrected))
    assert with_it < 0.5 * without


def test_bias_correction_needs_data(spotter):
    with pytest.raises(DataError, match="bias_correction needs data"):
        tfopt.equalize(spotter, bias_correction=True)
