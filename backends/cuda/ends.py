"""Kernels at both ends of a network: samples to planes, planes to scores and bits."""

from __future__ import annotations

from string import Template
from typing import Final

from lgir.backends.cuda.kernels import Kernel

ADDER: Final = 16
"""Planes that one round of the GroupSum adder takes in."""


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
