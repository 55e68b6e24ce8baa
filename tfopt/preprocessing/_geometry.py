"""Images moved, turned and stretched by matrices, one for each image of a batch, and their boxes or masks moved along.

A matrix (2, 3) says where each place of the new image comes from: in_x = m00 out_x + m01 out_y + m02, in_y = m10 out_x + m11 out_y + m12,
in pixels counted from the middle of the image, to the right and down. A batch of them is (n, 2, 3). So what enlarges has small numbers, and
what moves an image to the right a negative m02. What comes from outside of the image is black.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .. import backend

KEPT = 0.2  # a box of which less than this share of its area is left goes
# Places are moved towards the middle by this share, so that no rounding error puts an image's first or last pixels outside of it.
_INWARDS = 1 - 4e-6


def stretched(x: Any, y: Any, across: Any = 1.0, down: Any = 1.0) -> Any:
    """Matrices of x, y places times (n,) factors: below 1 enlarges, -1 mirrors. `x` and `y` are (n,) moves in pixels, added behind it."""
    tf = backend.tensorflow()
    zero = tf.zeros_like(x)
    return tf.reshape(tf.stack([across + zero, zero, x, zero, down + zero, y], 1), [-1, 2, 3])


def slanted(angle: Any, across: Any, down: Any) -> Any:
    """Matrices that turn by (n,) angles in radians, behind a shear by (n,) factors: in_x += across * in_y, in_y += down * in_x."""
    tf = backend.tensorflow()
    cos, sin, zero = tf.cos(angle), tf.sin(angle), tf.zeros_like(angle)
    return tf.reshape(
        tf.stack([cos - across * sin, sin + across * cos, zero, down * cos - sin, cos + down * sin, zero], 1),
        [-1, 2, 3],
    )


@dataclass(frozen=True)
class Moves:
    """Moves of whole pixels: in = mirror * out + shift, (n, 2) or numbers each, down and across, counted from the middle.

    Attributes:
      mirror: 1, or -1 where an image is mirrored.
      shift: in pixels, half ones where the images become larger or smaller by an odd number.
    """

    mirror: Any
    shift: Any

    def then(self, second: Moves) -> Moves:
        """These and others behind them."""
        return Moves(self.mirror * second.mirror, self.mirror * second.shift + self.shift)

    @property
    def matrices(self) -> Any:
        """The same as (n, 2, 3)."""
        tf = backend.tensorflow()
        mirror = self.mirror + tf.zeros_like(self.shift)
        return stretched(self.shift[:, 1], self.shift[:, 0], mirror[:, 1], mirror[:, 0])


def by_whole_pixels(x: Any, moves: Moves, size: tuple[int, int], *, mirrored: tuple[bool, bool], shifted: bool) -> Any:
    """The images of a batch moved, at half of `upright`'s time.

    mirrored: whether any may be, above and below, or the sides. shifted: whether any may be: then they come out as float32, else in their
    own dtype.
    """
    tf = backend.tensorflow()
    (height, width, channels), new = x.shape[1:], x
    if any(mirrored):
        down, across = tf.unstack(moves.mirror < 0, axis=1)
        new = _mirrored(new, across, [-1, width, channels]) if mirrored[1] else new
        new = _mirrored(new, down, [-1, height, width * channels]) if mirrored[0] else new
    if shifted:
        # Where the first pixel comes from, counted in the mirrored image.
        starts = moves.mirror * moves.shift + [(height - size[0]) / 2, (width - size[1]) / 2]
        glimpse = {"centered": False, "normalized": False, "uniform_noise": False, "noise": "zero"}
        new = tf.raw_ops.ExtractGlimpseV2(input=tf.cast(new, tf.float32), size=list(size), offsets=tf.round(starts), **glimpse)
    return tf.ensure_shape(new, [x.shape[0], *size, channels])


def _mirrored(x: Any, which: Any, shape: list[int]) -> Any:
    """The batch with some images mirrored: the places of each row of these, which its `shape` has in the middle, in the opposite order.

    In a shape of three dimensions TensorFlow takes a third of the time for it.
    """
    tf = backend.tensorflow()
    places = tf.dynamic_partition(tf.range(tf.shape(x)[0]), tf.cast(which, tf.int32), 2)
    mirrored = tf.reverse(tf.reshape(tf.gather(x, places[1]), shape), [1])
    return tf.dynamic_stitch(places, [tf.gather(x, places[0]), tf.reshape(mirrored, [-1, *x.shape[1:]])])


def upright(x: Any, y: Any, matrices: Any, size: tuple[int, int] | None = None) -> tuple[Any, Any]:
    """The batch with matrices that neither turn nor shear, interpolated linearly, at a third of `turned`'s time.

    x: (n, height, width, channels) of any numbers. size: height and width of the new images.
    """
    tf = backend.tensorflow()
    (height, width), (new_height, new_width) = x.shape[1:3], size or x.shape[1:3]
    # The operation counts places from 0 at the first pixel to 1 at the last, which has no meaning where there is one.
    tall, wide = (max(length, 2) for length in (height, width))
    padded = tf.pad(x, [[0, 0], [0, tall - height], [0, wide - width], [0, 0]]) if (tall, wide) != (height, width) else x
    top, bottom = _ends(matrices[:, 1, 2], matrices[:, 1, 1], new_height, height, tall)
    left, right = _ends(matrices[:, 0, 2], matrices[:, 0, 0], new_width, width, wide)
    numbers = tf.range(tf.shape(x)[0])
    new = tf.image.crop_and_resize(padded, tf.stack([top, left, bottom, right], 1), numbers, [new_height, new_width])
    return _shaped(new, x, (new_height, new_width)), labels_moved(y, matrices, (height, width), (new_height, new_width))


def _ends(move: Any, factor: Any, new: int, old: int, padded: int) -> tuple[Any, Any]:
    """Where the first and the last pixel of the new image come from."""
    half = factor * ((new - 1) / 2)
    return tuple(((place * _INWARDS) + (old - 1) / 2) / (padded - 1) for place in (move - half, move + half))


def turned(x: Any, y: Any, matrices: Any) -> tuple[Any, Any]:
    """The batch with any matrices, interpolated linearly."""
    size = tuple(x.shape[1:3])
    new = _transformed(x, matrices, size, "BILINEAR", 0.0)
    return _shaped(new, x, size), labels_moved(y, matrices, size, size)


def _transformed(x: Any, matrices: Any, size: tuple[int, int], interpolation: str, outside: float) -> Any:
    return backend.tensorflow().raw_ops.ImageProjectiveTransformV3(
        images=x,
        transforms=_from_the_corner(matrices, tuple(x.shape[1:3]), size),
        output_shape=list(size),
        fill_value=outside,
        interpolation=interpolation,
        fill_mode="CONSTANT",
    )


def _from_the_corner(matrices: Any, old: tuple[int, int], new: tuple[int, int]) -> Any:
    """The matrices with pixels counted from 0 at the upper left, flat, with the two zeros of a transform without perspective."""
    tf = backend.tensorflow()
    middles = [tf.constant([(width - 1) / 2, (height - 1) / 2], tf.float32) for height, width in (old, new)]
    moves = matrices[:, :, 2] + middles[0] - tf.linalg.matvec(matrices[:, :, :2], middles[1])
    flat = tf.reshape(tf.concat([matrices[:, :, :2], moves[:, :, tf.newaxis]], 2), [-1, 6])
    return tf.pad(flat, [[0, 0], [0, 2]])


def _shaped(new: Any, x: Any, size: tuple[int, int]) -> Any:
    tf = backend.tensorflow()
    return tf.ensure_shape(tf.cast(new, x.dtype), [x.shape[0], *size, x.shape[3]])


def labels_moved(y: Any, matrices: Any, old: tuple[int, int], new: tuple[int, int]) -> Any:
    """The labels y with their boxes, or as the mask that they are, where the matrices put them; any other y comes out as it is.

    A mask (n, height, width) of integers takes the class of the nearest pixel, and -1, which does not count, where nothing was.
    """
    if not is_mask(y):
        return boxes_moved(y, matrices, old, new)
    tf = backend.tensorflow()
    mask = _transformed(tf.cast(y, tf.int32)[..., tf.newaxis], matrices, new, "NEAREST", -1.0)
    return tf.ensure_shape(tf.cast(mask[..., 0], y.dtype), [y.shape[0], *new])


def is_mask(y: Any) -> bool:
    """Whether labels are masks: a class for each pixel."""
    return y is not None and not isinstance(y, dict) and len(y.shape) == 3 and backend.tensorflow().as_dtype(y.dtype).is_integer


def boxes_moved(y: Any, matrices: Any, old: tuple[int, int], new: tuple[int, int]) -> Any:
    """The labels y with their boxes where the matrices put them: the upright hull of what becomes of each, cut off at the image's edges.

    A box of which less than `KEPT` is left inside goes. Those that stay come first, in their order; boxes and labels are filled up with -1.
    y: {"boxes": (n, m, 4) ymin, xmin, ymax, xmax in shares of the image, "labels": (n, m), ...}; any other y comes out as it is.
    old, new: (height, width) before and after.
    """
    if not isinstance(y, dict) or "boxes" not in y:
        return y
    tf = backend.tensorflow()
    hull = _hull(y["boxes"], matrices, old, new)
    inside = tf.clip_by_value(hull, 0.0, 1.0)
    stays = (y["labels"] >= 0) & (_area(inside) > 0) & (_area(inside) >= KEPT * _area(hull))
    order = tf.argsort(tf.cast(~stays, tf.int32), axis=1, stable=True)
    stays = tf.gather(stays, order, batch_dims=1)
    boxes, labels = (tf.gather(one, order, batch_dims=1) for one in (inside, y["labels"]))
    boxes = tf.where(stays[:, :, tf.newaxis], tf.cast(boxes, y["boxes"].dtype), -tf.ones_like(boxes))
    labels = tf.where(stays, labels, -tf.ones_like(labels))
    return {**y, "boxes": tf.ensure_shape(boxes, y["boxes"].shape), "labels": tf.ensure_shape(labels, y["labels"].shape)}


def _hull(boxes: Any, matrices: Any, old: tuple[int, int], new: tuple[int, int]) -> Any:
    tf = backend.tensorflow()
    top, left, bottom, right = tf.unstack(boxes - 0.5, axis=2)
    corners = [tf.stack([x * old[1], y * old[0]], 2) for x in (left, right) for y in (top, bottom)]
    corners = tf.stack(corners, 2) - matrices[:, tf.newaxis, tf.newaxis, :, 2]  # (n, m, 4, 2) as x, y
    back = tf.linalg.inv(matrices[:, :, :2])[:, tf.newaxis, tf.newaxis]
    places = tf.linalg.matvec(back, corners) / tf.constant(new[::-1], tf.float32) + 0.5
    low, high = tf.reduce_min(places, 2)[..., ::-1], tf.reduce_max(places, 2)[..., ::-1]
    return tf.concat([low, high], 2)


def _area(boxes: Any) -> Any:
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])
