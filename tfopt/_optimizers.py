"""Keras's optimizers by name, and what they do to kernels only."""

from __future__ import annotations

from typing import Any

from . import _schedules, backend
from .surgery import kernels
from .types import Fit


def optimizer(fit: Fit, steps: int, model: Any) -> Any:
    """The optimizer of a fit of so many steps an epoch, not built yet.

    It is one of Keras's own, which a saved model can be loaded with anywhere.
    """
    optimizers = backend.keras().optimizers
    settings = {"learning_rate": _schedules.for_optimizer(fit, steps), "global_clipnorm": fit.clip_norm, "clipvalue": fit.clip_value}
    if fit.weight_decay is not None or fit.optimizer != "adamw":  # which has a default of its own
        settings["weight_decay"] = fit.weight_decay
    made = {
        "adam": optimizers.Adam,
        "adamw": optimizers.AdamW,
        "sgd": lambda **given: optimizers.SGD(momentum=fit.momentum, nesterov=True, **given),
        "rmsprop": optimizers.RMSprop,
        "nadam": optimizers.Nadam,
        "adagrad": optimizers.Adagrad,
        "lion": optimizers.Lion,
    }[fit.optimizer](**settings)
    kept = {id(kernel.variable) for kernel in kernels.of_all(model.layers)}
    made.exclude_from_weight_decay(var_list=[variable for variable in model.trainable_variables if id(variable) not in kept])
    return made


def unlisted_state(made: Any) -> list[Any]:
    """The variables of a built optimizer that Keras leaves out of its `variables`, made right where they are not: Nadam's running product.

    Nadam multiplies it once a step, at the first variable, which it knows by a counter in Python. In a graph that stands still: there it is
    multiplied for every variable (0.0027 instead of 0.227 after two steps of four), and a second replica may divide by 0 in the first.
    """
    if not hasattr(made, "_u_product"):
        return []
    made._u_product_counter = _Counter()
    return [made._u_product, made._u_product_counter.variable]


class _Counter:
    """A whole number that counts in a graph, too; as Nadam counts, from 1."""

    def __init__(self):
        self.variable = backend.tensorflow().Variable(1, dtype="int64", trainable=False)

    def __eq__(self, other: Any) -> Any:
        return backend.tensorflow().equal(self.variable, other)

    __hash__ = None

    def __iadd__(self, more: int) -> _Counter:
        self.variable.assign_add(more)
        return self
