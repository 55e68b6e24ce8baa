"""What each technique buys, and what it costs: python benchmarks/techniques.py --data FOLDER     (about 15 minutes on 2 cores)

The ResNet-8 of benchmarks/tfmot.py, trained on CIFAR-10, treated by one technique at a time, with one epoch of fine-tuning (Adam from
1e-3, cosine), and exported as float32 and as int8: accuracy on the 5,000 test images, bytes, gzip bytes, and the time of one inference
(one thread) as a ratio to the plain file of the same format, both timed in turns. A row that stands in benchmarks/results/techniques.json
already is not made again.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table
from tfmot import environment, trained

import tfopt
from tfopt import timing

RESULTS = Path(__file__).parent / "results" / "techniques.json"
FIT = tfopt.Fit(epochs=1, batch_size=128, learning_rate=1e-3)
ROWS = {
    "plain": None,
    **{f"prune, {share:.0%} zeros": ("prune", {"sparsity": share}) for share in (0.5, 0.8, 0.9)},
    "prune, 80% zeros over the net": ("prune", {"sparsity": 0.8, "scope": "global"}),
    "prune, 2 zeros of 4": ("prune", {"granularity": "2:4"}),
    "prune, 80% in blocks of 4x1": ("prune", {"sparsity": 0.8, "granularity": "4x1"}),
    **{f"cluster, {count} values": ("cluster", {"clusters": count}) for count in (32, 16, 8)},
    "cluster, 16 values a channel": ("cluster", {"clusters": 16, "per_channel": True}),
    "quantize_aware": ("quantize_aware", {}),
    "quantize_aware, 4-bit weights": ("quantize_aware", {"weight_bits": 4}),
}


def row_of(model, data, plain) -> dict:
    """For each format that the model has: accuracy, sizes, and time as a ratio to the plain model's."""
    row = {}
    for name in ("float32", "int8"):
        if name == "float32" and any("quant" in layer.name for layer in model.layers):
            continue
        artifact, base = (tfopt.convert(m, name, data=data) for m in (model, plain))
        measures, (own, its) = tfopt.measure(artifact), timing.compare([artifact, base], data=data)
        row[name] = {
            "accuracy": tfopt.verify(artifact, against=plain, data=data).score,
            "bytes": measures.bytes,
            "gzip_bytes": measures.gzip_bytes,
            "zeros": measures.sparsity,
            "time_ratio": own.median_ms / its.median_ms,
        }
    return row


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", required=True, help="the folder of CIFAR-10")
    data = tfopt.datasets.cifar10(folder=parser.parse_args().data)
    rows = json.loads(RESULTS.read_text())["rows"] if RESULTS.exists() else {}
    for name, step in ROWS.items():
        if name not in rows:
            plain = trained(data)
            model = plain if step is None else tfopt.chain(tfopt.Step(step[0], {**step[1], "fit": FIT}))(plain, data)
            rows[name] = row_of(model, data, plain)
            print(name, rows[name], file=sys.stderr, flush=True)
            RESULTS.write_text(json.dumps({"environment": environment(), "rows": rows}, indent=1) + "\n")
    table = Table("technique", "format", "accuracy", "bytes", "gzip", "zeros", "time, of plain's")
    for name, row in rows.items():
        for form, it in row.items():
            sizes = f"{it['bytes']:,}", f"{it['gzip_bytes']:,}", f"{100 * it['zeros']:.0f} %"
            table.add_row(name, form, f"{100 * it['accuracy']:.2f} %", *sizes, f"{it['time_ratio']:.2f}")
    Console(width=120).print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
