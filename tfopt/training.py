"""The only compile() and fit(): what a `Fit` says brought together, and going on after an interruption.

All randomness follows from (seed, epoch, step): the pipeline shuffles and augments by it, and dropout's generators are set anew at the
start of each epoch, like the global random states. So no random state is saved but that of generators which layers hold, and a fit that
was interrupted after epoch k and goes on from there ends with the same weights as one that was not.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from . import _callbacks, _diverging, _optimizers, _speed, backend, pipelines, progress, tasks, tracing
from ._speed import USUAL, Way
from ._stepping import own_step
from ._targets import Targets
from .errors import DataError, OptionError
from .surgery import copying, precision
from .tracing import record
from .types import Data, Fit


def train(model: Any, data: Data, fit: Fit, *, callbacks: Sequence[Any] = (), name: str = "train") -> Any:
    """Trains a copy of the model and returns it; the model itself stays as it is.

    Args:
      model: a tf_keras model that takes `data.input_shape` and gives what the data's task needs: for classes probabilities or logits.
      data: where the examples come from; the validation set decides when to stop.
      fit: how to train.
      callbacks: the user's own, of tf_keras; see docs/training.md for what they find.
      name: of the curve in the report.

    Raises:
      DataError: the model does not fit the data.
      OptionError: the loss became infinite or not a number in the first epoch. Later, training stops with the weights of the last epoch
        in which it was one, and says so. Either way the batch is saved, in a file that the message names. Or a callback is of Keras 3.

    >>> model = train(models.convnet(data.input_shape, data.num_classes), data, Fit(epochs=20, patience=5))
    """
    model = copying.copy_of(model)
    fit = resolved(model, data, fit, callbacks=callbacks)
    trained = model if fit.precision == "float32" else precision.mixed(model, fit.precision)
    fit_in_place(trained, data, fit, name=name, users=callbacks, way=_speed.way_of(fit))
    if trained is not model:
        model.set_weights(trained.get_weights())
    return model


def resolved(model: Any, data: Data, fit: Fit, *, callbacks: Sequence[Any] = ()) -> Fit:
    """The fit of `train` with a value for each "auto": what is fastest on this machine, where a short trial pays.

    Raises:
      DataError, OptionError: as `train`, which would not get as far as to train.
    """
    _check(model, data, fit)
    return _speed.resolved(model, data, fit, each_step=bool(callbacks))


def fit_in_place(
    model: Any,
    data: Data,
    fit: Fit,
    *,
    name: str,
    callbacks: Sequence[Any] = (),
    settled: int = 0,
    users: Sequence[Any] = (),
    way: Way = USUAL,
    teaching: Any = None,
) -> None:
    """Trains the model itself: what `train` and the techniques share.

    Args:
      name: of the curve in the report.
      callbacks: of a technique; what they do to the weights is in what is averaged and kept. Variables in their attribute `state` are kept
        with the model's over an interruption; kernels in `tied` share values, also when they are averaged.
      settled: the first epoch (from 0) whose weights may be the best; before it a technique is still changing the model.
      users: callbacks of the user's own.
      way: how the steps are computed; of its precision the model is made already.
      teaching: who gives soft targets beside the labels, a `teaching.Teaching`.
    """
    _check(model, data, fit)
    users = _callbacks.checked(users, fit)
    _tell_of_one_step(data, fit, name)
    with backend.seeded(fit.seed), backend.determinism_kept():
        _fit(model, data, fit, name, callbacks, settled, users, way, teaching)


def _check(model: Any, data: Data, fit: Fit) -> None:
    tasks.check_fits(model, data)
    if not isinstance(fit, Fit):
        raise OptionError(f"fit: expected a tfopt.Fit, such as Fit(epochs=3), got {type(fit).__name__}")
    if not pipelines.steps_per_epoch(data, fit):
        raise DataError(f"data {data.name!r} has no training examples, so a fit would have no step; leave fit out, or give some")
    if not int(data.validation.cardinality()):
        raise DataError(f"data {data.name!r} has no validation examples, and each epoch ends with the loss on them; give it some")
    _check_replicas(model.distribute_strategy.num_replicas_in_sync, data, fit)


def _fit(
    model: Any, data: Data, fit: Fit, name: str, callbacks: Sequence[Any], settled: int, users: Sequence[Any], way: Way, teaching: Any
) -> None:
    from . import _tf_training

    targets, steps = Targets(model, data, fit), pipelines.steps_per_epoch(data, fit)
    with model.distribute_strategy.scope():
        optimizer = way.compile(model, targets, fit, metrics=targets.task.watched(model))
        lesson = None if teaching is None else teaching.of(data, model)
        beside = [] if lesson is None else lesson.variables
        model.optimizer.build([*model.trainable_variables, *beside])
        callbacks = _callbacks.of_fit(model, fit, steps, name, callbacks)
        state = [variable for callback in callbacks for variable in getattr(callback, "state", ())] + _optimizers.unlisted_state(optimizer)
    file = progress.next_file()
    save_batch = functools.partial(_diverging.save_batch, data, fit, name, file, each=way.steps_per_execution)
    look = {"save_batch": save_batch, "first_broken": functools.partial(_diverging.first_broken, data, fit)}
    keeper = _tf_training.Keeper(fit, name=name, settled=settled, file=file, state=[*state, *beside], **look)
    first = keeper.resume(model)
    if first < fit.epochs:
        # The first is what several short fits in one process do by their nature, the second what the first masks of a tiny model are.
        with (
            backend.log_without("triggered tf.function retracing"),
            backend.log_without("is slow compared to the batch time"),
            pipelines.failures_named(data.train, data.validation),
            own_step(model, fit, lesson),
        ):
            batches = targets.of_training(pipelines.training_batches(data, fit, first_epoch=first))
            model.fit(
                batches if lesson is None else lesson.beside(batches, fit, first),
                epochs=fit.epochs,
                initial_epoch=first,
                steps_per_epoch=steps,
                validation_data=targets.of_validation(pipelines.batches(data.validation, fit.batch_size)),
                verbose=0,
                callbacks=[
                    *([_tf_training.Deterministic()] if fit.deterministic else []),
                    *callbacks,
                    *users,
                    keeper,
                    _tf_training.Progress(name, fit.epochs, steps),
                ],
            )
        if first:
            _check_resumed(model, name, first)
    keeper.finish(model)
    record("curve", name=name, history=keeper.history)


def _check_resumed(model: Any, name: str, first: int) -> None:
    """Says where layers draw random numbers from states that nobody can set to where they were when the fit was interrupted."""
    functions = model.train_tf_function._list_all_concrete_functions()
    operations = [one.name for function in functions for one in backend.operations_of(function.graph) if backend.keeps_random_state(one)]
    if operations:
        tracing.warn(
            f"{name}: was interrupted after epoch {first}, and {operations[0]} draws other random numbers than it would have without that: "
            "what tf.random's functions keep is lost. A layer that holds a tf.random.Generator and draws from it goes on exactly"
        )


def _tell_of_one_step(data: Data, fit: Fit, name: str) -> None:
    if fit.batch_size > (examples := pipelines.size(data.train)):
        tracing.warn(
            f"{name}: batch_size = {fit.batch_size} is more than the {examples} training examples; an epoch is one step of all of them"
        )


def _check_replicas(replicas: int, data: Data, fit: Fit) -> None:
    last = pipelines.size(data.train) % fit.batch_size or fit.batch_size
    if last < replicas:  # BatchNorm fails on a replica that gets no example: "scale must have the same number of elements"
        raise OptionError(
            f"batch_size = {fit.batch_size}: the last batch of an epoch has {last} of the {pipelines.size(data.train)} training examples, "
            f"too few for {replicas} replicas; choose another batch size"
        )
