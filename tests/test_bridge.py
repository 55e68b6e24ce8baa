"""The bridge between Keras 3 and Keras 2: a part of the matrix of cases, all of it under `slow`, and what else a model brings along."""

from __future__ import annotations

import inspect
import re
import time

import bridge_cases
import bridge_graphs
import bridge_measures
import numpy as np
import pytest
from bridge_layers import L, keras

import tfopt
from tfopt import backend, bridge
from tfopt.errors import BridgeError, UnsupportedModel

CASES = bridge_cases.CASES
# One for each mechanism of the bridge.
FAST = [
    "sequential", "sequential: softmax in the last layer", "functional: residual", "nested: twice", "nested: shared, called twice",
    "nested: several inputs and outputs", "nested: the same layer names again", "transfer: frozen backbone", "shared layer",
    "several inputs and outputs", "inputs in another order", "dict inputs and outputs", "nested structures",
    "an input is an output, and one twice", "a part of a model", "unusual names", "inverted residual with operators",
    "vision transformer", "custom layers", "custom activation", "mixed_float16", "mixed_bfloat16", "float64",
    "Lambda: keras.ops", "Conv2DTranspose: output_padding", "AdaptiveAveragePooling2D: uneven", "BatchNormalization: renorm",
    "GroupNormalization: groups=-1", "RMSNormalization", "SpectralNormalization: Conv2D", "Normalization: adapted", "LSTM: stateful",
    "LSTM: initial_state", "GRU: go_backwards, hard_sigmoid", "Bidirectional: own backward layer", "RNN: StackedRNNCells",
    "MultiHeadAttention: self", "Embedding: mask_zero, Concatenate, LSTM", "Masking: before LSTM", "Activation: hard_sigmoid",
    "Activation: sparsemax", "Dense: activation a layer", "Softmax: mask given", "RandomFlip", "Discretization: adapted", "StringLookup",
    "x + constant", "x[:, 2:7:2]", "ops.split", "ops.where", "ops.argmax", "ops.mean", "ops.image.resize",
]  # fmt: skip
CONVERTED = ["functional: residual", "dict inputs and outputs", "LSTM", "inverted residual with operators", "ops.argmax"]
# What the bridge refuses, and why.
REFUSED = {
    "quantized to int8 by Keras 3": "was quantized by Keras",
    "RandomShear": "can't be rebuilt from its own config",  # Keras 3.15 refuses the factors that it wrote itself
}


def measured(name, **options):
    row = bridge_measures.measure(CASES[name], **options)
    assert promised(name) <= set(row.layers)
    return row


def promised(name):
    """The names of the layer classes that a case's name speaks of; GroupQueryAttention's own is GroupedQueryAttention."""
    return {kind.__name__ for word, kind in layer_classes().items() if word in re.findall(r"\w+", name)}


def layer_classes():
    """Name in keras.layers -> class, for every layer; some have two names there."""
    return {name: thing for name, thing in vars(keras.layers).items() if inspect.isclass(thing) and issubclass(thing, keras.Layer)}


# The matrix


def test_every_layer_class_has_a_case_or_a_reason():
    tried = {kind for name in CASES for kind in promised(name)}
    missing = {kind.__name__ for kind in layer_classes().values()} - tried
    assert missing == set(bridge_cases.EXCEPTIONS)


def test_every_activation_has_a_case():
    functions = {name for name, thing in vars(keras.activations).items() if inspect.isfunction(thing)} - {"get", "serialize", "deserialize"}
    tried = {name.removeprefix("Activation: ") for name in CASES}
    assert functions - tried == {"threshold"}  # it can't be named without its arguments; ops.threshold is tried


@pytest.mark.parametrize("name", FAST)
def test_models_come_through_the_bridge_and_back(name):
    row = measured(name, tflite=False)
    assert row.good, row


@pytest.mark.parametrize("name", CONVERTED)
def test_bridged_models_convert(name):
    row = measured(name)
    assert row.good and row.converted, row


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Layer 'flatten.*passed an input with a mask")  # Keras 3's, of a case that loses its mask on purpose
@pytest.mark.filterwarnings("ignore:The structure of `inputs` doesn't match")  # Keras 2 makes no difference between x and [x]
@pytest.mark.parametrize("name", [name for name in CASES if name not in REFUSED])
def test_every_case_comes_through_the_bridge_and_back(name):
    row = measured(name, tflite=False)
    assert row.good, row


@pytest.mark.filterwarnings("ignore:Layer InputLayer does not have a `quantize` method")
@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_come_through_is_refused(name):
    row = measured(name, tflite=False)
    assert row.bridged is None and REFUSED[name] in row.reasons["bridged"]


@pytest.mark.parametrize("file", ["image_classification/pretrainedResnet.h5", "keyword_spotting/kws_ref_model"])
def test_published_models_go_to_keras_3_and_come_back(file, models_folder):
    row = bridge_measures.measure_keras2(tfopt.load(models_folder(f"mlperf_tiny/{file}")))
    assert row.good and row.converted, row


# What would be noticed


def deep():
    x = keras.Input((8, 8, 3))
    y = L.BatchNormalization(name="norm")(L.Conv2D(4, 3)(x))
    return randomized(keras.Model(x, L.Dense(5, activation="softmax")(L.Flatten()(y))))


def randomized(model):
    bridge_measures.randomize(model, np.random.default_rng(0))
    return model


def outputs(model, x):
    return bridge_measures.outputs(model, bridge_measures.tf.constant(x))


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(1).normal(size=(4, 8, 8, 3)).astype("float32")


def test_the_harness_notices_swapped_weights(images):
    """Gamma and variance are both ones in a new layer, where nothing would be seen."""
    model = deep()
    plain = bridge.to_keras2(model)
    norm = plain.get_layer("norm")
    expected = outputs(model, images)
    assert bridge_measures.error(expected, outputs(plain, images)) < 1e-6
    norm.gamma.assign(model.get_layer("norm").moving_variance.numpy())
    assert bridge_measures.error(expected, outputs(plain, images)) > 0.01


def test_the_first_layer_that_differs_is_named():
    class Half(backend.keras().layers.Layer):
        def call(self, x):
            return x * 0.25

    x = keras.Input((6,))
    model = keras.Model(x, L.Dense(3, name="last")(bridge_graphs.Half(name="culprit")(L.Dense(5, name="first")(x))))
    with pytest.raises(BridgeError, match=r"first layer that differs is 'culprit' \(Half\)"):
        bridge.to_keras2(model, {"Half": Half})


# What else a model brings along


def test_a_custom_class_of_keras_2_takes_the_place_of_keras_3s():
    class Half(backend.keras().layers.Layer):
        def call(self, x):
            return x * 0.5

    x = keras.Input((6,))
    plain = bridge.to_keras2(keras.Model(x, bridge_graphs.Half(name="half")(L.Dense(5)(x))), {"Half": Half})
    assert type(plain.get_layer("half")) is Half


def test_layers_stay_frozen_one_by_one():
    model = bridge_graphs.functional_in_functional()
    model.get_layer("block").get_layer("bn").trainable = False
    model.layers[-1].trainable = False
    plain = bridge.to_keras2(model)
    flags = {layer.name: layer.trainable for layer in bridge_measures.flattened(model)}
    assert {layer.name: layer.trainable for layer in bridge_measures.flattened(plain)} == flags
    assert len(plain.trainable_weights) == len(model.trainable_weights)
    again = bridge.to_keras3(plain)
    assert {layer.name: layer.trainable for layer in bridge_measures.flattened(again)} == flags


def test_compile_state_comes_along():
    model = bridge_graphs.compiled()
    plain = bridge.to_keras2(model)
    assert type(plain.optimizer).__name__ == "AdamW"
    schedule = plain.optimizer._learning_rate
    assert (type(schedule).__name__, schedule.initial_learning_rate, schedule.decay_steps) == ("CosineDecay", 1e-3, 100)
    x, y = np.zeros((4, 8, 8, 3), "float32"), np.zeros(4, "int32")
    assert set(plain.evaluate(x, y, verbose=0, return_dict=True)) == {"loss", "accuracy"}
    assert plain.evaluate(x, y, verbose=0) == pytest.approx(model.evaluate(x, y, verbose=0), rel=1e-5)


def test_what_does_not_map_leaves_the_model_uncompiled(caplog):
    model = bridge_graphs.softmax_inline()
    model.compile(optimizer=keras.optimizers.Lamb(), loss="mse")
    plain = bridge.to_keras2(model)
    assert not plain._is_compiled and "Lamb" in caplog.text


def test_names_of_layers_stay_and_weights_are_found_by_them():
    model = bridge_graphs.residual()
    plain = bridge.to_keras2(model)
    assert [layer.name for layer in plain.layers] == [layer.name for layer in model.layers]
    assert len({weight.name for weight in plain.weights}) == len(plain.weights)


def test_precision_stays_layer_by_layer():
    with_policy = bridge_graphs.under("mixed_bfloat16", bridge_graphs.residual)()
    plain = bridge.to_keras2(with_policy)
    assert {layer.dtype_policy.name for layer in plain.layers if layer.weights} == {"mixed_bfloat16"}
    assert {weight.dtype.name for weight in plain.weights} == {"float32"}


def test_the_model_and_the_random_state_are_left_alone(images):
    model = deep()
    model.compile(optimizer="sgd", loss="sparse_categorical_crossentropy")
    before, state = [weight.numpy() for weight in model.weights], np.random.get_state()[1].copy()
    optimizer = model.optimizer
    bridge.to_keras2(model)
    assert all(map(np.array_equal, before, [weight.numpy() for weight in model.weights]))
    assert model.optimizer is optimizer and np.array_equal(state, np.random.get_state()[1])


def test_bridged_models_learn(images):
    """With a carried layer (RMSNormalization) between others, whose weights must get their gradients."""
    x = keras.Input((8, 8, 3))
    y = L.RMSNormalization(name="rms")(L.Conv2D(4, 3, activation="hard_silu")(x))
    plain = bridge.to_keras2(randomized(keras.Model(x, L.Dense(5)(L.Flatten()(y)))))
    plain.compile(optimizer=backend.keras().optimizers.Adam(0.01), loss="mse")
    before = [weight.numpy() for weight in plain.weights]
    losses = plain.fit(images, np.ones((4, 5)), epochs=5, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    assert not any(np.array_equal(old, new.numpy()) for old, new in zip(before, plain.weights, strict=True))
    assert bridge_measures.error(outputs(plain, images), outputs(bridge.to_keras3(plain), images)) < 1e-5


def test_a_recurrent_layer_with_dropout_converts_and_goes_back_after_a_fit():
    """TensorFlow can't list the submodules of one that has run."""
    layers = backend.keras().layers
    model = backend.keras().Sequential([layers.LSTM(3, dropout=0.3, recurrent_dropout=0.2, input_shape=(7, 4)), layers.Dense(2)])
    model.compile("sgd", "mse")
    x = np.random.default_rng(0).normal(size=(8, 7, 4)).astype("float32")
    model.fit(x, np.zeros((8, 2)), verbose=0)
    file = bridge_measures.run(tfopt.convert(model).content, model, [x])
    assert bridge_measures.error(outputs(model, x), [file]) < 1e-4
    assert bridge_measures.error(outputs(model, x), outputs(bridge.to_keras3(model), x)) < 1e-5


def test_what_is_carried_can_be_saved_and_read_again(tmp_path, images):
    x = keras.Input((8, 8, 3))
    y = keras.ops.roll(L.GroupNormalization(2)(L.Conv2D(4, 3, activation="hard_sigmoid")(x)), 1, axis=1)
    plain = bridge.to_keras2(randomized(keras.Model(x, L.Flatten()(y))))
    again = tfopt.load(tfopt.save(plain, tmp_path / "carried.h5"))
    assert bridge_measures.error(outputs(plain, images), outputs(again, images)) == 0


def test_subclassed_and_unbuilt_models_are_refused_with_what_to_do():
    class Own(keras.Model):
        def call(self, x):
            return x

    with pytest.raises(UnsupportedModel, match="functional API"):
        bridge.to_keras2(Own())
    with pytest.raises(UnsupportedModel, match=r"keras\.Input"):
        bridge.to_keras2(keras.Sequential([L.Dense(3)]))
    with pytest.raises(UnsupportedModel, match="expected a Keras 3 model"):
        bridge.to_keras2("model")
    with pytest.raises(UnsupportedModel, match="expected a tf_keras model"):
        bridge.to_keras3(Own())


def test_only_keras_3_models_are_taken_for_such():
    plain = backend.keras().Sequential([backend.keras().layers.Dense(3, input_shape=(2,))])
    assert bridge.is_keras3(keras.Sequential()) and not bridge.is_keras3(plain) and not bridge.is_keras3(None)
    assert bridge.plain(plain) is plain


@pytest.mark.slow
def test_mobilenet_v2_at_full_size_takes_less_than_10_seconds():
    model = keras.applications.MobileNetV2(weights=None)
    start = time.perf_counter()
    bridge.to_keras2(model)
    assert time.perf_counter() - start < 10
