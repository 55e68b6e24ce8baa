"""Sounds in WAV files, with the class in the name of a file or of its folder; alone, or joined into sequences."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import AfterValidator, Field

from .. import backend, options
from ..errors import DataError, OptionError, shown
from ..pipelines import Rows
from ..preprocessing import _wav
from ..types import Data
from . import _building, _files, _folders, _joined, _labels, _unpacking
from ._building import Cache, Count, Preprocess, Seed, Share
from ._joined import Joined
from ._labels import PARTS

WAV, OTHER_SOUNDS = {".wav", ".wave"}, {".mp3", ".flac", ".ogg", ".opus", ".m4a", ".aac", ".aif", ".aiff", ".wma"}


def _compiled(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"is no regular expression ({error})") from None
    return pattern


def _with_label(pattern: str) -> str:
    if "label" not in re.compile(_compiled(pattern)).groupindex:
        raise ValueError(r"should have a group that is the label, like (?P<label>\d)_\w+\.wav")
    return pattern


@dataclass(frozen=True)
class _File:
    """A file, its label, the part that its folder says, and whose voice it is, where the pattern has a group for that."""

    path: Path
    label: str
    part: str
    speaker: str = ""


@options.checked
def audio_folder(
    *,
    folder: str | Path,
    rate: Annotated[int, Field(ge=1000, le=192_000)] = 16_000,
    seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0,
    pattern: Annotated[str, AfterValidator(_with_label), "regular expression with a group label"] | None = None,
    test_pattern: Annotated[str, AfterValidator(_compiled), "regular expression"] | None = None,
    corrupt: _folders.Tolerated = 0.05,
    joined: Joined | None = None,
    rounds: Count = 1,
    validation: Share = 0.15,
    test: Share = 0.2,
    seed: Seed = 0,
    calibration: Count = 200,
    preprocess: Preprocess = (),
    cache: Cache = "memory",
) -> Data:
    r"""Sounds in WAV files, in one folder for each class: `folder/CLASS/*.wav`, or `folder/train/CLASS/*.wav` and `folder/test/CLASS/*.wav`
    (and `validation` or `val`); an archive of such a folder is unpacked. With `pattern` the class stands in the files' names instead.

    x: (samples,) float32 in -1..1, at `rate` samples a second: channels as their mean, resampled where the file has another rate, cut off
    or filled up with zeros at its end to `seconds`. Read are 8-, 16-, 24- and 32-bit PCM and 32- and 64-bit floats. The files are read
    when they are needed for the first time, and what they hold is kept by `cache`: "memory", "none", or a folder for what does not fit.

    Args:
      pattern: a regular expression for the whole name of a file, with a group `label`; files that it does not fit are left out.
      test_pattern: one for the whole names of the files that are the test set.
      corrupt: up to this share of the files may be unreadable; they are left out and named in the data's notes.
      joined: the fewest and the most recordings, such as [2, 4], that are joined into one, for the task `transcription`: recordings of one
        part, and of one speaker where the pattern has a group `speaker`, in an order drawn by `seed`, one right behind the other. y is then
        (most,) int32, their classes, filled up with -1. Sequences that are longer than `seconds` are left out.
      rounds: how often the training recordings are dealt out anew into sequences; those of validation and test are once.
      validation, test: the shares that are drawn for these parts, stratified, by `seed`, where neither a folder nor `test_pattern` says.
      preprocess: such as `["log_mel"]` for a model of images; without a step that makes features, the model gets the wave.

    >>> tfopt.datasets.audio_folder(folder="fsdd.zip", rate=8000, pattern=r"(?P<label>\d)_\w+_\d+\.wav", test_pattern=r".*_[0-4]\.wav")

    Raises:
      OptionError: `rounds` without `joined`; two ways of saying what the test set is. DataError: there are no WAV files, no classes or only
      one, too few of a class, or too many unreadable files.
    """
    samples = round(rate * seconds)
    if not samples:
        raise OptionError(f"seconds = {seconds:g}: not one sample at rate = {rate}; give more")
    if rounds > 1 and joined is None:
        raise OptionError(f"rounds = {rounds}: says how often recordings are joined anew; say joined, such as [2, 4], or leave it out")
    where = _files.existing_folder(_unpacking.folder_of(folder))
    found, notes = _found(where, pattern)
    files, sounds, damaged = readable(_ordered(found, test_pattern), corrupt, where)
    notes += damaged + ([] if joined else _long(sounds, seconds))
    fix = "name the folder of several classes, or give a pattern"
    names = _labels.names_of([file.label for file in files], str(folder), fix, () if pattern else _class_folders(where))
    paths, sizes = [file.path for file in files], Counter(file.part for file in files)
    y = _labels.indices([file.label for file in files], names, lambda number: str(paths[number]))
    rows = waves(paths, sounds, y, where=where, rate=rate, samples=samples, cache=cache)
    if len(sizes) == 1:
        _labels.check_enough(rows.y, names, str(folder), "give more, or leave the class out")
    numbers = _labels.divided(rows.y, {**dict.fromkeys(PARTS, 0), **sizes}, validation=validation, test=test, seed=seed, source=str(folder))
    notes += _labels.missing_classes({part: rows.y[numbers[part]] for part in numbers}, names, str(folder))
    parts = {part: rows.take(numbers[part]) for part in numbers}
    if joined:
        speakers, lengths = np.array([file.speaker for file in files]), _joined.lengths(sounds, rate)
        dealt = _dealt(numbers, speakers, joined, rounds, seed)
        fitting = {part: _fitting(dealt[part], lengths, samples, part, len(numbers[part])) for part in parts}
        read = _joined.reader(_wav.kinds_of(sounds), rate, samples)
        parts = {part: _in_sequence(rows, sequences, read) for part, (sequences, _) in fitting.items()}
        notes += [note for _, note in fitting.values()]
    return _building.build(
        Path(folder).name.partition(".")[0] or where.name,
        parts,
        task="transcription" if joined else "classification",
        classes=names,
        seed=seed,
        calibration=calibration,
        preprocess=preprocess,
        source={**_joined.facts(rate, samples), **({"rounds": rounds} if joined else {})},
        notes=notes,
    )


def waves(
    paths: Sequence[Path], sounds: Sequence[_wav.Sound], y: np.ndarray, *, where: Path, rate: int, samples: int, cache: str | Path
) -> Rows:
    """Examples of them: x (samples,) float32, and what is learnt of each."""
    return Rows(
        _wav.rows(paths, sounds),
        y,
        read=_wav.reader(_wav.kinds_of(sounds), rate, samples),
        spec=backend.tensorflow().TensorSpec((samples,), "float32"),
        cache=str(cache),
        marks=np.array([f"{_folders.within(path, where)} {_files.mark_of(path)} {rate} {samples}" for path in paths], object),
    )


# Sequences of them.


def _dealt(numbers: Mapping[str, np.ndarray], speakers: np.ndarray, joined: Sequence[int], rounds: int, seed: int) -> dict[str, np.ndarray]:
    """The recordings of each part, in sequences of their numbers."""
    found = {}
    for part, at in numbers.items():
        rng = np.random.default_rng([seed, PARTS.index(part)])
        dealt = [_joined.dealt(at, speakers[at], joined, rng) for _ in range(rounds if part == "train" else 1)]
        found[part] = np.concatenate(dealt)
    return found


def _fitting(sequences: np.ndarray, lengths: np.ndarray, samples: int, part: str, count: int) -> tuple[np.ndarray, str]:
    """The sequences that are no longer than `samples`, and a note that says what was made."""
    whole = np.where(sequences >= 0, lengths[sequences], 0).sum(axis=1)
    fits, longest = whole <= samples, int(whole.max(initial=0))
    if not fits.any():
        raise DataError(
            f"joined: {part} has {count} recordings, and no sequence of them that is short enough; give more recordings, fewer of them "
            "for a sequence, or more seconds"
        )
    note = f"derived: the {count:,} recordings of {part} were joined into {fits.sum():,} sequences"
    more = f"; {(~fits).sum():,} more would be longer than the {samples:,} samples that there are (up to {longest:,}), and were left out"
    return sequences[fits], note + more * (not fits.all())


def _in_sequence(rows: Rows, sequences: np.ndarray, read: Callable) -> Rows:
    """Recordings that follow each other, as one example; y the classes of all."""
    marks = ["\n".join(rows.marks[number] for number in sequence if number >= 0) for sequence in sequences]
    return dataclasses.replace(
        rows,
        x=_joined.rows_of(rows.x, sequences),
        y=np.where(sequences >= 0, rows.y[sequences], _joined.NONE).astype(np.int32),
        read=read,
        marks=np.array(marks, object),
    )


# Which files there are, of which class, and for which part.


def _found(where: Path, pattern: str | None) -> tuple[list[_File], list[str]]:
    """The files with their labels, and notes of those that have none."""
    files, unlabelled, others = [], [], Counter()
    for part, root in _folders.parts_of(where).items():
        for path in _folders.files_below(root):
            suffix = path.suffix.lower()
            if suffix in WAV:
                named = _in_name(path, pattern) if pattern else {"label": _label_of_folder(path, root)}
                label, speaker = (named.get(group) or "" for group in ("label", "speaker"))
                (files if label else unlabelled).append(_File(path, label, part, speaker))
            elif suffix in OTHER_SOUNDS:
                others[suffix] += 1
    if not files:
        raise DataError(_nothing(where, pattern, unlabelled, others))
    notes = [f"{count:,} {suffix} files were left out; WAV files are read" for suffix, count in sorted(others.items())]
    if unlabelled:
        why = "whose names the pattern does not fit" if pattern else "that stand in no class folder, or in one that begins with _"
        names = _folders.some([_folders.within(file.path, where) for file in unlabelled])
        notes.append(f"{len(unlabelled):,} WAV files were left out, {why}: {names}")
    return files, notes


def _in_name(path: Path, pattern: str) -> Mapping[str, str | None]:
    """The pattern's groups by name."""
    fits = re.fullmatch(pattern, path.name)
    return fits.groupdict() if fits else {}


def _label_of_folder(path: Path, root: Path) -> str | None:
    name, *within = path.relative_to(root).parts
    return name if within and not name.startswith("_") else None


def _class_folders(where: Path) -> list[str]:
    """The names of all class folders, those without a file included."""
    return [one.name for root in _folders.parts_of(where).values() for one in _folders.classes_in(root) if not one.name.startswith("_")]


def _nothing(where: Path, pattern: str | None, unlabelled: Sequence[_File], others: Counter) -> str:
    if unlabelled and pattern:
        return (
            f"folder = {where}: pattern = {shown(pattern)} fits none of its {len(unlabelled):,} WAV files, such as "
            f"{shown(unlabelled[0].path.name)}; it has to fit the whole name, its ending included"
        )
    if unlabelled:
        return (
            f"folder = {where}: its {len(unlabelled):,} WAV files stand in no class folders; put those of each class into a folder that "
            r"bears its name, or say where in their names the class stands: pattern = '(?P<label>\d)_\w+\.wav'"
        )
    there = ", ".join(f"{count:,} {suffix}" for suffix, count in sorted(others.items()))
    return f"folder = {where}: holds no .wav files" + (
        f", but {there}; convert them to WAV first" if there else "; name the folder of the sounds"
    )


def _ordered(files: Sequence[_File], test_pattern: str | None) -> list[_File]:
    """The files to learn from first, then those of the other parts, as `_labels.divided` takes them."""
    if test_pattern is not None:
        if any(file.part == "test" for file in files):
            raise OptionError(
                "test_pattern: the data has a folder named test as well, and only one can say what is the test set; leave it out"
            )
        files = [dataclasses.replace(file, part="test") if re.fullmatch(test_pattern, file.path.name) else file for file in files]
        if not any(file.part == "test" for file in files):
            raise DataError(
                f"test_pattern = {shown(test_pattern)}: fits none of {len(files):,} WAV files, such as {shown(files[0].path.name)}; it has "
                "to fit the whole name, its ending included"
            )
        if not any(file.part == "train" for file in files):
            raise DataError(f"test_pattern = {shown(test_pattern)}: fits all {len(files):,} WAV files, and none is left to learn from")
    return sorted(files, key=lambda file: PARTS.index(file.part))


# What is wrong with them.


def readable(files: Sequence[Any], corrupt: float, where: Path) -> tuple[list[Any], list[_wav.Sound], list[str]]:
    """Those that can be read of some that have a `path`, what they hold, and a note that names the others."""
    good, sounds, bad = [], [], []
    for file in files:
        try:
            sounds.append(_wav.inspect(file.path))
            good.append(file)
        except ValueError as error:
            bad.append(f"{_folders.within(file.path, where)} {error}")
        except OSError as error:
            bad.append(f"{_folders.within(file.path, where)} can't be opened ({error.strerror or error})")
    return good, sounds, _folders.left_out(bad, len(files), corrupt, f"folder = {where}", "WAV files")


def _long(sounds: Sequence[_wav.Sound], seconds: float) -> list[str]:
    count = sum(sound.frames > seconds * sound.kind.rate for sound in sounds)
    return [f"{count:,} of {len(sounds):,} sounds are longer than seconds = {seconds:g}; their ends were cut off"] if count else []
