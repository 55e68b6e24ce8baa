"""Channel pruning: whole channels go, and what is left is a smaller plain model that is faster everywhere.

Channels that an Add, a Concatenate or a shared layer couples go together (`surgery.coupling`). Of each such group the ones with the lowest
importance are cut; how many of each group, so that the budget is met at the least loss, is decided one small step after the other: the
next one down is the step that loses least importance for each multiply-accumulate (or parameter, or byte) that it saves, with the
savings as they are at that point. What it loses is told in shares of what its group has left, since scores from weights compare only
inside a group, times the layers that compute with them; "taylor" estimates what the loss itself becomes. With `scope="uniform"` each
group keeps the same share instead.

Groups: Fang et al. 2023, "DepGraph" (arXiv:2301.12900). Importance by gain for cost: Molchanov et al. 2019 (arXiv:1906.10771).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

from pydantic import Field

from .. import bridge, options, tasks
from ..errors import OptionError
from ..surgery import copying
from ..surgery.selecting import Where
from ..teaching import Teacher, teaching_by
from ..tracing import record_plan
from ..types import Choice, Data, Fit
from ._importance import Importance
from ._keeping import fit_keeping
from ._planning import Budget, ChannelPlan, Planned, Scope, nothing_to_cut, rounds

Share = Annotated[float, Field(gt=0, le=1)]
Amount = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


@options.checked
def plan_channels(
    model: Any,
    data: Data | None = None,
    *,
    keep: Share | None = None,
    macs: Amount | None = None,
    parameters: Amount | None = None,
    bytes: Amount | None = None,
    latency_ms: Amount | None = None,
    importance: Importance = "l2",
    scope: Scope = "global",
    multiple_of: Count | None = None,
    where: Where = None,
) -> ChannelPlan:
    """What `prune_channels` would cut with these options: groups of channels, their scores, and the sizes that result.

    Raises:
      OptionError, UnsupportedModel: as `prune_channels`.

    >>> plan = plan_channels(model, macs=0.5)
    >>> print(plan)
    >>> [(group.name, group.before, group.after) for group in plan.groups]
    """
    budget = Budget.of({"keep": keep, "macs": macs, "parameters": parameters, "bytes": bytes, "latency_ms": latency_ms})
    model = bridge.plain(model)
    copying.check_supported(model)
    if data is not None:
        tasks.check_fits(model, data)
    return Planned(model, data, budget, importance, scope, multiple_of, where).met().told()


def plan(
    model: Any,
    *,
    keep: float | None = None,
    macs: float | None = None,
    parameters: float | None = None,
    scope: Scope = "global",
    multiple_of: int | None = None,
    where: Where = None,
    **_: Any,
) -> tuple[Choice, ...]:
    """Which layers `prune_channels` will treat: those that make or read channels that are cut, by the size of their weights."""
    budget = Budget.of({"keep": keep, "macs": macs, "parameters": parameters})
    return Planned(bridge.plain(model), None, budget, "l2", scope, multiple_of, where).met().choices()


def check_budget(model: Any, data: Data, *, multiple_of: int | None = None, where: Where = None, **given: Any) -> None:
    """Raises where a model can't meet a budget, whatever its weights are: before it is trained.

    Raises:
      OptionError: the fewest channels that layers may have are more than that.
      ConversionError: the budget is one of the int8 file, and the model does not convert.
    """
    budget = Budget.of(given)
    if budget.measured:
        Planned(bridge.plain(model), data, budget, "l2", "global", multiple_of, where).check_measured()
    else:
        plan(model, multiple_of=multiple_of, where=where, **given)


@options.checked
def prune_channels(
    model: Any,
    data: Data | None = None,
    *,
    keep: Share | None = None,
    macs: Amount | None = None,
    parameters: Amount | None = None,
    bytes: Amount | None = None,
    latency_ms: Amount | None = None,
    importance: Importance = "l2",
    scope: Scope = "global",
    multiple_of: Count | None = None,
    steps: Count = 1,
    where: Where = None,
    teacher: Teacher = None,
    fit: Fit | None = None,
) -> Any:
    """A smaller copy of the model: the least important channels are cut, with the weights that make and read them.

    Args:
      model: a plain tf_keras model, or a Keras 3 model.
      data: to train on, and for an importance on data; may be left out without either.
      keep: the share that stays of all channels that can be cut; 0.5 where no budget is named.
      macs, parameters: a budget instead: no more multiply-accumulates (of one example) or parameters than that; below 1 it is a share of
        what the model has.
      bytes, latency_ms: a budget for the int8 file that is made of it: its size, or its median latency in LiteRT with one thread on this
        machine, found by converting and measuring. They need data.
      importance: "l2" or "l1": the size of the weights that make a channel; "bn_scale": of its BatchNorm; "geometric_median": how
        different it is from the others of its layer; "taylor": how the loss on training examples would change; "activation": how large
        it is on calibration examples; "random": the control, drawn by the fit's seed.
      scope: "global": the layers that lose least for what they save give most; "uniform": each gives the same share.
      multiple_of: what is kept of a layer is a multiple of it (or all); None for 8 in layers of 32 channels or more and 4 of 16 or more,
        with a budget of time for 16 in both, or 8 channels.
      steps: in how many rounds, each but the last with half of the fit's epochs shared between them, the last with the other half.
      where: which layers: a name pattern, a class name, a list of them, or a predicate on the layer; coupled layers are cut where all
        that make the channels are named.
      teacher: who gives soft targets beside the labels while it trains: "self", the model as it comes in; a path, a model, or several of
        them; in a recipe also "trained". See `distill`.
      fit: how to train afterwards; None trains nothing.

    Returns:
      A plain tf_keras model of the same layers, some of them smaller; inputs and outputs keep their shapes.

    Raises:
      OptionError: a value out of range, two budgets, or one below what is left at the fewest channels of each layer.
      UnsupportedModel: a model with no channels that can be cut, or whose layers can't be seen.
      DataError: a fit without data, or a model that does not fit it.

    >>> small = prune_channels(model, data, macs=0.5, importance="taylor", fit=Fit(epochs=20, learning_rate=1e-3))
    """
    budget = Budget.of({"keep": keep, "macs": macs, "parameters": parameters, "bytes": bytes, "latency_ms": latency_ms})
    model = copying.copy_of(model)
    if data is not None or fit is not None:
        tasks.check_fits(model, data)
    if steps > 1 and (fit is None or fit.epochs < steps):
        raise OptionError(f"steps = {steps}: needs a fit of as many epochs or more; after each step the model is trained")
    seed = fit.seed if fit is not None else 0
    planned = Planned(model, data, budget, importance, scope, multiple_of, where, seed).met()
    record_plan("prune_channels", planned.choices())
    if not any(planned.free):
        raise nothing_to_cut(model, planned)
    teaching = teaching_by(teacher, model, fit)
    epochs = rounds(fit.epochs, steps) if fit is not None else [0]
    for number, amount in enumerate(planned.amounts(steps)):
        last = number == steps - 1
        if steps > 1:
            planned = Planned(model, data, budget if last else amount, importance, scope, multiple_of, where, seed).met()
        model = planned.model()
        if fit is not None:
            name = "prune_channels" if last else f"prune_channels, step {number + 1}"
            fit_keeping(model, data, replace(fit, epochs=epochs[number]), name=name, teaching=teaching)
    return model
