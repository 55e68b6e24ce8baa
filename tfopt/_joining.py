"""Two .tflite files as one: what the first puts out goes into the second, whose own operations and numbers stay as they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import _flatbuffer, _metadata

_ABSENT = -1  # stands in a list of tensors for an input or output that is left out


@dataclass(frozen=True)
class Output:
    """A file's output: its name in the signature, its shape with the batch dimension, its dtype, and where it is quantized scale and zero
    point, else None and 0.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: float | None
    zero_point: int


def outputs_of(content: bytes) -> list[Output]:
    """Of a .tflite with a signature, in the order of that."""
    model = _flatbuffer.schema().ModelT.InitFromPackedBuf(content, 0)
    kinds = {value: name.lower() for name, value in vars(_flatbuffer.schema().TensorType).items() if isinstance(value, int)}
    found = []
    for port in model.signatureDefs[0].outputs:
        tensor = model.subgraphs[0].tensors[port.tensorIndex]
        known = tensor.quantization is not None and tensor.quantization.scale is not None and len(tensor.quantization.scale)
        scale, zero = (float(tensor.quantization.scale[0]), int(tensor.quantization.zeroPoint[0])) if known else (None, 0)
        found.append(Output(port.name.decode(), tuple(map(int, tensor.shape)), kinds[tensor.type], scale, zero))
    return found


def joined(first: bytes, second: bytes, order: Sequence[str] = ()) -> bytes:
    """The file that runs `first` and gives its outputs to the inputs of `second` that have the same names in their signatures.

    It takes the inputs of `first`, puts out the outputs of `second` under its signature, and keeps its metadata. `order` names the outputs
    in another order than that of `second`.
    """
    read = _flatbuffer.schema().ModelT.InitFromPackedBuf
    front, back = read(first, 0), read(second, 0)
    main, added = front.subgraphs[0], back.subgraphs[0]
    kinds = front.operatorCodes or []
    made = _by_name(front.signatureDefs[0].outputs)
    bound = {tensor: made[name] for name, tensor in _by_name(back.signatureDefs[0].inputs).items()}

    def moved(tensor: int) -> int:
        return tensor if tensor == _ABSENT else bound.get(tensor, tensor + len(main.tensors))

    _shift_buffers(back, len(front.buffers))
    for graph in back.subgraphs:
        for operator in graph.operators or ():
            operator.opcodeIndex += len(kinds)
            _shift_graphs(operator, len(front.subgraphs) - 1)
    for operator in added.operators:
        for field in ("inputs", "outputs", "intermediates"):
            setattr(operator, field, _each(moved, getattr(operator, field)))
    signature = back.signatureDefs[0]
    signature.inputs = front.signatureDefs[0].inputs
    for port in signature.outputs:
        port.tensorIndex = moved(port.tensorIndex)
    outputs = {port.name.decode(): port.tensorIndex for port in signature.outputs}
    main.outputs = np.array([outputs[name] for name in order], np.int32) if order else _each(moved, added.outputs)
    main.tensors = [*main.tensors, *added.tensors]
    main.operators = [*(main.operators or ()), *added.operators]
    back.operatorCodes = [*kinds, *back.operatorCodes]
    back.buffers = [*front.buffers, *back.buffers]
    back.subgraphs = [main, *front.subgraphs[1:], *back.subgraphs[1:]]
    return _metadata.packed(back)


def _by_name(ports: list[Any]) -> Mapping[bytes, int]:
    return {port.name: port.tensorIndex for port in ports}


def _each(function: Callable[[int], int], indices: Any) -> Any:
    return None if indices is None else np.array([function(int(index)) for index in indices], np.int32)


def _shift_buffers(model: Any, by: int) -> None:
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            tensor.buffer += by
    for entry in model.metadata or ():
        entry.buffer += by


def _shift_graphs(operator: Any, by: int) -> None:
    """Moves the numbers of the graphs that an operation calls, such as a loop's body: the main one is shared, the others stand behind."""
    for options in (operator.builtinOptions, operator.builtinOptions2):
        for field, value in vars(options).items() if options else ():
            if field.lower().endswith("subgraphindex"):
                setattr(options, field, value + by)
