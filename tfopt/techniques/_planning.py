"""Which channels are cut for a budget, and the plan that is shown of it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from .. import tracing
from .._tables import table
from ..errors import OptionError, UnsupportedModel
from ..surgery import copying, cutting
from ..surgery.selecting import Where, selector
from ..types import Choice, Data
from ._budgets import KERNELS, MULTIPLES, Ladder, Multiples, at_ratio, levels_of, removed, within
from ._choosing import only_one
from ._groups import Group, Grouped
from ._importance import Importance, scores
from ._measuring import measure_of

Scope = Literal["global", "uniform"]
_NAMES = {"keep": "channels", "macs": "MACs", "parameters": "parameters", "bytes": "bytes", "latency_ms": "ms"}
_CLOSE = 0.9  # of a budget of time; nearer to it two measurements of one file may differ
_COSTS = {"keep": "keep", "macs": "macs", "parameters": "parameters", "bytes": "parameters", "latency_ms": "macs"}  # counted on the way


@dataclass(frozen=True)
class Budget:
    """What a model may cost.

    Attributes:
      name: of the option: "keep", "macs", "parameters", "bytes" or "latency_ms".
      amount: so much; of the first three, below 1 and for "keep" always, as a share of what the model has, unless it is `absolute`.
      multiples: of how many channels layers keep multiples.
    """

    name: str
    amount: float
    absolute: bool = False
    multiples: Multiples = MULTIPLES

    @classmethod
    def of(cls, given: Mapping[str, float | None]) -> Budget:
        """The one that is given, half of the channels where none is.

        Raises:
          OptionError: several.
        """
        named = {name: amount for name, amount in given.items() if name in _NAMES and amount is not None}
        if len(named) > 1:
            raise OptionError(f"prune_channels: {contradiction(**given)}")
        name, amount = next(iter(named.items()), ("keep", 0.5))
        return cls(name, amount, multiples=KERNELS if name == "latency_ms" else MULTIPLES)

    @property
    def measured(self) -> bool:
        """Whether it is one of the converted file."""
        return self.name in ("bytes", "latency_ms")

    def target(self, full: float) -> float:
        """As an amount, of a model that costs `full` with all channels."""
        share = not self.absolute and (self.name == "keep" or self.amount < 1)
        return self.amount * full if share else self.amount


@dataclass(frozen=True)
class GroupPlan:
    """What becomes of a group of channels.

    Attributes:
      name: of the first layer that makes them.
      makers: the layers that make them.
      before, after: how many there are.
      reason: why none is cut; None where some may be.
      scores: the importance of each, ascending; the first `before - after` are cut.
    """

    name: str
    makers: tuple[str, ...]
    before: int
    after: int
    reason: str | None
    scores: tuple[float, ...]


@dataclass(frozen=True)
class ChannelPlan:
    """What `prune_channels` will do; nothing is changed yet.

    Attributes:
      groups: the groups of channels in the order of the layers.
      parameters, macs: (before, after) of the model: parameters, and multiply-accumulates of one example.

    >>> print(plan_channels(model, macs=0.5))
    """

    groups: tuple[GroupPlan, ...]
    parameters: tuple[int, int]
    macs: tuple[int, int]

    def __str__(self) -> str:
        rows = [("channels of", "before", "after", "least kept")]
        for group in self.groups:
            least = f"{group.scores[group.before - group.after]:.3g}" if group.reason is None else ""
            beside = f"with {', '.join(group.makers[1:])}" if group.makers[1:] else ""
            rows.append((group.name, str(group.before), str(group.after), least, group.reason or beside))
        totals = [f"{name} {before:,} -> {after:,}" for name, (before, after) in (("parameters", self.parameters), ("MACs", self.macs))]
        return f"{table(rows)}\n{', '.join(totals)}"


class Planned:
    """The channels of a model, and how many of each group stay within a budget.

    Attributes:
      grouped: the groups.
      scores: the importance of each channel, by group.
      kept: how many stay, by group.
    """

    def __init__(
        self,
        model: Any,
        data: Data | None,
        budget: Budget,
        importance: Importance,
        scope: Scope,
        multiple_of: int | None,
        where: Where,
        seed: int = 0,
    ):
        self.budget, self.scope = budget, scope
        self.grouped, self.data = Grouped(model), data
        self._reasons = _reasons(self.grouped, where)
        self.counted = _COSTS[budget.name]
        self.free = [reason is None for reason in self._reasons]
        self.scores = scores(self.grouped, importance, data, seed)
        levels = [
            levels_of(group, multiple_of, budget.multiples) if may else [len(group)]
            for group, may in zip(self.grouped.groups, self.free, strict=True)
        ]
        self.ladder = Ladder(self.grouped, self.scores, self.free, levels, self.counted, importance != "taylor")

    @property
    def kept(self) -> list[int]:
        return self.ladder.kept

    def amounts(self, steps: int) -> list[Budget]:
        """What is left after each step on the way to what is kept, each taking the same share of what was there."""
        full, target = self.ladder.cost_of([len(group) for group in self.grouped.groups]), self.ladder.cost
        return [
            Budget(self.counted, full * math.pow(target / full, (number + 1) / steps), True, self.budget.multiples)
            for number in range(steps)
        ]

    def model(self, kept: Sequence[int] | None = None) -> Any:
        """The model with so many channels of each group."""
        gone = removed(self.grouped, self.scores, self.kept if kept is None else kept)
        return cutting.without(self.grouped.model, self.grouped.ties, np.concatenate([np.zeros(0, int), *gone]).tolist())

    def choices(self) -> tuple[Choice, ...]:
        """For each layer, whether channels that it makes or reads are cut, and why not."""
        layers = copying.all_layers(self.grouped.model)
        treated: dict[str, dict[str, None]] = {name: {} for name, _ in layers}
        left: dict[str, dict[str, None]] = {name: {} for name, _ in layers}
        for group, kept, reason in zip(self.grouped.groups, self.kept, self._reasons, strict=True):
            for slot in group.slots:
                name = self.grouped.names[id(slot.layer)]
                told = reason or f"{'makes' if slot.makes else 'reads'} {kept} of {len(group)} channels of {group.name}"
                (left if reason else treated)[name][told] = None
        return tuple(_choice(name, layer, treated[name], left[name]) for name, layer in layers)

    def told(self) -> ChannelPlan:
        """As a plan to look at."""
        costs = self.grouped.costs
        groups = [
            GroupPlan(group.name, group.makers, len(group), kept, reason, tuple(np.sort(each).tolist()))
            for group, kept, reason, each in zip(self.grouped.groups, self.kept, self._reasons, self.scores, strict=True)
        ]
        parameters, macs = ((round(costs.total(what, costs.full)), round(costs.total(what, self.kept))) for what in ("parameters", "macs"))
        return ChannelPlan(tuple(groups), parameters, macs)

    def check_measured(self) -> None:
        """Raises OptionError where not even the fewest channels meet a budget of the file, or there is no data to convert with."""
        self._check_data()
        measure = measure_of(self.budget.name, self.grouped.model, self.data)
        _check(self.budget, self.budget.amount, measure(self.model(self.ladder.least)))

    def met(self) -> Planned:
        """Itself, with as many channels as the budget has room for."""
        if any(self.free):
            self._meet()
        return self

    def _meet(self) -> None:
        ladder, budget, scope = self.ladder, self.budget, self.scope
        if budget.measured:
            self._meet_measured()
        elif budget.name == "keep" and scope == "uniform" and not budget.absolute:
            ladder.kept = at_ratio(ladder, budget.amount)
        else:
            target, least = budget.target(ladder.cost), ladder.cost_of(ladder.least)
            if budget.name == "keep" and least > target:
                share = least / ladder.cost
                tracing.warn(f"prune_channels: keep = {budget.amount:g}: {share:.2f} stay, the fewest channels that layers may have")
                target = least
            _check(budget, target, least)
            within(ladder, target, scope)

    def _meet_measured(self) -> None:
        """By bisection between all channels and the fewest, over the cost that goes with it; then steps back up that still fit."""
        self._check_data()
        budget, ladder = self.budget, self.ladder
        measure = measure_of(budget.name, self.grouped.model, self.data)
        known: dict[tuple[int, ...], float] = {}

        def measured(kept: Sequence[int]) -> float:
            if tuple(kept) not in known:
                known[tuple(kept)] = measure(self.model(kept))
            return known[tuple(kept)]

        def closer(kept: Sequence[int]) -> bool:
            nonlocal best
            fits = measured(best) < _CLOSE * budget.amount and measured(kept) <= budget.amount
            best = list(kept) if fits else best
            return fits

        full = list(ladder.kept)
        if measured(full) <= budget.amount:
            return
        _check(budget, budget.amount, measured(ladder.least))
        low, high, best = ladder.cost_of(ladder.least), ladder.cost, ladder.least
        while high - low > 1e-3 * high:
            ladder.kept = list(full)
            within(ladder, (low + high) / 2, self.scope)
            fits = measured(ladder.kept) <= budget.amount
            if fits and ladder.cost_of(best) == ladder.cost:
                break
            low, high, best = ((low + high) / 2, high, list(ladder.kept)) if fits else (low, (low + high) / 2, best)
        ladder.kept = best
        if budget.name == "bytes":
            spare = ladder.cost + budget.amount - measured(best)  # an int8 parameter takes a byte or more
            ladder.refill(lambda kept: ladder.cost_of(kept) <= spare and measured(kept) <= budget.amount, self.scope)
        else:  # kernels work on several channels at a time, so time falls in jumps, which the way of all groups together may have missed
            ladder.refill(closer, self.scope)

    def _check_data(self) -> None:
        if self.data is None:
            raise OptionError(
                f"{self.budget.name} = {self.budget.amount:g}: is measured on the int8 file, whose ranges need data; give data"
            )


def _check(budget: Budget, target: float, least: float) -> None:
    if least > target:
        raise OptionError(
            f"{budget.name} = {budget.amount:g}: the least that the model can have is {_shown(least)} {_NAMES[budget.name]}, "
            "with the fewest channels of each layer; a smaller multiple_of or a wider `where` leaves fewer"
        )


def _shown(amount: float) -> str:
    return f"{round(amount):,}" if amount >= 1 else f"{amount:.3g}"


def _reasons(grouped: Grouped, where: Where) -> list[str | None]:
    chosen = selector(where, layers := copying.all_layers(grouped.model))
    named = {name for name, layer in layers if chosen(name, layer)}
    return [group.reason or _unnamed(group, named) for group in grouped.groups]


def _unnamed(group: Group, named: set[str]) -> str | None:
    others = [name for name in group.makers if name not in named]
    if not others:
        return None
    return "not named by `where`" if len(others) == len(group.makers) else f"coupled with {others[0]}, which `where` does not name"


def _choice(name: str, layer: Any, treated: Iterable[str], left: Iterable[str]) -> Choice:
    reasons = [*treated, *left] or [f"{type(layer).__name__} has no {'channels that are cut' if layer.weights else 'weights'}"]
    return Choice(name, bool(treated), "; ".join(reasons))


def contradiction(**given: Any) -> str | None:
    """What options contradict each other, as a sentence that begins with one; None where none do. Each alone is right."""
    return only_one({name: given.get(name) for name in _NAMES}, "budget")


def nothing_to_cut(model: Any, planned: Planned) -> UnsupportedModel:
    """The error of a model with no channels that can be cut."""
    return UnsupportedModel.of("prune_channels", model, planned.choices())


def rounds(epochs: int, steps: int) -> list[int]:
    """The epochs of each round: half of them shared between all but the last, which has the rest."""
    each = max(1, epochs // 2 // max(1, steps - 1))
    return [each] * (steps - 1) + [epochs - each * (steps - 1)]
