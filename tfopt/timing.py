"""How long one inference takes on this machine: `benchmark(artifact) -> Timing`, and `compare` for several at once.

Only the runtime's own run is timed, one example at a time, and every sample is kept. The speed of a machine drifts over seconds (other
load, clock frequency), so what is to be compared is timed interleaved, a run of each after the other, round by round.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from . import _cpuinfo, backend, bridge, conversion, options, pipelines, runtime
from .errors import OptionError, shown
from .results import Timing
from .runtime import Port, Session, Source
from .tracing import log
from .types import Data, SavedModel

LEAST_RUNS = 50


def benchmark(artifact: Source | Any, *, threads: int = 1, runs: int = 50, warmup: int = 10, data: Data | None = None) -> Timing:
    """Times one inference.

    Args:
      artifact: an artifact, a .tflite's path or bytes; or a Keras model or SavedModel, which is converted to float32 first.
      threads: that the runtime may use.
      runs: how many are counted, at least 50.
      warmup: how many run before.
      data: its test examples are the inputs; without, random values are (a float input gets 0 to 1).

    Raises:
      OptionError: fewer than 50 runs, or threads or warm-up of the wrong type or out of range.
      ArtifactError: the file is missing, damaged or can't be run.
      DataError: `data` is no Data, or its examples don't fit the file's input.
      UnsupportedModel, BridgeError, ConversionError: a model that can't be converted.

    Example:
      benchmark(artifact, threads=2).median_ms
    """
    return compare([artifact], threads=threads, runs=runs, warmup=warmup, data=data)[0]


def compare(
    artifacts: Sequence[Source | Any], *, threads: int = 1, runs: int = 50, warmup: int = 10, data: Data | None = None
) -> tuple[Timing, ...]:
    """Times several files interleaved, so that what slows the machine down meets all of them alike; as `benchmark` otherwise.

    Example:
      before, after = compare([plain, optimized], data=data)
      before.median_ms / after.median_ms
    """
    for name, value in (("runs", runs), ("warmup", warmup)):
        if problem := options.problem_of_type(int, value):
            raise OptionError(f"{name} = {shown(value)}: {problem}")
    if data is not None:
        pipelines.check_data(data)
    if runs < LEAST_RUNS:
        raise OptionError(f"runs = {runs!r}: should be at least {LEAST_RUNS}; fewer say little about a median, and nothing about a p99")
    if warmup < 0:
        raise OptionError(f"warmup = {warmup!r}: should be at least 0")
    sessions = [Session(_converted(artifact), threads) for artifact in artifacts]
    inputs = [_examples(session, data, runs) for session in sessions]
    samples = [[] for _ in sessions]
    for number in range(-warmup, runs):
        for session, examples, kept in zip(sessions, inputs, samples, strict=True):
            session.feed(examples[number % len(examples)])
            start = time.perf_counter_ns()
            session.invoke()
            took = time.perf_counter_ns() - start
            if number >= 0:
                kept.append(took / 1e6)
    what = "random values" if data is None else "test examples"
    return tuple(Timing(tuple(kept), warmup, threads, runtime.version(), machine(), what) for kept in samples)


def _converted(model: Source | Any) -> Source:
    """A .tflite as it is; a model that could be one, converted."""
    if isinstance(model, Source):
        return model
    if isinstance(model, SavedModel | backend.keras().Model) or bridge.is_keras3(model):
        log.info("%s: converted to float32 to be timed", model.name)
        return conversion.convert(model, "float32")
    return model


def machine() -> str:
    """The CPU's name and its number of cores, e.g. "AMD EPYC 7B13, 2 cores"."""
    cores = os.cpu_count() or 1
    return f"{_cpuinfo.first('model name') or platform.processor() or platform.machine()}, {cores} core{'s' * (cores != 1)}"


def _examples(session: Session, data: Data | None, count: int) -> list[Sequence[np.ndarray]]:
    if data is not None:
        data = session.taking(data)
        session.resize(session.arranged(data.input_shape, data.name))
        return list(zip(*session.arranged(pipelines.to_arrays(data.test, count)[0]), strict=True))
    generator = np.random.default_rng(0)
    return [[_random(port, generator) for port in session.inputs] for _ in range(count)]


def _random(port: Port, generator: np.random.Generator) -> np.ndarray:
    dtype, shape = np.dtype(port.dtype), port.shape[1:]
    if dtype.kind == "f":
        return generator.random(shape).astype(dtype)
    if port.scale is not None:
        limits = np.iinfo(dtype)
        return generator.integers(limits.min, limits.max, shape, dtype, endpoint=True)
    return generator.integers(0, 2, shape).astype(dtype)  # an index: 0 and 1 are in every vocabulary
