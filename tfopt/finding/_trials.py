"""Steps of training outside a fit, to be looked at one by one."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

from .. import _callbacks, _optimizers, _speed, backend, bridge, pipelines, training
from .._stepping import own_step
from .._targets import Targets
from ..errors import OptionError
from ..surgery import copying, precision
from ..types import Data, Fit

_EPOCHS = 1_000  # more than a trial sees; behind them the same batches would come again


class Trial:
    """A copy of a model that is trained by single steps.

    Attributes:
      model: the copy.
    """

    def __init__(self, model: Any, data: Data, fit: Fit):
        self.model, self._data, self._fit = model, data, fit
        optimizer = _speed.way_of(fit).compile(model, Targets(model, data, fit), fit)
        model.optimizer.build(model.trainable_variables)
        _optimizers.unlisted_state(optimizer)
        self._callbacks = _callbacks.of_fit(model, fit, pipelines.steps_per_epoch(data, fit), "trial", [])
        self._function = model.make_train_function()

    def batches(self) -> Iterator[Any]:
        """The fit's training batches in its order, for `steps`; they never end."""
        return self._of(pipelines.training_batches(self._data, self._fit).repeat(), self._fit)

    def same_batch(self, size: int) -> Iterator[Any]:
        """One training batch of this size, kept in memory, again and again.

        Raises:
          OptionError: there can be no such batch.
        """
        fit = dataclasses.replace(self._fit, batch_size=size)
        if size > (count := pipelines.size(self._data.train)):
            raise OptionError(f"there are {count:,} training examples")
        training.resolved(self.model, self._data, fit)  # which checks, and has nothing left to try
        return self._of(pipelines.training_batches(self._data, fit).take(1).cache().repeat(), fit)

    def _of(self, batches: Any, fit: Fit) -> Iterator[Any]:
        targets = Targets(self.model, self._data, fit).of_training(batches)
        return iter(self.model.distribute_strategy.experimental_distribute_dataset(targets))

    def steps(self, batches: Iterator[Any], count: int = 1) -> float:
        """Makes so many steps, and returns the mean loss of their batches, each in front of its step."""
        self.model.reset_metrics()
        with backend.determinism_kept():
            if self._fit.deterministic:
                backend.set_determinism(True)  # for the steps alone: tf.data would make the pipeline serial by it
            for _ in range(count):
                metrics = self._function(batches)
                for one in self._callbacks:
                    one.on_train_batch_end(0)
        return float(metrics["loss"])  # waits for a device


@contextlib.contextmanager
def trial(model: Any, data: Data, fit: Fit) -> Iterator[Trial]:
    """Inside, a copy of a model makes steps by all that the fit says of a single one: nothing of a schedule or of averaged weights.

    What is left to "auto" is as usual, float32 without XLA. The copy is in the strategy that is current, else in the model's own.

    Raises:
      DataError, OptionError, UnsupportedModel, BridgeError: as `training.train`.
    """
    if not isinstance(fit, Fit):
        raise OptionError(f"fit: expected a tfopt.Fit, such as Fit(epochs=3), got {type(fit).__name__}")
    fit = _of_steps(fit)
    with _scope_of(model), backend.seeded(fit.seed):
        copy = copying.copy_of(model)
        training.resolved(copy, data, fit)
        if fit.precision != "float32":
            copy = precision.mixed(copy, fit.precision)
        with (
            backend.log_without("triggered tf.function retracing"),
            pipelines.failures_named(data.train),
            own_step(copy, fit),
        ):
            yield Trial(copy, data, fit)


def _of_steps(fit: Fit) -> Fit:
    """The fit without what is about more than one step."""
    usual = {name: getattr(_speed.USUAL, name) for name in _speed.FIELDS if getattr(fit, name) == "auto"}
    plain = {"schedule": "constant", "warmup_epochs": 0.0, "decay": 0.1, "decay_epochs": None, "ema": None, "tensorboard": None}
    return dataclasses.replace(fit, **{**usual, **plain, "patience": None, "epochs": _EPOCHS, "steps_per_execution": 1})


def _scope_of(model: Any) -> Any:
    strategies = backend.tensorflow().distribute
    if strategies.has_strategy() or bridge.is_keras3(model) or not isinstance(model, backend.keras().Model):
        return contextlib.nullcontext()
    return model.distribute_strategy.scope()
