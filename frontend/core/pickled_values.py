"""Constructors of the values that scripts pickle beside weights, for `pickles.read_pickle`.

They cover containers, paths, parsed arguments, and numbers and arrays of numpy. Each builds its
value from checked arguments: numpy's own functions trust a pickle's types, and would follow
pointers that a file chooses.
"""

from __future__ import annotations

import math
from argparse import Namespace
from collections.abc import Iterable, Mapping
from pathlib import PurePath, PurePosixPath, PureWindowsPath
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lgir.frontend.core.pickles import Constructor, PickleError, Unfinished, hashable

_DTYPE_KINDS: Final = "?bBhHiIlLqQefdFD"
_DTYPES: Final = {np.dtype(kind).str[1:] for kind in _DTYPE_KINDS}
"""Names of numbers, such as "f4"; text is "U" or "S" with its length."""

_LONGEST_TEXT: Final = 1000
"""Characters of the longest text in an array."""


class _DType(Unfinished):
    """A dtype of numpy: numbers, text, or objects that the pickle holds themselves."""

    def __init__(self, name: Any, *_: Any) -> None:
        kind, length = (name[:1], name[1:]) if isinstance(name, str) else ("", "")
        text = kind in "US" and length.isdecimal() and 0 < len(length) < 5
        if name not in ("O8", *_DTYPES) and not (text and int(length) <= _LONGEST_TEXT):
            raise PickleError("holds an array of numpy that is not of numbers or text")
        super().__init__()
        self.dtype = np.dtype(name)

    def finish(self, state: Any) -> np.dtype[Any]:
        order = state[1]
        if order not in ("<", ">", "|", "="):
            raise PickleError("holds a dtype of numpy with an unknown byte order")
        dtype: np.dtype[Any] = self.dtype.newbyteorder(order)
        return dtype


class _Array(Unfinished):
    """An array of numpy, whose shape, dtype and bytes follow as its state."""

    def finish(self, state: Any) -> npt.NDArray[Any]:
        _, shape, dtype, column_major, content = state
        return array_from(content, dtype, shape, "F" if column_major else "C")


def array_from(content: Any, dtype: Any, shape: Any, order: str = "C") -> npt.NDArray[Any]:
    """Return an array over the bytes `content`, or over a list of objects.

    Raises PickleError if shape, dtype and content disagree.
    """
    if not isinstance(dtype, np.dtype) or not isinstance(shape, tuple) or order not in ("C", "F"):
        raise PickleError("holds a damaged array of numpy")
    if any(not isinstance(n, int) or n < 0 for n in shape):
        raise PickleError("holds an array of numpy with a damaged shape")
    if dtype.hasobject:
        if not isinstance(content, list) or len(content) != math.prod(shape):
            raise PickleError("holds an array of objects with another number of them")
        flat = np.empty(len(content), object)
        flat[:] = content
    elif isinstance(content, bytes) and len(content) == math.prod(shape) * dtype.itemsize:
        flat = np.frombuffer(content, dtype)
    else:
        raise PickleError("holds an array of numpy with another number of bytes")
    return flat.reshape(shape, order="F" if order == "F" else "C")


def _scalar(dtype: Any, content: Any) -> Any:
    """Return a number of numpy."""
    return array_from(content, dtype, (1,))[0]


def _from_buffer(content: Any, dtype: Any, shape: Any, order: Any) -> npt.NDArray[Any]:
    return array_from(content, dtype, shape, order)


def _encoded(text: Any, encoding: Any) -> bytes:
    """Return bytes that protocol 2 writes as text, one character per byte."""
    if encoding not in ("latin1", "latin-1") or not isinstance(text, str):
        raise PickleError("holds text in another encoding than latin-1")
    return text.encode("latin-1")


def _mapping(items: Any = ()) -> dict[Any, Any]:
    """Return a dict of a dict's items or of pairs."""
    pairs = items.items() if isinstance(items, Mapping) else items
    return {hashable(key): value for key, value in pairs}


def _default_mapping(factory: Any = None, items: Any = ()) -> dict[Any, Any]:
    """Return a dict without the default: no factory is ever called."""
    return _mapping(items)


def _set(items: Iterable[Any] = ()) -> set[Any]:
    return set(map(hashable, items))


def _namespace(*_: Any) -> Namespace:
    return Namespace()


def _posix_path(*parts: str) -> PurePath:
    return PurePosixPath(*parts)


def _windows_path(*parts: str) -> PurePath:
    return PureWindowsPath(*parts)


def _bytes(content: Any = b"", encoding: Any = None) -> bytes:
    if encoding is not None:
        return _encoded(content, encoding)
    if not isinstance(content, bytes):  # a number would be a length
        raise PickleError("holds a bytearray of no bytes")
    return content


def _complex(real: float, imaginary: float) -> complex:
    return complex(real, imaginary)


def _never(*_: Any) -> Any:
    raise PickleError("calls a type that is only named")


_PATH_MODULES: Final = ("pathlib", "pathlib._local")

_PATHS: Final[dict[str, Constructor]] = {
    "Path": _posix_path,
    "PosixPath": _posix_path,
    "PurePath": _posix_path,
    "PurePosixPath": _posix_path,
    "PureWindowsPath": _windows_path,
    "WindowsPath": _windows_path,
}

_CONTAINERS: Final[dict[str, Constructor]] = {
    "argparse.Namespace": _namespace,
    "builtins.bytearray": _bytes,
    "builtins.bytes": _bytes,
    "builtins.complex": _complex,
    "builtins.set": _set,
    "builtins.frozenset": lambda items=(): frozenset(_set(items)),
    "collections.Counter": _mapping,
    "collections.OrderedDict": _mapping,
    "collections.defaultdict": _default_mapping,
    "_codecs.encode": _encoded,
    **{f"builtins.{kind}": _never for kind in ("dict", "float", "int", "list", "str", "bool")},
    **{f"{module}.{name}": build for module in _PATH_MODULES for name, build in _PATHS.items()},
    **{
        f"{module}.AttributeDict": _mapping
        for module in (
            "lightning.fabric.utilities.data",
            "lightning_fabric.utilities.data",
            "pytorch_lightning.utilities.parsing",
        )
    },
}

_NUMPY_CORE: Final[dict[str, Constructor]] = {
    "multiarray._reconstruct": lambda *_: _Array(),
    "multiarray.scalar": _scalar,
    "numeric._frombuffer": _from_buffer,
}

_NUMPY: Final[dict[str, Constructor]] = {
    "numpy.dtype": _DType,
    "numpy.ndarray": _never,
    **{
        f"numpy.{core}.{name}": build
        for core in ("core", "_core")
        for name, build in _NUMPY_CORE.items()
    },
}

PLAIN_VALUES: Final[dict[str, Constructor]] = {**_CONTAINERS, **_NUMPY}
"""The constructors by the dotted names under which Python and numpy pickle them."""
