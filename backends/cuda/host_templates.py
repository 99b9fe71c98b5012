"""The host part of the source as templates: types, and the C functions around the steps.

Placeholders are those of `string.Template`, and `lgir.backends.cuda.source` fills them.
"""

from __future__ import annotations

from typing import Final

ENVIRONMENT: Final = """\
#ifdef __CUDACC_RTC__
#define LGIR_KERNELS_ONLY  // for a process that launches them itself
typedef signed short int16_t;
typedef unsigned char uint8_t;
typedef unsigned short uint16_t;
typedef unsigned int uint32_t;
typedef unsigned long long uint64_t;
#else
#include <cuda_runtime.h>
#include <stddef.h>
#include <stdint.h>

#include <new>
#endif

#ifdef LGIR_KERNELS_ONLY
#define LGIR_KERNEL extern "C" __global__
#else
#define LGIR_KERNEL static __global__
namespace {
#endif
"""

SHAPE_FUNCTIONS: Final = {
    "lanes": """\
// Returns the threads along x, each of which works on a word: a warp if there are as many words,
// fewer in a small batch, which leaves threads for more rows.
unsigned lanes(const Chunk &c)
{
  unsigned n = 32;
  while (n > 4 && n / 2 >= c.words) n /= 2;
  return n;
}
""",
    "over_rows": """\
Shape over_rows(const Chunk &c, size_t rows)
{
  const unsigned x = lanes(c), y = $threads / x;
  return {dim3(ceil_div(rows, y), 1, ceil_div(c.words, x)), dim3(x, y)};
}
""",
    "over_positions": """\
Shape over_positions(const Chunk &c, size_t rows, size_t positions)
{
  const unsigned x = lanes(c);
  unsigned y = $threads / x;
  while (y > 1 && y / 2 >= positions) y /= 2;
  const unsigned tiles = ceil_div(positions, $per_thread * y);
  return {dim3((unsigned)rows, tiles, ceil_div(c.words, x)), dim3(x, y)};
}
""",
    "over_tiles": """\
Shape over_tiles(const Chunk &c, size_t elements)
{
  return {dim3(ceil_div(elements, 32), 1, ceil_div(c.words, 8)), dim3(32, 8)};
}
""",
    "over_groups": """\
Shape over_groups(const Chunk &c, size_t groups)
{
  return {dim3((unsigned)groups, 1, ceil_div(c.words, 32)), dim3(32, 8)};
}
""",
}
"""Host functions that decide how threads meet the work of a launch, by name."""

HOST: Final = """\
enum TableNumber {
$enum
  NUM_TABLES
};

const struct { const void *data; size_t bytes; } TABLES[] = {
$entries
};

const size_t NUM_PLANES = $planes;
const size_t MAX_WORDS = $words;  // of a plane, 32 samples each; a longer batch is split

#define LGIR_TRY(call) \\
  do { \\
    const cudaError_t lgir_error = (call); \\
    if (lgir_error != cudaSuccess) return lgir_error; \\
  } while (0)
}  // namespace

struct ${prefix}_network {
  word *planes;
  unsigned char *tables;
  const void *table[NUM_TABLES];
  unsigned stride;
};

namespace {

// The part of the batch that the workspace holds at once.
struct Chunk {
  word *planes;
  const void *const *table;
  unsigned stride, words, samples;
  size_t first, pitch;  // the chunk's first sample; words of a whole packed plane
  bool packed;
  const void *const *inputs;
  void *const *outputs;
  cudaStream_t stream;
};

struct Shape { dim3 grid, block; };

unsigned ceil_div(size_t n, size_t by) { return (unsigned)((n + by - 1) / by); }

$shapes
template <class... P, class... A>
cudaError_t launch(const Chunk &c, void (*kernel)(word *, unsigned, unsigned, P...), Shape shape,
                   A... args)
{
  cudaLaunchConfig_t config = {};
  config.gridDim = shape.grid;
  config.blockDim = shape.block;
  config.stream = c.stream;
  return cudaLaunchKernelEx(&config, kernel, c.planes, c.stride, c.words, static_cast<P>(args)...);
}

// Queues every step of the network for one chunk.
cudaError_t run_chunk(const Chunk &c)
{
$steps
  return cudaSuccess;
}

cudaError_t run(${prefix}_network *net, const void *const *inputs, bool packed,
                void *const *outputs, size_t samples, cudaStream_t stream)
{
  if (!net || !inputs || !outputs) return cudaErrorInvalidValue;
  const size_t most = (size_t)net->stride * $word_bits;
  for (size_t first = 0; first < samples; first += most) {
    const size_t n = samples - first < most ? samples - first : most;
    Chunk c = {};
    c.planes = net->planes, c.table = net->table, c.stride = net->stride;
    c.samples = (unsigned)n, c.words = ceil_div(n, $word_bits);
    c.first = first, c.pitch = ceil_div(samples, $word_bits), c.packed = packed;
    c.inputs = inputs, c.outputs = outputs, c.stream = stream;
    LGIR_TRY(run_chunk(c));
  }
  return cudaSuccess;
}

cudaError_t fill(${prefix}_network *net, size_t words)
{
  size_t bytes = 0, offset[NUM_TABLES];
  for (size_t t = 0; t < NUM_TABLES; ++t) {
    offset[t] = bytes;
    bytes += (TABLES[t].bytes + 255) / 256 * 256;
  }
  LGIR_TRY(cudaMalloc((void **)&net->tables, bytes));
  for (size_t t = 0; t < NUM_TABLES; ++t) {
    net->table[t] = net->tables + offset[t];
    LGIR_TRY(cudaMemcpy(net->tables + offset[t], TABLES[t].data, TABLES[t].bytes,
                        cudaMemcpyHostToDevice));
  }
  // Planes begin False, and those around the edges of images stay so; plane $one is True.
  net->stride = (unsigned)words;
  const size_t plane = words * sizeof(word);
  LGIR_TRY(cudaMalloc((void **)&net->planes, NUM_PLANES * plane));
  LGIR_TRY(cudaMemset(net->planes, 0, NUM_PLANES * plane));
  LGIR_TRY(cudaMemset(net->planes + $one * words, 0xff, plane));
  return cudaStreamSynchronize(0);
}

}  // namespace

extern "C" {

$destroy
{
  if (!network) return cudaSuccess;
  const cudaError_t planes = cudaFree(network->planes), tables = cudaFree(network->tables);
  delete network;
  return planes != cudaSuccess ? planes : tables;
}

$create
{
  if (!network) return cudaErrorInvalidValue;
  *network = nullptr;
  const bool whole = batch == 0 || batch > MAX_WORDS * $word_bits;
  ${prefix}_network *net = new (std::nothrow) ${prefix}_network();
  if (!net) return cudaErrorMemoryAllocation;
  const cudaError_t error = fill(net, whole ? MAX_WORDS : ceil_div(batch, $word_bits));
  if (error != cudaSuccess) {
    (void)${prefix}_destroy(net);  // the first error is the one to return
    return error;
  }
  *network = net;
  return cudaSuccess;
}

$run
{
  return run(network, inputs, false, outputs, samples, stream);
}

$run_packed
{
  return run(network, inputs, true, outputs, samples, stream);
}

}  // extern "C"
"""
