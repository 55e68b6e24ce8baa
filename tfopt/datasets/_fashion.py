"""Fashion-MNIST (Xiao, Rasul & Vollgraf 2017, arXiv:1708.07747), from its four original files or through tensorflow-datasets."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .. import options
from ..types import Data
from . import _building, _files, _idx, _tfds
from ._building import Count, Part, Preprocess, Seed, Share

CLASSES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")


@options.checked
def fashion_mnist(
    *, folder: str | Path | None = None, seed: Seed = 0, validation: Share = 0.1, calibration: Count = 200, preprocess: Preprocess = ()
) -> Data:
    """70,000 photographs of clothes, 28x28 grey pixels.

    x: (28, 28, 1) float32 in 0..1. The official 10,000 test examples are the test set; validation is a stratified share of the 60,000
    others, drawn by `seed`. `folder` holds the four original files (train-images-idx3-ubyte.gz and so on); without it,
    tensorflow-datasets downloads them once. `calibration`: how many training examples to draw for it.

    >>> tfopt.datasets.fashion_mnist(folder="data/fashion_mnist").classes[0]
    'T-shirt/top'

    Raises:
      DataError: a file is missing or damaged, or can't be downloaded.
    """
    learning, test = _tfds.load("fashion_mnist") if folder is None else _from_folder(_files.existing_folder(folder))
    train, held_out = _building.split_off(*learning, validation, seed=seed, source="fashion_mnist")
    parts = {"train": train, "validation": held_out, "test": test}
    return _building.build("fashion_mnist", parts, classes=CLASSES, seed=seed, calibration=calibration, preprocess=preprocess)


def _from_folder(folder: Path) -> tuple[Part, Part]:
    return _part(folder, "train", 60_000), _part(folder, "t10k", 10_000)


def _part(folder: Path, prefix: str, count: int) -> Part:
    images, labels = folder / f"{prefix}-images-idx3-ubyte.gz", folder / f"{prefix}-labels-idx1-ubyte.gz"
    x, y = _idx.read(images, shape=(count, 28, 28)), _idx.read(labels, shape=(count,))
    return _building.check_examples(x[..., np.newaxis], y, len(CLASSES), x_name=str(images), y_name=str(labels))
