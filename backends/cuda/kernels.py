"""The kernels: one per template, as CUDA C++ text.

Every kernel begins with the parameters (planes, stride, words): plane p holds a bit of 32 * words
samples from `planes[p * stride]` on, sample s being bit s % 32 of word s / 32. Threads along x are
neighbouring words of the batch, so that loads coalesce and a warp's lanes read one table row.
Code depends on shapes alone; wiring, masks and thresholds are data.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from lgir.ir.truth_tables import TABLE_TO_NAME, widen_table

THREADS: Final = 256
"""Threads in a block of every kernel."""
QUAD: Final = 4
"""Gates of one operation that a thread evaluates side by side."""
POSITIONS: Final = 4
"""Positions that a thread of a cone kernel goes through: they share the row's masks."""
_UNROLLED_LEAVES: Final = 64
"""A pooled cone with more loads than this goes through its copies in a loop."""


def listed(head: str, items: Sequence[str]) -> str:
    """`head`, the items between commas and a closing bracket, in lines of 100 columns."""
    lines = [head]
    for i, item in enumerate(items):
        piece = item + (")" if i + 1 == len(items) else ",")
        if len(lines[-1]) + len(piece) + 1 <= 100:
            lines[-1] += piece if lines[-1] == head else f" {piece}"
        else:
            lines.append(" " * len(head) + piece)
    return "\n".join(lines)


@dataclass(frozen=True)
class Kernel:
    """A kernel's name, what it does in a line or more, and its parameters and body as text.

    `resident` is how many blocks a multiprocessor should hold at least, which bounds registers.
    """

    name: str
    about: str
    params: str
    body: str
    resident: int = 4

    @property
    def text(self) -> str:
        about = "".join(f"// {line}\n" for line in self.about.strip().splitlines())
        params = f"word *planes, unsigned stride, unsigned words, {self.params}"
        bounds = f"{THREADS}, {self.resident}"
        call = listed(f"void {self.name}(", params.split(", "))
        head = f"LGIR_KERNEL __launch_bounds__({bounds})\n{call}"
        body = "\n".join(f"  {line}".rstrip() for line in self.body.strip("\n").splitlines())
        return f"{about}{head}\n{{\n{body}\n}}\n"


HELPERS: Final = {
    "word": """\
typedef uint32_t word;  // 32 samples of one plane
""",
    "Four": """\
// Four plane numbers that are read at once.
struct alignas(4 * sizeof(plane_t)) Four { plane_t plane[4]; };
""",
    "Position": """\
// Where a position's window and result lie, in planes from those of position 0.
struct alignas(8) Position { uint32_t in, out; };
""",
    "Cone": """\
// A tree with its operands: which tree, and where its planes and its masks begin.
struct alignas(16) Cone { uint32_t tree, planes, masks, unused; };
""",
    "load": """\
// A word through the read-only path: no kernel writes a plane that it reads.
__device__ __forceinline__ word load(const word *planes, unsigned at) { return __ldg(planes + at); }
""",
    "mask": """\
// All ones where bit i of a row's masks is set, otherwise zero.
__device__ __forceinline__ word mask(word bits, unsigned i) { return 0u - (bits >> i & 1u); }
""",
    "gate": """\
// Any AND-like gate by its masks, up to an inversion that the next gate takes in: two LOP3.
__device__ __forceinline__ word gate(word a, word b, word m, word n)
{
  return (a & (b ^ m)) ^ (b & n);
}
""",
    "lop3": """\
// Any function of three bits in one instruction; bit 4a + 2b + c of TABLE is its value.
template <unsigned TABLE>
__device__ __forceinline__ word lop3(word a, word b, word c)
{
#ifdef __CUDA_ARCH__
  word d;
  asm("lop3.b32 %0, %1, %2, %3, %4;" : "=r"(d) : "r"(a), "r"(b), "r"(c), "n"(TABLE));
  return d;
#else
  word d = 0;
  for (unsigned i = 0; i < 8; ++i)
    if (TABLE >> i & 1) d |= (i & 4 ? a : ~a) & (i & 2 ? b : ~b) & (i & 1 ? c : ~c);
  return d;
#endif
}
""",
    "walk": """\
// A tree at the positions of a block's tile, the results of its copies ORed. A block holds one tree
// and neighbouring positions, whose windows overlap: a plane comes from L1 after its first load.
template <class Tree, unsigned COPIES>
__device__ __forceinline__ void walk(word *planes, unsigned stride, unsigned w, const plane_t *row,
                                     const word *bits, const Position *positions, unsigned count,
                                     const unsigned (&shift)[COPIES])
{
  unsigned x[Tree::LEAVES];
  word m[Tree::MASKS + 1];  // the last one inverts the root
#pragma unroll
  for (unsigned i = 0; i < Tree::LEAVES; ++i) x[i] = row[i] * stride + w;
#pragma unroll
  for (unsigned i = 0; i <= Tree::MASKS; ++i) m[i] = mask(bits[i / 32], i % 32);
  const unsigned y = row[Tree::LEAVES] * stride + w;
  const unsigned tile = blockIdx.y * blockDim.y * POSITIONS;
  const unsigned end = min(tile + blockDim.y * POSITIONS, count);
  for (unsigned p = tile + threadIdx.y; p < end; p += blockDim.y) {
    const Position at = positions[p];
    const unsigned cut = at.out * stride;
    word any = 0;
#pragma unroll(Tree::LEAVES * COPIES <= UNROLLED ? COPIES : 1)
    for (unsigned i = 0; i < COPIES; ++i)
      any |= Tree::at(planes, x, m, (at.in + shift[i]) * stride, cut) ^ m[Tree::MASKS];
    planes[y + cut] = any;
  }
}
""".replace("POSITIONS", str(POSITIONS)).replace("UNROLLED", str(_UNROLLED_LEAVES)),
}
"""Types and functions that kernels share, by the name that shows whether a text needs them."""


def gate_kernel(fanin: int, tables: Iterable[int]) -> Kernel:
    """Single gates of two or three inputs: rows of four gates that share their table."""
    names = "abc"[:fanin]
    operands = ", ".join(f"{n}[i]" for n in names) + (", 0u" if fanin == 2 else "")
    cases = []
    for table in sorted(set(tables)):
        full = int(widen_table(np.array([table], np.uint8), fanin, 3)[0])
        name = f"  // {TABLE_TO_NAME[table]}" if fanin == 2 else ""
        value = f"lop3<0x{full:02x}>({operands})"
        cases.append(f"case 0x{table:02x}: EACH d[i] = {value}; break;{name}")
    values = ", ".join(f"{n}[{QUAD}]" for n in names)
    lines = [
        "const unsigned w = blockIdx.z * blockDim.x + threadIdx.x;",
        "const unsigned q = blockIdx.x * blockDim.y + threadIdx.y;",
        "if (w >= words || q >= count) return;",
        *(f"const Four {n}_at = rows[{fanin + 1} * q + {i}];" for i, n in enumerate(names + "d")),
        f"word {values}, d[{QUAD}] = {{}};",
        f"#define EACH for (unsigned i = 0; i < {QUAD}; ++i)",
        *(f"EACH {n}[i] = load(planes, {n}_at.plane[i] * stride + w);" for n in names),
        "switch (tables[q]) {",
        *cases,
        "}",
        "EACH planes[d_at.plane[i] * stride + w] = d[i];",
        "#undef EACH",
    ]
    return Kernel(
        f"gates{fanin}",
        f"Gates of {fanin} inputs: a thread evaluates four of one truth table. Rows hold their\n"
        "operands' planes and their own. The branch is uniform in a warp, whose lanes share a row.",
        "const Four *rows, const uint8_t *tables, unsigned count",
        "\n".join(lines),
    )


def wide_gate_kernel(fanin: int) -> Kernel:
    """Gates of four to six inputs, whose tables are data: a multiplexer tree over the table."""
    lines = [
        "const unsigned w = blockIdx.z * blockDim.x + threadIdx.x;",
        "const unsigned r = blockIdx.x * blockDim.y + threadIdx.y;",
        "if (w >= words || r >= count) return;",
        f"const plane_t *row = rows + (size_t)r * {fanin + 1};",
        "const uint64_t table = tables[r];",
        "const word low = (word)table" + (", high = (word)(table >> 32);" if fanin == 6 else ";"),
    ]
    lines += [f"const word x{i} = load(planes, row[{i}] * stride + w);" for i in range(fanin)]
    layer = [f"mask({'high' if i >= 32 else 'low'}, {i % 32})" for i in range(1 << fanin)]
    for depth in reversed(range(fanin)):
        names = [f"m{depth}_{i}" for i in range(len(layer) // 2)]
        lines += [
            f"const word {name} = lop3<0xca>(x{depth}, {layer[2 * i + 1]}, {layer[2 * i]});"
            for i, name in enumerate(names)
        ]
        layer = names
    lines.append(f"planes[row[{fanin}] * stride + w] = {layer[0]};")
    return Kernel(
        f"gates{fanin}",
        f"Gates of {fanin} inputs: multiplexers choose among the bits of the row's truth table.",
        "const plane_t *rows, const uint64_t *tables, unsigned count",
        "\n".join(lines),
    )


def copy_kernel() -> Kernel:
    return Kernel(
        "copies",
        "Planes copied: rows (source, target).",
        "const plane_t *rows, unsigned count",
        """\
const unsigned w = blockIdx.z * blockDim.x + threadIdx.x;
const unsigned r = blockIdx.x * blockDim.y + threadIdx.y;
if (w >= words || r >= count) return;
planes[rows[2 * r + 1] * stride + w] = load(planes, rows[2 * r] * stride + w);""",
    )
