"""What `equalize` and `clip_weights` do for int8: python benchmarks/ranges.py --data FOLDER     (less than an hour on 2 cores)

A MobileNet (version 1, alpha 0.25, ReLUs) learns Fashion-MNIST in 5 epochs and is measured as it is, with its channels scaled badly, and
behind each technique: accuracy on the 10,000 test images, and with how many of the float model's answers the file agrees. Badly scaled
means that each channel that can be is multiplied by a factor of its own between 1/30 and 30 and divided by it again behind: in float the
same net. The files: int8 with a scale for each output channel, as the converter makes them; with one scale a kernel; with 4-bit weights.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from tfmot import environment

import tfopt
from tfopt import pipelines
from tfopt.surgery.factors import Factors

RESULTS = Path(__file__).parent / "results" / "ranges.json"
FILES = {
    "float32": lambda model, data: tfopt.convert(model),
    "int8": lambda model, data: tfopt.convert(model, "int8", data=data),
    "int8, one scale": lambda model, data: tfopt.convert(tfopt.quantize_aware(model, data, per_axis=False), "int8"),
    "4-bit weights": lambda model, data: tfopt.convert(tfopt.quantize_aware(model, data, weight_bits=4), "int8"),
}


def trained(folder: str, data):
    file = Path(folder) / "ranges.h5"
    if not file.exists():
        model = tfopt.models.mobilenet(data.input_shape, data.num_classes, version=1, alpha=0.25)
        tfopt.save(tfopt.train(model, data, tfopt.Fit(epochs=5, batch_size=128, learning_rate=3e-3, schedule="cosine")), file)
    return tfopt.load(file)


def badly_scaled(model):
    """The same net in float, each channel's weights multiplied by 10^u, u between -1.5 and 1.5, and divided by it where it is read."""
    model = tfopt.equalize(model)
    factors = Factors(model)
    by = 10 ** np.random.default_rng(0).uniform(-1.5, 1.5, factors.count)
    factors.multiply(np.where(factors.free(), by, 1.0))
    return model


def variants(model, data) -> dict:
    """Name -> what makes the model."""
    bad = badly_scaled(model)
    return {
        "plain": lambda: model,
        "equalize": lambda: tfopt.equalize(model),
        "equalize, bias_correction": lambda: tfopt.equalize(model, data, bias_correction=True),
        "badly scaled": lambda: bad,
        "badly scaled, equalize": lambda: tfopt.equalize(bad),
        "badly scaled, equalize, bias_correction": lambda: tfopt.equalize(bad, data, bias_correction=True),
        "clip_weights, percentile 99.9": lambda: tfopt.clip_weights(model),
        "clip_weights, percentile 99": lambda: tfopt.clip_weights(model, percentile=99),
        "clip_weights, std 4": lambda: tfopt.clip_weights(model, std=4),
        "clip_weights, std 3": lambda: tfopt.clip_weights(model, std=3),
    }


def row_of(changed, model, data) -> dict:
    """For each file: the accuracy, and the share of the float model's answers that it gives, too."""
    x = pipelines.to_arrays(data.test, 512)[0]
    before, after = (np.asarray(one(x, training=False)) for one in (model, changed))
    row = {"float change": float(np.abs(after - before).max())}
    for name, make in FILES.items():
        verdict = tfopt.verify(make(changed, data), against=model, data=data)
        row[name] = {"accuracy": verdict.score, "agreement": verdict.agreement}
    return row


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", required=True, help="the folder of Fashion-MNIST")
    parser.add_argument("--work", default=".", help="where the trained model is kept")
    arguments = parser.parse_args()
    data = tfopt.datasets.fashion_mnist(folder=arguments.data)
    model = trained(arguments.work, data)
    rows = json.loads(RESULTS.read_text())["rows"] if RESULTS.exists() else {}
    for name, make in variants(model, data).items():
        if name not in rows:
            rows[name] = row_of(make(), model, data)
            RESULTS.write_text(json.dumps({"environment": environment(), "rows": rows}, indent=1) + "\n")
            print(name, rows[name], flush=True)
    table = Table("", *FILES)
    for name, row in rows.items():
        table.add_row(name, *(f"{row[file]['accuracy']:.2%} ({row[file]['agreement']:.2%})" for file in FILES))
    Console(width=160).print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
