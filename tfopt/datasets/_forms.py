"""How a feature of a tensorflow-datasets set becomes a raw example: an array of fixed shape, of a kind that models take."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import backend
from ..errors import DataError
from ..preprocessing import text as words_of
from . import _records, _text, _tfds
from ._building import Part

_LENGTH = 64  # words of a text, where nobody says how many


@dataclass(frozen=True, eq=False)
class Form:
    """How to get the raw example.

    Attributes:
      decode: the feature as it stands in a record -> the raw example.
      spec: the TensorSpec of that.
      facts: how an app makes it, or what tells that (see `_records.built`).
      mark: tells it apart from other forms.
      fix: what to do where `decode` fails.
      only_in_memory: whether the examples are encoded only once all of them are known.
    """

    decode: Callable[[Any], Any]
    spec: Any
    facts: Mapping[str, Any] | Callable[[dict[str, Part]], dict[str, Any]]
    mark: str = ""
    fix: str = "prepare the set again"
    only_in_memory: bool = False


def of(builder: Any, x: str, size: Sequence[int] | None, words: int) -> Form:
    """The form of the feature x.

    Raises:
      DataError: it is of a kind, or of a shape, that no model takes.
    """
    feature, kinds, called = builder.info.features[x], _tfds.package().features, f"{builder.info.full_name}: x = {x!r}"
    if isinstance(feature, kinds.Text) or (isinstance(feature, kinds.Tensor) and feature.shape == () and feature.np_dtype is np.object_):
        return _text_form(size, words)
    if isinstance(feature, kinds.Image):
        return _image_form(feature, size, called)
    if isinstance(feature, kinds.Audio | kinds.Tensor) and np.issubdtype(feature.np_dtype, np.number):
        return _array_form(feature, size, called, sound=isinstance(feature, kinds.Audio))
    raise DataError(
        f"{called} is {type(feature).__name__}; those to learn from are Image, Audio, Text and Tensor: name one by x, or make "
        "a tf.data.Dataset of (x, y) of it, for tfopt.datasets.wrap"
    )


def _image_form(feature: Any, size: Sequence[int] | None, called: str) -> Form:
    tf = backend.tensorflow()
    if size is not None and len(size) != 2:
        raise DataError(f"{called} is an image; size = {list(size)} should be [height, width]")
    height, width, channels = feature.shape
    if size is None and None in (height, width):
        raise DataError(f"{called} holds images of different sizes; give size = [height, width], to which they are resized")
    same = size is None or tuple(size) == (height, width)
    shape = (*(size or (height, width)), channels or 3)
    dtype = tf.uint8 if feature.np_dtype == np.uint8 else tf.float32

    def decode(value: Any) -> Any:
        image = feature.decode_example(value)
        if channels is None:
            image = tf.cond(tf.shape(image)[-1] == 1, lambda: tf.repeat(image, 3, -1), lambda: image[..., :3])
        image = image if image.dtype == dtype else tf.cast(image, dtype)
        return tf.ensure_shape(image if same else _records.resized(image, shape[:2]), shape)

    facts = _records.image_facts(shape)
    if dtype != tf.uint8:
        del facts["range"]  # it is the set's own
    return Form(decode, tf.TensorSpec(shape, dtype), facts, f"{shape}")


def _array_form(feature: Any, size: Sequence[int] | None, called: str, *, sound: bool) -> Form:
    tf = backend.tensorflow()
    length, *rest = feature.shape or (1,)
    if (None in rest) or (size is not None and (len(size) != 1 or not feature.shape)):
        raise DataError(f"{called} is of shape {feature.shape}; size should be [length], and can bring only the first dimension to it")
    if length is None and size is None:
        raise DataError(f"{called} is of different lengths; give size = [length]: what is longer is cut, what is shorter filled with zeros")
    whole = np.issubdtype(feature.np_dtype, np.integer)
    dtype = tf.uint8 if feature.np_dtype == np.uint8 else tf.int32 if whole and not sound else tf.float32
    shape = (length if size is None else size[0], *rest)

    def decode(value: Any) -> Any:
        values = tf.cast(feature.decode_example(value), dtype)
        if sound and whole:
            values = values / 2**15  # 16 bits
        if size is not None:
            values = values[: shape[0]]
            values = tf.pad(values, [[0, shape[0] - tf.shape(values)[0]], *([[0, 0]] * len(rest))])
        return tf.ensure_shape(tf.reshape(values, shape) if not feature.shape else values, shape)

    facts = {"kind": "values", "shape": list(shape)}
    if sound:
        rate = getattr(feature, "sample_rate", None)
        facts = {"kind": "sound", "rate": rate, "samples": shape[0], "range": [-1.0, 1.0], "length": "cut off or zeros at the end"}
    return Form(decode, tf.TensorSpec(shape, dtype), facts, f"{shape}")


def _text_form(size: Sequence[int] | None, words: int) -> Form:
    tf = backend.tensorflow()
    length = _LENGTH if size is None else size[0]

    def encode(parts: dict[str, Part]) -> dict[str, Any]:
        texts = {part: [text.decode("utf-8", "replace") for text in x] for part, (x, _) in parts.items()}
        vocabulary = words_of.vocabulary(texts["train"], words)
        for part, of in texts.items():
            parts[part] = words_of.encoded(of, vocabulary, length), parts[part][1]
        return _text.facts(vocabulary, length)

    return Form(lambda value: value, tf.TensorSpec((), tf.string), encode, f"{length} {words}", only_in_memory=True)
