"""k-means on numbers: the values that share a kernel's weights.

Weights of one axis can be sorted, so an iteration of Lloyd's costs k searches and no pass over the weights.
"""

from __future__ import annotations

import numpy as np

from .. import backend

INITS = ("kmeans++", "linear", "density", "random")
_ITERATIONS = 300
_SAMPLE = 20_000  # of the values, for the first centroids of k-means++; Lloyd's iterations see all of them


def centroids(values: np.ndarray, count: int, init: str, seed: int) -> np.ndarray:
    """At most `count` values, sorted float32, that stand for `values` with the least squared error that Lloyd's iterations reach.

    Args:
      values: (n,) floats. Where they hold no more than `count` different ones, these come back.
      init: where the centroids begin: "kmeans++" (Arthur & Vassilvitskii 2007), "linear" (evenly between the smallest and the largest),
        "density" (quantiles: as many values around each) or "random" (drawn evenly between the smallest and the largest).
    """
    distinct = np.unique(values)
    if len(distinct) <= count:
        return distinct.astype("float32")
    ordered = np.sort(values.astype("float64"))
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    centers = np.sort(_first(ordered, count, init, np.random.default_rng(seed)))
    for _ in range(_ITERATIONS):
        cuts = np.concatenate([[0], np.searchsorted(ordered, (centers[1:] + centers[:-1]) / 2), [len(ordered)]])
        counts = np.diff(cuts)
        moved = np.where(counts > 0, np.diff(sums[cuts]) / np.maximum(counts, 1), centers)
        if np.array_equal(moved, centers):
            break
        centers = moved
    return centers.astype("float32")


def _first(ordered: np.ndarray, count: int, init: str, random: np.random.Generator) -> np.ndarray:
    low, high = ordered[0], ordered[-1]
    if init == "linear":
        return np.linspace(low, high, count)
    if init == "density":
        return np.quantile(ordered, (np.arange(count) + 0.5) / count)
    if init == "random":
        return random.uniform(low, high, count)
    sample = ordered if len(ordered) <= _SAMPLE else random.choice(ordered, _SAMPLE, replace=False)
    cluster = backend.sklearn("cluster")
    chosen, _ = cluster.kmeans_plusplus(sample[:, None], count, random_state=int(random.integers(2**31)))
    return chosen[:, 0]
