"""The one tf.data pipeline: examples in memory -> shuffled, augmented, batched and prefetched.

The order of its steps, and why. A batch's rows are drawn first and fetched from memory together, because fetching single examples
through a shuffle buffer costs five times the CPU time (CIFAR-10: 1.6 s an epoch against 0.3 s) and stalls for two seconds at the
start of each epoch. Images wait in memory as bytes and become floats a batch at a time: a quarter of the memory. Augmentation comes
after shuffling, so that an example is changed anew each epoch. Prefetching comes last and sees all epochs as one stream, so that
nothing waits at an epoch's end.

All that is random follows from (seed, epoch, place in the epoch), through stateless operations only: no random state has to be
saved, TensorFlow's global seed changes nothing, and neither does the number of threads.
"""

from __future__ import annotations

import dataclasses
import hashlib
import weakref
from typing import Any

import numpy as np

from . import backend
from .errors import DataError, OptionError
from .types import Data, Fit

# The arrays behind each data set made by `examples`: whole batches are fetched from them.
_arrays: weakref.WeakKeyDictionary[Any, tuple[Any, Any]] = weakref.WeakKeyDictionary()


def examples(x: np.ndarray, y: np.ndarray) -> Any:
    """A tf.data set of single examples (x, y) over arrays in memory.

    x: (n, ...) uint8, which comes out as float32 in 0..1, or float32, which comes out as it is. y: (n,) int32.
    """
    tf = backend.tensorflow()
    with tf.device("CPU:0"):
        arrays = tf.constant(x), tf.constant(y)
    dataset = tf.data.Dataset.from_tensor_slices(arrays).map(_scaled)
    _arrays[dataset] = arrays
    return dataset


def _scaled(x: Any, y: Any) -> tuple[Any, Any]:
    tf = backend.tensorflow()
    # Multiplied, not divided: TensorFlow's graph optimizer rewrites a division into this in some graphs and not in others.
    return (tf.cast(x, tf.float32) * np.float32(1 / 255), y) if x.dtype == tf.uint8 else (x, y)


def training_batches(data: Data, fit: Fit, first_epoch: int = 0) -> Any:
    """All training batches from the epoch `first_epoch` (counted from 0) up to `fit.epochs`, one after the other.

    Each epoch holds each training example once, in an order of its own; its last batch may be smaller. A start at epoch k gives
    exactly the batches that a start at 0 gives from epoch k on. The whole training set is held in memory.

    Returns:
      A tf.data set of `(fit.epochs - first_epoch) * steps_per_epoch(data, fit)` batches (x, y): x (batch, *input_shape),
      augmented by `data.augmentation`; y (batch,).

    Raises:
      OptionError: `first_epoch` is not in 0..fit.epochs.
    """
    if not 0 <= first_epoch <= fit.epochs:
        raise OptionError(f"first_epoch = {first_epoch}: should be from 0 to fit.epochs = {fit.epochs}")
    tf = backend.tensorflow()
    x, y = _in_memory(data.train)
    count = int(y.shape[0])

    def epoch(number):
        seed = tf.random.experimental.stateless_fold_in(tf.constant([fit.seed, 0], tf.int32), tf.cast(number, tf.int32))
        order_seed, augmentation_seed = tf.unstack(tf.random.experimental.stateless_split(seed, 2))
        order = tf.random.experimental.stateless_shuffle(tf.range(count), order_seed)

        def batch(rows, places):
            images, labels = _scaled(tf.gather(x, rows), tf.gather(y, rows))
            if data.augmentation is None:
                return images, labels
            seeds = augmentation_seed + tf.stack([tf.zeros_like(places), places], axis=1)
            return tf.map_fn(lambda one: data.augmentation(*one), (images, seeds), fn_output_signature=images.dtype), labels

        batches = tf.data.Dataset.from_tensor_slices((order, tf.range(count))).batch(fit.batch_size)
        return batches.map(batch, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)

    steps = (fit.epochs - first_epoch) * steps_per_epoch(data, fit)
    epochs = tf.data.Dataset.range(first_epoch, fit.epochs).flat_map(epoch)
    return epochs.apply(tf.data.experimental.assert_cardinality(steps)).prefetch(tf.data.AUTOTUNE)


def steps_per_epoch(data: Data, fit: Fit) -> int:
    """How many batches an epoch has; the last may be a smaller one."""
    return -(-size(data.train) // fit.batch_size)


def size(dataset: Any) -> int:
    """How many examples a data set has.

    Raises:
      DataError: it does not know.
    """
    count = int(dataset.cardinality())
    if count < 0:
        raise DataError("a data set of unknown size; make it with tfopt.datasets.arrays, or add tf.data.experimental.assert_cardinality")
    return count


def batches(dataset: Any, batch_size: int) -> Any:
    """The examples of a data set in their order, in batches (the last may be smaller), prefetched: for evaluation."""
    tf = backend.tensorflow()
    if dataset in _arrays:
        together = tf.data.Dataset.from_tensor_slices(_arrays[dataset]).batch(batch_size).map(_scaled)
    else:
        together = dataset.batch(batch_size)
    return together.prefetch(tf.data.AUTOTUNE)


def to_arrays(dataset: Any, limit: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The first `limit` examples of a data set (all without it) as numpy arrays: x (n, *input_shape), y (n,)."""
    chunks = list(batches(dataset if limit is None else dataset.take(limit), 1024).as_numpy_iterator())
    if not chunks:
        specs = dataset.element_spec
        x, y = (np.empty((0, *spec.shape), spec.dtype.as_numpy_dtype) for spec in specs)
        return x, y
    x, y = (np.concatenate(part) for part in zip(*chunks, strict=True))
    return x, y


def _in_memory(dataset: Any) -> tuple[Any, Any]:
    if dataset in _arrays:
        return _arrays[dataset]
    tf = backend.tensorflow()
    with tf.device("CPU:0"):
        x, y = (tf.constant(array) for array in to_arrays(dataset))
    return x, y


def shrink(data: Data, *, train: int = 256, validation: int = 128, test: int = 128, calibration: int = 64) -> Data:
    """The first few examples of each part, under another fingerprint: for runs that take seconds and prove nothing."""
    sizes = {"train": train, "validation": validation, "test": test, "calibration": calibration}
    fingerprint = hashlib.sha256(f"{data.fingerprint} {sorted(sizes.items())}".encode()).hexdigest()
    return dataclasses.replace(data, fingerprint=fingerprint, **{part: getattr(data, part).take(n) for part, n in sizes.items()})


def check_data(data: Any) -> None:
    """Raises DataError for what is not a `Data`, saying what is."""
    if not isinstance(data, Data):
        raise DataError(f"expected data as tfopt.datasets gives it, such as tfopt.datasets.digits(), got {type(data).__name__}")


def same_shape(takes: tuple[int | None, ...], given: tuple[int, ...]) -> bool:
    """Whether examples of the shape `given` fit a model's input, without the batch; None in it fits any size."""
    return len(takes) == len(given) and all(size in (None, other) for size, other in zip(takes, given, strict=True))


def check_fits(model: Any, data: Data) -> None:
    """Refuses a model that can't take the data's examples, or that does not give one number a class.

    Raises:
      DataError: says both shapes, and how to make them the same; or `data` is none.
    """
    check_data(data)
    if len(model.inputs or ()) != 1 or len(model.outputs or ()) != 1:
        raise DataError(
            f"model {model.name!r} has {len(model.inputs or ())} inputs and {len(model.outputs or ())} outputs; "
            f"data {data.name!r} needs one of each, a functional or sequential model that has been built"
        )
    takes, gives = tuple(model.inputs[0].shape)[1:], tuple(model.outputs[0].shape)[1:]
    if not same_shape(takes, data.input_shape):
        raise DataError(
            f"model {model.name!r} takes examples of shape {takes}, data {data.name!r} has {data.input_shape}; "
            "build the model with data.input_shape, or bring the data into the model's shape"
        )
    if gives != (data.num_classes,):
        raise DataError(
            f"model {model.name!r} gives outputs of shape {gives}, data {data.name!r} has {data.num_classes} classes and needs "
            f"({data.num_classes},); end the model in Dense({data.num_classes}, activation='softmax')"
        )
