"""Detection: anchors and their targets, average precision against COCO's own evaluation, and what a model and its file find."""

from __future__ import annotations

import contextlib
import dataclasses
import io

import numpy as np
import pytest

import tfopt
from tfopt import backend, pipelines, tasks, verification
from tfopt.errors import ArtifactError, DataError, OptionError
from tfopt.tasks import _anchors, _average_precision, _detection
from tfopt.types import Fit

RNG = np.random.default_rng(0)
SIZE = 64
SMALL = {"strides": [8, 16], "scales": [2.0], "ratios": [1.0]}


def squares(count=112):
    """Bright squares and dark ones on gray, up to three a picture, and their boxes."""
    x = np.full((count, SIZE, SIZE, 3), 0.5, np.float32) + RNG.normal(0, 0.03, (count, SIZE, SIZE, 3)).astype(np.float32)
    boxes, labels = np.full((count, 3, 4), -1, np.float32), np.full((count, 3), -1, np.int32)
    for number in range(count):
        for at in range(RNG.integers(1, 4)):
            side, label = RNG.integers(12, 30), RNG.integers(0, 2)
            top, left = RNG.integers(0, SIZE - side, 2)
            box = np.array([top, left, top + side, left + side]) / SIZE
            if at and _anchors.ious(box[None], boxes[number, :at].astype(float)).max() > 0.05:
                continue
            free = int((labels[number] >= 0).sum())
            x[number, top : top + side, left : left + side] = 0.9 if label else 0.1
            boxes[number, free], labels[number, free] = box, label
    return x, {"boxes": boxes, "labels": labels}


@pytest.fixture(scope="module")
def made():
    """Data as `voc` gives it."""
    x, y = squares()
    parts = {}
    for name, rows in {"train": slice(0, 80), "validation": slice(80, 96), "test": slice(96, 112), "calibration": slice(0, 16)}.items():
        parts[name] = pipelines.examples(x[rows], {key: one[rows] for key, one in y.items()})
    known = {"input_shape": (SIZE, SIZE, 3), "classes": ("dark", "bright"), "fingerprint": "squares"}
    plain = tfopt.types.Data(name="squares", task="detection", **known, **parts)
    return tasks.detection(plain, **SMALL)


# Anchors


def test_anchors_are_where_they_are_said_to_be():
    found = _anchors.anchors_of((48, 64), [8, 32], [2.0, 3.0], [0.5, 2.0])
    assert found.shape == ((6 * 8 + 2 * 2) * 4, 4) and found.dtype == np.float32
    np.testing.assert_allclose(found[0], [4 / 48, 4 / 64, 16 * 2**0.5 / 48, 16 / 2**0.5 / 64], rtol=1e-6)
    np.testing.assert_allclose(found[4 * 8 + 4 + 1], [12 / 48, 12 / 64, 16 / 2**0.5 / 48, 16 * 2**0.5 / 64], rtol=1e-6)
    np.testing.assert_allclose(found[-1], [0.75, 0.75, 96 / 2**0.5 / 48, 96 * 2**0.5 / 64], rtol=1e-6)


def random_boxes(count, low=0.1, high=0.5):
    sides = RNG.uniform(low, high, (count, 2))
    start = RNG.uniform(0, 1 - sides)
    return np.concatenate([start, start + sides], 1)


def test_each_box_comes_back_from_the_anchors_that_belong_to_it():
    tf = backend.tensorflow()
    anchors = _anchors.anchors_of((64, 64), [8, 16], [2.0, 3.0], [0.5, 1.0, 2.0])
    boxes = np.stack([random_boxes(4) for _ in range(6)]).astype(np.float32)
    labels = RNG.integers(0, 3, (6, 4)).astype(np.int32)
    boxes[0], labels[0] = -1, -1
    boxes[1, 1:], labels[1, 1:] = -1, -1
    found = _anchors.targets(tf.constant(boxes), tf.constant(labels), anchors, positive=0.5, negative=0.4).numpy()
    assert (found[0, :, 4] == -1).all() and (found[0, :, :4] == 0).all()
    for number in range(1, 6):
        real = labels[number] >= 0
        overlaps = _anchors.ious(_anchors.corners(anchors.astype(np.float64)), boxes[number][real].astype(np.float64))
        classes = found[number, :, 4]
        positive = classes >= 0
        assert (positive | ~(overlaps.max(1) >= 0.5 + 1e-6)).all()
        assert positive[overlaps.argmax(0)].all()  # the best anchor of each box
        left = ~positive & (overlaps.max(1) >= 0.4 + 1e-6)
        assert (classes[left] == -2).all() and (classes[~positive & (overlaps.max(1) < 0.4 - 1e-6)] == -1).all()
        back = _anchors.decoded(found[number, :, :4], anchors)[positive]
        nearest = _anchors.ious(back, boxes[number][real].astype(np.float64))
        assert nearest.max(1) == pytest.approx(1, abs=1e-4)
        assert (labels[number][real][nearest.argmax(1)] == classes[positive]).all()


# Metrics


def random_detections(boxes, labels, classes, count):
    """Some near boxes that there are, some anywhere, the surest first."""
    real = np.flatnonzero(labels >= 0)
    found = []
    for at in RNG.permutation(np.repeat(real, 2))[: count // 2]:
        box = np.clip(boxes[at] + RNG.normal(0, 0.03, 4), 0, 1)
        box = np.concatenate([np.minimum(box[:2], box[2:] - 0.01), np.maximum(box[2:], box[:2] + 0.01)])
        found.append([*box, RNG.uniform(0.2, 1), labels[at] if RNG.uniform() < 0.9 else RNG.integers(classes)])
    while len(found) < count:
        found.append([*random_boxes(1)[0], RNG.uniform(0, 0.8), RNG.integers(classes)])
    found = np.array(found)
    return found[np.argsort(-found[:, 4], kind="stable")]


def coco_of(truth, detections, classes):
    """COCO's own evaluation: AP over 0.5:0.95, and at 0.5, and both for each class."""
    coco, evaluation = pytest.importorskip("pycocotools.coco"), pytest.importorskip("pycocotools.cocoeval")
    annotations, results = [], []
    for number, (boxes, labels) in enumerate(zip(truth["boxes"], truth["labels"], strict=True)):
        for (top, left, bottom, right), label in zip(boxes.tolist(), labels.tolist(), strict=True):
            if label >= 0:
                sides = {"bbox": [left, top, right - left, bottom - top], "area": (right - left) * (bottom - top), "iscrowd": 0}
                annotations.append({"id": len(annotations) + 1, "image_id": number, "category_id": label, **sides})
    for number, found in enumerate(detections):
        for top, left, bottom, right, score, label in found.tolist():
            if label >= 0:
                box = [left, top, right - left, bottom - top]
                results.append({"image_id": number, "category_id": int(label), "bbox": box, "score": score})
    with contextlib.redirect_stdout(io.StringIO()):
        given = coco.COCO()
        given.dataset = {
            "images": [{"id": number} for number in range(len(detections))],
            "categories": [{"id": number} for number in range(classes)],
            "annotations": annotations,
        }
        given.createIndex()
        judged = evaluation.COCOeval(given, given.loadRes(results), "bbox")
        judged.evaluate()
        judged.accumulate()
    precision = judged.eval["precision"][:, :, :, 0, -1]  # (thresholds, recalls, classes)
    return precision.mean(axis=1).T


@pytest.mark.parametrize("seed", range(5))
def test_average_precision_is_cocos(seed):
    global RNG
    RNG = np.random.default_rng(seed)
    pictures, most, classes = 25, 9, 4
    boxes = np.stack([random_boxes(most) for _ in range(pictures)])
    labels = RNG.integers(0, classes - 1, (pictures, most))
    absent = RNG.uniform(size=labels.shape) < 0.4
    boxes[absent], labels[absent] = -1, -1
    labels[0, 0], boxes[0, 0] = classes - 1, random_boxes(1)[0]  # a class that is there once
    detections = np.full((pictures, 30, 6), -1.0)
    for number in range(pictures):
        found = random_detections(boxes[number], labels[number], classes, RNG.integers(1, 30))
        detections[number, : len(found)] = found
    truth = {"boxes": boxes, "labels": labels}
    mine = _average_precision.average_precisions(_average_precision.matched(truth, detections, classes))
    np.testing.assert_allclose(mine, coco_of(truth, detections, classes), atol=1e-6)


def outputs_for(data, y, noise=0.0):
    """Outputs of a detector that says what the boxes are."""
    task = tasks.of(data)
    tf = backend.tensorflow()
    target = task.target(None, {key: tf.constant(one) for key, one in y.items()}).numpy()
    logits = np.where(target[..., 4:] == np.arange(data.num_classes), 6.0, -6.0)
    outputs = np.concatenate([target[..., :4], logits], -1)
    return (outputs + RNG.normal(0, noise, outputs.shape)).astype(np.float32)


def test_a_detector_that_knows_all_has_a_map_of_1(made):
    _, y = pipelines.to_arrays(made.test)
    outputs = outputs_for(made, y)
    scores = tasks.of(made).scores(y, outputs, outputs)
    assert scores.metrics == pytest.approx({"map_50": 1.0, "map": 1.0}) and scores.interval == pytest.approx((1, 1))
    assert scores.per_class["dark"]["boxes"] == (y["labels"] == 0).sum() and scores.metric == "map_50"
    assert tasks.of(made).agreement(outputs, outputs) == 1
    for found, box, label in zip(tasks.detections(outputs, made), y["boxes"], y["labels"], strict=True):
        boxes, sure, labels = found
        assert len(boxes) == (label >= 0).sum() and (sure > 0.99).all() and labels.dtype == np.int32
        assert _anchors.ious(boxes.astype(float), box[label >= 0].astype(float)).max(1) == pytest.approx(1, abs=1e-4)


def test_the_interval_and_the_agreement_follow_the_noise(made):
    _, y = pipelines.to_arrays(made.train)
    outputs, noisy = outputs_for(made, y), outputs_for(made, y, noise=1.5)
    task = tasks.of(made)
    scores = task.scores(y, noisy, outputs)
    low, high = scores.interval
    assert 0.05 < low < scores.value < high <= 1
    assert 0 < task.agreement(noisy, outputs) < 1 and scores.metrics["map"] < scores.value


def test_what_is_no_number_is_no_detection(made):
    _, y = pipelines.to_arrays(made.test)
    outputs = outputs_for(made, y)
    broken = outputs.copy()
    broken[:, :, 0] = np.nan
    scores = tasks.of(made).scores(y, broken, outputs)
    assert scores.metrics == {"map_50": 0.0, "map": 0.0} and tasks.of(made).agreement(broken, outputs) == 0
    assert all(len(boxes) == 0 for boxes, _, _ in tasks.detections(broken, made))


def test_a_test_set_without_boxes_is_said(made):
    y = {"boxes": np.full((2, 3, 4), -1, np.float32), "labels": np.full((2, 3), -1, np.int32)}
    outputs = outputs_for(made, y)
    with pytest.raises(DataError, match="map_50 is not defined on this test set; there is no box in it"):
        tasks.of(made).value(y, outputs, outputs)


def test_of_those_that_cover_each_other_the_surest_stays(made):
    anchors = tasks.anchors(made)
    outputs = np.full((len(anchors), 6), -9.0, np.float32)
    outputs[:, :4] = 0
    outputs[0, 4], outputs[1, 4], outputs[0, 5], outputs[40, 4] = 2, 3, 1, 1  # 0 and 1 are neighbours that share a third
    ((boxes, scores, labels),) = tasks.detections(outputs[None], made, same=0.3)
    assert labels.tolist() == [0, 0, 1] and scores == pytest.approx(1 / (1 + np.exp([-3, -1, -1])), abs=1e-6)
    np.testing.assert_allclose(boxes[0], np.clip(_anchors.corners(anchors)[1], 0, 1), atol=1e-6)
    ((boxes, _, _),) = tasks.detections(outputs[None], made, same=0.5)
    assert len(boxes) == 4
    ((boxes, scores, _),) = tasks.detections(outputs[None], made, same=0.5, most=1)
    assert len(boxes) == 1 and scores[0] > 0.95
    ((boxes, _, _),) = tasks.detections(outputs[None], made, least=0.8)
    assert len(boxes) == 2


# The loss


def test_the_loss_is_focal_and_huber():
    """As the formulas stand in the papers, one anchor after the other."""
    targets = np.zeros((2, 5, 5), np.float32)
    targets[..., :4] = RNG.normal(size=(2, 5, 4))
    targets[..., 4] = [[1, -1, -2, 0, -1], [-1, -1, -2, -1, -1]]
    outputs = RNG.normal(size=(2, 5, 6)).astype(np.float32)
    expected = []
    for target, output in zip(targets.astype(float), outputs.astype(float), strict=True):
        loss, positive = 0.0, 0
        for anchor, out in zip(target, output, strict=True):
            for label in range(2) if anchor[4] > -2 else ():
                p = 1 / (1 + np.exp(-out[4 + label]))
                there = anchor[4] == label
                loss += -0.25 * (1 - p) ** 2 * np.log(p) if there else -0.75 * p**2 * np.log(1 - p)
            if anchor[4] >= 0:
                positive += 1
                distance = np.abs(out[:4] - anchor[:4])
                loss += np.where(distance < 1, distance**2 / 2, distance - 0.5).sum()
        expected.append(loss / max(positive, 1))
    np.testing.assert_allclose(_detection.focal_and_huber(backend.tensorflow().constant(targets), outputs), expected, rtol=1e-5)


# The whole way


QUICK = {"precision": "float32", "xla": False, "steps_per_execution": 1}


@pytest.fixture(scope="module")
def trained(made):
    with backend.seeded(0):
        model = tfopt.models.ssd(made.input_shape, 2, alpha=0.25, strides=[8, 16], anchors=1)
    return tfopt.train(model, made, Fit(epochs=25, batch_size=8, learning_rate=1e-2, **QUICK))


def test_ssd_finds_the_squares_and_its_file_the_same(made, trained):
    reference = verification.reference(trained, made)
    plain, small = (tfopt.verify(tfopt.convert(trained, kind, data=made), against=reference, data=made) for kind in ("float32", "int8"))
    assert plain.metric == "map_50" and plain.baseline > 0.5
    assert plain.score == pytest.approx(plain.baseline, abs=1e-3) and plain.agreement > 0.99
    assert abs(small.drop) < 0.1 and small.agreement > 0.8
    for verdict in (plain, small):
        assert verdict.interval[0] <= verdict.score <= verdict.interval[1] and verdict.metrics["map"] <= verdict.score
        assert verdict.score == pytest.approx(np.mean([of["ap_50"] for of in verdict.per_class.values()]))


@pytest.mark.parametrize("kind", ["float32", "int8"])
def test_suppression_inside_the_file_finds_what_it_finds_outside(made, trained, kind):
    artifact = tfopt.convert(trained, kind, data=made)
    inside = tfopt.with_detections(artifact, made, most=20, least=0.3)
    assert inside.name == f"{artifact.name}-detections" and inside.format == artifact.format
    x, _ = pipelines.to_arrays(made.test)
    expected = tasks.detections(tfopt.runtime.Session(artifact).run(x), made, most=20, least=0.3)
    found = 0
    for picture, (boxes, scores, labels) in zip(x, expected, strict=True):
        given = tfopt.runtime.Session(inside).run(picture)
        count = int(given[3][0])
        assert [one.shape for one in given] == [(20, 4), (20,), (20,), (1,)] and count == len(boxes)
        order = np.lexsort((given[0][:count, 0], -given[1][:count].round(4)))
        mine = np.lexsort((boxes[:, 0], -scores.round(4)))
        np.testing.assert_allclose(given[0][:count][order], boxes[mine], atol=1e-4)
        np.testing.assert_allclose(given[1][:count][order], scores[mine], atol=1e-4)
        np.testing.assert_array_equal(given[2][:count][order], labels[mine])
        assert (given[1][count:] == 0).all() and (given[2][count:] == -1).all()
        found += count
    assert found > 5


def test_what_does_not_fit_is_said(made, trained, digits):
    with pytest.raises(DataError, match=r"y has no boxes; detection needs a dict of boxes \(m, 4\) and labels"):
        tasks.of(tasks.detection(digits))
    other = tasks.detection(made, strides=[16])
    said = r"4 offsets and 2 logits for each of 96 anchors, of strides \[16\] with 6 a place"
    with pytest.raises(DataError, match=said):
        tfopt.train(trained, other, Fit(epochs=1))
    with pytest.raises(DataError, match="detection in data 'squares' needs"):
        tasks.detections(np.zeros((1, 5, 6)), made)
    with pytest.raises(DataError, match="anchors are of data for detection"):
        tasks.anchors(digits)
    with pytest.raises(OptionError, match="no label smoothing"):
        tfopt.train(trained, made, Fit(epochs=1, label_smoothing=0.1))
    with pytest.raises(DataError, match="only classes that exclude each other have weights"):
        tfopt.train(trained, made, Fit(epochs=1, class_weights="balanced"))
    for wrong in ({"strides": []}, {"scales": [0]}, {"ratios": [-1.0]}, {"score": "map_75"}):
        with pytest.raises(OptionError, match=next(iter(wrong))):
            tasks.detection(made, **wrong)
    with pytest.raises(OptionError, match="should rise"):
        tfopt.models.ssd((64, 64, 3), 2, strides=[16, 8])


def test_a_loss_of_the_users_own_is_taken(made, trained):
    tf = backend.tensorflow()

    def plain(targets, outputs):
        classes = tf.cast(targets[..., 4], tf.int32)
        right = tf.one_hot(classes, outputs.shape[-1] - 4)
        return tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(right, outputs[..., 4:]), [1, 2])

    data = tasks.detection(made, loss=plain, **SMALL)
    assert data.fingerprint != made.fingerprint
    tfopt.train(trained, data, Fit(epochs=1, batch_size=16, **QUICK))


def test_the_options_of_the_task_are_the_builders_in_a_recipe(unpackable, tmp_path):
    recipe = {
        "name": "cells",
        "data": {"use": "voc", "folder": str(unpackable("bccd.zip")), "size": [48, 64], "preprocess": ["random_flip"]},
        "task": {"use": "detection", "strides": [8, 16], "scales": [2.0, 3.0], "ratios": [1.0]},
        "model": {"use": "ssd", "alpha": 0.25},
        "fit": {"epochs": 1, "batch_size": 16, **QUICK},
        "export": {"formats": ["float32"]},
        "quick": True,
    }
    report = tfopt.run(recipe, out=tmp_path / "run")
    assert {row.verdict.metric for row in report.rows} == {"map_50"} and len(report.rows) == 1
    assert dataclasses.asdict(report.rows[0].verdict)["per_class"]["WBC"]["boxes"] > 0
    page = (tmp_path / "run" / "report.html").read_text()
    assert "ap_50" in page and "test pictures, truth, the trained model, plain-float32.tflite: 4 of the test set" in page


def test_suppression_goes_behind_artifacts_only(tmp_path):
    with pytest.raises(ArtifactError, match="is no artifact; give what convert has made"):
        tfopt.with_detections(tmp_path / "detector.tflite", None)
    with pytest.raises(ArtifactError, match="junk"):
        tfopt.with_detections(tfopt.Artifact("junk", "int8", b"junk" * 100), None)
