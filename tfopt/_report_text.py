"""A report in words, numbers and tables: for the terminal and Markdown; the HTML takes its cells and sentences from here too."""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from .results import Row, Verdict

if TYPE_CHECKING:
    from .reporting import Report


@dataclass(frozen=True)
class Column:
    """A column of the table: its title, what it means, its cell for a row beside the plain float32 row, and whether a terminal shows it."""

    title: str
    meaning: str
    cell: Callable[[Row, Row | None], str]
    terminal: bool = True


def columns(metric: str) -> tuple[Column, ...]:
    """All columns of the table, in order."""
    return (
        Column(metric, "of the .tflite file on the whole test set", lambda row, _: score_text(row.verdict, row.verdict.score)),
        Column("95 % interval", f"of the {metric}: what this many test examples leave open", lambda row, _: _interval(row.verdict)),
        Column("drop", "against the trained Keras model, before any step", lambda row, _: _drop(row.verdict)),
        Column("agrees", "how far its answers are the trained Keras model's", lambda row, _: _percent(row.verdict.agreement)),
        Column("largest error", "between any two outputs", lambda row, _: f"{row.verdict.largest_error:.3g}", terminal=False),
        Column("bytes", "of the .tflite file", lambda row, _: f"{row.measures.bytes:,}"),
        Column("ratio", "bytes against the plain float32 file's", lambda row, base: _ratio(row.measures.bytes, base)),
        Column("gzip", "bytes after gzip -9", lambda row, _: f"{row.measures.gzip_bytes:,}"),
        Column("ms", "median time of one inference", lambda row, _: milliseconds(row.timing.median_ms)),
        Column("p90", "nine inferences of ten took less, ms", lambda row, _: milliseconds(row.timing.p90_ms)),
        Column("p99", "ninety-nine of a hundred took less, ms", lambda row, _: milliseconds(row.timing.p99_ms), terminal=False),
        Column("MACs", "multiply-accumulates of one inference", lambda row, _: _macs(row), terminal=False),
        Column("parameters", "weights and biases", lambda row, _: f"{row.measures.parameters:,}", terminal=False),
        Column("zeros", "share of the kernels' weights", lambda row, _: f"{100 * row.measures.sparsity:.0f} %"),
        Column("int8 ops", "operations with an 8-bit output, of all", lambda row, _: _int8_operations(row)),
    )


def score_text(verdict: Verdict, value: float) -> str:
    """A score as it is spoken of: shares of right answers in percent, everything else as it is."""
    return f"{100 * value:.2f} %" if verdict.share else f"{value:.4g}"


def metric_text(value: float, *, whole: bool = False) -> str:
    """A metric as it stands in a table, e.g. "0.9871"; a count where it is `whole`."""
    return "–" if math.isnan(value) else f"{value:,.0f}" if whole else f"{value:.4g}"


def milliseconds(value: float) -> str:
    """A time with as many decimals as mean something, e.g. "0.0371", "0.372" or "12.5"."""
    return f"{value:.4f}" if value < 0.1 else f"{value:.3f}" if value < 10 else f"{value:,.1f}"


def _interval(verdict: Verdict) -> str:
    low, high = verdict.interval
    return f"{100 * low:.1f} – {100 * high:.1f}" if verdict.share else f"{low:.4g} – {high:.4g}"


def _drop(verdict: Verdict) -> str:
    drop = verdict.drop + 0.0  # turns -0.0 into 0.0
    return f"{100 * drop:+.2f}" if verdict.share else f"{drop:+.3g}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _ratio(size: int, base: Row | None) -> str:
    return f"{size / base.measures.bytes:.2f}" if base else "–"


def _macs(row: Row) -> str:
    macs = row.measures.macs
    return (f"{macs / 1e6:.2f} M" if macs >= 1e5 else f"{macs:,}") + ("+" if row.measures.uncounted else "")


def _int8_operations(row: Row) -> str:
    return f"{row.measures.int8_operations}/{len(row.measures.operations)}"


# Which rows stand together


def is_optimized(row: Row) -> bool:
    """Whether a technique had a hand in the model; otherwise the row is what the converter alone gives."""
    return len(row.artifact.steps) > 1


def baseline(rows: Iterable[Row]) -> Row | None:
    """The plain float32 row, which the others are compared with; None where the recipe does not export it."""
    return next((row for row in rows if row.artifact.format == "float32" and not is_optimized(row)), None)


def groups(rows: Iterable[Row]) -> list[tuple[str, bool, list[Row]]]:
    """The rows by the steps that made them: a title, whether optimized, and the rows; the converter's own first."""
    in_order = sorted(rows, key=lambda row: (is_optimized(row), len(row.artifact.steps)))
    return [
        (("tfopt: " if optimized else "converter alone: ") + " + ".join(steps or ("model",)), optimized, list(together))
        for (optimized, steps), together in itertools.groupby(in_order, key=lambda row: (is_optimized(row), row.artifact.steps))
    ]


# Sentences


def headline(rows: Iterable[Row]) -> Row:
    """The row that the summary speaks of: the smallest optimized file as it travels (gzipped), or the smallest where none is optimized."""
    rows = list(rows)
    return min([row for row in rows if is_optimized(row)] or rows, key=lambda row: row.measures.gzip_bytes)


def summary(report: Report) -> str:
    """The run in one sentence."""
    if not report.rows:
        return "Nothing was exported."
    row, base = headline(report.rows), baseline(report.rows)
    verdict = row.verdict
    kind = "optimized" if is_optimized(row) else "plain"
    words = [
        f"{kind} {row.artifact.format}: {verdict.metric} {score_text(verdict, verdict.score)}"
        f" (trained Keras model: {score_text(verdict, verdict.baseline)})"
    ]
    if base and base is not row:
        zipped = f"{row.measures.gzip_bytes / base.measures.gzip_bytes:.2f} when both are gzipped"
        words += [f"{_ratio(row.measures.bytes, base)} of the plain float32 file's bytes ({zipped})", _speed(base, row)]
    return ", ".join(words)


def _speed(base: Row, row: Row) -> str:
    times = base.timing.median_ms / row.timing.median_ms
    return f"{times:.1f} times as fast" if times >= 1 else f"{1 / times:.1f} times as slow"


def notes(report: Report) -> list[str]:
    """What has to be known to read the numbers: a sentence each, broken limits first."""
    sentences = [f"Limit broken: {sentence}" for sentence in broken(report)]
    if report.recipe.quick:
        sentences.insert(0, "Quick run: few examples and one epoch. Its numbers say nothing, and its limits were not checked.")
    if report.recipe.fit is None:
        sentences.append(f"The model was taken from {report.recipe.model.path} as it is; this run did not train it first.")
    if report.rows:
        verdict, timing = report.rows[0].verdict, report.rows[0].timing
        unit = ", interval and drop in percent points" if verdict.share else ""
        unit += "" if verdict.greater_is_better else ", the smaller the better"
        sentences.append(f"{verdict.metric} on {verdict.examples:,} test examples{unit}; agrees: {verdict.agrees}.")
        how = f"{timing.threads} thread{'s' * (timing.threads != 1)}, {timing.runtime}, {timing.machine}"
        sentences.append(f"ms: median of {len(timing.samples_ms):,} inferences after {timing.warmup:,} to warm up, {how}.")
    uncounted = sorted({kind for row in report.rows for kind in row.measures.uncounted})
    if uncounted:
        sentences.append(f"MACs with a + leave out operations that are not counted: {', '.join(uncounted)}.")
    return sentences


def broken(report: Report) -> list[str]:
    """The sentences of all rows' broken limits."""
    return [sentence for row in report.rows for sentence in row.verdict.broken]


def title(report: Report) -> str:
    """The recipe's name, and its note where it has one."""
    return report.recipe.name + (f": {report.recipe.note}" if report.recipe.note else "")


# Tables


def table(report: Report) -> Table:
    """The terminal's table: a block for each chain of steps, its columns aligned with the other blocks'."""
    grid = Table.grid()
    if not report.rows:
        return grid
    shown = [column for column in columns(report.rows[0].verdict.metric) if column.terminal]
    base = baseline(report.rows)
    header = ["", *(column.title for column in shown)]
    blocks = [(title, [_cells(row, base, shown) for row in rows]) for title, _, rows in groups(report.rows)]
    widths = [max(map(len, column)) for column in zip(header, *(line for _, lines in blocks for line in lines), strict=True)]
    grid.add_row(_block([header], widths, "bold"))
    for name, lines in blocks:
        grid.add_row(Text(name, style="bold cyan"))
        grid.add_row(_block(lines, widths, ""))
    return grid


def _cells(row: Row, base: Row | None, shown: Iterable[Column]) -> list[str]:
    return [f"  {row.artifact.format}{' !' if row.verdict.broken else ''}", *(column.cell(row, base) for column in shown)]


def _block(lines: Iterable[list[str]], widths: list[int], style: str) -> Table:
    block = Table.grid(padding=(0, 2, 0, 0))
    for index, width in enumerate(widths):
        block.add_column(width=width, no_wrap=True, justify="right" if index else "left", style=style)
    for line in lines:
        block.add_row(*map(Text, line))
    return block


def text(report: Report) -> str:
    """The whole report for a terminal, as plain text."""
    console = Console(file=io.StringIO(), width=400, color_system=None, highlight=False, force_jupyter=False)
    console.print(table(report))
    lines = [line.rstrip() for line in console.file.getvalue().splitlines()]
    return "\n".join([title(report), summary(report), "", *lines, "", *notes(report)])


def markdown(report: Report) -> str:
    """The whole report as Markdown."""
    parts = [f"# {_md(title(report))}", _md(summary(report))]
    if report.rows:
        parts.append(_markdown_table(report))
    parts.append("\n".join(f"- {_md(note)}" for note in notes(report)))
    for entry in report.trace:
        if entry["kind"] == "choices":
            parts.append(f"## {_md(entry['technique'])}: {treated_text(entry['choices'])}")
            parts.append("\n".join(_choice(choice) for choice in entry["choices"]))
        elif entry["kind"] == "note":
            parts.append(_md(entry["text"]))
    parts += ["## Environment", "\n".join(f"- {_md(name)}: {_md(str(value))}" for name, value in report.environment.items())]
    return "\n\n".join(parts) + "\n"


def _choice(choice: dict) -> str:
    return f"- {_md(choice['layer'])}: {'' if choice['treated'] else 'left alone: '}{_md(choice['reason'])}"


def treated_text(choices: list[dict]) -> str:
    """How many of the layers a technique treated, in words."""
    return f"{sum(choice['treated'] for choice in choices)} of {len(choices)} layers treated"


def _markdown_table(report: Report) -> str:
    base, every = baseline(report.rows), columns(report.rows[0].verdict.metric)
    lines = ["| steps | format | " + " | ".join(column.title for column in every) + " |", "|---|---|" + "---:|" * len(every)]
    for _, _, rows in groups(report.rows):
        for row in rows:
            cells = [" + ".join(row.artifact.steps), row.artifact.format, *(column.cell(row, base) for column in every)]
            lines.append("| " + " | ".join(map(_md, cells)) + " |")
    return "\n".join(lines)


def _md(words: str) -> str:
    """Words from outside (names, notes), with what Markdown would take for its own signs written as characters."""
    return "".join(f"\\{sign}" if sign in "\\`*_[]<>|#" else sign for sign in words.replace("\n", " "))
