"""Tasks: the outputs, losses and scores of each; the same numbers for a Keras model and its file; labels that don't fit."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from sklearn import metrics as sk

import tfopt
from tfopt import backend, pipelines, tasks, verification
from tfopt.errors import DataError, OptionError
from tfopt.tracing import Trace
from tfopt.types import Fit

FIT = Fit(epochs=12, batch_size=32, learning_rate=5e-3)
RNG = np.random.default_rng(0)


def net(inputs, *layers):
    keras = backend.keras()
    with backend.seeded(0):
        return keras.Sequential([keras.Input(inputs), *layers])


def dense(units, activation=None):
    return backend.keras().layers.Dense(units, activation=activation)


@pytest.fixture(scope="module")
def even(digits):
    """Whether a digit is even: two classes."""
    parts = {}
    for part in ("train", "validation", "test", "calibration"):
        held, steps = pipelines.behind(getattr(digits, part))
        parts[part] = pipelines.dataset_of(dataclasses.replace(held, y=(held.y % 2 == 0).astype(np.int32)), steps)
    return dataclasses.replace(digits, name="even", classes=("odd", "even"), fingerprint="even", **parts)


def pictures(digits):
    """All of digits as arrays."""
    parts = [pipelines.to_arrays(getattr(digits, part)) for part in ("train", "validation", "test")]
    return tuple(map(np.concatenate, zip(*parts, strict=True)))


@pytest.fixture(scope="module")
def several(digits):
    """Of each digit whether it is even, above 4, and a prime."""
    x, y = pictures(digits)
    labels = np.stack([y % 2 == 0, y > 4, np.isin(y, [2, 3, 5, 7])], axis=1).astype(int)
    return tfopt.datasets.arrays(x=x, y=labels, task="multi_label", classes=["even", "large", "prime"], name="several")


@pytest.fixture(scope="module")
def ink(digits):
    """How dark a picture is: a number."""
    x, _ = pictures(digits)
    return tfopt.datasets.arrays(x=x, y=100 * x.mean(axis=(1, 2, 3)), task="regression", name="ink")


def flat():
    return backend.keras().layers.Flatten()


def copying():
    return [flat(), dense(16, "relu"), dense(64), backend.keras().layers.Reshape((8, 8, 1))]


CASES = {
    "classification": (lambda d: d["digits"], lambda: [flat(), dense(32, "relu"), dense(10, "softmax")], 0.85),
    "logits": (lambda d: d["digits"], lambda: [flat(), dense(32, "relu"), dense(10)], 0.85),
    "two classes": (lambda d: d["even"], lambda: [flat(), dense(32, "relu"), dense(2, "softmax")], 0.85),
    "two classes, one value": (lambda d: d["even"], lambda: [flat(), dense(32, "relu"), dense(1, "sigmoid")], 0.85),
    "two classes, one logit": (lambda d: d["even"], lambda: [flat(), dense(32, "relu"), dense(1)], 0.85),
    "multi_label": (lambda d: d["several"], lambda: [flat(), dense(32, "relu"), dense(3, "sigmoid")], 0.85),
    "multi_label, logits": (lambda d: d["several"], lambda: [flat(), dense(32, "relu"), dense(3)], 0.85),
    "regression": (lambda d: d["ink"], lambda: [flat(), dense(16, "relu"), dense(1)], 0.8),
    "autoencoding": (lambda d: tasks.autoencoding(d["digits"], score="r2"), copying, 0.5),
    "anomaly_detection": (lambda d: tasks.anomaly_detection(d["digits"], normal=["0", "1", "2"]), copying, 0.85),
}


@pytest.mark.parametrize("case", CASES)
def test_every_task_is_learnt_and_scored_alike_in_keras_and_on_litert(case, digits, even, several, ink):
    of, layers, wanted = CASES[case]
    data = of({"digits": digits, "even": even, "several": several, "ink": ink})
    with Trace() as trace:
        model = tfopt.train(net(data.input_shape, *layers()), data, FIT)
    history = trace.entries[0]["history"]
    assert history["val_loss"][-1] < history["val_loss"][0]
    if "accuracy" in history:  # of logits, too, whose border is 0
        assert history["val_accuracy"][-1] > 0.85
    reference = verification.reference(model, data)
    plain = tfopt.verify(tfopt.convert(model), against=reference, data=data)
    small = tfopt.verify(tfopt.convert(model, "int8", data=data), against=reference, data=data)
    assert plain.baseline == reference.score > wanted
    assert plain.score == pytest.approx(plain.baseline, abs=1e-5) and plain.agreement == pytest.approx(1, abs=1e-5)
    assert abs(small.drop) < 0.05 and small.agreement > 0.9
    assert plain.metric == tasks.of(data).score and plain.metrics[plain.metric] == plain.score
    for verdict in (plain, small):
        assert verdict.interval[0] <= verdict.score <= verdict.interval[1]
        assert all(np.isfinite(list(verdict.metrics.values()))), verdict.metrics
        assert bool(verdict.per_class) == (data.task in ("classification", "multi_label"))
        if verdict.confusion:
            assert np.sum(verdict.confusion) == verdict.examples
            assert np.trace(verdict.confusion) / verdict.examples == pytest.approx(verdict.metrics["accuracy"])


def measured(data, truth, outputs):
    return tasks.of(data).scores(truth, outputs, outputs)


def test_metrics_of_classes_are_scikit_learns(digits):
    y, p = RNG.integers(0, 10, 300), RNG.dirichlet(np.ones(10), 300).astype(np.float32)
    p[np.arange(300), y] += 0.15
    p /= p.sum(axis=1, keepdims=True)
    found, predicted = measured(digits, y, p), p.argmax(axis=1)
    exact = p.astype(np.float64) / p.sum(axis=1, keepdims=True, dtype=np.float64)
    expected = {
        "accuracy": sk.accuracy_score(y, predicted),
        "top_5_accuracy": sk.top_k_accuracy_score(y, p, k=5),
        "precision": sk.precision_score(y, predicted, average="macro"),
        "recall": sk.recall_score(y, predicted, average="macro"),
        "f1": sk.f1_score(y, predicted, average="macro"),
        "roc_auc": sk.roc_auc_score(y, exact, multi_class="ovr"),
        "average_precision": sk.average_precision_score(np.eye(10)[y], p, average="macro"),
        "cross_entropy": sk.log_loss(y, exact),
    }
    assert found.metrics == pytest.approx(expected, abs=1e-6)
    assert found.confusion == tuple(map(tuple, sk.confusion_matrix(y, predicted)))
    assert found.per_class["3"]["f1"] == pytest.approx(sk.f1_score(y, predicted, average=None)[3])
    logits = np.log(p)  # the same probabilities, so the same numbers
    assert measured(digits, y, logits).metrics == pytest.approx(expected, abs=1e-6)


def test_metrics_of_two_classes_are_of_the_second(even):
    y, p = RNG.integers(0, 2, 200), RNG.uniform(size=(200, 1)).astype(np.float32)
    p = (p + y[:, np.newaxis]) / 2
    found, predicted = measured(even, y, p), (p[:, 0] > 0.5).astype(int)
    assert found.metrics == pytest.approx(
        {
            "accuracy": sk.accuracy_score(y, predicted),
            "precision": sk.precision_score(y, predicted),
            "recall": sk.recall_score(y, predicted),
            "f1": sk.f1_score(y, predicted),
            "roc_auc": sk.roc_auc_score(y, p[:, 0]),
            "average_precision": sk.average_precision_score(y, p[:, 0]),
            "cross_entropy": sk.log_loss(y, p[:, 0].astype(np.float64)),
        },
        abs=1e-5,
    )


def test_metrics_of_several_labels_are_scikit_learns(several):
    y, p = (RNG.uniform(size=(200, 3)) > 0.6).astype(np.float32), RNG.uniform(size=(200, 3)).astype(np.float32)
    found, there = measured(several, y, p), p >= 0.5
    assert found.metrics == pytest.approx(
        {
            "f1": sk.f1_score(y, there, average="macro"),
            "precision": sk.precision_score(y, there, average="macro"),
            "recall": sk.recall_score(y, there, average="macro"),
            "accuracy": np.mean(y == there),
            "exact_match": sk.accuracy_score(y, there),
            "average_precision": sk.average_precision_score(y, p, average="macro"),
            "roc_auc": sk.roc_auc_score(y, p, average="macro"),
        }
    )
    assert found.per_class["prime"]["roc_auc"] == pytest.approx(sk.roc_auc_score(y[:, 2], p[:, 2]))


def test_metrics_of_numbers_are_scikit_learns(ink):
    y = RNG.normal(size=200).astype(np.float32)
    p = (y + RNG.normal(size=200) / 3).astype(np.float32)
    expected = {
        "r2": sk.r2_score(y, p),
        "mae": sk.mean_absolute_error(y, p),
        "mse": sk.mean_squared_error(y, p),
        "rmse": sk.root_mean_squared_error(y, p),
    }
    assert measured(ink, y, p[:, np.newaxis]).metrics == pytest.approx(expected, rel=1e-5)


def test_several_numbers_are_learnt_at_once(digits):
    x, _ = pictures(digits)
    halves = np.stack([x[:, :4].mean(axis=(1, 2, 3)), x[:, 4:].mean(axis=(1, 2, 3))], axis=1)
    data = tfopt.datasets.arrays(x=x, y=10 * halves, task="regression")
    model = tfopt.train(net((8, 8, 1), flat(), dense(2)), data, dataclasses.replace(FIT, epochs=40))
    verdict = tfopt.verify(tfopt.convert(model), against=model, data=data)
    assert verdict.metric == "r2" and verdict.score > 0.9
    p, (_, truth) = model.predict(pipelines.to_arrays(data.test)[0], verbose=0), pipelines.to_arrays(data.test)
    assert verdict.score == pytest.approx(sk.r2_score(truth, p), abs=1e-5)


def test_an_anomaly_is_told_by_its_error():
    x = RNG.normal(size=(100, 6, 2)).astype(np.float32)
    y = (np.arange(100) % 3 == 0).astype(np.int32)
    data = tfopt.datasets.arrays(x=x, y=y, classes=["normal", "odd"])
    outputs = (x + RNG.normal(size=x.shape) * (0.1 + 0.1 * y[:, np.newaxis, np.newaxis])).astype(np.float32)
    for error, of in {
        "mean": lambda squares: squares.mean(axis=(1, 2)),
        "max": lambda squares: squares.max(axis=(1, 2)),
        "last": lambda squares: squares[:, -1].mean(axis=1),
    }.items():
        chosen = tasks.anomaly_detection(data, error=error)
        found = measured(chosen, {"inputs": x, "labels": y}, outputs)
        squares = np.square(outputs.astype(np.float64) - x)
        assert found.value == pytest.approx(sk.roc_auc_score(y, of(squares)))
        assert found.metrics["average_precision"] == pytest.approx(sk.average_precision_score(y, of(squares)))
        assert found.metrics["mse"] == pytest.approx(squares[y == 0].mean())


def test_only_normal_examples_are_trained_on(digits):
    data = tasks.anomaly_detection(digits, normal=["7", "1"])
    assert data.classes == ("normal", "anomaly") and data.fingerprint != digits.fingerprint
    for part in ("train", "validation", "calibration"):
        x, y = pipelines.to_arrays(getattr(data, part))
        before, labels = pipelines.to_arrays(getattr(digits, part))
        assert not y.any() and np.array_equal(x, before[np.isin(labels, [1, 7])])
    _, y = pipelines.to_arrays(data.test)
    assert np.array_equal(y == 0, np.isin(pipelines.to_arrays(digits.test)[1], [1, 7]))
    assert not any("no examples" in warning for warning in tfopt.describe(data).warnings)


def test_top_k_is_any_number_and_the_score_is_chosen(digits):
    y, p = RNG.integers(0, 10, 100), RNG.uniform(size=(100, 10)).astype(np.float32)
    found = measured(tasks.classification(digits, score="top_3_accuracy"), y, p)
    assert found.metric == "top_3_accuracy" and found.value == sk.top_k_accuracy_score(y, p, k=3)
    assert found.interval == tasks.wilson(round(100 * found.value), 100)


def test_the_interval_of_other_scores_covers_the_truth():
    """Of 200 samples whose mean squared error is 1 by their making, about 190 intervals should hold 1."""
    data = tfopt.datasets.arrays(x=np.zeros((100, 2), np.float32), y=np.arange(100.0), task="regression")
    data, held = tasks.regression(data, score="mse"), 0
    task = tasks.of(data)
    for seed in range(200):
        errors = np.random.default_rng(seed).normal(size=100).astype(np.float32)
        low, high = task.scores(np.zeros(100, np.float32), errors[:, np.newaxis], errors[:, np.newaxis]).interval
        held += low <= 1 <= high
    assert 178 <= held <= 198


def test_outputs_that_are_no_numbers_are_the_worst(digits, ink, several):
    y = np.arange(10)
    p = np.eye(10, dtype=np.float32)
    p[3] = np.nan
    found = measured(digits, y, p)
    assert found.value == 0.9 and np.sum(found.confusion) == 9 and np.isfinite(found.metrics["roc_auc"])
    numbers = np.arange(10, dtype=np.float32)
    broken = np.where(numbers == 3, np.nan, numbers)[:, np.newaxis]
    assert measured(ink, numbers, broken).metrics == {"r2": -np.inf, "mae": np.inf, "mse": np.inf, "rmse": np.inf}
    labels = (RNG.uniform(size=(10, 3)) > 0.5).astype(np.float32)
    there = labels.copy()
    there[0] = np.nan
    assert measured(several, labels, there).metrics["exact_match"] == 0.9


@pytest.mark.parametrize("options", [{"class_weights": "balanced"}, {"class_weights": {"0": 9.0}}, {"label_smoothing": 0.2}])
def test_weights_and_smoothing_change_what_is_learnt(digits, options):
    model = net((8, 8, 1), flat(), dense(10, "softmax"))
    fit = dataclasses.replace(FIT, epochs=12)
    plain, other = tfopt.train(model, digits, fit), tfopt.train(model, digits, dataclasses.replace(fit, **options))
    x, y = pipelines.to_arrays(digits.test)
    before, after = plain.predict(x, verbose=0), other.predict(x, verbose=0)
    assert (after.argmax(axis=1) == y).mean() > 0.7
    if options == {"class_weights": {"0": 9.0}}:
        assert after[:, 0].mean() > before[:, 0].mean() + 0.01  # it is taken for more likely than it is
    if "label_smoothing" in options:
        assert after.max(axis=1).mean() < before.max(axis=1).mean() - 0.05
    assert not np.allclose(before, after)


def test_balanced_weights_are_scikit_learns(digits):
    from sklearn.utils.class_weight import compute_class_weight

    from tfopt import _targets

    y = pipelines.labels(digits.train)
    found = _targets._weights(digits, Fit(class_weights="balanced"))
    assert found == pytest.approx(compute_class_weight("balanced", classes=np.arange(10), y=y), rel=1e-6)


def test_weighting_is_the_weighted_loss(digits):
    """One step of plain gradient descent on one batch is the step along the weighted loss's gradient."""
    tf = backend.tensorflow()
    model = net((8, 8, 1), flat(), dense(10))
    x, y = pipelines.to_arrays(digits.train)
    fit = Fit(epochs=1, batch_size=len(y), optimizer="sgd", learning_rate=0.1, schedule="constant", class_weights={"3": 5.0})
    trained = tfopt.train(model, digits, fit)
    with tf.GradientTape() as tape:
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(y, model(x))
        loss = tf.reduce_mean(losses * np.where(y == 3, 5.0, 1.0))
    kernel = model.trainable_variables[0]
    step = (trained.trainable_variables[0] - kernel).numpy()
    gradient = tape.gradient(loss, kernel).numpy()
    assert np.corrcoef(step.ravel(), -gradient.ravel())[0, 1] > 0.9999


def test_a_loss_of_the_users_own_is_taken(ink):
    tf = backend.tensorflow()

    def pinball(targets, outputs):
        difference = tf.reshape(targets, [-1]) - tf.reshape(outputs, [-1])
        return tf.maximum(0.9 * difference, -0.1 * difference)

    data = tasks.regression(ink, loss=pinball)
    model = tfopt.train(net((8, 8, 1), flat(), dense(1)), data, dataclasses.replace(FIT, epochs=30))
    x, y = pipelines.to_arrays(ink.test)
    below = np.mean(y < model.predict(x, verbose=0)[:, 0])
    assert 0.8 < below < 0.97  # it has learnt the ninth of ten parts
    assert data.fingerprint != tasks.regression(ink, loss="huber").fingerprint != tasks.regression(ink).fingerprint
    tfopt.train(net((8, 8, 1), flat(), dense(1)), tasks.regression(ink, loss="huber"), Fit(epochs=1))


def test_a_loss_of_indices_is_refused_where_labels_are_mixed(digits):
    x, y = pictures(digits)
    data = tasks.classification(tfopt.datasets.arrays(x=x, y=y, preprocess=["mixup"]), loss="sparse_categorical_crossentropy")
    with pytest.raises(OptionError, match=r"shares of the classes \(mixup, cutmix\); use 'categorical_crossentropy'"):
        tfopt.train(tfopt.models.linear(data.input_shape, 10), data, tfopt.Fit(epochs=1))


@pytest.mark.parametrize("loss", ["categorical_focal_crossentropy", "sparse_categorical_crossentropy", "kl_divergence"])
def test_losses_of_shares_and_of_indices_are_taken_by_name(digits, loss):
    data = tasks.classification(digits, loss=loss)
    model = tfopt.train(net((8, 8, 1), flat(), dense(32, "relu"), dense(10, "softmax")), data, FIT)
    x, y = pipelines.to_arrays(digits.test)
    assert (model.predict(x, verbose=0).argmax(axis=1) == y).mean() > 0.8


# What does not fit


@pytest.mark.parametrize("name", sorted({*tasks.TASKS} - {"autoencoding", "anomaly_detection", "classification"}))
def test_a_task_is_refused_where_the_labels_are_no_such(digits, name):
    with pytest.raises(DataError, match=f"data 'digits'.* y (is|has) .*{name} needs"):
        tasks.TASKS[name](digits)


@pytest.mark.parametrize(
    ("change", "layers", "said"),
    [
        (tasks.regression, lambda: [dense(1)], r"y is int32 of shape \(\); regression needs a number for each example, float32"),
        (tasks.multi_label, lambda: [dense(10)], r"multi_label needs a 0 or 1 for each class, float32 of shape \(classes,\)"),
        (
            lambda d: d,
            lambda: [flat(), dense(1)],
            r"gives outputs of shape \(1,\); data 'digits'.*with 10 classes, needs \(10,\); end the ",
        ),
        (lambda d: d, lambda: [flat(), dense(10, "sigmoid")], "ends in sigmoid; one class of several needs a softmax or logits"),
        (
            tasks.autoencoding,
            lambda: [flat(), dense(10)],
            r"is for autoencoding, needs \(8, 8, 1\); end the model in Dense\(64\) and Reshape",
        ),
        (lambda d: dataclasses.replace(d, task="pose"), lambda: [dense(1)], "is for pose; models are trained and verified for"),
    ],
    ids=["regression", "multi_label", "outputs", "sigmoid", "autoencoding", "unknown"],
)
def test_labels_and_models_that_do_not_fit_are_refused(digits, change, layers, said):
    with pytest.raises(DataError, match=said):
        tfopt.train(net((8, 8, 1), *layers()), change(digits), Fit(epochs=1))


def test_a_bounded_output_is_no_regression(ink):
    with pytest.raises(DataError, match="ends in sigmoid; regression needs an output without it"):
        tfopt.train(net((8, 8, 1), flat(), dense(1, "sigmoid")), ink, Fit(epochs=1))


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda d: tasks.classification(d, score="f2"), "score = 'f2'"),
        (lambda d: tasks.of(dataclasses.replace(d, metric="mae")), "score = 'mae': classification has no such metric"),
        (lambda d: tasks.anomaly_detection(d), "has no class 'normal' to be normal"),
        (lambda d: tasks.anomaly_detection(d, normal=list("0123456789")), "all its classes are normal"),
        (
            lambda d: tfopt.train(net((8, 8, 1), flat(), dense(10)), tasks.classification(d, loss="hinge_los"), Fit()),
            "no such loss; did you",
        ),
        (lambda d: tfopt.train(net((8, 8, 1), flat(), dense(10)), d, Fit(class_weights={"x": 1.0})), "has no class 'x'"),
        (lambda d: tfopt.train(net((8, 8, 1), *copying()), tasks.autoencoding(d), Fit(class_weights="balanced")), "only classes that"),
        (lambda d: tfopt.train(net((8, 8, 1), *copying()), tasks.autoencoding(d), Fit(label_smoothing=0.1)), "has no label smoothing"),
    ],
)
def test_what_a_task_can_not_do_is_said(digits, call, said):
    with pytest.raises((DataError, OptionError), match=said):
        call(digits)


def test_labels_of_several_classes_are_checked():
    x = np.zeros((30, 4), np.float32)
    with pytest.raises(DataError, match="for task = 'multi_label' should be a row of 0 and 1"):
        tfopt.datasets.arrays(x=x, y=RNG.integers(0, 3, (30, 4)), task="multi_label")
    with pytest.raises(DataError, match="labels have 4 columns for 2 classes"):
        tfopt.datasets.arrays(x=x, y=RNG.integers(0, 2, (30, 4)), task="multi_label", classes=["a", "b"])


def test_a_score_that_these_examples_do_not_define_is_said(digits):
    with pytest.raises(DataError, match="roc_auc is not defined on this test set; the test set should hold normal examples and anomalies"):
        measured(
            tasks.anomaly_detection(digits, normal=["1"]), {"inputs": np.zeros((5, 8, 8, 1)), "labels": np.zeros(5)}, np.ones((5, 8, 8, 1))
        )
