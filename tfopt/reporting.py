"""Reports: what a run found, for the terminal, as JSON, as Markdown and as one HTML file that holds all of it.

A saved report is `report.json` (everything but the .tflite files), `artifacts/NAME.tflite`, and made from them `report.md` and
`report.html`. `load` brings the same report back, so that `tfopt report DIR` can write the readable files again.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pydantic
from rich.table import Table

from . import __version__, _report_html, _report_json, _report_text, backend, timing
from .errors import ArtifactError, LimitError, RunError
from .files import write_atomically
from .results import Row
from .types import Artifact, Recipe


@dataclass(frozen=True)
class Report:
    """What a run found.

    Attributes:
      recipe: what was asked for.
      environment: versions, machine and date, as `environment` gives them.
      rows: an artifact each, with its verdict, timing and measures.
      trace: what the fits and techniques recorded; the entries of a `types.Trace`.
      seconds: how long each stage of the run took, by its name.
      folder: where the report is saved; None while it is not.
    """

    recipe: Recipe
    environment: Mapping[str, Any]
    rows: tuple[Row, ...]
    trace: tuple[Mapping[str, Any], ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    folder: Path | None = None

    def __str__(self) -> str:
        return _report_text.text(self)

    def table(self) -> Table:
        """The rows as a rich table, about 110 columns wide: a block for each chain of steps, the converter's own first."""
        return _report_text.table(self)

    def save(self, folder: str | os.PathLike) -> Path:
        """Writes artifacts, report.json, report.md and report.html into `folder`, each whole or not at all; returns report.html's path.

        A report of the same recipe that stands there is written again.

        Raises:
          RunError: `folder` holds the report of another recipe, or can't be written.
        """
        folder = Path(folder)
        self._refuse_foreign(folder)
        files = {f"artifacts/{row.artifact.name}.tflite": row.artifact.content for row in self.rows}
        files["report.md"] = _report_text.markdown(self).encode()
        files["report.html"] = _report_html.page(self).encode()
        files["report.json"] = (json.dumps(self._tree(), indent=1, allow_nan=False) + "\n").encode()  # last: it vouches for the others
        for name, content in files.items():
            try:
                write_atomically(folder / name, content)
            except OSError as error:
                why = error.strerror or error
                raise RunError(f"{folder / name}: can't be written ({why}); free space or choose another folder") from error
        return folder / "report.html"

    def raise_for_limits(self) -> None:
        """Raises LimitError with every broken limit's sentence, if any is broken. The limits of a quick run are not checked."""
        broken = _report_text.broken(self)
        if broken:
            raise LimitError(broken)

    def _tree(self) -> dict[str, Any]:
        return {
            "tfopt_report": _report_json.VERSION,
            "recipe": _report_json.plain(self.recipe),
            "environment": _report_json.plain(self.environment),
            "seconds": _report_json.plain(self.seconds),
            "rows": [_report_json.tree_of_row(row) for row in self.rows],
            "trace": _report_json.plain(self.trace),
        }

    def _refuse_foreign(self, folder: Path) -> None:
        if not (folder / "report.json").exists():
            return
        theirs, ours = _read(folder)["recipe"], _report_json.plain(self.recipe)
        if theirs != ours:
            keys = ", ".join(sorted(key for key in {*theirs, *ours} if theirs.get(key) != ours.get(key)))
            raise RunError(f"{folder}: holds the report of another recipe (they differ in: {keys}); choose another folder or remove it")


def load(folder: str | os.PathLike) -> Report:
    """The report that was saved in `folder`.

    Raises:
      RunError: there is none, or its report.json can't be read.
      ArtifactError: one of its .tflite files is missing, or is not the one that was measured.

    >>> print(load("runs/digits"))
    """
    folder = Path(folder)
    tree = _read(folder)
    try:
        return Report(
            recipe=_report_json.recipe_of_tree(tree["recipe"]),
            environment=dict(tree["environment"]),
            rows=tuple(_report_json.row_of_tree(row, _content(folder, row["artifact"])) for row in tree["rows"]),
            trace=tuple(tree["trace"]),
            seconds=dict(tree["seconds"]),
            folder=folder,
        )
    except (KeyError, TypeError, ValueError) as error:  # pydantic's ValidationError is a ValueError
        raise RunError(f"{folder / 'report.json'}: is not a whole report ({_first_problem(error)}); run the recipe again") from error


def environment(strategy: Any) -> dict[str, Any]:
    """What a run's numbers may depend on beside its recipe: versions, machine, the tf.distribute strategy, and the date (UTC)."""
    replicas = strategy.num_replicas_in_sync
    return {
        "tfopt": __version__,
        "python": platform.python_version(),
        **backend.versions(),
        "machine": timing.machine(),
        "platform": platform.platform(),
        "strategy": f"{type(strategy).__name__.lstrip('_')}, {replicas} replica{'s' * (replicas != 1)}",
        "date": datetime.datetime.now(datetime.UTC).isoformat(sep=" ", timespec="seconds"),
    }


def _read(folder: Path) -> dict[str, Any]:
    path = folder / "report.json"
    try:
        tree = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise RunError(f"{path}: there is no such file; give the folder of a finished run") from None
    except OSError as error:
        raise RunError(f"{path}: can't be read ({error.strerror or error})") from error
    except (ValueError, RecursionError) as error:
        raise RunError(f"{path}: is damaged ({error}); remove it and run the recipe again") from error
    if not isinstance(tree, dict) or tree.get("tfopt_report") != _report_json.VERSION or not isinstance(tree.get("recipe"), dict):
        raise RunError(f"{path}: is not a report of this version of tfopt; choose another folder, or remove it and run the recipe again")
    return tree


def _content(folder: Path, artifact: Mapping[str, Any]) -> bytes:
    path = folder / "artifacts" / f"{artifact['name']}.tflite"
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ArtifactError(f"{path}: can't be read ({error.strerror or error}); run the recipe again") from error
    if Artifact("", "", content).sha256 != artifact["sha256"]:
        raise ArtifactError(f"{path}: is not the file that was measured (its sha256 differs); run the recipe again")
    return content


def _first_problem(error: Exception) -> str:
    if isinstance(error, pydantic.ValidationError):
        first = error.errors(include_url=False)[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return f"{error} is missing" if isinstance(error, KeyError) else str(error)
