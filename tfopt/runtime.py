"""Running a .tflite on the LiteRT interpreter: `Session(artifact).run(x)`. The one place that runs it."""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.metadata
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import _flatbuffer, backend, deployment, options, pipelines
from .errors import ArtifactError, DataError, OptionError, shown
from .types import Artifact, Data

_used = False

Source = Artifact | str | os.PathLike | bytes


@dataclass(frozen=True)
class Port:
    """An input or output: its name, its shape with the batch dimension, its dtype, and where it is quantized scale and zero point.

    A quantized number q stands for `scale * (q - zero_point)`; `scale` is None where nothing is quantized.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: float | None
    zero_point: int


class Session:
    """A .tflite, loaded and ready to run one example at a time, as a device does it.

    Args:
      source: an artifact, a path, or the file's bytes.
      threads: that the interpreter may use.

    Attributes:
      name: by which messages call the file.
      inputs, outputs: a Port each. Free sizes are 1 until `resize`, or `run`, has set them.

    Raises:
      ArtifactError: the file is missing, damaged, no .tflite, or asks for what this runtime does not have.
      OptionError: threads is no whole number of at least 1.

    Example:
      Session("digits.tflite").run(images)  # (n, 8, 8, 1) -> (n, 10)
    """

    def __init__(self, source: Source, threads: int = 1):
        problem = options.problem_of_type(int, threads) or ("should be at least 1" if threads < 1 else None)
        if problem:
            raise OptionError(f"threads = {shown(threads)}: {problem}")
        self.name, self._content = _flatbuffer.contents(source)
        with _first_use_quiet():
            self._load(self._content, threads)

    def _load(self, content: bytes, threads: int) -> None:
        module = importlib.import_module("ai_edge_litert.interpreter")
        try:
            self._interpreter = module.Interpreter(model_content=content, num_threads=threads)
        except (ValueError, RuntimeError, MemoryError) as error:
            problem = "the file is damaged or made for another runtime"
            raise ArtifactError(f"{self.name}: {problem} ({error}); copy or convert it again") from error
        self._free = any(-1 in detail["shape_signature"][1:] for detail in self._interpreter.get_input_details())
        self._allocate()

    def _allocate(self) -> None:
        """Makes the interpreter ready; where that fails for a file whose sizes are free, the reason is kept until it is to run."""
        self._problem: ArtifactError | None = None
        try:
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError, MemoryError) as error:
            advice = "its sizes are free: run it on data of another size" if self._free else "convert it to another format"
            self._problem = ArtifactError(f"{self.name}: {version()} can't run it ({error}); {advice}")
            if not self._free:
                raise self._problem from error
        self._inputs, self._outputs = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        self.inputs, self.outputs = tuple(map(_port, self._inputs)), tuple(map(_port, self._outputs))

    def resize(self, shapes: Sequence[tuple[int, ...]]) -> None:
        """Sets free sizes of the inputs, which stand in the file as 1, to those of examples of these shapes, one an input.

        Where a shape does not fit what is fixed, everything stays as it is; `run` refuses such examples.
        """
        wanted = [(1, *shape) for shape in shapes]
        signatures = [tuple(detail["shape_signature"]) for detail in self._inputs]
        fits = len(wanted) == len(signatures) and all(
            len(shape) == len(signature) and all(free in (-1, size) for free, size in zip(signature[1:], shape[1:], strict=True))
            for shape, signature in zip(wanted, signatures, strict=True)
        )
        if self._free and fits and wanted != [port.shape for port in self.inputs]:
            for detail, shape in zip(self._inputs, wanted, strict=True):
                self._interpreter.resize_tensor_input(detail["index"], shape)
            self._allocate()

    @functools.cached_property
    def preprocessing(self) -> deployment.Preprocessing | None:
        """What the file does with raw examples before its model sees them; None where it takes prepared ones."""
        return deployment.inside(self.name, self._content)

    def taking(self, data: Data) -> Data:
        """The data as the file takes it: raw where it prepares the examples itself.

        Raises:
          DataError: it does not prepare them as the data says.
        """
        return deployment.as_taken(data, self.preprocessing, self.name)

    @property
    def input_names(self) -> tuple[str, ...]:
        """What the model called the inputs, in the order of `inputs`; the tensors' names where the file does not say it.

        The order is the file's own, so several inputs are told apart by name only.
        """
        signatures = self._interpreter.get_signature_list()
        details = self._interpreter.get_signature_runner().get_input_details() if len(signatures) == 1 else {}
        names = {detail["index"]: name for name, detail in details.items()}
        return tuple(names.get(detail["index"], detail["name"]) for detail in self._inputs)

    def arranged(self, values: Any, giver: str = "the example") -> list[Any]:
        """The values of a dict by input name, in the order of `inputs`; any other value is that of the only input.

        Raises:
          DataError: they are not those of the inputs; `giver` says whose they are.
        """
        return pipelines.in_order(values, self.input_names, self.name, giver)

    def run(self, x: np.ndarray | Mapping[str, np.ndarray] | Sequence[np.ndarray]) -> np.ndarray | tuple[np.ndarray, ...]:
        """The outputs for one example, or for a batch of them run one by one.

        Args:
          x: the input of shape `inputs[0].shape[1:]`, or a batch `(n, *inputs[0].shape[1:])`; for several inputs a dict of them by
            name, or a list in the order of `inputs`. Each is quantized (rounded to nearest, clipped) where the file takes int8 or
            uint8, unless it has that dtype already.

        Returns:
          What the file puts out, dequantized to float32: `outputs[0].shape[1:]`, for a batch with n in front; a tuple of these
          for several outputs.

        Raises:
          DataError: x does not fit the inputs.
          ArtifactError: the runtime failed on it.
        """
        if isinstance(x, Mapping):
            x = self.arranged(x)
        elif len(self.inputs) == 1:
            x = [x]
        arrays = [np.asarray(one) for one in x]
        if len(arrays) != len(self.inputs):
            raise DataError(f"{self.name}: takes {len(self.inputs)} inputs, got {len(arrays)}")
        one = arrays[0].ndim == len(self.inputs[0].shape) - 1
        if one:
            arrays = [array[None] for array in arrays]
        self.resize([array.shape[1:] for array in arrays])
        if len({len(array) for array in arrays}) != 1:
            raise DataError(f"{self.name}: got batches of different lengths ({', '.join(str(len(array)) for array in arrays)})")
        rows = [self._run_one([array[index] for array in arrays]) for index in range(len(arrays[0]))]
        if not rows:
            raise DataError(f"{self.name}: got a batch without examples")
        results = tuple(row[0] for row in zip(*rows, strict=True)) if one else tuple(np.stack(column) for column in zip(*rows, strict=True))
        return results[0] if len(results) == 1 else results

    def _run_one(self, example: Sequence[np.ndarray]) -> list[np.ndarray]:
        self.feed(example)
        self.invoke()
        return [
            _dequantized(self._interpreter.get_tensor(detail["index"])[0], port)
            for detail, port in zip(self._outputs, self.outputs, strict=True)
        ]

    def feed(self, example: Sequence[np.ndarray]) -> None:
        """Sets the inputs, one array an input, without a batch dimension, for the next `invoke`; recurrent states start at zero again."""
        if self._problem:
            raise self._problem
        self._interpreter.reset_all_variables()  # an LSTM would go on from the example before: errors of 0.4 in outputs of 0.7
        for array, detail, port in zip(example, self._inputs, self.inputs, strict=True):
            if (1, *array.shape) != port.shape:
                raise DataError(f"{self.name}: takes examples of shape {port.shape[1:]} in batches of {port.shape[0]}, got {array.shape}")
            self._interpreter.set_tensor(detail["index"], _quantized(array, port)[None])

    def delegated(self) -> tuple[tuple[int, ...], ...]:
        """What XNNPACK took: for each of its parts of the main graph the indices of the operations in it, in the file's order.

        Once tensors are allocated, each part stands behind the file's own operations as one DELEGATE, with the tensors that go into it
        and come out of it; what lies between is the part.
        """
        if self._problem:
            raise self._problem
        nodes = self._interpreter._get_ops_details()
        parts = [node for node in nodes if node["op_name"] == "DELEGATE"]
        makers = {int(tensor): node for node in nodes if node["op_name"] != "DELEGATE" for tensor in node["outputs"]}
        makers.pop(-1, None)  # stands for an input or output that is left out
        return tuple(_between(part, makers) for part in parts)

    def invoke(self) -> None:
        """Runs once on what was fed."""
        try:
            self._interpreter.invoke()
        except (RuntimeError, ValueError, MemoryError) as error:
            raise ArtifactError(f"{self.name}: {version()} failed while running it ({error}); convert it to another format") from error


def _between(part: dict[str, Any], makers: dict[int, dict[str, Any]]) -> tuple[int, ...]:
    """The indices of the operations from a part's outputs back to its inputs."""
    known, found, wanted = set(map(int, part["inputs"])), set(), list(map(int, part["outputs"]))
    while wanted:
        tensor = wanted.pop()
        if tensor in makers and tensor not in known:
            known.add(tensor)
            found.add(makers[tensor]["index"])
            wanted += map(int, makers[tensor]["inputs"])
    return tuple(sorted(found))


@contextlib.contextmanager
def _first_use_quiet() -> Iterator[None]:
    """Without the line about the XNNPACK delegate that a process's first interpreter writes to stderr."""
    global _used
    if _used:
        yield
        return
    with backend.stderr_held_back():
        yield
    _used = True


def version() -> str:
    """The runtime's name and version, e.g. "LiteRT 2.3.0"."""
    return f"LiteRT {importlib.metadata.version('ai-edge-litert')}"


def _port(detail: dict[str, Any]) -> Port:
    scale, zero_point = detail["quantization"]
    shape = tuple(int(size) for size in detail["shape"])
    return Port(detail["name"], shape, np.dtype(detail["dtype"]).name, float(scale) or None, int(zero_point))


def _quantized(array: np.ndarray, port: Port) -> np.ndarray:
    dtype = np.dtype(port.dtype)
    if port.scale is None or array.dtype == dtype:
        return array.astype(dtype, copy=False)
    limits = np.iinfo(dtype)
    return np.clip(np.rint(array / np.float32(port.scale)) + port.zero_point, limits.min, limits.max).astype(dtype)


def _dequantized(array: np.ndarray, port: Port) -> np.ndarray:
    if port.scale is None:
        return array.astype(np.float32)
    return (array.astype(np.float32) - port.zero_point) * np.float32(port.scale)
