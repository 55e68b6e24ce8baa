"""Files and folders that should be there."""

from __future__ import annotations

import zlib
from pathlib import Path

from ..errors import DataError

_PAGE = 4096  # bytes


def existing_folder(folder: str | Path) -> Path:
    """The folder as a Path.

    Raises:
      DataError: it is missing, not a folder, or empty.
    """
    folder = Path(folder)
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "there is no such folder"
        raise DataError(f"folder = {folder}: {what}; name the folder of the data")
    if next(folder.iterdir(), None) is None:
        raise DataError(f"folder = {folder}: is empty; put the data's files there, or name their folder")
    return folder


def existing_file(path: Path, fix: str) -> Path:
    """The path again.

    Raises:
      DataError: there is no such file; `fix` ends the sentence.
    """
    if not path.is_file():
        what = "is a folder, and should be a file" if path.is_dir() else "there is no such file"
        raise DataError(f"{path}: {what}; {fix}")
    return path


def mark_of(path: Path) -> str:
    """What tells a file's content from that of others, the same after copying: its size, and a checksum of three of its pages. All of it
    would take as long as reading the data.

    Raises:
      OSError: it can't be read.
    """
    size, found = path.stat().st_size, 0
    with path.open("rb") as file:
        for start in sorted({0, max(0, size // 2 - _PAGE // 2), max(0, size - _PAGE)}):
            file.seek(start)
            found = zlib.crc32(file.read(_PAGE), found)
    return f"{size} {found:08x}"
