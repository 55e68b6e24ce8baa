"""What `inspect` finds, one class for each kind of model: it prints as a table, and its fields are the keys of `--json`."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar

from . import _inspect_text
from .types import Choice

Shape = tuple[int | None, ...]


@dataclass(frozen=True)
class Inspection:
    """What a model or a file is made of.

    Attributes:
      name: the model's, or the file's.
    """

    kind: ClassVar[str]
    name: str

    def as_dict(self) -> dict[str, Any]:
        """All of it as plain dicts, lists, strings and numbers: what `tfopt inspect --json` prints."""
        return {"kind": self.kind, **_plain(self)}

    def __str__(self) -> str:
        return _inspect_text.TEXTS[self.kind](self)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    return [_plain(one) for one in value] if isinstance(value, tuple | list) else value


@dataclass(frozen=True)
class Port:
    """An input or output: its name, its shape (None: a free dimension) and its dtype."""

    name: str
    shape: Shape | None
    dtype: str


# Keras models


@dataclass(frozen=True)
class Layer:
    """A layer of a Keras model.

    Attributes:
      name: outer/inner for those of nested models. kind: its class.
      output_shapes: of its first call, one an output; None: a free dimension.
      parameters, bytes: of all its weights, BatchNormalization's statistics included.
      macs: multiply-accumulates of one example, over all its calls; None where they can't be known.
      calls: how often the model calls it.
    """

    name: str
    kind: str
    output_shapes: tuple[Shape, ...]
    parameters: int
    bytes: int
    macs: int | None
    calls: int


@dataclass(frozen=True)
class Plan:
    """What a technique would do with a model: a Choice for each layer; or `problem`, the reason why it can do nothing."""

    technique: str
    choices: tuple[Choice, ...]
    problem: str | None


@dataclass(frozen=True)
class KerasInspection(Inspection):
    """A Keras model, layer by layer.

    Attributes:
      inputs, outputs: a Port each.
      layers: those of nested models with them, input layers without.
      parameters, trainable_parameters, bytes: each weight once, however many layers share it.
      macs: of one example. `uncounted` names the layers that it leaves out since theirs can't be known.
      plans: one for each technique.
    """

    kind: ClassVar[str] = "keras"
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    layers: tuple[Layer, ...]
    parameters: int
    trainable_parameters: int
    bytes: int
    macs: int
    uncounted: tuple[str, ...]
    plans: tuple[Plan, ...]


# SavedModels


@dataclass(frozen=True)
class OperationCount:
    """How many operations of a kind there are."""

    kind: str
    count: int


@dataclass(frozen=True)
class SavedModelInspection(Inspection):
    """A SavedModel's folder whose Keras layers can't be had back: it can be converted, verified and benchmarked, not optimized.

    Attributes:
      signature: the function that is the model. inputs, outputs: a Port each.
      bytes: of all its files.
      operations: TensorFlow's, of the signature and of each function that it calls, bodies once; the commonest first.
      reason: why it is no Keras model, as half a sentence.
    """

    kind: ClassVar[str] = "savedmodel"
    signature: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    bytes: int
    operations: tuple[OperationCount, ...]
    reason: str


# .tflite files


@dataclass(frozen=True)
class FileOperation:
    """An operation of a .tflite file.

    Attributes:
      graph, index: the graph it is in (0 is the main one, the others are bodies of loops and branches), and its place there.
      kind: e.g. "CONV_2D". output: its first output's name; shape (None: free) and dtype are that tensor's.
      weights: its kernel's dtype, None without a kernel.
      scales: how many scales the kernel is quantized with: 0 not quantized, 1 per tensor, more per channel; None without a kernel.
      quantized_dimension: the kernel's dimension along which the scales of a per-channel one stand; None otherwise.
      macs: of one example; None where they can't be known.
      part: the number of XNNPACK's part that takes it; None where the interpreter's own kernel runs it, or that is not known.
    """

    graph: int
    index: int
    kind: str
    output: str
    shape: Shape
    dtype: str
    weights: str | None
    scales: int | None
    quantized_dimension: int | None
    macs: int | None
    part: int | None


@dataclass(frozen=True)
class FileTensor:
    """A tensor of a .tflite file.

    Attributes:
      graph, index: where it is.
      constant: whether its values are in the file. bytes: of one example.
      scales: 0 not quantized, 1 per tensor, more: per channel, along dimension `quantized_dimension` (None otherwise).
    """

    graph: int
    index: int
    name: str
    shape: Shape
    dtype: str
    bytes: int
    constant: bool
    scales: int
    quantized_dimension: int | None


@dataclass(frozen=True)
class Dtypes:
    """How many tensors of a dtype there are, and their bytes: those in the file (constants), and those made while it runs."""

    dtype: str
    constants: int
    constant_bytes: int
    activations: int
    activation_bytes: int


@dataclass(frozen=True)
class Fallback:
    """An operation of the main graph that XNNPACK leaves to the interpreter, and what is known of the reason."""

    index: int
    kind: str
    reason: str


@dataclass(frozen=True)
class Coverage:
    """What XNNPACK takes of a file's main graph, as the runtime answered on this machine; other machines may take other operations.

    Attributes:
      runtime, machine: who was asked.
      operations: how many the main graph has. taken: how many of them XNNPACK takes, in `parts` parts.
      fallbacks: the others.
      problem: why the runtime could not be asked; then the numbers say nothing.
    """

    runtime: str
    machine: str
    operations: int
    taken: int
    parts: int
    fallbacks: tuple[Fallback, ...]
    problem: str | None


@dataclass(frozen=True)
class Memory:
    """Memory for activations, computed from the tensors' lifetimes, not measured: the runtime does not tell.

    Attributes:
      live_bytes: the most that is alive at once. arena_bytes: one piece of memory that holds them all, as the interpreter plans it.
      Both None where shapes that are known only when it runs leave it open.
      computed: always true.
    """

    live_bytes: int | None
    arena_bytes: int | None
    computed: bool = True


@dataclass(frozen=True)
class FileInspection(Inspection):
    """A .tflite file, operation by operation.

    Attributes:
      warnings: a sentence for each word of the name that promises something else than what is in the file.
      inputs, outputs: a Port each.
      preprocessing: the preparations that it does itself, by name, so that it takes raw examples; None where it takes prepared ones.
      bytes, gzip_bytes, parameters, macs, uncounted, sparsity: as in Measures.
      dtypes, operations, tensors, coverage, memory: see there.
    """

    kind: ClassVar[str] = "tflite"
    warnings: tuple[str, ...]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    preprocessing: tuple[str, ...] | None
    bytes: int
    gzip_bytes: int
    parameters: int
    macs: int
    uncounted: tuple[str, ...]
    sparsity: float
    dtypes: tuple[Dtypes, ...]
    operations: tuple[FileOperation, ...]
    tensors: tuple[FileTensor, ...]
    coverage: Coverage
    memory: Memory
