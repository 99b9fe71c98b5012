"""LLVM IR as text: a function under construction, and the bit operations on planes.

Text is written directly, since an object per instruction costs a kilobyte and a microsecond. A
plane is `<8 x i64>`, 512 samples, on every target; LLVM splits it if registers are narrower.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Final

PLANE_BYTES: Final = 64
BLOCK: Final = 8 * PLANE_BYTES
"""Samples of a block: one bit of each makes a plane."""
PLANE: Final = "<8 x i64>"
_DWORDS: Final = "<16 x i32>"
TERNARY_INTRINSIC: Final = "@llvm.x86.avx512.pternlog.d.512"
_TERNARY_DECLARATION: Final = (
    f"declare {_DWORDS} {TERNARY_INTRINSIC}({', '.join([_DWORDS] * 3)}, i32 immarg)\n"
)
_ATTRIBUTES: Final = 'nounwind "prefer-vector-width"="512" "min-legal-vector-width"="512"'
_DECLARATIONS: Final = (
    "declare i64 @llvm.smin.i64(i64, i64)\n"
    "declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1 immarg)\n"
    "declare void @llvm.prefetch.p0(ptr, i32, i32, i32)\n"
)
ONES: Final = "splat (i64 -1)"

# Truth tables of three inputs, with index a<<2 | b<<1 | c.
AND_OR: Final = 0xE0  # a & (b | c)
AND_XOR: Final = 0x60  # a & (b ^ c)
XOR_AND: Final = 0x78  # a ^ (b & c)
OR_XOR: Final = 0xF6  # a | (b ^ c)
NOT_AND_OR: Final = 0x0E  # ~a & (b | c)
SUM: Final = 0x96
MAJORITY: Final = 0xE8
SELECT: Final = 0xCA  # a ? b : c
GREATER: Final = 0xB2  # a > b, or a == b and c


class FunctionWriter:
    """The text of one function under construction.

    Methods write instructions and return the SSA names of their values.
    """

    def __init__(self, name: str, params: str, *, ternary: bool, result: str = "void") -> None:
        self.head = f"define {result} @{name}({params}) #0 {{"
        self.lines: list[str] = ["entry:"]
        self.ternary_instruction = ternary
        self._block = "entry"
        self._count = 0

    def text(self) -> str:
        """Return the function's definition."""
        return "\n".join([self.head, *self.lines, "}", ""])

    def fresh(self, base: str = "v") -> str:
        """Return a name that is not used yet."""
        self._count += 1
        return f"%{base}{self._count}"

    def emit(self, line: str) -> None:
        """Write an instruction."""
        self.lines.append("  " + line)

    def let(self, expression: str) -> str:
        """Write an instruction and return the name of its value."""
        name = self.fresh()
        self.emit(f"{name} = {expression}")
        return name

    def label(self, name: str) -> None:
        """Begin a basic block."""
        self.lines.append(f"{name}:")
        self._block = name

    # -- control flow ----------------------------------------------------------------------------

    @contextmanager
    def loop(
        self, stop: str, *carried: tuple[str, str], step: int | str = 1, start: str = "0"
    ) -> Iterator[LoopWriter]:
        """Write `for i in range(start, stop, step)`, whose body is the body of the `with`.

        Args:
            carried: (type, initial value) of values that rounds pass on. The body sets `loop.next`
                to their new values; `loop.result` names the final ones after the loop.
        """
        n = self.fresh("L")[1:]
        head, body, done = f"{n}.head", f"{n}.body", f"{n}.done"
        before = self._block
        self.emit(f"br label %{head}")
        self.label(head)
        index = self.fresh("i")
        after = self.fresh("n")
        names = [self.fresh("c") for _ in carried]
        at_head = len(self.lines)
        condition = self.let(f"icmp slt i64 {index}, {stop}")
        self.emit(f"br i1 {condition}, label %{body}, label %{done}")
        self.label(body)
        state = LoopWriter(index, names)
        yield state
        self.emit(f"{after} = add nsw i64 {index}, {step}")
        tail = self._block
        self.emit(f"br label %{head}")
        phis = [f"  {index} = phi i64 [ {start}, %{before} ], [ {after}, %{tail} ]"]
        for name, (kind, initial), new in zip(names, carried, state.next, strict=True):
            phis.append(f"  {name} = phi {kind} [ {initial}, %{before} ], [ {new}, %{tail} ]")
        self.lines[at_head:at_head] = phis
        self.label(done)

    # -- memory ----------------------------------------------------------------------------------

    def gep(self, base: str, offset: str) -> str:
        """Write `base` plus `offset` bytes."""
        return self.let(f"getelementptr i8, ptr {base}, i64 {offset}")

    def load(self, kind: str, pointer: str, align: int) -> str:
        """Write a load of a value of type `kind`."""
        return self.let(f"load {kind}, ptr {pointer}, align {align}")

    def store(self, kind: str, value: str, pointer: str, align: int) -> None:
        """Write a store of a value of type `kind`."""
        self.emit(f"store {kind} {value}, ptr {pointer}, align {align}")

    def load_field(self, record: str, index: int, kind: str = "i64") -> str:
        """Write a load of word `index` of a record of 8-byte words."""
        return self.load(kind, self.gep(record, str(8 * index)), 8)

    def load_u32(self, pointer: str) -> str:
        """Write a load of a u32, extended to an i64."""
        return self.let(f"zext i32 {self.load('i32', pointer, 4)} to i64")

    def prefetch(self, pointer: str, level: int = 1) -> None:
        """Write a prefetch of the line at any address to the cache of level 1 or 2."""
        self.emit(f"call void @llvm.prefetch.p0(ptr {pointer}, i32 0, i32 {4 - level}, i32 1)")

    def load_plane(self, base: str, offset: str) -> str:
        """Write a load of the plane at `base` plus `offset` bytes."""
        return self.load(PLANE, self.gep(base, offset), PLANE_BYTES)

    def store_plane(self, value: str, base: str, offset: str) -> None:
        """Write a store of a plane to `base` plus `offset` bytes."""
        self.store(PLANE, value, self.gep(base, offset), PLANE_BYTES)

    # -- bits ------------------------------------------------------------------------------------

    def op(self, name: str, a: str, b: str) -> str:
        """Write an LLVM operation on two planes."""
        return self.let(f"{name} {PLANE} {a}, {b}")

    def invert(self, a: str) -> str:
        """Write the complement of a plane."""
        return self.op("xor", a, ONES)

    def broadcast(self, word: str, kind: str = "i32") -> str:
        """Write a plane of copies of an integer, for masks of all zeros or all ones."""
        count = 8 * PLANE_BYTES // int(kind[1:])
        vector = f"<{count} x {kind}>"
        one = self.let(f"insertelement {vector} poison, {kind} {word}, i64 0")
        lanes = f"<{count} x i32> zeroinitializer"
        copies = self.let(f"shufflevector {vector} {one}, {vector} poison, {lanes}")
        return self.let(f"bitcast {vector} {copies} to {PLANE}")

    def splats(self, pointer: str, count: int) -> list[str]:
        """Write planes of copies of the first `count` of four i32.

        The 64 bytes at `pointer` repeat the four, so that 512-bit registers need one load and
        shuffles within lanes.
        """
        if not self.ternary_instruction:
            return [
                self.broadcast(self.load("i32", self.gep(pointer, str(4 * i)), 4))
                for i in range(count)
            ]
        four = self.load(_DWORDS, pointer, 4)
        planes = []
        for i in range(count):
            lanes = ", ".join(f"i32 {lane // 4 * 4 + i}" for lane in range(16))
            one = self.let(
                f"shufflevector {_DWORDS} {four}, {_DWORDS} poison, <16 x i32> <{lanes}>"
            )
            planes.append(self.let(f"bitcast {_DWORDS} {one} to {PLANE}"))
        return planes

    def ternary(self, a: str, b: str, c: str, table: int) -> str:
        """Write a function of three planes: one instruction on AVX-512, else its formula."""
        if self.ternary_instruction:
            # In 32-bit lanes, so that a mask broadcast from memory can be an operand.
            lanes = [self.let(f"bitcast {PLANE} {x} to {_DWORDS}") for x in (a, b, c)]
            args = ", ".join(f"{_DWORDS} {x}" for x in lanes)
            value = self.let(f"call {_DWORDS} {TERNARY_INTRINSIC}({args}, i32 {table})")
            return self.let(f"bitcast {_DWORDS} {value} to {PLANE}")
        formula = _FORMULAS.get(table)
        return formula(self, a, b, c) if formula else self.lut(table, [a, b, c])

    def lut(self, table: int, inputs: list[str]) -> str:
        """Write a function of up to three planes, given by its truth table."""
        k = len(inputs)
        if k == 3 and self.ternary_instruction:
            return self.ternary(inputs[0], inputs[1], inputs[2], table)
        if table == 0:
            return "zeroinitializer"
        if table == (1 << (1 << k)) - 1:
            return ONES
        x, rest, half = inputs[0], inputs[1:], 1 << (k - 1)
        low, high = table & ((1 << half) - 1), table >> half
        if low == high:
            return self.lut(low, rest)
        if low == high ^ ((1 << half) - 1):
            return self.op("xor", x, self.lut(low, rest))
        if low == 0:
            return self.op("and", x, self.lut(high, rest))
        if high == 0:
            return self.op("and", self.invert(x), self.lut(low, rest))
        if high == (1 << half) - 1:
            return self.op("or", x, self.lut(low, rest))
        if low == (1 << half) - 1:
            return self.op("or", self.invert(x), self.lut(high, rest))
        return self.select(x, self.lut(high, rest), self.lut(low, rest))

    def select(self, x: str, one: str, zero: str) -> str:
        """Write `x ? one : zero`, bit by bit."""
        if self.ternary_instruction:
            return self.ternary(x, one, zero, SELECT)
        return self.op("xor", zero, self.op("and", x, self.op("xor", one, zero)))


class LoopWriter:
    """The index and the carried values of a loop; see `FunctionWriter.loop`."""

    def __init__(self, index: str, carried: list[str]) -> None:
        self.index = index
        self.carried = carried
        self.next: list[str] = []

    @property
    def result(self) -> list[str]:
        """The carried values after the loop, which are the phis of its head."""
        return self.carried


def _majority(f: FunctionWriter, a: str, b: str, c: str) -> str:
    return f.op("or", f.op("and", a, b), f.op("and", c, f.op("xor", a, b)))


_FORMULAS: Final[dict[int, Callable[[FunctionWriter, str, str, str], str]]] = {
    AND_OR: lambda f, a, b, c: f.op("and", a, f.op("or", b, c)),
    AND_XOR: lambda f, a, b, c: f.op("and", a, f.op("xor", b, c)),
    XOR_AND: lambda f, a, b, c: f.op("xor", a, f.op("and", b, c)),
    OR_XOR: lambda f, a, b, c: f.op("or", a, f.op("xor", b, c)),
    SUM: lambda f, a, b, c: f.op("xor", a, f.op("xor", b, c)),
    MAJORITY: _majority,
    SELECT: lambda f, a, b, c: f.select(a, b, c),
}


def module_text(kernels: Iterable[str], *, ternary: bool, attributes: str = "") -> str:
    """Return a module of kernels, with the declarations that any of them may need.

    Args:
        attributes: further attributes of all functions.
    """
    head = _DECLARATIONS + (_TERNARY_DECLARATION if ternary else "")
    group = " ".join(filter(None, ["attributes #0 = {", _ATTRIBUTES, attributes, "}\n"]))
    return "\n".join([head, *kernels, group])
