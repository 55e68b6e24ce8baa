"""How layers with kernels read channels and make new ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ._passing import channel_axis, element_wise, stopped
from .rewriting import kind
from .ties import FIXED, Call, Channels, Ties


def read(ties: Ties, layer: Any, variable: Any, axis: int, channels: Channels, at: int, *, bias: Any = None, exact: bool = True) -> None:
    """Of a kernel that sums over an axis of its input, `at`.

    Args:
      bias: what takes over constant values; `exact`: whether it can, as every position sums over all of the kernel.
    """
    size = variable.shape[axis]
    if channels.axis is not None and channels.axis != at:
        ties.keep(channels.ids, f"{layer.name} sums over another axis")
    ids = channels.ids if channels.axis == at else np.full(size, FIXED)
    ids = ties.slot(layer, variable, axis, ids, makes=False)
    if channels.axis != at:
        return
    constant = np.isfinite(channels.rest)
    ties.keep(channels.ids[~constant], f"{layer.name} reads what is there even when its weights are zero")
    lasting = constant & (channels.rest != 0)
    if bias is None or not exact:
        ties.keep(channels.ids[lasting], f"it is not zero when its weights are, and {layer.name} has no bias that could take that over")
    else:
        values = np.where(lasting, channels.rest, 0)
        ties.shift(variable, axis, bias, ids, values, f"{layer.name} is called with different values in their place")


def made(ties: Ties, layer: Any, ids: np.ndarray, axis: int, slots: Sequence[tuple[Any, int]]) -> Channels:
    """Channels that weights make, behind the layer's activation."""
    for variable, along in slots:
        if variable is not None:
            ids = ties.slot(layer, variable, along, ids, makes=True)
    channels = Channels(axis, ids, np.zeros(len(ids)))
    return element_wise(ties, layer, layer.activation, channels) if getattr(layer, "activation", None) else channels


def dense(ties: Ties, layer: Any, call: Call) -> Channels:
    rank = len(call.shapes[0])
    read(ties, layer, layer.kernel, 0, call.inputs[0], rank - 1, bias=layer.bias)
    ids = ties.new(layer.units)
    ties.setting(layer, ["units"], ids)
    return made(ties, layer, ids, rank - 1, [(layer.kernel, 1), (layer.bias, 0)])


def convolution(ties: Ties, layer: Any, call: Call) -> Channels:
    (channels,), rank = call.inputs, len(call.shapes[0])
    axis, last = channel_axis(layer, rank), rank - 1
    out, into = (last - 1, last) if kind(layer).endswith("Transpose") else (last, last - 1)
    groups = getattr(layer, "groups", 1)
    ids = ties.new(layer.filters)
    if groups > 1:
        channels = _by_groups(ties, channels, groups, axis)
        _tie_rows(ties, ids.reshape(groups, -1))
    exact = layer.padding == "valid" and not kind(layer).endswith("Transpose")
    read(ties, layer, layer.kernel, into, channels, axis, bias=layer.bias, exact=exact and groups == 1)
    ties.setting(layer, ["filters"], ids)
    return made(ties, layer, ids, axis, [(layer.kernel, out), (layer.bias, 0)])


def _by_groups(ties: Ties, channels: Channels, groups: int, axis: int) -> Channels:
    """What a kernel of groups has along its inputs: a place stands for that of each group, which go together."""
    if channels.axis != axis:
        return channels
    ids = channels.ids.reshape(groups, -1)
    _tie_rows(ties, ids)
    rests = channels.rest.reshape(ids.shape)
    return Channels(axis, ids[0], np.where((rests == rests[0]).all(axis=0), rests[0], np.nan))


def _tie_rows(ties: Ties, ids: np.ndarray) -> None:
    for row in ids[1:]:
        ties.tie(ids[0], row)


def depthwise(ties: Ties, layer: Any, call: Call) -> Channels:
    (channels,), rank = call.inputs, len(call.shapes[0])
    axis = channel_axis(layer, rank)
    if channels.axis != axis:
        channels = Channels(axis, np.full(call.shapes[0][axis], FIXED), np.full(call.shapes[0][axis], np.nan))
        ties.keep(call.inputs[0].ids, f"{layer.name} works along them")
    ids = ties.slot(layer, layer.depthwise_kernel, rank - 2, channels.ids, makes=True)
    return made(ties, layer, np.repeat(ids, layer.depth_multiplier), axis, [(layer.bias, 0)])


def separable(ties: Ties, layer: Any, call: Call) -> Channels:
    (channels,), rank = call.inputs, len(call.shapes[0])
    axis = channel_axis(layer, rank)
    read(ties, layer, layer.depthwise_kernel, rank - 2, channels, axis)
    between = ties.slots[(id(layer.depthwise_kernel), rank - 2)].ids
    ties.slot(layer, layer.pointwise_kernel, rank - 2, np.repeat(between, layer.depth_multiplier), makes=False)
    ids = ties.new(layer.filters)
    ties.setting(layer, ["filters"], ids)
    return made(ties, layer, ids, axis, [(layer.pointwise_kernel, rank - 1), (layer.bias, 0)])


def embedding(ties: Ties, layer: Any, call: Call) -> Channels:
    ids = ties.new(layer.output_dim)
    ties.setting(layer, ["output_dim"], ids)
    return made(ties, layer, ids, len(call.outputs[0]) - 1, [(layer.embeddings, 1)])


def batch_norm(ties: Ties, layer: Any, call: Call) -> Channels:
    (channels,) = call.inputs
    axes = [layer.axis] if isinstance(layer.axis, int) else list(layer.axis)
    if channels.axis is None:
        return channels
    if [axis % len(call.shapes[0]) for axis in axes] != [channels.axis]:
        return stopped(ties, call.inputs, f"{layer.name} takes them together")
    for variable in (layer.gamma, layer.beta, layer.moving_mean, layer.moving_variance):
        if variable is not None:
            ties.slot(layer, variable, 0, channels.ids, makes=True)
    silent = np.zeros_like(channels.rest) if layer.scale else np.where(channels.rest == 0, 0.0, np.nan)
    return Channels(channels.axis, channels.ids, silent)


def prelu(ties: Ties, layer: Any, call: Call) -> Channels:
    (channels,) = call.inputs
    if channels.axis is None:
        return channels
    if layer.alpha.shape[channels.axis - 1] != 1:
        ties.slot(layer, layer.alpha, channels.axis - 1, channels.ids, makes=True)
    return Channels(channels.axis, channels.ids, np.where(channels.rest >= 0, channels.rest, np.nan))
