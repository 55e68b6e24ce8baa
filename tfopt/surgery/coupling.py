"""Which channels of a model can only be cut together, and why some can't be cut at all: found from the layer graph.

Each layer is asked what it does with channels (`RULES`): which axes of its weights make new ones or read those that it is given, and in
what order it hands them on. What two layers read or make at the same place becomes one channel (`ties`), so that a residual Add, a
Concatenate or a Flatten needs no case of its own when it comes to cutting.

A channel may go where it can be silenced: with the weights that make it at zero, and the BatchNorm behind them too, it has the same
value everywhere. Mostly that is zero, and then nothing that reads it notices that it is gone. Behind a sigmoid it is a half, which goes
into the bias of those that read it; where that can't be done (zeros padded around it), it is kept. The width that a LayerNorm or a softmax
runs over is kept: a channel of zeros still counts in their statistics.

The idea of groups from dependencies: Fang et al. 2023, "DepGraph: Towards Any Structural Pruning" (arXiv:2301.12900).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .. import backend
from . import _kernels, _operations, _sequences
from ._passing import (
    JOINING,
    broadcast,
    channel_axis,
    concatenated,
    element_wise,
    moved_in_space,
    permuted,
    reshaped,
    stopped,
    without_axes,
)
from .rewriting import kind
from .ties import Call, Channels, Shape, Ties

Rule = Callable[[Ties, Any, Call], Channels | list[Channels]]


def coupled(model: Any) -> Ties:
    """The channels of a model, and where they are in its weights and settings.

    >>> ties = coupled(model)
    >>> groups = groups_in({key: ties.of(slot.ids) for key, slot in ties.slots.items()})
    """
    ties = Ties()
    walk(ties, model, RULES)
    return ties


def walk(ties: Ties, model: Any, rules: Mapping[str, Rule]) -> None:
    """Lets each layer of a model write down, by the rule for its kind, what it does with channels; inputs and outputs are kept."""
    inputs = [ties.kept_ones(_shape(tensor), "an input of the model") for tensor in model.inputs]
    for channels in _walked(ties, model, inputs, rules):
        ties.keep(channels.ids, "an output of the model")


def _walked(ties: Ties, model: Any, inputs: Sequence[Channels], rules: Mapping[str, Rule]) -> list[Channels]:
    """What a model's outputs hold."""
    keras, nest = backend.keras(), backend.tensorflow().nest
    known = {id(tensor): channels for tensor, channels in zip(model.inputs, inputs, strict=True)}
    for node in backend.nodes_of(model):
        given, outputs = [known[id(tensor)] for tensor in node.keras_inputs], nest.flatten(node.outputs)
        if isinstance(node.layer, keras.Model) and node.layer._is_graph_network:
            found = _walked(ties, node.layer, given, rules)
            for tensor, channels in zip(node.layer.inputs, given, strict=True):
                if channels.axis is not None:
                    ties.setting(tensor._keras_history.layer, ["batch_input_shape", channels.axis], channels.ids)
        else:
            call = Call(given, list(map(_shape, node.keras_inputs)), list(map(_shape, outputs)), _arguments(node))
            found = _called(ties, node.layer, call, rules)
        known.update(zip(map(id, outputs), found, strict=True))
    return [known[id(tensor)] for tensor in model.outputs]


def _shape(tensor: Any) -> Shape:
    """With the batch; empty where not even the rank is known."""
    return () if tensor.shape.rank is None else tuple(tensor.shape)


def _arguments(node: Any) -> tuple[tuple, dict]:
    """What a layer is called with, an input as its number."""
    places = {id(tensor): _operations.Input(number) for number, tensor in reversed(list(enumerate(node.keras_inputs)))}
    nest = backend.tensorflow().nest
    return nest.map_structure(lambda one: places.get(id(one), one), (node.call_args, node.call_kwargs))


def _called(ties: Ties, layer: Any, call: Call, rules: Mapping[str, Rule]) -> list[Channels]:
    rule = rules.get(kind(layer))
    if rule is None or not all(call.shapes) or not all(call.outputs):
        what = f"{kind(layer) or type(layer).__name__} {layer.name!r}"
        found = stopped(ties, call.inputs, f"it is not known what {what} does with channels")
        return [_known(ties, found, shape) for shape in call.outputs]
    found = rule(ties, layer, call)
    found = found if isinstance(found, list) else [found] * len(call.outputs)
    return [_known(ties, channels, shape) for channels, shape in zip(found, call.outputs, strict=True)]


def _known(ties: Ties, channels: Channels, shape: Shape) -> Channels:
    return channels if channels.axis is not None else ties.kept_ones(shape, channels.reason)


# What hands them on


def _same(ties: Ties, layer: Any, call: Call) -> Channels:
    return call.inputs[0]


def _activation(ties: Ties, layer: Any, call: Call) -> Channels:
    return element_wise(ties, layer, layer.activation, call.inputs[0])


def _function(ties: Ties, layer: Any, call: Call) -> Channels:
    return element_wise(ties, layer, layer.call, call.inputs[0])


def _softmax(ties: Ties, layer: Any, call: Call) -> Channels:
    return stopped(ties, call.inputs, f"softmax of {layer.name!r} runs over them")


def _merging(ties: Ties, layer: Any, call: Call) -> Channels:
    ranks = {len(shape) for shape in call.shapes}
    if len(ranks) > 1:
        return stopped(ties, call.inputs, f"{layer.name} joins tensors of different ranks")
    return broadcast(ties, layer, call.inputs, call.shapes, call.outputs[0], JOINING[kind(layer)])


def _scaled_sum(ties: Ties, layer: Any, call: Call) -> Channels:
    """Of InceptionResNetV2."""
    return broadcast(ties, layer, call.inputs, call.shapes, call.outputs[0], lambda rests: rests[0] + layer.scale * rests[1])


def _concatenate(ties: Ties, layer: Any, call: Call) -> Channels:
    return concatenated(ties, layer, call.inputs, call.shapes, layer.axis % len(call.shapes[0]))


def _flatten(ties: Ties, layer: Any, call: Call) -> Channels:
    return reshaped(ties, layer, call.inputs[0], call.shapes[0], call.outputs[0])


def _reshape(ties: Ties, layer: Any, call: Call) -> Channels:
    channels = reshaped(ties, layer, call.inputs[0], call.shapes[0], call.outputs[0])
    if channels.axis is not None and layer.target_shape[channels.axis - 1] != -1:
        ties.setting(layer, ["target_shape", channels.axis - 1], channels.ids)
    return channels


def _permute(ties: Ties, layer: Any, call: Call) -> Channels:
    return permuted(call.inputs[0], [0, *layer.dims])


def _repeat(ties: Ties, layer: Any, call: Call) -> Channels:
    (channels,) = call.inputs
    return Channels(2, channels.ids, channels.rest) if channels.axis is not None else channels


def _spatial(ties: Ties, layer: Any, call: Call) -> Channels:
    fills = kind(layer).startswith("ZeroPadding")
    return moved_in_space(ties, layer, call.inputs[0], call.shapes[0], call.outputs[0], fills=fills)


def _global_pooling(ties: Ties, layer: Any, call: Call) -> Channels:
    rank = len(call.shapes[0])
    axes = [axis for axis in range(1, rank) if axis != channel_axis(layer, rank)]
    (channels,) = call.inputs
    if layer.keepdims:
        return channels if channels.axis not in axes else stopped(ties, call.inputs, f"{layer.name} takes channels together")
    return without_axes(ties, layer, channels, axes)


def _each_step(ties: Ties, layer: Any, call: Call) -> Channels | list[Channels]:
    """TimeDistributed: what the layer inside does at each step."""
    if any(channels.axis == 1 for channels in call.inputs):
        return stopped(ties, call.inputs, f"{layer.name} works on its steps one by one")
    inputs = [Channels(one.axis - 1, one.ids, one.rest) if one.axis is not None else one for one in call.inputs]
    inner = Call(inputs, *([shape[:1] + shape[2:] for shape in some] for some in (call.shapes, call.outputs)))
    found = _called(ties, layer.layer, inner, RULES)
    for path, ids in ties.settings.get(id(layer.layer), {}).items():
        ties.setting(layer, ("layer", "config", *path), ids)
    return [Channels(one.axis + 1, one.ids, one.rest) if one.axis is not None else one for one in found]


def _normalizing(ties: Ties, layer: Any, call: Call) -> Channels:
    return stopped(ties, call.inputs, f"{kind(layer)} {layer.name!r} runs over them: a channel of zeros still counts in its statistics")


RULES: dict[str, Rule] = {
    "Dense": _kernels.dense,
    **dict.fromkeys(("Conv1D", "Conv2D", "Conv3D", "Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose"), _kernels.convolution),
    **dict.fromkeys(("DepthwiseConv1D", "DepthwiseConv2D"), _kernels.depthwise),
    **dict.fromkeys(("SeparableConv1D", "SeparableConv2D"), _kernels.separable),
    "Embedding": _kernels.embedding,
    **dict.fromkeys(("BatchNormalization", "SyncBatchNormalization"), _kernels.batch_norm),
    "PReLU": _kernels.prelu,
    **dict.fromkeys(("LSTM", "GRU", "SimpleRNN"), _sequences.recurrent),
    "Bidirectional": _sequences.both_ways,
    "TimeDistributed": _each_step,
    "MultiHeadAttention": _sequences.heads,
    **dict.fromkeys(("Attention", "AdditiveAttention"), _sequences.attention),
    "EinsumDense": _sequences.einsum,
    **dict.fromkeys(("TFOpLambda", "SlicingOpLambda"), _operations.operation),
    "Activation": _activation,
    **dict.fromkeys(("ReLU", "LeakyReLU", "ELU", "ThresholdedReLU", "Rescaling"), _function),
    "Softmax": _softmax,
    **dict.fromkeys(("Dropout", "AlphaDropout", "GaussianDropout", "GaussianNoise", "ActivityRegularization"), _same),
    **dict.fromkeys((f"SpatialDropout{number}D" for number in (1, 2, 3)), _same),
    **dict.fromkeys(JOINING, _merging),
    "CustomScaleLayer": _scaled_sum,
    "Concatenate": _concatenate,
    "Flatten": _flatten,
    "Reshape": _reshape,
    "Permute": _permute,
    "RepeatVector": _repeat,
    **dict.fromkeys(
        (f"{what}{number}D" for what in ("MaxPooling", "AveragePooling", "ZeroPadding", "Cropping", "UpSampling") for number in (1, 2, 3)),
        _spatial,
    ),
    **dict.fromkeys((f"Global{what}Pooling{number}D" for what in ("Max", "Average") for number in (1, 2, 3)), _global_pooling),
    **dict.fromkeys(("LayerNormalization", "GroupNormalization", "UnitNormalization", "Normalization"), _normalizing),
}
