"""Which layers quantize_aware takes to int8, each with the real converter; and the law that every other one has a reason."""

from __future__ import annotations

import zlib

import bridge_cases
import bridge_measures
import nets
import numpy as np
import pytest
from bridge_case import values_of
from nets import examples, layers, same

import tfopt
from tfopt import backend, bridge
from tfopt.errors import UnsupportedModel
from tfopt.surgery import attending, dilating, merging, recurrent

EXAMPLES = 100


def planned(model):
    return {choice.layer: choice for choice in tfopt.techniques.PLANS["quantize_aware"](model)}


def random_data(inputs, values):
    """Data of the values for a model with this input and ten outputs."""
    tf = backend.tensorflow()
    examples = tf.data.Dataset.from_tensor_slices((values, np.arange(len(values), dtype="int32") % 10))
    parts = [examples] * 4
    return tfopt.types.Data("random", "classification", *parts, tuple(inputs.shape[1:]), tuple("0123456789"), "0", inputs.dtype.name)


def error(found, wanted):
    """The root mean square of the difference, over that of the values around their mean."""
    return np.sqrt(np.mean((found - wanted) ** 2) / np.mean((wanted - wanted.mean(0)) ** 2))


# The law, over the bridge's matrix


def hosted(case):
    """A case's model in one of one input and ten outputs, with data: floats come from twelve numbers through a Dense."""
    generator = np.random.default_rng(zlib.crc32(case.name.encode()))
    model3 = case.build()
    if case.random:
        bridge_measures.randomize(model3, generator)
    model, tf = bridge.to_keras2(model3, case.custom_objects), backend.tensorflow()
    batch = model.inputs[0].shape[0]
    given = [tensor for tensor in model.inputs if not _is_made(tensor)]
    if given:
        inputs = backend.keras().Input([size or 8 for size in given[0].shape[1:]], dtype=given[0].dtype, batch_size=batch)
        kind = case.values if isinstance(case.values, str) else case.values[0]
        values = values_of(kind, (EXAMPLES, *inputs.shape[1:]), given[0].dtype.name, generator)
    else:
        inputs = backend.keras().Input((12,), batch_size=batch)
        values = generator.normal(size=(EXAMPLES, 12)).astype("float32")
    fed = [_fed(tensor, inputs, number) if _is_made(tensor) else inputs for number, tensor in enumerate(model.inputs)]
    results = tf.nest.flatten(model(tf.nest.pack_sequence_as(model._nested_inputs, fed)))
    flat = [layers().Flatten()(result if result.dtype == tf.float32 else tf.cast(result, "float32")) for result in results]
    outputs = layers().Dense(10, name="head")(flat[0] if len(flat) == 1 else layers().Concatenate()(flat))
    host = backend.keras().Model(inputs, outputs, name="host")
    for layer in host.layers:
        if layer.name == "head" or layer.name.startswith("stem"):
            layer.kernel.assign(generator.normal(0, layer.kernel.shape[0] ** -0.5, layer.kernel.shape))
    return host, random_data(inputs, values)


def _is_made(tensor):
    return tensor.dtype.is_floating or tensor.dtype.name == "bool"


def _fed(tensor, inputs, number):
    tf, shape = backend.tensorflow(), [size or 8 for size in tensor.shape[1:]]
    x = inputs if inputs.dtype.is_floating else tf.cast(layers().Flatten()(inputs), "float32")
    x = layers().Reshape(shape)(layers().Dense(int(np.prod(shape)), name=f"stem_{number}")(x))
    return x > 0 if tensor.dtype == tf.bool else x if tensor.dtype == tf.float32 else tf.cast(x, tensor.dtype)


GROUPS = (
    "Core layers", "Convolutions", "Poolings", "Normalizations", "Layers that reshape", "Layers that merge", "Recurrent layers",
    "Attention", "Masks", "Activations", "Regularization", "Images", "Sound",
)  # fmt: skip
IMPOSSIBLE = {"Embedding: of float indices", "RandomShear"}  # wants indices, not numbers around 0; does not come through the bridge
CASES = [case for group in GROUPS for case in bridge_cases.GROUPS[group] if case.name not in IMPOSSIBLE]
QUICK = {"Dense: LoRA", "GroupNormalization", "Masking", "Maximum", "LSTM: stateful", "GRU", "Attention: causal", "ConvLSTM1D",
         "Embedding: mask_zero, GlobalAveragePooling1D", "SpectralNormalization: Conv2D", "Softmax: mask given"}  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*was passed an input with a mask attached")  # by Keras 3, of a case that loses its mask
@pytest.mark.parametrize(
    "case", [pytest.param(case, id=case.name, marks=[] if case.name in QUICK else [pytest.mark.slow]) for case in CASES]
)
def test_every_layer_is_treated_or_has_a_reason_and_none_stops_the_others(case):
    model, data = hosted(case)
    choices = planned(model)
    assert set(choices) == {path for path, _ in tfopt.surgery.copying.all_layers(model)}
    assert all(choice.reason for choice in choices.values())
    try:
        quantized = tfopt.quantize_aware(model, data)
    except UnsupportedModel as refusal:
        assert all(name in str(refusal) for name, choice in choices.items() if not choice.treated)
    else:
        assert quantized.output_shape == model.output_shape


# What becomes int8


def attended(x):
    k = layers()
    x = k.Reshape((16, 4))(x)
    return k.MultiHeadAttention(2, 4, dropout=0.1, name="odd")(x, k.Dense(6)(x), key=k.Dense(5)(x))


def two_readers(x):
    """A convolution that a BatchNorm and an Add read."""
    x = layers().Conv2D(4, 3, padding="same", name="odd")(x)
    return layers().Add()([x, layers().ReLU()(layers().BatchNormalization()(x))])


def pooled_for_two(x):
    """As between the blocks of a DenseNet."""
    x = layers().AveragePooling2D(2, name="odd")(x)
    return layers().Concatenate()([x, layers().Conv2D(4, 3, padding="same")(layers().ReLU()(layers().BatchNormalization()(x)))])


def attended_by_products(x):
    x = layers().Reshape((16, 4))(x)
    return layers().Attention(dropout=0.2, name="odd")([x, layers().Dense(4)(x)])


def others(x):
    return [x, layers().Conv2D(4, 1)(x), layers().Conv2D(4, 3, padding="same", activation="tanh")(x)]


# Behind a Conv2D on (8, 8, 4), layers of which the one called "odd" has to become int8, and with it the whole file but for what is named.
BECOMING = {
    "MultiHeadAttention": (attended, set()),
    "Attention": (attended_by_products, set()),
    "TimeDistributed Dense": (lambda x: layers().TimeDistributed(layers().Dense(5), name="odd")(layers().Reshape((64, 4))(x)), set()),
    "EinsumDense": (lambda x: layers().EinsumDense("abcd,de->abce", (None, None, 5), bias_axes="e", name="odd")(x), set()),
    "EinsumDense, several axes": (
        lambda x: layers().EinsumDense("abcd,cdef->abef", (8, 3, 2), bias_axes="ef", name="odd", activation="relu")(x),
        set(),
    ),
    "Add of three": (lambda x: layers().Add(name="odd")(others(x)), set()),
    "Multiply of three": (lambda x: layers().Multiply(name="odd")(others(x)), set()),
    "Average of three": (lambda x: layers().Average(name="odd")(others(x)), set()),
    "Maximum of three": (lambda x: layers().Maximum(name="odd")(others(x)), set()),
    "Minimum of two": (lambda x: layers().Minimum(name="odd")(others(x)[:2]), set()),
    "a dilated Conv2D, BatchNorm, ReLU6": (
        lambda x: layers().ReLU(6.0)(layers().BatchNormalization()(layers().Conv2D(4, 3, dilation_rate=2, name="odd")(x))),
        set(),
    ),
    "a dilated Conv1D": (
        lambda x: layers().Conv1D(4, 3, dilation_rate=2, padding="causal", name="odd")(layers().Reshape((64, 4))(x)),
        set(),
    ),
    "a Conv2D with two readers": (two_readers, set()),
    "an AveragePooling2D with two readers": (pooled_for_two, set()),
}


@pytest.mark.parametrize("name", BECOMING)
def test_it_becomes_int8_and_the_file_says_what_the_model_says(name):
    make, left = BECOMING[name]
    inputs = backend.keras().Input((8, 8, 3))
    x = make(layers().Conv2D(4, 3, padding="same", strides=2 if "Attention" in name else 1, name="first")(inputs))
    model = nets.randomized(backend.keras().Model(inputs, layers().Dense(10, name="logits")(layers().Flatten()(x))))
    assert planned(model)["odd"].treated, planned(model)["odd"]
    values = examples(8, 8, 3, count=EXAMPLES)
    quantized = tfopt.quantize_aware(model, random_data(inputs, values))
    artifact = tfopt.convert(quantized, "int8", io="float32")
    measured = tfopt.measure(artifact)
    assert {operation.kind for operation in measured.float_operations} == left
    assert {kernel.dtype for kernel in measured.kernels} == {"int8"}
    found = tfopt.runtime.Session(artifact).run(values)
    assert error(found, np.asarray(quantized(values, training=False))) < 0.1
    assert error(found, np.asarray(model(values, training=False))) < 0.2


def test_an_embeddings_table_becomes_int8_and_its_rows_are_what_they_were():
    inputs = backend.keras().Input((7,), dtype="int32")
    x = layers().Dense(8, activation="relu")(layers().Flatten()(layers().Embedding(20, 6, name="odd")(inputs)))
    model = nets.randomized(backend.keras().Model(inputs, layers().Dense(10)(x)))
    values = np.random.default_rng(0).integers(0, 20, (EXAMPLES, 7)).astype("int32")
    quantized = tfopt.quantize_aware(model, random_data(inputs, values), fit=tfopt.Fit(epochs=1, batch_size=32, learning_rate=1e-4))
    artifact = tfopt.convert(quantized, "int8", io="float32")
    measured = tfopt.measure(artifact)
    assert not measured.float_operations and [kernel.dtype for kernel in measured.kernels] == ["int8"] * 3
    found = tfopt.runtime.Session(artifact).run(values)
    assert error(found, np.asarray(quantized(values, training=False))) < 0.05
    assert error(found, np.asarray(model(values, training=False))) < 0.2


# What stays float


RECURRENT = {
    "LSTM": lambda: layers().LSTM(6, name="odd"),
    "LSTM, sequences": lambda: layers().LSTM(6, return_sequences=True, name="odd"),
    "GRU": lambda: layers().GRU(6, name="odd"),
    "Bidirectional LSTM": lambda: layers().Bidirectional(layers().LSTM(6), name="odd"),
}


@pytest.mark.parametrize("name", ["LSTM", *(pytest.param(name, marks=pytest.mark.slow) for name in RECURRENT if name != "LSTM")])
def test_a_recurrent_layer_stays_float_and_the_others_become_int8(name):
    inputs = backend.keras().Input((7, 4))
    x = layers().Conv1D(6, 3, padding="same", name="conv")(inputs)
    x = layers().Dense(8, activation="relu", name="dense")(layers().Flatten()(RECURRENT[name]()(x)))
    model = nets.randomized(backend.keras().Model(inputs, layers().Dense(10, name="logits")(x)))
    choices = planned(model)
    assert [name for name, choice in choices.items() if not choice.treated] == ["odd"]
    assert "recurrent: there is no quantization-aware training" in choices["odd"].reason
    assert ("after training" in choices["odd"].reason) == ("LSTM" in name)
    values = examples(7, 4, count=EXAMPLES)
    quantized = tfopt.quantize_aware(model, random_data(inputs, values), fit=tfopt.Fit(epochs=1, batch_size=32, learning_rate=1e-4))
    artifact = tfopt.convert(quantized, "int8", io="float32")
    kernels = [kernel.dtype for kernel in tfopt.measure(artifact).kernels]
    assert kernels.count("int8") == 3 and "float32" in kernels
    wanted = np.asarray(quantized(values[:20], training=False))
    assert error(np.concatenate([tfopt.runtime.Session(artifact).run(values[n : n + 1]) for n in range(20)]), wanted) < 0.1


REASONS = {
    "LayerNormalization": (lambda: layers().LayerNormalization(name="odd"), "in float: MEAN, SQUARED_DIFFERENCE"),
    "ELU": (lambda: layers().ELU(name="odd"), "in float: ELU"),
    "softplus": (lambda: layers().Activation("softplus", name="odd"), "the converter computes softplus in float"),
    "a dilated depthwise one": (lambda: layers().DepthwiseConv2D(3, dilation_rate=2, name="odd"), "between SPACE_TO_BATCH_ND"),
    "Lambda": (lambda: layers().Lambda(lambda t: t + 1.0, name="odd"), "TF-MOT can't quantize Lambda"),
}


@pytest.mark.parametrize("name", REASONS)
def test_the_reason_says_what_the_converter_does(name):
    make, reason = REASONS[name]
    choice = planned(nets.chain(layers().Conv2D(4, 3), make(), layers().Flatten(), layers().Dense(10)))["odd"]
    assert not choice.treated and reason in choice.reason


# The passes alone: no prediction changes


def test_attention_is_laid_open_without_a_change():
    x = backend.keras().Input((5, 8))
    y = layers().MultiHeadAttention(2, 4, value_dim=3, dropout=0.2, name="attention")(x, layers().Dense(6)(x))
    model = nets.randomized(backend.keras().Model(x, layers().MultiHeadAttention(3, 4, use_bias=False, output_shape=5)(y, y)))
    opened, changes = attending.attention_opened(model)
    assert len(changes) == 2 and "MultiHeadAttention" not in nets.kinds(opened) and nets.kinds(opened).count("Dropout") == 1
    assert same(model, opened, examples(5, 8))


def test_attention_with_a_mask_or_with_scores_is_left():
    x = backend.keras().Input((5, 8))
    attention = layers().MultiHeadAttention(2, 4)
    for call in ({"use_causal_mask": True}, {"return_attention_scores": True}):
        assert not attending.attention_opened(backend.keras().Model(x, attention(x, x, **call)))[1]
        plain = backend.keras().Model(x, layers().Attention()([x, x], **call))
        assert not attending.dot_attention_opened(plain)[1]


def test_an_attention_becomes_products_without_a_change():
    x, y = backend.keras().Input((5, 8)), backend.keras().Input((6, 8))
    z = layers().Attention(dropout=0.1)([x, y])
    model = nets.randomized(backend.keras().Model([x, y], layers().Attention()([z, layers().Dense(3)(y), y])))
    opened, changes = attending.dot_attention_opened(model)
    assert len(changes) == 2 and "Attention" not in nets.kinds(opened)
    assert same(model, opened, [examples(5, 8), examples(6, 8)])


def test_lstms_become_loops_without_a_change():
    k = layers()
    x = backend.keras().Input((7, 4))
    y = k.LSTM(5, return_sequences=True, go_backwards=True, recurrent_activation="hard_sigmoid")(x)
    y = k.Bidirectional(k.LSTM(4, return_sequences=True), merge_mode="sum")(y)
    y = k.Bidirectional(k.LSTM(4), backward_layer=k.GRU(3, go_backwards=True))(y)
    model = nets.randomized(backend.keras().Model(x, k.Dense(3)(y)))
    loops, changes = recurrent.lstms_as_loops(model)
    assert len(changes) == 3 and same(model, loops, examples(7, 4))


@pytest.mark.parametrize("merge", ["Add", "Multiply", "Average", "Maximum", "Minimum"])
@pytest.mark.parametrize("count", [2, 3, 4])
def test_what_merges_several_merges_two_without_a_change(merge, count):
    x = backend.keras().Input((6, 4))
    tensors = [layers().Dense(4)(x) for _ in range(count)]
    model = nets.randomized(backend.keras().Model(x, getattr(layers(), merge)(name="merge")(tensors)))
    pairs, changes = merging.in_pairs(model)
    assert bool(changes) == (count > 2 or merge in ("Average", "Maximum", "Minimum"))
    assert same(model, pairs, examples(6, 4))
    assert all(len(layer.input) == 2 for layer in pairs.layers if isinstance(getattr(layer, "input", None), list) and changes)


def test_a_dilated_convolution_becomes_one_operation_without_a_change():
    tf = backend.tensorflow()
    model = nets.chain(
        layers().Conv2D(4, 3, dilation_rate=2, activation=tf.nn.relu6), layers().Conv2D(4, 3, padding="same", dilation_rate=(1, 2))
    )
    direct, changes = dilating.dilated_as_direct(model)
    assert len(changes) == 2 and same(model, direct, examples(8, 8, 3))


def test_layers_of_tfopts_own_survive_saving(tmp_path):
    inputs = backend.keras().Input((8, 8, 3))
    x = layers().Reshape((16, 4))(layers().Conv2D(4, 3, dilation_rate=2)(inputs))
    x = layers().MultiHeadAttention(2, 4)(x, x)
    model = nets.randomized(backend.keras().Model(inputs, layers().Dense(10)(layers().Flatten()(x))))
    values = examples(8, 8, 3, count=EXAMPLES)
    quantized = tfopt.quantize_aware(model, random_data(inputs, values))
    loaded = tfopt.load(tfopt.save(quantized, tmp_path / "final.h5"))
    assert np.array_equal(loaded(values), quantized(values))
