"""Low-rank factorization: a kernel as a product of smaller ones, so that a layer becomes two or three with less to multiply.

The kernel W (m, n) of a Dense layer is replaced by A B with A (m, r) and B (r, n), the product of rank r that is nearest to it: a truncated
SVD of W. Two layers cost r (m + n) products instead of m n. Convolutions come apart in two ways, of which the better one is taken:

    k x 1 of r filters, then 1 x k       SVD of the kernel as a matrix (k m, k n)           Jaderberg et al. 2014
    1x1 to r, k x k from r to s, 1x1     Tucker-2, by HOSVD along inputs and outputs        Kim et al. 2016

How much is lost is told by the energy: the share of the kernel's squared singular values, which is that of its squared numbers, that the
product keeps. For a budget of the whole model, layers lose rank step by step, always where least of what is left of a layer's energy
goes for each multiply-accumulate that is saved.

Dense and SVD: Denton et al. 2014 (arXiv:1404.0736). Convolutions: Jaderberg, Vedaldi & Zisserman 2014 (arXiv:1405.3866); Kim et al. 2016
(arXiv:1511.06530).
"""

from __future__ import annotations

import numbers
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from .. import _layer_macs, backend, bridge, options, tasks, tracing, training
from ..errors import OptionError, UnsupportedModel
from ..surgery import copying, kernels, rewriting
from ..surgery.selecting import Where, selector
from ..teaching import Teacher, teaching_by
from ..types import Choice, Data, Fit
from . import _parts, _ranks, _sharing
from ._choosing import left_alone
from ._keeping import Kept

ENERGY = 0.9  # where nothing is asked for
MOST_ZEROS = 0.1  # of a kernel that is factorized, as a share
Rank = Annotated[int, Field(ge=1)] | Annotated[float, Field(gt=0, le=1)]
Share = Annotated[float, Field(gt=0, lt=1)]
Amount = Annotated[float, Field(gt=0)]


def plan(
    model: Any, *, rank: Rank | None = None, energy: Share | None = None, macs: Amount | None = None, where: Where = None, **_: Any
) -> tuple[Choice, ...]:
    """Which layers `factorize` will treat: those that cost less in parts, with the parts, their energy and what they cost."""
    model = bridge.plain(model)
    copying.check_supported(model)
    return _Planned(model, rank, energy, macs, where).choices


@options.checked
def factorize(
    model: Any,
    data: Data | None = None,
    *,
    rank: Rank | None = None,
    energy: Share | None = None,
    macs: Amount | None = None,
    where: Where = None,
    teacher: Teacher = None,
    fit: Fit | None = None,
) -> Any:
    """A copy of the model in which layers are products of smaller ones, each where that costs less.

    Args:
      model: a plain tf_keras model, or a Keras 3 model.
      data: to train on; may be left out without a fit.
      rank: of the products: a whole number for all layers, or a share in (0, 1] of each one's full rank (1.0, not 1, is all of it, and
        changes nothing). A convolution gets the parts that keep most at no more than what a truncated SVD of this rank costs.
      energy: the least share of its energy that each kernel keeps, at the least cost; 0.9 where neither of the three is named.
      macs: a budget instead: no more multiply-accumulates of one example than that; below 1 it is a share of what the model has.
      where: which layers: a name pattern, a class name, a list of them, or a predicate on the layer; None for all.
      teacher: who gives soft targets beside the labels while it trains: "self", the model as it comes in; a path, a model, or several of
        them; in a recipe also "trained". See `distill`.
      fit: how to train afterwards; None trains nothing.

    Returns:
      A plain functional tf_keras model, nested as before. Of the parts of a layer `conv` the last is named `conv`, those before it
      `conv_in` and `conv_core`.

    Raises:
      OptionError: a value out of range, two of `rank`, `energy` and `macs`, or a budget below what is left at the least ranks.
      UnsupportedModel: a model without a layer that can be factorized, or whose layers can't be seen.
      DataError: a fit without data, or a model that does not fit it.

    >>> small = factorize(model, data, macs=0.5, fit=Fit(epochs=10, learning_rate=1e-3))
    >>> [choice.reason for choice in plan(model, energy=0.95) if choice.treated]
    """
    if problem := contradiction(rank=rank, energy=energy, macs=macs):
        raise OptionError(f"factorize: {problem}")
    model = copying.copy_of(model)
    if fit is not None:
        tasks.check_fits(model, data)
    planned = _Planned(model, rank, energy, macs, where)
    tracing.record_plan("factorize", planned.choices)
    if not planned.possible:
        raise UnsupportedModel.of("factorize", model, planned.choices)
    teaching = teaching_by(teacher, model, fit)
    model = _in_parts(model, planned.parts)
    if fit is not None:
        callbacks = Kept(kernels.of_all(model.layers)).callbacks()  # of zeros and shared values that earlier steps have left
        training.fit_in_place(model, data, fit, name="factorize", callbacks=callbacks, teaching=teaching)
    return model


def contradiction(*, rank: Rank | None = None, energy: float | None = None, macs: float | None = None, **_: Any) -> str | None:
    """What options contradict each other, as a sentence that begins with one; None where none do. Each alone is right."""
    named = [name for name, value in (("rank", rank), ("energy", energy), ("macs", macs)) if value is not None]
    return f"{' and '.join(named)}: give one of them" if len(named) > 1 else None


class _Planned:
    """What becomes of a model's layers.

    Attributes:
      choices: for each layer.
      parts: by a layer's id, what it is replaced by.
      possible: whether there is a layer that can be factorized, at some rank.
    """

    def __init__(self, model: Any, rank: Rank | None, energy: float | None, macs: float | None, where: Where):
        layers, self.total = copying.all_layers(model), 0
        calls: dict[int, list[_layer_macs.Call]] = {}
        for _, layer, call in _layer_macs.calls(model):
            calls.setdefault(id(layer), []).append(call)
            self.total += _layer_macs.macs(layer, call) or 0
        chosen, self.reasons, self.candidates = selector(where, layers), {}, {}
        for name, layer in layers:
            if id(layer) not in self.candidates:  # which may stand in several nested models
                self._look_at(name, layer, calls.get(id(layer), []), chosen, budget=macs is not None)
        self.possible = any(map(len, self.candidates.values()))
        self.parts = self._of_budget(macs) if macs is not None else self._of_each(rank, ENERGY if energy is None else energy)
        self.choices = tuple(self._choice(name, layer) for name, layer in layers)

    def _look_at(self, name: str, layer: Any, calls: Sequence[_layer_macs.Call], chosen: Callable, budget: bool) -> None:
        if reason := _left(name, layer, calls, chosen):
            self.reasons[id(layer)] = reason
            return
        whole = _parts.whole(layer, calls)
        if budget and whole.unit != "MACs":
            embeds = whole.unit == "parameters"
            told = "in parts it has fewer parameters, but more MACs" if embeds else "its MACs can't be counted, as a size is free"
            self.reasons[id(layer)] = f"{told}: nothing for a budget of them"
            return
        self.candidates[id(layer)] = candidates = _ranks.Candidates(whole)
        if not candidates:
            self.reasons[id(layer)] = f"parts of rank 1 would cost no less than its {whole.cost:,} {whole.unit}"

    def _of_each(self, rank: Rank | None, energy: float) -> dict[int, _ranks.Parts]:
        of_rank = f"of rank {rank}" if isinstance(rank, numbers.Integral) else f"of {rank:g} times its full rank" if rank else ""
        told, found = f"parts {of_rank or f'that keep {energy:.3g} of its energy'}", {}
        for number, candidates in self.candidates.items():
            parts = candidates.by_energy(energy) if rank is None else candidates.by_rank(rank)
            self.reasons.setdefault(number, f"{told} would cost no less than its {candidates.whole.cost:,} {candidates.whole.unit}")
            if parts is not None:
                found[number] = parts
        return found

    def _of_budget(self, macs: float) -> dict[int, _ranks.Parts]:
        free = {number: candidates for number, candidates in self.candidates.items() if candidates}
        target, least = macs * self.total if macs < 1 else macs, self.total - _ranks.least(list(free.values()))
        if free and least > target:
            raise OptionError(
                f"macs = {macs:g}: the least that the model can have is {least:,} MACs of {self.total:,}, with each layer at the least "
                "rank; ask for more, or give a wider `where`"
            )
        found = _ranks.by_budget(list(free.values()), self.total - int(target)) if free else []
        self.reasons.update(dict.fromkeys(free, "stays whole: the budget is met without it"))
        return {number: parts for number, parts in zip(free, found, strict=True) if parts is not None}

    def _choice(self, name: str, layer: Any) -> Choice:
        parts = self.parts.get(id(layer))
        return Choice(name, parts is not None, self.reasons[id(layer)] if parts is None else str(parts))


def _left(name: str, layer: Any, calls: Sequence[_layer_macs.Call], chosen: Callable[[str, Any], bool]) -> str | None:
    """Why a layer is left as it is, whatever the ranks; None where it can come apart."""
    found = kernels.kernels_of(layer)
    if reason := left_alone(name, layer, found, chosen):
        return reason
    kind = rewriting.kind(layer)
    if kind not in _parts.KINDS or any(rewriting.kind(half) not in _parts.RECURRENT for half in _halves(layer, kind)):
        return _OTHERS.get(kind, f"{type(layer).__name__}: no parts are known that could stand for it")
    if getattr(layer, "groups", 1) > 1:
        return "a grouped convolution: its groups see few channels each"
    given = [argument for call in calls for argument, value in list(call.named.items())[1:] if value is not None]
    if given or any(len(call.inputs) != 1 for call in calls):
        return f"it is called with {given[0] if given else 'several tensors'}, which its first part would not take"
    owners = [half.cell for half in _halves(layer, kind)] or [layer]
    if any(getattr(owner, f"{weight}_constraint", None) is not None for owner in owners for weight in ("kernel", "embeddings")):
        return "its kernel has a constraint, which parts could not keep"
    whole = [kernel for kernel in found if kernel.name.rpartition("/")[2] in ("kernel", "embeddings")]
    return next((problem for kernel in whole if (problem := _problem(kernel))), None)


def _halves(layer: Any, kind: str) -> list[Any]:
    return _parts.halves_of(layer) if kind in (*_parts.RECURRENT, "Bidirectional") else []


def _problem(kernel: kernels.Kernel) -> str | None:
    """What an earlier step has left in a kernel that its parts would not have."""
    matrix = kernel.matrix()
    zeros = 1 - np.count_nonzero(matrix) / matrix.size
    if zeros >= MOST_ZEROS:
        return f"{zeros:.0%} of its {kernel.name} is zero, which parts would not keep"
    if _repeats(matrix) and _sharing.found_in(kernel) is not None:
        return f"the weights of its {kernel.name} share values, which parts would not keep"
    return None


def _repeats(matrix: np.ndarray) -> bool:
    """Whether some numbers stand more than once in the first thousands, as they do where values are shared."""
    some = matrix[:, : -(-4096 // len(matrix))]
    return len(np.unique(some)) <= 0.98 * some.size


def _in_parts(model: Any, parts: dict[int, _ranks.Parts]) -> Any:
    """The model with these layers, by id, replaced."""
    made = {number: each.made() for number, each in parts.items()}
    taken = {layer.name for _, layer in copying.all_layers(model)}
    for *before, _ in made.values():  # the last has the layer's own name
        for part, _ in before:
            part._name = rewriting.free_name(part.name, taken)

    def remake(layer: Any) -> Any:
        return [part for part, _ in made[id(layer)]] if id(layer) in made else rewriting.twin(layer)

    def weights(layer: Any) -> list[np.ndarray]:
        return [array for _, arrays in made[id(layer)] for array in arrays] if id(layer) in made else layer.get_weights()

    with backend.seeded(0), backend.trusted_lambdas(), rewriting.own_functions(model._flatten_layers()):
        new = rewriting.rebuilt(model, remake, weights=weights, opened=False)
    new._set_dtype_policy(model.dtype_policy)
    return new


_OTHERS = {
    **dict.fromkeys(("DepthwiseConv1D", "DepthwiseConv2D"), "each channel has a kernel of its own: there is no rank to lower"),
    **dict.fromkeys(("SeparableConv1D", "SeparableConv2D"), "is a product of two kernels already"),
    "MultiHeadAttention": "its projections are inside the layer",
    "EinsumDense": "its kernel is no matrix between two layers",
}
