"""The matrix of the Keras 3 bridge: every case of tests/bridge_cases.py, the families of keras.applications, MLPerf Tiny's two models.

    python benchmarks/bridge.py                     # about 10 minutes on 2 cores
    python benchmarks/bridge.py --models FOLDER     # where mlperf_tiny/ lies; by default the folder "models" beside TFOPT_DATA

Each model gets random weights, goes through the bridge, to a float32 .tflite on LiteRT, and through the bridge back. Rows are saved to
benchmarks/results/bridge.json one by one, and a row that is there already is not measured again: remove the file to begin anew. When all
are there, the table in docs/keras3.md is written from them, failures included.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

import bridge_cases  # noqa: E402
import bridge_measures  # noqa: E402
from bridge_measures import Row  # noqa: E402
from rich.console import Console  # noqa: E402

import tfopt  # noqa: E402
from tfopt import backend, bridge  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results" / "bridge.json"
PAGE = ROOT / "docs" / "keras3.md"
BEGIN, END = "<!-- the table of benchmarks/bridge.py -->", "<!-- the end of the table -->"
PUBLISHED = {
    "ResNet-8": "mlperf_tiny/image_classification/pretrainedResnet.h5",
    "DS-CNN": "mlperf_tiny/keyword_spotting/kws_ref_model",
}
TIDY_EVERY = 40  # rows; the models of all rows together would fill the memory


def measurements(models: Path | None) -> Iterator[tuple[str, str, Callable[[], Row]]]:
    """(group, name, () -> row) for every row of the table."""
    if models is not None:
        for name, path in PUBLISHED.items():
            yield "MLPerf Tiny", name, lambda path=path: bridge_measures.measure_keras2(tfopt.load(models / path))
    for group, cases in bridge_cases.GROUPS.items():
        for case in cases:
            yield group, case.name, lambda case=case: bridge_measures.measure(case)


def measure_all(models: Path | None) -> dict[str, Any]:
    """What is saved of every row, the missing ones measured now."""
    saved = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"environment": environment(), "rows": {}}
    console, measured = Console(), 0
    for group, name, measure in measurements(models):
        if name in saved["rows"]:
            continue
        row = measure()
        saved["rows"][name] = {"group": group, **dataclasses.asdict(row)}
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(saved, indent=1) + "\n")
        console.print(f"{'good' if row.good else 'BAD ':4} {name}: {cells(row)}", highlight=False, markup=False)
        measured += 1
        if measured % TIDY_EVERY == 0:
            bridge.keras3().utils.clear_session()
            backend.keras().backend.clear_session()
            gc.collect()
    return saved


def environment() -> dict[str, Any]:
    keras = {"keras": bridge.keras3().__version__}
    return {**keras, **backend.versions(), "python": platform.python_version(), "cores": os.cpu_count(), "date": time.strftime("%Y-%m-%d")}


# The table


def cells(row: Row) -> tuple[str, str, str]:
    """What the table says of a row under "Keras 2", ".tflite" and "back to Keras 3"."""
    return tuple(cell(row, step, limit) for step, limit in (("bridged", 1e-5), ("tflite", 1e-4), ("back", 1e-5)))


def cell(row: Row, step: str, limit: float) -> str:
    error = getattr(row, step)
    if error is None:
        return row.reasons.get(step, "-")
    return f"{error:.0e}" if error <= limit else f"**{error:.0e}**"


def page_of(saved: dict[str, Any]) -> str:
    """The part of docs/keras3.md that the rows make: counts, failures with their reasons, then all rows."""
    fields = {field.name for field in dataclasses.fields(Row)}
    rows = {name: Row(**{key: value for key, value in row.items() if key in fields}) for name, row in saved["rows"].items()}
    groups: dict[str, list[str]] = {}
    for name, row in saved["rows"].items():
        groups.setdefault(row["group"], []).append(name)
    return "\n".join([*_counts(rows, groups, saved["environment"]), *_failures(rows), *_all(rows, groups)])


def _counts(rows: dict[str, Row], groups: dict[str, list[str]], environment: dict[str, Any]) -> list[str]:
    def line(title: str, names: list[str]) -> str:
        chosen = [rows[name] for name in names]
        come = sum(bridge_measures.within(row.bridged, 1e-5) for row in chosen)
        return f"| {title} | {len(chosen)} | {come} | {sum(row.converted for row in chosen)} | {sum(row.came_back for row in chosen)} |"

    seconds = sum(row.seconds for row in rows.values())
    versions = ", ".join(f"{name} {environment[name]}" for name in ("keras", "tf_keras", "tensorflow", "ai-edge-litert"))
    return [
        f"Measured on {environment['date']} with {versions}, in {seconds / 60:.0f} minutes on {environment['cores']} cores.",
        "",
        "| | models | to Keras 2 | .tflite | back to Keras 3 |",
        "|---|---:|---:|---:|---:|",
        *(line(group, names) for group, names in groups.items()),
        line("**all**", list(rows)),
        "",
    ]


def _failures(rows: dict[str, Row]) -> list[str]:
    steps = {"bridged": ("to Keras 2", 1e-5), "tflite": (".tflite", 1e-4), "back": ("back", 1e-5)}
    lines = []
    for name, row in rows.items():
        for step, (title, limit) in steps.items():
            if step in row.reasons or not bridge_measures.within(getattr(row, step), limit):
                reason = row.reasons.get(step)
                if reason or getattr(row, step) is not None:  # otherwise it failed before
                    lines.append(f"| {name} | {title} | {_escaped(reason or f'differs by {getattr(row, step):.1e}')} |")
    return ["What failed, and why:", "", "| case | where | reason |", "|---|---|---|", *lines, ""]


def _all(rows: dict[str, Row], groups: dict[str, list[str]]) -> list[str]:
    lines = []
    for group, names in groups.items():
        lines += [f"**{group}**", "", "| case | to Keras 2 | .tflite | back | carried |", "|---|---|---|---|---|"]
        for name in names:
            shown = [text if text[0] in "0123456789*-" else "failed" for text in cells(rows[name])]
            lines.append(f"| {_escaped(name)} | {' | '.join(shown)} | {', '.join(rows[name].carried)} |")
        lines.append("")
    return lines


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("**", "\\*\\*")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    data = os.environ.get("TFOPT_DATA")
    parser.add_argument("--models", type=Path, default=Path(data).parent / "models" if data else None, help="the folder of mlperf_tiny/")
    saved = measure_all(parser.parse_args().models)
    before, _, rest = PAGE.read_text().partition(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n\n{page_of(saved)}\n{END}{rest.partition(END)[2]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
