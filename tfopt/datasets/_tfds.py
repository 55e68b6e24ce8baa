"""The door to tensorflow-datasets: its sets by name or from a folder, downloaded and prepared once."""

from __future__ import annotations

import importlib
import logging
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError, nearest, said, shown
from ._building import Part

# Where to ask whether a set can be downloaded, where that is not what tensorflow-datasets has on record for it.
SOURCES = {
    "cifar10": "https://www.cs.toronto.edu/~kriz/cifar.html",
    "fashion_mnist": "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/t10k-labels-idx1-ubyte.gz",
}
_SECONDS = 10  # to wait for an answer


def load(name: str) -> tuple[Part, Part]:
    """Train and test as pairs (x, y): x uint8 (n, height, width, channels), y int32 (n,).

    Raises:
      DataError: the set is not on this machine yet and can't be downloaded.
    """
    builder = prepared(name, None, f"connect to the network, or give {name} a folder with the files (option `folder`)")
    train, test = package().as_numpy(builder.as_dataset(split=["train", "test"], batch_size=-1, as_supervised=True))
    return (train[0], train[1].astype(np.int32)), (test[0], test[1].astype(np.int32))


def package() -> Any:
    """The package itself, imported when it is needed."""
    logging.getLogger("absl").addFilter(_is_news)  # one function is added once
    return importlib.import_module("tensorflow_datasets")


def _is_news(record: logging.LogRecord) -> bool:
    """Whether a record is none of those in which tensorflow-datasets 4.9 warns of a property that it uses itself, at each load."""
    return "FeatureConnector.dtype` is deprecated" not in record.getMessage()


def prepared(name: str, data_dir: str | Path | None, fix: str | None = None) -> Any:
    """The builder of a set, whose files are there when this returns.

    Args:
      name: as tensorflow-datasets knows it: "mnist", "glue/cola", "mnist:3.0.1".
      data_dir: where prepared sets are and go; by default where tensorflow-datasets keeps them (~/tensorflow_datasets).
      fix: ends the sentence where it can't be had; by default it says where to put the files.

    Raises:
      DataError: there is no such set, or it is not on this machine yet and can't be downloaded or prepared.
    """
    builder = _builder(name, data_dir)
    if not builder.is_prepared():
        _prepare(builder, name, fix or _where_to_put(builder))
    return builder


def from_folder(folder: Path) -> Any:
    """The builder of a set that is prepared in a folder: that of a version, such as mnist/3.0.1.

    Raises:
      DataError: no prepared set is there.
    """
    if not (folder / "dataset_info.json").is_file():
        inner = sorted(path.parent for path in folder.glob("**/dataset_info.json"))
        fix = f"did you mean {inner[-1]}?" if inner else "name the folder of a set's version, such as mnist/3.0.1"
        raise DataError(f"folder = {folder}: holds no dataset_info.json, so no set prepared by tensorflow-datasets; {fix}")
    try:
        return package().builder_from_directory(str(folder))
    except Exception as error:  # as below
        raise DataError(f"folder = {folder}: can't be read ({said(error)}); prepare the set again") from error


def _builder(name: str, data_dir: str | Path | None) -> Any:
    package_ = package()
    try:
        return package_.builder(name, data_dir=None if data_dir is None else str(data_dir))
    except Exception as error:  # what it raises depends on the set, the network and the disk; there is no common parent
        known = package_.list_builders(with_community_datasets=False)
        plain = name.split(":")[0].split("/")[0]
        if plain in known:
            raise DataError(f"name = {shown(name)}: {plain} can't be had that way ({said(error)})") from error
        close = nearest(plain, known).partition(" (")[0] if len(known) > 1 else ""
        raise DataError(
            f"name = {shown(name)}: tensorflow-datasets has no such set; {_unlisted(close)}{len(known)} are built in, see "
            "tensorflow_datasets.list_builders(); a set that is prepared already is found in data_dir, or given by folder"
        ) from error


def _unlisted(sentence: str) -> str:
    return f"{sentence} " if sentence.startswith("did you mean") else ""


def _prepare(builder: Any, name: str, fix: str) -> None:
    _check_reachable(builder, name, fix)
    try:
        builder.download_and_prepare()
    except Exception as error:  # as above
        raise DataError(f"{name}: the download failed ({type(error).__name__}: {said(error)}); {fix}") from error


def _where_to_put(builder: Any) -> str:
    manual = _by_hand(builder)
    instructions = " ".join((builder.MANUAL_DOWNLOAD_INSTRUCTIONS or "").split())
    by_hand = f"download its original files by hand into {manual} ({instructions[:300]})"
    if not instructions:
        by_hand = f"connect to the network, or put the files that it would download into {manual}"
    return (
        f"{by_hand}, or prepare it on another machine (tensorflow_datasets.load) and copy its folder to {builder.data_dir}, "
        f"or name the copy by the option folder"
    )


def _by_hand(builder: Any) -> Path:
    """Where files that were downloaded by hand go."""
    return Path(builder.data_dir_root) / "downloads" / "manual"


def _check_reachable(builder: Any, name: str, fix: str) -> None:
    """Asks the sources of a set first, because without a network tensorflow-datasets tries for four minutes before it gives up."""
    if builder.MANUAL_DOWNLOAD_INSTRUCTIONS or any(
        (_by_hand(builder) / info.filename).exists() for info in (builder.url_infos or {}).values()
    ):
        return  # it looks for files that were put there by hand before it downloads any
    urls = [SOURCES[name]] if name in SOURCES else _one_a_host(builder.url_infos or ())
    with ThreadPoolExecutor(max(len(urls), 1)) as pool:
        problems = list(pool.map(_problem_with, urls))
    if problems and all(problems):
        raise DataError(f"{name}: not on this machine yet, and its source can't be reached ({problems[0]}); {fix}")


def _one_a_host(urls: Iterable[str]) -> list[str]:
    hosts: dict[str, str] = {}
    for url in urls:
        if url.startswith(("http://", "https://")):
            hosts.setdefault(urllib.parse.urlsplit(url).netloc, url)
    return list(hosts.values())


def _problem_with(url: str) -> str | None:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=_SECONDS):
            return None
    except urllib.error.HTTPError:
        return None  # it answers; whether it has the files is found out by the download
    except (OSError, ValueError) as error:
        return f"{urllib.parse.urlsplit(url).netloc}: {said(error)}"
