"""Folding: the same model in fewer layers and fewer multiply-accumulates, with the same predictions; the clean-up before it is deployed.

What is linear and has linear layers around it goes into them. A BatchNorm at inference computes a x + b, which a convolution takes in,

    a (W x + c) + b = (a W) x + (a c + b);

two linear layers are one whose kernel is the product; an average commutes with a 1x1 convolution. What does nothing at inference, what
does not depend on the input, and channels of zeros go. Each step is exact but for rounding; where it would not be (zeros padded in
between), or would take more multiply-accumulates, it is not done.

Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference" (arXiv:1712.05877),
section 3.2.
"""

from __future__ import annotations

from typing import Any

from .. import backend, bridge, options
from ..surgery import Fate, copying, kernels, precision, rewriting, simplified
from ..tracing import record_plan
from ..types import Choice, Data
from . import _sharing

_SCALINGS = ("BatchNormalization", "SyncBatchNormalization", "Rescaling", "Normalization", "LayerScale")


def plan(model: Any, **_: Any) -> tuple[Choice, ...]:
    """What `fold` will make of each layer, and why the others stay."""
    model = bridge.plain(model)
    copying.check_supported(model)
    return _folded(model)[1]


@options.checked
def fold(model: Any, data: Data | None = None) -> Any:
    """A copy of the model in fewer layers, with the same predictions; nothing is trained.

    BatchNorm, Rescaling and Normalization go into the linear layers around them; dropout, augmentation and what does nothing goes;
    linear layers one behind the other become one, and average pooling goes into or before the linear layer in front of it, where that
    takes fewer multiply-accumulates; branches that do not depend on the input and channels of zeros go.

    Args:
      model: a plain tf_keras model, or a Keras 3 model.
      data: is not used.

    Returns:
      A plain functional tf_keras model of float32, nested models laid open. Inputs and outputs have the same names, shapes and order but
      that an output is named by the layer that it then comes from.

    Raises:
      UnsupportedModel: a model whose layers can't be seen, or that is quantization-aware.

    >>> small = fold(model)
    >>> len(small.layers), len(model.layers)
    (31, 48)
    """
    model, choices = _folded(copying.copy_of(model))
    record_plan("fold", choices)
    return model


def _folded(model: Any) -> tuple[Any, tuple[Choice, ...]]:
    model = precision.in_float32(model)
    with backend.seeded(0):  # initializers, whose numbers are thrown away
        new, fates = simplified(model, shared=_sharing.in_layer, sparse=_sparse)
    taken: dict[str, list[str]] = {}
    for path, fate in fates.items():
        if fate.merged and fate.layers:
            taken.setdefault(fate.layers[0], []).append(path)
    return new, tuple(_choice(path, layer, fates[path], taken, new) for path, layer in copying.all_layers(model))


def _sparse(layer: Any) -> bool:
    """Whether weights of it are zero, as `prune` leaves them."""
    return any(not kernel.matrix().all() for kernel in kernels.kernels_of(layer))


def _choice(path: str, layer: Any, fate: Fate, taken: dict[str, list[str]], new: Any) -> Choice:
    reasons = list(fate.reasons)
    if not fate.merged and (others := taken.get(fate.layers[0])):
        reasons.append(f"takes in {', '.join(others)}")
    return Choice(path, bool(reasons), "; ".join(reasons) or _why_left(layer, new))


def _why_left(layer: Any, new: Any) -> str:
    name = rewriting.kind(layer) or type(layer).__name__
    if name not in _SCALINGS:
        return f"{name} stays: there is nothing to fold"
    nodes = [node for node in backend.nodes_of(new) if node.layer.name == layer.name]
    if len(nodes) > 1:
        return "left: it is called several times"
    if nodes[0].call_kwargs.get("training") is True:
        return "left: it computes with the statistics of each batch"
    before = nodes[0].keras_inputs[0]._keras_history.layer
    return f"left: neither {before.name} before it nor what is behind it can take it in"
