"""Read the files that torch.save writes, without torch and without running anything.

Since torch 1.6 a file is a zip archive: `data.pkl` is a pickle whose tensors refer to storages, the
members `data/<key>`. Before that it was a row of pickles with the bytes of the storages behind
them. A tensor is read as a view of the bytes of the file.
"""

from __future__ import annotations

import io
import math
import struct
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lgir.errors import FormatError
from lgir.frontend.core.elements import ELEMENTS
from lgir.frontend.core.pickled_values import PLAIN_VALUES
from lgir.frontend.core.pickles import (
    Constructor,
    Global,
    PickleError,
    UnknownGlobalError,
    read_pickle,
)

EXPANSION: Final = 8
"""All tensors of a file have at most this many bytes per byte of the file, and `SLACK` besides.

Tensors may share a storage, repeat its elements by strides of 0, or be sparse, so that a small file
could stand for any number of bytes.
"""

SLACK: Final = 1 << 24

TORCHSCRIPT: Final = (
    "TorchScript does not keep the layers' arguments; lift the module that was scripted, or its "
    "state_dict with an architecture"
)

EXPORTED: Final = (
    "an exported program (.pt2 of torch.export), which keeps no layers; lift the module that was "
    "exported, or save its state_dict with torch.save; or name the file .pt2 and pass "
    "allow_pickle=True, if you trust where it is from"
)

_QUANTIZED: Final = "holds quantized tensors; save the state_dict of the float model"
_NESTED: Final = "holds nested tensors, which are no weights of layers; save ordinary tensors"
_META: Final = "its tensors are on torch's meta device and hold no weights; load them first"
_COMPRESSED: Final = (
    "its members are compressed, which torch.save never does; unpack it and pack it with zip -0, "
    "or save it again with torch.save"
)

_MAGIC: Final = 0x1950A86A20F9469CFC6C
"""The first value in a file of the form before torch 1.6."""

_STORAGES: Final = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
    "storage.UntypedStorage": "uint8",
}
"""The element of each class of storages; names are within the module torch."""

_QUANTIZED_STORAGES: Final = ("QUInt8Storage", "QInt8Storage", "QInt32Storage", "QUInt4x2Storage")

_MOST_AXES: Final = 64

Array = npt.NDArray[Any]


class _RefusedError(Exception):
    """A sound file that cannot be lifted; the message says what to do instead."""


def read_torch_file(data: bytes, label: str) -> Any:
    """Return what torch.save wrote, with tensors as numpy arrays.

    Numpy lacks bfloat16 and 8-bit floats; they become float32. Sparse tensors become dense. Time
    and memory are linear in the bytes of the file, see `EXPANSION` and `pickles.read_pickle`.

    Args:
        data: the bytes of the file.
        label: name of the file in errors.

    Raises:
        UnknownGlobalError: the file holds pickled objects that are no plain values.
        FormatError: the file is damaged, or of another kind.
    """
    try:
        return _read_archive(data) if data[:2] == b"PK" else _read_legacy(data)
    except UnknownGlobalError:
        raise
    except _RefusedError as error:
        raise FormatError(f"{label}: {error}") from error
    except (
        ArithmeticError,
        LookupError,
        MemoryError,
        NotImplementedError,
        TypeError,
        ValueError,
        struct.error,
        zipfile.BadZipFile,
    ) as error:
        raise FormatError(
            f"{label}: truncated or corrupt PyTorch file ({error}); save it again"
        ) from error


@dataclass(frozen=True)
class _Storage:
    """The bytes that tensors are views of, and the name of their element."""

    element: str
    content: bytes | memoryview
    big_endian: bool = False


class _Tensors:
    """Constructors of tensors over storages; they share one limit of bytes."""

    def __init__(self, file_bytes: int) -> None:
        self._left = EXPANSION * file_bytes + SLACK
        self.constructors: dict[str, Constructor] = {
            **PLAIN_VALUES,
            **_NAMES,
            "torch._utils._rebuild_tensor": self.tensor,
            "torch._utils._rebuild_tensor_v2": self.tensor,
            "torch._utils._rebuild_tensor_v3": self.tensor_of_type,
            "torch._utils._rebuild_parameter": _first,
            "torch._utils._rebuild_parameter_with_state": _first,
            "torch._utils._rebuild_device_tensor_from_numpy": _first,
            "torch._utils._rebuild_device_tensor_from_cpu_tensor": _first,
            "torch._utils._rebuild_sparse_tensor": self.sparse,
            "torch._tensor._rebuild_from_type_v2": self.of_subclass,
        }

    def tensor(
        self,
        storage: _Storage,
        offset: int,
        shape: tuple[int, ...],
        strides: tuple[int, ...],
        requires_grad: bool = False,
        hooks: Any = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Array:
        return self._view(storage, storage.element, offset, shape, strides, metadata)

    def tensor_of_type(
        self,
        storage: _Storage,
        offset: int,
        shape: tuple[int, ...],
        strides: tuple[int, ...],
        requires_grad: bool,
        hooks: Any,
        dtype: Global,
        metadata: Mapping[str, Any] | None = None,
    ) -> Array:
        element = dtype.name.removeprefix("torch.")
        return self._view(storage, element, offset, shape, strides, metadata)

    def _view(
        self,
        storage: _Storage,
        name: str,
        offset: int,
        shape: tuple[int, ...],
        strides: tuple[int, ...],
        metadata: Mapping[str, Any] | None,
    ) -> Array:
        _check_sizes((offset,))
        _check_sizes(shape)
        _check_sizes(strides)
        element = ELEMENTS[name]
        self._claim(math.prod(shape) * element.bytes_in_memory)
        stored = element.stored.newbyteorder(">") if storage.big_endian else element.stored
        steps = [n * stored.itemsize for n in strides]
        if math.prod(shape):  # numpy checks that all elements lie inside the storage
            view: Array = np.ndarray(
                shape, stored, storage.content, offset * stored.itemsize, steps
            )
        else:
            view = np.empty(shape, stored)
        array = element.convert(view.astype(element.stored, copy=False))
        marks = metadata or {}
        array = array.conj() if marks.get("conj") else array
        return -array if marks.get("neg") else array

    def sparse(self, layout: str, parts: tuple[Any, ...]) -> Array:
        """Return the dense array of a sparse tensor in coordinates or in compressed rows."""
        if layout == "torch.sparse_coo":
            places, values, shape = parts[:3]
        elif layout == "torch.sparse_csr" and len(parts[3]) == 2:
            starts, columns, values, shape = parts[:4]
            if starts[0] != 0 or starts[-1] != len(columns) or (np.diff(starts) < 0).any():
                raise PickleError("holds a sparse tensor of damaged rows")
            rows = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
            places = np.stack([rows, columns])
        else:
            raise _RefusedError(f"holds sparse tensors of layout {layout[:40]}; save to_dense()")
        _check_sizes(shape)
        self._claim(math.prod(shape) * values.itemsize)
        if (places < 0).any():
            raise PickleError("holds a sparse tensor with a negative place")
        dense = np.zeros(shape, values.dtype)
        np.add.at(dense, tuple(places), values)
        return dense

    def of_subclass(self, function: Global, kind: Any, arguments: Any, state: Any) -> Any:
        """Return the tensor that a subclass of tensors wraps."""
        return self.constructors[function.name](*arguments)

    def _claim(self, count: int) -> None:
        self._left -= count
        if self._left < 0:
            raise _RefusedError(
                f"its tensors have more than {EXPANSION} times the bytes of the file; save "
                "tensor.clone() of tensors that share or repeat their elements"
            )


def _check_sizes(sizes: tuple[int, ...]) -> None:
    if len(sizes) > _MOST_AXES or any(type(n) is not int or n < 0 for n in sizes):
        raise PickleError("holds a tensor of a damaged shape")


def _first(data: Any, *_: Any) -> Any:
    return data


def _refuse(message: str) -> Constructor:
    def refuse(*_: Any) -> Any:
        raise _RefusedError(message)

    return refuse


def _only_named(*_: Any) -> Any:
    raise PickleError("calls a type that is only named")


_NAMES: Final[dict[str, Constructor]] = {
    **{f"torch.{name}": _only_named for name in (*ELEMENTS, *_STORAGES, *_QUANTIZED_STORAGES)},
    "torch.nn.parameter.Parameter": _first,
    "torch.nn.parameter.Buffer": _first,
    "torch.Tensor": _only_named,
    "torch.Size": lambda sizes=(): tuple(sizes),
    "torch.device": lambda *parts: parts,
    "torch.serialization._get_layout": _first,
    "torch._utils._rebuild_qtensor": _refuse(_QUANTIZED),
    "torch._utils._rebuild_nested_tensor": _refuse(_NESTED),
    "torch._utils._rebuild_meta_tensor_no_storage": _refuse(_META),
}


def _persistent(
    content: Callable[[str], bytes | memoryview], big_endian: bool
) -> Callable[[Any], _Storage]:
    """Return what resolves persistent ids to storages; `content` gives the bytes of a key."""
    storages: dict[str, _Storage] = {}

    def resolve(reference: Any) -> _Storage:
        what, kind, key = reference[:3]
        if what != "storage" or not isinstance(kind, Global) or not isinstance(key, str):
            raise PickleError("refers to something else than a storage")
        name = kind.name.removeprefix("torch.")
        if name in _QUANTIZED_STORAGES:
            raise _RefusedError(_QUANTIZED)
        if key not in storages:
            storages[key] = _Storage(_STORAGES[name], content(key), big_endian)
        return storages[key]

    return resolve


# Archives, since torch 1.6


def _read_archive(data: bytes) -> Any:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {info.filename: info for info in archive.infolist()}
    root = next((n.removesuffix("data.pkl") for n in members if _is_root(n)), None)
    if any(n.endswith(("/constants.pkl", "/archive_format")) for n in members) or root is None:
        raise _RefusedError(_other_archive(members))
    content = memoryview(data)

    def member(name: str) -> memoryview:
        return _stored_bytes(content, members[root + name])

    order = bytes(member("byteorder")) if f"{root}byteorder" in members else b"little"
    resolve = _persistent(lambda key: member(f"data/{key}"), order == b"big")
    constructors = _Tensors(len(data)).constructors
    value, _ = read_pickle(bytes(member("data.pkl")), 0, constructors, resolve)
    return value


def _is_root(name: str) -> bool:
    return name == "data.pkl" or (name.endswith("/data.pkl") and name.count("/") == 1)


def _other_archive(members: Mapping[str, Any]) -> str:
    """Say what an archive without a checkpoint's members is, and what to do."""
    last = {name.rpartition("/")[2] for name in members}
    if {"archive_format", "serialized_exported_program.json"} & last:
        return EXPORTED
    if "constants.pkl" in last:
        return TORCHSCRIPT
    return "a zip archive that torch.save did not write; save the state_dict with torch.save"


def _stored_bytes(data: memoryview, info: zipfile.ZipInfo) -> memoryview:
    """Return the bytes of a member, which must be stored as they are.

    Checksums are not compared, since torch can be told to write none.
    """
    if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
        raise _RefusedError(_COMPRESSED)
    start = info.header_offset
    if start < 0:
        raise PickleError("has a member outside the archive")
    signature, name, extra = struct.unpack_from("<4s22xHH", data, start)
    start += 30 + name + extra
    if signature != b"PK\3\4" or start + info.file_size > len(data):
        raise PickleError("has a member outside the archive")
    return data[start : start + info.file_size]


# Rows of pickles, before torch 1.6


def _read_legacy(data: bytes) -> Any:
    first, position = read_pickle(data, 0, _Tensors(len(data)).constructors)
    if first != _MAGIC:
        raise PickleError("a pickle that torch.save did not write")
    for _ in ("protocol", "system"):
        _, position = read_pickle(data, position, PLAIN_VALUES)
    # The storages follow behind the pickle that refers to them, so it is read twice.
    elements: dict[str, str] = {}

    def note(reference: Any) -> _Storage:
        storage = _persistent(lambda key: b"", False)(reference)
        elements[reference[2]] = storage.element
        return storage

    without_tensors = {name: _nothing for name in _Tensors(0).constructors if "rebuild" in name}
    _, behind = read_pickle(data, position, {**PLAIN_VALUES, **_NAMES, **without_tensors}, note)
    keys, place = read_pickle(data, behind, PLAIN_VALUES)
    contents: dict[str, memoryview] = {}
    for key in keys:
        (count,) = struct.unpack_from("<q", data, place)
        size = count * ELEMENTS[elements[key]].stored.itemsize
        place += 8
        if count < 0 or place + size > len(data):
            raise PickleError("ends within a storage")
        contents[key] = memoryview(data)[place : place + size]
        place += size
    resolve = _persistent(contents.__getitem__, False)
    value, _ = read_pickle(data, position, _Tensors(len(data)).constructors, resolve)
    return value


def _nothing(*_: Any) -> None:
    return None
