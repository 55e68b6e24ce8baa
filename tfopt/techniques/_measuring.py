"""What a model costs as an int8 file: its size, or its time, found by converting and measuring."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .. import conversion, timing
from ..types import Artifact, Data

Measure = Callable[[Any], float]
_RUNS = 200


def measure_of(name: str, full: Any, data: Data) -> Measure:
    """A function `model -> bytes` or `model -> milliseconds` of its int8 file, as the budget's name says.

    Time is that of one inference with one thread. A machine's speed drifts while plans are tried, so each is timed in turns with the
    model `full`, and its share of that one's time counts, times what `full` took at first.

    Raises:
      ConversionError: the model does not convert.
    """
    if name == "bytes":
        return lambda model: len(_int8(model, data).content)
    reference = _int8(full, data)
    at_first = timing.benchmark(reference, runs=_RUNS, data=data).median_ms

    def milliseconds(model: Any) -> float:
        before, after = timing.compare([reference, _int8(model, data)], runs=_RUNS, data=data)
        return at_first * after.median_ms / before.median_ms

    return milliseconds


def _int8(model: Any, data: Data) -> Artifact:
    return conversion.convert(model, "int8", data=data)
