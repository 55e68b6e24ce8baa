"""The nouns of what is measured: frozen dataclasses, standard library only."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field

from .types import Artifact


@dataclass(frozen=True)
class Verdict:
    """What a converted file is worth on the test set.

    Attributes:
      metric: what the score measures, e.g. "accuracy".
      score: of the converted file, on all `examples` test examples.
      interval: the score's 95 % confidence interval (low, high).
      baseline: the same score of the trained Keras model before any step.
      agreement: how far both say the same, from 0 to 1: for classes the share of examples (of labels, where several are given at once; of
        pixels; of detections that have a partner), for numbers R2 of the file's outputs as a prediction of the model's; for sequences the
        share of those that are the same, for the next symbol of a text the share of places.
      agrees: the same in words.
      largest_error: the largest |difference| between any of their outputs, in the units of the model's output.
      examples: how many test examples were run.
      broken: a sentence for each limit that is broken.
      greater_is_better: whether a greater score is a better one.
      share: whether the score is a share of 0 to 1 that people speak of in percent.
      metrics: every metric of the task, of the converted file; NaN where it is not defined on these examples.
      per_class: class -> metric -> value, of the converted file; empty where there are no classes.
      confusion: how often each true class (a row) was taken for each class, in pixels for masks; empty where several or none can be true.
    """

    metric: str
    score: float
    interval: tuple[float, float]
    baseline: float
    agreement: float
    largest_error: float
    examples: int
    broken: tuple[str, ...] = ()
    greater_is_better: bool = True
    share: bool = True
    agrees: str = field(default="with the trained Keras model's answers", repr=False)
    metrics: Mapping[str, float] = field(default_factory=dict, repr=False)
    per_class: Mapping[str, Mapping[str, float]] = field(default_factory=dict, repr=False)
    confusion: tuple[tuple[int, ...], ...] = field(default=(), repr=False)

    @property
    def drop(self) -> float:
        """How much worse than the baseline the score is; negative where it is better."""
        return self.baseline - self.score if self.greater_is_better else self.score - self.baseline


@dataclass(frozen=True)
class Timing:
    """How long one inference takes.

    Attributes:
      samples_ms: the wall time of every counted run, in milliseconds, in the order they were made.
      warmup: how many runs came before and are not counted.
      threads: how many threads the runtime was given.
      runtime: its name and version.
      machine: the CPU's name and its number of cores.
      inputs: what was run on: "test examples" or "random values".
    """

    samples_ms: tuple[float, ...] = field(repr=False)
    warmup: int
    threads: int
    runtime: str
    machine: str
    inputs: str

    @property
    def median_ms(self) -> float:
        """Half of the runs were faster."""
        return statistics.median(self.samples_ms)

    @property
    def p90_ms(self) -> float:
        """Nine runs of ten were faster."""
        return statistics.quantiles(self.samples_ms, n=10, method="inclusive")[-1]

    @property
    def p99_ms(self) -> float:
        """Ninety-nine runs of a hundred were faster."""
        return statistics.quantiles(self.samples_ms, n=100, method="inclusive")[-1]


@dataclass(frozen=True)
class Kernel:
    """One weight tensor as it stands in the .tflite.

    Attributes:
      name: the tensor's name. op: the kind of operation that reads it, e.g. "CONV_2D". dtype: e.g. "int8".
      shape: in the file's own layout, e.g. (out, height, width, in) for CONV_2D.
      zeros: per output channel, the share of weights that are exactly zero (int8: that equal the zero point).
      distinct: per output channel, how many different values there are.
      largest: per output channel, the largest |w|; of int8, as it is computed with.
    """

    name: str
    op: str
    dtype: str
    shape: tuple[int, ...]
    zeros: tuple[float, ...] = field(repr=False)
    distinct: tuple[int, ...] = field(repr=False)
    largest: tuple[float, ...] = field(repr=False)


@dataclass(frozen=True)
class Operation:
    """One operation of the .tflite: its kind, its output's name and dtype, and its weights' dtype (None without weights)."""

    kind: str
    name: str
    dtype: str
    weights: str | None


@dataclass(frozen=True)
class Measures:
    """What a .tflite is made of, read back from the file.

    Attributes:
      bytes, gzip_bytes: the file's size, and after `gzip -9`.
      parameters: weights and biases.
      macs: multiply-accumulates of one inference. `uncounted` names the kinds of operation with weights that it leaves out.
      sparsity: the share of zeros over all kernels.
      kernels, operations: one by one.
    """

    bytes: int
    gzip_bytes: int
    parameters: int
    macs: int
    sparsity: float
    kernels: tuple[Kernel, ...] = field(repr=False)
    operations: tuple[Operation, ...] = field(repr=False)
    uncounted: tuple[str, ...] = ()

    @property
    def repetition(self) -> float:
        """The share of the kernels' weights whose value another weight of the same output channel has: 0 where all are different."""
        weights = sum(math.prod(kernel.shape) for kernel in self.kernels)
        return 1 - sum(map(sum, (kernel.distinct for kernel in self.kernels))) / weights if weights else 0.0

    @property
    def largest_weight(self) -> float:
        """The largest |w| of any kernel; 0 where there are none."""
        return max((max(kernel.largest) for kernel in self.kernels), default=0.0)

    @property
    def int8_operations(self) -> int:
        """How many operations compute in 8 bits (their output is int8 or uint8)."""
        return sum(operation.dtype in ("int8", "uint8") for operation in self.operations)

    @property
    def float_operations(self) -> tuple[Operation, ...]:
        """The operations whose output is float (DEQUANTIZE and its like aside): what stayed float."""
        return tuple(o for o in self.operations if o.dtype.startswith("float") and o.kind not in ("QUANTIZE", "DEQUANTIZE"))


@dataclass(frozen=True)
class Row:
    """One line of a report: an artifact and all that was measured on it."""

    artifact: Artifact
    verdict: Verdict
    timing: Timing
    measures: Measures
