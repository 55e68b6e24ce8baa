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

from typing import Annotated, Any

from pydantic import Field

from .. import bridge, options, tasks
from ..errors import OptionError, UnsupportedModel
from ..surgery import copying
from ..surgery.selecting import Where
from ..teaching import Teacher, teaching_by
from ..tracing import record_plan
from ..types import Choice, Data, Fit
from ._apart import Planned
from ._choosing import only_one
from ._keeping import fit_keeping

ENERGY = 0.9  # where nothing is asked for
Rank = Annotated[int, Field(ge=1)] | Annotated[float, Field(gt=0, le=1)]
Share = Annotated[float, Field(gt=0, lt=1)]
Amount = Annotated[float, Field(gt=0)]


def plan(
    model: Any, *, rank: Rank | None = None, energy: Share | None = None, macs: Amount | None = None, where: Where = None, **_: Any
) -> tuple[Choice, ...]:
    """Which layers `factorize` will treat: those that cost less in parts, with the parts, their energy and what they cost."""
    model = bridge.plain(model)
    copying.check_supported(model)
    return _planned(model, rank, energy, macs, where).choices


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
    model = copying.copy_of(model)
    if fit is not None:
        tasks.check_fits(model, data)
    planned = _planned(model, rank, energy, macs, where)
    record_plan("factorize", planned.choices)
    if not planned.possible:
        raise UnsupportedModel.of("factorize", model, planned.choices)
    teaching = teaching_by(teacher, model, fit)
    model = planned.model()
    if fit is not None:
        fit_keeping(model, data, fit, name="factorize", teaching=teaching)
    return model


def _planned(model: Any, rank: Rank | None, energy: float | None, macs: float | None, where: Where) -> Planned:
    if problem := contradiction(rank=rank, energy=energy, macs=macs):
        raise OptionError(f"factorize: {problem}")
    return Planned(model, rank, ENERGY if energy is None else energy, macs, where)


def contradiction(*, rank: Rank | None = None, energy: float | None = None, macs: float | None = None, **_: Any) -> str | None:
    """What options contradict each other, as a sentence that begins with one; None where none do. Each alone is right."""
    return only_one({"rank": rank, "energy": energy, "macs": macs}, "of them")
