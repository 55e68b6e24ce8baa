"""A picture of training examples: the raw ones in its first row, below it what training makes of them, another seed in each row."""

from __future__ import annotations

import dataclasses
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from . import _pictures, _sheet_cells, backend, pipelines, preprocessing
from .errors import ArtifactError
from .pipelines import Rows, Stream
from .types import Data

SEEDS = (1, 2, 3, 4)  # a row of augmented examples each
_MARK = "tfopt contact sheet"
_LOOKED_AT = 64  # examples of a stream, and 10,000 of rows, among which the shown ones are chosen
_INK = 8  # points, of all texts


def sheet_path(data: Data) -> Path:
    """Where the sheet goes if nobody says: runs/NAME-data.png, beside the runs' folders."""
    return Path("runs") / f"{re.sub(r'[^A-Za-z0-9._-]+', '_', data.name)[:100]}-data.png"


def save(data: Data, path: str | Path) -> Path:
    """Draws the sheet of a data set into a PNG file, and returns its path. An older sheet there is replaced, any other file is not.

    Raises:
      ArtifactError: `path` does not end in .png, can't be written, or another file stands there.
    """
    pipelines.check_data(data)
    return _pictures.save(path, lambda _: drawn(data), mark=_MARK)


@dataclass(frozen=True)
class _Row:
    """A row of the sheet: what it is called, and its examples as arrays (n, ...)."""

    name: str
    x: Any
    y: Any


def drawn(data: Data) -> bytes:
    """The sheet as a PNG file. The same data gives the same bytes."""
    held, steps = pipelines.behind(data.train)
    if not len(held):
        raise ArtifactError(f"{data.name}: has no training examples to draw")
    first = held.x_spec if isinstance(held.x_spec, Mapping) else {"": held.x_spec}
    kinds = {name: _sheet_cells.kind_of(tuple(one.shape), one.dtype.name, _facts(data, name)) for name, one in first.items()}
    rows = list(_rows(data, *_chosen(held, min(kind.columns for kind in kinds.values())), steps))
    blocks = [(name, row) for name in kinds for row in rows]
    height = max(kind.height for kind in kinds.values()) + 0.3  # inches: the example and its title
    width, columns = max(kind.width for kind in kinds.values()) + 0.15, len(next(iter(_inputs(rows[0].x).values())))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # a script that the font lacks shows as boxes; the picture says enough
        figure, grid = _grid(len(blocks), columns, width, height)
        for axes, (name, row) in zip(grid, blocks, strict=True):
            _draw_row(axes, data, name, row, rows[0], steps)
        _head(figure, data, rows)
        return _pictures.encoded(figure, "png", mark=_MARK, title=data.name)


def _facts(data: Data, name: str) -> Mapping[str, Any]:
    facts = data.source.get(name, {}) if name else data.source
    return facts if isinstance(facts, Mapping) else {}


def _inputs(x: Any) -> Mapping[str, np.ndarray]:
    return x if isinstance(x, Mapping) else {"": x}


# Which examples


def _chosen(held: Rows | Stream, count: int) -> tuple[Any, Any]:
    """Raw examples (x, y), as many of one class as of another where y says classes; the same ones each time."""
    unkept = dataclasses.replace(held, cache="none")
    if isinstance(unkept, Stream):
        x, y = pipelines.to_arrays(pipelines.dataset_of(unkept).take(_LOOKED_AT))
        numbers = _spread(y, count)
        return pipelines.nested(lambda one: one[numbers], x), pipelines.nested(lambda one: one[numbers], y)
    return pipelines.to_arrays(pipelines.dataset_of(unkept.take(_spread(unkept.y, count))))


def _spread(y: Any, count: int) -> np.ndarray:
    y = y["labels"] if isinstance(y, Mapping) else y
    order = np.random.default_rng(0).permutation(len(y))[:10_000]
    if y.ndim > 1 or y.dtype.kind not in "iu":
        return order[:count]
    seen: Counter[int] = Counter()
    turns = []  # of each example the how-manieth of its class it is
    for label in y[order].tolist():
        turns.append(seen[label])
        seen[label] += 1
    chosen = order[np.lexsort((y[order], turns))][:count]
    return chosen[np.argsort(y[chosen], kind="stable")]


def _rows(data: Data, x: Any, y: Any, steps: Any) -> Iterator[_Row]:
    tf = backend.tensorflow()
    yield _Row("raw", x, y)
    x, y = pipelines.nested(tf.constant, x), pipelines.nested(tf.constant, y)
    if data.augmentation is None and not any(map(preprocessing.is_augmentation, steps)):
        if steps:
            yield _Row("prepared", *_arrays(*preprocessing.applied(x, y, steps)))
        return
    for number in SEEDS:
        seed = tf.constant([number, 0], tf.int32)
        made = preprocessing.applied(x, y, steps, seed)
        if data.augmentation is not None:
            made = data.augmentation(*made, tf.random.experimental.stateless_fold_in(seed, len(steps)))
        yield _Row(f"seed {number}", *_arrays(*made))


def _arrays(*values: Any) -> list[Any]:
    return [pipelines.nested(lambda one: one.numpy() if hasattr(one, "numpy") else np.asarray(one), value) for value in values]


# How they are drawn


def _grid(rows: int, columns: int, width: float, height: float) -> tuple[Any, Any]:
    """A figure and its axes [rows, columns], in cells of this size in inches."""
    wide, high = columns * width + 0.35, rows * height + 0.3
    figure = _pictures.figure(wide, high)
    places = {"left": 0.3 / wide, "right": 1 - 0.05 / wide, "bottom": 0.08 / high, "top": 1 - 0.5 / high}
    return figure, figure.subplots(
        rows, columns, squeeze=False, gridspec_kw={**places, "wspace": 0.15 / (width - 0.15), "hspace": 0.3 / (height - 0.3)}
    )


def _draw_row(grid: Any, data: Data, name: str, row: _Row, raw: _Row, steps: Any) -> None:
    values = _inputs(row.x)[name]
    facts = _facts(data, name)
    kind = _sheet_cells.kind_of(values.shape[1:], values.dtype.name, facts)
    if row.name.startswith("seed"):  # as bright as they would be without augmentation, so that it shows what that does to brightness
        plain = preprocessing.applied(*(pipelines.nested(backend.tensorflow().constant, one) for one in (raw.x, raw.y)), steps)[0]
        reference = _inputs(_arrays(plain)[0])[name]
    else:
        reference = values
    limits = _sheet_cells.limits(reference)
    for at, axes in enumerate(grid):
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_linewidth(0.3)
        kind.draw(axes, values[at], facts, limits)
        y = {key: one[at] for key, one in row.y.items()} if isinstance(row.y, Mapping) else row.y[at]
        if data.task == "detection" and kind.picture:
            _sheet_cells.boxes(axes, y, values.shape[1:3], len(data.classes))
        if data.task == "segmentation" and kind.picture:
            _sheet_cells.mask(axes, y)
        axes.set_title(_title(data, y), fontsize=_INK, pad=2, parse_math=False)
    grid[0].set_ylabel(f"{name} {row.name}".strip(), fontsize=_INK, labelpad=2, parse_math=False)


def _title(data: Data, y: Any) -> str:
    """An example's label in words.

    >>> _title(digits, np.int32(3))
    '3'
    """
    if isinstance(y, Mapping):
        return _short(
            ", ".join(f"{_class(data, label)} {count}" for label, count in sorted(Counter(y["labels"].tolist()).items()) if label >= 0)
        )
    if data.task == "segmentation":
        return _short(", ".join(_class(data, at) for at in np.unique(y) if at >= 0))
    if data.task == "regression":
        return ", ".join(f"{one:.4g}" for one in np.ravel(y)[:3])
    if data.task == "multi_label":
        return _short(", ".join(_class(data, at) for at in np.flatnonzero(y)) or "none")
    if np.ndim(y) and y.dtype.kind == "i":  # a sequence
        names = [_class(data, label) for label in y if label >= 0]
        return _short(("" if all(len(name) == 1 for name in names) else " ").join(names))
    if np.ndim(y):  # shares of the classes, as mixing makes them
        shares = [(float(y[at]), at) for at in np.argsort(-y)[:2] if y[at] > 0.01]
        return _short(
            _class(data, shares[0][1]) if len(shares) == 1 else " + ".join(f"{share:.2f} {_class(data, at)}" for share, at in shares)
        )
    return _short(_class(data, y))


def _class(data: Data, index: Any) -> str:
    return " ".join(data.classes[int(index)].split()) if 0 <= index < len(data.classes) else str(index)


def _short(text: str) -> str:
    return text if len(text) <= 26 else f"{text[:24]}..."


def _head(figure: Any, data: Data, rows: list[_Row]) -> None:
    below = "augmented with different seeds" if rows[-1].name.startswith("seed") else "prepared; nothing augments them" if rows[1:] else ""
    figure.suptitle(
        f"{_short(data.name)}: training examples, raw" + (f" and {below}" if below else ""),
        fontsize=_INK + 2,
        y=0.995,
        va="top",
        parse_math=False,
    )
    if data.task in ("detection", "segmentation"):
        _sheet_cells.legend(figure, [_short(name) for name in data.classes], _INK)
