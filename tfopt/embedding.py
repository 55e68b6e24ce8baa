"""What a layer of a model makes of examples: `embed(model, data)`, grouped by k-means and drawn on two principal components."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from . import backend, bridge, pipelines
from .errors import DataError, UnsupportedModel, nearest
from .surgery import copying
from .tracing import record
from .types import Data

LIMIT = 2000  # examples: the silhouette compares each with each


@dataclass(frozen=True)
class Embeddings:
    """Test examples as a layer sees them.

    Attributes:
      layer: its name.
      vectors: (n, width) float32, the layer's outputs, flattened.
      labels: (n,) the index of each example's class; None where the data has none.
      clusters: (n,) the group of each by k-means, of as many groups as there are classes (8 without).
      silhouette: from -1 to 1, how much nearer an example is to its own group than to the next one (Rousseeuw 1987).
      agreement: the adjusted Rand index of groups and classes: 1 where they are the same, about 0 by chance; None without classes.
      projection: (n, 2) the first two principal components; explained: the share of the variance that each has.
    """

    layer: str
    vectors: np.ndarray = field(repr=False)
    labels: np.ndarray | None = field(repr=False)
    clusters: np.ndarray = field(repr=False)
    silhouette: float
    agreement: float | None
    projection: np.ndarray = field(repr=False)
    explained: tuple[float, float]

    def __str__(self) -> str:
        groups = f"{self.layer}: {len(self.vectors):,} examples in {self.clusters.max() + 1} groups, silhouette {self.silhouette:.2f}"
        return groups + ("" if self.agreement is None else f", adjusted Rand index with the classes {self.agreement:.2f}")


def embed(model: Any, data: Data, *, layer: str | None = None, seed: int = 0) -> Embeddings:
    """The outputs of a layer for the first 2,000 test examples, grouped and projected.

    Args:
      layer: its name; without it the input of the last layer that has weights: what a classifier's logits are made of.
      seed: of k-means.

    >>> print(embed(model, data))
    dense1: 359 examples in 10 groups, silhouette 0.21, adjusted Rand index with the classes 0.74

    Raises:
      UnsupportedModel: the model has no such layer. DataError: they don't fit each other; or the test set has fewer than 3 examples.
    """
    model = bridge.plain(model)
    copying.check_supported(model)
    name, outputs = _outputs(model, layer)
    part = pipelines.first(data.test, LIMIT)
    inner, vectors, labels = backend.keras().Model(model.inputs, outputs), [], []
    for x, y in pipelines.batches(part, pipelines.at_once(data.input_shape)):
        vectors.append(inner(x, training=False).numpy().astype(np.float32).reshape(len(_any(x)), -1))
        labels.append(y)
    if sum(map(len, vectors)) < 3:
        raise DataError(f"{data.name}: the test set has fewer than 3 examples; embeddings need more to be grouped")
    vectors = np.concatenate(vectors)
    of_classes = data.classes and not isinstance(labels[0], dict) and labels[0].shape.rank == 1 and labels[0].dtype.is_integer
    labels = np.concatenate([one.numpy() for one in labels]) if of_classes else None
    groups = min(max(2, data.num_classes or 8), len(vectors) - 1)
    clusters = backend.sklearn("cluster").KMeans(groups, n_init=10, random_state=seed).fit_predict(vectors)
    metrics, pca = backend.sklearn("metrics"), backend.sklearn("decomposition").PCA(2, random_state=seed)
    two = np.pad(vectors, ((0, 0), (0, max(0, 2 - vectors.shape[1]))))  # a layer of one number has a second component of none
    projection = pca.fit_transform(two)
    several = len(np.unique(clusters)) > 1
    return Embeddings(
        layer=name,
        vectors=vectors,
        labels=labels,
        clusters=clusters,
        silhouette=float(metrics.silhouette_score(vectors, clusters)) if several else 0.0,
        agreement=None if labels is None else float(metrics.adjusted_rand_score(labels, clusters)),
        projection=projection.astype(np.float32),
        explained=tuple(map(float, np.nan_to_num(pca.explained_variance_ratio_))),
    )


def record_embeddings(found: Embeddings, data: Data) -> None:
    """For the report."""
    record(
        "embeddings",
        text=str(found),
        points=[[round(float(value), 4) for value in point] for point in found.projection],
        labels=[] if found.labels is None else found.labels.tolist(),
        clusters=found.clusters.tolist(),
        classes=list(data.classes),
        explained=list(found.explained),
    )


def _outputs(model: Any, name: str | None) -> tuple[str, Any]:
    """The name and the tensor of the layer."""
    if name is None:
        last = next((layer for layer in reversed(model.layers) if layer.weights), None)
        if last is None:
            raise UnsupportedModel(f"{model.name!r}: no layer has weights; name the layer to embed with")
        tensor = last.inbound_nodes[0].keras_inputs[0]
        return tensor._keras_history.layer.name, tensor
    layers = {layer.name: layer for layer in model.layers}
    if name not in layers:
        raise UnsupportedModel(f"{model.name!r} has no layer {name!r} to embed with; {nearest(name, layers)}")
    return name, layers[name].output


def _any(x: Any) -> Any:
    return next(iter(x.values())) if isinstance(x, dict) else x
