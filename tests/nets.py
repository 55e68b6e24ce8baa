"""Small nets for tests, with weights *and BatchNorm statistics* randomized: on a freshly built net almost any mistake goes unseen."""

from __future__ import annotations

import numpy as np

from tfopt import backend


def randomized(model, seed=0):
    """Gives every weight a random value; variances stay positive."""
    generator = np.random.default_rng(seed)
    for weight in model.weights:
        if not weight.dtype.is_floating:
            continue
        shape = tuple(weight.shape)
        name = weight.name.split("/")[-1]
        if "variance" in name:
            value = generator.uniform(0.5, 2.0, shape)
        elif "gamma" in name:
            value = generator.uniform(0.5, 1.5, shape)
        else:
            value = generator.normal(0, 0.3, shape)
        weight.assign(value.astype(weight.dtype.as_numpy_dtype))
    return model


def branching():
    """Convolutions, BatchNorm, depthwise, residual Add, Concatenate, dropout, a nested model called twice: (8, 8, 1) -> 10."""
    keras = backend.keras()
    layers = keras.layers
    inputs = keras.Input((8, 8, 1), name="image")
    x = layers.Conv2D(8, 3, padding="same", name="conv")(inputs)
    x = layers.BatchNormalization(name="bn")(x)
    x = layers.ReLU(name="relu")(x)
    y = layers.DepthwiseConv2D(3, padding="same", name="depthwise")(x)
    y = layers.ReLU(6.0, name="relu6")(y)
    x = layers.Add(name="add")([x, y])
    inner = keras.Sequential(
        [layers.Conv2D(8, 1, name="point", input_shape=(8, 8, 8)), layers.Activation("relu", name="inner_relu")], name="inner"
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


def odd():
    """A net with layers that no technique treats: a Lambda, an operator on tensors, a Conv1D, and a Rescaling in front."""
    keras = backend.keras()
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


def sequential():
    """A Sequential model that ends in logits."""
    layers = backend.keras().layers
    return backend.keras().Sequential(
        [
            layers.Conv2D(8, 3, input_shape=(8, 8, 1), name="conv"),
            layers.ReLU(name="relu"),
            layers.Flatten(name="flatten"),
            layers.Dense(10, name="logits"),
        ],
        name="sequential",
    )


def logits(model, x):
    """The values before the last softmax, or the output where there is none."""
    keras = backend.keras()
    if type(model.layers[-1]).__name__ == "Softmax":
        model = keras.Model(model.inputs, model.layers[-1].input)
    return model(x, training=False).numpy()
