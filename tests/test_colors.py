"""Color spaces, each against scikit-image or PIL, on photographs and on colors of all kinds."""

from __future__ import annotations

import colorsys

import numpy as np
import PIL.Image
import pytest
from skimage import color
from sklearn import datasets as bundled

import tfopt
from tfopt import pipelines
from tfopt.errors import DataError
from tfopt.preprocessing import PREPARATIONS

SPACES = ("hsv", "yuv", "yiq", "lab")
# scikit-image has YIQ's matrix with more digits; Lab's values go up to 128
CLOSE = {"hsv": 1e-5, "yuv": 1e-5, "yiq": 1e-4, "lab": 2e-3}


@pytest.fixture(scope="module")
def photograph():
    """(427, 640, 3) bytes."""
    return bundled.load_sample_image("flower.jpg")


@pytest.fixture(scope="module")
def every_kind(photograph):
    """The photograph's pixels, and all combinations of six levels, so that all corners, edges and grays of the color cube are there."""
    levels = np.linspace(0, 1, 6, dtype=np.float32)
    cube = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(1, 12, 18, 3)
    return [cube, photograph[np.newaxis].astype(np.float32) / 255]


@pytest.mark.parametrize("space", SPACES)
def test_from_rgb_is_what_scikit_image_makes(space, every_kind):
    for x in every_kind:
        expected = getattr(color, f"rgb2{space}")(x.astype(np.float64))
        np.testing.assert_allclose(PREPARATIONS[f"rgb_to_{space}"](x), expected, atol=CLOSE[space])


@pytest.mark.parametrize("space", SPACES)
def test_to_rgb_is_what_scikit_image_makes(space, every_kind):
    for x in every_kind:
        there = getattr(color, f"rgb2{space}")(x.astype(np.float64))
        expected = getattr(color, f"{space}2rgb")(there)
        np.testing.assert_allclose(PREPARATIONS[f"{space}_to_rgb"](there), expected, atol=1e-4)


@pytest.mark.parametrize("space", SPACES)
def test_there_and_back(space, every_kind):
    for x in every_kind:
        np.testing.assert_allclose(PREPARATIONS[f"{space}_to_rgb"](PREPARATIONS[f"rgb_to_{space}"](x)), x, atol=1e-4)


def test_hues_all_around_the_circle():
    """Against Python's own colorsys, beyond a turn as well."""
    hues = np.linspace(-1, 2, 61)
    x = np.stack([hues, np.full(61, 0.7), np.full(61, 0.9)], -1).astype(np.float32).reshape(1, 1, 61, 3)
    expected = [colorsys.hsv_to_rgb(hue % 1, 0.7, 0.9) for hue in hues]
    np.testing.assert_allclose(PREPARATIONS["hsv_to_rgb"](x).numpy()[0, 0], expected, atol=1e-5)


def test_gray_is_what_pil_makes(photograph):
    expected = np.asarray(PIL.Image.fromarray(photograph).convert("L")).astype(np.float32)
    x = photograph[np.newaxis].astype(np.float32) / 255
    gray = PREPARATIONS["rgb_to_gray"](x).numpy()
    assert gray.shape == (1, 427, 640, 1)
    np.testing.assert_allclose(gray[0, ..., 0] * 255, expected, atol=0.6)  # PIL rounds to bytes
    np.testing.assert_allclose(gray[..., 0], PREPARATIONS["rgb_to_yuv"](x)[..., 0], atol=1e-6)


def test_gray_in_three_channels_is_the_same_gray():
    x = np.random.default_rng(0).random((2, 4, 5, 1), np.float32)
    three = PREPARATIONS["gray_to_rgb"](x)
    np.testing.assert_array_equal(three, np.repeat(x, 3, -1))
    np.testing.assert_allclose(PREPARATIONS["rgb_to_gray"](three), x, atol=1e-6)


def test_colors_out_of_range_give_numbers():
    """As an augmentation may leave them."""
    x = np.array([[[[-0.2, 0.5, 1.3], [2.0, -1.0, 0.0], [0.0, 0.0, 0.0]]]], np.float32)
    for space in SPACES:
        there = PREPARATIONS[f"rgb_to_{space}"](x)
        assert np.isfinite(there).all() and np.isfinite(PREPARATIONS[f"{space}_to_rgb"](there)).all(), space


def test_a_data_set_of_bytes_comes_in_another_space(data_folder):
    sheet = PIL.Image.open(sorted(data_folder("cifar10").glob("train_*.png"))[0]).convert("RGB")
    x = np.asarray(sheet).reshape(-1, 32, 32, 3)[:200]
    data = tfopt.datasets.arrays(x=x, y=np.arange(200) % 4, preprocess=["rgb_to_lab"])
    assert [step.use for step in data.steps] == ["rescale", "rgb_to_lab"]
    got, raw = (pipelines.to_arrays(one)[0] for one in (data.train, pipelines.raw(data.train)))
    np.testing.assert_allclose(got, color.rgb2lab(raw), atol=CLOSE["lab"])
    gray = tfopt.datasets.arrays(x=x, y=np.arange(200) % 4, preprocess=["rgb_to_gray"])
    assert gray.input_shape == (32, 32, 1) and gray.raw_shape == (32, 32, 3)


RGB = [name for name in PREPARATIONS if name.startswith("rgb_to_") or name.endswith("_to_rgb")]


@pytest.mark.parametrize("name", RGB)
def test_other_shapes_and_bytes_are_refused(name):
    channels = 1 if name == "gray_to_rgb" else 3
    with pytest.raises(DataError, match=rf"{name}: takes images \(height, width, {channels}\), got examples of shape \(4, 4, 2\)"):
        PREPARATIONS[name](np.zeros((1, 4, 4, 2), np.float32))
    with pytest.raises(DataError, match=rf"got examples of shape \(4, {channels}\)"):
        PREPARATIONS[name](np.zeros((2, 4, channels), np.float32))
    with pytest.raises(DataError, match=r"takes colors as floats in 0\.\.1, got uint8; put rescale in front of it"):
        PREPARATIONS[name](np.zeros((1, 4, 4, channels), np.uint8))


def test_a_data_set_in_gray_says_what_does_not_suit(digits):
    x, y = pipelines.to_arrays(digits.train)
    with pytest.raises(DataError, match=r"arrays: rgb_to_lab: takes images \(height, width, 3\), got examples of shape \(8, 8, 1\)"):
        tfopt.datasets.arrays(x=x, y=y, preprocess=["rgb_to_lab"])
