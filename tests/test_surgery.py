"""Copies, rewritten graphs and chosen layers: no pass changes a prediction."""

from __future__ import annotations

import nets
import numpy as np
import pytest
from nets import chain, examples, kinds, layers, same

from tfopt import backend
from tfopt.surgery import activations, copying, dropping, folding, hoisting, operators, planes, rewriting

PASSES = {
    "copy": lambda model: (copying.copy_of(model), {}),
    "flat": rewriting.flattened,
    "relu fused": activations.relu_fused,
    "split": activations.activations_split,
    "relu6": activations.relu6_as_layers,
    "back": folding.folded_back,
    "forward": folding.folded_forward,
    "batch norms": folding.scalings_as_convolutions,
    "dropped": dropping.identities_dropped,
    "hoisted": hoisting.hoisted,
    "operators": operators.as_layers,
    "planes": planes.as_planes,
}
FLAT = set(PASSES) - {"copy", "flat"}  # these want nested models laid open


@pytest.fixture(params=["branching", "odd", "sequential"])
def net(request):
    return nets.randomized(getattr(nets, request.param)())


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).random((16, 8, 8, 1), dtype="float32")


@pytest.mark.parametrize("name", PASSES)
def test_outputs_stay_the_same_and_nothing_is_shared(net, images, name):
    net = rewriting.flattened(net)[0] if name in FLAT else net
    new, changes = PASSES[name](net)
    before = nets.logits(net, images)
    assert np.abs(nets.logits(new, images) - before).max() <= 1e-5 * np.abs(before).max()
    assert set(changes) <= {path for path, _ in copying.all_layers(net)}
    there = {layer.name for layer in new.layers}
    assert all(set(change.into) <= there for change in changes.values())
    assert name == "copy" or {path for path, _ in copying.all_layers(net)} - set(changes) <= there
    if changes or name in ("copy", "flat"):  # otherwise the model itself comes back
        nets.randomized(new, seed=1)
    assert np.array_equal(nets.logits(net, images), before)
    assert new.input_names == net.input_names


# --- nested models ---


def test_flattened_has_no_model_inside_and_says_the_names():
    flat, changes = rewriting.flattened(nets.branching())
    assert not any(isinstance(layer, backend.keras().Model) for layer in flat.layers)
    assert {"point", "inner_relu", "conv", "logits"} <= {layer.name for layer in flat.layers}
    assert {path: change.into for path, change in changes.items()} == {"inner/point": ("point",), "inner/inner_relu": ("inner_relu",)}


def test_names_that_clash_are_made_free(images):
    keras = backend.keras()

    def inner(name):
        return keras.Sequential([keras.layers.Conv2D(2, 1, name="conv", input_shape=(8, 8, 1))], name=name)

    inputs = keras.Input((8, 8, 1))
    model = nets.randomized(keras.Model(inputs, keras.layers.Add(name="sum")([inner("a")(inputs), inner("b")(inputs)])))
    flat, changes = rewriting.flattened(model)
    assert len({layer.name for layer in flat.layers}) == len(flat.layers) == 4
    assert sorted(change.into for change in changes.values()) == [("conv",), ("conv_",)]
    assert same(model, flat, images)


def test_shared_layers_stay_shared(images):
    keras = backend.keras()
    left, right = keras.Input((8, 8, 1), name="left"), keras.Input((8, 8, 1), name="right")
    shared = keras.layers.Conv2D(3, 3, name="shared")
    joined = keras.layers.Add()([shared(left), shared(right)])
    model = nets.randomized(keras.Model({"left": left, "right": right}, {"sum": keras.layers.ReLU(name="relu")(joined)}))
    fused, found = activations.relu_fused(model)
    assert not found and len(fused.weights) == 2
    assert same(model, fused, {"left": images, "right": images * 2})


def test_a_nested_model_of_several_inputs_and_outputs_called_by_their_names_twice():
    keras = backend.keras()
    a, b = keras.Input((4,), name="a"), keras.Input((6,), name="b")
    one, two = keras.layers.Dense(5, name="one")(a), keras.layers.Dense(5, name="two")(b)
    inner = keras.Model([b, a], {"sum": keras.layers.Add(name="add")([one, two]), "one": one}, name="inner")
    x, y = keras.Input((4,), name="x"), keras.Input((6,), name="y")
    first, second = inner({"a": x, "b": y}), inner([y * 2.0, x])
    outer = keras.Model(
        {"x": x, "y": y}, [first["sum"], second["sum"], keras.layers.Concatenate(name="both")([first["one"], second["one"]])]
    )
    model = keras.Sequential([keras.layers.Dense(4, name="before", input_shape=(3,))], name="deepest")
    z = keras.Input((3,), name="z")
    model = nets.randomized(keras.Model([z, y], outer({"x": model(z), "y": y}), name="outermost"))
    flat, changes = rewriting.flattened(model)
    assert len(flat.weights) == len(model.weights) == 6
    assert same(model, flat, [examples(3), examples(6)])
    assert {path.count("/") for path in changes} == {1, 2}


def test_a_frozen_batch_norm_of_a_nested_model_stays_at_inference(images):
    """`base(x, training=False)`, the way of transfer learning."""
    keras = backend.keras()
    base = keras.Sequential(
        [keras.layers.Conv2D(4, 3, name="conv", input_shape=(8, 8, 1)), keras.layers.BatchNormalization(name="bn")], name="base"
    )
    inputs = keras.Input((8, 8, 1))
    model = nets.randomized(keras.Model(inputs, base(inputs, training=False)))
    flat, _ = rewriting.flattened(model)
    assert np.allclose(flat(images, training=True), model(images, training=True), atol=1e-5)
    assert np.allclose(flat(images, training=True), model(images, training=False), atol=1e-5)


def test_a_recurrent_layer_with_its_state_handed_on_is_rebuilt():
    keras = backend.keras()
    words = keras.Input((5, 3))
    x, *state = keras.layers.LSTM(4, return_sequences=True, return_state=True, name="encoder")(words)
    x = keras.layers.LSTM(4, name="decoder")(x, initial_state=state)
    model = nets.randomized(keras.Model(words, keras.layers.Dense(3)(x)))
    assert same(model, rewriting.flattened(model)[0], examples(5, 3))


def test_an_activation_that_the_user_wrote_is_rebuilt(images):
    def half(x):
        return x / 2 + 1

    model = chain(layers().Conv2D(3, 3, activation=half), layers().Activation(half), shape=(8, 8, 1))
    assert same(model, rewriting.flattened(model)[0], images)
    split, changes = activations.activations_split(rewriting.flattened(model)[0])
    assert [change.into[1].split("_")[-1] for change in changes.values()] == ["half"]
    assert same(model, split, images)


# --- folding ---

BEFORE = {
    "Conv2D": ((8, 8, 4), lambda: layers().Conv2D(6, 3, padding="same", name="linear")),
    "Conv2D without bias": ((8, 8, 4), lambda: layers().Conv2D(6, 3, strides=2, use_bias=False, name="linear")),
    "Conv2D groups": ((8, 8, 4), lambda: layers().Conv2D(6, 3, groups=2, name="linear")),
    "Conv2D dilated": ((8, 8, 4), lambda: layers().Conv2D(6, 3, dilation_rate=2, padding="same", name="linear")),
    "DepthwiseConv2D": ((8, 8, 4), lambda: layers().DepthwiseConv2D(3, depth_multiplier=2, use_bias=False, name="linear")),
    "SeparableConv2D": ((8, 8, 4), lambda: layers().SeparableConv2D(6, 3, depth_multiplier=2, name="linear")),
    "Conv2DTranspose": ((8, 8, 4), lambda: layers().Conv2DTranspose(6, 3, strides=2, padding="same", name="linear")),
    "Conv1D": ((9, 4), lambda: layers().Conv1D(6, 3, padding="causal", groups=2, use_bias=False, name="linear")),
    "Conv1D dilated": ((9, 4), lambda: layers().Conv1D(6, 3, dilation_rate=2, name="linear")),
    "DepthwiseConv1D": ((9, 4), lambda: layers().DepthwiseConv1D(3, depth_multiplier=2, name="linear")),
    "SeparableConv1D": ((9, 4), lambda: layers().SeparableConv1D(6, 3, name="linear")),
    "Conv1DTranspose": ((9, 4), lambda: layers().Conv1DTranspose(6, 3, strides=2, name="linear")),
    "Conv3D": ((4, 4, 4, 2), lambda: layers().Conv3D(3, 2, name="linear")),
    "Dense": ((7,), lambda: layers().Dense(6, name="linear")),
    "Dense on rows": ((5, 7), lambda: layers().Dense(6, use_bias=False, name="linear")),
}
SCALINGS = {
    "BatchNormalization": lambda: layers().BatchNormalization(epsilon=0.01, name="scaling"),
    "without scale": lambda: layers().BatchNormalization(scale=False, name="scaling"),
    "without center": lambda: layers().BatchNormalization(center=False, name="scaling"),
    "Rescaling": lambda: layers().Rescaling(0.3, offset=-0.7, name="scaling"),
}


@pytest.mark.parametrize("before", BEFORE)
def test_a_batch_norm_is_folded_into_the_linear_layer_before_it(before):
    shape, make = BEFORE[before]
    for scaling in SCALINGS.values() if before in ("Conv2D", "Dense") else [SCALINGS["BatchNormalization"]]:
        model = chain(make(), scaling(), layers().LeakyReLU(), shape=shape)
        folded, changes = folding.folded_back(model)
        assert changes["scaling"].reason == "folded into linear" and len(folded.layers) == len(model.layers) - 1
        assert folded.get_layer("linear").use_bias
        assert same(model, folded, examples(*shape))


@pytest.mark.parametrize("after", [name for name in BEFORE if name != "Conv3D"])
def test_a_batch_norm_is_folded_into_the_linear_layer_behind_it_where_nothing_is_padded(after):
    shape, make = BEFORE[after]
    model = chain(layers().ReLU(), SCALINGS["BatchNormalization"](), layers().Dropout(0.5), make(), layers().ReLU(), shape=shape)
    folded, changes = folding.folded_forward(model)
    pads = after in ("Conv2D", "Conv2D dilated", "Conv1D") or "Transpose" in after
    assert ("scaling" in changes) != pads
    assert same(model, folded, examples(*shape))
    model = chain(layers().Rescaling(-0.5), make(), shape=shape)  # adds nothing: padding does not matter
    folded, changes = folding.folded_forward(model)
    assert len(changes) == 1 and same(model, folded, examples(*shape))


def test_scaling_passes_layers_that_do_not_mind(images):
    passing = [layers().AveragePooling2D(), layers().UpSampling2D(interpolation="bilinear"), layers().Cropping2D(1), layers().Flatten()]
    model = chain(layers().BatchNormalization(name="bn"), *passing, layers().Dense(5, name="dense"))
    folded, changes = folding.folded_forward(model)
    assert changes["bn"].into == ("dense",) and same(model, folded, examples(8, 8, 3))
    for stop in (layers().ZeroPadding2D(), layers().ReLU(), layers().MaxPooling2D()):  # the last, as gamma is negative
        bn = layers().BatchNormalization(name="bn")
        model = chain(bn, stop, layers().Flatten(), layers().Dense(5))
        bn.gamma.assign(-bn.gamma)
        folded, changes = folding.folded_forward(model)
        assert not changes and same(model, folded, examples(8, 8, 3))


def test_what_is_not_alone_or_not_linear_is_not_folded(images):
    keras = backend.keras()
    inputs = keras.Input((8, 8, 1))
    conv = keras.layers.Conv2D(3, 1, name="read_twice")(inputs)
    x = keras.layers.Add()([conv, keras.layers.BatchNormalization()(conv)])
    x = keras.layers.BatchNormalization()(keras.layers.Conv2D(3, 1, activation="relu")(x))
    x = keras.layers.BatchNormalization(axis=1)(keras.layers.Conv2D(3, 1)(keras.layers.ReLU()(x)))
    shared = keras.layers.Conv2D(3, 1)
    x = keras.layers.BatchNormalization()(shared(shared(keras.layers.ReLU()(x))))
    batch = keras.layers.BatchNormalization()(keras.layers.Conv2D(3, 1)(keras.layers.ReLU()(x)), training=True)
    model = nets.randomized(keras.Model(inputs, [x, batch]))
    folded, changes = folding.folded_back(model)
    assert not changes and same(model, folded, images)


@pytest.mark.parametrize("shape", [(6, 6, 4), (None, None, 4), (7, 4), (None, 4), (9,)])
def test_a_lone_batch_norm_becomes_a_convolution(shape):
    model = chain(layers().ReLU(), layers().BatchNormalization(name="bn"), layers().ReLU(), shape=shape)
    new, changes = folding.scalings_as_convolutions(model)
    assert changes["bn"].into[0] == "bn" and "DepthwiseConv2D" in kinds(new) and "BatchNormalization" not in kinds(new)
    assert new.output_shape == model.output_shape
    assert same(model, new, examples(*(size or 5 for size in shape)))


# --- activations ---


def test_a_relu_with_bounds_of_its_own_is_left():
    keras = backend.keras()
    inputs = keras.Input((8, 8, 1))
    x = keras.layers.Conv2D(2, 1, name="a")(inputs)
    x = keras.layers.ReLU(4.0, name="four")(x)
    x = keras.layers.Conv2D(2, 1, name="b")(x)
    x = keras.layers.ReLU(negative_slope=0.1, name="leaky")(x)
    x = keras.layers.Conv2D(2, 1, activation="tanh", name="c")(x)
    x = keras.layers.ReLU(name="after_tanh")(x)
    x = keras.layers.Conv2D(2, 1, name="d")(x)
    model = keras.Model(inputs, keras.layers.ReLU(name="plain")(x))
    assert {relu: change.into for relu, change in activations.relu_fused(model)[1].items()} == {"plain": ("d",)}


INLINE = ["swish", "gelu", "elu", "selu", "softplus", "mish", "hard_sigmoid", "exponential", "leaky_relu", "relu6", "softmax", "tanh"]


@pytest.mark.parametrize("activation", INLINE)
def test_an_inline_activation_becomes_a_layer(images, activation):
    model = chain(layers().Conv2D(3, 3, activation=activation, name="conv"), layers().Flatten(), layers().Dense(4), shape=(8, 8, 1))
    new, changes = activations.activations_split(model)
    assert changes["conv"].into == ("conv", f"conv_{activation}")
    assert new.get_layer("conv").activation is backend.keras().activations.linear
    assert kinds(new)[1] == {"leaky_relu": "LeakyReLU", "elu": "ELU", "relu6": "ReLU"}.get(activation, "Activation")
    assert same(model, new, images * 4 - 2)
    assert activations.activations_split(model, keep=lambda layer: layer.name == "conv")[1] == {}


def test_a_layer_used_as_an_activation_becomes_one(images):
    model = chain(layers().Conv2D(3, 3, activation=layers().LeakyReLU(0.4), name="conv"), shape=(8, 8, 1))
    new, _ = activations.activations_split(model)
    assert kinds(new) == ["Conv2D", "LeakyReLU"] and same(model, new, images)


def test_relu6_becomes_a_relu_layer(images):
    relu6 = backend.tensorflow().nn.relu6
    makers = [
        layers().Conv2D(3, 3, activation=relu6, name="a"),
        layers().Conv2D(3, 3, activation="swish"),
        layers().Activation("relu6", name="b"),
    ]
    model = chain(*makers, shape=(8, 8, 1))
    new, changes = activations.relu6_as_layers(model)
    assert kinds(new) == ["Conv2D", "ReLU", "Conv2D", "ReLU"] and set(changes) == {"a", "b"}
    assert same(model, new, images * 10)


# --- dropping and hoisting ---


def test_dropout_and_augmentation_are_dropped(images):
    random = ["RandomRotation", "RandomZoom", "RandomContrast", "RandomBrightness", "GaussianNoise", "GaussianDropout", "AlphaDropout",
              "Dropout", "SpatialDropout2D", "ActivityRegularization"]  # fmt: skip
    idle = [layers().RandomFlip(), layers().RandomTranslation(0.1, 0.1), *(getattr(layers(), name)(0.1) for name in random)]
    model = chain(*idle, layers().RandomCrop(6, 6), layers().Flatten(), layers().Dense(4), shape=(8, 8, 1))
    lean, changes = dropping.identities_dropped(model)
    assert kinds(lean) == ["RandomCrop", "Flatten", "Dense"] and len(changes) == len(idle)
    assert same(model, lean, images)


def test_monte_carlo_dropout_and_what_casts_is_kept():
    keras = backend.keras()
    inputs = keras.Input((8, 8, 3), dtype="uint8")
    x = keras.layers.RandomFlip(name="casts")(inputs)
    x = keras.layers.Dropout(0.5, name="always")(x, training=True)
    model = keras.Model(inputs, keras.layers.Dropout(0.5, name="idle")(x))
    lean, changes = dropping.identities_dropped(model)
    assert set(changes) == {"idle"} and lean.output.dtype == model.output.dtype
    assert lean.get_layer("always")(np.ones((1, 100)), training=True).numpy().min() == 0


def normalization(**options):
    return layers().Normalization(mean=[0.4, 0.5, -0.6], variance=[0.1, 0.2, 3.0], **options)


def test_rescaling_and_normalization_become_one_in_front(images):
    front = [layers().Resizing(6, 6), layers().Rescaling(1 / 2, name="first"), layers().Cropping2D(1), normalization(name="second")]
    model = chain(*front, layers().Conv2D(3, 3, padding="same"))
    new, changes = hoisting.hoisted(model)
    assert kinds(new) == ["Rescaling", "Resizing", "Cropping2D", "Conv2D"] and set(changes) == {"first", "second"}
    assert same(model, new, examples(8, 8, 3))


def test_hoisting_stops_where_it_would_not_be_exact():
    model = chain(layers().ZeroPadding2D(), layers().Rescaling(2.0, 1.0, name="adds"), layers().Conv2D(3, 3))
    new, changes = hoisting.hoisted(model)
    assert not changes and kinds(new)[:2] == ["ZeroPadding2D", "Rescaling"] and same(model, new, examples(8, 8, 3))
    turning = [layers().Reshape((4, 16, 3)), layers().Permute((3, 1, 2)), layers().Permute((2, 3, 1))]
    model = chain(*turning, normalization(), layers().Flatten())
    new, changes = hoisting.hoisted(model)
    assert len(changes) == 1 and kinds(new) == ["Reshape", "Permute", "Permute", "Rescaling", "Flatten"]
    assert same(model, new, examples(8, 8, 3))
    keras = backend.keras()
    inputs = keras.Input((8, 8, 3), dtype="uint8")
    x = keras.layers.Rescaling(1 / 255, name="casts")(inputs)
    model = nets.randomized(keras.Model(inputs, keras.layers.Conv2D(2, 3)(normalization()(x))))
    assert hoisting.hoisted(model)[1] == {} and "casts" not in folding.folded_forward(model)[1]


def test_a_hoisted_scaling_goes_into_the_first_weights_where_nothing_is_padded():
    model = chain(layers().Rescaling(1 / 2), normalization(), layers().Conv2D(3, 3, name="conv"), layers().ReLU())
    hoisted, _ = hoisting.hoisted(model)
    folded, _ = folding.folded_forward(hoisted)
    assert kinds(folded) == ["Conv2D", "ReLU"] and same(model, folded, examples(8, 8, 3))
    model = chain(normalization(invert=True), layers().Conv2D(3, 3, padding="same"))
    assert kinds(folding.folded_forward(hoisting.hoisted(model)[0])[0]) == ["Rescaling", "Conv2D"]


# --- one axis as a plane ---


@pytest.mark.parametrize("before", [name for name, (shape, _) in BEFORE.items() if len(shape) == 2])
@pytest.mark.parametrize("length", [9, None])
def test_a_layer_along_one_axis_goes_onto_a_plane(before, length):
    shape, make = BEFORE[before]
    behind = [layers().BatchNormalization(name="bn"), layers().ReLU(), layers().Dropout(0.5)]
    model = chain(make(), *behind, layers().Conv1D(4, 1, padding="same"), layers().GlobalAveragePooling1D(), shape=(length, shape[1]))
    new, changes = planes.as_planes(model)
    assert "linear" in changes and "bn" in changes
    assert kinds(new).count("Reshape") == 1 and not any(name.endswith("1D") for name in kinds(new))
    assert new.output_shape == model.output_shape and same(model, new, examples(9, shape[1]))


def test_what_pools_and_pads_behind_a_conv1d_comes_along():
    behind = [layers().MaxPooling1D(2, padding="same"), layers().ZeroPadding1D((1, 2)), layers().UpSampling1D(3), layers().LeakyReLU(),
              layers().AveragePooling1D(3, 2), layers().SpatialDropout1D(0.5), layers().Activation("softmax"), layers().ELU()]  # fmt: skip
    for last in (layers().GlobalMaxPooling1D(keepdims=True), layers().GlobalMaxPooling1D(), layers().Flatten()):
        model = chain(layers().Conv1D(6, 3, strides=2, name="conv"), *behind, last, layers().Dense(3, name="dense"), shape=(21, 4))
        new, changes = planes.as_planes(model)
        assert not [name for name in kinds(new) if name.endswith("1D")]
        assert changes["conv"].reason == "becomes a Conv2D" and new.output_shape == model.output_shape
        assert same(model, new, examples(21, 4))


def test_a_conv1d_between_others_gets_its_reshapes():
    keras = backend.keras()
    inputs = keras.Input((9, 4))
    x = keras.layers.Conv1D(4, 3, padding="causal", dilation_rate=2, name="one")(inputs)
    x = keras.layers.Add()([x, inputs])
    x = keras.layers.LSTM(5, return_sequences=True)(x)
    model = nets.randomized(keras.Model(inputs, keras.layers.Dense(3, activation="relu", name="rows")(x)))
    new, changes = planes.as_planes(model)
    assert set(changes) == {"one", "rows"} and kinds(new).count("Conv2D") == 2 and same(model, new, examples(9, 4))


def test_a_dense_on_rows_that_are_masked_stays():
    keras = backend.keras()
    inputs = keras.Input((6,), dtype="int32")
    x = keras.layers.Dense(3, name="rows")(keras.layers.Embedding(9, 4, mask_zero=True)(inputs))
    model = nets.randomized(keras.Model(inputs, keras.layers.LSTM(3)(x)))
    new, changes = planes.as_planes(model)
    feed = np.random.default_rng(0).integers(0, 9, (8, 6)).astype("int32")
    assert not changes and same(model, new, feed)


def test_a_dense_on_a_plane_becomes_a_convolution():
    model = chain(layers().Dense(5, activation="gelu", name="dense"), layers().Flatten(), shape=(4, 4, 3))
    new, _ = planes.as_planes(model)
    assert kinds(new) == ["Conv2D", "Flatten"] and same(model, new, examples(4, 4, 3))


def test_all_layers_names_nested_ones_by_their_path():
    names = [name for name, _ in copying.all_layers(nets.branching())]
    assert "inner/point" in names and "conv" in names and "image" not in names
