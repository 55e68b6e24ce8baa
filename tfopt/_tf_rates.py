"""Callbacks that set the learning rate where Keras has no schedule for it."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf
from tf_keras.callbacks import Callback


class Rate(Callback):
    """Sets the rate before each step.

    Args:
      at: step, counted from 0 over the whole fit -> rate.
    """

    factor = 1.0

    def __init__(self, at: Callable[[int], float]):
        super().__init__()
        self.at = at

    def on_train_begin(self, logs=None):
        self.step = int(self.model.optimizer.iterations.numpy())  # more than 0 in a fit that goes on

    def on_train_batch_begin(self, batch, logs=None):
        self.model.optimizer.learning_rate.assign(self.at(self.step) * self.factor)
        self.step += 1


class Plateau(Rate):
    """The same, times `decay` whenever the validation loss has not fallen for `patience` epochs; then these count anew."""

    def __init__(self, at: Callable[[int], float], decay: float, patience: int):
        super().__init__(at)
        self.decay, self.patience = decay, patience
        self.times, self.waited = (tf.Variable(0, trainable=False) for _ in range(2))
        self.smallest = tf.Variable(float("inf"), dtype=tf.float64, trainable=False)
        self.state = [self.times, self.waited, self.smallest]  # kept over an interruption

    @property
    def factor(self) -> float:
        return self.decay ** int(self.times.numpy())

    def on_epoch_end(self, epoch, logs=None):
        if logs["val_loss"] < self.smallest.numpy():
            self.smallest.assign(logs["val_loss"])
            self.waited.assign(0)
        elif self.waited.assign_add(1).numpy() == self.patience:
            self.times.assign_add(1)
            self.waited.assign(0)
