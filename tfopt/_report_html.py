"""A report as one HTML file that holds all it needs: the template is report.html.j2, the plots are SVG inside the page."""

from __future__ import annotations

import functools
import itertools
import json
import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jinja2
from markupsafe import Markup

from . import _plots, _report_json, _report_text, recipes
from .errors import RecipeError
from .results import Kernel, Operation, Row
from .types import Recipe

if TYPE_CHECKING:
    from .reporting import Report


def page(report: Report) -> str:
    """The page. The same report gives the same bytes."""
    base = _report_text.baseline(report.rows)
    columns = _report_text.columns(report.rows[0].verdict.metric) if report.rows else ()
    return _template().render(
        title=report.recipe.name,
        note=report.recipe.note,
        quick=report.recipe.quick,
        summary=_report_text.summary(report),
        broken=_report_text.broken(report),
        limited=bool(report.recipe.limits) and not report.recipe.quick,
        notes=_report_text.notes(report)[report.recipe.quick + len(_report_text.broken(report)) :],
        columns=columns,
        groups=[
            {"title": title, "optimized": optimized, "rows": [(row, [column.cell(row, base) for column in columns]) for row in rows]}
            for title, optimized, rows in _report_text.groups(report.rows)
        ],
        scores=_score_plots(report.rows),
        metrics=_metrics(report.rows),
        classes=_classes(report.rows),
        curves=[(entry["name"], Markup(_plots.curves(entry["history"]))) for entry in _entries(report, "curve") if entry["history"]],
        embeddings=[(entry["text"], [Markup(svg) for svg in _embeddings(entry)]) for entry in _entries(report, "embeddings")],
        pictures=[(entry["text"], entry["image"]) for entry in _entries(report, "pictures")],
        choices=[{**entry, "title": _report_text.treated_text(entry["choices"])} for entry in _entries(report, "choices")],
        ranges=_entries(report, "ranges"),
        texts=[entry["text"] for entry in _entries(report, "note")],
        files=[_file(row) for row in report.rows],
        environment=report.environment,
        seconds=report.seconds,
        recipe=_recipe_text(report.recipe),
    )


@functools.cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("tfopt", "."), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("report.html.j2")


def _entries(report: Report, kind: str) -> list[dict[str, Any]]:
    return [dict(entry) for entry in report.trace if entry["kind"] == kind]


def _score_plots(rows: Sequence[Row]) -> list[tuple[str, Markup]]:
    """The score against size, size as it travels, and time."""
    if not rows:
        return []
    against = (
        ("file size", "KB", lambda row: row.measures.bytes / 1000),
        ("file size after gzip", "KB", lambda row: row.measures.gzip_bytes / 1000),
        ("time of one inference", "ms, median", lambda row: row.timing.median_ms),
    )
    share = rows[0].verdict.share
    y_label = rows[0].verdict.metric + (", %" if share else "")
    return [
        (name, Markup(_plots.scores([_point(row, x(row), 100 if share else 1) for row in rows], f"{name}, {unit}", y_label)))
        for name, unit, x in against
    ]


def _metrics(rows: Sequence[Row]) -> dict[str, Any]:
    """Every metric of every file."""
    names = list(rows[0].verdict.metrics) if rows else []
    return {"names": names, "rows": [(row, [_report_text.metric_text(row.verdict.metrics[name]) for name in names]) for row in rows]}


def _classes(rows: Sequence[Row]) -> dict[str, Any] | None:
    """What the summary's file does with each class, and which it takes for which; None where there are no classes."""
    if not rows or not rows[0].verdict.per_class:
        return None
    row = _report_text.headline(rows)
    verdict = row.verdict
    return {
        "row": row,
        "names": list(next(iter(verdict.per_class.values()))),
        "rows": [
            (name, [_report_text.metric_text(value, whole=of in ("examples", "boxes", "pixels")) for of, value in values.items()])
            for name, values in verdict.per_class.items()
        ],
        "confusion": Markup(_plots.confusion(list(verdict.per_class), verdict.confusion)) if verdict.confusion else None,
    }


def _embeddings(entry: dict[str, Any]) -> list[str]:
    """The examples on two principal components, by class where there are classes, and by group."""
    of = [("class", entry["labels"], entry["classes"])] * bool(entry["labels"])
    of.append(("group of k-means", entry["clusters"], [str(number) for number in range(max(entry["clusters"]) + 1)]))
    return [_plots.cloud(entry["points"], kinds, names, entry["explained"], title) for title, kinds, names in of]


def _point(row: Row, x: float, scale: float) -> _plots.Point:
    low, high = row.verdict.interval
    return _plots.Point(row.artifact.format, _report_text.is_optimized(row), x, scale * row.verdict.score, scale * low, scale * high)


def _file(row: Row) -> dict[str, Any]:
    """What a .tflite file is made of, and what of it stayed float."""
    operations = row.measures.operations
    quantized = any("int8" in (operation.dtype, operation.weights) for operation in operations)
    return {
        "row": row,
        "quantized": quantized,
        "float_operations": _counted(row.measures.float_operations),
        "float_weights": _counted([o for o in operations if (o.weights or "").startswith("float")]),
        "kernels": [_kernel(kernel) for kernel in row.measures.kernels],
        "operations": len(operations),
    }


def _counted(operations: Sequence[Operation]) -> list[str]:
    """E.g. ["CONV_2D × 3", "SOFTMAX"]."""
    kinds = sorted(operation.kind for operation in operations)
    counts = [(kind, len(list(same))) for kind, same in itertools.groupby(kinds)]
    return [kind if count == 1 else f"{kind} × {count}" for kind, count in counts]


def _kernel(kernel: Kernel) -> dict[str, Any]:
    shares = [100 * share for share in kernel.zeros]
    return {
        "name": kernel.name,
        "op": kernel.op,
        "dtype": kernel.dtype,
        "shape": " × ".join(map(str, kernel.shape)),
        "zeros": f"{statistics.fmean(shares):.0f} %" if shares else "–",
        "zeros_range": _range([f"{share:.0f}" for share in (min(shares), max(shares))]) if shares else "–",
        "distinct": _range([str(min(kernel.distinct)), str(max(kernel.distinct))]) if kernel.distinct else "–",
    }


def _range(ends: Sequence[str]) -> str:
    return ends[0] if ends[0] == ends[1] else f"{ends[0]} – {ends[1]}"


def _recipe_text(recipe: Recipe) -> str:
    """The recipe as TOML; as JSON where it was made in Python of things that TOML has no word for."""
    try:
        return recipes.write(recipe)
    except RecipeError:
        return json.dumps(_report_json.plain(recipe), indent=2)
