"""Which layers an option like `where` means."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from .. import backend
from ..errors import OptionError, nearest

Where = str | Sequence[str] | Callable[[Any], bool] | None


def selector(where: Where, layers: Iterable[tuple[str, Any]], option: str = "where") -> Callable[[str, Any], bool]:
    """A test `(name, layer) -> bool` for what `where` says of the `layers` at hand.

    Args:
      where: None for all; a layer's name or a pattern of names ("block*"), a class name ("Dense"), or a list of these; in Python also
        a predicate on the layer.
      layers: name and layer, as `copying.all_layers` gives them.
      option: what the message calls it.

    Raises:
      OptionError: a pattern that fits no layer.

    >>> chosen = selector("conv*", all_layers(model))
    >>> [name for name, layer in all_layers(model) if chosen(name, layer)]
    ['conv1', 'conv2']
    """
    if where is None:
        return lambda name, layer: True
    if isinstance(where, backend.keras().layers.Layer):  # which is callable as well
        raise OptionError(f"{option} = {where!r}: a layer; give its name, {where.name!r}")
    if callable(where):
        return lambda name, layer: bool(where(layer))
    patterns = [where] if isinstance(where, str) else list(where)
    layers = list(layers)
    for pattern in patterns:
        if not any(_fits(pattern, name, layer) for name, layer in layers):
            names = {name for name, _ in layers} | {type(layer).__name__ for _, layer in layers}
            raise OptionError(f"{option} = {pattern!r}: no layer has this name or class; {nearest(pattern, names)}")
    return lambda name, layer: any(_fits(pattern, name, layer) for pattern in patterns)


def _fits(pattern: str, name: str, layer: Any) -> bool:
    *models, own = name.split("/")  # a nested model's layer answers to `outer/inner`, to `inner`, and to `outer` as all in it do
    paths = [name, own, *("/".join(models[: number + 1]) for number in range(len(models)))]
    return any(fnmatch.fnmatchcase(path, pattern) for path in paths) or pattern == type(layer).__name__
