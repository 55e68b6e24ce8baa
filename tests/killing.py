"""A fit that is killed again and again, and started again each time: `python tests/killing.py FOLDER KILLS EPOCHS SEED`.

TensorFlow is imported once, and nothing is done with it: each life of the fit is a fork of this process, which has everything else before
it and dies by SIGKILL like any other. Three kills are aimed: at a state half written, at one just written, and at training. The moments
of more are drawn: of four one from the first epoch of a life, the others from the four epochs behind it, and one of these from the next
writing.

Prints as JSON which arrays at the end are those of a fit that nobody killed, and what each kill hit.
"""

from __future__ import annotations

import dataclasses
import json
import os
import random
import signal
import sys
import time
import traceback
from pathlib import Path

import numpy as np
import sklearn.datasets  # noqa: F401 (so that no life has to wait for it)

import tfopt
from tfopt import backend, pipelines, progress, training
from tfopt.tracing import Trace

backend.keras()


def noisy(x, y, seed):
    """An augmentation as a user may write it: by Python, with NumPy's own random numbers."""
    tf = backend.tensorflow()
    return tf.numpy_function(lambda x: x + np.random.normal(0, 0.1, x.shape).astype(np.float32), [x], tf.float32), y


def data():
    digits = pipelines.shrink(tfopt.datasets.digits(preprocess=["gaussian_noise"]))
    return dataclasses.replace(digits, augmentation=noisy)


def model():
    keras = backend.keras()
    layers = keras.layers
    with backend.seeded(0):
        return keras.Sequential(
            [
                keras.Input((8, 8, 1)),
                layers.Conv2D(8, 3),
                layers.BatchNormalization(),
                layers.ReLU(),
                layers.Flatten(),
                layers.Dense(800, activation="relu"),  # so that writing takes a fair share of the time
                layers.Dropout(0.5),
                layers.Dense(10),
            ]
        )


def live(folder: Path, epochs: int, mouth: int) -> None:
    """A whole life: the fit, from where it was left to its end."""

    class Telling(backend.keras().callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            os.write(mouth, f"training {epoch + 1}\n".encode())

        def on_epoch_end(self, epoch, logs=None):  # the state is saved behind it
            os.write(mouth, f"saving {epoch + 1}\n".encode())

        def on_train_end(self, logs=None):
            os.write(mouth, f"ending {epochs}\n".encode())

    fit = tfopt.Fit(epochs=epochs, batch_size=64, schedule="cosine", patience=epochs - 1)
    trained = model()
    with progress.resumable(folder), Trace() as trace:
        training.fit_in_place(trained, data(), fit, name="train", users=[Telling()])
    np.savez(folder / "end.npz", *trained.get_weights(), curves=json.dumps(trace.entries))


@dataclasses.dataclass
class Life:
    """A process, and its pipe with what came out of it so far."""

    process: int
    ear: int
    heard: bytes = b""

    def listen(self, epochs: int) -> None:
        """Waits until so many epochs have begun in this life."""
        while self.heard.count(b"training") < epochs:
            self.heard += os.read(self.ear, 4096) or exit("a life ended too early")

    def buried(self) -> tuple[int, str, int]:
        """How it ended (0, or minus the signal), and what it was at, in which epoch."""
        _, status = os.waitpid(self.process, 0)
        with os.fdopen(self.ear, "rb") as pipe:
            doing, epoch = (self.heard + pipe.read()).decode().split("\n")[-2].split()
        return os.waitstatus_to_exitcode(status), doing, int(epoch)


def born(folder: Path, epochs: int) -> Life:
    """Starts a life and waits until it trains."""
    ear, mouth = os.pipe()
    if process := os.fork():
        os.close(mouth)
        life = Life(process, ear)
        life.listen(1)
        return life
    code = 1
    try:
        live(folder, epochs, mouth)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def whole_life(folder: Path, epochs: int) -> tuple[float, float]:
    """A life that nobody ends. Returns the seconds of its first epoch, in which graphs are traced, and of each other."""
    life = born(folder, epochs)
    moments = [time.monotonic()]
    life.listen(2)
    moments.append(time.monotonic())
    ended = life.buried()
    assert ended[0] == 0, ended
    return moments[1] - moments[0], (time.monotonic() - moments[1]) / epochs


def half_written(folder: Path) -> list[Path]:
    return list(folder.glob(".fit1*"))


def written(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.glob("fit1-epoch-*.npz"))


def until(condition, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.0002)


def aimed(folder: Path) -> list:
    """What the three aimed kills wait for."""
    before = written(folder)
    return [
        lambda life: (life.listen(2), until(lambda: half_written(folder))),
        lambda life: until(lambda: written(folder) != before),
        lambda life: life.listen(3),
    ]


def main(folder: Path, kills: int, epochs: int, seed: int) -> None:
    whole, parts = folder / "whole", folder / "parts"
    whole.mkdir(parents=True)
    parts.mkdir()
    first, each = whole_life(whole, epochs)
    drawn = random.Random(seed)
    hits = []
    for number in range(kills):
        life = born(parts, epochs)
        if kills == 3:
            aimed(parts)[number](life)
        elif number % 4 == 0:
            time.sleep(drawn.uniform(0, first))
        else:
            life.listen(2)
            time.sleep(drawn.uniform(0, 4 * each))
            if number % 4 == 1:
                until(lambda: half_written(parts))
                time.sleep(drawn.uniform(0, 0.01))
        os.kill(life.process, signal.SIGKILL)
        code, doing, epoch = life.buried()
        hits.append({"code": code, "doing": doing, "epoch": epoch, "half": len(half_written(parts)), "written": written(parts)})
    last = born(parts, epochs)
    assert last.buried()[0] == 0
    with np.load(whole / "end.npz") as one, np.load(parts / "end.npz") as other:
        same = {key: bool(np.array_equal(one[key], other[key])) for key in one.files}
    print(json.dumps({"same": same, "an epoch": each, "hits": hits, "left": sorted(file.name for file in parts.iterdir())}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
