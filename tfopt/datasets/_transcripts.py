"""Sounds in WAV files and what is said in them, a line each in a text file."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from .. import options
from ..errors import DataError, OptionError, shown
from ..preprocessing import _wav, text
from ..types import Data
from . import _audio, _building, _files, _folders, _following, _joined, _tables, _unpacking
from ._building import Cache, Count, Preprocess, Seed, Share


@dataclass(frozen=True)
class _Spoken:
    """A file, what is said in it as symbols, and the part that its list is of."""

    path: Path
    symbols: tuple[str, ...]
    part: str


@options.checked
def audio_transcripts(
    *,
    folder: str | Path,
    file: str | Path,
    test_file: str | Path | None = None,
    validation_file: str | Path | None = None,
    separator: str = "\t",
    encoding: str = "utf-8",
    unit: text.Unit = "characters",
    rate: Annotated[int, Field(ge=1000, le=192_000)] = 16_000,
    seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 10.0,
    corrupt: _folders.Tolerated = 0.05,
    name: str | None = None,
    validation: Share = 0.15,
    test: Share = 0.2,
    seed: Seed = 0,
    calibration: Count = 200,
    preprocess: Preprocess = (),
    cache: Cache = "memory",
) -> Data:
    """Sounds in WAV files and their transcripts for the task `transcription`: `file` has a line `path<TAB>what is said` for each, the path
    from `folder` on.

    x: (samples,) float32, as `audio_folder` has it. y: (most,) int32, what is said as indices of the classes, filled up with -1: of
    characters in lower case, a space between words, or of words. Parts that no file is given for are drawn from `file`, by `seed`.

    Args:
      separator: between path and transcript; " " for LibriSpeech's own lists.
      unit: "characters", of which a model can write words that it has never heard, or "words" (and punctuation marks).
      seconds: the length of every wave; sounds that are longer, whose transcripts would say too much, are left out and counted.
      corrupt: up to this share of the files may be unreadable; they are left out and named in the data's notes.

    >>> tfopt.datasets.audio_transcripts(folder="clips", file="clips/train.tsv", test_file="clips/test.tsv", preprocess=["log_mel"])

    Raises:
      DataError: a file of the list is not there, a line is no pair, or nothing is left of a part.
    """
    samples = round(rate * seconds)
    if not samples or not separator or "\n" in separator:
        raise OptionError(f"seconds = {seconds:g}, separator = {separator!r}: should be a sample or more, and what stands behind a path")
    where = _files.existing_folder(_unpacking.folder_of(folder))
    given = {"train": file, "validation": validation_file, "test": test_file}
    listed = [one for part, path in given.items() if path for one in _listed(Path(path), where, part, separator, encoding, unit)]
    spoken, sounds, notes = _readable(listed, where, rate, samples, corrupt)
    every = sorted({symbol for one in spoken for symbol in one.symbols})
    parts = {part: [one.path for one in spoken if one.part == part] for part in given}
    numbers = _following.divided(parts, validation=validation, test=test, seed=seed, source=str(file))
    y = _indices([one.symbols for one in spoken], every)
    rows = _audio.waves([one.path for one in spoken], sounds, y, where=where, rate=rate, samples=samples, cache=cache)
    return _building.build(
        name or Path(file).stem,
        {part: rows.take(at) for part, at in numbers.items()},
        classes=every,
        task="transcription",
        seed=seed,
        calibration=calibration,
        preprocess=preprocess,
        source=_joined.facts(rate, samples),
        notes=notes,
    )


def _listed(path: Path, where: Path, part: str, separator: str, encoding: str, unit: text.Unit) -> list[_Spoken]:
    """The files that a list names."""
    found = []
    for number, line in _tables.lines_of(_tables.text_of(path, encoding)):
        name, separated, said = line.strip().partition(separator)
        said = " ".join(unicodedata.normalize("NFC", said).lower().split())
        if not (separated and name.strip() and said):
            form = f"path{separator}what is said"
            raise DataError(f"{path}, line {number}: is {shown(line)}; should be {form!r}; repair the line, or say separator")
        sound = where / name.strip()
        if not sound.resolve().is_relative_to(where.resolve()):
            raise DataError(f"{path}, line {number}: {shown(name.strip())} leads out of folder = {where}; give a path from there on")
        if not sound.is_file():
            raise DataError(f"{path}, line {number}: there is no file {sound}; its path should be that from folder = {where} on")
        found.append(_Spoken(sound, tuple(text.tokens(said, unit)), part))
    return found


def _readable(
    spoken: Sequence[_Spoken], where: Path, rate: int, samples: int, corrupt: float
) -> tuple[list[_Spoken], list[_wav.Sound], list[str]]:
    """The files that can be read and are short enough, what they hold, and notes of the others."""
    good, sounds, notes = _audio.readable(spoken, corrupt, where)
    short = _joined.lengths(sounds, rate) <= samples
    if not short.any():
        raise DataError(f"folder = {where}: all {len(short):,} sounds are longer than seconds = {samples / rate:g}; allow more")
    if not short.all():
        notes.append(
            f"{(~short).sum():,} of {len(short):,} sounds are longer than the {samples:,} samples that there are, and were left out"
        )
    return *([one for one, fits in zip(of, short, strict=True) if fits] for of in (good, sounds)), notes


def _indices(transcripts: Sequence[Sequence[str]], names: Sequence[str]) -> Any:
    """(n, most) int32, filled up with -1."""
    index = {name: number for number, name in enumerate(names)}
    y = np.full((len(transcripts), max(map(len, transcripts), default=0)), _joined.NONE, np.int32)
    for row, symbols in zip(y, transcripts, strict=True):
        row[: len(symbols)] = [index[symbol] for symbol in symbols]
    return y
