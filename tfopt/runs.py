"""A run's folder: what was finished is found again, what was not is begun anew, and nothing of another recipe is touched.

::

    runs/digits/
      recipe.toml                      whose run this is
      stages/train-1f0c.../            a finished stage: made beside its place, then renamed into it
      stages/.train-1f0c....progress/  an unfinished one's states after its last two epochs: removed when it is finished
      models/, artifacts/, report.*    the result: the Keras model after each step, the .tflite files, what was measured

A stage's folder is named by the hash of what made it: its part of the recipe, its parents' hashes, the data's fingerprint and the versions
of the libraries. So a second run finds it, one that was interrupted goes on behind it, and another seed or library never does.
"""

from __future__ import annotations

import contextlib
import difflib
import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import progress
from .errors import RunError
from .files import write_atomically
from .tracing import Trace, log

_OURS = (".lock", ".recipe.toml.")  # what a run leaves that was killed before its recipe was written
_ELSEWHERE = "give another folder (--out, in Python out=)"


@dataclass(frozen=True)
class Stage:
    """A finished stage: its name, the hash of what made it, and the folder that holds what it made."""

    name: str
    hash: str
    folder: Path

    @property
    def facts(self) -> dict[str, Any]:
        """What it wrote down: "seconds", "trace" and what its maker returned."""
        file = self.folder / "facts.json"
        try:
            return json.loads(file.read_text())
        except (OSError, ValueError) as error:
            raise RunError(f"{file}: can't be read ({error}); remove {self.folder} and run again, to make this stage anew") from error


@dataclass(frozen=True)
class Run:
    """An open run folder. `common` goes into every stage's hash: the versions that matter."""

    folder: Path
    common: Mapping[str, Any]

    def stage(self, name: str, spec: Any, parents: Sequence[Stage], make: Callable[[Path], Mapping[str, Any] | None]) -> Stage:
        """The stage of that name and making: found, or made by `make(folder)`, which writes files and returns facts for JSON.

        Fits inside `make` keep their state and go on from it; what is recorded meanwhile is kept with the stage.

        Raises:
          RunError: the folder can't be written.
        """
        key = {"name": name, "spec": spec, "parents": [parent.hash for parent in parents], **self.common}
        digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
        final = self.folder / "stages" / f"{name}-{digest}"
        if not final.is_dir():
            with _space_needed(final):
                self._make(name, final, make)
        return Stage(name, digest, final)

    def _make(self, name: str, final: Path, make: Callable[[Path], Mapping[str, Any] | None]) -> None:
        unfinished, state = final.with_name(f".{final.name}.unfinished"), final.with_name(f".{final.name}.progress")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        start = time.perf_counter()
        with progress.resumable(state), Trace() as trace:
            facts = make(unfinished) or {}
        seconds = time.perf_counter() - start
        facts = {"seconds": seconds, "trace": trace.entries, **facts}
        write_atomically(unfinished / "facts.json", json.dumps(facts, indent=1).encode())
        _to_disk(unfinished)
        os.replace(unfinished, final)
        shutil.rmtree(state, ignore_errors=True)
        log.info("%s: %.1f s", name, seconds)


@contextlib.contextmanager
def opened(folder: Path, identity: str, common: Mapping[str, Any]) -> Iterator[Run]:
    """Opens the run folder of the recipe whose text is `identity`, or makes it; nobody else can open it meanwhile.

    Raises:
      RunError: the folder holds another recipe's run or other files, is in use, or can't be written. Nothing in it is changed.
    """
    with _space_needed(folder):
        new = not folder.exists()
        _check_ours(folder, identity)
        folder.mkdir(parents=True, exist_ok=True)
        lock = open(folder / ".lock", "w")  # noqa: SIM115 (closed below; the lock goes with the process, even by kill -9)
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RunError(f"{folder}: another process is running here; wait for it, or {_ELSEWHERE}") from error
        with _space_needed(folder):
            write_atomically(folder / "recipe.toml", identity.encode())
        try:
            yield Run(folder, common)
        except BaseException:
            if new and not _worth_keeping(folder):
                shutil.rmtree(folder, ignore_errors=True)
            raise


def _check_ours(folder: Path, identity: str) -> None:
    mark = folder / "recipe.toml"
    if mark.is_file():
        there = mark.read_text(errors="replace")
        if there != identity:
            raise RunError(f"{folder}: holds another recipe's run ({_difference(there, identity)}); {_ELSEWHERE}")
    elif folder.exists() and not folder.is_dir():
        raise RunError(f"{folder}: is a file, and a folder is needed; {_ELSEWHERE}")
    elif folder.is_dir() and any(not entry.name.startswith(_OURS) for entry in folder.iterdir()):
        raise RunError(f"{folder}: holds other files and no run; {_ELSEWHERE}")


def _worth_keeping(folder: Path) -> bool:
    """Whether a finished stage, or the state of an unfinished one, is there to go on from."""
    return any(not stage.name.endswith(".unfinished") and any(stage.iterdir()) for stage in folder.glob("stages/*"))


def _difference(there: str, here: str) -> str:
    changed = [line for line in difflib.ndiff(there.splitlines(), here.splitlines()) if line[:2] in ("- ", "+ ") and line[2:].strip()]
    old = [line[2:] for line in changed if line[0] == "-"][:2]
    new = [line[2:] for line in changed if line[0] == "+"][:2]
    return f"there: {', '.join(old) or 'nothing'}; here: {', '.join(new) or 'nothing'}"


@contextlib.contextmanager
def _space_needed(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        where = error.filename or path
        raise RunError(f"{where}: can't be written ({error.strerror or error}); free space, or {_ELSEWHERE}") from error


def _to_disk(folder: Path) -> None:
    """Makes sure that what the folder holds outlives a power failure, before its name says that it is whole."""
    for path in [*folder.rglob("*"), folder]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
