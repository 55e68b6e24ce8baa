"""Techniques: `(model, data, *, options, fit) -> model`. Each copies first and returns a model that can go into the next.

Attributes:
  TECHNIQUES: name -> function.
  PLANS: name -> `plan(model, **options)`, which says what the technique will do with each layer.
  LAST: the technique after which none can come; float files are made from the model before it.
  EFFECTS: name -> the measure that the technique moves, as it is read from the converted file: (format, attribute of Measures).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..errors import OptionError, nearest
from ..types import Data, Step
from . import clustering, pruning, quantization
from .clustering import cluster
from .pruning import prune
from .quantization import quantize_aware

TECHNIQUES = {"prune": prune, "cluster": cluster, "quantize_aware": quantize_aware}
PLANS = {"prune": pruning.plan, "cluster": clustering.plan, "quantize_aware": quantization.plan}
LAST = "quantize_aware"
EFFECTS = {"prune": ("float32", "sparsity"), "cluster": ("float32", "repetition"), "quantize_aware": ("int8", "int8_operations")}


def chain(*steps: Step) -> Callable[[Any, Data | None], Any]:
    """Several techniques as one function `(model, data) -> model`, each taking what the one before it gives.

    Raises:
      OptionError: a step that names no technique.

    >>> shrink = chain(Step("prune", {"sparsity": 0.5}), Step("quantize_aware", {"fit": Fit(epochs=2)}))
    >>> small = shrink(model, data)
    """
    for step in steps:
        if step.use not in TECHNIQUES:
            raise OptionError(f"chain: {step.use!r} is no technique; {nearest(step.use, TECHNIQUES)}")

    def chained(model: Any, data: Data | None = None) -> Any:
        for step in steps:
            model = TECHNIQUES[step.use](model, data, **step.options)
        return model

    return chained


__all__ = ["EFFECTS", "LAST", "PLANS", "TECHNIQUES", "chain", "cluster", "prune", "quantize_aware"]
