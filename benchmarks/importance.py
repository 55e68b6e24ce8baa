"""Which channels, and how many of which layer: python benchmarks/importance.py --data FOLDER     (about 25 minutes on 2 cores; rows resume)

The ResNet-8 that benchmarks/cifar10.py has trained is cut to half its multiply-accumulates in each way, and trained on for 5 epochs, with
three seeds each: of the batches, and of random scores. "default" is what a user gets who names the budget alone; "random" has the same way
of sharing the budget between layers, "uniform" the same scores. Nothing was chosen by the 5,000 test images; the accuracies are of them, of
the float model. A run that stands in benchmarks/results/importance.json already is not made again.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import sys
import time
from pathlib import Path

import cifar10
from rich.console import Console
from rich.table import Table
from tfmot import environment

import tfopt
from tfopt import verification

RESULTS = Path(__file__).parent / "results" / "importance.json"
FIT = dataclasses.replace(cifar10.TRAIN, epochs=5, learning_rate=0.02)
SEEDS = (0, 1, 2)
NAMES = ("l1", "bn_scale", "geometric_median", "taylor", "activation")
WAYS = {"default": {}, "uniform": {"scope": "uniform"}, "random": {"importance": "random"}} | {name: {"importance": name} for name in NAMES}


def run_of(way: dict, seed: int, data) -> dict:
    start, model = time.process_time(), cifar10.float_net(data)
    small = tfopt.prune_channels(model, data, macs=0.5, fit=dataclasses.replace(FIT, seed=seed), **way)
    widths = {group.name: group.before for group in tfopt.plan_channels(small, keep=1.0).groups}
    row = {"widths": widths, "macs": tfopt.inspect(small).macs, "cpu_seconds": time.process_time() - start}
    return {"accuracy": verification.reference(small, data).score, **row}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", required=True, help="the folder of CIFAR-10")
    data = tfopt.datasets.cifar10(folder=parser.parse_args().data)
    rows = json.loads(RESULTS.read_text())["rows"] if RESULTS.exists() else {}
    for name, way in WAYS.items():
        for seed in SEEDS:
            if f"{name}, seed {seed}" not in rows:
                rows[f"{name}, seed {seed}"] = run_of(way, seed, data)
                RESULTS.write_text(json.dumps({"environment": environment(), "rows": rows}, indent=1) + "\n")
    Console(width=150).print(table(rows))
    return 0


def table(rows: dict) -> Table:
    found = Table("way", "test, each seed", "mean", "MACs", "CPU s", "channels left (first seed)")
    for name in WAYS:
        runs = [rows[f"{name}, seed {seed}"] for seed in SEEDS]
        accuracies = [run["accuracy"] for run in runs]
        each, mean = ", ".join(f"{100 * one:.1f}" for one in accuracies), f"{100 * statistics.mean(accuracies):.1f} %"
        seconds = f"{statistics.mean(run['cpu_seconds'] for run in runs):.0f}"
        found.add_row(name, each, mean, f"{runs[0]['macs']:,}", seconds, " ".join(map(str, runs[0]["widths"].values())))
    return found


if __name__ == "__main__":
    sys.exit(main())
