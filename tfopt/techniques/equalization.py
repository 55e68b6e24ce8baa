"""Cross-layer equalization: channels of like ranges, for int8 without training.

Where one channel of a kernel is a hundred times as large as another, one scale for both leaves little of the small one. But with a ReLU
or nothing in between, a channel's weights can be multiplied by s and what reads it divided by s, and no prediction changes. With r1 and r2
the ranges of channel i in the two layers,

    s_i = sqrt(r2_i / r1_i)

makes both sqrt(r1_i r2_i), which is best for the two together; over a net it is repeated until nothing changes. It is made for nets of
depthwise convolutions, in whose few weights a channel's range is mostly its BatchNorm's doing. BatchNorms are folded first, so the model
that comes back has them no more; nested models are laid open.

With `bias_correction`, what the rounding of weights will add to each output on average is taken off its bias. For a kernel W and its int8
values Q(W),

    b' = b - E[(Q(W) - W) x],

the mean taken over calibration examples. That alone changes what the float model says.

Nagel, van Baalen, Blankevoort & Welling 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction" (arXiv:1906.04721).
The paper's absorption of high biases is left out, since it changes float predictions.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import bridge, options, tasks
from ..errors import DataError, UnsupportedModel
from ..surgery import Fate, Followed, copying, folding, kernels, operators, precision, rewriting
from ..surgery.factors import Factors
from ..surgery.ties import FIXED
from ..teaching import Teacher, teaching_by
from ..tracing import record_plan
from ..types import Choice, Data, Fit
from . import _correcting, _sharing
from ._keeping import fit_keeping
from ._ranges import equalizing


def plan(model: Any, **_: Any) -> tuple[Choice, ...]:
    """Which layers `equalize` will treat: those that make or read channels that get a factor, or take in a BatchNorm; why others not."""
    model = bridge.plain(model)
    copying.check_supported(model)
    ready, fates = _folded(model)
    return _choices(model, fates, _factors(ready))


@options.checked
def equalize(
    model: Any,
    data: Data | None = None,
    *,
    bias_correction: bool = False,
    teacher: Teacher = None,
    fit: Fit | None = None,
) -> Any:
    """A copy of the model without BatchNorms, in which the weights that make a channel and those that read it have the same range.

    Args:
      model: a plain tf_keras model, or a Keras 3 model.
      data: whose calibration examples bias correction needs, and to train on; may be left out without either.
      bias_correction: whether biases make up for the rounding of the kernels to int8, one scale an output channel. No prediction changes
        without it, in float; with it they do, by about what int8's weights would change on average, the other way round.
      teacher: who gives soft targets beside the labels while it trains: "self", the model as it comes in; a path, a model, or several of
        them; in a recipe also "trained". See `distill`.
      fit: how to train afterwards; None trains nothing.

    Returns:
      A plain tf_keras model with BatchNorms folded, where that can be, and nested models laid open.

    Raises:
      OptionError: a value out of range.
      DataError: bias correction or a fit without data, or a model that does not fit it.
      UnsupportedModel: a model in which nothing can be equalized or folded, or whose layers can't be seen.

    >>> even = equalize(model)
    >>> int8 = convert(even, "int8", data=data)
    """
    model = copying.copy_of(model)
    if bias_correction and data is None:
        raise DataError("equalize: bias_correction needs data: what a layer is given is measured on its calibration examples")
    if data is not None or fit is not None:
        tasks.check_fits(model, data)
    teaching = teaching_by(teacher, model, fit)
    ready, fates = _folded(model)
    factors = _factors(ready)
    choices = _choices(model, fates, factors)
    record_plan("equalize", choices)
    if not any(choice.treated for choice in choices):
        raise UnsupportedModel.of("equalize", model, choices)
    factors.multiply(equalizing(factors))
    if bias_correction:
        _correcting.correct(ready, data)
    ready = _as_precise_as(model, ready, fates)
    if fit is not None:
        fit_keeping(ready, data, fit, name="equalize", teaching=teaching)
    return ready


def _folded(model: Any) -> tuple[Any, dict[str, Fate]]:
    """The model laid open, in float32, operations as layers and BatchNorms in the layers before them; and what became of each layer."""
    followed = Followed(model)
    followed.then(rewriting.flattened)
    followed.model = precision.in_float32(followed.model)
    followed.then(operators.as_layers)
    followed.then(folding.folded_back, lambda before, after: rewriting.kind(after) in folding.BATCH_NORMS)
    return followed.model, followed.fates


def _as_precise_as(model: Any, ready: Any, fates: dict[str, Fate]) -> Any:
    """The model that is ready, each layer computing in the precision of the one that it stands for."""
    layers = dict(copying.all_layers(model))
    policies = {name: layers[path].dtype_policy.name for path, fate in fates.items() if not fate.merged for name in fate.layers}
    if {layer.dtype_policy.name for layer in layers.values()} == {"float32"}:
        return ready
    new = rewriting.rebuilt(ready, lambda layer: rewriting.twin(layer, dtype=policies[layer.name]))
    new._set_dtype_policy(model.dtype_policy)
    return new


def _factors(model: Any) -> Factors:
    """Where factors can go in a model that is ready; shared values, which a factor for each input would pull apart, stay."""
    factors = Factors(model)
    for kernel in kernels.of_all(model.layers):
        if (place := factors.places.get(id(kernel.variable))) and _sharing.found_in(kernel):
            factors.keep(place.reads.ravel(), f"the weights of {place.layer.name} share values")
    return factors


def _choices(model: Any, fates: dict[str, Fate], factors: Factors) -> tuple[Choice, ...]:
    """A choice for each layer of the model, from those for the layers that do its work in the one that is ready."""
    free, places = factors.free(), {}
    for place in factors.places.values():
        if place.variable.shape.rank > 1:
            places.setdefault(place.layer.name, []).append(place)
    takes_in = {name: path for path, fate in fates.items() if fate.merged for name in fate.layers}

    def choice(path: str, layer: Any) -> Choice:
        fate = fates[path]
        if fate.merged:
            return Choice(path, True, fate.reasons[-1])
        found = [place for name in fate.layers for place in places.get(name, ())]
        if not found:
            missing = "kernel that a factor could go into" if layer.weights else "weights"
            return Choice(path, False, f"{type(layer).__name__} has no {missing}")
        sides = [(side, ids) for side, ids in (("outputs", found[-1].makes), ("inputs", found[0].reads)) if (ids != FIXED).any()]
        told = [f"takes in {takes_in[name]}" for name in fate.layers if name in takes_in]
        treated = bool(told) or any(free[factors.of(ids)].any() for _, ids in sides)
        return Choice(path, treated, "; ".join([*told, *(_told(side, ids, free, factors) for side, ids in sides)]))

    return tuple(choice(path, layer) for path, layer in copying.all_layers(model))


def _told(side: str, ids: np.ndarray, free: np.ndarray, factors: Factors) -> str:
    """What becomes of the channels on one side of a kernel."""
    numbers = np.unique(factors.of(ids[ids != FIXED]))
    stay = numbers[~free[numbers]]
    if not len(stay):
        return f"{side} scaled"
    reason = f"stay: {factors.kept(stay[0])}"
    return f"{side} {reason}" if len(stay) == len(numbers) else f"{side} scaled, {len(stay)} of them {reason}"
