"""What a TFRecord's examples hold: their features, as an option says them or as the first records show them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator

from .. import backend
from ..errors import DataError, nearest, said, shown
from . import _records, _scanning

KINDS = ("image", "bytes", "string", "int", "float")
_LOOKED_AT = 100  # records that tell which features there are
# How the files of the kinds of pictures that TensorFlow decodes begin.
_MAGIC = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"BM")


@dataclass(frozen=True)
class Feature:
    """One feature: its kind, and the shape of its value.

    kind: "image" (an encoded one; of shape (height, width, channels) once decoded, None where that is not known yet), "bytes" (raw uint8
    values), "string", "int" or "float".
    """

    kind: str
    shape: tuple[int, ...] | None = ()

    def parsing(self) -> Any:
        """How tf.io.parse_example is to read it."""
        tf = backend.tensorflow()
        if self.kind in ("image", "bytes", "string"):
            return tf.io.FixedLenFeature([], tf.string)
        return tf.io.FixedLenFeature(self.shape, tf.int64 if self.kind == "int" else tf.float32)

    def __str__(self):
        return self.kind if not self.shape else f"{self.kind} of shape {self.shape}"


def check(features: Mapping[str, Any]) -> Mapping[str, Any]:
    """The features again, as an option has them.

    Raises:
      ValueError: one is neither a kind nor a table of kind and shape.
    """
    problems = [f"feature {shown(name)} is {shown(value)}: {problem}" for name, value in features.items() if (problem := _problem(value))]
    if problems:
        raise ValueError("; ".join(problems))
    return features


def _problem(value: Any) -> str | None:
    table = {"kind": value} if isinstance(value, str) else value
    if unknown := [key for key in table if key not in ("kind", "shape")]:
        return f"{shown(unknown[0])} is unknown; {nearest(str(unknown[0]), ('kind', 'shape'))}"
    if table.get("kind") not in KINDS:
        return f"the kind should be one of {', '.join(map(repr, KINDS))}"
    shape = table.get("shape", ())
    if not isinstance(shape, list | tuple) or not all(isinstance(size, int) and not isinstance(size, bool) and size > 0 for size in shape):
        return "the shape should be a list of whole numbers above 0"
    if table["kind"] in ("image", "string") and "shape" in table:
        return "an image's size is the option size, and a string has no shape; leave shape out"
    return "bytes need a shape, such as [28, 28, 1]" if table["kind"] == "bytes" and not shape else None


Features = Annotated[
    dict[str, str | dict[str, Any]],
    AfterValidator(check),
    'table of feature name to "image", "string", "int", "float" or { kind = "float", shape = [28, 28, 1] }',
]


def given(features: Mapping[str, Any]) -> dict[str, Feature]:
    """The features that an option names."""
    tables = {name: {"kind": value} if isinstance(value, str) else value for name, value in features.items()}
    return {
        name: Feature(table["kind"], None if table["kind"] == "image" else tuple(table.get("shape", ()))) for name, table in tables.items()
    }


def inferred(paths: Sequence[Path]) -> dict[str, Feature]:
    """The features that the first records of files have in common, by name.

    Raises:
      DataError: a file is damaged, the records hold something else than examples, or there is none.
    """
    found: list[dict[str, Feature | None]] = []
    try:
        for record in _scanning.records(paths).take(_LOOKED_AT).as_numpy_iterator():
            found.append(_of_record(record, f"{paths[0]}: record {len(found)} (counted from 0)"))
    except backend.tensorflow().errors.OpError as error:
        raise _scanning.located(paths, {}, error) from error
    if not found:
        raise _records.no_example(", ".join(map(str, paths[:3])))
    names = [name for name in sorted(found[0]) if all(one.get(name) == found[0][name] is not None for one in found)]
    return {name: found[0][name] for name in names}


def _of_record(record: bytes, place: str) -> dict[str, Feature | None]:
    try:
        example = backend.tensorflow().train.Example.FromString(record)
    except Exception as error:  # protobuf's own, which has no public name
        raise DataError(f"{place} is no tf.train.Example; should be one, with named features") from error
    return {name: _feature(feature) for name, feature in example.features.feature.items()}


def _feature(feature: Any) -> Feature | None:
    kind = feature.WhichOneof("kind")
    values = getattr(feature, kind).value if kind else ()
    if not values or (kind == "bytes_list" and len(values) > 1):
        return None
    if kind != "bytes_list":
        return Feature("int" if kind == "int64_list" else "float", () if len(values) == 1 else (len(values),))
    value = bytes(values[0])
    if value.startswith(_MAGIC):
        return Feature("image", None)
    try:
        printable = value.decode("utf-8").isprintable()
    except UnicodeDecodeError:
        printable = False
    return Feature("string") if printable else Feature("bytes", (len(value),))


def x_of(features: Mapping[str, Feature], name: str | None, source: str) -> str:
    """The feature to learn from: the named one, or the only image.

    Raises:
      DataError: there is no such feature, or it is none to learn from.
    """
    if name is None:
        images = [one for one, feature in features.items() if feature.kind == "image"]
        if len(images) != 1:
            raise DataError(f"{source}: x: say which feature to learn from; {_listed(features)}")
        return images[0]
    _check_there(features, name, "x", source)
    if features[name].kind == "string":
        raise DataError(f"{source}: x = {name!r} holds text; turn it into word indices first, or use tfopt.datasets.text_file")
    return name


def y_of(features: Mapping[str, Feature], name: str | None, x: str, source: str) -> str:
    """The feature to learn: the named one, "label", or the only one that can be a label.

    Raises:
      DataError: there is no such feature, or it is none to learn.
    """
    if name is None:
        able = [one for one, feature in features.items() if one != x and feature.kind in ("int", "string") and not feature.shape]
        if "label" not in able and len(able) != 1:
            raise DataError(f"{source}: y: say which feature is the label; {_listed(features)}")
        return "label" if "label" in able else able[0]
    _check_there(features, name, "y", source)
    if features[name].kind in ("image", "bytes"):
        raise DataError(f"{source}: y = {name!r} is {features[name]}; should be a number or a word; {_listed(features)}")
    return name


def _check_there(features: Mapping[str, Feature], name: str, option: str, source: str) -> None:
    if name not in features:
        raise DataError(
            f"{source}: {option} = {shown(name)}: there is no such feature, of one shape in all records; {nearest(name, features)}"
        )


def _listed(features: Mapping[str, Feature]) -> str:
    return "there are: " + (", ".join(f"{name} ({feature})" for name, feature in features.items()) or "none that all records have")


def decoding(feature: Feature, size: tuple[int, int] | None) -> tuple[Any, Any]:
    """How the value of x becomes the raw example: a function of TensorFlow's operations, and the TensorSpec of what it returns.

    size: of images, which are resized to it; without it they all have the feature's own.
    """
    tf = backend.tensorflow()
    if feature.kind == "image":
        height, width, channels = feature.shape
        shape = (*(size or (height, width)), channels)

        def decode(value: Any) -> Any:
            image = tf.io.decode_image(value, channels=channels, expand_animations=False)
            return tf.ensure_shape(image if size is None else _records.resized(image, size), shape)

        return decode, tf.TensorSpec(shape, tf.uint8)
    if feature.kind == "bytes":
        length = math.prod(feature.shape)
        return lambda value: tf.reshape(tf.ensure_shape(tf.io.decode_raw(value, tf.uint8), [length]), feature.shape), tf.TensorSpec(
            feature.shape, tf.uint8
        )
    shape = feature.shape or (1,)
    dtype = tf.int32 if feature.kind == "int" else tf.float32
    return lambda value: tf.reshape(tf.cast(value, dtype), shape), tf.TensorSpec(shape, dtype)


def with_shape(feature: Feature, value: bytes, place: str) -> Feature:
    """An image's feature with the shape of its first image; grey images have 1 channel and others 3.

    Raises:
      DataError: it can't be decoded.
    """
    tf = backend.tensorflow()
    if feature.kind != "image":
        return feature
    try:
        shape = tuple(tf.io.decode_image(value, expand_animations=False).shape)
    except tf.errors.OpError as error:
        raise DataError(f"{place}: can't be decoded as an image ({said(error)}); repair the file") from error
    return Feature("image", (*shape[:2], 1 if shape[2] <= 2 else 3))


def facts(feature: Feature, spec: Any) -> dict[str, Any]:
    """How an app makes the raw example."""
    return _records.image_facts(spec.shape) if feature.kind == "image" else {"kind": "values", "shape": list(spec.shape)}
