"""The report's plots: SVG text to stand inside an HTML page and take the page's colours, light or dark.

Drawn on matplotlib's Figure objects, not through pyplot, so that a user's own figures and backend stay as they are.
"""

from __future__ import annotations

import importlib
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from . import _pictures

# Colours that the page replaces with its own: what is written here never shows.
_COLOURS = {"#222222": "var(--muted)", "#333333": "var(--line)", "#444444": "var(--plain)", "#555555": "var(--tfopt)"}
_MUTED, _LINE, _PLAIN, _TFOPT = _COLOURS
_FONT = 9  # points


@dataclass(frozen=True)
class Point:
    """A row in a plot: its label, whether it is optimized, its place, and the score's interval."""

    label: str
    optimized: bool
    x: float
    score: float
    low: float
    high: float


def scores(points: Sequence[Point], x_label: str, y_label: str) -> str:
    """Score against `x` (from 0), the interval as a bar; the converter's own rows as rings, tfopt's as filled diamonds."""
    figure = _figure(4.6, 3.4)
    axes = figure.subplots()
    _plain_axes(axes, x_label, y_label)
    for p in points:
        colour = _TFOPT if p.optimized else _PLAIN
        axes.plot([p.x, p.x], [p.low, p.high], color=colour, linewidth=1, marker="_", markersize=5, alpha=0.5)
        style = {"marker": "D", "markersize": 5} if p.optimized else {"marker": "o", "markersize": 8, "markerfacecolor": "none"}
        axes.plot([p.x], [p.score], color=colour, linestyle="none", markeredgewidth=1.5, zorder=3, **style)
    axes.set_xlim(0, 1.15 * max(p.x for p in points))
    axes.margins(y=0.12)
    _label(figure, axes, points)
    return _svg(figure, f"{y_label} against {x_label}")


def curves(history: Mapping[str, Sequence[float]]) -> str:
    """A fit's curves: an axes for the loss and one for each metric; training drawn through, validation dashed."""
    metrics = [name for name in history if not name.startswith("val_")]
    columns = max(2, len(metrics))  # one alone would be drawn twice as large as those beside it
    figure = _figure(2.5 * columns, 2.1)
    row = figure.subplots(1, columns, squeeze=False)[0]
    for spare in row[len(metrics) :]:
        spare.set_axis_off()
    for axes, metric in zip(row, metrics, strict=False):
        _plain_axes(axes, "epoch", "")
        axes.set_title(metric, color=_MUTED, fontsize=_FONT)
        for name, style in ((metric, "-"), (f"val_{metric}", "--")):
            values = [float(value) for value in history.get(name, ())]
            colour = _PLAIN if style == "-" else _TFOPT
            epochs = range(1, len(values) + 1)
            axes.plot(epochs, values, style, color=colour, linewidth=1.5, marker="o", markersize=3 if len(values) < 8 else 0)
        axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1, nbins=5)
        axes.margins(x=0.05, y=0.1)
    return _svg(figure, "training curves: " + ", ".join(metrics))


_MOST_NAMED = 10  # kinds with a colour of their own and a name in the legend


def cloud(points: Sequence[Sequence[float]], kinds: Sequence[int], names: Sequence[str], explained: Sequence[float], title: str) -> str:
    """Points (x, y) by their kind; of more than ten kinds, colours repeat and there is no legend."""
    figure = _figure(4.6, 3.8)
    axes = figure.subplots()
    _plain_axes(axes, *(f"component {number}: {100 * share:.0f} % of the variance" for number, share in enumerate(explained, 1)))
    axes.set_title(f"by {title}", color=_MUTED, fontsize=_FONT)
    for kind, name in enumerate(names):
        own = [point for point, of in zip(points, kinds, strict=True) if of == kind]
        label = (name if len(name) <= 14 else f"{name[:12]}...").lstrip("_") or "_"
        x, y = zip(*own, strict=True) if own else ((), ())
        axes.scatter(x, y, s=7, color=f"C{kind % _MOST_NAMED}", alpha=0.7, linewidths=0, label=label)
    if len(names) <= _MOST_NAMED:
        legend = axes.legend(fontsize=_FONT - 2, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5), markerscale=2)
        for text in legend.get_texts():
            text.set(color=_MUTED, parse_math=False)
    return _svg(figure, f"embeddings by {title}")


_MOST_WRITTEN = 20  # classes, of which the counts are written into the cells
_LONGEST_COUNT = 100_000  # and from which on, as of pixels, the shares of the row instead


def confusion(classes: Sequence[str], counts: Sequence[Sequence[int]]) -> str:
    """How often each true class (a row) was taken for each class: a cell is the darker the larger its share of the row."""
    figure = _figure(*(2 * [min(7.5, 2.2 + 0.33 * len(classes))]))
    axes = figure.subplots()
    names = [name if len(name) <= 16 else f"{name[:14]}..." for name in classes]
    _plain_axes(axes, "taken for", "is")
    axes.grid(visible=False)
    many = max(map(max, counts), default=0) >= _LONGEST_COUNT
    for y, row in enumerate(counts):
        for x, count in enumerate(row):
            share = count / max(1, sum(row))
            if count:
                colour = _TFOPT if x == y else _PLAIN
                axes.add_patch(_pictures.matplotlib("patches").Rectangle((x - 0.5, y - 0.5), 1, 1, color=colour, alpha=0.6 * share))
            if count and len(classes) <= _MOST_WRITTEN:
                axes.text(x, y, f"{100 * share:.0f}%" if many else f"{count}", ha="center", va="center", fontsize=_FONT - 2, color=_MUTED)
    axes.set_xlim(-0.5, len(classes) - 0.5)
    axes.set_ylim(len(classes) - 0.5, -0.5)
    axes.set_aspect("equal")
    every = range(0, len(classes), 1 + len(classes) // 40)
    axes.set_xticks(every, [names[at] for at in every], rotation=90, parse_math=False)
    axes.set_yticks(every, [names[at] for at in every], parse_math=False)
    return _svg(figure, "confusion matrix")


def _figure(width: float, height: float) -> Any:
    return _pictures.figure(width, height, dpi=72, layout="constrained")


def _plain_axes(axes: Any, x_label: str, y_label: str) -> None:
    axes.set_xlabel(x_label, color=_MUTED, fontsize=_FONT)
    axes.set_ylabel(y_label, color=_MUTED, fontsize=_FONT)
    axes.tick_params(colors=_MUTED, labelsize=_FONT - 1, length=0)
    axes.grid(color=_LINE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_facecolor("none")
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_LINE)


# Labels that don't lie on each other: each goes to the place around its point, near or farther, that is freest yet

Box = tuple[float, float, float, float]  # left, bottom, right, top in pixels, which at 72 dots an inch are points
_PLACES = [(x * far, y * far) for far in (1, 2.2, 3.6) for x, y in ((8, 6), (8, -6), (-8, 6), (-8, -6), (0, 10), (0, -10))]


def _label(figure: Any, axes: Any, points: Sequence[Point]) -> None:
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # as laid out now; labels don't move the axes any more
    renderer = figure.canvas.get_renderer()
    frame = axes.get_window_extent(renderer).extents
    taken = [_around(*axes.transData.transform((p.x, p.score)), 5) for p in points]
    bars = [_around(*axes.transData.transform((p.x, y)), 2) for p in points for y in (p.low, (p.low + p.score) / 2, p.high)]
    for p in points:
        text = _annotated(axes, p)
        size = text.get_window_extent(renderer)
        centre = axes.transData.transform((p.x, p.score))
        places = [(place, _box(centre, place, size.width, size.height)) for place in _PLACES]
        place, box = min(places, key=lambda it: _cost(it[1], taken, bars, frame))  # of equals the first, which is the nearest
        _move(text, place)
        taken.append(box)


def _annotated(axes: Any, p: Point) -> Any:
    colour = _TFOPT if p.optimized else _PLAIN
    line = {"arrowstyle": "-", "color": colour, "linewidth": 0.6, "shrinkA": 0, "shrinkB": 4, "relpos": (0.5, 0.5)}
    return axes.annotate(
        p.label, (p.x, p.score), (0, 0), textcoords="offset points", color=colour, fontsize=_FONT, arrowprops=line, zorder=4
    )


def _move(text: Any, place: tuple[float, float]) -> None:
    x, y = place
    text.set_position(place)
    text.set_horizontalalignment("left" if x > 0 else "right" if x < 0 else "center")
    text.set_verticalalignment("bottom" if y > 0 else "top")
    text.arrow_patch.set_visible(max(abs(x), abs(y)) > 12)


def _cost(box: Box, taken: Sequence[Box], bars: Sequence[Box], frame: Box) -> float:
    outside = _common(box, box) - _common(box, frame)
    return 10 * sum(_common(box, other) for other in taken) + sum(_common(box, other) for other in bars) + 10 * outside


def _box(centre: Sequence[float], place: tuple[float, float], width: float, height: float) -> Box:
    x, y = centre[0] + place[0], centre[1] + place[1]
    left = x if place[0] > 0 else x - width if place[0] < 0 else x - width / 2
    bottom = y if place[1] > 0 else y - height
    return left - 1, bottom - 1, left + width + 1, bottom + height + 1


def _around(x: float, y: float, reach: float) -> Box:
    return x - reach, y - reach, x + reach, y + reach


def _common(one: Box, other: Box) -> float:
    """The area that two boxes share."""
    width, height = min(one[2], other[2]) - max(one[0], other[0]), min(one[3], other[3]) - max(one[1], other[1])
    return max(width, 0) * max(height, 0)


def _svg(figure: Any, words: str) -> str:
    """The figure as an <svg> element: real text in the page's font, the page's colours, and the same bytes for the same figure."""
    target = io.StringIO()
    with importlib.import_module("matplotlib").rc_context({"svg.fonttype": "none", "svg.hashsalt": "tfopt"}):
        figure.savefig(target, format="svg", transparent=True, metadata={"Date": None})
    svg = re.sub(r"<metadata>.*?</metadata>", "", target.getvalue()[target.getvalue().index("<svg") :], flags=re.DOTALL)
    svg = re.sub(r" xmlns(:\w+)?=\"[^\"]*\"| (width|height)=\"[\d.]+pt\"| version=\"1.1\"", "", svg)
    svg = re.sub(r"'DejaVu Sans'[^;\"]*", "system-ui, sans-serif", svg)
    for written, shown in _COLOURS.items():
        svg = svg.replace(written, shown)
    return svg.replace("<svg", f'<svg role="img" aria-label="{words}"', 1)
