"""The state of an unfinished fit on disk, so that a run that was killed goes on from its last finished epoch.

After each epoch there is a file, `fit1-epoch-000007.npz`: the arrays, what is to be known of them as JSON, and behind it all the SHA-256 of
the file up to there, so that no damage goes unseen. The last two are kept: where the newer one is damaged, the fit goes on from the other.
"""

from __future__ import annotations

import contextlib
import contextvars
import hashlib
import io
import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from . import tracing
from .errors import RunError
from .files import write_atomically

KEPT = 2
Form = Sequence[tuple[tuple[int, ...], str]]  # shape and dtype of each array

_places: contextvars.ContextVar[Iterator[Path] | None] = contextvars.ContextVar("tfopt_progress", default=None)


@dataclass(frozen=True)
class State:
    """What a fit goes on from.

    Attributes:
      epoch: the last that was finished, from 0.
      facts: what JSON can hold.
      arrays: of numbers, in an order that the fit knows.
    """

    epoch: int
    facts: dict[str, Any]
    arrays: list[np.ndarray]


@contextlib.contextmanager
def resumable(folder: Path) -> Iterator[None]:
    """Inside, every fit keeps its state after each epoch in `folder`, the first fit in files `fit1-...`, the second in `fit2-...` and so
    on, and begins with what it finds there. One process at a time may use a folder.
    """
    token = _places.set(folder / f"fit{number}" for number in itertools.count(1))
    try:
        yield
    finally:
        _places.reset(token)


def next_file() -> Path | None:
    """How the names of the files begin in which the fit that begins now keeps its states; None outside `resumable`."""
    places = _places.get()
    return next(places) if places is not None else None


def form_of(arrays: Iterable[Any]) -> Form:
    """The form of arrays or variables."""
    return [(tuple(array.shape), array.dtype.name) for array in arrays]


def read(place: Path | None, *forms: Form) -> State | None:
    """The last state that is whole and whose arrays have one of the forms; None where there is none.

    Files that are neither are said, in the log and in the trace.
    """
    if place is None:
        return None
    for left in place.parent.glob(f".{place.name}[-.]*"):
        left.unlink()  # of a process that was killed while it wrote
    problems = []
    for file in _files(place):
        try:
            state = _unpacked(file.read_bytes(), forms)
        except (OSError, ValueError) as error:
            problems.append(f"{file}: can't be used, {error}")
        else:
            _say(problems, f"goes on from the one before it, the end of epoch {state.epoch + 1}")
            return state
    _say(problems, "begins anew")
    return None


def write(place: Path | None, state: State) -> None:
    """Keeps a state, whole or not at all, and the one of the epoch before; does nothing without a place.

    Raises:
      RunError: it can't be written. What was kept before is still there.
    """
    if place is None:
        return
    file = _file(place, state.epoch)
    try:
        write_atomically(file, _packed(state))
        kept = [_file(place, state.epoch - age) for age in range(KEPT)]
        for old in set(_files(place)) - set(kept):
            old.unlink()
    except OSError as error:
        then = f"goes on from the end of epoch {state.epoch}" if state.epoch else "begins anew"
        raise RunError(
            f"{file}: training's state can't be written ({error.strerror or error}); free space and start the same again: it {then}"
        ) from error


def _file(place: Path, epoch: int) -> Path:
    return place.with_name(f"{place.name}-epoch-{epoch + 1:06d}.npz")


def _files(place: Path) -> list[Path]:
    """The last epoch's first; at the end, as it is called, the only file that earlier versions kept."""
    files = sorted(place.parent.glob(f"{place.name}-epoch-*.npz"), reverse=True)
    return files + list(place.parent.glob(f"{place.name}.npz"))


def _say(problems: Sequence[str], outcome: str) -> None:
    if problems:
        tracing.warn(f"{'; '.join(problems)}. Training {outcome}")


def _packed(state: State) -> bytes:
    facts = {"epoch": state.epoch, "facts": state.facts, "dtypes": [array.dtype.name for array in state.arrays]}
    buffer = io.BytesIO()
    np.savez(buffer, *state.arrays, facts=np.frombuffer(json.dumps(facts).encode(), np.uint8))
    buffer.write(hashlib.sha256(buffer.getbuffer()).digest())
    return buffer.getvalue()


def _unpacked(content: bytes, forms: Sequence[Form]) -> State:
    """Raises ValueError, with the reason as half a sentence."""
    body, digest = memoryview(content)[:-32], content[-32:]
    if hashlib.sha256(body).digest() != digest:
        raise ValueError("it is damaged")
    with np.load(io.BytesIO(body)) as saved:
        facts = json.loads(saved["facts"].tobytes())
        # NumPy writes bfloat16 as two bytes without a meaning.
        arrays = [saved[f"arr_{i}"].view(np.dtype(name)) for i, name in enumerate(facts["dtypes"])]
    if form_of(arrays) not in forms:
        raise ValueError("its arrays are not those of this model and optimizer")
    return State(facts["epoch"], facts["facts"], arrays)
