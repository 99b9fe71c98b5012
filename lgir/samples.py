"""The checks that samples pass on their way into an executable, and their conversion to numpy."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from lgir.errors import InputError
from lgir.ir.graph import Graph
from lgir.ir.nodes import Reshape, Threshold
from lgir.ir.types import Value
from lgir.packed import Packed

Array = npt.NDArray[Any]


def check_samples(
    inputs: Sequence[Value], samples: Sequence[Any], *, packed: bool = False
) -> tuple[list[Array], int]:
    """Return one checked array per graph input, and the number N of samples.

    The arrays are (N, *shape): bool, uint8 or float32 for bit inputs, uint8 for u8 and float32 for
    f32. Values are checked here only if a dtype conversion looks at them anyway; an executable
    checks the others with `check_bits` and `check_floats` or in its own code.

    Args:
        inputs: the inputs of the graph.
        samples: one array, tensor or `Packed` per input.
        packed: whether packed samples stay packed, as words uint64 (N, words), rather than being
            unpacked to bool.

    Raises:
        InputError: the number of arrays, a shape, a dtype or a converted value is wrong.
    """
    if len(samples) != len(inputs):
        names = ", ".join(f"%{v.name}" for v in inputs)
        raise InputError(f"the graph takes {len(inputs)} arrays ({names}), {len(samples)} given")
    arrays = [_check_sample(v, x, packed) for v, x in zip(inputs, samples, strict=True)]
    counts = {len(a) for a in arrays}
    if len(counts) != 1:
        raise InputError(f"input arrays differ in batch size: {[len(a) for a in arrays]}")
    return arrays, counts.pop()


def _check_sample(value: Value, x: Any, packed: bool) -> Array:
    if isinstance(x, Packed):
        return _check_packed(value, x, packed)
    array = _as_array(value, x)
    if array.ndim != len(value.shape) + 1 or array.shape[1:] != value.shape:
        raise InputError(
            f"input %{value.name} expects (N, {', '.join(map(str, value.shape))}), got "
            f"{array.shape}" + (" (add a batch axis)" if array.shape == value.shape else "")
        )
    if array.dtype.kind not in "biuf":
        raise InputError(f"input %{value.name} has dtype {array.dtype}; give real numbers")
    if value.dtype == "bit":
        if array.dtype in (np.bool_, np.uint8, np.float32):
            return array
        check_bits(value, array)
        return array.astype(np.uint8)
    if value.dtype == "u8":
        return _as_bytes(value, array)
    return _round_up(array) if array.dtype.kind == "f" else array.astype(np.float32)


def _round_up(array: Array) -> npt.NDArray[np.float32]:
    """Return the least float32 that is not below each float; those above all of them are infinite.

    It exceeds a float32 threshold exactly if the number itself does, which the nearest float32 does
    not: float32(0.7) is not above itself, and the double 0.7 is above float32(0.7).
    """
    if array.dtype == np.float32:
        return array
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        nearest = array.astype(np.float32)
        if array.dtype.itemsize < 4:  # a float16 is a float32
            return nearest
        above = np.nextafter(nearest, np.float32(np.inf))
        return np.where(nearest < array, above, nearest)


def _as_bytes(value: Value, array: Array) -> npt.NDArray[np.uint8]:
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind not in "iu":
        raise InputError(
            f"input %{value.name} takes integers 0..255 (dtype uint8), got {array.dtype}"
        )
    if array.size and (array.min() < 0 or array.max() > 255):
        raise InputError(f"input %{value.name} takes 0..255, got {array.min()}..{array.max()}")
    return array.astype(np.uint8)


def _check_packed(value: Value, x: Packed, packed: bool) -> Array:
    if value.dtype != "bit" or x.shape != value.shape:
        raise InputError(
            f"input %{value.name} is {value.type}, got packed samples of shape {x.shape}"
        )
    return x.words if packed else x.unpack()


def _as_array(value: Value, x: Any) -> Array:
    """Return `x` as a numpy array, without a copy if possible."""
    if isinstance(x, np.ma.MaskedArray):
        raise InputError(f"input %{value.name} is a masked array; fill what is masked first")
    try:
        if is_tensor(x):
            torch = sys.modules["torch"]
            x = x.detach().cpu()
            return np.asarray((x.float() if x.dtype == torch.bfloat16 else x).numpy())
        return np.asarray(x)
    except Exception as error:  # sparse, on no device, ragged, of a class that cannot be converted
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(
            f"input %{value.name}: {reason} (give a dense tensor of real numbers)"
        ) from None


def is_tensor(x: Any) -> bool:
    """Return whether `x` is a torch tensor, without importing torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(x, torch.Tensor)


def check_values(inputs: Sequence[Value], samples: Sequence[Array]) -> None:
    """Check the values that `check_samples` left to the executable.

    Args:
        samples: one array per input, as `check_samples` returns them. Packed words need no check.

    Raises:
        InputError: names the input, the position and the value of the first bad element.
    """
    for value, array in zip(inputs, samples, strict=True):
        if value.dtype == "bit" and array.dtype != np.uint64:
            check_bits(value, array)
        elif value.dtype == "f32":
            check_floats(value, array)


def unread_numbers(graph: Graph) -> list[int]:
    """Return the places of the f32 inputs that no threshold of `graph` reads.

    Compiled code checks the others while it compares them.
    """
    origin = {value.name: value.name for value in graph.inputs}
    read = set()
    for node in graph.nodes:
        first = node.inputs[0] if node.inputs else ""
        if isinstance(node.op, Threshold):
            read.add(origin.get(first))
        elif isinstance(node.op, Reshape) and first in origin:
            origin[node.output] = origin[first]
    return [
        i for i, value in enumerate(graph.inputs) if value.dtype == "f32" and value.name not in read
    ]


def refuse_samples(inputs: Sequence[Value], samples: Sequence[Array]) -> NoReturn:
    """Raise the InputError for samples in which compiled code met a bad value."""
    check_values(inputs, samples)
    raise InputError("the samples changed while they were read")


def check_bits(value: Value, array: Array) -> None:
    """Raise InputError if the samples (N, *shape) of a bit input hold anything but 0 and 1."""
    bad = (array != 0) & (array != 1)
    if bad.any():
        index = tuple(int(i) for i in np.argwhere(bad)[0])
        raise InputError(
            f"input %{value.name} takes bits; found {array[index]} at {list(index)} (threshold the "
            "data first, or lift the model with its thresholds)"
        )


def check_floats(value: Value, array: Array) -> None:
    """Raise InputError if the samples (N, *shape) of an f32 input hold NaN.

    No threshold can order NaN. Infinite numbers exceed what they exceed.
    """
    bad = np.isnan(array)
    if bad.any():
        index = [int(i) for i in np.argwhere(bad)[0]]
        raise InputError(f"input %{value.name} holds NaN at {index}; clean the data first")
