"""Layers that compute a x + b with constants of each channel, and what becomes of a linear layer's weights when it takes them in.

Channels are the last axis; a and b are float64 arrays of shape () or (channels,).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import backend
from .rewriting import activation_name, kind

BATCH_NORMS = ("BatchNormalization", "SyncBatchNormalization")
# The kernel that a following a x + b goes into, and that kernel's axis of output channels; depthwise kernels have two.
KERNELS = {
    "Dense": -1,
    "Conv1D": -1,
    "Conv2D": -1,
    "Conv3D": -1,
    "Conv1DTranspose": -2,
    "Conv2DTranspose": -2,
    "Conv3DTranspose": -2,
    "SeparableConv1D": -1,
    "SeparableConv2D": -1,
    "DepthwiseConv1D": None,
    "DepthwiseConv2D": None,
}
# Averages and copies of values: f(a x + b) = a f(x) + b. Behind the colon what is asked of them besides.
_AVERAGING = (
    "GlobalAveragePooling1D", "GlobalAveragePooling2D", "AveragePooling1D", "AveragePooling2D", "UpSampling1D", "UpSampling2D",
    "Cropping1D", "Cropping2D", "Resizing", "Dropout", "SpatialDropout1D", "SpatialDropout2D",
)  # fmt: skip
_GREATEST = ("MaxPooling1D", "MaxPooling2D", "GlobalMaxPooling1D", "GlobalMaxPooling2D")  # where a >= 0
_PADDING = ("ZeroPadding1D", "ZeroPadding2D")  # where b = 0
_SHAPING = ("Flatten", "Reshape", "Permute")

Scaling = tuple[np.ndarray, np.ndarray]


def scaling_of(layer: Any) -> Scaling | None:
    """What a layer multiplies by and adds, as it is now; None for a layer that does something else, or not along the last axis."""
    name = kind(layer)
    if name in BATCH_NORMS:
        return _of_batch_norm(layer)
    if name == "Normalization":
        return _of_normalization(layer)
    if name == "Rescaling":
        values = [_of_channels(value, layer.output_shape) for value in (layer.scale, layer.offset)]
        return None if any(value is None for value in values) else (values[0], values[1])
    if name == "LayerScale":
        return layer.gamma.numpy().astype("float64"), np.zeros(())
    return None


def floating(tensor: Any) -> bool:
    return tensor.dtype.is_floating and tensor.dtype.size >= 4


def scaled_after(layer: Any, scaling: Scaling) -> list[np.ndarray] | None:
    """The weights, with a bias, of a linear layer that computes a (W x + c) + b at once; None where it can't."""
    name = kind(layer)
    if name not in KERNELS or activation_name(layer) != "linear" or not _plain(layer):
        return None
    *kernels, bias = weights_of(layer)
    a, b = (np.broadcast_to(value, bias.shape) for value in scaling)
    axis, kernel = KERNELS[name], kernels[-1]
    by_output = a.reshape(kernel.shape[-2:]) if axis is None else a if axis == -1 else a[:, None]
    return [array.astype("float32") for array in (*kernels[:-1], kernel * by_output, bias * a + b)]


def scaled_before(layer: Any, scaling: Scaling) -> list[np.ndarray] | None:
    """The weights, with a bias, of a layer that computes W (a x + b) + c from x; None where it can't.

    It can't where there is padding and b is not zero: the padding's zeros come after a x + b, and would be shifted as well.
    """
    name = kind(layer)
    if name not in KERNELS or not _plain(layer):
        return None
    *kernels, bias = weights_of(layer)
    a, b = scaling
    if b.any() and (name.endswith("Transpose") or _pads(layer)):
        return None
    kernel, groups = kernels[0], getattr(layer, "groups", 1)
    if name.endswith("Transpose"):
        return [array.astype("float32") for array in (kernel * a, bias)]
    inputs = kernel.shape[-2] * groups
    a, b = (_by_input(np.broadcast_to(value, (inputs,)), kernel, groups) for value in (a, b))
    shift = (kernel * b).sum(tuple(range(kernel.ndim - 2)))  # (inputs of a group, outputs), or of a depthwise kernel (inputs, multiplier)
    if name.startswith(("Depthwise", "Separable")):
        shift = shift.ravel() @ kernels[1].reshape(kernels[1].shape[-2:]) if len(kernels) == 2 else shift.ravel()
    else:
        shift = shift.sum(0)
    return [array.astype("float32") for array in (kernel * a, *kernels[1:], bias + shift)]


def offset_of(layer: Any, given: np.ndarray | None = None) -> np.ndarray | None:
    """What a linear layer gives for whatever input, before its activation: its bias, where a kernel of it is zero.

    Args:
      given: what its input is, where that is the same always: () or (channels,).

    None where that depends on the input, or on the place, as near to the zeros that are put around it.
    """
    if not _plain(layer):
        return None
    *kernels, bias = weights_of(layer)
    if any(not kernel.any() for kernel in kernels):
        return bias
    weights = None if given is None else scaled_before(layer, (np.zeros(()), given))
    return None if weights is None else weights[-1].astype("float64")


def through(layer: Any, scaling: Scaling) -> Scaling | None:
    """What has to be done after a layer that something was done before; None where the order matters."""
    name, (a, b) = kind(layer), scaling
    if getattr(layer, "data_format", "channels_last") != "channels_last":
        return None
    if (
        name in _AVERAGING
        or (name == "Activation" and activation_name(layer) == "linear")
        or (name in _PADDING and not b.any())
        or (name in _GREATEST and (a >= 0).all())
        or (name in _SHAPING and a.ndim == b.ndim == 0)
        or (name == "Permute" and layer.dims[-1] == len(layer.dims))
    ):
        return scaling
    if name in ("Flatten", "Reshape") and None not in (*layer.input_shape[1:], *layer.output_shape[1:]):
        before, channels = layer.input_shape[-1], layer.output_shape[-1]
        if channels % before == 0:
            tiled = [np.tile(np.broadcast_to(value, (before,)), channels // before) for value in (a, b)]
            return tiled[0], tiled[1]
    return None


def with_bias(layer: Any) -> dict[str, Any]:
    """The change of a linear layer's configuration that gives it a bias."""
    return {} if layer.use_bias else {"use_bias": True}


def _plain(layer: Any) -> bool:
    return getattr(layer, "data_format", "channels_last") == "channels_last" and layer.compute_dtype == "float32" and layer.built


def weights_of(layer: Any) -> list[np.ndarray]:
    """Kernels and bias, a bias of zeros where there is none, in float64."""
    weights = [weight.astype("float64") for weight in layer.get_weights()]
    return weights if layer.use_bias else [*weights, np.zeros(layer.output_shape[-1])]


def _pads(layer: Any) -> bool:
    return getattr(layer, "padding", "valid") != "valid" and any(size != 1 for size in layer.kernel_size)


def _by_input(values: np.ndarray, kernel: np.ndarray, groups: int) -> np.ndarray:
    """Values of the input channels in the shape of a kernel's last two axes: (inputs of a group, outputs), a group after the other."""
    if groups == 1:
        return values[:, None]
    return np.repeat(values.reshape(groups, -1), kernel.shape[-1] // groups, axis=0).T


def _of_batch_norm(layer: Any) -> Scaling | None:
    axis = list(layer.axis) if isinstance(layer.axis, list | tuple) else [layer.axis]
    if axis not in ([-1], [len(layer.output_shape) - 1]) or layer.compute_dtype != "float32":
        return None
    mean, variance = (value.numpy().astype("float64") for value in (layer.moving_mean, layer.moving_variance))
    scale = 1 / np.sqrt(variance + layer.epsilon)
    scale = scale * layer.gamma.numpy() if layer.scale else scale
    return scale, (layer.beta.numpy() if layer.center else 0.0) - mean * scale


def _of_normalization(layer: Any) -> Scaling | None:
    mean, variance = (_of_channels(value, layer.output_shape) for value in (layer.mean, layer.variance))
    if mean is None or variance is None:
        return None
    deviation = np.maximum(np.sqrt(variance), backend.keras().backend.epsilon())
    return (deviation, mean) if layer.invert else (1 / deviation, -mean / deviation)


def _of_channels(value: Any, shape: tuple[int | None, ...]) -> np.ndarray | None:
    """A constant that is broadcast over a tensor of the shape, as () or (channels,); None where it differs along another axis."""
    value = np.asarray(value, "float64")
    if value.size == 1:
        return value.reshape(())
    return value.ravel() if value.shape[-1] == value.size == shape[-1] else None
