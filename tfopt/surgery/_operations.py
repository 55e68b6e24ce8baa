"""How TensorFlow's operations on tensors hand channels on: those that Keras keeps as a TFOpLambda or a SlicingOpLambda."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ._passing import broadcast, concatenated, element_wise, permuted, product, reshaped, stopped, without_axes
from .ties import Call, Channels, Ties


def operation(ties: Ties, layer: Any, call: Call) -> Channels | list[Channels]:
    """What an operation gives; one that is not known and works on single elements is asked what it does with them."""
    if layer.symbol == "__operators__.getitem":
        return _sliced(ties, layer, call)
    try:
        bound = inspect.signature(layer.function).bind(*call.arguments[0], **call.arguments[1])
    except TypeError:  # a call that the operation's signature does not describe
        return _unknown(ties, layer, call)
    bound.apply_defaults()
    rule = _RULES.get(layer.symbol.removeprefix("compat.v1."))
    if rule is not None:
        return rule(ties, layer, call, bound.arguments)
    first = next(iter(bound.arguments))
    if len(call.inputs) == 1 and call.shapes[0] == call.outputs[0] and bound.arguments[first] == Input(0):
        others = {name: value for name, value in bound.arguments.items() if name != first}
        return element_wise(ties, layer, lambda values: layer.function(values, **others), call.inputs[0])
    return _unknown(ties, layer, call)


class Input(int):
    """The number of an input among the arguments of a call."""


def _unknown(ties: Ties, layer: Any, call: Call) -> list[Channels]:
    return [stopped(ties, call.inputs, f"it is not known what {layer.symbol} does with channels")] * len(call.outputs)


def _arithmetic(function: Callable[..., np.ndarray]) -> Callable:
    """Of two operands at the same place."""

    def rule(ties: Ties, layer: Any, call: Call, bound: dict[str, Any]) -> Channels:
        operands = list(bound.values())[:2]
        output = call.outputs[0]
        if all(isinstance(one, Input) for one in operands):
            shapes = [call.shapes[one] for one in operands]
            if len(shapes[0]) != len(shapes[1]):
                return stopped(ties, call.inputs, f"{layer.name} joins tensors of different ranks")
            inputs = [call.inputs[one] for one in operands]
            return broadcast(ties, layer, inputs, shapes, output, lambda rests: function(*rests))
        channels = next(call.inputs[one] for one in operands if isinstance(one, Input))
        if channels.axis is None:
            return channels
        if any(np.size(one) != 1 for one in operands if not isinstance(one, Input)):
            return stopped(ties, call.inputs, f"{layer.name} has a constant for each of them")
        values = [channels.rest if isinstance(one, Input) else np.asarray(one, float).ravel() for one in operands]
        with np.errstate(all="ignore"):
            rest = np.broadcast_to(function(*values), channels.rest.shape)
        return Channels(channels.axis, channels.ids, rest)

    return rule


def _product(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return product(np.broadcast_arrays(one, other))


def _reshape(ties: Ties, layer: Any, call: Call, bound: dict[str, Any]) -> Channels:
    before, after = call.shapes[0], call.outputs[0]
    if None in (*before[1:], *after[1:]) or np.prod(before[1:]) != np.prod(after[1:]):
        return stopped(ties, call.inputs, f"{layer.name} puts examples together")
    channels = reshaped(ties, layer, call.inputs[0], before, after)
    shape = bound.get("shape")
    if channels.axis is not None and shape is not None:
        if not isinstance(shape, Sequence) or any(isinstance(size, Input) for size in shape):
            return stopped(ties, [channels], f"{layer.name} has a shape that is computed")
        if shape[channels.axis] != -1:
            ties.setting(layer, ["shape", channels.axis], channels.ids)
    return channels


def _transpose(ties: Ties, layer: Any, call: Call, bound: dict[str, Any]) -> Channels:
    order = bound.get("perm")
    if order is None or isinstance(order, Input) or next(iter(order)) != 0:
        return stopped(ties, call.inputs, f"{layer.name} moves the batch")
    return permuted(call.inputs[0], [int(axis) for axis in order])


def _concat(ties: Ties, layer: Any, call: Call, bound: dict[str, Any]) -> Channels:
    values, axis = bound["values"], bound["axis"]
    if not isinstance(values, list | tuple) or not all(isinstance(one, Input) for one in values) or isinstance(axis, Input):
        return stopped(ties, call.inputs, f"{layer.name} joins them with constants")
    shapes = [call.shapes[one] for one in values]
    return concatenated(ties, layer, [call.inputs[one] for one in values], shapes, int(axis) % len(shapes[0]))


def _reduced(ties: Ties, layer: Any, call: Call, bound: dict[str, Any]) -> Channels:
    (channels, *_), axes, rank = call.inputs, bound["axis"], len(call.shapes[0])
    gone = list(range(rank)) if axes is None else [int(axis) % rank for axis in np.ravel(axes)]
    if channels.axis in gone or (layer.symbol == "math.reduce_sum" and channels.rest.any()):
        return stopped(ties, call.inputs, f"{layer.name} takes channels together")
    return channels if bound["keepdims"] else without_axes(ties, layer, channels, gone)


def _split(ties: Ties, layer: Any, call: Call, bound: dict[str, Any]) -> list[Channels]:
    channels, axis, sizes = call.inputs[0], int(bound["axis"]) % len(call.shapes[0]), bound["num_or_size_splits"]
    if channels.axis is None or channels.axis != axis:
        return [channels] * len(call.outputs)
    bounds = np.cumsum([shape[axis] for shape in call.outputs])[:-1]
    parts = [Channels(axis, ids, rest) for ids, rest in zip(np.split(channels.ids, bounds), np.split(channels.rest, bounds), strict=True)]
    for number, part in enumerate(parts):
        if isinstance(sizes, int):  # equal parts stay equal
            ties.tie(parts[0].ids, part.ids)
        else:
            ties.setting(layer, ["num_or_size_splits", number], part.ids)
    return parts


def _sliced(ties: Ties, layer: Any, call: Call) -> Channels:
    """x[...]: along the channels a part of them, whose bounds move with what is cut before them."""
    (channels, *_), places = call.inputs, call.arguments[0][1] if len(call.arguments[0]) > 1 else call.arguments[1]["slice_spec"]
    if channels.axis is None:
        return channels
    places = list(places) if isinstance(places, list | tuple) else [places]
    rank = len(call.shapes[0])
    if Ellipsis in places:
        at = places.index(Ellipsis)
        before, after = places[:at], places[at + 1 :]
        numbers = [*range(len(before)), *range(at + 1, len(places))]
        axes = [*range(len(before)), *range(rank - len(after), rank)]
        places = before + after
    else:
        numbers = axes = list(range(len(places)))
    if len(call.inputs) > 1 or any(one is None or not isinstance(one, int | dict) or isinstance(one, Input) for one in places):
        return stopped(ties, call.inputs, f"{layer.name} has bounds that are computed, or new axes")
    known = {axis: (number, place) for axis, number, place in zip(axes, numbers, places, strict=True)}
    shift = sum(axis < channels.axis for axis, (_, place) in known.items() if isinstance(place, int))
    if channels.axis not in known or known[channels.axis][1] == {"start": None, "stop": None, "step": None}:
        return Channels(channels.axis - shift, channels.ids, channels.rest)
    number, place = known[channels.axis]
    if isinstance(place, int) or not all(one is None or type(one) is int for one in place.values()) or place["step"] not in (None, 1):
        return stopped(ties, call.inputs, f"{layer.name} picks single channels")
    start, stop, _ = slice(place["start"], place["stop"]).indices(len(channels.ids))
    for name, bound in (("start", start), ("stop", stop)):
        if place[name] is not None:
            ties.setting(layer, ["slice_spec", number, name], channels.ids[:bound])
    return Channels(channels.axis - shift, channels.ids[start:stop], channels.rest[start:stop])


_RULES: dict[str, Callable[..., Any]] = {
    **dict.fromkeys(("__operators__.add", "math.add"), _arithmetic(np.add)),
    **dict.fromkeys(("__operators__.sub", "math.subtract"), _arithmetic(np.subtract)),
    **dict.fromkeys(("__operators__.mul", "math.multiply"), _arithmetic(_product)),
    **dict.fromkeys(("__operators__.truediv", "math.divide", "math.truediv"), _arithmetic(np.divide)),
    "math.maximum": _arithmetic(np.maximum),
    "math.minimum": _arithmetic(np.minimum),
    **dict.fromkeys(("reshape", "expand_dims", "squeeze"), _reshape),
    "transpose": _transpose,
    "concat": _concat,
    **dict.fromkeys(("math.reduce_mean", "math.reduce_max", "math.reduce_sum"), _reduced),
    "split": _split,
}
