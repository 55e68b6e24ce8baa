"""Recordings joined into sequences: which ones follow each other, and how they are read as one wave."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any

import numpy as np
from pydantic import AfterValidator, Field

from .. import backend
from ..preprocessing import _wav

NONE = -1  # what fills up a sequence of numbers


def _bounds(joined: Sequence[int]) -> Sequence[int]:
    if len(joined) != 2 or joined[0] > joined[1]:
        raise ValueError("should be the fewest and the most recordings of a sequence, such as [2, 4]")
    return joined


_Count = Annotated[int, Field(ge=1)]
Joined = Annotated[list[_Count] | tuple[_Count, ...], AfterValidator(_bounds), "two whole numbers, such as [2, 4]"]


def dealt(numbers: np.ndarray, voices: np.ndarray, joined: Sequence[int], rng: np.random.Generator) -> np.ndarray:
    """(sequences, most) int64: numbers of recordings of one voice that follow each other, filled up with -1.

    Each recording stands in one sequence; of each voice fewer than the fewest may be left over.
    """
    rows = []
    for voice in np.unique(voices):
        left = rng.permutation(numbers[voices == voice])
        while count := _drawn_length(len(left), joined, rng):
            rows.append(np.pad(left[:count], (0, joined[1] - count), constant_values=NONE))
            left = left[count:]
    order = rng.permutation(len(rows))
    return np.array(rows, np.int64).reshape(-1, joined[1])[order]


def _drawn_length(left: int, joined: Sequence[int], rng: np.random.Generator) -> int:
    """How many of those that are left make the next sequence: so many that another one can be made of the rest, or that there is none."""
    fewest, most = joined
    lengths = [count for count in range(fewest, min(most, left) + 1) if left == count or left - count >= fewest]
    return int(rng.choice(lengths)) if lengths else fewest if left >= fewest else 0


def rows_of(files: dict[str, np.ndarray], sequences: np.ndarray) -> dict[str, np.ndarray]:
    """What `reader` asks to know of each sequence, as arrays (sequences, most); an empty place holds no samples of the first file."""
    rows = {name: values[np.maximum(sequences, 0)] for name, values in files.items()}
    return {**rows, "frames": np.where(sequences == NONE, 0, rows["frames"])}


def facts(rate: int, samples: int) -> dict[str, Any]:
    """How an app makes a raw example of a sound, as `Data.source` holds it."""
    return {
        "kind": "sound",
        "rate": rate,
        "samples": samples,
        "channels": "mean",
        "range": [-1.0, 1.0],
        "length": "cut off or zeros at the end",
    }


def lengths(sounds: Sequence[_wav.Sound], rate: int) -> np.ndarray:
    """How many samples each sound has at `rate`."""
    return np.array([-(-sound.frames * up // down) for sound in sounds for up, down in [_wav.ratio(sound.kind, rate)]], np.int64)


def reader(kinds: Sequence[_wav.Kind], rate: int, samples: int) -> Callable[[Any], Any]:
    """A function that reads one of the `rows_of` sequences as a wave, float32 (samples,): each sound as `_wav.reader` reads it, right
    behind the one before, and zeros at the end.
    """
    read, ratios = _wav.reader(kinds, rate, samples), np.array([_wav.ratio(kind, rate) for kind in kinds], np.int64)

    def joined(row: Any) -> Any:
        tf = backend.tensorflow()
        waves = []
        for at in range(row["frames"].shape[0]):
            one = {name: values[at] for name, values in row.items()}
            up, down = tf.unstack(tf.gather(ratios, one["kind"]))
            waves.append(read(one)[: (one["frames"] * up + down - 1) // down])
        wave = tf.concat(waves, axis=0)[:samples]
        return tf.ensure_shape(tf.pad(wave, [[0, samples - tf.shape(wave)[0]]]), [samples])

    return joined
