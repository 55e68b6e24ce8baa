"""Techniques: `(model, data, *, options, fit) -> model`. Each copies first and returns a model that can go into the next.

Attributes:
  TECHNIQUES: name -> function.
  PLANS: name -> `plan(model, **options)`, which says what the technique will do with each layer.
  RESIZING: those behind which a model costs something else, so that a budget of a later step can't be checked before.
  LAST: the technique after which none can come; float files are made from the model before it.
  EFFECTS: name -> the measure that the technique moves, as it is read from the converted file: (format, attribute of Measures). Not of
    "distill" and "equalize", whose effect is in what the file answers, nor of "fold": many a model has nothing to fold.
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
from . import _parts, _planning, channels, clipping, clustering, distillation, equalization, factorization, folding, pruning, quantization
from .channels import plan_channels, prune_channels
from .clipping import clip_weights
from .clustering import cluster
from .distillation import distill
from .equalization import equalize
from .factorization import factorize
from .folding import fold
from .pruning import prune
from .quantization import quantize_aware

TECHNIQUES = {
    "prune_channels": prune_channels,
    "factorize": factorize,
    "distill": distill,
    "prune": prune,
    "clip_weights": clip_weights,
    "cluster": cluster,
    "fold": fold,
    "equalize": equalize,
    "quantize_aware": quantize_aware,
}
PLANS = {
    "prune_channels": channels.plan,
    "factorize": factorization.plan,
    "distill": distillation.plan,
    "prune": pruning.plan,
    "clip_weights": clipping.plan,
    "cluster": clustering.plan,
    "fold": folding.plan,
    "equalize": equalization.plan,
    "quantize_aware": quantization.plan,
}
LAST = "quantize_aware"
RESIZING = ("prune_channels", "factorize", "fold")
_CONTRADICTIONS = {
    "prune_channels": _planning.contradiction,
    "factorize": factorization.contradiction,
    "distill": teaching.contradiction,
    "prune": pruning.contradiction,
    "clip_weights": clipping.contradiction,
}
EFFECTS = {
    "prune_channels": ("float32", "parameters"),
    "factorize": ("float32", "parameters"),
    "prune": ("float32", "sparsity"),
    "clip_weights": ("float32", "largest_weight"),
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
    if step.use in _CONTRADICTIONS and (problem := _CONTRADICTIONS[step.use](**step.options)):
        yield problem
    trains_pruned = step.use == "prune" and step.options.get("fit") is not None
    if trains_pruned and any(_same_layers(step, other) for other in before if other.use == "cluster"):
        yield "use = 'prune': should stand before 'cluster'; its training would pull the shared values apart"


def _same_layers(step: Call, other: Call) -> bool:
    """Whether two steps may treat the same layer."""
    one, two = step.options.get("where"), other.options.get("where")
    return one is None or two is None or one == two


def check_layers(steps: Sequence[Call], model: Any, data: Data) -> None:
    """Raises OptionError where a step's `where`, `sparsity` or `hints` names a layer that there is not, or its budget can't be met, and
    DataError where its teacher gives something else than the model.

    For a run, before the model is trained: names and outputs are the same before and after, and before and behind the other steps;
    `factorize` adds names.
    """
    layers, resized = copying.all_layers(model), False
    for index, step in enumerate(steps):
        sparsity = step.options.get("sparsity")
        selecting.selector(step.options.get("where"), layers, f"steps[{index}].where")
        for name in sparsity if isinstance(sparsity, Mapping) else ():
            selecting.selector(name, layers, f"steps[{index}].sparsity")
        if step.options.get("fit") is not None:
            teachers = ["self" if each == "trained" else each for each in teaching.several(step.options.get("teacher"))]
            teaching.teaching_by(teachers or None, model, step.options["fit"], hints=step.options.get("hints"), at=f"steps[{index}].")
        if step.use == "prune_channels" and not resized:
            channels.check_budget(model, data, **step.options)
        if step.use == "factorize":
            if "macs" in step.options and not resized:
                factorization.plan(model, **step.options)
            layers = [*layers, *((f"{name}_{ending}", layer) for name, layer in layers for ending in _parts.ENDINGS)]
        resized = resized or step.use in RESIZING


__all__ = ["EFFECTS", "LAST", "PLANS", "TECHNIQUES", "chain", "plan_channels", *TECHNIQUES]
