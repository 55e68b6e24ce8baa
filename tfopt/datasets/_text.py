"""Texts with a label: a line each in one file, or a file each in class folders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from .. import options
from ..errors import DataError, OptionError, shown
from ..preprocessing import text as words_of
from ..types import Data
from . import _building, _files, _folders, _labels, _tables, _unpacking
from ._building import Count, Preprocess, Seed, Share

Words = Annotated[int, Field(ge=3)]


@dataclass(frozen=True)
class _Texts:
    """Texts and their labels from one file or folder, and where each stands."""

    source: str
    texts: list[str]
    labels: list[str]
    places: list[tuple[Path, int]]

    def place(self, number: int) -> str:
        """Where a text stands, as the begin of a sentence."""
        path, line = self.places[number]
        return f"{path}, line {line}"


NONE = _Texts("", [], [], [])


@options.checked
def text_file(
    *,
    file: str | Path,
    test_file: str | Path | None = None,
    validation_file: str | Path | None = None,
    separator: str = " ",
    label_last: bool = False,
    encoding: str = "utf-8",
    words: Words = 10_000,
    length: Count = 64,
    name: str | None = None,
    validation: Share = 0.15,
    test: Share = 0.2,
    seed: Seed = 0,
    calibration: Count = 200,
    preprocess: Preprocess = (),
) -> Data:
    """Texts with a label, one a line: `label words ...`; with `separator = "\\t"` the label ends at the first tab; with `label_last` the
    line is `words ... label`.

    x: (length,) int32, the index of each word in the vocabulary, which is made of the training texts: their most frequent `words`, with
    0 to fill up and 1 for a word that is not among them. `source` holds it, and how a text is cut into words. Parts that no file
    is given for are drawn from `file`, stratified, by `seed`.

    >>> tfopt.datasets.text_file(file="TREC.train.all", test_file="TREC.test.all", encoding="latin-1", length=40).input_shape
    (40,)

    Raises:
      DataError: a file is missing, empty or not text in `encoding`, a line has no label, or a class too few examples.
    """
    if not separator or "\n" in separator:
        raise OptionError(f"separator = {separator!r}: should be what stands between label and text, such as ' ' or '\\t'")
    given = {"train": file, "validation": validation_file, "test": test_file}
    found = {part: NONE if path is None else _from_lines(Path(path), separator, label_last, encoding) for part, path in given.items()}
    shares = {"validation": validation, "test": test}
    return _built(name or Path(file).stem, found, words, length, shares, seed=seed, calibration=calibration, preprocess=preprocess)


@options.checked
def text_folder(
    *,
    folder: str | Path,
    encoding: str = "utf-8",
    words: Words = 10_000,
    length: Count = 256,
    corrupt: _folders.Tolerated = 0.0,
    name: str | None = None,
    validation: Share = 0.15,
    test: Share = 0.2,
    seed: Seed = 0,
    calibration: Count = 200,
    preprocess: Preprocess = (),
) -> Data:
    """Texts in .txt files, in one folder for each class: `folder/CLASS/*.txt`, or `folder/train/CLASS/*.txt` and `folder/test/CLASS/*.txt`
    (and `val`, `valid` or `validation`); an archive of such a folder is unpacked.

    corrupt: up to this share of the files may be empty, unreadable or not text in `encoding`; they are left out and named in the data's
      notes. Everything else as in `text_file`.

    >>> tfopt.datasets.text_folder(folder="aclImdb", length=400).classes
    ('neg', 'pos')

    Raises:
      DataError: there are no class folders or no texts in them, a file is not text in `encoding`, or a class has too few examples.
    """
    where = _files.existing_folder(_unpacking.folder_of(folder))
    given = _folders.parts_of(where)
    found, bad = {}, []
    for part in _labels.PARTS:
        found[part], wrong = _from_folder(given[part], encoding) if part in given else (NONE, [])
        bad += wrong
    total = len(bad) + sum(len(of.texts) for of in found.values())
    if bad and not corrupt:
        raise DataError(f"{bad[0]}; or allow corrupt = 0.05 of the files to be left out")
    notes = _folders.left_out(bad, total, corrupt, f"folder = {where}", "texts")
    shares, known = {"validation": validation, "test": test}, {"seed": seed, "calibration": calibration, "preprocess": preprocess}
    return _built(name or where.name, found, words, length, shares, notes, **known)


def _from_lines(path: Path, separator: str, label_last: bool, encoding: str) -> _Texts:
    texts, labels, places = [], [], []
    for number, line in _tables.lines_of(_tables.text_of(path, encoding)):
        one, found, other = line.strip(" ").rpartition(separator) if label_last else line.strip(" ").partition(separator)
        text, label = (one, other.strip()) if label_last else (other, one.strip())
        if not (found and label and text.strip()):
            form = f"text{separator}label" if label_last else f"label{separator}text"
            raise DataError(f"{path}, line {number}: is {shown(line)}; should be {form!r}; repair the line, or say separator or label_last")
        texts.append(text)
        labels.append(label)
        places.append((path, number))
    return _Texts(str(path), texts, labels, places)


def _from_folder(folder: Path, encoding: str) -> tuple[_Texts, list[str]]:
    """The texts, and what is wrong with those that can't be read."""
    inside = {of_class: _folders.files_below(of_class) for of_class in _folders.classes_in(folder)}
    files = [(of_class.name, file) for of_class, every in inside.items() for file in every if file.suffix.lower() == ".txt"]
    if not files:
        raise DataError(f"{folder}: has no .txt files in class folders; should hold CLASS/*.txt, a folder for each class")
    texts, labels, places, bad = [], [], [], []
    for label, file in files:
        try:
            texts.append(_tables.text_of(file, encoding))
        except DataError as error:
            bad.append(str(error))
            continue
        labels.append(label)
        places.append((file, 1))
    return _Texts(str(folder), texts, labels, places), bad


def _built(
    name: str, found: Mapping[str, _Texts], words: int, length: int, shares: Mapping[str, float], notes: Sequence[str] = (), **given: Any
) -> Data:
    source = found["train"].source
    classes = _labels.names_of(found["train"].labels, source, "give a text of another class, or say separator or label_last")
    y = np.concatenate([_labels.indices(of.labels, classes, of.place) for of in found.values()])
    official = {part: len(found[part].texts) for part in found}
    if not (official["validation"] and official["test"]):
        _labels.check_enough(y[: official["train"]], classes, source, "say separator or label_last if these are no classes")
    numbers = _labels.divided(y, official, **shares, seed=given["seed"], source=source)
    texts = np.array([text for of in found.values() for text in of.texts], object)
    vocabulary = words_of.vocabulary(texts[numbers["train"]], words)
    parts = {part: (words_of.encoded(texts[at], vocabulary, length), y[at]) for part, at in numbers.items()}
    notes = (*notes, *_labels.missing_classes({part: y for part, (_, y) in parts.items()}, classes, source))
    return _building.build(name, parts, classes=classes, source=facts(vocabulary, length), notes=notes, **given)


def facts(vocabulary: Sequence[str], length: int, unit: words_of.Unit = "words") -> dict[str, Any]:
    """How an app makes a raw example of a text, as `Data.source` holds it."""
    return {
        "kind": "text",
        "length": length,
        "lower": unit == "words",
        "normalization": "NFC",
        "pattern": words_of.PATTERN if unit == "words" else words_of.CHARACTER,
        "padding": 0,
        "unknown": 1,
        "vocabulary": list(vocabulary),
    }
