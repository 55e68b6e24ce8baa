"""Files and folders that should be there."""

from __future__ import annotations

from pathlib import Path

from ..errors import DataError


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
        raise DataError(f"{path}: there is no such file; {fix}")
    return path
