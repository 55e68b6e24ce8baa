"""What distill buys: python benchmarks/distillation.py --data FOLDER     (about 10 minutes of CPU time)

On the first 8,000 training images of Fashion-MNIST (FOLDER as `tfopt.datasets.fashion_mnist` takes it) a convnet of 16, 32 and 64 channels
is trained once, and teaches one of 4, 8 and 16: 8 epochs of Adam from 3e-3, cosine, the same for all rows. Each row is the mean of three
seeds, of weights and of batches. Settings are chosen by 3,000 validation images, and so is the one to which hints are added; the 10,000
test images are read for the columns that are printed last.

The second table is what an epoch of the student costs, in CPU seconds, with its teacher asked once before the first epoch and with it asked
in each step: the difference between fits of 6 and of 2 epochs, by 4.

A run that stands in benchmarks/results/distillation.json already is not made again.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table
from tfmot import environment

import tfopt
from tfopt import backend, pipelines, teaching

RESULTS = Path(__file__).parent / "results" / "distillation.json"
FIT = tfopt.Fit(epochs=8, batch_size=128, learning_rate=3e-3, precision="float32", xla=False, steps_per_execution=1)  # as distill trains
SEEDS = (0, 1, 2)
STUDENT, TEACHER = 4, 16  # channels of the first convolution
HINTS = ["relu2", "relu3"]
SETTINGS = {f"T = {t}, alpha = {alpha}": {"temperature": t, "alpha": alpha} for t in (2.0, 4.0) for alpha in (0.5, 0.9)}
FIRST = {"plain": None, **SETTINGS, "hints alone, weight 1": {"alpha": 0.0, "hints": HINTS, "hint_weight": 1.0}}
WEIGHTS = (0.1, 1.0)
COSTS = {"asked once": teaching.MOST, "asked in each step": 0}


def built(data, width: int, seed: int):
    with backend.seeded(seed):
        return tfopt.models.convnet(data.input_shape, data.num_classes, width=width, blocks=3)


def scores(model, data) -> dict:
    """Accuracy on the validation and on the test images."""
    found = {}
    for part in ("validation", "test"):
        batches = pipelines.batches(getattr(data, part), 500)
        right = [(model(x, training=False).numpy().argmax(axis=1) == y.numpy()).mean() for x, y in batches]
        found[part] = float(sum(right) / len(right))
    return found


def run_of(options: dict | None, data, teacher, seed: int) -> dict:
    student, fit = built(data, STUDENT, seed), dataclasses.replace(FIT, seed=seed)
    start = time.process_time()
    model = tfopt.train(student, data, fit) if options is None else tfopt.distill(student, data, teacher=teacher, fit=fit, **options)
    return {"cpu_seconds": time.process_time() - start, **scores(model, data)}


def cost_of(data, teacher, most: int) -> dict:
    """CPU seconds of an epoch, and before the first, where at most so many bytes of the teacher's outputs are kept."""
    kept, teaching.MOST = teaching.MOST, most
    seconds = []
    for epochs in (2, 6):
        start = time.process_time()
        tfopt.distill(built(data, STUDENT, 0), data, teacher=teacher, fit=dataclasses.replace(FIT, epochs=epochs))
        seconds.append(time.process_time() - start)
    teaching.MOST = kept
    return {"epoch": (seconds[1] - seconds[0]) / 4, "before": seconds[0] - (seconds[1] - seconds[0]) / 2}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", required=True, help="the folder of Fashion-MNIST")
    data = tfopt.datasets.fashion_mnist(folder=parser.parse_args().data)
    data = pipelines.shrink(data, train=8_000, validation=3_000, test=10_000)
    rows = json.loads(RESULTS.read_text())["rows"] if RESULTS.exists() else {}
    taught_by = functools.cache(lambda: tfopt.train(built(data, TEACHER, 0), data, FIT))

    def make(name: str, run: Callable[[], dict]) -> None:
        if name not in rows:
            rows[name] = run()
            print(name, rows[name], file=sys.stderr, flush=True)
            RESULTS.write_text(json.dumps({"environment": environment(), "rows": rows}, indent=1) + "\n")

    def make_all(settings: dict) -> None:
        for name, options in settings.items():
            for seed in SEEDS:
                make(f"{name}: {seed}", lambda o=options, seed=seed: run_of(o, data, o and taught_by(), seed))

    make("teacher", lambda: scores(taught_by(), data))
    make_all(FIRST)
    best = max(SETTINGS, key=lambda name: mean(rows, name, "validation"))
    hinted = {f"{best}, and hints, weight {weight:g}": {**SETTINGS[best], "hints": HINTS, "hint_weight": weight} for weight in WEIGHTS}
    make_all(hinted)
    for name, most in COSTS.items():
        make(name, lambda most=most: cost_of(data, taught_by(), most))
    for table in tables(rows, [*FIRST, *hinted]):
        Console(width=120).print(table)
    return 0


def mean(rows: dict, name: str, of: str) -> float:
    """Over the seeds."""
    return statistics.mean(rows[f"{name}: {seed}"][of] for seed in SEEDS)


def tables(rows: dict, names: list[str]) -> list[Table]:
    found = Table("student", "validation", "CPU s", "test", "test, each seed")
    costs = Table("teacher", "CPU s an epoch", "before the first")
    found.add_row("(the teacher)", f"{100 * rows['teacher']['validation']:.2f} %", "", f"{100 * rows['teacher']['test']:.2f} %", "")
    for name in names:
        validation, test = (f"{100 * mean(rows, name, part):.2f} %" for part in ("validation", "test"))
        each = ", ".join(f"{100 * rows[f'{name}: {seed}']['test']:.1f}" for seed in SEEDS)
        found.add_row(name, validation, f"{mean(rows, name, 'cpu_seconds'):.0f}", test, each)
    for name in COSTS:
        costs.add_row(name, f"{rows[name]['epoch']:.2f}", f"{rows[name]['before']:.1f}")
    return [found, costs]


if __name__ == "__main__":
    sys.exit(main())
