"""cross_validate: every example is held out once, decides nothing where it is, and the test set stays untouched."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import tfopt
from tfopt import backend, pipelines, training, verification
from tfopt.errors import DataError, OptionError, UnsupportedModel
from tfopt.finding import CrossValidation
from tfopt.finding._cross_validation import divided
from tfopt.types import Call, Fit

PARTS = ("train", "validation", "test")


@pytest.fixture(scope="module")
def penguins(data_folder):
    return tfopt.datasets.csv(file=str(data_folder("tables/penguins.csv")), target="species", ignore=["island"])


@pytest.fixture(scope="module")
def masses(data_folder):
    return tfopt.datasets.csv(file=str(data_folder("tables/penguins.csv")), target="body_mass_g", task="regression", scale_target="z_score")


def rows(data, part):
    """Each example as bytes, with its label."""
    x, y = pipelines.to_arrays(getattr(data, part))
    return [(one.tobytes(), label.tobytes()) for one, label in zip(x, y, strict=True)]


@pytest.mark.parametrize("which", ["digits", "masses"])
def test_every_example_is_held_out_once_and_no_test_example_is_seen(which, request):
    data = request.getfixturevalue(which)
    folds = list(divided(data, 4, 0))
    given = rows(data, "train") + rows(data, "validation")
    held_out = [one for fold in folds for one in rows(fold, "test")]
    assert len(folds) == 4 and sorted(held_out) == sorted(given)
    for fold in folds:
        parts = {part: rows(fold, part) for part in PARTS}
        assert sorted(row for part in parts.values() for row in part) == sorted(given)
        assert abs(len(parts["test"]) - len(given) / 4) < 1
        share = pipelines.size(data.validation) / len(given)
        assert len(parts["validation"]) == pytest.approx(share * 3 / 4 * len(given), abs=1)
    assert len({fold.fingerprint for fold in folds} | {data.fingerprint}) == 5


def test_the_shares_of_the_classes_are_alike(penguins):
    whole = np.bincount(np.concatenate([pipelines.labels(penguins.train), pipelines.labels(penguins.validation)]))
    for fold in divided(penguins, 5, 0):
        assert np.abs(np.bincount(pipelines.labels(fold.test)) - whole / 5).max() < 1
        assert np.bincount(pipelines.labels(fold.validation)).min() > 0


def test_the_division_follows_from_the_seed(penguins):
    first, again, other = (rows(next(divided(penguins, 3, seed)), "test") for seed in (0, 0, 1))
    assert first == again != other


def test_augmentations_and_preparations_stay():
    data = tfopt.datasets.digits(preprocess=["z_score", {"use": "random_flip"}])
    fold = next(divided(data, 3, 0))
    assert pipelines.behind(fold.train)[1] == data.steps and [step.use for step in data.steps] == ["z_score", "random_flip"]


def test_examples_in_files_are_divided_as_well(unpackable):
    sounds = tfopt.datasets.audio_folder(
        folder=str(unpackable("free_spoken_digit/fsdd.zip")), pattern=r"(?P<label>\d)_.*_\d\.wav", seconds=0.5
    )
    data = tfopt.tasks.autoencoding(pipelines.shrink(sounds, train=30, validation=12))  # few, and no class of theirs is looked at
    assert pipelines.behind(data.train)[0].read is not None
    fold = next(divided(data, 3, 0))
    assert sorted(row for part in PARTS for row in rows(fold, part)) == sorted(rows(data, "train") + rows(data, "validation"))


def test_several_inputs_are_divided_together(digits):
    x, y = pipelines.to_arrays(digits.train)
    data = tfopt.datasets.arrays(x={"image": x, "row": y[:, np.newaxis].astype(np.float32)}, y=y)
    (x, y) = pipelines.to_arrays(next(divided(data, 3, 0)).test)
    assert len(x["image"]) == len(y) and (x["row"][:, 0] == y).all()


def build():
    return tfopt.models.mlp((6,), 3, hidden=[8])


def test_each_score_is_that_of_a_model_trained_on_the_rest(penguins):
    fit, built = Fit(epochs=8, batch_size=64, learning_rate=0.02, patience=2), []

    def counting():
        built.append(build())
        return built[-1]

    found = tfopt.cross_validate(counting, penguins, fit, folds=3)
    assert len(built) == 3 and not np.array_equal(built[0].get_weights()[0], built[1].get_weights()[0])
    folds = list(divided(penguins, 3, 0))
    reference = verification.reference(training.train(built[1], folds[1], fit), folds[1])
    assert found.scores[1] == reference.score > 0.5
    assert found.examples == tuple(pipelines.size(fold.test) for fold in folds)
    assert found.metric == "accuracy" and {"f1", "roc_auc", "cross_entropy"} < set(found.metrics)
    assert found.mean == pytest.approx(np.mean(found.scores)) and found.std == pytest.approx(np.std(found.scores, ddof=1))


def test_numbers_are_scored_by_the_tasks_score(masses):
    data = tfopt.tasks.regression(masses, score="mae")

    def build():
        return tfopt.models.mlp(data.input_shape, 1, hidden=[8], activation="linear")

    found = tfopt.cross_validate(build, data, Fit(epochs=2), folds=2, seed=3)
    assert found.metric == "mae" and not found.greater_is_better and set(found.metrics) == {"mae", "mse", "rmse", "r2"}
    assert all(100 < score < 2000 for score in found.scores)  # grams


def test_it_prints_as_a_table():
    metrics = {"loss": (0.5, 0.25, float("nan")), "accuracy": (0.5, 1.0, 0.75)}
    found = CrossValidation("birds", "accuracy", True, (1100, 1100, 1099), metrics)
    assert str(found).splitlines() == [
        "fold  examples  accuracy  loss",
        "1        1,100       0.5   0.5",
        "2        1,100         1  0.25",
        "3        1,099      0.75     –",
        "mean                0.75     –",
        "std                 0.25     –",
        "birds: accuracy 0.75 ± 0.25 over 3 folds",
    ]
    assert str(dataclasses.replace(found, greater_is_better=False)).endswith("over 3 folds, the smaller the better")


# What is refused


def test_a_stream_is_refused(digits):
    tf = backend.tensorflow()
    x, y = pipelines.to_arrays(digits.train)
    stream = pipelines.Stream(lambda index, count: tf.data.Dataset.from_tensor_slices((x, y)).shard(count, index), len(x), "mine")
    data = dataclasses.replace(digits, train=pipelines.dataset_of(stream))
    with pytest.raises(DataError, match="is streamed, and its examples can't be divided into folds by their numbers; load it with cache"):
        tfopt.cross_validate(build, data)


def test_windows_of_a_series_are_refused(data_folder):
    file, labels = data_folder("nab/data") / "realKnownCause", data_folder("nab/labels/combined_windows.json")
    data = tfopt.datasets.time_series(file=str(file), labels=str(labels), length=24, stride=24)
    with pytest.raises(DataError, match="holds windows of a series; of neighbours, which overlap, one would be held out"):
        tfopt.cross_validate(build, data)


def test_anomalies_are_refused_where_the_score_needs_some(digits):
    data = tfopt.tasks.anomaly_detection(digits, normal=["0", "1"])
    with pytest.raises(DataError, match="normal examples only, of which no roc_auc can be taken; choose the score mse"):
        tfopt.cross_validate(build, data)
    assert len(list(divided(tfopt.tasks.anomaly_detection(data, score="mse"), 2, 0))) == 2


def test_parts_that_are_prepared_otherwise_are_refused(digits):
    held, _ = pipelines.behind(digits.validation)
    data = dataclasses.replace(digits, validation=pipelines.dataset_of(held, [Call("rescale")]))
    with pytest.raises(DataError, match="validation is prepared otherwise than train"):
        tfopt.cross_validate(build, data)


def test_too_few_examples_are_refused(penguins, masses):
    with pytest.raises(DataError, match="train and validation have 54 examples of 'Chinstrap', too few for 60 folds"):
        tfopt.cross_validate(build, penguins, folds=60)
    with pytest.raises(DataError, match="have 274 examples, too few for 300 folds"):
        tfopt.cross_validate(build, masses, folds=300)


def test_what_builds_no_model_is_refused(penguins):
    with pytest.raises(OptionError, match="build: expected a function without arguments that returns a new model, got 3"):
        tfopt.cross_validate(3, penguins)
    with pytest.raises(UnsupportedModel, match="expected a tf_keras model"):
        tfopt.cross_validate(lambda: None, penguins)
    with pytest.raises(OptionError, match="folds = 1: should be greater than or equal to 2"):
        tfopt.cross_validate(build, penguins, folds=1)
    with pytest.raises(DataError, match="expected data as"):
        tfopt.cross_validate(build, None)
