"""Anomalies in the 13 series of NAB that stand in the data folder: tfopt's autoencoder beside NAB's own windowed Gaussian.

    TFOPT_DATA=... python benchmarks/anomalies.py        # about 6 minutes on 2 cores

For each series an autoencoder learns windows of 144 points of the first 25 % that end in no anomaly, 10 % more are validation, and the last
65 % are scored, by the mean squared error of a window: as the Keras model, and as its int8 .tflite on LiteRT. The windowed Gaussian (NAB's
detector of that name: 6,400 points, moved by 100) has seen all points before each one, and is scored on the same points. One setting for
all series; length and error were chosen among 16, 48, 144 and mean, last by the six artificial series, so that the seven others
are untouched by any choice: the table gives the mean over all and over these.

Prints the ROC AUC of each and saves them to benchmarks/results/anomalies.json, a series at a time. What is there is not computed again.
"""

from __future__ import annotations

import csv
import json
import math
import os
import time
from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score

import tfopt
from tfopt import backend, pipelines, reporting, tasks, verification

RESULTS = Path(__file__).parent / "results" / "anomalies.json"
NAB = Path(os.environ.get("TFOPT_DATA", "../shared/data")) / "nab"
LENGTH, ERROR, TEST, VALIDATION, WINDOW, STEP = 144, "mean", 0.65, 0.1, 6400, 100
FIT = tfopt.Fit(epochs=20, batch_size=64, learning_rate=2e-3)


def windowed_gaussian(values: np.ndarray) -> np.ndarray:
    """How unlikely each value is under the Gaussian of those before it (numenta/NAB, windowedGaussian_detector.py)."""
    scores, window, waiting = np.zeros(len(values)), [], []
    mean = std = 0.0
    for at, value in enumerate(values):
        if window:
            scores[at] = 1 - 0.5 * math.erfc(abs(value - mean) / max(std, 1e-6) / math.sqrt(2))
        if len(window) < WINDOW:
            window.append(value)
        else:
            waiting.append(value)
            if len(waiting) < STEP:
                continue
            window, waiting = window[STEP:] + waiting, []
        mean, std = float(np.mean(window)), float(np.std(window))
    return scores


def measured(file: Path) -> dict[str, float]:
    """The ROC AUC of the three on the test windows of a series."""
    start = time.perf_counter()
    labels = NAB / "labels" / "combined_windows.json"
    data = tfopt.datasets.time_series(file=file, labels=labels, length=LENGTH, validation=VALIDATION, test=TEST, task="anomaly_detection")
    data = tasks.anomaly_detection(data, error=ERROR)
    with backend.seeded(0):
        model = tfopt.models.autoencoder(data.input_shape, hidden=[64, 32], code=4)
    model = tfopt.train(model, data, FIT)
    reference = verification.reference(model, data)
    verdict = tfopt.verify(tfopt.convert(model, "int8", data=data), against=reference, data=data)
    y = pipelines.labels(data.test)
    with file.open() as opened:
        values = np.array([float(row[1]) for row in list(csv.reader(opened))[1:]])
    return {
        "windows": len(y),
        "anomalous": int(y.sum()),
        "gaussian": float(roc_auc_score(y, windowed_gaussian(values)[-len(y) :])),
        "autoencoder": reference.score,
        "int8": verdict.score,
        "seconds": time.perf_counter() - start,
    }


def main() -> None:
    """Measures what is not there yet, and prints the table."""
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"series": {}}
    results["setting"] = {"length": LENGTH, "error": ERROR, "test": TEST, "validation": VALIDATION, "epochs": FIT.epochs}
    for file in sorted((NAB / "data").glob("*/*.csv")):
        if file.stem not in results["series"]:
            results["series"][file.stem] = {"folder": file.parent.name, **measured(file)}
            results["environment"] = reporting.environment(tfopt.strategies.pick("one"))
            RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    print(f"{'ROC AUC':44}{'Gaussian':>10}{'autoencoder':>13}{'int8':>8}")
    rows = results["series"]
    for name, row in rows.items():
        print(f"{name:44}{row['gaussian']:10.3f}{row['autoencoder']:13.3f}{row['int8']:8.3f}")
    for title, chosen in (
        ("mean of all 13", list(rows.values())),
        ("mean of the 7 that chose nothing", [row for row in rows.values() if row["folder"] == "realKnownCause"]),
    ):
        means = [float(np.mean([row[kind] for row in chosen])) for kind in ("gaussian", "autoencoder", "int8")]
        print(f"{title:44}{means[0]:10.3f}{means[1]:13.3f}{means[2]:8.3f}")


if __name__ == "__main__":
    main()
