"""Copies, rewritten graphs and chosen layers."""

from __future__ import annotations

import nets
import numpy as np
import pytest

from tfopt import backend
from tfopt.surgery import copying, rewriting


@pytest.fixture(params=["branching", "odd", "sequential"])
def net(request):
    return nets.randomized(getattr(nets, request.param)())


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).random((16, 8, 8, 1), dtype="float32")


CHANGES = {"copy": copying.copy_of, "flat": rewriting.flattened, "fused": lambda model: rewriting.relu_fused(model)[0]}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_outputs_stay_the_same_and_nothing_is_shared(net, images, change):
    new = change(net)
    before = net(images).numpy()
    assert np.abs(new(images).numpy() - before).max() <= 1e-6 * np.abs(before).max()
    nets.randomized(new, seed=1)
    assert np.array_equal(net(images).numpy(), before)
    assert new.input_names == net.input_names


def test_flattened_has_no_model_inside_and_keeps_names():
    flat = rewriting.flattened(nets.branching())
    assert not any(isinstance(layer, backend.keras().Model) for layer in flat.layers)
    assert {"point", "inner_relu", "conv", "logits"} <= {layer.name for layer in flat.layers}


def test_names_that_clash_are_made_free(images):
    keras = backend.keras()

    def inner(name):
        return keras.Sequential([keras.layers.Conv2D(2, 1, name="conv", input_shape=(8, 8, 1))], name=name)

    inputs = keras.Input((8, 8, 1))
    model = nets.randomized(keras.Model(inputs, keras.layers.Add(name="sum")([inner("a")(inputs), inner("b")(inputs)])))
    flat = rewriting.flattened(model)
    assert len({layer.name for layer in flat.layers}) == len(flat.layers) == 4
    assert np.allclose(flat(images), model(images), atol=1e-6)


def test_shared_layers_stay_shared(images):
    keras = backend.keras()
    left, right = keras.Input((8, 8, 1), name="left"), keras.Input((8, 8, 1), name="right")
    shared = keras.layers.Conv2D(3, 3, name="shared")
    joined = keras.layers.Add()([shared(left), shared(right)])
    model = nets.randomized(keras.Model({"left": left, "right": right}, {"sum": keras.layers.ReLU(name="relu")(joined)}))
    fused, found = rewriting.relu_fused(model)
    assert not found and len(fused.weights) == 2
    feed = {"left": images, "right": images * 2}
    assert np.allclose(fused(feed)["sum"], model(feed)["sum"], atol=1e-5)


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
    assert rewriting.relu_fused(model)[1] == {"plain": "d"}


def test_all_layers_names_nested_ones_by_their_path():
    names = [name for name, _ in copying.all_layers(nets.branching())]
    assert "inner/point" in names and "conv" in names and "image" not in names
