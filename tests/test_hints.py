"""Hints: what layers inside a student learn from layers inside its teacher."""

from __future__ import annotations

import contextlib
import dataclasses

import nets
import numpy as np
import pytest

import tfopt
from tfopt import backend, bridge, pipelines, progress, strategies, teaching, training
from tfopt.errors import OptionError, RecipeError
from tfopt.surgery import copying, precision
from tfopt.tracing import Trace

FIT = tfopt.Fit(epochs=2, batch_size=256, learning_rate=3e-3)


def convnet(data, width, seed=0):
    with backend.seeded(seed):
        return tfopt.models.convnet(data.input_shape, data.num_classes, width=width)


@pytest.fixture(scope="module")
def teacher(digits):
    return nets.randomized(convnet(digits, 8))


@pytest.fixture
def student(digits):
    return nets.randomized(convnet(digits, 4), seed=1)


def map_of(model, layer, x):
    inner = backend.keras().Model(model.inputs, model.get_layer(layer).output)
    return inner(x, training=False).numpy().astype("float64")


def told(mine, theirs):
    """The share of the variance of a map that a linear projection of another tells, found by least squares."""
    mine, theirs = (one.reshape(-1, one.shape[-1]) - one.mean(axis=(0, 1, 2)) for one in (mine, theirs))
    left = theirs - mine @ np.linalg.lstsq(mine, theirs, rcond=None)[0]
    return 1 - (left**2).sum() / (theirs**2).sum()


def test_a_layer_learns_to_tell_what_the_teachers_does(digits, teacher, student):
    """Of maps that neither labels nor outputs ask for."""
    x, _ = pipelines.to_arrays(digits.test)
    shares = {}
    for hints in (None, {"relu2": "relu2"}):
        taught = tfopt.distill(student, digits, teacher=teacher, alpha=0.0, hints=hints, fit=dataclasses.replace(FIT, epochs=6))
        shares[hints is None] = told(map_of(taught, "relu2", x), map_of(teacher, "relu2", x))
    assert shares[False] > shares[True] + 0.05


def normal(values):
    values = values - values.mean(axis=(0, 1, 2))
    return values / np.sqrt((values**2).mean())


def averaged(values, size):
    """(n, height, width, channels) -> (n, size, size, channels)"""
    count, height, width, channels = values.shape
    return values.reshape(count, size, height // size, size, width // size, channels).mean(axis=(2, 4))


@pytest.mark.parametrize("pair", [("relu1", "relu1"), ("relu2", "pool1"), ("relu1", "relu2"), ("relu2", "relu1"), ("average", "average")])
def test_the_loss_is_that_of_the_page(pair, digits, teacher, student):
    """Whatever the scale of the maps; the larger of two is averaged to the other."""
    x = pipelines.to_arrays(digits.test)[0][:32]
    mine, theirs = (map_of(model, layer, x) for model, layer in zip((student, teacher), pair, strict=True))
    mine, theirs = (one if one.ndim == 4 else one[:, None, None] for one in (mine, theirs))
    size = min(mine.shape[1], theirs.shape[1])
    lesson = teaching.Teaching((teacher,), alpha=0.0, hints=dict([pair]), hint_weight=3.0).of(digits, student)
    (projection,) = lesson.variables
    projection.assign(np.random.default_rng(0).normal(size=projection.shape))
    missed = normal(averaged(mine, size)) @ projection.numpy() - normal(averaged(theirs, size))
    logits, maps = lesson.wanted(x)
    own = map_of(student, pair[0], x).astype("float32")
    for scale in (1.0, 100.0):
        loss = lesson.loss(2.0, (logits, [scale * one for one in maps]), student(x), [backend.tensorflow().constant(own / scale)])
        assert float(loss) == pytest.approx(2.0 + 3.0 * (missed**2).mean(), rel=1e-3)


def test_nothing_of_the_hints_stays(digits, teacher, student):
    result = tfopt.distill(student, digits, teacher=teacher, hints=["relu2"], fit=dataclasses.replace(FIT, epochs=1))
    assert [weight.name for weight in result.weights] == [weight.name for weight in student.weights]
    assert [len(layer._outbound_nodes) for layer in result.layers] == [len(layer._outbound_nodes) for layer in student.layers]


@pytest.mark.slow
@pytest.mark.parametrize("how", ["mixed", "replicas", "parts", "two inputs", "keras 3"])
def test_hints_are_learnt_in_every_way_of_training(how, digits, teacher, student):
    """And change what is learnt."""
    data, fit, scope, hints = digits, dataclasses.replace(FIT, epochs=1), contextlib.nullcontext(), ["relu2"]
    if how == "parts":
        fit = dataclasses.replace(fit, accumulate=2)
    elif how == "replicas":
        scope = strategies.pick("mirrored", devices=["CPU:0", "CPU:1"]).scope()
    elif how == "mixed":
        student = precision.mixed(student, "mixed_bfloat16")
    elif how == "two inputs":
        x, y = pipelines.to_arrays(digits.train)
        data = tfopt.datasets.arrays(x={"image": x, "row": x.sum(axis=(2, 3))}, y=y, name="two")
        student, teacher, hints = nets.randomized(nets.two_inputs()), nets.randomized(nets.two_inputs(), seed=1), ["relu"]
    elif how == "keras 3":
        student, teacher = bridge.to_keras3(student), bridge.to_keras3(teacher)
    with scope:
        plain, taught = (tfopt.distill(student, data, teacher=teacher, hints=given, fit=fit).get_weights() for given in (None, hints))
    assert all(np.isfinite(weight).all() for weight in taught)
    assert max(np.abs(one - other).max() for one, other in zip(plain, taught, strict=True)) > 1e-3


SLOW_FITS = [pytest.param(hints, optimizer, marks=pytest.mark.slow) for hints, optimizer in ((["relu2"], "nadam"), (None, "adam"))]


@pytest.mark.parametrize(("hints", "optimizer"), [(["relu2"], "adam"), *SLOW_FITS])
def test_an_interrupted_fit_goes_on_to_the_same_end(hints, optimizer, digits, teacher, student, tmp_path):
    class Interrupt(backend.keras().callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise KeyboardInterrupt

    fit = dataclasses.replace(FIT, epochs=3, optimizer=optimizer)

    def run(*callbacks):
        model = copying.copy_of(student)
        taught = teaching.teaching_by(teacher, model, fit, hints=hints)
        training.fit_in_place(model, digits, fit, name="distill", users=callbacks, teaching=taught)
        return model.get_weights()

    straight = run()
    with progress.resumable(tmp_path), pytest.raises(KeyboardInterrupt):
        run(Interrupt())
    with progress.resumable(tmp_path), Trace() as trace:
        resumed = run()
    assert not [entry for entry in trace.entries if "can't be used" in entry.get("text", "")]
    assert all(np.array_equal(one, other) for one, other in zip(straight, resumed, strict=True))


def shared_twice():
    layers = nets.layers()
    inputs = backend.keras().Input((8, 8, 1), name="image")
    shared = layers.Conv2D(4, 3, padding="same", name="shared")
    x = shared(layers.Conv2D(4, 3, padding="same", name="first")(shared(layers.Conv2D(4, 1, name="widen")(inputs))))
    outputs = layers.Dense(10, activation="softmax", name="logits")(layers.Flatten(name="flatten")(x))
    return backend.keras().Model(inputs, outputs, name="shared_twice")


REFUSED = {
    "student's name": ({"relu22": "relu2"}, r"hints: the student 'convnet' has no layer 'relu22'; did you mean 'relu2'\?"),
    "teacher's name": ({"relu2": "rleu1"}, r"hints: the teacher 'convnet' has no layer 'rleu1'; did you mean 'relu1'\?"),
    "rank": ({"average": "relu2"}, r"the student's 'average' gives \(8\), and the teacher's 'relu2' \(4, 4, 16\); but for the channels"),
    "an input": (["input"], "the student's 'input' gives no map of its own"),
    "nothing": ([], r"hints = \[\]: names no layer; leave it out"),
    "a number": ({"relu1": 3}, "hints = {'relu1': 3}: .*should be a valid string"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_hints_that_can_not_be_given_are_refused_before_training(case, digits, teacher, student):
    hints, said = REFUSED[case]
    with pytest.raises(OptionError, match=said):
        tfopt.distill(student, digits, teacher=teacher, hints=hints, fit=FIT)


def test_maps_that_do_not_fit_and_layers_called_twice_are_refused(digits, student):
    with pytest.raises(OptionError, match=r"the student's 'conv' gives \(6, 6, 8\), and the teacher's 'relu2' \(4, 4, 8\).*should divide"):
        tfopt.distill(nets.sequential(), digits, teacher=student, hints={"conv": "relu2"}, fit=FIT)
    with pytest.raises(OptionError, match="the teacher's 'shared' is called 2 times"):
        tfopt.distill(student, digits, teacher=shared_twice(), hints={"relu1": "shared"}, fit=FIT)
    with pytest.raises(OptionError, match="hints: come from one teacher, and there are 2"):
        tfopt.distill(student, digits, teacher=[student, student], hints=["relu1"], fit=FIT)


RECIPE = {
    "name": "hinted",
    "data": {"use": "digits"},
    "model": {"use": "convnet", "width": 4},
    "fit": {"epochs": 500},
    "export": {"formats": ["float32"]},
}


def test_a_recipe_with_hints_that_can_not_be_given_ends_before_it_trains(digits, student, tmp_path):
    """Five hundred epochs would take minutes."""
    tfopt.save(student, tmp_path / "teacher.h5")
    step = {"use": "distill", "teacher": str(tmp_path / "teacher.h5"), "fit": {"epochs": 1}}
    with pytest.raises(OptionError, match=r"steps\[0\]\.hints: the teacher 'convnet' has no layer 'conv9'"):
        tfopt.run({**RECIPE, "steps": [{**step, "hints": {"conv2": "conv9"}}]}, out=tmp_path / "one")
    with pytest.raises(RecipeError, match=r"steps\[0\]\.hints: come from one teacher, and there are 2"):
        tfopt.recipes.load({**RECIPE, "steps": [{**step, "teacher": ["self", "trained"], "hints": ["relu1"]}]})
    with pytest.raises(RecipeError, match=r"steps\[0\]\.hints = {}: names no layer"):
        tfopt.recipes.load({**RECIPE, "steps": [{**step, "hints": {}}]})


@pytest.mark.slow
def test_a_recipe_gives_hints(tmp_path):
    recipe = {
        **RECIPE,
        "fit": {"epochs": 1},
        "quick": True,
        "steps": [{"use": "distill", "teacher": "trained", "hints": {"relu1": "relu2"}, "fit": {}}],
    }
    report = tfopt.run(recipe, out=tmp_path / "run")
    assert report.rows[-1].artifact.steps == ("train", "distill")
