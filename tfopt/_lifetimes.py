"""How much memory the activations of a .tflite need, computed from when each is made and when it is last read.

Nothing is run: the runtime does not tell how large its memory is. Each activation has its own place here. The interpreter may need less
(it adds in place) or more (scratch memory of its kernels), and XNNPACK plans its own. Weights are no activations, float16 ones that
a DEQUANTIZE widens included.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from .measures import Reader

ALIGNMENT = 64  # bytes; where the interpreter lets a tensor begin
_BODIES = ("condSubgraphIndex", "bodySubgraphIndex", "thenSubgraphIndex", "elseSubgraphIndex", "initSubgraphIndex")


class Life(NamedTuple):
    """An activation: its bytes, the first and last operation at which it is held, and whether that is the whole run."""

    size: int
    first: int
    last: int
    always: bool


def memory(readers: Sequence[Reader]) -> tuple[int, int] | None:
    """The most bytes of activations that are alive at once, and the size of one piece of memory that a planner puts them in.

    The planner is the interpreter's: what stays for the whole run comes first, then the largest, each into the smallest gap that fits.
    What the bodies of loops and branches need comes on top. None where dimensions other than the batch are known only when it runs.
    """
    planned = [_lives(reader) for reader in readers]
    if None in planned:
        return None
    return _peak(readers, planned, 0), sum(map(_arena, planned))


def _lives(reader: Reader) -> list[Life] | None:
    """Every activation of a graph; None where a size is open. Inputs stay until the end, as the interpreter keeps them."""
    graph, end = reader.graph, len(reader.nodes)
    first = {index: place for place, node in reversed([*enumerate(reader.nodes)]) for index in node.outputs}
    last = {index: place for place, node in enumerate(reader.nodes) for index in (*node.inputs, *node.outputs)}
    kept = {*graph.inputs, *(index for index, tensor in enumerate(graph.tensors) if tensor.variable and index in last)}
    lives = []
    for index in sorted({*first, *kept} - {-1}):
        if reader.constant(index) is not None:
            continue
        rows = reader.rows(index)
        if rows is None:
            return None
        held = (0, end) if index in kept else (first[index], end if index in graph.outputs else last[index])
        lives.append(Life(int(graph.tensors[index].bytes * rows), *held, index in kept))
    return lives


def _peak(readers: Sequence[Reader], planned: Sequence[list[Life]], graph: int) -> int:
    nodes = readers[graph].nodes
    changes = [0] * (len(nodes) + 2)
    for life in planned[graph]:
        changes[life.first] += life.size
        changes[life.last + 1] -= life.size
    bodies = [max((_peak(readers, planned, body) for body in _bodies(node.options)), default=0) for node in nodes]
    return max(map(sum, zip(itertools.accumulate(changes), [*bodies, 0, 0], strict=True)))


def _bodies(options: object) -> Iterable[int]:
    return [getattr(options, name) for name in _BODIES if hasattr(options, name)]


def _arena(lives: Iterable[Life]) -> int:
    placed: list[tuple[int, Life]] = []  # by offset
    for life in sorted(lives, key=lambda life: (not life.always, -life.size, life.first)):
        meeting = [(offset, other) for offset, other in placed if other.first <= life.last and life.first <= other.last]
        placed.append((_offset(life.size, meeting), life))
        placed.sort(key=lambda place: place[0])
    return max((offset + life.size for offset, life in placed), default=0)


def _offset(size: int, meeting: Iterable[tuple[int, Life]]) -> int:
    """Where the smallest gap that fits begins, or the end."""
    gaps, end = [], 0
    for offset, other in meeting:
        start = _aligned(end)
        if start + size <= offset:
            gaps.append((offset - start, start))
        end = max(end, offset + other.size)
    return min(gaps)[1] if gaps else _aligned(end)


def _aligned(offset: int) -> int:
    return -(-offset // ALIGNMENT) * ALIGNMENT
