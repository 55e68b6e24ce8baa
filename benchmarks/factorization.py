"""What factorize buys, and what it costs: python benchmarks/factorization.py [mlp convnet resnet]     (about a minute each on 2 cores)

An mlp, a convnet and a ResNet-8, trained on the scanned digits for 30 epochs, factorized without training and with 5 epochs of it: accuracy
on the test images, bytes of the float32 file, multiply-accumulates and parameters read from it.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

import tfopt
from tfopt import backend, models

RESULTS = Path(__file__).parent / "results" / "factorization.json"
NETS = {"mlp": {"hidden": [256, 128]}, "convnet": {"width": 32}, "resnet": {"width": 16}}
WAYS = {"energy": (0.95, 0.9, 0.8), "macs": (0.5, 0.25)}
TRAINED = tfopt.Fit(epochs=30, batch_size=64, learning_rate=3e-3)
FIT = tfopt.Fit(epochs=5, batch_size=64, learning_rate=1e-3)


def measured(model, plain, data) -> dict:
    file = tfopt.convert(model)
    found = tfopt.measure(file)
    score = tfopt.verify(file, against=plain, data=data).score
    return {"accuracy": score, "bytes": found.bytes, "macs": found.macs, "parameters": found.parameters}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("nets", nargs="*", default=list(NETS), help="which nets (default: %(default)s)")
    rows = json.loads(RESULTS.read_text())["rows"] if RESULTS.exists() else {}
    data = tfopt.datasets.digits()
    table = Table("net", "options", "accuracy at once", "after 5 epochs", "bytes", "MACs", "parameters")
    for name in parser.parse_args().nets:
        plain = tfopt.train(models.MODELS[name](data.input_shape, data.num_classes, **NETS[name]), data, TRAINED)
        more = tfopt.distill(plain, data, teacher="self", alpha=0.0, fit=FIT)  # the same 5 epochs without factorizing
        rows[name] = {"plain": {"at once": measured(plain, plain, data), "trained": measured(more, plain, data)}}
        for option, value in [(option, value) for option, values in WAYS.items() for value in values]:
            small, tuned = (tfopt.factorize(plain, data, **{option: value}, fit=fit) for fit in (None, FIT))
            rows[name][f"{option} = {value:g}"] = {"at once": measured(small, plain, data), "trained": measured(tuned, plain, data)}
        for way, row in rows[name].items():
            at_once, after = row["at once"], row["trained"]
            counts = (f"{after[what]:,}" for what in ("bytes", "macs", "parameters"))
            table.add_row(name, way, f"{at_once['accuracy']:.1%}", f"{after['accuracy']:.1%}", *counts)
    environment = {"tfopt": importlib.metadata.version("tfopt"), "python": platform.python_version(), "cores": os.cpu_count()}
    RESULTS.write_text(json.dumps({"environment": {**environment, **backend.versions()}, "rows": rows}, indent=1) + "\n")
    Console(width=160).print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
