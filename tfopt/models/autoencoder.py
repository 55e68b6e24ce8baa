"""Autoencoders: nets that put out what they are given, through a code of a few numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

from .. import backend, options
from ..errors import DataError
from ._blocks import Count, bn_relu, check_one_input, enlarged, halving

_HIDDEN = {"dense": (128, 128, 128, 128), "convolutional": (16, 32, 64)}


@options.checked
def autoencoder(
    input_shape: tuple[int, ...],
    num_classes: int = 0,
    *,
    kind: Literal["dense", "convolutional"] = "dense",
    hidden: Sequence[Count] | None = None,
    code: Count = 8,
) -> Any:
    """Puts out its input: an encoder to a code of `code` numbers, and its mirror image back to the input's shape, linear at the end.

    `num_classes` says nothing here.

    Of kind "dense" it is made of Dense layers, each with BatchNorm and ReLU; the default is MLPerf Tiny's net for anomalies in the sounds
    of machines, which takes 640 numbers (267,928 parameters, and 2,064 statistics of BatchNorms). Of kind "convolutional" it takes images
    (height, width, channels) or series (length, channels): convolutions of 3 with stride 2, as long as there is something to halve, and
    back nearest neighbours and convolutions, each with BatchNorm and ReLU; a size that is odd is cropped to on the way back.

    The code is the output of the layer "code": `keras.Model(model.inputs, model.get_layer("code").output)` gives embeddings.

    Args:
      hidden: units of the Dense layers, or filters of the convolutions, in front of the code; by default 128 four times, or 16, 32 and 64.

    Raises:
      DataError: several inputs, or neither images nor series for convolutions.

    >>> model = autoencoder((640,))
    >>> model.count_params(), tfopt.inspect(model).macs
    (269992, 264192)
    """
    check_one_input(input_shape, "autoencoder")
    inputs = backend.keras().Input(input_shape, name="input")
    hidden = tuple(hidden or _HIDDEN[kind])
    outputs = _dense(inputs, hidden, code) if kind == "dense" else _convolutional(inputs, hidden, code)
    return backend.keras().Model(inputs, outputs, name="autoencoder")


def _dense(inputs: Any, hidden: tuple[int, ...], code: int) -> Any:
    layers, shape = backend.keras().layers, tuple(inputs.shape[1:])
    x = layers.Flatten(name="flatten")(inputs) if len(shape) > 1 else inputs
    for number, units in enumerate(hidden, 1):
        x = _dense_bn_relu(x, units, f"encoder{number}")
    x = _coded(x, code)
    for number, units in enumerate(reversed(hidden), 1):
        x = _dense_bn_relu(x, units, f"decoder{number}")
    x = layers.Dense(math.prod(shape), name="values")(x)
    return layers.Reshape(shape, name="output")(x) if len(shape) > 1 else x


def _convolutional(inputs: Any, hidden: tuple[int, ...], code: int) -> Any:
    layers, shape, sizes = backend.keras().layers, tuple(inputs.shape[1:]), []
    if len(shape) not in (2, 3):
        raise DataError(
            "autoencoder of kind 'convolutional' takes images (height, width, channels) or series (length, channels), "
            f"the examples are {shape}; use kind = 'dense'"
        )
    x = inputs
    for number, filters in enumerate(hidden, 1):
        sizes.append(tuple(x.shape[1:-1]))
        x = bn_relu(_convolution(x, filters, f"encoder{number}", strides=halving(sizes[-1]), bias=False), f"encoder{number}")
    inner = tuple(x.shape[1:])
    x = _coded(layers.Flatten(name="flatten")(x), code)
    x = layers.Reshape(inner, name="unflatten")(_dense_bn_relu(x, math.prod(inner), "decoder1"))
    for number, (filters, size) in enumerate(zip(reversed(hidden[:-1]), reversed(sizes[1:]), strict=True), 2):
        x = enlarged(x, size, f"decoder{number}")
        x = bn_relu(_convolution(x, filters, f"decoder{number}", bias=False), f"decoder{number}")
    return _convolution(enlarged(x, sizes[0], "values"), shape[-1], "values")


def _coded(x: Any, code: int) -> Any:
    layers = backend.keras().layers
    x = layers.BatchNormalization(momentum=0.9, name="code_bn")(layers.Dense(code, name="code_dense")(x))
    return layers.ReLU(name="code")(x)


def _dense_bn_relu(x: Any, units: int, name: str) -> Any:
    return bn_relu(backend.keras().layers.Dense(units, name=name)(x), name)


def _convolution(x: Any, filters: int, name: str, *, strides: Any = 1, bias: bool = True) -> Any:
    made = getattr(backend.keras().layers, f"Conv{len(x.shape) - 2}D")
    return made(filters, 3, strides=strides, padding="same", use_bias=bias, name=name)(x)
