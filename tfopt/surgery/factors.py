"""Which channels of a model may be multiplied by a factor of their own, and divided by it again by what reads them.

A factor above zero goes through a function f with f(s x) = s f(x): a ReLU, pooling, padding with zeros, Dropout, a Flatten, an Add whose
summands have the same one. So the weights that make a channel can be multiplied by s and those that read it divided by s, and no
prediction changes. Each layer is asked what it does, as in `coupling`; but where that has one channel before and behind a depthwise
convolution, here the side that it reads and the side that it makes have factors of their own.

A factor stops at the model's inputs and outputs, at functions that are not homogeneous (ReLU6, sigmoid, softmax), at what normalizes, at
products, and at layers of which nothing is known; the reason is kept with the channels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import backend
from . import coupling
from ._passing import channel_axis, stopped
from .rewriting import activation_name, kind
from .ties import FIXED, Call, Channels, Ties

_NONE = np.full((), FIXED)


@dataclass(frozen=True, eq=False)
class Place:
    """Channels in a weight.

    Attributes:
      layer, variable: whose weight, and the weight.
      makes, reads: the channels that each element makes and reads, in a shape that broadcasts to the weight's; FIXED where it does not.
    """

    layer: Any
    variable: Any
    makes: np.ndarray
    reads: np.ndarray


class Factors(Ties):
    """The channels of a model without models inside it (`rewriting.flattened`), and where they are in its weights.

    Attributes:
      places: where, by the id of a weight.
    """

    def __init__(self, model: Any):
        super().__init__()
        self.places: dict[int, Place] = {}
        coupling.walk(self, model, _RULES)

    def place(self, layer: Any, variable: Any, *, makes: np.ndarray = _NONE, reads: np.ndarray = _NONE) -> None:
        """Writes down what a weight makes and reads; of one that is used again both are tied to what it made and read before."""
        known = self.places.setdefault(id(variable), Place(layer, variable, makes, reads))
        self.tie(known.makes.ravel(), makes.ravel())
        self.tie(known.reads.ravel(), reads.ravel())

    def free(self) -> np.ndarray:
        """For each channel's number whether a factor of its own changes nothing."""
        return np.array([number != FIXED and self.kept(number) is None for number in range(self.count)])

    def multiply(self, factors: np.ndarray) -> None:
        """Multiplies what makes each channel by its factor, and divides what reads it; `factors` by a channel's number (`of`)."""
        for place in self.places.values():
            by = factors[self.of(place.makes)] / factors[self.of(place.reads)]
            place.variable.assign((place.variable.numpy().astype("float64") * by).astype(place.variable.dtype.as_numpy_dtype))


def _dense(ties: Factors, layer: Any, call: Call) -> Channels:
    axis = len(call.shapes[0]) - 1
    ids = ties.new(layer.units)
    ties.place(layer, layer.kernel, makes=ids[None, :], reads=_read(ties, layer, call, axis)[:, None])
    return _made(ties, layer, ids, axis)


def _convolution(ties: Factors, layer: Any, call: Call) -> Channels:
    axis = channel_axis(layer, len(call.shapes[0]))
    read, ids, groups = _read(ties, layer, call, axis), ties.new(layer.filters), getattr(layer, "groups", 1)
    if kind(layer).endswith("Transpose"):
        ties.place(layer, layer.kernel, makes=ids[:, None], reads=read[None, :])
    else:  # a group after the other: each output reads the channels of its own
        by_output = np.repeat(read.reshape(groups, -1), len(ids) // groups, axis=0).T if groups > 1 else read[:, None]
        ties.place(layer, layer.kernel, makes=ids[None, :], reads=by_output)
    return _made(ties, layer, ids, axis)


def _depthwise(ties: Factors, layer: Any, call: Call) -> Channels:
    axis = channel_axis(layer, len(call.shapes[0]))
    return _made(ties, layer, _each_channel(ties, layer, call, axis), axis)


def _separable(ties: Factors, layer: Any, call: Call) -> Channels:
    axis = channel_axis(layer, len(call.shapes[0]))
    between, ids = _each_channel(ties, layer, call, axis), ties.new(layer.filters)
    ties.place(layer, layer.pointwise_kernel, makes=ids[None, :], reads=between[:, None])
    return _made(ties, layer, ids, axis)


def _each_channel(ties: Factors, layer: Any, call: Call, axis: int) -> np.ndarray:
    """What a depthwise kernel makes of its channels."""
    read = _read(ties, layer, call, axis)
    ids = ties.new(len(read) * layer.depth_multiplier)
    ties.place(layer, layer.depthwise_kernel, makes=ids.reshape(len(read), -1), reads=read[:, None])
    return ids


def _embedding(ties: Factors, layer: Any, call: Call) -> Channels:
    ids = ties.new(layer.output_dim)
    ties.place(layer, layer.embeddings, makes=ids[None, :])
    return Channels(len(call.outputs[0]) - 1, ids, np.zeros(len(ids)))


def _read(ties: Factors, layer: Any, call: Call, axis: int) -> np.ndarray:
    """The channels along the axis that a kernel sums over."""
    (channels,) = call.inputs
    if channels.axis == axis:
        return channels.ids
    ties.keep(channels.ids, f"{layer.name} sums over another axis")
    return np.full(call.shapes[0][axis], FIXED)


def _made(ties: Factors, layer: Any, ids: np.ndarray, axis: int) -> Channels:
    """Channels that a kernel makes, behind the bias and the layer's activation."""
    if layer.bias is not None:
        ties.place(layer, layer.bias, makes=ids)
    if not _homogeneous(layer.activation):
        ties.keep(ids, f"a factor does not go through the {activation_name(layer)} of {layer.name!r}")
    return Channels(axis, ids, np.zeros(len(ids)))


def _homogeneous(function: Callable) -> bool:
    activations = backend.keras().activations
    return any(function is activations.get(name) for name in ("linear", "relu", "leaky_relu"))


def _stopping(ties: Factors, layer: Any, call: Call) -> Channels:
    return stopped(ties, call.inputs, f"a factor does not go through {kind(layer)} {layer.name!r}")


def _where(passes: Callable[[Any], bool]) -> coupling.Rule:
    """Of a layer that hands on what it is given, element by element, where its settings are such."""

    def rule(ties: Factors, layer: Any, call: Call) -> Channels:
        return call.inputs[0] if passes(layer) else _stopping(ties, layer, call)

    return rule


def _joined(ties: Factors, layer: Any, call: Call) -> Channels:
    """Sums, means and extremes of tensors that have the same factors; of one that is spread over another they would not be the same."""
    alike = len(set(call.shapes)) == len({channels.axis for channels in call.inputs}) == 1
    return coupling.RULES[kind(layer)](ties, layer, call) if alike else _stopping(ties, layer, call)


_PASSING = (
    *("Dropout", "AlphaDropout", "GaussianDropout", "GaussianNoise", "ActivityRegularization"),
    *(f"SpatialDropout{number}D" for number in (1, 2, 3)),
    *("Concatenate", "Flatten", "Reshape", "Permute", "RepeatVector"),
    *(f"{what}{number}D" for what in ("MaxPooling", "AveragePooling", "ZeroPadding", "Cropping", "UpSampling") for number in (1, 2, 3)),
    *(f"Global{what}Pooling{number}D" for what in ("Max", "Average") for number in (1, 2, 3)),
)
_RULES: dict[str, coupling.Rule] = {
    **dict.fromkeys(coupling.RULES, _stopping),
    "Dense": _dense,
    **dict.fromkeys(("Conv1D", "Conv2D", "Conv3D", "Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose"), _convolution),
    **dict.fromkeys(("DepthwiseConv1D", "DepthwiseConv2D"), _depthwise),
    **dict.fromkeys(("SeparableConv1D", "SeparableConv2D"), _separable),
    "Embedding": _embedding,
    "Activation": _where(lambda layer: _homogeneous(layer.activation)),
    "ReLU": _where(lambda layer: layer.max_value is None and not layer.threshold),
    "Rescaling": _where(lambda layer: not np.any(layer.offset)),
    **dict.fromkeys(("LeakyReLU", "PReLU"), _where(lambda layer: True)),
    **{name: coupling.RULES[name] for name in _PASSING},
    **dict.fromkeys(("Add", "Subtract", "Average", "Maximum", "Minimum"), _joined),
}
