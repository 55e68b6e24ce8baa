"""prune: the sparsity that was asked for, whatever the length of the run."""

from __future__ import annotations

import nets
import numpy as np
import pytest

import tfopt
from tfopt.errors import DataError, OptionError, UnsupportedModel
from tfopt.types import Fit


def zeros(model, names=("conv", "dense", "logits", "point")):
    """Kernel name -> share of zeros."""
    return {w.name: float(np.mean(w.numpy() == 0)) for w in model.weights if w.name.split("/")[0] in names and "kernel" in w.name}


@pytest.mark.parametrize("schedule", ["polynomial", "constant"])
@pytest.mark.parametrize("epochs, batch_size", [(1, 2000), (1, 256), (3, 128)], ids=["one-step", "five-steps", "thirty-steps"])
@pytest.mark.parametrize("sparsity", [0.5, 0.9])
def test_the_sparsity_is_reached_however_short_the_run(digits, schedule, epochs, batch_size, sparsity):
    model = nets.randomized(nets.branching())
    fit = Fit(epochs=epochs, batch_size=batch_size)
    for name, share in zeros(tfopt.prune(model, digits, sparsity=sparsity, schedule=schedule, fit=fit)).items():
        size = next(w.shape.num_elements() for w in model.weights if w.name == name)
        assert abs(share - sparsity) <= 1 / size + 1e-9, name


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


@pytest.mark.parametrize("sparsity", [1.2, 1.0, -0.1, "0.5", True, None])
def test_a_sparsity_out_of_range_is_refused(sparsity):
    with pytest.raises(OptionError, match="sparsity"):
        tfopt.prune(nets.sequential(), sparsity=sparsity)


def test_nothing_to_prune_is_said():
    with pytest.raises(UnsupportedModel, match="flatten: Flatten has no weights"):
        tfopt.prune(nets.sequential(), where="flatten")


@pytest.mark.parametrize("data", [None, "digits"])
def test_a_fit_needs_data(data):
    with pytest.raises(DataError, match="expected data"):
        tfopt.prune(nets.sequential(), data, fit=Fit(epochs=1))
