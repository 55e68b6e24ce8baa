"""The state of an unfinished fit on disk, so that a run that was killed goes on from its last finished epoch."""

from __future__ import annotations

import contextlib
import contextvars
import io
import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .files import write_atomically

_files: contextvars.ContextVar[Iterator[Path] | None] = contextvars.ContextVar("tfopt_progress", default=None)


@contextlib.contextmanager
def resumable(folder: Path) -> Iterator[None]:
    """Inside, every fit keeps its state after each epoch in `folder`, in a file for the first fit, one for the second and so on, and
    begins with what it finds there.
    """
    token = _files.set(folder / f"fit{number}.npz" for number in itertools.count(1))
    try:
        yield
    finally:
        _files.reset(token)


def next_file() -> Path | None:
    """Where the fit that begins now keeps its state; None outside `resumable`."""
    files = _files.get()
    return next(files) if files is not None else None


def read(file: Path | None) -> tuple[dict[str, Any], list[np.ndarray]] | None:
    """The facts and arrays that were last written, or None where there are none."""
    if file is None or not file.exists():
        return None
    with np.load(file) as saved:
        return json.loads(saved["facts"].tobytes()), [saved[f"array{i}"] for i in range(len(saved.files) - 1)]


def write(file: Path | None, facts: dict[str, Any], arrays: Sequence[np.ndarray]) -> None:
    """Replaces what the file holds, whole or not at all; does nothing without a file."""
    if file is None:
        return
    buffer = io.BytesIO()
    named = {f"array{i}": array for i, array in enumerate(arrays)}
    np.savez(buffer, facts=np.frombuffer(json.dumps(facts).encode(), np.uint8), **named)
    write_atomically(file, buffer.getvalue())
