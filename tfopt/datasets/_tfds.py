"""The door to tensorflow-datasets: the official train and test examples of a set by name, downloaded once."""

from __future__ import annotations

import importlib
import urllib.error
import urllib.request

import numpy as np

from ..errors import DataError
from ._building import Part

# Where tensorflow-datasets downloads each set from. Asked first, because without a network it tries for four minutes before it gives up.
SOURCES = {
    "cifar10": "https://www.cs.toronto.edu/~kriz/cifar.html",
    "fashion_mnist": "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/t10k-labels-idx1-ubyte.gz",
}


def load(name: str) -> tuple[Part, Part]:
    """Train and test as pairs (x, y): x uint8 (n, height, width, channels), y int32 (n,).

    Raises:
      DataError: the set is not on this machine yet and can't be downloaded.
    """
    tfds = importlib.import_module("tensorflow_datasets")
    builder = tfds.builder(name)
    if not builder.is_prepared():
        _check_reachable(name)
        try:
            builder.download_and_prepare()
        except Exception as error:  # what it raises depends on the network, the server and the disk; there is no common parent
            raise DataError(f"{name}: the download failed ({type(error).__name__}: {_first_line(error)}); {_fix(name)}") from error
    train, test = tfds.as_numpy(builder.as_dataset(split=["train", "test"], batch_size=-1, as_supervised=True))
    return (train[0], train[1].astype(np.int32)), (test[0], test[1].astype(np.int32))


def _check_reachable(name: str) -> None:
    try:
        with urllib.request.urlopen(urllib.request.Request(SOURCES[name], method="HEAD"), timeout=10):
            pass
    except urllib.error.HTTPError:
        return  # it answers; whether it has the files is found out by the download
    except OSError as error:
        raise DataError(f"{name}: not on this machine yet, and its source can't be reached ({_first_line(error)}); {_fix(name)}") from error


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0][:200]


def _fix(name: str) -> str:
    return f"connect to the network, or give {name} a folder with the files (option `folder`)"
