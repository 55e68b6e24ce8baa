"""What a model and its file make of some test pictures, drawn for the report: masks laid over them, or boxes around what was found."""

from __future__ import annotations

import base64
import importlib
import io
from collections.abc import Mapping
from typing import Any

import numpy as np

from . import _pictures, _sheet_cells, pipelines, tasks
from .runtime import Session
from .tracing import record
from .types import Artifact, Data

TASKS = ("detection", "segmentation")
_SHOWN, _WIDTH, _INK = 4, 2.3, 8  # test pictures; inches of each; points of all texts
_SURE = 0.5  # the score from which a box is drawn


def record_pictures(model: Any, artifact: Artifact, data: Data) -> None:
    """The first test pictures with what is true, what the trained model says and what a file says, for the report.

    data: for a task of `TASKS`.
    """
    part = pipelines.first(data.test, _SHOWN)
    pictures, truth = pipelines.to_arrays(pipelines.raw(part))
    x, truth = pipelines.to_arrays(part)
    session = Session(artifact)
    taken, _ = pipelines.to_arrays(pipelines.first(session.taking(data).test, _SHOWN))
    said = {"the trained model": model(x, training=False).numpy(), f"{artifact.name}.tflite": session.run(taken)}
    known = _masks if data.task == "segmentation" else _boxes
    rows = {"test pictures": None, "truth": truth, **{name: known(outputs, data) for name, outputs in said.items()}}
    jpeg = _as_jpeg(_drawn(pictures if pictures.shape[1:3] == x.shape[1:3] else x, rows, data))
    record("pictures", image=base64.b64encode(jpeg).decode(), text=f"{', '.join(rows)}: {len(x)} of the test set")


def _as_jpeg(png: bytes) -> bytes:
    """A tenth of the bytes, which the report holds."""
    content = io.BytesIO()
    with importlib.import_module("PIL.Image").open(io.BytesIO(png)) as image:
        image.convert("RGB").save(content, "JPEG", quality=85)
    return content.getvalue()


def _masks(outputs: np.ndarray, data: Data) -> np.ndarray:
    return tasks.of(data).prepared(outputs, outputs)


def _boxes(outputs: np.ndarray, data: Data) -> dict[str, list[np.ndarray]]:
    boxes, _, labels = zip(*tasks.detections(outputs, data, least=_SURE), strict=True)
    return {"boxes": list(boxes), "labels": list(labels)}


def _drawn(pictures: np.ndarray, rows: Mapping[str, Any], data: Data) -> bytes:
    high, wide = pictures.shape[1:3]
    columns, height = len(pictures), _WIDTH * high / wide
    figure = _pictures.figure(columns * _WIDTH + 0.3, len(rows) * height + 0.4, layout="constrained")
    grid = figure.subplots(len(rows), columns, squeeze=False)
    limits = _sheet_cells.limits(pictures)
    draw = _sheet_cells.kind_of(pictures.shape[1:], pictures.dtype.name, {}).draw
    for axes_of_row, (name, of) in zip(grid, rows.items(), strict=True):
        axes_of_row[0].set_ylabel(name, fontsize=_INK, parse_math=False)
        for at, axes in enumerate(axes_of_row):
            axes.set_xticks([])
            axes.set_yticks([])
            draw(axes, pictures[at], {}, limits)
            if of is not None and data.task == "segmentation":
                _sheet_cells.mask(axes, of[at])
            elif of is not None:
                _sheet_cells.boxes(axes, {name: one[at] for name, one in of.items()}, (high, wide), data.num_classes)
    figure.suptitle(" ", fontsize=_INK)
    _sheet_cells.legend(figure, data.classes, _INK)
    return _pictures.encoded(figure, "png", mark="tfopt report", title=data.name, dots=80)
