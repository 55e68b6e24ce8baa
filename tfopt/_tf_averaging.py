"""A moving average of the weights, which is what is validated, kept and given back, while the steps go on from the weights themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tf_keras.callbacks import Callback, LambdaCallback

from .surgery import kernels


class Average(Callback):
    """Keeps the average a of each weight w, in step t

        a <- m a + (1 - m) w,    m = min(momentum, (t - 1) / (t + 8)),    t = 1, 2, ...

    and changes both over: the model holds w in its steps, and a from the validation to the end of each epoch.

    Keras has the average in its optimizers (`use_ema`), but takes it before a technique's callbacks have put their zeros back, leaves
    BatchNorm's statistics out, validates with w, and begins with the random weights before the first step at full momentum: after 180 steps
    at 0.999 they are still 84 % of it. Here they are no part of it.

    It comes first among the callbacks, so that all others find w in the steps and a behind them; `behind` comes after those that change
    weights.

    Args:
      model: its weights of whole numbers, such as counters, have no average.
      tied: kernels whose weights share values: where w are the same, a are made the same before they get into the model.
    """

    def __init__(self, model: Any, momentum: float, tied: Sequence[Any] = ()):
        super().__init__()
        self.momentum, self.tied = momentum, {id(variable) for variable in tied}
        self.weights = [weight for weight in model.weights if weight.dtype.is_floating]
        self.kernels = {id(kernel.variable) for kernel in kernels.of_all(model.layers)}
        self.state = [tf.Variable(weight, trainable=False) for weight in self.weights]  # what the model does not hold just now
        self.in_model = True  # a, that is: before the first step both are the same, and after an interruption it was saved so
        self.update, self.exchange = (tf.function(one, autograph=False) for one in (self._update, self._exchange))
        self.behind = LambdaCallback(on_train_batch_end=lambda batch, logs: self.update(self.model.optimizer.iterations))

    def on_train_begin(self, logs=None):
        self._hold(average=False)

    def on_epoch_begin(self, epoch, logs=None):
        self._hold(average=False)

    def on_test_begin(self, logs=None):
        self._hold(average=True)

    def on_epoch_end(self, epoch, logs=None):
        self._hold(average=True)

    def _hold(self, *, average: bool) -> None:
        if average != self.in_model:
            if average:
                self._tie()
            self.exchange()
            self.in_model = average

    def _update(self, steps: Any) -> None:
        steps = tf.cast(steps, tf.float32)
        momentum = tf.minimum(self.momentum, (steps - 1) / (steps + 8))
        for weight, average in zip(self.weights, self.state, strict=True):
            value = tf.convert_to_tensor(weight)
            mean = average + tf.cast(1 - momentum, value.dtype) * (value - average)
            if id(weight) in self.kernels:  # what was pruned on the way would only fade away
                mean = tf.where(value == 0, tf.zeros_like(mean), mean)
            average.assign(mean)

    def _exchange(self) -> None:
        for weight, other in zip(self.weights, self.state, strict=True):
            first, second = tf.identity(tf.convert_to_tensor(weight)), tf.identity(tf.convert_to_tensor(other))
            weight.assign(second)
            other.assign(first)

    def _tie(self) -> None:
        """The mean of the averages of all weights that share a value: those that changed groups on the way have other ones."""
        for weight, average in zip(self.weights, self.state, strict=True):
            if id(weight) in self.tied:
                _, group = np.unique(weight.numpy(), return_inverse=True)
                group, values = group.reshape(-1), average.numpy()
                means = np.bincount(group, values.reshape(-1).astype(np.float64)) / np.bincount(group)
                average.assign(means[group].reshape(values.shape).astype(values.dtype))
