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
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from . import backend
from .errors import DataError, OptionError
from .types import Data, Fit

# The arrays behind each data set made by `examples`: whole batches are fetched from them.
_arrays: weakref.WeakKeyDictionary[Any, tuple[Any, Any]] = weakref.WeakKeyDictionary()


def per_input(function: Callable[..., Any], x: Any, *others: Any) -> Any:
    """`function` of x; where x is a dict of inputs by name, of each of them, and of the same input of the `others`.

    >>> per_input(len, {"image": [1, 2], "row": [3]})
    {'image': 2, 'row': 1}
    """
    if isinstance(x, dict):
        return {name: function(one, *(other[name] for other in others)) for name, one in x.items()}
    return function(x, *others)


def in_order(values: Any, names: Sequence[str], taker: str, giver: str) -> list[Any]:
    """The values for the inputs `names` of a model, in their order: a dict's by name; any other value is that of an only input.

    Raises:
      DataError: inputs without a value, or values without an input; `taker` and `giver` say whose.
    """
    if isinstance(values, Mapping):
        if problems := [f"lacks {name!r}" for name in names if name not in values] + [
            f"has {name!r}, which is no input" for name in values if name not in names
        ]:
            raise DataError(f"{taker} takes {_listed(names)}; {giver} {' and '.join(problems)}; name the arrays like the model's inputs")
        return [values[name] for name in names]
    if len(names) != 1:
        example = ", ".join(f"{name!r}: ..." for name in names)
        raise DataError(f"{taker} has {len(names)} inputs, {giver} one array without a name; give an array for each: x={{{example}}}")
    return [values]


def _listed(names: Sequence[str]) -> str:
    return f"the input{'s' * (len(names) > 1)} {', '.join(map(repr, names))}"


def examples(x: Any, y: np.ndarray) -> Any:
    """A tf.data set of single examples (x, y) over arrays in memory.

    x: (n, ...) uint8, which comes out as float32 in 0..1, or float32 or int32, which come out as they are; or a dict of such arrays
    by input name. y: (n,) int32.
    """
    tf = backend.tensorflow()
    with tf.device("CPU:0"):
        arrays = per_input(tf.constant, x), tf.constant(y)
    dataset = tf.data.Dataset.from_tensor_slices(arrays).map(_scaled)
    _arrays[dataset] = arrays
    return dataset


def _scaled(x: Any, y: Any) -> tuple[Any, Any]:
    return per_input(_without_bytes, x), y


def _without_bytes(x: Any) -> Any:
    tf = backend.tensorflow()
    # Multiplied, not divided: TensorFlow's graph optimizer rewrites a division into this in some graphs and not in others.
    return tf.cast(x, tf.float32) * np.float32(1 / 255) if x.dtype == tf.uint8 else x


def training_batches(data: Data, fit: Fit, first_epoch: int = 0) -> Any:
    """All training batches from the epoch `first_epoch` (counted from 0) up to `fit.epochs`, one after the other.

    Each epoch holds each training example once, in an order of its own; its last batch may be smaller. A start at epoch k gives
    exactly the batches that a start at 0 gives from epoch k on. The whole training set is held in memory.

    Returns:
      A tf.data set of `(fit.epochs - first_epoch) * steps_per_epoch(data, fit)` batches (x, y): x (batch, *input_shape),
      augmented by `data.augmentation`, or a dict of such by input name; y (batch,).

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
            inputs, labels = _scaled(per_input(lambda one: tf.gather(one, rows), x), tf.gather(y, rows))
            if data.augmentation is None:
                return inputs, labels
            seeds = augmentation_seed + tf.stack([tf.zeros_like(places), places], axis=1)
            kinds = per_input(lambda one: one.dtype, inputs)
            return tf.map_fn(lambda one: data.augmentation(*one), (inputs, seeds), fn_output_signature=kinds), labels

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


def to_arrays(dataset: Any, limit: int | None = None) -> tuple[Any, np.ndarray]:
    """The first `limit` examples of a data set (all without it) as numpy arrays: x (n, *input_shape) or a dict of such, y (n,)."""
    chunks = list(batches(dataset if limit is None else dataset.take(limit), 1024).as_numpy_iterator())
    if not chunks:
        x, y = dataset.element_spec
        return per_input(_no_example, x), _no_example(y)
    x, y = zip(*chunks, strict=True)
    return per_input(lambda *parts: np.concatenate(parts), *x), np.concatenate(y)


def _no_example(spec: Any) -> np.ndarray:
    return np.empty((0, *spec.shape), spec.dtype.as_numpy_dtype)


def _in_memory(dataset: Any) -> tuple[Any, Any]:
    if dataset in _arrays:
        return _arrays[dataset]
    tf = backend.tensorflow()
    x, y = to_arrays(dataset)
    with tf.device("CPU:0"):
        return per_input(tf.constant, x), tf.constant(y)


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
    if not model.inputs or len(model.outputs or ()) != 1:
        raise DataError(
            f"model {model.name!r} has {len(model.inputs or ())} inputs and {len(model.outputs or ())} outputs; "
            f"data {data.name!r} needs inputs and one output, a functional or sequential model that has been built"
        )
    shapes = in_order(data.input_shape, model.input_names, f"model {model.name!r}", f"data {data.name!r}")
    for name, tensor, given in zip(model.input_names, model.inputs, shapes, strict=True):
        takes = tuple(tensor.shape)[1:]
        if not same_shape(takes, given):
            raise DataError(
                f"model {model.name!r} takes examples of shape {takes}{_at(name, data)}, data {data.name!r} has {given}; "
                "build the model with data.input_shape, or bring the data into the model's shape"
            )
    gives = tuple(model.outputs[0].shape)[1:]
    if gives != (data.num_classes,):
        raise DataError(
            f"model {model.name!r} gives outputs of shape {gives}, data {data.name!r} has {data.num_classes} classes and needs "
            f"({data.num_classes},); end the model in Dense({data.num_classes}, activation='softmax')"
        )


def _at(name: str, data: Data) -> str:
    return f" at the input {name!r}" if isinstance(data.input_shape, dict) else ""
