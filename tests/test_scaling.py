"""Scaling, contrast and projections, each against another implementation, on scanned digits and on photographs."""

from __future__ import annotations

import numpy as np
import pytest
from skimage import exposure
from sklearn import datasets as bundled
from sklearn import decomposition, neighbors, preprocessing

import tfopt
from tfopt import pipelines
from tfopt.errors import DataError, OptionError
from tfopt.preprocessing import LEARNERS, PREPARATIONS, applied, calls, learned
from tfopt.types import Call


@pytest.fixture(scope="module")
def images():
    """Digits, of which many pixels are always 0: (1797, 8, 8, 1) in 0..1."""
    return (bundled.load_digits().images[..., None] / 16).astype(np.float32)


@pytest.fixture(scope="module")
def table():
    """Measurements of wine, whose columns differ by factors of thousands: (178, 13)."""
    return bundled.load_wine().data.astype(np.float32)


@pytest.fixture(scope="module")
def photographs():
    """Pieces of two photographs, dark and bright ones: (12, 60, 80, 3) in 0..1."""
    both = [bundled.load_sample_image(name).astype(np.float32) / 255 for name in ("china.jpg", "flower.jpg")]
    return np.stack([one[row : row + 60, at : at + 80] for one in both for row in (0, 150, 300) for at in (50, 350)])


def done(use, x, **options):
    """A step with what it learns of x."""
    (step,) = learned(calls([{"use": use, **options}]), x, source="test")
    return applied(x, None, [step])[0].numpy()


def rows(x):
    return x.reshape(len(x), -1)


# ---- min_max and z_score


def test_z_score_is_what_scikit_learn_makes(table, images):
    np.testing.assert_allclose(done("z_score", table), preprocessing.StandardScaler().fit_transform(table), atol=1e-4)
    expected = preprocessing.StandardScaler().fit_transform(rows(images).astype(np.float64))
    np.testing.assert_allclose(rows(done("z_score", images, per="feature")), expected, atol=1e-4)


def test_min_max_is_what_scikit_learn_makes(table, images):
    np.testing.assert_allclose(done("min_max", table), preprocessing.MinMaxScaler().fit_transform(table), atol=1e-5)
    np.testing.assert_allclose(rows(done("min_max", images)), preprocessing.MinMaxScaler().fit_transform(rows(images)), atol=1e-6)


def test_channels_and_all_have_statistics_of_their_own(photographs):
    by_channel, by_all = (done("z_score", photographs, per=per) for per in ("channel", "all"))
    np.testing.assert_allclose(by_channel.mean((0, 1, 2), np.float64), 0, atol=1e-5)
    np.testing.assert_allclose(by_channel.std((0, 1, 2), np.float64), 1, atol=1e-5)
    np.testing.assert_allclose([by_all.mean(dtype=np.float64), by_all.std(dtype=np.float64)], [0, 1], atol=1e-5)
    assert abs(by_all.mean((0, 1, 2))).max() > 0.05  # the colors differ, and stay different
    stretched = done("min_max", photographs * [1, 2, 3], per="channel")
    assert stretched.min((0, 1, 2)).tolist() == [0, 0, 0] and stretched.max((0, 1, 2)).tolist() == [1, 1, 1]
    assert done("min_max", photographs * [1, 2, 3], per="all").max((0, 1, 2))[0] < 0.4


@pytest.mark.parametrize("use", ["z_score", "min_max"])
def test_what_is_constant_becomes_zero(use):
    x = np.stack([np.full(1000, 0.1), np.full(1000, 1e9), np.linspace(0, 1, 1000), np.full(1000, -3.7)], 1).astype(np.float32)
    result = done(use, x)
    assert np.isfinite(result).all() and not result[:, [0, 1, 3]].any() and result[:, 2].std() > 0.2


def test_widths_without_an_inverse_in_float32_do_no_harm():
    x = np.array([[0.0, 1.0], [1e-42, 2.0]], np.float32)
    assert np.isfinite(done("z_score", x)).all() and np.isfinite(done("min_max", x)).all()


def test_statistics_are_exact_over_many_examples():
    """float32 sums would be off in the third digit."""
    x = np.random.default_rng(0).normal(1000, 0.5, (20_000, 3)).astype(np.float32)
    found = LEARNERS["z_score"](x)
    np.testing.assert_allclose(found["mean"], x.astype(np.float64).mean(0), rtol=1e-12)
    np.testing.assert_allclose(found["std"], x.astype(np.float64).std(0), rtol=1e-9)


def test_statistics_are_of_train_only_and_kept_with_the_data():
    x = np.arange(300, dtype=np.float32).reshape(150, 2)
    y = np.arange(150) % 3
    data = tfopt.datasets.arrays(x=x, y=y, preprocess=["z_score"])
    raw = pipelines.to_arrays(pipelines.raw(data.train))[0]
    (step,) = data.steps
    np.testing.assert_allclose(step.options["mean"], raw.mean(0), rtol=1e-6)
    np.testing.assert_allclose(step.options["std"], raw.std(0), rtol=1e-6)
    assert abs(raw.mean(0) - x.mean(0)).max() > 0.1  # otherwise this would show nothing
    tested, of_test = (pipelines.to_arrays(one)[0] for one in (data.test, pipelines.raw(data.test)))
    np.testing.assert_allclose(tested, (of_test - raw.mean(0)) / raw.std(0), atol=1e-5)


def test_statistics_that_are_given_are_kept():
    x = np.arange(12, dtype=np.float32).reshape(4, 3)
    (step,) = learned([Call("z_score", {"mean": [0.0, 1.0, 2.0]})], x, source="test")
    assert step.options["mean"] == [0, 1, 2] and len(step.options["std"]) == 3


def test_each_step_learns_from_what_those_before_it_made(photographs):
    steps = learned([Call("rgb_to_gray"), Call("gaussian_filter"), Call("z_score", {"per": "all"})], photographs, source="test")
    result = applied(photographs, None, steps)[0].numpy()
    np.testing.assert_allclose([result.mean(dtype=np.float64), result.std(dtype=np.float64)], [0, 1], atol=1e-5)


def test_learning_goes_over_all_examples_in_pieces():
    """The step in front of what is learnt is done batch by batch; the statistics are those of all."""
    x = np.random.default_rng(0).normal(size=(1300, 4)).astype(np.float32)
    *_, step = learned([Call("rescale", {"scale": 2.0}), Call("min_max"), Call("binarize")], x, source="test")[:2]
    np.testing.assert_allclose(step.options["high"], 2 * x.max(0), rtol=1e-6)


# ---- norms, thresholds, indices


@pytest.mark.parametrize(("use", "norm"), [("l1_normalize", "l1"), ("l2_normalize", "l2")])
def test_norms_are_what_scikit_learn_makes(use, norm, table, images):
    x = table - table.mean(0)
    np.testing.assert_allclose(done(use, x), preprocessing.normalize(x, norm), atol=1e-6)
    np.testing.assert_allclose(rows(done(use, images)), preprocessing.normalize(rows(images), norm), atol=1e-6)
    assert not done(use, np.zeros((2, 3), np.float32)).any()


def test_binarize_is_what_scikit_learn_makes(images):
    for threshold in (0.0, 0.5, 1.0):
        expected = preprocessing.Binarizer(threshold=threshold).fit_transform(rows(images))
        np.testing.assert_array_equal(rows(done("binarize", images, threshold=threshold)), expected)


def test_one_hot():
    x = np.array([[0, 2], [1, 1]], np.int32)
    result = done("one_hot", x, depth=3)
    np.testing.assert_array_equal(result, np.eye(3, dtype=np.float32)[x])
    assert result.dtype == np.float32
    assert not PREPARATIONS["one_hot"](np.array([[7, -1]], np.int32), depth=3).numpy().any()


def test_indices_in_a_data_set_become_one_hot():
    x, y = (np.arange(60) % 4)[:, None], np.arange(60) % 3
    data = tfopt.datasets.arrays(x=x, y=y, preprocess=[{"use": "one_hot", "depth": 4}])
    assert data.input_shape == (1, 4) and data.input_dtype == "float32" and data.raw_dtype == "int32"
    with pytest.raises(DataError, match=r"one_hot: .* outside 0\.\.2 .* depth should be at least 4"):
        tfopt.datasets.arrays(x=x, y=y, preprocess=[{"use": "one_hot", "depth": 3}])
    with pytest.raises(DataError, match="one_hot: takes indices"):
        tfopt.datasets.arrays(x=x.astype(np.float32), y=y, preprocess=[{"use": "one_hot", "depth": 4}])


# ---- contrast


def test_contrast_stretch_is_what_scikit_image_makes(photographs):
    for low, high in ((2.0, 98.0), (0.0, 100.0), (10.0, 55.5)):
        result = done("contrast_stretch", photographs, low_percentile=low, high_percentile=high)
        for image, changed in zip(photographs, result, strict=True):
            limits = tuple(np.percentile(image, (low, high)))
            np.testing.assert_allclose(changed, exposure.rescale_intensity(image, limits, (0, 1)), atol=1e-5)


def test_histogram_equalization_is_what_scikit_image_makes(photographs):
    noisy = photographs + np.random.default_rng(0).normal(0, 0.01, photographs.shape).astype(np.float32)
    gray = noisy.mean(-1, keepdims=True)
    for bins in (256, 10):
        for image, changed in zip(gray, done("histogram_equalization", gray, bins=bins), strict=True):
            np.testing.assert_allclose(changed[..., 0], exposure.equalize_hist(image[..., 0], bins), atol=1e-3)
    for image, changed in zip(noisy, done("histogram_equalization", noisy), strict=True):
        np.testing.assert_allclose(changed.ravel(), exposure.equalize_hist(image.ravel()), atol=1e-3)


def test_histogram_equalization_of_bytes_is_nearly_so(photographs):
    """Those on the border of two bins go into the upper one, where scikit-image leaves it to rounding."""
    for image, changed in zip(photographs, done("histogram_equalization", photographs), strict=True):
        assert abs(changed.ravel() - exposure.equalize_hist(image.ravel())).mean() < 1e-3
        values, where = np.unique(image, return_inverse=True)
        assert all(np.ptp(changed.ravel()[where.ravel() == at]) == 0 for at in range(len(values)))


def test_images_of_one_value():
    x = np.full((2, 5, 5, 1), 0.3, np.float32)
    np.testing.assert_allclose(done("contrast_stretch", x), 0.3)
    np.testing.assert_allclose(done("histogram_equalization", x), 0.5)
    np.testing.assert_allclose(exposure.equalize_hist(x[0, ..., 0]), 0.5)


# ---- projections


@pytest.mark.parametrize("whiten", [False, True])
def test_pca_is_what_scikit_learn_makes(images, whiten):
    expected = decomposition.PCA(10, whiten=whiten, svd_solver="full").fit_transform(rows(images).astype(np.float64))
    result = done("pca", images, components=10, whiten=whiten)
    np.testing.assert_allclose(result * np.sign((result * expected).sum(0)), expected, atol=1e-4)


@pytest.mark.parametrize("method", ["zca", "pca"])
def test_whitening_leaves_no_correlation(table, method):
    x = table @ np.random.default_rng(0).normal(size=(13, 13)).astype(np.float32) / 1000  # columns that all hang together
    assert abs(np.corrcoef(x.T) - np.eye(13)).max() > 0.9
    np.testing.assert_allclose(np.cov(done("whiten", x, method=method, epsilon=0.0).T), np.eye(13), atol=0.02)


def test_zca_is_the_whitening_next_to_the_original(images):
    """Its matrix is symmetric, the inverse root of the covariance; what never varies becomes 0."""
    (step,) = learned([Call("whiten", {"epsilon": 1e-2})], images, source="test")
    matrix = np.array(step.options["matrix"])
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-8)
    covariance = np.cov(rows(images).astype(np.float64).T) + 1e-2 * np.eye(64)
    np.testing.assert_allclose(matrix @ covariance @ matrix, np.eye(64), atol=1e-6)
    result = applied(images, None, [step])[0].numpy()
    assert result.shape == images.shape
    assert abs(result[:, images.std(0) == 0]).max() < 1e-5


def test_fewer_examples_than_values_are_whitened_without_blowing_up(images):
    for epsilon in (0.0, 1e-6):
        assert abs(done("whiten", images[:20], epsilon=epsilon)).max() < 10


def test_the_classes_are_still_there_in_principal_components(images):
    y = bundled.load_digits().target
    data = tfopt.datasets.arrays(x=images, y=y, preprocess=[{"use": "pca", "components": 16}])
    assert data.input_shape == (16,) and data.raw_shape == (8, 8, 1)
    model = neighbors.KNeighborsClassifier(3).fit(*pipelines.to_arrays(data.train))
    assert model.score(*pipelines.to_arrays(data.test)) > 0.97


# ---- what is refused


NAN = np.array([[1.0, np.nan], [2.0, 3.0]], np.float32)


@pytest.mark.parametrize("use", ["z_score", "min_max", "pca", "whiten"])
def test_nan_is_refused_where_something_is_learnt(use):
    options = {"components": 1} if use == "pca" else {}
    with pytest.raises(DataError, match=f"test: {use}: 1 of 2 training examples hold NaN; put fill_missing"):
        done(use, NAN, **options)
    assert np.isfinite(applied(NAN, None, learned([Call("fill_missing"), Call(use, options)], NAN, source="test"))[0]).all()


REFUSED = {
    "mean of another size": ("z_score", {"mean": [0.0, 1.0], "std": [1.0] * 3}, r"mean holds 2 numbers, and 3 are needed per 'feature'"),
    "std of another size": ("z_score", {"per": "all", "mean": [0.0], "std": [1.0] * 3}, r"std holds 3 numbers, and 1 are needed per 'all'"),
    "high of another size": ("min_max", {"low": [0.0] * 3, "high": [1.0]}, "high holds 1 numbers"),
    "channels of another number": ("min_max", {"per": "channel", "low": [0.0], "high": [1.0] * 3}, "per 'channel'"),
    "too many components": ("pca", {"components": 9}, "components = 9, and 6 training examples of 3 values have 3; ask for fewer"),
    "another number of components": ("pca", {"components": 1, "mean": [0.0] * 3, "matrix": [[1.0, 0.0]] * 3}, "components = 1, and matrix"),
    "matrix of another size": ("whiten", {"mean": [0.0] * 3, "matrix": [[1.0] * 3] * 2}, "matrix 2 rows of 3; examples of shape"),
    "matrix with ragged rows": ("whiten", {"mean": [0.0] * 3, "matrix": [[1.0], [1.0, 2.0], [1.0]]}, "rows of 1/2"),
    "matrix that is not square": ("whiten", {"mean": [0.0] * 3, "matrix": [[1.0]] * 3}, "'zca' needs 3"),
    "contrast of a table": ("contrast_stretch", {}, r"contrast_stretch: takes images \(height, width, channels\).*shape \(3,\)"),
    "histogram of a table": ("histogram_equalization", {}, "histogram_equalization: takes images"),
    "percentiles turned round": ("contrast_stretch", {"low_percentile": 90.0, "high_percentile": 10.0}, "should be below high_percentile"),
    "percentile beyond 100": ("contrast_stretch", {"high_percentile": 101.0}, "should be less than or equal to 100"),
    "per of another kind": ("z_score", {"per": "row"}, "per = 'row'"),
    "infinite statistic": ("z_score", {"mean": [np.inf] * 3, "std": [1.0] * 3}, "finite"),
    "no depth": ("one_hot", {"depth": 0}, "depth = 0"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_wrong_options_are_refused(name):
    use, options, message = REFUSED[name]
    x = np.random.default_rng(0).random((6, 3), np.float32)
    if use == "one_hot":
        x = x.astype(np.int32)
    with pytest.raises((DataError, OptionError), match=message):
        done(use, x, **options)


def test_statistics_that_were_never_learnt_are_asked_for():
    for use in ("z_score", "min_max", "whiten"):
        with pytest.raises(DataError, match=f"{use}: .* not given; a data set's preprocess learns"):
            PREPARATIONS[use](np.ones((2, 3), np.float32))


def test_several_inputs_are_refused():
    y = np.arange(60) % 3
    x = {"one": np.random.default_rng(0).random((60, 3)), "two": np.ones((60, 1))}
    with pytest.raises(DataError, match=r"z_score: takes one input, and the examples have 2 \(one, two\)"):
        tfopt.datasets.arrays(x=x, y=y, preprocess=["z_score"])


def test_a_matrix_too_large_to_keep_is_refused():
    x = np.zeros((3, 64, 64, 3), np.float32)
    with pytest.raises(DataError, match="whiten: its matrix would hold 150,994,944 numbers"):
        done("whiten", x)
