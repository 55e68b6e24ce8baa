"""Tables from CSV files: what becomes of numbers, categories and missing values, on penguins; and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest

import tfopt
from tfopt import backend, pipelines, preprocessing
from tfopt.errors import DataError, OptionError
from tfopt.preprocessing.tables import encode_columns
from tfopt.runtime import Session

PARTS = ("train", "validation", "test")


@pytest.fixture(scope="module")
def file(data_folder):
    return data_folder("tables/penguins.csv")


@pytest.fixture(scope="module")
def penguins(file):
    return tfopt.datasets.csv(file=file, target="species")


def written(tmp_path, text, name="table.csv"):
    path = tmp_path / name
    path.write_text(text)
    return path


def rows(count=30, *, header="a,color,y"):
    """A table of two classes, with a number and a color."""
    lines = [f"{number / 2},{('red', 'green', 'blue')[number % 3]},{('yes', 'no')[number % 2]}" for number in range(count)]
    return "\n".join([header, *lines]) + "\n"


def raw(data, part):
    return pipelines.to_arrays(pipelines.raw(getattr(data, part)))


def test_penguins_are_vectors_of_numbers(penguins):
    assert penguins.classes == ("Adelie", "Chinstrap", "Gentoo")
    assert (penguins.raw_shape, penguins.input_shape, penguins.input_dtype) == ((6,), (9,), "float32")
    assert sum(pipelines.size(getattr(penguins, part)) for part in PARTS) == 344
    names = [column["name"] for column in penguins.source["columns"]]
    assert names == ["island", "bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g", "sex"]
    assert penguins.source["columns"][0]["categories"] == ["Biscoe", "Dream", "Torgersen"]
    for part in PARTS:
        assert np.isfinite(pipelines.to_arrays(getattr(penguins, part))[0]).all()


def test_an_app_can_repeat_the_steps(penguins, file):
    """From a row as it stands in the file, the facts in `source` and the steps, both through JSON, comes the x of the row."""
    facts = json.loads(json.dumps({"source": penguins.source, "steps": [[step.use, step.options] for step in penguins.steps]}))
    line = file.read_text().splitlines()[4]  # Adelie,Torgersen,,,,,
    fields = dict(zip(("species", "island", "bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g", "sex"),
                      line.split(","), strict=True))  # fmt: skip
    example = []
    for column in facts["source"]["columns"]:
        text = fields[column["name"]]
        if text in facts["source"]["missing_values"]:
            example.append(np.nan)
        else:
            example.append(column["categories"].index(text) if "categories" in column else float(text))
    x = np.array([example], np.float32)
    for use, options in facts["steps"]:
        x = preprocessing.PREPARATIONS[use](x, **options)
    np.testing.assert_allclose(x, [[0, 0, 1, 0, 0, 0, 0, 0, 0]], atol=1e-6)  # Torgersen; all numbers the mean; no sex


def test_statistics_are_those_of_the_training_rows(penguins):
    x, _ = raw(penguins, "train")
    scaling = penguins.steps[-1].options
    np.testing.assert_allclose(scaling["mean"][3:7], np.nanmean(x[:, 1:5].astype(float), axis=0), rtol=1e-6)
    everything = np.concatenate([raw(penguins, part)[0] for part in PARTS])
    assert not np.allclose(scaling["mean"][3:7], np.nanmean(everything[:, 1:5].astype(float), axis=0), rtol=1e-6)
    prepared, _ = pipelines.to_arrays(penguins.train)
    np.testing.assert_allclose(prepared[:, 3:7].mean(axis=0), 0, atol=1e-5)
    assert set(np.unique(prepared[:, :3])) == {0.0, 1.0}  # what says yes or no is not scaled


def test_rows_with_missing_values_can_be_dropped(file, penguins):
    data = tfopt.datasets.csv(file=file, target="species", missing="drop")
    dropped = sum("NA" in line.split(",") or "" in line.split(",") for line in file.read_text().splitlines())
    assert sum(pipelines.size(getattr(data, part)) for part in PARTS) == 344 - dropped
    assert [step.use for step in data.steps] == ["encode_columns", "z_score"]
    assert f"{dropped} of 344 rows have a missing value" in data.notes[0]
    assert data.fingerprint != penguins.fingerprint


def test_rows_can_be_left_out(tmp_path, file):
    table = rows() + "3.0,red,yes\n3.0,red,yes\n3.0,red,no\n,red,yes\n999,blue,no\n"
    once = [{"use": "drop_outliers", "limit": 3.0}, "drop_duplicates"]
    data = tfopt.datasets.csv(file=written(tmp_path, table), target="y", clean=once, test=0.1, validation=0.1, seed=1)
    x = np.concatenate([raw(data, part)[0] for part in PARTS])
    assert len(x) == 33 - ("drop_outliers" in str(data.notes)) and "drop_duplicates left out 2 of 35 examples" in data.notes[0]
    assert "drop_outliers left out 1 of 27 training examples" in data.notes[1] and np.nanmax(raw(data, "train")[0][:, 0]) < 999
    assert len(np.unique(x[:, 0][~np.isnan(x[:, 0])])) == 30
    penguins = tfopt.datasets.csv(file=file, target="species", clean=["drop_outliers"])
    assert all("drop_outliers" not in note for note in penguins.notes)  # a rare island is no outlier, whatever its number


def test_the_median_fills_in(file):
    data = tfopt.datasets.csv(file=file, target="species", missing="median", scale="none")
    x, _ = raw(data, "train")
    filled = next(step for step in data.steps if step.use == "fill_missing").options["values"]
    np.testing.assert_allclose(filled[3:7], np.nanmedian(x[:, 1:5], axis=0))
    assert data.steps[-1].use == "fill_missing"


def test_a_constant_fills_in(file):
    data = tfopt.datasets.csv(file=file, target="species", missing="constant", fill=-7.0, scale="none")
    x, _ = pipelines.to_arrays(data.train)
    raw_x, _ = raw(data, "train")
    gaps = np.isnan(raw_x[:, 1:5])  # the numbers; of the categories beside them a missing one is zeros
    assert gaps.any() and (x[:, 3:7][gaps] == -7).all() and np.array_equal(x[:, 3:7][~gaps], raw_x[:, 1:5][~gaps])


def test_preprocess_comes_behind(file):
    data = tfopt.datasets.csv(file=file, target="species", preprocess=["l2_normalize"])
    assert [step.use for step in data.steps] == ["encode_columns", "fill_missing", "z_score", "l2_normalize"]
    np.testing.assert_allclose(np.linalg.norm(pipelines.to_arrays(data.test)[0], axis=1), 1, rtol=1e-5)


def test_the_same_seed_is_the_same_data(file, penguins):
    again, other = (tfopt.datasets.csv(file=file, target="species", seed=seed) for seed in (0, 1))
    assert again.fingerprint == penguins.fingerprint != other.fingerprint


def test_a_small_model_tells_penguins_apart(penguins):
    model = tfopt.models.mlp(penguins.input_shape, penguins.num_classes)
    model = tfopt.train(model, penguins, tfopt.Fit(epochs=20, batch_size=32, learning_rate=1e-2))
    x, y = pipelines.to_arrays(penguins.test)
    assert (model.predict(x, verbose=0).argmax(axis=1) == y).mean() >= 0.95


def test_a_target_with_decimals_is_a_number_to_predict(file):
    data = tfopt.datasets.csv(file=file, target="bill_length_mm")
    assert (data.task, data.classes, data.loss) == ("regression", (), None)
    _, y = pipelines.to_arrays(data.train)
    assert y.dtype == np.float32 and 30 < y.min() < y.max() < 60
    assert "2 of 344 rows have no value in the target 'bill_length_mm'" in data.notes[0]


def test_task_says_it_otherwise(file):
    assert tfopt.datasets.csv(file=file, target="body_mass_g", task="regression").task == "regression"
    with pytest.raises(DataError, match=r"too few examples of .* say task = 'regression'"):
        tfopt.datasets.csv(file=file, target="body_mass_g")


def test_whole_numbers_are_classes_in_their_order(tmp_path):
    path = written(tmp_path, "x,y\n" + "".join(f"{n},{(2, 10, 1)[n % 3]}\n" for n in range(30)))
    data = tfopt.datasets.csv(file=path, target="y")
    assert data.classes == ("1", "2", "10")
    x, y = raw(data, "train")
    assert [data.classes[label] for label in y] == [("2", "10", "1")[int(n) % 3] for n in x[:, 0]]


def test_columns_as_told(file):
    data = tfopt.datasets.csv(file=file, target="species", ignore=["island", "sex"], categories=["flipper_length_mm"])
    kinds = {column["name"]: len(column.get("categories", ())) for column in data.source["columns"]}
    assert list(kinds) == ["bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g"]
    assert kinds["flipper_length_mm"] > 40 and not kinds["body_mass_g"]
    with pytest.raises(DataError, match=r"'Torgersen' in the column 'island' is no number"):
        tfopt.datasets.csv(file=file, target="species", numbers=["island"])


def test_official_files_are_the_parts(tmp_path):
    train = written(tmp_path, rows(40), "train.csv")
    test = written(tmp_path, "y,color,a\nno,pink,100\nyes,,101\n", "test.csv")  # other order; a color that train has not
    data = tfopt.datasets.csv(file=train, test_file=test, target="y", validation=0.25)
    assert [pipelines.size(getattr(data, part)) for part in PARTS] == [30, 10, 2]
    x, y = raw(data, "test")
    np.testing.assert_array_equal(x, [[100, -1], [101, np.nan]])
    assert [data.classes[label] for label in y] == ["no", "yes"]
    assert not pipelines.to_arrays(data.test)[0][:, 1:].any()  # unknown or missing: all zeros


def test_a_class_that_the_test_file_lacks_is_noted(tmp_path):
    train, test = written(tmp_path, rows(), "train.csv"), written(tmp_path, "a,color,y\n1,red,no\n", "test.csv")
    data = tfopt.datasets.csv(file=train, test_file=test, target="y")
    assert any("test has no example of 'yes'" in note for note in data.notes)


def test_a_class_that_only_the_test_file_has_is_refused(tmp_path):
    train, test = written(tmp_path, rows(), "train.csv"), written(tmp_path, "a,color,y\n1,red,no\n1,red,yess\n", "test.csv")
    with pytest.raises(DataError, match=r"test\.csv, line 3: the class 'yess' is not among those to learn from; did you mean 'yes'"):
        tfopt.datasets.csv(file=train, test_file=test, target="y")


def test_other_forms_of_csv(tmp_path):
    text = rows().replace(",", ";").replace("red", '"red;\ndark"')
    path = tmp_path / "table.csv"
    path.write_bytes("\ufeff".encode() + text.replace("\n", "\r\n").encode())
    data = tfopt.datasets.csv(file=path, target="y", delimiter=";")
    assert data.source["columns"][0] == {"name": "a"}
    assert "red;\ndark" in data.source["columns"][1]["categories"]
    bare = written(tmp_path, rows().split("\n", 1)[1], "bare.csv")
    assert tfopt.datasets.csv(file=bare, target="y", header=["a", "color", "y"]).raw_shape == (2,)


def test_a_repeated_header_is_left_out_and_noted(tmp_path):
    data = tfopt.datasets.csv(file=written(tmp_path, rows() + rows()), target="y")
    assert sum(pipelines.size(getattr(data, part)) for part in PARTS) == 60
    assert "1 lines that repeat the header" in data.notes[0]


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (rows(), {"target": "z"}, r"table\.csv: has no column 'z', which target asks for; there are: a, color, y"),
        (rows(), {"target": "colour"}, r"has no column 'colour', .* did you mean 'color'"),
        (rows().replace(",", ";"), {}, r"say delimiter = ';'"),
        (rows() + "1,red\n", {}, r"table\.csv, line 32: has 2 fields, the header has 3"),
        (rows() + "1,re,d,no\n1,re,d,no\n", {}, r"line 32: has 4 fields \(2 such lines\)"),
        (rows() + '1,"red,no\n', {}, r"line 3\d: is no CSV .*double quotes come in pairs"),
        (rows(header="a,a,y"), {}, r"line 1: the column 'a' is there twice"),
        ("", {}, r"table\.csv: is empty"),
        ("\n \n", {}, r"table\.csv: is empty"),
        ("a,color,y\n", {}, r"has no rows below its header"),
        (rows().replace(",no", ",yes"), {}, r"all 30 examples are of one class, 'yes'"),
        (rows() + "1,red,maybe\n", {}, r"too few examples of 1 of the 3 classes: 'maybe' has 1"),
        (rows().replace("7.5,", "7.5x,"), {}, r"table\.csv, line 17: '7\.5x' is no number, as the other 29 values of the column 'a' are"),
        (rows().replace("7.5,", "inf,"), {}, r"table\.csv, line 17: 'inf' is no number"),
        (rows().replace("red", "NA").replace("green", "").replace("blue", "?"), {}, r"the column 'color' has no value at all"),
        ("name,y\n" + "".join(f"n{n},{n % 2}\n" for n in range(50)), {}, r"50 different texts in 50 rows.*ignore = \['name'\]"),
        (rows(), {"ignore": ["a", "color"]}, "no column is left beside the target"),
        (rows().replace("yes", "NA").replace("no", ""), {}, r"30 of 30 rows have no value in the target 'y'.*none is left"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(tmp_path, text, options, message):
    with pytest.raises(DataError, match=message):
        tfopt.datasets.csv(file=written(tmp_path, text), **{"target": "y", **options})


def test_what_is_not_utf8_is_said(tmp_path):
    path = tmp_path / "table.csv"
    path.write_bytes(rows().replace("blue", "bleu é").encode("latin-1"))
    with pytest.raises(DataError, match=r"table\.csv, line 4: is not text in utf-8 \(byte \d+ of the file is 0xe9\).*encoding = 'latin-1'"):
        tfopt.datasets.csv(file=path, target="y")
    data = tfopt.datasets.csv(file=path, target="y", encoding="latin-1")
    assert "bleu é" in data.source["columns"][1]["categories"]
    path.write_bytes(rows().encode("utf-16"))
    with pytest.raises(DataError, match="encoding = 'utf-16'"):
        tfopt.datasets.csv(file=path, target="y")
    assert tfopt.datasets.csv(file=path, target="y", encoding="utf-16").num_classes == 2
    with pytest.raises(OptionError, match="encoding = 'utf8x': is none that Python knows"):
        tfopt.datasets.csv(file=path, target="y", encoding="utf8x")


def test_wrong_options_are_said(tmp_path):
    path = written(tmp_path, rows())
    with pytest.raises(OptionError, match="'a' is named twice"):
        tfopt.datasets.csv(file=path, target="y", ignore=["a"], numbers=["a"])
    with pytest.raises(DataError, match="has no column 'b', which ignore asks for"):
        tfopt.datasets.csv(file=path, target="y", ignore=["b"])
    with pytest.raises(OptionError, match="delimiter = ',,'"):
        tfopt.datasets.csv(file=path, target="y", delimiter=",,")
    with pytest.raises(DataError, match="there is no such file"):
        tfopt.datasets.csv(file=tmp_path / "none.csv", target="y")
    with pytest.raises(OptionError, match="should sum to less than 1"):
        tfopt.datasets.csv(file=path, target="y", validation=0.5, test=0.5)


def test_encode_columns():
    x = encode_columns([[1.5, 0, 7], [np.nan, 2, 8], [2, np.nan, 9], [2, -1, 9], [2, 3, 9]], categories=[0, 3, 0])
    expected = [[1.5, 1, 0, 0, 7], [np.nan, 0, 0, 1, 8], [2, 0, 0, 0, 9], [2, 0, 0, 0, 9], [2, 0, 0, 0, 9]]
    np.testing.assert_array_equal(x, expected)
    with pytest.raises(ValueError, match=r"x has shape \(1, 2\), should be \(n, 1\)"):
        encode_columns([[1.0, 2.0]], categories=[0])


def test_the_steps_convert_to_tflite(penguins):
    """What the app repeats is built of operations that LiteRT has of its own."""
    keras = backend.keras()
    tf = backend.tensorflow()
    inputs = keras.Input(penguins.raw_shape)
    outputs = keras.layers.Lambda(lambda x: preprocessing.applied(x, None, penguins.steps)[0])(inputs)
    content = tf.lite.TFLiteConverter.from_keras_model(keras.Model(inputs, outputs)).convert()
    (x, _), (wanted, _) = (pipelines.to_arrays(one) for one in (pipelines.raw(penguins.train), penguins.train))
    assert np.isnan(x).any()
    np.testing.assert_allclose(Session(content).run(x), wanted, atol=1e-5)
