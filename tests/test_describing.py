"""What `describe` finds in data with known faults, on real sets, and what its picture shows."""

from __future__ import annotations

import dataclasses
import io
import json
import subprocess
import sys
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from typer.testing import CliRunner

import tfopt
from tfopt import backend, cli, describing, pipelines
from tfopt.datasets import _building
from tfopt.pipelines import Rows, Stream
from tfopt.types import Call, Data

ROOT = Path(__file__).parents[1]
RNG = np.random.default_rng(0)


def built(train, validation, test, *, classes=("a", "b"), **given) -> Data:
    """The Data of three parts that a source made; see `_building.build`."""
    given = {"seed": 0, "calibration": 2, **given}
    return _building.build("mine", {"train": train, "validation": validation, "test": test}, classes=classes, **given)


def part(x, y=None):
    count = len(next(iter(x.values())) if isinstance(x, dict) else x)
    return x, np.arange(count, dtype=np.int32) % 2 if y is None else np.asarray(y)


def images(count, size=6, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), np.uint8)


def of(found, split, stage="raw", column="", name=""):
    """The values of one split and stage."""
    (one,) = (it for it in found.values if (it.split, it.stage, it.column, it.input) == (split, stage, column, name))
    return one


def invoke(*arguments):
    return CliRunner().invoke(cli.app, [str(one) for one in arguments])


def pixels(path):
    return matplotlib.image.imread(path)


# Counts and ranges


def test_examples_are_counted_by_class_and_split(digits):
    found = digits.describe()
    assert found.examples == {part: pipelines.size(getattr(digits, part)) for part in ("train", "validation", "test")}
    _, labels = pipelines.to_arrays(digits.test)
    assert {name: counts["test"] for name, counts in found.classes.items()} == {str(at): (labels == at).sum() for at in range(10)}
    assert found.warnings == () and found.copies == ()
    assert found.imbalance == pytest.approx(119 / 113)


def test_ranges_are_those_of_numpy_before_and_after_preprocessing():
    x = images(1000, size=30)  # several batches
    steps = [{"use": "rescale", "scale": 0.5, "offset": -3.0}, "random_flip"]
    data = built(part(x), part(images(7, size=30, seed=1)), part(images(9, size=30, seed=2)), preprocess=steps)
    found = data.describe()
    raw, prepared = of(found, "train"), of(found, "train", "prepared")
    assert (raw.shape, raw.dtype, raw.low, raw.high) == ((30, 30, 3), "uint8", 0, 255)
    assert (raw.mean, raw.std) == (pytest.approx(x.mean()), pytest.approx(x.std()))
    assert (prepared.dtype, prepared.low, prepared.high) == ("float32", -3.0, 124.5)
    assert prepared.std == pytest.approx(x.std() / 2, rel=1e-6)
    assert of(found, "validation").mean == pytest.approx(images(7, size=30, seed=1).mean())
    assert found.steps == ("rescale(scale=0.5, offset=-3)", "random_flip() on training examples only")


def test_a_spread_far_from_zero_keeps_its_digits():
    x = (1e6 + RNG.normal(size=(5000, 8))).astype(np.float32)
    found = built(part(x), part(x[:2]), part(x[2:4])).describe()
    assert of(found, "train").std == pytest.approx(x.astype(np.float64).std(), rel=1e-6)


def test_missing_values_are_counted_and_warned_of_where_a_model_would_get_them():
    x = RNG.normal(size=(20, 3)).astype(np.float32)
    x[:4, 1] = np.nan
    x[5, 0] = np.inf
    data = built(part(x), part(x[10:12] + 1), part(x[10:12] + 2))
    found = data.describe()
    one = of(found, "train")
    assert (one.missing, one.infinite, one.high) == (4, 1, x[np.isfinite(x)].max())
    assert one.mean == pytest.approx(x[np.isfinite(x)].mean())
    assert [warning for warning in found.warnings if "4 missing values (NaN)" in warning and warning.startswith("train")]
    assert [warning for warning in found.warnings if "1 infinite values" in warning]
    json.loads(json.dumps(found.as_dict(), allow_nan=False))


def test_what_a_step_fills_in_is_not_warned_of(tmp_path):
    rows = [f"{'' if row % 7 == 0 else row},{'red' if row % 3 else 'blue'},{'yes' if row % 2 else 'no'}" for row in range(60)]
    (tmp_path / "table.csv").write_text("\n".join(["size,color,answer", *rows]))
    found = tfopt.datasets.csv(file=tmp_path / "table.csv", target="answer").describe()
    missing = sum(of(found, split, column="size").missing for split in found.examples)
    assert missing == 9
    assert of(found, "train", column="color").missing == 0
    assert of(found, "train", "prepared").missing == 0
    assert not [warning for warning in found.warnings if "missing" in warning]
    assert "raw columns of train" in str(found)


def test_several_inputs_have_a_block_each():
    x = {"image": RNG.random((40, 4, 4, 1)).astype(np.float32), "row": np.arange(80, dtype=np.float32).reshape(40, 2)}
    found = tfopt.datasets.arrays(x=x, y=np.arange(40) % 2).describe()
    assert {(one.input, one.shape) for one in found.values} == {("image", (4, 4, 1)), ("row", (2,))}
    assert max(one.high for one in found.values if one.input == "row") == 79
    assert len([line for line in str(found).splitlines() if " image " in f"{line} "]) == 3


# Leaks and duplicates


def test_examples_that_two_splits_share_are_named_and_warned_of():
    train, test = images(50), images(20, seed=1)
    test[3], test[11] = train[17], train[4]
    train[30] = train[31] = train[2]
    found = built(part(train), part(images(10, seed=2)), part(test)).describe()
    leaks = {(one.split, one.of): (one.count, set(one.pairs)) for one in found.copies}
    assert leaks == {
        ("test", "train"): (2, {("test[3]", "train[17]"), ("test[11]", "train[4]")}),
        ("train", "train"): (2, {("train[30]", "train[2]"), ("train[31]", "train[2]")}),
    }
    (warning,) = found.warnings
    assert warning.startswith("leak: 2 of 20 test examples are in train, too, byte for byte, such as test[3] = train[17]; remove them")
    assert f"WARNING: {warning}" in str(found)
    assert "copies in train, repeated: 2 of 50 (train[30] = train[2], train[31] = train[2])" in str(found)


def test_a_leak_is_found_among_several_inputs_only_where_all_are_alike():
    inputs = [{"a": images(20, seed=seed)[:, :, 0, 0], "b": images(20, seed=seed + 9)[:, :, 0, 1]} for seed in range(3)]
    inputs[2]["a"][5] = inputs[0]["a"][6]
    assert built(*map(part, inputs)).describe().copies == ()
    inputs[2]["b"][5] = inputs[0]["b"][6]
    (copies,) = built(*map(part, inputs)).describe().copies
    assert copies.pairs == (("test[5]", "train[6]"),)


def test_files_of_the_same_bytes_are_named_by_their_paths(tmp_path):
    tf = backend.tensorflow()
    paths = [tmp_path / f"{at}.raw" for at in range(12)]
    for at, path in enumerate(paths):
        path.write_bytes(images(1, seed=at).tobytes())
    paths[10].write_bytes(paths[1].read_bytes())
    rows = Rows(
        np.array([str(path).encode() for path in paths], object),
        np.arange(12, dtype=np.int32) % 2,
        read=lambda path: tf.reshape(tf.io.decode_raw(tf.io.read_file(path), tf.uint8), [6, 6, 3]),
        spec=tf.TensorSpec((6, 6, 3), tf.uint8),
        marks=np.array([path.name for path in paths]),
    )
    data = built(*(rows.take(slice(*at)) for at in [(0, 6), (6, 9), (9, 12)]))
    (copies,) = data.describe().copies
    assert copies.pairs == ((str(paths[10]), str(paths[1])),)
    paths[7].unlink()
    with pytest.raises(tfopt.DataError, match=r"7\.raw: can't be read any more \(.*No such file"):
        data.describe()


def test_texts_are_not_taken_for_alike_because_of_unknown_words(tmp_path):
    lines = [f"{at % 2} what is word{at} ?" for at in range(40)]
    (tmp_path / "train.txt").write_text("\n".join(lines))
    (tmp_path / "test.txt").write_text("0 what is this ?\n1 what is that ?\n1 what is word3 ?\n")
    (tmp_path / "validation.txt").write_text("0 what is it ?\n1 what is word100 ?\n")
    files = {f"{part}file": tmp_path / f"{name}.txt" for part, name in (("", "train"), ("test_", "test"), ("validation_", "validation"))}
    found = tfopt.datasets.text_file(**files, length=4).describe()
    assert [(one.split, one.of, one.pairs) for one in found.copies] == [("test", "train", (("test[2]", "train[3]"),))]
    words = {one.split: one for one in found.words}
    assert words["train"].vocabulary == 43  # of 40 questions: what, is, ?, and 40 words of their own
    assert (words["train"].unknown, words["test"].unknown, words["validation"].unknown) == (0, 2 / 12, 2 / 8)
    assert (words["train"].shortest, words["train"].median, words["train"].full) == (4, 4, 1)


# Classes


def test_imbalance_is_warned_above_ten():
    y = np.repeat([0, 1], [100, 10]).astype(np.int32)
    x = images(110)
    others = part(images(4, seed=1)), part(images(4, seed=2))
    assert built((x, y), *others).describe().warnings == ()
    found = built((x[:109], y[:109]), *others).describe()
    assert found.imbalance == pytest.approx(100 / 9)
    (warning,) = found.warnings
    assert warning.startswith("imbalance: train has 11.1 times as many examples of 'a' as of 'b'")


def test_a_class_without_examples_and_labels_of_no_class_are_warned_of():
    found = built(part(images(6)), part(images(4, seed=1), [0, 0, 0, 0]), part(images(3, seed=2), [0, 1, 5])).describe()
    assert "validation: no examples of 'b'" in found.warnings
    assert "test: 1 labels are the index of no class (should be 0 to 1)" in found.warnings


def test_of_many_classes_the_most_and_the_least_frequent_are_shown():
    y = np.concatenate([np.full(at // 10 + 1, at) for at in range(100)]).astype(np.int32)
    x = images(len(y))
    data = built((x, y), part(x[:2] // 2), part(x[2:4] // 2), classes=[f"class{at}" for at in range(100)])
    page = str(data.describe())
    assert "... 80 more" in page and "class99" in page and "class0 " in page and "class50" not in page


# Other tasks


def test_a_regressions_target_has_its_distribution():
    x = RNG.normal(size=(500, 4)).astype(np.float32)
    y = np.arange(500, dtype=np.float32)
    found = built((x, y), (x[:9] + 1, y[:9]), (x[:5] + 2, y[:5] * np.nan), classes=(), task="regression").describe()
    one = found.target[0]
    assert (one.low, one.quarter, one.median, one.three_quarters, one.high) == tuple(np.quantile(y, (0, 0.25, 0.5, 0.75, 1)))
    assert (one.mean, one.std) == (pytest.approx(y.mean()), pytest.approx(y.std()))
    assert (found.target[2].median, found.target[2].missing) == (None, 5)
    assert (found.classes, found.imbalance) == ({}, None)
    assert [warning for warning in found.warnings if warning.startswith("test: 5 targets are missing")]
    assert "249.5" in str(found)


def boxed(count=8):
    y = {"boxes": np.full((count, 3, 4), -1, np.float32), "labels": np.full((count, 3), -1, np.int32)}
    y["boxes"][1:, 0], y["labels"][1:, 0] = (0.25, 0.5, 0.75, 1.0), 1
    return y


def test_boxes_are_counted_and_measured_in_pixels():
    x, y = images(8, size=20), boxed()
    y["boxes"][2, 1], y["labels"][2, 1] = (0.1, 0.1, 0.3, 0.2), 0
    y["boxes"][3, 1], y["labels"][3, 1] = (0.5, 0.5, 0.4, 1.2), 0  # ends before it begins, and outside
    other = images(8, size=20, seed=1), boxed()
    found = built((x, y), other, (images(8, size=20, seed=2), boxed()), task="detection").describe()
    one = found.boxes[0]
    assert (one.count, one.fewest, one.most, one.without, one.unit, one.outside) == (9, 0, 2, 1, "pixels", 1)
    assert one.width == pytest.approx((2, 10, 14)) and one.height[1] == pytest.approx(10)
    assert found.classes == {"a": {"train": 2, "validation": 0, "test": 0}, "b": {"train": 7, "validation": 7, "test": 7}}
    assert "train: 1 of 9 boxes reach out of their image or have no area; repair or remove them" in found.warnings
    assert "0 to 2, mean 1.12" in str(found)


def test_real_boxes(unpackable):
    found = tfopt.datasets.voc(folder=unpackable("bccd.zip"), size=[60, 80], cache="none").describe()
    assert sum(found.examples.values()) == 364
    assert sum(one.count for one in found.boxes) == 4888
    assert sum(found.classes["RBC"].values()) == 4155
    assert [one.outside for one in found.boxes] == [0, 0, 0]


# Where examples come from


def stream(x, y):
    tf = backend.tensorflow()
    return Stream(lambda index, count: tf.data.Dataset.from_tensor_slices((x, y)).shard(count, index), len(x), "mine")


def test_a_stream_is_described_like_rows():
    parts = [part(images(40)), part(images(9, seed=1)), part(images(9, seed=2))]
    parts[2][0][4] = parts[0][0][8]
    rows, streams = built(*parts).describe(), built(*(stream(*one) for one in parts)).describe()
    assert streams.as_dict() == rows.as_dict()
    assert streams.copies[0].pairs == (("test[4]", "train[8]"),)


def test_data_of_ones_own_without_any_source():
    tf = backend.tensorflow()
    x, y = images(12), np.arange(12, dtype=np.int32) % 2
    sets = [tf.data.Dataset.from_tensor_slices((x[at : at + 4], y[at : at + 4])) for at in (0, 4, 8)]
    data = Data("own", "classification", *sets, sets[0], (6, 6, 3), ("a", "b"), "f", input_dtype="uint8")
    found = tfopt.describe(data)
    assert found.examples == {"train": 4, "validation": 4, "test": 4}
    with pytest.raises(tfopt.DataError, match=r"expected data as tfopt\.datasets gives it"):
        tfopt.describe(sets[0])


def test_an_empty_split_is_said():
    found = built(part(images(6)), part(images(4, seed=1)), part(images(1, seed=2)[:0])).describe()
    assert "test holds no examples" in found.warnings
    assert str(found)


def test_long_statistics_are_abbreviated():
    x = RNG.normal(size=(50, 40)).astype(np.float32)
    data = built(part(x), part(x[:3] + 1), part(x[:3] + 2), preprocess=[{"use": "z_score", "per": "feature"}])
    (step,) = data.describe().steps
    assert "40 numbers]" in step and len(step) < 150
    assert (
        describing._step(Call("pca", {"matrix": [[1.0, 2.0, 3.0, 4.0], [5.0] * 4]}))
        == "pca(matrix=[[1, 2, 3, ... 4 numbers], ... 2 lists])"
    )


@pytest.mark.slow
def test_memory_stays_flat():
    """Five times as many examples, a GB of them, take no more memory."""
    code = """
import resource, sys
import numpy as np
from tfopt import backend
from tfopt.datasets import _building
from tfopt.pipelines import Rows
tf = backend.tensorflow()
def rows(start, count):
    read = lambda seed: tf.cast(tf.random.stateless_uniform([256, 256, 3], [seed, 0], 0, 256, tf.int32), tf.uint8)
    numbers = np.arange(start, start + count, dtype=np.int32)
    return Rows(numbers, numbers % 2, read=read, spec=tf.TensorSpec((256, 256, 3), tf.uint8), cache="none",
                marks=numbers.astype(str))
count = int(sys.argv[1])
data = _building.build("big", {"train": rows(0, count), "validation": rows(count, 4), "test": rows(count + 4, 4)}, classes=("a", "b"),
                       seed=0, calibration=2)
assert data.describe().examples["train"] == count
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
    peaks = [
        int(subprocess.run([sys.executable, "-c", code, str(count)], check=True, capture_output=True, text=True).stdout)
        for count in (1000, 5000)
    ]
    assert peaks[1] < peaks[0] + 100_000, peaks  # KB


# The picture


def test_the_sheet_shows_examples_raw_and_augmented(tmp_path):
    x = np.zeros((12, 40, 40, 3), np.uint8)
    x[:, :, :20] = (255, 0, 0)  # the left half red
    data = built(part(x), part(x[:2]), part(x[:2]), preprocess=["random_flip"])
    path = data.describe().save_sheet(tmp_path / "sheet.png")
    picture = pixels(path)[:, :, :3]
    red = (np.abs(picture - (1, 0, 0)) < 0.1).all(axis=2)
    halves = red.sum() / (8 * 5)  # in 8 examples of 5 rows
    assert 110 * 110 * 0.25 < halves < 110 * 110  # half of each cell
    rows = np.array_split(red, 5)
    assert not np.array_equal(rows[0], rows[1])


def test_the_same_data_gives_the_same_sheet_and_other_files_stay(tmp_path):
    data = built(part(images(20)), part(images(4, seed=1)), part(images(4, seed=2)), preprocess=["random_flip"])
    path = describing.save_sheet(data, tmp_path / "new" / "sheet.png")
    first = path.read_bytes()
    assert describing.save_sheet(data, path).read_bytes() == first
    other = dataclasses.replace(data, augmentation=lambda x, y, seed: (1 - x, y))
    assert describing.save_sheet(other, path).read_bytes() != first  # an older sheet is replaced
    (tmp_path / "photo.png").write_bytes(b"\x89PNG of somebody")
    with pytest.raises(tfopt.ArtifactError, match="another file stands here already"):
        describing.save_sheet(data, tmp_path / "photo.png")
    assert (tmp_path / "photo.png").read_bytes() == b"\x89PNG of somebody"
    for name, message in (("sheet.jpg", r"end it in \.png"), ("new", r"end it in \.png"), ("photo.png/x.png", "can't be written")):
        with pytest.raises(tfopt.ArtifactError, match=message):
            describing.save_sheet(data, tmp_path / name)


def facts_of(kind, **more):
    return {"kind": kind, **more}


SHEETS = {
    "sound": lambda: built(
        *[part(RNG.normal(size=(9, 800)).astype(np.float32) / 9)] * 3, source=facts_of("sound", rate=8000), preprocess=["log_mel"]
    ),
    "silence": lambda: built(*[part(np.zeros((9, 100), np.float32))] * 3, source=facts_of("sound", rate=8000)),
    "series": lambda: built(*[part(RNG.normal(size=(9, 48, 2)).astype(np.float32))] * 3, source=facts_of("series")),
    "map": lambda: built(*[part(RNG.normal(size=(9, 48, 20)).astype(np.float32))] * 3),
    "row": lambda: built(*[part(np.array([[np.nan, 1.0], [2.0, -1.0]] * 4, np.float32))] * 3),
    "table": lambda: built(
        *[part(np.array([[np.nan, 1.0], [2.0, -1.0]] * 4, np.float32))] * 3,
        source=facts_of("table", columns=[{"name": "$a$"}, {"name": "b_^{", "categories": ["x", "y"]}]),
    ),
    "text": lambda: built(
        *[part(np.array([[2, 1, 0], [3, 2, 2]] * 4, np.int32))] * 3,
        source=facts_of("text", vocabulary=["", "[UNK]", "$10^{", "日本"], padding=0, unknown=1),
        preprocess=["token_dropout"],
        classes=["$\\frac", "日本"],
    ),
    "boxes": lambda: built(*[(images(8, size=20), boxed())] * 3, task="detection", preprocess=["random_flip"]),
    "regression": lambda: built(*[(images(8), np.linspace(0, 1, 8, dtype=np.float32))] * 3, classes=(), task="regression"),
    "gray": lambda: built(*[part(images(8)[:, :, :, 0])] * 3),
    "several": lambda: built(*[part({"image": images(9), "row": RNG.normal(size=(9, 5)).astype(np.float32)})] * 3),
    "mixed": lambda: built(*[part(images(9))] * 3, preprocess=[{"use": "mixup", "classes": 2}]),
    "stream": lambda: built(*[stream(*part(images(9)))] * 3, preprocess=["random_flip"]),
    "one": lambda: built(*[part(images(1))] * 3, calibration=1),
}


QUICK = {"sound", "table", "text", "several", "mixed"}


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=() if kind in QUICK else pytest.mark.slow) for kind in SHEETS])
def test_every_kind_of_example_can_be_drawn(kind, tmp_path):
    data = SHEETS[kind]()
    picture = pixels(describing.save_sheet(data, tmp_path / "sheet.png"))[:, :, :3]
    assert picture.min() < 0.5 < picture.max()
    assert str(data.describe())


def test_boxes_are_drawn_where_they_are(tmp_path):
    x = np.full((8, 100, 100, 3), 255, np.uint8)
    y = boxed()
    y["boxes"][:, 0], y["labels"][:, 0] = (0.25, 0.5, 0.75, 1.0), 1
    data = built(*[(x, y)] * 3, task="detection")
    picture = pixels(describing.save_sheet(data, tmp_path / "sheet.png"))[:, :, :3]
    green = (np.abs(picture - np.array([0x3C, 0xB4, 0x4B]) / 255) < 0.15).all(axis=2)
    green[:40] = False  # the legend
    cell = green[:, : green.shape[1] // 8 + 20]
    rows, columns = np.flatnonzero(cell.any(axis=1)), np.flatnonzero(cell.any(axis=0))
    first = rows[rows < rows[0] + 150]
    width = columns[-1] - columns[0]
    assert width == pytest.approx(first[-1] - first[0], abs=4)  # half of the picture wide and high
    assert 0.4 < width / (green.shape[1] / 8 - 16) < 0.55


# The command


def test_the_command_prints_json_and_draws_into_the_named_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = invoke("data", ROOT / "recipes" / "digits.toml", "--json", "--sheet", "digits.png", "--set", 'preprocess=["pad_and_crop"]')
    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["sheet"] == "digits.png" and Path("digits.png").exists()
    assert found["examples"] == {"train": 1168, "validation": 270, "test": 359}
    assert found["steps"] == ["pad_and_crop() on training examples only"]


def test_the_command_prints_tables_and_says_where_the_sheet_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = invoke("data", "digits")
    assert done.exit_code == 0, done.stderr
    assert done.stdout.splitlines()[0] == "digits: classification, 10 classes"
    assert done.stdout.splitlines()[-1] == f"sheet: {tmp_path / 'runs' / 'digits-data.png'}"
    Path("runs/digits-data.png").write_bytes(b"mine")
    done = invoke("data", "digits")
    assert done.exit_code == 1
    assert done.stdout == "" and "digits-data.png: another file stands here already" in done.stderr
    assert Path("runs/digits-data.png").read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["digit"], 2, "data.use = 'digit': no such dataset; did you mean 'digits'?"),
        (["none.toml"], 2, "none.toml: there is no such file"),
        (["digits", "--set", "sed=1"], 2, "data.sed: unknown option; did you mean 'seed'?"),
        (["digits", "--sheet", "sheet.gif"], 1, "sheet.gif: is no name for a picture; end it in .png"),
        (["arrays", "--set", "x='x.npy'", "--set", "y='y.npy'"], 1, "x.npy: there is no such file"),
        ([], 2, "Missing argument 'RECIPE'"),
    ],
)
def test_bad_input_ends_in_one_message(tmp_path, monkeypatch, arguments, code, message):
    monkeypatch.chdir(tmp_path)
    done = invoke("data", *arguments)
    assert (done.exit_code, done.stdout) == (code, "")
    assert message in done.stderr and "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_no_font_or_figure_of_the_users_is_touched(tmp_path):
    assert "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()
    data = built(*[part(images(4))] * 3)
    target = io.BytesIO(describing.save_sheet(data, tmp_path / "a.png").read_bytes())
    assert target.getbuffer().nbytes > 1000
    assert "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()
