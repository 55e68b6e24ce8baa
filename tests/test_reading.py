"""The pipeline over examples that are read from files or streamed: kept, shared among workers, served, and begun anywhere."""

from __future__ import annotations

import dataclasses
import itertools
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import tfopt
from tfopt import backend, pipelines
from tfopt.errors import DataError, OptionError
from tfopt.types import Data, Fit

COUNT = 50


def data_of(held):
    part = pipelines.dataset_of(held)
    return Data("numbers", "classification", part, part, part, part, (2,), ("a",), "none")


@pytest.fixture
def files(tmp_path):
    """A file for each of fifty numbers."""
    paths = [tmp_path / f"{number}.raw" for number in range(COUNT)]
    for number, path in enumerate(paths):
        path.write_bytes(bytes([number, 2 * number]))
    return np.array([str(path) for path in paths])


def rows_of(files, cache="memory"):
    tf = backend.tensorflow()

    def read(path):
        return tf.ensure_shape(tf.io.decode_raw(tf.io.read_file(path), tf.uint8), [2])

    return pipelines.Rows(files, np.arange(len(files), dtype=np.int32), read, tf.TensorSpec([2], tf.uint8), cache, files)


def stream_of(files=5, cache="none"):
    tf = backend.tensorflow()
    contents = np.array_split(np.arange(COUNT, dtype=np.int32), files)

    def make(index, count):
        whole = tf.data.Dataset.from_tensor_slices(np.concatenate(contents)).shard(count, index)
        return whole.map(lambda number: (tf.stack([number, 2 * number]), number))

    return pipelines.Stream(make, COUNT, "numbers", str(cache), buffer=20)


def listed(dataset):
    return [(x.copy(), y.copy()) for x, y in dataset.as_numpy_iterator()]


def labels(batches):
    return [list(y) for _, y in batches]


def check(batches, epochs=1):
    """Each number as often as there are epochs, and each x with its y."""
    x, y = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    assert sorted(y) == sorted(list(range(COUNT)) * epochs)
    np.testing.assert_array_equal(x, np.stack([y, 2 * y], axis=1))


@pytest.mark.parametrize("cache", ["memory", "none", "disk"])
def test_files_are_read_and_kept(files, cache, tmp_path):
    rows = rows_of(files, str(tmp_path / "kept") if cache == "disk" else cache)
    data = data_of(rows)
    batches = listed(pipelines.training_batches(data, Fit(epochs=4, batch_size=8)))
    for epoch in range(4):
        check(batches[7 * epoch : 7 * epoch + 7])
    assert len({tuple(map(tuple, labels(batches[7 * epoch : 7 * epoch + 7]))) for epoch in range(4)}) == 4
    for path in files:
        Path(path).write_bytes(b"xx")
    again = listed(pipelines.training_batches(data, Fit(epochs=4, batch_size=8)))
    assert labels(again) == labels(batches)
    if cache == "none":
        assert all((x == ord("x")).all() for x, _ in again)
    else:
        check(again, epochs=4)  # nothing is read twice
    if cache == "disk":
        check(listed(pipelines.training_batches(data_of(rows_of(files, rows.cache)), Fit(epochs=1))))  # nor by the next run
        with pytest.raises(DataError, match="is the cache of other data"):
            listed(pipelines.training_batches(data_of(rows_of(files[:3], rows.cache)), Fit(epochs=1)))


def test_a_cache_that_cannot_be_written_is_refused(files, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"cache = .*can't be made"):
        pipelines.to_arrays(data_of(rows_of(files, str(tmp_path / "file"))).train)


def test_more_than_fits_in_memory_is_refused(files):
    wide = dataclasses.replace(rows_of(files), spec=backend.tensorflow().TensorSpec([10**6, 10**6], np.uint8))
    with pytest.raises(DataError, match=r"would take 50,000.0 GB of memory.*cache = a folder"):
        pipelines.training_batches(data_of(wide), Fit())


def test_memory_is_taken_as_examples_are_read(files):
    tf = backend.tensorflow()

    def read(path):
        return tf.fill([2000, 2000, 3], tf.io.decode_raw(tf.io.read_file(path), tf.uint8)[0])

    before = psutil.Process().memory_info().rss
    data = data_of(dataclasses.replace(rows_of(files), read=read, spec=tf.TensorSpec([2000, 2000, 3], tf.uint8)))  # 600 MB
    assert psutil.Process().memory_info().rss - before < 200e6
    x, y = next(iter(pipelines.training_batches(data, Fit(epochs=1, batch_size=2))))
    assert x.numpy().max(axis=(1, 2, 3)).tolist() == y.numpy().tolist()


@settings(max_examples=15, deadline=None)
@given(count=st.integers(1, 5), batch_size=st.integers(5, 60), seed=st.integers(0, 2**31 - 1))
def test_workers_share_each_batch(count, batch_size, seed):
    """Each batch of all workers together is the batch of one that is alone, whatever divides what."""
    x = np.stack([np.arange(COUNT), 2 * np.arange(COUNT)], axis=1).astype(np.int32)
    data, fit = data_of(pipelines.Rows(x, np.arange(COUNT, dtype=np.int32))), Fit(epochs=2, batch_size=batch_size, seed=seed)
    alone = listed(pipelines.training_batches(data, fit))
    shares = [listed(pipelines.training_batches(data, fit, shard=(index, count))) for index in range(count)]
    check(list(itertools.chain(*shares)), epochs=2)
    if COUNT % batch_size == 0 or COUNT % batch_size >= count:
        for batch, *parts in zip(alone, *shares, strict=True):
            assert sorted(batch[1]) == sorted(np.concatenate([y for _, y in parts]))


@pytest.mark.parametrize(("batch_size", "count"), [(7, 3), (8, 3), (25, 2)])
def test_workers_share_whole_batches_only_where_that_is_asked(batch_size, count):
    data, fit = (
        data_of(pipelines.Rows(np.zeros((COUNT, 2), np.int32), np.arange(COUNT, dtype=np.int32))),
        Fit(epochs=2, batch_size=batch_size),
    )
    shares = [pipelines.training_batches(data, fit, shard=(index, count), drop_remainder=True) for index in range(count)]
    for index, share in enumerate(shares):
        size = len(range(index, batch_size, count))
        assert share.element_spec[1].shape == (size,) and int(share.cardinality()) == 2 * (COUNT // batch_size)
    alone = [sorted(y) for _, y in listed(pipelines.training_batches(data, fit, drop_remainder=True))]
    assert [sorted(itertools.chain(*(y for _, y in parts))) for parts in zip(*map(listed, shares), strict=True)] == alone


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_workers_share_a_stream(count):
    data, fit = data_of(stream_of()), Fit(epochs=1, batch_size=10)
    shares = [listed(pipelines.training_batches(data, fit, shard=(index, count))) for index in range(count)]
    check(list(itertools.chain(*shares)))


@pytest.mark.parametrize("cache", ["none", "disk"])
def test_a_stream_is_shuffled_anew_each_epoch(cache, tmp_path):
    data = data_of(stream_of(cache=tmp_path / "kept" if cache == "disk" else "none"))
    fit = Fit(epochs=3, batch_size=8, seed=3)
    batches = pipelines.training_batches(data, fit)
    assert int(batches.cardinality()) == 21
    batches = listed(batches)
    for epoch in range(3):
        check(batches[7 * epoch : 7 * epoch + 7])
    assert len({tuple(map(tuple, labels(batches[7 * epoch : 7 * epoch + 7]))) for epoch in range(3)}) == 3
    backend.tensorflow().random.set_seed(5)
    try:
        assert labels(listed(pipelines.training_batches(data, fit, 1))) == labels(batches[7:])
    finally:
        backend.tensorflow().random.set_seed(None)


FILLING = """
import sys, time
from tfopt import pipelines
from tests.test_reading import stream_of
iterator = iter(stream_of(cache=sys.argv[1]).dataset())
for _ in range(30):
    next(iterator)
print("half", flush=True)
time.sleep(600)
"""


def test_a_cache_that_another_run_left_half_full_is_filled_again(tmp_path, caplog):
    root = Path(__file__).parents[1]
    filling = subprocess.Popen([sys.executable, "-c", FILLING, str(tmp_path / "kept")], stdout=subprocess.PIPE, text=True, cwd=root)
    try:
        assert filling.stdout.readline() == "half\n"
        assert len(listed(stream_of(cache=tmp_path / "kept").dataset())) == COUNT
        assert "kept: another run is filling it; this one reads the files in each epoch" in caplog.text
    finally:
        os.kill(filling.pid, signal.SIGKILL)
        filling.communicate()
    assert list((tmp_path / "kept").glob("*.lockfile"))
    batches = pipelines.training_batches(data_of(stream_of(cache=tmp_path / "kept")), Fit(epochs=2, batch_size=8))
    check(listed(batches), epochs=2)
    assert not list((tmp_path / "kept").glob("*.lockfile"))


def test_a_stream_whose_file_is_damaged_meanwhile_says_so(tmp_path):
    tf = backend.tensorflow()
    path = tmp_path / "some.tfrecord"
    with tf.io.TFRecordWriter(str(path)) as writer:
        for number in range(9):
            writer.write(bytes([number, number]))

    def make(index, count):
        records = tf.data.TFRecordDataset(str(path)).shard(count, index)
        return records.map(lambda record: (tf.ensure_shape(tf.io.decode_raw(record, tf.uint8), [2]), tf.zeros([], tf.int32)))

    data = data_of(pipelines.Stream(make, 9, "some"))
    path.write_bytes(path.read_bytes()[:105])
    with pytest.raises(DataError, match=r"example 5 of 9: can't be read any more .*did its file change"):
        pipelines.to_arrays(data.train)


@pytest.mark.parametrize("held", ["rows", "stream"])
def test_a_resumed_run_sees_the_same_remaining_examples(files, held):
    data = dataclasses.replace(data_of(rows_of(files) if held == "rows" else stream_of()), augmentation=_numbered)
    fit = Fit(epochs=3, batch_size=8)
    whole = listed(pipelines.training_batches(data, fit))
    for epoch, step in ((0, 3), (1, 0), (1, 6), (1, 7), (2, 7)):
        rest = listed(pipelines.training_batches(data, fit, epoch, first_step=step))
        assert len(rest) == len(whole) - 7 * epoch - step
        for (x, y), (other_x, other_y) in zip(whole[7 * epoch + step :], rest, strict=True):
            np.testing.assert_array_equal(x, other_x)
            np.testing.assert_array_equal(y, other_y)


def _numbered(x, y, seed):
    tf = backend.tensorflow()
    return tf.cast(x, tf.float32) + tf.random.stateless_uniform(tf.shape(x), seed), y


def test_an_iterator_can_be_saved_in_the_middle_of_an_epoch(files, tmp_path):
    tf = backend.tensorflow()
    x = np.arange(100, dtype=np.float32).reshape(50, 2)
    data = data_of(pipelines.Rows(x, np.arange(50, dtype=np.int32)))
    iterator = iter(pipelines.training_batches(data, Fit(epochs=2, batch_size=8)))
    for _ in range(10):
        next(iterator)
    path = tf.train.Checkpoint(iterator=iterator).save(str(tmp_path / "saved"))
    rest = [y.numpy().tolist() for _, y in iterator]
    other = iter(pipelines.training_batches(data, Fit(epochs=2, batch_size=8)))
    tf.train.Checkpoint(iterator=other).restore(path)
    assert [y.numpy().tolist() for _, y in other] == rest and len(rest) == 4


@pytest.mark.parametrize("held", ["rows", "arrays"])
def test_all_shapes_are_static_for_a_tpu(files, held):
    arrays = pipelines.Rows(np.zeros((50, 2), np.uint8), np.arange(50, dtype=np.int32))
    batches = pipelines.training_batches(
        data_of(rows_of(files) if held == "rows" else arrays), Fit(epochs=2, batch_size=8), drop_remainder=True
    )
    assert [spec.shape.as_list() for spec in batches.element_spec] == [[8, 2], [8]]
    assert int(batches.cardinality()) == len(listed(batches)) == 12


@pytest.fixture(scope="module")
def service():
    """The address of a tf.data service of two workers, in a process of their own: they have no Python of this one."""
    server = subprocess.Popen([sys.executable, "-c", SERVICE], stdout=subprocess.PIPE, text=True)
    yield server.stdout.readline().strip()
    server.kill()
    server.communicate()


SERVICE = """
import time, tensorflow as tf
service = tf.data.experimental.service
dispatcher = service.DispatchServer()
workers = [service.WorkerServer(service.WorkerConfig(dispatcher.target.partition("://")[2])) for _ in range(2)]
print(dispatcher.target, flush=True)
time.sleep(3600)
"""


def test_a_service_makes_the_same_batches_in_some_order(files, service):
    data = dataclasses.replace(data_of(rows_of(files)), augmentation=_numbered)
    alone = listed(pipelines.training_batches(data, Fit(epochs=2, batch_size=8)))
    served = listed(pipelines.training_batches(data, Fit(epochs=2, batch_size=8, service=service)))
    assert sorted(labels(served)) == sorted(labels(alone))
    assert {x.tobytes() for x, _ in served} == {x.tobytes() for x, _ in alone}


def test_a_model_is_trained_through_a_service(digits, service):
    model = tfopt.models.mlp(digits.input_shape, digits.num_classes)
    model = tfopt.train(model, digits, Fit(epochs=5, service=service))
    x, y = pipelines.to_arrays(digits.test)
    assert (model.predict(x, verbose=0).argmax(axis=1) == y).mean() > 0.85


def test_a_service_gives_static_shapes(files, service):
    batches = pipelines.training_batches(data_of(rows_of(files)), Fit(epochs=1, batch_size=8, service=service), drop_remainder=True)
    assert [spec.shape.as_list() for spec in batches.element_spec] == [[8, 2], [8]]
    assert len(listed(batches)) == 6


def test_a_service_is_not_sent_python(files, service):
    tf, rows = backend.tensorflow(), rows_of(files)
    read = dataclasses.replace(rows, read=lambda path: tf.ensure_shape(tf.numpy_function(_by_numpy, [path], tf.uint8), [2]))
    with pytest.raises(DataError, match=r"is read or prepared by Python code .*leave out service"):
        pipelines.training_batches(data_of(read), Fit(service=service))


def _by_numpy(path):
    return np.fromfile(path, np.uint8)


def test_a_service_that_is_not_there_is_said(digits):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(DataError, match="no dispatcher answers there"):
        pipelines.training_batches(digits, Fit(service=f"grpc://127.0.0.1:{port}"))
    with pytest.raises(OptionError, match="service = 'localhost': should be like 'grpc://host:port'"):
        Fit(service="localhost")
    with pytest.raises(OptionError, match="shard"):
        pipelines.training_batches(digits, Fit(), shard=(2, 2))
    with pytest.raises(OptionError, match="first_step = 999"):
        pipelines.training_batches(digits, Fit(), first_step=999)


def test_what_is_learnt_of_a_stream_is_its_own_and_drawn_from_all_of_it(tmp_path):
    """Two sets that are kept in one folder, sorted by class."""
    tf = backend.tensorflow()
    y = np.sort(np.arange(300) % 3)
    for level in (0.0, 1000.0):
        x = (np.random.default_rng(0).normal(size=(300, 4)) + level).astype(np.float32)
        sets = [tf.data.Dataset.from_tensor_slices((x[part::3], y[part::3])) for part in range(3)]
        data = tfopt.datasets.wrap(
            train=sets[0], validation=sets[1], test=sets[2], cache=str(tmp_path / "kept"), calibration=30, preprocess=["z_score"]
        )
        assert abs(np.mean(data.steps[0].options["mean"]) - level) < 0.2
        raw, labels = pipelines.to_arrays(pipelines.raw(data.calibration))
        assert abs(raw.mean() - level) < 0.3 and set(labels) == {0, 1, 2}
        assert len(listed(pipelines.training_batches(data, Fit(epochs=1, batch_size=50)))) == 2


def test_other_steps_find_what_is_kept_on_disk(tmp_path):
    for number in range(18):
        path = tmp_path / "pictures" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((4, 4, 3), 10 * number, np.uint8)).save(path)
    given = {"folder": tmp_path / "pictures", "size": [4, 4], "cache": tmp_path / "kept"}
    first = listed(pipelines.training_batches(tfopt.datasets.image_folder(**given), Fit(epochs=1)))
    kept = sorted(tmp_path.glob("kept/train-*/examples.npy"))
    other = tfopt.datasets.image_folder(**given, preprocess=["z_score", {"use": "random_flip"}])
    assert listed(pipelines.training_batches(other, Fit(epochs=1)))[0][0].min() < 0 <= first[0][0].min()
    assert sorted(tmp_path.glob("kept/train-*/examples.npy")) == kept and len(kept) == 1
    listed(pipelines.training_batches(tfopt.datasets.image_folder(**{**given, "size": [3, 3]}), Fit(epochs=1)))
    assert len(list(tmp_path.glob("kept/train-*/examples.npy"))) == 2


def test_a_cache_that_is_cut_off_is_refused(files, tmp_path):
    rows = rows_of(files, str(tmp_path / "kept"))
    listed(pipelines.training_batches(data_of(rows), Fit(epochs=1)))
    path = tmp_path / "kept" / "examples.npy"
    os.truncate(path, path.stat().st_size - 10)
    with pytest.raises(DataError, match=r"examples\.npy: can't be read as a cache .*remove its folder"):
        listed(pipelines.training_batches(data_of(rows_of(files, rows.cache)), Fit(epochs=1)))
    assert path.stat().st_size == 128 + 2 * COUNT - 10
