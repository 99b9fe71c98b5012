"""Read pickles as data: a stack machine that calls nothing which a file names.

A pickle is a program for a stack machine, in which opcodes name functions and call them. This
machine never imports and never calls what a name means. It looks names up in a table of
constructors that build plain values, and refuses any other name. The stack therefore holds data
alone. Opcodes of protocols 2 to 5 are those that Lib/pickletools.py of Python documents.
"""

from __future__ import annotations

import struct
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

Constructor = Callable[..., Any]
"""Build a plain value from the arguments in the pickle; raise PickleError if they are wrong."""


class PickleError(ValueError):
    """A pickle that is damaged, or holds what this machine does not read."""


class UnknownGlobalError(PickleError):
    """A pickle names a class or function that is in no table; `name` is its dotted name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"names {name}")
        self.name = name


@dataclass(frozen=True)
class Global:
    """A known name on the stack: data, which nothing can call but a constructor of the table."""

    name: str


class Unfinished:
    """A value whose content follows in a later opcode, such as an array of numpy.

    Attributes:
        memo_indices: where the memo holds it; the finished value replaces it there.
    """

    def __init__(self) -> None:
        self.memo_indices: list[int] = []

    def finish(self, state: Any) -> Any:
        """Return the value with the content `state`."""
        raise NotImplementedError


_KEYS: Final = (str, int, float, bytes, type(None), Global)

_LONGEST_NAME: Final = 1000
"""Bytes of the longest module or name of a global."""


def read_pickle(
    data: bytes,
    start: int,
    constructors: Mapping[str, Constructor],
    persistent: Callable[[Any], Any] | None = None,
) -> tuple[Any, int]:
    """Return the value of the pickle at `data[start:]`, and the position behind it.

    Time is linear in the bytes of the pickle, and so is memory: at most 300 bytes per byte, for
    empty sets.

    Args:
        data: the bytes of a file.
        start: where the pickle begins.
        constructors: dotted names of classes and functions, with what builds their values.
        persistent: returns the value for a persistent id, as tensors' storages are; None refuses.

    Raises:
        UnknownGlobalError: the pickle names what is not in `constructors`.
        PickleError: the pickle is damaged.
    """
    machine = _Machine(data, start, constructors, persistent)
    try:
        return machine.run(), machine.position
    except PickleError:
        raise
    except (
        ArithmeticError,
        AttributeError,
        LookupError,
        MemoryError,
        RecursionError,
        TypeError,
        ValueError,
        struct.error,
    ) as error:
        raise PickleError(
            f"damaged at byte {machine.position} ({type(error).__name__}: {error})"
        ) from error


class _Machine:
    """The state of the stack machine; each method below `run` is one kind of opcode."""

    def __init__(
        self,
        data: bytes,
        position: int,
        constructors: Mapping[str, Constructor],
        persistent: Callable[[Any], Any] | None,
    ) -> None:
        self.data, self.position = data, position
        self.constructors, self.persistent = constructors, persistent
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        while True:
            code = self.data[self.position]
            self.position += 1
            if code == _STOP:
                return self.stack.pop()
            handler = _HANDLERS.get(code)
            if handler is None:
                raise PickleError(f"opcode {code:#04x} at byte {self.position - 1} is not read")
            handler(self)

    def pop(self) -> Any:
        return self.stack.pop()

    def pop_to_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.marks.pop()
        return items

    def push(self, value: Any) -> None:
        self.stack.append(value)

    # What stands in the pickle itself

    def take(self, count: int) -> bytes:
        part = self.data[self.position : self.position + count]
        if count < 0 or len(part) != count:
            raise PickleError(f"ends within a value of {count} bytes")
        self.position += count
        return part

    def number(self, form: struct.Struct) -> Any:
        (value,) = form.unpack_from(self.data, self.position)
        self.position += form.size
        return value

    def line(self) -> str:
        end = self.data.find(b"\n", self.position, self.position + _LONGEST_NAME)
        if end < 0:
            raise PickleError("has a name without an end")
        text = self.data[self.position : end].decode()
        self.position = end + 1
        return text

    # Containers

    def append(self) -> None:
        item = self.pop()
        _a(list, self.stack[-1]).append(item)

    def extend(self) -> None:
        items = self.pop_to_mark()
        _a(list, self.stack[-1]).extend(items)

    def set_item(self) -> None:
        value, key = self.pop(), self.pop()
        _a(dict, self.stack[-1])[hashable(key)] = value

    def set_items(self) -> None:
        items = self.pop_to_mark()
        _a(dict, self.stack[-1]).update(_pairs(items))

    def add_items(self) -> None:
        items = self.pop_to_mark()
        _a(set, self.stack[-1]).update(map(hashable, items))

    def tuple_of(self, count: int) -> None:
        items = tuple(self.stack[-count:])
        if len(items) != count:
            raise PickleError("takes more values than there are")
        self.stack[-count:] = [items]

    def mark(self) -> None:
        self.marks.append(self.stack)
        self.stack = []

    # The memo

    def put(self, index: int) -> None:
        value = self.memo[index] = self.stack[-1]
        if isinstance(value, Unfinished):
            value.memo_indices.append(index)

    def get(self, index: int) -> None:
        self.push(self.memo[index])

    # Names and what they build

    def find(self, module: str, name: str) -> None:
        full = f"{_RENAMED.get(module, module)}.{name}"
        if full not in self.constructors:
            raise UnknownGlobalError(full)
        self.push(Global(full))

    def call(self) -> None:
        arguments, callee = self.pop(), self.pop()
        self.push(self.constructors[_a(Global, callee).name](*_a(tuple, arguments)))

    def call_with_keywords(self) -> None:
        if self.pop():
            raise PickleError("gives keyword arguments to a constructor")
        self.call()

    def build(self) -> None:
        """Give the value on the stack its state."""
        state, value = self.pop(), self.stack[-1]
        if isinstance(value, Unfinished):
            self.stack[-1] = finished = value.finish(state)
            for index in value.memo_indices:
                if self.memo[index] is value:
                    self.memo[index] = finished
        elif isinstance(value, Namespace):
            vars(value).update({_a(str, key): item for key, item in _a(dict, state).items()})
        elif not isinstance(value, dict):  # attributes of a dict are no part of its content
            raise PickleError(f"gives a state to a {type(value).__name__}")

    def persist(self) -> None:
        if self.persistent is None:
            raise PickleError("refers to data that is not here")
        self.push(self.persistent(self.pop()))


def _a(kind: type, value: Any) -> Any:
    """Return `value`; raise PickleError if it is no `kind`."""
    if not isinstance(value, kind):
        raise PickleError(f"has a {type(value).__name__} in place of a {kind.__name__}")
    return value


def hashable(value: Any) -> Any:
    """Return a key of a dict or set, a scalar; raise PickleError for any other value.

    Hashes of nested tuples take time that is exponential in their depth, those of long integers are
    computed anew at each use, and tuples of integers are easily made to collide.
    """
    if not isinstance(value, _KEYS) or (isinstance(value, int) and value.bit_length() > 64):
        raise PickleError(f"has a {type(value).__name__} as a key")
    return value


def _pairs(items: list[Any]) -> Iterator[tuple[Any, Any]]:
    keys = iter(items)
    return ((hashable(key), value) for key, value in zip(keys, keys, strict=True))


_RENAMED: Final = {"__builtin__": "builtins", "copy_reg": "copyreg"}
"""Modules of Python 2, whose names protocol 2 writes."""

_STOP: Final = ord(".")


def _constant(value: Callable[[], Any]) -> Callable[[_Machine], None]:
    return lambda m: m.push(value())


def _sized(form: str, convert: Callable[[bytes], Any]) -> Callable[[_Machine], None]:
    """Return the handler of a length in this form, and of as many bytes, converted."""
    length = struct.Struct(form)
    return lambda m: m.push(convert(m.take(m.number(length))))


def _number(form: str) -> Callable[[_Machine], None]:
    """Return the handler that pushes a number in this form."""
    number = struct.Struct(form)
    return lambda m: m.push(m.number(number))


def _indexed(form: str, use: Callable[[_Machine, int], None]) -> Callable[[_Machine], None]:
    """Return the handler that calls `use` with the index that follows in this form."""
    index = struct.Struct(form)
    return lambda m: use(m, m.number(index))


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogatepass")


def _long(data: bytes) -> int:
    return int.from_bytes(data, "little", signed=True)


def _old_text(data: bytes) -> str:
    return data.decode("latin-1")


def _stack_global(m: _Machine) -> None:
    name, module = m.pop(), m.pop()
    m.find(_a(str, module), _a(str, name))


def _memoize(m: _Machine) -> None:
    m.put(len(m.memo))


def _global(m: _Machine) -> None:
    module = m.line()
    m.find(module, m.line())


_HANDLERS: Final[dict[int, Callable[[_Machine], None]]] = {
    code[0]: handler
    for code, handler in {
        b"\x80": lambda m: m.take(1),  # PROTO
        b"\x95": lambda m: m.take(8),  # FRAME
        b"N": _constant(lambda: None),
        b"\x88": _constant(lambda: True),
        b"\x89": _constant(lambda: False),
        b")": _constant(tuple),
        b"]": _constant(list),
        b"}": _constant(dict),
        b"\x8f": _constant(set),
        b"J": _number("<i"),
        b"K": _number("<B"),
        b"M": _number("<H"),
        b"G": _number(">d"),
        b"\x8a": _sized("<B", _long),
        b"\x8b": _sized("<i", _long),
        b"X": _sized("<I", _text),
        b"\x8c": _sized("<B", _text),
        b"\x8d": _sized("<Q", _text),
        b"U": _sized("<B", _old_text),
        b"T": _sized("<i", _old_text),
        b"C": _sized("<B", bytes),
        b"B": _sized("<I", bytes),
        b"\x8e": _sized("<Q", bytes),
        b"\x96": _sized("<Q", bytes),
        b"(": _Machine.mark,
        b"0": _Machine.pop,
        b"1": _Machine.pop_to_mark,
        b"2": lambda m: m.push(m.stack[-1]),
        b"a": _Machine.append,
        b"e": _Machine.extend,
        b"s": _Machine.set_item,
        b"u": _Machine.set_items,
        b"\x90": _Machine.add_items,
        b"\x91": lambda m: m.push(frozenset(map(hashable, m.pop_to_mark()))),
        b"t": lambda m: m.push(tuple(m.pop_to_mark())),
        b"l": lambda m: m.push(m.pop_to_mark()),
        b"d": lambda m: m.push(dict(_pairs(m.pop_to_mark()))),
        b"\x85": lambda m: m.tuple_of(1),
        b"\x86": lambda m: m.tuple_of(2),
        b"\x87": lambda m: m.tuple_of(3),
        b"q": _indexed("<B", _Machine.put),
        b"r": _indexed("<I", _Machine.put),
        b"h": _indexed("<B", _Machine.get),
        b"j": _indexed("<I", _Machine.get),
        b"\x94": _memoize,
        b"c": _global,
        b"\x93": _stack_global,
        b"R": _Machine.call,
        b"\x81": _Machine.call,  # NEWOBJ: a class and its arguments
        b"\x92": _Machine.call_with_keywords,
        b"b": _Machine.build,
        b"Q": _Machine.persist,
    }.items()
}
"""The handler of each opcode, named by its byte as in Lib/pickle.py."""
