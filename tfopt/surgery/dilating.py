"""Dilated convolutions as one operation, which the converter takes to int8."""

from __future__ import annotations

from typing import Any

from .. import bridge
from .rewriting import Change, Changes, changed, kind, own_functions, twin


def dilated_as_direct(model: Any) -> tuple[Any, Changes]:
    """The same model with each dilated Conv2D as a `DirectConv2D`, which computes the same.

    >>> direct, changes = dilated_as_direct(model)
    >>> changes["conv"].reason
    'its dilation in one operation'
    """
    found = {layer.name: Change("its dilation in one operation", (layer.name,)) for layer in model.layers if _is_dilated(layer)}

    def remake(layer):
        if layer.name not in found:
            return twin(layer)
        with own_functions([layer]):
            return bridge.custom_objects()["DirectConv2D"].from_config(layer.get_config())

    return changed(model, found, remake)


def _is_dilated(layer: Any) -> bool:
    plain = kind(layer) == "Conv2D" and layer.data_format == "channels_last" and layer.groups == 1
    return plain and set(layer.dilation_rate) != {1}
