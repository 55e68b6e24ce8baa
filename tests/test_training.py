"""train: curves, early stopping, and going on after an interruption as if nothing had happened."""

from __future__ import annotations

import dataclasses

import nets
import numpy as np
import pytest

import tfopt
from tfopt import _schedules, backend, progress, strategies, tasks, training
from tfopt.errors import DataError, OptionError, UnsupportedModel
from tfopt.tracing import Trace
from tfopt.types import Fit


def dropping(seed=0):
    """A net with Dropout and BatchNorm: the two kinds of layer whose training depends on more than the weights."""
    with backend.seeded(seed):
        return tfopt.models.convnet((8, 8, 1), 10, width=4, dropout=0.5)


fit_in_place = training.fit_in_place


def interrupted_after(epochs, model, data, fit, folder, callbacks=(), **options):
    """Trains until `epochs` are finished and is then stopped as by Ctrl-C."""

    class Interrupt(backend.keras().callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == epochs:
                raise KeyboardInterrupt

    with progress.resumable(folder), pytest.raises(KeyboardInterrupt):
        fit_in_place(model, data, fit, callbacks=[*callbacks, Interrupt()], **{"name": "train", **options})


def same(one, other):
    return all(np.array_equal(a, b) for a, b in zip(one.get_weights(), other.get_weights(), strict=True))


@pytest.mark.parametrize("optimizer", ["adam", "sgd", "rmsprop"])
@pytest.mark.parametrize("patience", [None, 3])
def test_an_interrupted_fit_ends_with_the_same_numbers(digits, tmp_path, optimizer, patience):
    fit = Fit(epochs=4, batch_size=200, optimizer=optimizer, learning_rate=3e-3, patience=patience)
    with Trace() as whole:
        straight = tfopt.train(dropping(), digits, fit)
    interrupted_after(2, dropping(), digits, fit, tmp_path)
    with Trace() as parts, progress.resumable(tmp_path):
        resumed = tfopt.train(dropping(), digits, fit)
    assert same(straight, resumed)
    assert whole.entries == parts.entries


def small():
    """A net in which there are zeros and shared values to keep."""
    return tfopt.cluster(tfopt.prune(nets.randomized(dropping()), sparsity=0.4), clusters=5)


@pytest.mark.parametrize(
    "technique, make",
    [
        ("prune", dropping),
        ("cluster", dropping),
        pytest.param("quantize_aware", dropping, marks=pytest.mark.slow),
        pytest.param("quantize_aware", small, marks=pytest.mark.slow),
    ],
)
def test_an_interrupted_technique_ends_with_the_same_numbers(digits, tmp_path, technique, make, monkeypatch):
    model, fit = nets.randomized(make()) if make is dropping else make(), Fit(epochs=3, batch_size=400)
    apply = getattr(tfopt, technique)
    straight = apply(model, digits, fit=fit)
    with monkeypatch.context() as patch:
        patch.setattr(training, "fit_in_place", lambda m, d, f, **k: interrupted_after(2, m, d, f, tmp_path, **k))
        apply(model, digits, fit=fit)
    with progress.resumable(tmp_path):
        assert same(straight, apply(model, digits, fit=fit))


def test_a_finished_fit_is_not_done_again(digits, tmp_path):
    fit = Fit(epochs=2, batch_size=400)
    with progress.resumable(tmp_path):
        first = tfopt.train(dropping(), digits, fit)
    states = {file.name: file.stat().st_mtime_ns for file in tmp_path.iterdir()}
    with progress.resumable(tmp_path):
        assert same(first, tfopt.train(dropping(), digits, fit))
    assert {file.name: file.stat().st_mtime_ns for file in tmp_path.iterdir()} == states and len(states) == 2


def test_the_model_that_is_given_stays_as_it_is(digits):
    model = dropping()
    before = model.get_weights()
    trained = tfopt.train(model, digits, Fit(epochs=1))
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True)) and model.optimizer is None
    assert not same(trained, model)
    assert trained.get_layer("dropout").get_config() == model.get_layer("dropout").get_config()


def test_global_random_state_neither_matters_nor_changes(digits):
    tf = backend.tensorflow()
    first = tfopt.train(dropping(), digits, Fit(epochs=1))
    tf.random.set_seed(7)
    np.random.seed(7)
    assert same(first, tfopt.train(dropping(), digits, Fit(epochs=1)))
    assert not same(first, tfopt.train(dropping(), digits, Fit(epochs=1, seed=1)))


def test_early_stopping_restores_the_best_weights(digits):
    model = dropping()
    with Trace() as trace:
        trained = tfopt.train(model, digits, Fit(epochs=30, batch_size=32, learning_rate=0.05, schedule="constant", patience=2))
    history = trace.entries[0]["history"]
    best = int(np.argmin(history["val_loss"]))
    assert len(history["val_loss"]) == best + 3 < 30
    x, y = (np.stack(part) for part in zip(*digits.validation.as_numpy_iterator(), strict=True))
    accuracy = float(np.mean(trained(x).numpy().argmax(-1) == y))
    assert accuracy == pytest.approx(history["val_accuracy"][best], abs=1e-6)


def test_cosine_ends_at_zero_and_constant_does_not(digits):
    with Trace() as trace:
        for schedule in ("cosine", "constant"):
            tfopt.train(dropping(), digits, Fit(epochs=6, batch_size=64, learning_rate=3e-3, schedule=schedule))
    losses = [entry["history"]["loss"] for entry in trace.entries]
    assert losses[0][0] != losses[1][0] and all(loss[-1] < loss[0] for loss in losses)
    assert float(_schedules.for_optimizer(Fit(epochs=2), 10)(0)) == pytest.approx(1e-3)
    assert float(_schedules.for_optimizer(Fit(epochs=2), 10)(20)) == pytest.approx(0)


@pytest.mark.parametrize("build", [nets.sequential, nets.branching], ids=["logits", "probabilities"])
def test_the_loss_fits_what_the_model_gives(digits, build):
    model = build()
    assert (tasks.activation_of(model) == "softmax") == (build is nets.branching)
    with Trace() as trace:
        tfopt.train(model, digits, Fit(epochs=6, learning_rate=3e-3))
    assert trace.entries[0]["history"]["accuracy"][-1] > 0.5


def test_two_replicas_train_like_one(digits):
    """Without BatchNorm, whose statistics are each replica's own, the losses are the same but for rounding."""
    fit, histories = Fit(epochs=2, batch_size=100), []
    for strategy in (strategies.pick("one"), strategies.pick("mirrored", devices=["CPU:0", "CPU:1"])):
        with strategy.scope(), backend.seeded(0), Trace() as trace:
            tfopt.train(tfopt.models.mlp((8, 8, 1), 10, hidden=[16]), digits, fit)
        histories.append(trace.entries[0]["history"])
    assert histories[0]["loss"] == pytest.approx(histories[1]["loss"], abs=1e-5)
    assert histories[0]["val_accuracy"] == pytest.approx(histories[1]["val_accuracy"], abs=1e-6)


def test_dropout_trains_under_two_replicas(digits):
    with strategies.pick("mirrored", devices=["CPU:0", "CPU:1"]).scope():
        tfopt.train(dropping(), digits, Fit(epochs=2, batch_size=400))


def test_divergence_is_an_error_that_says_what_helps(digits, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where the batch is saved
    with pytest.raises(OptionError, match=r"diverged.*learning_rate"):
        tfopt.train(nets.sequential(), digits, Fit(epochs=3, learning_rate=1e30, optimizer="sgd"))


@pytest.mark.parametrize("which, problem", [(-1, "the loss is nan"), (0, "conv1/kernel holds NaN")], ids=["seen", "hidden-by-relu"])
@pytest.mark.parametrize("technique", ["train", "prune", "cluster", "quantize_aware"])
def test_divergence_in_the_middle_keeps_the_last_good_weights_and_says_so(
    digits, technique, which, problem, tmp_path, monkeypatch, caplog
):
    monkeypatch.chdir(tmp_path)

    class Poison(backend.keras().callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if self.model.optimizer.iterations.numpy() == 12:  # in the third epoch
                weight = self.model.trainable_weights[which]
                weight.assign(weight * np.nan)

    poisoned = lambda m, d, f, **k: fit_in_place(m, d, f, **{**k, "callbacks": [*k.get("callbacks", ()), Poison()]})  # noqa: E731
    monkeypatch.setattr(training, "fit_in_place", poisoned)
    fit = Fit(epochs=5, batch_size=200, learning_rate=1e-3)
    model = tfopt.models.convnet((8, 8, 1), 10, width=4)
    with Trace() as trace:
        result = tfopt.train(model, digits, fit) if technique == "train" else getattr(tfopt, technique)(model, digits, fit=fit)
    assert all(np.isfinite(weight).all() for weight in result.get_weights())
    note = next(entry["text"] for entry in trace.entries if entry["kind"] == "note")
    # Whether a ReLU turns NaN into 0, so that no loss shows it, depends on the processor.
    assert any(f"diverged: {told}" in note for told in {problem, "the loss is nan"})
    assert "in epoch 3" in note and "Stopped, with the weights from the end of epoch 2" in note
    assert note in caplog.text
    assert len(next(entry["history"] for entry in trace.entries if entry["kind"] == "curve")["loss"]) == 2
    if technique == "prune":
        assert np.mean(result.get_layer("conv1").kernel.numpy() == 0) == 0.5


def test_a_fit_without_a_step_is_refused(digits):
    empty = dataclasses.replace(digits, train=digits.train.take(0))
    for technique in (tfopt.prune, tfopt.cluster, tfopt.quantize_aware):
        with pytest.raises(DataError, match="no training examples"):
            technique(nets.sequential(), empty, fit=Fit(epochs=1))


def test_a_model_that_does_not_fit_the_data_is_refused(digits):
    with pytest.raises(DataError, match=r"\(8, 8, 1\)"):
        tfopt.train(tfopt.models.convnet((28, 28, 1), 10), digits, Fit(epochs=1))
    with pytest.raises(DataError, match="10"):
        tfopt.train(tfopt.models.convnet((8, 8, 1), 7), digits, Fit(epochs=1))
    with pytest.raises(UnsupportedModel):
        tfopt.train(None, digits, Fit(epochs=1))


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": 0},
        {"batch_size": 0},
        {"learning_rate": 0.0},
        {"learning_rate": float("inf")},
        {"epochs": "5"},
        {"epochs": 2.5},
        {"epochs": True},
        {"patience": "2"},
        {"patience": 0},
        {"seed": -1},
        {"schedule": "x"},
        {"optimizer": "x"},
    ],
)
def test_a_fit_out_of_range_is_refused(wrong):
    with pytest.raises(OptionError, match=next(iter(wrong))):
        Fit(**wrong)


def test_nothing_is_printed_where_stderr_is_a_pipe(digits, capfd):
    tfopt.train(dropping(), digits, Fit(epochs=1))
    printed = capfd.readouterr()
    assert printed.out == printed.err == ""


def test_progress_is_shown_in_a_terminal(digits, monkeypatch, capfd):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    tfopt.train(dropping(), digits, Fit(epochs=2))
    assert "train: epoch 2/2" in capfd.readouterr().err


def test_other_augmentation_is_other_training(digits):
    tf = backend.tensorflow()
    noisy = dataclasses.replace(digits, augmentation=lambda x, y, seed: (x + tf.random.stateless_normal(tf.shape(x), seed, stddev=0.1), y))
    first, again = (tfopt.train(dropping(), noisy, Fit(epochs=1)) for _ in range(2))
    assert same(first, again) and not same(first, tfopt.train(dropping(), digits, Fit(epochs=1)))


def test_probabilities_are_seen_through_what_only_passes_them_on(digits):
    keras = backend.keras()
    inputs = keras.Input((8, 8, 1))
    x = keras.layers.Dense(10)(keras.layers.Flatten()(inputs))
    behind = keras.layers.Dropout(0.1)(keras.layers.Reshape((10,))(keras.layers.Softmax()(x)))
    assert tasks.activation_of(keras.Model(inputs, behind)) == "softmax"
    assert tasks.activation_of(keras.Model(inputs, backend.tensorflow().nn.softmax(x))) == "softmax"
    assert tasks.activation_of(keras.Model(inputs, keras.layers.Reshape((10,))(x))) == "linear"
    with pytest.raises(DataError, match=r"sigmoid.*softmax"):
        tfopt.train(keras.Model(inputs, keras.layers.Activation("sigmoid")(x)), digits, Fit(epochs=1))


def test_a_last_batch_too_small_for_the_replicas_is_refused(digits):
    with strategies.pick("mirrored", devices=["CPU:0", "CPU:1"]).scope(), pytest.raises(OptionError, match="too few for 2 replicas"):
        tfopt.train(dropping(), digits, Fit(epochs=1, batch_size=1167))  # 1,168 examples


@pytest.mark.parametrize("fit", [None, {"epochs": 1}])
def test_a_fit_of_another_type_is_refused(digits, fit):
    with pytest.raises(OptionError, match=r"expected a tfopt\.Fit"):
        tfopt.train(dropping(), digits, fit)


def test_labels_that_are_shares_of_the_classes_are_learnt(digits):
    """As mixup makes them."""
    tf = backend.tensorflow()

    def mixed(x, y, seed):
        share, soft = tf.random.stateless_uniform([tf.shape(y)[0], 1], seed), tf.one_hot(y, 10)
        return x * share[..., None, None] + x[::-1] * (1 - share[..., None, None]), soft * share + soft[::-1] * (1 - share)

    model = tfopt.train(tfopt.models.mlp(digits.input_shape, 10), dataclasses.replace(digits, augmentation=mixed), Fit(epochs=8))
    x, y = tfopt.pipelines.to_arrays(digits.test)
    assert (model.predict(x, verbose=0).argmax(axis=1) == y).mean() > 0.85


def test_a_batch_larger_than_the_data_is_said(digits, caplog):
    with Trace() as trace:
        tfopt.train(dropping(), digits, Fit(epochs=1, batch_size=5000))
    said = "train: batch_size = 5000 is more than the 1168 training examples; an epoch is one step of all of them"
    assert said in caplog.text and {"kind": "note", "text": said} in trace.entries
