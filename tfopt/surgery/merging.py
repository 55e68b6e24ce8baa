"""Layers that merge several tensors, as layers that merge two and that have an operation in int8.

Of a sum of three the converter computes all in float, since the sum of the first two has no range; a mean it takes for such a sum; and of
a maximum it gives all inputs the range of one, and cuts off what the others hold above it.
"""

from __future__ import annotations

from typing import Any

from .. import backend
from .rewriting import Change, Changes, called_once, changed, free_name, kind, twin


def in_pairs(model: Any) -> tuple[Any, Changes]:
    """The same model with each Add and Multiply of more than two tensors as several of two, and each Average as an Add and a Rescaling.

    Maximum and Minimum become what can be computed in int8 with a range for each tensor: max(a, b) = b + relu(a - b), and
    min(a, b) = a - relu(a - b).

    >>> pairs, changes = in_pairs(model)
    >>> changes["maximum"].reason
    'becomes a Subtract, a ReLU and an Add'
    """
    names = {layer.name for layer in model.layers}
    found = {layer.name: count for layer, node in called_once(model) if (count := _count(layer, node))}
    inner = {name: _inner_names(model.get_layer(name), count, names) for name, count in found.items()}

    def remake(layer):
        if layer.name not in found:
            return twin(layer)
        layers = backend.keras().layers
        made = _merging(layer, layer.name)
        return (made, layers.Rescaling(1 / found[layer.name], name=inner[layer.name][-1])) if kind(layer) == "Average" else made

    def arrange(layer, arguments, keywords):
        if layer.name not in found:
            return arguments, keywords
        first, *others = arguments[0] if arguments else keywords["inputs"]
        fresh = iter(inner[layer.name])
        for other in others[:-1]:
            pair = _steps(kind(layer), first, other, fresh)
            first = _merging(layer, next(fresh))(list(pair))
        return (list(_steps(kind(layer), first, others[-1], fresh)),), {}

    changes = {name: Change(_words(model.get_layer(name)), (name, *inner[name])) for name in found}
    return changed(model, changes, remake, arrange=arrange)


def _count(layer: Any, node: Any) -> int:
    """How many tensors a layer merges; 0 for what is left as it is."""
    tensors = node.keras_inputs
    if not all(tensor.dtype.is_floating for tensor in tensors) or layer.compute_dtype != "float32":
        return 0
    least = {"Add": 3, "Multiply": 3, "Average": 2, "Maximum": 2, "Minimum": 2}.get(kind(layer))
    return len(tensors) if least is not None and len(tensors) >= least else 0


def _steps(name: str, one: Any, other: Any, fresh: Any) -> tuple[Any, Any]:
    """The two tensors whose sum, product or difference is the result."""
    if name not in ("Maximum", "Minimum"):
        return one, other
    layers = backend.keras().layers
    above = layers.ReLU(name=next(fresh))(layers.Subtract(name=next(fresh))([one, other]))
    return (above, other) if name == "Maximum" else (one, above)


def _inner_names(layer: Any, count: int, names: set[str]) -> list[str]:
    """Names for the layers that come with one: of a maximum two for each pair, of all one for each pair but the last."""
    extreme, share = kind(layer) in ("Maximum", "Minimum"), ["share"] if kind(layer) == "Average" else []
    ends = []
    for number in range(1, count):
        ends += [f"above_{number}", f"difference_{number}"] if extreme else []
        ends += [f"first_{number}"] if number < count - 1 else []
    return [free_name(f"{layer.name}_{end}", names) for end in ends + share]


def _words(layer: Any) -> str:
    return {
        "Average": "becomes an Add and a Rescaling",
        "Maximum": "becomes a Subtract, a ReLU and an Add",
        "Minimum": "becomes a Subtract, a ReLU and a Subtract",
    }.get(kind(layer), "in pairs")


def _merging(layer: Any, name: str) -> Any:
    """What merges two tensors at the end."""
    last = {"Average": "Add", "Maximum": "Add", "Minimum": "Subtract"}.get(kind(layer), kind(layer))
    return getattr(backend.keras().layers, last)(name=name)
