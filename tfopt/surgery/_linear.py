"""What linear layers cost, and which are: for the passes that compose or move them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .. import _layer_macs
from .rewriting import activation_name, kind

CONVOLUTIONS = ("Conv1D", "Conv2D", "Conv3D")
_OPEN = 64  # counts for an open size: what matters is which of two ways costs less


def is_linear(layer: Any, *kinds: str) -> bool:
    """Whether it is of one of these kinds, without an activation, on channels at the end, in float32."""
    channels_last = getattr(layer, "data_format", "channels_last") == "channels_last"
    return kind(layer) in kinds and activation_name(layer) in (None, "linear") and channels_last and layer.compute_dtype == "float32"


def is_pointwise(layer: Any) -> bool:
    """Whether a linear layer works on each place alone, and on all of them."""
    if is_linear(layer, *CONVOLUTIONS):
        return all(size == 1 for size in (*layer.kernel_size, *layer.strides))
    return is_linear(layer, "Dense")


def macs(layers: Sequence[Any], shape: Sequence[int | None]) -> int | None:
    """Multiply-accumulates of layers called one after another on one example of this shape (batch first); None where they can't be known.

    New layers are built on the way.
    """
    shape, total = (1, *(_OPEN if size is None else size for size in shape[1:])), 0
    for layer in layers:
        if not layer.built:
            layer.build(shape)
        after = tuple(layer.compute_output_shape(shape))
        count = _layer_macs.macs(layer, _layer_macs.Call([shape], [after]))
        if count is None:
            return None
        shape, total = after, total + count
    return total
