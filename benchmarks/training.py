"""How fast tfopt trains, and in how much memory: python benchmarks/training.py     (about two hours on 2 cores)

Three ways to train the same net on the same batches, each in a process of its own, an epoch each in turns: `tfopt.train` as it comes (its
choice of precision and XLA, made in the same process before the first epoch), tf_keras's `fit`, and Keras 3's `fit`, both compiled as a
tutorial does it. All take batches from tfopt's input pipeline, one step a call, with Adam and half a cosine.

`races` are 8 epochs of a ResNet-8 on CIFAR-10 and of a convnet on Fashion-MNIST, three seeds each: accuracy on the test images, seconds of
an epoch (median), CPU seconds of all, peak memory (resident, of the whole process). `builders` are tfopt and tf_keras with every builder
on real data, up to 100 steps an epoch: what tfopt chooses must not make any of them slower. Its trial is made as for a long fit, and the
seconds of it are told apart: it is made once for a machine and a model.

Prints tables, and saves each finished row to benchmarks/results/training.json; what is there is not measured again.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

import tfopt
from tfopt import backend, pipelines, reporting

RESULTS = Path(__file__).parent / "results" / "training.json"
DATA = Path(os.environ.get("TFOPT_DATA", "../shared/data"))
WAYS = {"tfopt": "tfopt", "tf_keras": "tf_keras fit", "keras": "Keras 3 fit"}
SEEDS, EPOCHS, BATCH = (0, 1, 2), 8, 128
TURNS = 7  # epochs of a builder, of which the first compiles
MANY, FEW = 100, 20  # steps of each, so that one takes a second or more
FOR_LONG = 1000  # epochs that a builder's fit announces, so that the trial is made; it is stopped after TURNS


# What is trained


def fashion(**options: Any) -> tfopt.Data:
    return tfopt.datasets.fashion_mnist(folder=DATA / "fashion_mnist", **options)


def cifar(**options: Any) -> tfopt.Data:
    return tfopt.datasets.cifar10(folder=DATA / "cifar10", **options)


def sounds(form: str) -> tfopt.Data:
    speech = {"pattern": r"(?P<label>\d)_(?P<speaker>\w+)_(?P<index>\d+)\.wav", "test_pattern": r".*_[0-4]\.wav", "rate": 8000}
    return tfopt.datasets.audio_folder(folder=DATA / "free_spoken_digit" / "fsdd.zip", preprocess=[form, "z_score"], **speech)


def words() -> tfopt.Data:
    files = {"file": DATA / "text" / "TREC.train.all", "test_file": DATA / "text" / "TREC.test.all"}
    return tfopt.datasets.text_file(**files, encoding="latin-1", length=40)


def series(task: str = "classification") -> tfopt.Data:
    labels, split = DATA / "nab" / "labels" / "combined_windows.json", "time" if task == "anomaly_detection" else "blocks"
    return tfopt.datasets.time_series(file=DATA / "nab" / "data", labels=labels, length=64, task=task, split=split)


def derived(make: Callable[[np.ndarray], Any]) -> tfopt.Data:
    """Of 4,000 CIFAR-10 images what there is no data set of here: clips, or images beside a row."""
    x, y = pipelines.to_arrays(cifar(preprocess=()).train)
    return tfopt.datasets.arrays(x=make(x[:4000]), y=y[:4000], name="cifar10-derived")


def panned(x: np.ndarray) -> np.ndarray:
    """Clips (n, 8, 24, 24, 3): a window that moves over the image."""
    return np.stack([x[:, at : at + 24, at : at + 24] for at in range(8)], axis=1)


def beside(x: np.ndarray) -> dict[str, np.ndarray]:
    """Gray images, and a row of each colour's mean and spread."""
    return {"image": x.mean(axis=3, keepdims=True), "row": np.concatenate([x.mean(axis=(1, 2)), x.std(axis=(1, 2))], axis=1)}


# name -> (data, builder, its options)
RACES: dict[str, tuple[Callable[[], tfopt.Data], str, dict[str, Any]]] = {
    "resnet8 on cifar10": (cifar, "resnet", {}),
    "convnet on fashion_mnist": (fashion, "convnet", {}),
}
BUILDERS: dict[str, tuple[Callable[[], tfopt.Data], str, dict[str, Any]]] = {
    "resnet8, 16 filters": (cifar, "resnet", {}),
    "resnet8, 10 filters": (cifar, "resnet", {"width": 10}),
    "resnet8, version 2": (cifar, "resnet", {"version": 2}),
    "mobilenet v1 0.25": (cifar, "mobilenet", {"version": 1, "alpha": 0.25}),
    "mobilenet v2 0.35": (cifar, "mobilenet", {"version": 2, "alpha": 0.35}),
    "mobilenet v3 0.35": (cifar, "mobilenet", {"version": 3, "alpha": 0.35}),
    "efficientnet_lite": (cifar, "efficientnet_lite", {}),
    "densenet": (cifar, "densenet", {}),
    "vgg": (cifar, "vgg", {}),
    "vit": (cifar, "vit", {}),
    "backbone MobileNetV2 0.35": (cifar, "backbone", {"net": "MobileNetV2", "alpha": 0.35}),
    "linear": (fashion, "linear", {}),
    "mlp": (fashion, "mlp", {}),
    "convnet": (fashion, "convnet", {}),
    "lenet5": (fashion, "lenet5", {}),
    "dscnn": (lambda: sounds("mfcc"), "dscnn", {}),
    "conv1d": (series, "conv1d", {}),
    "lstm": (series, "lstm", {}),
    "gru": (series, "gru", {}),
    "bilstm": (words, "bilstm", {}),
    "textcnn": (words, "textcnn", {}),
    "transformer": (words, "transformer", {}),
    "autoencoder": (lambda: series("anomaly_detection"), "autoencoder", {}),
    "conv3d": (lambda: derived(panned), "conv3d", {}),
    "two_input": (lambda: derived(beside), "two_input", {}),
}


def begun(case: tuple[Callable[[], tfopt.Data], str, dict[str, Any]], seed: int) -> tuple[tfopt.Data, Any]:
    """The data and the fresh model of a case."""
    make, builder, options = case
    data = make()
    outputs, known = tfopt.tasks.of(data).outputs()[0][0], {}
    if "vocabulary" in data.source:
        known["words"] = len(data.source["vocabulary"])
    with backend.seeded(seed):
        return data, tfopt.models.MODELS[builder](data.input_shape, outputs, **known, **options)


# The child: one way to train one case


def turn_taking(base: type, turns: int) -> Any:
    """A callback of either Keras that begins an epoch when it is told to, and prints what it took, its end and validation included."""

    class Turns(base):
        def on_train_begin(self, logs=None):
            self.count, self.clocks = 0, None

        def on_epoch_begin(self, epoch, logs=None):
            self._told()
            if self.count == turns:
                self.model.stop_training = True
            self.count += 1
            input()
            self.clocks = time.perf_counter(), time.process_time()

        def on_train_end(self, logs=None):
            self._told()

        def _told(self):
            if self.clocks:
                wall, cpu = time.perf_counter() - self.clocks[0], time.process_time() - self.clocks[1]
                print(json.dumps({"wall": wall, "cpu": cpu}), flush=True)
            else:
                print(json.dumps({"ready": True}), flush=True)

    return Turns()


def child(way: str, kind: str, name: str, seed: int) -> None:
    """Trains in turns, and prints the test accuracy and the peak memory at the end."""
    race = kind == "races"
    data, model = begun((RACES if race else BUILDERS)[name], seed)
    fit = tfopt.Fit(epochs=EPOCHS if race else FOR_LONG, batch_size=BATCH, learning_rate=2e-3, steps_per_execution=1, seed=seed)
    if not race:
        data = pipelines.shrink(data, train=(FEW if data.name == "cifar10" else MANY) * BATCH)
    with tfopt.Trace() as trace:
        turns = EPOCHS if race else TURNS
        model, trial = by_tfopt(model, data, fit, turns) if way == "tfopt" else (by_keras(way, model, data, fit, turns), 0.0)
    notes = [entry["text"] for entry in trace.entries if entry["kind"] == "note"]
    told = {"trial_seconds": trial, "notes": notes, "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}
    if race:
        x, y = pipelines.to_arrays(data.test)
        told["accuracy"] = float((np.asarray(model.predict(x, batch_size=256, verbose=0)).argmax(axis=1) == y).mean())
    print(json.dumps(told), flush=True)


def by_tfopt(model: Any, data: tfopt.Data, fit: tfopt.Fit, turns: int) -> tuple[Any, float]:
    """The trained model, and the seconds of choosing how to compute."""
    start = time.perf_counter()
    fit = tfopt.training.resolved(model, data, fit)
    seconds = time.perf_counter() - start
    return tfopt.train(model, data, fit, callbacks=[turn_taking(backend.keras().callbacks.Callback, turns)]), seconds


def by_keras(way: str, model: Any, data: tfopt.Data, fit: tfopt.Fit, turns: int) -> Any:
    """As a tutorial does it, in either Keras."""
    if way == "keras":
        import keras

        model = tfopt.to_keras3(model)
    else:
        keras = backend.keras()
    steps, task = pipelines.steps_per_epoch(data, fit), tfopt.tasks.of(data)
    copies = task.name == "anomaly_detection"  # whose target is x
    keras.utils.set_random_seed(fit.seed)
    model.compile(
        optimizer=keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(fit.learning_rate, fit.epochs * steps)),
        loss="mean_squared_error" if copies else "sparse_categorical_crossentropy",
        metrics=["mean_absolute_error" if copies else "accuracy"],
    )
    batches, validation = pipelines.training_batches(data, fit), pipelines.batches(data.validation, fit.batch_size)
    if copies:
        batches, validation = (some.map(lambda x, y: (x, x)) for some in (batches, validation))
    taking = turn_taking(keras.callbacks.Callback, turns)
    model.fit(batches, epochs=fit.epochs, steps_per_epoch=steps, validation_data=validation, callbacks=[taking], verbose=0)
    return model


# The parent: all ways in turns


def raced(kind: str, name: str, seed: int, ways: list[str], epochs: int) -> dict[str, dict[str, Any]]:
    """What each way took for each epoch, and how it ended."""
    with tempfile.TemporaryDirectory() as cache:
        children = {way: _started(way, kind, name, seed, cache) for way in ways}
        found: dict[str, dict[str, Any]] = {way: {"wall": [], "cpu": []} for way in ways}
        for one in children.values():
            _heard(one)
        for epoch in range(epochs):
            for way in ways[epoch % len(ways) :] + ways[: epoch % len(ways)]:
                _go(children[way])
                for clock, seconds in _heard(children[way]).items():
                    found[way][clock].append(round(seconds, 3))
        for way, one in children.items():
            if kind == "builders":
                _go(one)  # one step more, of which Keras asks nobody
                _heard(one)
            found[way] |= _heard(one)
            one.wait()
    return found


def _started(way: str, kind: str, name: str, seed: int, cache: str) -> Any:
    command = [sys.executable, __file__, "--child", json.dumps([way, kind, name, seed])]
    environment = {**os.environ, "XDG_CACHE_HOME": cache, "TF_CPP_MIN_LOG_LEVEL": "3"}
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)


def _go(one: Any) -> None:
    one.stdin.write("go\n")
    one.stdin.flush()


def _heard(one: Any) -> dict[str, Any]:
    while line := one.stdout.readline():
        if line.startswith("{"):
            return json.loads(line)
    raise SystemExit(f"{' '.join(one.args[-2:])} ended with {one.wait()}")


def measure(results: dict[str, Any], only: str) -> None:
    """Rows that are not there yet, each saved when it is finished."""
    wanted = [("races", name, seed) for seed in SEEDS for name in RACES] + [("builders", name, 0) for name in BUILDERS]
    for kind, name, seed in wanted:
        key = f"{name}, seed {seed}" if kind == "races" else name
        if key in results[kind] or not kind.startswith(only):
            continue
        start = time.perf_counter()
        ways = list(WAYS) if kind == "races" else ["tfopt", "tf_keras"]
        row = raced(kind, name, seed, ways, EPOCHS if kind == "races" else TURNS)
        results[kind][key] = {"minutes": round((time.perf_counter() - start) / 60, 1), **row}
        results["environment"] = reporting.environment(tfopt.strategies.pick("one"))
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")
        Console().print(key, results[kind][key])


# The tables


def show(results: dict[str, Any]) -> None:
    table = Table(title=f"{EPOCHS} epochs, batches of {BATCH}, in turns")
    for column in ("", "way", "accuracy", "epoch, s", "times tfopt", "CPU s", "times tfopt", "peak, MB", "trial, s"):
        table.add_column(column)
    for name in RACES:
        for seed in SEEDS:
            row = results["races"].get(f"{name}, seed {seed}")
            if row is None:
                table.add_row(f"{name}, seed {seed}", "not run")
                continue
            for way, title in WAYS.items():
                one, ours = row[way], row["tfopt"]
                wall, cpu = statistics.median(one["wall"]), sum(one["cpu"])
                table.add_row(
                    f"{name}, seed {seed}" if way == "tfopt" else "",
                    title,
                    f"{one['accuracy']:.4f}",
                    f"{wall:.1f}",
                    f"{wall / statistics.median(ours['wall']):.2f}",
                    f"{cpu:.0f}",
                    f"{cpu / sum(ours['cpu']):.2f}",
                    f"{one['peak_mb']:.0f}",
                    f"{one['trial_seconds']:.0f}",
                )
    Console().print(table)
    table = Table(title=f"Builders: an epoch of up to {MANY} steps, medians of {TURNS - 1}, and tf_keras's in tfopt's")
    for column in ("", "tfopt, s", "tf_keras, s", "wall", "CPU", "what tfopt chose"):
        table.add_column(column)
    for name in BUILDERS:
        row = results["builders"].get(name)
        if row is None:
            table.add_row(name, "not run")
            continue
        walls, cpus = ([statistics.median(row[way][clock][1:]) for way in ("tfopt", "tf_keras")] for clock in ("wall", "cpu"))
        notes = " ".join(row["tfopt"]["notes"])
        table.add_row(name, *(f"{one:.2f}" for one in walls), f"{walls[1] / walls[0]:.2f}", f"{cpus[1] / cpus[0]:.2f}", notes)
    Console().print(table)


def main() -> None:
    """Measures what is not there yet, and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("races", "builders"), default="", help="measure no more than these")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(*json.loads(arguments.child))
        return
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"races": {}, "builders": {}}
    measure(results, arguments.only)
    show(results)


if __name__ == "__main__":
    main()
