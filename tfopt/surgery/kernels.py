"""The kernels of a layer: its weight matrices, and along which of their axes they sum."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .rewriting import kind

NAMES = ("kernel", "recurrent_kernel", "depthwise_kernel", "pointwise_kernel", "embeddings")


@dataclass(frozen=True, eq=False)  # a tf.Variable compares element by element
class Kernel:
    """A weight tensor as a matrix of inputs x outputs.

    Attributes:
      name: of the weight inside its layer, "kernel" or, in a layer of layers, "forward_lstm/recurrent_kernel".
      variable: the tf.Variable.
      outputs: the axes of output channels; the sums run over the others.
    """

    name: str
    variable: Any
    outputs: tuple[int, ...]

    @property
    def depthwise(self) -> bool:
        """Whether each output sums over one channel only: a few weights that matter much."""
        return self.name.endswith("depthwise_kernel")

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the weight."""
        return tuple(self.variable.shape)

    @property
    def order(self) -> tuple[int, ...]:
        """The axes with those of the inputs first."""
        return (*(axis for axis in range(len(self.shape)) if axis not in self.outputs), *self.outputs)

    @property
    def inputs(self) -> int:
        """How many weights each output sums over."""
        return math.prod(size for axis, size in enumerate(self.shape) if axis not in self.outputs)

    @property
    def channels(self) -> int:
        """How many inputs lie next to each other in a row of the .tflite's kernel."""
        return 1 if self.depthwise else self.shape[self.order[-len(self.outputs) - 1]]

    def matrix(self) -> np.ndarray:
        """The weights as float32 (inputs, outputs); a convolution has a row for each height, width and channel, in this order."""
        return self.variable.numpy().astype("float32").transpose(self.order).reshape(self.inputs, -1)

    def restored(self, matrix: np.ndarray) -> np.ndarray:
        """A matrix (inputs, outputs) in the weight's own shape."""
        return matrix.reshape([self.shape[axis] for axis in self.order]).transpose(np.argsort(self.order))


def kernels_of(layer: Any) -> list[Kernel]:
    """The kernels of a layer and of the layers inside it (Bidirectional, cells, attention's projections), each once.

    What counts is the name that Keras gives them: biases, BatchNorm and PReLU have no kernel; a layer of the user's own has one where it
    calls a weight of two axes or more "kernel".

    >>> [kernel.name for kernel in kernels_of(tf_keras.layers.LSTM(4))]      # once it is built
    ['lstm_cell/kernel', 'lstm_cell/recurrent_kernel']
    """
    found: dict[int, Kernel] = {}
    for inner in layer._flatten_layers():
        for weight in (*inner._trainable_weights, *inner._non_trainable_weights):
            name = name_of(weight)
            if name in NAMES and len(weight.shape) > 1 and id(weight) not in found:
                path = name if inner is layer else weight.name.split(":")[0].removeprefix(f"{layer.name}/")
                found[id(weight)] = Kernel(path, weight, _outputs(inner, name, len(weight.shape)))
    return list(found.values())


def name_of(weight: Any) -> str:
    """What a layer calls a weight, without the layer's own name."""
    return weight.name.split("/")[-1].split(":")[0]


def of_all(layers: Iterable[Any]) -> list[Kernel]:
    """The kernels of several layers; one that layers share once."""
    return list({id(kernel.variable): kernel for layer in layers for kernel in kernels_of(layer)}.values())


def _outputs(layer: Any, name: str, rank: int) -> tuple[int, ...]:
    layer = getattr(layer, "layer", layer)  # TF-MOT's quantization wrappers take the kernel away from the layer inside
    if name == "depthwise_kernel":
        return (rank - 2, rank - 1)
    if kind(layer) == "EinsumDense":  # "abc,cde->abde": the projections of attention
        letters, result = layer.equation.replace(" ", "").split(",")[1].split("->")
        return tuple(axis for axis, letter in enumerate(letters) if letter in result)
    if kind(layer).endswith("Transpose"):
        return (rank - 2,)
    return (rank - 1,)
