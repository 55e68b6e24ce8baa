"""The callbacks of a fit: ours in their order, and the user's, checked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import _schedules, backend
from .errors import OptionError
from .surgery import kernels
from .types import Fit


def of_fit(model: Any, fit: Fit, steps: int, name: str, techniques: Sequence[Any]) -> list[Any]:
    """What a fit asks for, around the callbacks of a technique.

    The order is that of their effects on the weights after a step: bounded first, then what a technique makes of them, then averaged.
    """
    from . import _tf_averaging, _tf_events, _tf_norms, _tf_rates

    callbacks = list(techniques)
    if fit.max_norm is not None:
        trained = {id(variable) for variable in model.trainable_variables}
        bounded = [kernel for kernel in kernels.of_all(model.layers) if id(kernel.variable) in trained]
        callbacks.insert(0, _tf_norms.MaxNorm(bounded, fit.max_norm))
    if fit.ema is not None:
        average = _tf_averaging.Average(model, fit.ema, [kernel for one in techniques for kernel in getattr(one, "tied", ())])
        callbacks = [average, *callbacks, average.behind]
    if fit.schedule == "plateau":
        callbacks.append(_tf_rates.Plateau(_schedules.by_step(fit, steps), fit.decay, _schedules.patience(fit)))
    elif at := _schedules.by_step(fit, steps):
        callbacks.append(_tf_rates.Rate(at))
    if fit.tensorboard is not None:
        callbacks.append(_tf_events.Events(Path(fit.tensorboard) / name))
    return callbacks


def checked(callbacks: Any, fit: Fit) -> list[Any]:
    """The user's callbacks.

    Raises:
      OptionError: they are no list of tf_keras callbacks, or one would set a learning rate that the fit's schedule sets as well.
    """
    if not isinstance(callbacks, list | tuple):
        raise OptionError(f"callbacks: expected a list of tf_keras callbacks, got {type(callbacks).__name__}")
    known = backend.keras().callbacks
    for index, one in enumerate(callbacks):
        kind = type(one)
        if not isinstance(one, known.Callback):
            keras3 = any(parent.__module__.partition(".")[0] == "keras" for parent in kind.__mro__)
            told = "a callback of Keras 3, and models are trained with tf_keras" if keras3 else "no callback of tf_keras"
            raise OptionError(
                f"callbacks[{index}]: {kind.__name__} is {told}; take one of tf_keras.callbacks, or inherit from its Callback"
            )
        if isinstance(one, known.LearningRateScheduler | known.ReduceLROnPlateau) and (fit.schedule != "constant" or fit.warmup_epochs):
            raise OptionError(
                f"callbacks[{index}]: {kind.__name__} sets the learning rate, and so does the fit; "
                f"leave it out, or give Fit(schedule='constant') without a warm-up (here {fit.schedule!r})"
            )
    return list(callbacks)
