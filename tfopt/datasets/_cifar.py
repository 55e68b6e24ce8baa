"""CIFAR-10 (Krizhevsky 2009), from lossless PNG sheets or through tensorflow-datasets."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from .. import backend, options
from ..errors import DataError
from ..types import Data
from . import _building, _files, _tfds
from ._building import Count, Part, Preprocess, Seed

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SHEETS, PER_SHEET = 45, 1000


@options.checked
def cifar10(
    *,
    folder: str | Path | None = None,
    seed: Seed = 0,
    calibration: Count = 200,
    preprocess: Preprocess = ("pad_and_crop", "random_flip"),
) -> Data:
    """Photographs of ten kinds of things, 32x32 colour pixels. By default training moves them by up to 4 pixels and mirrors them.

    x: (32, 32, 3) float32 in 0..1. `folder` holds the first 45,000 training images as 45 PNG sheets (train_00.png to train_44.png, 1,000
    images each, an image's 3,072 values after another's) and train_labels.txt, a class index a line; they are split by index: 0 to
    38,999 train, 39,000 to 39,999 validation, 40,000 to 44,999 test. Without `folder`, tensorflow-datasets downloads the original: the
    official 10,000 test images are the test set, the last 1,000 training images validation. `seed` draws the `calibration` examples.

    >>> tfopt.datasets.cifar10(folder="data/cifar10").input_shape
    (32, 32, 3)

    Raises:
      DataError: a file is missing or damaged, or can't be downloaded.
    """
    parts = _downloaded() if folder is None else _from_folder(_files.existing_folder(folder))
    return _building.build("cifar10", parts, classes=CLASSES, seed=seed, calibration=calibration, preprocess=preprocess)


def _downloaded() -> dict[str, Part]:
    (x, y), test = _tfds.load("cifar10")
    return {"train": (x[:-1000], y[:-1000]), "validation": (x[-1000:], y[-1000:]), "test": test}


def _from_folder(folder: Path) -> dict[str, Part]:
    labels = folder / "train_labels.txt"
    y = _labels(labels)
    sheets = [folder / f"train_{number:02d}.png" for number in range(SHEETS)]
    with ThreadPoolExecutor() as pool:  # decoding needs no Python, so the sheets are decoded side by side
        x = np.concatenate(list(pool.map(_sheet, sheets)))
    x, y = _building.check_examples(x, y, len(CLASSES), x_name=f"{folder}/train_*.png", y_name=str(labels))
    borders = {"train": slice(0, 39_000), "validation": slice(39_000, 40_000), "test": slice(40_000, 45_000)}
    return {part: (x[rows], y[rows]) for part, rows in borders.items()}


def _labels(path: Path) -> np.ndarray:
    try:
        lines = _files.existing_file(path, "it holds a class index a line").read_text(encoding="ascii").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: can't be read as text ({error}); should hold a class index a line") from error
    lines = lines[:-1] if lines[-1] == "" else lines
    for number, line in enumerate(lines, start=1):
        if line.strip() not in {str(label) for label in range(len(CLASSES))}:
            raise DataError(f"{path}: line {number} is {line[:40]!r}; should be a class index from 0 to {len(CLASSES) - 1}")
    return np.array(lines, np.int32)


def _sheet(path: Path) -> np.ndarray:
    tf = backend.tensorflow()
    fix = f"there should be {SHEETS} sheets, train_00.png to train_{SHEETS - 1}.png"
    try:
        pixels = tf.io.decode_png(_files.existing_file(path, fix).read_bytes()).numpy()
    except (OSError, tf.errors.InvalidArgumentError) as error:
        raise DataError(f"{path}: damaged, can't be decoded as PNG; copy or download it again") from error
    if pixels.shape[-1] != 3 or pixels.size != PER_SHEET * 3072:
        raise DataError(f"{path}: has shape {pixels.shape}; should hold {PER_SHEET} RGB images of 32x32, {PER_SHEET * 1024:,} pixels")
    return pixels.reshape(PER_SHEET, 32, 32, 3)
