"""Channel pruning of a good net: python benchmarks/cifar10.py --data FOLDER     (two hours on 2 cores; rows resume)

A ResNet-8 is trained on CIFAR-10 (FOLDER as `tfopt.datasets.cifar10` takes it; by index 0-38,999 train, 39,000-39,999 selection,
40,000-44,999 test). From it come the int8 files of the table:

- "(a)": the same float net, trained on for as many epochs as the pruned ones are, with the same augmentation and teacher, and then
  quantized by the converter alone. "as trained" is it without those epochs.
- pruned: `prune_channels` with a budget, trained on, then `quantize_aware`. The float net itself is the teacher, but where a row says none.

A budget is a share of the bytes or of the time that the float net's int8 file has. Budgets and fits were chosen on the selection part;
the test part is read once for each row, for the accuracy that is printed. Time is the median of one inference with one thread, all files
timed in turns at the end. A row is a finished run with its training curves; one that stands in benchmarks/results/cifar10.json already
is not made again, nor is the float net in benchmarks/results/cifar10/.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from rich.console import Console
from rich.table import Table
from tfmot import environment

import tfopt
from tfopt import backend, loading, progress, timing, verification
from tfopt.tracing import Trace

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "cifar10.json"
KEPT = RESULTS.with_suffix("")  # the float net and the int8 files
CURVES = RESULTS.with_suffix(".png")
TRAIN = tfopt.Fit(epochs=100, batch_size=128, learning_rate=0.1, optimizer="sgd", weight_decay=3e-3)
RECOVER = dataclasses.replace(TRAIN, epochs=40, learning_rate=0.05)
QUANTIZE = tfopt.Fit(epochs=3, batch_size=128, learning_rate=1e-4)
FEWER_BITS = {  # weights of 4 bits have more to learn; in all it is as many epochs
    "weight_bits": 4,
    "recover": dataclasses.replace(RECOVER, epochs=20),
    "quantize": dataclasses.replace(QUANTIZE, epochs=23, learning_rate=1e-3),
}
PUBLISHED = 98_496  # bytes of MLPerf Tiny's int8 ResNet-8
PRUNED = {
    "bytes 0.54": {"bytes": 0.54},
    "time 0.77": {"latency_ms": 0.77},
    "4 bits, parameters 0.87": {"parameters": 0.87, **FEWER_BITS},
    "4 bits, parameters 0.20": {"parameters": 0.20, **FEWER_BITS},
}


def float_net(data):
    """The ResNet-8, trained once, and its curves."""
    file = KEPT / "float.h5"
    if not file.exists():
        KEPT.mkdir(parents=True, exist_ok=True)
        with Trace() as trace, backend.seeded(TRAIN.seed):
            model = tfopt.models.resnet(data.input_shape, data.num_classes, depth=8)
            model = tfopt.train(model, data, TRAIN)
        loading.save(model, file)
        file.with_suffix(".json").write_text(json.dumps(curves(trace)))
    return tfopt.load(file)


def as_trained(data):
    return float_net(data)


def trained_on(data):
    """(a), for as many epochs as the pruned nets take to recover and to learn int8."""
    fit = dataclasses.replace(RECOVER, epochs=RECOVER.epochs + QUANTIZE.epochs)
    return tfopt.distill(float_net(data), data, teacher="self", fit=fit)


def pruned(data, *, bytes=None, latency_ms=None, teacher="self", weight_bits=8, recover=RECOVER, quantize=QUANTIZE, **budget):
    model = float_net(data)
    file, teacher = tfopt.convert(model, "int8", data=data), model if teacher else None
    if bytes is not None:
        budget["bytes"] = bytes * tfopt.measure(file).bytes
    if latency_ms is not None:
        budget["latency_ms"] = latency_ms * timing.compare([file, file], data=data, runs=5000)[0].median_ms
    small = tfopt.prune_channels(model, data, **budget, teacher=teacher, fit=recover)
    return tfopt.quantize_aware(small, data, weight_bits=weight_bits, teacher=teacher, fit=quantize)


def curves(trace) -> list[dict]:
    return [{"name": entry["name"], "history": entry["history"]} for entry in trace.entries if entry["kind"] == "curve"]


def wanted() -> dict:
    rows = {"as trained": as_trained, "(a)": trained_on}
    return rows | {name: lambda data, options=options: pruned(data, **options) for name, options in PRUNED.items()}


def row_of(name: str, make, data) -> dict:
    wall, cpu = time.perf_counter(), time.process_time()
    with Trace() as trace, progress.resumable(ROOT / "runs" / "cifar10" / name):
        model = make(data)
    seconds = {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}
    artifact = tfopt.convert(model, "int8", data=data)
    artifact.save(KEPT / f"{name}.tflite")
    measures, selection = tfopt.measure(artifact), dataclasses.replace(data, test=data.validation)
    row = {"selection": tfopt.verify(artifact, against=float_net(data), data=selection).score}
    row |= {"bytes": measures.bytes, "gzip_bytes": measures.gzip_bytes, "parameters": measures.parameters, "macs": measures.macs}
    return {**row, **seconds, "curves": curves(trace)}


def tested(names, data) -> dict:
    """What is read from the test part, of all files at once: accuracies, and what differs from (a)'s."""
    files = {name: loading.load(KEPT / f"{name}.tflite") for name in names}
    answers = {name: verification.reference(file, data) for name, file in files.items()}
    right = {name: answer.outputs.argmax(-1) == np.asarray(answer.truth).ravel() for name, answer in answers.items()}
    verdicts = {name: tfopt.verify(file, against=answers["(a)"], data=data) for name, file in files.items()}
    timed = timing.compare(list(files.values()), data=data, runs=2000)
    found = {}
    for name, times in zip(files, timed, strict=True):
        differences = right[name].astype(float) - right["(a)"]
        margin = 1.96 * differences.std() / np.sqrt(len(differences))
        difference = [differences.mean() - margin, differences.mean() + margin]
        found[name] = {"accuracy": verdicts[name].score, "interval": verdicts[name].interval, "difference": difference}
        found[name]["median_ms"] = times.median_ms
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", required=True, help="the folder of CIFAR-10")
    parser.add_argument("--test", action="store_true", help="read the test part, once all rows are there")
    arguments = parser.parse_args()
    data = tfopt.datasets.cifar10(folder=arguments.data)
    saved = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"rows": {}, "test": {}}
    for name, make in wanted().items():
        if name not in saved["rows"]:
            saved["rows"][name] = row_of(name, make, data)
            write(saved)
    if arguments.test:
        saved["test"] = tested(saved["rows"], data)
        write(saved)
    draw(saved)
    Console(width=170).print(table(saved))
    return 0


def write(saved: dict) -> None:
    RESULTS.write_text(json.dumps({"environment": environment(), "machine": timing.machine(), **saved}, indent=1) + "\n")


def draw(saved: dict) -> None:
    """The curves of all fits, epoch after epoch: one plot a row, of accuracy while training and on the selection part."""
    first = json.loads((KEPT / "float.json").read_text())
    plots = {"float net": first, **{name: row["curves"] for name, row in saved["rows"].items() if row["curves"]}}
    figure, axes = plt.subplots(-(-len(plots) // 3), 3, figsize=(13, 3 * -(-len(plots) // 3)), sharey=True, squeeze=False)
    for axis, (name, fits) in zip(axes.flat, plots.items(), strict=False):
        for key, label in (("accuracy", "training"), ("val_accuracy", "selection")):
            values = [100 * value for fit in fits for value in fit["history"][key]]
            axis.plot(range(1, len(values) + 1), values, label=f"{label}, at last {values[-1]:.1f} %", linewidth=1)
        axis.set(title=name, xlabel="epoch", ylim=(50, 100))
        axis.legend(loc="lower right", fontsize=8)
        axis.grid(alpha=0.3)
    for axis in axes.flat[len(plots) :]:
        axis.set_axis_off()
    axes[0, 0].set_ylabel("accuracy, %")
    figure.tight_layout()
    figure.savefig(CURVES, dpi=80)
    plt.close(figure)


def table(saved: dict) -> Table:
    found = Table(
        "int8 file", "selection", "test", "95 %", "against (a)", "bytes", "of (a)", "gzip", "MACs", "ms", "of (a)", "training s", "CPU s"
    )
    base = saved["rows"]["(a)"]
    for name, row in saved["rows"].items():
        test, first = saved["test"].get(name), saved["test"].get("(a)")
        told = ("", "", "", "", "")
        if test:
            interval, difference = (f"{100 * low:.1f} - {100 * high:.1f}" for low, high in (test["interval"], test["difference"]))
            times = f"{test['median_ms']:.4f}", f"{test['median_ms'] / first['median_ms']:.2f}"
            told = (f"{100 * test['accuracy']:.2f} %", interval, difference, *times)
        sizes = f"{row['bytes']:,}", f"{row['bytes'] / base['bytes']:.3f}", f"{row['gzip_bytes']:,}", f"{row['macs']:,}"
        seconds = f"{row['seconds']:.0f}", f"{row['cpu_seconds']:.0f}"
        found.add_row(name, f"{100 * row['selection']:.1f} %", *told[:3], *sizes, *told[3:], *seconds)
    return found


if __name__ == "__main__":
    sys.exit(main())
