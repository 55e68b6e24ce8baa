"""Bias correction: what the rounding of kernels to int8 will add to each output on average, taken off the biases."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import backend, pipelines
from ..surgery import kernels, rewriting
from ..types import Data

_KINDS = ("Dense", "Conv1D", "Conv2D", "Conv1DTranspose", "Conv2DTranspose", "DepthwiseConv1D", "DepthwiseConv2D")


def correct(model: Any, data: Data) -> None:
    """Changes the biases of a model without models inside it, by means over the calibration examples.

    Of layers with one kernel and a bias that are called once. What they are given is that of the float model: behind layers that are
    corrected as well, the means in an int8 file are those.
    """
    tf, keras = backend.tensorflow(), backend.keras()
    layers, means = [], []
    for layer, node in rewriting.called_once(model):
        if rewriting.kind(layer) in _KINDS and layer.bias is not None and getattr(layer, "data_format", "channels_last") == "channels_last":
            error = _error(layer)(node.keras_inputs[0])
            layers.append(layer)
            means.append(tf.reduce_mean(tf.cast(error, tf.float32), axis=list(range(error.shape.rank - 1))))
    if not layers:
        return
    found, count = keras.Model(model.inputs, means), 0
    shifts = [np.zeros(layer.bias.shape, "float64") for layer in layers]
    for x, _ in pipelines.batches(data.calibration, 32):
        size = len(backend.tensorflow().nest.flatten(x)[0])
        for shift, mean in zip(shifts, tf.nest.flatten(found(x, training=False)), strict=True):
            shift += size * mean.numpy()
        count += size
    for layer, shift in zip(layers, shifts, strict=True):
        layer.bias.assign(layer.bias.numpy() - (shift / count).astype("float32"))


def _error(layer: Any) -> Any:
    """The layer with what rounding adds to its kernel, and nothing else."""
    (kernel,) = kernels.kernels_of(layer)
    weights = kernel.matrix()
    # As the converter has it: a scale for each output, no zero point.
    scales = np.maximum(np.abs(weights).max(axis=0), np.finfo("float32").tiny) / 127
    error = rewriting.twin(layer, use_bias=False, activation="linear", name=f"{layer.name}_error")
    error.build(layer.input_shape)
    error.set_weights([kernel.restored(np.round(weights / scales) * scales - weights)])
    return error
