"""What the data sets share: the kinds of their options, the checks of their examples, the stratified split, and the `Data` itself.

A *part* is a pair (x, y): x an array (n, ...) of uint8, float32 or int32, or a dict of such arrays by input name; y (n,) int32. A source
whose examples are read when they are needed makes `pipelines.Rows` of them, or a `pipelines.Stream`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import AfterValidator, Field

from .. import backend, options, pipelines, preprocessing
from ..errors import DataError, OptionError
from ..pipelines import Rows, Stream
from ..tracing import log
from ..types import Call, Data
from . import _cleaning

Seed = Annotated[int, Field(ge=0, lt=2**31)]
Share = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
Preprocess = Annotated[
    list[str | dict[str, Any]] | tuple[str | dict[str, Any], ...],
    AfterValidator(preprocessing.check),
    "list of steps (see: tfopt list preprocessing)",
]
Cache = Annotated[str | Path, "'memory', 'none' or a folder"]
Inputs = np.ndarray | dict[str, np.ndarray]
Part = tuple[Inputs, np.ndarray]
# Statistics are taken from so many training examples, drawn by seed, and values, since they are held in memory (as float32: half a GB).
MOST_EXAMPLES, MOST_VALUES = 20_000, 2**27

_SLACK = 1e-3  # by which rounding, or a conversion of colors and back, may leave 0..1


def build(
    name: str,
    parts: Mapping[str, Part | Rows | Stream],
    *,
    classes: Sequence[str],
    seed: int,
    calibration: int,
    preprocess: Sequence[Any] = (),
    task: str = "classification",
    source: Mapping[str, Any] | None = None,
    notes: Sequence[str] = (),
    clean: Sequence[Any] = (),
) -> Data:
    """The Data of three checked parts, "train", "validation" and "test", with calibration drawn from train by seed.

    Args:
      preprocess: steps as a recipe has them. Bytes are brought to 0..1 first, unless the list begins with a `rescale` of its own.
        Statistics are learnt from the training examples, from at most 20,000 of them.
      source: how a raw example comes out of what an app has.
      notes: what was left out or changed on the way, a sentence each; they are logged and go into the report of a run.
      clean: cleaners as a recipe has them, of which those that look at training examples only are applied here, to examples in memory;
        the others are `_cleaning.kept`'s, before the split.

    Raises:
      OptionError: `preprocess` holds no steps. DataError: a step that can't be applied to the examples.
    """
    held = {part: Rows(*of) if isinstance(of, tuple) else of for part, of in parts.items()}
    if clean:
        stay, more = _cleaning.kept(held["train"].x, held["train"].y, clean, source=name, training=True)
        held["train"], notes = held["train"].take(stay), (*notes, *more)
    held["calibration"] = _drawn(held["train"], calibration, seed)
    one = _drawn(held["train"], 1, seed)
    sample = _raw(one)
    known = {"classes": len(classes), "rate": (source or {}).get("rate")}
    steps = _with_rescaling(_filled_in(preprocessing.calls(preprocess), known), sample)
    if any(step.use in preprocessing.LEARNERS for step in steps):
        sample = _raw(_drawn(held["train"], min(MOST_EXAMPLES, MOST_VALUES // _size(sample)), seed))
    steps = preprocessing.learned(steps, sample, source=name)
    first = pipelines.nested(lambda one: one[:1], sample)
    x, _ = preprocessing.applied(first, None, steps)
    _check_augmentations(first, one.y, steps, x, name)
    fingerprint = _fingerprint(held, (tuple(classes), seed, steps, dict(source or {})))
    held = {part: _in_its_own_folder(of, part, source) for part, of in held.items()}
    for note in notes:
        log.warning("%s: %s", name, note)
    return Data(
        name=name,
        task=task,
        **{part: pipelines.dataset_of(of, steps) for part, of in held.items()},
        input_shape=pipelines.nested(lambda one: tuple(one.shape[1:]), x),
        input_dtype=pipelines.nested(_dtype, x),
        classes=tuple(classes),
        fingerprint=fingerprint,
        steps=steps,
        raw_shape=pipelines.nested(lambda one: tuple(one.shape[1:]), sample),
        raw_dtype=pipelines.nested(_dtype, sample),
        source=dict(source or {}),
        notes=tuple(notes),
    )


def _check_augmentations(first: Inputs, y: Any, steps: tuple[Call, ...], x: Any, name: str) -> None:
    """Raises DataError for augmentations that can't be applied to an example, or give it another shape than it has without them."""
    if preprocessing.preparations(steps) == steps:
        return
    try:
        _check_ranges(first, steps)
        augmented, _ = preprocessing.applied(first, y, steps, np.zeros(2, np.int32))
    except (DataError, OptionError) as error:
        raise DataError(f"{name}: {error}") from error
    pipelines.nested(lambda new, old: _check_shape(tuple(new.shape[1:]), tuple(old.shape[1:]), name), augmented, x)


def _check_ranges(x: Inputs, steps: tuple[Call, ...]) -> None:
    """Raises DataError for steps that cut values off at 0 and 1 behind others that bring an example out of that range."""
    last = max((number for number, step in enumerate(steps) if step.use in preprocessing.OF_UNIT_RANGE), default=0)
    for step in steps[: last + 1]:
        if step.use in preprocessing.OF_UNIT_RANGE and not isinstance(x, dict):
            low, high = float(np.min(x)), float(np.max(x))
            if low < -_SLACK or high > 1 + _SLACK:
                raise DataError(
                    f"{step.use}: takes pictures of 0 to 1, and the steps in front of it give {low:.3g} to {high:.3g}; put it in front of "
                    "the step that scales them otherwise, such as z_score"
                )
        if not preprocessing.is_augmentation(step):
            x, _ = preprocessing.applied(x, None, (step,))


def _check_shape(augmented: tuple[int, ...], usual: tuple[int, ...], name: str) -> None:
    if augmented != usual:
        raise DataError(
            f"{name}: preprocess gives training examples the shape {augmented}, all others {usual}; behind a random_crop or resized_crop "
            "with a size, put center_crop with the same size"
        )


def _size(sample: Inputs) -> int:
    return sum(one.size for one in sample.values()) if isinstance(sample, dict) else sample.size


def _dtype(tensor: Any) -> str:
    return getattr(tensor.dtype, "name", str(tensor.dtype))


def _with_rescaling(steps: tuple[Call, ...], sample: Inputs) -> tuple[Call, ...]:
    bytes_ = any(one.dtype == np.uint8 for one in (sample.values() if isinstance(sample, dict) else [sample]))
    return (*pipelines.RESCALED, *steps) if bytes_ and [step.use for step in steps[:1]] != ["rescale"] else steps


def _filled_in(steps: tuple[Call, ...], known: Mapping[str, Any]) -> tuple[Call, ...]:
    """The steps with what is known of the data, such as the number of classes for mixup, in options of that name that are not given."""

    def lacking(step: Call) -> dict[str, Any]:
        asked = options.options_of(preprocessing.STEPS[step.use])
        return {name: value for name, value in known.items() if value and name in asked and step.options.get(name) is None}

    return tuple(Call(step.use, {**step.options, **lacking(step)}) for step in steps)


def _drawn(train: Rows | Stream, count: int, seed: int) -> Rows:
    if isinstance(train, Stream):
        return _drawn_from_stream(train, count, seed)
    return train.take(np.random.default_rng(seed).permutation(len(train))[:count])


def _drawn_from_stream(train: Stream, count: int, seed: int) -> Rows:
    """Of the examples that are shuffled among each other at first, which is all of a small set; one alone is the first.

    Read past the cache, which is kept only where all of the stream was read.
    """
    among = 1 if count == 1 else min(len(train), max(count, train.buffer))
    drawn = np.zeros(among, bool)
    drawn[np.random.default_rng(seed).permutation(among)[:count]] = True
    tf = backend.tensorflow()
    numbered = train.make(0, 1).take(among).enumerate().filter(lambda number, _: tf.gather(tf.constant(drawn), number))
    return pipelines.in_memory(numbered.map(lambda _, example: example))


def _raw(rows: Rows) -> Inputs:
    return rows.x if rows.read is None else pipelines.to_arrays(pipelines.dataset_of(replace(rows, cache="none")))[0]


def _in_its_own_folder(held: Rows | Stream, part: str, source: Mapping[str, Any] | None) -> Rows | Stream:
    """With a folder of its own for what is kept on disk. Its name follows from what is read, not from the steps behind that, so that
    other steps find it again.
    """
    if held.cache in ("memory", "none"):
        return held
    return replace(held, cache=str(Path(held.cache) / f"{part}-{_fingerprint({part: held}, source)[:16]}"))


def digest(*values: np.ndarray) -> str:
    """A hash of arrays."""
    found = hashlib.sha256()
    for number, value in enumerate(values):
        _add(found, str(number), value)
    return found.hexdigest()


def _fingerprint(parts: Mapping[str, Rows | Stream], facts: Any) -> str:
    found = hashlib.sha256(repr(facts).encode())
    for part in sorted(parts):
        held = parts[part]
        if isinstance(held, Stream):
            found.update(repr((part, held.mark, len(held))).encode())
            continue
        _add(found, f"{part} x", held.x if held.read is None else held.marks)
        _add(found, f"{part} y", held.y)
    return found.hexdigest()


def _add(digest: Any, name: str, values: Any) -> None:
    if isinstance(values, dict):
        for key in sorted(values):
            _add(digest, f"{name} {key}", values[key])
    else:
        digest.update(repr((name, values.shape, values.dtype.str)).encode())
        digest.update(repr(values.tolist()).encode() if values.dtype.kind == "O" else np.ascontiguousarray(values))


def _rows(x: Inputs, rows: np.ndarray) -> Inputs:
    return pipelines.nested(lambda one: one[rows], x)


def split(x: Inputs, y: np.ndarray, *, validation: float, test: float, seed: int, source: str) -> dict[str, Part]:
    """Train, validation and test, disjoint, with the shares of the classes alike in each.

    Raises:
      DataError: a class has too few examples for it. OptionError: `validation` and `test` leave nothing to train on.
    """
    if validation + test >= 1:
        raise OptionError(f"validation = {validation} and test = {test}: should sum to less than 1, to leave examples for training")
    rest, tested = _stratified(np.arange(len(y)), y, round(test * len(y)), seed, source)
    trained, validated = _stratified(rest, y, round(validation * len(y)), seed, source)
    return {part: (_rows(x, at), y[at]) for part, at in (("train", trained), ("validation", validated), ("test", tested))}


def split_off(x: np.ndarray, y: np.ndarray, share: float, *, seed: int, source: str) -> tuple[Part, Part]:
    """What stays, and a stratified share of it."""
    stays, goes = _stratified(np.arange(len(y)), y, round(share * len(y)), seed, source)
    return (x[stays], y[stays]), (x[goes], y[goes])


def _stratified(rows: np.ndarray, y: np.ndarray, count: int, seed: int, source: str) -> tuple[np.ndarray, np.ndarray]:
    model_selection = backend.sklearn("model_selection")
    try:
        stays, goes = model_selection.train_test_split(rows, test_size=count, stratify=y[rows], random_state=seed)
    except ValueError as error:
        raise DataError(
            f"{source}: {len(y)} examples of {len(np.unique(y))} classes can't be split with every class in each part, of which one "
            f"would get {count}; give more examples, or larger shares (validation, test)"
        ) from error
    return stays, goes


def check_examples(
    x: Inputs,
    y: np.ndarray,
    num_classes: int,
    *,
    x_name: str | dict[str, str] = "x",
    y_name: str = "y",
    clean: Sequence[Any] | None = None,
    preprocess: Sequence[Any] = (),
) -> Part:
    """The examples as a part: x as uint8, float32 or int32, y as int32. For a dict of inputs, `x_name` is a dict as well.

    NaN in x is let through where `clean` drops it or `preprocess` fills it in. `clean` is None for sources that have no such option.

    Raises:
      DataError: they are empty, of the wrong kind or shape, of different lengths, or hold NaN or labels outside the classes.
    """
    missing = _cleaning.allows_missing(x, clean or (), preprocess)
    hint = "" if missing else f"; for NaN, {'' if clean is None else _DROP}{_FILL}"
    x = pipelines.nested(lambda one, name: _checked_inputs(one, name, missing, hint), x, x_name)
    y = _checked_labels(y, num_classes, y_name)
    for name, one in [(x_name[name], x[name]) for name in x] if isinstance(x, dict) else [(x_name, x)]:
        if len(one) != len(y):
            raise DataError(f"{name} has {len(one):,} examples and {y_name} {len(y):,} labels; they should be as many")
    return x, y


_DROP = 'clean = ["drop_missing"] leaves them out, '
_FILL = '"fill_missing" or "interpolate_missing" as the first of preprocess fills in'


def _checked_inputs(x: np.ndarray, name: str, missing: bool, hint: str) -> np.ndarray:
    if x.ndim < 2 or 0 in x.shape:
        raise DataError(f"{name} has shape {x.shape}; should be (examples, ...), with at least one example and nothing empty")
    if x.dtype == np.uint8:
        return x
    if x.dtype in (np.int32, np.int64):
        return _checked_indices(x, name)
    if x.dtype.kind != "f":
        raise DataError(
            f"{name} holds {x.dtype}; should be uint8 (0..255, scaled to 0..1), floats, or int32 or int64 such as word indices "
            "(both taken as they are): convert it first"
        )
    with np.errstate(over="ignore"):  # what is too large for float32 becomes infinite, and is found below
        x = x.astype(np.float32)
    good = (np.isfinite(x) | np.isnan(x)) if missing else np.isfinite(x)
    bad = np.flatnonzero(~good.reshape(len(x), -1).all(axis=1))
    if len(bad):
        raise DataError(
            f"{name}: {len(bad):,} of {len(x):,} examples hold NaN, infinity or numbers too large for float32, "
            f"the first at index {bad[0]}; remove or repair them{hint if np.isnan(x).any() else ''}"
        )
    return x


def _checked_indices(x: np.ndarray, name: str) -> np.ndarray:
    limits = np.iinfo(np.int32)
    if x.min() < limits.min or x.max() > limits.max:
        raise DataError(f"{name}: holds integers from {x.min()} to {x.max()}; should fit int32, as word indices do")
    return x.astype(np.int32)


def _checked_labels(y: np.ndarray, num_classes: int, name: str) -> np.ndarray:
    if y.ndim != 1 or not len(y):
        fix = "; one-hot labels become class indices with .argmax(axis=1)" if y.ndim == 2 and y.shape[1] > 1 else ""
        raise DataError(f"{name} has shape {y.shape}; should be (examples,), a class index for each{fix}")
    if y.dtype.kind not in "iu":
        raise DataError(f"{name} holds {y.dtype}; should be integers, the indices of the classes")
    bad = np.flatnonzero((y < 0) | (y >= num_classes))
    if len(bad):
        raise DataError(
            f"{name}: {len(bad):,} labels are outside 0..{num_classes - 1}, the first at index {bad[0]} is {y[bad[0]]}; "
            f"with {num_classes} classes they are counted from 0"
        )
    return y.astype(np.int32)
