"""quantize_aware: right where TF-MOT alone is silently wrong."""

from __future__ import annotations

import nets
import numpy as np
import pytest
from nets import layers

import tfopt
from tfopt import backend
from tfopt.errors import UnsupportedModel
from tfopt.tracing import Trace
from tfopt.types import Fit

FIT = Fit(epochs=1, batch_size=256, learning_rate=1e-3)
WEIGHT_LAYERS = ("Conv2D", "DepthwiseConv2D", "Dense", "SeparableConv2D", "Conv2DTranspose")


def quantized_kernels(model):
    """Weight layer -> how many of its kernels are fake-quantized."""
    wrapped = [layer for layer in model.layers if type(getattr(layer, "layer", None)).__name__ in WEIGHT_LAYERS]
    return {wrapper.layer.name: len(wrapper._weight_vars) for wrapper in wrapped}


def with_activation(before, activation):
    keras = backend.keras()
    inputs = keras.Input((8, 8, 1))
    x = activation(before(inputs))
    x = keras.layers.Flatten()(x)
    return nets.randomized(keras.Model(inputs, keras.layers.Dense(10, name="logits")(x)))


@pytest.mark.parametrize("activation", ["ReLU", "ReLU6", "Activation"])
@pytest.mark.parametrize("before", ["Conv2D", "DepthwiseConv2D", "SeparableConv2D", "Conv2DTranspose", "Dense"])
def test_a_relu_layer_leaves_no_kernel_unquantized(digits, before, activation):
    layers = backend.keras().layers
    first = {
        "Conv2D": lambda: layers.Conv2D(4, 3),
        "DepthwiseConv2D": lambda: layers.DepthwiseConv2D(3),
        "SeparableConv2D": lambda: layers.SeparableConv2D(4, 3),
        "Conv2DTranspose": lambda: layers.Conv2DTranspose(4, 3),
        "Dense": lambda: layers.Dense(4),
    }[before]()
    after = {
        "ReLU": lambda: layers.ReLU(name="relu"),
        "ReLU6": lambda: layers.ReLU(6.0, name="relu"),
        "Activation": lambda: layers.Activation("relu", name="relu"),
    }[activation]()
    model = with_activation(first, after)
    quantized = tfopt.quantize_aware(model, digits)
    assert min(quantized_kernels(quantized).values()) == 1
    if (before, activation) != ("SeparableConv2D", "ReLU6"):  # TF-MOT splits the one and refuses the other in its second half
        assert "relu" not in [getattr(layer, "layer", layer).name for layer in quantized.layers]
    artifact = tfopt.convert(quantized, "int8")
    verdict = tfopt.verify(artifact, against=model, data=digits)
    assert verdict.agreement > 0.9


def test_a_relu_that_others_read_past_is_kept_and_the_kernel_quantized(digits):
    layers = backend.keras().layers
    inputs = backend.keras().Input((8, 8, 1))
    conv = layers.Conv2D(4, 3, name="conv")(inputs)
    x = layers.Add()([conv, layers.ReLU(name="relu")(conv)])
    model = nets.randomized(backend.keras().Model(inputs, layers.Dense(10)(layers.Flatten()(x))))
    quantized = tfopt.quantize_aware(model, digits)
    assert quantized_kernels(quantized)["conv"] == 1
    assert "quant_relu" in [layer.name for layer in quantized.layers]


@pytest.mark.parametrize("scale", [1.0, 255.0])
def test_ranges_are_calibrated_before_the_first_step(digits, scale):
    """TF-MOT alone: a relative error of 1.0 on 0..255 inputs."""
    model = nets.randomized(nets.sequential())
    images = np.stack([x for x, _ in digits.test.as_numpy_iterator()]) * scale
    scaled = tfopt.datasets.arrays(x=images, y=np.array([y for _, y in digits.test.as_numpy_iterator()]))
    with Trace() as trace:
        quantized = tfopt.quantize_aware(model, scaled)
    before, after = model(images).numpy(), quantized(images, training=False).numpy()
    assert np.abs(before - after).max() < 0.05 * np.abs(before).max()
    ranges = next(entry["ranges"] for entry in trace.entries if entry["kind"] == "ranges")
    low, high = ranges["quantize_conv_input/quantize_conv_input"]
    assert low == 0 and high == pytest.approx(scale, rel=0.01)


def test_zeros_are_kept_through_training_and_into_the_file(digits):
    pruned = tfopt.prune(nets.randomized(nets.branching()), sparsity=0.6)
    before = {w.name: w.numpy() == 0 for w in pruned.weights if "kernel" in w.name}
    quantized = tfopt.quantize_aware(pruned, digits, fit=Fit(epochs=2, learning_rate=0.01))
    after = {w.name: w.numpy() for w in quantized.weights}
    for name, zeros in before.items():
        assert np.all(after[name][zeros] == 0), name
        assert name.startswith("depthwise") or zeros.mean() > 0.55
    assert np.abs(after["conv/kernel:0"]).max() > 0
    artifact = tfopt.measure(tfopt.convert(quantized, "int8"))
    sparse = [kernel for kernel in artifact.kernels if kernel.op in ("CONV_2D", "FULLY_CONNECTED")]
    assert sparse and all(np.mean(kernel.zeros) > 0.5 for kernel in sparse)


def test_the_keras_model_and_the_int8_file_say_the_same(digits):
    model = tfopt.train(tfopt.models.convnet((8, 8, 1), 10), digits, Fit(epochs=5, learning_rate=3e-3))
    quantized = tfopt.quantize_aware(model, digits, fit=FIT)
    verdict = tfopt.verify(tfopt.convert(quantized, "int8"), against=quantized, data=digits)
    assert verdict.agreement >= 0.98


def test_nested_models_are_laid_open_and_odd_layers_do_not_keep_others_in_float(digits):
    quantized = tfopt.quantize_aware(nets.randomized(nets.branching()), digits)
    assert quantized_kernels(quantized) == {"conv": 1, "depthwise": 1, "point": 1, "dense": 1, "logits": 1}
    odd = tfopt.quantize_aware(nets.randomized(nets.odd()), digits)
    assert quantized_kernels(odd) == {"conv": 1, "conv1d": 1, "logits": 1}
    measured = tfopt.measure(tfopt.convert(odd, "int8"))
    assert measured.int8_operations and not measured.float_operations


def test_a_model_without_anything_to_quantize_is_refused_with_reasons(digits):
    keras = backend.keras()
    inputs = keras.Input((8, 8, 1))
    x = keras.layers.Lambda(lambda t: t[:, 0, :, 0], name="row")(inputs)
    model = keras.Model(inputs, keras.layers.Lambda(lambda t: t[:, :1] * np.ones((1, 10), "float32"), name="wide")(x))
    with pytest.raises(UnsupportedModel, match="row: TF-MOT can't quantize Lambda"):
        tfopt.quantize_aware(model, digits)


def test_the_file_has_no_name_that_counts_up(digits):
    model = nets.randomized(nets.branching())
    first, second = (tfopt.convert(tfopt.quantize_aware(model, digits), "int8").content for _ in range(2))
    assert first == second


def test_a_quantized_model_survives_saving(digits, tmp_path):
    quantized = tfopt.quantize_aware(tfopt.prune(nets.randomized(nets.branching()), sparsity=0.5), digits, fit=FIT)
    path = tfopt.save(quantized, tmp_path / "final.h5")
    x = np.stack([x for x, _ in digits.test.take(16).as_numpy_iterator()])
    assert np.array_equal(tfopt.load(path)(x), quantized(x))
    assert tfopt.convert(tfopt.load(path), "int8").content == tfopt.convert(quantized, "int8").content
    with pytest.raises(UnsupportedModel, match=r"final\.h5"):
        tfopt.save(quantized, tmp_path / "final.keras")


FRONTS = {
    "Rescaling": lambda layers: layers.Rescaling(2.0),
    "Lambda": lambda layers: layers.Lambda(lambda t: t + 1.0),
    "operator": lambda layers: lambda t: t * 2.0,
    "PReLU": lambda layers: layers.PReLU(),
    "elu": lambda layers: layers.Activation("elu"),
    "Conv2D-elu": lambda layers: layers.Conv2D(2, 3, activation="elu", name="odd_conv"),
}


@pytest.mark.parametrize("front", FRONTS)
def test_an_odd_layer_in_front_leaves_no_treated_layer_in_float(digits, front):
    layers = backend.keras().layers
    inputs = backend.keras().Input((8, 8, 1))
    x = layers.Conv2D(4, 3, name="conv")(FRONTS[front](layers)(inputs))
    model = nets.randomized(backend.keras().Model(inputs, layers.Dense(10, name="logits")(layers.Flatten()(x))))
    treated = {choice.layer for choice in tfopt.techniques.PLANS["quantize_aware"](model) if choice.treated}
    assert {"conv", "logits"} <= treated
    quantized = tfopt.quantize_aware(model, digits)
    artifact = tfopt.convert(quantized, "int8")
    kernels = [kernel for kernel in tfopt.measure(artifact).kernels if kernel.op in ("CONV_2D", "FULLY_CONNECTED")]
    assert [kernel.dtype for kernel in kernels[-2:]] == ["int8", "int8"]
    verdict = tfopt.verify(artifact, against=quantized, data=digits)
    assert verdict.agreement > 0.95


@pytest.mark.parametrize("where", [None, "logits"])
def test_zeros_are_kept_in_layers_that_stay_float_too(digits, where):
    layers = backend.keras().layers
    inputs = backend.keras().Input((8, 8, 1))
    x = layers.Conv2D(4, 3, activation="swish", name="swishy")(inputs)
    x = layers.Conv1D(4, 3, name="rows")(layers.Reshape((36, 4))(x))
    model = nets.randomized(backend.keras().Model(inputs, layers.Dense(10, name="logits")(layers.Flatten()(x))))
    pruned = tfopt.prune(model, sparsity=0.75)
    quantized = tfopt.quantize_aware(pruned, digits, where=where, fit=Fit(epochs=2, learning_rate=0.01))
    for weight in pruned.weights:
        if weight.shape.rank > 1:
            after = next(w for w in quantized.weights if w.name == weight.name).numpy()
            assert np.array_equal(after.reshape(weight.shape) == 0, weight.numpy() == 0), weight.name


def test_where_knows_a_nested_layer_by_its_path_and_by_its_name(digits):
    for where in ("inner/point", "point"):
        plans = [tfopt.techniques.PLANS[name](nets.branching(), where=where) for name in ("prune", "quantize_aware")]
        assert [[c.layer.split("/")[-1] for c in plan if c.treated and "relu" not in c.layer] for plan in plans] == [["point"], ["point"]]


def hard_silu(x):
    return x * backend.tensorflow().nn.relu6(x + 3.0) / 6.0


def squeezed(x):
    """A squeeze-and-excite block: channels weighed by what is in them."""
    k = backend.keras().layers
    weights = k.GlobalAveragePooling2D(keepdims=True)(x)
    weights = k.Conv2D(4, 1, activation="sigmoid")(k.Conv2D(4, 1, activation="swish")(weights))
    return k.Multiply(name="weighed")([x, weights])


def preactivated(x):
    k = backend.keras().layers
    x = k.Concatenate()([x, k.Conv2D(4, 3, padding="same")(x)])
    return k.Conv2D(4, 3)(k.ReLU(name="pre_relu")(k.BatchNormalization(name="pre_bn")(x)))


def along_one_axis(x):
    k = backend.keras().layers
    x = k.Conv1D(6, 3, padding="causal", use_bias=False, name="conv1d")(k.Reshape((64, 4))(x))
    return k.MaxPooling1D(2)(k.ReLU()(k.BatchNormalization(name="bn1d")(x)))


# What TF-MOT refuses or leaves in float: behind a Conv2D, the layer that has to become int8, and the float operations that remain.
UNLOCKED = {
    "Conv1D": (along_one_axis, "conv1d", set()),
    "Dense on rows": (lambda x: layers().Dense(5, name="rows")(layers().Reshape((64, 4))(x)), "rows", set()),
    "Dense, BatchNorm": (lambda x: layers().BatchNormalization()(layers().Dense(8, name="d")(layers().Flatten()(x))), "d", set()),
    "Conv2DTranspose, BatchNorm": (
        lambda x: layers().BatchNormalization()(layers().Conv2DTranspose(4, 3, strides=2, name="up")(x)),
        "up",
        set(),
    ),
    "BatchNorm behind a ReLU": (lambda x: layers().BatchNormalization(name="bn")(layers().ReLU()(x)), "bn", set()),
    "BatchNorm behind a Concatenate": (preactivated, "pre_bn", set()),
    "swish inside": (lambda x: layers().Conv2D(4, 3, activation="swish", name="swish")(x), "swish", set()),
    "elu inside": (lambda x: layers().Conv2D(4, 3, activation="elu", name="elu")(x), "elu", {"ELU", "RESHAPE"}),
    "leaky_relu inside": (lambda x: layers().Conv2D(4, 3, activation="leaky_relu", name="leaky")(x), "leaky", set()),
    "relu6 inside a SeparableConv2D": (lambda x: layers().SeparableConv2D(4, 3, activation="relu6", name="relu6")(x), "relu6", set()),
    "hard_sigmoid": (lambda x: layers().Activation("hard_sigmoid", name="hard")(x), "hard", set()),
    "hard swish": (lambda x: layers().Activation(hard_silu, name="hard")(x), "hard", set()),
    "hard swish of operators": (lambda x: x * layers().ReLU(6.0, name="bound")(x + 3.0) * (1 / 6), "bound", set()),
    "slices": (lambda x: x[:, ::2] + x[:, 1::2], "first", set()),  # a slice with a step has no layer
    "squeeze and excite": (squeezed, "weighed", set()),
    "PReLU": (lambda x: layers().PReLU(name="prelu")(x), "prelu", set()),
    "LayerNormalization": (lambda x: layers().Conv2D(4, 3, name="behind")(layers().LayerNormalization()(x)), "behind", None),
}


@pytest.mark.parametrize("name", UNLOCKED)
def test_what_tfmot_refuses_or_leaves_in_float_becomes_int8(digits, name):
    make, treated, left = UNLOCKED[name]
    inputs = backend.keras().Input((8, 8, 1))
    x = make(layers().Conv2D(4, 3, padding="same", name="first")(inputs))
    x = layers().Flatten()(x) if len(x.shape) > 2 else x
    model = nets.randomized(backend.keras().Model(inputs, layers().Dense(10, name="logits")(x)))
    choices = {choice.layer: choice for choice in tfopt.techniques.PLANS["quantize_aware"](model)}
    assert set(choices) == {layer.name for layer in model.layers[1:]}
    assert choices[treated].treated, choices[treated]
    artifact = tfopt.convert(tfopt.quantize_aware(model, digits), "int8")
    measured = tfopt.measure(artifact)
    if left is not None:
        assert {operation.kind for operation in measured.float_operations} == left
    assert all(kernel.dtype == "int8" for kernel in measured.kernels)
    assert tfopt.verify(artifact, against=model, data=digits).agreement > 0.9


@pytest.mark.parametrize("fit", [None, FIT], ids=["data-free", "trained"])
def test_preprocessing_in_the_model_becomes_int8_and_does_not_spoil_the_training(digits, fit):
    images = np.stack([x for x, _ in digits.train.as_numpy_iterator()]) * 255
    labels = np.array([y for _, y in digits.train.as_numpy_iterator()])
    data = tfopt.datasets.arrays(x=images, y=labels)
    front = [layers().Rescaling(1 / 255, name="rescaling"), layers().Normalization(mean=[0.3], variance=[0.14], name="normalization")]
    body = tfopt.models.convnet((8, 8, 1), 10)
    inputs = x = backend.keras().Input((8, 8, 1))
    for layer in front:
        x = layer(x)
    model = tfopt.train(backend.keras().Model(inputs, body(x)), data, Fit(epochs=5, learning_rate=3e-3))
    artifact = tfopt.convert(tfopt.quantize_aware(model, data, fit=fit), "int8")
    assert not tfopt.measure(artifact).float_operations
    assert tfopt.verify(artifact, against=model, data=data).agreement >= 0.95


def test_the_plan_names_each_layer_of_the_model_and_says_what_becomes_of_it():
    model = nets.randomized(nets.everything())
    choices = {choice.layer: choice for choice in tfopt.techniques.PLANS["quantize_aware"](model)}
    assert choices["flip"] == tfopt.types.Choice("flip", False, "dropped: identity at inference")
    assert not choices["rescaling"].treated and choices["rescaling"].reason.endswith("folded into conv")
    assert choices["bn"].treated and "folded into conv" in choices["bn"].reason
    assert choices["inner/elu_conv"].treated and "computes an ELU in float" in choices["inner/elu_conv"].reason
    assert choices["conv1d"].reason == "becomes a Conv2D; 8 bits" and choices["dense_bn"].reason == "folded into logits"
    trained = {choice.layer: choice for choice in tfopt.techniques.PLANS["quantize_aware"](model, fit=FIT)}
    assert trained["drop"].treated and trained["rescaling"].treated  # neither dropped nor folded before a fit


@pytest.mark.parametrize(("where", "expected"), [("Conv1D", {"conv1d"}), ("inner/*", {"inner/elu_conv"}), ("up", {"up", "up_bn", "hard"})])
def test_where_speaks_of_the_layers_as_they_were(where, expected):
    choices = tfopt.techniques.PLANS["quantize_aware"](nets.randomized(nets.everything()), where=where)
    treated = {choice.layer for choice in choices if choice.treated and "relu" not in choice.layer}
    assert treated - {"row_bn"} == expected


def test_a_separable_convolution_takes_no_other_layers_name(digits, tmp_path):
    layers = backend.keras().layers
    inputs = backend.keras().Input((8, 8, 1))
    x = layers.Conv2D(8, 3, name="conv2d")(inputs)  # as a model from a file has it, in a process that has not given the name yet
    x = layers.SeparableConv2D(8, 3, name="separable")(x)
    model = nets.randomized(backend.keras().Model(inputs, layers.Dense(10)(layers.Flatten()(x))))
    backend.keras().backend.reset_uids()
    names = {layer.name for layer in tfopt.quantize_aware(model, digits).layers}
    assert {"quant_conv2d", "quant_separable_depthwise", "quant_separable_pointwise"} <= names


def test_inputs_of_whole_numbers_stay_as_they_are():
    keras = backend.keras()
    inputs = keras.Input((8, 8, 3), dtype="uint8")
    x = keras.layers.Conv2D(4, 3, activation="relu")(keras.layers.Rescaling(1 / 255)(inputs))
    model = nets.randomized(keras.Model(inputs, keras.layers.Dense(10)(keras.layers.Flatten()(x))))
    generator = np.random.default_rng(0)
    data = tfopt.datasets.arrays(x=generator.integers(0, 256, (200, 8, 8, 3), "uint8"), y=np.arange(200) % 10)
    int8 = tfopt.convert(tfopt.quantize_aware(model, data), "int8")
    assert {each.weights for each in tfopt.measure(int8).operations if each.weights} == {"int8"}
    assert tfopt.verify(int8, against=model, data=data).agreement >= 0.9
