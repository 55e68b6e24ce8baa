"""What a `Fit` asks for beyond epochs and a rate does what it says: beside the techniques, on two replicas, and after an interruption."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import nets
import numpy as np
import pytest

import tfopt
from tfopt import backend, pipelines, progress, recipes, strategies, training
from tfopt.errors import DataError, OptionError, RecipeError
from tfopt.surgery import kernels
from tfopt.tracing import Trace
from tfopt.types import Fit

ALL = {"l1": 1e-5, "l2": 1e-4, "max_norm": 0.8, "clip_norm": 1.0, "ema": 0.9, "accumulate": 3, "weight_decay": 0.01}
ONE_STEP = {"epochs": 1, "batch_size": 200, "schedule": "constant", "optimizer": "sgd", "momentum": 0.0, "learning_rate": 0.1}

fit_in_place = training.fit_in_place


@pytest.fixture(scope="module")
def small(digits):
    """200 digits to train on: 4 steps of 64, the last of 8."""
    return pipelines.shrink(digits, train=200, validation=100)


def dense(seed=0):
    """A net without BatchNorm and Dropout."""
    with backend.seeded(seed):
        return tfopt.models.mlp((8, 8, 1), 10, hidden=[16])


def dropping(seed=0):
    """A net with both."""
    layers = backend.keras().layers
    with backend.seeded(seed):
        parts = [layers.Conv2D(4, 3), layers.BatchNormalization(), layers.ReLU(), layers.Flatten(), layers.Dropout(0.5), layers.Dense(10)]
        return backend.keras().Sequential([backend.keras().Input((8, 8, 1)), *parts])


def same(one, other):
    return all(np.array_equal(a, b) for a, b in zip(one.get_weights(), other.get_weights(), strict=True))


def close(one, other, tolerance=1e-6):
    return all(np.abs(a - b).max() <= tolerance for a, b in zip(one.get_weights(), other.get_weights(), strict=True))


def change(data, model=None, **options):
    """The kernels, and the other trained weights, before and after one step of plain SGD at the rate 0.1."""
    model = model or dense()
    trained = tfopt.train(model, data, Fit(**{**ONE_STEP, **options}))
    found = {id(kernel.variable) for kernel in kernels.of_all(model.layers)}
    pairs = [(a.numpy(), b.numpy(), id(a) in found) for a, b in zip(model.trainable_weights, trained.trainable_weights, strict=True)]
    return [(a, b) for a, b, kernel in pairs if kernel], [(a, b) for a, b, kernel in pairs if not kernel]


def callback(**functions):
    return backend.keras().callbacks.LambdaCallback(**functions)


def rates(data, fit):
    """The learning rate of each step of a fit, and its curves."""
    seen, of = [], {}
    remember = callback(
        on_train_begin=lambda logs: None, on_train_batch_end=lambda batch, logs: seen.append(float(of["model"].optimizer.learning_rate))
    )
    remember.set_model = lambda model: of.update(model=model)
    with Trace() as trace:
        tfopt.train(dense(), data, fit, callbacks=[remember])
    return np.array(seen), trace.entries[-1]["history"]


# ---- the law: interrupted and resumed is the same as unbroken

CASES = [
    {"optimizer": "adam", "schedule": "constant", "warmup_epochs": 1.5},
    {"optimizer": "adamw", "schedule": "step", "decay_epochs": 2},
    {"optimizer": "adamw", "schedule": "step", "warmup_epochs": 2.5, "decay": 0.5, "weight_decay": 0.1},
    {"optimizer": "sgd", "schedule": "exponential", "momentum": 0.5, "clip_value": 0.01},
    {"optimizer": "sgd", "schedule": "plateau", "decay_epochs": 1, "learning_rate": 1.0},
    {"optimizer": "adam", "schedule": "plateau", "decay_epochs": 1, "learning_rate": 0.1, "warmup_epochs": 1, "patience": 2},
    {"optimizer": "rmsprop", "schedule": "cosine", "warmup_epochs": 1, "clip_norm": 0.1},
    {"optimizer": "nadam", "schedule": "one_cycle"},
    {"optimizer": "adagrad", "schedule": "exponential", "warmup_epochs": 0.5, "weight_decay": 0.01},
    {"optimizer": "lion", "schedule": "cosine", "learning_rate": 1e-4},
    {"l1": 1e-3, "l2": 1e-3},
    {"ema": 0.99, "patience": 3},
    {"optimizer": "nadam", "schedule": "plateau", "decay_epochs": 1, "learning_rate": 0.05, "label_smoothing": 0.1, **ALL},
]


def named(case):
    return "-".join(f"{key}={value}" for key, value in case.items())


@pytest.mark.parametrize("case", CASES, ids=named)
def test_an_interrupted_fit_goes_on_exactly(small, tmp_path, case):
    fit = Fit(**{"epochs": 5, "learning_rate": 3e-3, **case})

    def interrupt(epoch, logs):
        if epoch == 3:
            raise KeyboardInterrupt

    with Trace() as whole:
        straight = tfopt.train(dropping(), small, fit)
    with progress.resumable(tmp_path), pytest.raises(KeyboardInterrupt):
        tfopt.train(dropping(), small, fit, callbacks=[callback(on_epoch_begin=interrupt)])
    with Trace() as parts, progress.resumable(tmp_path):
        resumed = tfopt.train(dropping(), small, fit)
    assert same(straight, resumed)
    assert whole.entries == parts.entries
    with progress.resumable(tmp_path):
        assert same(straight, tfopt.train(dropping(), small, fit))  # found as it was finished


def test_the_law_tries_every_name():
    names = {key: {case.get(key) for case in CASES} for key in ("optimizer", "schedule")}
    for key, tried in names.items():
        with pytest.raises(OptionError) as said:
            Fit(**{key: "x"})
        known = str(said.value).partition("should be ")[2].replace(" or ", ", ").split(", ")
        assert {name.strip("'") for name in known} == tried - {None}


@pytest.mark.parametrize("technique", ["prune", "cluster"])
def test_a_technique_with_an_average_goes_on_exactly(small, tmp_path, technique, monkeypatch):
    model, apply = nets.randomized(dropping()), getattr(tfopt, technique)
    fit = Fit(epochs=3, ema=0.9, schedule="plateau", decay_epochs=1)
    straight = apply(model, small, fit=fit)

    def interrupt(epoch, logs):
        if epoch == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, progress.resumable(tmp_path), pytest.raises(KeyboardInterrupt):
        patch.setattr(training, "fit_in_place", lambda m, d, f, **k: fit_in_place(m, d, f, users=[callback(on_epoch_begin=interrupt)], **k))
        apply(model, small, fit=fit)
    with progress.resumable(tmp_path):
        assert same(straight, apply(model, small, fit=fit))


# ---- optimizers


@pytest.mark.parametrize(
    "name, rate", [("adam", 1e-2), ("adamw", 1e-2), ("sgd", 0.1), ("rmsprop", 1e-2), ("nadam", 1e-2), ("adagrad", 0.1), ("lion", 2e-2)]
)
def test_each_optimizer_learns_and_is_keras_own(digits, tmp_path, name, rate):
    with Trace() as trace:
        model = tfopt.train(dense(), digits, Fit(epochs=3, optimizer=name, learning_rate=rate))
    assert trace.entries[0]["history"]["val_accuracy"][-1] > 0.8
    optimizer = type(model.optimizer)
    assert optimizer.__name__.lower() == name and optimizer.__module__.startswith("tf_keras.")


def test_momentum_is_sgds(small):
    without, with_it = (tfopt.train(dense(), small, Fit(epochs=2, optimizer="sgd", momentum=momentum)) for momentum in (0.0, 0.9))
    assert not close(without, with_it)


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd", "rmsprop", "nadam", "adagrad", "lion"])
def test_weight_decay_takes_a_share_off_kernels_alone(small, optimizer):
    """Decoupled: beside the step by the gradients, which is the same."""
    given = {**ONE_STEP, "optimizer": optimizer, "learning_rate": 0.01}
    if optimizer != "sgd":
        del given["momentum"]
    usual = {"weight_decay": 0.0} if optimizer == "adamw" else {}
    model = nets.randomized(dropping())
    plain, decayed = (tfopt.train(model, small, Fit(**given, **more)) for more in (usual, {"weight_decay": 0.5}))
    found = {id(kernel.variable) for kernel in kernels.of_all(model.layers)}
    assert {weight.name.split("/")[-1] for weight in model.weights if id(weight) not in found} == {
        "gamma:0", "beta:0", "moving_mean:0", "moving_variance:0", "bias:0"
    }  # fmt: skip
    for before, one, other in zip(model.weights, plain.weights, decayed.weights, strict=True):
        share = 0.01 * 0.5 if id(before) in found else 0.0
        np.testing.assert_allclose(one.numpy() - other.numpy(), share * before.numpy(), atol=1e-6)


def test_adamw_decays_by_itself_as_in_keras(small):
    usual, told = (tfopt.train(dense(), small, Fit(epochs=1, optimizer="adamw", **more)) for more in ({}, {"weight_decay": 0.004}))
    assert same(usual, told)
    assert not same(usual, tfopt.train(dense(), small, Fit(epochs=1, optimizer="adamw", weight_decay=0.0)))


def test_embeddings_count_as_kernels(small):
    keras = backend.keras()

    def words():
        with backend.seeded(0):
            inputs = keras.Input((8, 8, 1))
            number = keras.layers.Lambda(lambda x: backend.tensorflow().cast(x[:, :, 0, 0] * 15, "int32"))(inputs)
            x = keras.layers.Flatten()(keras.layers.Embedding(16, 4, name="words")(number))
            return keras.Model(inputs, keras.layers.Dense(10, activation="softmax")(x))

    model = words()
    plain, decayed = (tfopt.train(model, small, Fit(**{**ONE_STEP, **more})) for more in ({}, {"l2": 0.1}))
    before = model.get_layer("words").embeddings.numpy()
    np.testing.assert_allclose(
        plain.get_layer("words").embeddings.numpy() - decayed.get_layer("words").embeddings.numpy(), 0.1 * 0.2 * before, atol=1e-7
    )
    bounded = tfopt.train(model, small, Fit(epochs=2, max_norm=0.05)).get_layer("words").embeddings.numpy()
    assert np.linalg.norm(bounded, axis=1).max() == pytest.approx(0.05, abs=1e-6)  # each word's vector


# ---- schedules


def test_a_warm_up_climbs_evenly_in_front_of_a_schedule(small):
    for schedule in ("constant", "step", "exponential", "cosine", "plateau"):
        seen, _ = rates(small, Fit(epochs=6, schedule=schedule, warmup_epochs=1.5, learning_rate=0.06))
        np.testing.assert_allclose(seen[:7], 0.01 * np.arange(7), rtol=1e-5)
        assert seen[7:].max() <= 0.06


def test_steps_and_their_smooth_form(small):
    """4 steps an epoch."""
    at = np.arange(24)
    stepped, _ = rates(small, Fit(epochs=6, schedule="step", learning_rate=0.1, decay=0.5, decay_epochs=2))
    np.testing.assert_allclose(stepped, 0.1 * 0.5 ** (at // 8), rtol=1e-5)
    smooth, _ = rates(small, Fit(epochs=6, schedule="exponential", learning_rate=0.1))  # a tenth each third of the epochs
    np.testing.assert_allclose(smooth, 0.1 * 0.1 ** (at / 8), rtol=1e-5)
    warm, _ = rates(small, Fit(epochs=6, schedule="step", learning_rate=0.1, decay_epochs=2, warmup_epochs=1))
    np.testing.assert_allclose(warm[4:], 0.1 * 0.1 ** (at[:20] // 8), rtol=1e-5)


def test_cosines(small):
    at = np.arange(20)
    plain, _ = rates(small, Fit(epochs=5, learning_rate=0.1))
    np.testing.assert_allclose(plain, 0.05 * (1 + np.cos(math.pi * at / 20)), atol=1e-7)
    warm, _ = rates(small, Fit(epochs=5, learning_rate=0.1, warmup_epochs=1))
    np.testing.assert_allclose(warm[4:], 0.05 * (1 + np.cos(math.pi * at[:16] / 16)), atol=1e-7)


def test_one_cycle(small):
    seen, _ = rates(small, Fit(epochs=5, schedule="one_cycle", learning_rate=0.1))
    np.testing.assert_allclose(seen[:6], np.linspace(0.1 / 25, 0.1, 7)[:6], rtol=1e-5)
    down = 1e-4 + (1 - 1e-4) * 0.5 * (1 + np.cos(math.pi * np.arange(14) / 14))
    np.testing.assert_allclose(seen[6:], 0.1 * down, rtol=1e-4)


@pytest.mark.parametrize("schedule", ["cosine", "one_cycle", "constant", "step", "exponential", "plateau"])
def test_a_fit_of_one_step_has_a_schedule_too(small, schedule):
    seen, _ = rates(small, Fit(epochs=1, batch_size=200, schedule=schedule, warmup_epochs=0.0 if schedule == "one_cycle" else 0.9))
    assert seen == pytest.approx([1e-3])


def test_a_plateau_lowers_the_rate_and_counts_anew(small):
    seen, history = rates(small, Fit(epochs=14, schedule="plateau", learning_rate=0.3, decay=0.5, decay_epochs=2))
    rate, smallest, waited, expected = 0.3, math.inf, 0, []
    for loss in history["val_loss"]:
        expected += [rate] * 4
        smallest, waited = min(smallest, loss), 0 if loss < smallest else waited + 1
        if waited == 2:
            rate, waited = rate / 2, 0
    np.testing.assert_allclose(seen, expected, rtol=1e-6)
    assert rate < 0.3 / 2  # it fell more than once, or nothing was tested


# ---- regularization


def test_penalties_add_their_derivative_to_kernels(small):
    plain, others = change(small)
    penalized, same_others = change(small, l1=0.01, l2=0.02)
    for (before, one), (_, other) in zip(plain, penalized, strict=True):
        np.testing.assert_allclose(one - other, 0.1 * (0.01 * np.sign(before) + 2 * 0.02 * before), atol=1e-7)
    for (_, one), (_, other) in zip(others, same_others, strict=True):
        np.testing.assert_array_equal(one, other)


def with_settings(**settings):
    keras = backend.keras()
    with backend.seeded(0):
        inputs = keras.Input((8, 8, 1))
        x = keras.layers.Conv2D(4, 3, activation="relu", **settings)(inputs)
        x = keras.layers.DepthwiseConv2D(
            3, activation="relu", **{f"depthwise_{key.removeprefix('kernel_')}": v for key, v in settings.items()}
        )(x)
        return keras.Model(inputs, keras.layers.Dense(10, activation="softmax", **settings)(keras.layers.Flatten()(x)))


def test_penalties_are_those_of_keras_layers_but_in_the_loss(small):
    regularizer = backend.keras().regularizers.L1L2(l1=1e-3, l2=1e-2)
    with Trace() as trace:
        by_layer = tfopt.train(with_settings(kernel_regularizer=regularizer), small, Fit(epochs=3))
        by_fit = tfopt.train(with_settings(), small, Fit(epochs=3, l1=1e-3, l2=1e-2))
    for one, other in zip(by_layer.get_weights()[-2:], by_fit.get_weights()[-2:], strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    in_layer, in_fit = (entry["history"]["val_loss"][-1] for entry in trace.entries)
    assert in_layer > in_fit + 0.01 and by_fit.losses == []


def test_max_norm_is_that_of_keras_layers(small):
    keras = backend.keras()
    fit = Fit(epochs=3, learning_rate=3e-2)
    free = tfopt.train(with_settings(), small, fit)
    bounded = tfopt.train(with_settings(), small, dataclasses.replace(fit, max_norm=0.7))
    for kernel in kernels.of_all(bounded.layers):
        assert np.linalg.norm(kernel.matrix(), axis=0).max() == pytest.approx(0.7, abs=1e-5)
    assert max(np.linalg.norm(kernel.matrix(), axis=0).max() for kernel in kernels.of_all(free.layers)) > 1
    with backend.seeded(0):
        inputs = keras.Input((8, 8, 1))
        x = keras.layers.Conv2D(4, 3, activation="relu", kernel_constraint=keras.constraints.MaxNorm(0.7, axis=[0, 1, 2]))(inputs)
        x = keras.layers.DepthwiseConv2D(3, activation="relu", depthwise_constraint=keras.constraints.MaxNorm(0.7, axis=[0, 1]))(x)
        x = keras.layers.Dense(10, activation="softmax", kernel_constraint=keras.constraints.MaxNorm(0.7))(keras.layers.Flatten()(x))
        by_layer = tfopt.train(keras.Model(inputs, x), small, fit)
    assert close(by_layer, bounded, 1e-4)


def test_gradients_are_clipped(small):
    def gradients(**options):
        return np.concatenate([((before - after) / 0.1).ravel() for pairs in change(small, **options) for before, after in pairs])

    free = gradients()
    assert np.linalg.norm(free) > 0.2 and np.abs(free).max() > 0.01
    by_norm, by_value = gradients(clip_norm=0.1), gradients(clip_value=0.005)
    np.testing.assert_allclose(by_norm, free * 0.1 / np.linalg.norm(free), atol=2e-6)
    np.testing.assert_allclose(by_value, np.clip(free, -0.005, 0.005), atol=2e-6)


def test_everything_works_beside_pruning(small):
    model = tfopt.prune(nets.randomized(dropping()), small, sparsity=0.6, fit=Fit(epochs=4, learning_rate=1e-2, **ALL))
    for kernel in kernels.of_all(model.layers):
        if not kernel.depthwise:
            assert np.mean(kernel.variable.numpy() == 0) == pytest.approx(0.6, abs=0.02)
            assert np.linalg.norm(kernel.matrix(), axis=0).max() <= 0.8 + 1e-5


def test_everything_works_beside_clustering(small):
    model = tfopt.cluster(nets.randomized(dropping()), small, clusters=6, fit=Fit(epochs=4, learning_rate=1e-2, **ALL))
    counts = [len(np.unique(kernel.variable.numpy())) for kernel in kernels.of_all(model.layers) if not kernel.depthwise]
    assert counts and max(counts) <= 6


def test_everything_reaches_the_kernels_inside_quantizing_wrappers(small):
    model = nets.randomized(dense())
    found = {}
    for name, options in (("free", {}), ("bounded", {"max_norm": 0.3}), ("penalized", {"l2": 1.0}), ("all", ALL)):
        trained = tfopt.quantize_aware(model, small, fit=Fit(epochs=1, **options))
        found[name] = [np.linalg.norm(kernel.matrix(), axis=0).max() for kernel in kernels.of_all(trained.layers)]
    assert max(found["free"]) > 1
    assert max(found["bounded"]) <= 0.3 + 1e-5 and max(found["all"]) <= 0.8 + 1e-5
    assert all(one < other for one, other in zip(found["penalized"], found["free"], strict=True))


@pytest.mark.parametrize("optimizer", ["nadam", "adamw"])
def test_two_replicas_train_like_one(small, optimizer):
    """Without BatchNorm, whose statistics are each replica's own, and Dropout."""
    fit, results = Fit(epochs=2, batch_size=50, optimizer=optimizer, schedule="plateau", warmup_epochs=0.5, **ALL), []
    for strategy in (strategies.pick("one"), strategies.pick("mirrored", devices=["CPU:0", "CPU:1"])):
        with strategy.scope(), Trace() as trace:
            results.append((tfopt.train(dense(), small, fit), trace.entries[0]["history"]))
    (one, history), (other, history_of_two) = results
    assert history["loss"] == pytest.approx(history_of_two["loss"], abs=1e-5)
    assert history["val_loss"] == pytest.approx(history_of_two["val_loss"], abs=1e-5)
    assert close(one, other, 1e-4)


@pytest.mark.slow
def test_dropout_and_batch_norm_train_so_under_two_replicas(small):
    with strategies.pick("mirrored", devices=["CPU:0", "CPU:1"]).scope():
        model = tfopt.train(dropping(), small, Fit(epochs=2, **ALL))
        quantized = tfopt.quantize_aware(model, small, fit=Fit(epochs=1, **ALL))
    assert all(np.isfinite(weight).all() for weight in quantized.get_weights())


def test_half_precision_trains_so(small):
    keras = backend.keras()
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        model = dense()
        with Trace() as trace:
            tfopt.train(model, small, Fit(epochs=3, learning_rate=1e-2, **ALL))
    finally:
        keras.mixed_precision.set_global_policy("float32")
    losses = trace.entries[0]["history"]["loss"]
    assert losses[-1] < losses[0] - 0.1


# ---- a moving average of the weights


def test_the_average_is_what_is_validated_and_kept(small):
    fit, seen, of = Fit(epochs=3, learning_rate=1e-2, schedule="constant", ema=0.9), [], {}
    remember = callback(on_train_batch_end=lambda batch, logs: seen.append(of["model"].get_weights()))
    remember.set_model = lambda model: of.update(model=model)
    model = dropping()
    with Trace() as trace:
        trained = tfopt.train(model, small, fit, callbacks=[remember])
    expected = model.get_weights()
    for step, weights in enumerate(seen, 1):
        momentum = min(0.9, (step - 1) / (step + 8))
        expected = [momentum * mean + (1 - momentum) * weight for mean, weight in zip(expected, weights, strict=True)]
    assert len(seen) == 12
    for weight, mean, last in zip(trained.get_weights(), expected, seen[-1], strict=True):
        np.testing.assert_allclose(weight, mean, atol=2e-6)
        assert np.abs(weight - last).max() > 1e-4  # BatchNorm's statistics are averaged, too
    loss, _ = trained.evaluate(pipelines.batches(small.validation, 64), verbose=0)
    assert loss == pytest.approx(trace.entries[0]["history"]["val_loss"][-1], abs=1e-6)


def test_training_goes_on_from_the_weights_themselves(small):
    with Trace() as trace:
        for ema in (None, 0.9):
            tfopt.train(dropping(), small, Fit(epochs=3, ema=ema))
    plain, averaged = (entry["history"] for entry in trace.entries)
    assert plain["loss"] == averaged["loss"] and plain["val_loss"] != averaged["val_loss"]


def test_early_stopping_keeps_the_best_average(digits):
    with Trace() as trace:
        trained = tfopt.train(dropping(), digits, Fit(epochs=30, learning_rate=0.1, schedule="constant", patience=2, ema=0.5))
    history = trace.entries[0]["history"]["val_loss"]
    loss, _ = trained.evaluate(pipelines.batches(digits.validation, 64), verbose=0)
    assert len(history) == int(np.argmin(history)) + 3 < 30
    assert loss == pytest.approx(min(history), abs=1e-6)


def test_an_average_has_the_zeros_that_pruning_chose(small, monkeypatch):
    """At the end of each epoch: a weight that is pruned on the way would only fade in it, and the best epoch may be just behind."""
    of, steps, epochs = {}, [], []

    def zeros():
        return [kernel.variable.numpy() == 0 for kernel in kernels.of_all(of["model"].layers)]

    remember = callback(
        on_train_batch_end=lambda batch, logs: steps.append(zeros()), on_epoch_end=lambda epoch, logs: epochs.append((steps[-1], zeros()))
    )
    remember.set_model = lambda model: of.update(model=model)
    monkeypatch.setattr(training, "fit_in_place", lambda m, d, f, **k: fit_in_place(m, d, f, users=[remember], **k))
    model = tfopt.prune(dense(), small, sparsity=0.7, fit=Fit(epochs=4, learning_rate=3e-2, ema=0.99))
    assert len(epochs) == 4
    for weights, averages in epochs:
        assert all(np.array_equal(one, other) for one, other in zip(weights, averages, strict=True))
    assert all(np.mean(kernel.variable.numpy() == 0) == pytest.approx(0.7, abs=0.01) for kernel in kernels.of_all(model.layers))


# ---- batches in parts


@pytest.mark.parametrize(
    "options", [{}, {"optimizer": "sgd", "learning_rate": 0.1, "clip_norm": 0.1, "l2": 1e-3, "class_weights": "balanced"}]
)
def test_parts_make_the_same_step(small, options):
    """The last batch has 8 examples, which are parted unevenly, and fewer than the parts that are asked for."""
    whole, three, many = (tfopt.train(dense(), small, Fit(epochs=2, accumulate=parts, **options)) for parts in (1, 3, 20))
    assert close(whole, three) and close(whole, many)
    assert not close(dense(), whole, 1e-3)


def test_the_model_sees_a_part_at_a_time(small):
    keras, tf, sizes = backend.keras(), backend.tensorflow(), []

    def look(x):
        tf.numpy_function(lambda size: sizes.append(int(size)), [tf.shape(x)[0]], [])
        return x

    inputs = keras.Input((8, 8, 1))
    x = keras.layers.Dense(10, activation="softmax")(keras.layers.Flatten()(keras.layers.Lambda(look)(inputs)))
    with Trace() as trace:
        tfopt.train(keras.Model(inputs, x), small, Fit(epochs=1, accumulate=3))
    assert sizes == [21, 21, 22] * 3 + [2, 3, 3] + [64, 36]  # then the validation set
    assert trace.entries[0]["history"]["accuracy"][0] <= 1


# ---- callbacks of the user's own


def test_callbacks_are_passed_through(small):
    keras = backend.keras()
    stopping = keras.callbacks.EarlyStopping("val_loss", patience=1, min_delta=10)
    with Trace() as trace:
        model = tfopt.train(dense(), small, Fit(epochs=9, l2=1e-3), callbacks=[stopping])
    assert len(trace.entries[0]["history"]["loss"]) == 2 and stopping.stopped_epoch == 1
    assert not {"train_step", "make_train_function"} & set(vars(model))  # a plain Keras model again


def test_a_fit_that_a_callback_stopped_is_finished(small, tmp_path):
    def stop(epoch, logs):
        of["model"].stop_training = epoch == 1

    of, stopping = {}, callback(on_epoch_end=stop)
    stopping.set_model = lambda model: of.update(model=model)
    with progress.resumable(tmp_path):
        stopped = tfopt.train(dense(), small, Fit(epochs=4), callbacks=[stopping])
    with progress.resumable(tmp_path), Trace() as trace:
        assert same(stopped, tfopt.train(dense(), small, Fit(epochs=4)))
    assert len(trace.entries[0]["history"]["loss"]) == 2


def test_callbacks_that_can_not_work_are_refused(small):
    keras = backend.keras()
    keras3 = tfopt.bridge.keras3()
    with pytest.raises(OptionError, match=r"callbacks\[1\]: EarlyStopping is a callback of Keras 3.*tf_keras\.callbacks"):
        tfopt.train(dense(), small, Fit(), callbacks=[callback(), keras3.callbacks.EarlyStopping()])
    with pytest.raises(OptionError, match=r"callbacks\[0\]: str is no callback of tf_keras"):
        tfopt.train(dense(), small, Fit(), callbacks=["EarlyStopping"])
    with pytest.raises(OptionError, match="expected a list"):
        tfopt.train(dense(), small, Fit(), callbacks=callback())
    scheduler = keras.callbacks.LearningRateScheduler(lambda epoch: 0.5)
    with pytest.raises(OptionError, match="LearningRateScheduler sets the learning rate, and so does the fit"):
        tfopt.train(dense(), small, Fit(), callbacks=[scheduler])
    model = tfopt.train(dense(), small, Fit(epochs=1, schedule="constant"), callbacks=[scheduler])
    assert float(model.optimizer.learning_rate) == 0.5


@pytest.mark.parametrize("options", [{"schedule": "step", "warmup_epochs": 0.5}, {"schedule": "one_cycle"}, {"optimizer": "lion", **ALL}])
def test_a_trained_model_is_saved_and_loaded_by_keras_alone(small, tmp_path, options):
    keras = backend.keras()
    model = tfopt.train(dense(), small, Fit(epochs=1, **options))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert same(model, loaded) and type(loaded.optimizer) is type(model.optimizer)


# ---- TensorBoard


def scalars(folder):
    """{(part, name): {epoch: value}} of all files of events below a folder."""
    tf, found = backend.tensorflow(), {}
    for file in sorted(folder.rglob("events.out.tfevents.*")):
        for record in tf.data.TFRecordDataset(str(file)).as_numpy_iterator():
            event = tf.compat.v1.Event.FromString(record)
            for value in event.summary.value:
                assert value.metadata.plugin_data.plugin_name == "scalars"
                found.setdefault((file.parent.name, value.tag), {})[event.step] = float(tf.make_ndarray(value.tensor))
    return found


def test_tensorboard_has_every_epochs_numbers(small, tmp_path):
    fit = Fit(epochs=3, schedule="step", decay_epochs=1, tensorboard=str(tmp_path / "logs"))
    with Trace() as trace:
        model = tfopt.train(dense(), small, fit)
        tfopt.prune(model, small, fit=fit)
    assert sorted(path.name for path in (tmp_path / "logs").iterdir()) == ["prune", "train"]
    history, found = trace.entries[0]["history"], scalars(tmp_path / "logs" / "train")
    assert set(found) == {
        ("train", "epoch_loss"), ("train", "epoch_accuracy"), ("train", "epoch_learning_rate"),
        ("validation", "epoch_loss"), ("validation", "epoch_accuracy"),
    }  # fmt: skip
    assert [found["validation", "epoch_loss"][epoch] for epoch in range(3)] == pytest.approx(history["val_loss"])
    assert [found["train", "epoch_accuracy"][epoch] for epoch in range(3)] == pytest.approx(history["accuracy"])
    assert [found["train", "epoch_learning_rate"][epoch] for epoch in range(3)] == pytest.approx([1e-3, 1e-4, 1e-5])


# ---- divergence


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


DIVERGING = Fit(epochs=3, learning_rate=1e30, optimizer="sgd")


def test_the_batch_at_which_training_diverged_is_saved(digits, here):
    with pytest.raises(OptionError, match=r"tfopt-nan-train\.npz") as said:
        tfopt.train(dense(), digits, DIVERGING)
    assert str(here / "tfopt-nan-train.npz") in str(said.value)
    with np.load("tfopt-nan-train.npz") as saved:
        x, y = next(pipelines.training_batches(digits, DIVERGING, int(saved["epoch"]), first_step=int(saved["step"])).as_numpy_iterator())
        assert np.array_equal(saved["x"], x) and np.array_equal(saved["y"], y)
        assert saved["epoch"] == 0 and saved["step"] > 0


def test_of_several_steps_in_a_call_the_last_ones_batch_is_saved_and_said_so(digits, here):
    with pytest.raises(OptionError, match="the last of the 4 batches of the call in which it was so is in"):
        tfopt.train(dense(), digits, dataclasses.replace(DIVERGING, steps_per_execution=4))
    with np.load("tfopt-nan-train.npz") as saved:
        assert saved["step"] % 4 == 3


def test_a_file_that_is_not_ours_stays(digits, here):
    (here / "tfopt-nan-train.npz").write_bytes(b"somebody's own")
    for _ in range(2):  # the second replaces ours
        with pytest.raises(OptionError, match=r"tfopt-nan-train-2\.npz"):
            tfopt.train(dense(), digits, DIVERGING)
    assert (here / "tfopt-nan-train.npz").read_bytes() == b"somebody's own"
    assert sorted(path.name for path in here.iterdir()) == ["tfopt-nan-train-2.npz", "tfopt-nan-train.npz"]


def test_a_loss_of_the_users_own_that_is_no_number_is_found_with_its_batch(digits, here):
    tf = backend.tensorflow()

    def loss(y, outputs):
        usual = backend.keras().losses.sparse_categorical_crossentropy(y, outputs)
        return tf.where(tf.reshape(y, [-1])[0] == 3, tf.constant(np.nan), usual)

    data, fit = dataclasses.replace(digits, loss=loss), Fit(epochs=1)
    with pytest.raises(OptionError, match="the loss is nan"):
        tfopt.train(dense(), data, fit)
    labels = [int(y[0]) for _, y in pipelines.training_batches(digits, fit).as_numpy_iterator()]
    with np.load("tfopt-nan-train.npz") as saved:
        assert saved["y"][0] == 3 and saved["step"] == labels.index(3)


def test_several_inputs_are_saved_by_name_and_data_that_are_no_numbers_are_named(here):
    random = np.random.default_rng(0)
    rows = random.normal(size=(100, 8)).astype("float32")
    images = random.integers(0, 256, (100, 8, 8, 1)).astype("uint8")
    data = tfopt.datasets.arrays(x={"row": rows, "image": images}, y=np.arange(100) % 10)
    log = backend.tensorflow().math.log  # of numbers below 0, too
    data = dataclasses.replace(data, augmentation=lambda x, y, seed: ({**x, "row": log(x["row"])}, y))
    with pytest.raises(OptionError, match=r"whose x/row holds NaN or infinity, is in"):
        tfopt.train(nets.two_inputs(), data, Fit(epochs=1))
    with np.load("tfopt-nan-train.npz") as saved:
        assert set(saved.files) == {"x/row", "x/image", "y", "epoch", "step"} and np.isnan(saved["x/row"]).any()


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder in which nobody can write a file")
def test_a_batch_that_can_not_be_saved_is_said_so(digits, monkeypatch):
    monkeypatch.chdir("/proc")
    with pytest.raises(OptionError, match=r"diverged.*could not be saved as /proc/tfopt-nan-train\.npz"):
        tfopt.train(dense(), digits, DIVERGING)


def test_in_a_run_it_is_there_after_the_error(here):
    recipe = {
        "name": "diverging",
        "data": {"use": "digits"},
        "model": {"use": "mlp", "hidden": [16]},
        "fit": {"epochs": 2, "optimizer": "sgd", "learning_rate": 1e30},
        "export": {"formats": ["float32"]},
    }
    with pytest.raises(OptionError, match=r"stages/diverged/tfopt-nan-train\.npz"):
        tfopt.run(recipe, out="out")
    with np.load(here / "out" / "stages" / "diverged" / "tfopt-nan-train.npz") as saved:
        assert saved["x"].shape[1:] == (8, 8, 1)


def test_a_fit_that_diverges_later_tells_where_the_batch_is(digits, tmp_path):
    of = {}

    def poison(batch, logs):
        if of["model"].optimizer.iterations.numpy() == 40:  # of 19 an epoch: in the third
            of["model"].trainable_weights[-1].assign(np.full(10, np.nan))

    poisoning = callback(on_train_batch_begin=poison)
    poisoning.set_model = lambda model: of.update(model=model)
    state = tmp_path / "stages" / ".train.progress"
    with progress.resumable(state), Trace() as trace:
        tfopt.train(dense(), digits, Fit(epochs=4, ema=0.9), callbacks=[poisoning])
    note = next(entry["text"] for entry in trace.entries if entry["kind"] == "note")
    assert (
        f"its batch is in {tmp_path / 'stages' / 'diverged' / 'tfopt-nan-train.npz'}" in note and "weights from the end of epoch 2" in note
    )
    with np.load(tmp_path / "stages" / "diverged" / "tfopt-nan-train.npz") as saved:
        assert (saved["epoch"], saved["step"]) == (2, 2)


# ---- what is refused


@pytest.mark.parametrize(
    "wrong",
    [
        {"optimizer": "lamb"},
        {"momentum": 1.0, "optimizer": "sgd"},
        {"weight_decay": -1e-4},
        {"warmup_epochs": -1},
        {"decay": 1.0, "schedule": "step"},
        {"decay": 0, "schedule": "step"},
        {"decay_epochs": 0, "schedule": "step"},
        {"decay_epochs": 1.5, "schedule": "step"},
        {"l1": -1e-3},
        {"l2": math.nan},
        {"max_norm": 0},
        {"clip_norm": 0.0},
        {"clip_value": math.inf},
        {"ema": 1.0},
        {"ema": 0},
        {"accumulate": 0},
        {"accumulate": True},
        {"tensorboard": ""},
        {"tensorboard": 1},
        # right alone, wrong together
        {"warmup_epochs": 1, "schedule": "one_cycle"},
        {"warmup_epochs": 3, "epochs": 3},
        {"decay": 0.5, "schedule": "cosine"},
        {"decay_epochs": 2, "schedule": "constant"},
        {"patience": 3, "schedule": "plateau"},
        {"patience": 5, "schedule": "plateau", "decay_epochs": 5},
        {"momentum": 0.5, "optimizer": "adam"},
        {"clip_value": 1.0, "clip_norm": 1.0},
        {"accumulate": 65, "batch_size": 64},
        {"accumulate": 2, "xla": True},
    ],
    ids=named,
)
def test_a_fit_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(OptionError, match=f"^{next(iter(wrong))} = "):
        Fit(**wrong)


def test_a_fit_without_validation_examples_is_refused(digits):
    data = dataclasses.replace(digits, validation=digits.validation.take(0))
    with pytest.raises(DataError, match="no validation examples"):
        tfopt.train(dense(), data, Fit(epochs=1, schedule="plateau"))


# ---- in recipes

RECIPE = {"name": "mine", "data": {"use": "digits"}, "model": {"use": "mlp"}}
WRITTEN = {
    "epochs": 30, "batch_size": 128, "schedule": "step", "warmup_epochs": 2, "decay": 0.5, "decay_epochs": 8, "optimizer": "sgd",
    "momentum": 0.95, "weight_decay": 1e-4, "l1": 1e-6, "l2": 1e-5, "max_norm": 3, "clip_norm": 1.0, "ema": 0.999, "accumulate": 128,
    "tensorboard": "logs",
}  # fmt: skip


def test_a_recipe_takes_every_field():
    recipe = recipes.parse({**RECIPE, "fit": WRITTEN}, source="mine")
    assert recipe.fit == Fit(**WRITTEN)
    quick = recipes.parse({**RECIPE, "fit": WRITTEN}, source="mine", quick=True).fit
    assert quick == Fit(**{**WRITTEN, "epochs": 1, "warmup_epochs": 2 / 30})


def test_a_recipe_says_what_is_wrong_with_each_field_and_with_all():
    with pytest.raises(RecipeError) as said:
        recipes.parse({**RECIPE, "fit": {"ema": 1.5, "momentum": "high", "accumulate": 2.5, "schedule": "steps"}}, source="mine")
    assert said.value.problems == (
        "fit.ema = 1.5: should be a number above 0 and below 1, or None",
        "fit.momentum = 'high': should be a valid number",
        "fit.accumulate = 2.5: should be a valid integer",
        "fit.schedule = 'steps': should be 'constant', 'step', 'exponential', 'cosine', 'one_cycle' or 'plateau'",
    )
    with pytest.raises(RecipeError, match=r"fit\.warmup_epochs = 2: should be 0 where schedule = 'one_cycle'"):
        recipes.parse({**RECIPE, "fit": {"schedule": "one_cycle", "warmup_epochs": 2}}, source="mine")
    step = {"use": "prune", "fit": {"epochs": 2}}
    with pytest.raises(RecipeError, match=r"steps\[0\]\.fit\.warmup_epochs = 3: should be below epochs = 2"):
        recipes.parse({**RECIPE, "fit": {"warmup_epochs": 3}, "steps": [step]}, source="mine")


def test_a_step_with_another_schedule_begins_with_its_defaults():
    """TOML has no word for None, so nobody could say that decay_epochs, which means nothing there, is not to be taken over."""
    table = {**RECIPE, "fit": WRITTEN, "steps": [{"use": "prune", "fit": {"epochs": 5, "schedule": "cosine", "optimizer": "adam"}}]}
    recipe = recipes.parse(table, source="mine")
    fit = recipe.steps[0].options["fit"]
    assert fit == Fit(
        **{**WRITTEN, "epochs": 5, "schedule": "cosine", "optimizer": "adam", "decay": 0.1, "decay_epochs": None, "momentum": 0.9}
    )
    assert recipes.parse(recipes._toml.tomllib.loads(recipes.write(recipe)), source="mine") == recipe
