"""What factorize buys, and what it costs: python benchmarks/factorization.py     (about 5 minutes on 2 cores)

An mlp, a convnet and a ResNet-8, trained on the scanned digits for 30 epochs, factorized without training and with 5 epochs of it: accuracy
on the 360 test images, bytes of the float32 file, multiply-accumulates and parameters read from it.
"""

from __future__ import annotations

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
WAYS = {"energy = 0.95": {"energy": 0.95}, "energy = 0.9": {"energy": 0.9}, "energy = 0.8": {"energy": 0.8}, "rank = 0.25": {"rank": 0.25},
        "macs = 0.5": {"macs": 0.5}, "macs = 0.25": {"macs": 0.25}}  # fmt: skip
TRAINED = tfopt.Fit(epochs=30, batch_size=64, learning_rate=3e-3)
FIT = tfopt.Fit(epochs=5, batch_size=64, learning_rate=1e-3)


def measured(model, plain, data) -> dict:
    file = tfopt.convert(model)
    found = tfopt.measure(file)
    score = tfopt.verify(file, against=plain, data=data).score
    return {"accuracy": score, "bytes": found.bytes, "macs": found.macs, "parameters": found.parameters}


def main() -> int:
    data, rows = tfopt.datasets.digits(), {}
    table = Table("net", "options", "accuracy at once", "after 5 epochs", "bytes", "MACs", "parameters")
    for name, given in NETS.items():
        plain = tfopt.train(models.MODELS[name](data.input_shape, data.num_classes, **given), data, TRAINED)
        more = tfopt.distill(plain, data, teacher="self", alpha=0.0, fit=FIT)  # the same 5 epochs without factorizing
        rows[name] = {"plain": {"at once": measured(plain, plain, data), "trained": measured(more, plain, data)}}
        for way, options in WAYS.items():
            small, tuned = (tfopt.factorize(plain, data, **options, fit=fit) for fit in (None, FIT))
            rows[name][way] = {"at once": measured(small, plain, data), "trained": measured(tuned, plain, data)}
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
