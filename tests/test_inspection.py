"""inspect: what it says of Keras models, .tflite files and SavedModels is what is in them."""

from __future__ import annotations

import dataclasses
import importlib
import json
import random
import re
import subprocess
import sys
from pathlib import Path

import nets
import numpy as np
import pytest
from typer.testing import CliRunner

import tfopt
from tfopt import _inspections, backend, bridge, cli, conversion, measures, runtime, techniques
from tfopt.errors import ArtifactError, UnsupportedModel

ROOT = Path(__file__).resolve().parents[1]


def layers_of(found):
    return {layer.name: layer for layer in found.layers}


def command(*arguments):
    return CliRunner().invoke(cli.app, ["inspect", *map(str, arguments)])


# Keras models: multiply-accumulates are those of the .tflite


def mobilenet():
    return backend.keras().applications.MobileNetV2(input_shape=(96, 96, 3), weights=None, alpha=0.35)


def backbone():
    """A nested model whose own size is free, called on images of one size."""
    keras = backend.keras()
    layers = keras.layers
    inputs = keras.Input((None, None, 3))
    x = layers.Conv2D(8, 3, strides=2, padding="same", name="first")(inputs)
    x = layers.Add()([layers.Conv2D(8, 1)(x), layers.DepthwiseConv2D(3, padding="same")(x) * 2.0])
    features = keras.Model(inputs, layers.ZeroPadding2D()(x), name="features")
    images = keras.Input((16, 12, 3))
    return keras.Model(images, layers.Dense(5)(layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3)(features(images)))))


def recurrent():
    layers = backend.keras().layers
    return backend.keras().Sequential(
        [
            layers.Bidirectional(layers.LSTM(6, return_sequences=True), input_shape=(10, 5)),
            layers.TimeDistributed(layers.Dense(4)),
            layers.LSTM(3),
            layers.Dense(4, activation="softmax"),
        ]
    )


def convolutions():
    layers = backend.keras().layers
    return backend.keras().Sequential(
        [
            layers.SeparableConv2D(8, 3, depth_multiplier=2, input_shape=(16, 16, 3)),
            layers.Conv2DTranspose(4, 3, strides=2),
            layers.DepthwiseConv2D(3, depth_multiplier=2),
            layers.Conv2D(6, 3, groups=2, strides=2),
            layers.BatchNormalization(),
            layers.Dense(5),
            layers.LocallyConnected2D(2, 7),
            layers.GlobalAveragePooling2D(),
            layers.Dense(3),
        ]
    )


def sequences():
    layers = backend.keras().layers
    return backend.keras().Sequential(
        [
            layers.Conv1D(8, 3, padding="causal", input_shape=(20, 6)),
            layers.SeparableConv1D(6, 3),
            layers.DepthwiseConv1D(3, strides=2),
            layers.EinsumDense("abc,cde->abde", output_shape=(None, 2, 5)),
            layers.Flatten(),
            layers.Dense(2),
        ]
    )


def volumes():
    layers = backend.keras().layers
    return backend.keras().Sequential([layers.Conv3D(4, 3, input_shape=(6, 8, 8, 2)), layers.Conv3DTranspose(3, 2)])


def attention():
    keras, tf = backend.keras(), backend.tensorflow()
    layers = keras.layers
    query, value = keras.Input((7, 12)), keras.Input((5, 12))
    x = layers.MultiHeadAttention(2, 5, value_dim=3)(query, value)
    x = layers.LayerNormalization()(layers.Attention()([x, value]))
    x = layers.AdditiveAttention()([x, value])
    return keras.Model([query, value], [layers.Dot(axes=2)([x, query]), tf.matmul(x, value, transpose_b=True)])


def keras3_model():
    """Layers and operations that the bridge carries as they are, since Keras 2 has none like them."""
    keras = bridge.keras3()
    x = keras.Input((6, 8), batch_size=1)  # a free one would leave the file's products open
    y = keras.layers.GroupQueryAttention(4, 4, 2)(x, x)
    y = keras.layers.RMSNormalization()(keras.ops.matmul(y, keras.ops.transpose(x, (0, 2, 1))))
    return keras.Model(x, keras.layers.Dense(3)(keras.ops.einsum("abc,acd->abd", y, x)))


@pytest.mark.parametrize(
    "build",
    [
        pytest.param(mobilenet, marks=pytest.mark.slow),
        backbone,
        recurrent,
        convolutions,
        sequences,
        volumes,
        attention,
        nets.branching,
        keras3_model,
    ],
)
def test_macs_are_those_of_the_float32_file(build):
    model = bridge.plain(build())
    found = tfopt.inspect(nets.randomized(model))
    measured = measures.measure(tfopt.convert(model))
    assert (found.macs, found.uncounted) == (measured.macs, measured.uncounted)
    assert found.macs == sum(layer.macs for layer in found.layers) > 0


@pytest.mark.parametrize(
    ("model", "file", "macs"),
    [
        ("image_classification/pretrainedResnet.h5", "image_classification/pretrainedResnet.tflite", 12_501_632),
        ("keyword_spotting/kws_ref_model", "keyword_spotting/kws_ref_model.tflite", 2_656_768),
    ],
)
def test_published_models_and_their_files_agree(model, file, macs, models_folder):
    found = tfopt.inspect(models_folder(f"mlperf_tiny/{model}"))
    assert found.kind == "keras"
    assert found.macs == tfopt.inspect(models_folder(f"mlperf_tiny/{file}")).macs == macs


@pytest.mark.parametrize(("kind", "gates"), [("SimpleRNN", 1), ("GRU", 3)])
def test_recurrent_layers_that_become_loops_are_counted_by_the_formula(kind, gates):
    keras = backend.keras()
    cell = getattr(keras.layers, kind)(4, name="cell")
    found = tfopt.inspect(keras.Sequential([keras.Input((5, 3)), keras.layers.Bidirectional(cell)]))
    assert found.macs == 2 * 5 * gates * 4 * (3 + 4)


def test_a_convolutional_lstm_is_counted_by_the_formula():
    keras = backend.keras()
    found = tfopt.inspect(keras.Sequential([keras.Input((5, 8, 8, 2)), keras.layers.ConvLSTM2D(4, 3, return_sequences=True)]))
    assert found.macs == 5 * 6 * 6 * 9 * 4 * 4 * (2 + 4)


# Keras models: the table


def test_the_table_has_every_layer_with_its_numbers():
    model = nets.randomized(nets.branching())
    before = [weight.copy() for weight in model.get_weights()]
    config = model.to_json()
    found = tfopt.inspect(model)
    assert all(map(np.array_equal, before, model.get_weights())) and model.to_json() == config
    layers = layers_of(found)
    assert layers["conv"].output_shapes == ((None, 8, 8, 8),)
    assert (layers["conv"].parameters, layers["conv"].bytes, layers["conv"].macs, layers["conv"].calls) == (80, 320, 8 * 8 * 8 * 9, 1)
    assert (layers["inner/point"].parameters, layers["inner/point"].macs, layers["inner/point"].calls) == (72, 2 * 64 * 64, 2)
    assert (layers["bn"].parameters, layers["bn"].macs) == (32, 0)
    assert found.parameters == model.count_params() == sum(layer.parameters for layer in found.layers)
    assert found.bytes == 4 * found.parameters
    assert found.trainable_parameters == found.parameters - 2 * 8 - 2 * 16  # two BatchNormalizations' statistics
    printed = str(found)
    assert re.search(r"^conv +Conv2D +\?x8x8x8 +80 +4,608 +320$", printed, re.MULTILINE)
    assert re.search(r"^inner/point \(called 2 times\) +Conv2D ", printed, re.MULTILINE)
    assert re.search(rf"^total +{found.parameters:,} +{found.macs:,} +{found.bytes:,}$", printed, re.MULTILINE)


def test_a_shared_layers_weights_count_once_in_the_total_and_its_macs_each_time():
    keras = backend.keras()
    shared = keras.layers.Dense(4, name="shared")
    first, second = keras.Input((3,)), keras.Input((3,))
    found = tfopt.inspect(keras.Model([first, second], keras.layers.Add()([shared(first), shared(second)])))
    assert (found.parameters, found.macs, layers_of(found)["shared"].calls) == (16, 24, 2)


def test_what_can_t_be_known_is_never_counted_as_nothing():
    keras, tf = backend.keras(), backend.tensorflow()

    class Mine(keras.layers.Layer):
        def call(self, x):
            return tf.matmul(x, x, transpose_b=True)

    x = keras.Input((None, 4))
    y = keras.layers.Dense(4, name="free")(x)
    z = keras.layers.Lambda(lambda t: t @ t[0, :4], name="lambda")(keras.layers.Reshape((6, 4))(y))
    found = tfopt.inspect(keras.Model(x, Mine(name="mine")(keras.layers.Dense(3, name="fixed")(z))))
    macs = [layer.macs for layer in found.layers]
    assert [layer.kind for layer in found.layers] == ["Dense", "Reshape", "Lambda", "Dense", "Mine"]
    assert macs == [None, 0, None, 6 * 4 * 3, None]
    assert found.uncounted == ("free", "lambda", "mine")
    assert re.search(r"^mine +Mine +.* \? ", str(found), re.MULTILINE)
    assert re.search(r"^total .* 72\+ ", str(found), re.MULTILINE)
    assert "leave out what can't be known: free, lambda, mine" in str(found)


def test_a_layer_of_a_users_class_that_computes_as_its_parent_is_counted():
    keras = backend.keras()

    class Mine(keras.layers.Dense):
        pass

    assert tfopt.inspect(keras.Sequential([keras.Input((4,)), Mine(5)])).macs == 20


def test_a_subclassed_model_shows_its_layers_and_that_nothing_can_be_done():
    keras, tf = backend.keras(), backend.tensorflow()

    class Mine(keras.Model):
        def __init__(self):
            super().__init__(name="mine")
            self.dense = keras.layers.Dense(3, name="dense")

        def call(self, x):
            return self.dense(x)

    model = Mine()
    with pytest.raises(UnsupportedModel, match=r"'mine' is not built yet.*call it once"):
        tfopt.inspect(model)
    model(tf.zeros((1, 4)))
    found = tfopt.inspect(model)
    assert (found.parameters, layers_of(found)["dense"].macs, found.uncounted) == (15, None, ("dense",))
    assert all("is a subclassed model" in plan.problem for plan in found.plans)
    assert "prune: can't work on this model: 'mine' is a subclassed model" in str(found)


# Plans


def test_plans_are_those_of_the_techniques():
    model = nets.randomized(nets.odd())
    found = tfopt.inspect(model)
    assert {plan.technique: plan.choices for plan in found.plans} == {name: plan(model) for name, plan in techniques.PLANS.items()}


def test_plans_are_printed_by_reason():
    choices = [("a", True, "8 bits"), ("b", False, "has no weights"), ("bn", True, "folded into a"), ("c", True, "8 bits")]
    choices += [("bn2", True, "folded into c"), ("d", False, "has no weights")]
    plan = _inspections.Plan("shrink", tuple(tfopt.Choice(*choice) for choice in choices), None)
    found = dataclasses.replace(tfopt.inspect(nets.sequential()), plans=(plan,))
    assert str(found).endswith(
        "\n\nshrink: would treat 4 of 6 layers\n  8 bits: a, c\n  folded into LAYER: bn (a), bn2 (c)\n  left alone, has no weights: b, d"
    )


def test_a_technique_that_can_do_nothing_says_what_it_would_raise(digits):
    quantized = tfopt.quantize_aware(nets.randomized(nets.sequential()), digits)
    found = tfopt.inspect(quantized)
    with pytest.raises(UnsupportedModel) as refused:
        tfopt.prune(quantized)
    assert _inspections.Plan("prune", (), str(refused.value)) in found.plans
    assert layers_of(found)["quant_conv"].macs == 6 * 6 * 8 * 9


# .tflite files


@pytest.mark.parametrize(
    ("file", "warning"),
    [
        ("keyword_spotting/kws_ref_model_float32.tflite", "the name says 'float32', but its kernels hold int8 (5), float32 (5), and its "
         "operations put out float32 (13)"),
        ("keyword_spotting/kws_ref_model.tflite", None),
        ("image_classification/pretrainedResnet.tflite", None),
        ("image_classification/pretrainedResnet_quant.tflite", None),
    ],
)  # fmt: skip
def test_a_name_that_promises_something_else_is_told(file, warning, models_folder):
    found = tfopt.inspect(models_folder(f"mlperf_tiny/{file}"))
    assert found.warnings == (() if warning is None else (warning,))
    assert ("WARNING: " in str(found)) == (warning is not None)


@pytest.fixture(scope="module")
def files(digits):
    """One net in each format. Its kernels are large enough for dynamic to make them int8."""
    keras = backend.keras()
    layers = keras.layers
    model = keras.Sequential(
        [
            layers.Conv2D(16, 3, padding="same", activation="relu", input_shape=(8, 8, 1), name="conv"),
            layers.DepthwiseConv2D(9, padding="same", activation="relu", name="depthwise"),
            layers.AveragePooling2D(name="average"),
            layers.Flatten(name="flatten"),
            layers.Dense(10, name="logits"),
        ],
        name="net",
    )
    nets.randomized(model)
    return {format: tfopt.convert(model, format, data=digits) for format in conversion.FORMATS}


@pytest.mark.parametrize(
    ("name", "format", "kept"),
    [
        ("net-float32", "float32", True),
        ("net-fp32", "dynamic", False),
        ("net-f32", "int8", False),
        ("net-float16", "float16", True),
        ("net_fp16", "float32", False),
        ("net-int8", "int8", True),
        ("net.INT8.v2", "float32", False),
        ("net-int8", "dynamic", False),  # its weights are, but it computes in float32
        ("net-dynamic", "dynamic", True),
        ("net_quant", "int8", True),
        ("net_quant", "float16", False),
        ("net-int4", "int8", False),
        ("net-float32-quant", "dynamic", True),  # quantized, float32 at its borders
        ("print8", "float32", True),  # no word of its own
        ("net-int8-float32", "int8", False),  # it takes and gives int8
        ("net", "int8", True),
    ],
)
def test_names_are_held_against_the_content(name, format, kept, files, tmp_path):
    path = tmp_path / f"{name}.tflite"
    path.write_bytes(files[format].content)
    assert (tfopt.inspect(path).warnings == ()) is kept
    assert tfopt.inspect(files[format].content).warnings == ()  # bytes have no name


def test_the_second_word_of_a_quantized_files_name_speaks_of_its_borders(digits):
    keras = backend.keras()
    model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(10)])
    artifact = tfopt.convert(nets.randomized(model), "int8", io="float32", data=digits)
    assert artifact.name.endswith("int8-float32")
    assert tfopt.inspect(artifact).warnings == ()


def test_an_artifacts_format_is_held_against_its_content_too(files):
    assert all(tfopt.inspect(artifact).warnings == () for artifact in files.values())
    wrong = tfopt.Artifact("net", "int8", files["float32"].content)
    assert tfopt.inspect(wrong).warnings == (
        "the name says 'int8', but its kernels hold float32 (3), and its operations put out float32 (5)",
    )


def test_operations_have_their_shapes_dtypes_and_macs(files):
    found = tfopt.inspect(files["int8"])
    measured = measures.measure(files["int8"])
    assert [(o.kind, o.dtype, o.weights) for o in found.operations] == [(o.kind, o.dtype, o.weights) for o in measured.operations]
    assert [o.macs for o in found.operations] == [8 * 8 * 16 * 9, 8 * 8 * 16 * 81, 0, 0, 256 * 10]
    assert found.macs == measured.macs == sum(o.macs for o in found.operations)
    assert found.operations[0].shape == (None, 8, 8, 16)
    assert (found.bytes, found.gzip_bytes, found.parameters, found.sparsity) == (
        measured.bytes, measured.gzip_bytes, measured.parameters, measured.sparsity
    )  # fmt: skip


def test_which_kernels_are_quantized_per_channel_is_read_from_the_scales(files):
    conv, depthwise, *_, dense = tfopt.inspect(files["int8"]).operations
    assert (conv.scales, conv.quantized_dimension) == (16, 0)
    assert (depthwise.scales, depthwise.quantized_dimension) == (16, 3)
    assert (dense.scales, dense.quantized_dimension) == _scales_in_the_interpreter(files["int8"], dense)
    assert {o.scales for o in tfopt.inspect(files["float32"]).operations} == {0, None}
    printed = str(tfopt.inspect(files["int8"]))
    assert "per channel (16 along 0)" in printed and "per channel (16 along 3)" in printed


def _scales_in_the_interpreter(artifact, operation):
    module = importlib.import_module("ai_edge_litert.interpreter")
    interpreter = module.Interpreter(model_content=artifact.content)
    node = interpreter._get_ops_details()[operation.index]
    kernel = interpreter._get_tensor_details(int(node["inputs"][1]), 0)["quantization_parameters"]
    return len(kernel["scales"]), (kernel["quantized_dimension"] if len(kernel["scales"]) > 1 else None)


def test_every_tensor_has_its_real_dtype_and_bytes(files):
    found = tfopt.inspect(files["dynamic"])
    by_dtype = {row.dtype: row for row in found.dtypes}
    assert by_dtype["int8"].constant_bytes == 9 * 9 * 16 + 256 * 10  # the first kernel is too small for dynamic
    assert by_dtype["int8"].activations == 0
    assert by_dtype["float32"].activation_bytes == 4 * (64 + 2 * 8 * 8 * 16 + 2 * 256 + 10)
    assert sum(row.constants + row.activations for row in found.dtypes) == len(found.tensors)
    assert sum(row.constant_bytes for row in found.dtypes) < found.bytes


# What XNNPACK takes


def test_a_float_net_is_all_taken_and_what_is_left_is_named(files):
    found = tfopt.inspect(files["float32"]).coverage
    assert (found.taken, found.operations, found.parts, found.fallbacks, found.problem) == (5, 5, 1, (), None)
    assert found.runtime == runtime.version() and found.machine
    int8 = tfopt.inspect(files["int8"])
    assert [fallback.kind for fallback in int8.coverage.fallbacks] == ["AVERAGE_POOL_2D"]  # of LiteRT 2.3.0
    assert [o.part for o in int8.operations] == [0, 0, None, 1, 1]
    assert int8.coverage.taken + len(int8.coverage.fallbacks) == int8.coverage.operations
    assert re.search(r"^2 +AVERAGE_POOL_2D .* the interpreter$", str(int8), re.MULTILINE)


def test_what_the_file_shows_of_the_reason_is_said():
    keras = backend.keras()
    found = tfopt.inspect(tfopt.convert(keras.Sequential([keras.Input((5, 3)), keras.layers.GRU(4), keras.layers.Dense(2)])))
    assert ("WHILE", "runs other graphs") in {(fallback.kind, fallback.reason) for fallback in found.coverage.fallbacks}
    assert found.uncounted == ("WHILE",)
    assert next(o for o in found.operations if o.kind == "WHILE").macs is None
    assert {o.graph for o in found.operations} == {0, 1, 2}
    x = keras.Input((6,))
    embedded = keras.layers.Embedding(9, 4)(x)
    found = tfopt.inspect(tfopt.convert(keras.Model(x, keras.layers.Dense(2)(keras.layers.Flatten()(embedded)))))
    reasons = {fallback.kind: fallback.reason for fallback in found.coverage.fallbacks}
    assert reasons["CAST"] == "puts out int32" and reasons["GATHER"] == "reads int32 that is computed while it runs"


def test_a_file_that_this_runtime_can_t_run_is_still_inspected(files):
    content = bytearray(files["float32"].content)
    schema = importlib.import_module("ai_edge_litert.schema_py_generated")
    flatbuffers = importlib.import_module("flatbuffers")
    model = schema.ModelT.InitFromPackedBuf(bytes(content), 0)
    code = next(code for code in model.operatorCodes if code.builtinCode == schema.BuiltinOperator.AVERAGE_POOL_2D)
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
    code.customCode = b"Mine"
    builder = flatbuffers.Builder(0)
    builder.Finish(model.Pack(builder), b"TFL3")
    found = tfopt.inspect(bytes(builder.Output()))
    assert "CUSTOM Mine" in [o.kind for o in found.operations]
    assert "can't run it" in found.coverage.problem and "Mine" in found.coverage.problem
    assert {o.part for o in found.operations} == {None}
    assert "XNNPACK      not known: " in str(found)


# Activation memory


def test_activation_memory_is_that_of_the_lifetimes(files):
    found = tfopt.inspect(files["float32"])
    assert found.memory.live_bytes == 4 * (64 + 2 * 8 * 8 * 16)  # the input stays; the depthwise convolution's input and output
    assert tfopt.inspect(files["int8"]).memory.live_bytes == 64 + 2 * 8 * 8 * 16
    assert tfopt.inspect(files["float16"]).memory == found.memory  # widened weights are no activations
    assert found.memory.computed and "computed from the tensors' lifetimes, not measured" in str(found)


def test_activation_memory_is_where_the_interpreter_puts_it():
    """On a net whose kernels need no scratch memory and do nothing in place."""
    keras = backend.keras()
    layers = keras.layers
    x = keras.Input((12, 12, 8))
    wide = layers.Conv2D(24, 1, name="wide")(x)
    deep = layers.DepthwiseConv2D(3, strides=2, name="deep")(wide)
    small = layers.MaxPooling2D(2, name="small")(wide)
    both = layers.Concatenate(name="both")([layers.Conv2D(6, 1, name="a")(deep), layers.Cropping2D(((1, 0), (0, 1)), name="b")(small)])
    artifact = tfopt.convert(nets.randomized(keras.Model(x, layers.Conv2D(3, 1, name="end")(both))))
    memory = tfopt.inspect(artifact).memory
    module = importlib.import_module("ai_edge_litert.interpreter")
    resolver = module.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = module.Interpreter(model_content=artifact.content, experimental_op_resolver_type=resolver)
    interpreter.allocate_tensors()
    activations = [t.index for t in tfopt.inspect(artifact).tensors if not t.constant]
    arrays = [interpreter.tensor(index)() for index in activations]
    starts = [array.__array_interface__["data"][0] for array in arrays]
    ends = [start + array.nbytes for start, array in zip(starts, arrays, strict=True)]
    assert memory.arena_bytes == max(ends) - min(starts)
    assert memory.live_bytes <= memory.arena_bytes


def test_what_is_folded_into_the_batch_takes_its_memory():
    keras = backend.keras()
    layers = keras.layers
    x = keras.Input((7, 8, 8, 3))
    model = keras.Model(x, layers.TimeDistributed(layers.Conv2D(4, 3))(x))
    memory = tfopt.inspect(tfopt.convert(model)).memory
    assert memory.live_bytes >= 4 * 7 * (8 * 8 * 3 + 6 * 6 * 4)


def test_memory_that_free_dimensions_leave_open_is_unknown():
    keras = backend.keras()
    model = keras.Sequential([keras.Input((None, None, 3)), keras.layers.Conv2D(4, 3), keras.layers.GlobalAveragePooling2D()])
    found = tfopt.inspect(tfopt.convert(model))
    assert (found.memory.live_bytes, found.memory.arena_bytes) == (None, None)
    assert found.uncounted == ("CONV_2D",)
    assert "unknown: shapes that are known only when it runs" in str(found)


# SavedModels


def test_a_saved_model_without_layers_shows_its_signature_and_operations(tmp_path):
    tf = backend.tensorflow()

    class Mine(tf.Module):
        def __init__(self):
            super().__init__()
            self.kernel = tf.Variable(tf.random.normal((4, 3)))

        @tf.function(input_signature=[tf.TensorSpec((None, 4), tf.float32, name="x")])
        def __call__(self, x):
            return {"y": tf.nn.relu(tf.nn.relu(x) @ self.kernel)}

    mine = Mine()
    tf.saved_model.save(mine, tmp_path / "saved", signatures={"serving_default": mine.__call__})
    found = tfopt.inspect(tmp_path / "saved")
    assert (found.signature, found.inputs[0].shape, found.outputs[0].name) == ("serving_default", (None, 4), "y")
    counts = {one.kind: one.count for one in found.operations}
    assert (counts["MatMul"], counts["Relu"]) == (1, 2)
    assert found.bytes == sum(path.stat().st_size for path in (tmp_path / "saved").rglob("*") if path.is_file())
    assert "no technique can treat it" in str(found) and found.reason in str(found)
    done = command(tmp_path / "saved", "--json")
    assert json.loads(done.stdout) == found.as_dict()


# The command


def test_json_is_one_document_with_all_of_it(files, tmp_path):
    path = files["int8"].save(tmp_path)
    done = command(path, "--json")
    assert done.exit_code == 0
    told = json.loads(done.stdout)
    assert told == json.loads(json.dumps(tfopt.inspect(path).as_dict()))
    assert told["kind"] == "tflite" and told["operations"][0]["kind"] == "CONV_2D" and told["tensors"][0]["shape"] == [None, 8, 8, 1]
    model = nets.sequential()
    tfopt.save(model, tmp_path / "model.h5")
    told = json.loads(command(tmp_path / "model.h5", "--json").stdout)
    assert (told["kind"], told["macs"]) == ("keras", 6 * 6 * 8 * 9 + 288 * 10)
    plans = {plan["technique"]: plan for plan in told["plans"]}
    assert plans["prune"]["choices"][0] == {"layer": "conv", "treated": True, "reason": "prunes kernel"}


def test_the_command_prints_the_table_and_loads_no_tensorflow_for_a_file(files, tmp_path):
    path = files["int8"].save(tmp_path)
    code = f"""
import sys
from tfopt import cli
sys.argv = ["tfopt", "inspect", {str(path)!r}]
try:
    cli.main()
except SystemExit as end:
    assert not end.code, end.code
assert "tensorflow" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{tfopt.inspect(path)}\n"
    assert done.stderr == ""
    assert "\x1b" not in done.stdout


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.tflite", None, "none.tflite: no such file"),
        ("none.keras", None, "none.keras: no such file"),
        ("empty.tflite", b"", "empty.tflite: is empty"),
        ("text.tflite", b"no flatbuffer at all", "text.tflite: is no .tflite file"),
        ("cut.tflite", b"\x1c\0\0\0TFL3 and no more", "cut.tflite: the file is damaged"),
        ("text.keras", b"no zip at all", "text.keras"),
        ("folder", "folder", "folder"),
    ],
)
def test_bad_input_ends_in_one_sentence(name, content, message, tmp_path):
    path = tmp_path / name
    if content == "folder":
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)
    done = command(path)
    assert done.exit_code == 1
    assert done.stdout == ""
    assert message in done.stderr and done.stderr.startswith("tfopt: ") and "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_code_in_a_model_file_runs_only_when_it_is_trusted(tmp_path):
    tfopt.save(nets.odd(), tmp_path / "odd.h5")
    refused = command(tmp_path / "odd.h5")
    assert (refused.exit_code, refused.stdout) == (1, "") and "--trust" in refused.stderr
    trusted = command(tmp_path / "odd.h5", "--trust")
    assert trusted.exit_code == 0
    assert re.search(r"^lambda +Lambda +.* \? ", trusted.stdout, re.MULTILINE)


def test_an_unknown_option_is_a_usage_error():
    assert command("x.tflite", "--jsno").exit_code == 2


def test_damaged_files_are_refused_or_inspected_and_nothing_else(files, monkeypatch):
    monkeypatch.setattr(runtime.Session, "delegated", lambda session: ())  # the runtime itself may die of what it is given
    monkeypatch.setattr(runtime.Session, "__init__", lambda session, source: None)
    content, chance, refused = files["int8"].content, random.Random(0), 0
    for _ in range(150):
        damaged = bytearray(content)
        damaged[chance.randrange(8, len(content))] = chance.randrange(256)
        try:
            str(tfopt.inspect(bytes(damaged)))
        except ArtifactError:
            refused += 1
    assert refused


# The page


def test_the_page_has_every_key():
    page = (ROOT / "docs" / "inspecting.md").read_text(encoding="utf-8")
    kinds = [_inspections.KerasInspection, _inspections.SavedModelInspection, _inspections.FileInspection]
    kinds += [_inspections.Layer, _inspections.Plan, _inspections.Port, _inspections.FileOperation, _inspections.FileTensor]
    kinds += [_inspections.Dtypes, _inspections.Coverage, _inspections.Fallback, _inspections.Memory, _inspections.OperationCount]
    missing = [f"{kind.__name__}.{field.name}" for kind in kinds for field in dataclasses.fields(kind) if f"`{field.name}`" not in page]
    assert missing == []


def test_a_model_in_which_a_shape_got_lost_is_shown():
    keras, tf = backend.keras(), backend.tensorflow()
    inputs = keras.Input((8, 8, 1))
    x = tf.ensure_shape(tf.squeeze(keras.layers.GlobalAveragePooling2D(keepdims=True)(inputs)), [None])
    model = keras.Model(inputs, keras.layers.Dense(10, name="dense")(tf.expand_dims(x, -1)))
    text = str(tfopt.inspect(model))
    assert "tf.compat.v1.squeeze" in text and "prunes kernel: dense" in text
