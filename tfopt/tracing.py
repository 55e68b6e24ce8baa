"""What the fits and techniques of a run found, on its way to the report."""

from __future__ import annotations

import contextvars
import logging
from collections.abc import Sequence
from typing import Any

from .types import Choice

log = logging.getLogger("tfopt")


class Trace:
    """What the fits and techniques of a run found: a list of plain dicts, each with a "kind", ready for JSON.

    Open one with `with Trace() as trace:`; `record` then writes into it. Without an open one, records go to the log.

    >>> with Trace() as trace:
    ...     record("note", text="three layers stayed float")
    >>> trace.entries
    [{'kind': 'note', 'text': 'three layers stayed float'}]
    """

    def __init__(self):
        self.entries: list[dict[str, Any]] = []

    def __enter__(self) -> Trace:
        self._token = _trace.set(self)
        return self

    def __exit__(self, *_):
        _trace.reset(self._token)


_trace: contextvars.ContextVar[Trace | None] = contextvars.ContextVar("tfopt_trace", default=None)


def record(kind: str, **facts: Any) -> None:
    """Adds what was found to the open trace, or to the log where none is open.

    Kinds in use: "curve" (name, history: metric -> a value an epoch), "choices" (technique, choices: a dict a layer), "ranges"
    (technique, ranges: name -> [low, high]), "embeddings" (text, points, labels, clusters, classes, explained), "pictures" (text, image: a
    JPEG in base64) and "note" (text).
    """
    trace = _trace.get()
    if trace is None:
        log.info("%s: %s", kind, facts)
    else:
        trace.entries.append({"kind": kind, **facts})


def warn(text: str) -> None:
    """Says what a user should know at once and in the report: as a warning in the log, and as a note in the trace."""
    log.warning(text)
    record("note", text=text)


def record_plan(technique: str, plan: Sequence[Choice]) -> None:
    """Records a technique's plan."""
    record("choices", technique=technique, choices=[{"layer": c.layer, "treated": c.treated, "reason": c.reason} for c in plan])
