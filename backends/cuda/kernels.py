"""The kernels: one per template, as CUDA C++ text.

Every kernel begins with the parameters (planes, stride, words): plane p holds a bit of 32 * words
samples from `planes[p * stride]` on, sample s being bit s % 32 of word s / 32. Threads along x are
neighbouring words of the batch, so that loads coalesce and a warp's lanes read one table row.
Code depends on shapes alone; wiring, masks and thresholds are data.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from string import Template
from typing import Final

import numpy as np

from lgir.backends.cones import MAX_LEAVES, Expr
from lgir.ops import TABLE_TO_NAME, widen_table

THREADS: Final = 256
"""Threads in a block of every kernel."""
QUAD: Final = 4
"""Gates of one operation that a thread evaluates side by side."""
CONE_SIZES: Final = {8: 4, 16: 2, MAX_LEAVES: 2}
"""Most leaves of a tree, by kernel -> blocks resident: 64 registers hold the loads of a small
tree's copies, fewer spill; 128 hold any tree of two-input gates.
"""
POSITIONS: Final = 4
"""Positions that a thread of a cone kernel goes through: they share the row's masks."""
ADDER: Final = 16
"""Planes that one round of the GroupSum adder takes in."""
_UNROLLED_LEAVES: Final = 64
"""A pooled cone with more loads than this goes through its copies in a loop."""


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
        head = f"LGIR_KERNEL __launch_bounds__({bounds})\nvoid {self.name}({params})"
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


@dataclass(frozen=True)
class Tree:
    """A cone template with its number."""

    number: int
    expr: Expr

    @property
    def text(self) -> str:
        """A struct for `walk`: rows are (leaf planes..., output plane); mask words hold the tree's
        masks and then the root's inversion, lowest bits first.
        """
        leaves, masks = len(self.expr.leaves()), self.expr.num_masks()
        statements, root = _tree(self.expr)
        lines = [
            f"struct Tree{self.number} {{  // {self.expr}",
            f"  static const unsigned LEAVES = {leaves}, MASKS = {masks};",
            "  static __device__ __forceinline__ word at(const word *planes, "
            f"const unsigned (&x)[{leaves}],",
            f"                                            const word (&m)[{masks + 1}], "
            "unsigned tap, unsigned cut)",
            "  {",
            *(f"    {line}" for line in statements),
            f"    return {root};",
            "  }",
            "};",
        ]
        return "\n".join(lines) + "\n"


def cone_kernel_name(leaves: int, copies: int) -> str:
    """Kernels hold trees of like size, since the largest decides the registers of all."""
    return f"cones{_cone_size(leaves)}" + (f"_pool{copies}" if copies > 1 else "")


def _cone_size(leaves: int) -> int:
    return next(limit for limit in CONE_SIZES if leaves <= limit)


def cone_kernel(name: str, copies: int, trees: Sequence[Tree]) -> Kernel:
    """Trees at every position, for pools an OR of copies shifted over the window."""
    size = max(_cone_size(len(t.expr.leaves())) for t in trees)
    shifts = ", ".join(f"shift{i}" for i in range(copies)) if copies > 1 else "0u"
    args = "planes, stride, w, row, bits, positions, count, shift"
    lines = [
        "const unsigned w = blockIdx.z * blockDim.x + threadIdx.x;",
        "if (w >= words) return;",
        "const Cone cone = cones[blockIdx.x];",
        "const plane_t *row = rows + cone.planes;",
        "const word *bits = masks + cone.masks;",
        f"const unsigned shift[] = {{{shifts}}};",
        "switch (cone.tree) {",
        *(f"  case {t.number}: walk<Tree{t.number}>({args}); break;" for t in trees),
        "}",
    ]
    params = "const Cone *cones, const plane_t *rows, const uint32_t *masks, "
    params += "const Position *positions, unsigned count"
    if copies > 1:
        params += "".join(f", unsigned shift{i}" for i in range(copies))
    pooled = f", pooled: an OR of {copies} copies shifted over the window" if copies > 1 else ""
    return Kernel(
        name,
        f"Trees at every position{pooled}. The branch on the tree is uniform in a block.",
        params,
        "\n".join(lines),
        CONE_SIZES[size],
    )


def _tree(root: Expr) -> tuple[list[str], str]:
    """Statements that evaluate a tree, and the expression of its root; see `Expr.num_masks`."""
    lines: list[str] = []
    leaves = masks = values = 0

    def let(expression: str) -> str:
        nonlocal values
        lines.append(f"const word v{values} = {expression};")
        values += 1
        return f"v{values - 1}"

    def take_mask() -> str:
        nonlocal masks
        masks += 1
        return f"m[{masks - 1}]"

    def walk(expr: Expr) -> str:
        nonlocal leaves
        if not expr.args:
            leaves += 1
            return let(f"load(planes, x[{leaves - 1}] + {expr.kind})")
        inputs = [walk(a) for a in expr.args]
        if expr.kind == "xor":
            return let(f"{inputs[0]} ^ {inputs[1]}")
        if expr.kind == "and":
            a, b = inputs
            m, n = take_mask(), take_mask()
            return let(f"gate({a}, {b}, {m}, {n})")
        layer = [take_mask() for _ in range(1 << len(inputs))]
        for x in reversed(inputs):
            layer = [
                let(f"lop3<0xca>({x}, {layer[i + 1]}, {layer[i]})") for i in range(0, len(layer), 2)
            ]
        return layer[0]

    return lines, walk(root)


def pack_kernel(dtype: str) -> Kernel:
    """Samples (n, features) to planes; `dtype` is "bit", "u8" or "f32"."""
    element = {"bit": "uint8_t", "u8": "uint8_t", "f32": "float"}[dtype]
    level = {"u8": "int16_t", "f32": "float"}.get(dtype)
    params = f"const {element} *x, unsigned samples, unsigned features, const plane_t *rows"
    if level:
        params += f", const {level} *levels, unsigned num_levels"
    body = Template("""\
__shared__ word tile[8][36];  // 36: the rows that a warp stores lie in different banks
const unsigned f = blockIdx.x * 32 + threadIdx.x, w = blockIdx.z * 8 + threadIdx.y;
const unsigned i = threadIdx.y * 32 + threadIdx.x;
const unsigned stored = blockIdx.x * 32 + i / 8, at = blockIdx.z * 8 + i % 8;
const unsigned column = min(f, features - 1);
$element value[32];
#pragma unroll
for (unsigned s = 0; s < 32; ++s)
  value[s] = x[(size_t)min(w * 32 + s, samples - 1) * features + column];
for (unsigned level = 0; level < $levels; ++level) {
$threshold
  word bits = 0;
  #pragma unroll
  for (unsigned s = 0; s < 32; ++s) bits |= (word)(value[s] $compare) << s;
  tile[threadIdx.y][threadIdx.x] = bits;
  __syncthreads();
  if (stored < features && at < words)
    planes[rows[(size_t)level * features + stored] * stride + at] = tile[i % 8][i / 8];
  __syncthreads();
}""").substitute(
        element=element,
        levels="num_levels" if level else "1",
        threshold=f"  const {level} limit = levels[(size_t)level * features + column];"
        if level
        else "",
        compare="> limit" if level else "!= 0",
    )
    what = "x > level" if level else "x != 0"
    return Kernel(
        f"pack_{dtype}",
        f"Samples to planes, bit = {what}. A lane reads one feature of 32 samples, a warp 32 of\n"
        "them side by side, and so holds whole words without a ballot; a tile in shared memory\n"
        "turns a block's words around, so that stores fill sectors.",
        params,
        body.replace("\n\n", "\n"),
    )


def place_kernel() -> Kernel:
    return Kernel(
        "place",
        "Planes packed by the caller, each of `pitch` words, to where the network reads them.",
        "const word *x, size_t pitch, const plane_t *rows, unsigned count",
        """\
const unsigned w = blockIdx.z * blockDim.x + threadIdx.x;
const unsigned r = blockIdx.x * blockDim.y + threadIdx.y;
if (w >= words || r >= count) return;
planes[rows[r] * stride + w] = __ldg(x + r * pitch + w);""",
    )


def sum_kernel(bits: int) -> Kernel:
    """Scores of groups whose counts take `bits` bits."""
    return Kernel(
        f"sum{bits}",
        "Scores: a block counts one group for 1024 samples. Each thread adds planes with full\n"
        "adders into a bit-sliced counter (total[c] holds bit c of 32 samples' counts), the eight\n"
        "warps' counters are added pairwise, and each thread then reads out four samples.",
        "float *scores, unsigned samples, unsigned groups, const plane_t *rows, unsigned rounds, "
        "float tau, float beta",
        Template("""\
__shared__ word shared[8][$bits][32];
const unsigned w = min(blockIdx.z * 32 + threadIdx.x, words - 1);
const plane_t *row = rows + (size_t)blockIdx.x * rounds * $adder;
word total[$bits] = {};
for (unsigned round = threadIdx.y; round < rounds; round += 8) {
  word x[$adder];
  #pragma unroll
  for (unsigned i = 0; i < $adder; ++i) x[i] = load(planes, row[round * $adder + i] * stride + w);
  #pragma unroll
  for (unsigned c = 0; c < $bits; ++c) {  // $adder >> c words of weight c; carries replace them
    #pragma unroll
    for (unsigned i = 0; i < ${adder}u >> c >> 1; ++i) {
      const word a = x[2 * i], b = x[2 * i + 1];
      x[i] = lop3<0xe8>(a, b, total[c]);
      total[c] = lop3<0x96>(a, b, total[c]);
    }
    if (c >= $log) {
      const word carry = total[c] & x[0];
      total[c] ^= x[0];
      x[0] = carry;
    }
  }
}
#pragma unroll
for (unsigned c = 0; c < $bits; ++c) shared[threadIdx.y][c][threadIdx.x] = total[c];
for (unsigned half = 4; half > 0; half /= 2) {
  __syncthreads();
  if (threadIdx.y < half) {
    word carry = 0;
    #pragma unroll
    for (unsigned c = 0; c < $bits; ++c) {
      const word a = shared[threadIdx.y][c][threadIdx.x];
      const word b = shared[threadIdx.y + half][c][threadIdx.x];
      shared[threadIdx.y][c][threadIdx.x] = lop3<0x96>(a, b, carry);
      carry = lop3<0xe8>(a, b, carry);
    }
  }
}
__syncthreads();
for (unsigned part = threadIdx.y; part < 32; part += 8) {
  const unsigned s = (blockIdx.z * 32 + part) * 32 + threadIdx.x;
  unsigned number = 0;
  #pragma unroll
  for (unsigned c = 0; c < $bits; ++c) number |= (shared[0][c][part] >> threadIdx.x & 1u) << c;
  if (s < samples)
    scores[(size_t)s * groups + blockIdx.x] = __fdiv_rn(__fadd_rn((float)number, beta), tau);
}""").substitute(bits=bits, adder=ADDER, log=ADDER.bit_length() - 1),
    )


def export_kernel() -> Kernel:
    return Kernel(
        "bits",
        "Planes to bytes 0 and 1, (n, elements): the packing the other way round.",
        "uint8_t *out, unsigned samples, unsigned elements, const plane_t *rows",
        """\
__shared__ word tile[8][36];
const unsigned i = threadIdx.y * 32 + threadIdx.x;
const unsigned loaded = blockIdx.x * 32 + i / 8, at = blockIdx.z * 8 + i % 8;
if (loaded < elements && at < words) tile[i % 8][i / 8] = load(planes, rows[loaded] * stride + at);
__syncthreads();
const unsigned e = blockIdx.x * 32 + threadIdx.x, w = blockIdx.z * 8 + threadIdx.y;
if (e >= elements || w >= words) return;
const word bits = tile[threadIdx.y][threadIdx.x];
for (unsigned s = 0; s < 32 && w * 32 + s < samples; ++s)
  out[(size_t)(w * 32 + s) * elements + e] = bits >> s & 1u;""",
    )
