"""Hints: what layers inside a student learn from layers inside its teacher, by projections that are learnt with them and thrown away.

With a student's map s and a teacher's t of the same examples and places, and n(m) = (m - mean of each channel) / root of the mean square of
what is left, both means over the batch and its places,

    loss of a pair = mean (n(s) W - n(t))^2

where W, (channels of s, channels of t), is a matrix for each place: a 1x1 convolution. The loss does not depend on the size of either map:
it is the share of the teacher's variance that the projection misses, 1 where the student's map tells nothing. Of several pairs the mean
counts. Maps of other sizes are averaged to the smaller.

Romero et al. 2015, "FitNets: Hints for Thin Deep Nets" (arXiv:1412.6550), which takes hints in a phase of their own and maps as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from . import backend
from .errors import OptionError, nearest

Named = Mapping[str, str] | Sequence[str]  # student's layer -> teacher's; or layers of names that both have
_EPSILON = 1e-10  # of a mean square; a map of less is as good as constant


class Hints:
    """The hints of a fit, in TensorFlow's operations.

    Attributes:
      student, teacher: models that give (the outputs, a list of maps), one for each pair.
      variables: the projections.
    """

    def __init__(self, hints: Named, student: Any, teacher: Any):
        tf, names = backend.tensorflow(), _pairs(hints)
        maps, theirs = [_map(student, name) for name in names], [_map(teacher, name) for name in names.values()]
        self.student, self.teacher = _giving(student, maps), _giving(teacher, theirs)
        self._sizes = [tuple(map(min, one.shape[1:-1], other.shape[1:-1])) for one, other in zip(maps, theirs, strict=True)]
        shapes = [(one.shape[-1], other.shape[-1]) for one, other in zip(maps, theirs, strict=True)]
        drawn = backend.keras().initializers.GlorotUniform()
        self.variables = [tf.Variable(drawn(shape), name=f"hint_{name}") for name, shape in zip(names, shapes, strict=True)]

    def missed(self, theirs: Sequence[Any], mine: Sequence[Any]) -> Any:
        """The mean loss of the pairs, from the maps of the teacher and of the student."""
        tf = backend.tensorflow()
        found = []
        for one, other, size, projection in zip(mine, theirs, self._sizes, self.variables, strict=True):
            projected = tf.tensordot(_normal(one, size), tf.convert_to_tensor(projection), 1)
            found.append(tf.reduce_mean(tf.square(projected - _normal(other, size))))
        return tf.add_n(found) / len(found)


def check(hints: Named, student: Any, teacher: Any, option: str = "hints") -> None:
    """Whether the student can learn these hints from the teacher.

    Raises:
      OptionError: a layer that there is not or that gives no single map, or two whose maps can't be compared.
    """
    for name, its in _pairs(hints).items():
        for model, whose, layer in ((student, "student", name), (teacher, "teacher", its)):
            _check_layer(model, whose, layer, option)
        mine, theirs = _map(student, name).shape, _map(teacher, its).shape
        if not _fit(mine[1:-1], theirs[1:-1]):
            raise OptionError(
                f"{option}: the student's {name!r} gives {_said(mine)}, and the teacher's {its!r} {_said(theirs)}; but for the channels, "
                "which are last, they should have the same number of sizes, and of each two one should divide the other"
            )


def _pairs(hints: Named) -> dict[str, str]:
    return dict(hints) if isinstance(hints, Mapping) else {name: name for name in hints}


def _check_layer(model: Any, whose: str, name: str, option: str) -> None:
    layers = {layer.name: layer for layer in model.layers}
    if name not in layers:
        raise OptionError(f"{option}: the {whose} {model.name!r} has no layer {name!r}; {nearest(name, layers)}")
    calls = sum(node.layer is layers[name] for node in backend.nodes_of(model))
    if calls > 1:
        raise OptionError(f"{option}: the {whose}'s {name!r} is called {calls} times, and has no map that is its only one; name another")
    if calls == 0 or not hasattr(_map(model, name), "shape") or len(_map(model, name).shape) < 2:
        raise OptionError(f"{option}: the {whose}'s {name!r} gives no map of its own, one tensor with channels last; name another layer")


def _map(model: Any, name: str) -> Any:
    """The tensor that the model's only call of a layer gives; None where there is no such call."""
    return next((node.outputs for node in backend.nodes_of(model) if node.layer.name == name), None)


def _giving(model: Any, maps: Sequence[Any]) -> Any:
    return backend.keras().Model(model.inputs, (model._nested_outputs, list(maps)))


def _fit(mine: Sequence[int | None], theirs: Sequence[int | None]) -> bool:
    """Whether maps of these sizes can be averaged to the smaller ones."""
    if len(mine) != len(theirs) or None in (*mine, *theirs):
        return False
    return all(max(pair) % min(pair) == 0 for pair in zip(mine, theirs, strict=True))


def _said(shape: Sequence[int | None]) -> str:
    return f"({', '.join(map(str, shape[1:]))})"


def _normal(values: Any, sizes: Sequence[int]) -> Any:
    """n(m) above of a map that is averaged to these sizes, float32."""
    tf = backend.tensorflow()
    *places, channels = values.shape[1:]
    split = [part for place, size in zip(places, sizes, strict=True) for part in (size, place // size)]
    values = tf.reshape(tf.cast(values, tf.float32), [-1, *split, channels])
    values = tf.reduce_mean(values, list(range(2, len(split) + 1, 2)))
    values -= tf.reduce_mean(values, list(range(len(sizes) + 1)), keepdims=True)
    return values * tf.math.rsqrt(tf.reduce_mean(tf.square(values)) + _EPSILON)
