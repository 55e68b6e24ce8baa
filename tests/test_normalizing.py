"""Operations as layers, bounded activations, and all passes together."""

from __future__ import annotations

import nets
import numpy as np
import pytest
from nets import chain, examples, kinds, layers, same

from tfopt import backend, surgery
from tfopt.surgery import activations, copying, operators, rewriting

# What an operation on tensors a and b of shape (6, 8, 4) should become ("" for one that stays), and the operation.
OPERATIONS = [
    ("Add", lambda tf, a, b: a + b),
    ("Add", lambda tf, a, b: tf.math.add(a, y=b)),
    ("Add", lambda tf, a, b: tf.add_n([a, b, a])),
    ("Multiply", lambda tf, a, b: a * b),
    ("Multiply", lambda tf, a, b: tf.multiply(a, tf.reduce_mean(b, [1, 2], keepdims=True))),
    ("Subtract", lambda tf, a, b: a - b),
    ("Maximum", lambda tf, a, b: tf.maximum(a, b)),
    ("Minimum", lambda tf, a, b: tf.minimum(a, b)),
    ("Rescaling", lambda tf, a, b: a + 3.0),
    ("Rescaling", lambda tf, a, b: 3.0 - a),
    ("Rescaling", lambda tf, a, b: a - 3.0),
    ("Rescaling", lambda tf, a, b: a * 0.3),
    ("Rescaling", lambda tf, a, b: a / 3.0),
    ("Rescaling", lambda tf, a, b: -a),
    ("Rescaling", lambda tf, a, b: a + tf.constant([1.0, 2.0, -3.0, 0.5])),
    ("Rescaling", lambda tf, a, b: tf.constant([[1.0, 2.0, -3.0, 0.5]]) * a),
    ("", lambda tf, a, b: 3.0 / (a * a + 1.0)),
    ("", lambda tf, a, b: a + np.arange(8, dtype="float32")[:, None]),
    ("", lambda tf, a, b: a + b[:1, 0]),
    ("ReLU", lambda tf, a, b: tf.nn.relu(a)),
    ("ReLU", lambda tf, a, b: tf.nn.relu6(features=a)),
    ("ReLU", lambda tf, a, b: tf.clip_by_value(a, 0, 2)),
    ("ReLU", lambda tf, a, b: tf.maximum(a, 0.0)),
    ("", lambda tf, a, b: tf.maximum(a, 0.5)),
    ("", lambda tf, a, b: tf.clip_by_value(a, -1, 1)),
    ("LeakyReLU", lambda tf, a, b: tf.nn.leaky_relu(a, 0.3)),
    ("ELU", lambda tf, a, b: tf.nn.elu(a)),
    ("Activation", lambda tf, a, b: tf.nn.selu(a)),
    ("Activation", lambda tf, a, b: tf.nn.swish(a)),
    ("", lambda tf, a, b: tf.nn.silu(a, 2.0)),
    ("Activation", lambda tf, a, b: tf.nn.gelu(a)),
    ("", lambda tf, a, b: tf.nn.gelu(a, approximate=True)),
    ("Activation", lambda tf, a, b: tf.sigmoid(a)),
    ("Activation", lambda tf, a, b: backend.keras().activations.tanh(a)),
    ("Activation", lambda tf, a, b: tf.math.softplus(a)),
    ("Softmax", lambda tf, a, b: tf.nn.softmax(a)),
    ("Softmax", lambda tf, a, b: tf.nn.softmax(a, axis=2)),
    ("Reshape", lambda tf, a, b: tf.reshape(a, (-1, 48, 4))),
    ("Reshape", lambda tf, a, b: tf.reshape(a, (tf.shape(a)[0], 192))),
    ("", lambda tf, a, b: tf.reshape(a, (-1, 4))),
    ("Reshape", lambda tf, a, b: tf.expand_dims(a, -1)),
    ("Reshape", lambda tf, a, b: tf.squeeze(tf.expand_dims(a, 1), 1)),
    ("Permute", lambda tf, a, b: tf.transpose(a, [0, 2, 1, 3])),
    ("", lambda tf, a, b: tf.transpose(a, [1, 0, 2, 3])),
    ("Concatenate", lambda tf, a, b: tf.concat([a, b], -1)),
    ("Concatenate", lambda tf, a, b: tf.concat([a, b], axis=1)),
    ("", lambda tf, a, b: tf.concat([a, b], 0)),
    ("", lambda tf, a, b: tf.stack([a, b], 1)),
    ("ZeroPadding2D", lambda tf, a, b: tf.pad(a, [[0, 0], [1, 2], [0, 1], [0, 0]])),
    ("", lambda tf, a, b: tf.pad(a, [[0, 0], [1, 1], [1, 1], [0, 0]], "REFLECT")),
    ("GlobalAveragePooling2D", lambda tf, a, b: tf.reduce_mean(a, [1, 2])),
    ("GlobalAveragePooling2D", lambda tf, a, b: tf.reduce_mean(a, (2, -3), True)),
    ("", lambda tf, a, b: tf.reduce_mean(a, -1)),
    ("GlobalMaxPooling2D", lambda tf, a, b: tf.reduce_max(a, [1, 2])),
    ("Cropping2D", lambda tf, a, b: a[:, 1:5]),
    ("Cropping2D", lambda tf, a, b: a[:, -3:, 2:4]),
    ("Cropping2D Reshape", lambda tf, a, b: a[:, 2]),
    ("Cropping2D Reshape", lambda tf, a, b: a[:, :, -1]),
    ("", lambda tf, a, b: a[:, ::2]),
    ("", lambda tf, a, b: a[..., 1:]),
    ("", lambda tf, a, b: a[1:]),
]


@pytest.mark.parametrize("rebuilt", [False, True])
def test_operations_become_layers(rebuilt):
    keras, tf = backend.keras(), backend.tensorflow()
    a, b = keras.Input((6, 8, 4), name="a"), keras.Input((6, 8, 4), name="b")
    for number, (expected, operation) in enumerate(OPERATIONS):
        model = keras.Model([a, b], [operation(tf, a, b), b])
        model = rewriting.flattened(model)[0] if rebuilt else model
        new, changes = operators.as_layers(model)
        made = [kind for kind in kinds(new) if "Lambda" not in kind]
        assert made[-len(expected.split()) :] == expected.split() if expected else model.layers[-1].name not in changes, (
            number,
            kinds(new),
        )
        assert same(model, new, [examples(6, 8, 4), examples(6, 8, 4)[::-1] * 2 - 1]), number


def test_operations_on_integers_stay():
    keras = backend.keras()
    ids = keras.Input((6,), dtype="int32")
    rows = keras.layers.Embedding(9, 4)(ids * 2 + 1)
    model = nets.randomized(keras.Model(ids, keras.layers.Dense(3)(rows[:, 3] * 2.0)))
    new, changes = operators.as_layers(model)
    assert [type(new.get_layer(name)).__name__ for name in changes] == ["Reshape", "Rescaling"]
    feed = np.random.default_rng(0).integers(0, 4, (8, 6)).astype("int32")
    assert same(model, new, feed)


def hard_silu(x):
    return x * backend.tensorflow().nn.relu6(x + 3.0) / 6.0


def hard_sigmoid_of_keras_3(x):
    return backend.tensorflow().nn.relu6(x + 3.0) / 6.0


@pytest.mark.parametrize("bounded", ["ReLU", "hard_sigmoid", "Keras 3"])
def test_a_relu_that_ends_elsewhere_becomes_one_that_ends_at_six(bounded):
    layer = {
        "ReLU": lambda: layers().ReLU(0.5, name="bounded"),
        "hard_sigmoid": lambda: layers().Activation("hard_sigmoid", name="bounded"),
        "Keras 3": lambda: layers().Activation(hard_sigmoid_of_keras_3, name="bounded"),
    }[bounded]()
    model = chain(layers().Conv2D(3, 3), layer, layers().Flatten(), shape=(8, 8, 1))
    new, changes = activations.bounded_as_relu6(model)
    assert changes["bounded"].into[0] == "bounded" and set(kinds(new)) == {"Conv2D", "Rescaling", "ReLU", "Flatten"}
    assert new.get_layer("bounded").max_value == 6 and same(model, new, examples(8, 8, 1) * 3)


def test_other_functions_with_bounds_stay():
    model = chain(layers().Activation(hard_silu), layers().ReLU(6.0), layers().ReLU(4.0, negative_slope=0.1), shape=(8, 8, 1))
    assert activations.bounded_as_relu6(model)[1] == {}
    assert activations.computes(model.layers[1], activations.hard_swish)


@pytest.mark.parametrize("deploy", [True, False])
def test_normalized_says_what_became_of_each_layer(deploy):
    model = nets.randomized(nets.everything())
    weights = model.get_weights()
    new, fates = surgery.normalized(model, deploy=deploy)
    assert all(np.array_equal(a, b) for a, b in zip(weights, model.get_weights(), strict=True))
    assert same(model, new, examples(12, 12, 3))
    assert set(fates) == {path for path, _ in copying.all_layers(model)}
    there = {layer.name: layer for layer in new.layers}
    assert all(set(fate.layers) <= there.keys() for fate in fates.values())
    standing = [name for fate in fates.values() if not fate.merged for name in fate.layers]
    assert sorted(standing) == sorted(name for name in there if name != "image")  # each new layer stands for one old one
    reasons = {path: "; ".join(fate.reasons) for path, fate in fates.items()}
    assert reasons["bn"] == "folded into conv" and reasons["relu"] == "fused into conv"
    assert reasons["inner/elu_conv"] == "laid open; its elu as a layer"
    assert reasons["late_bn"] == "becomes a 1x1 DepthwiseConv2D"
    assert reasons["dense_bn"] == "folded into logits" and reasons["up_bn"] == "folded into up"
    assert reasons["conv1d"] == "becomes a Conv2D" and reasons["row_relu"].endswith("fused into conv1d")
    assert fates["pre_relu"].layers == ("pre_bn",) and fates["pre_bn"].reasons == ("becomes a 1x1 DepthwiseConv2D",)
    assert (fates["flip"].layers == (), fates["drop"].layers == ()) == (deploy, deploy)
    assert fates["rescaling"].merged == deploy
    assert not {"BatchNormalization", "Conv1D", "TFOpLambda"} & set(kinds(new))


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["MobileNetV3Small", "EfficientNetB0", "ResNet50V2", "RegNetX002", "ConvNeXtTiny", "DenseNet121", "Xception"]
)
def test_networks_that_others_wrote_say_the_same(name):
    size = 71 if name == "Xception" else 64
    build = getattr(backend.keras().applications, name)
    images = examples(size, size, 3, count=32) * 100
    model = nets.scaled(build(input_shape=(size, size, 3), weights=None, classes=10, classifier_activation=None), images)
    new, fates = surgery.normalized(model, deploy=True)
    assert not {"BatchNormalization", "TFOpLambda", "LayerScale"} & set(kinds(new))
    assert set(fates) == {path for path, _ in copying.all_layers(model)}
    before, shaken, after = (each.numpy() for each in (model(images), model(images * (1 + 1e-6)), new(images)))
    amplified = np.abs(shaken - before).max()  # what a network this deep makes of a rounding in its input
    assert np.abs(after - before).max() <= 1e-5 * np.abs(before).max() + amplified and amplified < 1e-4 * np.abs(before).max()
