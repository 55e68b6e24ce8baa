"""How recurrent layers and attention read channels and make new ones."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np

from ._kernels import read
from ._passing import at_rest, stopped
from .rewriting import kind
from .ties import Call, Channels, Ties

_GATES = {"LSTM": 4, "GRU": 3, "SimpleRNN": 1}


def recurrent(ties: Ties, layer: Any, call: Call) -> Channels | list[Channels]:
    """LSTM, GRU and SimpleRNN: a unit is a channel of the input's kernel, of the recurrent one, of every gate and of the states."""
    ids = ties.new(layer.units)
    ties.setting(layer, ["units"], ids)
    return _outputs(call, _states(ties, layer, call, ids))


def both_ways(ties: Ties, layer: Any, call: Call) -> Channels | list[Channels]:
    """Bidirectional: a unit goes in both directions at once, as there is one number for both."""
    forward, backward = layer.forward_layer, layer.backward_layer
    if kind(forward) not in _GATES or kind(backward) not in _GATES or forward.units != backward.units:
        return stopped(ties, call.inputs, f"it is not known what the layers of {layer.name} do with channels")
    ids = ties.new(forward.units)
    for path in (["layer", "config", "units"], ["backward_layer", "config", "units"]):
        ties.setting(layer, path, ids)
    half = (len(call.inputs) - 1) // 2
    starts = [Call([call.inputs[0], *states], call.shapes, call.outputs) for states in (call.inputs[1 : 1 + half], call.inputs[1 + half :])]
    one, other = (_states(ties, part, start, ids) for part, start in zip((forward, backward), starts, strict=True))
    if layer.merge_mode == "concat":
        whole = Channels(one.axis, np.concatenate([one.ids, other.ids]), np.concatenate([one.rest, other.rest]))
        return [Channels(len(shape) - 1, whole.ids, whole.rest) if place == 0 else one for place, shape in enumerate(call.outputs)]
    return _outputs(call, one)


def _outputs(call: Call, state: Channels) -> list[Channels]:
    return [Channels(len(shape) - 1, state.ids, state.rest) for shape in call.outputs]


def _states(ties: Ties, layer: Any, call: Call, ids: np.ndarray) -> Channels:
    """What one direction makes, at its last step."""
    cell, gates = layer.cell, np.tile(ids, _GATES[kind(layer)])
    read(ties, layer, cell.kernel, 0, call.inputs[0], 2)
    ties.slot(layer, cell.kernel, 1, gates, makes=True)
    ties.slot(layer, cell.recurrent_kernel, 0, ids, makes=False)
    ties.slot(layer, cell.recurrent_kernel, 1, gates, makes=True)
    if cell.bias is not None:
        ties.slot(layer, cell.bias, len(cell.bias.shape) - 1, gates, makes=True)
    for state in call.inputs[1:]:
        if state.axis == 1:
            ties.tie(ids, state.ids)
        else:
            ties.keep(np.concatenate([ids, state.ids]), f"{layer.name} begins with a state that can't be cut")
    rest = at_rest(cell.activation, np.zeros(1))
    if rest is None or rest[0] != 0:
        ties.keep(ids, f"the units of {layer.name} are not zero when their weights are")
    return Channels(1, ids, np.zeros(len(ids)))


def heads(ties: Ties, layer: Any, call: Call) -> Channels | list[Channels]:
    """MultiHeadAttention: a head is a channel of all four projections; what the last one gives is as wide as the query or as it is told."""
    given = _named(layer, call)
    query, value = given["query"], given["value"]
    key = given.get("key") if isinstance(given.get("key"), int) else value
    number = ties.new(layer._num_heads)
    ties.setting(layer, ["num_heads"], number)
    for place, dense, shape in ((query, layer._query_dense, "query"), (key, layer._key_dense, "key"), (value, layer._value_dense, "value")):
        last = len(call.shapes[place]) - 1
        read(ties, layer, dense.kernel, 0, call.inputs[place], last, bias=None)
        ties.setting(layer, [f"{shape}_shape", last], ties.slots[(id(dense.kernel), 0)].ids)
        ties.slot(layer, dense.kernel, 1, number, makes=True)
        if dense.bias is not None:
            ties.slot(layer, dense.bias, 0, number, makes=True)
    output = layer._output_dense
    ties.slot(layer, output.kernel, 0, number, makes=False)
    ids = ties.new(output.kernel.shape[-1])
    if layer._output_shape is None:
        ties.tie(ids, ties.slots[(id(layer._query_dense.kernel), 0)].ids)
    elif len(output.kernel.shape) == 3:
        ties.setting(layer, ["output_shape", 0], ids)
    else:
        ties.keep(ids, f"{layer.name} gives more than one axis of channels")
    for variable in (output.kernel, output.bias):
        if variable is not None:
            ties.slot(layer, variable, len(variable.shape) - 1, ids, makes=True)
    made = Channels(len(call.outputs[0]) - 1, ids, np.zeros(len(ids)))
    scores = Channels(1, number, np.full(len(number), np.nan))
    return [made, scores][: len(call.outputs)]


def attention(ties: Ties, layer: Any, call: Call) -> Channels | list[Channels]:
    """Attention and AdditiveAttention: what is compared at the same place is one channel; what comes out are the values'."""
    query, value = call.inputs[:2]
    key = call.inputs[2] if len(call.inputs) > 2 else value
    compared = [one for one in (query, key) if one.axis == 2]
    if len(compared) < 2 or any((one.rest != 0).any() for one in compared):
        stopped(ties, [query, key], f"{layer.name} compares them with what can't be cut")
    else:
        ties.tie(query.ids, key.ids)
        if getattr(layer, "scale", None) is not None and layer.scale.shape.rank:
            ties.slot(layer, layer.scale, 0, query.ids, makes=False)
    return [value, Channels()][: len(call.outputs)]


def einsum(ties: Ties, layer: Any, call: Call) -> Channels:
    """EinsumDense: the first of its new axes may be cut, such as the heads of a projection."""
    equation = layer.equation.replace(" ", "")
    if "." in equation:
        return stopped(ties, call.inputs, f"{layer.name}: an equation with '...'")
    given, rest = equation.split(",")
    weights, result = rest.split("->")
    channels, letter = call.inputs[0], given[call.inputs[0].axis] if call.inputs[0].axis is not None else ""
    summed = [one for one in weights if one in given and one not in result]
    if letter not in summed or set(weights) & set(given) & set(result) or channels.rest.any():
        stopped(ties, call.inputs, f"{layer.name} does not sum over them alone") if letter else None
        channels = Channels()
    for one in summed:
        read(ties, layer, layer.kernel, weights.index(one), channels if one == letter else Channels(), given.index(one))
    made = next((one for one in result if one in weights and one not in given), None)
    if made is None:
        return Channels()
    ids = ties.new(layer.kernel.shape[weights.index(made)])
    axis = result.index(made)
    ties.setting(layer, ["output_shape", axis - 1], ids)
    ties.slot(layer, layer.kernel, weights.index(made), ids, makes=True)
    if layer.bias is not None and made in (layer.bias_axes or ""):
        order = [one for one in result if one in layer.bias_axes]
        ties.slot(layer, layer.bias, order.index(made) - len(order) + len(layer.bias.shape), ids, makes=True)
    elif layer.bias is not None:
        ties.keep(ids, f"{layer.name} has a bias that is shared along them")
    resting = at_rest(layer.activation, np.zeros(len(ids))) if layer.activation else np.zeros(len(ids))
    if resting is None:
        return stopped(ties, [Channels(axis, ids, np.zeros(len(ids)))], f"{layer.name} works on several channels at once")
    return Channels(axis, ids, resting)


def _named(layer: Any, call: Call) -> dict[str, Any]:
    """The arguments of a call by name, an input as its number."""
    return inspect.signature(layer.call).bind(*call.arguments[0], **call.arguments[1]).arguments
