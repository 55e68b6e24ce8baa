"""What `inspect` finds, as tables and sentences for a terminal or a pipe."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from ._inspections import FileInspection, FileOperation, KerasInspection, Plan, Port, SavedModelInspection

_WIDTH = 400  # columns: no table of ours wraps; a terminal that has fewer does that itself
_LIST_WIDTH = 120  # where lists of layers are broken


def keras(it: KerasInspection) -> str:
    """A Keras model: its layers, and each technique's plan."""
    head = ("layer", "class", "output shape", "parameters", "MACs", "bytes")
    rows = [
        (
            layer.name + (f" (called {layer.calls} times)" if layer.calls > 1 else ""),
            layer.kind,
            ", ".join(map(shape, layer.output_shapes)) or "?",
            f"{layer.parameters:,}",
            _count(layer.macs),
            f"{layer.bytes:,}",
        )
        for layer in it.layers
    ]
    total = ("total", "", "", f"{it.parameters:,}", f"{it.macs:,}" + ("+" if it.uncounted else ""), f"{it.bytes:,}")
    notes = [f"{it.trainable_parameters:,} of the parameters are trainable. MACs: multiply-accumulates of one example."]
    if it.uncounted:
        notes += _wrapped(f"MACs with a + leave out what can't be known: {', '.join(it.uncounted)}")
    plans = [line for plan in it.plans for line in ("", *_plan(plan))]
    return _joined(
        [f"{it.name}: Keras model", *_ports(it.inputs, it.outputs), "", *_table(head, [*rows, total], "llrrrr"), "", *notes, *plans]
    )


def _plan(plan: Plan) -> Iterator[str]:
    if plan.problem is not None:
        yield from _wrapped(f"{plan.technique}: can't work on this model: {plan.problem}")
        return
    treated = sum(choice.treated for choice in plan.choices)
    yield f"{plan.technique}: would treat {treated} of {len(plan.choices)} layers"
    names = {choice.layer for choice in plan.choices}
    groups: dict[tuple[bool, str], list[str]] = {}
    for choice in plan.choices:
        reason, named = _without_layer(choice.reason, names)
        groups.setdefault((choice.treated, reason), []).append(choice.layer + (f" ({named})" if named else ""))
    for (done, reason), layers in sorted(groups.items(), key=lambda group: not group[0][0]):
        yield from _wrapped(f"{reason if done else f'left alone, {reason}'}: {', '.join(layers)}", "  ")


def _without_layer(reason: str, names: set[str]) -> tuple[str, str | None]:
    """A reason with LAYER in place of the layer that it names, so that fifty "folded into ..." make one line."""
    words = reason.split(" ")
    place = next((place for place, word in enumerate(words) if word in names), None)
    return (reason, None) if place is None else (" ".join([*words[:place], "LAYER", *words[place + 1 :]]), words[place])


def saved_model(it: SavedModelInspection) -> str:
    """A SavedModel: its signature, its operations, and what can be done with it."""
    operations = ", ".join(f"{one.kind} ({one.count})" for one in it.operations)
    return _joined(
        [
            f"{it.name}: SavedModel, signature {it.signature}",
            *_ports(it.inputs, it.outputs),
            "",
            f"{it.bytes:,} bytes, {sum(one.count for one in it.operations):,} operations",
            *_wrapped(operations, "  "),
            "",
            *_wrapped(f"It is no Keras model: {it.reason}. It can be converted, verified and benchmarked, but no technique can treat it."),
        ]
    )


def tflite(it: FileInspection) -> str:
    """A .tflite file: what its name hides, its numbers, operations, dtypes and fallbacks."""
    lines = [f"{it.name}: .tflite file", *(f"WARNING: {sentence}" for sentence in it.warnings), *_ports(it.inputs, it.outputs)]
    if it.preprocessing is not None:
        lines.append(f"takes raw examples and prepares them itself: {', '.join(it.preprocessing) or 'as they are'}")
    lines.append("")
    macs = f"{it.macs:,}" + (f" and those of {', '.join(it.uncounted)}, which can't be known" if it.uncounted else "")
    lines += _table(
        (),
        [
            ("bytes", f"{it.bytes:,}, after gzip {it.gzip_bytes:,}"),
            ("parameters", f"{it.parameters:,}, {100 * it.sparsity:.1f} % of the kernels' weights are zero"),
            ("MACs", macs),
            ("activations", _memory(it)),
            ("XNNPACK", _coverage(it)),
        ],
        "ll",
    )
    head = ("", "operation", "output shape", "dtype", "weights", "quantized", "MACs", "runs on")
    lines += ["", *_table(head, [_operation(operation, it) for operation in it.operations], "rlrlllrl"), ""]
    head = ("dtype", "constants", "bytes", "activations", "bytes")
    rows = [(d.dtype, str(d.constants), f"{d.constant_bytes:,}", str(d.activations), f"{d.activation_bytes:,}") for d in it.dtypes]
    return _joined([*lines, *_table(head, rows, "lrrrr"), *_fallbacks(it)])


def _operation(operation: FileOperation, it: FileInspection) -> tuple[str, ...]:
    place = str(operation.index) if operation.graph == 0 else f"{operation.graph}/{operation.index}"
    quantized = {None: "", 0: "no", 1: "per tensor"}.get(
        operation.scales, f"per channel ({operation.scales} along {operation.quantized_dimension})"
    )
    asked = it.coverage.problem is None and operation.graph == 0
    runs_on = "?" if not asked else "the interpreter" if operation.part is None else f"XNNPACK, part {operation.part}"
    return (
        place, operation.kind, shape(operation.shape), operation.dtype, operation.weights or "", quantized, _count(operation.macs), runs_on
    )  # fmt: skip


def _memory(it: FileInspection) -> str:
    if it.memory.live_bytes is None:
        return "unknown: shapes that are known only when it runs leave it open"
    arena = f"{it.memory.arena_bytes:,} as the interpreter would lay them out"
    return f"{it.memory.live_bytes:,} bytes alive at once, {arena} (computed from the tensors' lifetimes, not measured)"


def _coverage(it: FileInspection) -> str:
    coverage = it.coverage
    if coverage.problem is not None:
        return f"not known: {coverage.problem}"
    taken = f"takes {coverage.taken} of {coverage.operations} operations in {coverage.parts} part{'s' * (coverage.parts != 1)}"
    return f"{taken} ({coverage.runtime} on this machine: {coverage.machine})"


def _fallbacks(it: FileInspection) -> list[str]:
    if not it.coverage.fallbacks:
        return []
    dtypes = {operation.index: operation.dtype for operation in it.operations if operation.graph == 0}
    rows = [(str(one.index), one.kind, dtypes[one.index], one.reason) for one in it.coverage.fallbacks]
    return ["", "XNNPACK leaves to the interpreter:", *_table((), rows, "rlll")]


def _ports(inputs: Sequence[Port], outputs: Sequence[Port]) -> list[str]:
    rows = [
        (title if place == 0 else "", port.name, shape(port.shape), port.dtype)
        for title, ports in (("inputs", inputs), ("outputs", outputs))
        for place, port in enumerate(ports)
    ]
    return _table((), rows, "llll")


def shape(sizes: Sequence[int | None] | None) -> str:
    """A shape in words: "?x8x8x3", where "?" is free; "scalar"; "?" where nothing is known."""
    if sizes is None:
        return "?"
    return "x".join("?" if size is None else str(size) for size in sizes) or "scalar"


def _count(number: int | None) -> str:
    return "?" if number is None else f"{number:,}"


def _wrapped(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(
        text, _LIST_WIDTH, initial_indent=indent, subsequent_indent=f"{indent}    ", break_long_words=False, break_on_hyphens=False
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], sides: str) -> list[str]:
    """A table without lines; `sides` says of each column whether it stands left or right."""
    table = Table.grid(padding=(0, 2, 0, 0))
    for side in sides:
        table.add_column(justify="right" if side == "r" else "left", no_wrap=True)
    for row in ([head] if head else []) + list(rows):
        table.add_row(*map(Text, row))
    console = Console(file=io.StringIO(), width=_WIDTH, color_system=None, highlight=False, force_jupyter=False)
    console.print(table)
    return console.file.getvalue().splitlines()


def _joined(lines: Iterable[str]) -> str:
    return "\n".join(line.rstrip() for line in lines)


TEXTS = {"keras": keras, "savedmodel": saved_model, "tflite": tflite}
