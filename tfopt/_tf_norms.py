"""A callback that bounds the norm of each unit's incoming weights."""

from __future__ import annotations

from collections.abc import Iterable

import tensorflow as tf
from tf_keras.callbacks import Callback

from .surgery.kernels import Kernel


class MaxNorm(Callback):
    """After each step scales the incoming weights w of each unit so that ||w|| <= largest: dropout's companion in Srivastava et al. 2014.

    As Keras's constraint of the same name, but for kernels in wrappers and layers of any kind, and without a change to a layer's config. An
    embedding's units are its words, whose vectors are bounded.
    """

    def __init__(self, kernels: Iterable[Kernel], largest: float):
        super().__init__()
        self.kernels, self.largest = list(kernels), largest
        self.apply = tf.function(self._apply, autograph=False)

    def on_train_batch_end(self, batch, logs=None):
        self.apply()

    def _apply(self) -> None:
        for kernel in self.kernels:
            value = tf.convert_to_tensor(kernel.variable)
            inputs = kernel.order[: -len(kernel.outputs)]
            summed = kernel.outputs if kernel.name.endswith("embeddings") else inputs
            norm = tf.sqrt(tf.reduce_sum(tf.square(value), summed, keepdims=True))
            kernel.variable.assign(value * (self.largest / tf.maximum(norm, self.largest)))
