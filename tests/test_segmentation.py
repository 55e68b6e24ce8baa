"""Segmentation: masks from boxes and from files, what is learnt of them, and what a model and its file score."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from PIL import Image

import tfopt
from tfopt import backend, pipelines, tasks, verification
from tfopt.errors import DataError, OptionError
from tfopt.tracing import Trace
from tfopt.types import Fit

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def cells(unpackable):
    return tfopt.datasets.voc(folder=unpackable("bccd.zip"), size=[60, 80], masks="ellipses", preprocess=["random_flip"])


def discs(count=80, size=32):
    """Pictures with a bright disc on a dark ground, and masks of it; the picture's lowest rows are void."""
    rows, columns = np.mgrid[:size, :size]
    middles, radii = RNG.uniform(8, size - 8, (count, 2)), RNG.uniform(4, 8, count)
    y = (np.hypot(rows - middles[:, :1, None], columns - middles[:, 1:, None]) < radii[:, None, None]).astype(np.int32)
    x = np.clip(0.25 + 0.5 * y[..., None] + RNG.normal(0, 0.1, (count, size, size, 3)), 0, 1).astype(np.float32)
    y[:, -2:] = -1
    return x, y


@pytest.fixture(scope="module")
def made():
    x, y = discs()
    return tfopt.datasets.arrays(x=x, y=y, task="segmentation", classes=["ground", "disc"], name="discs", preprocess=["random_flip"])


# Masks of boxes


def test_ellipses_fill_the_boxes_of_a_real_set(cells, unpackable):
    boxes = tfopt.datasets.voc(folder=unpackable("bccd.zip"), size=[60, 80])
    assert cells.task == "segmentation" and cells.classes == ("background", "Platelets", "RBC", "WBC")
    assert any("derived labels" in note for note in cells.notes)
    for part in ("train", "validation", "test"):
        masks, of = pipelines.labels(getattr(cells, part)), pipelines.labels(getattr(boxes, part))
        assert masks.shape == (len(of["labels"]), 60, 80)
        for mask, box, label in zip(masks, of["boxes"], of["labels"], strict=True):
            there = label >= 0
            assert set(np.unique(mask)) - {0} <= set(label[there] + 1)
            areas = np.pi / 4 * np.prod(box[there][:, 2:] - box[there][:, :2], axis=1)
            assert (mask > 0).mean() <= areas.sum() + 0.02  # some lie before others
            alone = there.sum() == 1
            if alone:
                assert (mask > 0).mean() == pytest.approx(areas.sum(), abs=0.01)


def test_an_ellipse_is_where_its_box_is_and_small_ones_stay_to_be_seen():
    from tfopt.datasets import _masks

    boxes = np.array([[0.4, 0.4, 0.5, 0.6], [0.0, 0.0, 1.0, 1.0]], np.float32)
    mask = _masks.ellipses(boxes, np.array([1, 0]), (100, 50))
    assert set(np.unique(mask)) == {0, 1, 2} and mask[50, 25] == 1 and mask[0, 0] == 0
    rows, columns = np.nonzero(mask == 2)
    assert (rows.min(), rows.max() + 1, columns.min(), columns.max() + 1) == (40, 50, 20, 30)
    assert (mask == 2).sum() == pytest.approx(np.pi / 4 * 10 * 10, rel=0.06)
    assert (mask > 0).sum() == pytest.approx(np.pi / 4 * 100 * 50, rel=0.01)


def test_a_class_may_not_be_called_background():
    from tfopt.datasets import _masks

    with pytest.raises(DataError, match=r"are called 'background'.*rename them"):
        _masks.with_background(["cat", "background"], "folder = x")


# Masks of files

NAMES = ["ground", "thing"]


def mask_of(number, size=(24, 32), values=(0, 1, 255)):
    return np.random.default_rng(number).choice(np.array(values, np.uint8), size)


def without_void(mask):
    return np.where(mask == 255, -1, mask.astype(int))


def write(folder, count=12, size=(24, 32), parts=("",)):
    """Pictures p0.jpg, p1.png, ... that are as bright as their number, and their masks."""
    for number in range(count):
        images, masks = (folder / parts[number % len(parts)] / name for name in ("images", "masks"))
        for one in (images, masks):
            one.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((*size, 3), 10 * number, np.uint8)).save(images / f"p{number}.{('jpg', 'png')[number % 2]}")
        Image.fromarray(mask_of(number, size)).save(masks / f"p{number}.png")
    return folder


def test_masks_of_files_find_their_pictures(tmp_path):
    data = tfopt.datasets.image_masks(folder=write(tmp_path / "set"), size=[24, 32], classes=NAMES)
    assert data.task == "segmentation" and data.classes == tuple(NAMES) and data.notes == ()
    seen = set()
    for part in ("train", "validation", "test"):
        for x, y in pipelines.raw(getattr(data, part)).as_numpy_iterator():
            number = round(x.mean() / 10)
            np.testing.assert_array_equal(y, without_void(mask_of(number)))
            seen.add(number)
    assert seen == set(range(12))


def test_masks_are_stretched_as_pictures_are(tmp_path):
    """Nearest neighbours: what TensorFlow makes of the same mask."""
    data = tfopt.datasets.image_masks(folder=write(tmp_path / "set"), size=[13, 40], classes=NAMES)
    for x, y in pipelines.raw(data.train).as_numpy_iterator():
        mask = mask_of(round(x.mean() / 10))
        expected = backend.tensorflow().image.resize(mask[..., None], (13, 40), "nearest").numpy()[..., 0]
        np.testing.assert_array_equal(y, without_void(expected))


def test_folders_of_parts_are_parts(tmp_path):
    folder = write(tmp_path / "set", parts=("train", "train", "val", "test"))
    data = tfopt.datasets.image_masks(folder=folder, size=[24, 32], classes=NAMES)
    assert [int(getattr(data, part).cardinality()) for part in ("train", "validation", "test")] == [6, 3, 3]
    copy = write(tmp_path / "copied" / "set", parts=("train", "train", "val", "test"))
    assert tfopt.datasets.image_masks(folder=copy, size=[24, 32], classes=NAMES).fingerprint == data.fingerprint


def test_palettes_bits_and_turned_pictures_are_taken(tmp_path):
    folder = write(tmp_path / "set")
    image = Image.fromarray(mask_of(0))
    image.putpalette([channel for value in range(256) for channel in (value, 255 - value, 7)])
    assert image.mode == "P"
    image.save(folder / "masks" / "p0.png")
    Image.fromarray(mask_of(2) == 1).save(folder / "masks" / "p2.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter of a turn
    Image.fromarray(np.full((24, 32, 3), 40, np.uint8)).save(folder / "images" / "p4.jpg", exif=exif)
    Image.fromarray(mask_of(4, (32, 24))).save(folder / "masks" / "p4.png")  # drawn on the turned one
    data = tfopt.datasets.image_masks(folder=folder, size=[24, 32], classes=NAMES)
    assert data.notes == ()
    for part in ("train", "validation", "test"):
        for x, y in pipelines.raw(getattr(data, part)).as_numpy_iterator():
            number = round(x.mean() / 10)
            if number == 2:
                np.testing.assert_array_equal(y, mask_of(2) == 1)
            if number == 0:
                np.testing.assert_array_equal(y, without_void(mask_of(0)))


def spoil(folder, what):
    masks = folder / "masks"
    if what == "missing":
        (masks / "p3.png").unlink()
    elif what == "size":
        Image.fromarray(mask_of(3, (12, 16))).save(masks / "p3.png")
    elif what == "index":
        Image.fromarray(mask_of(3, values=(0, 1, 7))).save(masks / "p3.png")
    elif what == "colors":
        Image.fromarray(np.zeros((24, 32, 3), np.uint8)).save(masks / "p3.png")
    elif what == "damaged":
        (masks / "p3.png").write_bytes((masks / "p3.png").read_bytes()[:-20])
    elif what == "jpeg":
        (masks / "p3.png").unlink()
        Image.fromarray(mask_of(3)).save(masks / "p3.jpg")


PROBLEMS = {
    "missing": r"images/p3.png has no mask of that name",
    "size": r"images/p3.png has 32 x 24 pixels, its mask has 16 x 12",
    "index": r"images/p3.png has a mask that holds the index 7; with 2 classes they go from 0 to 1, but for 255, which is void",
    "colors": r"images/p3.png has a mask that holds colors \(RGB\); should hold an index for each pixel",
    "damaged": r"images/p3.png has a mask that is a PNG that is cut off",
    "jpeg": r"images/p3.png has a mask that is a JPEG, whose losses change classes; save it as PNG",
}


@pytest.mark.parametrize("what", PROBLEMS)
def test_a_mask_that_can_not_be_used_is_named(tmp_path, what):
    folder = write(tmp_path / "set")
    spoil(folder, what)
    given = {"folder": folder, "size": [24, 32], "classes": NAMES}
    with pytest.raises(DataError, match=rf"1 of 12 pictures or their masks can't be read: {PROBLEMS[what]}.*corrupt = 0.05"):
        tfopt.datasets.image_masks(**given)
    data = tfopt.datasets.image_masks(**given, corrupt=0.1)
    assert "left out" in data.notes[0] and sum(int(getattr(data, part).cardinality()) for part in ("train", "validation", "test")) == 11


def test_wrong_options_and_folders_are_refused(tmp_path):
    folder = write(tmp_path / "set")
    for given, error, said in [
        ({"classes": ["one"]}, OptionError, "should be two or more, the background among them"),
        ({"void": 1}, OptionError, "void = 1: is the index of the class 'thing'"),
        ({"masks": "labels"}, DataError, "there is no .*labels; should hold pictures in images, and their masks in labels"),
        ({"classes": ["ground", "thing", "other"]}, DataError, "no example of 'other'"),
    ]:
        with pytest.raises(error, match=said):
            tfopt.datasets.image_masks(**{"folder": folder, "size": [24, 32], "classes": NAMES, **given})
    (folder / "masks" / "stray.png").write_bytes((folder / "masks" / "p0.png").read_bytes())
    assert "1 masks have no picture" in tfopt.datasets.image_masks(folder=folder, size=[24, 32], classes=NAMES).notes[0]


def test_masks_in_memory_are_checked():
    x, y = discs(20)
    for wrong, said in [
        (y[:, 0], r"of shape \(32,\) each; for task = 'segmentation' should be class indices"),
        (y.astype(np.float32), "holds float32"),
        (np.where(y == 1, 2, y), r"20 masks hold an index outside 0..1, the first at index 0 has 2"),
        (y[:-1], "has 20 examples and y 19 labels"),
    ]:
        with pytest.raises(DataError, match=said):
            tfopt.datasets.arrays(x=x, y=wrong, task="segmentation", classes=["ground", "disc"])
    with pytest.raises(DataError, match="pictures are 32x32 and masks 16x16; segmentation needs both of one size"):
        tasks.of(tfopt.datasets.arrays(x=x, y=y[:, ::2, ::2], task="segmentation"))
    with pytest.raises(DataError, match="segmentation needs a mask of class indices"):
        tasks.of(tasks.segmentation(tfopt.datasets.digits()))


# What is learnt and scored


def net(*layers):
    keras = backend.keras()
    with backend.seeded(0):
        return keras.Sequential([keras.Input((32, 32, 3)), *layers])


def convolution(filters, activation=None):
    return backend.keras().layers.Conv2D(filters, 5, padding="same", activation=activation)


@pytest.mark.parametrize("activation", ["softmax", None])
def test_a_model_and_its_file_score_alike(made, activation):
    with Trace() as trace:
        model = tfopt.train(net(convolution(2, activation)), made, Fit(epochs=15, batch_size=8, learning_rate=5e-2))
    history = trace.entries[0]["history"]
    assert history["val_loss"][-1] < history["val_loss"][0] and history["val_accuracy"][-1] > 0.95
    reference = verification.reference(model, made)
    plain, small = (tfopt.verify(tfopt.convert(model, kind, data=made), against=reference, data=made) for kind in ("float32", "int8"))
    assert plain.metric == "iou" and plain.score == pytest.approx(plain.baseline, abs=1e-5) and plain.baseline > 0.8
    assert plain.agreement == pytest.approx(1, abs=1e-4) and abs(small.drop) < 0.03 and small.agreement > 0.97
    for verdict in (plain, small):
        assert verdict.interval[0] <= verdict.score <= verdict.interval[1]
        assert verdict.score == pytest.approx(np.mean([of["iou"] for of in verdict.per_class.values()]))
        assert np.sum(verdict.confusion) == sum(of["pixels"] for of in verdict.per_class.values()) == verdict.examples * 30 * 32
    assert dataclasses.asdict(plain)["per_class"]["disc"]["iou"] > 0.7


def measured(data, truth, outputs):
    return tasks.of(data).scores(truth, outputs, outputs)


def test_the_iou_is_kerass(made):
    truth = RNG.integers(-1, 2, (9, 32, 32)).astype(np.int8)
    p = RNG.dirichlet([1, 1], (9, 32, 32)).astype(np.float32)
    p[np.arange(9)[:, None, None], np.arange(32)[:, None], np.arange(32), np.maximum(truth, 0)] += 0.3
    p /= p.sum(-1, keepdims=True)
    found = measured(made, truth, p)
    keras = backend.keras().metrics.MeanIoU(2, sparse_y_pred=False, ignore_class=-1)
    assert found.value == pytest.approx(float(keras(truth, p)), abs=1e-6)
    counted, taken = truth[truth >= 0], p.argmax(-1)[truth >= 0]
    hits = [(counted == c)[taken == c].sum() for c in (0, 1)]
    sizes = [(counted == c).sum() + (taken == c).sum() for c in (0, 1)]
    assert found.metrics["dice"] == pytest.approx(np.mean([2 * hit / size for hit, size in zip(hits, sizes, strict=True)]))
    assert found.metrics["accuracy"] == pytest.approx((counted == taken).mean())
    assert found.per_class["disc"]["recall"] == pytest.approx(hits[1] / (counted == 1).sum())
    assert found.per_class["disc"]["precision"] == pytest.approx(hits[1] / (taken == 1).sum())
    logits = np.log(p) + 3  # the same probabilities, so the same classes
    assert measured(made, truth, logits).metrics == pytest.approx(found.metrics)


def test_a_class_that_is_nowhere_counts_in_no_mean(made):
    truth = np.zeros((2, 32, 32), np.int8)
    right = np.stack([np.ones((2, 32, 32)), np.zeros((2, 32, 32))], -1).astype(np.float32)
    found = measured(made, truth, right)
    assert found.metrics == {"iou": 1.0, "dice": 1.0, "accuracy": 1.0} and np.isnan(found.per_class["disc"]["iou"])
    with pytest.raises(DataError, match="iou is not defined on this test set; every pixel of its masks is void"):
        measured(made, truth - 1, right)


def test_pixels_that_are_no_numbers_are_wrong(made):
    truth = np.zeros((2, 32, 32), np.int8)
    outputs = np.stack([np.ones((2, 32, 32)), np.zeros((2, 32, 32))], -1).astype(np.float32)
    outputs[0, 0, :8] = np.nan
    found = measured(made, truth, outputs)
    assert found.value == pytest.approx(1 - 8 / 2048) and np.sum(found.confusion) == 2040
    assert tasks.of(made).agreement(outputs, np.nan_to_num(outputs)) == pytest.approx(1 - 8 / 2048)


def test_void_pixels_teach_nothing(made):
    """Whatever the picture and the model are: the gradient is that of the loss over the other pixels alone."""
    tf = backend.tensorflow()
    x, y = pipelines.to_arrays(made.train)
    model = net(convolution(2))
    fit = Fit(epochs=1, batch_size=len(y), optimizer="sgd", learning_rate=0.1, schedule="constant", precision="float32", xla=False)
    data = dataclasses.replace(made, steps=(), train=pipelines.examples(x, y))
    trained = tfopt.train(model, data, fit)
    with tf.GradientTape() as tape:
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(np.maximum(y, 0).astype(np.int32), model(x))
        loss = tf.reduce_mean(tf.boolean_mask(losses, y >= 0))
    step = (trained.trainable_variables[0] - model.trainable_variables[0]).numpy()
    gradient = tape.gradient(loss, model.trainable_variables[0]).numpy()
    assert np.corrcoef(step.ravel(), -gradient.ravel())[0, 1] > 0.9999


@pytest.mark.parametrize(
    "options", [{"class_weights": "balanced"}, {"class_weights": {"disc": 9.0}}, {"label_smoothing": 0.2}, {"loss": "dice"}]
)
def test_weights_smoothing_and_losses_are_taken(made, options):
    loss = "categorical_focal_crossentropy" if options.pop("loss", None) else None
    data = tasks.segmentation(made, loss=loss) if loss else made
    fit = Fit(epochs=15, batch_size=8, learning_rate=5e-2, precision="float32", xla=False, steps_per_execution=1, **options)
    model = tfopt.train(net(convolution(2, "softmax")), data, fit)
    assert verification.reference(model, data).score > 0.6
    assert data.fingerprint != made.fingerprint or not loss


@pytest.mark.parametrize(
    ("layers", "said"),
    [
        (
            lambda: [convolution(3, "softmax")],
            r"of shape \(32, 32, 3\).*with 2 classes, needs \(32, 32, 2\); end the model in Conv2D",
        ),
        (lambda: [convolution(2, "sigmoid")], "ends in sigmoid; one class of several at each pixel needs a softmax or logits"),
    ],
)
def test_models_that_do_not_fit_are_refused(made, layers, said):
    with pytest.raises(DataError, match=said):
        tfopt.train(net(*layers()), made, Fit(epochs=1))


def test_such_data_is_described_and_drawn(cells, tmp_path):
    found = tfopt.describe(cells)
    masks = pipelines.labels(cells.train)
    assert found.classes["WBC"]["train"] == (masks == 3).sum()
    assert f"{100 * (masks == 3).mean():.2f} %" in str(found)
    assert any("times as many pixels of 'background' as of 'Platelets'" in warning for warning in found.warnings)
    assert tfopt.describing.save_sheet(cells, tmp_path / "sheet.png").stat().st_size > 10_000


def test_void_is_no_class_in_a_description(made):
    found = tfopt.describe(made)
    assert not found.warnings
    assert sum(of["train"] for of in found.classes.values()) == (pipelines.labels(made.train) >= 0).sum()


def test_unet_learns_the_discs(made):
    with backend.seeded(0):
        model = tfopt.models.unet(made.input_shape, 2, width=4, depth=2)
    fit = Fit(epochs=8, batch_size=8, learning_rate=1e-2, precision="float32", xla=False, steps_per_execution=1)
    model = tfopt.train(model, made, fit)
    verdict = tfopt.verify(tfopt.convert(model, "int8", data=made), against=model, data=made)
    assert verdict.baseline > 0.85 and verdict.drop < 0.05


def test_a_recipe_goes_the_whole_way(tmp_path):
    x, y = discs()
    np.savez(tmp_path / "discs.npz", x=x, y=y)
    recipe = {
        "name": "discs",
        "data": {"use": "arrays", "x": str(tmp_path / "discs.npz"), "task": "segmentation"},
        "task": {"use": "segmentation", "score": "dice"},
        "model": {"use": "unet", "width": 4, "depth": 1},
        "fit": {"epochs": 2, "batch_size": 16, "precision": "float32", "xla": False, "steps_per_execution": 1},
        "limits": {"int8": {"score": 0.1}},
    }
    report = tfopt.run(recipe, out=tmp_path / "run")
    assert {row.artifact.format: row.verdict.metric for row in report.rows} == {"float32": "dice", "int8": "dice"}
    page = (tmp_path / "run" / "report.html").read_text()
    assert "confusion matrix" in page and "iou" in page
    assert "data:image/jpeg;base64," in page
    assert "test pictures, truth, the trained model, plain-int8.tflite: 4 of the test set" in page


def test_a_loss_of_indices_is_not_smoothed(cells):
    data = tasks.segmentation(cells, loss="sparse_categorical_crossentropy")
    with pytest.raises(OptionError, match="the loss sparse_categorical_crossentropy has no label smoothing"):
        tfopt.train(tfopt.models.unet(data.input_shape, 4, width=2, depth=1), data, Fit(epochs=1, label_smoothing=0.1))


@pytest.mark.parametrize("batch", [None, 16])
def test_a_data_set_of_masks_is_wrapped_as_examples_or_batches(digits, batch):
    x, _ = pipelines.to_arrays(digits.train)
    masks = (x[..., 0] > 0.5).astype(np.int32)
    given = backend.tensorflow().data.Dataset.from_tensor_slices((x, masks))
    data = tfopt.datasets.wrap(train=given.batch(batch) if batch else given, task="segmentation", classes=["paper", "ink"])
    assert data.input_shape == (8, 8, 1) and tuple(data.train.element_spec[1].shape) == (8, 8)
    assert sum(pipelines.size(part) for part in (data.train, data.validation, data.test)) == len(x)
