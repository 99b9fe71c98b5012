"""Samples to planes: the kernels of packing and of packed samples, and their launches."""

from __future__ import annotations

from string import Template
from typing import Final

from lgir.backends.cuda.builder import ProgramBuilder
from lgir.backends.cuda.kernel import CudaKernel
from lgir.backends.cuda.launch import (
    ChunkSize,
    Launch,
    LaunchArgument,
    LaunchShape,
    PackedSamplesArgument,
    SamplesArgument,
)
from lgir.backends.lowering.steps import PackStep
from lgir.ir.thresholds import byte_levels

_PACK_BODY: Final = Template("""\
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
}""")


def add_packing(builder: ProgramBuilder, step: PackStep) -> None:
    """Append the launch that packs an input, and its replacement for samples packed already."""
    num_levels, features = step.planes.shape
    rows = builder.table("pack_rows", "plane_t", step.planes)
    c_type = "float" if step.dtype == "f32" else "uint8_t"
    samples = SamplesArgument(step.input, c_type, features)
    args: list[LaunchArgument] = [samples, ChunkSize.SAMPLES, features, rows]
    if step.levels is not None:
        if step.dtype == "u8":
            args += [builder.table("levels", "int16_t", byte_levels(step.levels)), num_levels]
        else:
            args += [builder.table("levels", "float", step.levels), num_levels]
    kernel = packing_kernel(step.dtype)
    builder.use(kernel)
    note = f"input {step.input}: {features:,} elements, {num_levels} bits each"
    count = num_levels * features
    source = PackedSamplesArgument(step.input, builder.packed_planes[step.input])
    builder.packed_planes[step.input] += count
    placing = Launch(
        builder.use(placing_kernel()),
        LaunchShape.ROWS,
        count,
        (source, ChunkSize.PACKED_WORDS, rows, count),
        note,
    )
    builder.launch(kernel, LaunchShape.TILES, features, tuple(args), note, packed=placing)


def packing_kernel(dtype: str) -> CudaKernel:
    """Return the kernel that packs samples (n, features) of `dtype` "bit", "u8" or "f32"."""
    element = {"bit": "uint8_t", "u8": "uint8_t", "f32": "float"}[dtype]
    level = {"u8": "int16_t", "f32": "float"}.get(dtype)
    parameters = f"const {element} *x, unsigned samples, unsigned features, const plane_t *rows"
    if level:
        parameters += f", const {level} *levels, unsigned num_levels"
    body = _PACK_BODY.substitute(
        element=element,
        levels="num_levels" if level else "1",
        threshold=f"  const {level} limit = levels[(size_t)level * features + column];"
        if level
        else "",
        compare="> limit" if level else "!= 0",
    )
    test = "x > level" if level else "x != 0"
    return CudaKernel(
        f"pack_{dtype}",
        f"Packs samples into planes of the bits {test}. A lane reads one feature of 32 samples,\n"
        "and so has a whole word without a ballot; the lanes of a warp read 32 features side by\n"
        "side. A tile in shared memory transposes a block's words, so that stores fill sectors.",
        parameters,
        body.replace("\n\n", "\n"),
    )


def placing_kernel() -> CudaKernel:
    """Return the kernel that copies packed samples to the planes where the network reads them."""
    return CudaKernel(
        "place",
        "Copies planes of `pitch` words, which the caller packed, to those that the network reads.",
        "const word *x, size_t pitch, const plane_t *rows, unsigned count",
        """\
const unsigned w = blockIdx.z * blockDim.x + threadIdx.x;
const unsigned r = blockIdx.x * blockDim.y + threadIdx.y;
if (w >= words || r >= count) return;
planes[rows[r] * stride + w] = __ldg(x + r * pitch + w);""",
    )
