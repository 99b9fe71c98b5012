"""Planes to results: the kernels of class scores and of exported bits, and their launches."""

from __future__ import annotations

from string import Template
from typing import Final

import numpy as np

from lgir.backends.cuda.builder import ProgramBuilder
from lgir.backends.cuda.kernel import CudaKernel
from lgir.backends.cuda.launch import ChunkSize, LaunchArgument, LaunchShape, ResultsArgument
from lgir.backends.lowering.steps import ZERO_PLANE, ExportStep, SumStep

ADDER_PLANES: Final = 16
"""Planes that one round of the adder counts."""

_SUM_BODY: Final = Template("""\
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
}""")
_UNPACK_BODY: Final = """\
__shared__ word tile[8][36];
const unsigned i = threadIdx.y * 32 + threadIdx.x;
const unsigned loaded = blockIdx.x * 32 + i / 8, at = blockIdx.z * 8 + i % 8;
if (loaded < elements && at < words) tile[i % 8][i / 8] = load(planes, rows[loaded] * stride + at);
__syncthreads();
const unsigned e = blockIdx.x * 32 + threadIdx.x, w = blockIdx.z * 8 + threadIdx.y;
if (e >= elements || w >= words) return;
const word bits = tile[threadIdx.y][threadIdx.x];
for (unsigned s = 0; s < 32 && w * 32 + s < samples; ++s)
  out[(size_t)(w * 32 + s) * elements + e] = bits >> s & 1u;"""


def add_scores(builder: ProgramBuilder, step: SumStep) -> None:
    """Append the launch that counts the planes of each group and scores the counts."""
    groups, bits = step.planes.shape
    rounds = -(-bits // ADDER_PLANES)
    planes = np.full((groups, rounds * ADDER_PLANES), ZERO_PLANE, np.int64)
    planes[:, :bits] = step.planes
    args: tuple[LaunchArgument, ...] = (
        ResultsArgument(step.output, "float", groups),
        ChunkSize.SAMPLES,
        groups,
        builder.table("sum_rows", "plane_t", planes),
        rounds,
        float(np.float32(step.tau)),
        float(np.float32(step.beta)),
    )
    note = f"output {step.output}: {groups:,} groups of {bits:,} bits"
    builder.launch(scoring_kernel(bits.bit_length()), LaunchShape.GROUPS, groups, args, note)


def add_export(builder: ProgramBuilder, step: ExportStep) -> None:
    """Append the launch that writes the bits of an output as bytes."""
    count = len(step.planes)
    args: tuple[LaunchArgument, ...] = (
        ResultsArgument(step.output, "uint8_t", count),
        ChunkSize.SAMPLES,
        count,
        builder.table("bit_rows", "plane_t", step.planes),
    )
    note = f"output {step.output}: {count:,} bits"
    builder.launch(unpacking_kernel(), LaunchShape.TILES, count, args, note)


def scoring_kernel(bits: int) -> CudaKernel:
    """Return the kernel that scores groups whose counts take `bits` bits."""
    return CudaKernel(
        f"sum{bits}",
        "Computes scores. A block counts one group for 1024 samples: each thread adds planes with\n"
        "full adders into a bit-sliced counter (total[c] holds bit c of 32 samples' counts), the\n"
        "counters of the eight warps are added pairwise, and each thread reads out four samples.",
        "float *scores, unsigned samples, unsigned groups, const plane_t *rows, unsigned rounds, "
        "float tau, float beta",
        _SUM_BODY.substitute(bits=bits, adder=ADDER_PLANES, log=ADDER_PLANES.bit_length() - 1),
    )


def unpacking_kernel() -> CudaKernel:
    """Return the kernel that spreads planes to bytes."""
    return CudaKernel(
        "bits",
        "Spreads planes to bytes 0 and 1, (n, elements): the inverse of packing.",
        "uint8_t *out, unsigned samples, unsigned elements, const plane_t *rows",
        _UNPACK_BODY,
    )
