"""Layers in parts: which of Keras's own layers, one after the other, stand for one whose kernel is a product, and what they cost.

    Dense, 1x1 convolution     W = A B: a layer of r units, then one of the old number
    convolution                k x 1 of r filters, then 1 x k (Jaderberg et al. 2014); or 1x1, k x k, 1x1 (Kim et al. 2016)
    transposed convolution     1x1, then itself on r channels; or 1x1, itself, 1x1
    Embedding                  V x r, then a Dense
    LSTM, GRU, SimpleRNN       a Dense of r units on each step, then the layer on r numbers; in both directions the same Dense

The last part has the layer's name, bias, activation and regularizers of what it puts out; its kernel's regularizer goes to all parts.
Strides, padding and dilation go along each axis with the part that spans it, so that at full rank the same is computed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import _layer_macs, backend
from ..surgery.rewriting import kind, own_functions
from ._products import Product, Tucker

ENDINGS = ("in", "core")  # of the names of parts that stand before the last
Made = list[tuple[Any, list[np.ndarray]]]  # layers and their weights
RECURRENT = ("LSTM", "GRU", "SimpleRNN")
_LINEAR = {"use_bias": False, "activation": "linear", "activity_regularizer": None}
_INITIALIZERS = ("kernel_initializer", "embeddings_initializer")  # which may hold a matrix of the old shape


@dataclass(frozen=True, eq=False)
class Way:
    """A way in which a layer comes apart.

    Attributes:
      parts: in words, for given ranks.
      kept: the share of the kernel's energy that is kept; one number for each rank from 1, or a table of two ranks.
      costs: what the parts cost, in the same places.
      made: the new layers for given ranks, with their weights.
    """

    parts: Callable[..., str]
    kept: np.ndarray
    costs: np.ndarray
    made: Callable[..., Made]


@dataclass(frozen=True, eq=False)
class Whole:
    """A layer that can come apart.

    Attributes:
      cost: what it costs as it is.
      unit: in what this is told: "MACs", of all its calls; "MACs a place" where sizes are free; "parameters" of an Embedding, which
        multiplies nothing.
      ways: how; the first by truncated SVD, of one rank.
      beside: what else is to be said.
    """

    cost: int
    unit: str
    ways: tuple[Way, ...]
    beside: str = ""


def whole(layer: Any, calls: Sequence[_layer_macs.Call]) -> Whole:
    """A layer of a kind in KINDS, and the ways in which it comes apart."""
    return KINDS[kind(layer)](layer, calls)


def _split(matrix: np.ndarray, each: int, fixed: int, parts: Callable[..., str], made: Callable[..., Made]) -> Way:
    """A W = A B, of which each unit of the rank costs `each`."""
    product = Product(matrix)
    ranks = np.arange(1, min(matrix.shape) + 1)
    return Way(parts, product.kept, fixed + each * ranks, lambda rank: made(*product.factors(rank)))


def _dense(layer: Any, calls: Sequence[_layer_macs.Call]) -> Whole:
    inputs, units = layer.kernel.shape
    places, unit = _counted(calls, lambda call: math.prod(call.outputs[0][:-1]), 1)

    def made(before: np.ndarray, behind: np.ndarray) -> Made:
        first = _part(layer, units=before.shape[1], name=_name(layer, 0), **_LINEAR)
        return [(first, [before]), (_part(layer), [behind, *_behind_kernel(layer)])]

    way = _split(layer.kernel.numpy(), places * (inputs + units), 0, lambda rank: f"Dense({rank}), Dense({units})", made)
    return Whole(places * inputs * units, unit, (way,))


def _embedding(layer: Any, calls: Sequence[_layer_macs.Call]) -> Whole:
    words, size = layer.embeddings.shape

    def made(before: np.ndarray, behind: np.ndarray) -> Made:
        first = _part(layer, output_dim=before.shape[1], name=_name(layer, 0), activity_regularizer=None)
        settings = {"kernel_regularizer": layer.embeddings_regularizer, "activity_regularizer": layer.activity_regularizer}
        return [(first, [before]), (_new_dense(layer, size, layer.name, **settings), [behind])]

    way = _split(layer.embeddings.numpy(), words + size, 0, lambda rank: f"Embedding({words}, {rank}), Dense({size})", made)
    return Whole(words * size, "parameters", (way,))


def _recurrent(layer: Any, calls: Sequence[_layer_macs.Call]) -> Whole:
    halves = halves_of(layer)
    kernels = [half.cell.kernel for half in halves]
    inputs, sizes = kernels[0].shape[0], [kernel.shape[1] for kernel in kernels]
    fixed = sum(math.prod(half.cell.recurrent_kernel.shape) for half in halves)
    steps, unit = _counted(calls, lambda call: math.prod(call.inputs[0][:2]), 1)

    def made(before: np.ndarray, behind: np.ndarray) -> Made:
        first = _new_dense(layer, before.shape[1], _name(layer, 0), kernel_regularizer=halves[0].cell.kernel_regularizer)
        own = np.split(behind, np.cumsum(sizes)[:-1], axis=1)
        replaced = {id(kernel): array for kernel, array in zip(kernels, own, strict=True)}
        weights = [replaced.get(id(weight), weight.numpy()) for weight in layer.weights]
        return [(first, [before]), (_part(layer), weights)]

    matrix = np.concatenate([kernel.numpy() for kernel in kernels], axis=1)
    parts = lambda rank: f"Dense({rank}), {kind(layer)}"  # noqa: E731
    way = _split(matrix, steps * (inputs + sum(sizes)), steps * fixed, parts, made)
    fused = ", and TFLite's fused LSTM would be lost" if kind(halves[0]) == "LSTM" else ""
    beside = f"; its recurrent kernel stays: as a product it would need another cell{fused}"
    return Whole(steps * (inputs * sum(sizes) + fixed), unit, (way,), beside)


def halves_of(layer: Any) -> list[Any]:
    """The recurrent layers that read a layer's input."""
    return [layer.forward_layer, layer.backward_layer] if kind(layer) == "Bidirectional" else [layer]


def _convolution(layer: Any, calls: Sequence[_layer_macs.Call]) -> Whole:
    kernel = layer.kernel.numpy()
    *size, inputs, filters = kernel.shape
    both = len(size) == 2 and min(size) > 1  # so that each part spans an axis; otherwise the first spans all
    spans = [(True, False), (False, True)] if both else [(True,) * len(size), (False,) * len(size)]
    settings = [_along(layer, axes) for axes in spans]
    first, second = (setting["kernel_size"] for setting in settings)
    strides = math.prod(layer.strides)
    before, _ = _counted(calls, lambda call: _places(layer, call.inputs[0]), strides)
    places, unit = _counted(calls, lambda call: _places(layer, call.outputs[0]), 1)
    between = _counted(calls, lambda call: _between(layer, call), layer.strides[-1])[0] if both else places

    def made(left: np.ndarray, right: np.ndarray) -> Made:
        rank = left.shape[1]
        right = right.reshape(rank, -1, filters).swapaxes(0, 1).reshape(*second, rank, filters)
        one = _part(layer, filters=rank, name=_name(layer, 0), **settings[0], **_LINEAR)
        other = _part(layer, **settings[1])
        return [(one, [left.reshape(*first, inputs, rank)]), (other, [right, *_behind_kernel(layer)])]

    matrix = (kernel.swapaxes(1, 2) if both else kernel).reshape(math.prod(first) * inputs, -1)
    each = between * math.prod(first) * inputs + places * math.prod(second) * filters
    way = _split(matrix, each, 0, lambda rank: f"{_by(first)} to {rank} channels, {_by(second)} to {filters}", made)
    cost = places * math.prod(size) * inputs * filters
    if max(size) == 1:
        return Whole(cost, unit, (way,))
    return Whole(cost, unit, (way, _tucker(layer, kernel.reshape(-1, inputs, filters), before, places, places)))


def _transposed(layer: Any, calls: Sequence[_layer_macs.Call]) -> Whole:
    kernel = np.moveaxis(layer.kernel.numpy(), -1, -2)
    *size, inputs, filters = kernel.shape
    before, unit = _counted(calls, lambda call: _places(layer, call.inputs[0]), 1)
    places, _ = _counted(calls, lambda call: _places(layer, call.outputs[0]), math.prod(layer.strides))

    def made(left: np.ndarray, right: np.ndarray) -> Made:
        first = _pointwise(layer, filters=left.shape[1], name=_name(layer, 0), **_LINEAR)
        own = np.moveaxis(right.reshape(-1, *size, filters), 0, -1)
        return [(first, [left.reshape(*_ones(size), *left.shape)]), (_part(layer), [own, *_behind_kernel(layer)])]

    matrix = np.moveaxis(kernel, -2, 0).reshape(inputs, -1)
    each = before * (inputs + math.prod(size) * filters)
    way = _split(matrix, each, 0, lambda rank: f"{_by(_ones(size))} to {rank} channels, {_by(size)} to {filters}", made)
    cost = before * math.prod(size) * inputs * filters
    return Whole(cost, unit, (way, _tucker(layer, kernel.reshape(-1, inputs, filters), before, before, places)))


def _tucker(layer: Any, kernel: np.ndarray, before: int, at: int, behind: int) -> Way:
    """1x1, the convolution on fewer channels, 1x1: the numbers of places at which each works. A 1x1 at full rank is left out."""
    taps, inputs, filters = kernel.shape
    size, tucker = tuple(layer.kernel_size), Tucker(kernel)
    inner, outer = np.arange(1, inputs + 1)[:, None], np.arange(1, filters + 1)[None, :]
    costs = at * taps * inner * outer + np.where(inner < inputs, before * inputs * inner, 0)
    costs = costs + np.where(outer < filters, behind * filters * outer, 0)

    def parts(r: int, s: int) -> str:
        point = _by(_ones(size))
        return ", ".join([f"{point} to {r}"] * (r < inputs) + [f"{_by(size)} to {s} channels"] + [f"{point} to {filters}"] * (s < filters))

    def made(r: int, s: int) -> Made:
        left, core, right = tucker.factors(r, s)
        core = core.reshape(*size, r, s)
        core = np.moveaxis(core, -1, -2) if kind(layer).endswith("Transpose") else core
        found: Made = []
        if r < inputs:
            found.append((_pointwise(layer, filters=r, name=_name(layer, 0), **_LINEAR), [left.reshape(*_ones(size), inputs, r)]))
        if s == filters:
            return [*found, (_part(layer), [core, *_behind_kernel(layer)])]
        found.append((_part(layer, filters=s, name=_name(layer, len(found)), **_LINEAR), [core]))
        return [*found, (_pointwise(layer), [right.reshape(*_ones(size), s, filters), *_behind_kernel(layer)])]

    return Way(parts, tucker.kept, costs, made)


# Counting


def _counted(calls: Sequence[_layer_macs.Call], places: Callable[[_layer_macs.Call], int], each: int) -> tuple[int, str]:
    """How many places there are in all calls together, and the unit of what is counted; `each` where a size is free."""
    free = any(None in shape for call in calls for shape in (*call.inputs, *call.outputs))
    return (each, "MACs a place") if free else (sum(map(places, calls)), "MACs")


def _sizes(layer: Any, shape: Sequence[int]) -> Sequence[int]:
    return shape[2:] if layer.data_format == "channels_first" else shape[1:-1]


def _places(layer: Any, shape: Sequence[int]) -> int:
    return shape[0] * math.prod(_sizes(layer, shape))


def _between(layer: Any, call: _layer_macs.Call) -> int:
    """Where the first axis is done with, and the second is not."""
    given, made = call.inputs[0], call.outputs[0]
    return made[0] * _sizes(layer, made)[0] * _sizes(layer, given)[1]


# Layers


def _part(layer: Any, **changes: Any) -> Any:
    """A layer of the same kind and settings but for the changes."""
    config = {key: value for key, value in layer.get_config().items() if key not in (*_INITIALIZERS, "batch_input_shape")}
    with own_functions(layer._flatten_layers()):
        return type(layer).from_config({**config, **changes})


def _pointwise(layer: Any, **changes: Any) -> Any:
    """A 1x1 convolution with a convolution's settings but for the changes."""
    kept = ("name", "trainable", "dtype", "filters", "data_format", "activation", "use_bias", "kernel_regularizer", "bias_regularizer",
            "activity_regularizer", "bias_constraint")  # fmt: skip
    config = {key: value for key, value in layer.get_config().items() if key in kept}
    made = getattr(backend.keras().layers, kind(layer).removesuffix("Transpose"))
    with own_functions(layer._flatten_layers()):
        return made.from_config({**config, "kernel_size": 1, **changes})


def _new_dense(layer: Any, units: int, name: str, **settings: Any) -> Any:
    keras = backend.keras()
    policy = halves_of(layer)[0].dtype_policy
    return keras.layers.Dense(units, use_bias=False, name=name, dtype=policy, trainable=layer.trainable, **settings)


def _along(layer: Any, axes: Sequence[bool]) -> dict[str, Any]:
    """The settings of a convolution that works along some axes only."""
    names = ("kernel_size", "strides", "dilation_rate")
    return {name: tuple(size if own else 1 for size, own in zip(getattr(layer, name), axes, strict=True)) for name in names}


def _behind_kernel(layer: Any) -> list[np.ndarray]:
    return [layer.bias.numpy()] if layer.use_bias else []


def _name(layer: Any, number: int) -> str:
    return f"{layer.name}_{ENDINGS[number]}"


def _ones(size: Sequence[int]) -> list[int]:
    return [1] * len(size)


def _by(size: Sequence[int]) -> str:
    return "x".join(map(str, size)) if len(size) > 1 else f"size {size[0]}"


KINDS: dict[str, Callable[[Any, Sequence[_layer_macs.Call]], Whole]] = {
    "Dense": _dense,
    "Embedding": _embedding,
    **dict.fromkeys((*RECURRENT, "Bidirectional"), _recurrent),
    **dict.fromkeys(("Conv1D", "Conv2D", "Conv3D"), _convolution),
    **dict.fromkeys(("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose"), _transposed),
}
