"""Channel pruning: what is cut together, that the small model is the large one with silent channels, budgets, and what is refused."""

from __future__ import annotations

import nets
import numpy as np
import pytest
from bridge_cases import FAMILIES, family
from test_models import CASES as BUILDERS
from test_models import built as built_by
from test_models import every

import tfopt
from tfopt import backend, bridge
from tfopt.errors import OptionError, UnsupportedModel
from tfopt.surgery import copying, cutting
from tfopt.techniques import _planning
from tfopt.techniques._groups import Grouped

# ---- the law: the small model gives what the large one gives with its channels silenced


def silenced(model, ties, gone):
    """The model with zeros in the weights that make these channels, BatchNorm's scale, offset and mean among them."""
    copy = copying.copy_of(model)
    twins = {id(old): new for old, new in zip(model.weights, copy.weights, strict=True)}
    for slot in ties.slots.values():
        if slot.makes and "variance" not in slot.variable.name:
            twin = twins[id(slot.variable)]
            values = np.moveaxis(twin.numpy(), slot.axis, 0).copy()
            values[np.isin(ties.of(slot.ids), list(gone))] = 0
            twin.assign(np.moveaxis(values, 0, slot.axis))
    return copy


def some_of(grouped, share, seed=0):
    """Channels to cut, at random: this share of each group, at least one; and how many each group keeps."""
    generator, gone, kept = np.random.default_rng(seed), [], []
    for group in grouped.groups:
        count = 0 if group.reason else max(1, int(len(group) * share))
        gone += generator.permutation(group.channels)[:count].tolist()
        kept.append(len(group) - count)
    return gone, kept


def inputs_of(model, count=2, seed=0):
    generator = np.random.default_rng(seed)

    def values(tensor):
        shape = [count, *(size or 6 for size in tensor.shape[1:])]
        return (
            generator.normal(size=shape).astype("float32") if tensor.dtype.is_floating else generator.integers(0, 6, shape).astype("int32")
        )

    found = [values(tensor) for tensor in model.inputs]
    return backend.tensorflow().nest.pack_sequence_as(model._nested_inputs, found)


def of_family(name):
    """A family's net, and inputs in the range that it takes."""
    model = bridge.to_keras2(family(name)())
    x = inputs_of(model, 4)
    return model, 127 * (1 + x) if FAMILIES[name] == "images" else x


def outputs_of(model, x):
    return [np.asarray(each) for each in backend.tensorflow().nest.flatten(model(x, training=False))]


def without_ending(model):
    """Without the softmax at its end, behind which differences would hardly show."""
    for tensor in model.outputs:
        layer = tensor._keras_history.layer
        if getattr(getattr(layer, "activation", None), "__name__", "") in ("softmax", "sigmoid"):
            layer.activation = backend.keras().activations.linear
    return model


def check_law(model, x=None):
    """Returns how many groups can be cut, and how much smaller the outputs' change is than what silence changes."""
    x = inputs_of(model) if x is None else x
    grouped = Grouped(without_ending(model))
    gone, kept = some_of(grouped, 0.4)
    small, silent = cutting.without(model, grouped.ties, gone), silenced(model, grouped.ties, gone)
    before, expected, found = (outputs_of(each, x) for each in (model, silent, small))
    for one, other in zip(expected, found, strict=True):
        assert np.isfinite(one).all()
        assert np.abs(one - other).max() <= 1e-4 * np.abs(one).max()
    assert not gone or any(np.abs(one - other).max() > 1e-3 * np.abs(one).max() for one, other in zip(before, expected, strict=True))
    assert [layer.name for layer in small.layers] == [layer.name for layer in model.layers]
    assert small.output_shape == model.output_shape
    assert small.count_params() == round(grouped.costs.total("parameters", kept))
    assert tfopt.inspect(small).macs == pytest.approx(grouped.costs.total("macs", kept), rel=1e-6)
    assert all(group.reason for group in grouped.groups if set(group.makers) <= {model.layers[-1].name})
    return grouped


@pytest.mark.parametrize(("name", "shape", "given"), every(quick={f"{name}-0" for name in BUILDERS}))
def test_a_builders_small_model_is_the_large_one_with_silent_channels(name, shape, given):
    model = built_by(name, shape, given)
    check_law(nets.scaled(model, inputs_of(model, 8)))


SLOW = [name for name in FAMILIES if name != "MobileNetV3Small"]


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in FAMILIES])
def test_a_familys_small_model_is_the_large_one_with_silent_channels(name):
    model, x = of_family(name)
    nets.scaled(model, x)
    for weight in model.weights:
        if "layer_scale" in weight.name:  # of ConvNeXt, a millionth at first: whatever is cut would not show
            weight.assign(np.random.default_rng(0).uniform(0.5, 1.5, weight.shape))
    check_law(model, x)


@pytest.mark.parametrize("net", ["attention", "both_ways", "branching", "gated", "odd", "recurrent", "sequential", "two_inputs"])
def test_a_nets_small_model_is_the_large_one_with_silent_channels(net):
    check_law(nets.randomized(getattr(nets, net)()))


# ---- what is cut together


def made(build, *shape):
    """A model of `build(inputs, layers)`, and its groups: {makers: (channels, reason)}."""
    keras = backend.keras()
    inputs = keras.Input(shape)
    model = nets.randomized(keras.Model(inputs, build(inputs, keras.layers)))
    return model, {group.makers: (len(group), group.reason) for group in check_law(model).groups}


def test_a_residual_add_couples_what_it_sums():
    def build(x, layers):
        x = layers.Conv2D(6, 3, padding="same", name="one")(x)
        y = layers.Conv2D(4, 3, padding="same", name="inner")(x)
        y = layers.Conv2D(6, 1, name="two")(y)
        x = layers.Add()([x, y])
        return layers.Dense(3, name="end")(layers.GlobalAveragePooling2D()(x))

    _, groups = made(build, 6, 6, 2)
    assert groups == {("one", "two"): (6, None), ("inner",): (4, None), ("end",): (3, "an output of the model")}


def test_a_concatenation_couples_nothing_and_a_flatten_has_each_channel_many_times():
    def build(x, layers):
        a, b = layers.Conv2D(3, 3, name="a")(x), layers.Conv2D(5, 3, name="b")(x)
        x = layers.Flatten()(layers.Concatenate()([a, layers.BatchNormalization()(b)]))
        return layers.Dense(2, name="end")(layers.Dense(7, activation="relu", name="hidden")(x))

    model, groups = made(build, 6, 6, 2)
    assert {makers: size for makers, (size, _) in groups.items()} == {("a",): 3, ("b",): 5, ("hidden",): 7, ("end",): 2}
    small = tfopt.prune_channels(model, keep=0.5, where="a", multiple_of=1)
    assert small.get_layer("hidden").kernel.shape == (4 * 4 * (small.get_layer("a").filters + 5), 7)


def test_squeeze_and_excite_couples_the_gates_with_what_they_scale():
    def build(x, layers):
        x = layers.Conv2D(8, 3, name="conv", activation="relu")(x)
        gates = layers.Reshape((1, 1, 8))(layers.GlobalAveragePooling2D()(x))
        gates = layers.Conv2D(2, 1, activation="relu", name="squeeze")(gates)
        gates = layers.Conv2D(8, 1, activation="sigmoid", name="excite")(gates)
        return layers.Dense(3, name="end")(layers.GlobalMaxPooling2D()(layers.Multiply()([x, gates])))

    _, groups = made(build, 6, 6, 2)
    assert groups == {("conv", "excite"): (8, None), ("squeeze",): (2, None), ("end",): (3, "an output of the model")}


def test_a_grouped_convolution_loses_the_same_places_of_each_group():
    def build(x, layers):
        x = layers.Conv2D(8, 1, name="before")(x)
        x = layers.Conv2D(12, 3, groups=4, name="grouped")(x)
        return layers.Dense(3, name="end")(layers.GlobalMaxPooling2D()(x))

    model, groups = made(build, 6, 6, 2)
    assert groups[("before",)] == (2, None) and groups[("grouped",)] == (3, None)
    small = tfopt.prune_channels(model, keep=0.5, scope="uniform", multiple_of=4)
    assert (small.get_layer("before").filters, small.get_layer("grouped").filters) == (4, 8)


def test_heads_and_feed_forward_widths_are_cut_and_a_normalized_width_is_kept():
    model = nets.randomized(tfopt.models.vit((16, 16, 3), 5, depth=2, width=24, heads=3))
    groups = {group.name: group for group in Grouped(model).groups}
    kept = [group for group in groups.values() if group.reason and "LayerNormalization" in group.reason]
    assert len(kept) == 1 and len(kept[0]) == 24 and len(kept[0].makers) > 4
    assert sorted(len(group) for group in groups.values() if group.reason is None) == [3, 3, 192, 192]


def test_what_is_not_zero_when_it_is_silent_goes_into_the_bias_behind_it_or_is_kept():
    def dense(x, layers):
        return layers.Dense(3, name="end")(layers.Dense(6, activation="sigmoid", name="hidden")(x))

    def padded(x, layers):
        x = layers.Conv2D(6, 3, activation="sigmoid", name="hidden")(x)
        return layers.Conv2D(2, 3, padding="same", name="end")(x)

    assert made(dense, 5)[1][("hidden",)] == (6, None)
    (_, reason) = made(padded, 6, 6, 2)[1][("hidden",)]
    assert "not zero when its weights are" in reason and "end" in reason


def test_slices_splits_and_shapes_between_layers_move_with_what_is_cut():
    tf = backend.tensorflow()

    def build(x, layers):
        x = layers.Conv2D(8, 3, name="conv")(x)
        a, b = x[..., :3], x[:, :, :, 3:]
        c, d = tf.split(layers.Conv2D(6, 3, name="halves")(x), 2, axis=-1)
        x = tf.concat([a[:, 2:, 2:], b[:, 2:, 2:], c * tf.nn.sigmoid(d)], axis=-1)
        x = tf.transpose(tf.reshape(x, (-1, 4, 11)), [0, 2, 1])
        return layers.Dense(3, name="end")(tf.reduce_mean(x, axis=2) * 2.0 + 1.0)

    _, groups = made(build, 6, 6, 2)
    assert groups[("halves",)] == (3, None)
    assert groups[("conv",)] == (8, None)


def test_a_layer_of_the_users_own_keeps_what_it_reads_and_says_so():
    keras = backend.keras()

    class Mine(keras.layers.Layer):
        def call(self, x):
            return x[..., ::-1]

    def build(x, layers):
        x = layers.Conv2D(4, 3, name="first")(x)
        x = layers.Conv2D(5, 3, name="second")(x)
        return layers.Dense(3, name="end")(layers.GlobalMaxPooling2D()(Mine(name="mine")(x)))

    _, groups = made(build, 8, 8, 2)
    assert groups[("first",)] == (4, None)
    assert groups[("second",)] == (5, "it is not known what Mine 'mine' does with channels")


# ---- budgets


@pytest.fixture(scope="module")
def resnet():
    return nets.randomized(tfopt.models.resnet((32, 32, 3), 10))


@pytest.mark.parametrize("scope", ["global", "uniform"])
@pytest.mark.parametrize(("option", "amount"), [("macs", 0.5), ("parameters", 0.3), ("parameters", 40_000), ("keep", 0.6)])
def test_the_plan_is_the_largest_that_the_budget_has_room_for(resnet, scope, option, amount):
    plan = tfopt.plan_channels(resnet, **{option: amount}, scope=scope)
    small = tfopt.prune_channels(resnet, **{option: amount}, scope=scope)
    inspected = tfopt.inspect(small)
    assert plan.parameters == (resnet.count_params(), small.count_params())
    assert plan.macs == (tfopt.inspect(resnet).macs, inspected.macs)
    assert [small.get_layer(group.name).filters for group in plan.groups if group.reason is None] == [
        group.after for group in plan.groups if group.reason is None
    ]
    if option == "keep":
        share = sum(group.after for group in plan.groups if group.reason is None) / sum(
            group.before for group in plan.groups if not group.reason
        )
        assert share == pytest.approx(0.6, abs=0.1)
        return
    before, after = plan.macs if option == "macs" else plan.parameters
    budget = amount if amount > 1 else amount * before
    assert after <= budget
    for group in plan.groups:  # one step more of any would be too much
        if group.after < group.before:
            step = 8 if group.before >= 32 else 4
            kept = {one.name: one.after for one in plan.groups} | {group.name: min(group.before, group.after + step)}
            grouped = Grouped(resnet)
            cost = grouped.costs.total(option, [kept[one.name] for one in grouped.groups])
            assert cost > budget, group.name


def test_counts_are_multiples(resnet):
    for multiple in (1, 4, 16):
        plan = tfopt.plan_channels(resnet, macs=0.7, multiple_of=multiple)
        assert all(group.after % multiple == 0 or group.after == group.before for group in plan.groups if group.reason is None)


def test_zeros_that_were_there_before_stay():
    data = tfopt.datasets.digits()
    model = tfopt.prune(nets.randomized(tfopt.models.convnet(data.input_shape, 10)), sparsity=0.5)
    small = tfopt.prune_channels(model, data, keep=0.5, fit=tfopt.Fit(epochs=1, batch_size=256))
    before = tfopt.prune_channels(model, keep=0.5)
    for one, other in zip(before.weights, small.weights, strict=True):
        if "kernel" in one.name:
            assert (one.numpy() == 0).any() and not other.numpy()[one.numpy() == 0].any()


def test_keeping_all_changes_nothing(resnet):
    small = tfopt.prune_channels(resnet, keep=1.0)
    assert all(np.array_equal(one, other) for one, other in zip(resnet.get_weights(), small.get_weights(), strict=True))


def test_the_plan_prints_as_a_table(resnet):
    lines = str(tfopt.plan_channels(resnet, macs=0.5)).splitlines()
    assert lines[0].split() == ["channels", "of", "before", "after", "least", "kept"]
    assert "softmax of 'probabilities' runs over them" in lines[-2] and "MACs" in lines[-1]


# ---- what is refused


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"keep": 0}, "keep = 0: should be greater than 0"),
        ({"keep": 1.5}, "keep = 1.5: should be less than or equal to 1"),
        ({"keep": 0.5, "macs": 0.5}, "keep and macs: give one budget"),
        ({"macs": 1000}, r"macs = 1000: the least that the model can have is [\d,]+ MACs"),
        ({"importance": "l3"}, "importance = 'l3': should be 'l1', 'l2'"),
        ({"importance": "taylor"}, "importance = 'taylor': is found on data"),
        ({"importance": "activation"}, "importance = 'activation': is found on data"),
        ({"bytes": 20_000}, "bytes = 20000: is measured on the int8 file, whose ranges need data"),
        ({"steps": 2}, "steps = 2: needs a fit"),
        ({"multiple_of": 0}, "multiple_of = 0: should be greater than or equal to 1"),
        ({"where": "nowhere"}, "no layer has this name or class"),
    ],
)
def test_bad_options_are_refused(resnet, bad, said):
    with pytest.raises((OptionError, tfopt.errors.DataError), match=said):
        tfopt.prune_channels(resnet, **bad)


def test_a_run_refuses_a_budget_before_it_trains(tmp_path):
    recipe = {"name": "small", "data": {"use": "digits"}, "model": {"use": "convnet"}, "fit": {"epochs": 500}}
    with pytest.raises(OptionError, match="macs = 10: the least"):
        tfopt.run({**recipe, "steps": [{"use": "prune_channels", "macs": 10}]}, out=tmp_path / "run")
    with pytest.raises(tfopt.errors.RecipeError, match=r"steps\[0\].keep and macs: give one budget"):
        tfopt.run({**recipe, "steps": [{"use": "prune_channels", "macs": 0.5, "keep": 0.5}]}, out=tmp_path / "run")


@pytest.mark.parametrize(
    ("budget", "model", "error", "said"),
    [
        ({"bytes": 900}, {"use": "convnet"}, OptionError, r"bytes = 900: the least that the model can have is [\d,]+ bytes"),
        ({"latency_ms": 1e-5}, {"use": "convnet"}, OptionError, r"latency_ms = 1e-05: the least that the model can have is [\d.]+ ms"),
    ],
)
def test_a_run_refuses_a_budget_of_its_file_before_it_trains(tmp_path, budget, model, error, said):
    recipe = {"name": "small", "data": {"use": "digits"}, "model": model, "fit": {"epochs": 500}}
    with pytest.raises(error, match=said):
        tfopt.run({**recipe, "steps": [{"use": "prune_channels", **budget}]}, out=tmp_path / "run")


def test_a_budget_of_time_needs_a_model_that_converts():
    series = tfopt.datasets.arrays(x=np.random.random((200, 8, 8)).astype("float32"), y=np.arange(200) % 4, name="series")
    with pytest.raises(tfopt.errors.ConversionError, match="gru to int8: the converter crashed"):
        tfopt.prune_channels(tfopt.models.gru(series.input_shape, 4), series, latency_ms=1.0, fit=tfopt.Fit(epochs=500))


def test_random_channels_are_drawn_by_the_seed_of_the_fit(digits):
    model = nets.randomized(tfopt.models.mlp(digits.input_shape, digits.num_classes))

    def first_kernel(seed):
        fit = tfopt.Fit(epochs=1, batch_size=512, learning_rate=1e-9, seed=seed)
        return tfopt.prune_channels(model, digits, keep=0.5, importance="random", fit=fit).get_layer("dense1").kernel.numpy()

    np.testing.assert_allclose(first_kernel(1), first_kernel(1), atol=1e-6)
    assert np.abs(first_kernel(1) - first_kernel(2)).max() > 0.1


def test_a_uniform_plan_keeps_about_the_same_share_of_each_group(resnet):
    plan = tfopt.plan_channels(resnet, macs=0.5, scope="uniform")
    shares = [group.after / group.before for group in plan.groups if group.reason is None]
    assert max(shares) - min(shares) <= 0.25  # a step of a layer of 16 channels


def test_a_residual_stream_keeps_more_than_what_a_block_has_for_itself():
    plan = tfopt.plan_channels(tfopt.models.resnet((32, 32, 3), 10), macs=0.5)
    left = {group.name: group.after / group.before for group in plan.groups}
    assert left["stem"] > left["stack1_block1_conv1"]
    assert all(left[f"stack{number}_block1_conv2"] > left[f"stack{number}_block1_conv1"] for number in (2, 3))


@pytest.mark.parametrize("share", [0.8, 0.6, 0.4])
def test_a_budget_of_time_is_met_closely_where_time_falls_in_jumps(digits, monkeypatch, share):
    """With a clock of its own, as each clock of the machine tells something else: kernels that work on eight channels at a time."""

    def time_of(model):
        convolutions = [layer for layer in model.layers if type(layer).__name__ == "Conv2D"]
        return sum(
            np.prod(layer.output_shape[1:3]) * np.prod(layer.kernel.shape[:3]) * -(-layer.filters // 8) for layer in convolutions
        ).item()

    monkeypatch.setattr(_planning, "measure_of", lambda *_: time_of)
    model = tfopt.models.resnet(digits.input_shape, digits.num_classes)
    budget = share * time_of(model)
    planned = _planning.Planned(model, digits, _planning.Budget.of({"latency_ms": budget}), "l2", "global", None, None).met()
    assert time_of(planned.model()) <= budget
    for group, kept in zip(planned.grouped.groups, planned.kept, strict=True):
        assert kept in (len(group), 8) or kept % 16 == 0
    if time_of(planned.model()) < 0.9 * budget:
        for group in range(len(planned.kept)):
            if (level := planned.ladder.above(group)) is not None:
                more = [*planned.kept[:group], level, *planned.kept[group + 1 :]]
                assert time_of(planned.model(more)) > budget


@pytest.mark.slow
def test_a_budget_of_time_cuts_channels(digits):  # how well it is met is measured in benchmarks/channels.py
    model = tfopt.models.convnet(digits.input_shape, digits.num_classes, width=64)
    full = tfopt.benchmark(tfopt.convert(model, "int8", data=digits), data=digits).median_ms
    assert tfopt.prune_channels(model, digits, latency_ms=full / 2).count_params() < model.count_params()
    assert tfopt.prune_channels(model, digits, latency_ms=full * 100).count_params() == model.count_params()


def test_bn_scale_needs_a_batch_norm():
    with pytest.raises(OptionError, match="no BatchNorm with a scale stands behind 'conv1'"):
        tfopt.prune_channels(tfopt.models.lenet5((28, 28, 1), 10), importance="bn_scale")


def test_a_model_of_outputs_alone_has_nothing_to_cut():
    with pytest.raises(UnsupportedModel, match="can treat no layer"):
        tfopt.prune_channels(tfopt.models.linear((7,), 3))
