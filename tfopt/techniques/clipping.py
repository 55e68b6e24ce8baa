"""Range clipping: the few weights of a kernel that stand far out are brought back to a bound, which narrows the range that int8 divides.

Each weight w of a kernel becomes

    min(max(w, -b), b)

for a bound b: a number, so many standard deviations of the kernel, or a percentile of its |w|. Of int8's 255 steps over [-b, b] each is
then smaller, and all other weights are rounded less; what is paid is the error of those that were cut. With a fit the bound is laid over
the weights after each step, as a projection onto [-b, b], and the others learn to make up for it.

Zeros tell nothing of how large weights are, so those of a pruned kernel are not counted. Biases have 32 bits in an int8 file, and
BatchNorm's numbers go into the kernels: both are left alone.

What outliers do: Jacob et al. 2018 (arXiv:1712.05877), section 3; clipping for it: Banner et al. 2019 (arXiv:1810.05723).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from .. import bridge, options, tasks
from ..errors import OptionError, UnsupportedModel
from ..surgery import copying, kernels
from ..surgery.kernels import Kernel
from ..surgery.selecting import Where, selector
from ..teaching import Teacher, teaching_by
from ..tracing import record_plan
from ..types import Choice, Data, Fit
from ._choosing import left_alone, only_one
from ._keeping import fit_keeping

PERCENTILE = 99.9  # where nothing else is asked for: one weight in a thousand of each kernel
Percentile = Annotated[float, Field(gt=0, le=100)] | None
Amount = Annotated[float, Field(gt=0)] | None


def plan(
    model: Any, *, percentile: Percentile = None, limit: Amount = None, std: Amount = None, where: Where = None, **_: Any
) -> tuple[Choice, ...]:
    """Which layers `clip_weights` will treat: those with a kernel that `where` names; how many of their weights are beyond the bound."""
    return tuple(choice for choice, _ in _planned(copying.all_layers(bridge.plain(model)), percentile, limit, std, where))


@options.checked
def clip_weights(
    model: Any,
    data: Data | None = None,
    *,
    percentile: Percentile = None,
    limit: Amount = None,
    std: Amount = None,
    where: Where = None,
    teacher: Teacher = None,
    fit: Fit | None = None,
) -> Any:
    """A copy of the model in whose kernels no |w| is larger than a bound.

    Args:
      model: a plain tf_keras model, or a Keras 3 model.
      data: to train on; may be left out without a fit.
      percentile: the bound of each kernel is that percentile of its |w|, above 0 and at most 100; 99.9 where no bound is named.
      limit: or this number, above 0, the same for all kernels; infinity bounds nothing.
      std: or so many standard deviations of the kernel, which are counted from 0.
      where: which layers: a name pattern, a class name, a list of them, or a predicate on the layer; None for all with a kernel.
      teacher: who gives soft targets beside the labels while it trains: "self", the model as it comes in; a path, a model, or several of
        them; in a recipe also "trained". See `distill`.
      fit: how to train meanwhile; None clips and trains nothing.

    Returns:
      A plain tf_keras model of the same layers.

    Raises:
      OptionError: a value out of range, two bounds, or a `where` that fits no layer.
      UnsupportedModel: a model with no kernel that could be clipped, or whose layers can't be seen.
      DataError: a fit without data, or a model that does not fit it.

    >>> narrow = clip_weights(model, std=4)
    >>> narrow = clip_weights(model, data, percentile=99.5, fit=Fit(epochs=4, learning_rate=1e-4))
    """
    if problem := contradiction(percentile=percentile, limit=limit, std=std):
        raise OptionError(f"clip_weights: {problem}")
    model = copying.copy_of(model)
    if fit is not None:
        tasks.check_fits(model, data)
    planned = _planned(copying.all_layers(model), percentile, limit, std, where)
    choices = tuple(choice for choice, _ in planned)
    record_plan("clip_weights", choices)
    bounds = {id(kernel.variable): (kernel, bound) for _, bounded in planned for kernel, bound in bounded}
    if not bounds:
        raise UnsupportedModel.of("clip_weights", model, choices)
    teaching = teaching_by(teacher, model, fit)
    for kernel, bound in bounds.values():
        kernel.variable.assign(np.clip(kernel.variable.numpy(), -bound, bound))
    if fit is not None:
        from . import _tf_weights

        # What earlier steps have left is kept first: a bound laid over zeros and shared values leaves them so.
        bounding = _tf_weights.Bounding([(kernel.variable, bound) for kernel, bound in bounds.values()])
        fit_keeping(model, data, fit, name="clip_weights", teaching=teaching, callbacks=[bounding])
    return model


def contradiction(*, percentile: Percentile = None, limit: Amount = None, std: Amount = None, **_: Any) -> str | None:
    """What bounds contradict each other, as a sentence that begins with one; None where none do."""
    return only_one({"percentile": percentile, "limit": limit, "std": std}, "bound")


Bounded = list[tuple[Kernel, float]]


def _planned(
    layers: Sequence[tuple[str, Any]], percentile: Percentile, limit: Amount, std: Amount, where: Where
) -> list[tuple[Choice, Bounded]]:
    """For each layer the choice, and its kernels with their bounds."""
    chosen = selector(where, layers)

    def planned(name: str, layer: Any) -> tuple[Choice, Bounded]:
        found = kernels.kernels_of(layer)
        if reason := left_alone(name, layer, found, chosen):
            return Choice(name, False, reason), []
        sizes = [np.abs(kernel.matrix()) for kernel in found]
        bounds = [_bound(each, percentile, limit, std) for each in sizes]
        told = [_told(kernel.name, each, bound) for kernel, each, bound in zip(found, sizes, bounds, strict=True)]
        return Choice(name, True, "; ".join(told)), list(zip(found, bounds, strict=True))

    return [planned(name, layer) for name, layer in layers]


def _bound(sizes: np.ndarray, percentile: Percentile, limit: Amount, std: Amount) -> float:
    """The largest |w| that a kernel of these |w| may have."""
    if limit is not None:
        return limit
    counted = sizes[sizes > 0].astype("float64")
    if not counted.size:
        return math.inf
    return std * math.sqrt(np.mean(counted**2)) if std is not None else float(np.percentile(counted, percentile or PERCENTILE))


def _told(name: str, sizes: np.ndarray, bound: float) -> str:
    return f"{name}: |w| at most {bound:.3g}, {np.count_nonzero(sizes > bound):,} of {sizes.size:,} weights are beyond"
