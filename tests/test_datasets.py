"""The data sets: what they hold, how they are split, and what they refuse."""

from __future__ import annotations

import gzip
import shutil
import subprocess
import sys

import numpy as np
import pytest

from tfopt import backend, datasets, pipelines
from tfopt.datasets import _tfds
from tfopt.errors import DataError, OptionError

PARTS = ("train", "validation", "test")


def parts_of(data):
    return {part: pipelines.to_arrays(getattr(data, part)) for part in (*PARTS, "calibration")}


def rows(x):
    return {example.tobytes() for example in x}


def check_is_whole(data, examples):
    """What every data set promises, whatever its source."""
    parts = parts_of(data)
    assert sum(len(parts[part][1]) for part in PARTS) == examples
    for x, y in parts.values():
        assert x.dtype == np.float32 and y.dtype == np.int32
        assert x.shape == (len(y), *data.input_shape)
        assert x.min() >= 0 and x.max() <= 1 and x.std() > 0.1
        assert set(y) <= set(range(data.num_classes))
    for part in PARTS:
        assert int(getattr(data, part).cardinality()) == len(parts[part][1])
        assert set(parts[part][1]) == set(range(data.num_classes))
    assert rows(parts["calibration"][0]) <= rows(parts["train"][0])
    return parts


def test_the_table_holds_the_functions():
    assert {name: function.__name__ for name, function in datasets.DATASETS.items()} == {name: name for name in datasets.DATASETS}


def test_importing_the_data_sets_loads_nothing_heavy():
    code = "import sys, tfopt.datasets; print([m for m in ('tensorflow', 'sklearn', 'tensorflow_datasets') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


# ---- digits


def test_digits_are_split_disjointly_and_stratified(digits):
    parts = check_is_whole(digits, 1797)
    assert not rows(parts["train"][0]) & rows(parts["test"][0])
    assert not rows(parts["validation"][0]) & rows(parts["test"][0])
    assert not rows(parts["validation"][0]) & rows(parts["train"][0])
    everything = np.bincount(np.concatenate([parts[part][1] for part in PARTS])) / 1797
    for part in PARTS:
        share = np.bincount(parts[part][1]) / len(parts[part][1])
        np.testing.assert_allclose(share, everything, atol=0.005)
    assert [round(len(parts[part][1]) / 1797, 2) for part in PARTS] == [0.65, 0.15, 0.2]
    assert len(parts["calibration"][1]) == 200


def test_same_seed_same_split_other_seed_other_split(digits):
    again, other = datasets.digits(), datasets.digits(seed=1)
    assert again.fingerprint == digits.fingerprint != other.fingerprint
    for part in (*PARTS, "calibration"):
        np.testing.assert_array_equal(parts_of(again)[part][0], parts_of(digits)[part][0])
        assert rows(parts_of(other)[part][0]) != rows(parts_of(digits)[part][0])


def test_shares_and_calibration_change_the_fingerprint(digits):
    prints = {datasets.digits(**o).fingerprint for o in ({"test": 0.3}, {"validation": 0.1}, {"calibration": 100}, {})}
    assert len(prints) == 4 and digits.fingerprint in prints


@pytest.mark.parametrize(
    "wrong", [{"seed": -1}, {"seed": "0"}, {"test": 1.2}, {"validation": 0}, {"calibration": 0}, {"validation": 0.6, "test": 0.5}]
)
def test_digits_refuses_options_out_of_range(wrong):
    with pytest.raises(OptionError, match=next(iter(wrong))):
        datasets.digits(**wrong)


# ---- arrays


def images(n=60, num_classes=3, dtype=np.uint8):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (n, 5, 4, 1)).astype(dtype)
    return x, np.arange(n) % num_classes


def test_arrays_from_memory_and_from_files_are_the_same(tmp_path):
    x, y = images()
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", y)
    here = datasets.arrays(x=x, y=y, name="mine")
    there = datasets.arrays(x=str(tmp_path / "x.npy"), y=tmp_path / "y.npy", name="mine")
    check_is_whole(here, 60)
    assert here.name == "mine" and here.classes == ("0", "1", "2") and here.fingerprint == there.fingerprint
    np.testing.assert_array_equal(parts_of(here)["test"][0], parts_of(there)["test"][0])


def test_bytes_are_scaled_and_floats_are_taken_as_they_are():
    x, y = images()
    scaled = parts_of(datasets.arrays(x=x, y=y))["train"][0]
    taken = parts_of(datasets.arrays(x=x.astype(np.float64), y=y))["train"][0]
    np.testing.assert_allclose(scaled * 255, taken, atol=1e-4)
    assert taken.max() == 255


def test_content_and_classes_change_the_fingerprint():
    x, y = images()
    other = x.copy()
    other[7, 0, 0, 0] ^= 1
    calls = ({"x": x, "y": y}, {"x": other, "y": y}, {"x": x, "y": y, "seed": 3}, {"x": x, "y": y, "classes": ["a", "b", "c"]},
             {"x": x.astype(np.float32), "y": y}, {"x": x.reshape(60, 4, 5, 1), "y": y})  # fmt: skip
    assert len({datasets.arrays(**call).fingerprint for call in calls}) == len(calls)


def test_digits_are_still_the_same(digits):
    """A fingerprint is in the names of run folders: another one for the same data would make every run anew."""
    assert digits.fingerprint == "941486be8684b859629bb5f2db35f4473de0ed75a29718fdc86cec99f76fa663"


def test_several_inputs_are_split_together_and_checked_each(tmp_path):
    x, y = images()
    words = np.arange(60, dtype=np.int64)[:, None] * [1, 1000]
    np.save(tmp_path / "words.npy", words)
    data = datasets.arrays(x={"image": x, "words": str(tmp_path / "words.npy")}, y=y, classes=["a", "b", "c"])
    assert data.input_shape == {"image": (5, 4, 1), "words": (2,)}
    assert data.input_dtype == {"image": "float32", "words": "int32"}
    for part, (inputs, labels) in parts_of(data).items():
        rows = inputs["words"][:, 0]
        np.testing.assert_allclose(inputs["image"], x[rows] / 255, atol=1e-6, err_msg=part)
        np.testing.assert_array_equal(labels, y[rows])
        np.testing.assert_array_equal(inputs["words"], words[rows])
        assert inputs["words"].dtype == np.int32
    assert datasets.arrays(x={"words": words, "image": x}, y=y, classes=["a", "b", "c"]).fingerprint == data.fingerprint
    swapped = datasets.arrays(x={"image": words, "words": x}, y=y, classes=["a", "b", "c"])
    assert swapped.fingerprint != data.fingerprint


def test_integers_are_taken_as_they_are():
    words = np.arange(120).reshape(60, 2) * 1000
    data = datasets.arrays(x=words, y=Y)
    assert (data.input_shape, data.input_dtype) == ((2,), "int32")
    x = np.concatenate([parts_of(data)[part][0] for part in PARTS])
    np.testing.assert_array_equal(x[x[:, 0].argsort()], words)


def with_nan(value):
    x = images(dtype=np.float32)[0]
    x[[17, 40], 2, 1, 0] = value
    return x


X, Y = images()
BAD_ARRAYS = {
    "NaN": ({"x": with_nan(np.nan)}, "x: 2 of 60 examples hold NaN.* first at index 17"),
    "infinity": ({"x": with_nan(-np.inf)}, "x: 2 of 60 .*index 17"),
    "too large for float32": ({"x": images(dtype=np.float64)[0] * 1e38}, "too large for float32"),
    "fewer labels": ({"y": Y[:-1]}, "x has 60 examples and y 59 labels"),
    "labels as floats": ({"y": Y.astype(float)}, "y holds float64; should be integers"),
    "labels one-hot": ({"y": np.eye(3, dtype=int)[Y]}, r"y has shape \(60, 3\).*argmax"),
    "labels as words": ({"y": Y.astype(str)}, "should be integers"),
    "label beyond the classes": ({"classes": ["a", "b"]}, r"y: 20 labels are outside 0\.\.1, the first at index 2 is 2"),
    "negative label": ({"y": Y - 1}, r"y: 20 labels are outside 0\.\.1, the first at index 0 is -1"),
    "all labels negative": ({"y": -1 - Y}, r"outside 0\.\.0"),
    "label from 1": ({"y": Y + 1}, "too few examples of 1 of the 4 classes: '0' has 0"),
    "absurd label": ({"y": np.where(Y == 1, 2**62, Y)}, "the largest of 60 labels is 4611686018427387904"),
    "lonely class": ({"y": np.where(np.arange(60) < 2, 3, Y)}, "too few examples of 1 of the 4 classes: '3' has 2"),
    "nothing": ({"x": X[:0], "y": Y[:0]}, r"x has shape \(0, 5, 4, 1\)"),
    "no labels": ({"y": Y[:0]}, "y has shape"),
    "no features": ({"x": X.reshape(-1)}, r"x has shape \(1200,\)"),
    "16 bits": ({"x": X.astype(np.uint16)}, "x holds uint16; should be uint8"),
    "integers beyond int32": ({"x": X.astype(np.int64) << 24}, "x: holds integers from .* should fit int32"),
    "no inputs": ({"x": {}}, "x: is a dict without inputs"),
    "inputs of different lengths": ({"x": {"image": X, "row": X[1:]}}, r"x\['row'\] has 59 examples and y 60 labels"),
    "one input damaged": ({"x": {"image": X, "row": with_nan(np.nan)}}, r"x\['row'\]: 2 of 60 examples hold NaN"),
    "one input of another kind": ({"x": {"image": X.astype(bool), "row": X}}, r"x\['image'\] holds bool; should be uint8"),
    "objects": ({"x": X.astype(object)}, "x holds object"),
    "too small for its classes": ({"x": X[:9], "y": Y[:9]}, "y: 9 examples of 3 classes can't be split"),
}


@pytest.mark.parametrize("name", BAD_ARRAYS)
def test_arrays_refuses(name):
    wrong, message = BAD_ARRAYS[name]
    with pytest.raises(DataError, match=message):
        datasets.arrays(**{"x": X, "y": Y, **wrong})


def test_arrays_refuses_files_that_are_missing_or_damaged(tmp_path):
    good, cut, text, several = (tmp_path / name for name in ("good.npy", "cut.npy", "text.npy", "several.npy"))
    np.save(good, X)
    cut.write_bytes(good.read_bytes()[:-100])
    text.write_text("1, 2, 3")
    with several.open("wb") as file:
        np.savez(file, X)
    pickled = tmp_path / "pickled.npy"
    np.save(pickled, np.array([{}]), allow_pickle=True)
    for path in (tmp_path / "missing.npy", cut, text, several, pickled, tmp_path):
        with pytest.raises(DataError) as caught:
            datasets.arrays(x=str(path), y=Y)
        assert str(path) in str(caught.value) and "numpy.save" in str(caught.value)


def test_a_bad_file_is_named_by_its_path(tmp_path):
    np.save(tmp_path / "labels.npy", Y.astype(float))
    with pytest.raises(DataError, match=r"labels\.npy holds float64"):
        datasets.arrays(x=X, y=str(tmp_path / "labels.npy"))


# ---- fashion_mnist


@pytest.fixture(scope="module")
def fashion_folder(data_folder):
    return data_folder("fashion_mnist")


def linked(folder, target):
    """A folder like `folder`, in which files can be replaced."""
    target.mkdir()
    for path in folder.iterdir():
        (target / path.name).symlink_to(path.resolve())
    return target


def replace(path, content):
    path.unlink()
    path.write_bytes(content)


def test_fashion_mnist_keeps_the_official_test(fashion_folder):
    data = datasets.fashion_mnist(folder=str(fashion_folder))
    parts = check_is_whole(data, 70_000)
    assert data.input_shape == (28, 28, 1) and data.classes[9] == "Ankle boot"
    raw = gzip.decompress((fashion_folder / "t10k-images-idx3-ubyte.gz").read_bytes())[16:]
    np.testing.assert_array_equal(np.rint(parts["test"][0] * 255).astype(np.uint8).tobytes(), raw)
    assert np.bincount(parts["validation"][1]).tolist() == [600] * 10


def bad_gz(original):
    content = gzip.decompress(original)
    return {
        "truncated": (original[: len(original) // 2], "damaged"),
        "no gzip": (content, "damaged"),
        "a flipped byte": (original[:4000] + bytes([original[4000] ^ 255]) + original[4001:], "damaged"),
        "empty": (b"", "no idx file"),
        "another magic number": (gzip.compress(b"\0\0\x0d\x01" + content[4:]), "starts with '00000d01', not '00000801'"),
        "too short inside": (gzip.compress(content[:-5]), "holds 10,003 bytes; should be"),
        "another size": (gzip.compress(content[:4] + (9999).to_bytes(4) + content[8:]), "shape is .9999"),
        "a label beyond the classes": (gzip.compress(content[:-1] + b"\x0a"), r"outside 0\.\.9, the first at index 9999 is 10"),
    }


def test_fashion_mnist_refuses_damaged_files(fashion_folder, tmp_path):
    folder = linked(fashion_folder, tmp_path / "f")
    broken = folder / "t10k-labels-idx1-ubyte.gz"
    for content, message in bad_gz(broken.read_bytes()).values():
        replace(broken, content)
        with pytest.raises(DataError, match=message) as caught:
            datasets.fashion_mnist(folder=folder)
        assert str(broken) in str(caught.value)
    broken.unlink()
    with pytest.raises(DataError, match=r"t10k-labels-idx1-ubyte\.gz: there is no such file"):
        datasets.fashion_mnist(folder=folder)


@pytest.mark.parametrize("function", [datasets.fashion_mnist, datasets.cifar10])
def test_a_folder_that_is_missing_empty_or_none_is_refused(function, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    for name, message in (("missing", "no such folder"), ("empty", "is empty"), ("file", "is not a folder")):
        with pytest.raises(DataError, match=message) as caught:
            function(folder=str(tmp_path / name))
        assert str(tmp_path / name) in str(caught.value)


# ---- cifar10


@pytest.fixture(scope="module")
def cifar_folder(data_folder):
    return data_folder("cifar10")


@pytest.fixture(scope="module")
def cifar(cifar_folder):
    return datasets.cifar10(folder=cifar_folder)


def test_cifar10_is_split_by_index(cifar, cifar_folder):
    parts = check_is_whole(cifar, 45_000)
    assert [len(parts[part][1]) for part in PARTS] == [39_000, 1_000, 5_000]
    labels = np.loadtxt(cifar_folder / "train_labels.txt", dtype=int)
    np.testing.assert_array_equal(np.concatenate([parts[part][1] for part in PARTS]), labels)
    tf = backend.tensorflow()
    for number, x in ((38, parts["train"][0][-1000:]), (39, parts["validation"][0]), (40, parts["test"][0][:1000])):
        pixels = tf.io.decode_png((cifar_folder / f"train_{number}.png").read_bytes()).numpy().reshape(1000, 32, 32, 3)
        np.testing.assert_allclose(x, pixels / 255, atol=1e-6)


def test_cifar10_refuses_damaged_labels(cifar_folder, tmp_path):
    folder = linked(cifar_folder, tmp_path / "c")
    labels = folder / "train_labels.txt"
    good = labels.read_bytes()
    wrong = {b"3\n10\n": "line 2 is '10'", b"3\n\n4\n": "line 2 is ''", b"cat\n": "line 1 is 'cat'", b"\xff\xfe": "as text", b"": "shape"}
    for content, message in wrong.items():
        replace(labels, content)
        with pytest.raises(DataError, match=message) as caught:
            datasets.cifar10(folder=folder)
        assert "train_labels.txt" in str(caught.value)
    replace(labels, good[:-2])
    with pytest.raises(DataError, match=r"45,000 examples and .*train_labels.txt 44,999 labels"):
        datasets.cifar10(folder=folder)
    labels.unlink()
    with pytest.raises(DataError, match=r"train_labels\.txt: there is no such file"):
        datasets.cifar10(folder=folder)


def test_cifar10_refuses_damaged_sheets(cifar_folder, tmp_path):
    folder = linked(cifar_folder, tmp_path / "c")
    sheet = folder / "train_00.png"
    content = sheet.read_bytes()
    tf = backend.tensorflow()
    small, grey = (tf.io.encode_png(np.zeros(shape, np.uint8)).numpy() for shape in ((1000, 1023, 3), (1000, 3072, 1)))
    wrong = {content[:100_000]: "damaged", b"no image": "damaged", b"": "damaged", small: "1000, 1023, 3", grey: "3072, 1"}
    for bad, message in wrong.items():
        replace(sheet, bad)
        with pytest.raises(DataError, match=message) as caught:
            datasets.cifar10(folder=folder)
        assert str(sheet) in str(caught.value)
    sheet.unlink()
    with pytest.raises(DataError, match=r"train_00\.png: there is no such file; there should be 45"):
        datasets.cifar10(folder=folder)


# ---- tensorflow-datasets


@pytest.mark.parametrize("name", ["fashion_mnist", "cifar10"])
def test_without_network_a_sentence_says_so(name, tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    monkeypatch.setitem(_tfds.SOURCES, name, "http://127.0.0.1:9/")  # nobody answers there
    with pytest.raises(DataError, match=rf"{name}: not on this machine yet.*can't be reached.*option `folder`"):
        datasets.DATASETS[name]()
    assert list(tmp_path.iterdir()) == []


DOWNLOADING = """
import sys, tensorflow_datasets
from tfopt import datasets, pipelines
from tfopt.datasets import _tfds
from tensorflow_datasets.image_classification import mnist
_tfds.SOURCES["fashion_mnist"] = mnist.FashionMNIST.URL = sys.argv[1]
for data in (datasets.fashion_mnist(), datasets.fashion_mnist(), datasets.fashion_mnist(folder=sys.argv[2])):
    x, y = pipelines.to_arrays(data.test)
    order = sorted((image.tobytes(), int(label)) for image, label in zip(x, y))  # tensorflow-datasets shuffles what it stores
    print("RESULT", hash(tuple(order)), pipelines.size(data.train), data.input_shape)
"""


@pytest.mark.slow
def test_through_tensorflow_datasets_it_is_the_same_data(fashion_folder, tmp_path):
    server = subprocess.Popen(
        [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", str(fashion_folder)],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    try:
        address = server.stdout.readline().split("(")[1].split(")")[0]
        environment = {"TFDS_DATA_DIR": str(tmp_path), "PYTHONHASHSEED": "0", "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
        done = subprocess.run(
            [sys.executable, "-c", DOWNLOADING, address, str(fashion_folder)], env=environment, capture_output=True, text=True, timeout=600
        )
    finally:
        server.kill()
        server.communicate()
        shutil.rmtree(tmp_path, ignore_errors=True)
    results = [line for line in done.stdout.splitlines() if line.startswith("RESULT")]
    assert len(results) == 3 and len(set(results)) == 1, done.stderr[-2000:]
