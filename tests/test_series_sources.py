"""Time series: windows with labelled anomalies, split so that nothing leaks; NAB scored by ROC AUC; and what is refused."""

from __future__ import annotations

import json
from datetime import datetime, timedelta

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

import tfopt
from tfopt import backend, pipelines
from tfopt.errors import DataError, OptionError

PARTS = ("train", "validation", "test")
START = datetime(2024, 1, 1)


def stamp(minutes):
    return (START + timedelta(minutes=minutes)).isoformat(sep=" ")


def table(count=100, anomalies=((20, 24), (70, 74), (90, 94)), *, values=None):
    """A point a minute whose value is its number, and whether it is in one of the anomalies (both ends included)."""
    lines = ["timestamp,value,odd"]
    for n in range(count):
        value = n if values is None else values[n]
        lines.append(f"{stamp(n)},{value},{int(any(a <= n <= b for a, b in anomalies))}")
    return "\n".join(lines) + "\n"


def written(tmp_path, content, name="series.csv"):
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def windows(data):
    return {part: pipelines.to_arrays(getattr(data, part)) for part in PARTS}


def load(file, **options):
    return tfopt.datasets.time_series(file=file, **{"label": "odd", "length": 5, "scale": "none", **options})


def nab(folder, file="data", **options):
    return tfopt.datasets.time_series(
        file=folder / file, labels=folder / "labels" / "combined_windows.json", length=144, stride=4, **options
    )


def test_a_window_is_labelled_by_its_last_point(tmp_path):
    data = load(written(tmp_path, table()))
    assert (data.classes, data.input_shape) == (("normal", "anomaly"), (5, 1))
    for x, y in windows(data).values():
        np.testing.assert_array_equal(np.diff(x[:, :, 0], axis=1), 1)  # points that follow each other
        last = x[:, -1, 0]
        odd = ((last >= 20) & (last <= 24)) | ((last >= 70) & (last <= 74)) | ((last >= 90) & (last <= 94))
        np.testing.assert_array_equal(y, odd)


def test_parts_follow_each_other_and_share_no_point(tmp_path):
    found = windows(load(written(tmp_path, table())))
    ranges = {part: (x.min(), x.max()) for part, (x, _) in found.items()}
    assert ranges == {"train": (0, 64), "validation": (65, 79), "test": (80, 99)}
    assert {part: len(y) for part, (_, y) in found.items()} == {"train": 61, "validation": 11, "test": 16}


def test_stride(tmp_path):
    x, _ = windows(load(written(tmp_path, table()), stride=10))["train"]
    assert x[:, 0, 0].tolist() == [0, 10, 20, 30, 40, 50, 60]


def test_the_scale_is_that_of_the_training_points(tmp_path):
    data = load(written(tmp_path, table()), scale="series")
    facts = json.loads(json.dumps(data.source))["series"]["series.csv"]
    train = np.arange(65)
    np.testing.assert_allclose([facts["mean"][0], facts["std"][0]], [train.mean(), train.std()])
    raw = windows(load(written(tmp_path, table())))
    for part, (x, _) in windows(data).items():
        np.testing.assert_allclose(x * facts["std"] + facts["mean"], raw[part][0], rtol=1e-5, atol=1e-4)


def test_several_columns_and_times_in_any_form(tmp_path):
    lines = table().splitlines()
    text = "\n".join(
        ["day;a;b;odd"] + [f"{START + timedelta(minutes=n):%d.%m.%Y %H:%M};{n};{-n};{line[-1]}" for n, line in enumerate(lines[1:])]
    )
    data = load(written(tmp_path, text), delimiter=";", time="day", time_format="%d.%m.%Y %H:%M")
    assert (data.input_shape, data.source["values"]) == ((5, 2), ["a", "b"])
    one = load(written(tmp_path, text), delimiter=";", time="day", time_format="%d.%m.%Y %H:%M", values=["b"])
    np.testing.assert_array_equal(windows(one)["test"][0][..., 0], windows(data)["test"][0][..., 1])
    seconds = "t,v,odd\n" + "".join(f"{n * 60},{n},{line[-1]}\n" for n, line in enumerate(lines[1:]))
    np.testing.assert_array_equal(
        windows(load(written(tmp_path, seconds)))["test"][0], windows(load(written(tmp_path, table())))["test"][0]
    )


def test_labels_in_a_file(tmp_path):
    """Found by the end of the series' path; a single time is a stretch of its own; times of the windows may have fractions."""
    file = written(tmp_path, table(), "inner/series.csv")
    labels = {"series.csv": [], "inner/series.csv": [[stamp(20) + ".000000", stamp(24)], stamp(70)], "r/series.csv": []}
    data = load(file, label=None, labels=written(tmp_path, labels, "labels.json"), values=["value"])
    found = windows(data)
    assert found["train"][0][found["train"][1] == 1][:, -1, 0].tolist() == [20, 21, 22, 23, 24]
    assert found["validation"][0][found["validation"][1] == 1][:, -1, 0].tolist() == [70]
    assert not found["test"][1].any()
    assert "test has no example of 'anomaly'" in data.notes[-1]


def test_what_is_odd_about_times_is_mended_and_noted(tmp_path):
    header, *lines = table().splitlines()
    lines[10], lines[11] = lines[11], lines[10]  # one goes back
    lines.insert(31, lines[30].replace(",30,", ",1030,"))  # one time twice
    lines[41] = lines[41].replace(",40,", ",,")  # a value that is missing
    del lines[51:56]  # a gap
    data = load(written(tmp_path, "\n".join([header, *lines])))
    notes = " ".join(data.notes)
    for words in ("(1 go back); they were sorted", "1 rows have the time of another one", "1 missing values", "the longest is 360 s"):
        assert words in notes
    points = windows(data)["train"][0][:, 0, 0].tolist()
    assert points[:12] == list(range(12)) and points[29:32] == [29, 1030, 31] and points[39:42] == [39, 39, 41]


def test_blocks_gives_each_part_its_anomalies_whole(tmp_path):
    anomalies = [(start, start + 9) for start in range(20, 400, 40)]
    file = written(tmp_path, table(400, anomalies))
    data, again, other = (load(file, split="blocks", seed=seed) for seed in (3, 3, 4))
    assert data.fingerprint == again.fingerprint != other.fingerprint
    found, counts, seen = windows(data), {}, set()
    for part, (x, y) in found.items():
        odd = {int(value) // 40 for value in x[y == 1][:, -1, 0]}
        assert y.sum() == 10 * len(odd)  # each with all its points
        counts[part] = len(odd)
        points = set(x[..., 0].ravel().tolist())
        assert not points & seen  # nothing is in two parts
        seen |= points
    assert counts == {"train": 6, "validation": 2, "test": 2}


def test_several_files(tmp_path):
    for name, factor in (("a/one.csv", 1), ("b/two.csv", 1000)):
        written(tmp_path, table(values=[n * factor for n in range(100)]), f"all/{name}")
    data = load(tmp_path / "all", scale="series")
    assert list(data.source["series"]) == ["a/one.csv", "b/two.csv"]
    x, _ = windows(data)["train"]
    assert len(x) == 2 * 61
    np.testing.assert_allclose(x[:61], x[61:], atol=1e-5)  # each by its own scale
    listed = load([str(tmp_path / "all/a/one.csv"), str(tmp_path / "all/b/two.csv")], scale="series")
    np.testing.assert_array_equal(windows(listed)["train"][0], x)
    written(tmp_path, table().replace("value", "valve"), "all/c/three.csv")
    with pytest.raises(DataError, match=r"three\.csv: has the columns timestamp, valve, the files before it timestamp, value"):
        load(tmp_path / "all")


def test_nab_with_its_own_labels(data_folder):
    data = nab(data_folder("nab"))
    assert len(data.source["series"]) == 13
    assert data.input_shape == (144, 1)
    assert all(y.any() and not y.all() for _, y in windows(data).values())
    notes = " ".join(data.notes)
    assert "machine_temperature_system_failure.csv: its rows are not in order of time (1 go back)" in notes  # an hour put back
    assert "ec2_request_latency_system_failure.csv: 11 rows have the time of another one" in notes


@pytest.mark.slow
def test_nab_scored_by_auc(data_folder):
    """Of the 13 series only machine_temperature and nyc_taxi have an anomaly in each part when split by time. Of nyc_taxi train has a
    single one: too few to learn from (AUC 0.4 to 0.7 over seeds); so it is with all series together (0.51). The epoch is chosen on
    validation.
    """
    data = nab(data_folder("nab"), "data/realKnownCause/machine_temperature_system_failure.csv")
    layers = backend.keras().layers
    with backend.seeded(0):
        inputs = x = backend.keras().Input(data.input_shape)
        for width in (16, 32):
            x = layers.Conv1D(width, 7, strides=2, padding="same", activation="relu")(x)
        x = layers.Concatenate()([layers.GlobalMaxPooling1D()(x), layers.GlobalAveragePooling1D()(x)])
        model = backend.keras().Model(inputs, layers.Dense(2, activation="softmax")(layers.Dropout(0.3)(x)))
    model = tfopt.train(model, data, tfopt.Fit(epochs=10, batch_size=128, patience=3))
    x, y = pipelines.to_arrays(data.test)
    assert roc_auc_score(y, model.predict(x, verbose=0)[:, 1]) > 0.95


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (table(), {"length": 101}, r"series\.csv: has 100 points, fewer than a window's 101; make length smaller"),
        (table(), {"length": 16}, r"no window lies in validation wholly; make length smaller, or the share of validation larger"),
        (table(anomalies=()), {}, r"no window in train ends in an anomaly.*say split = 'blocks'"),
        (table(anomalies=((90, 94),)), {}, r"no window in train ends in an anomaly.*say split = 'blocks'"),
        (table(anomalies=((90, 94),)), {"split": "blocks"}, r"there are 1 anomalies in all series together; should be 3"),
        (table(anomalies=((0, 99),)), {}, r"all windows in train end in an anomaly"),
        (table().replace(stamp(7), "yesterday"), {}, r"series\.csv, line 9: 'yesterday' in the column 'timestamp' is no time \(1 of 100"),
        (table(), {"time_format": "%d.%m.%Y"}, r"line 2: '2024-01-01 00:00:00' .* should be '%d\.%m\.%Y'"),
        (table(), {"time": "time"}, r"has no column 'time', which time asks for; did you mean 'timestamp'"),
        (table(), {"label": "even"}, r"has no column 'even', which label asks for"),
        (table(), {"values": ["valu"]}, r"has no column 'valu', which values asks for; did you mean 'value'"),
        (table(), {"values": []}, r"should be one of times, and others of values"),
        (table().replace(",7,", ",seven,"), {}, r"series\.csv, line 9: 'seven' in the column 'value' is no number"),
        (table().replace(",7,0", ",7,maybe"), {}, r"series\.csv, line 9: 'maybe' in the column 'odd'; should be 0 or 1"),
        (table() + "1,2\n", {}, r"series\.csv, line 102: has 2 fields, the header has 3"),
        (table(values=[""] * 100), {}, r"a column of values is empty"),
        ("timestamp,value,odd\n", {}, r"has no rows below its header"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(tmp_path, content, options, message):
    with pytest.raises(DataError, match=message):
        load(written(tmp_path, content), **options)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("{", r"labels\.json: is no JSON"),
        ([1], r"should be like NAB's combined_windows\.json"),
        ({"other.csv": []}, r"has no key that the path .*series\.csv ends in"),
        ({"a/serie.csv": []}, r"did you mean 'a/serie\.csv'"),
        ({"series.csv": [["2024-01-01"]]}, r"'series\.csv': \['2024-01-01'\] is no stretch of time"),
        ({"series.csv": [["2024-01-02", "2024-01-01"]]}, r"is no stretch of time"),
    ],
)
def test_what_is_wrong_with_labels_is_said(tmp_path, labels, message):
    with pytest.raises(DataError, match=message):
        load(written(tmp_path, table()), label=None, labels=written(tmp_path, labels, "labels.json"), values=["value"])


def test_wrong_options_are_said(tmp_path):
    file = written(tmp_path, table())
    for options in ({"label": None}, {"labels": file}):
        with pytest.raises(OptionError, match="labels or label: one of them should say where the anomalies are"):
            load(file, **options)
    with pytest.raises(OptionError, match="should sum to less than 1"):
        load(file, validation=0.5, test=0.5)
    with pytest.raises(OptionError, match="time_format = '%Q'"):
        load(file, time_format="%Q")
    with pytest.raises(DataError, match="there is no such file or folder"):
        load(tmp_path / "none.csv")
    with pytest.raises(DataError, match="is an empty list"):
        load([])
    (tmp_path / "bare").mkdir()
    written(tmp_path, "x", "bare/readme.md")
    with pytest.raises(DataError, match=r"holds no \.csv files"):
        load(tmp_path / "bare")
