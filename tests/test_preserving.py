"""quantize_aware: its options, and what it keeps of what prune and cluster left: to the last byte of the file."""

from __future__ import annotations

import nets
import numpy as np
import pytest
from nets import layers

import tfopt
from tfopt import backend
from tfopt.errors import OptionError, RecipeError
from tfopt.techniques import quantization
from tfopt.types import Fit, Step

FIT = Fit(epochs=2, batch_size=256, learning_rate=3e-3)
SLOW = pytest.mark.slow
COMPUTING = ("CONV_2D", "FULLY_CONNECTED")


def kernels(artifact, ops=COMPUTING):
    return [kernel for kernel in tfopt.measure(artifact).kernels if kernel.op in ops]


@pytest.mark.parametrize(
    "per_channel, fit", [(True, None), *(pytest.param(*p, marks=SLOW) for p in ((False, FIT), (False, None), (True, FIT)))]
)
def test_zeros_and_shared_values_survive_to_the_last_byte(digits, fit, per_channel):
    shrink = tfopt.chain(
        Step("prune", {"sparsity": 0.6, "fit": fit}),
        Step("cluster", {"clusters": 6, "per_channel": per_channel, "fit": fit}),
        Step("quantize_aware", {"fit": fit}),
    )
    artifact = tfopt.convert(shrink(nets.randomized(nets.branching()), digits), "int8")
    found = kernels(artifact)
    assert len(found) == 4 and all(kernel.dtype == "int8" for kernel in found)
    assert all(max(kernel.distinct) <= 6 for kernel in found), [kernel.distinct for kernel in found]
    assert all(np.mean(kernel.zeros) >= 0.59 for kernel in found)


@pytest.mark.parametrize("fit", [None, pytest.param(FIT, marks=SLOW)], ids=["data-free", "trained"])
def test_only_what_is_asked_for_is_kept(digits, fit):
    small = tfopt.cluster(tfopt.prune(nets.randomized(nets.branching()), sparsity=0.6), clusters=6)
    files = {p: tfopt.convert(tfopt.quantize_aware(small, digits, preserve=p, fit=fit), "int8") for p in ("auto", "zeros", "nothing")}
    zeros = {name: tfopt.measure(file).sparsity for name, file in files.items()}
    values = {name: max(max(kernel.distinct) for kernel in kernels(file)) for name, file in files.items()}
    assert zeros["auto"] == pytest.approx(zeros["zeros"], abs=0.02) and values["auto"] <= 6 < values["zeros"]
    assert fit is None or zeros["nothing"] < zeros["zeros"] - 0.1
    sizes = [tfopt.measure(files[name]).gzip_bytes for name in ("auto", "zeros")]
    assert sizes[0] < sizes[1]


def test_a_kernel_of_few_values_has_one_scale_for_all_channels(digits):
    """With a scale a channel the same value is another integer in each, which compresses worse."""
    model = tfopt.cluster(nets.randomized(nets.sequential()), clusters=5)
    measured = {}
    for preserve in ("auto", "nothing"):
        artifact = tfopt.convert(tfopt.quantize_aware(model, digits, preserve=preserve), "int8")
        conv = next(kernel for kernel in kernels(artifact) if kernel.op == "CONV_2D")
        measured[preserve] = sum(conv.distinct)
        assert max(conv.distinct) <= 5
    plan = {choice.layer: choice.reason for choice in tfopt.techniques.PLANS["quantize_aware"](model)}
    assert plan["conv"] == "8 bits; keeps its 5 values"


def test_the_plan_says_what_is_kept():
    pruned = tfopt.prune(nets.randomized(nets.branching()), sparsity=0.75)
    plans = {p: {c.layer: c.reason for c in tfopt.techniques.PLANS["quantize_aware"](pruned, preserve=p)} for p in ("auto", "nothing")}
    assert plans["auto"]["dense"] == "8 bits; keeps its zeros (75%)" and plans["nothing"]["dense"] == "8 bits"


@pytest.mark.parametrize(
    "bits, per_axis, fit",
    [
        (4, True, FIT),
        (8, False, None),
        *(pytest.param(*each, marks=SLOW) for each in ((4, True, None), (4, False, FIT), (4, False, None), (8, False, FIT))),
    ],
)
def test_weights_of_the_asked_for_bits_reach_the_file(digits, fit, bits, per_axis, tmp_path):
    model = nets.randomized(nets.branching())
    quantized = tfopt.quantize_aware(model, digits, weight_bits=bits, per_axis=per_axis, fit=fit)
    artifact = tfopt.convert(tfopt.load(tfopt.save(quantized, tmp_path / "final.h5")), "int8")  # as a run does it
    found = kernels(artifact, (*COMPUTING, "DEPTHWISE_CONV_2D"))
    stored = {kernel.dtype for kernel in found if kernel.shape != (8, 1, 1, 8)}  # of a layer that is called twice: kept in bytes
    assert stored == {f"int{bits}"}
    assert all(max(kernel.distinct) <= 2**bits - 1 for kernel in found)
    assert not tfopt.measure(artifact).float_operations
    assert tfopt.verify(artifact, against=quantized, data=digits).agreement > 0.9


def test_four_bits_make_the_file_smaller(digits):
    model = nets.randomized(nets.branching())
    files = [tfopt.convert(tfopt.quantize_aware(model, digits, weight_bits=bits), "int8") for bits in (8, 4)]
    assert len(files[1].content) < len(files[0].content) - 2000  # dense alone has 4,096 weights


def test_frozen_layers_stay_frozen(digits, tmp_path):
    """TF-MOT's wrapper lists a kernel as trainable whatever the layer inside it says."""
    model = nets.randomized(nets.branching())
    for name in ("conv", "bn", "dense"):
        model.get_layer(name).trainable = False
    quantized = tfopt.quantize_aware(model, digits, fit=FIT)
    after = {w.name: w.numpy() for w in quantized.weights}
    for name in ("conv/kernel:0", "conv/bias:0", "bn/gamma:0", "bn/moving_mean:0", "dense/bias:0"):
        before = next(w.numpy() for w in model.weights if w.name == name)
        assert np.array_equal(after[name], before) or name == "dense/bias:0", name  # lone_bn is folded into dense
    assert np.abs(after["logits/kernel:0"] - model.get_layer("logits").kernel.numpy()).max() > 1e-3
    images = np.stack([x for x, _ in digits.test.take(8).as_numpy_iterator()])
    again = tfopt.load(tfopt.save(quantized, tmp_path / "frozen.h5"))
    assert np.array_equal(again(images), quantized(images))


@pytest.mark.parametrize("share, moves", [(0.0, False), (0.75, True)])
def test_batch_norms_statistics_are_frozen_for_the_last_quarter(digits, monkeypatch, share, moves):
    monkeypatch.setattr(quantization, "_FREEZING", share)
    monkeypatch.setattr(quantization, "max", lambda *values: values[1], raising=False)  # from the very first step
    model = nets.randomized(nets.branching())
    quantized = tfopt.quantize_aware(model, digits, fit=FIT)
    norm = next(layer for layer in quantized.layers if layer.name == "quant_bn")
    moved = np.abs(norm.layer.moving_mean.numpy() - model.get_layer("bn").moving_mean.numpy()).max() > 1e-6
    assert moved == moves and norm.layer.trainable


@pytest.mark.parametrize(
    "options, message",
    [
        ({"weight_bits": 3}, "weight_bits = 3: should be 8 or 4"),
        ({"weight_bits": 2}, "the converter stores 2 bits as 4"),
        ({"activation_bits": 4}, "activation_bits = 4: should be 8: of 4 bits the converter refuses convolutions"),
        ({"activation_bits": 16}, "of 16 the runtime refuses the file"),
        ({"preserve": "all"}, "should be 'auto', 'zeros', 'clusters' or 'nothing'"),
        ({"per_axis": 1}, "should be a valid boolean"),
    ],
)
def test_bad_options_are_refused_with_what_would_be_right(digits, options, message):
    with pytest.raises(OptionError, match=message):
        tfopt.quantize_aware(nets.sequential(), digits, **options)


@pytest.mark.parametrize(
    "steps, message",
    [
        ([Step("prun")], "no such technique; did you mean 'prune'"),
        ([Step("prune", {"sparsty": 0.5})], "sparsty: unknown option; did you mean 'sparsity'"),
        ([Step("prune", {"granularity": "2:4", "sparsity": 0.9})], r"steps\[0\].sparsity = 0.9: should be left out"),
        ([Step("quantize_aware"), Step("prune")], r"steps\[0\].use = 'quantize_aware': should be the last step"),
        ([Step("quantize_aware"), Step("quantize_aware")], "should be the last step"),
        ([Step("cluster"), Step("prune", {"fit": FIT})], r"steps\[1\].use = 'prune': should stand before 'cluster'"),
    ],
)
def test_steps_that_can_not_work_are_refused_before_anything_runs(steps, message):
    with pytest.raises(RecipeError, match=message):
        tfopt.chain(*steps)


def test_one_factor_an_input_is_not_folded_into_shared_values(digits):
    k = layers()
    model = nets.chain(
        k.ReLU(), k.BatchNormalization(name="bn"), k.Conv2D(8, 3, name="conv"), k.Flatten(), k.Dense(10, name="logits"), shape=(8, 8, 1)
    )
    plans = [{c.layer: c.reason for c in tfopt.techniques.PLANS["quantize_aware"](m)} for m in (model, tfopt.cluster(model, clusters=4))]
    assert plans[0]["bn"] == "folded into conv" and plans[1]["bn"].startswith("becomes a 1x1 DepthwiseConv2D")


def test_a_mixed_precision_model_is_quantized_as_float32_keeps_its_zeros_and_values(digits):
    keras = backend.keras()
    before = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        model = nets.randomized(nets.sequential())
    finally:
        keras.mixed_precision.set_global_policy(before)
    small = tfopt.cluster(tfopt.prune(model, digits, sparsity=0.5, fit=FIT), digits, clusters=5, fit=FIT)
    assert {layer.compute_dtype for layer in small.layers[1:]} == {"bfloat16"}
    found = kernels(tfopt.convert(tfopt.quantize_aware(small, digits, fit=FIT), "int8"))
    assert all(max(kernel.distinct) <= 5 and np.mean(kernel.zeros) >= 0.48 and kernel.dtype == "int8" for kernel in found)


KEPT = {
    "zeros, by cluster": (lambda m: tfopt.prune(m, sparsity=0.5), tfopt.cluster, {"where": "logits", "clusters": 4}),
    "zeros, by prune": (lambda m: tfopt.prune(m, sparsity=0.75), tfopt.prune, {"where": "logits", "sparsity": 0.9}),
    "values, by prune": (lambda m: tfopt.cluster(m, clusters=4), tfopt.prune, {"where": "logits"}),
    "values, by cluster": (lambda m: tfopt.cluster(m, clusters=4), tfopt.cluster, {"where": "logits", "clusters": 8}),
}


@pytest.mark.parametrize("name", KEPT)
def test_a_step_keeps_what_others_left_in_layers_that_it_does_not_treat(digits, name):
    make, technique, options = KEPT[name]
    model = make(nets.randomized(nets.branching()))
    after = technique(model, digits, fit=FIT, **options)
    for layer in ("conv", "dense"):
        before, now = (m.get_layer(layer).kernel.numpy() for m in (model, after))
        assert np.array_equal(now == 0, before == 0) and not np.array_equal(now, before)
        assert "values" not in name or len(np.unique(now)) <= 4


@pytest.mark.parametrize("bits, per_axis", [(4, True), (8, False)])
def test_layers_that_feed_a_concatenate_have_the_asked_for_weights_too(digits, bits, per_axis):
    """TF-MOT's transform for Concatenate asks its own registry: 8 bits, with a scale a channel."""
    k = layers()
    inputs = backend.keras().Input((8, 8, 1))
    both = k.Concatenate()([k.Conv2D(4, 3, name="one")(inputs), k.Conv2D(4, 3, name="two")(inputs)])
    model = nets.randomized(backend.keras().Model(inputs, k.Dense(10, name="logits")(k.Flatten()(both))))
    quantized = tfopt.quantize_aware(model, digits, weight_bits=bits, per_axis=per_axis)
    ranges = [w for w in quantized.weights if w.name.endswith("kernel_max:0")]
    assert len(ranges) == 3 and {w.shape.num_elements() for w in ranges} == ({4, 1} if per_axis else {1})
    if bits == 4:
        assert {kernel.dtype for kernel in kernels(tfopt.convert(quantized, "int8"))} == {"int4"}


def test_what_the_converter_takes_in_8_bits_only_stays_so_and_the_plan_says_it(digits):
    k = layers()
    model = nets.chain(
        k.Conv2DTranspose(4, 3, name="up"), k.Conv2D(4, 3, name="conv"), k.Flatten(), k.Dense(10, name="logits"), shape=(8, 8, 1)
    )
    plan = {choice.layer: choice.reason for choice in tfopt.techniques.PLANS["quantize_aware"](model, weight_bits=4)}
    assert plan["up"] == "8 bits, since the converter refuses 4 in TRANSPOSE_CONV" and plan["conv"].startswith("weights of 4 bits")
    found = kernels(tfopt.convert(tfopt.quantize_aware(model, digits, weight_bits=4), "int8"), ("TRANSPOSE_CONV", *COMPUTING))
    assert [kernel.dtype for kernel in found] == ["int8", "int4", "int4"]


def test_weights_of_half_precision_are_not_taken_for_shared_ones():
    model = nets.randomized(nets.branching())
    tf = backend.tensorflow()
    model.set_weights([tf.cast(tf.cast(weight, "bfloat16"), "float32").numpy() for weight in model.get_weights()])
    plan = {choice.layer: choice.reason for choice in tfopt.techniques.PLANS["quantize_aware"](model)}
    assert plan["conv"] == plan["inner/point"] == "8 bits"


def test_a_layer_of_ones_own_is_left_and_the_others_are_quantized(digits):
    class Own(layers().Layer):  # not registered anywhere
        def build(self, shape):
            self.kernel = self.add_weight("kernel", (shape[-1], 6))

        def call(self, x):
            return x @ self.kernel

    model = nets.chain(layers().Flatten(), Own(name="own"), layers().Dense(10, name="logits"), shape=(8, 8, 1))
    plan = {choice.layer: choice for choice in tfopt.techniques.PLANS["quantize_aware"](model)}
    assert plan["logits"].treated and not plan["own"].treated
    quantized = tfopt.quantize_aware(model, digits, fit=FIT)
    assert [layer.name for layer in quantized.layers if "logits" in layer.name] == ["quant_logits"]
