"""Distillation: soft targets in a fit, who may teach, and what it is good for."""

from __future__ import annotations

import dataclasses

import nets
import numpy as np
import pytest
import test_detection

import tfopt
from tfopt import backend, bridge, datasets, pipelines, recipes, strategies, tasks, teaching
from tfopt.errors import DataError, OptionError, RecipeError
from tfopt.tracing import Trace

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


def asked(data, teachers, small, x):
    """The loss of the teachers alone, at T = 2, and what they and the student give for x, float64."""
    lesson = teaching.Teaching(teachers, 2.0, 1.0).of(data, small)
    loss = float(lesson.loss(0.0, lesson.wanted(x), small(x)))
    return loss, *(np.mean([outputs(one, x) for one in some], axis=0, dtype="float64") for some in (teachers, (small,)))


def sigmoid(values):
    return 1 / (1 + np.exp(-values))


def apart(wanted, found):
    """KL of each label's probability and of its not being there, at T = 2, times T^2."""
    p, q = sigmoid(wanted / 2), sigmoid(found / 2)
    return 4 * (p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q)))


def head(shape, *layers, seed=0):
    return nets.randomized(backend.keras().Sequential([backend.keras().Input(shape), *layers]), seed)


def test_the_loss_of_labels_that_do_not_exclude_each_other():
    x = nets.examples(5, count=40)
    data = datasets.arrays(x=x, y=(x[:, :3] > 0).astype(int), task="multi_label", name="signs")
    one, small = (head((5,), nets.layers().Dense(3), seed=seed) for seed in (0, 1))
    other = head((5,), nets.layers().Dense(3, "sigmoid"), seed=0)
    for teacher in (one, other):  # logits or the probabilities of the same
        loss, _, found = asked(data, (teacher,), small, x)
        assert loss == pytest.approx(apart(outputs(one, x).astype("float64"), found).mean(), rel=1e-4)


def test_the_loss_of_a_class_at_each_pixel():
    x = nets.examples(6, 6, 2, count=40)
    data = datasets.arrays(x=x, y=(x[..., 0] > 0).astype(int), task="segmentation", classes=["low", "high"], name="pixels")
    teacher, small = (head((6, 6, 2), nets.layers().Conv2D(2, 3, padding="same"), seed=seed) for seed in (0, 1))
    loss, wanted, found = asked(data, (teacher,), small, x)
    p, q = (np.exp(one / 2) / np.exp(one / 2).sum(-1, keepdims=True) for one in (wanted, found))
    assert loss == pytest.approx(4 * (p * np.log(p / q)).sum(-1).mean(), rel=1e-4)


@pytest.fixture(scope="module")
def pictures():
    """Squares and their boxes; and the same with no boxes in training."""
    x, y = test_detection.squares()
    none = {name: np.full_like(one, -1) for name, one in y.items()}
    parts = {"train": (slice(0, 80), y), "validation": (slice(80, 96), y), "test": (slice(96, 112), y), "calibration": (slice(0, 16), y)}
    found = {}
    for name, train in {"squares": y, "empty": none}.items():
        made = {part: {key: one[rows] for key, one in of.items()} for part, (rows, of) in {**parts, "train": (slice(0, 80), train)}.items()}
        known = {"input_shape": x.shape[1:], "classes": ("dark", "bright"), "fingerprint": name}
        examples = {part: pipelines.examples(x[parts[part][0]], labels) for part, labels in made.items()}
        found[name] = tasks.detection(tfopt.types.Data(name=name, task="detection", **known, **examples), **test_detection.SMALL)
    return found


def detector(seed=0):
    with backend.seeded(seed):
        return tfopt.models.ssd((64, 64, 3), 2, alpha=0.25, strides=[8, 16], anchors=1)


def test_the_loss_of_detectors_counts_anchors_by_what_is_seen_there(pictures):
    """One anchor after the other, as the page has it."""
    generator = np.random.default_rng(0)
    wanted, found = generator.normal(-2, 2, (2, 3, 80, 6)).astype("float32")
    given = [backend.tensorflow().constant(one) for one in (wanted, found)]
    model = detector()
    lesson = teaching.Teaching((model,), 2.0, 1.0).of(pictures["squares"], model)
    each = []
    for ours, its in zip(wanted.astype("float64"), found.astype("float64"), strict=True):
        far, objects = 0.0, 0.0
        for one, other in zip(ours, its, strict=True):
            seen, thought = sigmoid(one[4:].max()) ** 2, sigmoid(other[4:].max()) ** 2
            distance = np.abs(one[:4] - other[:4])
            far += max(seen, thought) * apart(one[4:], other[4:]).sum()
            far += seen * np.where(distance < 1, distance**2 / 2, distance - 0.5).sum()
            objects += seen
        each.append(far / max(objects, 1.0))
    assert float(lesson.loss(0.0, (given[0], []), given[1])) == pytest.approx(np.mean(each), rel=1e-4)


@pytest.mark.slow
def test_a_detector_learns_from_another_what_no_box_says(pictures):
    fit = tfopt.Fit(epochs=25, batch_size=8, learning_rate=1e-2)
    teacher = tfopt.train(detector(), pictures["squares"], fit)
    taught = tfopt.distill(detector(1), pictures["empty"], teacher=teacher, alpha=1.0, fit=fit)
    verdict = tfopt.verify(tfopt.convert(taught), against=teacher, data=pictures["squares"])
    assert verdict.baseline > 0.5 and verdict.score > verdict.baseline - 0.2


@pytest.mark.slow
@pytest.mark.parametrize("task", ["multi_label", "segmentation"])
def test_labels_and_pixels_are_learnt_where_labels_are_at_random(task):
    x, layers = nets.examples(8, 8, 3, count=600), nets.layers()
    if task == "segmentation":
        y, named = x[..., 0] + x[..., 1] > 0.6, {"classes": ["low", "high"]}
    else:
        y, named = x.mean(axis=(1, 2)) > 0.3, {}

    def model(seed):
        ending = [layers.Conv2D(2, 1)] if task == "segmentation" else [layers.GlobalAveragePooling2D(), layers.Dense(3)]
        return head((8, 8, 3), *ending, seed=seed)

    y, fit = y.astype(int), dataclasses.replace(FIT, epochs=40, learning_rate=3e-2)
    mixed_up = np.random.default_rng(0).permutation(y)
    data, wrong = (datasets.arrays(x=x, y=labels, task=task, name=task, **named) for labels in (y, mixed_up))
    teacher = tfopt.train(model(0), data, fit)
    small = tfopt.distill(model(1), wrong, teacher=teacher, alpha=1.0, fit=fit)
    assert tfopt.verify(tfopt.convert(small), against=teacher, data=data).agreement > 0.9


# The teacher asked once


def beside(data, teachers, fit, first=0, **options):
    lesson = teaching.Teaching(teachers, **options).of(data, student(data))
    batches = pipelines.training_batches(data, fit, first)
    return lesson, batches, lesson.beside(batches, fit, first)


@pytest.mark.parametrize("first", [0, 2])
def test_what_is_asked_once_is_what_each_batch_would_be_told(first, data, teacher):
    """The mean of two teachers, for each example of each batch, wherever the fit goes on."""
    with Trace() as trace:
        lesson, plain, told = beside(data, (teacher, student(data)), FIT, first)
    (note,) = trace.entries
    assert note["text"].startswith(f"the teacher was asked once for all {pipelines.size(data.train):,} training examples")
    for (x, y), batch in zip(plain, told, strict=True):
        opened, (logits, _) = lesson.opened(batch)
        assert np.array_equal(opened[0], x) and np.array_equal(opened[1], y)
        np.testing.assert_allclose(logits, lesson.wanted(x)[0], atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("replicas", [1, 2])
def test_a_teacher_asked_once_teaches_the_same(replicas, data, teacher, monkeypatch):
    curves, strategy = [], strategies.pick("mirrored", devices=["CPU:0", "CPU:1"][:replicas])
    fit = dataclasses.replace(FIT, epochs=2, accumulate=replicas)
    for most in (teaching.MOST, 0):
        monkeypatch.setattr(teaching, "MOST", most)
        with Trace() as trace, strategy.scope():
            tfopt.distill(student(data), data, teacher=teacher, fit=fit)
        assert any("asked once" in entry.get("text", "") for entry in trace.entries) == (most > 0)
        curves.append(next(entry["history"] for entry in trace.entries if entry["kind"] == "curve"))
    for name, values in curves[0].items():
        assert values == pytest.approx(curves[1][name], rel=1e-3), name


def test_it_is_asked_in_each_step_where_examples_change_or_there_is_no_room(data, teacher, monkeypatch):
    x, y = pipelines.to_arrays(data.train)
    moved = datasets.arrays(x=x, y=y, name="moved", preprocess=[{"use": "translation", "share": 0.1}])
    noisy = dataclasses.replace(data, augmentation=lambda x, y, seed: (x, y))
    hinted = {"hints": ["relu2"]}
    for data_of, fit, options in ((moved, FIT, {}), (noisy, FIT, {}), (data, dataclasses.replace(FIT, epochs=1), {}), (data, FIT, hinted)):
        _, plain, told = beside(data_of, (teacher,), fit, **options)
        assert told is plain
    monkeypatch.setattr(teaching, "MOST", 4 * 10 * len(x) - 1)
    _, plain, told = beside(data, (teacher,), FIT)
    assert told is plain


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


def test_a_teacher_takes_the_students_inputs_by_name(data, teacher):
    model = nets.randomized(nets.two_inputs())
    turned = backend.keras().Model(model.inputs[::-1], model.outputs, name="turned")  # the same inputs in another order
    x, y = (part[:200] for part in pipelines.to_arrays(data.train))
    two = datasets.arrays(x={"image": x, "row": x.sum(axis=(2, 3))}, y=y, name="two")
    taught = teaching.teaching_by(turned, nets.two_inputs(), FIT).of(two, nets.two_inputs())
    batch, _ = next(iter(two.train.batch(8)))
    np.testing.assert_allclose(taught.wanted(batch)[0], np.log(model(batch)), atol=1e-4)
    with pytest.raises(DataError, match="its input_shape is"):
        tfopt.distill(nets.two_inputs(), two, teacher=teacher, fit=FIT)


def test_a_recipes_teacher_of_other_classes_is_refused_before_it_trains(data, tmp_path):
    """Five hundred epochs would take minutes."""
    tfopt.save(tfopt.models.convnet(data.input_shape, 7), tmp_path / "teacher.h5")
    said = r"steps\[0\]\.teacher 'convnet': its output_shape is \(None, 7\), and that of 'convnet' is \(None, 10\)"
    for use in ("distill", "prune"):
        steps = [{"use": use, "teacher": str(tmp_path / "teacher.h5"), "fit": {"epochs": 1}}]
        with pytest.raises(DataError, match=said):
            tfopt.run({**RECIPE, "fit": {"epochs": 500}, "steps": steps}, out=tmp_path / use)


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
