"""The training step, where a fit asks for what Keras's own step does not do: penalties on kernels, and batches in parts."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from . import backend
from .surgery import kernels
from .types import Fit


@contextlib.contextmanager
def own_step(model: Any, fit: Fit, lesson: Any = None) -> Iterator[None]:
    """Inside, a compiled model's `fit` trains by the fit's `l1`, `l2` and `accumulate`, and by a teacher's `lesson`.

    Afterwards it is a plain Keras model again.
    """
    names = {}
    if fit.accumulate > 1:
        names["make_train_function"] = _Parts(model, fit, lesson).make
    elif fit.l1 or fit.l2 or lesson is not None:
        names["train_step"] = _Step(model, fit, lesson).whole
    for name, function in names.items():
        setattr(model, name, function)
    try:
        yield
    finally:
        for name in names:
            delattr(model, name)
            model.train_function = None  # made of ours


class _Step:
    """A step of gradients that get the penalties' derivatives before the optimizer clips and applies them."""

    def __init__(self, model: Any, fit: Fit, lesson: Any):
        self.model, self.fit, self.lesson = model, fit, lesson
        self.kernels = {id(kernel.variable) for kernel in kernels.of_all(model.layers)}
        self.variables = [*model.trainable_variables, *(lesson.variables if lesson is not None else ())]

    def whole(self, data: Any) -> Any:
        """In place of `Model.train_step`."""
        gradients, metrics = self.gradients(data)
        self.apply(gradients)
        return metrics

    def gradients(self, data: Any) -> tuple[list[tuple[Any, Any]], Any]:
        """(gradient, variable) pairs of the loss, in which None stands for a variable that it does not depend on; and the metrics."""
        model, lesson, tf = self.model, self.lesson, backend.tensorflow()
        data, wanted = (data, None) if lesson is None else lesson.opened(data)
        x, y, weights = backend.keras().utils.unpack_x_y_sample_weight(data)
        with tf.GradientTape() as tape:
            outputs, maps = (model(x, training=True), []) if lesson is None else lesson.answered(x)
            loss = model.compute_loss(x, y, outputs, weights)
            if lesson is not None:
                loss = lesson.loss(loss, wanted, outputs, maps)
        pairs = model.optimizer.compute_gradients(loss, self.variables, tape=tape)
        return list(pairs), model.compute_metrics(x, y, outputs, weights)

    def apply(self, pairs: Sequence[tuple[Any, Any]]) -> None:
        """Lets the optimizer do one step by these gradients of a replica's loss, which it adds up over the replicas."""
        self.model.optimizer.apply_gradients([(self._penalized(gradient, variable), variable) for gradient, variable in pairs])

    def _penalized(self, gradient: Any, variable: Any) -> Any:
        if gradient is None or id(variable) not in self.kernels or not (self.fit.l1 or self.fit.l2):
            return gradient
        tf = backend.tensorflow()
        value, share = tf.convert_to_tensor(variable), 1 / self.model.distribute_strategy.num_replicas_in_sync
        return tf.convert_to_tensor(gradient) + share * (self.fit.l1 * tf.sign(value) + 2 * self.fit.l2 * value)


class _Parts(_Step):
    """A step of a batch that goes through the model in parts.

    Each part is a call of its own from Python, so that the memory of one is free before the next begins: in one graph TensorFlow would be
    at liberty to compute all at once.
    """

    def __init__(self, model: Any, fit: Fit, lesson: Any):
        super().__init__(model, fit, lesson)
        tf = backend.tensorflow()
        with model.distribute_strategy.scope():
            self.sums = {
                id(variable): tf.Variable(
                    tf.zeros(variable.shape, variable.dtype), trainable=False, synchronization=tf.VariableSynchronization.ON_READ
                )
                for variable in self.variables
            }

    def make(self, force: bool = False) -> Callable[[Any], Any]:
        """In place of `Model.make_train_function`, which a technique calls to have a step traced anew."""
        tf, model = backend.tensorflow(), self.model
        strategy = model.distribute_strategy

        def part(data: Any, number: Any, count: Any) -> None:
            strategy.run(self._part, args=(data, number, count))

        def apply() -> Any:
            strategy.run(self._apply)
            model._train_counter.assign_add(1)
            return model.get_metrics_result()

        part, apply = tf.function(part, reduce_retracing=True), tf.function(apply)

        def step(iterator: Any) -> Any:
            data = next(iterator)
            count = min(self.fit.accumulate, *(len(one) for one in strategy.experimental_local_results(tf.nest.flatten(data)[0])))
            for number in range(count):
                part(data, tf.constant(number), tf.constant(count))
            return apply()

        model.train_function, model.train_tf_function = step, part
        return step

    def _part(self, data: Any, number: Any, count: Any) -> None:
        """Adds the gradients of one of `count` parts of a replica's examples; notes which variables have some."""
        tf = backend.tensorflow()
        size = tf.shape(tf.nest.flatten(data)[0])[0]
        first, last = number * size // count, (number + 1) * size // count
        pairs, _ = self.gradients(tf.nest.map_structure(lambda one: one[first:last], data))
        self.reached = [variable for gradient, variable in pairs if gradient is not None]
        for gradient, variable in pairs:
            if gradient is not None:
                share = tf.cast((last - first) / size, gradient.dtype)
                self.sums[id(variable)].assign_add(share * tf.convert_to_tensor(gradient))

    def _apply(self) -> None:
        tf = backend.tensorflow()
        self.apply([(tf.identity(self.sums[id(variable)]), variable) for variable in self.reached])
        for variable in self.reached:
            self.sums[id(variable)].assign(tf.zeros(variable.shape, variable.dtype))
