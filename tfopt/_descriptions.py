"""What `describe` finds: it prints as tables, and its fields are the keys of `tfopt data --json`."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import _contact_sheet, _describe_text, tasks
from .types import Data


@dataclass(frozen=True)
class Values:
    """The numbers that an input is made of.

    Attributes:
      split: "train", "validation" or "test".
      input: the input's name, where there are several; "" for an only one.
      stage: "raw", before the first step of preprocessing, or "prepared", as the model takes it, without augmentation; where no
        step prepares anything, "raw" only.
      column: the column of a table that this is about; "" for all values together.
      shape, dtype: of one example.
      low, high, mean, std: of all finite values; None where there are none.
      missing: how many values are NaN; infinite: how many are infinite.
    """

    split: str
    input: str
    stage: str
    column: str
    shape: tuple[int, ...]
    dtype: str
    low: float | None
    high: float | None
    mean: float | None
    std: float | None
    missing: int
    infinite: int


@dataclass(frozen=True)
class Copies:
    """Examples whose raw bytes are those of another example. Texts with an unknown word are not counted: unknown words are all alike.

    Attributes:
      split: whose copies these are; of: where the others are, the same split or another.
      count: how many examples of `split` are copies.
      pairs: the first few, each the name of the copy and of the other: a file's path, or like "test[3]", counted from 0.
    """

    split: str
    of: str
    count: int
    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Numbers:
    """How the target of a regression is distributed in a split; None where there are no finite values.

    Attributes:
      low, quarter, median, three_quarters, high: a quarter of the values lies between each and the next.
      missing: how many are NaN or infinite.
    """

    split: str
    low: float | None
    quarter: float | None
    median: float | None
    three_quarters: float | None
    high: float | None
    mean: float | None
    std: float | None
    missing: int


@dataclass(frozen=True)
class Words:
    """The texts of a split.

    Attributes:
      input: as of `Values`.
      vocabulary: how many words have an index of their own.
      shortest, median, longest: words a text, padding left out.
      full: the share of texts that fill all places, most of which have been cut off.
      unknown: the share of words that are not in the vocabulary.
    """

    split: str
    input: str
    vocabulary: int
    shortest: int
    median: int
    longest: int
    full: float
    unknown: float


@dataclass(frozen=True)
class Boxes:
    """The boxes of a split.

    Attributes:
      count: how many; fewest, mean, most: an image; without: images that have none.
      unit: of the sizes: "pixels" of the raw image, or "shares" of it.
      width, height: the smallest, the median and the largest.
      outside: boxes that reach out of the image, or whose end lies before their start.
    """

    split: str
    count: int
    fewest: int
    mean: float
    most: int
    without: int
    unit: str
    width: tuple[float, float, float] | None
    height: tuple[float, float, float] | None
    outside: int


@dataclass(frozen=True)
class Description:
    """What a data set holds. Printed, it is a page of tables.

    Attributes:
      name, task: as of `Data`.
      examples: split -> how many.
      classes: class -> split -> how many examples are of it; of a detection set boxes, of masks pixels, of a set of sequences symbols.
      imbalance: how many times as many of these the most frequent class has as the least frequent one, in train; None without
        classes, or where one has none.
      values, copies, target, words, boxes: what the classes of these names say; where it does not apply, empty. `copies` has an entry
        for each two splits that share examples, and one for train and itself.
      steps: the preprocessing, long statistics abbreviated.
      notes: as of `Data`.
      warnings: what should be looked at, a sentence each.
      data: what is described.
    """

    name: str
    task: str
    examples: dict[str, int]
    classes: dict[str, dict[str, int]]
    imbalance: float | None
    values: tuple[Values, ...]
    copies: tuple[Copies, ...]
    target: tuple[Numbers, ...]
    words: tuple[Words, ...]
    boxes: tuple[Boxes, ...]
    steps: tuple[str, ...]
    notes: tuple[str, ...]
    warnings: tuple[str, ...]
    data: Data = field(repr=False, compare=False)

    @property
    def counted(self) -> str:
        """What the numbers of `classes` are of."""
        return {"detection": "boxes", "segmentation": "pixels", **dict.fromkeys(tasks.SEQUENCES, "symbols")}.get(self.task, "examples")

    def as_dict(self) -> dict[str, Any]:
        """All of it as plain dicts, lists, strings and numbers: what `tfopt data --json` prints."""
        return {one.name: _plain(getattr(self, one.name)) for one in dataclasses.fields(self) if one.name != "data"}

    def save_sheet(self, path: str | Path) -> Path:
        """Draws training examples, as they are and augmented, into a PNG file, and returns its path.

        Raises:
          ArtifactError: `path` does not end in .png, can't be written, or another file stands there; an older sheet is replaced.
        """
        return _contact_sheet.save(self.data, path)

    def __str__(self) -> str:
        return _describe_text.page(self)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return {one.name: _plain(getattr(value, one.name)) for one in dataclasses.fields(value)}
    return [_plain(one) for one in value] if isinstance(value, tuple | list) else value
