"""Embeddings: a layer's outputs, grouped and projected, by hand and in a report."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from sklearn import cluster, decomposition, metrics

import tfopt
from tfopt import backend, pipelines
from tfopt.errors import DataError, UnsupportedModel


@pytest.fixture(scope="module")
def model(digits):
    with backend.seeded(0):
        model = tfopt.models.mlp((8, 8, 1), 10, hidden=[32, 16])
    return tfopt.train(model, digits, tfopt.Fit(epochs=10, batch_size=32, learning_rate=3e-3))


def test_a_layers_outputs_are_grouped_and_projected_as_scikit_learn_does(model, digits):
    found = tfopt.embed(model, digits, layer="dense1")
    x, y = pipelines.to_arrays(digits.test)
    inner = backend.keras().Model(model.inputs, model.get_layer("dense1").output)
    vectors = inner.predict(x, verbose=0)
    assert found.vectors == pytest.approx(vectors, abs=1e-5) and np.array_equal(found.labels, y)
    groups = cluster.KMeans(10, n_init=10, random_state=0).fit_predict(found.vectors)
    assert metrics.adjusted_rand_score(groups, found.clusters) == 1
    assert found.silhouette == pytest.approx(metrics.silhouette_score(vectors, found.clusters), abs=1e-4)
    assert found.agreement == pytest.approx(metrics.adjusted_rand_score(y, found.clusters))
    pca = decomposition.PCA(2, random_state=0).fit(vectors)
    assert found.explained == pytest.approx(pca.explained_variance_ratio_, abs=1e-4)
    assert np.abs(found.projection) == pytest.approx(np.abs(pca.transform(vectors)), abs=1e-2)


def test_without_a_name_it_is_what_the_logits_are_made_of(model, digits):
    found = tfopt.embed(model, digits)
    assert found.layer == "dense2" and found.vectors.shape == (359, 16)
    assert found.agreement > 0.4  # a trained net has the classes apart
    assert str(found).startswith("dense2: 359 examples in 10 groups, silhouette 0.")


def test_data_without_classes_has_groups_only(digits):
    x, _ = pipelines.to_arrays(digits.train)
    data = tfopt.datasets.arrays(x=x, y=x.mean(axis=(1, 2, 3)), task="regression")
    found = tfopt.embed(backend.keras().Sequential([backend.keras().layers.Flatten(input_shape=(8, 8, 1)), *dense()]), data)
    assert found.labels is None and found.agreement is None and len(set(found.clusters)) == 8


def dense():
    return [backend.keras().layers.Dense(1, name="values")]


def test_what_can_not_be_embedded_is_said(model, digits):
    with pytest.raises(UnsupportedModel, match="has no layer 'dense3' to embed with; did you mean 'dense"):
        tfopt.embed(model, digits, layer="dense3")
    with pytest.raises(DataError, match="fewer than 3 examples"):
        tfopt.embed(model, dataclasses.replace(digits, test=pipelines.first(digits.test, 2)))


def test_a_report_draws_them(tmp_path):
    recipe = {"name": "mine", "data": {"use": "digits"}, "model": {"use": "mlp", "hidden": [8]}, "fit": {"epochs": 1}}
    report = tfopt.run({**recipe, "embeddings": "dense1", "export": {"formats": ["float32"]}}, out=tmp_path / "run")
    page = (tmp_path / "run" / "report.html").read_text()
    assert page.count('aria-label="embeddings by') == 2 and "dense1: 359 examples in 10 groups" in page
    assert [entry["text"] for entry in report.trace if entry["kind"] == "embeddings"]
