"""What all kernels have in common: their parameters, their size, the device functions they share.

Every kernel begins with the parameters (planes, stride, words). Plane p holds a bit of 32 * words
samples from `planes[p * stride]` on; sample s is bit s % 32 of word s / 32. Threads along x work on
neighboring words of the batch, so loads coalesce and the lanes of a warp read one table row. Code
depends on shapes alone: wiring, masks and thresholds are data.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from lgir.backends.c.text import parenthesized

COLUMNS: Final = 100
"""Columns of a line of the source."""
THREADS: Final = 256
"""Threads in a block of every kernel."""
POSITIONS_PER_THREAD: Final = 4
"""Positions that a thread of a tree kernel evaluates one after the other, with the same masks."""
_MAX_UNROLLED_LOADS: Final = 64
"""A pooled tree with more loads than this evaluates its copies in a loop."""


@dataclass(frozen=True)
class CudaKernel:
    """A kernel as text.

    Attributes:
        name: the name of its function.
        about: what it does, the lines of its comment.
        parameters: those after (planes, stride, words).
        body: its statements.
        resident_blocks: blocks that a multiprocessor should hold at least, which bounds registers.
    """

    name: str
    about: str
    parameters: str
    body: str
    resident_blocks: int = 4

    @property
    def text(self) -> str:
        """Return the definition with its comment."""
        about = "".join(f"// {line}\n" for line in self.about.strip().splitlines())
        parameters = f"word *planes, unsigned stride, unsigned words, {self.parameters}"
        bounds = f"{THREADS}, {self.resident_blocks}"
        prototype = parenthesized(f"void {self.name}(", parameters.split(", "), COLUMNS)
        body = "\n".join(f"  {line}".rstrip() for line in self.body.strip("\n").splitlines())
        return f"{about}LGIR_KERNEL __launch_bounds__({bounds})\n{prototype}\n{{\n{body}\n}}\n"


DEVICE_HELPERS: Final = {
    "word": """\
typedef uint32_t word;  // 32 samples of one plane
""",
    "Four": """\
// Four plane numbers that are read at once.
struct alignas(4 * sizeof(plane_t)) Four { plane_t plane[4]; };
""",
    "Position": """\
// How many planes the window and the result of a position lie behind those of position 0.
struct alignas(8) Position { uint32_t in, out; };
""",
    "Cone": """\
// A tree with its operands: the number of its shape, and where its planes and masks begin.
struct alignas(16) Cone { uint32_t tree, planes, masks, unused; };
""",
    "load": """\
// Returns a word by the read-only path, since no kernel writes a plane that it reads.
__device__ __forceinline__ word load(const word *planes, unsigned at) { return __ldg(planes + at); }
""",
    "mask": """\
// Returns all ones if bit i of a row's masks is set, otherwise zero.
__device__ __forceinline__ word mask(word bits, unsigned i) { return 0u - (bits >> i & 1u); }
""",
    "gate": """\
// Evaluates any AND-like gate by its masks, up to an inversion that the next gate absorbs. It takes
// two LOP3.
__device__ __forceinline__ word gate(word a, word b, word m, word n)
{
  return (a & (b ^ m)) ^ (b & n);
}
""",
    "lop3": """\
// Evaluates any function of three bits in one instruction: bit 4a + 2b + c of TABLE is its value.
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
// Evaluates a tree at the positions of a block's tile and ORs the results of its copies. A block
// holds one tree and neighboring positions, whose windows overlap, so that a plane comes from L1
// after it was first read.
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
""".replace("POSITIONS", str(POSITIONS_PER_THREAD)).replace("UNROLLED", str(_MAX_UNROLLED_LOADS)),
}
"""Types and functions that kernels share, by the name whose occurrence shows that one is needed."""
