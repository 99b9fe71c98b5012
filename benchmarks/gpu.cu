// What gpu.py builds together with an exported model: timing by events, and the plain way that is
// compared, a kernel per level of gates whose threads each look up a gate and switch on its
// operation.

#include "model.cu"

#define TRY(call) \
  do { \
    const cudaError_t error = (call); \
    if (error != cudaSuccess) return error; \
  } while (0)

static __device__ uint32_t operation(uint8_t table, uint32_t a, uint32_t b)
{
  switch (table) {
  case 0x0: return 0u;
  case 0x1: return ~(a | b);
  case 0x2: return ~a & b;
  case 0x3: return ~a;
  case 0x4: return a & ~b;
  case 0x5: return ~b;
  case 0x6: return a ^ b;
  case 0x7: return ~(a & b);
  case 0x8: return a & b;
  case 0x9: return ~(a ^ b);
  case 0xa: return b;
  case 0xb: return ~a | b;
  case 0xc: return a;
  case 0xd: return a | ~b;
  case 0xe: return a | b;
  default: return ~0u;
  }
}

static __global__ void plain_level(uint32_t *planes, size_t words, const int64_t *a,
                                   const int64_t *b, const uint8_t *tables, size_t first,
                                   size_t gates)
{
  const size_t w = blockIdx.x * (size_t)blockDim.x + threadIdx.x;
  if (w >= words) return;
  const size_t step = (size_t)gridDim.y * blockDim.y;
  for (size_t g = blockIdx.y * (size_t)blockDim.y + threadIdx.y; g < gates; g += step)
    planes[(first + g) * words + w] =
        operation(tables[g], planes[a[g] * words + w], planes[b[g] * words + w]);
}

struct Plain {
  uint32_t *planes;
  size_t words, first_plane, levels;
  const size_t *sizes;
  const int64_t *a, *b;
  const uint8_t *tables;
};

static cudaError_t run_plain(const Plain *p)
{
  size_t first = 0;
  for (size_t level = 0; level < p->levels; ++level) {
    const size_t gates = p->sizes[level], rows = (gates + 7) / 8;
    cudaLaunchConfig_t config = {};
    config.gridDim = dim3((unsigned)((p->words + 31) / 32), (unsigned)(rows < 65535 ? rows : 65535));
    config.blockDim = dim3(32, 8);
    TRY(cudaLaunchKernelEx(&config, plain_level, p->planes, p->words, p->a + first, p->b + first,
                           p->tables + first, p->first_plane + first, gates));
    first += gates;
  }
  return cudaSuccess;
}

template <class Run>
static cudaError_t timed(Run run, size_t repeats, float *milliseconds)
{
  cudaEvent_t begin, end;
  TRY(cudaEventCreate(&begin));
  TRY(cudaEventCreate(&end));
  for (size_t i = 0; i < 3; ++i) TRY(run());
  for (size_t i = 0; i < repeats; ++i) {
    TRY(cudaEventRecord(begin, 0));
    TRY(run());
    TRY(cudaEventRecord(end, 0));
    TRY(cudaEventSynchronize(end));
    TRY(cudaEventElapsedTime(milliseconds + i, begin, end));
  }
  TRY(cudaEventDestroy(begin));
  return cudaEventDestroy(end);
}

extern "C" int bench_model(lgir_network *net, const void *const *inputs, void *const *outputs,
                           size_t samples, int packed, size_t repeats, float *milliseconds)
{
  const auto run = packed ? lgir_run_packed : lgir_run;
  return timed([=] { return run(net, inputs, outputs, samples, 0); }, repeats, milliseconds);
}

extern "C" int bench_plain(const Plain *plain, size_t repeats, float *milliseconds)
{
  return timed([=] { return run_plain(plain); }, repeats, milliseconds);
}

extern "C" int bench_upload(void **device, const void *host, size_t bytes)
{
  TRY(cudaMalloc(device, bytes));
  return cudaMemcpy(*device, host, bytes, cudaMemcpyHostToDevice);
}

extern "C" int bench_download(void *host, const void *device, size_t bytes)
{
  return cudaMemcpy(host, device, bytes, cudaMemcpyDeviceToHost);
}

extern "C" int bench_free(void *device) { return cudaFree(device); }

// Multiprocessors, clock in kHz, bytes of L2, memory clock in kHz, memory bus in bits.
extern "C" int bench_device(int *attributes)
{
  const cudaDeviceAttr wanted[] = {cudaDevAttrMultiProcessorCount, cudaDevAttrClockRate,
                                   cudaDevAttrL2CacheSize, cudaDevAttrMemoryClockRate,
                                   cudaDevAttrGlobalMemoryBusWidth};
  for (size_t i = 0; i < 5; ++i) TRY(cudaDeviceGetAttribute(attributes + i, wanted[i], 0));
  return cudaSuccess;
}
