"""Read safetensors files: a length, a header in JSON, and the bytes of the tensors."""

from __future__ import annotations

import json
import math
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lgir.errors import FormatError
from lgir.frontend.core.elements import ELEMENTS

_ELEMENTS: Final = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "F8_E5M2": "float8_e5m2",
    "F8_E4M3": "float8_e4m3fn",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U64": "uint64",
    "U32": "uint32",
    "U16": "uint16",
    "U8": "uint8",
    "BOOL": "bool",
    "C64": "complex64",
}
"""Elements by the names that headers use."""

_MOST_AXES: Final = 64


def read_safetensors(data: bytes, label: str) -> dict[str, npt.NDArray[Any]]:
    """Return the tensors of a file by name, as views of its bytes.

    Tensors cover the file without overlaps, so that memory is linear in its bytes: at most 4 bytes
    per byte of tensors, for 8-bit floats, and 50 per byte of the header.

    Args:
        data: the bytes of the file.
        label: name of the file in errors.

    Raises:
        FormatError: the file is damaged.
    """
    try:
        return _tensors(data)
    except (ArithmeticError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise FormatError(f"{label}: truncated or corrupt safetensors file ({error})") from error


def _tensors(data: bytes) -> dict[str, npt.NDArray[Any]]:
    start = 8 + int.from_bytes(data[:8], "little")
    if start > len(data):
        raise ValueError(f"its header ends at byte {start:,} of {len(data):,}")
    header = json.loads(data[8:start].decode(), object_pairs_hook=_without_duplicates)
    header.pop("__metadata__", None)
    tensors, end = {}, 0
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        element = ELEMENTS[_ELEMENTS[entry["dtype"]]]
        shape, (begin, following) = entry["shape"], entry["data_offsets"]
        if len(shape) > _MOST_AXES or any(type(n) is not int or n < 0 for n in shape):
            raise ValueError(f"tensor {name[:80]!r} has a damaged shape")
        size = math.prod(shape) * element.stored.itemsize
        if begin != end or following != end + size or start + following > len(data):
            raise ValueError(f"tensor {name[:80]!r} is not where its shape says")
        array = np.frombuffer(data, element.stored, math.prod(shape), start + begin)
        tensors[name] = element.convert(array.reshape(shape))
        end = following
    if start + end != len(data):
        raise ValueError(f"its tensors end at byte {start + end:,} of {len(data):,}")
    return {name: tensors[name] for name in header}


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(pairs)
    if len(unique) != len(pairs):
        raise ValueError("a name stands twice in its header")
    return unique
