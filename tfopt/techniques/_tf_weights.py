"""Callbacks that hold kernels to what a technique asks of them: after each step of the optimizer they change the variables themselves.

So the layers stay what they are, of whatever kind and precision, and there is nothing to strip and nothing that a saved model would need.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import backend

tf = backend.tensorflow()
Callback = backend.keras().callbacks.Callback


class Masking(Callback):
    """Keeps zeros: multiplies each variable with its mask after each step of the optimizer.

    Args:
      variables: of any float dtype; a weight stays where it is not zero now.
    """

    def __init__(self, variables: Sequence[Any]):
        super().__init__()
        self.variables = list(variables)
        self.masks = [tf.Variable(tf.cast(variable.numpy() != 0, variable.dtype), trainable=False) for variable in self.variables]
        self.apply = tf.function(self._apply, autograph=False)  # one call a step instead of two for each kernel

    def put(self, masks: Sequence[np.ndarray]) -> None:
        """Other masks, from now on."""
        for variable, mask in zip(self.masks, masks, strict=True):
            variable.assign(tf.cast(mask, variable.dtype))

    def _apply(self) -> None:
        for variable, mask in zip(self.variables, self.masks, strict=True):
            variable.assign(variable * mask)

    def on_train_batch_end(self, batch, logs=None):
        self.apply()


class Pruning(Masking):
    """Masks that follow the weights until the sparsity is reached, and then stay.

    Args:
      masks_at: `share of the asked-for sparsity, from 0 to 1 -> masks` for the weights as they are at that moment.
      ramp: the step at which it is reached; 0: before the first.
    """

    UPDATES = 100  # masks that are made anew on the way, at most: one costs a sort of all weights

    def __init__(self, variables: Sequence[Any], masks_at: Callable[[float], list[np.ndarray]], ramp: int):
        super().__init__(variables)
        self.masks_at, self.ramp, self.every = masks_at, ramp, -(-ramp // self.UPDATES) or 1

    def on_train_begin(self, logs=None):
        self.step = int(self.model.optimizer.iterations.numpy())  # more than 0 in a fit that goes on: its weights hold the masks
        self.put([variable.numpy() != 0 for variable in self.variables] if self.step else self.masks_at(float(self.ramp == 0)))
        self.apply()

    def on_train_batch_end(self, batch, logs=None):
        self.step += 1
        if self.step <= self.ramp and (self.step % self.every == 0 or self.step == self.ramp):
            self.put(self.masks_at(1 - (1 - self.step / self.ramp) ** 3))
        self.apply()


class Bounding(Callback):
    """Keeps |w| below a bound: clips each variable to it after each step of the optimizer.

    Args:
      bounded: variables of any float dtype, each with its bound.
    """

    def __init__(self, bounded: Sequence[tuple[Any, float]]):
        super().__init__()
        self.bounded = list(bounded)
        self.apply = tf.function(self._apply, autograph=False)

    def _apply(self) -> None:
        for variable, bound in self.bounded:
            variable.assign(tf.clip_by_value(variable, -bound, bound))

    def on_train_batch_end(self, batch, logs=None):
        self.apply()


class Sharing(Callback):
    """Keeps weights shared: after each step each weight is again the centroid nearest to where its own gradients have taken it.

    Behind each kernel stands a latent one, to which every change that the optimizer makes of a weight is added (the straight-through
    estimator). The latent weights decide which centroid is the nearest, and a centroid is the mean of those that are nearest to it.
    """

    def __init__(self, kernels: Sequence[Shared]):
        super().__init__()
        self.kernels = list(kernels)
        self.tied = [kernel.variable for kernel in self.kernels]  # whose averages (Fit.ema) are to share values, too
        self.state = [variable for kernel in self.kernels for variable in (kernel.latent, kernel.centroids)]  # kept over an interruption
        self.step = tf.function(self._step, autograph=False)  # one call a step instead of twenty for each kernel

    def on_train_begin(self, logs=None):
        for kernel in self.kernels:
            kernel.shared.assign(kernel.values())  # after an interruption they are other ones

    def on_train_batch_end(self, batch, logs=None):
        self.step()

    def _step(self) -> None:
        for kernel in self.kernels:
            kernel.step()


class Shared:
    """One kernel whose weights share values, in rows: one row of all its weights, or one an output channel, each with its own centroids.

    Args:
      variable: the kernel; it gets the shared values at once.
      order: its axes, those of the rows first.
      rows: how many.
      centroids: (rows, k) float32, sorted; a row with fewer repeats its last.

    Weights that are zero stay zero, and are near to no centroid.
    """

    def __init__(self, variable: Any, order: Sequence[int], rows: int, centroids: np.ndarray):
        self.variable, self.order, self.rows = variable, tuple(order), rows
        before = self.values()
        self.mask = tf.cast(before != 0, tf.float32)
        self.latent, self.shared, self.centroids = (tf.Variable(value, trainable=False) for value in (before, before, centroids))
        self.step()

    def values(self) -> Any:
        """The kernel's weights as rows."""
        return tf.reshape(tf.transpose(tf.cast(tf.convert_to_tensor(self.variable), tf.float32), self.order), (self.rows, -1))

    def step(self) -> None:
        latent = self.latent + (self.values() - self.shared) * self.mask
        centroids, shared = _nearest(latent, tf.convert_to_tensor(self.centroids), self.mask)
        for variable, value in ((self.latent, latent), (self.centroids, centroids), (self.shared, shared)):
            variable.assign(value)
        shape = [self.variable.shape[axis] for axis in self.order]
        self.variable.assign(tf.cast(tf.transpose(tf.reshape(shared, shape), np.argsort(self.order)), self.variable.dtype))


def _nearest(latent: Any, centroids: Any, mask: Any) -> tuple[Any, Any]:
    """The centroids as the means of the latent weights nearest to them, and these means in the places of the weights."""
    rows, count = centroids.shape
    nearest = tf.searchsorted((centroids[:, 1:] + centroids[:, :-1]) / 2, latent) + count * tf.range(rows)[:, None]
    old = tf.reshape(centroids, [-1])
    # As the old centroid and the mean difference from it: a sum of a million float32 weights of one sign would lose digits.
    differences = tf.math.unsorted_segment_sum((latent - tf.gather(old, nearest)) * mask, nearest, rows * count)
    means = old + differences / tf.maximum(tf.math.unsorted_segment_sum(mask, nearest, rows * count), 1.0)
    return tf.reshape(means, (rows, count)), tf.gather(means, nearest) * mask
