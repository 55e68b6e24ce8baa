"""What `describe` finds, as tables and sentences for a terminal or a pipe."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from ._descriptions import Copies, Description, Values

_WIDTH = 400  # columns: no table of ours wraps; a terminal that has fewer does that itself
_CLASSES = 20  # of more classes than this, half as many of the most and of the least frequent ones are shown
_PAIRS = 3  # copies that are named


def page(it: Description) -> str:
    """All of it."""
    sort = f", {len(it.classes)} classes" if it.classes else ""
    head = [f"{it.name}: {it.task}{sort}", *(f"WARNING: {sentence}" for sentence in it.warnings)]
    blocks = [head, _counts(it), *_targets(it), *_boxes(it), *_words(it), _values(it), *_columns(it), _copies(it), _steps(it), _notes(it)]
    return "\n\n".join("\n".join(line.rstrip() for line in block) for block in blocks if block)


def _counts(it: Description) -> list[str]:
    rows = [["all", *(f"{count:,}" for count in it.examples.values())]]
    if it.boxes:
        rows.append(["all boxes", *(f"{one.count:,}" for one in it.boxes)])
    if it.counted == "symbols":
        rows.append(["all symbols", *(f"{sum(of[split] for of in it.classes.values()):,}" for split in it.examples)])
    names = list(it.classes)
    if len(names) > _CLASSES:
        names.sort(key=lambda name: -it.classes[name]["train"])
        names = [*names[: _CLASSES // 2], None, *names[-_CLASSES // 2 :]]
    for name in names:
        if name is None:
            rows.append([f"... {len(it.classes) - _CLASSES} more", *[""] * len(it.examples)])
        else:
            rows.append([f"  {_one_line(name)}", *(_count(it, split, count) for split, count in it.classes[name].items())])
    lines = _table(["examples", *it.examples], rows, "lrrr")
    if it.imbalance is not None:
        lines.append(f"The most frequent class has {it.imbalance:.2f} times the {it.counted} of the least frequent one, in train.")
    return lines


def _count(it: Description, split: str, count: int) -> str:
    """Of a class: how many examples or boxes, or which share of the pixels that count."""
    if it.task != "segmentation":
        return f"{count:,}"
    return f"{100 * count / max(1, sum(of[split] for of in it.classes.values())):.2f} %"


def _targets(it: Description) -> list[list[str]]:
    head = ["target", "min", "25 %", "median", "75 %", "max", "mean", "std", "missing"]
    rows = [
        [one.split, *map(_number, (one.low, one.quarter, one.median, one.three_quarters, one.high, one.mean, one.std)), f"{one.missing:,}"]
        for one in it.target
    ]
    return [_table(head, rows, "lrrrrrrrr")] if rows else []


def _boxes(it: Description) -> list[list[str]]:
    if not it.boxes:
        return []
    unit = it.boxes[0].unit
    head = ["boxes", "an image", "images without", f"width in {unit}", f"height in {unit}", "outside"]
    rows = [
        [
            one.split,
            f"{one.fewest} to {one.most}, mean {one.mean:.3g}",
            f"{one.without:,}",
            _sizes(one.width),
            _sizes(one.height),
            str(one.outside),
        ]
        for one in it.boxes
    ]
    return [_table(head, rows, "lrrrrr")]


def _sizes(sizes: tuple[float, float, float] | None) -> str:
    return "-" if sizes is None else "{} to {}, median {}".format(*(f"{sizes[at]:.3g}" for at in (0, 2, 1)))


def _words(it: Description) -> list[list[str]]:
    if not it.words:
        return []
    head = ["words", "input", "a text", "texts that fill all places", "unknown"]
    rows = [
        [
            one.split,
            one.input,
            f"{one.shortest} to {one.longest}, median {one.median}",
            f"{100 * one.full:.1f} %",
            f"{100 * one.unknown:.1f} %",
        ]
        for one in it.words
    ]
    known = {one.input: one.vocabulary for one in it.words}
    sentences = [f"The vocabulary{f' of {name!r}' if name else ''} has {count:,} words." for name, count in known.items()]
    return [[*_table(*_without_empty(head, rows, "llrrr")), *sentences]]


_RANGE = ["shape", "dtype", "min", "max", "mean", "std", "missing"]


def _values(it: Description) -> list[str]:
    rows = [[one.split, one.input, one.stage, *_range(one)] for one in _by_input(it) if not one.column]
    return _table(*_without_empty(["values", "input", "stage", *_RANGE], rows, "lllllrrrrr")) if rows else []


def _by_input(it: Description) -> list[Values]:
    names = list(dict.fromkeys(one.input for one in it.values))
    stages = list(dict.fromkeys(one.stage for one in it.values))
    return sorted(it.values, key=lambda one: (names.index(one.input), stages.index(one.stage)))


def _columns(it: Description) -> list[list[str]]:
    columns = [one for one in it.values if one.column]
    if not columns:
        return []
    missing = {(one.column, one.split): one.missing for one in columns}
    rows = [
        [
            _one_line(one.column),
            *map(_number, (one.low, one.high, one.mean, one.std)),
            *(f"{missing.get((one.column, split), 0):,}" for split in it.examples),
        ]
        for one in columns
        if one.split == columns[0].split
    ]
    head = [f"raw columns of {columns[0].split}", "min", "max", "mean", "std", *(f"missing in {split}" for split in it.examples)]
    return [_table(head, rows, "lrrrrrrr")]


def _range(one: Values) -> list[str]:
    shape = "x".join(map(str, one.shape)) or "scalar"
    return [shape, one.dtype, *map(_number, (one.low, one.high, one.mean, one.std)), f"{one.missing:,}"]


def _copies(it: Description) -> list[str]:
    lines = []
    for one in it.copies:
        where = f"in {one.split}, repeated" if one.split == one.of else f"of {one.split}, also in {one.of}"
        lines.append(f"copies {where}: {one.count:,} of {it.examples[one.split]:,} ({_pairs(one)})")
    between = any(one.split != one.of for one in it.copies)
    return lines if between else [*lines, "leaks: none, no two splits share an example"]


def _pairs(it: Copies) -> str:
    shown = [f"{_one_line(one)} = {_one_line(other)}" for one, other in it.pairs[:_PAIRS]]
    return ", ".join([*shown, "..."] if it.count > _PAIRS else shown)


def _steps(it: Description) -> list[str]:
    steps = [f"  {number}. {step}" for number, step in enumerate(it.steps, 1)]
    own = ["  then your own augmentation, on training examples only"] if it.data.augmentation is not None else []
    return ["preprocessing", *(steps + own or ["  none"])]


def _notes(it: Description) -> list[str]:
    return ["notes", *(f"  {note}" for note in it.notes)] if it.notes else []


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _without_empty(head: Sequence[str], rows: Sequence[Sequence[str]], sides: str) -> tuple[list[str], list[list[str]], str]:
    """A table without the columns that hold nothing."""
    kept = [at for at in range(len(head)) if any(row[at] for row in rows)]
    return [head[at] for at in kept], [[row[at] for at in kept] for row in rows], "".join(sides[at] for at in kept)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], sides: str) -> list[str]:
    """A table without lines; `sides` says of each column whether it stands left or right."""
    table = Table.grid(padding=(0, 2, 0, 0))
    for side in sides:
        table.add_column(justify="right" if side == "r" else "left", no_wrap=True)
    for row in [head, *rows]:
        table.add_row(*map(Text, row))
    console = Console(file=io.StringIO(), width=_WIDTH, color_system=None, highlight=False, force_jupyter=False)
    console.print(table)
    return console.file.getvalue().splitlines()
