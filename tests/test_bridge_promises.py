"""What the bridge promises besides agreement: it checks itself, refuses with a reason, changes nothing it is given, and leads back."""

from __future__ import annotations

import random

import numpy as np
import pytest

import tfopt
from tfopt import backend, bridge
from tfopt.errors import BridgeError, UnsupportedModel
from tfopt.types import Fit

keras3 = bridge.keras3()
keras2 = backend.keras()


class Scaled(keras3.layers.Layer):
    """A user's own Keras 3 layer: x times a weight of each feature."""

    def __init__(self, power=1, **kwargs):
        super().__init__(**kwargs)
        self.power = power

    def build(self, input_shape):
        self.scale = self.add_weight(shape=(input_shape[-1],), name="scale", initializer="ones")

    def call(self, inputs):
        return inputs * self.scale**self.power

    def get_config(self):
        return {**super().get_config(), "power": self.power}


class Scaled2(keras2.layers.Layer):
    """The same in Keras 2."""

    def __init__(self, power=1, **kwargs):
        super().__init__(**kwargs)
        self.power = power

    def build(self, input_shape):
        self.scale = self.add_weight(shape=(input_shape[-1],), name="scale")

    def call(self, inputs):
        return inputs * self.scale**self.power

    def get_config(self):
        return {**super().get_config(), "power": self.power}


class Wrong(Scaled2):
    """Of the right weights, but with another result."""

    def call(self, inputs):
        return inputs * (self.scale + 0.01)


def net(*, own=False):
    """Keras 3: convolution, BatchNorm, a model inside, an operator, perhaps a layer of one's own; randomized. (8, 8, 1) -> 10."""
    layers = keras3.layers
    inputs = keras3.Input((8, 8, 1), name="image")
    x = layers.Conv2D(8, 3, padding="same", name="conv")(inputs)
    x = layers.BatchNormalization(name="bn")(x)
    x = layers.ReLU(name="relu")(x)
    inner = keras3.Sequential([keras3.Input((8, 8, 8)), layers.Conv2D(8, 1, activation="silu", name="point")], name="inner")
    x = inner(x) + x * 0.5
    if own:
        x = Scaled(2, name="own")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(10, name="logits")(x)
    model = keras3.Model(inputs, layers.Softmax(name="probabilities")(x), name="net")
    generator = np.random.default_rng(0)
    model.set_weights([generator.uniform(0.5, 1.5, w.shape) * generator.choice([0.3, 0.5], w.shape) for w in model.get_weights()])
    return model


@pytest.fixture(scope="module")
def images(digits):
    return np.stack([x for x, _ in digits.test.take(16).as_numpy_iterator()])


def same(a, b):
    a, b = np.asarray(a), np.asarray(b)
    return np.abs(a - b).max() <= 1e-5 * np.abs(a).max()


# It checks itself


def test_a_class_of_ones_own_is_taken_for_the_layer_of_its_name(images):
    model = net(own=True)
    bridged = tfopt.load(model, custom_objects={"Scaled": Scaled2})
    assert isinstance(bridged.get_layer("own"), Scaled2) and bridged.get_layer("own").power == 2
    assert same(model(images), bridged(images))


def test_a_layer_of_ones_own_without_a_counterpart_is_carried(images):
    model = net(own=True)
    bridged = bridge.to_keras2(model)
    assert same(model(images), bridged(images))
    assert [w.name for w in bridged.get_layer("own").trainable_weights] == ["own/scale:0"]


def test_a_difference_is_an_error_that_names_the_first_layer():
    with pytest.raises(BridgeError, match=r"'net': .* differ .* first layer that differs is 'own' \(Scaled\)"):
        bridge.to_keras2(net(own=True), {"Scaled": Wrong})


def test_a_difference_on_the_way_back_names_the_first_layer():
    model = bridge.to_keras2(net(own=True), {"Scaled": Scaled2})

    class Other(Scaled):
        def call(self, inputs):
            return super().call(inputs) + 0.01

    with pytest.raises(BridgeError, match="first layer that differs is 'own'"):
        bridge.to_keras3(model, {"Scaled2": Other})


@pytest.mark.parametrize("name", ["gelu", "square", "silu"])  # keras.ops.gelu is not what keras.activations calls gelu
def test_an_operation_as_an_activation_is_that_operation(name, tmp_path):
    operation = getattr(keras3.ops, name)
    model = keras3.Sequential([keras3.Input((4,)), keras3.layers.Dense(3, activation=operation)])
    x = np.random.default_rng(0).normal(size=(8, 4)).astype("float32")
    bridged = bridge.to_keras2(model)
    tfopt.save(bridged, tmp_path / "model.h5")
    for other in (bridged, tfopt.load(tmp_path / "model.h5"), bridge.to_keras3(bridged)):
        assert same(model(x), other(x))


# It changes nothing


def test_the_model_and_the_random_state_stay_as_they_are(images):
    model = net()
    weights, outputs = model.get_weights(), np.asarray(model(images))
    calls = [(len(op._inbound_nodes), len(op._outbound_nodes)) for op in model.operations]
    random.seed(5)
    np.random.seed(5)
    bridge.to_keras2(model)
    drawn = random.random(), np.random.random()
    random.seed(5)
    np.random.seed(5)
    assert drawn == (random.random(), np.random.random())
    assert all(np.array_equal(a, b) for a, b in zip(weights, model.get_weights(), strict=True))
    assert np.array_equal(outputs, np.asarray(model(images)))
    assert calls == [(len(op._inbound_nodes), len(op._outbound_nodes)) for op in model.operations]


def test_two_bridged_models_share_nothing(images):
    first, second = (bridge.to_keras2(model) for model in [net()] * 2)
    before = np.asarray(second(images))
    first.set_weights([w * 0 for w in first.get_weights()])
    assert np.array_equal(before, np.asarray(second(images)))


# It leads back


def test_a_keras_3_user_ends_where_he_began(digits, images, tmp_path):
    net().save(tmp_path / "mine.keras")
    mine = tfopt.load(tmp_path / "mine.keras")
    small = tfopt.prune(mine, digits, sparsity=0.5, fit=Fit(epochs=1, batch_size=256))
    tfopt.save(small, tmp_path / "small.keras")
    back = keras3.models.load_model(tmp_path / "small.keras")  # Keras alone, without tfopt
    np.testing.assert_allclose(small(images), back(images), atol=1e-4)  # probabilities of large logits, which round differently
    names = [layer.name for layer in back.layers]
    assert [name for name in names if name in {layer.name for layer in net().layers}] == [layer.name for layer in net().layers]
    assert np.mean(back.get_layer("logits").get_weights()[0] == 0) == pytest.approx(0.5, abs=0.01)


def test_what_was_carried_comes_out_as_it_went_in(images):
    model = net(own=True)
    bridged = bridge.to_keras2(model)
    bridged.get_layer("own").set_weights([np.full(8, 0.7, np.float32)])  # as training would
    back = bridge.to_keras3(bridged)
    assert type(back.get_layer("own")) is Scaled
    assert np.allclose(back.get_layer("own").get_weights()[0], 0.7)
    assert same(bridged(images), back(images))


def test_a_copy_of_a_bridged_model_holds_what_was_carried(images):
    bridged = bridge.to_keras2(net(own=True))
    with keras2.saving.custom_object_scope(bridge.custom_objects()):
        copy = keras2.models.clone_model(bridged)
    copy.set_weights(bridged.get_weights())
    assert same(bridged(images), copy(images))


# Frozen, compiled


def test_frozen_layers_stay_frozen_both_ways():
    model = net()
    model.get_layer("conv").trainable = False
    model.get_layer("inner").trainable = False
    bridged = bridge.to_keras2(model)
    assert not bridged.get_layer("conv").trainable and bridged.get_layer("bn").trainable
    assert len(bridged.trainable_weights) == len(model.trainable_weights)
    assert len(bridge.to_keras3(bridged).trainable_weights) == len(model.trainable_weights)


def test_compile_state_comes_over_both_ways():
    model = net()
    rate = keras3.optimizers.schedules.CosineDecay(3e-3, 100)
    model.compile(keras3.optimizers.AdamW(rate, weight_decay=0.01, clipnorm=1.0), "sparse_categorical_crossentropy", metrics=["accuracy"])
    bridged = bridge.to_keras2(model)
    assert type(bridged.optimizer) is keras2.optimizers.AdamW
    assert bridged.optimizer.weight_decay == 0.01 and bridged.optimizer.clipnorm == 1.0
    assert bridged.optimizer.get_config()["learning_rate"]["config"]["decay_steps"] == 100
    assert bridged.loss == "sparse_categorical_crossentropy"
    x, y = np.random.default_rng(0).random((16, 8, 8, 1), np.float32), np.arange(16) % 10
    assert set(bridged.fit(x, y, verbose=0).history) == {"loss", "accuracy"}
    back = bridge.to_keras3(bridged)
    assert type(back.optimizer) is keras3.optimizers.AdamW and back.optimizer.weight_decay == 0.01
    assert set(back.fit(x, y, verbose=0).history) == {"loss", "accuracy"}


def test_compile_state_that_does_not_map_is_said(caplog):
    model = net()
    model.compile("muon", "mse")  # Keras 2 has no Muon
    assert bridge.to_keras2(model).optimizer is None
    assert "no Muon; compile it anew" in caplog.text


# It refuses with a reason


class Subclassed(keras3.Model):
    def __init__(self):
        super().__init__()
        self.dense = keras3.layers.Dense(2)

    def call(self, inputs):
        return self.dense(inputs)


def subclassed():
    model = Subclassed()
    model(np.zeros((1, 3)))
    return model


def around_a_subclassed():
    inputs = keras3.Input((3,))
    return keras3.Model(inputs, Subclassed()(inputs))


def quantized_by_keras():
    inputs = keras3.Input((4,))
    layer = keras3.layers.Dense(2)
    model = keras3.Model(inputs, layer(inputs))
    layer.quantize("int8")
    return model


def mapping():
    inputs = keras3.Input((4,))
    return keras3.Model(inputs, keras3.ops.vectorized_map(lambda row: row * 2, inputs))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (subclassed, r"subclassed model \(Subclassed\).*functional API"),
        (around_a_subclassed, r"subclassed model \(Subclassed\).*functional API"),
        (lambda: keras3.Sequential([keras3.layers.Dense(2)]), "not built yet.*keras.Input"),
        (quantized_by_keras, "was quantized by Keras.*before `quantize`"),
        (lambda: keras3.Sequential([keras3.Input((2,)), keras3.layers.Dense(2, lambda x: x * 2)]), "activation is a lambda.*with def"),
        (mapping, "VectorizedMap.*can't be written down.*put it into a layer"),
    ],
)
def test_what_can_not_cross_is_refused_with_the_reason(make, words):
    with pytest.raises(UnsupportedModel, match=words):
        bridge.to_keras2(make())


def test_what_can_not_go_back_is_refused_with_the_reason(digits):
    plain = bridge.to_keras2(net())
    with pytest.raises(UnsupportedModel, match=r"quantization-aware.*\.h5"):
        bridge.to_keras3(tfopt.quantize_aware(plain, digits))
    wrapped = backend.tfmot().sparsity.keras.prune_low_magnitude(keras2.Sequential([keras2.Input((3,)), keras2.layers.Dense(2)]))
    with pytest.raises(UnsupportedModel, match="strip it first"):
        bridge.to_keras3(wrapped)
    locally = keras2.Sequential([keras2.Input((8, 3)), keras2.layers.LocallyConnected1D(2, 3)])
    with pytest.raises(UnsupportedModel, match="Keras 3 has no LocallyConnected1D"):
        bridge.to_keras3(locally)


@pytest.mark.parametrize("thing", ["model.keras", None, 3])
def test_what_is_no_model_is_refused(thing):
    with pytest.raises(UnsupportedModel, match="expected a Keras 3 model"):
        bridge.to_keras2(thing)
    with pytest.raises(UnsupportedModel, match="expected a tf_keras model"):
        bridge.to_keras3(thing)
