"""Folders of files, an example each: which there are, for which part, and how many of them may be unreadable."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field

from ..errors import DataError

Tolerated = Annotated[float, Field(ge=0, lt=1)]
PART_NAMES = {"train": ("train",), "validation": ("validation", "val", "valid"), "test": ("test",)}
LISTED = 20  # files that a note names


def parts_of(folder: Path) -> dict[str, Path]:
    """The folder of each part, by its name in large or small letters; all is "train" where the folder is not divided. A class may be
    called "train" as well, among others.
    """
    inside = {one.name.lower(): one for one in sorted(folder.iterdir()) if one.is_dir()}
    there = {part: inside[name] for part, names in PART_NAMES.items() for name in names if name in inside}
    return there if "train" in there and len(there) > 1 else {"train": folder}


def classes_in(folder: Path) -> list[Path]:
    """The folders inside, without hidden ones."""
    return sorted(one for one in folder.iterdir() if one.is_dir() and not _hidden(one.name))


def files_below(folder: Path) -> list[Path]:
    """All files below a folder, in a fixed order, through links too, without what is hidden."""
    files, seen = [], set()
    for place, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:  # a link back to where it stands
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not _hidden(name))
        files += [path for name in sorted(names) if not _hidden(name) and (path := Path(place, name)).is_file()]
    return files


def _hidden(name: str) -> bool:
    return name.startswith((".", "__MACOSX"))


def within(path: Path, where: Path) -> str:
    """A path below a folder as messages and marks have it, the same on every system."""
    return path.relative_to(where).as_posix()


def some(texts: Sequence[str], separator: str = ", ") -> str:
    """The first of them, and how many more there are."""
    more = f"{separator}and {len(texts) - LISTED:,} more" if len(texts) > LISTED else ""
    return separator.join(texts[:LISTED]) + more


def left_out(bad: Sequence[str], total: int, tolerated: float, source: str, what: str) -> list[str]:
    """A note of the files that can't be read, "NAME REASON" each, where there are some.

    Raises:
      DataError: they are a larger share of all than is tolerated, or all.
    """
    if not bad:
        return []
    told = f"{len(bad):,} of {total:,} {what} can't be read: {some(bad, '; ')}"
    if len(bad) == total or len(bad) > tolerated * total:
        raise DataError(f"{source}: {told}; repair or remove them, or allow more than corrupt = {tolerated:g} of them")
    return [f"{told}; they were left out"]
