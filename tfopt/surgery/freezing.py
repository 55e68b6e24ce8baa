"""Layers that were not trained, made trainable again: the second phase of transfer learning."""

from __future__ import annotations

from typing import Any, Literal

from ..errors import OptionError, shown
from . import copying, rewriting
from .selecting import Where, selector

_BATCH_NORMS = ("BatchNormalization", "SyncBatchNormalization")


def unfreeze(model: Any, layers: Literal["all"] | int | Where = "all") -> Any:
    """A copy of the model in which frozen layers (`trainable = False`) are trained again.

    BatchNorms that were frozen stay so: in Keras that means that they use their moving averages in training, too, and keep gamma and beta.
    The few examples of a fine-tuning would make other averages than those that the weights around them were learnt with.

    Args:
      model: a tf_keras model, nested or not; or a Keras 3 model, which comes through the bridge.
      layers: "all"; how many, counted from the last frozen one backwards, BatchNorms not counted, so that three calls with 5 thaw 15; or
        which ones, as the techniques' `where` says it: a name or pattern of names, a class, a list of these, a predicate on the layer.

    Raises:
      OptionError: no layer is frozen that could be thawed, or not as many or none of those that are asked for.
      UnsupportedModel: another kind of model, or one that is quantization-aware.

    >>> model = tfopt.train(tfopt.unfreeze(model, "block_16*"), data, Fit(epochs=10, learning_rate=1e-5))
    """
    copy = copying.copy_of(model)
    found = copying.all_layers(copy)
    frozen = {path: layer for path, layer in found if layer.weights and not layer.trainable and rewriting.kind(layer) not in _BATCH_NORMS}
    if not frozen:
        raise OptionError(f"unfreeze: no layer of {copy.name!r} is frozen but BatchNorms, which stay so; freeze some first")
    thawed = _chosen(frozen, found, layers)
    trainable = {path: path in thawed or layer.trainable for path, layer in found}
    copy.trainable = True  # models inside it, too, which would hide what is trainable in them
    for path, layer in found:
        layer.trainable = trainable[path]
    return copy


def _chosen(frozen: dict[str, Any], found: list[tuple[str, Any]], layers: Any) -> set[str]:
    if isinstance(layers, str) and layers == "all":
        return set(frozen)
    if isinstance(layers, bool) or layers is None or not (isinstance(layers, int | str | list | tuple) or callable(layers)):
        raise OptionError(f"unfreeze: layers = {shown(layers)}: should be 'all', a number of layers, names, or a function of a layer")
    if isinstance(layers, int):
        if not 0 < layers <= len(frozen):
            raise OptionError(f"unfreeze: layers = {layers}: should be from 1 to {len(frozen)}, the layers that are frozen; or 'all'")
        return set(list(frozen)[-layers:])
    fits = selector(layers, found, option="layers")
    thawed = {path for path, layer in frozen.items() if fits(path, layer)}
    if not thawed:
        raise OptionError(f"unfreeze: layers = {shown(layers)}: none of these is frozen; frozen are {shown(list(frozen))}")
    return thawed
