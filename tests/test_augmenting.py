"""Augmentation of images: the laws that all of them keep, and what each does, told by Pillow, by painted boxes and by counting."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

import tfopt
from tfopt import backend, pipelines, preprocessing
from tfopt.errors import DataError, OptionError
from tfopt.preprocessing import _operations
from tfopt.types import Fit

# The options that an augmentation needs, or is seen better with, and those with which it changes nothing.
LAWS = {
    "aug_mix": ({}, {"severity": 0}),
    "brightness": ({}, {"amount": 0}),
    "contrast": ({}, {"amount": 0}),
    "cutmix": ({"classes": 4}, {"classes": 4, "alpha": 0}),
    "cutout": ({"size": 5}, {"size": 0}),
    "gaussian_blur": ({}, {"sigma": 0}),
    "gaussian_noise": ({}, {"std": 0}),
    "grayscale": ({"chance": 0.5}, {"chance": 0}),
    "hue": ({}, {"amount": 0}),
    "mixup": ({"classes": 4}, {"classes": 4, "alpha": 0}),
    "pad_and_crop": ({}, {"padding": 0}),
    "rand_augment": ({}, {"operations": 0}),
    "random_crop": ({"size": 12}, {"size": [16, 20]}),
    "random_flip": ({"vertical": True}, None),
    "resized_crop": ({}, {"scale": [1, 1], "ratio": [20 / 16, 20 / 16]}),
    "rotation": ({}, {"degrees": 0}),
    "saturation": ({}, {"amount": 0}),
    "shear": ({}, {"degrees": 0}),
    "translation": ({}, {"share": 0}),
    "zoom": ({}, {"share": 0}),
}
MIXING = {"mixup", "cutmix"}
GEOMETRIC = {"random_flip", "pad_and_crop", "random_crop", "resized_crop", "rotation", "shear", "translation", "zoom"}
NO_COLORS = {"hue", "saturation", "grayscale"}  # of an image of one channel
every = pytest.mark.parametrize("name", LAWS)


def pictures(count=24, channels=3, height=16, width=20):
    """Smooth random images, so that a small move changes them little."""
    coarse = np.random.default_rng(0).random((count, 4, 5, channels), np.float32)
    return backend.tensorflow().image.resize(coarse, (height, width)).numpy().clip(0, 1)


def labels(count=24):
    return np.arange(count, dtype=np.int32) % 4


def augmented(name, x, y=None, seed=(1, 2), **options):
    tf = backend.tensorflow()
    y = labels(len(x)) if y is None else y
    x, y = preprocessing.AUGMENTATIONS[name](tf.constant(x), y, tf.constant(seed, tf.int32), **options)
    return x.numpy(), {key: np.asarray(one) for key, one in y.items()} if isinstance(y, dict) else np.asarray(y)


def test_the_laws_are_asked_of_every_augmentation_of_images():
    others = {
        name for name, function in preprocessing.AUGMENTATIONS.items() if inspect.unwrap(function).__module__.endswith((".audio", ".text"))
    }
    assert set(LAWS) | others == set(preprocessing.AUGMENTATIONS)


# ---- laws


@every
@pytest.mark.parametrize("channels", [1, 3])
def test_the_same_seed_gives_the_same_and_another_seed_another_result(name, channels):
    x, options = pictures(channels=channels), LAWS[name][0]
    one, again, other = (augmented(name, x, seed=seed, **options) for seed in ((1, 2), (1, 2), (1, 3)))
    np.testing.assert_array_equal(one[0], again[0])
    np.testing.assert_array_equal(one[1], again[1])
    same = np.array_equal(one[0], other[0])
    assert same == (channels == 1 and name in NO_COLORS)
    assert one[0].dtype == np.float32 and one[0].min() >= 0 and one[0].max() <= 1
    assert one[0].shape == ((24, 12, 12, channels) if name == "random_crop" else x.shape)


@every
def test_each_image_is_changed_in_its_own_way(name):
    x = np.repeat(pictures(1), 40, axis=0)
    if name in MIXING:  # with images that are told apart by their label, so that partners show
        x = np.tile(np.linspace(0, 1, 40, dtype=np.float32)[:, None, None, None], (1, 16, 20, 3))
    new, _ = augmented(name, x, **LAWS[name][0])
    different = len({image.tobytes() for image in (new - x if name in MIXING else new)})
    assert different == {"grayscale": 2, "random_flip": 4}.get(name, different)
    assert different >= {"grayscale": 2, "random_flip": 4}.get(name, 20)


@pytest.mark.parametrize("name", [name for name, (_, nothing) in LAWS.items() if nothing])
def test_a_magnitude_of_nothing_changes_nothing(name):
    x, nothing = pictures(), LAWS[name][1]
    new, y = augmented(name, x, **nothing)
    np.testing.assert_allclose(new, x, atol=1e-4 if name == "resized_crop" else 0)
    np.testing.assert_array_equal(y, np.eye(4, dtype=np.float32)[labels()] if name in MIXING else labels())


@every
def test_a_graph_gives_what_eager_execution_gives_with_static_shapes(name):
    tf = backend.tensorflow()
    x, y, seed, options = pictures(), labels(), tf.constant([1, 2]), LAWS[name][0]
    function = preprocessing.AUGMENTATIONS[name]
    graph = tf.function(lambda x, y, seed: function(x, y, seed, **options), autograph=False)
    traced = graph.get_concrete_function(tf.TensorSpec([None, 16, 20, 3]), tf.TensorSpec([None], tf.int32), tf.TensorSpec([2], tf.int32))
    assert tuple(traced.output_shapes[0]) == (None, *((12, 12) if name == "random_crop" else (16, 20)), 3)
    for n in (24, 1, 0):
        for new, old in zip(traced(tf.constant(x[:n]), tf.constant(y[:n]), seed), augmented(name, x[:n], y[:n], **options), strict=True):
            assert len(new) == n
            np.testing.assert_allclose(new, old, atol=1e-5)


@pytest.mark.parametrize("policy", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_threads_change_nothing(policy):
    """Augmentations one after the other, through the pipeline, with one thread and with as many as there are."""
    tf = backend.tensorflow()
    policies = {"aug_mix", "rand_augment"}
    names = policies if policy else set(LAWS) - policies - MIXING - {"random_crop"}
    steps = [{"use": name, **LAWS[name][0]} for name in sorted(names)] + ["mixup", "cutmix"]
    x = (pictures(60) * 255).astype(np.uint8)
    data = tfopt.datasets.arrays(
        x=x, y=labels(60), preprocess=[*steps, {"use": "random_crop", "size": 12}, {"use": "center_crop", "size": 12}]
    )
    usual = list(pipelines.training_batches(data, Fit(epochs=2, batch_size=16)).as_numpy_iterator())
    alone = tf.data.Options()
    alone.threading.private_threadpool_size = 1
    alone.threading.max_intra_op_parallelism = 1
    single = list(pipelines.training_batches(data, Fit(epochs=2, batch_size=16)).with_options(alone).as_numpy_iterator())
    assert len(usual) == len(single) == 6
    for (one_x, one_y), (other_x, other_y) in zip(usual, single, strict=True):
        assert one_x.shape[1:] == (12, 12, 3)
        np.testing.assert_array_equal(one_x, other_x)
        np.testing.assert_array_equal(one_y, other_y)


# ---- moved and cut


def windows(image, height, width):
    return {
        image[top : top + height, left : left + width].tobytes(): (top, left)
        for top in range(image.shape[0] - height + 1)
        for left in range(image.shape[1] - width + 1)
    }


@pytest.mark.parametrize(("height", "width", "dtype"), [(5, 7, np.float32), (6, 6, np.uint8), (1, 9, np.float32), (9, 1, np.float32)])
def test_pad_and_crop_takes_every_window_of_the_padded_image(height, width, dtype):
    image = np.random.default_rng(0).integers(1, 255, (height, width, 3)).astype(dtype)
    found = windows(np.pad(image, [(2, 2), (2, 2), (0, 0)]), height, width)
    new, _ = augmented("pad_and_crop", np.repeat(image[None], 1000, axis=0), padding=2)
    places = [found[one.tobytes()] for one in new]  # a KeyError is an image that is none of them
    assert new.dtype == dtype and len(set(places)) == len(found)  # of one pixel's height, those that are all black are one
    if min(height, width) > 2:
        assert len(found) == 25 and np.bincount([5 * top + left for top, left in places]).min() > 15  # of 40


def test_random_crop_takes_every_window_of_the_image():
    image = np.random.default_rng(0).random((97, 131, 1), np.float32)
    found = windows(image, 95, 128)
    places = {found[one.tobytes()] for one in augmented("random_crop", np.repeat(image[None], 200, axis=0), size=[95, 128])[0]}
    assert len(places) == 12


def test_center_crop_takes_the_middle():
    x = pictures(2, height=9, width=8)
    np.testing.assert_array_equal(preprocessing.PREPARATIONS["center_crop"](x, size=4), x[:, 2:6, 2:6])
    np.testing.assert_array_equal(preprocessing.PREPARATIONS["center_crop"](x, size=[9, 2]), x[:, :, 3:5])


@pytest.mark.parametrize("vertical", [False, True])
def test_random_flip_mirrors_half_of_the_images(vertical):
    image = pictures(1)[0]
    kinds = {image.tobytes(): 0, image[:, ::-1].tobytes(): 1, image[::-1].tobytes(): 2, image[::-1, ::-1].tobytes(): 3}
    new, _ = augmented("random_flip", np.repeat(image[None], 400, axis=0), vertical=vertical)
    counts = np.bincount([kinds[one.tobytes()] for one in new], minlength=4)
    assert ((counts > 60) == [True, True, vertical, vertical]).all() and counts.sum() == 400


@pytest.mark.parametrize("size", [None, 10])
def test_resized_crop_shows_a_piece_of_the_image(size):
    """In an image whose red is the row and whose green is the column, the piece is read off."""
    row, column = np.meshgrid(np.arange(40), np.arange(30), indexing="ij")
    x = np.repeat(np.stack([row / 39, column / 29, row * 0], 2)[None].astype(np.float32), 300, axis=0)
    new, _ = augmented("resized_crop", x, size=size, scale=[0.25, 0.5], ratio=[0.5, 2.0])
    assert new.shape == (300, *((40, 30) if size is None else (10, 10)), 3)
    tall = (new[:, -1, 0, 0] - new[:, 0, 0, 0]) * 39 + 1
    wide = (new[:, 0, -1, 1] - new[:, 0, 0, 1]) * 29 + 1
    share, ratio, fits = tall * wide / 1200, wide / tall, (tall < 39) & (wide < 29)  # where the sides were not cut off
    assert share[fits].min() > 0.24 and share.max() < 0.51 and ratio[fits].min() > 0.49 and ratio[fits].max() < 2.05
    assert fits.sum() > 150 and share[fits].max() > 0.45 and ratio[fits].max() > 1.2 and ratio[fits].min() < 0.7
    assert new[:, 0, 0, 0].min() < 0.02 and new[:, -1, 0, 0].max() > 0.98  # pieces reach the edges


def read_off(name, **options):
    """For 400 images, the matrix and the move (row, column) by which places come out of the image, read off in its middle."""
    row, column = np.meshgrid(np.arange(41) - 20, np.arange(31) - 15, indexing="ij")
    x = np.repeat(np.stack([row, column, row * 0], 2)[None].astype(np.float32) / 100 + 0.5, 400, axis=0)
    new = (augmented(name, x, **options)[0][..., :2] - 0.5) * 100
    down, across = new[:, 21, 15] - new[:, 20, 15], new[:, 20, 16] - new[:, 20, 15]
    return np.stack([down, across], 2), new[:, 20, 15]


def test_rotation_shear_zoom_and_translation_go_as_far_as_they_are_told():
    def reaches(values, low, high):
        return np.allclose([values.min(), values.max()], [low, high], atol=0.03 * (high - low)) and abs(
            values.mean() - (low + high) / 2
        ) < 0.06 * (high - low)

    turned, moved = read_off("rotation", degrees=20)
    assert reaches(np.degrees(np.arctan2(turned[:, 0, 1], turned[:, 0, 0])), -20, 20)
    np.testing.assert_allclose(turned @ turned.transpose(0, 2, 1), np.tile(np.eye(2), (400, 1, 1)), atol=1e-3)
    np.testing.assert_allclose(moved, 0, atol=1e-3)
    slanted, moved = read_off("shear", degrees=20)
    for angles in (slanted[:, 0, 1], slanted[:, 1, 0]):
        assert reaches(np.degrees(np.arctan(angles)), -20, 20)
    np.testing.assert_allclose(slanted[:, [0, 1], [0, 1]], 1, atol=1e-3)
    np.testing.assert_allclose(moved, 0, atol=1e-3)
    zoomed, moved = read_off("zoom", share=0.3)
    assert reaches(zoomed[:, 0, 0], 0.7, 1.3)
    np.testing.assert_allclose(zoomed, zoomed[:, :1, :1] * np.eye(2), atol=1e-3)
    np.testing.assert_allclose(moved, 0, atol=1e-3)
    still, moved = read_off("translation", share=0.2)
    assert reaches(moved[:, 0], -8.2, 8.2) and reaches(moved[:, 1], -6.2, 6.2)
    np.testing.assert_allclose(still, np.tile(np.eye(2), (400, 1, 1)), atol=1e-3)


def test_crops_need_their_counterpart_for_what_is_not_augmented():
    x, y = (pictures(60) * 255).astype(np.uint8), labels(60)
    crop, center = {"use": "random_crop", "size": 12}, {"use": "center_crop", "size": 12}
    data = tfopt.datasets.arrays(x=x, y=y, preprocess=[crop, center])
    assert data.input_shape == (12, 12, 3)
    ((trained, _),) = pipelines.training_batches(data, Fit(epochs=1, batch_size=60)).as_numpy_iterator()
    assert trained.shape[1:] == pipelines.to_arrays(data.test)[0].shape[1:] == (12, 12, 3)
    middles = {one.tobytes() for one in np.rint(pipelines.to_arrays(data.train)[0] * 255).astype(np.uint8)}
    assert middles <= {one[2:14, 4:16].tobytes() for one in x}
    with pytest.raises(DataError, match=r"training examples the shape \(12, 12, 3\), all others \(16, 20, 3\).*center_crop"):
        tfopt.datasets.arrays(x=x, y=y, preprocess=[crop])


# ---- boxes


def painted(boxes, height=60, width=80):
    """Images with a white rectangle each, at ymin, xmin, ymax, xmax in pixels, and the boxes as labels, among padding."""
    x = np.zeros((len(boxes), height, width, 1), np.float32)
    for image, (top, left, bottom, right) in zip(x, boxes, strict=True):
        image[top:bottom, left:right] = 1
    shares = np.asarray(boxes, np.float32) / [height, width, height, width]
    empty = np.full((len(boxes), 2, 4), -1, np.float32)
    y = {"boxes": np.concatenate([empty[:, :1], shares[:, None], empty], 1).astype(np.float32)}
    return x, {**y, "labels": np.tile(np.array([-1, 7, -1, -1], np.int32), (len(boxes), 1))}


@pytest.mark.parametrize("name", sorted(GEOMETRIC | {"rand_augment"}))
def test_boxes_go_where_what_is_in_them_goes(name):
    rng = np.random.default_rng(0)
    tops, lefts = rng.integers(10, 30, 200), rng.integers(10, 45, 200)
    boxes = np.stack([tops, lefts, tops + rng.integers(8, 20, 200), lefts + rng.integers(8, 20, 200)], 1)
    options = {"random_crop": {"size": [40, 50]}, "random_flip": {"vertical": True}, "resized_crop": {"scale": [0.3, 1.0]}}.get(name, {})
    options = {"operations": 1, "magnitude": 15} if name == "rand_augment" else options
    x, y = painted(boxes)
    new, moved = augmented(name, x, y, **options)
    assert moved["boxes"].shape == y["boxes"].shape and moved["boxes"].dtype == np.float32 and moved["labels"].dtype == np.int32
    height, width = new.shape[1:3]
    seen = 0
    for image, found, label in zip(new[..., 0], moved["boxes"], moved["labels"], strict=True):
        assert (label[1:] == -1).all() and (found[1:] == -1).all()
        if label[0] == -1:
            assert (found[0] == -1).all() and (image > 0.5).sum() < 0.3 * 20 * 20 * (new.shape[1] * new.shape[2]) / 1000
            continue
        assert label[0] == 7 and (found[0] >= 0).all() and (found[0] <= 1).all()
        if name == "rand_augment" and image.max() - image.min() < 0.9:
            continue  # brightness, solarize and the like: the rectangle is no longer white
        rows, columns = np.nonzero((image > 0.5).any(1))[0], np.nonzero((image > 0.5).any(0))[0]
        if name == "rand_augment" and (len(rows) == height or len(columns) == width):
            continue  # inverted
        hull = np.array([rows[0], columns[0], rows[-1] + 1, columns[-1] + 1])
        pixels = found[0] * [height, width, height, width]
        cut = (pixels < 0.5) | (pixels > np.array([height, width, height, width]) - 0.5)
        slack = 2.0 if name in ("resized_crop", "zoom", "rand_augment") else 1.3
        if name in ("rotation", "shear", "rand_augment"):
            slack = np.where(cut, 12, slack)  # the hull of what was cut off reaches further than what is left of it
        assert (abs(hull - pixels) <= slack).all(), (name, hull, pixels)
        seen += 1
    assert seen > 100
    assert not np.array_equal(moved["boxes"][:, 0], y["boxes"][:, 1])


def test_boxes_that_leave_the_image_go_and_the_others_close_up():
    tf = backend.tensorflow()
    x = np.zeros((1, 10, 10, 1), np.float32)
    boxes = np.array([[[0.0, 0.0, 0.5, 0.5], [0.2, 0.6, 0.6, 1.0], [0.5, 0.0, 1.0, 0.6], [-1, -1, -1, -1]]], np.float32)
    y = {"boxes": boxes, "labels": np.array([[3, 4, 5, -1]], np.int32)}
    left = preprocessing.augmenting.stretched(tf.constant([5.0]), tf.constant([0.0]))  # the image half its width to the left
    _, moved = preprocessing.augmenting.upright(tf.constant(x), y, left)
    np.testing.assert_array_equal(moved["labels"], [[4, -1, -1, -1]])  # of the third, a sixth is left
    np.testing.assert_allclose(moved["boxes"][0], [[0.2, 0.1, 0.6, 0.5], *[[-1] * 4] * 3], atol=1e-6)


def test_colors_leave_boxes_where_they_are():
    x, y = painted([[5, 5, 30, 30]] * 4)
    for name in ("brightness", "contrast", "cutout", "gaussian_blur", "gaussian_noise"):
        _, after = augmented(name, x, y, **LAWS[name][0])
        np.testing.assert_array_equal(after["boxes"], y["boxes"])
        np.testing.assert_array_equal(after["labels"], y["labels"])


@pytest.mark.parametrize("name", ["mixup", "cutmix", "aug_mix"])
def test_what_mixes_images_refuses_boxes(name):
    x, y = painted([[5, 5, 30, 30]])
    with pytest.raises(DataError, match=f"{name}: mixes .* boxes.*leave it out of preprocess"):
        augmented(name, x, y)


# ---- masks


@pytest.mark.parametrize("name", sorted(GEOMETRIC | {"rand_augment"}))
def test_masks_go_where_their_pictures_go(name):
    """Pictures whose red is 1 and blue 0 where the mask has 1, and the other way round where it has 0: nothing is black but what comes from
    outside, where the mask has to say -1.
    """
    tf = backend.tensorflow()
    rng = np.random.default_rng(0)
    mask = np.kron(rng.integers(0, 2, (30, 6, 8)), np.ones((10, 10))).astype(np.int8)
    x = np.stack([mask, np.zeros_like(mask), 1 - mask], -1).astype(np.float32)
    options = {"random_crop": {"size": [41, 50]}, "random_flip": {"vertical": True}, "resized_crop": {"scale": [0.3, 1.0]}}.get(name, {})
    seed = tf.constant([3, 0])
    function = preprocessing.AUGMENTATIONS[name]
    if name == "rand_augment":  # of which only what moves is looked at
        strength = tf.ones([30])
        new, moved = _operations.one_each(tf.constant(x), tf.constant(mask), seed, list(_operations.GEOMETRIC), strength, move=0.3)
    else:
        new, moved = function(tf.constant(x), tf.constant(mask), seed, **options)
    new, moved = new.numpy(), moved.numpy()
    assert moved.shape == new.shape[:3] and moved.dtype == np.int8
    sure = np.abs(new[..., 0] + new[..., 2] - 1) < 1e-3  # neither at the edge of what comes from outside
    sure &= np.abs(new[..., 0] - 0.5) > 0.4
    assert sure.mean() > 0.5 and not np.array_equal(moved, mask[:, : moved.shape[1], : moved.shape[2]])
    np.testing.assert_array_equal(moved[sure], new[..., 0][sure] > 0.5)
    assert (new.sum(-1)[moved == -1] < 1).all()
    black = (new.sum(-1) == 0) & (moved != -1)  # within half a pixel of the edge
    assert black.sum((1, 2)).max() <= 2 * (new.shape[1] + new.shape[2])
    if name in ("random_flip", "random_crop"):
        assert sure.all() and (moved >= 0).all()


def test_steps_of_which_some_move_pixels_together_move_masks_alike():
    """Flips and crops are one operation on bytes; what comes out is what they give one after the other."""
    rng = np.random.default_rng(0)
    mask = rng.integers(0, 3, (24, 20, 24)).astype(np.int8)
    x = np.repeat((mask * 100)[..., None].astype(np.uint8), 3, -1)
    crop, middle = ({"use": use, "size": [13, 16]} for use in ("random_crop", "center_crop"))
    data = tfopt.datasets.arrays(x=x, y=mask, task="segmentation", preprocess=["random_flip", crop, middle])
    batches = pipelines.training_batches(data, tfopt.Fit(epochs=2, batch_size=5))
    for pictures, of in [*batches.as_numpy_iterator(), *pipelines.batches(data.test, 3).as_numpy_iterator()]:
        np.testing.assert_array_equal(np.rint(pictures[..., 0] * 2.55), of)


def test_a_middle_is_cut_with_its_boxes():
    x, y = painted([[20, 30, 40, 50]])
    new, moved = preprocessing.applied(x, y, preprocessing.calls([{"use": "center_crop", "size": [40, 50]}]))
    rows, columns = np.nonzero(new.numpy()[0, :, :, 0].any(1))[0], np.nonzero(new.numpy()[0, :, :, 0].any(0))[0]
    pixels = moved["boxes"].numpy()[0, 0] * [40, 50, 40, 50]
    np.testing.assert_allclose(pixels, [rows[0], columns[0], rows[-1] + 1, columns[-1] + 1], atol=1e-4)


@pytest.mark.parametrize("name", ["mixup", "cutmix", "aug_mix"])
def test_what_mixes_images_refuses_masks(name):
    with pytest.raises(DataError, match=f"{name}: mixes .* mask.*leave it out of preprocess"):
        augmented(name, np.zeros((2, 8, 8, 3), np.float32), np.zeros((2, 8, 8), np.int32))


# ---- brightness and colors, as Pillow has them


def as_pillow(x, change):
    return np.stack([np.asarray(change(Image.fromarray(np.rint(one * 255).astype(np.uint8)))) for one in x]) / 255


@pytest.mark.parametrize(
    ("name", "change", "tolerance"),
    [
        ("autocontrast", ImageOps.autocontrast, 1),
        ("equalize", ImageOps.equalize, 2),
        ("posterize", lambda image: ImageOps.posterize(image, 6), 0),
        ("solarize", lambda image: ImageOps.solarize(image, 127.5), 0),
        ("brightness", lambda image: ImageEnhance.Brightness(image).enhance(1.45), 1),
        ("color", lambda image: ImageEnhance.Color(image).enhance(1.45), 2),
        ("contrast", lambda image: ImageEnhance.Contrast(image).enhance(1.45), 2),
        ("sharpness", lambda image: ImageEnhance.Sharpness(image).enhance(1.45), 2),
    ],
)
def test_tonal_operations_are_those_of_pillow(name, change, tolerance):
    """At half strength; the tolerance is in levels of 255."""
    tf = backend.tensorflow()
    noise = np.random.default_rng(1).normal(0, 10, (4, 256, 320, 3))
    x = (np.rint((pictures(4, height=256, width=320) * 200 + 20 + noise).clip(5, 240)) / 255).astype(np.float32)
    new = _operations.TONAL[name](tf.constant(x), tf.fill([4], 0.5), 8).numpy()
    assert abs(new - as_pillow(x, change)).max() * 255 <= tolerance + 0.01
    assert abs(new - x).max() * 255 > 2.9


@pytest.mark.parametrize("name", ["autocontrast", "equalize"])
def test_images_of_one_value_stay(name):
    tf = backend.tensorflow()
    x = np.tile(np.array([0, 0.4, 1], np.float32)[:, None, None, None], (1, 6, 6, 3))
    np.testing.assert_allclose(_operations.TONAL[name](tf.constant(x), tf.fill([3], 0.5), 8), x, atol=1e-6)


def test_hue_keeps_brightness_and_goes_round():
    x = pictures(200) * 0.2 + 0.4  # far from the limits
    luma = x @ [0.299, 0.587, 0.114]
    new, _ = augmented("hue", x, amount=0.5)
    np.testing.assert_allclose(new @ [0.299, 0.587, 0.114], luma, atol=1e-5)
    change = abs(new - x).max(axis=(1, 2, 3))
    assert change.min() < 0.01 and change.max() > 0.1
    small, _ = augmented("hue", x, amount=0.02)
    reference = backend.tensorflow().image.adjust_hue(x, 0.02).numpy()
    assert abs(small - x).max() <= 1.6 * abs(reference - x).max()


def test_saturation_and_grayscale_keep_gray_images():
    gray = np.repeat(pictures(channels=1), 3, axis=3)
    for name in ("saturation", "grayscale", "hue"):
        np.testing.assert_allclose(augmented(name, gray, **LAWS[name][0])[0], gray, atol=1e-6)
    new, _ = augmented("grayscale", pictures(200), chance=0.3)
    gone = (np.ptp(new, axis=3) < 1e-6).all(axis=(1, 2))
    assert 35 < gone.sum() < 90
    np.testing.assert_allclose(new[gone][..., 0], (pictures(200) @ [0.299, 0.587, 0.114])[gone], atol=1e-5)


def test_brightness_and_contrast_are_even_over_their_range():
    x = np.tile(np.array([0.4, 0.6], np.float32)[:, None], (500, 1, 8, 3))
    brighter, _ = augmented("brightness", x, amount=0.2)
    added = (brighter - x).mean(axis=(1, 2, 3))
    assert -0.2 <= added.min() < -0.19 and 0.19 < added.max() <= 0.2 and abs(added.mean()) < 0.02
    stretched, _ = augmented("contrast", x, amount=0.5)
    factor = np.ptp(stretched, axis=(1, 2, 3)) / 0.2
    assert 0.5 <= factor.min() < 0.52 and 1.48 < factor.max() <= 1.501
    np.testing.assert_allclose(stretched.mean(axis=(1, 2, 3)), 0.5, atol=1e-5)


def test_noise_and_blur_have_the_size_that_they_are_given():
    x = np.full((16, 32, 32, 3), 0.5, np.float32)
    noise = augmented("gaussian_noise", x, std=0.1)[0] - x
    assert abs(noise.std() - 0.1) < 0.002 and abs(noise.mean()) < 0.002
    dots = np.zeros((200, 21, 25, 1), np.float32)
    dots[:, 10, 12] = 1
    new = augmented("gaussian_blur", dots, sigma=2.0)[0][..., 0]
    np.testing.assert_allclose(new.sum(axis=(1, 2)), 1, atol=5e-4)
    sigma = np.sqrt((new * (np.arange(21)[:, None] - 10) ** 2).sum(axis=(1, 2)))
    assert sigma.min() < 0.3 and 1.9 < sigma.max() < 2.01
    np.testing.assert_allclose(sigma, np.sqrt((new * (np.arange(25) - 12) ** 2).sum(axis=(1, 2))), atol=0.01)


def test_cutout_cuts_a_square_that_the_edges_cut():
    new, _ = augmented("cutout", np.ones((400, 16, 20, 3), np.float32), size=5)
    assert set(np.unique(new)) == {0, 1} and (np.ptp(new, axis=3) == 0).all()
    holes = (new[..., 0] == 0).sum(axis=(1, 2))
    assert holes.max() == 25 and 9 <= holes.min() < 25  # a middle in the corner leaves 3x3
    assert (new == 0).any(axis=(0, 3)).all()  # any pixel may go


# ---- mixing


@pytest.mark.parametrize("name", ["mixup", "cutmix"])
def test_labels_are_mixed_as_the_images_are(name):
    """Each image has the value of its class: what is left of it is read off the image."""
    y = labels(400)
    x = np.tile((0.1 * 3.0**-y)[:, None, None, None], (1, 12, 15, 3)).astype(np.float32)  # sums tell how much of which
    new, soft = augmented(name, x, y, alpha=1.0, classes=4)
    assert soft.dtype == np.float32 and soft.shape == (400, 4)
    np.testing.assert_allclose(soft.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(new.mean(axis=(1, 2, 3)), soft @ (0.1 * 3.0 ** -np.arange(4)), atol=1e-6)
    assert ((soft > 0).sum(axis=1) == 2).mean() > 0.6 and ((soft > 0).sum(axis=1) <= 2).all()
    own = soft[np.arange(400), y]
    assert abs(own.mean() - (0.5 + 0.5 * 0.25)) < 0.1 + 0.15 * (name == "cutmix")  # half, and what partners of its class give
    if name == "cutmix":
        assert set(np.unique(np.round(new, 6))) <= set(np.round(0.1 * 3.0 ** -np.arange(4), 6).astype(np.float32))


def test_the_weights_of_mixup_are_those_of_beta():
    x = np.zeros((4000, 2, 2, 1), np.float32)
    x[::2] = 1
    for alpha in (0.001, 0.2, 1.0, 5.0):
        new, _ = augmented("mixup", x, np.zeros(4000, np.int32), alpha=alpha, classes=1)
        weight = abs(new[:, 0, 0, 0] - (x[:, 0, 0, 0] == 0))  # of the image itself, where the partner is another
        mixed = np.concatenate([weight[(weight > 0) & (weight < 1)], np.zeros(1)])
        if alpha == 0.001:
            assert ((mixed > 0.01) & (mixed < 0.99)).sum() < 40 and 0.2 < (new[:, 0, 0, 0] != x[:, 0, 0, 0]).mean() < 0.3
        else:
            assert abs(np.var(mixed[:-1]) - 1 / (4 * (2 * alpha + 1))) < 0.02


def test_numbers_are_mixed_as_numbers_and_shares_as_shares():
    x, y = np.tile(np.linspace(0, 1, 50, dtype=np.float32)[:, None, None, None], (1, 4, 4, 1)), np.linspace(0, 1, 50, dtype=np.float32)
    new, mixed = augmented("mixup", x, y, alpha=1.0)
    np.testing.assert_allclose(new[:, 0, 0, 0], mixed, atol=1e-6)
    once, soft = augmented("mixup", pictures(), alpha=1.0, classes=4)
    _, twice = augmented("cutmix", once, soft)
    np.testing.assert_allclose(twice.sum(axis=1), 1, atol=1e-5)
    assert ((twice > 0).sum(axis=1) > 2).any()


def test_how_many_classes_there_are_is_filled_in(digits):
    with pytest.raises(DataError, match=r"mixup: classes.*not given.*fills it in"):
        augmented("mixup", pictures())
    data = tfopt.datasets.digits(preprocess=["mixup", "cutmix"])
    assert [step.options.get("classes") for step in data.steps if step.use != "rescale"] == [10, 10]
    _, y = next(pipelines.training_batches(data, Fit(batch_size=32)).as_numpy_iterator())
    assert y.shape == (32, 10) and y.dtype == np.float32
    assert pipelines.to_arrays(data.test)[1].dtype == np.int32  # what is not augmented keeps its labels
    assert data.fingerprint != digits.fingerprint


# ---- policies


@pytest.mark.parametrize(("name", "pixels"), [("translate_x", 5), ("translate_y", 4)])
def test_policies_move_by_a_share_of_the_side(name, pixels):
    tf = backend.tensorflow()
    x = pictures(40)
    new, _ = _operations.one_each(tf.constant(x), None, tf.constant([1, 2]), [name], tf.ones([40]), move=0.25)
    if name == "translate_y":
        x, new = x.transpose(0, 2, 1, 3), tf.transpose(new, [0, 2, 1, 3])
    sides = [
        np.isclose(new[:, :, pixels:], x[:, :, :-pixels], atol=1e-5).all(axis=(1, 2, 3))
        & (new[:, :, :pixels] == 0).numpy().all(axis=(1, 2, 3)),
        np.isclose(new[:, :, :-pixels], x[:, :, pixels:], atol=1e-5).all(axis=(1, 2, 3))
        & (new[:, :, -pixels:] == 0).numpy().all(axis=(1, 2, 3)),
    ]
    assert sum(side.sum() for side in sides) == 40 and min(side.sum() for side in sides) > 8


def test_rand_augment_uses_every_operation_and_leaves_some_images_alone():
    x = np.repeat(pictures(1), 300, axis=0)
    once, _ = augmented("rand_augment", x, operations=1, magnitude=15)
    alone = (once == x).all(axis=(1, 2, 3)).sum()
    assert 5 < alone < 60  # identity, one in 14 (and what happens to change nothing)
    kinds = {image.tobytes() for image in once}
    assert 20 <= len(kinds) <= 2 * 13 + 1  # each to either side, autocontrast and its like in one way only
    twice, _ = augmented("rand_augment", x, operations=2, magnitude=15)
    assert len({image.tobytes() for image in twice}) > 3 * len(kinds)


def test_aug_mix_stays_nearer_to_the_image_when_it_is_less_severe():
    x = pictures(100)
    weak, strong = (abs(augmented("aug_mix", x, severity=severity)[0] - x).mean() for severity in (1, 10))
    assert 0 < weak < 0.75 * strong


# ---- what is refused


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("rotation", {"degrees": -1}, "degrees = -1: should be greater than or equal to 0"),
        ("random_crop", {"size": 0}, "size = 0"),
        ("resized_crop", {"scale": [0.5, 1.5]}, "scale = .*two numbers from 0 to 1"),
        ("resized_crop", {"ratio": [2.0, 1.0]}, "ratio = .*the smaller one first"),
        ("mixup", {"alpha": float("nan")}, "alpha = nan"),
        ("zoom", {"share": 1}, "share = 1"),
    ],
)
def test_wrong_options_are_refused(name, options, message):
    with pytest.raises(OptionError, match=message):
        augmented(name, pictures(), **options)


@every
def test_what_is_no_image_is_refused(name):
    tf = backend.tensorflow()
    function, seed = preprocessing.AUGMENTATIONS[name], tf.constant([1, 2])
    for wrong in (np.zeros((4, 9), np.float32), {"image": pictures(4), "row": np.zeros((4, 3), np.float32)}):
        with pytest.raises(DataError, match=f"{name}: takes images"):
            function(wrong, labels(4), seed, **LAWS[name][0])


@pytest.mark.parametrize("name", ["brightness", "hue", "gaussian_blur", "mixup", "rand_augment", "aug_mix"])
def test_bytes_and_other_channels_are_refused_where_brightness_counts(name):
    for wrong, message in (((pictures(4) * 255).astype(np.uint8), "put rescale in front"), (pictures(4, channels=2), "1 channel.*or 3")):
        with pytest.raises(DataError, match=f"{name}: .*{message}"):
            augmented(name, wrong, **LAWS[name][0])


@pytest.mark.parametrize("name", sorted(preprocessing.OF_UNIT_RANGE))
def test_what_cuts_off_at_0_and_1_is_refused_behind_what_goes_beyond(name, digits):
    x, y = pipelines.to_arrays(digits.train)
    given = {"x": np.repeat(x, 3, axis=3), "y": y}
    tfopt.datasets.arrays(**given, preprocess=[name, "z_score"])
    with pytest.raises(DataError, match=f"{name}: takes pictures of 0 to 1, and the steps in front of it give -.*; put it in front of"):
        tfopt.datasets.arrays(**given, preprocess=["z_score", "random_flip", name])
