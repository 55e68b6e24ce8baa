"""Pictures in files: matplotlib's door, and where a picture may be written.

Drawn on matplotlib's Figure objects, not through pyplot, so that a user's own figures and backend stay as they are.
"""

from __future__ import annotations

import importlib
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from .errors import ArtifactError
from .files import write_atomically

_HEAD = 4096  # bytes of a file, among which its mark is


def matplotlib(module: str) -> ModuleType:
    """The door: importing matplotlib takes 0.4 s, which only who draws has to wait for."""
    return importlib.import_module(f"matplotlib.{module}")


def figure(width: float, height: float, **settings: Any) -> Any:
    """An empty figure of this size in inches; `settings` as matplotlib's Figure has them."""
    made = matplotlib("figure").Figure(figsize=(width, height), **settings)
    matplotlib("backends.backend_agg").FigureCanvasAgg(made)
    return made


def save(path: str | Path, draw: Callable[[str], bytes], *, mark: str, endings: Sequence[str] = (".png",)) -> Path:
    """Draws a picture into a file and returns its path.

    Args:
      draw: the kind of file, "png" or "svg" -> its content, with the mark as `encoded` puts it in; called once it is known that the picture
        may stand there.
      mark: stands in the file's head. An older picture with the same mark is replaced, any other file is not.
      endings: which ones the path may have.

    Raises:
      ArtifactError: `path` has another ending, can't be written, or another file stands there.
    """
    path = Path(path)
    try:
        _check_place(path, mark, endings)
        write_atomically(path, draw(path.suffix.lower()[1:]))
    except OSError as error:
        raise ArtifactError(f"{path}: can't be written ({error.strerror or error}); free space or choose another place") from error
    return path


def _check_place(path: Path, mark: str, endings: Sequence[str]) -> None:
    if path.suffix.lower() not in endings:
        raise ArtifactError(f"{path}: is no name for a picture; end it in {' or '.join(endings)}")
    if path.is_dir():
        raise ArtifactError(f"{path}: is a folder; name the file to write")
    if path.exists():
        with path.open("rb") as file:
            if mark.encode() not in file.read(_HEAD):
                raise ArtifactError(f"{path}: another file stands here already; choose another name or remove it first")


def encoded(drawn: Any, kind: str, *, mark: str, title: str, dots: int = 110) -> bytes:
    """A figure as the content of a file; the same figure gives the same bytes.

    dots: an inch, of a PNG file.
    """
    target, facts = io.BytesIO(), {"Software": mark} if kind == "png" else {"Creator": mark, "Date": None}
    with importlib.import_module("matplotlib").rc_context({"svg.hashsalt": "tfopt"}):
        drawn.savefig(target, format=kind, dpi=dots, metadata={**facts, "Title": title})
    return target.getvalue()
