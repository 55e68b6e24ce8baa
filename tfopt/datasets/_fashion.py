"""Fashion-MNIST (Xiao, Rasul & Vollgraf 2017, arXiv:1708.07747), from its four original files or through tensorflow-datasets."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np

from .. import options
from ..errors import DataError
from ..types import Data
from . import _building, _files, _tfds
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
    x, y = _idx(images, (count, 28, 28)), _idx(labels, (count,))
    return _building.check_examples(x[..., np.newaxis], y, len(CLASSES), x_name=str(images), y_name=str(labels))


def _idx(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """The bytes of one .gz file in the idx format: 0, 0, 8 (uint8), the number of dimensions, each as a big-endian int32, then the data."""
    fix = "download the original file again"
    try:
        content = gzip.decompress(_files.existing_file(path, fix).read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: damaged, not a whole .gz file ({error}); {fix}") from error
    head = struct.pack(f">HBB{len(shape)}I", 0, 8, len(shape), *shape)
    if not content.startswith(head[:4]):
        raise DataError(
            f"{path}: starts with {content[:4].hex()!r}, not {head[:4].hex()!r}: no idx file of bytes in {len(shape)} dimensions; {fix}"
        )
    if not content.startswith(head) or len(content) != len(head) + math.prod(shape):
        dimensions = struct.unpack(f">{len(shape)}I", content[4 : len(head)]) if len(content) >= len(head) else "unknown"
        raise DataError(
            f"{path}: says that its shape is {dimensions} and holds {len(content):,} bytes; should be {shape} in "
            f"{len(head) + math.prod(shape):,} bytes; {fix}"
        )
    return np.frombuffer(content, np.uint8, offset=len(head)).reshape(shape)
