"""What a deployed app has to repeat in front of a model: `preprocessing_of(data)`, as a file of JSON and inside a .tflite.

::

    {
     "tfopt_preprocessing": 1,                      the version of this layout
     "data": "digits",                              what the data set is called
     "source": {"width": 8, "height": 8, ...},      how the app makes a raw example of what it has
     "raw": {"shape": [8, 8, 1], "dtype": "uint8"}, a raw example; for several inputs, dicts by their names in place of both values
     "steps": [{"use": "rescale", "scale": 0.00392156862745098, "offset": 0.0}],   in order, every option and statistic spelt out
     "input": {"shape": [8, 8, 1], "dtype": "float32"},   what the model takes, laid out as "raw"
     "classes": ["0", "1", ...]                     in the order of the model's outputs; none for a number
    }

Numbers are written so that they come back to the last bit. A .tflite that holds this text in its metadata has the steps inside, and takes
raw examples.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from . import _flatbuffer, _metadata, options, pipelines, preprocessing
from .errors import ArtifactError, DataError, shown
from .files import write_atomically
from .pipelines import Rows
from .types import Artifact, Call, Data

VERSION = 1
KEY = "tfopt_preprocessing"  # of the version in the JSON, and of the entry in a .tflite's metadata

Shape = tuple[int, ...] | dict[str, tuple[int, ...]]
Dtype = str | dict[str, str]


@dataclass(frozen=True)
class Preprocessing:
    """What happens between what an app has and what a model takes.

    Attributes:
      data: the name of the data set that the model was trained on.
      source: how a raw example is made.
      raw_shape, raw_dtype: of a raw example.
      steps: the preparations, in order, with every option and statistic.
      input_shape, input_dtype: of a prepared example, which the model takes.
      classes: in the order of the model's outputs.
    """

    data: str
    source: Mapping[str, Any] = field(repr=False)
    raw_shape: Shape
    raw_dtype: Dtype
    steps: tuple[Call, ...]
    input_shape: Shape
    input_dtype: Dtype
    classes: tuple[str, ...] = field(repr=False)

    def as_json(self) -> str:
        """All of it as a JSON document, see the head of this module.

        Raises:
          DataError: it holds what JSON has no word for.
        """
        tree = {
            KEY: VERSION,
            "data": self.data,
            "source": dict(self.source),
            "raw": {"shape": self.raw_shape, "dtype": self.raw_dtype},
            "steps": [{"use": step.use, **step.options} for step in self.steps],
            "input": {"shape": self.input_shape, "dtype": self.input_dtype},
            "classes": self.classes,
        }
        try:
            lines = [
                f"{json.dumps(key)}: {json.dumps(value, allow_nan=False, ensure_ascii=False, default=_plain)}"
                for key, value in tree.items()
            ]
        except (TypeError, ValueError) as error:
            raise DataError(
                f"{self.data}: its preprocessing can't be written as JSON ({error}); give its steps finite numbers and strings"
            ) from error
        return "{\n " + ",\n ".join(lines) + "\n}\n"

    def save(self, path: str | os.PathLike) -> Path:
        """Writes the JSON to `path` (a folder gets preprocessing.json), whole or not at all, and returns the file's path.

        Raises:
          ArtifactError: another file stands there, or it can't be written. The same text is no obstacle.
        """
        path, content = Path(path), self.as_json().encode()
        if path.is_dir():
            path = path / "preprocessing.json"
        try:
            if path.exists():
                if path.read_bytes() == content:
                    return path
                raise ArtifactError(f"{path}: another file stands here already; choose another name or remove it first")
            write_atomically(path, content)
        except OSError as error:
            raise ArtifactError(f"{path}: can't be written ({error.strerror or error}); free space or choose another place") from error
        return path

    def apply(self, raw: Any) -> Any:
        """What the model saw of these raw examples in training and validation, to the last bit.

        Args:
          raw: a batch (n, *raw_shape) as a numpy array, or a dict of such by input name.

        Returns:
          (n, *input_shape), or a dict of such.

        Raises:
          DataError: the examples have another shape or dtype.

        >>> load_preprocessing("preprocessing.json").apply(images).shape
        (32, 8, 8, 1)
        """
        raw = self._checked(raw)
        count = len(next(iter(raw.values())) if isinstance(raw, dict) else raw)
        prepared = pipelines.dataset_of(Rows(raw, np.zeros(count, np.int32)), self.steps)  # by the very path of training
        return pipelines.to_arrays(prepared)[0]

    def _checked(self, raw: Any) -> Any:
        names = tuple(self.raw_shape) if isinstance(self.raw_shape, dict) else ("x",)
        arrays = [np.asarray(one) for one in pipelines.in_order(raw, names, f"the preprocessing of {self.data}", "the batch")]
        shapes, dtypes = ([of[name] for name in names] if isinstance(of, dict) else [of] for of in (self.raw_shape, self.raw_dtype))
        arrays = [_fitting(*one, self.data) for one in zip(arrays, shapes, dtypes, strict=True)]
        if len({len(array) for array in arrays}) > 1:
            raise DataError(f"got batches of different lengths ({', '.join(str(len(array)) for array in arrays)})")
        return dict(zip(names, arrays, strict=True)) if isinstance(self.raw_shape, dict) else arrays[0]

    def differences(self, other: Preprocessing) -> tuple[str, ...]:
        """What is different in another one, a half sentence each: "its step z_score has std = [1.0], not [2.0]"."""
        return tuple(_differences(self, other))


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{shown(value)} is a {type(value).__name__}")


def _fitting(array: np.ndarray, shape: Sequence[int], dtype: str, name: str) -> np.ndarray:
    """The array, as the wanted dtype where that is a matter of precision only."""
    wanted = np.dtype(dtype)
    if array.shape[1:] != tuple(shape) or not array.ndim:
        raise DataError(f"raw examples of {name} come in batches of shape (n, {', '.join(map(str, shape))}), got {array.shape}")
    if array.dtype != wanted and not (array.dtype.kind == wanted.kind and wanted.kind in "if"):
        raise DataError(f"raw examples of {name} are {dtype}, got {array.dtype}; convert them, with their meaning in mind")
    return array.astype(wanted, copy=False)


def _differences(one: Preprocessing, other: Preprocessing) -> Iterator[str]:
    for what, field_name in (("takes raw examples", "raw"), ("makes examples", "input")):
        mine, yours = (_port(getattr(it, f"{field_name}_shape"), getattr(it, f"{field_name}_dtype")) for it in (one, other))
        if mine != yours:
            yield f"{what} of {mine}, not {yours}"
    names, others = ([step.use for step in it.steps] for it in (one, other))
    if names != others:
        yield f"does the steps {_listed(names)}, not {_listed(others)}"
    else:
        for mine, yours in zip(one.steps, other.steps, strict=True):
            yield from _different(f"its step {mine.use} has ", mine.options, yours.options)
    yield from _different("its raw examples are made with ", one.source, other.source)
    if one.classes != other.classes:
        yield f"has the classes {_listed(one.classes)}, not {_listed(other.classes)}"


def _different(opening: str, mine: Mapping[str, Any], yours: Mapping[str, Any]) -> Iterator[str]:
    for key in dict.fromkeys([*mine, *yours]):
        if mine.get(key) != yours.get(key):
            yield f"{opening}{key} = {shown(mine.get(key))}, not {shown(yours.get(key))}"


def _port(shape: Shape, dtype: Dtype) -> str:
    if isinstance(shape, dict):
        return " and ".join(f"{name} {_port(shape[name], dtype[name])}" for name in shape)
    return f"{dtype}{list(shape)}"


def _listed(words: Sequence[str]) -> str:
    return shown(", ".join(words)) if words else "none"


# From data, from a file, and back to data


def preprocessing_of(data: Data) -> Preprocessing:
    """What a deployed app has to do to feed a model that was trained on this data.

    >>> preprocessing_of(data).save("preprocessing.json")
    PosixPath('preprocessing.json')

    Raises:
      DataError: `data` is no Data, or its preprocessing can't be written as JSON.
    """
    pipelines.check_data(data)
    found = Preprocessing(
        data=data.name,
        source=data.source,
        raw_shape=data.raw_shape if data.raw_shape is not None else data.input_shape,
        raw_dtype=data.raw_dtype if data.raw_dtype is not None else data.input_dtype,
        steps=tuple(map(_spelt_out, preprocessing.preparations(data.steps))),
        input_shape=data.input_shape,
        input_dtype=data.input_dtype,
        classes=data.classes,
    )
    return _parsed(found.as_json(), data.name)  # so that what is compared and applied is what a file will say


def _spelt_out(step: Call) -> Call:
    """The step with its defaults, which another version of tfopt may change."""
    known = options.options_of(preprocessing.PREPARATIONS[step.use])
    return Call(step.use, {name: step.options.get(name, option.default) for name, option in known.items()})


def load_preprocessing(source: Artifact | str | os.PathLike | bytes) -> Preprocessing:
    """The preprocessing that stands in a file of JSON, or inside a .tflite (its path, its bytes, or an artifact).

    Raises:
      ArtifactError: the file is missing or damaged, or is a .tflite without preprocessing.
    """
    if isinstance(source, str | os.PathLike) and Path(source).suffix == ".json":
        try:
            return _parsed(Path(source).read_text(encoding="utf-8"), str(source))
        except (OSError, UnicodeDecodeError) as error:
            raise ArtifactError(f"{source}: can't be read ({error}); give a preprocessing.json") from error
    name, content = _flatbuffer.contents(source)
    found = inside(name, content)
    if found is None:
        raise ArtifactError(f"{name}: holds no preprocessing; it takes prepared examples, see the preprocessing.json of its run")
    return found


def inside(name: str, content: bytes) -> Preprocessing | None:
    """The preprocessing that a .tflite does itself; None where it takes prepared examples.

    Raises:
      ArtifactError: the file is damaged.
    """
    text = _metadata.text_in(name, content, KEY)
    return None if text is None else _parsed(text, name)


def with_inside(content: bytes, found: Preprocessing) -> bytes:
    """The .tflite that says that it does this preprocessing itself."""
    return _metadata.with_text(content, KEY, found.as_json())


def _parsed(text: str, name: str) -> Preprocessing:
    advice = "copy or export it again"
    try:
        tree = json.loads(text)
        if not isinstance(tree, dict) or KEY not in tree:
            raise ArtifactError(f"{name}: is no preprocessing (the key {KEY!r} is missing); give a preprocessing.json")
        if tree[KEY] != VERSION:
            raise ArtifactError(f"{name}: is laid out in version {shown(tree[KEY])}, this tfopt reads version {VERSION}; use one that fits")
        return Preprocessing(
            data=str(tree["data"]),
            source=dict(tree["source"]),
            **{f"{side}_shape": pipelines.nested(_sizes, tree[side]["shape"]) for side in ("raw", "input")},
            **{f"{side}_dtype": pipelines.nested(_dtype, tree[side]["dtype"]) for side in ("raw", "input")},
            steps=tuple(map(_step, tree["steps"])),
            classes=tuple(map(str, tree["classes"])),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ArtifactError(f"{name}: is damaged ({type(error).__name__}: {error}); {advice}") from error


def _sizes(values: Any) -> tuple[int, ...]:
    return tuple(map(int, values))


def _dtype(name: Any) -> str:
    return np.dtype(name).name


def _step(table: Any) -> Call:
    preprocessing.check([table])
    step = Call(table["use"], {key: value for key, value in table.items() if key != "use"})
    if preprocessing.is_augmentation(step):
        raise ValueError(f"the step {step.use} changes training examples only")
    return step


def as_taken(data: Data, found: Preprocessing | None, name: str) -> Data:
    """The data as a file takes it: itself, or raw where the file does this preprocessing; `name` is what messages call the file.

    Raises:
      DataError: the data is prepared otherwise than the file does it.
    """
    if found is None:
        return data
    mine = preprocessing_of(data)
    if problems := found.differences(mine):
        raise DataError(
            f"{name}: does its preprocessing itself, and not as {data.name} has it: {'; '.join(problems)}; "
            "use the data that the file was made for, or convert the model again with this data"
        )
    if not mine.steps:
        return data
    parts = {part: _raw(getattr(data, part), data) for part in ("train", "validation", "test", "calibration")}
    return dataclasses.replace(data, **parts, steps=(), input_shape=mine.raw_shape, input_dtype=mine.raw_dtype)


def _raw(dataset: Any, data: Data) -> Any:
    _, steps = pipelines.behind(dataset)
    if preprocessing.preparations(steps) != preprocessing.preparations(data.steps):
        raise DataError(f"{data.name}: its raw examples are not known any more; make the data with one of tfopt.datasets")
    return pipelines.raw(dataset)
