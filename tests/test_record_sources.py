"""Sources of records and arrays: tensorflow-datasets, TFRecord files, data sets of tf.data and Keras, idx files, .npz files."""

from __future__ import annotations

import gzip
import re
import shutil
import struct
import time
import tomllib

import keras
import numpy as np
import pytest
import tensorflow_datasets
import tf_keras
from sklearn.datasets import load_digits

import tfopt
from tfopt import backend, datasets, options, pipelines
from tfopt.datasets import _tfds
from tfopt.errors import DataError, OptionError
from tfopt.types import Fit

PARTS = ("train", "validation", "test")
COUNT = 300
BUNDLE = load_digits()
X = (BUNDLE.images[:COUNT, ..., np.newaxis] * 15).astype(np.uint8)
Y = BUNDLE.target[:COUNT]
ROWS = BUNDLE.data[:COUNT].astype(np.float32)
WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


def pairs(x, y):
    """Examples in an order that does not depend on how they came."""
    return sorted((np.round(np.asarray(one, np.float64), 4).tobytes(), float(label)) for one, label in zip(x, y, strict=True))


def check_whole(data, x=X / 255, y=Y):
    """All examples are in one part or another, once, each with its own label."""
    parts = [pipelines.to_arrays(getattr(data, part)) for part in PARTS]
    assert all(len(labels) for _, labels in parts)
    x, y = np.asarray(x, np.float32), np.asarray(y)
    assert pairs(np.concatenate([one for one, _ in parts]), np.concatenate([one for _, one in parts])) == pairs(x, y)
    return dict(zip(PARTS, parts, strict=True))


def same(one, other):
    """Whether two Data have the same examples in each part."""
    return all(pairs(*pipelines.to_arrays(getattr(one, part))) == pairs(*pipelines.to_arrays(getattr(other, part))) for part in PARTS)


def refused(message, source, **given):
    with pytest.raises(DataError, match=message) as caught:
        source(**given)
    return str(caught.value)


def check_shares(data, counts):
    """However many workers share the training stream, together they have what one has alone: nothing lost, nothing doubled."""
    held, _ = pipelines.behind(data.train)

    def share(index, count):
        batches = list(held.dataset(index, count).batch(64).as_numpy_iterator())
        return [example for x, y in batches for example in pairs(x, y)]

    alone = sorted(share(0, 1))
    assert len(alone) == pipelines.size(data.train)
    for count in counts:
        shares = [share(index, count) for index in range(count)]
        assert all(shares) and sorted(example for one in shares for example in one) == alone


# ---- tensorflow-datasets

features = tensorflow_datasets.features


class ScannedDigits(tensorflow_datasets.core.GeneratorBasedBuilder):
    VERSION = tensorflow_datasets.core.Version("1.0.0")

    def _info(self):
        kinds = {
            "image": features.Image(shape=(8, 8, 1)),
            "photo": features.Image(shape=(None, None, 3)),
            "row": features.Tensor(shape=(64,), dtype=np.float32),
            "sound": features.Audio(sample_rate=8000),
            "text": features.Text(),
            "boxes": features.Sequence(features.BBoxFeature()),
            "ink": features.Scalar(np.float32),
            "label": features.ClassLabel(names=WORDS),
        }
        return tensorflow_datasets.core.DatasetInfo(builder=self, features=features.FeaturesDict(kinds), supervised_keys=("image", "label"))

    def _split_generators(self, _):
        return {"train": self._generate_examples(range(240)), "test": self._generate_examples(range(240, COUNT))}

    def _generate_examples(self, numbers):
        for number in numbers:
            yield (
                number,
                {
                    "image": X[number],
                    "photo": X[number].repeat(1 + number % 2, 0).repeat(3, -1),
                    "row": ROWS[number],
                    "sound": (ROWS[number] * 1000).astype(np.int64)[: 50 + number % 14],
                    "text": f"this is a {WORDS[Y[number]]}",
                    "boxes": [],
                    "ink": ROWS[number].mean(),
                    "label": WORDS[Y[number]],
                },
            )


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """The folder of a set that tensorflow-datasets has prepared, in several files."""
    folder = tmp_path_factory.mktemp("sets")
    tensorflow_datasets.disable_progress_bar()
    builder = tensorflow_datasets.builder("scanned_digits", data_dir=folder)
    builder.download_and_prepare(download_config=tensorflow_datasets.download.DownloadConfig(num_shards=4))
    return folder


@pytest.fixture(scope="module")
def scanned(sets):
    return datasets.tfds(name="scanned_digits", data_dir=str(sets))


def test_a_set_is_loaded_by_name_and_from_its_folder(sets, scanned):
    parts = check_whole(scanned)
    assert pairs(*parts["test"]) == pairs((X[240:] / 255).astype(np.float32), Y[240:])  # the official one
    assert len(parts["validation"][1]) == 36 and scanned.classes == tuple(WORDS) and scanned.input_shape == (8, 8, 1)
    assert scanned.source["size"] == [8, 8] and scanned.name == "scanned_digits/1.0.0"
    folder = datasets.tfds(folder=sets / "scanned_digits" / "1.0.0")
    assert folder.fingerprint == scanned.fingerprint


def test_a_streamed_set_has_the_same_examples_and_is_shared_whole(sets, scanned):
    streamed = datasets.tfds(name="scanned_digits", data_dir=sets, cache="none")
    assert same(streamed, scanned)
    check_shares(streamed, (2, 5))


def test_splits_in_the_sets_own_words(sets):
    def sizes(**given):
        data = datasets.tfds(name="scanned_digits", data_dir=sets, x="row", **given)
        return [pipelines.size(getattr(data, part)) for part in PARTS]

    assert sizes(train="train[50:]", validation="train[:50]", test="test[:50%]") == [190, 50, 30]
    assert sizes(train="train+test", validation=0.1, test=0.3) == [180, 30, 90]


def test_features_of_other_kinds(sets):
    def of(**given):
        return datasets.tfds(name="scanned_digits", data_dir=sets, **given)

    photo = of(x="photo", size=[8, 8])
    assert photo.input_shape == (8, 8, 3) and photo.source["resize"] == "stretch"
    sound = of(x="sound", size=[60])
    expected = np.stack([np.pad((row * 1000)[: 50 + number % 14][:60], (0, 60))[:60] for number, row in enumerate(ROWS)]) / 2**15
    check_whole(sound, expected)
    text = of(x="text", size=[4], words=20)
    x, y = pipelines.to_arrays(text.test)
    vocabulary = text.source["vocabulary"]
    assert text.input_dtype == "int32" and [vocabulary[row[3]] for row in x] == [WORDS[label] for label in y]
    ink = of(x="row", y="ink", task="regression")
    assert ink.task == "regression" and ink.classes == ()
    check_whole(ink, ROWS, ROWS.mean(1))


def test_a_wrong_name_has_the_nearest_right_one(sets):
    def wrong(message, **given):
        refused(message, datasets.tfds, **{"data_dir": sets, **given})

    wrong("'scaned_digits': .*no such set; did you mean 'scanned_digits'", name="scaned_digits")
    wrong("glue can't be had that way.*colb", name="glue/colb")
    wrong("x = 'imagee': there is no such feature; did you mean 'image'", name="scanned_digits", x="imagee")
    wrong("train = 'tran': is no split of it; did you mean 'train'", name="scanned_digits", train="tran")
    wrong(r"train\[300%:\].*the form is like", name="scanned_digits", train="train[300%:]")
    wrong("holds no example", name="scanned_digits", train="train[:0]")
    wrong("have examples in common", name="scanned_digits", validation="train[:10%]")
    wrong("different sizes; give size", name="scanned_digits", x="photo")
    wrong("different lengths; give size", name="scanned_digits", x="sound")
    wrong("x = 'boxes' is Sequence; those to learn from", name="scanned_digits", x="boxes")
    wrong("y = 'row' is Tensor of shape", name="scanned_digits", y="row")
    wrong("task = 'regression' learns numbers", name="scanned_digits", x="row", y="ink")
    wrong("holds no dataset_info.json.*did you mean .*1.0.0", folder=sets / "scanned_digits")
    with pytest.raises(OptionError, match="either name or folder"):
        datasets.tfds()


def test_without_network_it_says_quickly_where_to_put_the_files(tmp_path, monkeypatch):
    monkeypatch.setitem(_tfds.SOURCES, "mnist", "http://127.0.0.1:9/")  # nobody answers there
    start = time.monotonic()
    message = refused("mnist: not on this machine yet.*can't be reached", datasets.tfds, name="mnist", data_dir=tmp_path)
    assert str(tmp_path / "mnist" / "3.0.1") in message and time.monotonic() - start < 15
    message = refused("download its original files by hand", datasets.tfds, name="imagenet2012", data_dir=tmp_path)
    assert str(tmp_path / "downloads" / "manual") in message


@pytest.mark.slow
def test_files_downloaded_by_hand_need_no_network(data_folder, tmp_path):
    by_hand = tmp_path / "downloads" / "manual"
    by_hand.mkdir(parents=True)
    for path in data_folder("fashion_mnist").glob("*.gz"):
        shutil.copy(path, by_hand)
    data = datasets.tfds(name="fashion_mnist", data_dir=tmp_path)
    original = datasets.idx(folder=data_folder("fashion_mnist"))
    assert pairs(*pipelines.to_arrays(data.test)) == pairs(*pipelines.to_arrays(original.test))
    assert data.classes[0] == "T-shirt/top"


# ---- TFRecord


def encoded(number, **changed):
    tf = backend.tensorflow()
    one = {
        "image": tf.io.encode_png(X[number]).numpy(),
        "raw": X[number].tobytes(),
        "row": ROWS[number].tolist(),
        "word": WORDS[Y[number]].encode(),
        "label": int(Y[number]),
        **changed,
    }

    def feature(value):
        values = value if isinstance(value, list) else [value]
        if isinstance(values[0], bytes):
            return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))
        if isinstance(values[0], int):
            return tf.train.Feature(int64_list=tf.train.Int64List(value=values))
        return tf.train.Feature(float_list=tf.train.FloatList(value=values))

    kept = {name: feature(value) for name, value in one.items() if value is not None}
    return tf.train.Example(features=tf.train.Features(feature=kept)).SerializeToString()


def write(path, numbers, change=None):
    tf = backend.tensorflow()
    with tf.io.TFRecordWriter(str(path), options="GZIP" if path.suffix == ".gz" else "") as file:
        for number in numbers:
            file.write(encoded(number, **(change(number) if change else {})))
    return path


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """Three files of records, one of them packed."""
    folder = tmp_path_factory.mktemp("records")
    for index, name in enumerate(("a.tfrecord", "b.tfrecord", "c.tfrecord.gz")):
        write(folder / name, range(index, COUNT, 3))
    return folder


def test_features_are_found_out_or_said(records):
    files = f"{records}/*"
    image = datasets.tfrecord(files=files)
    parts = check_whole(image)
    assert [len(parts[part][1]) for part in PARTS] == [195, 45, 60] and image.classes == tuple("0123456789")
    assert image.source["size"] == [8, 8] and image.source["channels"] == 1
    check_whole(datasets.tfrecord(files=sorted(map(str, records.iterdir())), x="row"), ROWS)
    words = datasets.tfrecord(files=files, x="row", y="word")
    assert words.classes == tuple(sorted(WORDS))
    x, y = pipelines.to_arrays(words.train)
    assert {(row.tobytes(), words.classes[label]) for row, label in zip(x, y, strict=True)} <= {
        (row.tobytes(), WORDS[label]) for row, label in zip(ROWS, Y, strict=True)
    }
    recipe = f"""
        files = "{files}"
        x = "raw"
        size = [8, 8]
        classes = {WORDS}
        [features]
        raw = {{ kind = "bytes", shape = [8, 8, 1] }}
        label = "int"
    """
    given = tomllib.loads(recipe)
    assert not options.problems_with(datasets.tfrecord, given)
    raw = datasets.tfrecord(**given)
    assert raw.classes == tuple(WORDS)
    check_whole(raw)
    check_whole(datasets.tfrecord(files=files, x="row", task="regression"), ROWS)


def test_files_for_each_part(records):
    a, b, c = (str(path) for path in sorted(records.iterdir()))
    data = datasets.tfrecord(files=a, validation_files=b, test_files=[c])
    parts = check_whole(data)
    for index, part in enumerate(PARTS):
        assert pairs(*parts[part]) == pairs((X[index::3] / 255).astype(np.float32), Y[index::3])


def test_labels_from_one_become_indices(tmp_path):
    path = write(tmp_path / "a", range(COUNT), lambda number: {"label": int(Y[number]) + 1})
    data = datasets.tfrecord(files=path)
    assert data.classes[0] == "1" and "1, 2, ... 10 became the class indices 0 to 9" in data.notes[0]
    check_whole(data)


def test_streamed_records_are_the_same_and_nothing_is_lost_or_doubled(records):
    """Over 1 to 3 workers by file, over 4 and 5 by record."""
    streamed = datasets.tfrecord(files=f"{records}/*", cache="none")
    assert same(streamed, datasets.tfrecord(files=f"{records}/*"))
    check_shares(streamed, (1, 2, 3, 4, 5))


def test_a_folder_keeps_what_was_decoded(tmp_path):
    path = write(tmp_path / "a.tfrecord", range(COUNT))
    data = datasets.tfrecord(files=path, cache=tmp_path / "kept")
    held, _ = pipelines.behind(data.validation)
    first = pipelines.to_arrays(data.validation)
    path.unlink()
    assert pairs(*pipelines.to_arrays(data.validation)) == pairs(*first) and len(held) == len(first[1])


def test_a_worker_reads_only_its_own_files(tmp_path):
    paths = [write(tmp_path / f"{index}.tfrecord", range(index, COUNT, 3)) for index in range(3)]
    held, _ = pipelines.behind(datasets.tfrecord(files=f"{tmp_path}/*.tfrecord", cache="none").train)
    before = [sorted(int(y) for _, y in held.dataset(index, 3).as_numpy_iterator()) for index in range(3)]
    for path in paths[:2]:
        path.unlink()
    assert sorted(int(y) for _, y in held.dataset(2, 3).as_numpy_iterator()) == before[2]


def frame(content):
    """Bytes of the first record in a file."""
    return 16 + struct.unpack("<Q", content[:8])[0]


@pytest.mark.parametrize("where", ["in a record", "in a record's head", "in a packed file", "at a packed file's end", "in its bytes"])
def test_a_file_that_is_cut_off_is_named_with_the_record(where, tmp_path):
    packed = "packed" in where
    path = write(tmp_path / ("a.tfrecord.gz" if packed else "a.tfrecord"), range(COUNT))
    content = path.read_bytes()
    plain = gzip.decompress(content) if packed else content
    first = frame(plain)
    cut = {
        "in a record": content[: first + 50],
        "in a record's head": content[: first + 5],  # which TensorFlow takes for the file's end
        "in a packed file": content[: len(content) // 2],
        "at a packed file's end": gzip.compress(plain[: first + 5]),
        "in its bytes": content[: first + 40] + bytes([content[first + 40] ^ 1]) + content[first + 41 :],
    }
    path.write_bytes(cut[where])
    message = refused("cut off", datasets.tfrecord, files=path)
    assert str(path) in message and re.search(r"record 1 " if where != "in a packed file" else r"record \d+ ", message)


def test_what_is_wrong_with_records_is_said(records, tmp_path):
    def wrong(message, files=f"{records}/*", **given):
        return refused(message, datasets.tfrecord, files=files, **given)

    wrong("no such file, the folder holds a.tfrecord, b.tfrecord", files=f"{records}/*.record")
    wrong("no such file, there is no such folder", files="/nowhere/*")
    wrong("no such file", files=[f"{records}/a.tfrecord", f"{records}/z.tfrecord"])
    wrong("is a folder; name its files", files=records)
    wrong("x = 'imag': there is no such feature.*did you mean 'image'", x="imag")
    wrong("y = 'lable': there is no such feature.*did you mean 'label'", y="lable")
    wrong("x = 'word' holds text", x="word")
    wrong("y = 'image' is image; should be a number or a word", y="image")
    wrong("record 0 .*lab.*each should have image, lab", features={"image": "image", "lab": "int"})
    wrong("a.tfrecord: is in files and in test_files", test_files=f"{records}/a*")
    wrong("labels are outside 0..1", classes=["a", "b"])
    (tmp_path / "text").write_text("no records at all, but long enough")
    wrong("is no TFRecord file", files=tmp_path / "text")
    (tmp_path / "empty").touch()
    wrong("holds no example", files=tmp_path / "empty")
    backend.tensorflow().io.TFRecordWriter(str(tmp_path / "no example")).close()
    one = write(tmp_path / "one", [0] * 20)
    wrong("all 20 examples are of one class", files=one)
    mixed = write(tmp_path / "mixed", range(200), lambda number: {"image": png(9)} if number == 57 else {})
    wrong("mixed: record 57 .*can't be decoded.*give size", files=mixed)
    assert datasets.tfrecord(files=mixed, size=[8, 8]).input_shape == (8, 8, 1)
    wrong("bad: record 150 .*can't be decoded", files=write(tmp_path / "bad", range(200), broken), size=[8, 8])
    wrong("gap: record 120 .*label", files=write(tmp_path / "gap", range(200), lambda number: {"label": None} if number == 120 else {}))
    lonely = write(tmp_path / "lonely", range(100), lambda number: {"label": 77} if number < 2 else {})
    wrong("too few examples of 1 of the 11 classes: '10' has 2", files=lonely)
    for features, message in (({"a": "img"}, "should be one of 'image'"), ({"a": {"kind": "bytes"}}, "bytes need a shape")):
        with pytest.raises(OptionError, match=message):
            datasets.tfrecord(files=one, features=features)


def png(size):
    return backend.tensorflow().io.encode_png(np.zeros((size, size, 1), np.uint8)).numpy()


def broken(number):
    return {"image": png(8)[:40]} if number == 150 else {}


# ---- data sets of tf.data and of Keras


class Sequence3(keras.utils.PyDataset):
    def __len__(self):
        return -(-COUNT // 32)

    def __getitem__(self, number):
        rows = slice(32 * number, 32 * number + 32)
        return X[rows], Y[rows].astype(np.float64)


class Sequence2(tf_keras.utils.Sequence):
    __len__, onehot = Sequence3.__len__, np.eye(10)

    def __getitem__(self, number):
        rows = slice(32 * number, 32 * number + 32)
        return X[rows], self.onehot[Y[rows]]


def slices(*of):
    return backend.tensorflow().data.Dataset.from_tensor_slices(of)


def test_data_sets_in_any_form_give_the_same(tmp_path):
    slices(X, Y).save(str(tmp_path / "saved"))
    given = tomllib.loads(f'train = "{tmp_path}/saved"')
    assert not options.problems_with(datasets.wrap, given)
    forms = [
        slices(X, Y),
        slices(X, Y).batch(7),
        slices(X, Y).batch(100, drop_remainder=True),  # all shapes are known
        slices(X, np.eye(10)[Y]),  # one-hot
        slices(X, Y[:, np.newaxis]).batch(32),
        slices(X, Y).filter(lambda _, label: label >= 0),  # of unknown size
        Sequence3(),
        Sequence2(),
        given["train"],
    ]
    wrapped = [datasets.wrap(train=form) for form in forms]
    check_whole(wrapped[0])
    assert len({data.fingerprint for data in wrapped}) == 1  # the fingerprint is of the content and of the split


def test_data_sets_for_each_part_are_kept_or_streamed():
    given = {"train": slices(X[:200], Y[:200]).batch(9), "validation": slices(X[200:250], Y[200:250]), "test": slices(X[250:], Y[250:])}
    kept, streamed = datasets.wrap(**given), datasets.wrap(**given, cache="none")
    parts = check_whole(kept)
    assert pairs(*parts["test"]) == pairs((X[250:] / 255).astype(np.float32), Y[250:])
    assert same(kept, streamed) and streamed.fingerprint == datasets.wrap(**given, cache="none").fingerprint
    check_shares(streamed, [3])
    sequences = datasets.wrap(train=Sequence2(), validation=Sequence3(), test=Sequence3(), cache="none")
    x, y = pipelines.to_arrays(sequences.train)
    assert pairs(x, y) == pairs((X / 255).astype(np.float32), Y)


def test_several_inputs_and_numbers_to_learn_are_wrapped():
    both = datasets.wrap(train=slices({"image": X, "row": ROWS}, Y).batch(50))
    assert both.input_shape == {"image": (8, 8, 1), "row": (64,)}
    check_whole(datasets.wrap(train=slices(ROWS, ROWS.mean(1)), task="regression"), ROWS, ROWS.mean(1))


def test_batches_are_told_from_examples_or_asked_for():
    square = slices(np.repeat(X[..., 0], 2, 1)[:, :10], np.eye(10)[Y])  # (10, 8) and (10,): ten rows of one-hot labels, or one example?
    with pytest.raises(OptionError, match="say batched = true or false"):
        datasets.wrap(train=square)
    assert datasets.wrap(train=square, batched=False).input_shape == (10, 8)
    with pytest.raises(OptionError, match="no batch"):
        datasets.wrap(train=slices(X, Y), batched=True)


def test_what_can_not_be_wrapped_is_said(tmp_path):
    tf = backend.tensorflow()

    def wrong(message, train, **given):
        refused(message, datasets.wrap, train=train, **given)

    numbers = tf.data.Dataset.range(10)
    wrong("generator.*tf.data.Dataset.from_generator", (one for one in X))
    wrong("tfopt.datasets.arrays", (X, Y))
    wrong(r"has no end; leave out .repeat\(\)", slices(X, Y).repeat())
    wrong("dicts of image, label; its elements should be", tf.data.Dataset.from_tensor_slices({"image": X, "label": Y}))
    wrong("weights", slices(X, Y, Y))
    wrong("name several inputs by a dict", slices((X, ROWS), Y))
    wrong(r"\.to_tensor\(\)", numbers.map(lambda one: (tf.ragged.constant([[1], [2, 3]]), one)))
    wrong("all of one shape", numbers.map(lambda one: (tf.zeros([one + 1, 2]), one)))
    wrong("holds no example", slices(X, Y).take(0))
    wrong("all 300 examples are of one class", slices(X, Y * 0))
    wrong("holds float64 such as 0.5.*task = 'regression'", slices(X, Y + 0.5))
    wrong("300 of 300 .*NaN|256 of 256 .*NaN", slices(ROWS * np.nan, Y))
    wrong("words; should be class indices", slices(X, Y.astype(str)))
    wrong("the largest of 300 labels is 1000", slices(X, Y * 0 + 1000))
    wrong("tf.data.Dataset.save has written", str(empty_folder(tmp_path)))
    wrong("no such folder", str(tmp_path / "missing"))
    with pytest.raises(OptionError, match="give validation and test as data sets"):
        datasets.wrap(train=slices(X, Y), cache="none")
    with pytest.raises(OptionError, match=r"test = 1\.5"):
        datasets.wrap(train=slices(X, Y), test=1.5)


def empty_folder(folder):
    (folder / "note").write_text("")
    return folder


# ---- idx


def idx_bytes(array, code):
    return struct.pack(f">HBB{array.ndim}I", 0, code, array.ndim, *array.shape) + array.astype(array.dtype.newbyteorder(">")).tobytes()


def idx_files(folder, x, y, code=8, prefix="train", packed=False):
    folder.mkdir(exist_ok=True)
    for kind, array, of in (("images", x, code), ("labels", y.astype(np.uint8), 8)):
        content = idx_bytes(array, of)
        path = folder / f"{prefix}-{kind}-idx{array.ndim}-ubyte{'.gz' if packed else ''}"
        path.write_bytes(gzip.compress(content) if packed else content)
    return folder


@pytest.mark.parametrize(("code", "dtype"), [(8, "u1"), (9, "i1"), (11, "i2"), (12, "i4"), (13, "f4"), (14, "f8")])
def test_idx_files_of_every_type(code, dtype, tmp_path):
    x = (X[..., 0] // 2).astype(dtype)
    data = datasets.idx(folder=idx_files(tmp_path / "set", x, Y, code, packed=code % 2))
    check_whole(data, x[..., np.newaxis] / (255 if code == 8 else 1))
    assert data.input_shape == (8, 8, 1)


def test_idx_files_of_other_shapes_and_names(tmp_path):
    folder = idx_files(tmp_path, ROWS[:240], Y[:240] + 1, 13, "letters-train")
    idx_files(tmp_path, ROWS[240:], Y[240:] + 1, 13, "letters-test")
    parts = check_whole(datasets.idx(folder=folder), ROWS)
    assert pairs(*parts["test"]) == pairs(ROWS[240:], Y[240:])  # labels from 1 become indices from 0
    images, labels = sorted(path for path in folder.iterdir() if "train" in path.name)
    named = datasets.idx(images=str(images), labels=labels)
    check_whole(named, ROWS[:240], Y[:240])
    assert named.classes == tuple(map(str, range(1, 11))) and named.notes


def test_idx_files_that_are_damaged_are_named(tmp_path):
    folder = idx_files(tmp_path / "set", X, Y)
    images, labels = sorted(folder.iterdir())
    good = images.read_bytes()
    damage = {
        "says that its shape is": good[:-5],
        "holds 10 bytes; should be at least": good[:10],
        "starts with '00000501': no idx file": b"\0\0\5\1" + good[4:],
        "starts with '': no idx file": b"",
        "starts with 'ffd8ffe0'": b"\xff\xd8\xff\xe0 a picture",
        "not a whole .gz file": gzip.compress(good)[:-30],
    }
    for message, content in damage.items():
        images.write_bytes(content)
        assert str(images) in refused(message, datasets.idx, folder=folder)
    images.write_bytes(good)
    refused("300 examples and .* 299 labels", datasets.idx, images=images, labels=write_idx(tmp_path / "short", Y[:-1]))
    refused("all 300 examples are of one class", datasets.idx, images=images, labels=write_idx(tmp_path / "one", Y * 0))
    labels.unlink()
    refused("lacks train-labels", datasets.idx, folder=folder)
    with pytest.raises(OptionError, match="either folder, or images and labels"):
        datasets.idx(images=images)


def write_idx(path, y):
    path.write_bytes(idx_bytes(y.astype(np.uint8), 8))
    return path


# ---- .npz


def saved(path, **arrays):
    np.savez(path, **arrays)
    return path


def test_npz_files(tmp_path):
    check_whole(datasets.arrays(x=saved(tmp_path / "a.npz", x=X, y=Y)))
    kept = saved(tmp_path / "keras.npz", x_train=X[:240, ..., 0], y_train=Y[:240], x_test=X[240:, ..., 0], y_test=Y[240:])
    parts = check_whole(datasets.arrays(x=str(kept)))
    assert pairs(*parts["test"]) == pairs((X[240:] / 255).astype(np.float32), Y[240:])


def test_npz_files_that_lack_something(tmp_path):
    for given, message in (
        ({"a": X, "b": Y}, "has no array 'x_train', but a, b; should hold x and y"),
        ({"x": X}, "has no array 'y', but x"),
        ({"x_train": X, "y_train": Y, "x_test": X}, "has no array 'y_test'"),
        ({}, "has no array 'x_train', but none at all"),
    ):
        path = saved(tmp_path / "a.npz", **given)
        assert str(path) in refused(message, datasets.arrays, x=path)
    path.write_bytes(saved(tmp_path / "b.npz", x=X, y=Y).read_bytes()[:3000])
    refused("can't be read as a file of arrays", datasets.arrays, x=path)
    refused("y: is missing", datasets.arrays, x=X)


def test_numbers_to_learn_from_arrays():
    data = datasets.arrays(x=ROWS, y=ROWS.mean(1), task="regression")
    assert (data.task, data.loss, data.metric) == ("regression", None, None)
    check_whole(data, ROWS, ROWS.mean(1))
    refused("y: 1 of 300 values are NaN", datasets.arrays, x=ROWS, y=np.where(np.arange(COUNT) == 7, np.nan, 1.0), task="regression")


# ---- what it is all for


@pytest.mark.slow
def test_a_model_learns_from_streamed_records(records):
    data = datasets.tfrecord(files=f"{records}/*", cache="none")
    model = tfopt.models.mlp(data.input_shape, data.num_classes)
    model = tfopt.train(model, data, Fit(epochs=8, batch_size=16, learning_rate=3e-3))
    x, y = pipelines.to_arrays(data.test)
    assert (model.predict(x, verbose=0).argmax(1) == y).mean() > 0.7


@pytest.mark.slow
def test_fashion_mnist_through_idx_reaches_90_percent(data_folder):
    data = datasets.idx(folder=data_folder("fashion_mnist"), validation=0.1)
    layers = tf_keras.layers
    tf_keras.utils.set_random_seed(0)
    model = tf_keras.Sequential(
        [
            layers.Input(data.input_shape),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(64, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(128, activation="relu"),
            layers.Dense(data.num_classes, activation="softmax"),
        ]
    )
    model = tfopt.train(model, data, Fit(epochs=6, batch_size=64, learning_rate=2e-3))
    x, y = pipelines.to_arrays(data.test)
    accuracy = (model.predict(x, batch_size=500, verbose=0).argmax(1) == y).mean()
    print(f"Fashion-MNIST through idx: {accuracy:.4f}")
    assert accuracy >= 0.9
