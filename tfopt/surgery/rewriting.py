"""The layer graph rebuilt, layer by layer: what the passes of this package stand on. Nested models laid open.

A pass is a function `model -> (new model, changes)`. The changes say, for the layers that did not stay as they were, what became of them;
every other layer is in the new model under its own name. Where a pass finds nothing to do, it hands back the model that it was given.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from .. import backend

Remade = Any | Sequence[Any] | None


@dataclass(frozen=True)
class Change:
    """What became of a layer.

    Attributes:
      reason: in words, e.g. "folded into conv".
      into: names in the new model: the layers that do its work now, the one that stands for it first; or, merged, whom it went into.
      merged: whether it is gone as a layer of its own.
    """

    reason: str
    into: tuple[str, ...] = ()
    merged: bool = False


Changes = dict[str, Change]


def flattened(model: Any) -> tuple[Any, Changes]:
    """The same model without models inside it: a nested model's layers in its place, with an underscore behind a name that is taken.

    The changes tell which name each layer of a nested model has now, by its path: `outer/inner`. A nested model that is called with
    `training=False` hands that on to its layers.
    """
    names: dict[int, str] = {}

    def note(layer, results):
        names[id(layer)] = _flat(results)[0]._keras_history.layer.name
        return results

    new = rebuilt(model, twin, note)
    paths = _paths(model)
    return new, {path: Change("laid open", (names[number],)) for path, number in paths.items() if names.get(number, path) != path}


def rebuilt(
    model: Any,
    remake: Callable[[Any], Remade],
    after: Callable[[Any, Any], Any] = lambda layer, results: results,
    *,
    weights: Callable[[Any], list[Any]] = lambda layer: layer.get_weights(),
    arrange: Callable[[Any, tuple, dict], tuple[tuple, dict]] = lambda layer, arguments, keywords: (arguments, keywords),
    opened: bool = True,
) -> Any:
    """A new functional model: each layer replaced by `remake(layer)`, or left out where that is None; weights are copied.

    Args:
      model: sequential or functional.
      remake: gives a new layer, several that are called one after another, or None for a layer with one input that may be skipped.
      after: `(old layer, its new results) -> what its readers get instead`, at each call of a layer.
      weights: `old layer -> the arrays for what replaces it`, those of several one after another.
      arrange: `(old layer, arguments, keywords) -> those that the new layer is called with`.
      opened: whether nested models are laid open; otherwise each is rebuilt as a model in its place.
    """
    rebuilding = _Rebuilding(model, remake, after, weights, arrange, opened)
    return backend.without_autograph(rebuilding.whole, model)()


def changed(model: Any, changes: Changes, remake: Callable[[Any], Remade], **hooks: Any) -> tuple[Any, Changes]:
    """What a pass returns: the model rebuilt where there are changes, and the changes."""
    return (rebuilt(model, remake, **hooks) if changes else model), changes


def twin(layer: Any, /, **changes: Any) -> Any:
    """A new layer of the same kind and configuration but for the `changes`."""
    with backend.trusted_lambdas(), own_functions([layer]):
        return type(layer).from_config({**layer.get_config(), **changes})


def own_functions(layers: Iterable[Any]) -> Any:
    """A scope in which layers can be rebuilt that are of the user's own classes, or whose activations are functions of his own.

    Keras looks for both by name, and finds its own and those that are registered.
    """
    keras, layers = backend.keras(), list(layers)
    found = [getattr(layer, name, None) for layer in layers for name in ("activation", "recurrent_activation")]
    named = {each.__name__: each for each in found if callable(each) and hasattr(each, "__name__")}
    functions = {name: each for name, each in named.items() if not hasattr(keras.activations, name)}
    classes = {type(layer).__name__: type(layer) for layer in layers if not kind(layer)}
    return keras.utils.custom_object_scope({**classes, **functions})


def readings(model: Any) -> list[tuple[Any, list[Any]]]:
    """For each tensor that a layer makes, the layer and those that read it; the model's own outputs count as a reader None."""
    readers: dict[int, list[Any]] = {id(tensor): [None] for tensor in model.outputs}
    for node in backend.nodes_of(model):
        for tensor in _flat(node.keras_inputs):
            readers.setdefault(id(tensor), []).append(node.layer)
    return [(node.layer, readers.get(id(tensor), [])) for node in backend.nodes_of(model) for tensor in _flat(node.outputs)]


def pairs(model: Any) -> list[tuple[Any, Any]]:
    """The layers (before, after) of which the one reads the other's output, both called once and nobody else reading it."""
    calls = collections.Counter(id(node.layer) for node in backend.nodes_of(model))
    alone = [(before, layers[0]) for before, layers in readings(model) if len(layers) == 1 and layers[0] is not None]
    return [(before, after) for before, after in alone if calls[id(before)] == calls[id(after)] == 1]


def called_once(model: Any) -> list[tuple[Any, Any]]:
    """The layers that are called once, each with the node of its call."""
    found = backend.nodes_of(model)
    calls = collections.Counter(id(node.layer) for node in found)
    return [(node.layer, node) for node in found if calls[id(node.layer)] == 1]


def kind(layer: Any) -> str:
    """The name of a layer's class where it is one of Keras's own, so that its meaning is known; otherwise ""."""
    return type(layer).__name__ if type(layer).__module__.startswith(f"{backend.keras().__name__}.") else ""


def activation_name(layer: Any) -> str | None:
    """The name of a layer's activation: a function's own, of a layer its class; None where it has none."""
    activation = getattr(layer, "activation", None)
    return None if activation is None else getattr(activation, "__name__", type(activation).__name__)


def free_name(name: str, taken: Collection[str]) -> str:
    """The name, with underscores behind it as long as it is taken."""
    while name in taken:
        name += "_"
    return name


class _Rebuilding:
    """One run of `rebuilt`: what has been made of the old layers and tensors so far."""

    def __init__(self, model: Any, remake: Callable, after: Callable, weights: Callable, arrange: Callable, opened: bool):
        self.old, self.remake, self.after, self.weights, self.arrange, self.opened = model, remake, after, weights, arrange, opened
        self.tensors: dict[int, Any] = {}
        self.made: dict[int, tuple[Any, list[Any] | None]] = {}
        self.names: set[str] = set()

    def whole(self) -> Any:
        """The new model with its weights."""
        new = self.model()
        for layer, replacements in self.made.values():
            if isinstance(layer, backend.keras().Model):
                continue  # its layers are here as well
            heirs = [replacement for replacement in replacements or () if replacement.weights]
            arrays = list(self.weights(layer)) if heirs else []
            for heir in heirs:
                own = arrays if heir is heirs[-1] else arrays[: len(heir.weights)]
                heir.set_weights(own)
                arrays = arrays[len(own) :]
        return new

    def model(self) -> Any:
        """The new model, its weights as initializers make them."""
        keras, old = backend.keras(), self.old
        named = zip(old.inputs, old.input_names, strict=True)
        inputs = [keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype, name=name) for tensor, name in named]
        self.names.update(old.input_names)
        self.tensors = {id(before): now for before, now in zip(old.inputs, inputs, strict=True)}
        self._walk(old, None)
        # one, list or dict of inputs, as in the old model
        structure = backend.tensorflow().nest.pack_sequence_as(old._nested_inputs, inputs)
        return keras.Model(structure, self._mapped(old._nested_outputs), name=old.name)

    def _inner(self, model: Any) -> Any:
        """A nested model as a model; its layers are noted here, too."""
        inner = _Rebuilding(model, self.remake, self.after, self.weights, self.arrange, self.opened)
        inner.made = self.made
        return inner.model()

    def _walk(self, model: Any, training: Any) -> None:
        for node in backend.nodes_of(model):
            arguments, keywords = self._mapped(node.call_args), self._mapped(node.call_kwargs)
            if training is not None and keywords.get("training") is None and node.layer._call_spec.expects_training_arg:
                keywords = {**keywords, "training": training}
            if self.opened and isinstance(node.layer, backend.keras().Model):
                results = self._opened(node.layer, arguments, keywords)
            else:
                results = self._called(node.layer, arguments, keywords)
            self.tensors.update({id(old): new for old, new in zip(_flat(node.outputs), _flat(results), strict=True)})

    def _opened(self, inner: Any, arguments: tuple, keywords: dict) -> Any:
        given = inner._flatten_to_reference_inputs(arguments[0] if arguments else keywords["inputs"])
        self.tensors.update({id(old): new for old, new in zip(inner.inputs, given, strict=True)})
        self._walk(inner, keywords.get("training"))
        return self._mapped(inner._nested_outputs)

    def _called(self, layer: Any, arguments: tuple, keywords: dict) -> Any:
        layers = self._made(layer)
        if layers is None:
            return arguments[0] if arguments else keywords["inputs"]
        arguments, keywords = self.arrange(layer, arguments, keywords)
        results = layers[0](*arguments, **keywords)
        for new in layers[1:]:
            results = new(results)
        return self.after(layer, results)

    def _made(self, layer: Any) -> list[Any] | None:
        """The layer's replacements, made once however often it is called, and under names that are still free."""
        if id(layer) not in self.made:
            new = self._inner(layer) if isinstance(layer, backend.keras().Model) else self.remake(layer)
            layers = None if new is None else list(new) if isinstance(new, list | tuple) else [new]
            for replacement in layers or ():
                replacement._name = free_name(replacement.name, self.names)
                self.names.add(replacement.name)
            self.made[id(layer)] = (layer, layers)
        return self.made[id(layer)][1]

    def _mapped(self, structure: Any) -> Any:
        return backend.tensorflow().nest.map_structure(lambda item: self.tensors.get(id(item), item), structure)


def _paths(model: Any, prefix: str = "") -> dict[str, int]:
    """The layers by their paths, as `copying.all_layers` names them; each one's id."""
    found = {}
    for layer in model.layers:
        path = f"{prefix}{layer.name}"
        found.update(_paths(layer, f"{path}/") if isinstance(layer, backend.keras().Model) else {path: id(layer)})
    return found


def _flat(structure: Any) -> list[Any]:
    return backend.tensorflow().nest.flatten(structure)
