"""Whether a converted file is as good as the model it came from: `verify(artifact, against=model, data=data) -> Verdict`.

The file runs on the runtime that will run it later, over the whole test set, one example at a time. What its outputs are worth is the
task's to say (`tfopt.tasks`), with the same functions for the file and for the model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from . import backend, bridge, conversion, pipelines, tasks
from .errors import DataError, OptionError, UnsupportedModel, nearest, shown
from .results import Measures, Timing, Verdict
from .runtime import Session, Source
from .types import Artifact, Data, SavedModel

_EMPTY = "the test set is empty; verification needs at least one example"
ROUNDING = 1e-9  # 0.97 - 0.96 is 0.010000000000000009, and breaks no limit of 0.01

# limit -> what it is compared with, and on which side of it the value has to stay
LIMITS: dict[str, tuple[str, Literal["at least", "at most"]]] = {
    "score": ("the score on the test set; of an error, at most", "at least"),
    "agreement": ("the share of test examples with the trained model's prediction", "at least"),
    "score_drop": ("the trained model's score minus this one", "at most"),
    "bytes": ("the file's size", "at most"),
    "gzip_bytes": ("the file's size after gzip -9", "at most"),
    "latency_ms": ("the median time of one inference in milliseconds", "at most"),
}


@dataclass(frozen=True)
class Reference:
    """What a model says about a test set. Made once, good for many files.

    Attributes:
      outputs: (n, ...) float32.
      truth: what they are compared with, (n, ...) or a dict of such: see `tasks.Task`.
      score: of the outputs.
    """

    outputs: np.ndarray
    truth: Any
    score: float


def reference(model: Any, data: Data) -> Reference:
    """Runs a model over the test set, for `verify(..., against=...)` of several files.

    A Keras model runs in TensorFlow. A SavedModel is converted to float32, and that runs on LiteRT, as a .tflite does.

    Raises:
      DataError: `data` is no Data; the model and the data don't fit each other; or the test set is empty.
      UnsupportedModel: `model` is none of these.
      BridgeError, ConversionError: a Keras 3 model that does not come through the bridge; a SavedModel that can't be converted.
    """
    task = tasks.of(data)
    _check_model(model)
    if isinstance(model, SavedModel):
        model = conversion.convert(model, "float32")
    if isinstance(model, Artifact):
        session = Session(model)
        taken = session.taking(data)
        _check_fits(session, taken, task)
        return _reference(*_over_test(session.run, taken, task), task)
    model = bridge.plain(model)
    tasks.check_fits(model, data)
    tf = backend.tensorflow()
    # one concrete function: TensorFlow warns of retracing when a process calls the fifth tf.function that is made in one place
    batch = pipelines.nested(lambda shape, dtype: tf.TensorSpec([None, *shape], dtype), data.input_shape, data.input_dtype)
    predict = tf.function(lambda x: model(x, training=False), autograph=False).get_concrete_function(batch)
    return _reference(*_over_test(lambda x: predict(x).numpy().astype(np.float32), data, task), task)


def _reference(outputs: np.ndarray, truth: Any, task: tasks.Task) -> Reference:
    return Reference(outputs, truth, task.value(truth, outputs, outputs))


def _over_test(run: Callable[[Any], np.ndarray], data: Data, task: tasks.Task) -> tuple[np.ndarray, Any]:
    """The outputs for the test set, and what they are compared with."""
    parts: list[tuple[np.ndarray, Any]] = []
    with pipelines.failures_named(data.test):
        for x, y in pipelines.batches(data.test, pipelines.at_once(data.input_shape)).as_numpy_iterator():
            parts.append((task.predict(run, x), task.truth(x, y)))
            if len(parts) == 1:  # twice: in batches and as one
                every = 2 * parts[0][0].nbytes / len(parts[0][0]) * max(0, int(data.test.cardinality()))
                pipelines.check_memory(every, f"the outputs for the test set of {data.name}", "verify with fewer test examples")
    if not parts:
        raise DataError(f"{data.name}: {_EMPTY}")
    outputs, truths = zip(*parts, strict=True)
    return np.concatenate(outputs), pipelines.nested(lambda *of: np.concatenate(of), *truths)


def verify(artifact: Source, *, against: Any, data: Data) -> Verdict:
    """Runs a file over the whole test set and compares it with the model that it should behave like.

    An example whose outputs are not all finite counts as wrong and as a disagreement, and makes the largest error infinite.

    Args:
      artifact: an artifact, a path, or the file's bytes. One with its preprocessing inside gets the raw examples.
      against: the trained model before any step: a tf_keras or Keras 3 model, a SavedModel, another artifact; or what `reference`
        made of it.
      data: with the test set.

    Raises:
      DataError: `data` is no Data, or its labels don't fit its task; or the file, the model and the data don't fit each other.
      UnsupportedModel: `against` is none of these.
      BridgeError, ConversionError: see `reference`.
      ArtifactError: the file is missing, damaged or can't be run.

    Example:
      verify(int8, against=model, data=data).drop
    """
    task = tasks.of(data)
    if not isinstance(against, Reference):
        _check_model(against)
    session = Session(artifact)
    taken = session.taking(data)
    _check_fits(session, taken, task)
    expected = against if isinstance(against, Reference) else reference(against, data)
    outputs, truth = _over_test(session.run, taken, task)
    if not _same(truth, expected.truth):
        raise DataError(f"{session.name}: the reference was made on another test set than {data.name}'s; make it with this data")
    scores = task.scores(truth, outputs, expected.outputs)
    return Verdict(
        metric=scores.metric,
        score=scores.value,
        interval=scores.interval,
        baseline=expected.score,
        agreement=task.agreement(outputs, expected.outputs),
        largest_error=float(np.max(np.abs(outputs - expected.outputs))) if np.isfinite(outputs).all() else float("inf"),
        examples=len(outputs),
        greater_is_better=scores.greater_is_better,
        share=scores.share,
        agrees=task.agrees,
        metrics=scores.metrics,
        per_class=scores.per_class,
        confusion=scores.confusion,
    )


def _same(truth: Any, other: Any) -> bool:
    """Whether both are of the same test set."""
    if isinstance(truth, dict):
        return isinstance(other, dict) and truth.keys() == other.keys() and all(_same(truth[key], other[key]) for key in truth)
    return np.array_equal(truth, other)


def broken_limits(limits: Mapping[str, float], verdict: Verdict, measures: Measures, timing: Timing) -> tuple[str, ...]:
    """A sentence for each limit that is broken, e.g. "score_drop is 0.031, the limit is at most 0.01".

    Raises:
      OptionError: no such limit.
    """
    unknown = [f"{name}: no such limit; {nearest(name, LIMITS)}" for name in limits if name not in LIMITS]
    if unknown:
        raise OptionError("; ".join(unknown))
    values = {
        "score": verdict.score,
        "agreement": verdict.agreement,
        "score_drop": verdict.drop,
        "bytes": measures.bytes,
        "gzip_bytes": measures.gzip_bytes,
        "latency_ms": timing.median_ms,
    }
    sides = {name: side for name, (_, side) in LIMITS.items()} | ({} if verdict.greater_is_better else {"score": "at most"})
    return tuple(
        f"{name} is {_shown(values[name])}, the limit is {sides[name]} {_shown(limit)}"
        for name, limit in limits.items()
        if not (limit - values[name] if sides[name] == "at least" else values[name] - limit) <= ROUNDING  # NaN keeps no limit
    )


def _shown(value: float) -> str:
    return f"{round(value, 6):.12g}"


def _check_model(model: Any) -> None:
    if not isinstance(model, SavedModel | Artifact | backend.keras().Model) and not bridge.is_keras3(model):
        raise UnsupportedModel(
            f"{shown(model)} is no model to verify against: expected a tf_keras or Keras 3 model, a SavedModel or an Artifact "
            "(tfopt.load reads one from a file)"
        )


def _check_fits(session: Session, data: Data, task: tasks.Task) -> None:
    shapes = session.arranged(data.input_shape, data.name)
    session.resize(shapes)
    takes, gives = [port.shape[1:] for port in session.inputs], [port.shape[1:] for port in session.outputs]
    if takes != shapes:
        problem = f"takes {_shapes(takes)}, the examples of {data.name} are {_shapes(shapes)}"
    elif len(gives) != 1 or not task.accepts(gives[0]):
        of_classes = f"has {data.num_classes} classes" if data.classes else f"is for {data.task}"
        problem = f"puts out {_shapes(gives)}, {data.name} {of_classes} and needs {' or '.join(map(str, task.outputs()))}"
    else:
        return
    raise DataError(f"{session.name}: {problem}; use the data that it was made for")


def _shapes(shapes: list[tuple[int, ...]]) -> str:
    return " and ".join(str(shape) for shape in shapes) or "nothing"
