"""Whether a converted file is as good as the model it came from: `verify(artifact, against=model, data=data) -> Verdict`.

The file runs on the runtime that will run it later, over the whole test set, one example at a time. The score's interval is Wilson's
(1927), which is right for shares near 1, too.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from . import backend, bridge, conversion, pipelines
from .errors import DataError, OptionError, UnsupportedModel, nearest, shown
from .results import Measures, Timing, Verdict
from .runtime import Session, Source
from .types import Artifact, Data, SavedModel

BATCH = 256
_EMPTY = "the test set is empty; verification needs at least one example"
ROUNDING = 1e-9  # 0.97 - 0.96 is 0.010000000000000009, and breaks no limit of 0.01

# limit -> what it is compared with, and on which side of it the value has to stay
LIMITS: dict[str, tuple[str, Literal["at least", "at most"]]] = {
    "score": ("the score on the test set", "at least"),
    "agreement": ("the share of test examples with the trained model's prediction", "at least"),
    "score_drop": ("the trained model's score minus this one", "at most"),
    "bytes": ("the file's size", "at most"),
    "gzip_bytes": ("the file's size after gzip -9", "at most"),
    "latency_ms": ("the median time of one inference in milliseconds", "at most"),
}


@dataclass(frozen=True)
class Reference:
    """What a model says about a test set: outputs (n, classes), float32; labels (n,). Made once, good for many files."""

    outputs: np.ndarray
    labels: np.ndarray


def reference(model: Any, data: Data) -> Reference:
    """Runs a model over the test set, for `verify(..., against=...)` of several files.

    A Keras model runs in TensorFlow. A SavedModel is converted to float32, and that runs on LiteRT, as a .tflite does.

    Raises:
      DataError: `data` is no Data; the model and the data don't fit each other; or the test set is empty.
      UnsupportedModel: `model` is none of these.
      BridgeError, ConversionError: a Keras 3 model that does not come through the bridge; a SavedModel that can't be converted.
    """
    _check_task(data)
    _check_model(model)
    if isinstance(model, SavedModel):
        model = conversion.convert(model, "float32")
    if isinstance(model, Artifact):
        return _reference_of_file(Session(model), data)
    model = bridge.plain(model)
    pipelines.check_fits(model, data)
    tf = backend.tensorflow()
    # one concrete function: TensorFlow warns of retracing when a process calls the fifth tf.function that is made in one place
    batch = pipelines.nested(lambda shape, dtype: tf.TensorSpec([None, *shape], dtype), data.input_shape, data.input_dtype)
    predict = tf.function(lambda x: model(x, training=False), autograph=False).get_concrete_function(batch)
    outputs, labels = [], []
    with pipelines.failures_named(data.test):
        for x, y in pipelines.batches(data.test, BATCH):
            outputs.append(predict(x).numpy())
            labels.append(y.numpy())
    if not outputs:
        raise DataError(f"{data.name}: {_EMPTY}")
    return Reference(np.concatenate(outputs).astype(np.float32), np.concatenate(labels))


def _reference_of_file(session: Session, data: Data) -> Reference:
    data = session.taking(data)
    _check_fits(session, data)
    outputs, labels = _outputs(session, data)
    if not len(labels):
        raise DataError(f"{data.name}: {_EMPTY}")
    return Reference(outputs, labels)


def verify(artifact: Source, *, against: Any, data: Data) -> Verdict:
    """Runs a file over the whole test set and compares it with the model that it should behave like.

    An example whose outputs are not all finite counts as wrong and as a disagreement, and makes the largest error infinite.

    Args:
      artifact: an artifact, a path, or the file's bytes. One with its preprocessing inside gets the raw examples.
      against: the trained model before any step: a tf_keras or Keras 3 model, a SavedModel, another artifact; or what `reference`
        made of it.
      data: with the test set.

    Raises:
      DataError: `data` is no Data, or no classification; or the file, the model and the data don't fit each other.
      UnsupportedModel: `against` is none of these.
      BridgeError, ConversionError: see `reference`.
      ArtifactError: the file is missing, damaged or can't be run.

    Example:
      verify(int8, against=model, data=data).drop
    """
    _check_task(data)
    if not isinstance(against, Reference):
        _check_model(against)
    session = Session(artifact)
    taken = session.taking(data)
    _check_fits(session, taken)
    expected = against if isinstance(against, Reference) else reference(against, data)
    outputs, labels = _outputs(session, taken)
    if not np.array_equal(labels, expected.labels):
        raise DataError(f"{session.name}: the reference was made on another test set than {data.name}'s; make it with this data")
    finite = np.isfinite(outputs).all(axis=1)
    predicted, wanted = outputs.argmax(axis=1), expected.outputs.argmax(axis=1)
    right = int(np.sum(finite & (predicted == labels)))
    return Verdict(
        metric="accuracy",
        score=right / len(labels),
        interval=_interval(right, len(labels)),
        baseline=float(np.mean(wanted == labels)),
        agreement=float(np.mean(finite & (predicted == wanted))),
        largest_error=float(np.max(np.abs(outputs - expected.outputs))) if finite.all() else float("inf"),
        examples=len(labels),
    )


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
    return tuple(
        f"{name} is {_shown(values[name])}, the limit is {LIMITS[name][1]} {_shown(limit)}"
        for name, limit in limits.items()
        if (limit - values[name] if LIMITS[name][1] == "at least" else values[name] - limit) > ROUNDING
    )


def _shown(value: float) -> str:
    return f"{round(value, 6):.12g}"


def _check_model(model: Any) -> None:
    if not isinstance(model, SavedModel | Artifact | backend.keras().Model) and not bridge.is_keras3(model):
        raise UnsupportedModel(
            f"{shown(model)} is no model to verify against: expected a tf_keras or Keras 3 model, a SavedModel or an Artifact "
            "(tfopt.load reads one from a file)"
        )


def _check_task(data: Data) -> None:
    pipelines.check_data(data)
    if data.task != "classification":
        raise DataError(f"{data.name}: verification knows the task 'classification' only, not {data.task!r}")


def _check_fits(session: Session, data: Data) -> None:
    shapes = session.arranged(data.input_shape, data.name)
    session.resize(shapes)
    takes, gives = [port.shape[1:] for port in session.inputs], [port.shape[1:] for port in session.outputs]
    if takes != shapes:
        problem = f"takes {_shapes(takes)}, the examples of {data.name} are {_shapes(shapes)}"
    elif gives != [(data.num_classes,)]:
        problem = f"puts out {_shapes(gives)}, {data.name} has {data.num_classes} classes"
    else:
        return
    raise DataError(f"{session.name}: {problem}; use the data that it was made for")


def _shapes(shapes: list[tuple[int, ...]]) -> str:
    return " and ".join(str(shape) for shape in shapes) or "nothing"


def _outputs(session: Session, data: Data) -> tuple[np.ndarray, np.ndarray]:
    with pipelines.failures_named(data.test):
        parts = [(session.run(x), y) for x, y in pipelines.batches(data.test, BATCH).as_numpy_iterator()]
    outputs, labels = zip(*parts, strict=True) if parts else ((np.zeros((0, data.num_classes)),), (np.zeros(0, np.int32),))
    return np.concatenate(outputs), np.concatenate(labels)


def _interval(right: int, count: int) -> tuple[float, float]:
    test = importlib.import_module("scipy.stats").binomtest(right, count)
    interval = test.proportion_ci(confidence_level=0.95, method="wilson")
    return float(interval.low), float(interval.high)
