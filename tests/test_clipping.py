"""clip_weights: the bound that was asked for, on the kernels alone, held while it trains, beside what earlier steps have left."""

from __future__ import annotations

import nets
import numpy as np
import pytest

import tfopt
from tfopt import recipes
from tfopt.errors import OptionError, RecipeError
from tfopt.types import Fit

FIT = Fit(epochs=2, batch_size=512, learning_rate=3e-3)


def kernels(model):
    """Name -> weights."""
    return {weight.name: weight.numpy() for weight in model.weights if "kernel" in weight.name}


def bounds(model, options):
    """The bound that each kernel should have, zeros not counted."""
    sizes = {name: np.abs(values[values != 0]).astype("float64") for name, values in kernels(model).items()}
    ways = {
        "limit": lambda size, amount: amount,
        "percentile": np.percentile,
        "std": lambda size, amount: amount * np.sqrt(np.mean(size**2)),
    }
    ((way, amount),) = options.items() or [("percentile", 99.9)]
    return {name: ways[way](size, amount) for name, size in sizes.items()}


@pytest.mark.parametrize("options", [{}, {"percentile": 90}, {"limit": 0.25}, {"std": 1.1}], ids=["default", "percentile", "limit", "std"])
@pytest.mark.parametrize("sparsity", [0.0, 0.8])
def test_each_kernel_is_cut_at_its_bound_and_nothing_else_is_touched(options, sparsity):
    model = tfopt.prune(nets.randomized(nets.branching()), sparsity=sparsity)
    clipped, bound = tfopt.clip_weights(model, **options), bounds(model, options)
    for old, new in zip(model.weights, clipped.weights, strict=True):
        if old.name in bound:
            assert np.allclose(new, np.clip(old, -bound[old.name], bound[old.name]), rtol=1e-6, atol=0)
            assert np.abs(old).max() > 1.0001 * np.abs(new).max(), old.name
        else:
            assert np.array_equal(old, new)


@pytest.mark.parametrize("before", [*(pytest.param(each, marks=pytest.mark.slow) for each in ("nothing", "zeros")), "shared values"])
def test_the_bound_is_held_while_it_trains_beside_zeros_and_shared_values(digits, before):
    model = nets.randomized(nets.sequential())
    if before != "nothing":
        model = tfopt.prune(model, sparsity=0.5)
    if before == "shared values":
        model = tfopt.cluster(model, clusters=8)
    trained, bound = kernels(tfopt.clip_weights(model, digits, std=1.5, fit=FIT)), bounds(model, {"std": 1.5})
    for name, old in kernels(model).items():
        assert np.abs(trained[name]).max() <= 1.000001 * bound[name] and not np.allclose(trained[name], old, atol=1e-3)
        assert before == "nothing" or not trained[name][old == 0].any()
        assert before != "shared values" or len(np.unique(trained[name])) <= 8
    free = kernels(tfopt.train(model, digits, FIT))
    assert any(np.abs(free[name]).max() > 1.2 * bound[name] for name in bound)


def test_in_a_file_the_bound_stands_behind_what_batch_norm_multiplies():
    model = nets.randomized(nets.branching())
    norm = model.get_layer("bn")
    factors = norm.gamma.numpy() / np.sqrt(norm.moving_variance.numpy() + norm.epsilon)
    file = tfopt.measure(tfopt.convert(tfopt.clip_weights(model, limit=0.1)))
    convolution, depthwise = (next(kernel for kernel in file.kernels if kernel.op == kind) for kind in ("CONV_2D", "DEPTHWISE_CONV_2D"))
    assert convolution.largest == pytest.approx(0.1 * factors, rel=1e-4)
    assert depthwise.largest == pytest.approx([0.1] * 8) and file.largest_weight == pytest.approx(0.1 * factors.max(), rel=1e-4)


def test_an_infinite_limit_and_a_kernel_of_zeros_are_left():
    model = nets.randomized(nets.sequential())
    same = tfopt.clip_weights(model, limit=float("inf"))
    assert all(np.array_equal(old, new) for old, new in zip(model.weights, same.weights, strict=True))
    model.get_layer("conv").kernel.assign(np.zeros((3, 3, 1, 8)))
    assert not tfopt.clip_weights(model, std=2).get_layer("conv").kernel.numpy().any()


def test_the_plan_says_how_many_weights_are_beyond():
    model = nets.randomized(nets.branching())
    plan = {choice.layer: choice for choice in tfopt.techniques.PLANS["clip_weights"](model, limit=0.3, where="Dense")}
    beyond = int((np.abs(model.get_layer("dense").kernel) > 0.3).sum())
    assert plan["dense"].reason == f"kernel: |w| at most 0.3, {beyond:,} of 4,096 weights are beyond"
    assert (plan["conv"].treated, plan["conv"].reason) == (False, "not named by `where`")


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"limit": 1.0, "std": 3}, "limit and std: give one bound"),
        ({"percentile": 0}, "percentile = 0: should be greater than 0"),
        ({"percentile": 101}, "percentile = 101: should be less than or equal to 100"),
        ({"limit": -1.0}, r"limit = -1.0: should be greater than 0"),
        ({"std": 0}, "std = 0: should be greater than 0"),
    ],
)
def test_bad_bounds_are_refused(bad, said):
    with pytest.raises(OptionError, match=said):
        tfopt.clip_weights(nets.sequential(), **bad)
    recipe = {"name": "narrow", "data": {"use": "digits"}, "model": {"use": "convnet"}, "fit": {"epochs": 1}}
    with pytest.raises(RecipeError, match=said):
        recipes.load({**recipe, "steps": [{"use": "clip_weights", **bad}]})
