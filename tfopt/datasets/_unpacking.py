"""Archives of data: unpacked once, safely, and found again.

An archive can hold more than data: names and links that lead out of the folder it is unpacked to, a terabyte of zeros in a megabyte. All of
that is refused before or while it is written, and what is refused leaves nothing behind.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import hashlib
import lzma
import os
import re
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from ..errors import DataError, said, shown

HARMLESS = 256 * 2**20  # bytes that an archive may always unpack to
# Between unpacked and stored beyond that. Texts are packed 3 to 10:1, tables of repeated rows 50:1, zeros 1000:1.
LARGEST_RATIO = 200

_COMPRESSED: dict[bytes, Callable[..., Any]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}
# What the archive modules and the system raise on a damaged archive.
_DAMAGED = (zipfile.BadZipFile, tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError)
_Member = tuple[str, int, Callable[[], BinaryIO]]


def folder_of(path: str | Path) -> Path:
    """The folder of some data: a folder as it is; a .zip or .tar archive (also .gz, .bz2, .xz) as the folder that it was unpacked to.

    It is unpacked beside the archive or, where that can't be written, in `$XDG_CACHE_HOME/tfopt` (`~/.cache/tfopt`), and found again as
    long as the archive's name, size and time are the same. Where all that it holds is one folder, it is that folder.

    >>> folder_of("photos.zip").name
    'photos'

    Raises:
      DataError: it is no archive or a damaged one, or holds what would be written elsewhere, links, or far more than its size tells.
        What does not exist is returned, for the caller to tell what should be there.
    """
    path = Path(path)
    if path.is_dir() or not path.exists():
        return path
    return _lone_folder(_unpacked(path) / _stem(path))


def _stem(path: Path) -> str:
    return re.sub(r"\.(zip|tgz|tbz2?|txz|tar(\.\w+)?)$", "", path.name, flags=re.IGNORECASE) or path.name


def _lone_folder(folder: Path) -> Path:
    inside = [one for one in folder.iterdir() if not one.name.startswith((".", "__MACOSX"))]
    return inside[0] if len(inside) == 1 and inside[0].is_dir() else folder


def _unpacked(path: Path) -> Path:
    facts = path.stat()
    key = hashlib.sha256(repr((path.name, facts.st_size, facts.st_mtime_ns)).encode()).hexdigest()[:12]
    name = f"{path.name[:150]}.unpacked-{key}"  # file systems allow 255 bytes
    places = [path.parent, _cache()]
    for place in places:
        if (place / name).is_dir():
            return place / name
    for place in places:
        with contextlib.suppress(OSError):
            place.mkdir(parents=True, exist_ok=True)
            beside = Path(tempfile.mkdtemp(prefix=f".{name[:100]}-", dir=place))
            break
    else:
        raise DataError(
            f"{path}: can't be unpacked, neither {' nor '.join(map(str, places))} can be written; unpack it and name the folder"
        )
    try:
        _unpack(path, beside / _stem(path))
        return _in_place(beside, place / name)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tfopt"


def _in_place(beside: Path, target: Path) -> Path:
    beside.chmod(0o755)  # temporary folders are their user's only
    try:
        beside.rename(target)
    except OSError:
        if not target.is_dir():  # else another process was first
            raise
    return target


def _unpack(path: Path, to: Path) -> None:
    """All files of an archive, as plain files under `to`: what they would like to be otherwise is not asked."""
    limit, total = max(HARMLESS, LARGEST_RATIO * path.stat().st_size), 0
    to.mkdir()
    try:
        with _members(path, limit) as members:
            for name, size, content in members:
                total += size
                _check_size(path, total, limit)
                target = to / name
                target.parent.mkdir(parents=True, exist_ok=True)
                with content() as source, target.open("wb") as file:
                    shutil.copyfileobj(source, file, 2**20)
    except _DAMAGED as error:
        raise DataError(f"{path}: is cut off or damaged ({said(error)}); copy it again") from error
    except OSError as error:
        raise DataError(f"{path}: can't be unpacked ({error.strerror or error}); free space, or unpack it and name the folder") from error
    if not total:
        raise DataError(f"{path}: holds no files, or empty ones only; should hold the data's")


def _check_size(path: Path, size: int, limit: int) -> None:
    if size > limit:
        stored = path.stat().st_size
        raise DataError(
            f"{path}: would unpack to more than {limit:,} bytes from {stored:,}, as no data set does; unpack it yourself if you trust it"
        )


@contextlib.contextmanager
def _members(path: Path, limit: int) -> Iterator[Iterator[_Member]]:
    """The files of an archive as (checked name, size, what opens it), in their order."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            yield _of_zip(path, archive)
        return
    with path.open("rb") as file:
        start = file.read(512)
    opened = next((opener for magic, opener in _COMPRESSED.items() if start.startswith(magic)), open)
    if opened is open and start[257:262] != b"ustar":
        if start.startswith(b"PK\3\4"):
            raise DataError(f"{path}: is a .zip that is cut off or damaged; copy it again")
        raise DataError(f"{path}: is neither a folder nor a .zip or .tar archive; name the data's folder, or an archive of it")
    with opened(path, "rb") as file, tarfile.open(fileobj=_Limited(file, path, limit), mode="r|") as archive:
        yield _of_tar(path, archive)


class _Limited:
    """A stream that is refused when it turns out to be too long: what a compressed one holds is not known before it is read."""

    def __init__(self, file: BinaryIO, path: Path, limit: int):
        self.file, self.path, self.limit, self.count = file, path, 2 * limit, 0  # headers and padding come on top of the content

    def read(self, size: int = -1) -> bytes:
        content = self.file.read(size)
        self.count += len(content)
        _check_size(self.path, self.count, self.limit)
        return content


def _of_zip(path: Path, archive: zipfile.ZipFile) -> Iterator[_Member]:
    for member in archive.infolist():
        kind = stat.S_IFMT(member.external_attr >> 16)
        _check_member(path, member.filename, plain=kind in (0, stat.S_IFREG, stat.S_IFDIR))
        if member.flag_bits & 1:
            raise DataError(f"{path}: {shown(member.filename)} in it is encrypted; unpack it yourself and name the folder")
        if not member.is_dir():
            yield member.filename, member.file_size, lambda member=member: archive.open(member)


def _of_tar(path: Path, archive: tarfile.TarFile) -> Iterator[_Member]:
    for member in archive:
        _check_member(path, member.name, plain=member.isreg() or member.isdir())
        if member.isreg():
            yield member.name, member.size, lambda member=member: archive.extractfile(member)


def _check_member(path: Path, name: str, *, plain: bool) -> None:
    parts = PurePosixPath(name)
    if "\\" in name or "\0" in name or parts.is_absolute() or ".." in parts.parts or re.match(r"[A-Za-z]:", name):
        raise DataError(f"{path}: holds a file named {shown(name)}, which would be written outside of its folder; nothing was unpacked")
    if not plain:
        raise DataError(f"{path}: holds {shown(name)}, a link or device and no plain file, which no data needs; nothing was unpacked")
