"""Texts as word indices: one a line, or a file each in class folders; TREC by its official test; and what is refused."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

import tfopt
from tfopt import backend, pipelines, preprocessing
from tfopt.errors import DataError, OptionError
from tfopt.preprocessing import text

PARTS = ("train", "validation", "test")
LINES = "".join(f"{('good', 'bad')[n % 2]} word{n} is {('fine', 'poor')[n % 2]} .\n" for n in range(40))


@pytest.fixture(scope="module")
def trec(data_folder):
    folder = data_folder("text")
    return tfopt.datasets.text_file(
        file=folder / "TREC.train.all", test_file=folder / "TREC.test.all", encoding="latin-1", length=40,
        preprocess=[{"use": "token_dropout", "rate": 0.1}],
    )  # fmt: skip


def written(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def sizes(data):
    return [pipelines.size(getattr(data, part)) for part in PARTS]


def test_tokens():
    assert text.tokens("What's the Fermi-level (in eV), 2.5?") == [
        "what's", "the", "fermi", "-", "level", "(", "in", "ev", ")", ",", "2", ".", "5", "?"
    ]  # fmt: skip
    assert text.tokens("E\u0301TE\u0301 Straße 東京") == ["été", "straße", "東京"]  # letters of Unicode, however they are composed
    assert text.tokens(" \t\n") == []


def test_the_vocabulary_is_the_most_frequent_words():
    assert text.vocabulary(["b a c", "c b", "c"], 4) == ("", "[UNK]", "c", "b")
    assert text.vocabulary(["b a"], 100) == ("", "[UNK]", "a", "b")  # as frequent: by alphabet, so that it is always the same


def test_texts_are_cut_and_filled_up():
    x = text.encoded(["C b zebra", "c c c c c", ""], ("", "[UNK]", "c", "b"), 4)
    assert x.dtype == np.int32
    np.testing.assert_array_equal(x, [[2, 3, 1, 0], [2, 2, 2, 2], [0, 0, 0, 0]])


def test_trec_as_it_is_published(trec):
    assert trec.classes == ("0", "1", "2", "3", "4", "5")
    assert sizes(trec) == [4634, 818, 500]
    assert (trec.input_shape, trec.input_dtype) == ((40,), "int32")


def test_an_app_can_repeat_it(trec, data_folder):
    facts = json.loads(json.dumps(trec.source))
    lines = (data_folder("text") / "TREC.test.all").read_text().splitlines()
    x = text.encoded([line.partition(" ")[2] for line in lines], facts["vocabulary"], facts["length"])
    given, y = pipelines.to_arrays(trec.test)
    np.testing.assert_array_equal(x, given)
    assert [str(label) for label in y] == [line[0] for line in lines]


def test_the_vocabulary_is_of_the_training_texts_only(trec):
    vocabulary = set(trec.source["vocabulary"])
    x, _ = pipelines.to_arrays(trec.train)
    assert set(np.unique(x)) == set(range(len(vocabulary))) - {1}  # each word of it is used there, and none is unknown
    assert all((pipelines.to_arrays(getattr(trec, part))[0] == 1).any() for part in ("validation", "test"))


@pytest.mark.slow
def test_a_small_model_answers_trec(trec):
    """Published for such a model from scratch: 88.2 % (harvardnlp/sent-conv-torch). The epoch is chosen on validation."""
    layers = backend.keras().layers
    with backend.seeded(0):
        inputs = backend.keras().Input(trec.input_shape, dtype="int32")
        x = layers.Dropout(0.3)(layers.Embedding(len(trec.source["vocabulary"]), 64)(inputs))
        x = layers.GlobalMaxPooling1D()(layers.Conv1D(128, 3, padding="same", activation="relu")(x))
        outputs = layers.Dense(trec.num_classes, activation="softmax")(layers.Dropout(0.5)(x))
        model = backend.keras().Model(inputs, outputs)
    model = tfopt.train(model, trec, tfopt.Fit(epochs=12, learning_rate=2e-3, patience=4))
    x, y = pipelines.to_arrays(trec.test)
    accuracy = (model.predict(x, verbose=0).argmax(axis=1) == y).mean()
    assert accuracy >= 0.85, accuracy


def test_other_forms_of_lines(tmp_path):
    file = written(tmp_path / "tab.tsv", LINES.replace("good ", "very good\t").replace("bad ", "bad\t").replace("\n", "\r\n"))
    data = tfopt.datasets.text_file(file=file, separator="\t", length=6)
    assert data.classes == ("bad", "very good")
    assert "good" not in data.source["vocabulary"]
    last = "".join(f"{' '.join(line.split()[1:])}\t{line.split()[0]}\n" for line in LINES.splitlines())
    turned = tfopt.datasets.text_file(file=written(tmp_path / "last.tsv", last), separator="\t", label_last=True, length=6)
    assert turned.classes == ("bad", "good")
    np.testing.assert_array_equal(pipelines.to_arrays(turned.test)[0], pipelines.to_arrays(data.test)[0])


def test_a_line_ends_at_a_newline_only(data_folder):
    """The reviews hold the byte 0x85, at which str.splitlines would break a line."""
    data = tfopt.datasets.text_file(file=data_folder("text") / "rt-polarity.all", encoding="latin-1", words=5000)
    assert sum(sizes(data)) == 10_662 and len(data.source["vocabulary"]) == 5000


def test_shares_are_stratified_and_seeded(tmp_path):
    file = written(tmp_path / "a.txt", LINES)
    data, again, other = (tfopt.datasets.text_file(file=file, seed=seed) for seed in (0, 0, 1))
    assert sizes(data) == [26, 6, 8]
    assert [np.bincount(pipelines.to_arrays(getattr(data, part))[1]).tolist() for part in PARTS] == [[13, 13], [3, 3], [4, 4]]
    assert data.fingerprint == again.fingerprint != other.fingerprint


@pytest.fixture
def folder(tmp_path):
    for number, line in enumerate(LINES.splitlines()):
        label, words = line.split(" ", 1)
        written(tmp_path / "reviews" / label / f"{number}.txt", words)
    return tmp_path / "reviews"


def test_class_folders(folder):
    data = tfopt.datasets.text_folder(folder=folder, length=5)
    assert (data.classes, sizes(data), data.input_shape) == (("bad", "good"), [26, 6, 8], (5,))
    words = data.source["vocabulary"]
    for row, label in zip(*pipelines.to_arrays(data.train), strict=True):
        assert ("fine" in [words[index] for index in row]) == (data.classes[label] == "good")


def test_train_and_test_folders(folder, tmp_path):
    official = tmp_path / "official"
    shutil.copytree(folder, official / "train")
    written(official / "test" / "good" / "x.txt", "a fine day")
    data = tfopt.datasets.text_folder(folder=official)
    assert sizes(data) == [34, 6, 1]
    assert any("test has no example of 'bad'" in note for note in data.notes)
    archive = shutil.make_archive(str(tmp_path / "packed"), "zip", official)
    assert tfopt.datasets.text_folder(folder=archive, name="official").fingerprint == data.fingerprint


def test_what_is_wrong_in_folders_is_said(folder, tmp_path):
    with pytest.raises(DataError, match="there is no such folder"):
        tfopt.datasets.text_folder(folder=tmp_path / "none")
    with pytest.raises(DataError, match=r"has no \.txt files in class folders"):
        tfopt.datasets.text_folder(folder=folder / "good")
    written(folder / "good" / "odd.txt", b"fine\nbut \xe9")
    with pytest.raises(DataError, match=r"odd\.txt, line 2: is not text in utf-8 \(byte 9 of the file is 0xe9\)"):
        tfopt.datasets.text_folder(folder=folder)
    assert tfopt.datasets.text_folder(folder=folder, encoding="latin-1").num_classes == 2
    few = tfopt.datasets.text_folder(folder=folder, corrupt=0.05)
    assert sum(sizes(few)) == 40 and "1 of 41 texts can't be read" in few.notes[0] and "odd.txt, line 2: is not" in few.notes[0]
    with pytest.raises(DataError, match=r"1 of 41 texts can't be read.*allow more than corrupt = 0.01"):
        tfopt.datasets.text_folder(folder=folder, corrupt=0.01)
    written(folder / "good" / "odd.txt", "")
    with pytest.raises(DataError, match=r"odd\.txt: is empty"):
        tfopt.datasets.text_folder(folder=folder)
    shutil.rmtree(folder / "good")
    with pytest.raises(DataError, match="all 20 examples are of one class, 'bad'"):
        tfopt.datasets.text_folder(folder=folder)


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (LINES + "alone\n", {}, r"a\.txt, line 41: is 'alone'; should be 'label text'"),
        (LINES, {"separator": "\t"}, r"line 1: is 'good word0 is fine \.'; should be 'label\\ttext'"),
        (LINES.replace("bad ", "good "), {}, "all 40 examples are of one class, 'good'"),
        (LINES + "odd one out\n", {}, "too few examples of 1 of the 3 classes: 'odd' has 1"),
        ("", {}, r"a\.txt: is empty"),
        (LINES.encode() + b"bad caf\xe9\n", {}, r"a\.txt, line 41: is not text in utf-8 .*encoding = 'latin-1'"),
    ],
)
def test_what_is_wrong_in_a_file_is_said(tmp_path, content, options, message):
    with pytest.raises(DataError, match=message):
        tfopt.datasets.text_file(file=written(tmp_path / "a.txt", content), **options)


def test_wrong_options_are_said(tmp_path):
    file = written(tmp_path / "a.txt", LINES)
    with pytest.raises(OptionError, match="separator = ''"):
        tfopt.datasets.text_file(file=file, separator="")
    with pytest.raises(DataError, match="there is no such file"):
        tfopt.datasets.text_file(file=tmp_path / "b.txt")
    test = written(tmp_path / "test.txt", "goood words\n")
    with pytest.raises(DataError, match=r"test\.txt, line 1: the class 'goood' is not among those to learn from; did you mean 'good'"):
        tfopt.datasets.text_file(file=file, test_file=test)


def test_token_dropout():
    tf = backend.tensorflow()
    x = tf.constant(np.random.default_rng(0).integers(0, 50, (400, 30)), tf.int32)
    y = tf.zeros(400, tf.int32)
    run = tf.function(lambda seed: text.token_dropout(x, y, seed, rate=0.3, unknown=77))
    one, same, other = (run(tf.constant(seed, tf.int32))[0].numpy() for seed in ([1, 2], [1, 2], [1, 3]))
    assert one.dtype == np.int32 and (one == same).all() and (one != other).any()
    assert set(np.unique(one[one != x])) == {77}
    assert (one[x == 0] == 0).all()  # what fills up is no word
    assert abs((one == 77)[x != 0].mean() - 0.3) < 0.02
    assert len(np.unique((one == 77).sum(axis=1))) > 5  # each example in its own way
    np.testing.assert_array_equal(text.token_dropout(x, y, [0, 1], rate=0.0)[0], x)


def test_token_dropout_changes_training_examples_only(tmp_path):
    steps = [{"use": "token_dropout", "rate": 0.5}]
    data = tfopt.datasets.text_file(file=written(tmp_path / "a.txt", LINES), length=6, preprocess=steps)
    plain = tfopt.datasets.text_file(file=written(tmp_path / "a.txt", LINES), length=6)
    batch, _ = next(iter(pipelines.training_batches(data, tfopt.Fit(epochs=1, batch_size=26))))
    assert (batch.numpy() == 1).sum() > 20 and batch.shape == (26, 6)
    for part in (*PARTS, "calibration"):
        np.testing.assert_array_equal(*(pipelines.to_arrays(getattr(one, part))[0] for one in (data, plain)))
    assert not preprocessing.preparations(data.steps)
