"""From the path of an image file to a picture of fixed size, in TensorFlow's operations: decoded, turned upright, resized, as bytes.

Only what the files at hand need goes into the graph: where all are upright JPEGs, that is one decoder and one resizing.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from .. import backend
from ..errors import OptionError
from ..pipelines import Rows
from . import _headers
from ._headers import Header

Size = Annotated[list[int] | tuple[int, ...], Field(min_length=2, max_length=2), "[height, width]"]
Channels = Literal[1, 3]
Resize = Literal["stretch", "crop", "pad"]
_TURNED = {"flipped": (2, 3, 6, 7), "upturned": (3, 4, 7, 8), "on_its_side": (5, 6, 7, 8)}


@dataclass(frozen=True)
class Form:
    """What each picture is brought to.

    Attributes:
      size: height and width in pixels.
      channels: 3 for red, green and blue; 1 for brightness.
      resize: "stretch" ignores the sides' proportion, "crop" cuts off what is too long, in the middle, "pad" fills up with black.
    """

    size: tuple[int, int]
    channels: int
    resize: str = "stretch"

    def __post_init__(self):
        if min(self.size) < 1 or max(self.size) > 8192:
            raise OptionError(f"size = {list(self.size)}: should be [height, width] in pixels, each from 1 to 8192")

    @property
    def facts(self) -> dict[str, Any]:
        """What an app has to do with an image of its own, as `Data.source` holds it."""
        return {
            "kind": "image",
            "size": list(self.size),
            "channels": self.channels,
            "colors": "RGB" if self.channels == 3 else "gray",
            "range": [0, 255],
            "resize": self.resize,
            "interpolation": "bilinear, half-pixel centers, no antialiasing, rounded",
            "orientation": "upright, by EXIF",
        }


def rows(paths: Sequence[Path], headers: Sequence[Header], root: Path, y: Any, form: Form, cache: str | Path) -> Rows:
    """The examples of these files: x is uint8 (height, width, channels); `root` is left out of what tells their content apart."""
    ways = frozenset(header.way for header in headers)
    turned = any(header.turn != 1 for header in headers)
    names = [path.relative_to(root).as_posix() for path in paths]
    return Rows(
        {
            "path": np.array([str(path).encode() for path in paths], object),
            "way": np.array([header.way for header in headers], np.int32),
            "turn": np.array([header.turn for header in headers], np.int32),
        },
        y,
        read=_Reader(form, ways, turned),
        spec=backend.tensorflow().TensorSpec((*form.size, form.channels), "uint8"),
        cache=str(cache),
        marks=np.array([f"{name} {header.mark} {header.turn} {form}" for name, header in zip(names, headers, strict=True)], object),
    )


@dataclass(frozen=True)
class _Reader:
    """`row -> picture` for files that are decoded in these ways."""

    form: Form
    ways: frozenset[int]
    turned: bool

    def __call__(self, row: dict[str, Any]) -> Any:
        tf = backend.tensorflow()
        image = self._decoded(row["path"], row["way"])
        if self.turned:
            image = upright(image, row["turn"])
        resized = _RESIZE[self.form.resize](image, self.form.size)
        return tf.ensure_shape(tf.cast(tf.round(resized), tf.uint8), [*self.form.size, self.form.channels])

    def _decoded(self, path: Any, way: Any) -> Any:
        tf = backend.tensorflow()
        channels = self.form.channels

        def jpeg():
            return tf.io.decode_jpeg(tf.io.read_file(path), channels=channels, dct_method="INTEGER_FAST")

        def png():
            return tf.io.decode_png(tf.io.read_file(path), channels=channels)

        def color():
            image = tf.io.decode_image(tf.io.read_file(path), channels=3, expand_animations=False)
            return image if channels == 3 else tf.image.rgb_to_grayscale(image)

        def pillow():
            image = tf.numpy_function(lambda name: _by_pillow(name, channels), [path], tf.uint8, stateful=False)
            return tf.ensure_shape(image, [None, None, channels])

        decoders = {_headers.JPEG: jpeg, _headers.PNG: png, _headers.COLOR: color, _headers.PILLOW: pillow}
        used = sorted(self.ways)
        if len(used) == 1:
            return decoders[used[0]]()
        # numbered anew, so that decoders that no file needs are not in the graph
        index = tf.gather(tf.constant([used.index(one) if one in used else 0 for one in range(len(decoders))]), way)
        return tf.switch_case(index, [decoders[one] for one in used])


def _by_pillow(path: bytes, channels: int) -> np.ndarray:
    with importlib.import_module("PIL.Image").open(path.decode()) as image:
        picture = np.asarray(image.convert("RGB" if channels == 3 else "L"), np.uint8)
    return picture.reshape(*picture.shape[:2], channels)


def upright(image: Any, turn: Any) -> Any:
    """A picture (height, width, channels) turned as the number in its EXIF says; the numbers are 1 to 8."""
    tf = backend.tensorflow()

    def is_one_of(numbers):
        return tf.reduce_any(turn == tf.constant(numbers))

    image = tf.cond(is_one_of(_TURNED["on_its_side"]), lambda: tf.transpose(image, [1, 0, 2]), lambda: image)
    image = tf.cond(is_one_of(_TURNED["flipped"]), lambda: image[:, ::-1], lambda: image)
    return tf.cond(is_one_of(_TURNED["upturned"]), lambda: image[::-1], lambda: image)


def on_its_side(turn: int) -> bool:
    """Whether height and width change places when a picture is turned upright."""
    return turn in _TURNED["on_its_side"]


def meant(header: Header, size: tuple[int, int] | None, said: str) -> Header | str:
    """The header of a picture for labels that were drawn on one of this (height, width), turned only if that was; else, tools that
    draw labels ignore EXIF. Of another size, the end of a sentence about the picture, in which it `said` so.
    """
    stored = header.height, header.width
    if size is not None and size != stored:
        if size == stored[::-1] and on_its_side(header.turn):
            return header
        return f"has {stored[1]} x {stored[0]} pixels, {said} {size[1]} x {size[0]}"
    return Header(header.way, header.height, header.width, 1, header.mark)


def _stretched(image: Any, size: tuple[int, int]) -> Any:
    return backend.tensorflow().image.resize(image, size)


def _cropped(image: Any, size: tuple[int, int]) -> Any:
    tf = backend.tensorflow()
    height, width = tf.unstack(tf.shape(image)[:2])
    # the largest part of the wanted proportion, in the middle
    high = tf.clip_by_value(_scaled(width, size[0] / size[1]), 1, height)
    wide = tf.clip_by_value(_scaled(height, size[1] / size[0]), 1, width)
    top, left = (height - high) // 2, (width - wide) // 2
    return tf.image.resize(image[top : top + high, left : left + wide], size)


def _scaled(length: Any, by: float) -> Any:
    tf = backend.tensorflow()
    return tf.cast(tf.round(tf.cast(length, tf.float32) * by), tf.int32)


def _padded(image: Any, size: tuple[int, int]) -> Any:
    return backend.tensorflow().image.resize_with_pad(image, *size)


_RESIZE = {"stretch": _stretched, "crop": _cropped, "pad": _padded}
