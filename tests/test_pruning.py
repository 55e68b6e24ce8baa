"""prune: the sparsity that was asked for, whatever the length of the run, in the pattern and the layers that were asked for."""

from __future__ import annotations

import nets
import numpy as np
import pytest
from nets import layers

import tfopt
from tfopt import backend
from tfopt.errors import DataError, OptionError, UnsupportedModel
from tfopt.types import Fit


def zeros(model, names=("conv", "dense", "logits", "point")):
    """Kernel name -> share of zeros."""
    return {w.name: float(np.mean(w.numpy() == 0)) for w in model.weights if w.name.split("/")[0] in names and "kernel" in w.name}


def plan(model, **options):
    return {choice.layer: choice for choice in tfopt.techniques.PLANS["prune"](model, **options)}


@pytest.mark.parametrize("schedule", ["polynomial", "constant"])
@pytest.mark.parametrize("epochs, batch_size", [(1, 2000), (1, 256), (3, 128)], ids=["one-step", "five-steps", "thirty-steps"])
@pytest.mark.parametrize("sparsity", [0.5, 0.9])
def test_the_sparsity_is_reached_however_short_the_run(digits, schedule, epochs, batch_size, sparsity):
    model = nets.randomized(nets.branching())
    fit = Fit(epochs=epochs, batch_size=batch_size)
    for name, share in zeros(tfopt.prune(model, digits, sparsity=sparsity, schedule=schedule, fit=fit)).items():
        size = next(w.shape.num_elements() for w in model.weights if w.name == name)
        assert share == round(size * sparsity) / size, name


def test_the_best_epoch_is_never_one_before_the_sparsity_is_reached(digits):
    model = tfopt.train(nets.randomized(nets.branching()), digits, Fit(epochs=3))
    pruned = tfopt.prune(model, digits, sparsity=0.9, fit=Fit(epochs=4, learning_rate=0.01, patience=1))  # each epoch is worse
    assert all(share > 0.89 for share in zeros(pruned).values())


def test_data_free_pruning_takes_the_smallest_weights():
    model = nets.randomized(nets.branching())
    before, after = (m.get_layer("dense").kernel.numpy() for m in (model, tfopt.prune(model, sparsity=0.25)))
    gone = after == 0
    assert gone.mean() == 0.25 and np.abs(before[gone]).max() <= np.abs(before[~gone]).min()
    assert np.array_equal(before[~gone], after[~gone])


def test_equal_weights_are_pruned_to_the_share_that_was_asked_for():
    model = nets.sequential()
    model.get_layer("logits").kernel.assign(np.ones((288, 10), "float32"))
    assert zeros(tfopt.prune(model, sparsity=0.5), names=["logits"]) == {"logits/kernel:0": 0.5}


def test_zeros_reach_the_file_and_its_gzip(digits):
    model = nets.randomized(nets.branching())
    plain, pruned = (tfopt.measure(tfopt.convert(m, "float32")) for m in (model, tfopt.prune(model, sparsity=0.8)))
    assert plain.sparsity < 0.01 and pruned.sparsity > 0.7
    assert pruned.gzip_bytes < 0.6 * plain.gzip_bytes


@pytest.mark.parametrize("fit", [None, Fit(epochs=2, batch_size=256)], ids=["data-free", "trained"])
def test_m_of_n_zeros_lie_in_each_group_of_input_channels(digits, fit, tmp_path):
    model = nets.randomized(nets.branching())
    pruned = tfopt.prune(model, digits, granularity="2:4", fit=fit)
    file = tfopt.save(pruned, tmp_path / "pruned.keras")
    for name in ("point", "dense", "logits"):
        for made in (pruned, tfopt.load(file)):
            kernel = next(w for w in made.weights if w.name.startswith(f"{name}/kernel")).numpy()
            groups = kernel.reshape(-1, 4, kernel.shape[-1])
            assert np.all((groups == 0).sum(1) == 2)
    assert plan(model, granularity="2:4")["conv"].reason == "not kernel: its 1 input channels can't be divided into groups of 4"


def test_m_of_n_keeps_the_largest_of_each_group():
    model = nets.randomized(nets.sequential())
    before, after = (m.get_layer("logits").kernel.numpy().reshape(-1, 4, 10) for m in (model, tfopt.prune(model, granularity="1:4")))
    assert np.array_equal((after == 0).argmax(1), np.abs(before).argmin(1)) and (after == 0).mean() == 0.25


def test_blocks_become_zero_together():
    model = nets.randomized(nets.sequential())
    before, after = (m.get_layer("logits").kernel.numpy() for m in (model, tfopt.prune(model, granularity="4x2", sparsity=0.75)))
    blocks, means = ((values.reshape(72, 4, 5, 2).swapaxes(1, 2).reshape(360, 8)) for values in (after == 0, np.abs(before)))
    whole = blocks.all(1)
    assert np.array_equal(whole, blocks.any(1)) and whole.mean() == 0.75
    assert means.mean(1)[whole].max() <= means.mean(1)[~whole].min()


def test_blocks_that_reach_over_the_edge_are_pruned_too():
    model = nets.randomized(nets.sequential())
    kernel = tfopt.prune(model, granularity="5x3", sparsity=0.5).get_layer("conv").kernel.numpy().reshape(9, 8)
    rows = np.split(kernel == 0, [5])
    blocks = [block for row in rows for block in np.split(row, [3, 6], axis=1)]
    assert [block.all() for block in blocks] == [block.any() for block in blocks] and sum(block.all() for block in blocks) == 3


def test_a_kernel_of_too_few_blocks_is_left_and_said():
    model = nets.randomized(nets.sequential())
    assert plan(model, granularity="100x100", sparsity=0.4)["conv"].reason == "not kernel: of 1 block of 100x100, 40% are none"


@pytest.mark.parametrize(
    "sparsity",
    [{"logits": 0.25, "*": 0.75}, lambda layer: 0.25 if layer.name == "logits" else 0.75],
    ids=["by-name", "by-function"],
)
def test_each_layer_has_the_sparsity_that_it_was_given(digits, sparsity):
    for fit in (None, Fit(epochs=1, batch_size=256)):
        found = zeros(tfopt.prune(nets.randomized(nets.branching()), digits, sparsity=sparsity, fit=fit))
        assert found == {"conv/kernel:0": 0.75, "point/kernel:0": 0.75, "dense/kernel:0": 0.75, "logits/kernel:0": 0.25}


def test_layers_that_sparsity_does_not_name_are_left():
    model = nets.randomized(nets.branching())
    found = zeros(tfopt.prune(model, sparsity={"dense": 0.5, "Conv2D": 0.25}))
    assert found["logits/kernel:0"] == 0 and found["dense/kernel:0"] == 0.5 and found["conv/kernel:0"] == 0.25
    assert plan(model, sparsity={"dense": 0.5})["logits"].reason == "not named by `sparsity`"


@pytest.mark.parametrize("fit", [None, Fit(epochs=2, batch_size=256)], ids=["data-free", "trained"])
def test_globally_all_kernels_share_one_threshold(digits, fit):
    model = nets.randomized(nets.branching())
    model.get_layer("dense").kernel.assign(model.get_layer("dense").kernel * 0.2)
    pruned = tfopt.prune(model, digits, sparsity=0.6, scope="global", fit=fit)
    kernels = [w.numpy() for w in pruned.weights if "kernel" in w.name and "depthwise" not in w.name]
    assert sum((k == 0).sum() for k in kernels) == round(0.6 * sum(k.size for k in kernels))
    found = zeros(pruned)
    assert found["dense/kernel:0"] > 0.6 > found["logits/kernel:0"]
    if fit is None:
        before = [w.numpy() for w in model.weights if "kernel" in w.name and "depthwise" not in w.name]
        gone, kept = (np.concatenate([np.abs(b[(a == 0) == zero]) for a, b in zip(kernels, before, strict=True)]) for zero in (True, False))
        assert gone.max() <= kept.min()


def sequences():
    """A net with every kind of layer whose kernels hide inside it; words come as numbers."""
    keras, k = backend.keras(), layers()
    words = keras.Input((8,), dtype="int32", name="words")
    x = k.Embedding(20, 8, mask_zero=True, name="embedding")(words)
    x = k.Bidirectional(k.LSTM(4, return_sequences=True), name="bidirectional")(x)
    x = k.GRU(8, return_sequences=True, name="gru")(x)
    x = k.MultiHeadAttention(2, 4, name="attention")(x, x)
    x = k.TimeDistributed(k.Dense(4), name="each")(x)
    x = k.Conv1DTranspose(4, 2, name="wider")(x)
    x = k.SeparableConv1D(4, 2, name="separable")(x)
    return nets.randomized(keras.Model(words, k.Dense(3, name="logits")(k.Flatten()(x)), name="sequences"))


def test_embeddings_recurrent_kernels_and_attention_are_pruned():
    model = sequences()
    pruned = tfopt.prune(model, sparsity=0.5)
    shares = {w.name: float(np.mean(w.numpy() == 0)) for w in pruned.weights if w.shape.rank > 1 and "bias" not in w.name}
    assert {name: share for name, share in shares.items() if share != 0.5} == {"separable/depthwise_kernel:0": 0}
    assert len(shares) == 1 + 4 + 2 + 4 + 1 + 1 + 2 + 1
    assert sum("recurrent_kernel" in name for name in shares) == 3


def test_depthwise_kernels_are_pruned_where_they_are_named():
    model = nets.randomized(nets.branching())
    left = plan(model)["depthwise"]
    assert not left.treated and "named" in left.reason
    for where in ("depthwise", "DepthwiseConv2D", lambda layer: "depth" in layer.name):
        pruned = tfopt.prune(model, where=where)
        assert np.mean(pruned.get_layer("depthwise").depthwise_kernel.numpy() == 0) == 0.5


def test_a_shared_layer_counts_once_and_its_schedule_too(digits):
    k = layers()
    inputs, twice = backend.keras().Input((8, 8, 1)), k.Conv2D(4, 3, padding="same", name="twice")
    x = twice(k.Conv2D(4, 3, padding="same", name="conv")(inputs))
    model = nets.randomized(backend.keras().Model(inputs, k.Dense(10, name="logits")(k.Flatten()(twice(x)))))
    pruned = tfopt.prune(model, digits, sparsity=0.5, fit=Fit(epochs=1, batch_size=128))
    assert zeros(pruned, ["twice", "conv"]) == {"conv/kernel:0": 0.5, "twice/kernel:0": 0.5}
    assert [choice.layer for choice in tfopt.techniques.PLANS["prune"](model)].count("twice") == 1


@pytest.mark.parametrize(
    "options, message",
    [
        ({"sparsity": 1.2}, "sparsity = 1.2: should be less than 1"),
        ({"sparsity": 1.0}, "should be less than 1"),
        ({"sparsity": -0.1}, "should be greater than or equal to 0"),
        ({"sparsity": "0.5"}, "should be a valid number"),
        ({"sparsity": True}, "should be a valid number"),
        ({"sparsity": {"conv": 1.5}}, "should be less than 1"),
        ({"sparsity": {"con": 0.5}}, "sparsity = 'con': no layer has this name or class; did you mean 'conv'"),
        ({"sparsity": lambda layer: 7}, r"sparsity\('conv'\) gave 7: should be a number from 0 to below 1"),
        ({"where": "cnov"}, "where = 'cnov': no layer has this name or class; did you mean 'conv'"),
        ({"granularity": "4"}, 'should be "unstructured"'),
        ({"granularity": "4:2"}, "m < n"),
        ({"granularity": "2:4", "sparsity": 0.7}, "leaves no choice, its sparsity is 0.5"),
        ({"granularity": "2:4", "scope": "global"}, "each group has zeros of its own"),
        ({"sparsity": {"conv": 0.5}, "scope": "global"}, "give one number"),
        ({"schedule": "slow"}, "'polynomial' or 'constant'"),
        ({"spasity": 0.5}, "spasity: unknown option; did you mean 'sparsity'"),
    ],
)
def test_bad_options_are_refused_with_what_would_be_right(options, message):
    with pytest.raises(OptionError, match=message):
        tfopt.prune(nets.sequential(), **options)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"where": "flatten"}, "flatten: Flatten has no weights"),
        ({"where": "conv", "granularity": "2:4"}, "conv: not kernel: its 1 input channels can't be divided into groups of 4"),
    ],
)
def test_nothing_to_prune_is_said(options, message):
    with pytest.raises(UnsupportedModel, match=message):
        tfopt.prune(nets.sequential(), **options)


def test_a_layer_itself_is_no_where_and_a_nested_models_name_means_all_in_it():
    model = nets.randomized(nets.branching())
    with pytest.raises(OptionError, match="a layer; give its name, 'conv'"):
        tfopt.prune(model, where=model.get_layer("conv"))
    assert [name for name, choice in plan(model, where="inner").items() if choice.treated] == ["inner/point"]


def test_weights_that_are_no_numbers_are_refused():
    model = nets.randomized(nets.sequential())
    model.get_layer("conv").kernel.assign(model.get_layer("conv").kernel * np.nan)
    for technique in (tfopt.prune, tfopt.cluster):
        with pytest.raises(UnsupportedModel, match="conv/kernel holds NaN"):
            technique(model)


@pytest.mark.parametrize("data", [None, "digits"])
def test_a_fit_needs_data(data):
    with pytest.raises(DataError, match="expected data"):
        tfopt.prune(nets.sequential(), data, fit=Fit(epochs=1))
