"""Magnitude pruning: the smallest weights of each kernel become zero, the others learn to do without them.

In each kernel the share `sparsity` of the weights with the smallest |w| is masked. With a fit, TF-MOT's wrapper masks while training goes
on; the "polynomial" schedule raises the sparsity from zero to s during the first half of the steps,

    s_t = s (1 - (1 - t / n)^3),    t = 0 ... n

and leaves the second half for recovery. The schedules count the run's own steps, so that the sparsity that was asked for is reached
however short the run (TF-MOT's default, a mask every 100 steps, prunes nothing in a run of 50). Zeros make a file smaller once it is
compressed; they make nothing faster on a CPU.

Zhu & Gupta 2017, "To prune, or not to prune" (arXiv:1710.01878).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from .. import backend, bridge, options, pipelines, training
from ..errors import UnsupportedModel
from ..surgery import copying
from ..surgery.selecting import Where, selector
from ..tracing import record_plan
from ..types import Choice, Data, Fit

Sparsity = Annotated[float, Field(ge=0, lt=1)]
Schedule = Literal["polynomial", "constant"]


def plan(model: Any, *, where: Where = None, **_: Any) -> tuple[Choice, ...]:
    """Which layers `prune` will treat: those with a kernel that TF-MOT prunes and that `where` names."""
    layers = copying.all_layers(bridge.plain(model))
    chosen = selector(where, layers)
    return tuple(_choice(name, layer, chosen) for name, layer in layers)


@options.checked
def prune(
    model: Any,
    data: Data | None = None,
    *,
    sparsity: Sparsity = 0.5,
    schedule: Schedule = "polynomial",
    where: Where = None,
    fit: Fit | None = None,
) -> Any:
    """A copy of the model in whose kernels the share `sparsity` of the weights is zero.

    Args:
      model: a plain tf_keras model.
      data: to train on; may be left out without a fit.
      sparsity: the share of zeros in each kernel, from 0 up to but not including 1.
      schedule: "polynomial" raises it slowly (above); "constant" prunes at the first step.
      where: which layers: a name pattern, a class name, a list of them, or a predicate on the layer; None for all.
      fit: how to train meanwhile; None prunes at once and trains nothing.

    Returns:
      A plain tf_keras model of the same layers.

    Raises:
      OptionError: a value out of range, or a `where` that fits no layer.
      UnsupportedModel: a model with nothing that can be pruned, or whose layers can't be seen.
      DataError: a fit without data, or a model that does not fit it.

    >>> small = prune(model, data, sparsity=0.8, fit=Fit(epochs=4, learning_rate=1e-4))
    """
    model = copying.copy_of(model)
    if fit is not None:
        pipelines.check_fits(model, data)
    choices = plan(model, where=where)
    record_plan("prune", choices)
    treated = [layer for (_, layer), choice in zip(copying.all_layers(model), choices, strict=True) if choice.treated]
    if not treated:
        raise UnsupportedModel.of("prune", model, choices)
    if fit is None:
        _prune_at_once(treated, sparsity)
        return model
    _train_masked(model, data, treated, sparsity, schedule, fit)
    return copying.copy_of(model)  # TF-MOT's wrappers called these layers too; a copy has the model's own calls only


def _choice(name: str, layer: Any, chosen) -> Choice:
    if not layer.weights:
        return Choice(name, False, f"{type(layer).__name__} has no weights")
    if not chosen(name, layer):
        return Choice(name, False, "not named by `where`")
    kernels = _kernel_names(layer)
    if kernels is None:
        return Choice(name, False, f"TF-MOT can't prune {type(layer).__name__}")
    if not kernels:
        return Choice(name, False, f"TF-MOT prunes no weight of {type(layer).__name__}")
    return Choice(name, True, f"prunes {', '.join(kernels)}")


def _kernel_names(layer: Any) -> list[str] | None:
    """The names of the weights that TF-MOT prunes in a layer; None where it refuses the layer."""
    if not _registry().supports(layer):
        return None
    return [kernel.name.split("/")[-1].split(":")[0] for kernel in _kernels(layer)]


def _kernels(layer: Any) -> list[Any]:
    kernels = _registry().make_prunable(layer).get_prunable_weights()
    del layer.get_prunable_weights  # make_prunable hangs it on the layer, which is the user's
    return kernels


def _registry() -> Any:
    return backend.tfmot_private("sparsity.keras.prune_registry").PruneRegistry


def _prune_at_once(layers: Sequence[Any], sparsity: float) -> None:
    for layer in layers:
        for kernel in _kernels(layer):
            weights = kernel.numpy()
            count = int(np.round(weights.size * sparsity))
            smallest = np.argsort(np.abs(weights), axis=None, kind="stable")[:count]
            weights.flat[smallest] = 0
            kernel.assign(weights)


def _train_masked(model: Any, data: Data, treated: Sequence[Any], sparsity: float, schedule: Schedule, fit: Fit) -> None:
    """Trains the model's own layers under TF-MOT's wrappers; afterwards their kernels hold the zeros."""
    from . import _tf_pruning

    keras, pruning = backend.keras(), backend.tfmot().sparsity.keras
    steps = pipelines.steps_per_epoch(data, fit)
    ramp = max(1, steps * fit.epochs // 2)
    plan_of = {
        "polynomial": lambda: pruning.PolynomialDecay(0.0, sparsity, begin_step=0, end_step=ramp, frequency=1),
        "constant": lambda: pruning.ConstantSparsity(sparsity, begin_step=0, frequency=1),
    }[schedule]

    def wrap(layer):
        if isinstance(layer, keras.Model):
            return keras.models.clone_model(layer, clone_function=wrap)
        return pruning.prune_low_magnitude(layer, plan_of()) if any(layer is t for t in treated) else layer

    wrapped = backend.without_autograph(keras.models.clone_model, model)(model, clone_function=wrap)
    settled = ramp // steps if schedule == "polynomial" else 0
    training.fit_in_place(wrapped, data, fit, name="prune", callbacks=[_tf_pruning.Remask()], settled=settled)
