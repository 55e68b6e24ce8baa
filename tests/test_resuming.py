"""Fits that are cut off: by kill -9 at any moment, by damaged files, by a full disk; and what one seed covers."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
import random
import resource
import subprocess
import sys
from pathlib import Path

import nets
import numpy as np
import pytest

import tfopt
from tfopt import backend, pipelines, progress, runs, strategies, training
from tfopt.errors import OptionError, RunError
from tfopt.tracing import Trace
from tfopt.types import Fit

ROOT = Path(__file__).resolve().parents[1]
FIT = Fit(epochs=4, batch_size=200, learning_rate=3e-3, patience=4)


def whole(model, data, fit=FIT):
    """The weights after a fit that nothing interrupts, and its curves."""
    with Trace() as trace:
        training.fit_in_place(model, data, fit, name="train")
    return model.get_weights(), trace.entries


def cut_off(model, data, folder, fit=FIT, *, after=3):
    """A fit that Ctrl-C stops after that many epochs."""

    class Interrupt(backend.keras().callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == after:
                raise KeyboardInterrupt

    with progress.resumable(folder), pytest.raises(KeyboardInterrupt):
        training.fit_in_place(model, data, fit, name="train", users=[Interrupt()])


def resumed(model, data, folder, fit=FIT):
    with progress.resumable(folder):
        return whole(model, data, fit)


def same(one, other):
    return len(one) == len(other) and all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def small():
    with backend.seeded(0):
        return nets.sequential()


@pytest.fixture(scope="module")
def straight(digits):
    return whole(small(), digits)


@pytest.fixture
def interrupted(digits, tmp_path):
    """A folder with the states after epochs 2 and 3."""
    cut_off(small(), digits, tmp_path)
    assert names(tmp_path) == ["fit1-epoch-000002.npz", "fit1-epoch-000003.npz"]
    return tmp_path


def names(folder):
    return sorted(file.name for file in folder.iterdir())


# Damaged files

STATE = progress.State(6, {"best": None}, [np.arange(12, dtype=np.float32).reshape(3, 4), np.int64(5).reshape(())])
FORM = [((3, 4), "float32"), ((), "int64")]


def flipped(content, place):
    return content[:place] + bytes([content[place] ^ 0x10]) + content[place + 1 :]


def other_content(arrays):
    """A whole file, of other arrays."""
    return progress._packed(dataclasses.replace(STATE, arrays=arrays))


DAMAGES = {
    "cut off": lambda content: content[: len(content) // 2],
    "one byte short": lambda content: content[:-1],
    "empty": lambda content: b"",
    "zeros": lambda content: bytes(len(content)),
    "zeros from the middle on": lambda content: content[: len(content) // 2] + bytes(len(content) - len(content) // 2),
    "garbage": lambda content: np.random.default_rng(0).bytes(len(content)),
    "an array too few": lambda content: other_content(STATE.arrays[:1]),
    "an array too many": lambda content: other_content([*STATE.arrays, np.zeros(1)]),
    "another shape": lambda content: other_content([STATE.arrays[0].T, STATE.arrays[1]]),
    "another dtype": lambda content: other_content([STATE.arrays[0].astype(np.float64), STATE.arrays[1]]),
}


@pytest.fixture
def two_states(tmp_path):
    """The place of two states, and the newer file's path."""
    place = tmp_path / "fit1"
    for epoch in (5, 6):
        progress.write(place, dataclasses.replace(STATE, epoch=epoch))
    return place, tmp_path / "fit1-epoch-000007.npz"


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_state_gives_way_to_the_one_before_it(two_states, damage, caplog):
    place, file = two_states
    file.write_bytes(DAMAGES[damage](file.read_bytes()))
    with Trace() as trace:
        assert progress.read(place, FORM).epoch == 5
    (note,) = trace.entries
    assert str(file) in note["text"] and "the end of epoch 6" in note["text"] and note["text"] in caplog.text


def test_a_flipped_bit_is_seen_wherever_it_is(two_states):
    place, file = two_states
    content = file.read_bytes()
    for spot in range(0, len(content), 7):
        file.write_bytes(flipped(content, spot))
        assert progress.read(place, FORM).epoch == 5, spot
    file.write_bytes(content)
    assert progress.read(place, FORM).epoch == 6


def test_states_come_back_as_they_were_kept(tmp_path):
    bfloat16 = backend.tensorflow().bfloat16.as_numpy_dtype
    arrays = [np.array([1.5, -2], bfloat16), np.zeros((0, 3), np.float32), np.array(True), np.array([2**60])]
    progress.write(tmp_path / "fit1", progress.State(0, {"history": {"loss": [0.1]}, "stopped": False}, arrays))
    state = progress.read(tmp_path / "fit1", progress.form_of(arrays))
    assert state.facts == {"history": {"loss": [0.1]}, "stopped": False}
    assert same(state.arrays, arrays) and [a.dtype for a in state.arrays] == [a.dtype for a in arrays]


def test_a_fit_goes_on_from_the_state_before_a_damaged_one(digits, interrupted, straight, caplog):
    newer = interrupted / "fit1-epoch-000003.npz"
    newer.write_bytes(flipped(newer.read_bytes(), newer.stat().st_size // 2))
    weights, entries = resumed(small(), digits, interrupted)
    assert same(weights, straight[0]) and entries[1:] == straight[1]
    text = f"{newer}: can't be used, it is damaged. Training goes on from the one before it, the end of epoch 2"
    assert entries[0] == {"kind": "note", "text": text} and text in caplog.text
    assert names(interrupted) == ["fit1-epoch-000003.npz", "fit1-epoch-000004.npz"]


def test_where_all_states_are_damaged_training_begins_anew(digits, interrupted, straight, caplog):
    for file in interrupted.iterdir():
        file.write_bytes(b"PK\x03\x04")
    weights, entries = resumed(small(), digits, interrupted, dataclasses.replace(FIT, epochs=4))
    assert same(weights, straight[0]) and entries[1:] == straight[1]
    assert all(f"fit1-epoch-00000{epoch}.npz: can't be used, it is damaged" in entries[0]["text"] for epoch in (2, 3))
    assert entries[0]["text"].endswith("Training begins anew") and "begins anew" in caplog.text


def test_the_state_of_another_model_is_not_used(digits, interrupted):
    with Trace() as trace, progress.resumable(interrupted):
        training.fit_in_place(nets.branching(), digits, dataclasses.replace(FIT, epochs=1), name="train")
    assert "not those of this model and optimizer" in trace.entries[0]["text"] and "begins anew" in trace.entries[0]["text"]
    assert names(interrupted) == ["fit1-epoch-000001.npz"]


def test_the_one_file_of_earlier_versions_is_no_obstacle(digits, tmp_path, straight):
    buffer = io.BytesIO()
    facts = {"epoch": 1, "stopped": False, "history": {}, "best_loss": None, "best_epoch": -1}
    np.savez(buffer, facts=np.frombuffer(json.dumps(facts).encode(), np.uint8), array0=np.zeros(3))
    (tmp_path / "fit1.npz").write_bytes(buffer.getvalue())
    weights, entries = resumed(small(), digits, tmp_path)
    assert same(weights, straight[0]) and "fit1.npz: can't be used" in entries[0]["text"]
    assert names(tmp_path) == ["fit1-epoch-000003.npz", "fit1-epoch-000004.npz"]


def test_fits_of_a_folder_leave_each_other_alone(tmp_path):
    with progress.resumable(tmp_path):
        places = [progress.next_file() for _ in range(12)]
    for place in places:
        progress.write(place, STATE)
    (tmp_path / ".fit12-epoch-000007.npz.ab12").write_bytes(b"half")
    assert progress.read(places[0], FORM).epoch == 6 and len(names(tmp_path)) == 13
    assert progress.read(places[11], FORM).epoch == 6 and len(names(tmp_path)) == 12


# A full disk


@contextlib.contextmanager
def files_of_at_most(size):
    """Every write behind that many bytes of a file fails, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_stops_a_fit_and_the_same_again_goes_on(digits, tmp_path, straight):
    full = contextlib.ExitStack()

    class Filling(backend.keras().callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):  # before the state of the third epoch is kept
            if epoch == 2:
                full.enter_context(files_of_at_most(1000))

    def make(users, results):
        def stage(folder):
            model = small()
            training.fit_in_place(model, digits, FIT, name="train", users=users)
            results.append(model.get_weights())

        return stage

    results = []
    with runs.opened(tmp_path / "run", "", {}) as run:
        with full, pytest.raises(RunError, match=r"\.train-.*progress/fit1-epoch-000003\.npz: .*File too large.*free space.*epoch 2"):
            run.stage("train", {}, [], make([Filling()], results))
        state = next((tmp_path / "run" / "stages").glob(".train-*.progress"))
        assert names(state) == ["fit1-epoch-000001.npz", "fit1-epoch-000002.npz"] and not results
        stage = run.stage("train", {}, [], make([], results))
    assert same(results[0], straight[0]) and stage.facts["trace"] == straight[1]
    assert not state.exists()


def test_a_first_state_that_does_not_fit_leaves_no_folder(digits, tmp_path):
    def stage(folder):
        with files_of_at_most(1000):
            training.fit_in_place(small(), digits, FIT, name="train")

    with pytest.raises(RunError, match=r"epoch-000001\.npz.*begins anew"), runs.opened(tmp_path / "run", "", {}) as run:
        run.stage("train", {}, [], stage)
    assert not (tmp_path / "run").exists()


# kill -9


def killed(folder, kills, epochs, seed=0):
    """A fit in a process of its own, killed and started again, as tests/killing.py tells it."""
    command = [sys.executable, ROOT / "tests" / "killing.py", folder, str(kills), str(epochs), str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=1200)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def check_killed(told, kills, epochs):
    assert len(told["hits"]) == kills and {hit["code"] for hit in told["hits"]} == {-9}
    assert len(told["same"]) == 11 and all(told["same"].values())
    assert told["left"] == ["end.npz", *(f"fit1-epoch-{epoch:06d}.npz" for epoch in (epochs - 1, epochs))]


def test_three_kills_change_no_bit(tmp_path):
    check_killed(killed(tmp_path / "lives", 3, 8), 3, 8)


@pytest.mark.slow
def test_twenty_kills_at_any_moment_change_no_bit(tmp_path):
    told = killed(tmp_path / "lives", 20, 100)
    check_killed(told, 20, 100)
    assert {hit["doing"] for hit in told["hits"]} == {"training", "saving"}
    assert {hit["half"] for hit in told["hits"]} == {0, 1}  # some while the file was being written
    assert len({hit["epoch"] for hit in told["hits"]}) >= 10


# What a fit draws, and from which states


OWN, BY_PYTHON, GLOBAL = "own", "python", "global"


def layer_classes():
    """Layers as users write them: one draws from a Generator of its own, one by Python, one by TensorFlow's stateful operations."""
    tf, keras = backend.tensorflow(), backend.keras()

    class OwnGenerator(keras.layers.Layer):
        def __init__(self, **options):
            super().__init__(**options)
            self.generator = tf.random.Generator.from_seed(1)

        def call(self, x, training=False):
            return x + 0.1 * self.generator.normal(tf.shape(x)) if training else x

    class ByPython(keras.layers.Layer):
        def call(self, x, training=False):
            def noise(shape):
                return np.float32(np.random.normal(0, 0.1, shape) + random.gauss(0, 0.1))

            return x + tf.ensure_shape(tf.numpy_function(noise, [tf.shape(x)], tf.float32), x.shape) if training else x

    class Global(keras.layers.Layer):
        def call(self, x, training=False):
            return x + 0.1 * tf.random.normal(tf.shape(x)) if training else x

    return {OWN: OwnGenerator, BY_PYTHON: ByPython, GLOBAL: Global}


def drawing(kinds):
    """A net of layers that draw random numbers in training, the user's own kinds among them."""
    own = [layer_classes()[kind](name=kind) for kind in kinds]
    layers = backend.keras().layers
    with backend.seeded(0):
        hidden = [layers.Flatten(), layers.GaussianNoise(0.1), *own, layers.Dropout(0.1)]
        return backend.keras().Sequential([backend.keras().Input((8, 8, 1)), *hidden, layers.Dense(10)])


def by_python(x, y, seed):
    """An augmentation that draws by Python from both global states, and once while its graph is made."""
    tf, shift = backend.tensorflow(), np.random.normal(0, 0.05)
    noise = tf.numpy_function(lambda x: np.float32(np.random.normal(0, 0.1, x.shape) + random.gauss(0, 0.1)), [x], tf.float32)
    return x + tf.ensure_shape(noise, x.shape) + shift, y


def by_tensorflow(x, y, seed):
    """One that draws from TensorFlow's operations with a state, and looks at no seed."""
    return backend.tensorflow().image.random_flip_left_right(x), y


def augmented(data, augmentation):
    return dataclasses.replace(pipelines.shrink(data), augmentation=augmentation)


@pytest.mark.parametrize("augmentation, kinds", [(by_python, [OWN]), (by_tensorflow, [OWN, BY_PYTHON])])
def test_a_fit_goes_on_exactly_whatever_its_layers_and_augmentations_draw(digits, tmp_path, augmentation, kinds):
    build, data, fit = lambda: drawing(kinds), augmented(digits, augmentation), Fit(epochs=3, batch_size=64)
    weights, entries = whole(build(), data, fit)
    cut_off(build(), data, tmp_path, fit, after=1)
    again, told = resumed(build(), data, tmp_path, fit)
    assert same(again, weights) and told == entries


@pytest.mark.parametrize("precision", ["mixed_float16", "float16", "bfloat16"])
def test_a_fit_in_another_precision_goes_on_exactly(digits, tmp_path, precision):
    layers = backend.keras().layers

    def build():
        with backend.seeded(0):
            hidden = [layers.Flatten(), layers.Dense(16, activation="relu", dtype=precision), layers.Dense(10, dtype=precision)]
            model = backend.keras().Sequential([backend.keras().Input((8, 8, 1)), *hidden, layers.Activation("softmax", dtype="float32")])
        model._set_dtype_policy(backend.keras().mixed_precision.Policy(precision))
        return model

    straight, other = build(), build()
    weights, entries = whole(straight, digits)
    cut_off(build(), digits, tmp_path)
    again, told = resumed(other, digits, tmp_path)
    assert same(again, weights) and told == entries
    if precision == "mixed_float16":  # so many steps without an overflow
        assert straight.optimizer.dynamic_counter.numpy() == other.optimizer.dynamic_counter.numpy() > 20


def test_a_fit_on_two_replicas_goes_on_exactly(digits, tmp_path):
    def build():
        with strategies.pick("mirrored", devices=["CPU:0", "CPU:1"]).scope(), backend.seeded(0):
            layers = backend.keras().layers
            hidden = [layers.Flatten(), layers.BatchNormalization(), layers.Dropout(0.3)]
            return backend.keras().Sequential([backend.keras().Input((8, 8, 1)), *hidden, layers.Dense(10)])

    fit = Fit(epochs=2, batch_size=400)
    weights, entries = whole(build(), digits, fit)
    cut_off(build(), digits, tmp_path, fit, after=1)
    again, told = resumed(build(), digits, tmp_path, fit)
    assert same(again, weights) and told == entries


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["LSTM", "GRU", "MultiHeadAttention"])
def test_layers_that_drop_out_inside_go_on_exactly(digits, tmp_path, kind):
    def build():
        keras = backend.keras()
        with backend.seeded(0):
            x = inputs = keras.Input((8, 8, 1))
            x = keras.layers.Reshape((8, 8))(x)
            if kind == "MultiHeadAttention":
                x = keras.layers.Flatten()(keras.layers.MultiHeadAttention(2, 4, dropout=0.2)(x, x))
            else:
                x = getattr(keras.layers, kind)(6, dropout=0.2, recurrent_dropout=0.2)(x)
            return keras.Model(inputs, keras.layers.Dense(10)(x))

    weights, entries = whole(build(), digits)
    cut_off(build(), digits, tmp_path)
    again, told = resumed(build(), digits, tmp_path)
    assert same(again, weights) and told == entries


def test_what_can_not_go_on_exactly_is_said(digits, tmp_path, caplog):
    data, fit = pipelines.shrink(digits), Fit(epochs=2, batch_size=64, accumulate=2)
    cut_off(drawing([GLOBAL]), data, tmp_path, fit, after=1)
    _, told = resumed(drawing([GLOBAL]), data, tmp_path, fit)
    assert "global/" in told[0]["text"] and "after epoch 1" in told[0]["text"] and told[0]["text"] in caplog.text


def global_states():
    context = backend.tensorflow_private("eager.context").context()
    drawn = context._rng.getstate() if context._seed is not None else None
    return random.getstate(), str(np.random.get_state()), context._seed, drawn


@pytest.mark.parametrize("augmentation, kinds", [(by_python, [OWN, GLOBAL]), (by_tensorflow, [OWN, BY_PYTHON])])
def test_one_seed_covers_all_that_is_drawn_and_global_states_neither_matter_nor_change(digits, augmentation, kinds):
    tf, results = backend.tensorflow(), []
    data = augmented(digits, augmentation)
    for seed, fit in ((1, Fit(epochs=2)), (2, Fit(epochs=2)), (2, Fit(epochs=2, seed=1))):
        random.seed(seed), np.random.seed(seed), tf.random.set_seed(seed)
        before = global_states()
        model = drawing(kinds)
        results.append(tfopt.train(model, data, fit).get_weights())
        assert global_states() == before
    assert same(results[0], results[1]) and not same(results[0], results[2])


def test_global_states_come_back_where_a_fit_fails(digits):
    def failing(x, y, seed):
        return backend.tensorflow().numpy_function(lambda x: np.random.normal() and 1 / 0, [x], backend.tensorflow().float32), y

    before = global_states()
    with pytest.raises(Exception, match="division by zero"):
        training.fit_in_place(small(), augmented(digits, failing), FIT, name="train")
    assert global_states() == before


# Determinism


def test_deterministic_holds_for_the_fit_only(digits):
    config, seen = backend.tensorflow_private("framework.config"), []

    class Looking(backend.keras().callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            seen.append(config.is_op_determinism_enabled())
            if len(seen) == 3:
                raise KeyboardInterrupt

    for deterministic in (False, True):
        training.fit_in_place(small(), digits, Fit(epochs=1, deterministic=deterministic), name="train", users=[Looking()])
        assert not config.is_op_determinism_enabled()
    with pytest.raises(KeyboardInterrupt):
        training.fit_in_place(small(), digits, Fit(epochs=1, deterministic=True), name="train", users=[Looking()])
    assert seen == [False, True, True] and not config.is_op_determinism_enabled()
    with pytest.raises(OptionError, match="deterministic = 'yes': should be true or false"):
        Fit(deterministic="yes")


CROPPING = """
import sys
import numpy as np
import tfopt
from tfopt import backend, training
tf, keras = backend.tensorflow(), backend.keras()
tf.config.threading.set_intra_op_parallelism_threads(8)
tf.config.threading.set_inter_op_parallelism_threads(8)

class Crops(keras.layers.Layer):  # 16 overlapping parts of each feature map, whose gradient adds up where they overlap
    def call(self, x):
        corners = np.random.default_rng(0).uniform(0, 0.4, (16, 2))
        boxes = tf.constant(np.concatenate([corners, corners + 0.5], 1), tf.float32)
        count = tf.shape(x)[0]
        parts = tf.image.crop_and_resize(x, tf.tile(boxes, [count, 1]), tf.repeat(tf.range(count), 16), [6, 6])
        return tf.reduce_max(tf.reshape(parts, [-1, 16, 6, 6, x.shape[-1]]), 1)

digits, layers = tfopt.datasets.digits(), keras.layers
with backend.seeded(0):
    hidden = [layers.Conv2D(16, 3), Crops(), layers.Flatten(), layers.Dropout(0.2)]
    model = keras.Sequential([keras.Input((8, 8, 1)), *hidden, layers.Dense(10)])
training.fit_in_place(model, digits, tfopt.Fit(epochs=3, deterministic=sys.argv[2] == "True"), name="train")
np.savez(sys.argv[1], *model.get_weights())
"""


def cropped(file, deterministic):
    """The weights of a net after a fit in a process of its own, with eight threads."""
    command = [sys.executable, "-c", CROPPING, file, str(deterministic)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=300)
    assert done.returncode == 0, done.stderr
    with np.load(file) as saved:
        return [saved[name] for name in saved.files]


@pytest.mark.slow
def test_deterministic_gives_the_same_bits_in_two_processes_with_many_threads(tmp_path):
    """Without it, four such runs on two cores ended with four different sets of weights."""
    assert same(cropped(tmp_path / "one.npz", True), cropped(tmp_path / "two.npz", True))
