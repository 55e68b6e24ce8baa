"""The operations that the policies choose from, applied to a batch of which each image gets one of its own.

The images are sorted into groups by their operation, each group is changed at once, and all are put back in their places. The geometric
operations are one group: they differ in their matrices only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from .. import backend
from . import _tones
from ._drawing import happens, integers, split
from ._geometry import labels_moved, slanted, turned

# (n,) strengths, 1 being full and -1 full to the other side, and the largest move -> the angle in radians, the shear across and down, and
# the move across and down as shares of width and height; None for none.
GEOMETRIC: dict[str, Callable[[Any, float], tuple[Any, ...]]] = {
    "rotate": lambda strength, move: (strength * math.radians(30), None, None, None, None),
    "shear_x": lambda strength, move: (None, strength * 0.3, None, None, None),
    "shear_y": lambda strength, move: (None, None, strength * 0.3, None, None),
    "translate_x": lambda strength, move: (None, None, None, strength * move, None),
    "translate_y": lambda strength, move: (None, None, None, None, strength * move),
}
# (images, strengths -1..1, bits that posterize begins with) -> images
TONAL: dict[str, Callable[[Any, Any, int], Any]] = {
    "autocontrast": lambda x, strength, bits: _tones.stretched(x),
    "brightness": lambda x, strength, bits: _tones.Colors(x).scaled(1 + 0.9 * strength).done(),
    "color": lambda x, strength, bits: _tones.Colors(x).saturated(1 + 0.9 * strength).done(),
    "contrast": lambda x, strength, bits: _tones.Colors(x).contrasted(1 + 0.9 * strength).done(),
    "equalize": lambda x, strength, bits: _tones.equalized(x),
    "posterize": lambda x, strength, bits: _tones.posterized(x, bits - _rounded(4 * abs(strength))),
    "sharpness": lambda x, strength, bits: _tones.sharpened(x, 1 + 0.9 * strength),
    "solarize": lambda x, strength, bits: _tones.solarized(x, 1 - abs(strength)),
}


def _rounded(values: Any) -> Any:
    return backend.tensorflow().floor(values + 0.5)


def one_each(
    x: Any, y: Any, seed: Any, names: Sequence[str], strength: Any, *, move: float, bits: int = 8, where: Any = None
) -> tuple[Any, Any]:
    """Each image with one of the operations `names` (those of the tables, and "identity"), all equally likely, to either side.

    strength: (n,) from 0 to 1. move: largest move as a share of the side. bits: that posterize begins with. where: (n,) bool, which
    images are changed at all.
    """
    tf = backend.tensorflow()
    count, (which, side) = tf.shape(x)[0], split(seed)
    chosen = integers(which, count, 0, len(names))
    strength = tf.where(happens(side, count, 0.5), -strength, strength)
    if where is not None:
        chosen = tf.where(where, chosen, -1)
    # Group 0 stays, group 1 is moved, and each of the others is a tonal operation of its own.
    tonal = [name for name in names if name in TONAL]
    of_name = [tonal.index(name) + 2 if name in TONAL else int(name in GEOMETRIC) for name in names]
    group = tf.where(chosen >= 0, tf.gather(of_name, tf.maximum(chosen, 0)), 0)
    places = tf.dynamic_partition(tf.range(count), group, len(tonal) + 2)
    matrices = _matrices(x, [tf.where(chosen == number, strength, 0.0) for number in range(len(names))], names, move)
    parts = [tf.gather(x, places[0])]
    parts.append(turned(tf.gather(x, places[1]), None, tf.gather(matrices, places[1]))[0])
    parts += [TONAL[name](tf.gather(x, at), tf.gather(strength, at), bits) for name, at in zip(tonal, places[2:], strict=True)]
    return tf.ensure_shape(tf.dynamic_stitch(places, parts), x.shape), labels_moved(y, matrices, tuple(x.shape[1:3]), tuple(x.shape[1:3]))


def _matrices(x: Any, strengths: Sequence[Any], names: Sequence[str], move: float) -> Any:
    """(n, 2, 3), from the strength that each operation has in each image: 0 where another was chosen."""
    tf = backend.tensorflow()
    sums = [tf.zeros_like(strengths[0])] * 5
    for name, strength in zip(names, strengths, strict=True):
        if name in GEOMETRIC:
            sums = [old if new is None else old + new for old, new in zip(sums, GEOMETRIC[name](strength, move), strict=True)]
    angle, across, down, right, below = sums
    moves = tf.stack([-right * x.shape[2], -below * x.shape[1]], 1)
    return tf.concat([slanted(angle, across, down)[:, :, :2], moves[:, :, tf.newaxis]], 2)
