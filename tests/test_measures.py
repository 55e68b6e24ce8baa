from __future__ import annotations

import random
import subprocess

import numpy as np
import pytest

import tfopt
from tfopt import backend, conversion, measures
from tfopt.errors import ArtifactError

MODELS = "mlperf_tiny"


@pytest.mark.parametrize(
    ("file", "bytes_", "parameters", "macs", "weights", "computed"),
    [
        ("image_classification/pretrainedResnet.tflite", 318_144, 77_706, 12_501_632, {"float32"}, {"float32"}),
        ("image_classification/pretrainedResnet_quant.tflite", 98_496, 77_706, 12_501_632, {"int8"}, {"int8"}),
        ("keyword_spotting/kws_ref_model.tflite", 53_936, 22_604, 2_656_768, {"int8"}, {"int8"}),
        # called float32, and is not: its convolutions are dynamic-range int8
        ("keyword_spotting/kws_ref_model_float32.tflite", 43_392, 22_604, 2_656_768, {"float32", "int8"}, {"float32"}),
    ],
)
def test_published_models_have_the_measures_that_are_known(file, bytes_, parameters, macs, weights, computed, models_folder):
    measured = measures.measure(models_folder(f"{MODELS}/{file}"))
    assert (measured.bytes, measured.parameters, measured.macs, measured.uncounted) == (bytes_, parameters, macs, ())
    assert {kernel.dtype for kernel in measured.kernels} == weights
    assert {operation.dtype for operation in measured.operations} == computed
    assert measured.int8_operations == (len(measured.operations) if computed == {"int8"} else 0)


def test_gzip_bytes_are_those_of_the_command(models_folder):
    path = models_folder(f"{MODELS}/image_classification/pretrainedResnet_quant.tflite")
    packed = subprocess.run(["gzip", "-9", "--no-name", "--stdout", path], stdout=subprocess.PIPE, check=True).stdout
    assert measures.measure(path).gzip_bytes == pytest.approx(len(packed), rel=0.002)  # two implementations of deflate


def layer_cases():
    keras = backend.keras()
    layers = keras.layers
    return {
        "conv": (layers.Conv2D(8, 3, strides=2, padding="same"), (16, 16, 4), 8 * 8 * 8 * 9 * 4, 8 * 9 * 4 + 8),
        "grouped": (layers.Conv2D(8, 3, groups=2), (6, 6, 4), 4 * 4 * 8 * 9 * 2, 8 * 9 * 2 + 8),
        "pointwise": (layers.Conv2D(1, 1), (6, 6, 4), 6 * 6 * 4, 4 + 1),
        "depthwise": (layers.DepthwiseConv2D(3), (6, 6, 4), 4 * 4 * 4 * 9, 9 * 4 + 4),
        "dense": (layers.Dense(7), (5,), 35, 35 + 7),
        "dense to one": (layers.Dense(1), (5,), 5, 5 + 1),
        "transposed": (layers.Conv2DTranspose(6, 3, strides=2, padding="same"), (4, 4, 5), 4 * 4 * 5 * 9 * 6, 9 * 5 * 6 + 6),
        "volume": (layers.Conv3D(3, 2), (4, 4, 4, 2), 27 * 3 * 8 * 2, 8 * 2 * 3 + 3),
        "dilated": (layers.Conv2D(4, 2, dilation_rate=2), (7, 5, 3), 5 * 3 * 4 * 2 * 2 * 3, 4 * 2 * 2 * 3 + 4),
        "dilated same": (layers.Conv2D(4, 2, dilation_rate=2, padding="same"), (7, 5, 3), 7 * 5 * 4 * 12, 4 * 12 + 4),
        "dilated in time": (layers.Conv1D(4, 3, dilation_rate=4, padding="causal"), (20, 3), 20 * 4 * 3 * 3, 4 * 9 + 4),
        "dense in time": (layers.Dense(4), (7, 3), 7 * 4 * 3, 4 * 3 + 4),
        "distributed dense": (layers.TimeDistributed(layers.Dense(4)), (7, 3), 7 * 4 * 3, 4 * 3 + 4),
        "distributed conv": (layers.TimeDistributed(layers.Conv2D(4, 3)), (7, 8, 8, 3), 7 * 6 * 6 * 4 * 27, 4 * 27 + 4),
        "lstm": (layers.LSTM(4), (5, 3), 5 * 4 * 4 * (3 + 4), 4 * 4 * (3 + 4) + 16),
    }


KINDS = ["conv", "grouped", "pointwise", "depthwise", "dense", "dense to one", "transposed", "volume", "lstm", "dilated", "dilated same"]
KINDS += ["dilated in time", "dense in time", "distributed dense", "distributed conv"]


@pytest.mark.parametrize("kind", KINDS)
def test_multiply_accumulates_and_parameters_are_those_of_the_formula(kind):
    keras = backend.keras()
    layer, shape, macs, parameters = layer_cases()[kind]
    model = keras.Sequential([keras.Input(shape), layer])
    generator = np.random.default_rng(0)
    model.set_weights([generator.normal(size=weight.shape) for weight in model.get_weights()])  # a bias of zeros is left out of the file
    measured = measures.measure(tfopt.convert(model))
    assert (measured.macs, measured.uncounted) == (macs, ())
    zeros = 8 if kind == "lstm" else 4 if kind.startswith("dilated") else 0  # an LSTM's initial states; a bias beside the one added later
    assert 0 <= measured.parameters - parameters <= zeros


def test_what_is_folded_into_the_batch_counts_once_for_each_row_and_what_follows_once():
    keras = backend.keras()
    layers = keras.layers
    shared = keras.Sequential([layers.Conv2D(4, 3, dilation_rate=2, activation="relu"), layers.Flatten(), layers.Dense(6)])
    x = keras.Input((7, 8, 8, 3))
    y = layers.Dense(5)(layers.Flatten()(layers.TimeDistributed(shared)(x)))
    measured = measures.measure(tfopt.convert(keras.Model(x, y)))
    assert (measured.macs, measured.uncounted) == (7 * (4 * 4 * 4 * 27 + 64 * 6) + 7 * 6 * 5, ())


def test_what_free_dimensions_leave_open_is_named_as_uncounted():
    keras = backend.keras()
    layers = keras.layers
    model = keras.Sequential([keras.Input((None, None, 3)), layers.Conv2D(4, 3), layers.GlobalAveragePooling2D(), layers.Dense(5)])
    measured = measures.measure(tfopt.convert(model))
    assert (measured.macs, measured.uncounted) == (4 * 5, ("CONV_2D",))


def test_a_model_in_place_of_its_file_is_refused(prepared):
    with pytest.raises(ArtifactError, match=r"Sequential.* is no \.tflite: expected an artifact, a path or the file's bytes"):
        measures.measure(prepared)


def test_attention_is_counted_though_nothing_of_it_is_a_weight():
    keras = backend.keras()
    x = keras.Input((6, 4))
    measured = measures.measure(tfopt.convert(keras.Model(x, keras.layers.Dot(axes=(2, 2))([x, x]))))
    assert (measured.macs, measured.parameters, measured.kernels) == (6 * 6 * 4, 0, ())


def test_what_is_added_element_by_element_sums_nothing_though_it_is_a_matrix():
    keras = backend.keras()
    x = keras.Input((6, 4))
    attention = keras.layers.MultiHeadAttention(2, 3)  # its biases are matrices of heads and features
    model = keras.Model(x, attention(x, x))
    generator = np.random.default_rng(0)
    model.set_weights([generator.normal(size=weight.shape) for weight in model.get_weights()])
    measured = measures.measure(tfopt.convert(model))
    assert (measured.macs, measured.uncounted) == (4 * 6 * 4 * 6 + 2 * 2 * 6 * 6 * 3, ())


def test_a_loop_with_weights_is_named_as_uncounted():
    keras = backend.keras()
    measured = measures.measure(tfopt.convert(keras.Sequential([keras.Input((5, 3)), keras.layers.GRU(4), keras.layers.Dense(2)])))
    assert measured.uncounted == ("WHILE",)
    assert sorted(kernel.shape for kernel in measured.kernels) == [(2, 4), (12, 3), (12, 4)]


def test_an_embedding_is_a_kernel_that_multiplies_nothing():
    keras = backend.keras()
    model = keras.Sequential([keras.Input((5,), dtype="int32"), keras.layers.Embedding(11, 4)])
    measured = measures.measure(tfopt.convert(model))
    assert (measured.macs, measured.parameters, [kernel.shape for kernel in measured.kernels]) == (0, 44, [(11, 4)])


# Zeros, distinct values, dtypes: the same weights in each format


@pytest.fixture(scope="module")
def prepared():
    """A net with known zeros (0, 1/2, 1/4 and 3/4 in the kernels' output channels) and at most four values a kernel."""
    keras = backend.keras()
    layers = keras.layers
    model = keras.Sequential(
        [
            layers.Conv2D(4, 4, activation="relu", input_shape=(8, 8, 1), name="conv"),
            layers.DepthwiseConv2D(4, padding="same", activation="relu", name="depthwise"),
            layers.Flatten(),
            layers.Dense(11, name="dense"),  # 1,100 weights: dynamic leaves kernels of less than 1,024 as they are
        ]
    )
    generator = np.random.default_rng(0)
    for name in ("conv", "depthwise", "dense"):
        kernel, bias = model.get_layer(name).get_weights()
        values = generator.choice(np.float32([-0.5, 0.25, 0.5]), kernel.shape)
        if name != "dense":
            for channel, zeros in enumerate((0, 8, 4, 12)):
                order = generator.permutation(16)[:zeros]
                place = (slice(None), slice(None), 0, channel) if name == "conv" else (slice(None), slice(None), channel, 0)
                values[place].reshape(-1)[order] = 0
                values[place] = np.where(np.isin(np.arange(16), order).reshape(4, 4), 0, values[place])
        model.get_layer(name).set_weights([values, bias + 0.1])
    return model


@pytest.mark.parametrize("format", conversion.FORMATS)
def test_zeros_and_distinct_values_are_found_in_every_format(format, prepared, digits):
    measured = measures.measure(tfopt.convert(prepared, format, data=digits))
    kernels = {kernel.op: kernel for kernel in measured.kernels}
    assert kernels["CONV_2D"].zeros == kernels["DEPTHWISE_CONV_2D"].zeros == (0, 0.5, 0.25, 0.75)
    assert max(kernels["CONV_2D"].distinct + kernels["DEPTHWISE_CONV_2D"].distinct) <= 4
    assert set(kernels["FULLY_CONNECTED"].distinct) == {3} and len(kernels["FULLY_CONNECTED"].zeros) == 11
    for kind, name in (("CONV_2D", "conv"), ("DEPTHWISE_CONV_2D", "depthwise")):
        largest = np.abs(prepared.get_layer(name).get_weights()[0]).max(axis=(0, 1)).ravel()
        assert kernels[kind].largest == pytest.approx(largest, rel=1e-3) and measured.largest_weight == pytest.approx(0.5, rel=1e-3)
    assert measured.sparsity == pytest.approx(2 * 24 / sum(np.prod(kernel.shape) for kernel in measured.kernels))


@pytest.mark.parametrize(
    ("format", "dtype", "weights"),
    [("float32", "float32", "float32"), ("float16", "float32", "float16"), ("dynamic", "float32", "int8"), ("int8", "int8", "int8")],
)
def test_dtypes_say_what_is_int8_and_what_stayed_float(format, dtype, weights, prepared, digits):
    measured = measures.measure(tfopt.convert(prepared, format, data=digits))
    dense = next(operation for operation in measured.operations if operation.kind == "FULLY_CONNECTED")
    assert (dense.dtype, dense.weights) == (dtype, weights)
    assert bool(measured.float_operations) == (dtype == "float32")
    assert bool(measured.int8_operations) == (dtype == "int8")


def test_kernels_of_4_bits_are_unpacked(digits):
    tf, keras, tfmot = backend.tensorflow(), backend.keras(), backend.tfmot()
    plain = keras.Sequential([keras.layers.Conv2D(6, 3, input_shape=(8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(10)])
    kernel = np.random.default_rng(0).choice(np.float32([-7, -3, 0, 1, 7]), (3, 3, 1, 6))
    kernel[0, 0] = 7  # each channel's scale is 1: its values are the numbers in the file
    plain.layers[0].set_weights([kernel, np.zeros(6, "float32")])
    scheme = tfmot.quantization.keras.experimental.default_n_bit.DefaultNBitQuantizeScheme(num_bits_weight=4)
    with tfmot.quantization.keras.quantize_scope():
        model = tfmot.quantization.keras.quantize_apply(tfmot.quantization.keras.quantize_annotate_model(plain), scheme)
    model(tf.ones((1, 8, 8, 1)), training=True)
    convolution = measures.measure(tfopt.convert(model, "int8")).kernels[0]
    assert (convolution.dtype, convolution.shape) == ("int4", (6, 3, 3, 1))
    assert convolution.zeros == pytest.approx(np.mean(kernel == 0, axis=(0, 1, 2)))
    assert convolution.distinct == tuple(len(np.unique(kernel[..., channel])) for channel in range(6))


# Damage


def test_a_damaged_file_is_refused_or_measured_and_nothing_else(prepared):
    content = tfopt.convert(prepared).content
    for length in range(8, len(content) - 8, len(content) // 150):
        with pytest.raises(ArtifactError, match="the given bytes: the file is damaged"):
            measures.measure(content[:length])
    chance = random.Random(0)
    refused = 0
    for _ in range(300):
        damaged = bytearray(content)
        damaged[chance.randrange(8, len(content))] = chance.randrange(256)
        try:
            measures.measure(bytes(damaged))
        except ArtifactError:
            refused += 1
    assert refused
