"""What techniques say of a layer before they look at what is special to them, and of options of which one is enough."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..surgery.kernels import Kernel

DEPTHWISE = "few weights that matter much, so only where the layer is named"


def left_alone(name: str, layer: Any, found: Sequence[Kernel], chosen: Callable[[str, Any], bool]) -> str | None:
    """Why a layer is left as it is, whatever its kernels; None where it is not."""
    if not layer.weights:
        return f"{type(layer).__name__} has no weights"
    if not found:
        return f"{type(layer).__name__} has no kernel"
    return None if chosen(name, layer) else "not named by `where`"


def only_one(given: Mapping[str, Any], what: str) -> str | None:
    """A sentence where several options are given of which only one can be; None where at most one is."""
    named = [name for name, value in given.items() if value is not None]
    return f"{' and '.join(named)}: give one {what}" if len(named) > 1 else None
