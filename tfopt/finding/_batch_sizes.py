"""Batch sizes timed beside each other: examples a second, and the memory that a step takes."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

from pydantic import Field

from .. import _pictures, _tables, backend, options, timing
from ..errors import OptionError
from ..types import Data, Fit
from . import _memory, _showing, _trials

ROUNDS = 7  # samples of each size, one a round
SHORTEST = 0.05  # seconds of a sample: of steps that take less it has several
ENOUGH = 0.9  # of the best throughput

Count = Annotated[int, Field(ge=1)]


@dataclass(frozen=True)
class BatchSize:
    """What was measured of one batch size.

    Attributes:
      size: examples a step, over all replicas.
      step_ms: the median time of a step in milliseconds; None where it was not measured.
      memory: the bytes that a step takes at its highest, beside model and optimizer; None where the system does not tell.
      reason: why it was not measured; empty where it was.
    """

    size: int
    step_ms: float | None = None
    memory: int | None = None
    reason: str = ""

    @property
    def examples_per_second(self) -> float | None:
        """The throughput; None where it was not measured."""
        return None if self.step_ms is None else 1e3 * self.size / self.step_ms


@dataclass(frozen=True)
class BatchSizes(_showing.Plotted):
    """What was measured of several batch sizes.

    Attributes:
      rows: by size.
      machine: the CPU and its cores.
    """

    rows: tuple[BatchSize, ...]
    machine: str

    @property
    def suggested(self) -> int | None:
        """The smallest batch within 10 % of the best throughput; None where none could be measured."""
        rates = {row.size: row.examples_per_second for row in self.rows if row.examples_per_second}
        return min((size for size, rate in rates.items() if rate >= ENOUGH * max(rates.values())), default=None)

    def __str__(self) -> str:
        rows = [("batch", "step ms", "examples/s", "memory"), *map(_cells, self.rows)]
        said = "no batch size suggested: none could be measured"
        if self.suggested is not None:
            said = f"batch size {self.suggested} suggested; the smallest within 10 % of the most examples a second, on {self.machine}"
        return f"{_tables.table(rows)}\n{said}"

    def plot(self) -> Any:
        """Throughput and memory against the batch size, as a matplotlib Figure, made without pyplot; a notebook shows it."""
        figure = _pictures.figure(6, 3.6, layout="constrained")
        axes = _showing.axes_of(figure, "batch size", "examples a second")
        rows = [row for row in self.rows if not row.reason]
        sizes = [row.size for row in rows]
        axes.plot(sizes, [row.examples_per_second for row in rows], color="tab:blue", marker="o")
        axes.set_xscale("log", base=2)
        axes.set_xticks(sizes, [str(size) for size in sizes], minor=False)
        axes.set_ylim(bottom=0)
        if self.suggested is not None:
            axes.axvline(self.suggested, color="tab:orange", linestyle="--", label=f"suggested: {self.suggested}")
            axes.legend(frameon=False, loc="lower right")
        if rows and all(row.memory is not None for row in rows):
            beside = axes.twinx()
            beside.plot(sizes, [row.memory / 1e6 for row in rows], color="tab:gray", marker="s", markersize=3, linewidth=1)
            beside.set_ylabel("memory of a step in MB", color="tab:gray")
            beside.set_ylim(bottom=0)
        return figure


def _cells(row: BatchSize) -> tuple[str, ...]:
    if row.reason:
        return str(row.size), "–", "–", "–", row.reason
    memory = "–" if row.memory is None else f"{row.memory / 1e6:,.0f} MB"
    return str(row.size), f"{row.step_ms:.2f}", f"{row.examples_per_second:,.0f}", memory


@options.checked
def batch_find(
    model: Any,
    data: Data,
    fit: Fit = Fit(),  # noqa: B008 - it is frozen
    *,
    sizes: Annotated[list[Count] | tuple[Count, ...], Field(min_length=1)] = (16, 32, 64, 128, 256, 512),
) -> BatchSizes:
    """Times training steps of several batch sizes on this machine, in turns, so that what slows it down meets all of them alike.

    Each size trains on one batch of its own, which lies in memory: reading and preparing examples is no part of it. A size that can't be,
    or does not fit in memory, has a reason in place of times; one that would take more memory than is free, by what smaller ones took,
    is not tried. Throughput is all that is looked at: a larger batch makes fewer steps an epoch, and another learning rate suits it.

    Args:
      model: a tf_keras or Keras 3 model; it stays as it is.
      data: its training examples are used.
      fit: how the model will be trained; its batch size plays no part.
      sizes: to try.

    Raises:
      OptionError: an option out of range.
      DataError, UnsupportedModel, BridgeError: as `train`.

    >>> found = tfopt.batch_find(model, data, sizes=(32, 128, 512))
    >>> print(found)
    >>> found.suggested
    128
    """
    rows: list[BatchSize] = []
    batches: dict[int, Any] = {}
    with _trials.trial(model, data, fit) as it:
        for size in sorted(set(sizes)):
            try:
                _check_room(size, rows)
                batches[size] = it.same_batch(size)
                it.steps(batches[size])  # which compiles
                rows.append(BatchSize(size, memory=_memory.peak_of(lambda size=size: it.steps(batches[size], 2))))
            except OptionError as error:
                rows.append(BatchSize(size, reason=str(error)))
            except (MemoryError, backend.tensorflow().errors.ResourceExhaustedError):
                batches.pop(size, None)
                rows.append(BatchSize(size, reason="does not fit in memory"))
        times = _timed(it, batches)
    return BatchSizes(tuple(replace(row, step_ms=times.get(row.size)) for row in rows), timing.machine())


def _check_room(size: int, rows: Sequence[BatchSize]) -> None:
    """Raises OptionError for a size that would not fit in memory by what smaller ones took: Linux promises memory that it does not have,
    and ends who uses it.
    """
    needed = foreseen({row.size: row.memory for row in rows if row.memory is not None}, size)
    if needed > (free := _memory.room()):
        raise OptionError(f"would take about {needed / 1e9:,.1f} GB of memory, and {free / 1e9:,.1f} GB are free")


def foreseen(taken: Mapping[int, int], size: int) -> float:
    """The memory that a size takes if it goes on growing as between the two largest that were measured; 0 where less is known.

    >>> foreseen({16: 100, 32: 180}, 64)
    340.0
    """
    if len(taken) < 2:
        return 0.0
    (small, of_small), (large, of_large) = sorted(taken.items())[-2:]
    return of_large + max(0, of_large - of_small) / (large - small) * (size - large)


def _timed(it: _trials.Trial, batches: Mapping[int, Iterator[Any]]) -> dict[int, float]:
    """The median time of a step of each size, in milliseconds."""

    def seconds(size: int, count: int) -> float:
        start = time.perf_counter()
        it.steps(batches[size], count)
        return (time.perf_counter() - start) / count

    counts = {size: math.ceil(SHORTEST / seconds(size, 1)) for size in batches}
    samples: dict[int, list[float]] = {size: [] for size in batches}
    for _ in range(ROUNDS):
        for size, count in counts.items():
            samples[size].append(seconds(size, count))
    return {size: 1e3 * statistics.median(of_size) for size, of_size in samples.items()}
