"""TF-MOT called plainly, as its guide says, beside tfopt: python benchmarks/tfmot.py --data FOLDER     (about an hour on 2 cores)

A ResNet-8 is trained on CIFAR-10 (FOLDER as `tfopt.datasets.cifar10` takes it; by index 0-38,999 train, 39,000-39,999 validation,
40,000-44,999 test, read once for the accuracy that is printed). From it both kits make the same int8 files: quantization-aware training
alone, and pruning to 50, 70 and 80 %, then 16 clusters, then quantization-aware training that keeps both. Same batches in the same order,
same epochs, optimizer (Adam) and learning rates for both, which were chosen beforehand and not tuned for either.

"plain int8" is the converter's own quantization of the trained model after training, to which gzip bytes are compared. A row is a finished
run; one that stands in benchmarks/results/tfmot.json already is not made again.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

import tfopt
from tfopt import backend, loading, pipelines, progress

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "tfmot.json"
KEPT = ROOT / "runs" / "tfmot"  # the trained model
FIT = tfopt.Fit(epochs=40, batch_size=128, learning_rate=2e-3)
PRUNE = tfopt.Fit(epochs=4, batch_size=128, learning_rate=1e-3)
CLUSTER = tfopt.Fit(epochs=3, batch_size=128, learning_rate=3e-4)
QUANTIZE = tfopt.Fit(epochs=3, batch_size=128, learning_rate=3e-4)
CLUSTERS = 16
SPARSITIES = (0.5, 0.7, 0.8)


def trained(data):
    """The ResNet-8, trained once."""
    file = KEPT / "resnet8.h5"
    if not file.exists():
        KEPT.mkdir(parents=True, exist_ok=True)
        with progress.resumable(KEPT), backend.seeded(FIT.seed):
            model = tfopt.models.resnet(data.input_shape, data.num_classes, depth=8)
            loading.save(tfopt.train(model, data, FIT), file)
    return tfopt.load(file)


class ByTfmot:
    """What TF-MOT's guides do, fitted with tfopt's batches."""

    def __init__(self, data):
        self.data, self.mot, self.keras = data, backend.tfmot(), backend.keras()

    def fit(self, model, fit, *callbacks):
        steps = pipelines.steps_per_epoch(self.data, fit)
        rate = self.keras.optimizers.schedules.CosineDecay(fit.learning_rate, steps * fit.epochs)
        model.compile(self.keras.optimizers.Adam(rate), "sparse_categorical_crossentropy", metrics=["accuracy"])
        batches = pipelines.training_batches(self.data, fit)
        validation = pipelines.batches(self.data.validation, fit.batch_size)
        model.fit(batches, epochs=fit.epochs, steps_per_epoch=steps, validation_data=validation, verbose=0, callbacks=list(callbacks))

    def prune(self, model, sparsity):
        sparse = self.mot.sparsity.keras
        steps = pipelines.steps_per_epoch(self.data, PRUNE) * PRUNE.epochs
        schedule = sparse.PolynomialDecay(
            initial_sparsity=0.5 if sparsity > 0.5 else 0.0, final_sparsity=sparsity, begin_step=0, end_step=steps
        )
        pruned = sparse.prune_low_magnitude(model, pruning_schedule=schedule)
        self.fit(pruned, PRUNE, sparse.UpdatePruningStep())
        return sparse.strip_pruning(pruned)

    def cluster(self, model):
        clustering = self.mot.clustering.keras
        preserving = backend.tfmot_private("clustering.keras.experimental.cluster")
        clustered = preserving.cluster_weights(
            model,
            number_of_clusters=CLUSTERS,
            cluster_centroids_init=clustering.CentroidInitialization.KMEANS_PLUS_PLUS,
            preserve_sparsity=True,
        )
        self.fit(clustered, CLUSTER)
        return clustering.strip_clustering(clustered)

    def quantize(self, model, preserve):
        quantization = self.mot.quantization.keras
        if preserve:
            annotated = quantization.quantize_annotate_model(model)
            scheme = self.mot.experimental.combine.Default8BitClusterPreserveQuantizeScheme(preserve_sparsity=True)
            quantized = quantization.quantize_apply(annotated, scheme)
        else:
            quantized = quantization.quantize_model(model)
        self.fit(quantized, QUANTIZE)
        return self.mot.experimental.combine.strip_clustering_cqat(quantized) if preserve else quantized

    def model(self, model, sparsity):
        if sparsity is None:
            return self.quantize(model, preserve=False)
        return self.quantize(self.cluster(self.prune(model, sparsity)), preserve=True)


class ByTfopt:
    def __init__(self, data):
        self.data = data

    def model(self, model, sparsity):
        if sparsity is None:
            return tfopt.quantize_aware(model, self.data, fit=QUANTIZE)
        steps = (
            tfopt.Step("prune", {"sparsity": sparsity, "fit": PRUNE}),
            tfopt.Step("cluster", {"clusters": CLUSTERS, "fit": CLUSTER}),
            tfopt.Step("quantize_aware", {"fit": QUANTIZE}),
        )
        return tfopt.chain(*steps)(model, self.data)


KITS = {"TF-MOT": ByTfmot, "tfopt": ByTfopt}


def row_of(artifact, against, data) -> dict:
    verdict, measures = tfopt.verify(artifact, against=against, data=data), tfopt.measure(artifact)
    return {
        "accuracy": verdict.score,
        "interval": verdict.interval,
        "drop": verdict.drop,
        "bytes": measures.bytes,
        "gzip_bytes": measures.gzip_bytes,
        "zeros": measures.sparsity,
        "distinct": max(max(kernel.distinct) for kernel in measures.kernels),
        "int8_operations": measures.int8_operations,
        "float_operations": len(measures.float_operations),
        "median_ms": tfopt.benchmark(artifact, data=data).median_ms,
    }


def optimized(kit: str, sparsity: float | None, data) -> dict:
    model = trained(data)
    wall, cpu = time.perf_counter(), time.process_time()
    final = KITS[kit](data).model(model, sparsity)
    seconds = {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}
    return {**row_of(tfopt.convert(final, "int8"), trained(data), data), **seconds}


def environment() -> dict:
    own = {"tfopt": importlib.metadata.version("tfopt"), "python": platform.python_version(), "cores": os.cpu_count()}
    return {**own, **backend.versions()}


def plain(format_name: str, data) -> dict:
    model = trained(data)
    return row_of(tfopt.convert(model, format_name, data=data), model, data)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", required=True, help="the folder of CIFAR-10")
    data = tfopt.datasets.cifar10(folder=parser.parse_args().data)
    rows = json.loads(RESULTS.read_text())["rows"] if RESULTS.exists() else {}
    wanted = {f"plain {name}": lambda name=name: plain(name, data) for name in ("float32", "int8")}
    for sparsity in (None, *SPARSITIES):
        name = "quantization-aware" if sparsity is None else f"{sparsity:.0%} zeros, {CLUSTERS} clusters"
        wanted |= {f"{name}: {kit}": lambda kit=kit, sparsity=sparsity: optimized(kit, sparsity, data) for kit in KITS}
    for name, make in wanted.items():
        if name not in rows:
            rows[name] = make()
            print(name, rows[name], file=sys.stderr, flush=True)
            RESULTS.write_text(json.dumps({"environment": environment(), "rows": rows}, indent=1) + "\n")
    Console(width=170).print(table(rows))
    return 0


def table(rows: dict) -> Table:
    columns = (
        "accuracy",
        "95 % interval",
        "drop",
        "bytes",
        "gzip",
        "of plain int8's",
        "zeros",
        "values a channel",
        "ms",
        "training s",
        "CPU s",
    )
    found = Table("int8 file", *columns)
    base = rows["plain int8"]["gzip_bytes"]
    for name, row in rows.items():
        interval = " - ".join(f"{100 * end:.1f}" for end in row["interval"])
        seconds = [f"{row[key]:.0f}" if key in row else "" for key in ("seconds", "cpu_seconds")]
        sizes = f"{row['bytes']:,}", f"{row['gzip_bytes']:,}", f"{row['gzip_bytes'] / base:.2f}"
        shares = f"{100 * row['zeros']:.0f} %", str(row["distinct"]), f"{row['median_ms']:.4f}"
        found.add_row(name, f"{100 * row['accuracy']:.2f} %", interval, f"{100 * row['drop']:+.2f}", *sizes, *shares, *seconds)
    return found


if __name__ == "__main__":
    sys.exit(main())
