"""The learning rate at each step of a fit, by the name of its schedule.

Cosines are Keras's `CosineDecay`, which counts the optimizer's steps. For the others Keras has no schedule with a warm-up in front, and
none that looks at the validation loss: they are functions of the step, which a callback (`_tf_rates`) asks before each one. Both depend
on the number of steps done and on nothing else that is not saved, so an interrupted fit goes on with the rate that it would have had.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import backend
from .types import PLATEAU, Fit

_UP, _FIRST, _LAST = 0.3, 1 / 25, 1e-4  # of "one_cycle": the steps upwards, the first rate and the last one, as shares


def for_optimizer(fit: Fit, steps: int) -> Any:
    """The learning rate that the optimizer is made with: Keras's schedule, or the number that it has before anybody changes it.

    Args:
      steps: of an epoch.
    """
    cosine, total, warm = backend.keras().optimizers.schedules.CosineDecay, steps * fit.epochs, _warm_steps(fit, steps)
    if fit.schedule == "one_cycle":
        up = min(round(total * _UP), total - 1)
        return cosine(fit.learning_rate * _FIRST, total - up, alpha=_LAST, warmup_target=fit.learning_rate, warmup_steps=up)
    if fit.schedule == "cosine" and warm:
        return cosine(0.0, total - warm, warmup_target=fit.learning_rate, warmup_steps=warm)
    return cosine(fit.learning_rate, total) if fit.schedule == "cosine" else fit.learning_rate


def by_step(fit: Fit, steps: int) -> Callable[[int], float] | None:
    """The learning rate of a step, counted from 0, before any plateau; None where the optimizer knows it by itself.

    >>> [by_step(Fit(epochs=4, schedule="step", decay_epochs=2), steps=1)(step) for step in range(4)]
    [0.001, 0.001, 0.0001, 0.0001]
    """
    warm, every = _warm_steps(fit, steps), steps * (fit.decay_epochs or max(1, fit.epochs // 3))
    falling: dict[str, Callable[[int], float]] = {
        "step": lambda step: fit.decay ** (step // every),
        "exponential": lambda step: fit.decay ** (step / every),
        "plateau": lambda step: 1.0,
    }
    if warm:
        falling["constant"] = lambda step: 1.0
    if fit.schedule not in falling:
        return None
    return lambda step: fit.learning_rate * (step / warm if step < warm else falling[fit.schedule](step - warm))


def patience(fit: Fit) -> int:
    """How many epochs "plateau" waits for a smaller validation loss."""
    return fit.decay_epochs or PLATEAU


def _warm_steps(fit: Fit, steps: int) -> int:
    return min(round(fit.warmup_epochs * steps), fit.epochs * steps - 1)
