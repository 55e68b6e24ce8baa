"""The callbacks of a fit."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tqdm
from tf_keras.callbacks import Callback
from tf_keras.src.backend import RandomGenerator
from tf_keras.src.engine.base_layer import BaseRandomLayer
from tf_keras.src.mixed_precision.loss_scale_optimizer import _DynamicLossScaleState

from . import backend, progress, tracing
from .errors import OptionError
from .types import Fit


class Keeper(Callback):
    """Keeps the curves and the best weights, stops early or where the loss is no number any more, and saves all of it after each epoch.

    Attributes:
      history: metric -> its value after each epoch.
    """

    _supports_tf_logs = True  # all metrics of each step as numbers would cost a small net a hundredth of its time

    def __init__(
        self,
        fit: Fit,
        *,
        name: str,
        settled: int,
        file: Path | None,
        save_batch: Callable[..., str],
        first_broken: Callable[[int], int | None],
        state: Sequence[Any] = (),
    ):
        super().__init__()
        self.fit, self.name, self.settled, self.file, self.state = fit, name, settled, file, state
        self.save_batch, self.first_broken, self.broken_at = save_batch, first_broken, None
        self.history: dict[str, list[float]] = {}
        self.best_loss, self.best_epoch, self.best_weights = math.inf, -1, None
        self.last_weights = None

    def resume(self, model: Any) -> int:
        """Puts the model where the saved state says, and returns the epoch to go on with (`fit.epochs` where nothing is left to do)."""
        variables = self._variables(model)
        form = progress.form_of(variables)
        saved = progress.read(self.file, form, [*form, *progress.form_of(model.weights)])  # the second with the best weights behind
        if saved is None:
            return 0
        facts, arrays = saved.facts, saved.arrays
        for variable, array in zip(variables, arrays, strict=False):
            variable.assign(array)
        self.history, self.best_epoch = facts["history"], facts["best_epoch"]
        self.best_loss = math.inf if facts["best_loss"] is None else facts["best_loss"]
        self.best_weights = arrays[len(variables) :] or None
        self.last_weights = arrays[: len(model.weights)]
        return self.fit.epochs if facts["stopped"] else saved.epoch + 1

    def on_train_begin(self, logs=None):
        layers = [layer for layer in self.model._flatten_layers() if isinstance(layer, BaseRandomLayer)]
        self.generators = [(layer._random_generator, layer._random_generator._rng_type) for layer in layers]
        with self.model.distribute_strategy.scope():
            for generator, _ in self.generators:
                generator._rng_type, generator._built = RandomGenerator.RNG_STATEFUL, False
                generator._maybe_init()

    def on_train_end(self, logs=None):
        for generator, kind in self.generators:  # so that the layers' configs are again what the user wrote
            generator._rng_type, generator._built = kind, False
            generator._maybe_init()

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch
        backend.reseed(self.fit.seed * 1_000_003 + epoch)
        for number, (generator, _) in enumerate(self.generators):
            generator._generator.reset_from_seed((self.fit.seed * 1_000_003 + epoch) * 1_009 + number)

    def on_train_batch_end(self, batch, logs=None):
        if not math.isfinite(float(logs["loss"])):  # and stays so: it is the epoch's mean so far
            self.broken_at = self.broken_at or (self.epoch, batch)
            self.model.stop_training = True

    def on_epoch_end(self, epoch, logs=None):
        logs = {metric: float(value) for metric, value in logs.items()}
        weights = [weight.numpy() for weight in self.model.weights]
        if problem := self._divergence(logs["loss"], weights):
            self._go_back(epoch, problem)
            return
        for metric, value in logs.items():
            self.history.setdefault(metric, []).append(value)
        self.last_weights = weights
        if self.fit.patience is not None and epoch >= self.settled and logs["val_loss"] < self.best_loss:
            self.best_loss, self.best_epoch = logs["val_loss"], epoch
            self.best_weights = self.last_weights
        patient = self.fit.patience is None or not 0 <= self.best_epoch <= epoch - self.fit.patience
        stopped = self.model.stop_training or not patient  # by a callback of the user's own, or by ours
        self.model.stop_training = stopped
        self._save(epoch, stopped)

    def finish(self, model: Any) -> None:
        """Goes back to the best weights, where the fit asks for them."""
        if self.best_weights is not None:
            _put(model, self.best_weights)

    def _divergence(self, loss: float, weights: Sequence[Any]) -> str | None:
        """What is no number any more: the loss or, where a ReLU hides it (that of NaN is 0 on a CPU), a weight. None where all is well."""
        if not math.isfinite(loss):
            return f"the loss is {loss}"
        broken = [v.name.split(":")[0] for v, w in zip(self.model.weights, weights, strict=True) if not np.isfinite(w).all()]
        return f"{broken[0]} holds NaN or infinity" if broken else None

    def _go_back(self, epoch: int, problem: str) -> None:
        """To the weights of the last epoch that went well; there is nothing to go back to before the first is over."""
        said = f"{self.name}: training diverged: {problem} in epoch {epoch + 1}; a smaller fit.learning_rate helps"
        if self.broken_at is None and (step := self.first_broken(epoch)) is not None:  # a ReLU has hidden it from the loss
            said += f"; {self.save_batch(epoch, step, each=1)}"
        elif self.broken_at is not None:
            said += f"; {self.save_batch(*self.broken_at)}"
        if self.last_weights is None:
            raise OptionError(said)
        said += f". Stopped, with the weights from the end of epoch {epoch}"
        tracing.warn(said)
        _put(self.model, self.last_weights)
        self.model.stop_training = True

    def _save(self, epoch: int, stopped: bool) -> None:
        if self.file is None:
            return
        facts = {
            "stopped": stopped,
            "history": self.history,
            "best_loss": self.best_loss if self.best_epoch >= 0 else None,
            "best_epoch": self.best_epoch,
        }
        arrays = [variable.numpy() for variable in self._variables(self.model)] + (self.best_weights or [])
        progress.write(self.file, progress.State(epoch, facts, arrays))

    def _variables(self, model: Any) -> list[Any]:
        """All that the next epoch starts from, the model's weights first."""
        on_read = [weight for weight in model.weights if weight.synchronization == tf.VariableSynchronization.ON_READ]
        each = [part for weight in on_read for part in getattr(weight, "values", ())]  # BatchNorm's statistics, on each replica its own
        scale = getattr(model.optimizer, "_loss_scale", None)  # of float16
        scaling = [scale.current_loss_scale, scale.counter] if isinstance(scale, _DynamicLossScaleState) else []
        layers = [layer for layer in model._flatten_layers() if not isinstance(layer, BaseRandomLayer)]
        generators = [value.state for layer in layers for value in vars(layer).values() if isinstance(value, tf.random.Generator)]
        return [*model.weights, *each, *model.optimizer.variables, *scaling, *generators, *self.state]


def _put(model: Any, weights: Sequence[Any]) -> None:
    for variable, array in zip(model.weights, weights, strict=True):
        variable.assign(array)


class Deterministic(Callback):
    """Makes operations add up in one order in the steps of training and validation.

    Not while iterators over data are made: tf.data would then take our pipeline, which gives the same batches anyway, for one that does
    not, make it serial, and say so on the terminal.
    """

    def on_epoch_begin(self, epoch, logs=None):
        backend.set_determinism(True)

    def on_test_begin(self, logs=None):
        backend.set_determinism(False)

    def on_test_batch_begin(self, batch, logs=None):
        backend.set_determinism(True)


class Progress(Callback):
    """One line that fills up, in a terminal and in a notebook; nothing where stderr is a pipe or a file."""

    _supports_tf_logs = True

    def __init__(self, name: str, epochs: int, steps: int):
        super().__init__()
        self.name, self.epochs, self.steps = name, epochs, steps

    def on_train_begin(self, logs=None):
        shape = "{desc} {percentage:3.0f}%|{bar:24}| {elapsed}<{remaining}{postfix}"
        notebook = _in_notebook()
        hidden = not (sys.stderr.isatty() or notebook)
        file = sys.stdout if notebook else sys.stderr  # a notebook shows what goes to stderr in red, like a warning
        total = self.epochs * self.steps
        self.bar = tqdm.tqdm(total=total, desc=self.name, disable=hidden, bar_format=shape, leave=True, file=file, mininterval=0.5)

    def on_epoch_begin(self, epoch, logs=None):
        self.bar.n = epoch * self.steps
        self.bar.set_description_str(f"{self.name}: epoch {epoch + 1}/{self.epochs}", refresh=False)

    def on_train_batch_end(self, batch, logs=None):
        self.bar.update(batch + 1 - self.bar.n % self.steps)

    def on_epoch_end(self, epoch, logs=None):
        self.bar.set_postfix_str("  ".join(f"{key} {float(value):.3f}" for key, value in logs.items()))

    def on_train_end(self, logs=None):
        self.bar.close()


def _in_notebook() -> bool:
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return shell is not None and "IPKernelApp" in shell.config
