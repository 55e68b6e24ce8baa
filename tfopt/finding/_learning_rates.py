"""The learning rate range test of Smith 2015 (arXiv:1506.01186): which rates make the loss fall, seen in one short training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from .. import _pictures, options
from ..errors import OptionError
from ..types import Data, Fit
from . import _showing, _trials

SMOOTHING = 0.9  # of the average: about the last ten steps count
TOO_LARGE = 4  # times the smallest loss: the test ends there
_FALLEN = 0.95  # of the loss's whole fall
_BEFORE = 10  # an order of magnitude
_ALL_MADE = "all steps were made"
_CLEAR = 2  # standard deviations between batches, by which the loss has to fall, or its fall may be noise

Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]


@dataclass(frozen=True)
class LearningRates(_showing.Plotted):
    """What a range test saw.

    Attributes:
      rates: of each step that was made, rising.
      losses: of each step's batch, in front of the step.
      smoothed: their exponential average.
      suggested: a tenth of the lowest rate at which the smoothed loss had made 95 % of its fall; None where it did not fall clearly.
      ended: why the test ended, as half a sentence.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]
    suggested: float | None
    ended: str

    def __str__(self) -> str:
        seen = f"rates {self.rates[0]:.2g} to {self.rates[-1]:.2g}: {self.ended}"
        if self.suggested is None:
            return f"no learning rate suggested: the loss fell clearly at none of the {seen}"
        hint = "; at the end it was still falling: try a larger highest" if self._still_falling else ""
        return f"learning rate {self.suggested:.2g} suggested; {seen}, the smallest smoothed loss was {min(self.smoothed):.3g}{hint}"

    @property
    def _still_falling(self) -> bool:
        return self.ended == _ALL_MADE and self.suggested * _BEFORE > 0.7 * self.rates[-1]

    def plot(self) -> Any:
        """The losses against the rates, as a matplotlib Figure, made without pyplot; a notebook shows it."""
        figure = _pictures.figure(6, 3.6, layout="constrained")
        axes = _showing.axes_of(figure, "learning rate", "loss")
        axes.set_xscale("log")
        axes.plot(self.rates, self.losses, color="tab:blue", alpha=0.35, linewidth=1, label="of each batch")
        axes.plot(self.rates, self.smoothed, color="tab:blue", linewidth=1.8, label="smoothed")
        if self.suggested is not None:
            axes.axvline(self.suggested, color="tab:orange", linestyle="--", label=f"suggested: {self.suggested:.2g}")
        low, high = min(*self.losses, *self.smoothed), max(self.smoothed)  # single batches may be far above
        margin = 0.05 * (high - low) or 1.0
        axes.set_ylim(low - margin, high + margin)
        axes.legend(frameon=False)
        return figure


@options.checked
def lr_find(
    model: Any,
    data: Data,
    fit: Fit = Fit(),  # noqa: B008 - it is frozen
    *,
    lowest: Rate = 1e-6,
    highest: Rate = 1.0,
    steps: Annotated[int, Field(ge=20)] = 100,
) -> LearningRates:
    """Trains a copy of the model for some steps, each at a higher learning rate than the one before, and suggests a rate.

    It ends early where the smoothed loss is 4 times its minimum, or a loss is no number. The loss is the task's. Optimizer, batch size,
    regularization and seed are the fit's, whose epochs, schedule and learning rate play no part.

    Smith reads two rates off the plot: where the loss begins to fall, and where it gets ragged. The suggestion is Gugger's, an order of
    magnitude before the minimum (https://sgugger.github.io/how-do-you-find-a-good-learning-rate.html); but since the bottom of a curve
    is flat, and noise decides where on it the least loss lies, before the place where 95 % of the fall are done.

    Args:
      model: a tf_keras or Keras 3 model, trained or not; it stays as it is.
      data: its training examples are used.
      fit: how the model will be trained.
      lowest, highest: the rates of the first and the last step; those between rise by the same factor each.
      steps: how many.

    Raises:
      OptionError: an option out of range, or the loss is no number from the start.
      DataError, UnsupportedModel, BridgeError: as `train`.

    >>> found = tfopt.lr_find(model, data, Fit(batch_size=32))
    >>> print(found)
    >>> found.save("runs/rates.png")
    >>> model = tfopt.train(model, data, Fit(batch_size=32, learning_rate=found.suggested))
    """
    if lowest >= highest:
        raise OptionError(f"lr_find: lowest = {lowest}, highest = {highest}: the first should be below the second")
    losses: list[float] = []
    smoothed: list[float] = []
    rates, ended = np.geomspace(lowest, highest, steps).tolist(), _ALL_MADE
    with _trials.trial(model, data, fit) as it:
        batches = it.batches()
        for rate in rates:
            it.model.optimizer.learning_rate = rate
            loss = it.steps(batches)
            if not math.isfinite(loss):
                ended = f"at {rate:.2g} the loss was {loss}"
                break
            losses.append(loss)
            smoothed.append(_averaged(losses))
            if smoothed[-1] > TOO_LARGE * min(smoothed) > 0:
                ended = f"the loss was {TOO_LARGE} times its minimum"
                break
    if not losses:
        raise OptionError(f"lr_find: the loss is {loss} before the first step; are the data's numbers very large? See tfopt.describe(data)")
    rates = rates[: len(losses)]
    return LearningRates(tuple(rates), tuple(losses), tuple(smoothed), suggestion(rates, losses, smoothed), ended)


def _averaged(losses: Sequence[float]) -> float:
    """The exponential average of a sequence, at its end; corrected for its start (Kingma & Ba 2015, arXiv:1412.6980, section 3)."""
    weights = SMOOTHING ** np.arange(len(losses))[::-1]
    return float(np.dot(weights, losses) / weights.sum())


def suggestion(rates: Sequence[float], losses: Sequence[float], smoothed: Sequence[float]) -> float | None:
    """The rate that a test suggests; see `LearningRates.suggested`."""
    if len(losses) < 3:
        return None
    first, least = max(2, len(losses) // 10), int(np.argmin(smoothed))
    start = float(np.mean(losses[:first]))
    fall, noise = start - smoothed[least], float(np.std(np.diff(losses[: max(first, least) + 1]))) / math.sqrt(2)
    if not fall > _CLEAR * noise:
        return None
    reached = next(at for at, value in enumerate(smoothed) if value <= start - _FALLEN * fall)
    return rates[reached] / _BEFORE
