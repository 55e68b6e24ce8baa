"""What a data set is made of, before anything is trained on it: counts, ranges, missing values, leaks, imbalance, and a picture.

Everything goes by in batches once: raw examples are read, prepared as for the model, counted and let go. A hash of each stays, to
find examples that two splits share.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from . import backend, pipelines, preprocessing
from ._contact_sheet import save as save_sheet
from ._contact_sheet import sheet_path
from ._descriptions import Boxes, Copies, Description, Numbers, Values, Words
from ._tallies import BoxSizes, Classes, Lengths, Moments, Targets, hashes, repeated, shared
from .errors import DataError, said
from .pipelines import Rows, Stream
from .types import Call, Data

__all__ = ["Boxes", "Copies", "Description", "Numbers", "Values", "Words", "describe", "save_sheet", "sheet_path"]

SPLITS = ("train", "validation", "test")
IMBALANCED = 10  # times as many examples of a class as of another: above, accuracy says little of the rare one, and it is warned
_LISTED = 3  # numbers of a step's statistics that are shown


def describe(data: Data) -> Description:
    """Reads all examples of a data set once, and says what they are; print it, or look at its fields. Nothing is changed, and of what
    is read only hashes are kept.

    >>> print(tfopt.describe(tfopt.datasets.digits()))
    digits: classification, 10 classes
    ...

    Raises:
      DataError: `data` is none, or an example can't be read.
    """
    pipelines.check_data(data)
    seen = {split: _Seen(data, split) for split in SPLITS}
    counts = {split: one.classes.counts for split, one in seen.items()} if data.classes else {}
    classes = {name: {split: int(of[at]) for split, of in counts.items()} for at, name in enumerate(data.classes)}
    copies = _copies(seen)
    found = Description(
        name=data.name,
        task=data.task,
        examples={split: one.examples for split, one in seen.items()},
        classes=classes,
        imbalance=_imbalance([of["train"] for of in classes.values()]),
        values=tuple(itertools.chain.from_iterable(one.values() for one in seen.values())),
        copies=copies,
        target=tuple(one.target.numbers(split) for split, one in seen.items() if one.target),
        words=tuple(itertools.chain.from_iterable(one.words() for one in seen.values())),
        boxes=tuple(boxes for split, one in seen.items() if one.boxes and (boxes := one.boxes.boxes(split))),
        steps=tuple(map(_step, data.steps)),
        notes=data.notes,
        warnings=(),
        data=data,
    )
    outside = {split: one.classes.outside for split, one in seen.items() if one.classes}
    return dataclasses.replace(found, warnings=tuple(_warnings(found, outside)))


class _Seen:
    """What is counted of a split."""

    def __init__(self, data: Data, split: str):
        self.data, self.split, self.examples = data, split, 0
        self.held, steps = pipelines.behind(getattr(data, split))
        self.steps = preprocessing.preparations(steps)
        self.moments: dict[tuple[str, str], Moments] = {}  # by input and stage
        self.shapes: dict[tuple[str, str], tuple[tuple[int, ...], str]] = {}  # and dtype
        self.lengths: dict[str, Lengths] = {}
        self.classes = Classes(data.num_classes, data.task == "multi_label") if data.classes else None
        self.target = Targets() if data.task == "regression" else None
        self.boxes = BoxSizes(_image_size(self.held)) if data.task == "detection" else None
        parts = [np.empty(0, np.uint64)]
        for raw, prepared, y in _batches(data, self.held, self.steps):
            parts.append(self._hashes(raw))
            self.examples += len(parts[-1])
            self._add("raw", raw)
            if self.steps:
                self._add("prepared", prepared)
            for tally in filter(None, (self.classes, self.target, self.boxes)):
                tally.add(y)
        self.hashes = np.concatenate(parts)

    def _hashes(self, raw: Any) -> np.ndarray:
        """Of a batch. Unknown words are all alike, so texts that hold one are taken for different from all others."""
        found = hashes(raw)
        unlike = np.zeros(len(found), bool)
        for name, one in (raw if isinstance(raw, Mapping) else {"": raw}).items():
            if self._is_text(name, one):
                unlike |= (one == self._facts(name).get("unknown")).any(axis=1)
        at = np.arange(self.examples, self.examples + len(found))
        return np.where(unlike, hashes({"at": at, "split": np.full(len(at), SPLITS.index(self.split))}), found)

    def _add(self, stage: str, x: Any) -> None:
        for name, one in (x if isinstance(x, Mapping) else {"": x}).items():
            columns = self._columns(name, stage)
            self.moments.setdefault((name, stage), Moments(len(columns))).add(one)
            self.shapes[name, stage] = one.shape[1:], one.dtype.name
            if stage == "raw" and self._is_text(name, one):
                self.lengths.setdefault(name, Lengths(one.shape[1], self._facts(name))).add(one)

    def _facts(self, name: str) -> Mapping[str, Any]:
        facts = self.data.source.get(name, {}) if name else self.data.source
        return facts if isinstance(facts, Mapping) else {}

    def _is_text(self, name: str, raw: np.ndarray) -> bool:
        return "vocabulary" in self._facts(name) and raw.ndim == 2 and raw.dtype.kind in "iu"

    def _columns(self, name: str, stage: str) -> Sequence[str]:
        """A table's columns have each a range of their own; all other values have one together."""
        facts = self._facts(name)
        columns = [column["name"] for column in facts["columns"]] if facts.get("kind") == "table" and stage == "raw" else []
        return columns if columns and self.held.x_spec.shape.as_list() == [len(columns)] else [""]

    def values(self) -> list[Values]:
        found = []
        for (name, stage), moments in self.moments.items():
            shape, dtype = self.shapes[name, stage]
            of = {"split": self.split, "input": name, "stage": stage, "shape": tuple(map(int, shape)), "dtype": dtype}
            found += moments.values(self._columns(name, stage), **of)
        return found

    def words(self) -> list[Words]:
        found = [lengths.words(split=self.split, input=name) for name, lengths in self.lengths.items()]
        return [one for one in found if one]

    def name_of(self, number: int) -> str:
        """An example's: its file's path where it has one, else its place."""
        file = self.held.file_of(number) if isinstance(self.held, Rows) else None
        return file or f"{self.split}[{number}]"


def _image_size(held: Rows | Stream) -> tuple[int, int] | None:
    spec = held.x_spec
    sizes = () if isinstance(spec, Mapping) else spec.shape[:2]
    return tuple(sizes) if len(sizes) == 2 and all(sizes) else None


def _batches(data: Data, held: Rows | Stream, steps: Sequence[Call]) -> Iterator[tuple[Any, Any, Any]]:
    """All raw examples in their order, prepared ones, and labels, as numpy arrays; what only memory would keep is kept nowhere."""
    if not len(held):
        return
    if isinstance(held, Rows) and held.cache == "memory" and held.read is not None:
        held = dataclasses.replace(held, cache="none")
    raw = pipelines.dataset_of(held)
    batches = pipelines.batches(raw, pipelines.at_once(pipelines.nested(lambda one: tuple(one.shape), held.x_spec), data.input_shape))
    try:
        with pipelines.failures_named(raw):
            yield from batches.map(lambda x, y: (x, preprocessing.applied(x, y, steps)[0], y)).as_numpy_iterator()
    except backend.tensorflow().errors.OpError as error:
        raise DataError(f"{data.name}: an example can't be read or prepared ({said(error)}); repair it or leave it out") from error


def _copies(seen: Mapping[str, _Seen]) -> tuple[Copies, ...]:
    found = []
    for one, of in [("train", "train"), ("validation", "train"), ("test", "train"), ("test", "validation")]:
        count, pairs = repeated(seen[one].hashes) if one == of else shared(seen[one].hashes, seen[of].hashes)
        if count:
            found.append(Copies(one, of, count, tuple((seen[one].name_of(at), seen[of].name_of(other)) for at, other in pairs)))
    return tuple(found)


def _imbalance(counts: Sequence[int]) -> float | None:
    return max(counts) / min(counts) if counts and min(counts) else None


# What should be looked at


def _warnings(it: Description, outside: Mapping[str, int]) -> Iterator[str]:
    for split, count in it.examples.items():
        if not count:
            yield f"{split} holds no examples"
    for copies in it.copies:
        if copies.split != copies.of:
            one, other = copies.pairs[0]
            why = "; windows of a flat or periodic series may be alike by nature" if it.data.source.get("kind") == "series" else ""
            yield (
                f"leak: {copies.count:,} of {it.examples[copies.split]:,} {copies.split} examples are in {copies.of}, too, byte for byte, "
                f"such as {one} = {other}; remove them from one of the two, or the score is that of a model that has seen them{why}"
            )
    yield from _about_classes(it, outside)
    stages = {(one.split, one.input): one.stage for one in it.values}  # the last one: what a model gets
    for one in it.values:
        where = f"{one.split}{f', input {one.input!r}' if one.input else ''}"
        if one.stage != stages[one.split, one.input]:
            continue
        if one.missing:
            yield f"{where}: the model would get {one.missing:,} missing values (NaN); add a step fill_missing, or leave them out"
        if one.infinite:
            yield f"{where}: the model would get {one.infinite:,} infinite values; repair them or leave them out"
    for one in it.target:
        if one.missing:
            yield f"{one.split}: {one.missing:,} targets are missing (NaN) or infinite; leave these examples out"
    for one in it.boxes:
        if one.outside:
            yield f"{one.split}: {one.outside:,} of {one.count:,} boxes reach out of their image or have no area; repair or remove them"


def _about_classes(it: Description, outside: Mapping[str, int]) -> Iterator[str]:
    what = it.counted
    of_text = it.task in ("sequence_to_sequence", "generation")  # whose symbols are rare or frequent by nature
    for split, count in outside.items():
        if count:
            yield f"{split}: {count:,} labels are the index of no class (should be 0 to {len(it.classes) - 1})"
    for split, examples in it.examples.items():
        absent = [name for name, of in it.classes.items() if not of[split]]
        if (
            examples and absent and not of_text and (it.task != "anomaly_detection" or split == "test")
        ):  # which is trained on normal examples only
            more = f" and {len(absent) - 5} more" if len(absent) > 5 else ""
            yield f"{split}: no {what} of {', '.join(map(repr, absent[:5]))}{more}"
    if it.imbalance is not None and it.imbalance > IMBALANCED and not of_text:
        most, least = (by(it.classes, key=lambda name: it.classes[name]["train"]) for by in (max, min))
        yield (
            f"imbalance: train has {it.imbalance:.1f} times as many {what} of {most!r} as of {least!r} (warned above {IMBALANCED}); "
            "a good average may hide that the rare class is never found"
        )


# The steps in words


def _step(step: Call) -> str:
    """
    >>> _step(Call("z_score", {"mean": [0.5, 1.25, 0.1, 3.0]}))
    'z_score(mean=[0.5, 1.25, 0.1, ... 4 numbers])'
    """
    options = ", ".join(f"{key}={_abbreviated(value)}" for key, value in step.options.items())
    return f"{step.use}({options}){' on training examples only' if preprocessing.is_augmentation(step) else ''}"


def _abbreviated(value: Any) -> str:
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if not isinstance(value, list | tuple):
        return f"{value:.4g}" if isinstance(value, float) else repr(value)
    if value and isinstance(value[0], list | tuple):
        return f"[{_abbreviated(value[0])}, ... {len(value)} lists]" if len(value) > 1 else f"[{_abbreviated(value[0])}]"
    shown = ", ".join(map(_abbreviated, value[:_LISTED]))
    what = "numbers" if all(isinstance(one, int | float) for one in value) else "values"
    return f"[{shown}, ... {len(value)} {what}]" if len(value) > _LISTED else f"[{shown}]"
