"""The one pipeline: every example once an epoch, the same batches for the same seed wherever one starts, and models that fit."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tfopt
from tfopt import backend, pipelines, preprocessing, tasks
from tfopt.errors import DataError, OptionError
from tfopt.types import Call, Data, Fit


def augmented(x, y, seed):
    return preprocessing.applied(x, y, [Call("pad_and_crop", {"padding": 2}), Call("random_flip")], seed)


def numbered(n, augmentation=None):
    """So many examples, told apart by their value and their label."""
    x = np.arange(n, dtype=np.float32).reshape(n, 1, 1, 1)
    part = pipelines.examples(x, np.arange(n, dtype=np.int32))
    return Data("numbers", "classification", part, part, part, part, (1, 1, 1), ("a",), "none", augmentation=augmentation)


def listed(dataset):
    return [(x.copy(), y.copy()) for x, y in dataset.as_numpy_iterator()]


def assert_same(some, others):
    assert len(some) == len(others) > 0
    for (x, y), (other_x, other_y) in zip(some, others, strict=True):
        np.testing.assert_array_equal(x, other_x)
        np.testing.assert_array_equal(y, other_y)


@settings(max_examples=15, deadline=None)
@given(n=st.integers(1, 70), batch_size=st.integers(1, 80), epochs=st.integers(1, 3), seed=st.integers(0, 2**31 - 1))
def test_each_epoch_holds_each_example_once(n, batch_size, epochs, seed):
    data, fit = numbered(n), Fit(epochs=epochs, batch_size=batch_size, seed=seed)
    steps = pipelines.steps_per_epoch(data, fit)
    dataset = pipelines.training_batches(data, fit)
    batches = listed(dataset)
    assert int(dataset.cardinality()) == len(batches) == epochs * steps
    for epoch in range(epochs):
        of_epoch = batches[epoch * steps : (epoch + 1) * steps]
        assert [len(y) for _, y in of_epoch[:-1]] == [batch_size] * (steps - 1)
        labels = np.concatenate([y for _, y in of_epoch])
        assert sorted(labels) == list(range(n))
        np.testing.assert_array_equal(np.concatenate([x for x, _ in of_epoch]).ravel(), labels)  # each x stayed with its y


def test_epochs_and_seeds_have_orders_of_their_own():
    def orders(seed):
        return [tuple(y) for _, y in listed(pipelines.training_batches(numbered(100), Fit(epochs=3, batch_size=100, seed=seed)))]

    assert len({*orders(0), *orders(1), *orders(2**31 - 1)}) == 9
    assert tuple(range(100)) not in orders(0)


def test_the_order_is_evenly_random():
    """Over 400 epochs each of ten examples comes first about 40 times (six standard deviations allowed)."""
    batches = listed(pipelines.training_batches(numbered(10), Fit(epochs=400, batch_size=10)))
    first = np.bincount([y[0] for _, y in batches], minlength=10)
    assert abs(first - 40).max() < 36


@pytest.mark.parametrize("start", [1, 2, 3])
def test_starting_later_gives_the_same_batches(digits, start):
    data, fit = dataclasses.replace(digits, augmentation=augmented), Fit(epochs=4, batch_size=64, seed=5)
    steps = pipelines.steps_per_epoch(data, fit)
    assert_same(listed(pipelines.training_batches(data, fit))[start * steps :], listed(pipelines.training_batches(data, fit, start)))


def test_nothing_is_left_to_train_after_the_last_epoch(digits):
    fit = Fit(epochs=2)
    assert listed(pipelines.training_batches(digits, fit, 2)) == []
    for wrong in (-1, 3):
        with pytest.raises(OptionError, match=f"first_epoch = {wrong}"):
            pipelines.training_batches(digits, fit, wrong)


def test_threads_and_the_global_seed_change_nothing(digits):
    tf = backend.tensorflow()
    data, fit = dataclasses.replace(digits, augmentation=augmented), Fit(epochs=2, batch_size=100)
    usual = listed(pipelines.training_batches(data, fit))
    alone = tf.data.Options()
    alone.threading.private_threadpool_size = 1
    alone.threading.max_intra_op_parallelism = 1
    assert_same(usual, listed(pipelines.training_batches(data, fit).with_options(alone)))
    try:
        for seed in (0, 7):
            tf.random.set_seed(seed)
            np.random.seed(seed)
            assert_same(usual, listed(pipelines.training_batches(data, fit)))
    finally:
        tf.random.set_seed(None)


def test_a_data_set_from_elsewhere_gives_the_same_batches(digits):
    """Any tf.data set of known size will do; those of `examples` are only faster."""
    fit = Fit(epochs=2, batch_size=50)
    foreign = dataclasses.replace(digits, train=digits.train.map(lambda x, y: (x, y)))
    assert_same(listed(pipelines.training_batches(digits, fit)), listed(pipelines.training_batches(foreign, fit)))
    assert_same(listed(pipelines.batches(digits.train, 50)), listed(pipelines.batches(foreign.train, 50)))


def test_a_data_set_of_unknown_size_is_refused(digits):
    unknown = dataclasses.replace(digits, train=digits.train.filter(lambda x, y: y > 0))
    with pytest.raises(DataError, match="unknown size"):
        pipelines.training_batches(unknown, Fit())


def test_bytes_come_out_alike_on_every_way():
    x = np.arange(256, dtype=np.uint8).reshape(256, 1, 1, 1)
    dataset = pipelines.examples(x, np.arange(256, dtype=np.int32))
    data = dataclasses.replace(numbered(1), train=dataset)
    singly = np.array([value.item() for value, _ in dataset.as_numpy_iterator()], np.float32)
    in_arrays = pipelines.to_arrays(dataset)[0].ravel()
    ((trained, labels),) = listed(pipelines.training_batches(data, Fit(epochs=1, batch_size=256)))
    np.testing.assert_array_equal(singly, in_arrays)
    np.testing.assert_array_equal(singly[labels], trained.ravel())
    np.testing.assert_allclose(singly, np.arange(256) / 255, atol=1e-7)
    assert singly[0] == 0 and singly[255] == 1


def test_to_arrays_and_batches_keep_the_order():
    dataset = numbered(10).train
    assert [len(y) for _, y in listed(pipelines.batches(dataset, 4))] == [4, 4, 2]
    x, y = pipelines.to_arrays(dataset, limit=7)
    assert x.shape == (7, 1, 1, 1) and y.tolist() == list(range(7))
    x, y = pipelines.to_arrays(dataset.take(0))
    assert x.shape == (0, 1, 1, 1) and x.dtype == np.float32 and y.shape == (0,) and y.dtype == np.int32


def test_shrink_takes_the_first_of_each_part(digits):
    small = pipelines.shrink(digits, train=100, test=1_000_000)
    sizes = [pipelines.size(getattr(small, part)) for part in ("train", "validation", "test", "calibration")]
    assert sizes == [100, 128, pipelines.size(digits.test), 64]
    np.testing.assert_array_equal(pipelines.to_arrays(small.train)[0], pipelines.to_arrays(digits.train, 100)[0])
    assert small.name == digits.name
    assert len({small.fingerprint, digits.fingerprint, pipelines.shrink(digits).fingerprint}) == 3
    assert pipelines.shrink(digits).fingerprint == pipelines.shrink(digits).fingerprint
    assert len(listed(pipelines.training_batches(small, Fit(epochs=2, batch_size=30)))) == 8


# ---- augmentation


def test_examples_are_augmented_each_in_its_own_way_and_anew_each_epoch():
    image = np.random.default_rng(0).random((1, 8, 8, 1), np.float32)
    part = pipelines.examples(np.repeat(image, 200, axis=0), np.zeros(200, np.int32))
    data = dataclasses.replace(numbered(1), train=part, augmentation=augmented)
    epochs = [{one.tobytes() for one in x} for x, _ in listed(pipelines.training_batches(data, Fit(epochs=2, batch_size=200)))]
    assert all(40 < len(epoch) <= 50 for epoch in epochs)  # 25 places, mirrored or not
    x = [x for x, _ in listed(pipelines.training_batches(data, Fit(epochs=2, batch_size=200)))]
    assert (x[0] != x[1]).any(axis=(1, 2, 3)).mean() > 0.9


def drawn(seed, first, shape):
    """The random numbers of steps that are done together, of which `first` is the first."""
    tf = backend.tensorflow()
    return tf.random.stateless_uniform(shape, tf.random.experimental.stateless_fold_in(seed, first)).numpy()


@pytest.mark.parametrize("first", [{"use": "random_crop", "size": [9, 7]}, {"use": "pad_and_crop", "padding": 3}])
@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_moves_that_are_made_as_one_are_those_made_one_after_the_other(first, kind):
    x = np.random.default_rng(0).integers(0, 256, (40, 12, 11, 3)).astype(kind)
    crop = {"use": "center_crop", "size": [8, 6]}
    steps = preprocessing.calls(["rescale", first, crop, {"use": "random_flip", "vertical": True}])
    together, _ = preprocessing.applied(x, np.arange(40), steps, [3, 4])
    places, _, flips = drawn([3, 4], 1, [3, 40, 2])
    for image, place, flip, new in zip(x, places, flips, together, strict=True):
        if first["use"] == "random_crop":
            top, left = (place * [4, 5]).astype(int)
            image = image[top : top + 9, left : left + 7]
        else:
            top, left = (place * 7).astype(int)
            image = np.pad(image, [(3, 3), (3, 3), (0, 0)])[top : top + 12, left : left + 11]
        top, left = (image.shape[0] - 8) // 2, (image.shape[1] - 6) // 2
        image = image[top : top + 8, left : left + 6]
        image = image[:: -1 if flip[0] < 0.5 else 1, :: -1 if flip[1] < 0.5 else 1]
        np.testing.assert_allclose(new, image.astype(np.float32) / 255, atol=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
def test_colors_that_are_changed_as_one_are_those_changed_one_after_the_other(channels):
    x = np.random.default_rng(0).integers(0, 256, (40, 6, 7, channels), np.uint8)
    luma = np.array([0.299, 0.587, 0.114]) if channels == 3 else np.ones(1)
    yiq = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
    names = ["rescale", "contrast", "hue", "brightness", "saturation", "contrast"]
    together, _ = preprocessing.applied(x, None, preprocessing.calls(names), [3, 4])
    numbers = 2 * drawn([3, 4], 0, [6, 40]).astype(np.float64) - 1  # in -1..1
    for number, image in enumerate(x.astype(np.float64) / 255):
        one, turn, add, colorful, other = numbers[1:, number] * [0.2, 2 * np.pi * 0.05, 0.2, 0.2, 0.2]
        image = image + one * (image - (image @ luma).mean())
        if channels == 3:
            y, i, q = np.moveaxis(image @ yiq.T, -1, 0)
            back = np.stack([y, np.cos(turn) * i - np.sin(turn) * q, np.sin(turn) * i + np.cos(turn) * q], -1)
            image = back @ np.linalg.inv(yiq.T)
        image = image + add
        image = image + colorful * (image - (image @ luma)[..., None])
        image = image + other * (image - (image @ luma).mean())
        np.testing.assert_allclose(together[number], np.clip(image, 0, 1), atol=2e-6)


def test_only_training_batches_are_augmented():
    def rows(x):
        return {np.rint(np.asarray(one) / 2 * 255).astype(np.uint8).tobytes() for one in x}

    images = np.random.default_rng(0).integers(0, 256, (300, 8, 8, 1), np.uint8)
    data = tfopt.datasets.arrays(x=images, y=np.arange(300) % 3, preprocess=["random_flip", {"use": "rescale", "scale": 2.0}])
    given = {image.tobytes() for image in images}
    for part in (data.validation, data.test, data.calibration):
        for x, _ in (pipelines.to_arrays(part), zip(*part.as_numpy_iterator(), strict=True)):
            assert rows(x) <= given
    ((x, _),) = listed(pipelines.training_batches(data, Fit(epochs=1, batch_size=300)))
    assert 60 < len(rows(x) & given) < 140  # of 195


# ---- models


def dense(shape, outputs):
    keras = backend.keras()
    return keras.Sequential([keras.Input(shape), keras.layers.Flatten(), keras.layers.Dense(outputs)], name="net")


def test_a_model_that_fits_is_taken(digits):
    tasks.check_fits(dense((8, 8, 1), 10), digits)
    keras = backend.keras()
    anything = keras.Input((None, None, 1))
    tasks.check_fits(keras.Model(anything, keras.layers.Dense(10)(keras.layers.GlobalAveragePooling2D()(anything))), digits)


@pytest.mark.parametrize(
    ("shape", "outputs", "message"),
    [
        ((28, 28, 1), 10, r"'net' takes examples of shape \(28, 28, 1\), data 'digits' has \(8, 8, 1\).*data.input_shape"),
        ((8, 8), 10, r"\(8, 8\), data 'digits' has \(8, 8, 1\)"),
        ((8, 8, 1), 3, r"gives outputs of shape \(3,\); data 'digits'.*with 10 classes, needs \(10,\).*Dense\(10"),
    ],
)
def test_a_model_that_does_not_fit_is_refused(digits, shape, outputs, message):
    with pytest.raises(DataError, match=message):
        tasks.check_fits(dense(shape, outputs), digits)


def test_models_of_several_outputs_or_none_yet_are_refused(digits):
    keras = backend.keras()
    one, two = keras.Input((8, 8, 1), name="one"), keras.Input((8, 8, 1), name="two")
    with pytest.raises(DataError, match=r"has 2 inputs, data 'digits' one array without a name.*x=\{'one': ..., 'two': ...\}"):
        tasks.check_fits(keras.Model([one, two], keras.layers.Add()([one, two])), digits)
    with pytest.raises(DataError, match="has 1 inputs and 2 outputs"):
        tasks.check_fits(keras.Model(one, [one, one]), digits)
    with pytest.raises(DataError, match="has 0 inputs"):
        tasks.check_fits(keras.Sequential([keras.layers.Dense(10)]), digits)
