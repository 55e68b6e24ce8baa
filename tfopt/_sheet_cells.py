"""How one example is drawn: pictures, sounds as spectrograms, series as lines, rows of tables as bars, texts in words."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import _pictures

_LINES = 8  # channels of a series that can be told apart as lines; more are drawn as a map
_BARS = 64  # values of a row that can be told apart as bars
_FIELDS = 16  # columns of a table that are shown
_COLOURS = ("#e6194b", "#3cb44b", "#4363d8", "#f58231", "#911eb4", "#42d4f4", "#f032e6", "#bfef45")  # of boxes and masks, by class
_QUIET = 1e-10  # the power below which a spectrogram shows silence: -100 dB

Limits = tuple[float, float]


@dataclass(frozen=True)
class Kind:
    """A way of drawing: `draw(axes, values, facts, limits)`, a cell's size in inches, how many a row, and whether it is a picture."""

    draw: Callable[[Any, np.ndarray, Mapping[str, Any], Limits], None]
    width: float
    height: float
    columns: int
    picture: bool = False


def kind_of(shape: Sequence[int], dtype: str, facts: Mapping[str, Any]) -> Kind:
    """How to draw examples of this shape and dtype from a source with these facts; see `Data.source`."""
    kind = facts.get("kind")
    if kind == "table" and list(shape) == [len(facts["columns"])]:
        return Kind(_fields, 1.7, min(0.14 * (min(len(facts["columns"]), _FIELDS) + 1), 2.9), 8)
    if "vocabulary" in facts and dtype.startswith("int") and len(shape) == 1:
        return Kind(_words, 2.6, 1.1, 5)
    if kind == "sound":
        flat = len(shape) == 1 or (len(shape) == 2 and shape[1] == 1)
        return Kind(_spectrogram if flat else _features, 1.7, 1.1, 8)
    if len(shape) == 3 or (len(shape) == 2 and dtype == "uint8"):
        high, wide = shape[0] or 1, shape[1] or 1
        width = 1.1 if max(high, wide) <= 64 else 1.7 if max(high, wide) <= 400 else 2.9
        return Kind(_picture, width, width * min(max(high / wide, 0.4), 2), {1.1: 8, 1.7: 8}.get(width, 4), picture=True)
    if len(shape) == 2:
        return Kind(_lines if shape[1] <= _LINES else _features, 1.7, 1.1, 8)
    return Kind(_bars if kind != "series" and len(shape) == 1 and shape[0] <= _BARS else _lines, 1.7, 1.1, 8)


def limits(values: np.ndarray) -> Limits:
    """What is drawn darkest and brightest: the range that such values are usually in, where they are in one; else their own."""
    if values.dtype == np.uint8:
        return 0, 255
    if values.dtype.kind not in "fiu" or not np.isfinite(values).any():
        return 0, 1
    low, high = map(float, np.quantile(values[np.isfinite(values)], (0, 1)))
    for usual in ((0, 1), (-1, 1)):
        if usual[0] <= low and high <= usual[1]:
            return usual
    low, high = map(float, np.quantile(values[np.isfinite(values)], (0.01, 0.99)))  # a few values far off don't make all others gray
    return low, high if high > low else low + 1


def _picture(axes: Any, values: np.ndarray, facts: Mapping[str, Any], limits: Limits) -> None:
    low, high = limits
    shown = np.clip((values.astype(np.float32) - low) / (high - low), 0, 1)
    shown = np.nan_to_num(shown)
    if shown.ndim == 3 and shown.shape[2] not in (3, 4):
        shown = shown[:, :, 0]
    style = {"cmap": "gray", "vmin": 0, "vmax": 1} if shown.ndim == 2 else {}
    axes.imshow(shown, interpolation="nearest" if max(shown.shape[:2]) <= 64 else "antialiased", **style)


def _spectrogram(axes: Any, values: np.ndarray, facts: Mapping[str, Any], limits: Limits) -> None:
    """Of a wave: time to the right, frequency upwards, power in dB."""
    wave = np.nan_to_num(values.ravel().astype(np.float64))
    length = max(1, min(256, len(wave) // 4))
    power, _, _ = _pictures.matplotlib("mlab").specgram(wave, NFFT=length, noverlap=length // 2, Fs=facts.get("rate", 2))
    axes.imshow(10 * np.log10(power + _QUIET), origin="lower", aspect="auto", cmap="magma")


def _features(axes: Any, values: np.ndarray, facts: Mapping[str, Any], limits: Limits) -> None:
    """Of (time, features): time to the right, features upwards."""
    axes.imshow(
        np.nan_to_num(values.reshape(len(values), -1)).T, origin="lower", aspect="auto", cmap="magma", vmin=limits[0], vmax=limits[1]
    )


def _lines(axes: Any, values: np.ndarray, facts: Mapping[str, Any], limits: Limits) -> None:
    axes.plot(values.reshape(len(values), -1) if values.ndim else values.reshape(1, 1), linewidth=0.8)
    axes.margins(x=0.01)


def _bars(axes: Any, values: np.ndarray, facts: Mapping[str, Any], limits: Limits) -> None:
    axes.bar(np.arange(len(values)), np.nan_to_num(values.astype(np.float64)), color="#4c72b0")
    axes.axhline(0, color="black", linewidth=0.4)


def _fields(axes: Any, values: np.ndarray, facts: Mapping[str, Any], limits: Limits) -> None:
    """Of a table's row: each column's name and what stands in it."""
    lines = [
        f"{_cut(column['name'], 18)}  {_field(column, value)}" for column, value in zip(facts["columns"], values.tolist(), strict=True)
    ]
    text = "\n".join(lines[:_FIELDS] + ["..."] * (len(lines) > _FIELDS))
    axes.text(0.03, 0.96, text, fontsize=6.5, va="top", transform=axes.transAxes, parse_math=False)


def _field(column: Mapping[str, Any], value: float) -> str:
    names = column.get("categories")
    if np.isnan(value):
        return "missing"
    if names is None:
        return f"{value:.4g}"
    return _cut(names[int(value)], 14) if 0 <= value < len(names) else "[?]"


def _cut(text: str, length: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= length else f"{text[: length - 2]}..."


def _words(axes: Any, values: np.ndarray, facts: Mapping[str, Any], limits: Limits) -> None:
    words = [_word(index, facts) for index in values.tolist() if index != facts.get("padding", 0)]
    between = "" if all(len(word) == 1 for word in words) else " "
    text = "\n".join(textwrap.wrap(between.join(words), 36, max_lines=7, placeholder=" ...")) or "(no words)"
    axes.text(0.02, 0.95, text, fontsize=7, va="top", transform=axes.transAxes, parse_math=False)


def _word(index: int, facts: Mapping[str, Any]) -> str:
    vocabulary = facts["vocabulary"]
    return vocabulary[index] if index != facts.get("unknown") and 0 <= index < len(vocabulary) else "[?]"


def boxes(axes: Any, y: Mapping[str, np.ndarray], size: Sequence[int], classes: int) -> None:
    """Draws boxes in shares of an image onto the image of this (height, width)."""
    rectangle = _pictures.matplotlib("patches").Rectangle
    high, wide = size
    for (ymin, xmin, ymax, xmax), label in zip(y["boxes"].tolist(), y["labels"].tolist(), strict=True):
        if label >= 0:
            place = (xmin * wide - 0.5, ymin * high - 0.5)
            axes.add_patch(rectangle(place, (xmax - xmin) * wide, (ymax - ymin) * high, fill=False, color=colour(label), linewidth=0.9))


def mask(axes: Any, y: np.ndarray) -> None:
    """Lays the classes of a mask (height, width) over its picture, in their colours; what does not count is gray."""
    colours = _pictures.matplotlib("colors")
    shown = np.full((*y.shape, 4), colours.to_rgba("gray", 0.8))
    for label in np.unique(y[y >= 0]):
        shown[y == label] = colours.to_rgba(colour(int(label)), 0.4)
    axes.imshow(shown, interpolation="nearest")


def colour(label: int) -> str:
    """Of the boxes or pixels of a class."""
    return _COLOURS[label % len(_COLOURS)]


def legend(figure: Any, names: Sequence[str], size: int) -> None:
    """Which colour is which class, at the top right."""
    line = _pictures.matplotlib("lines").Line2D
    handles = [line([], [], color=colour(at), label=name) for at, name in enumerate(names[: len(_COLOURS)])]
    box = figure.legend(handles=handles, loc="upper right", ncols=len(handles), fontsize=size, frameon=False, borderaxespad=0.1)
    for text in box.get_texts():
        text.set_parse_math(False)
