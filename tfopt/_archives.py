"""Model files as they stand on the disk: what kind they are, whether they are whole, and the config inside, read without any Keras.

A zip archive (.keras) and HDF5 (.h5, and the weights in a .keras) can hold more than a model: names that lead out of the archive, links to
other files, a gigabyte of zeros in a kilobyte. All of that is refused here, before a library reads the file.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import h5py
import numpy as np

from .errors import UnsupportedModel, shown

LARGEST_CONFIG = 64 * 2**20  # bytes; NASNetLarge's has 0.6 MB
HARMLESS = 256 * 2**20  # bytes that a file may always unpack to
# Between unpacked and stored beyond that; Keras stores weights as they are, 1:1, and a gzip of a 90 % pruned model is 5:1.
LARGEST_RATIO = 100
MOST_MEMBERS = 10_000  # of an archive; Keras writes three, and some per vocabulary

_HDF5 = b"\x89HDF\r\n\x1a\n"
_ASK = "copy or save it again"


@dataclass(frozen=True)
class Contents:
    """What a model file says of itself.

    Attributes:
      keras: 2 or 3, the Keras that wrote it.
      config: the model's, as parsed from JSON; without how it was compiled.
      compilation: how it was compiled, None where it was not.
      assets: whether there are files beside the weights, such as vocabularies.
    """

    keras: int
    config: dict[str, Any]
    compilation: Any
    assets: bool = False


def kind_of(path: Path) -> str:
    """What stands at a path: "keras", "h5", "tflite" or "savedmodel", told by its content.

    Raises:
      UnsupportedModel: nothing, or none of these.
    """
    with _readable(path):
        if path.is_dir():
            if (path / "saved_model.pb").is_file():
                return "savedmodel"
            raise UnsupportedModel(f"{path}: is a folder without a saved_model.pb, so no SavedModel; give the model's file or that folder")
        if not path.exists():
            raise UnsupportedModel(f"{path}: no such file; expected a .keras or .h5 file, a SavedModel's folder or a .tflite")
        if not path.is_file():  # a pipe would be waited for without end
            raise UnsupportedModel(f"{path}: is no regular file; expected a .keras or .h5 file, a SavedModel's folder or a .tflite")
        with path.open("rb") as file:
            start = file.read(8)
    if start.startswith(b"PK"):
        return "keras"
    if start == _HDF5 or (start and h5py.is_hdf5(path)):
        return "h5"
    if start[4:] == b"TFL3":
        return "tflite"
    what = "is empty" if not start else "is damaged or no model, by its first bytes"
    raise UnsupportedModel(f"{path}: {what}; expected a .keras or .h5 file, a SavedModel's folder or a .tflite; {_ASK}")


def keras_file(path: Path) -> Contents:
    """Looks through a .keras archive, of Keras 2 or 3.

    Raises:
      UnsupportedModel: it is damaged, no model, or holds what no model needs.
    """
    with _readable(path), zipfile.ZipFile(path) as archive:
        _check_members(path, archive)
        names = set(archive.namelist())
        for needed in ("config.json", "metadata.json"):
            if needed not in names:
                raise UnsupportedModel(f"{path}: holds no {needed}, so it is no model that Keras saved (it holds {_few(names)})")
        if (damaged := archive.testzip()) is not None:
            raise UnsupportedModel(f"{path}: is damaged in {damaged}; {_ASK}")
        if "model.weights.h5" not in names:
            raise UnsupportedModel(
                f"{path}: holds no model.weights.h5 (it holds {_few(names)}); save the model again, with its weights in HDF5"
            )
        config, metadata = (_json(path, name, archive.read(name)) for name in ("config.json", "metadata.json"))
        _check_weights(path, archive)
    compilation = config.pop("compile_config", None)
    return Contents(_version(path, metadata.get("keras_version")), config, compilation, assets=len(names) > 3)


def rewrite_config(path: Path, to: Path, contents: Contents) -> None:
    """Writes a .keras file again, with another config."""
    config = {**contents.config, "compile_config": contents.compilation}
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(to, "w") as new:
        for name in old.namelist():
            new.writestr(name, json.dumps(config) if name == "config.json" else old.read(name))


def h5_file(path: Path) -> Contents:
    """Looks through a .h5 file, of Keras 2 or 3; otherwise like `keras_file`."""
    with _readable(path), path.open("rb") as stream, h5py.File(stream, "r") as file:
        _check_hdf5(path, file, path.stat().st_size)
        attributes = {name: _text(file.attrs.get(name)) for name in ("model_config", "training_config", "keras_version")}
    if attributes["model_config"] is None:
        raise UnsupportedModel(
            f"{path}: holds weights but no model config, so it does not say which layers they belong to; save the whole model "
            "(model.save, not save_weights), or build the model yourself and give tfopt that"
        )
    config = _json(path, "model_config", attributes["model_config"])
    training = attributes["training_config"]
    return Contents(
        # what does not say it is older than Keras 2.0
        keras=2 if attributes["keras_version"] is None else _version(path, attributes["keras_version"]),
        config=config,
        compilation=None if training is None else _json(path, "training_config", training),
    )


def weights_in(path: Path) -> dict[str, list[np.ndarray]]:
    """The weights in a .h5 file of Keras 2, of a whole model or of weights alone: layer -> arrays, in the model's order.

    Raises:
      UnsupportedModel: no such file, a damaged one, or one that holds no layers of Keras 2.
    """
    with _readable(path), path.open("rb") as stream, h5py.File(stream, "r") as file:
        _check_hdf5(path, file, path.stat().st_size)
        group = file.get("model_weights", file)
        layers = {
            name: [group[name][weight][()] for weight in _listed(group[name], "weight_names")] for name in _listed(group, "layer_names")
        }
    if not any(layers.values()):
        raise UnsupportedModel(
            f"{path}: holds no weights by layer, as Keras 2 writes them; save them with tf_keras: model.save_weights('net.h5')"
        )
    return layers


def _listed(group: h5py.Group, name: str) -> list[str]:
    """Names among a group's attributes: in one, or in name0, name1, ... where they are too long for one."""
    parts = [name] if name in group.attrs else [f"{name}{number}" for number in range(len(group.attrs))]
    return [_text(item) or "" for part in parts if part in group.attrs for item in group.attrs[part]]


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turns what zipfile, zlib, h5py and the system raise on a damaged file into one sentence."""
    try:
        yield
    except zipfile.BadZipFile as error:
        raise UnsupportedModel(f"{path}: starts like a .keras file, but is cut off or damaged ({error}); {_ASK}") from error
    except (OSError, ValueError, KeyError, RuntimeError, EOFError, NotImplementedError, zlib.error) as error:
        reason = str(error).strip().partition("\n")[0][:200] or type(error).__name__
        raise UnsupportedModel(f"{path}: can't be read ({reason}); {_ASK}") from error


def _json(path: Path, name: str, text: str | bytes) -> dict[str, Any]:
    if len(text) > LARGEST_CONFIG:
        raise UnsupportedModel(f"{path}: its {name} has {len(text):,} bytes, which no model's has")
    try:
        tree = json.loads(text)
    except RecursionError:
        raise UnsupportedModel(f"{path}: its {name} is nested deeper than any model's is") from None
    except ValueError as error:
        raise UnsupportedModel(f"{path}: its {name} is no valid JSON ({error}); {_ASK}") from error
    if not isinstance(tree, dict):
        raise UnsupportedModel(f"{path}: its {name} should be a JSON object, not {shown(tree)}; {_ASK}")
    return tree


def _version(path: Path, version: Any) -> int:
    match = re.match(r"[123]\.", version) if isinstance(version, str) else None
    if match is None:
        raise UnsupportedModel(f"{path}: its keras_version is {shown(version)}; expected that of Keras 2 or 3, such as '3.10.0'; {_ASK}")
    return 3 if match[0] == "3." else 2


def _few(names: set[str]) -> str:
    return ", ".join(shown(name) for name in sorted(names)[:5]) + (", ..." if len(names) > 5 else "") if names else "nothing"


def _text(value: Any) -> str | None:
    return value.decode(errors="replace") if isinstance(value, bytes) else value if isinstance(value, str) else None


# Zip archives


def _check_members(path: Path, archive: zipfile.ZipFile) -> None:
    members = archive.infolist()
    if len(members) > MOST_MEMBERS:
        raise UnsupportedModel(f"{path}: holds {len(members):,} files, which no model does")
    for member in members:
        name = member.filename
        if "\\" in name or PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts or re.match(r"[A-Za-z]:", name):
            raise UnsupportedModel(
                f"{path}: holds a file named {shown(name)}, which would be written outside of the folder it is unpacked to"
            )
        if member.flag_bits & 1:
            raise UnsupportedModel(f"{path}: {shown(name)} in it is encrypted, which no model is")
        if name.endswith(".json") and member.file_size > LARGEST_CONFIG:
            raise UnsupportedModel(f"{path}: its {name} has {member.file_size:,} bytes, which no model's has")
    _check_size(path, sum(member.file_size for member in members), path.stat().st_size)


def _check_size(path: Path, unpacked: int, stored: int) -> None:
    if unpacked > max(HARMLESS, LARGEST_RATIO * stored):
        raise UnsupportedModel(f"{path}: would unpack to {unpacked:,} bytes from {stored:,}, as no model does; it is not read")


def _check_weights(path: Path, archive: zipfile.ZipFile) -> None:
    member = archive.getinfo("model.weights.h5")
    with archive.open(member) as stored:
        # in a packed member each step back would unpack it from its start again
        stream: BinaryIO = stored if member.compress_type == zipfile.ZIP_STORED else io.BytesIO(stored.read())
        with h5py.File(stream, "r") as file:
            _check_hdf5(path, file, member.file_size)


# HDF5


def _check_hdf5(path: Path, file: h5py.File, stored: int) -> None:
    """Visits every object once, opening no link; groups may hold each other."""
    seen, waiting, unpacked = set(), [file["/"]], 0
    while waiting:
        group = waiting.pop()
        for name in group:
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise UnsupportedModel(f"{path}: {shown(name)} in it is a link to somewhere else, which no model needs")
            item = group[name]
            place = h5py.h5o.get_info(item.id).addr
            if place in seen:
                continue
            seen.add(place)
            if isinstance(item, h5py.Group):
                waiting.append(item)
            elif isinstance(item, h5py.Dataset):
                if item.external or item.is_virtual:
                    raise UnsupportedModel(f"{path}: the values of {shown(item.name)} stand in another file, which no model needs")
                unpacked += item.size * item.dtype.itemsize if item.shape is not None else 0
    _check_size(path, unpacked, stored)
