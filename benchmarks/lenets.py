"""Deep Compression's two nets on Fashion-MNIST: python benchmarks/lenets.py --data FOLDER     (minutes are in the table; rows resume)

LeNet-300-100 and Caffe's LeNet-5 (convolutions of 20 and 50 channels, Dense layers of 500 and 10), in FOLDER's data as
`tfopt.datasets.fashion_mnist` takes it. The net is trained; from it come two files:

- the base: trained on by its own soft targets for as many epochs as all steps of the other take together, as a float32 .tflite;
- the small one: channels pruned, weights pruned, few shared values, int8, each with the trained net as the teacher; its size is that of its
  .tflite in gzip, as Han et al. 2016 count what is behind their Huffman coding (arXiv:1510.00149: 40x and 39x on MNIST).

Sparsities and fits were chosen on the validation images. With --test the 10,000 test images are read, once: what is printed of them is the
accuracy of both files, and the 95 % interval of their difference, in pairs.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from tfmot import environment

import tfopt
from tfopt import backend, loading, verification

RESULTS = Path(__file__).parent / "results" / "lenets.json"
KEPT = RESULTS.with_suffix("")
TRAIN = tfopt.Fit(epochs=30, batch_size=128, learning_rate=1e-3)
FIT = tfopt.Fit(batch_size=128, learning_rate=1e-3)


def lenet5(data):
    """Caffe's examples/mnist/lenet.prototxt, with ReLUs behind the convolutions too."""
    layers = backend.keras().layers
    return backend.keras().Sequential(
        [
            layers.InputLayer(data.input_shape),
            layers.Conv2D(20, 5, activation="relu", name="conv1"),
            layers.MaxPooling2D(name="pool1"),
            layers.Conv2D(50, 5, activation="relu", name="conv2"),
            layers.MaxPooling2D(name="pool2"),
            layers.Flatten(name="flatten"),
            layers.Dense(500, activation="relu", name="dense1"),
            layers.Dense(data.num_classes, activation="softmax", name="dense2"),
        ],
        name="lenet5",
    )


def lenet_300_100(data):
    return tfopt.models.mlp(data.input_shape, data.num_classes, hidden=(300, 100))


@dataclasses.dataclass(frozen=True)
class Row:
    """A net, and how it is made small: (technique, epochs, options) one after the other."""

    build: Any
    steps: Sequence[tuple[str, int, dict[str, Any]]]


def steps(parameters: float, sparsity: float, clusters: int, epochs: Sequence[int] = (8, 12, 4, 2)) -> list:
    channels, zeros, values, int8 = epochs
    return [
        ("prune_channels", channels, {"parameters": parameters, "multiple_of": 1}),
        ("prune", zeros, {"sparsity": sparsity, "scope": "global"}),
        ("cluster", values, {"clusters": clusters}),
        ("quantize_aware", int8, {}),
    ]


ROWS = {
    "LeNet-300-100": Row(lenet_300_100, steps(0.5, 0.85, 8)),
    "LeNet-5": Row(lenet5, steps(0.2, 0.85, 8)),
}


def trained(name: str, data):
    file = KEPT / f"{name}.h5"
    if not file.exists():
        KEPT.mkdir(parents=True, exist_ok=True)
        with backend.seeded(TRAIN.seed):
            loading.save(tfopt.train(ROWS[name].build(data), data, TRAIN), file)
    return tfopt.load(file)


def made_small(model, data, steps) -> Any:
    small = model
    for technique, epochs, options in steps:
        rate = 1e-4 if technique == "quantize_aware" else FIT.learning_rate
        fit = dataclasses.replace(FIT, epochs=epochs, learning_rate=rate)
        small = getattr(tfopt, technique)(small, data, teacher=model, fit=fit, **options)
    return tfopt.convert(small, "int8", data=data)


def trained_on(model, data, steps) -> Any:
    fit = dataclasses.replace(FIT, epochs=sum(epochs for _, epochs, _ in steps))
    return tfopt.convert(tfopt.distill(model, data, teacher="self", fit=fit), "float32")


def right(file, data) -> np.ndarray:
    answer = verification.reference(file, data)
    return answer.outputs.argmax(-1) == np.asarray(answer.truth).ravel()


def compared(name: str, data) -> dict:
    """Accuracies of both files on `data.test`, and the 95 % interval of the difference of pairs."""
    base, small = (right(loading.load(KEPT / f"{name}, {which}.tflite"), data) for which in ("base", "small"))
    differences = small.astype(float) - base
    margin = 1.96 * differences.std(ddof=1) / np.sqrt(len(differences))
    interval = [differences.mean() - margin, differences.mean() + margin]
    return {"base": float(base.mean()), "small": float(small.mean()), "difference": interval}


def row_of(name: str, data) -> dict:
    start, steps = time.perf_counter(), ROWS[name].steps
    for which, make in (("base", trained_on), ("small", made_small)):
        make(trained(name, data), data, steps).save(KEPT / f"{name}, {which}.tflite")
    base, small = (tfopt.measure(loading.load(KEPT / f"{name}, {which}.tflite")) for which in ("base", "small"))
    row = {"float_bytes": base.bytes, "bytes": small.bytes, "gzip_bytes": small.gzip_bytes, "parameters": small.parameters}
    validation = compared(name, dataclasses.replace(data, test=data.validation))
    return {**row, "validation": validation, "minutes": (time.perf_counter() - start) / 60, "steps": steps}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", required=True, help="the folder of Fashion-MNIST")
    parser.add_argument("--test", action="store_true", help="read the test images, once all rows are there")
    arguments = parser.parse_args()
    data = tfopt.datasets.fashion_mnist(folder=arguments.data)
    rows = json.loads(RESULTS.read_text())["rows"] if RESULTS.exists() else {}
    for name in ROWS:
        if name not in rows:
            rows[name] = row_of(name, data)
            write(rows)
    if arguments.test:
        for name, row in rows.items():
            row["test"] = compared(name, data)
        write(rows)
    Console(width=150).print(table(rows))
    return 0


def write(rows: dict) -> None:
    RESULTS.write_text(json.dumps({"environment": environment(), "rows": rows}, indent=1) + "\n")


def table(rows: dict) -> Table:
    found = Table("net", "images", "float32", "int8", "difference, 95 %", "float32 bytes", "int8 gzip bytes", "smaller", "minutes")
    for name, row in rows.items():
        for part in ("validation", "test"):
            if part in row:
                low, high = row[part]["difference"]
                accuracies = (
                    f"{100 * row[part]['base']:.2f} %",
                    f"{100 * row[part]['small']:.2f} %",
                    f"{100 * low:+.2f} to {100 * high:+.2f}",
                )
                sizes = f"{row['float_bytes']:,}", f"{row['gzip_bytes']:,}", f"{row['float_bytes'] / row['gzip_bytes']:.1f}x"
                found.add_row(name, part, *accuracies, *sizes, f"{row['minutes']:.1f}")
    return found


if __name__ == "__main__":
    sys.exit(main())
