"""What a .tflite's name says of its numbers, compared with what is in it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import PurePath

from .results import Measures

# The words by which files are called, and what they promise.
_WORDS = {
    "float32": "float32 fp32 f32",
    "float16": "float16 fp16 f16",
    "bfloat16": "bfloat16 bf16",
    "int16": "int16 i16 a16 16x8",
    "int8": "int8 i8 w8 w8a8 uint8 u8 fullint fullinteger",
    "int4": "int4 i4 w4",
    "quantized": "quant quantized quantised quantize ptq qat dynamic drq",
}
_MEANING = {word: kind for kind, words in _WORDS.items() for word in words.split()}
_SMALL = ("int8", "uint8", "int4", "int2", "int16")


def warnings(name: str, measures: Measures, borders: Sequence[str], *, preprocessing: bool = False) -> tuple[str, ...]:
    """A sentence for each promise of the name that the file does not keep; `borders` are the dtypes of its inputs and outputs.

    In "int8-float32" the second word speaks of the borders. What a file does as its own `preprocessing` is float in any case.
    """
    words = re.split(r"[^a-z0-9]+", PurePath(name).name.removesuffix(".tflite").lower())
    said = {_MEANING[word]: word for word in words if word in _MEANING}
    quantized = said.keys() & {"int16", "int8", "int4", "quantized"}
    sentences = []
    for kind, word in said.items():
        of_borders = quantized and kind.startswith("float")
        kept = _holds("int8", "uint8") if kind == "int8" and preprocessing else _KEPT[kind]
        if not (kind in (*borders, *_weights(measures)) if of_borders else kept(measures)):
            sentences.append(f"the name says {word!r}, but {_truth(measures)}")
    return tuple(sentences)


def _truth(measures: Measures) -> str:
    """What is really there, e.g. "its kernels hold int8 (4), float32 (1), and its operations put out float32 (9)"."""
    weights = Counter(kernel.dtype for kernel in measures.kernels)
    computing = Counter(operation.dtype for operation in measures.operations if operation.kind not in ("QUANTIZE", "DEQUANTIZE"))
    return f"its kernels hold {_counted(weights)}, and its operations put out {_counted(computing)}"


def _counted(counts: Counter) -> str:
    return ", ".join(f"{dtype} ({count})" for dtype, count in counts.most_common()) or "nothing"


def _weights(measures: Measures) -> set[str]:
    return {kernel.dtype for kernel in measures.kernels}


def _is_float32(measures: Measures) -> bool:
    return _weights(measures) <= {"float32"} and not any(operation.dtype in _SMALL for operation in measures.operations)


def _is_float16(measures: Measures) -> bool:
    return "float16" in _weights(measures) and not _weights(measures) & set(_SMALL)


def _is_int8(measures: Measures) -> bool:
    return bool(_weights(measures) & {"int8", "uint8"}) and not measures.float_operations


def _holds(*dtypes: str):
    return lambda measures: bool(_weights(measures) & set(dtypes))


_KEPT = {
    "float32": _is_float32,
    "float16": _is_float16,
    "bfloat16": _holds("bfloat16"),
    "int16": lambda measures: any(operation.dtype == "int16" for operation in measures.operations),
    "int8": _is_int8,
    "int4": _holds("int4", "int2"),
    "quantized": _holds("int8", "uint8", "int4", "int2"),
}
