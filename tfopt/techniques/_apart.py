"""Which layers of a model come apart, into what, and why the others don't; and the model with these parts."""

from __future__ import annotations

import numbers
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import _layer_macs, backend
from ..errors import OptionError
from ..surgery import copying, kernels, rewriting
from ..surgery.selecting import Where, selector
from ..types import Choice
from . import _parts, _ranks, _sharing
from ._choosing import left_alone

MOST_ZEROS = 0.1  # of a kernel that comes apart, as a share
_OTHERS = {
    **dict.fromkeys(("DepthwiseConv1D", "DepthwiseConv2D"), "each channel has a kernel of its own: there is no rank to lower"),
    **dict.fromkeys(("SeparableConv1D", "SeparableConv2D"), "is a product of two kernels already"),
    "MultiHeadAttention": "its projections are inside the layer",
    "EinsumDense": "its kernel is no matrix between two layers",
}


class Planned:
    """What becomes of a model's layers.

    Attributes:
      choices: for each layer.
      parts: by a layer's id, what is to stand for it.
      possible: whether there is a layer that can be factorized, at some rank.
    """

    def __init__(self, model: Any, rank: float | None, energy: float, macs: float | None, where: Where):
        layers, self.old, self.total = copying.all_layers(model), model, 0
        calls: dict[int, list[_layer_macs.Call]] = {}
        for _, layer, call in _layer_macs.calls(model):
            calls.setdefault(id(layer), []).append(call)
            self.total += _layer_macs.macs(layer, call) or 0
        chosen, self.reasons, self.candidates = selector(where, layers), {}, {}
        with backend.one_blas_thread():
            for name, layer in layers:
                if id(layer) not in self.candidates:  # which may stand in several nested models
                    self._look_at(name, layer, calls.get(id(layer), []), chosen, budget=macs is not None)
        self.possible = any(map(len, self.candidates.values()))
        self.parts = self._of_budget(macs) if macs is not None else self._of_each(rank, energy)
        self.choices = tuple(self._choice(name, layer) for name, layer in layers)

    def model(self) -> Any:
        """A new model with these parts."""
        with backend.seeded(0), backend.one_blas_thread():
            made = {number: each.made() for number, each in self.parts.items()}
        taken = {layer.name for _, layer in copying.all_layers(self.old)}
        for *before, _ in made.values():  # the last has the layer's own name
            for part, _ in before:
                part._name = rewriting.free_name(part.name, taken)

        def remake(layer: Any) -> Any:
            return [part for part, _ in made[id(layer)]] if id(layer) in made else rewriting.twin(layer)

        def weights(layer: Any) -> list[np.ndarray]:
            return [array for _, arrays in made[id(layer)] for array in arrays] if id(layer) in made else layer.get_weights()

        with backend.seeded(0), backend.trusted_lambdas(), rewriting.own_functions(self.old._flatten_layers()):
            new = rewriting.rebuilt(self.old, remake, weights=weights, opened=False)
        new._set_dtype_policy(self.old.dtype_policy)
        return new

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

    def _of_each(self, rank: float | None, energy: float) -> dict[int, _ranks.Parts]:
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
    return len(np.unique(some)) <= _sharing.MOST_DIFFERENT * some.size
