"""What a loss compares outputs with: y as the task, label smoothing and class weights make it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from . import backend, pipelines, tasks
from .errors import DataError, OptionError, nearest
from .types import Data, Fit

WEIGHED = ("classification", "segmentation")  # tasks of classes that exclude each other


class Targets:
    """The targets of a fit.

    Attributes:
      soft: whether the loss is given shares of the classes, because labels are such (mixup), to smooth them, or for a loss such as
        categorical_focal_crossentropy.
    """

    def __init__(self, model: Any, data: Data, fit: Fit):
        self.data, self.task, self._smoothing = data, tasks.of(data), fit.label_smoothing
        # A start behind the last epoch tells the labels' form without making a batch.
        spec = pipelines.training_batches(data, fit, fit.epochs).element_spec[1]
        several = data.task in WEIGHED and tuple(model.outputs[0].shape)[1:] != (1,)
        self._are_shares = data.task == "classification" and spec.dtype.is_floating
        of_shares = isinstance(data.loss, str) and not data.loss.startswith("sparse_")
        self.soft = self._are_shares or (several and (fit.label_smoothing > 0 or of_shares))
        self._weights = _weights(data, fit)

    def of_training(self, batches: Any) -> Any:
        """Batches (x, y) as (x, targets), or (x, targets, weights) with class weights."""
        return self._of(batches, self._weights, are_shares=self._are_shares)

    def of_validation(self, batches: Any) -> Any:
        """The same without weights: what is validated is what counts later."""
        return self._of(batches, None, are_shares=False)

    def _of(self, batches: Any, weights: np.ndarray | None, *, are_shares: bool) -> Any:
        tf = backend.tensorflow()
        if weights is None and self.soft == are_shares and type(self.task).target is tasks.Task.target:
            return batches

        def change(x: Any, y: Any) -> tuple[Any, ...]:
            target = self.task.target(x, y)
            if self.soft and not are_shares:
                target = tf.one_hot(tf.cast(target, tf.int32), self.data.num_classes)
            smoothed = self.task.smoothed(target, self._smoothing) if self.soft else target
            if weights is None:
                return x, smoothed
            own = tf.linalg.matvec(target, weights) if self.soft else tf.gather(weights, tf.maximum(tf.cast(y, tf.int32), 0))
            return x, smoothed, own

        return batches.map(tf.autograph.experimental.do_not_convert(change), num_parallel_calls=tf.data.AUTOTUNE)


def _weights(data: Data, fit: Fit) -> np.ndarray | None:
    """(classes,) float32

    Raises:
      DataError: the data has no classes to weigh, or a class without a training example. OptionError: there is no such class.
    """
    if fit.class_weights is None:
        return None
    if data.task not in WEIGHED:
        raise DataError(f"fit.class_weights: data {data.name!r} is for {data.task}; only classes that exclude each other have weights")
    if isinstance(fit.class_weights, Mapping):
        if unknown := [name for name in fit.class_weights if name not in data.classes]:
            raise OptionError(f"fit.class_weights: {data.name!r} has no class {unknown[0]!r}; {nearest(unknown[0], data.classes)}")
        return np.array([fit.class_weights.get(name, 1.0) for name in data.classes], np.float32)
    labels = pipelines.labels(data.train)
    counts = np.bincount(labels[labels >= 0], minlength=data.num_classes)  # a pixel of a mask may be void
    if not counts.all():
        lacking = data.classes[int(counts.argmin())]
        raise DataError(f"fit.class_weights: data {data.name!r} has no training example of {lacking!r}; give weights by name")
    return (len(data.classes) * counts / counts.sum()).astype(np.float32) ** -1
