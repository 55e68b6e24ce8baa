"""The one tf.data pipeline: raw examples, in memory or in files -> read, kept, shuffled, batched, prepared, augmented and prefetched.

The order of its steps, and why.

1. The *rows* of a batch are drawn first, as numbers: the order of a whole epoch is a permutation that follows from (seed, epoch), so
   shuffling is perfect, needs no buffer and no memory, and any step of any epoch can be begun with. Fetching single examples through a
   shuffle buffer costs five times the CPU time (CIFAR-10: 1.6 s an epoch against 0.3 s) and stalls for two seconds at each epoch's start.
2. *Read and decode* the batch's files together, in parallel with other batches.
3. *Keep* what was decoded, in memory or on disk, as bytes where they were bytes: a quarter of the memory of floats. It comes before
   all that is random, which has to be anew each epoch, and before preparing, which makes examples larger. From the second epoch on a
   batch is one gather.
4. *Prepare and augment* whole batches: one operation for all examples of it instead of one each.
5. *Prefetch* last, over all epochs as one stream, so that nothing waits at an epoch's end.

What can only be read from its start (`Stream`) is kept on disk or read again, shuffled in a buffer, batched, and goes on from 4.

All that is random follows from (seed, epoch, step), through stateless operations only: no random state has to be saved, TensorFlow's
global seed changes nothing, and neither does the number of threads. An augmentation of the user's own that draws from a global random
state all the same is brought to it (`_augmented`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import itertools
import math
import socket
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from . import backend, preprocessing
from ._rows import Rows, Stream, nested
from ._rows import check_memory as check_memory  # for sources that hold examples themselves
from .errors import DataError, OptionError
from .types import Call, Data, Fit

RESCALED = (Call("rescale"),)  # what bytes are prepared with, unless somebody says otherwise

# What is behind each data set made by `dataset_of`, and how it is prepared.
_held: weakref.WeakKeyDictionary[Any, tuple[Rows | Stream, tuple[Call, ...]]] = weakref.WeakKeyDictionary()
_BATCH = 256


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


def examples(x: Any, y: Any) -> Any:
    """A tf.data set of single examples (x, y) over arrays in memory.

    x: (n, ...) uint8, which comes out as float32 in 0..1, or float32 or int32, which come out as they are; or a dict of such arrays
    by input name. y: (n, ...), or a dict of such arrays.
    """
    kinds = {one.dtype for one in x.values()} if isinstance(x, dict) else {x.dtype}
    return dataset_of(Rows(x, y), RESCALED if np.dtype(np.uint8) in kinds else ())


def dataset_of(held: Rows | Stream, steps: Sequence[Call] = ()) -> Any:
    """A tf.data set of the single examples (x, y), prepared and not augmented, of known cardinality. Whole batches come faster by the
    functions below, which find out what is behind it.
    """
    dataset = _evaluated(held, tuple(steps), _BATCH).unbatch().apply(_counted(len(held)))
    _held[dataset] = held, tuple(steps)
    return dataset


def _counted(count: int) -> Callable[[Any], Any]:
    return backend.tensorflow().data.experimental.assert_cardinality(count)


def _evaluated(held: Rows | Stream, steps: tuple[Call, ...], batch_size: int) -> Any:
    """Batches in the examples' own order, prepared."""
    tf = backend.tensorflow()
    as_it_stands = tf.autograph.experimental.do_not_convert  # it is graph code already, and rewriting it takes half of a second
    if isinstance(held, Rows):
        raw = tf.data.Dataset.range(len(held)).batch(batch_size).map(as_it_stands(held.fetch), num_parallel_calls=tf.data.AUTOTUNE)
    else:
        raw = held.dataset().batch(batch_size)
    return raw.map(as_it_stands(lambda x, y: preprocessing.applied(x, y, steps)), num_parallel_calls=tf.data.AUTOTUNE)


def behind(dataset: Any) -> tuple[Rows | Stream, tuple[Call, ...]]:
    """The raw examples of a data set and the steps that prepare them; any tf.data set of known size is read into memory for it.

    Raises:
      DataError: its size is unknown.
    """
    if dataset not in _held:
        size(dataset)
        _held[dataset] = in_memory(dataset), ()
    return _held[dataset]


@contextlib.contextmanager
def failures_named(*datasets: Any) -> Iterator[None]:
    """Inside, a file of these data sets that can't be read, since it is damaged where no check saw it or has gone meanwhile, ends in a
    DataError that names it, where TensorFlow only says that some decoder failed.
    """
    try:
        yield
    except backend.tensorflow().errors.OpError as error:
        for dataset in datasets:
            held, _ = _held.get(dataset, (None, ()))
            if held is not None and (failure := held.failure()):
                raise DataError(failure) from error
        raise


def in_memory(dataset: Any) -> Rows:
    """The examples of a tf.data set, read through once."""
    return Rows(*to_arrays(dataset))


def training_batches(
    data: Data, fit: Fit, first_epoch: int = 0, *, first_step: int = 0, shard: tuple[int, int] = (0, 1), drop_remainder: bool = False
) -> Any:
    """All training batches from the epoch `first_epoch` (counted from 0) up to `fit.epochs`, one after the other.

    Each epoch holds each training example once, in an order of its own; its last batch may be smaller. A start at epoch k, or at a step
    in it, gives exactly the batches that a start at 0 gives from there on.

    Args:
      first_step: of the first epoch, counted from 0.
      shard: (index, count): this worker's part of each batch of `fit.batch_size` examples, where `count` workers share the work.
        All parts together are the batch, whatever `count` is. Examples that are streamed from files are shared by file where there are
        enough of them, else by record.
      drop_remainder: leave out an epoch's last, smaller batch, so that all shapes are static, as a TPU needs it.

    Returns:
      A tf.data set of batches (x, y): x (batch, *input_shape), prepared and augmented, or a dict of such by input name; y (batch, ...).
      With `fit.service` the workers of that tf.data service make them; each comes once, in any order.

    Raises:
      OptionError: `first_epoch` is not in 0..fit.epochs, or `first_step` or `shard` out of range.
      DataError: the service can't be reached, or can't serve this data.
    """
    if not 0 <= first_epoch <= fit.epochs:
        raise OptionError(f"first_epoch = {first_epoch}: should be from 0 to fit.epochs = {fit.epochs}")
    if not 0 <= shard[0] < shard[1] <= fit.batch_size:
        raise OptionError(f"shard = {shard}: should be (index, count), index from 0 and below count, count at most fit.batch_size")
    tf = backend.tensorflow()
    plan = _Plan(data, fit, shard, drop_remainder)
    if not 0 <= first_step <= plan.steps:
        raise OptionError(f"first_step = {first_step}: should be from 0 to the {plan.steps} steps of an epoch")
    steps = (fit.epochs - first_epoch) * plan.steps - first_step
    if fit.service is not None:
        batches = _served(plan, first_epoch * plan.steps + first_step, steps)
    elif data.augmentation is not None:
        batches = _augmented(plan, first_epoch, first_step)
    else:
        batches = plan.batches(first_epoch, first_step)
    if isinstance(plan.held, Rows) or shard[1] == 1:  # how many examples a stream's files hold is not known
        batches = batches.apply(_counted(max(steps, 0)))
    options = tf.data.Options()
    options.experimental_optimization.apply_default_optimizations = False  # they find nothing here, and look for 0.08 s
    return batches.prefetch(tf.data.AUTOTUNE).with_options(options)


def training_rows(data: Data, fit: Fit, first_epoch: int = 0) -> Any | None:
    """The numbers of the examples in each of the `training_batches`, as `batches` of the training set counts them: int32 (batch,).

    None where an example is not the same in every epoch, or can't be told by a number: where it is augmented, or streamed, or where a
    service gives batches in any order.
    """
    plan = _Plan(data, fit)
    augmented = data.augmentation is not None or any(map(preprocessing.is_augmentation, plan.preprocessing))
    if augmented or not isinstance(plan.held, Rows) or fit.service is not None:
        return None
    as_it_stands = backend.tensorflow().autograph.experimental.do_not_convert
    epochs = backend.tensorflow().data.Dataset.range(first_epoch, fit.epochs)
    return epochs.flat_map(as_it_stands(plan.numbers)).map(as_it_stands(lambda numbers, seed: numbers))


class _Plan:
    """Which rows make which batch, and what is done to them."""

    def __init__(self, data: Data, fit: Fit, shard: tuple[int, int] = (0, 1), drop_remainder: bool = False):
        self.data, self.fit, self.shard, self.drop_remainder = data, fit, shard, drop_remainder
        self.held, self.preprocessing = behind(data.train)
        (index, count), last = shard, len(self.held) % fit.batch_size
        self.steps = len(self.held) // fit.batch_size + (last > index and not drop_remainder)
        self.batch_size = -(-(fit.batch_size - index) // count)  # this worker's rows of a whole batch: index, index + count, ...

    def numbers(self, epoch: Any) -> Any:
        """A tf.data set of (row numbers, seed), one of each for every batch of an epoch."""
        tf = backend.tensorflow()
        (index, count), (order_seed, seed) = self.shard, self._seeds(epoch)
        order = tf.random.experimental.stateless_shuffle(tf.range(len(self.held)), order_seed)
        if self.drop_remainder:  # here, since a worker's part of an epoch's last, smaller batch may be as large as that of a whole one
            order = order[: len(self.held) - len(self.held) % self.fit.batch_size]
        if count > 1:
            order = tf.boolean_mask(order, tf.range(tf.size(order)) % self.fit.batch_size % count == index)
        return self._numbered(tf.data.Dataset.from_tensor_slices(order), seed)

    def streamed(self, dataset: Any, epoch: Any) -> Any:
        """A tf.data set of (raw batch, seed) of an epoch."""
        tf = backend.tensorflow()
        order_seed, seed = self._seeds(epoch)
        tf.random.set_seed(1)  # of the graph that is being traced only, so that the global one is not mixed into the order
        buffer = min(self.held.buffer, len(self.held))
        return self._numbered(dataset.shuffle(buffer, seed=tf.cast(order_seed[0], tf.int64), reshuffle_each_iteration=False), seed)

    def batches(self, first_epoch: int, first_step: int) -> Any:
        """A tf.data set of all batches from there on, as `prepared` gives them."""
        tf = backend.tensorflow()
        epochs, as_it_stands = tf.data.Dataset.range(first_epoch, self.fit.epochs), tf.autograph.experimental.do_not_convert
        if isinstance(self.held, Rows):
            numbers, batch = epochs.flat_map(as_it_stands(self.numbers)), self.batch
        else:
            kept = self.held.dataset(*self.shard)
            numbers, batch = epochs.flat_map(as_it_stands(lambda epoch: self.streamed(kept, epoch))), self.prepared
        return numbers.skip(first_step).map(as_it_stands(batch), num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)

    def batch(self, numbers: Any, seed: Any, *, keep: bool = True) -> tuple[Any, ...]:
        """The batch of these rows, as `prepared` gives it."""
        return self.prepared(self.held.fetch(numbers, keep=keep), seed)

    def prepared(self, raw: tuple[Any, Any], seed: Any) -> tuple[Any, ...]:
        """A raw batch (x, y) behind all steps; where an augmentation of the user's own follows, (x, y, seed) with the seed for it."""
        tf = backend.tensorflow()
        x, y = preprocessing.applied(*raw, self.preprocessing, seed)
        if self.data.augmentation is None:
            return x, y
        return x, y, tf.random.experimental.stateless_fold_in(seed, len(self.preprocessing))

    def augmented(self, x: Any, y: Any, seed: Any = None) -> tuple[Any, Any]:
        """The finished batch."""
        if self.data.augmentation is None:
            return x, y
        backend.tensorflow().random.set_seed(self.fit.seed)  # of the graph that is being traced only
        return self.data.augmentation(x, y, seed)

    def augmented_by_python(self, number: Any, batch: tuple[Any, Any, Any]) -> tuple[Any, Any]:
        """The same while the global random states follow from the seed; behind it they are again what they were.

        number: of the batch, from 0 in each iteration.
        """
        tf = backend.tensorflow()
        states = _Borrowed()
        with tf.control_dependencies([tf.numpy_function(states.borrow, [number, batch[-1]], tf.int64)]):
            batch = self.augmented(*batch)
        with tf.control_dependencies(tf.nest.flatten(batch)):
            done = tf.numpy_function(states.give_back, [], tf.int64)
        with tf.control_dependencies([done]):
            return tf.nest.map_structure(tf.identity, batch)

    def at(self, step: Any) -> tuple[Any, Any]:
        """The finished batch of a step, counted over all epochs."""
        tf = backend.tensorflow()
        order_seed, seed = self._seeds(step // self.steps)
        order = tf.random.experimental.stateless_shuffle(tf.range(len(self.held)), order_seed)
        place = step % self.steps
        start = tf.cast(place, tf.int32) * self.fit.batch_size
        numbers = order[start : start + self.fit.batch_size]
        if self.drop_remainder:
            numbers = tf.ensure_shape(numbers, [self.fit.batch_size])
        return self.augmented(*self.batch(numbers, tf.random.experimental.stateless_fold_in(seed, place), keep=False))

    def _seeds(self, epoch: Any) -> list[Any]:
        tf = backend.tensorflow()
        seed = tf.random.experimental.stateless_fold_in(tf.constant([self.fit.seed, 0], tf.int32), tf.cast(epoch, tf.int32))
        return tf.unstack(tf.random.experimental.stateless_split(seed, 2))

    def _numbered(self, dataset: Any, seed: Any) -> Any:
        tf = backend.tensorflow()
        fold = tf.random.experimental.stateless_fold_in
        own = seed if self.shard[1] == 1 else fold(seed, self.shard[0])
        batches = dataset.batch(self.batch_size, drop_remainder=self.drop_remainder).enumerate()
        return batches.map(lambda step, batch: (batch, fold(own, step)))


def _augmented(plan: _Plan, first_epoch: int, first_step: int) -> Any:
    """All batches from there on behind the user's own augmentation.

    One that draws by its seed is called for several batches side by side. One that draws from Python's or NumPy's random state, in Python
    functions, gets one batch after the other, and the states are set for each. One that draws by TensorFlow's operations with a state of
    their own (`tf.image.random_flip_left_right`), which can't be set, is called for all batches that went before as well.
    """
    tf = backend.tensorflow()
    with backend.seeded(plan.fit.seed):  # what is drawn while the graph is made is a constant of it
        batches = plan.batches(first_epoch, first_step)
        side_by_side = batches.map(plan.augmented, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        operations = backend.operations_of(side_by_side._map_func.function.graph)
        python, kept = (any(map(is_such, operations)) for is_such in (backend.is_python, backend.keeps_random_state))
        if not python and not kept:
            return side_by_side
        batches = plan.batches(0, 0) if kept else batches
        batches = batches.enumerate().map(plan.augmented_by_python) if python else batches.map(plan.augmented)
        return batches.skip(first_epoch * plan.steps + first_step) if kept else batches


class _Borrowed:
    """The global random states for the time of a batch; tf.data calls it, in whatever thread."""

    def __init__(self):
        self.states, self.lent = contextlib.ExitStack(), False

    def borrow(self, number: np.int64, seed: np.ndarray) -> np.int64:
        if self.lent:  # a batch failed or was given up between the two
            if number:  # tf.data goes on with the next, maybe when the fit has ended already and the states are their owner's
                raise RuntimeError("the batch before this one could not be augmented")
            self.states.pop_all()
        self.states.enter_context(backend.seeded(int.from_bytes(seed.tobytes(), "little")))
        self.lent = True
        return np.int64(0)

    def give_back(self) -> np.int64:
        self.states.close()
        self.lent = False
        return np.int64(0)


def _served(plan: _Plan, first: int, steps: int) -> Any:
    """Batches made by the workers of a tf.data service: each step's is a function of its number, so the numbers are handed out."""
    tf = backend.tensorflow()
    if not isinstance(plan.held, Rows) or plan.shard[1] > 1:
        raise DataError(
            f"fit.service: {plan.data.name} is streamed or sharded, and a service hands out whole batches by their numbers; "
            "leave out service, or load the data with cache = 'memory'"
        )
    _check_portable(plan)
    _check_reachable(plan.fit.service)
    batches = tf.data.Dataset.range(first, first + steps).map(plan.at, num_parallel_calls=tf.data.AUTOTUNE)
    sharing = tf.data.experimental.service.ShardingPolicy.DYNAMIC
    return batches.apply(tf.data.experimental.service.distribute(processing_mode=sharing, service=plan.fit.service))


def _check_portable(plan: _Plan) -> None:
    """Refuses what a worker can't be sent: it is given TensorFlow's operations, not this process's Python."""
    tf = backend.tensorflow()
    graph = tf.function(plan.at, autograph=False).get_concrete_function(tf.TensorSpec([], tf.int64)).graph
    if any(map(backend.is_python, backend.operations_of(graph))):
        raise DataError(
            f"fit.service: {plan.data.name} is read or prepared by Python code (the decoders of BMP and GIF, non_local_means, a function "
            "of your own), which a service's workers don't have; convert these files, leave that step out, or leave out service"
        )


def _check_reachable(service: str) -> None:
    host, _, port = service.removeprefix("grpc://").rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except (OSError, ValueError) as error:  # TensorFlow would try for half an hour
        raise DataError(f"fit.service = {service!r}: no dispatcher answers there ({error}); start one, or leave service out") from error


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
        raise DataError(
            "a data set of unknown size; tfopt.datasets.wrap counts it, tfopt.datasets.arrays makes one of arrays, "
            "tf.data.experimental.assert_cardinality tells it"
        )
    return count


def batches(dataset: Any, batch_size: int) -> Any:
    """The examples of a data set in their order, prepared, in batches (the last may be smaller), prefetched: for evaluation."""
    tf = backend.tensorflow()
    together = _evaluated(*_held[dataset], batch_size) if dataset in _held else dataset.batch(batch_size)
    return together.prefetch(tf.data.AUTOTUNE)


def at_once(*shapes: tuple[int, ...] | Mapping[str, tuple[int, ...]]) -> int:
    """How many examples of these shapes to look at together: 256, or fewer of large ones, of whose maps a net would fill the memory."""
    each = itertools.chain.from_iterable(shape.values() if isinstance(shape, Mapping) else [shape] for shape in shapes)
    return max(1, min(256, 2**22 // sum(math.prod(size or 1 for size in shape) for shape in each)))  # 16 MB of float32


def labels(dataset: Any) -> Any:
    """All y of a data set, in its order; x is not read where that is not needed."""
    held, _ = _held.get(dataset, (None, ()))
    if isinstance(held, Rows):
        return held.y
    only_y = backend.tensorflow().autograph.experimental.do_not_convert(lambda x, y: (0, y))
    alone = [y for _, y in batches(dataset, 1024).map(only_y).as_numpy_iterator()]
    return nested(lambda *parts: np.concatenate(parts), *alone) if alone else to_arrays(dataset)[1]


def raw(dataset: Any) -> Any:
    """The same examples as they are before the first step of preprocessing."""
    held, _ = behind(dataset)
    return dataset_of(held)


def first(dataset: Any, count: int) -> Any:
    """The first `count` examples of a data set (all where it has fewer)."""
    held, steps = _held.get(dataset, (None, ()))
    if isinstance(held, Stream):
        return dataset_of(in_memory(dataset_of(held).take(count)), steps)
    return dataset.take(count) if held is None else dataset_of(held.take(slice(count)), steps)


def to_arrays(dataset: Any, limit: int | None = None) -> tuple[Any, Any]:
    """The first `limit` examples of a data set (all without it) as numpy arrays: x (n, *input_shape) and y (n, ...), or dicts of such."""
    dataset = dataset if limit is None else first(dataset, limit)
    with failures_named(dataset):
        chunks = list(batches(dataset, 1024).as_numpy_iterator())
    if not chunks:
        return tuple(nested(_no_example, spec) for spec in dataset.element_spec)
    return tuple(nested(lambda *parts: np.concatenate(parts), *parts) for parts in zip(*chunks, strict=True))


def _no_example(spec: Any) -> np.ndarray:
    return np.empty((0, *spec.shape), spec.dtype.as_numpy_dtype)


def shrink(data: Data, *, train: int = 256, validation: int = 128, test: int = 128, calibration: int = 64) -> Data:
    """The first few examples of each part, under another fingerprint: for runs that take seconds and prove nothing."""
    sizes = {"train": train, "validation": validation, "test": test, "calibration": calibration}
    fingerprint = hashlib.sha256(f"{data.fingerprint} {sorted(sizes.items())}".encode()).hexdigest()
    return dataclasses.replace(data, fingerprint=fingerprint, **{part: first(getattr(data, part), n) for part, n in sizes.items()})


def check_data(data: Any) -> None:
    """Raises DataError for what is not a `Data`, saying what is."""
    if not isinstance(data, Data):
        raise DataError(f"expected data as tfopt.datasets gives it, such as tfopt.datasets.digits(), got {type(data).__name__}")


def same_shape(takes: tuple[int | None, ...], given: tuple[int, ...]) -> bool:
    """Whether examples of the shape `given` fit a model's input, without the batch; None in it fits any size."""
    return len(takes) == len(given) and all(size in (None, other) for size, other in zip(takes, given, strict=True))
