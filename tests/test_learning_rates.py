"""lr_find: the range test, what it suggests, and that nothing else changes."""

from __future__ import annotations

import dataclasses
import random
import re

import numpy as np
import pytest

import tfopt
from tfopt import backend, pipelines, strategies
from tfopt.errors import ArtifactError, DataError, OptionError
from tfopt.finding import LearningRates
from tfopt.tracing import Trace
from tfopt.types import Fit


def mlp(seed=0):
    with backend.seeded(seed):
        return tfopt.models.mlp((8, 8, 1), 10, hidden=[32])


@pytest.fixture(scope="module")
def found(digits):
    return tfopt.lr_find(mlp(), digits, highest=100.0, steps=80)


def test_the_rate_rises_by_the_same_factor_until_the_loss_is_four_times_its_minimum(found):
    assert found.rates[0] == pytest.approx(1e-6) and len(found.rates) == len(found.losses) == len(found.smoothed) < 80
    assert np.diff(np.log(found.rates)) == pytest.approx(np.log(1e8) / 79)
    assert found.smoothed[-1] > 4 * min(found.smoothed) >= found.smoothed[-2]
    assert found.ended == "the loss was 4 times its minimum"


def test_the_average_is_corrected_for_its_start(found):
    assert found.smoothed[0] == found.losses[0]
    assert found.smoothed[1] == pytest.approx((0.9 * found.losses[0] + found.losses[1]) / 1.9)
    average = 0.0
    for loss in found.losses:
        average = 0.9 * average + 0.1 * loss
    assert found.smoothed[-1] == pytest.approx(average / (1 - 0.9 ** len(found.losses)))


def test_the_suggestion_is_a_tenth_of_the_rate_where_the_fall_was_done(found):
    start, least = np.mean(found.losses[: len(found.losses) // 10]), min(found.smoothed)
    at = found.rates.index(pytest.approx(10 * found.suggested))
    assert found.smoothed[at] <= start - 0.95 * (start - least) < found.smoothed[at - 1]


def penguins(data_folder):
    file = str(data_folder("tables/penguins.csv"))
    return tfopt.datasets.csv(file=file, target="body_mass_g", task="regression", scale_target="z_score")


@pytest.mark.parametrize("kind", ["digits", pytest.param("penguins", marks=pytest.mark.slow)])
def test_training_with_it_beats_a_much_smaller_and_a_much_larger_rate(kind, digits, data_folder):
    if kind == "digits":
        data, fit = digits, Fit(epochs=3)
        with backend.seeded(0):
            model = tfopt.models.convnet(data.input_shape, 10, width=16)
    else:
        data, fit = penguins(data_folder), Fit(epochs=20, batch_size=32)
        with backend.seeded(0):
            model = tfopt.models.mlp(data.input_shape, 1, hidden=[32, 16], activation="linear")
    rate, losses = tfopt.lr_find(model, data, fit).suggested, []
    for one in (rate / 30, rate, 30 * rate):
        with Trace() as trace:
            tfopt.train(model, data, dataclasses.replace(fit, learning_rate=one))
        losses.append(trace.entries[0]["history"]["val_loss"][-1])
    assert losses[1] < 0.8 * min(losses[0], losses[2])


def labelled(digits):
    x, y = pipelines.to_arrays(digits.train)
    return tfopt.datasets.arrays(x=x, y=np.stack([y % 2 == 0, y > 4], axis=1).astype(int), task="multi_label")


def counted(digits):
    x, y = pipelines.to_arrays(digits.train)
    return tfopt.datasets.arrays(x=x, y=y.astype(np.float32), task="regression")


@pytest.mark.parametrize(
    "task",
    [
        labelled,
        counted,
        tfopt.tasks.autoencoding,
        lambda data: tfopt.tasks.anomaly_detection(data, normal=["0", "1", "2", "3", "4"]),
        lambda data: tfopt.tasks.regression(counted(data), loss="huber"),
    ],
    ids=["multi_label", "regression", "autoencoding", "anomaly_detection", "another loss"],
)
def test_the_loss_is_the_tasks(digits, task):
    data = task(digits)
    activation = tfopt.tasks.of(data).activation
    outputs = tfopt.tasks.of(data).outputs()[0]
    keras = backend.keras()
    layers = [keras.layers.Flatten(input_shape=(8, 8, 1)), keras.layers.Dense(32, "relu"), keras.layers.Dense(int(np.prod(outputs)))]
    with backend.seeded(0):
        model = keras.Sequential([*layers, keras.layers.Activation(activation), keras.layers.Reshape(outputs)])
    found = tfopt.lr_find(model, data, steps=40)
    assert 1e-4 < found.suggested <= 0.1
    x, y = pipelines.to_arrays(data.train)
    loss = tfopt.tasks.of(data).loss(model)(tfopt.tasks.of(data).target(x, y), model(x))
    assert np.mean(found.losses[:10]) == pytest.approx(float(loss), rel=0.3)


def test_the_model_and_random_states_stay_and_the_same_call_sees_the_same(digits):
    with backend.seeded(0):
        model = tfopt.models.convnet((8, 8, 1), 10, width=4, dropout=0.5)  # BatchNorm moves its statistics, Dropout draws
    before, states = model.get_weights(), (random.getstate(), np.random.get_state()[1].copy())
    first = tfopt.lr_find(model, digits, Fit(seed=3), steps=25)
    assert all(np.array_equal(one, other) for one, other in zip(before, model.get_weights(), strict=True)) and model.optimizer is None
    assert random.getstate() == states[0] and np.array_equal(np.random.get_state()[1], states[1])
    assert first == tfopt.lr_find(model, digits, Fit(seed=3), steps=25)
    assert first.losses != tfopt.lr_find(model, digits, Fit(seed=4), steps=25).losses


def test_the_fits_epochs_schedule_and_average_play_no_part(digits):
    fit = Fit(epochs=1, learning_rate=7.0, schedule="plateau", warmup_epochs=0.5, patience=5, ema=0.9, steps_per_execution="auto")
    assert tfopt.lr_find(mlp(), digits, fit, steps=30) == tfopt.lr_find(mlp(), digits, steps=30)


def test_what_a_fit_says_of_a_step_counts(digits):
    plain = tfopt.lr_find(mlp(), digits, steps=30, lowest=1e-3)
    for fit in (Fit(max_norm=0.5), Fit(l2=0.1, optimizer="sgd")):
        assert tfopt.lr_find(mlp(), digits, fit, steps=30, lowest=1e-3).losses != plain.losses
    parts = tfopt.lr_find(mlp(), digits, Fit(accumulate=4), steps=30, lowest=1e-3)
    assert parts.losses[:15] == pytest.approx(plain.losses[:15], rel=1e-3)  # the same step, in parts


def test_a_deterministic_fit_is_tried_as_such(digits):
    plain, found = tfopt.lr_find(mlp(), digits, steps=20), tfopt.lr_find(mlp(), digits, Fit(deterministic=True), steps=20)
    assert found.losses != plain.losses and found.losses[:15] == pytest.approx(plain.losses[:15], rel=1e-3)  # added up in another order
    assert not backend.tensorflow_private("framework.config").is_op_determinism_enabled()


def test_half_precision_is_tried_in_half_precision(digits):
    half = tfopt.lr_find(mlp(), digits, Fit(precision="mixed_bfloat16"), steps=30)
    plain = tfopt.lr_find(mlp(), digits, steps=30)
    assert half.losses != plain.losses and half.losses[:10] == pytest.approx(plain.losses[:10], rel=0.02)


def test_two_replicas_see_what_one_sees(digits):
    alone = tfopt.lr_find(mlp(), digits, steps=40)
    with strategies.pick("mirrored", devices=["CPU:0", "CPU:1"]).scope():
        model = mlp()
    assert tfopt.lr_find(model, digits, steps=40).losses[:25] == pytest.approx(alone.losses[:25], rel=1e-3)  # outside of its scope, too


def test_a_keras_3_model_is_taken(digits):
    assert tfopt.lr_find(tfopt.to_keras3(mlp()), digits, steps=20).losses == tfopt.lr_find(mlp(), digits, steps=20).losses


def test_nothing_is_suggested_where_nothing_fell(digits):
    found = tfopt.lr_find(mlp(), digits, highest=1e-5, steps=30)
    assert found.suggested is None
    assert str(found) == "no learning rate suggested: the loss fell clearly at none of the rates 1e-06 to 1e-05: all steps were made"
    assert found.plot().axes[0].get_xscale() == "log"


def test_a_range_that_is_too_short_is_said(digits):
    assert "at the end it was still falling: try a larger highest" in str(tfopt.lr_find(mlp(), digits, highest=3e-3))


def test_a_loss_that_is_no_number_ends_the_test(digits):
    keras = backend.keras()
    model = keras.Sequential([keras.layers.Flatten(input_shape=(8, 8, 1)), keras.layers.Dense(1)])
    found = tfopt.lr_find(model, counted(digits), Fit(optimizer="sgd"), lowest=1e25, highest=1e30, steps=20)
    assert re.fullmatch(r"at \S+ the loss was (inf|nan)", found.ended)
    assert np.isfinite(found.losses).all() and len(found.rates) == len(found.losses) < 20 and found.suggested is None


def test_one_line_says_what_was_found(found):
    assert str(found) == (
        f"learning rate {found.suggested:.2g} suggested; rates 1e-06 to {found.rates[-1]:.2g}: the loss was 4 times its minimum, "
        f"the smallest smoothed loss was {min(found.smoothed):.3g}"
    )


def test_the_plot_is_saved_as_png_or_svg(found, tmp_path):
    figure = found.plot()
    drawn = [line.get_ydata().tolist() for line in figure.axes[0].lines[:2]]
    assert type(figure).__name__ == "Figure" and drawn == [list(found.losses), list(found.smoothed)]
    png, svg = found.save(tmp_path / "rates.png"), found.save(str(tmp_path / "deep" / "rates.svg"))
    assert png.read_bytes().startswith(b"\x89PNG") and b"<svg" in svg.read_bytes()
    before = svg.read_bytes()
    assert found.save(svg).read_bytes() == before  # an older plot may go, and the same gives the same
    with pytest.raises(ArtifactError, match=r"end it in \.png or \.svg"):
        found.save(tmp_path / "rates.pdf")
    mine = tmp_path / "mine.png"
    mine.write_bytes(b"a photograph")
    with pytest.raises(ArtifactError, match="another file stands here already"):
        found.save(mine)
    assert mine.read_bytes() == b"a photograph"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"lowest": 0.1, "highest": 0.01}, "the first should be below the second"),
        ({"lowest": 0.0}, "lowest = 0.0: should be greater than 0"),
        ({"steps": 5}, "steps = 5: should be greater than or equal to 20"),
        ({"step": 5}, "unknown option; did you mean 'steps'"),
    ],
)
def test_wrong_options_are_refused(digits, options, words):
    with pytest.raises(OptionError, match=words):
        tfopt.lr_find(mlp(), digits, **options)


def test_what_can_not_be_trained_is_refused_as_train_does(digits):
    with pytest.raises(OptionError, match=r"expected a tfopt\.Fit"):
        tfopt.lr_find(mlp(), digits, {"epochs": 3})
    with pytest.raises(DataError, match="expected data as"):
        tfopt.lr_find(mlp(), "digits")
    with pytest.raises(DataError, match="takes examples of shape"):
        tfopt.lr_find(tfopt.models.mlp((4, 4, 1), 10), digits)
    huge = tfopt.datasets.arrays(x=np.full((100, 8, 8, 1), 1e38, np.float32), y=np.arange(100) % 10)
    with pytest.raises(OptionError, match="before the first step"):
        tfopt.lr_find(mlp(), huge)


def test_a_result_is_a_value():
    one = LearningRates((0.1,), (1.0,), (1.0,), None, "all steps were made")
    assert one == dataclasses.replace(one) and hash(one) == hash(dataclasses.replace(one))
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.suggested = 0.1
