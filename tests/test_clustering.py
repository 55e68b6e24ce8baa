"""cluster: few values in each kernel, zeros kept, and training that goes on as it would without."""

from __future__ import annotations

import nets
import numpy as np
import pytest
from nets import layers

import tfopt
from tfopt import backend
from tfopt.errors import OptionError, UnsupportedModel
from tfopt.techniques._centroids import INITS, centroids
from tfopt.tracing import Trace
from tfopt.types import Fit

FIT = Fit(epochs=2, batch_size=256, learning_rate=3e-3)
NAMES = ("conv", "point", "dense", "logits")


def kernels(model, names=NAMES):
    """Layer name -> kernel."""
    return {w.name.split("/")[0]: w.numpy() for w in model.weights if w.name.split("/")[0] in names and "kernel" in w.name}


@pytest.mark.parametrize("init", INITS)
@pytest.mark.parametrize("fit", [None, FIT], ids=["data-free", "trained"])
def test_each_kernel_has_no_more_values_than_were_asked_for(digits, init, fit):
    clustered = tfopt.cluster(nets.randomized(nets.branching()), digits, clusters=8, init=init, fit=fit)
    counts = {name: len(np.unique(kernel)) for name, kernel in kernels(clustered).items()}
    assert max(counts.values()) <= 8 and min(counts.values()) >= 5, counts


@pytest.mark.parametrize("fit", [None, FIT], ids=["data-free", "trained"])
@pytest.mark.parametrize("per_channel", [False, True])
def test_zeros_are_kept_and_count_as_one_of_the_values(digits, fit, per_channel):
    pruned = tfopt.prune(nets.randomized(nets.branching()), sparsity=0.6)
    clustered = tfopt.cluster(pruned, digits, clusters=4, per_channel=per_channel, fit=fit)
    for name, kernel in kernels(clustered).items():
        assert np.array_equal(kernel == 0, kernels(pruned)[name] == 0), name
        rows = kernel.reshape(-1, kernel.shape[-1]).T if per_channel else [kernel]
        assert max(len(np.unique(row)) for row in rows) <= 4, name


def test_each_weight_takes_the_value_nearest_to_it():
    model = nets.randomized(nets.branching())
    before, after = (kernels(m)["dense"].ravel() for m in (model, tfopt.cluster(model, clusters=8)))
    values = np.unique(after)
    assert np.array_equal(after, values[np.abs(before[:, None] - values).argmin(1)])
    assert all(value == pytest.approx(before[after == value].mean(), abs=1e-6) for value in values)


def test_channels_have_values_of_their_own():
    model = nets.randomized(nets.branching())
    whole, each = (tfopt.cluster(model, clusters=8, per_channel=per_channel) for per_channel in (False, True))
    dense = kernels(each)["dense"]
    assert max(len(np.unique(channel)) for channel in dense.T) == 8 and len(np.unique(dense)) > 8 * 12
    errors = [np.square(kernels(m)["dense"] - kernels(model)["dense"]).mean() for m in (whole, each)]
    assert errors[1] < errors[0]


@pytest.mark.parametrize("init", INITS)
def test_lloyds_iterations_end_where_nothing_moves(init):
    values = np.random.default_rng(0).normal(0, 1, 5000)
    found = centroids(values, 12, init, seed=0).astype("float64")
    nearest = np.abs(values[:, None] - found).argmin(1)
    assert np.all(np.diff(found) > 0)
    assert all(found[n] == pytest.approx(values[nearest == n].mean(), abs=2e-3) for n in np.unique(nearest))


def test_kmeans_plus_plus_is_as_good_as_scikit_learns():
    cluster = pytest.importorskip("sklearn.cluster")
    values = np.random.default_rng(1).standard_t(3, 3000)
    found = centroids(values, 16, "kmeans++", seed=0)
    error = np.square(values - found[np.abs(values[:, None] - found).argmin(1)]).sum()
    assert error < 1.15 * cluster.KMeans(16, n_init=5, random_state=0).fit(values[:, None]).inertia_


def test_training_moves_the_values_and_lowers_the_loss(digits):
    with backend.seeded(0):
        model = tfopt.train(tfopt.models.convnet((8, 8, 1), 10), digits, Fit(epochs=6, learning_rate=3e-3))
    at_once = tfopt.cluster(model, clusters=3)
    with Trace() as trace:
        trained = tfopt.cluster(model, digits, clusters=3, fit=Fit(epochs=3, batch_size=64, learning_rate=1e-3))
    assert all(len(np.unique(w.numpy())) <= 3 for w in trained.weights if "kernel" in w.name)
    x, y = tfopt.pipelines.to_arrays(digits.validation)
    losses = [backend.keras().losses.sparse_categorical_crossentropy(y, m(x)).numpy().mean() for m in (at_once, trained)]
    assert losses[1] < 0.75 * losses[0]
    curve = next(entry["history"] for entry in trace.entries if entry["kind"] == "curve")
    assert curve["loss"][-1] < curve["loss"][0]


def test_dropout_and_batch_norm_behave_as_in_training(digits):
    """TF-MOT's wrapper drops the `training` flag: no unit is dropped, and no moving statistic moves."""
    seen = []

    @backend.keras().utils.register_keras_serializable("tests")
    class Watching(backend.keras().layers.Layer):
        def call(self, x, training=None):
            if training:
                backend.tensorflow().py_function(lambda share: seen.append(float(share)), [zeros_in(x)], [])
            return x

    def zeros_in(x):
        return backend.tensorflow().reduce_mean(backend.tensorflow().cast(x == 0, "float32"))

    k = layers()
    model = nets.chain(
        k.Flatten(),
        k.Dense(64, name="dense"),
        k.BatchNormalization(name="bn"),
        k.Dropout(0.5),
        Watching(),
        k.Dense(10, name="logits"),
        shape=(8, 8, 1),
    )
    clustered = tfopt.cluster(model, digits, clusters=4, fit=FIT)
    assert 0.4 < np.mean(seen) < 0.6
    before, after = (m.get_layer("bn").moving_mean.numpy() for m in (model, clustered))
    assert np.abs(after - before).max() > 0.01


def test_depthwise_kernels_are_clustered_where_they_are_named():
    model = nets.randomized(nets.branching())
    assert len(np.unique(tfopt.cluster(model, clusters=4).get_layer("depthwise").depthwise_kernel)) == 72
    assert len(np.unique(tfopt.cluster(model, clusters=4, where="depth*").get_layer("depthwise").depthwise_kernel)) == 4


def test_a_kernel_of_fewer_weights_keeps_them():
    model = nets.randomized(nets.branching())
    clustered = tfopt.cluster(model, clusters=100)
    assert np.array_equal(kernels(clustered)["point"], kernels(model)["point"])
    assert len(np.unique(kernels(clustered)["dense"])) == 100
    plan = {choice.layer: choice.reason for choice in tfopt.techniques.PLANS["cluster"](model, clusters=100)}
    assert plan["inner/point"] == "kernel: has 64 weights, so they keep their values"


def test_the_plan_says_what_folding_a_batch_norm_does_and_the_file_shows_it():
    model = nets.randomized(nets.branching())
    plan = {choice.layer: choice.reason for choice in tfopt.techniques.PLANS["cluster"](model)}
    assert "when it folds bn into it, so a float file has these values a channel" in plan["conv"] and "folds" not in plan["dense"]
    measured = tfopt.measure(tfopt.convert(tfopt.cluster(model, clusters=4), "float32"))
    conv = next(kernel for kernel in measured.kernels if kernel.op == "CONV_2D")
    assert max(conv.distinct) <= 4


def test_shared_values_reach_the_file_and_its_gzip():
    model = nets.randomized(nets.branching())
    plain, clustered = (tfopt.measure(tfopt.convert(m, "float32")) for m in (model, tfopt.cluster(model, clusters=8)))
    assert clustered.repetition > 0.8 > 0.1 > plain.repetition
    assert clustered.gzip_bytes < 0.5 * plain.gzip_bytes and clustered.bytes == plain.bytes


@pytest.mark.parametrize(
    "options, message",
    [
        ({"clusters": 1}, "clusters = 1: should be greater than or equal to 2"),
        ({"clusters": 4.0}, "should be a valid integer"),
        ({"init": "kmeans"}, r"should be 'kmeans\+\+', 'linear', 'density' or 'random'"),
        ({"where": "cnov"}, "did you mean 'conv'"),
    ],
)
def test_bad_options_are_refused_with_what_would_be_right(options, message):
    with pytest.raises(OptionError, match=message):
        tfopt.cluster(nets.sequential(), **options)


def test_nothing_to_cluster_is_said():
    with pytest.raises(UnsupportedModel, match="flatten: Flatten has no weights"):
        tfopt.cluster(nets.sequential(), where="flatten")
