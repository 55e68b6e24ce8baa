"""What it costs to bring a Keras 3 model over the bridge: python benchmarks/bridge_cost.py     (about 3 minutes)

Each row is a fresh process: it builds a model of keras.applications with random weights and bridges it, check included; another saves it
and loads the file with `tfopt.load`. Memory is the process's resident set at its highest (VmHWM, reset before the call) less what it
was before the call, beside what building the Keras 3 model took and beside the bytes of its weights. Medians of --rounds processes.
Expected for MobileNetV2: under 10 s, and under three times what the Keras 3 model takes.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

MODELS = {"MobileNetV2": 224, "EfficientNetB0": 224, "ResNet50": 224, "VGG16": 224}
LIMITS = {"seconds": 10.0, "times the model": 3.0}  # for MobileNetV2
RESULTS = Path(__file__).parent / "results" / "bridge_cost.json"


def resident(key: str) -> float:
    """MB: "VmRSS" now, "VmHWM" at its highest since the last reset."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key)) / 1e3


def one(name: str, size: int, from_file: bool) -> dict[str, float]:
    """Builds and bridges a model in this process."""
    from tfopt import bridge, loading

    keras = bridge.keras3()
    bridge.to_keras2(keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]))  # what a process does once: lazy imports
    before = resident("VmRSS")
    model = getattr(keras.applications, name)(weights=None, input_shape=(size, size, 3))
    built = resident("VmRSS") - before
    weights = sum(w.value.numpy().nbytes for w in model.weights) / 1e6
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        if from_file:
            model.save(path)
        Path("/proc/self/clear_refs").write_text("5")
        before, cpu, start = resident("VmRSS"), time.process_time(), time.perf_counter()
        bridged = loading.load(path) if from_file else bridge.to_keras2(model)
        took = {"seconds": time.perf_counter() - start, "CPU seconds": time.process_time() - cpu}
    highest = resident("VmHWM") - before
    assert len(bridged.trainable_weights) == len(model.trainable_weights)
    ratios = {"times the model": highest / built, "times the weights": highest / weights}
    return {**took, "weights MB": weights, "model MB": built, "highest MB": highest, **ratios}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3, help="processes a row (default: %(default)s)")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(one(arguments.one[0], MODELS[arguments.one[0]], arguments.one[1] == "file")))
        return 0
    samples: dict[str, list[dict[str, float]]] = {}
    for _ in range(arguments.rounds):
        for name in MODELS:
            for kind in ("object", "file"):
                command = [sys.executable, __file__, "--one", name, kind]
                done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
                samples.setdefault(f"{name}, {kind}", []).append(json.loads(done.stdout.splitlines()[-1]))
    rows = {name: {key: statistics.median(run[key] for run in runs) for key in runs[0]} for name, runs in samples.items()}
    table = Table("model, from", *next(iter(rows.values())), title=f"bridging, medians of {arguments.rounds}")
    for name, row in rows.items():
        table.add_row(name, *(f"{value:.1f}" for value in row.values()))
    Console(width=None if sys.stdout.isatty() else 140).print(table)
    broken = [key for key, limit in LIMITS.items() if rows["MobileNetV2, object"][key] >= limit]
    print("broken: " + ", ".join(broken) if broken else "kept: " + ", ".join(f"{key} < {limit:g}" for key, limit in LIMITS.items()))
    RESULTS.write_text(
        json.dumps({"machine": platform.machine(), "cores": os.cpu_count(), "rows": rows, "samples": samples}, indent=1) + "\n"
    )
    return int(bool(broken))


if __name__ == "__main__":
    sys.exit(main())
