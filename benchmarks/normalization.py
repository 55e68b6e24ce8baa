"""What graph normalization does for int8: python benchmarks/normalization.py     (about 10 minutes)

Networks of tf_keras.applications as they are built there (64 x 64 images, 10 classes, no weights downloaded), all weights and BatchNorm
statistics random, go into an int8 .tflite three times: by `quantize_aware(fit=None)`; by the same with nested models laid open and
ReLUs fused, but none of the other passes of `tfopt.surgery.normalized`; and by the converter's post-training quantization. For each: the
operations that compute in float, and how the values before the last softmax compare with the float model's on 64 random images that were
not used to calibrate ("error": the root mean square of the difference, over that of the values around their mean; 1 is as bad as always
saying the mean). The weights are random, so an error compares the three, and says nothing of a trained network. "changed" is the
largest difference that normalization alone makes, over the largest value.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import importlib.metadata
import json
import os
import platform
import sys
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

import tfopt
from tfopt import backend, runtime, surgery
from tfopt.surgery import activations, rewriting
from tfopt.techniques import _quantizable, quantization

NETS = ("MobileNetV3Small", "EfficientNetB0", "EfficientNetV2B0", "ResNet50V2", "RegNetX002", "ConvNeXtTiny", "DenseNet121", "MobileNetV2")
RESULTS = Path(__file__).parent / "results" / "normalization.json"


def network(name: str, images: np.ndarray, seed: int = 0):
    """The network with random weights, and BatchNorm statistics that are those of the images times a random factor each.

    With statistics that have nothing to do with the values, deep networks amplify rounding: a millionth more light in the images changed
    EfficientNetV2B0's outputs by half a percent.
    """
    model = getattr(backend.keras().applications, name)(input_shape=(64, 64, 3), weights=None, classes=10, classifier_activation=None)
    generator = np.random.default_rng(seed)
    for weight in model.weights:
        kind, shape = weight.name.split("/")[-1].split(":")[0], tuple(weight.shape)
        if kind in ("gamma", "beta", "bias") or "kernel" in kind:
            inputs = np.prod(shape[:2]) if kind == "depthwise_kernel" else np.prod(shape[:-1])
            value = generator.normal(0, np.sqrt(2 / inputs) if "kernel" in kind else 0.1, shape)
            weight.assign((np.abs(value) * 5 + 0.5 if kind == "gamma" else value).astype("float32"))
    norms = [layer for layer in model._flatten_layers() if type(layer).__name__ == "BatchNormalization"]
    momenta = [layer.momentum for layer in norms]
    for layer in norms:
        layer.momentum = 0.0
    model(images, training=True)
    for layer, momentum in zip(norms, momenta, strict=True):
        layer.momentum = momentum
        layer.moving_variance.assign(layer.moving_variance * generator.uniform(0.7, 1.4, layer.moving_variance.shape) + 1e-3)
    return model


def measured(prepare, data, model, images: np.ndarray) -> dict:
    """What the converter makes of `prepare(model)`, and how far it is from the model."""
    started = time.perf_counter()
    try:
        artifact = tfopt.convert(prepare(), "int8", data=data)
    except Exception as error:  # whatever stops TF-MOT or the converter is a result here
        return {"error": f"{type(error).__name__}: {str(error).splitlines()[0]}", "seconds": time.perf_counter() - started}
    found, wanted = runtime.Session(artifact).run(images), model(images, training=False).numpy()
    measures = tfopt.measure(artifact)
    return {
        "float_operations": dict(collections.Counter(operation.kind for operation in measures.float_operations)),
        "int8_operations": measures.int8_operations,
        "bytes": measures.bytes,
        "relative_error": float(np.sqrt(np.mean((found - wanted) ** 2) / np.mean((wanted - wanted.mean(0)) ** 2))),
        "agreement": float(np.mean(found.argmax(1) == wanted.argmax(1))),
        "seconds": time.perf_counter() - started,
    }


@contextlib.contextmanager
def without_normalization():
    """quantize_aware as it would be with nested models laid open and ReLUs fused, and nothing else."""

    def bare(model, *_):
        fates = {path: surgery.Fate((path,)) for path, _ in surgery.copying.all_layers(model)}
        for change in (rewriting.flattened, activations.relu_fused):
            model, changes = change(model)
            fates = {path: fate.after(changes) for path, fate in fates.items()}
        return model, fates

    before = quantization._normalized, _quantizable._WITH_OUTPUT, _quantizable._HANDING_ON
    quantization._normalized, _quantizable._WITH_OUTPUT, _quantizable._HANDING_ON = bare, (), ()
    try:
        yield
    finally:
        quantization._normalized, _quantizable._WITH_OUTPUT, _quantizable._HANDING_ON = before


def compared(name: str) -> dict:
    generator = np.random.default_rng(1)
    high = 1.0 if name in ("ResNet50V2", "DenseNet121", "MobileNetV2") else 255.0  # the others rescale by themselves
    x = (generator.random((192, 64, 64, 3)) * high).astype("float32")
    x *= generator.random((192, 1, 1, 3), dtype="float32")  # images differ in brightness and color, not only in noise
    data = tfopt.datasets.arrays(x=x[:128], y=np.arange(128) % 10)
    model, images = network(name, x[:128]), x[128:]
    started = time.perf_counter()
    normal, _ = quantization._normalized(model, None, True, "auto")
    seconds = time.perf_counter() - started
    before, after = model(images, training=False).numpy(), normal(images, training=False).numpy()
    return {
        "changed": float(np.abs(before - after).max() / np.abs(before).max()),
        "seconds": seconds,
        "after": measured(lambda: tfopt.quantize_aware(model, data), data, model, images),
        "before": measured(lambda: bare(model, data), data, model, images),
        "post-training": measured(lambda: model, data, model, images),
    }


def bare(model, data):
    with without_normalization():
        return tfopt.quantize_aware(model, data)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("nets", nargs="*", default=NETS, help="names in tf_keras.applications (default: %(default)s)")
    rows = json.loads(RESULTS.read_text())["rows"] if RESULTS.exists() else {}
    kinds = ("before", "after", "post-training")
    table = Table("network", "changed", "int8 operations", *(f"{what} {kind}" for what in ("float ops", "error") for kind in kinds))
    for name in parser.parse_args().nets:
        rows[name] = row = compared(name)
        sides = [row[kind] for kind in kinds]
        counts = [side["error"] if "error" in side else str(sum(side["float_operations"].values())) for side in sides]
        errors = [f"{side['relative_error']:.3f}" if "error" not in side else "" for side in sides]
        table.add_row(name, f"{row['changed']:.1e}", str(row["after"].get("int8_operations", "")), *counts, *errors)
        print(name, row, file=sys.stderr, flush=True)
        environment = {"tfopt": importlib.metadata.version("tfopt"), "python": platform.python_version(), "cores": os.cpu_count()}
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps({"environment": {**environment, **backend.versions()}, "rows": rows}, indent=1) + "\n")
    Console(width=200).print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
