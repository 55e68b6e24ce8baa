"""How layers without kernels hand channels on: element by element, joined, in another shape."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import backend
from .ties import FIXED, Channels, Shape, Ties


def stopped(ties: Ties, inputs: Sequence[Channels], reason: str) -> Channels:
    """What a layer gives whose work on channels is not known: nothing that can be cut, and its inputs are kept."""
    for channels in inputs:
        ties.keep(channels.ids, reason)
    return Channels(reason=reason)


def at_rest(function: Callable[[Any], Any], rest: np.ndarray) -> np.ndarray | None:
    """What a function makes of channels at rest; None where it does not work element by element (a softmax)."""
    tf = backend.tensorflow()

    def applied(values: np.ndarray) -> np.ndarray:
        return np.asarray(function(tf.constant(values, "float32")), "float64")

    probe = np.array([[-2.0, -0.5, 0.3, 1.0, 4.0]])
    try:
        whole, single = applied(probe), np.concatenate([applied(probe[:, place : place + 1]) for place in range(5)], axis=1)
        if whole.shape != probe.shape or not np.allclose(whole, single, atol=1e-5):
            return None
        return applied(np.where(np.isnan(rest), 0, rest)[None])[0] + np.where(np.isnan(rest), np.nan, 0)
    except Exception:  # a function of the user's own, which takes what its layer gives it
        return None


def element_wise(ties: Ties, layer: Any, function: Callable[[Any], Any], channels: Channels) -> Channels:
    """Behind a function of single elements."""
    if channels.axis is None:
        return channels
    rest = at_rest(function, channels.rest)
    if rest is None:
        return stopped(ties, [channels], f"{getattr(function, '__name__', 'what')} of {layer.name!r} runs over them")
    return Channels(channels.axis, channels.ids, rest)


def broadcast(ties: Ties, layer: Any, inputs: Sequence[Channels], shapes: Sequence[Shape], output: Shape, function: Callable) -> Channels:
    """Behind a function of elements at the same place of several tensors, of as many axes each; a size of 1 is spread."""
    inputs = [_spread(ties, layer, channels, shape, output) for channels, shape in zip(inputs, shapes, strict=True)]
    axes = {channels.axis for channels in inputs if channels.axis is not None}
    if len(axes) != 1:
        return stopped(ties, inputs, f"{layer.name} joins channels of different axes") if axes else Channels()
    (axis,) = axes
    ids, rests = None, []
    for channels, shape in zip(inputs, shapes, strict=True):
        if channels.axis is None:
            if shape[axis] != 1:
                return stopped(ties, inputs, f"{layer.name} joins them with what can't be cut")
            rests.append(np.full(output[axis], np.nan))
        else:
            ids = channels.ids if ids is None else ids
            ties.tie(ids, channels.ids)
            rests.append(channels.rest)
    return Channels(axis, ids, function(rests))


def _spread(ties: Ties, layer: Any, channels: Channels, shape: Shape, output: Shape) -> Channels:
    if channels.axis is not None and shape[channels.axis] != output[channels.axis]:
        return stopped(ties, [channels], f"{layer.name} spreads it over all others")
    return channels


def product(rests: Sequence[np.ndarray]) -> np.ndarray:
    """Of what is at rest: nothing that is multiplied by zero is left, whatever it depends on."""
    result = np.prod(rests, axis=0)
    return np.where(np.any([rest == 0 for rest in rests], axis=0), 0.0, result)


def concatenated(ties: Ties, layer: Any, inputs: Sequence[Channels], shapes: Sequence[Shape], axis: int) -> Channels:
    """Behind tensors laid one after the other along an axis."""
    axes = {channels.axis for channels in inputs if channels.axis is not None}
    if not axes:
        return Channels()
    if axes == {axis}:
        known = [c if c.axis is not None else _fixed(shape[axis]) for c, shape in zip(inputs, shapes, strict=True)]
        return Channels(axis, np.concatenate([c.ids for c in known]), np.concatenate([c.rest for c in known]))
    if len(axes) > 1 or axis in axes or any(channels.axis is None for channels in inputs):
        return stopped(ties, inputs, f"{layer.name} lays tensors together that are not cut along one axis")
    for channels in inputs[1:]:
        ties.tie(inputs[0].ids, channels.ids)
    rests = np.stack([channels.rest for channels in inputs])
    return Channels(inputs[0].axis, inputs[0].ids, np.where((rests == rests[0]).all(axis=0), rests[0], np.nan))


def _fixed(count: int) -> Channels:
    return Channels(0, np.full(count, FIXED), np.full(count, np.nan))


def reshaped(ties: Ties, layer: Any, channels: Channels, before: Shape, after: Shape) -> Channels:
    """Behind another shape of the same elements in the same order (both with the batch)."""
    if channels.axis is None:
        return channels
    if None in before[1:] or None in after[1:]:
        return stopped(ties, [channels], f"{layer.name}: the sizes of its shapes are not known")

    def laid_out(values: np.ndarray) -> np.ndarray:
        along = [-1 if axis == channels.axis else 1 for axis in range(1, len(before))]
        return np.broadcast_to(values.reshape(along), before[1:]).reshape(after[1:])

    ids, rest = laid_out(ties.of(channels.ids)), laid_out(channels.rest)
    varying = [axis for axis in range(ids.ndim) if (ids != ids.take([0], axis)).any()]
    if not varying:
        return stopped(ties, [channels], f"{layer.name} has one channel")
    axis = varying[-1]
    rows, rests = (np.moveaxis(values, axis, 0).reshape(values.shape[axis], -1) for values in (ids, rest))
    for column in range(1, rows.shape[1]) if len(varying) > 1 else ():  # what was one axis is cut along the last of those made of it
        ties.tie(rows[:, 0], rows[:, column])
    return Channels(axis + 1, rows[:, 0], np.where((rests == rests[:, :1]).all(axis=1), rests[:, 0], np.nan))


def permuted(channels: Channels, order: Sequence[int]) -> Channels:
    """Behind axes in another order: output axis i is input axis order[i]."""
    return Channels(list(order).index(channels.axis), channels.ids, channels.rest) if channels.axis is not None else channels


def without_axes(ties: Ties, layer: Any, channels: Channels, gone: Sequence[int]) -> Channels:
    """Behind axes that are summed up, averaged or left out."""
    if channels.axis is None:
        return channels
    if channels.axis in gone:
        return stopped(ties, [channels], f"{layer.name} takes channels together")
    return Channels(channels.axis - sum(axis < channels.axis for axis in gone), channels.ids, channels.rest)


def moved_in_space(ties: Ties, layer: Any, channels: Channels, before: Shape, after: Shape, *, fills: bool = False) -> Channels:
    """Behind pooling, padding (which `fills` with zeros), cropping, upsampling: what changes the sizes of the other axes."""
    if channels.axis is None:
        return channels
    if before[channels.axis] != after[channels.axis] or channels.axis != channel_axis(layer, len(before)):
        return stopped(ties, [channels], f"{layer.name} works along them")
    return Channels(channels.axis, channels.ids, np.where(channels.rest == 0, 0.0, np.nan) if fills else channels.rest)


def channel_axis(layer: Any, rank: int) -> int:
    """Which axis of a tensor a layer of images and series takes for the channels."""
    return 1 if getattr(layer, "data_format", None) == "channels_first" else rank - 1


# What merging layers make of elements.
JOINING: dict[str, Callable[[Sequence[np.ndarray]], np.ndarray]] = {
    "Add": lambda rests: np.sum(rests, axis=0),
    "Subtract": lambda rests: rests[0] - rests[1],
    "Multiply": product,
    "Average": lambda rests: np.mean(rests, axis=0),
    "Maximum": lambda rests: np.max(rests, axis=0),
    "Minimum": lambda rests: np.min(rests, axis=0),
}
