"""Magnitude pruning: the smallest weights of each kernel become zero, the others learn to do without them.

In each kernel the share `sparsity` of the weights with the smallest |w| is masked, one by one, in blocks, or m of every n in a row. With a
fit, the masks follow the weights while training goes on: the "polynomial" schedule raises the sparsity from zero to s during the first
half of the run's n steps,

    s_t = s (1 - (1 - t / (n/2))^3),    t = 0 ... n/2

and leaves the second half for recovery, with the masks fixed. The steps are the run's own, so that the sparsity that was asked for is
reached exactly, however short the run (TF-MOT's default, a mask every 100 steps, prunes nothing in a run of 50).

TF-MOT does this in a wrapper around each layer, which refuses Bidirectional, depthwise and custom layers and whatever is called with a
mask, counts a shared layer's step once a call, and raises in mixed precision. Here the masks are laid over the variables after each
step, and the layers stay as they are. Zeros make a file smaller once it is compressed; they make nothing faster on a CPU.

Zhu & Gupta 2017, "To prune, or not to prune" (arXiv:1710.01878); m of n: Mishra et al. 2021 (arXiv:2104.08378).
"""

from __future__ import annotations

import numbers
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import AfterValidator, Field

from .. import bridge, options, pipelines, tasks, training
from ..errors import OptionError, UnsupportedModel, shown
from ..surgery import copying, kernels
from ..surgery.selecting import Where, selector
from ..teaching import Teacher, Teaching, teaching_by
from ..tracing import record_plan
from ..types import Choice, Data, Fit
from ._choosing import DEPTHWISE, left_alone
from ._keeping import kept_beside
from ._patterns import Pattern, masks, pattern_of

Share = Annotated[float, Field(ge=0, lt=1)]
Sparsity = Share | Mapping[str, Share] | Callable[[Any], float | None] | None
Schedule = Literal["polynomial", "constant"]
Scope = Literal["layer", "global"]


def _checked_pattern(text: str) -> str:
    pattern_of(text)
    return text


Granularity = Annotated[str, AfterValidator(_checked_pattern), "'unstructured', a block such as '4x1', or m:n such as '2:4'"]


def plan(
    model: Any, *, sparsity: Sparsity = None, granularity: Granularity = "unstructured", where: Where = None, **_: Any
) -> tuple[Choice, ...]:
    """Which layers `prune` will treat: those with a kernel, that `where` and `sparsity` name and that the pattern fits."""
    layers = copying.all_layers(bridge.plain(model))
    return tuple(choice for choice, _, _ in _planned(layers, sparsity, pattern_of(granularity), where))


@options.checked
def prune(
    model: Any,
    data: Data | None = None,
    *,
    sparsity: Sparsity = None,
    schedule: Schedule = "polynomial",
    granularity: Granularity = "unstructured",
    scope: Scope = "layer",
    where: Where = None,
    teacher: Teacher = None,
    fit: Fit | None = None,
) -> Any:
    """A copy of the model in whose kernels the share `sparsity` of the weights is zero.

    Args:
      model: a plain tf_keras model, or a Keras 3 model.
      data: to train on; may be left out without a fit.
      sparsity: the share of zeros in each kernel, from 0 up to but not including 1; None for 0.5, or what an m:n pattern says. Or one for
        each layer: a dict from name patterns or class names (the first that fits counts) or, in Python, a function `layer -> share`;
        layers that it does not name (None) are left.
      schedule: "polynomial" raises it slowly (above); "constant" prunes before the first step.
      granularity: "unstructured": weights one by one; "4x1": blocks of 4 inputs x 1 output, by their mean |w|; "2:4": 2 zeros in each
        4 neighbouring input channels (m:n as TF-MOT counts, m zeros), from the first step on.
      scope: "layer": the share in each kernel; "global": one threshold for all of them, so that together they have it.
      where: which layers: a name pattern, a class name, a list of them, or a predicate on the layer; None for all but depthwise
        convolutions, whose few weights matter much.
      teacher: who gives soft targets beside the labels while it trains: "self", the model as it comes in; a path, a model, or several of
        them; in a recipe also "trained". See `distill`.
      fit: how to train meanwhile; None prunes at once and trains nothing.

    Returns:
      A plain tf_keras model of the same layers.

    Raises:
      OptionError: a value out of range, or a `where` or `sparsity` that names no layer.
      UnsupportedModel: a model with nothing that can be pruned, or whose layers can't be seen.
      DataError: a fit without data, or a model that does not fit it.

    >>> small = prune(model, data, sparsity=0.8, fit=Fit(epochs=4, learning_rate=1e-4))
    >>> small = prune(model, sparsity={"logits": 0.3, "conv*": 0.8})
    """
    if problem := contradiction(sparsity=sparsity, granularity=granularity, scope=scope):
        raise OptionError(f"prune: {problem}")
    pattern = pattern_of(granularity)
    model = copying.copy_of(model)
    if fit is not None:
        tasks.check_fits(model, data)
    layers = copying.all_layers(model)
    planned = _planned(layers, sparsity, pattern, where)
    choices = tuple(choice for choice, _, _ in planned)
    record_plan("prune", choices)
    share_of = {id(kernel.variable): (kernel, share) for (_, share, fitting) in planned for kernel in fitting}
    if not share_of:
        raise UnsupportedModel.of("prune", model, choices)
    treated = [kernel for kernel, _ in share_of.values()]
    shares = [share for _, share in share_of.values()]

    def masks_at(progress: float) -> list[np.ndarray]:
        """The kernels' masks where the sparsity is that part of what was asked for."""
        found = masks([kernel.matrix() for kernel in treated], [share * progress for share in shares], pattern, scope == "global")
        return [kernel.restored(mask) for kernel, mask in zip(treated, found, strict=True)]

    teaching = teaching_by(teacher, model, fit)
    if fit is not None:
        _train(model, data, treated, masks_at, schedule, fit, teaching)
    for kernel, mask in zip(treated, masks_at(1.0), strict=True):
        kernel.variable.assign(kernel.variable.numpy() * mask)
    return model


def _train(
    model: Any,
    data: Data,
    treated: Sequence[kernels.Kernel],
    masks_at: Callable[[float], list[np.ndarray]],
    schedule: str,
    fit: Fit,
    teaching: Teaching | None,
) -> None:
    from . import _tf_weights

    steps = pipelines.steps_per_epoch(data, fit)
    ramp = max(1, steps * fit.epochs // 2) if schedule == "polynomial" else 0
    callbacks = [_tf_weights.Pruning([kernel.variable for kernel in treated], masks_at, ramp)]
    callbacks += kept_beside(treated, kernels.of_all(model.layers))
    settled = ramp // max(1, steps)
    training.fit_in_place(model, data, fit, name="prune", callbacks=callbacks, settled=settled, teaching=teaching)


def contradiction(*, sparsity: Sparsity = None, granularity: str = "unstructured", scope: str = "layer", **_: Any) -> str | None:
    """What options contradict each other, as a sentence that begins with one; None where none do. Each alone is right."""
    pattern = pattern_of(granularity)
    if pattern.group and sparsity is not None and sparsity != pattern.zeros / pattern.group:
        fixed = pattern.zeros / pattern.group
        return (
            f"sparsity = {shown(sparsity)}: should be left out; granularity = {granularity!r} leaves no choice, its sparsity is {fixed:g}"
        )
    if scope == "global" and pattern.group:
        return f"scope = 'global': should be 'layer' where granularity = {granularity!r}; each group has zeros of its own"
    if scope == "global" and (isinstance(sparsity, Mapping) or callable(sparsity)):
        return "scope = 'global': shares one threshold between all layers; give one number as sparsity, and `where`"
    return None


Planned = tuple[Choice, float, list[kernels.Kernel]]


def _planned(layers: Sequence[tuple[str, Any]], sparsity: Sparsity, pattern: Pattern, where: Where) -> list[Planned]:
    """For each layer the choice, its share of zeros, and the kernels that get them."""
    chosen, share_of = selector(where, layers), _shares(sparsity, pattern, layers)
    named = where is not None or isinstance(sparsity, Mapping) or callable(sparsity)
    return [_choice(name, layer, chosen, share_of, pattern, named) for name, layer in layers]


def _choice(name: str, layer: Any, chosen: Callable, share_of: Callable, pattern: Pattern, named: bool) -> Planned:
    found = kernels.kernels_of(layer)
    if reason := left_alone(name, layer, found, chosen):
        return Choice(name, False, reason), 0.0, []
    share = share_of(name, layer)
    if share is None:
        return Choice(name, False, "not named by `sparsity`"), 0.0, []
    problems = {kernel.name: problem for kernel in found if (problem := _problem(kernel, pattern, named, share))}
    fitting = [kernel for kernel in found if kernel.name not in problems]
    reasons = [f"prunes {', '.join(kernel.name for kernel in fitting)}"] if fitting else []
    reasons += [f"not {kernel}: {problem}" for kernel, problem in problems.items()]
    return Choice(name, bool(fitting), "; ".join(reasons)), share, fitting


def _problem(kernel: kernels.Kernel, pattern: Pattern, named: bool, share: float) -> str | None:
    """Why a kernel is left as it is; None where it is pruned."""
    if kernel.depthwise and not named:
        return DEPTHWISE
    return pattern.problem(kernel.channels, (kernel.inputs, kernel.variable.shape.num_elements() // kernel.inputs), share)


def _shares(sparsity: Sparsity, pattern: Pattern, layers: Sequence[tuple[str, Any]]) -> Callable[[str, Any], float | None]:
    """A function `(name, layer) -> share of zeros`, None for layers that `sparsity` does not name."""
    if isinstance(sparsity, Mapping):
        named = [(selector(key, layers, "sparsity"), share) for key, share in sparsity.items()]
        return lambda name, layer: next((share for chosen, share in named if chosen(name, layer)), None)
    if callable(sparsity):
        return lambda name, layer: _checked_share(name, sparsity(layer))
    share = sparsity if sparsity is not None else pattern.zeros / pattern.group if pattern.group else 0.5
    return lambda name, layer: share


def _checked_share(name: str, share: Any) -> float | None:
    if share is not None and (isinstance(share, bool) or not isinstance(share, numbers.Real) or not 0 <= share < 1):
        raise OptionError(f"prune: sparsity({name!r}) gave {share!r}: should be a number from 0 to below 1, or None")
    return share
