"""How fast training batches come: python benchmarks/input.py --data FOLDER     (about 10 minutes on 2 cores)

FOLDER holds grocery10.zip (356 training photographs in class folders) and cifar10. Three things are measured:

grocery10: photographs read, decoded to 112 x 112, kept in memory, and for each epoch cropped to 96 x 96, mirrored, and changed in
  brightness, contrast, saturation and hue (in rows called "light": brightness and contrast only), in batches of 32, by
    tfopt: `image_folder` and the pipeline that `train` uses;
    keras: `keras.utils.image_dataset_from_directory(...).cache()` and Keras 3's augmentation layers mapped over batches, as its guide shows
      (https://keras.io/guides/preprocessing_layers/);
    map: what most tutorials write: a map an example that decodes, `cache()`, `shuffle`, a map an example that augments, `batch`.
  "making" is what comes before the first batch is asked for (tfopt makes and looks through validation and test as well), "first epoch"
  goes from there to its last batch, "steady" is an epoch later on. In turns: in each turn each contender makes its data set anew.
  Ratios are medians over the turns of images a second of tfopt by those of the other.
CIFAR-10: batches of 128, moved and mirrored, beside what a ResNet-8 trains on: how many times as much the pipeline gives.
memory: what the process holds (resident) at the tenths of an epoch of CIFAR-10, from the second epoch on, and over epochs of grocery10.

Saved turns (benchmarks/results/input.json) are not made again.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

import keras
import psutil
from rich.console import Console
from rich.table import Table
from tfmot import environment

import tfopt
from tfopt import backend, pipelines
from tfopt.datasets import _unpacking

RESULTS = Path(__file__).parent / "results" / "input.json"
DECODED, CROPPED, BATCH, STEADY = 112, 96, 32, 20
CIFAR = tfopt.Fit(epochs=3, batch_size=128)
CONTENDERS = ("tfopt", "keras", "map")
COLORS = {"full": ("brightness", "contrast", "saturation", "hue"), "light": ("brightness", "contrast")}


def by_tfopt(folder: Path, colors: tuple[str, ...]):
    moves = [{"use": "random_crop", "size": CROPPED}, {"use": "center_crop", "size": CROPPED}, "random_flip"]
    data = tfopt.datasets.image_folder(folder=folder, size=[DECODED, DECODED], preprocess=[*moves, *colors])
    return pipelines.training_batches(data, tfopt.Fit(epochs=1 + STEADY, batch_size=BATCH))


def by_keras(folder: Path, colors: tuple[str, ...]):
    tf, layers = backend.tensorflow(), keras.layers
    made = {
        "brightness": lambda: layers.RandomBrightness(0.2),
        "contrast": lambda: layers.RandomContrast(0.2),
        "saturation": lambda: layers.RandomSaturation((0.4, 0.6)),
        "hue": lambda: layers.RandomHue(0.05),
    }
    augmentation = [layers.RandomCrop(CROPPED, CROPPED), layers.RandomFlip("horizontal"), *(made[color]() for color in colors)]

    def augmented(x, y):
        for layer in augmentation:
            x = layer(x, training=True)
        return x, y

    dataset = keras.utils.image_dataset_from_directory(folder / "train", image_size=(DECODED, DECODED), batch_size=BATCH, verbose=False)
    dataset = dataset.cache().map(augmented, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)
    return dataset.repeat(1 + STEADY)


def by_map(folder: Path, colors: tuple[str, ...]):
    tf = backend.tensorflow()
    files = sorted(map(str, (folder / "train").rglob("*.jpg")))
    names = sorted({Path(file).parent.name for file in files})
    labels = [names.index(Path(file).parent.name) for file in files]
    changed = {
        "brightness": lambda image: tf.image.random_brightness(image, 0.2),
        "contrast": lambda image: tf.image.random_contrast(image, 0.8, 1.2),
        "saturation": lambda image: tf.image.random_saturation(image, 0.8, 1.2),
        "hue": lambda image: tf.image.random_hue(image, 0.05),
    }

    def decoded(file, label):
        image = tf.io.decode_jpeg(tf.io.read_file(file), channels=3)
        return tf.image.resize(image, [DECODED, DECODED]) / 255.0, label

    def augmented(image, label):
        image = tf.image.random_flip_left_right(tf.image.random_crop(image, [CROPPED, CROPPED, 3]))
        for color in colors:
            image = changed[color](image)
        return tf.clip_by_value(image, 0.0, 1.0), label

    dataset = tf.data.Dataset.from_tensor_slices((files, labels)).map(decoded, num_parallel_calls=tf.data.AUTOTUNE).cache()
    dataset = dataset.shuffle(len(files)).map(augmented, num_parallel_calls=tf.data.AUTOTUNE)
    return dataset.batch(BATCH).prefetch(tf.data.AUTOTUNE).repeat(1 + STEADY)


def turn(folder: Path) -> dict:
    """Images a second, by wall and by CPU time, of each contender."""
    return {kind: {name: measured(globals()[f"by_{name}"], folder, colors) for name in CONTENDERS} for kind, colors in COLORS.items()}


def measured(make, folder: Path, colors: tuple[str, ...]) -> dict:
    per_epoch = -(-len(list((folder / "train").rglob("*.jpg"))) // BATCH)
    times, counts = [_now()], []
    dataset = make(folder, colors)
    times.append(_now())
    iterator = iter(dataset)
    for _ in range(1 + STEADY):
        counts.append(sum(len(next(iterator)[1]) for _ in range(per_epoch)))
        times.append(_now())
    making, first, *later = [(wall - before[0], cpu - before[1]) for before, (wall, cpu) in itertools.pairwise(times)]
    steady = tuple(statistics.median(kind) for kind in zip(*later, strict=True))
    rows = {"making": making, "first epoch": first, "steady": steady}
    return {name: {"wall": counts[0] / seconds[0], "cpu": counts[0] / seconds[1]} for name, seconds in rows.items()}


def _now() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def resident() -> float:
    return psutil.Process(os.getpid()).memory_info().rss / 1e6


def cifar(folder: Path) -> dict:
    """Images a second of the pipeline alone and of training, and MB held on the way."""
    data = tfopt.datasets.cifar10(folder=folder)
    iterator, steps = iter(pipelines.training_batches(data, CIFAR)), pipelines.steps_per_epoch(data, CIFAR)
    seconds, memory = [], []
    for epoch in range(CIFAR.epochs):
        start = time.perf_counter()
        for step in range(steps):
            next(iterator)
            if epoch and step % (steps // 10) == 0:
                memory.append(resident())
        seconds.append(time.perf_counter() - start)
    model = tfopt.models.resnet(data.input_shape, data.num_classes, depth=8)
    start = time.perf_counter()
    few = pipelines.shrink(data, train=128 * 100, validation=128, test=1, calibration=1)
    tfopt.train(model, few, tfopt.Fit(epochs=1, batch_size=128))
    first = time.perf_counter() - start
    start = time.perf_counter()
    tfopt.train(model, few, tfopt.Fit(epochs=5, batch_size=128))
    training = (time.perf_counter() - start - first) / 4  # what an epoch more takes: without tracing
    return {"pipeline": pipelines.size(data.train) / statistics.median(seconds), "training": 128 * 100 / training, "MB": memory}


def flat(folder: Path) -> list[float]:
    """MB held after each epoch of grocery10."""
    held = []
    for number, _ in enumerate(by_tfopt(folder, COLORS["full"])):
        if number % 12 == 11:
            held.append(resident())
    return held


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", required=True, type=Path, help="the folder with grocery10.zip and cifar10")
    parser.add_argument("--turns", type=int, default=9)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        archive = shutil.copy(arguments.data / "grocery10.zip", temporary)  # what is unpacked stands beside its archive
        run(next(path.parent for path in _unpacking.folder_of(archive).rglob("train")), arguments.data / "cifar10", arguments.turns)
    return 0


def run(folder: Path, cifar10: Path, turns: int) -> None:
    saved = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"turns": []}

    def save():
        RESULTS.write_text(json.dumps({"environment": environment(), **saved}, indent=1) + "\n")

    turn(folder)  # reads the files into the system's cache, and TensorFlow's code into memory
    while len(saved["turns"]) < turns:
        saved["turns"].append(turn(folder))
        save()
    if "cifar" not in saved:
        saved["cifar"] = cifar(cifar10)
        saved["MB after each epoch of grocery10"] = flat(folder)
        save()
    show(saved)


def show(saved: dict) -> None:
    ratios = ("by keras", "by map", "CPU by keras", "CPU by map")
    table = Table("grocery10", *CONTENDERS, *ratios, title="images a second, and tfopt's by theirs")
    for colors in COLORS:
        for row in ("making", "first epoch", "steady"):
            turns = [turn[colors] for turn in saved["turns"]]
            speed = [f"{statistics.median(turn[name][row]['wall'] for turn in turns):,.0f}" for name in CONTENDERS]
            quotients = [
                f"{statistics.median(turn['tfopt'][row][kind] / turn[other][row][kind] for turn in turns):.2f}"
                for kind in ("wall", "cpu")
                for other in CONTENDERS[1:]
            ]
            table.add_row(f"{row}, light" if colors == "light" else row, *speed, *quotients)
    console = Console(width=120)
    console.print(table)
    speeds = saved["cifar"]
    console.print(
        f"CIFAR-10: the pipeline gives {speeds['pipeline']:,.0f} images a second, a ResNet-8 trains on {speeds['training']:,.0f}: "
        f"{speeds['pipeline'] / speeds['training']:.1f} times as many"
    )
    for name, held in (("two epochs of CIFAR-10", speeds["MB"]), ("the epochs of grocery10", saved["MB after each epoch of grocery10"])):
        console.print(f"memory over {name}: {', '.join(f'{one:,.0f}' for one in held)} MB")


if __name__ == "__main__":
    sys.exit(main())
