"""Linear layers one behind the other as one, where that takes fewer multiply-accumulates.

Two convolutions are one whose kernel is the sum over the places t of the second,

    K[s + t * strides] += K1[s] K2[t],    c = c1 (sum of K2 over its places) + c2

with sizes k1 + (k2 - 1) * strides and the product of the strides; a Dense is one without places, an average pooling one that has 1 / size
at each place. A bottleneck (many to few to many channels) takes more multiplications as one layer, and stays. Everything is computed in
float64 and rounded once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ._linear import CONVOLUTIONS, is_linear, macs
from ._scaling import weights_of
from .rewriting import Change, Changes, changed, kind, pairs, twin

_DEPTHWISE = ("DepthwiseConv1D", "DepthwiseConv2D")
_POOLINGS = ("AveragePooling1D", "AveragePooling2D", "AveragePooling3D")


def composed(model: Any, chosen: Callable[[Any, Any], bool] = lambda before, after: True) -> tuple[Any, Changes]:
    """The same model with a linear layer and the one behind it as one, where that is exact and lowers the multiply-accumulates.

    A Dense or convolution goes into the one behind it, and an average pooling into the convolution before it. What is padded must be the
    same: so a padded second convolution wants a first one of 1x1 without a bias, and pooling whole windows.

    Args:
      model: a tf_keras model without models inside it.
      chosen: `(layer before, layer behind) -> whether to make them one`.

    >>> shorter, changes = composed(model)
    >>> changes["dense"].reason
    'merged into logits'
    """
    new: dict[str, tuple[Any, list[np.ndarray]]] = {}
    gone: dict[str, str] = {}
    for before, after in pairs(model):
        taken = {before.name, after.name} & (new.keys() | gone.keys())
        if taken or not _compose(before, after) or not chosen(before, after):
            continue
        stays, goes = (before, after) if kind(after) in _POOLINGS else (after, before)
        layer = _one(before, after, stays)
        if layer is None or not _less(macs([layer], before.input_shape), macs([before, after], before.input_shape)):
            continue
        new[stays.name], gone[goes.name] = (layer, _weights(before, after)), stays.name

    def remake(layer):
        return None if layer.name in gone else twin(new[layer.name][0] if layer.name in new else layer)

    changes = {name: Change(f"merged into {into}", (into,), merged=True) for name, into in gone.items()}
    return changed(model, changes, remake, weights=lambda layer: new[layer.name][1] if layer.name in new else layer.get_weights())


def _less(one: int | None, other: int | None) -> bool:
    return one is not None and other is not None and one < other


def _compose(before: Any, after: Any) -> bool:
    """Whether the two are of kinds that are one convolution, or Dense, together."""
    if kind(after) == "Dense":
        return is_linear(before, "Dense")
    if not is_linear(before, *CONVOLUTIONS, *_DEPTHWISE) or kind(before)[-2:] != kind(after)[-2:] or _special(before):
        return False
    if kind(after) in CONVOLUTIONS:
        return after.data_format == "channels_last" and not _special(after)
    return kind(after) in _POOLINGS and after.data_format == "channels_last"


def _special(layer: Any) -> bool:
    return getattr(layer, "groups", 1) != 1 or any(rate != 1 for rate in layer.dilation_rate)


def _one(before: Any, after: Any, stays: Any) -> Any:
    """The two as one layer, without its weights; None where there is none that pads as they do."""
    if kind(after) == "Dense":
        return twin(after, use_bias=before.use_bias or after.use_bias)
    one, other, (first, second) = _sizes(before), _sizes(after), (before.strides, after.strides)
    sizes = [k + (places - 1) * stride for k, places, stride in zip(one, other, first, strict=True)]
    strides = [stride * more for stride, more in zip(first, second, strict=True)]
    padding = _padding(before, after, sizes, strides)
    if padding is None or (kind(stays) in _DEPTHWISE and len(set(strides)) > 1):  # which TensorFlow has no operation for
        return None
    bias = before.use_bias or getattr(after, "use_bias", False)
    return twin(stays, kernel_size=sizes, strides=strides, padding=padding, use_bias=bias)


def _sizes(layer: Any) -> Sequence[int]:
    return layer.pool_size if kind(layer) in _POOLINGS else layer.kernel_size


def _padding(before: Any, after: Any, sizes: Sequence[int], strides: Sequence[int]) -> str | None:
    """The padding by which one layer of these sizes and strides has its windows where the two have theirs."""
    one, other = before.padding, after.padding
    if all(size == 1 for size in (*_sizes(after), *after.strides)):
        return one
    if one == other == "valid":
        return "valid"
    spaces = before.input_shape[1:-1], before.output_shape[1:-1]
    if "causal" in (one, other) or None in (*spaces[0], *spaces[1]):
        return None
    first = [_windows(*each, one) for each in zip(spaces[0], _sizes(before), before.strides, strict=True)]
    second = [_windows(*each, other) for each in zip(spaces[1], _sizes(after), after.strides, strict=True)]
    padded = any(start or end for _, start, end in second)
    at_places = all(size == 1 for size in (*_sizes(before), *before.strides))
    if padded and (kind(after) in _POOLINGS or not at_places or weights_of(before)[-1].any()):
        return None  # the second's zeros are put around what the first gives, and a pooling counts without them
    wanted = [(count, start + own) for (_, own, _), (count, start, _) in zip(first, second, strict=True)]
    for padding in ("valid", "same"):
        if [_windows(*each, padding)[:2] for each in zip(spaces[0], sizes, strides, strict=True)] == wanted:
            return padding
    return None


def _windows(size: int, kernel: int, stride: int, padding: str) -> tuple[int, int, int]:
    """Along an axis: how many windows there are, and how many zeros are put before the first and behind the last."""
    if padding == "valid":
        return (size - kernel) // stride + 1, 0, 0
    count = math.ceil(size / stride)
    zeros = max((count - 1) * stride + kernel - size, 0)
    return count, zeros // 2, zeros - zeros // 2


def _weights(before: Any, after: Any) -> list[np.ndarray]:
    """Kernel and bias of the two as one; no bias where neither has one."""
    strides = getattr(before, "strides", ())  # none of a Dense
    if kind(after) in _POOLINGS:
        one, bias = weights_of(before)
        kernel = _sum(one, after.pool_size, strides, lambda _: one / math.prod(after.pool_size), one.shape[-2:])
    else:
        one, other = _matrices(before), after.kernel.numpy().astype("float64")
        bias = weights_of(before)[-1] @ other.sum(tuple(range(len(strides)))) + weights_of(after)[-1]
        kernel = _sum(one, other.shape[: len(strides)], strides, lambda place: one @ other[place], (one.shape[-2], other.shape[-1]))
    has_bias = before.use_bias or getattr(after, "use_bias", False)
    return [kernel.astype("float32"), *([bias.astype("float32")] if has_bias else [])]


def _sum(one: np.ndarray, places: Sequence[int], strides: Sequence[int], part: Callable, channels: Sequence[int]) -> np.ndarray:
    """The kernel of `one` moved to each place of the second, where it counts by `part`."""
    sizes = one.shape[:-2]
    kernel = np.zeros([*(k + (count - 1) * stride for k, count, stride in zip(sizes, places, strides, strict=True)), *channels])
    for place in np.ndindex(*places):
        there = tuple(slice(at * stride, at * stride + k) for at, stride, k in zip(place, strides, sizes, strict=True))
        kernel[there] += part(place)
    return kernel


def _matrices(layer: Any) -> np.ndarray:
    """A kernel in float64 with a matrix (inputs, outputs) at each place; of a depthwise one, whose outputs have an input each."""
    kernel = layer.get_weights()[0].astype("float64")
    if kind(layer) not in _DEPTHWISE:
        return kernel
    *sizes, channels, multiplier = kernel.shape
    full = np.zeros((*sizes, channels, channels, multiplier))
    full[..., np.arange(channels), np.arange(channels), :] = kernel
    return full.reshape(*sizes, channels, channels * multiplier)
