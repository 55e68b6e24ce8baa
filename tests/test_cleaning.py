"""Rows left out, gaps filled, and noise filtered, each against another implementation, on real tables, series and images."""

from __future__ import annotations

import csv
import logging

import numpy as np
import pytest
from scipy import ndimage, stats
from skimage import metrics, restoration
from sklearn import datasets as bundled
from sklearn import impute

import tfopt
from tfopt import pipelines
from tfopt.errors import DataError, OptionError
from tfopt.preprocessing import CLEANERS, PREPARATIONS, applied, calls, learned

NAN = np.nan


@pytest.fixture(scope="module")
def penguins(data_folder):
    """Four measurements of 344 birds, two of which have none, and their species: the real gaps of a real table."""
    with (data_folder("tables") / "penguins.csv").open() as file:
        lines = list(csv.DictReader(file))
    columns = ("bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g")
    x = np.array([[NAN if line[name] in ("", "NA") else float(line[name]) for name in columns] for line in lines], np.float32)
    return x, np.unique([line["species"] for line in lines], return_inverse=True)[1]


@pytest.fixture(scope="module")
def images():
    """(300, 8, 8, 1) digits in 0..1."""
    return (bundled.load_digits().images[:300, ..., None] / 16).astype(np.float32)


@pytest.fixture(scope="module")
def photographs():
    """(4, 40, 48, 3) pieces of a photograph in 0..1."""
    image = bundled.load_sample_image("china.jpg").astype(np.float32) / 255
    return np.stack([image[row : row + 40, at : at + 48] for row in (0, 200) for at in (50, 350)])


def done(use, x, **options):
    """A step with what it learns of x."""
    (step,) = learned(calls([{"use": use, **options}]), x, source="test")
    return applied(x, None, [step])[0].numpy()


def parts_of(data):
    return {part: pipelines.to_arrays(getattr(data, part)) for part in ("train", "validation", "test", "calibration")}


# ---- rows that are left out


def test_rows_with_gaps_are_dropped_with_a_note(penguins, caplog):
    x, y = penguins
    with caplog.at_level(logging.WARNING):
        data = tfopt.datasets.arrays(x=x, y=y, clean=["drop_missing"], name="penguins")
    whole = [of for part, of in parts_of(data).items() if part != "calibration"]
    assert sum(len(labels) for _, labels in whole) == 342 and all(np.isfinite(inputs).all() for inputs, _ in whole)
    assert data.notes == ("drop_missing left out 2 of 344 examples",)
    assert "penguins: drop_missing left out 2 of 344 examples" in caplog.text


def test_gaps_in_labels_and_in_any_input_count():
    x = {"one": np.array([[1.0], [NAN], [1.0], [1.0]]), "two": np.array([[1], [1], [1], [1]])}
    assert CLEANERS["drop_missing"](x, np.array([0.0, 0.0, NAN, 0.0])).tolist() == [True, False, False, True]


def test_of_equal_rows_the_first_stays():
    x = np.array([[1.0, 0.0], [2.0, NAN], [1.0, -0.0], [2.0, -NAN], [1.0, 0.0]])
    y = np.array([0, 1, 0, 1, 1])
    assert CLEANERS["drop_duplicates"](x, y).tolist() == [True, True, False, False, True]
    assert CLEANERS["drop_duplicates"]({"a": x, "b": np.arange(5)[:, None]}, y).all()
    assert CLEANERS["drop_duplicates"]({"a": x, "b": np.zeros((5, 1), np.int32)}, y).tolist() == [True, True, False, False, True]


def test_duplicates_do_not_come_into_several_parts():
    digits = bundled.load_digits()
    x, y = (np.concatenate([one, one[:500]]) for one in (digits.images.astype(np.uint8)[..., None], digits.target))

    def shared(data):
        seen = [{example.tobytes() for example in x} for x, _ in (parts_of(data)[part] for part in ("train", "test"))]
        return len(seen[0] & seen[1])

    assert shared(tfopt.datasets.arrays(x=x, y=y)) > 50
    clean = tfopt.datasets.arrays(x=x, y=y, clean=["drop_duplicates"])
    assert shared(clean) == 0 and clean.notes == ("drop_duplicates left out 500 of 2,297 examples",)


@pytest.mark.parametrize("method", ["iqr", "z_score"])
def test_outliers_are_those_that_scipy_finds(method):
    x, y = bundled.load_wine(return_X_y=True)
    if method == "z_score":
        expected = (abs(stats.zscore(x)) <= 3).all(1)
    else:
        low, high = np.quantile(x, 0.25, 0), np.quantile(x, 0.75, 0)
        expected = ((x >= low - 1.5 * stats.iqr(x, 0)) & (x <= high + 1.5 * stats.iqr(x, 0))).all(1)
    stays = CLEANERS["drop_outliers"](x, y, method=method)
    assert stays.tolist() == expected.tolist() and 5 < (~stays).sum() < 30
    assert CLEANERS["drop_outliers"](x, y, method=method, limit=100.0).all()


def test_features_without_a_width_and_gaps_are_no_outliers():
    x = np.array([[0.0, NAN, 1.0]] * 20 + [[5.0, 1.0, 1.0]])
    assert CLEANERS["drop_outliers"](x, np.zeros(21, int)).all()
    assert CLEANERS["drop_outliers"](x[:, 1:], np.zeros(21, int), method="z_score").all()


def test_outliers_leave_the_training_examples_only():
    """The others are not looked at: they may be as they come, and no bound is learnt from them."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(300, 2)).astype(np.float32), np.arange(300) % 3
    x[::10] *= 100
    usual = parts_of(tfopt.datasets.arrays(x=x, y=y))
    data = tfopt.datasets.arrays(x=x, y=y, clean=["drop_outliers"], preprocess=["z_score"])
    clean = parts_of(data)
    for part in ("validation", "test"):
        raw = pipelines.to_arrays(pipelines.raw(getattr(data, part)))[0]
        np.testing.assert_array_equal(raw, usual[part][0])
        assert abs(raw).max() > 50
    stays = CLEANERS["drop_outliers"](*usual["train"])
    trained = pipelines.to_arrays(pipelines.raw(data.train))[0]
    np.testing.assert_array_equal(trained, usual["train"][0][stays])
    assert abs(trained).max() < 5 and len(clean["calibration"][1]) == min(200, len(trained))
    assert {one.tobytes() for one in clean["calibration"][0]} <= {one.tobytes() for one in clean["train"][0]}
    np.testing.assert_allclose(data.steps[0].options["std"], trained.std(0), rtol=1e-5)
    dropped = len(stays) - len(trained)
    assert data.notes == (f"drop_outliers left out {dropped} of {len(stays)} training examples",) and dropped >= 15


def test_cleaning_changes_the_fingerprint_and_none_changes_nothing(penguins):
    x, y = np.nan_to_num(penguins[0], nan=40.0), penguins[1]
    plain, none, clean = (tfopt.datasets.arrays(x=x, y=y, clean=clean) for clean in ([], ["drop_missing"], ["drop_outliers"]))
    assert plain.fingerprint == none.fingerprint != clean.fingerprint and none.notes == ()


# ---- gaps that are filled


@pytest.mark.parametrize("how", ["mean", "median", "most_frequent", "constant"])
def test_gaps_are_filled_as_scikit_learn_does(how, penguins):
    x = penguins[0].copy()
    x[np.random.default_rng(0).random(x.shape) < 0.1] = NAN
    expected = impute.SimpleImputer(strategy=how, fill_value=-1.0 if how == "constant" else None).fit_transform(x)
    options = {"value": -1.0} if how == "constant" else {}
    np.testing.assert_allclose(done("fill_missing", x, how=how, **options), expected, rtol=1e-5)


def test_fillings_are_numpy_s(penguins):
    x = penguins[0]
    gaps = np.isnan(x)
    for how, expected in (("mean", np.nanmean(x, 0, np.float64)), ("median", np.nanmedian(x, 0))):
        filled = done("fill_missing", x, how=how)
        np.testing.assert_allclose(filled[gaps], np.broadcast_to(expected, x.shape)[gaps], rtol=1e-6)
        np.testing.assert_array_equal(filled[~gaps], x[~gaps])


def test_a_table_with_gaps_trains(penguins):
    x, y = penguins
    data = tfopt.datasets.arrays(x=x, y=y, preprocess=["fill_missing", "z_score"])
    raw = pipelines.to_arrays(pipelines.raw(data.train))[0]
    np.testing.assert_allclose(data.steps[0].options["values"], np.nanmean(raw, 0, np.float64), rtol=1e-5)
    parts = parts_of(data)
    assert sum(len(parts[part][1]) for part in ("train", "validation", "test")) == 344
    assert all(np.isfinite(inputs).all() for inputs, _ in parts.values())


def test_series_are_interpolated_as_numpy_does(data_folder):
    path = sorted(data_folder("nab").rglob("*.csv"))[0]
    values = np.genfromtxt(path, delimiter=",", skip_header=1, usecols=1, dtype=np.float32)
    rng = np.random.default_rng(0)
    for length in (1, 2, 7, 64, 100):
        x = values[: 20 * length].reshape(20, length).copy()
        x[rng.random(x.shape) < 0.6] = NAN
        x = x[np.isfinite(x).any(1)]
        times, expected = np.arange(length), x.copy()
        for row in expected:
            there = np.isfinite(row)
            row[~there] = np.interp(times[~there], times[there], row[there])
        np.testing.assert_allclose(done("interpolate_missing", x), expected, rtol=1e-5)
        several = np.stack([x, x[::-1]], -1)
        np.testing.assert_allclose(done("interpolate_missing", several), np.stack([expected, expected[::-1]], -1), rtol=1e-5)


def test_a_series_without_values_waits_for_another_step():
    x = np.array([[NAN, NAN, NAN], [1.0, NAN, 3.0]], np.float32)
    assert np.isnan(done("interpolate_missing", x)[0]).all()
    steps = learned(calls(["interpolate_missing", "fill_missing"]), x, source="test")
    np.testing.assert_array_equal(applied(x, None, steps)[0], [[1, 2, 3], [1, 2, 3]])


# ---- filters


def series(images):
    return images.reshape(-1, 64), images.reshape(-1, 16, 4)


@pytest.mark.parametrize("size", [3, 5, 7, 19])
def test_mean_filter_is_scipy_s(size, photographs, images):
    np.testing.assert_allclose(
        done("mean_filter", photographs, size=size), ndimage.uniform_filter(photographs, (1, size, size, 1)), atol=1e-5
    )
    flat, deep = series(images)
    np.testing.assert_allclose(done("mean_filter", flat, size=size), ndimage.uniform_filter(flat, (1, size)), atol=1e-5)
    np.testing.assert_allclose(done("mean_filter", deep, size=size), ndimage.uniform_filter(deep, (1, size, 1)), atol=1e-5)


@pytest.mark.parametrize("size", [3, 5, 7])
def test_median_filter_is_scipy_s(size, photographs, images):
    np.testing.assert_array_equal(done("median_filter", photographs, size=size), ndimage.median_filter(photographs, (1, size, size, 1)))
    flat, deep = series(images)
    np.testing.assert_array_equal(done("median_filter", flat, size=size), ndimage.median_filter(flat, (1, size)))
    np.testing.assert_array_equal(done("median_filter", deep, size=size), ndimage.median_filter(deep, (1, size, 1)))


@pytest.mark.parametrize("sigma", [0.1, 0.5, 1.0, 2.3, 6.0])  # the last reaches further than a digit is wide
def test_gaussian_filter_is_scipy_s(sigma, photographs, images):
    for x in (photographs, images):
        np.testing.assert_allclose(done("gaussian_filter", x, sigma=sigma), ndimage.gaussian_filter(x, (0, sigma, sigma, 0)), atol=1e-5)
    flat, deep = series(images)
    np.testing.assert_allclose(done("gaussian_filter", flat, sigma=sigma), ndimage.gaussian_filter(flat, (0, sigma)), atol=1e-5)
    np.testing.assert_allclose(done("gaussian_filter", deep, sigma=sigma), ndimage.gaussian_filter(deep, (0, sigma, 0)), atol=1e-5)


def test_non_local_means_is_scikit_image_s_and_takes_noise_away(photographs):
    noisy = photographs + np.random.default_rng(0).normal(0, 0.08, photographs.shape).astype(np.float32)
    result = done("non_local_means", noisy, patch_size=5, patch_distance=6, strength=0.06)
    expected = [restoration.denoise_nl_means(one, 5, 6, 0.06, channel_axis=-1) for one in noisy]
    np.testing.assert_allclose(result, expected, atol=1e-6)
    before, after = (metrics.mean_squared_error(photographs, one) for one in (noisy, result))
    assert after < before / 2 and result.dtype == np.float32


def test_filters_take_their_kind_of_noise_away(photographs):
    """Single wrong pixels vanish under the median, and only become wider under the mean."""
    rng = np.random.default_rng(0)
    spoilt = np.where(rng.random(photographs.shape) < 0.05, rng.integers(0, 2, photographs.shape), photographs).astype(np.float32)
    error = {use: metrics.mean_squared_error(photographs, done(use, spoilt)) for use in ("median_filter", "mean_filter", "gaussian_filter")}
    assert error["median_filter"] < min(error["mean_filter"], error["gaussian_filter"]) < metrics.mean_squared_error(photographs, spoilt)


# ---- what is refused

X, Y = np.arange(120, dtype=np.float32).reshape(60, 2), np.arange(60) % 3


def gappy(at=(3, 1)):
    x = X.copy()
    x[at] = NAN
    return x


REFUSED = {
    "NaN that nothing takes": ({"x": gappy()}, r"1 of 60 examples hold NaN.*index 3.*clean = \[\"drop_missing\"\].*\"fill_missing\""),
    "NaN that is filled too late": ({"x": gappy(), "preprocess": ["l2_normalize", "fill_missing"]}, "hold NaN.*as the first of preprocess"),
    "infinity, which nothing fills": ({"x": np.where(X == 7, np.inf, X), "preprocess": ["fill_missing"]}, "hold NaN, infinity.*index 3"),
    "infinity, which is not missing": ({"x": np.where(X == 7, np.inf, X), "clean": ["drop_missing"]}, "hold NaN, infinity.*index 3"),
    "a feature without values": ({"x": gappy((slice(None), 1)), "preprocess": ["fill_missing"]}, r"1 of 2 features.*first at \(1,\)"),
    "nothing left": ({"x": gappy((slice(None), 1)), "clean": ["drop_missing"]}, "drop_missing left out 60 of 60 examples, so that none"),
    "a class left with too little": ({"x": gappy(Y == 1), "clean": ["drop_missing"]}, "too few examples of 1 of the 3 classes: '1' has 0"),
    "a series without values": ({"x": gappy(3), "preprocess": ["interpolate_missing"]}, "1 of 60 .* series of NaN only.*index 3"),
    "a class of outliers": ({"x": np.where(Y == 2, 1e6, 1.0)[:, None] + X, "clean": [{"use": "drop_outliers", "method": "z_score",
                            "limit": 1.0}]}, "so that no training example of class 2 is left; raise its limit"),
    "gaps of several inputs": ({"x": {"a": gappy(), "b": X}, "preprocess": ["fill_missing"]}, r"x\['a'\]: 1 of 60 examples hold NaN"),
    "images to interpolate": ({"x": X.reshape(60, 1, 2, 1), "preprocess": ["interpolate_missing"]}, r"takes series \(time,\)"),
    "a volume to filter": ({"x": X.reshape(60, 1, 1, 2, 1), "preprocess": ["median_filter"]}, "median_filter: takes images .* or series"),
    "a table for non-local means": ({"x": X, "preprocess": ["non_local_means"]}, "non_local_means: takes images"),
    "values of another number": ({"x": X, "preprocess": [{"use": "fill_missing", "values": [1.0]}]}, "values holds 1 numbers, and 2 are"),
    "an unknown cleaner": ({"x": X, "clean": ["drop_duplicate"]}, "clean = .*did you mean 'drop_duplicates'"),
    "an unknown option": ({"x": X, "clean": [{"use": "drop_outliers", "factor": 2.0}]}, r"\(drop_outliers\): factor: unknown option"),
    "a step as cleaner": ({"x": X, "clean": ["z_score"]}, "'z_score', which there is not"),
    "a cleaner as step": ({"x": X, "preprocess": ["drop_missing"]}, "'drop_missing', which there is not"),
    "an even size": ({"x": X, "preprocess": [{"use": "mean_filter", "size": 4}]}, "size = 4: should be odd, so that it has a middle"),
    "no width": ({"x": X, "preprocess": [{"use": "gaussian_filter", "sigma": 0.0}]}, "sigma = 0.0: should be greater than 0"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_can_not_be_cleaned_is_refused(name):
    options, message = REFUSED[name]
    with pytest.raises((DataError, OptionError), match=message):
        tfopt.datasets.arrays(**{"y": Y, **options})


def test_fillings_that_were_never_learnt_are_asked_for():
    with pytest.raises(DataError, match="fill_missing: values not given; a data set's preprocess learns"):
        PREPARATIONS["fill_missing"](X)
