"""Average precision of detections, as COCO's evaluation computes it (Lin et al. 2014, arXiv:1405.0312; pycocotools' COCOeval)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from . import _anchors

THRESHOLDS = np.linspace(0.5, 0.95, 10)  # of the intersection by union from which a box is found
_RECALLS = np.linspace(0, 1, 101)


def matched(truth: Mapping[str, np.ndarray], detections: np.ndarray, classes: int) -> dict[str, np.ndarray]:
    """What becomes of the detections of each picture: (n, ...) arrays, so that pictures can be drawn from them.

    Each detection, the surest first, takes the box of its class that it covers best, of those that are not taken yet.

    Args:
      truth: "boxes" (n, m, 4) and "labels" (n, m), -1 where there is none.
      detections: (n, k, 6) as ymin, xmin, ymax, xmax, score, class, the surest first, -1 where there is none.

    Returns:
      "scores" and "labels" (n, k) of the detections, "hits" (n, k, thresholds), and "boxes" (n, classes), how many boxes there are.
    """
    hits = np.zeros((*detections.shape[:2], len(THRESHOLDS)), bool)
    for number, (boxes, labels) in enumerate(zip(truth["boxes"], truth["labels"], strict=True)):
        found = detections[number]
        for label in range(classes):
            mine, theirs = np.flatnonzero(found[:, 5] == label), np.flatnonzero(labels == label)
            if len(mine) and len(theirs):
                hits[number, mine] = _hits(_anchors.ious(found[mine, :4], boxes[theirs].astype(np.float64)))
    counts = (truth["labels"][..., np.newaxis] == np.arange(classes)).sum(axis=1)
    return {"scores": detections[..., 4], "labels": detections[..., 5].astype(np.int64), "hits": hits, "boxes": counts}


def _hits(overlaps: np.ndarray) -> np.ndarray:
    """(detections, thresholds): which of the detections (a row of overlaps with boxes each) find a box."""
    hits = np.zeros((len(overlaps), len(THRESHOLDS)), bool)
    for at, threshold in enumerate(THRESHOLDS):
        free = np.ones(overlaps.shape[1], bool)
        for row, overlap in enumerate(overlaps):
            best = int(np.argmax(np.where(free, overlap, -1)))
            if free[best] and overlap[best] >= threshold:
                hits[row, at], free[best] = True, False
    return hits


def average_precisions(found: Mapping[str, np.ndarray], thresholds: slice = slice(None)) -> np.ndarray:
    """(classes, thresholds): the mean precision at 101 recalls from 0 to 1; NaN of a class without boxes. `found` as `matched` gives it."""
    scores, labels, hits = (found[name].reshape(-1, *found[name].shape[2:]) for name in ("scores", "labels", "hits"))
    counts = found["boxes"].sum(axis=0)
    order = np.argsort(-scores, kind="stable")
    labels, hits = labels[order], hits[order][:, thresholds]
    return np.stack([_of_class(hits[labels == label], count) for label, count in enumerate(counts)])


def _of_class(hits: np.ndarray, count: int) -> np.ndarray:
    """(thresholds,) of detections (n, thresholds), the surest first, of so many boxes."""
    if not count:
        return np.full(hits.shape[1], np.nan)
    right = hits.cumsum(axis=0)
    precision = right / np.arange(1, len(hits) + 1)[:, np.newaxis]
    best = np.maximum.accumulate(precision[::-1], axis=0)[::-1]  # at this recall or a greater one
    best = np.concatenate([best, np.zeros((1, hits.shape[1]))])
    return np.array([best[np.searchsorted(right[:, at] / count, _RECALLS), at].mean() for at in range(hits.shape[1])])
