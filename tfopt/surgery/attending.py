"""Attention, EinsumDense and a Dense over steps in the layers that they are made of: Dense, Reshape, Permute, products and a softmax."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import backend, bridge
from .rewriting import Change, Changes, called_once, changed, free_name, kind, twin

_PARTS = ("query", "scale", "query_heads", "query_first", "key", "key_heads", "key_first", "value", "value_heads", "value_first",
          "scores", "shares", "dropped", "weighed", "heads_last", "joined")  # fmt: skip


def attention_opened(model: Any) -> tuple[Any, Changes]:
    """The same model with each MultiHeadAttention over one axis, without a mask, as projections, two products and a softmax.

    With Q, K and V the three projections, of H heads and D numbers each, softmax(Q K' / sqrt(D)) V goes through the last projection.

    >>> opened, changes = attention_opened(model)
    >>> changes["attention"].reason
    'laid open: projections, products and a softmax'
    """
    names = {layer.name for layer in model.layers}
    found = {layer.name: layer for layer, node in called_once(model) if kind(layer) == "MultiHeadAttention" and _can_open(layer, node)}
    inner = {name: {part: free_name(f"{name}_{part}", names) for part in _parts(layer)} for name, layer in found.items()}

    def remake(layer):
        return _projection(layer, layer._output_dense, layer.name) if layer.name in found else twin(layer)

    def arrange(layer, arguments, keywords):
        if layer.name not in found:
            return arguments, keywords
        tensors = _tensors(arguments, keywords)
        return (_weighed(layer, *tensors, inner[layer.name]),), {}

    def weights(layer):
        return _flat_weights(layer._output_dense, 2) if layer.name in found else layer.get_weights()

    words = "laid open: projections, products and a softmax"
    changes = {name: Change(words, (name, *parts.values())) for name, parts in inner.items()}
    return changed(model, changes, remake, arrange=arrange, weights=weights)


def dot_attention_opened(model: Any) -> tuple[Any, Changes]:
    """The same model with each Attention, without a mask and a scale to learn, as two products and a softmax: softmax(Q K') V."""
    names = {layer.name for layer in model.layers}
    found = {layer.name for layer, node in called_once(model) if kind(layer) == "Attention" and _is_plain(layer, node)}
    inner = {name: [free_name(f"{name}_{part}", names) for part in ("key_first", "scores", "shares", "dropped")] for name in found}
    product = bridge.custom_objects()["Product"]

    def remake(layer):
        return product(name=layer.name) if layer.name in found else twin(layer)

    def arrange(layer, arguments, keywords):
        if layer.name not in found:
            return arguments, keywords
        layers, (turned, scores, shares, dropped) = backend.keras().layers, inner[layer.name]
        query, value, *key = arguments[0] if arguments else keywords["inputs"]
        key = layers.Permute((2, 1), name=turned)(key[0] if key else value)
        x = layers.Softmax(name=shares)(product(name=scores)([query, key]))
        x = layers.Dropout(layer.dropout, name=dropped)(x) if layer.dropout else x
        return ([x, value],), {}

    words = "laid open: products and a softmax"
    changes = {n: Change(words, (n, *(inner[n] if model.get_layer(n).dropout else inner[n][:3]))) for n in inner}
    return changed(model, changes, remake, arrange=arrange)


def steps_as_dense(model: Any) -> tuple[Any, Changes]:
    """The same model with each TimeDistributed Dense as the Dense, which does the same at each step by itself."""
    found = {layer.name for layer, node in called_once(model) if _is_dense_of_steps(layer) and not _masked(node)}

    def remake(layer):
        return twin(layer.layer, name=layer.name) if layer.name in found else twin(layer)

    return changed(model, {name: Change("becomes its Dense", (name,)) for name in found}, remake)


def einsums_as_dense(model: Any) -> tuple[Any, Changes]:
    """The same model with each EinsumDense that sums over the last axes as a Dense, with Reshapes where there are several."""
    names = {layer.name for layer in model.layers}
    found = {layer.name: letters for layer, _ in called_once(model) if (letters := _letters(layer)) is not None}

    def remake(layer):
        if layer.name not in found:
            return twin(layer)
        layers, (summed, made) = backend.keras().layers, found[layer.name]
        dense = _dense(layer, layer.name, int(np.prod(layer.kernel.shape[summed:])))
        kept = [-1 if size is None else size for size in layer.input_shape[1 : len(layer.input_shape) - summed]]
        flat = layers.Reshape((*kept, int(np.prod(layer.kernel.shape[:summed]))), name=free_name(f"{layer.name}_flat", names))
        apart = layers.Reshape((*kept, *layer.kernel.shape[summed:]), name=free_name(f"{layer.name}_apart", names))
        return [*([flat] if summed > 1 else []), dense, *([apart] if made > 1 else [])]

    def weights(layer):
        return _flat_weights(layer, found[layer.name][0]) if layer.name in found else layer.get_weights()

    made = {layer.name: remake(layer) for layer in model.layers if layer.name in found}
    changes = {
        name: Change("becomes a Dense", (name, *(each.name for each in layers if each.name != name))) for name, layers in made.items()
    }
    return changed(model, changes, lambda layer: made.get(layer.name) or twin(layer), weights=weights)


def _is_plain(layer: Any, node: Any) -> bool:
    """Whether an Attention is softmax(Q K') V with nothing else to decide."""
    plain = layer.score_mode == "dot" and not layer.use_scale and not getattr(layer, "causal", False) and layer.compute_dtype == "float32"
    ranks = {tensor.shape.rank for tensor in node.keras_inputs}
    given = any(node.call_kwargs.get(key) is not None and node.call_kwargs.get(key) is not False for key in (*_SPECIAL, "mask"))
    return plain and ranks == {3} and not given and not _masked(node) and len(node.call_args) <= 1


def _is_dense_of_steps(layer: Any) -> bool:
    return kind(layer) == "TimeDistributed" and kind(layer.layer) == "Dense" and layer.compute_dtype == "float32"


def _masked(node: Any) -> bool:
    return any(getattr(tensor, "_keras_mask", None) is not None for tensor in node.keras_inputs)


def _parts(layer: Any) -> list[str]:
    return [part for part in _PARTS if part != "dropped" or layer._dropout]


def _can_open(layer: Any, node: Any) -> bool:
    """Whether nothing but the three tensors decides, each of (batch, steps, numbers)."""
    plain = not any(node.call_kwargs.get(key) is not None and node.call_kwargs.get(key) is not False for key in _SPECIAL)
    shapes = [layer._query_shape, layer._key_shape, layer._value_shape, node.outputs.shape if hasattr(node.outputs, "shape") else None]
    known = all(shape is not None and shape.rank == 3 and list(shape)[1:].count(None) == 0 for shape in shapes)
    return plain and known and not _masked(node) and layer.compute_dtype == "float32" and len(node.call_args) <= 3


_SPECIAL = ("attention_mask", "return_attention_scores", "use_causal_mask", "training")


def _tensors(arguments: tuple, keywords: dict) -> tuple[Any, Any, Any]:
    given = dict(zip(("query", "value", "key"), arguments, strict=False)) | {key: keywords[key] for key in keywords if key in _NAMES}
    key = given.get("key")
    return given["query"], given["value"] if key is None else key, given["value"]


_NAMES = ("query", "value", "key")


def _weighed(layer: Any, query: Any, key: Any, value: Any, names: dict[str, str]) -> Any:
    """What comes out of the heads, side by side: (batch, steps, heads x numbers)."""
    layers, product = backend.keras().layers, bridge.custom_objects()["Product"]
    heads = layer._num_heads

    def projected(part: str, dense: Any, tensor: Any, order: tuple[int, int, int], scale: float = 1.0) -> Any:
        projection = _projection(layer, dense, names[part])
        x = projection(tensor)
        projection.set_weights(_flat_weights(dense, 1))
        if part == "query":
            x = layers.Rescaling(scale, name=names["scale"])(x)
        x = layers.Reshape((tensor.shape[1], heads, dense.kernel.shape[-1]), name=names[f"{part}_heads"])(x)
        return layers.Permute(order, name=names[f"{part}_first"])(x)

    q = projected("query", layer._query_dense, query, (2, 1, 3), 1 / float(np.sqrt(layer._key_dim)))
    k = projected("key", layer._key_dense, key, (2, 3, 1))
    v = projected("value", layer._value_dense, value, (2, 1, 3))
    shares = layers.Softmax(name=names["shares"])(product(name=names["scores"])([q, k]))
    if layer._dropout:
        shares = layers.Dropout(layer._dropout, name=names["dropped"])(shares)
    x = layers.Permute((2, 1, 3), name=names["heads_last"])(product(name=names["weighed"])([shares, v]))
    return layers.Reshape((query.shape[1], heads * layer._value_dense.kernel.shape[-1]), name=names["joined"])(x)


def _projection(layer: Any, dense: Any, name: str) -> Any:
    summed = 2 if dense is layer._output_dense else 1
    return _dense(dense, name, int(np.prod(dense.kernel.shape[summed:])), trainable=layer.trainable)


def _dense(layer: Any, name: str, units: int, **options: Any) -> Any:
    """A Dense with an EinsumDense's settings."""
    kept = {key: getattr(layer, key) for key in _SETTINGS}
    return backend.keras().layers.Dense(
        units, use_bias=layer.bias is not None, name=name, **{"trainable": layer.trainable, **kept, **options}
    )


_SETTINGS = ("activation", "kernel_regularizer", "bias_regularizer", "activity_regularizer", "kernel_constraint", "bias_constraint")


def _flat_weights(layer: Any, summed: int) -> list[np.ndarray]:
    """An EinsumDense's weights as a Dense's."""
    kernel, *bias = layer.get_weights()
    return [kernel.reshape(int(np.prod(kernel.shape[:summed])), -1), *(each.reshape(-1) for each in bias)]


def _letters(layer: Any) -> tuple[int, int] | None:
    """How many axes are summed over, and how many come out, of an EinsumDense that is a Dense: "ab,bcd->acd" has 1 and 2."""
    if kind(layer) != "EinsumDense" or layer.compute_dtype != "float32" or "..." in layer.equation:
        return None
    inputs, kernel, output = layer.equation.replace(" ", "").replace("->", ",").split(",")
    made = "".join(letter for letter in kernel if letter in output)
    summed = kernel.removesuffix(made)
    kept = inputs.removesuffix(summed)
    is_dense = summed and made and inputs == kept + summed and output == kept + made and not set(kept) & set(kernel)
    biased = layer.bias is None or (layer.bias_axes == made)
    free = [size for size in layer.input_shape[1:] if size is None]
    return (len(summed), len(made)) if is_dense and biased and len(kept) >= 1 and (not free or len(summed) == len(made) == 1) else None
