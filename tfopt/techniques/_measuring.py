"""What a model costs as an int8 file: its size, or its time, found by converting and measuring."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .. import conversion, timing
from ..types import Artifact, Data

Measure = Callable[[Any], float]
_LEAST_RUNS, _MOST_RUNS, _MILLISECONDS = 200, 5000, 500  # of a file of 0.04 ms, 200 runs are over before the processor is at its speed


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
    runs = _LEAST_RUNS
    for _ in range(2):
        at_first = timing.compare([reference, reference], runs=runs, data=data)[0].median_ms
        runs = max(_LEAST_RUNS, min(_MOST_RUNS, round(_MILLISECONDS / at_first)))

    def milliseconds(model: Any) -> float:
        before, after = timing.compare([reference, _int8(model, data)], runs=runs, data=data)
        return at_first * after.median_ms / before.median_ms

    return milliseconds


def _int8(model: Any, data: Data) -> Artifact:
    return conversion.convert(model, "int8", data=data)
