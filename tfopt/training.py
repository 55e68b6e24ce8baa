"""The only compile() and fit(): losses, metrics, schedules, callbacks, and going on after an interruption.

All randomness follows from (seed, epoch, step): the pipeline shuffles and augments by it, and dropout's generators are set anew at the
start of each epoch. So no random state is saved, and a fit that was interrupted after epoch k and goes on from there ends with the
same weights as one that was not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from . import backend, pipelines, progress
from .errors import DataError, OptionError
from .surgery import copying
from .tracing import record
from .types import Data, Fit


def train(model: Any, data: Data, fit: Fit) -> Any:
    """Trains a copy of the model and returns it; the model itself stays as it is.

    Args:
      model: a tf_keras model that takes `data.input_shape` and gives a value for each class: probabilities after a softmax, else logits.
      data: where the examples come from; the validation set decides when to stop.
      fit: how to train.

    Raises:
      DataError: the model does not fit the data.
      OptionError: the loss became infinite or not a number in the first epoch. Later, training stops with the weights of the last epoch
        in which it was one, and says so.

    >>> model = train(models.convnet(data.input_shape, data.num_classes), data, Fit(epochs=20, patience=5))
    """
    model = copying.copy_of(model)
    fit_in_place(model, data, fit, name="train")
    return model


def fit_in_place(model: Any, data: Data, fit: Fit, *, name: str, callbacks: Sequence[Any] = (), settled: int = 0) -> None:
    """Trains the model itself: what `train` and the techniques share.

    Args:
      name: of the curve in the report.
      callbacks: run before ours, so that what they do to the weights is in what is kept. Variables in their attribute `state` are kept
        with the model's over an interruption.
      settled: the first epoch (from 0) whose weights may be the best; before it a technique is still changing the model.
    """
    from . import _tf_training

    tf = backend.tensorflow()
    pipelines.check_fits(model, data)
    if not isinstance(fit, Fit):
        raise OptionError(f"fit: expected a tfopt.Fit, such as Fit(epochs=3), got {type(fit).__name__}")
    steps = pipelines.steps_per_epoch(data, fit)
    if not steps:
        raise DataError(f"data {data.name!r} has no training examples, so a fit would have no step; leave fit out, or give some")
    _check_replicas(model.distribute_strategy.num_replicas_in_sync, data, fit)
    # Whether labels are shares of the classes, as behind mixup; a start behind the last epoch tells it without making a batch.
    soft = pipelines.training_batches(data, fit, fit.epochs).element_spec[1].dtype.is_floating
    validation = pipelines.batches(data.validation, fit.batch_size)
    with model.distribute_strategy.scope():
        model.compile(optimizer=_optimizer(fit, steps), loss=_loss(model, data, soft), metrics=[data.metric])
        model.optimizer.build(model.trainable_variables)
    state = [variable for callback in callbacks for variable in getattr(callback, "state", ())]
    keeper = _tf_training.Keeper(fit, name=name, settled=settled, file=progress.next_file(), state=state)
    first = keeper.resume(model)
    if first < fit.epochs:
        # The first is what several short fits in one process do by their nature, the second what the first masks of a tiny model are.
        with (
            backend.log_without("triggered tf.function retracing"),
            backend.log_without("is slow compared to the batch time"),
            pipelines.failures_named(data.train, data.validation),
        ):
            model.fit(
                pipelines.training_batches(data, fit, first_epoch=first),
                epochs=fit.epochs,
                initial_epoch=first,
                steps_per_epoch=steps,
                validation_data=validation.map(lambda x, y: (x, tf.one_hot(y, data.num_classes))) if soft else validation,
                verbose=0,
                callbacks=[*callbacks, keeper, _tf_training.Progress(name, fit.epochs, steps)],
            )
    keeper.finish(model)
    record("curve", name=name, history=keeper.history)


def _check_replicas(replicas: int, data: Data, fit: Fit) -> None:
    last = pipelines.size(data.train) % fit.batch_size or fit.batch_size
    if last < replicas:  # BatchNorm fails on a replica that gets no example: "scale must have the same number of elements"
        raise OptionError(
            f"batch_size = {fit.batch_size}: the last batch of an epoch has {last} of the {pipelines.size(data.train)} training examples, "
            f"too few for {replicas} replicas; choose another batch size"
        )


def ends_in_probabilities(model: Any) -> bool:
    """Whether the model's output comes from a softmax (a layer, an activation or an operation), rather than being logits.

    Raises:
      DataError: it comes from another activation, such as a sigmoid, after which neither holds.
    """
    layer = model.outputs[0]._keras_history.layer
    while type(_inner(layer)).__name__ in _PASSING and _activation(_inner(layer)) in ("", "linear"):
        layer = layer.input._keras_history.layer
    layer = _inner(layer)
    if isinstance(layer, backend.keras().Model):
        return ends_in_probabilities(layer)
    activation = _activation(layer)
    if activation in ("sigmoid", "tanh", "hard_sigmoid", "softsign", "exponential"):
        raise DataError(f"model {model.name!r} ends in {activation} ({layer.name}); one class of several needs a softmax or logits")
    return type(layer).__name__ == "Softmax" or activation == "softmax" or getattr(layer, "symbol", "").endswith("softmax")


# What may stand behind a softmax without making its probabilities anything else.
_PASSING = ("Reshape", "Flatten", "Dropout", "Permute", "Activation", "QuantizeLayer")


def _inner(layer: Any) -> Any:
    return getattr(layer, "layer", layer)  # inside TF-MOT's wrappers


def _activation(layer: Any) -> str:
    activation = getattr(layer, "activation", None)
    activation = getattr(activation, "activation", activation)  # inside TF-MOT's QuantizeAwareActivation
    return getattr(activation, "__name__", "")


def _loss(model: Any, data: Data, soft: bool) -> Any:
    name = data.loss.removeprefix("sparse_") if soft else data.loss
    config = {"class_name": name, "config": {"from_logits": not ends_in_probabilities(model)}}
    config["class_name"] = "".join(word.capitalize() for word in name.split("_"))
    return backend.keras().losses.deserialize(config)


def _optimizer(fit: Fit, steps: int) -> Any:
    optimizers = backend.keras().optimizers
    rate = fit.learning_rate
    if fit.schedule == "cosine":
        rate = optimizers.schedules.CosineDecay(rate, decay_steps=steps * fit.epochs)
    if fit.optimizer == "sgd":
        return optimizers.SGD(rate, momentum=0.9, nesterov=True)
    return {"adam": optimizers.Adam, "rmsprop": optimizers.RMSprop}[fit.optimizer](rate)
