"""The families of keras.applications through quantize_aware to an int8 .tflite that runs: python benchmarks/applications.py

Each of the bridge's fifteen families (Keras 3 models, small images, 10 classes, random weights whose BatchNorm statistics are those of the
images) is trained quantization-aware for a few steps on random images, converted, and run on LiteRT. For each: how many of its layers are
treated; the operations of the file that compute in float, and their share of the multiply-accumulates; the file's bytes; how the values
before the softmax of the file compare with those of the quantization-aware Keras model on 64 other images ("error": the root mean square
of the difference, over that of the values around their mean); and why the layers that are left stay float.

About an hour on 2 cores. Rows are saved to benchmarks/results/applications.json one by one, and a row that is there already is not
measured again: remove it, or the file, to begin anew. When all are there, the table in docs/techniques/quantize_aware.md is written.
"""

from __future__ import annotations

import argparse
import collections
import gc
import json
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

import bridge_cases  # noqa: E402
import bridge_measures  # noqa: E402
import numpy as np  # noqa: E402

import tfopt  # noqa: E402
from tfopt import backend, bridge, measures, runtime  # noqa: E402
from tfopt.tracing import Trace  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results" / "applications.json"
PAGE = ROOT / "docs" / "techniques" / "quantize_aware.md"
BEGIN, END = "<!-- the table of benchmarks/applications.py -->", "<!-- the end of the table -->"
FIT = tfopt.Fit(epochs=1, batch_size=16, learning_rate=1e-4)
TRAINED_ON, COMPARED_ON = 64, 64  # a third of the first go to validation and test


def images(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Random images to train and to compare on, that differ in brightness and color and not only in noise."""
    generator = np.random.default_rng(1)
    side = bridge_cases.SIDES.get(name, 64)
    high = 255.0 if bridge_cases.FAMILIES[name] == "images" else 1.0  # where its own preprocessing stands inside the model it takes pixels
    x = generator.random((TRAINED_ON + COMPARED_ON, side, side, 3), dtype="float32") * high
    x *= generator.random((len(x), 1, 1, 3), dtype="float32")
    return x[:TRAINED_ON], x[TRAINED_ON:]


def network(name: str, x: np.ndarray) -> Any:
    """The Keras 3 model through the bridge, its weights random, its statistics settled on the images; it ends before the softmax."""
    keras, shape, generator = bridge.keras3(), x.shape[1:], np.random.default_rng(0)
    model = getattr(keras.applications, name)(weights=None, input_shape=shape, classes=10, classifier_activation=None)
    bridge_measures.randomize(model, generator)
    bridge_measures.settle(model, keras.ops.convert_to_tensor(x), generator)
    model2 = bridge.to_keras2(model)
    head = [layer for layer in model2.layers if getattr(layer, "bias", None) is not None][-1]
    head.bias.assign(head.bias - np.mean(model2(x, training=False), axis=0))  # so that not all images are of one class
    return model2


def measured(name: str) -> dict[str, Any]:
    """The row of a family; an exception's words where there is none."""
    started = time.perf_counter()
    x, others = images(name)
    model = network(name, x)
    data = tfopt.datasets.arrays(x=x, y=np.arange(len(x)) % 10)
    with Trace() as trace:
        quantized = tfopt.quantize_aware(model, data, fit=FIT)
    choices = [tfopt.types.Choice(**choice) for entry in trace.entries if entry["kind"] == "choices" for choice in entry["choices"]]
    artifact = tfopt.convert(quantized, "int8", io="float32")
    found = runtime.Session(artifact).run(others)
    wanted = np.concatenate([np.asarray(quantized(others[at : at + 16], training=False)) for at in range(0, len(others), 16)])
    return {
        "treated": sum(choice.treated for choice in choices),
        "left": dict(collections.Counter(choice.reason for choice in choices if not choice.treated)),
        **counted(artifact, [choice for choice in choices if not choice.treated]),
        "bytes": len(artifact.content),
        "error": float(np.sqrt(np.mean((found - wanted) ** 2) / np.mean((wanted - wanted.mean(0)) ** 2))),
        "agreement": float(np.mean(found.argmax(1) == wanted.argmax(1))),
        "seconds": time.perf_counter() - started,
    }


def counted(artifact: Any, left: list[Any]) -> dict[str, Any]:
    """What the file computes in: operations of int8 and of float, the float ones by kind and with the reason of the layer they do."""
    found = tfopt.measure(artifact)
    reader = measures.readers(artifact.name, artifact.content)[0]
    floats = {operation.name for operation in found.float_operations}
    macs = collections.Counter()
    for node, operation in zip(reader.nodes, reader.operations(), strict=True):
        macs[operation.name in floats] += reader.macs_of(node) or 0
    reasons = collections.Counter((operation.kind, why(operation.name, left)) for operation in found.float_operations)
    return {
        "int8_operations": found.int8_operations,
        "float_operations": [[kind, reason, count] for (kind, reason), count in reasons.items()],
        "uncounted": list(found.uncounted),
        "float_macs": macs[True] / sum(macs.values()),
    }


def why(operation: str, left: list[Any]) -> str:
    """The reason of the layer that an operation does; the operation's own name where no layer that is left has done it."""
    parts = set(operation.replace(";", "/").split("/"))
    return next((choice.reason for choice in left if choice.layer.rpartition("/")[2] in parts), operation)


def measure_all(names: list[str]) -> dict[str, Any]:
    saved = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"environment": environment(), "rows": {}}
    for name in names:
        if name in saved["rows"]:
            continue
        saved["rows"][name] = row = measured(name)
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(saved, indent=1) + "\n")
        print(name, {key: value for key, value in row.items() if key != "left"}, flush=True)
        bridge.keras3().utils.clear_session()
        backend.keras().backend.clear_session()
        gc.collect()
    return saved


def environment() -> dict[str, Any]:
    keras = {"keras": bridge.keras3().__version__}
    return {**keras, **backend.versions(), "python": platform.python_version(), "cores": os.cpu_count(), "date": time.strftime("%Y-%m-%d")}


def page_of(rows: dict[str, Any]) -> str:
    """The part of the page that the rows make."""
    lines = [
        "| network | layers treated | left | int8 operations | float | of the MACs | bytes | error | agreement |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name in bridge_cases.FAMILIES:
        row = rows[name]
        floats = sum(count for _, _, count in row["float_operations"])
        lines.append(
            f"| {name} | {row['treated']} | {sum(row['left'].values())} | {row['int8_operations']} | {floats} | {row['float_macs']:.1%} | "
            f"{row['bytes']:,} | {row['error']:.2f} | {row['agreement']:.2f} |"
        )
    return "\n".join([*lines, "", *reasons_of(rows), ""])


def reasons_of(rows: dict[str, Any]) -> list[str]:
    """What computes in float, by network and reason; and why layers were left."""
    lines = ["In float, and why:", ""]
    for name, row in rows.items():
        by_reason: dict[str, list[str]] = {}
        for kind, reason, count in row["float_operations"]:
            by_reason.setdefault(reason, []).append(f"{count} {kind}")
        lines += [f"- {name}: {', '.join(kinds)}: {reason}" for reason, kinds in by_reason.items()]
    lines += ["", "Layers that were left:", ""]
    return lines + [f"- {name}: {count} times: {reason}" for name, row in rows.items() for reason, count in row["left"].items()]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("families", nargs="*", default=list(bridge_cases.FAMILIES), help="(default: all fifteen)")
    rows = measure_all(parser.parse_args().families)["rows"]
    if set(rows) >= set(bridge_cases.FAMILIES):
        before, rest = PAGE.read_text().split(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}\n\n{page_of(rows)}\n{END}{rest.split(END)[1]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
