"""Techniques: `(model, data, *, options, fit) -> model`. Each copies first and returns a model that can go into the next.

Attributes:
  TECHNIQUES: name -> function.
  PLANS: name -> `plan(model, **options)`, which says what the technique will do with each layer.
  LAST: the technique after which none can come; float files are made from the model before it.
  EFFECTS: name -> the measure that the technique moves, as it is read from the converted file: (format, attribute of Measures). Not of
    "distill", whose effect is in what the file answers, nor of "fold": many a model has nothing to fold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import teaching
from ..errors import RecipeError, nearest, shown
from ..options import problems_with
from ..surgery import copying, selecting
from ..types import Call, Data, Step
from . import _planning, channels, clustering, distillation, folding, pruning, quantization
from .channels import plan_channels, prune_channels
from .clustering import cluster
from .distillation import distill
from .folding import fold
from .pruning import prune
from .quantization import quantize_aware

TECHNIQUES = {
    "prune_channels": prune_channels,
    "distill": distill,
    "prune": prune,
    "cluster": cluster,
    "fold": fold,
    "quantize_aware": quantize_aware,
}
PLANS = {
    "prune_channels": channels.plan,
    "distill": distillation.plan,
    "prune": pruning.plan,
    "cluster": clustering.plan,
    "fold": folding.plan,
    "quantize_aware": quantization.plan,
}
LAST = "quantize_aware"
EFFECTS = {
    "prune_channels": ("float32", "parameters"),
    "prune": ("float32", "sparsity"),
    "cluster": ("float32", "repetition"),
    "quantize_aware": ("int8", "int8_operations"),
}


def chain(*steps: Step) -> Callable[[Any, Data | None], Any]:
    """Several techniques as one function `(model, data) -> model`, each taking what the one before it gives.

    Raises:
      RecipeError: a step that names no technique or an option that it does not have, or steps in an order that can't work.

    >>> shrink = chain(Step("prune", {"sparsity": 0.5}), Step("quantize_aware", {"fit": Fit(epochs=2)}))
    >>> small = shrink(model, data)
    """
    problems = [f"steps[{index}].{problem}" for index, problem in problems_in(steps)]
    if problems:
        raise RecipeError("chain", problems)

    def chained(model: Any, data: Data | None = None) -> Any:
        for step in steps:
            model = TECHNIQUES[step.use](model, data, **step.options)
        return model

    return chained


def problems_in(steps: Sequence[Call]) -> Iterator[tuple[int, str]]:
    """What is wrong with steps, one by one and in this order: a step's index, and a sentence that begins with the key."""
    for index, step in enumerate(steps):
        if not isinstance(step, Call):
            yield index, f"use = {shown(step)}: should be a tfopt.Step, such as Step('prune', {{'sparsity': 0.5}})"
        elif step.use not in TECHNIQUES:
            yield index, f"use = {shown(step.use)}: no such technique; {nearest(step.use, TECHNIQUES)}"
        else:
            yield from ((index, problem) for problem in _problems_of(step, steps[:index], index == len(steps) - 1))


def _problems_of(step: Call, before: Sequence[Call], last: bool) -> Iterator[str]:
    yield from problems_with(TECHNIQUES[step.use], step.options)
    for key in ("where", "sparsity"):
        if key in step.options and isinstance(step.options[key], str | Sequence | Mapping) and not step.options[key]:
            yield f"{key} = {shown(step.options[key])}: names no layer; leave it out for all"
    if step.use == LAST and not last:
        yield (
            f"use = {LAST!r}: should be the last step; its layers learn with the rounding of int8, and a step after it would "
            "change the weights that were fitted to that"
        )
    files = teaching.files_of(step.options.get("teacher"))
    yield from (f"teacher = {shown(each)}: no such file" for each in files if not Path(each).exists())
    if step.use == "distill" and step.options.get("teacher") is None:
        yield "teacher: is missing; give a model's path, 'trained' or 'self'"
    if step.use == "prune_channels" and (problem := _planning.contradiction(**step.options)):
        yield problem
    if step.use == "prune":
        if problem := pruning.contradiction(**step.options):
            yield problem
        if step.options.get("fit") is not None and any(_same_layers(step, other) for other in before if other.use == "cluster"):
            yield "use = 'prune': should stand before 'cluster'; its training would pull the shared values apart"


def _same_layers(step: Call, other: Call) -> bool:
    """Whether two steps may treat the same layer."""
    one, two = step.options.get("where"), other.options.get("where")
    return one is None or two is None or one == two


def check_layers(steps: Sequence[Call], model: Any) -> None:
    """Raises OptionError where a step's `where` or `sparsity` names a layer that the model does not have, or its budget can't be met.

    For a run, before the model is trained: the names are the same before and after, and before and behind the other steps.
    """
    layers = copying.all_layers(model)
    for index, step in enumerate(steps):
        sparsity = step.options.get("sparsity")
        selecting.selector(step.options.get("where"), layers, f"steps[{index}].where")
        for name in sparsity if isinstance(sparsity, Mapping) else ():
            selecting.selector(name, layers, f"steps[{index}].sparsity")
        if step.use == "prune_channels":
            channels.plan(model, **step.options)  # whose budget of multiply-accumulates or parameters can't be met, is refused


__all__ = ["EFFECTS", "LAST", "PLANS", "TECHNIQUES", "chain", "plan_channels", *TECHNIQUES]
