"""Small nets for tests, with weights *and BatchNorm statistics* randomized: on a freshly built net almost any mistake goes unseen."""

from __future__ import annotations

import numpy as np

from tfopt import backend, bridge


def randomized(model, seed=0):
    """Gives every weight a random value; variances stay positive. The model may be one of Keras 3."""
    generator = np.random.default_rng(seed)
    for weight in model.weights:
        dtype = np.dtype(getattr(weight.dtype, "name", weight.dtype))
        if dtype.kind != "f":
            continue
        shape = tuple(weight.shape)
        name = weight.name.split("/")[-1]
        if "variance" in name:
            value = generator.uniform(0.5, 2.0, shape)
        elif "gamma" in name:
            value = generator.uniform(0.5, 1.5, shape)
        else:
            value = generator.normal(0, 0.3, shape)
        weight.assign(value.astype(dtype))
    return model


def scaled(model, inputs, seed=0):
    """Random weights for deep models: kernels and BatchNorm statistics such that values keep their scale from layer to layer.

    Otherwise rounding is amplified from layer to layer, and two right models differ.
    """
    generator = np.random.default_rng(seed)
    for weight in model.weights:
        part, shape = weight.name.split("/")[-1], tuple(weight.shape)
        if "gamma" in part:
            weight.assign(generator.uniform(0.5, 1.5, shape))
        elif "kernel" in part:
            weight.assign(generator.normal(0, np.sqrt(2 / np.prod(shape[:2] if "depthwise" in part else shape[:-1])), shape))
        elif "beta" in part or "bias" in part:
            weight.assign(generator.normal(0, 0.1, shape))
    norms = [layer for layer in model._flatten_layers() if type(layer).__name__ == "BatchNormalization"]
    for layer in norms:
        layer.momentum = 0.0
    model(inputs, training=True)
    for layer in norms:
        layer.moving_variance.assign(layer.moving_variance * generator.uniform(0.7, 1.4, layer.moving_variance.shape) + 1e-3)
    return model


# ---- the nets of the laws, each a function of Keras 2 or 3; they take the scanned digits, `two_inputs` a row of a table with them


def branching(keras=None):
    """Convolutions, BatchNorm, depthwise, residual Add, Concatenate, dropout, a nested model called twice: (8, 8, 1) -> 10."""
    keras = keras or backend.keras()
    layers = keras.layers
    inputs = keras.Input((8, 8, 1), name="image")
    x = layers.Conv2D(8, 3, padding="same", name="conv")(inputs)
    x = layers.BatchNormalization(name="bn")(x)
    x = layers.ReLU(name="relu")(x)
    y = layers.DepthwiseConv2D(3, padding="same", name="depthwise")(x)
    y = layers.ReLU(6.0, name="relu6")(y)
    x = layers.Add(name="add")([x, y])
    inner = keras.Sequential(
        [keras.Input((8, 8, 8), name="point_input"), layers.Conv2D(8, 1, name="point"), layers.Activation("relu", name="inner_relu")],
        name="inner",
    )
    x = layers.Concatenate(name="both")([inner(x), inner(y)])
    x = layers.BatchNormalization(name="lone_bn")(x)
    x = layers.MaxPooling2D(name="pool")(x)
    x = layers.Dropout(0.3, name="drop")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(16, name="dense")(x)
    x = layers.Activation("relu", name="dense_relu")(x)
    x = layers.Dense(10, name="logits")(x)
    return keras.Model(inputs, layers.Softmax(name="probabilities")(x), name="branching")


def odd(keras=None):
    """A net with layers that no technique treats: a Lambda, an operator on tensors, a Conv1D, and a Rescaling in front."""
    keras = keras or backend.keras()
    layers = keras.layers
    inputs = keras.Input((8, 8, 1), name="image")
    x = layers.Rescaling(2.0, name="rescaling")(inputs)
    x = layers.Conv2D(8, 3, name="conv")(x) * 2.0
    x = layers.Lambda(lambda t: t + 1.0, name="lambda")(x)
    x = layers.Reshape((36, 8), name="rows")(x)
    x = layers.Conv1D(8, 3, name="conv1d")(x)
    x = layers.GlobalAveragePooling1D(name="average")(x)
    x = layers.Dense(10, name="logits")(x)
    return keras.Model(inputs, layers.Softmax(name="probabilities")(x), name="odd")


def sequential(keras=None):
    """A Sequential model that ends in logits."""
    keras = keras or backend.keras()
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((8, 8, 1), name="conv_input"),
            layers.Conv2D(8, 3, name="conv"),
            layers.ReLU(name="relu"),
            layers.Flatten(name="flatten"),
            layers.Dense(10, name="logits"),
        ],
        name="sequential",
    )


def recurrent(keras=None):
    """An image's rows one after the other through an LSTM."""
    keras = keras or backend.keras()
    layers = keras.layers
    inputs = keras.Input((8, 8, 1), name="image")
    x = layers.LSTM(12, name="lstm")(layers.Reshape((8, 8), name="rows")(inputs))
    x = layers.Dense(10, name="logits")(x)
    return keras.Model(inputs, layers.Softmax(name="probabilities")(x), name="recurrent")


def both_ways(keras=None):
    """The same through two LSTMs, one of them in both directions."""
    keras = keras or backend.keras()
    layers = keras.layers
    inputs = keras.Input((8, 8, 1), name="image")
    x = layers.Reshape((8, 8), name="rows")(inputs)
    x = layers.LSTM(12, return_sequences=True, name="lstm")(x)
    x = layers.Bidirectional(layers.LSTM(6, name="inner_lstm"), name="both")(x)
    x = layers.Dense(10, name="logits")(x)
    return keras.Model(inputs, layers.Softmax(name="probabilities")(x), name="both_ways")


def gated(keras=None):
    """The same through a GRU, whose int8 conversion crashes the converter."""
    keras = keras or backend.keras()
    layers = keras.layers
    inputs = keras.Input((8, 8, 1), name="image")
    x = layers.GRU(12, name="gru")(layers.Reshape((8, 8), name="rows")(inputs))
    x = layers.Dense(10, name="logits")(x)
    return keras.Model(inputs, layers.Softmax(name="probabilities")(x), name="gated")


def attention(keras=None):
    """An image's rows as a sequence through a transformer's block."""
    keras = keras or backend.keras()
    layers = keras.layers
    inputs = keras.Input((8, 8, 1), name="image")
    x = layers.Dense(16, name="embed")(layers.Reshape((8, 8), name="rows")(inputs))
    x = layers.Add(name="add")([x, layers.MultiHeadAttention(2, 8, name="attention")(x, x)])
    x = layers.LayerNormalization(name="norm")(x)
    x = layers.Add(name="add_dense")([x, layers.Dense(16, activation="relu", name="dense")(x)])
    x = layers.GlobalAveragePooling1D(name="average")(x)
    x = layers.Dense(10, name="logits")(x)
    return keras.Model(inputs, layers.Softmax(name="probabilities")(x), name="attention")


def two_inputs(keras=None):
    """A row of a table (8,) and an image (8, 8, 1), and a layer that is called on both; in a .tflite they stand the other way round."""
    keras = keras or backend.keras()
    layers = keras.layers
    row, image = keras.Input((8,), name="row"), keras.Input((8, 8, 1), name="image")
    shared = layers.Dense(8, activation="relu", name="shared")
    x = layers.BatchNormalization(momentum=0.9, name="bn")(layers.Conv2D(8, 3, name="conv")(image))
    x = layers.Flatten(name="flatten")(layers.ReLU(name="relu")(x))
    means = layers.GlobalAveragePooling1D(name="means")(layers.Reshape((8, 8), name="rows")(image))
    x = layers.Concatenate(name="all")([x, shared(means), shared(row)])
    x = layers.Dense(10, name="logits")(x)
    return keras.Model([row, image], layers.Softmax(name="probabilities")(x), name="two_inputs")


# ---- others


def in_keras_3():
    """A Keras 3 model with what techniques treat, and an operator on tensors; randomized already: (8, 8, 1) -> 10."""
    keras3 = bridge.keras3()
    layers = keras3.layers
    inputs = keras3.Input((8, 8, 1), name="image")
    x = layers.Conv2D(8, 3, padding="same", name="conv")(inputs)
    x = layers.BatchNormalization(name="bn")(x)
    x = layers.ReLU(name="relu")(x)
    x = x + keras3.ops.silu(layers.DepthwiseConv2D(3, padding="same", name="depthwise")(x))
    x = layers.Flatten(name="flatten")(layers.MaxPooling2D(name="pool")(x))
    x = layers.Dense(10, name="logits")(x)
    model = keras3.Model(inputs, layers.Softmax(name="probabilities")(x), name="in_keras_3")
    generator = np.random.default_rng(0)
    for weight in model.weights:
        low, high = (0.5, 2.0) if "variance" in weight.path else (-0.5, 0.5)
        weight.assign(generator.uniform(low, high, weight.shape))
    return model


def everything():
    """A net in which each pass of `surgery.normalized` finds something to do: (12, 12, 3) -> 4."""
    keras = backend.keras()
    k = keras.layers
    inputs = keras.Input((12, 12, 3), name="image")
    x = k.Rescaling(1 / 2, offset=-0.5, name="rescaling")(k.RandomFlip(name="flip")(inputs))
    x = k.Normalization(mean=[0.4, 0.5, -0.6], variance=[0.1, 0.2, 3.0], name="normalization")(x)
    x = k.ReLU(name="relu")(k.BatchNormalization(name="bn")(k.Conv2D(8, 3, use_bias=False, name="conv")(x)))
    inner = keras.Sequential([k.Conv2D(8, 3, padding="same", activation="elu", name="elu_conv", input_shape=(10, 10, 8))], name="inner")
    y = k.BatchNormalization(name="late_bn")(inner(x))
    x = x + y * 0.5
    x = k.Activation("relu6", name="pre_relu")(k.BatchNormalization(name="pre_bn")(x))
    x = k.Conv2DTranspose(6, 3, strides=2, name="up")(x)
    x = k.Activation("hard_sigmoid", name="hard")(k.BatchNormalization(name="up_bn")(x))
    x = k.MaxPooling2D(3, name="pool")(x)
    x = k.Reshape((49, 6), name="rows")(x)
    x = k.ReLU(name="row_relu")(k.BatchNormalization(name="row_bn")(k.Conv1D(8, 3, padding="causal", name="conv1d")(x)))
    x = k.GlobalAveragePooling1D(name="average")(k.MaxPooling1D(2, name="row_pool")(x))
    x = k.Dropout(0.5, name="drop")(k.Dense(16, activation="relu", name="dense")(x))
    x = k.BatchNormalization(name="dense_bn")(x)
    return keras.Model(inputs, k.Dense(4, name="logits")(x), name="everything")


def logits(model, x):
    """The values before the last softmax, or the output where there is none."""
    keras = backend.keras()
    if type(model.layers[-1]).__name__ == "Softmax":
        model = keras.Model(model.inputs, model.layers[-1].input)
    return model(x, training=False).numpy()


def same(old, new, inputs):
    """Whether two models say the same to 1e-5 of the largest output, which must depend on the input."""
    nest = backend.tensorflow().nest
    before, after = ([np.asarray(each) for each in nest.flatten(model(inputs, training=False))] for model in (old, new))
    assert len(before) == len(after)
    for a, b in zip(before, after, strict=True):
        assert a.shape == b.shape and a.std() > 1e-3
        assert np.abs(a - b).max() <= 1e-5 * np.abs(a).max(), f"{np.abs(a - b).max() / np.abs(a).max():.1e}"
    return True


def chain(*layers, shape=(8, 8, 3), seed=0):
    """A functional model of layers one after another, randomized; what is callable is called."""
    keras = backend.keras()
    x = inputs = keras.Input(shape, name="image")
    for layer in layers:
        x = layer(x)
    return randomized(keras.Model(inputs, x), seed)


def examples(*shape, count=8):
    """Random examples that are neither centered nor positive."""
    return np.random.default_rng(1).normal(0.3, 1.0, (count, *shape)).astype("float32")


def kinds(model):
    """The class names of a model's layers, inputs left out."""
    return [type(layer).__name__ for layer in model.layers if type(layer).__name__ != "InputLayer"]


def layers():
    """The module of Keras 2's layers."""
    return backend.keras().layers
