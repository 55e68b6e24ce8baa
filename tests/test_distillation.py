"""Distillation: soft targets in a fit, who may teach, and what it is good for."""

from __future__ import annotations

import dataclasses

import nets
import numpy as np
import pytest

import tfopt
from tfopt import backend, bridge, datasets, pipelines, recipes, teaching
from tfopt.errors import DataError, OptionError, RecipeError

FIT = tfopt.Fit(epochs=3, batch_size=64, learning_rate=3e-3)


@pytest.fixture(scope="module")
def data():
    return tfopt.datasets.digits()


@pytest.fixture(scope="module")
def teacher(data):
    model = tfopt.models.convnet(data.input_shape, data.num_classes, width=16)
    return tfopt.train(model, data, dataclasses.replace(FIT, epochs=8))


def student(data, **options):
    with backend.seeded(0):
        return tfopt.models.convnet(data.input_shape, data.num_classes, width=4, **options)


def outputs(model, x):
    return np.asarray(model(x, training=False))


def unlabelled(data, seed=0):
    """The same data with training labels that say nothing."""
    x, y = pipelines.to_arrays(data.train)
    return datasets.arrays(x=x, y=np.random.default_rng(seed).permutation(y), name="unlabelled")


def test_a_student_learns_from_the_teacher_what_the_labels_do_not_say(data, teacher):
    """With labels at random and alpha = 1 it learns the classes from the teacher alone; with alpha = 0 it learns nothing."""
    x, y = pipelines.to_arrays(data.test)
    wrong = unlabelled(data)
    scores = {}
    fit = dataclasses.replace(FIT, epochs=30, learning_rate=1e-2)
    for alpha in (0.0, 1.0):
        small = tfopt.distill(student(data), wrong, teacher=teacher, alpha=alpha, fit=fit)
        scores[alpha] = (outputs(small, x).argmax(axis=1) == y).mean()
    assert scores[1.0] > 0.75 and scores[0.0] < 0.4


def test_without_a_share_of_the_teacher_it_is_plain_training(data, teacher):
    plain = tfopt.train(student(data), data, FIT)
    taught = tfopt.distill(student(data), data, teacher=teacher, alpha=0.0, fit=FIT)
    for one, other in zip(plain.get_weights(), taught.get_weights(), strict=True):
        assert np.abs(one - other).max() <= 1e-4 * max(1, np.abs(one).max())


@pytest.mark.parametrize("way", ["model", "keras 3", "path", "several", "self"])
def test_a_teacher_may_be_a_model_a_path_several_or_the_model_itself(way, data, teacher, tmp_path):
    tfopt.save(teacher, tmp_path / "teacher.h5")
    given = {
        "model": teacher,
        "keras 3": bridge.to_keras3(teacher),
        "path": str(tmp_path / "teacher.h5"),
        "several": [teacher, tmp_path / "teacher.h5"],
        "self": "self",
    }[way]
    before = teacher.get_weights()
    fit = dataclasses.replace(FIT, epochs=1)
    found = tfopt.distill(student(data), data, teacher=given, fit=fit).get_weights()
    assert all(np.array_equal(one, other) for one, other in zip(before, teacher.get_weights(), strict=True))
    expected = tfopt.distill(student(data), data, teacher=student(data) if way == "self" else teacher, fit=fit).get_weights()
    assert all(np.abs(one - other).max() < 1e-4 for one, other in zip(found, expected, strict=True))


@pytest.mark.parametrize("ending", ["softmax", "linear"])
def test_probabilities_and_logits_teach_the_same(ending, data, teacher):
    keras = backend.keras()
    bare = keras.Model(teacher.inputs, teacher.get_layer("logits").output)
    x, _ = (part[:64] for part in pipelines.to_arrays(data.test))
    losses = []
    for one in (teacher, bare):
        small = nets.randomized(student(data, activation=ending))
        lesson = teaching.Teaching((one,), 3.0, 1.0).of(data, small)
        losses.append(float(lesson.loss(0.0, lesson.wanted(x), small(x))))
    assert losses[0] == pytest.approx(losses[1], rel=1e-4) and losses[0] > 0.1


def test_the_loss_is_that_of_the_paper(data, teacher):
    x, _ = (part[:32] for part in pipelines.to_arrays(data.test))
    small = nets.randomized(student(data))
    lesson = teaching.Teaching((teacher,), 2.0, 0.25).of(data, small)
    p, q = (outputs(model, x).astype("float64") ** 0.5 for model in (teacher, small))  # softened by T = 2
    p, q = p / p.sum(axis=1, keepdims=True), q / q.sum(axis=1, keepdims=True)
    expected = 0.75 * 3.0 + 0.25 * 4.0 * (p * np.log(p / q)).sum(axis=1).mean()
    assert float(lesson.loss(3.0, lesson.wanted(x), small(x))) == pytest.approx(expected, rel=1e-4)


def regression(seed=0):
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(400, 5)).astype("float32")
    return datasets.arrays(x=x, y=(x @ np.arange(1.0, 6.0)).astype("float32"), task="regression", name="sum")


def test_numbers_are_learnt_from_a_teachers_numbers():
    data = regression()
    large = tfopt.train(tfopt.models.mlp(data.input_shape, 1, hidden=[32], activation="linear"), data, dataclasses.replace(FIT, epochs=60))
    small = tfopt.models.linear(data.input_shape, 1, activation="linear")
    fit = dataclasses.replace(FIT, epochs=120, learning_rate=3e-2)
    small = tfopt.distill(small, data, teacher=large, alpha=1.0, fit=fit)
    x, y = pipelines.to_arrays(data.test)
    assert np.abs(outputs(small, x)[:, 0] - outputs(large, x)[:, 0]).mean() < 0.1 * y.std()


@pytest.mark.parametrize("technique", ["prune", "prune_channels", "factorize", "cluster", "quantize_aware"])
def test_every_technique_that_trains_takes_a_teacher(technique, data, teacher):
    apply, fit = tfopt.techniques.TECHNIQUES[technique], dataclasses.replace(FIT, epochs=1)
    x = pipelines.to_arrays(data.test)[0]
    plain, taught = (outputs(apply(teacher, data, fit=fit, **more), x) for more in ({}, {"teacher": "self"}))
    assert np.isfinite(taught).all() and not np.array_equal(plain, taught)
    with pytest.raises(OptionError, match="teacher: needs a fit"):
        apply(teacher, data, teacher="self")


def test_what_can_not_teach_is_refused_before_training(data, teacher):
    other = tfopt.models.convnet(data.input_shape, 7)
    with pytest.raises(DataError, match=r"its output_shape is \(None, 7\), and that of 'convnet' is \(None, 10\)"):
        tfopt.distill(student(data), data, teacher=other, fit=FIT)
    with pytest.raises(DataError, match="distill needs a teacher"):
        tfopt.distill(student(data), data, fit=FIT)
    with pytest.raises(OptionError, match="'trained': is the model that a recipe has trained"):
        tfopt.distill(student(data), data, teacher="trained", fit=FIT)
    with pytest.raises(OptionError, match="teacher: should be 'self', a model's path"):
        tfopt.distill(student(data), data, teacher=3, fit=FIT)
    with pytest.raises(OptionError, match=r"alpha = 1.5: should be less than or equal to 1"):
        tfopt.distill(student(data), data, teacher=teacher, alpha=1.5, fit=FIT)


RECIPE = {
    "name": "taught",
    "data": {"use": "digits"},
    "model": {"use": "convnet", "width": 8},
    "fit": {"epochs": 2},
    "export": {"formats": ["float32"]},
}


def test_a_recipe_names_the_trained_model_or_a_file(teacher, tmp_path):
    tfopt.save(teacher, tmp_path / "teacher.h5")
    steps = [
        {"use": "prune_channels", "keep": 0.5, "teacher": "trained", "fit": {"epochs": 1}},
        {"use": "distill", "teacher": str(tmp_path / "teacher.h5"), "fit": {"epochs": 1}},
    ]
    report = tfopt.run({**RECIPE, "steps": steps}, out=tmp_path / "run")
    assert [row.artifact.steps for row in report.rows][-1] == ("train", "prune_channels", "distill")
    with pytest.raises(RecipeError, match=r"steps\[0\].teacher = 'nothing.h5': no such file"):
        recipes.load({**RECIPE, "steps": [{"use": "distill", "teacher": "nothing.h5"}]})
    with pytest.raises(RecipeError, match=r"steps\[0\].teacher: is missing"):
        recipes.load({**RECIPE, "steps": [{"use": "distill"}]})
