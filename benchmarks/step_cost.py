"""What a training step costs under each technique: python benchmarks/step_cost.py     (about 15 minutes on 2 cores)

tfopt's techniques beside the same TF-MOT wrappers called by hand, and training without either: a ResNet-8 (32 x 32 x 3, batch 128) on
random images, in turns, 40 steps at a time. Left out are the first 10 steps of each turn, in which TensorFlow traces, and the slowest of
the others: once a fit, quantize_aware freezes BatchNorm and traces again. Printed are medians over the turns of a step's mean wall and CPU
time, and of their ratios to TF-MOT's. Saved turns (benchmarks/results/step_cost.json) are not made again.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import sys
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from tfmot import environment

import tfopt
from tfopt import backend, pipelines, training

RESULTS = Path(__file__).parent / "results" / "step_cost.json"
STEPS, WARMUP, BATCH = 40, 10, 128
FIT = tfopt.Fit(epochs=1, batch_size=BATCH, learning_rate=1e-4)


def data_and_model():
    generator = np.random.default_rng(0)
    x, y = generator.random((int(STEPS * BATCH / 0.8) + BATCH, 32, 32, 3), "float32"), np.arange(int(STEPS * BATCH / 0.8) + BATCH) % 10
    data = tfopt.datasets.arrays(x=x, y=y, validation=0.01, test=0.19)
    return data, tfopt.models.resnet((32, 32, 3), 10)


class Clock(backend.keras().callbacks.Callback):
    """The wall and CPU time at the end of each step."""

    _supports_tf_logs = True

    def on_train_begin(self, logs=None):
        self.wall, self.cpu = [], []

    def on_train_batch_end(self, batch, logs=None):
        self.wall.append(time.perf_counter())
        self.cpu.append(time.process_time())

    def seconds(self) -> dict:
        """The means of a step; medians would hide what is done every few steps."""
        return {name: float(np.sort(np.diff(times[WARMUP:]))[:-1].mean()) for name, times in (("wall", self.wall), ("cpu", self.cpu))}


@contextlib.contextmanager
def clocked():
    """Fits with a clock in them."""
    clock, fit_in_place = Clock(), training.fit_in_place
    training.fit_in_place = lambda *args, **options: fit_in_place(*args, **{**options, "callbacks": [*options.get("callbacks", ()), clock]})
    try:
        yield clock
    finally:
        training.fit_in_place = fit_in_place


def by_tfopt(name: str) -> dict:
    data, model = data_and_model()
    with clocked() as clock:
        if name == "none":
            tfopt.train(model, data, FIT)
        else:
            tfopt.techniques.TECHNIQUES[name](model, data, fit=FIT)
    return clock.seconds()


def by_tfmot(name: str) -> dict:
    data, model = data_and_model()
    mot, clock = backend.tfmot(), Clock()
    callbacks = [clock]
    if name == "prune":  # a mask a step, so that it prunes at all in a run of this length
        schedule = mot.sparsity.keras.PolynomialDecay(0.0, 0.5, 0, STEPS // 2, frequency=1)
        model = mot.sparsity.keras.prune_low_magnitude(model, schedule)
        callbacks.append(mot.sparsity.keras.UpdatePruningStep())
    elif name == "cluster":
        model = mot.clustering.keras.cluster_weights(model, number_of_clusters=16)
    elif name == "quantize_aware":
        model = mot.quantization.keras.quantize_model(model)
    model.compile(backend.keras().optimizers.Adam(FIT.learning_rate), "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(pipelines.training_batches(data, FIT), epochs=1, verbose=0, callbacks=callbacks)
    return clock.seconds()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--turns", type=int, default=5)
    turns = json.loads(RESULTS.read_text())["turns"] if RESULTS.exists() else []
    for _ in range(len(turns), parser.parse_args().turns):
        turn = {f"{name}: {kit}": run(name) for name in ("none", *tfopt.techniques.TECHNIQUES) for kit, run in KITS.items()}
        turns.append(turn)
        print(turn, file=sys.stderr, flush=True)
        RESULTS.write_text(json.dumps({"environment": environment(), "turns": turns}, indent=1) + "\n")
    table = Table("technique", "TF-MOT ms", "tfopt ms", "ratio", "TF-MOT CPU ms", "tfopt CPU ms", "CPU ratio")
    for name in ("none", *tfopt.techniques.TECHNIQUES):
        cells = []
        for kind in ("wall", "cpu"):
            found = {kit: [turn[f"{name}: {kit}"][kind] for turn in turns] for kit in KITS}
            ratio = statistics.median(b / a for a, b in zip(found["TF-MOT"], found["tfopt"], strict=True))
            cells += [*(f"{1000 * statistics.median(values):.1f}" for values in found.values()), f"{ratio:.2f}"]
        table.add_row(name, *cells)
    Console(width=120).print(table)
    return 0


KITS = {"TF-MOT": by_tfmot, "tfopt": by_tfopt}

if __name__ == "__main__":
    sys.exit(main())
