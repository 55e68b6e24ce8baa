"""How much each channel of a group matters: from its weights, or from data."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any, Literal

import numpy as np

from .. import backend, pipelines, tasks
from ..errors import OptionError
from ..surgery.ties import Slot
from ..types import Data
from ._groups import Group, Grouped

Importance = Literal["l1", "l2", "bn_scale", "geometric_median", "taylor", "activation", "random"]
ON_DATA = ("taylor", "activation")
_EXAMPLES, _BATCH = 512, 16


def scores(grouped: Grouped, importance: Importance, data: Data | None, seed: int) -> list[np.ndarray]:
    """A score for each channel of each group, 1 on average in a group; by "taylor" they are estimates of how the loss changes instead.

    Raises:
      OptionError: an importance on data without data, or BatchNorm's scale where a group has none.
    """
    if importance in ON_DATA and data is None:
        raise OptionError(f"importance = {importance!r}: is found on data, and there is none; give data, or take 'l2'")
    if importance == "taylor":
        return _taylor(grouped, data)
    if importance == "random":
        random = np.random.default_rng(seed)
        return [_normalized(random.random(len(group))) for group in grouped.groups]
    if importance == "activation":
        return [_normalized(values) for values in _activations(grouped, data)]
    rule = {"l1": _l1, "l2": _l2, "bn_scale": _bn_scale, "geometric_median": _geometric_median}[importance]
    return [_normalized(rule(grouped, group)) for group in grouped.groups]


def _normalized(values: np.ndarray) -> np.ndarray:
    mean = values.mean() if len(values) else 0
    return values / mean if mean else values


def _rows(grouped: Grouped, group: Group) -> list[np.ndarray]:
    """Of each kernel that makes the group's channels what belongs to each, (channels, weights)."""
    found = []
    for slot in group.slots:
        if slot.makes and slot.variable.shape.rank > 1:
            rows = np.moveaxis(slot.variable.numpy().astype("float32"), slot.axis, 0).reshape(len(slot.ids), -1)
            found.append(_by_channel(grouped, group, slot, rows))
    return found


def _by_channel(grouped: Grouped, group: Group, slot: Slot, rows: np.ndarray) -> np.ndarray:
    """Places along a slot (places, weights) as (channels of the group, weights)."""
    return np.stack([rows[each].ravel() for each in grouped.places(group, slot)])


def _l1(grouped: Grouped, group: Group) -> np.ndarray:
    """Li et al. 2017, "Pruning Filters for Efficient ConvNets" (arXiv:1608.08710)."""
    return np.sum([_normalized(np.abs(rows).sum(axis=1)) for rows in _rows(grouped, group)], axis=0)


def _l2(grouped: Grouped, group: Group) -> np.ndarray:
    return np.sum([_normalized(np.sqrt((rows**2).sum(axis=1))) for rows in _rows(grouped, group)], axis=0)


def _geometric_median(grouped: Grouped, group: Group) -> np.ndarray:
    """How far from all others: He et al. 2019, "Filter Pruning via Geometric Median" (arXiv:1811.00250)."""
    rows = np.concatenate(_rows(grouped, group), axis=1)
    squares = (rows**2).sum(axis=1)
    return np.sqrt(np.maximum(squares[:, None] + squares - 2 * rows @ rows.T, 0)).sum(axis=1)


def _bn_scale(grouped: Grouped, group: Group) -> np.ndarray:
    """Liu et al. 2017, "Network Slimming" (arXiv:1708.06519)."""
    scales = [slot for slot in group.slots if slot.makes and slot.variable is getattr(slot.layer, "gamma", None)]
    if not scales and group.reason is None:
        raise OptionError(
            f"importance = 'bn_scale': no BatchNorm with a scale stands behind {group.name!r}; leave it out by `where`, or take 'l2'"
        )
    found = [_at(grouped, group, slot, np.abs(slot.variable.numpy())) for slot in scales]
    return np.sum(found, axis=0) if found else np.ones(len(group))


def _taylor(grouped: Grouped, data: Data) -> list[np.ndarray]:
    """The square of what the loss changes by, to first order, when a channel is silenced: the mean over small batches of (sum g w)^2.

    The sum runs over what silences it: the scale and offset of the BatchNorm behind a layer, or else the weights that make it.
    Molchanov et al. 2019, "Importance Estimation for Neural Network Pruning" (arXiv:1906.10771).
    """
    tf, keras, model, task = backend.tensorflow(), backend.keras(), grouped.model, tasks.of(data)
    gates = [_gates(grouped, group) for group in grouped.groups]
    variables = list({id(slot.variable): slot.variable for slots in gates for slot in slots}.values())
    loss_of = keras.losses.get(task.loss(model))

    @tf.function
    def products(x: Any, y: Any) -> Any:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(variables)
            loss = tf.reduce_mean(loss_of(task.target(x, y), model(x, training=False)))
        gradients = tape.gradient(loss, variables, unconnected_gradients="zero")
        return [tf.convert_to_tensor(one) * variable for one, variable in zip(gradients, variables, strict=True)]

    found, count = [np.zeros(len(group)) for group in grouped.groups], 0
    for x, y in pipelines.batches(data.train, _BATCH).take(_EXAMPLES // _BATCH):
        by_variable = {id(variable): each.numpy() for variable, each in zip(variables, products(x, y), strict=True)}
        for values, group, slots in zip(found, grouped.groups, gates, strict=True):
            values += np.sum([_at(grouped, group, slot, by_variable[id(slot.variable)]) for slot in slots], axis=0) ** 2
        count += 1
    return [values / count for values in found]


def _gates(grouped: Grouped, group: Group) -> list[Slot]:
    """Where zeros silence the group's channels."""
    silenced = {id(grouped.norms[id(slot.layer)]) for slot in group.slots if slot.makes and id(slot.layer) in grouped.norms}
    silenced |= {id(slot.layer) for slot in group.slots if slot.makes and id(slot.layer) not in grouped.norms and not _is_norm(slot.layer)}
    return [slot for slot in group.slots if slot.makes and id(slot.layer) in silenced and slot.variable.trainable]


def _is_norm(layer: Any) -> bool:
    return hasattr(layer, "moving_mean")


def _at(grouped: Grouped, group: Group, slot: Slot, values: np.ndarray) -> np.ndarray:
    """The sum over all but the slot's axis, of each of the group's channels."""
    rows = np.moveaxis(values, slot.axis, 0).reshape(len(slot.ids), -1).sum(axis=1, keepdims=True)
    return _by_channel(grouped, group, slot, rows).sum(axis=1)


def _activations(grouped: Grouped, data: Data) -> list[np.ndarray]:
    """The mean size of what the layers that make a channel, or the BatchNorm behind them, give on calibration examples.

    Of attention heads, whose outputs leave no layer, that of the weights that make them ("l2").
    """
    watched = {}
    for group in grouped.groups:
        for slot in group.slots:
            if slot.makes and slot.variable.shape.rank > 1 and "MultiHead" not in type(slot.layer).__name__:
                layer = grouped.norms.get(id(slot.layer), slot.layer)
                watched[id(layer)] = layer
    sums: dict[int, np.ndarray] = {}
    with _listening(watched.values(), sums):
        for x, _ in pipelines.batches(data.calibration, _BATCH):
            grouped.model(x, training=False)
    found = []
    for group in grouped.groups:
        parts = [part for slot in group.slots for part in _heard(grouped, group, slot, sums)]
        found.append(np.sum(parts, axis=0) if parts else _l2(grouped, group))
    return found


def _heard(grouped: Grouped, group: Group, slot: Slot, sums: dict[int, np.ndarray]) -> list[np.ndarray]:
    key = id(grouped.norms.get(id(slot.layer), slot.layer))
    if not slot.makes or slot.variable.shape.rank < 2 or key not in sums or len(sums[key]) != len(slot.ids):
        return []
    return [_by_channel(grouped, group, slot, sums[key][:, None]).sum(axis=1)]


@contextlib.contextmanager
def _listening(layers: Iterable[Any], sums: dict[int, np.ndarray]) -> Iterator[None]:
    """Meanwhile, adds up the sizes of what layers give, along their last axis."""

    def listen(layer: Any) -> Any:
        call = layer.call

        def heard(*arguments: Any, **keywords: Any) -> Any:
            result = call(*arguments, **keywords)
            first = np.abs(np.asarray(result[0] if isinstance(result, list | tuple) else result, "float64"))
            sums[id(layer)] = sums.get(id(layer), 0) + first.reshape(-1, first.shape[-1]).sum(axis=0)
            return result

        return heard

    layers = list(layers)
    for layer in layers:
        layer.call = listen(layer)
    try:
        yield
    finally:
        for layer in layers:
            del layer.call
