"""Layers along one axis as layers on a plane: a Conv1D is a Conv2D on an image one pixel high.

TF-MOT has no Conv1D, and a Dense on more than one axis of features comes out in float; Conv2D it quantizes. So

    Conv1D(filters, k)  =  Reshape((1, length, channels)), Conv2D(filters, (1, k)), Reshape((length, filters)),

and pairs of Reshapes between such layers cancel.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .. import backend
from .rewriting import Change, Changes, activation_name, called_once, changed, free_name, kind, pairs, twin

# Kept from the old layer's configuration, with what the class itself is given below.
_SHARED = (
    "name", "trainable", "dtype", "filters", "activation", "use_bias", "kernel_initializer", "bias_initializer", "kernel_regularizer",
    "bias_regularizer", "activity_regularizer", "kernel_constraint", "bias_constraint", "groups", "depth_multiplier",
    "depthwise_initializer", "pointwise_initializer", "depthwise_regularizer", "pointwise_regularizer", "depthwise_constraint",
    "pointwise_constraint",
)  # fmt: skip
# These come along when they stand behind a layer that goes onto the plane, so that BatchNorm and ReLU stay where they can be folded.
_FOLLOWERS = ("BatchNormalization", "SyncBatchNormalization", "ReLU", "LeakyReLU", "ELU", "Activation", "Dropout", "SpatialDropout1D",
              "MaxPooling1D", "AveragePooling1D", "UpSampling1D", "ZeroPadding1D", "GlobalAveragePooling1D",
              "GlobalMaxPooling1D")  # fmt: skip


def as_planes(model: Any) -> tuple[Any, Changes]:
    """The same model with Conv1D, DepthwiseConv1D, SeparableConv1D, Conv1DTranspose and Dense on three or four axes as Conv2D.

    BatchNormalization, activations, Dropout and pooling behind them come along. Causal padding becomes zeros on the left. Kernels get
    an axis; no number in them changes.

    Args:
      model: a tf_keras model without models inside it.

    >>> flat, changes = as_planes(model)
    >>> changes["conv1d"].reason
    'becomes a Conv2D'
    """
    moved = _moved(model)
    names = {layer.name for layer in model.layers}
    joints = {(before.name, after.name) for before, after in pairs(model) if {before.name, after.name} <= moved.keys()}
    inner_ends, inner_starts = {before for before, _ in joints}, {after for _, after in joints}

    def remake(layer):
        return replacements.get(layer.name) or twin(layer)

    def on_plane(layer):
        layers, reshape = moved[layer.name](), backend.keras().layers.Reshape
        if len(layer.input_shape) == 3 and layer.name not in inner_starts:
            layers = [reshape((1, *_sizes(layer.input_shape)), name=free_name(f"{layer.name}_plane", names)), *layers]
        if len(layer.output_shape) == 3 and layer.name not in inner_ends:
            layers = [*layers, reshape(_sizes(layer.output_shape), name=free_name(f"{layer.name}_back", names))]
        return layers

    def weights(layer):
        values = layer.get_weights()
        if layer.name not in moved:
            return values
        if kind(layer) == "Dense":
            return [values[0][None, None], *values[1:]]
        return [value[None] if value.ndim == 3 else value for value in values]

    replacements = {layer.name: on_plane(layer) for layer in model.layers if layer.name in moved}
    changes = {layer.name: _change(layer, replacements[layer.name]) for layer in model.layers if layer.name in moved}
    return changed(model, changes, remake, weights=weights)


def _change(layer: Any, made: list[Any]) -> Change:
    others = [other.name for other in made if other.name != layer.name]
    return Change(f"becomes a {_PLANE[kind(layer)]}" if kind(layer) in _PLANE else "", (layer.name, *others))


def _sizes(shape: tuple[int | None, ...]) -> list[int]:
    return [-1 if size is None else size for size in shape[1:]]


def _moved(model: Any) -> dict[str, Callable[[], list[Any]]]:
    """What goes onto the plane, by name: functions that make the layers there."""
    makers = {
        layer.name: _maker(layer)
        for layer, node in called_once(model)
        if kind(layer) in _WITH_WEIGHTS and _fits(layer) and getattr(node.keras_inputs[0], "_keras_mask", None) is None
    }
    makers = {name: maker for name, maker in makers.items() if maker is not None}
    for before, after in pairs(model):  # each after those that it needs
        if before.name in makers and len(before.output_shape) == 3 and kind(after) in _FOLLOWERS and _follows(after):
            makers[after.name] = _maker(after)
    return makers


def _fits(layer: Any) -> bool:
    if getattr(layer, "data_format", "channels_last") != "channels_last" or layer.compute_dtype != "float32":
        return False
    return kind(layer) != "Dense" or (len(layer.input_shape) in (3, 4) and layer.input_shape[1:].count(None) <= len(layer.input_shape) - 2)


def _follows(layer: Any) -> bool:
    if getattr(layer, "data_format", "channels_last") != "channels_last" or len(layer.input_shape) != 3:
        return False
    if kind(layer) in ("BatchNormalization", "SyncBatchNormalization"):
        axis = list(layer.axis) if isinstance(layer.axis, list | tuple) else [layer.axis]
        return axis in ([-1], [2])
    return not (kind(layer) == "Activation" and activation_name(layer) is None)


def _maker(layer: Any) -> Callable[[], list[Any]]:
    return lambda: _WITH_WEIGHTS.get(kind(layer), _ON_THE_WAY.get(kind(layer), lambda same: [twin(same)]))(layer)


def _config(layer: Any) -> dict[str, Any]:
    return {key: value for key, value in layer.get_config().items() if key in _SHARED}


def _conv(layer: Any) -> list[Any]:
    layers = backend.keras().layers
    (size,), (stride,), (rate,) = layer.kernel_size, layer.strides, layer.dilation_rate
    causal = layer.padding == "causal"
    # Depthwise kernels want equal strides; on one row the first makes no difference.
    strides = (stride, stride) if kind(layer) != "Conv1D" else (1, stride)
    config = {
        **_config(layer),
        "kernel_size": (1, size),
        "strides": strides,
        "dilation_rate": (1, rate),
        "padding": "valid" if causal else layer.padding,
    }
    made = getattr(layers, _PLANE[kind(layer)]).from_config(config)
    if not causal:
        return [made]
    return [layers.ZeroPadding2D(((0, 0), (rate * (size - 1), 0)), name=f"{layer.name}_causal"), made]


def _conv_transpose(layer: Any) -> list[Any]:
    (size,), (stride,), (rate,) = layer.kernel_size, layer.strides, layer.dilation_rate
    output = None if layer.output_padding is None else (0, *layer.output_padding)
    sizes = {"kernel_size": (1, size), "strides": (1, stride), "dilation_rate": (1, rate), "padding": layer.padding}
    return [backend.keras().layers.Conv2DTranspose.from_config({**_config(layer), **sizes, "output_padding": output})]


def _dense(layer: Any) -> list[Any]:
    return [backend.keras().layers.Conv2D.from_config({**_config(layer), "filters": layer.units, "kernel_size": (1, 1)})]


def _pooling(layer: Any) -> list[Any]:
    (size,), (stride,) = layer.pool_size, layer.strides
    made = getattr(backend.keras().layers, kind(layer).replace("1D", "2D"))
    return [made((1, size), (1, stride), padding=layer.padding, name=layer.name)]


def _global_pooling(layer: Any) -> list[Any]:
    made = getattr(backend.keras().layers, kind(layer).replace("1D", "2D"))
    return [made(keepdims=layer.keepdims, name=layer.name)]


_PLANE = {
    "Conv1D": "Conv2D",
    "DepthwiseConv1D": "DepthwiseConv2D",
    "SeparableConv1D": "SeparableConv2D",
    "Conv1DTranspose": "Conv2DTranspose",
    "Dense": "Conv2D",
    "MaxPooling1D": "MaxPooling2D",
    "AveragePooling1D": "AveragePooling2D",
    "GlobalAveragePooling1D": "GlobalAveragePooling2D",
    "GlobalMaxPooling1D": "GlobalMaxPooling2D",
    "UpSampling1D": "UpSampling2D",
    "ZeroPadding1D": "ZeroPadding2D",
    "SpatialDropout1D": "SpatialDropout2D",
}
_WITH_WEIGHTS = {
    "Conv1D": _conv,
    "DepthwiseConv1D": _conv,
    "SeparableConv1D": _conv,
    "Conv1DTranspose": _conv_transpose,
    "Dense": _dense,
}
_ON_THE_WAY = {
    "MaxPooling1D": _pooling,
    "AveragePooling1D": _pooling,
    "GlobalAveragePooling1D": _global_pooling,
    "GlobalMaxPooling1D": _global_pooling,
    "UpSampling1D": lambda layer: [backend.keras().layers.UpSampling2D((1, layer.size), name=layer.name)],
    "ZeroPadding1D": lambda layer: [backend.keras().layers.ZeroPadding2D(((0, 0), layer.padding), name=layer.name)],
    "SpatialDropout1D": lambda layer: [backend.keras().layers.SpatialDropout2D(layer.rate, name=layer.name)],
    "BatchNormalization": lambda layer: [twin(layer, axis=3)],
    "SyncBatchNormalization": lambda layer: [twin(layer, axis=3)],
}
