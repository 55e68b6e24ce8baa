"""The batch at which a loss was no number any more, saved to be looked at."""

from __future__ import annotations

import io
import itertools
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from . import pipelines
from .files import write_atomically
from .types import Data, Fit


def first_broken(data: Data, fit: Fit, epoch: int) -> int | None:
    """The step, from 0, of an epoch's first batch with something that is no number; None where there is none, or it can't be told."""
    if fit.service is not None:
        return None
    batches = pipelines.training_batches(data, fit, epoch).take(pipelines.steps_per_epoch(data, fit)).as_numpy_iterator()
    return next((step for step, batch in enumerate(batches) if _broken(_arrays(batch))), None)


def save_batch(data: Data, fit: Fit, name: str, state: Path | None, epoch: int, step: int, *, each: int) -> str:
    """Saves a training batch as an .npz file and returns half a sentence about it.

    The file holds `x` and `y` (of a dict "x/NAME" for each), `epoch` and `step`, both counted from 0. Nothing had to be kept for it:
    `pipelines.training_batches(data, fit, epoch, first_step=step)` makes every batch again.

    Args:
      name: of the fit; the file is tfopt-nan-NAME.npz.
      state: where the fit keeps its state, if it does: the file then stands in a folder `diverged` beside that of the states, which goes
        when the fit is done. Else it stands in the current folder. Another file of that name stays, and this one gets a number; one of
        ours is replaced.
      each: how many steps one call makes: what is known of the loss is known behind the last of them.
    """
    if fit.service is not None:
        return "its batch can't be made again, since with fit.service they come in any order"
    batch = next(pipelines.training_batches(data, fit, epoch, first_step=step).as_numpy_iterator())
    arrays = _arrays(batch)
    broken = _broken(arrays)
    told = "its batch" if each == 1 else f"the last of the {each} batches of the call in which it was so"
    told += f", whose {' and '.join(broken)} {'hold' if len(broken) > 1 else 'holds'} NaN or infinity," if broken else ""
    folder = Path.cwd() if state is None else state.parent.with_name("diverged")
    buffer, path = io.BytesIO(), _free(folder, f"tfopt-nan-{name}")
    np.savez(buffer, **arrays, epoch=epoch, step=step)
    try:
        write_atomically(path, buffer.getvalue())
    except OSError as error:
        return f"{told} could not be saved as {path} ({error.strerror or error})"
    return f"{told} is in {path}"


def _arrays(batch: tuple[Any, Any]) -> dict[str, np.ndarray]:
    return {key: array for part, value in zip("xy", batch, strict=True) for key, array in _flat(part, value)}


def _broken(arrays: Mapping[str, np.ndarray]) -> list[str]:
    """Which of them hold what is no number."""
    return [key for key, array in arrays.items() if array.dtype.kind == "f" and not np.isfinite(array).all()]


def _flat(name: str, value: Any) -> list[tuple[str, np.ndarray]]:
    if isinstance(value, Mapping):
        return [(f"{name}/{key}", np.asarray(inner)) for key, inner in value.items()]
    return [(name, np.asarray(value))]


def _free(folder: Path, stem: str) -> Path:
    names = itertools.chain([stem], (f"{stem}-{number}" for number in itertools.count(2)))
    return next(path for name in names if not (path := folder / f"{name}.npz").exists() or _is_ours(path))


def _is_ours(path: Path) -> bool:
    try:
        with np.load(path) as held:
            return {"epoch", "step"} < set(held.files)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        return False
