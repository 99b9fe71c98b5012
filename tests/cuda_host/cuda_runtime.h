// A stand-in for the CUDA runtime that runs kernels on the CPU, for tests only. It compiles a .cu
// file with `g++ -x c++ -I <this folder>`. Blocks and threads run in loops; each thread has its own
// stack, and hands over to the next thread of its block when it reaches a barrier. Device memory is
// filled with garbage and ends at a guard page, so that reads of memory that was never written
// change results, and reads past the end fault. `host_fail_after` makes a chosen call fail, and
// `host_reverse` reverses the order of blocks and threads.
#pragma once

#include <math.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <ucontext.h>

#include <map>
#include <utility>
#include <vector>

// State is shared by the files of a program, and hidden from other libraries.
#define HOST_STATE inline __attribute__((visibility("hidden")))

#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __shared__ static

struct dim3 {
  unsigned x, y, z;
  dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorMemoryAllocation = 2,
  cudaErrorInvalidConfiguration = 9,
};

enum cudaMemcpyKind { cudaMemcpyHostToDevice = 1, cudaMemcpyDeviceToHost = 2 };

enum cudaDeviceAttr {
  cudaDevAttrClockRate = 13,
  cudaDevAttrMultiProcessorCount = 16,
  cudaDevAttrMemoryClockRate = 36,
  cudaDevAttrGlobalMemoryBusWidth = 37,
  cudaDevAttrL2CacheSize = 38,
};

typedef struct CUstream_st *cudaStream_t;

struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  size_t dynamicSmemBytes;
  cudaStream_t stream;
};

HOST_STATE dim3 gridDim, blockDim, blockIdx, threadIdx;

// ---- what tests ask and set ----------------------------------------------------------------------

HOST_STATE long host_calls = 0, host_failing_call = -1;
HOST_STATE bool host_backwards = false;
HOST_STATE std::map<void *, std::pair<char *, size_t>> host_memory;  // pointer -> its mapping

extern "C" __attribute__((used)) inline void host_fail_after(long calls) { host_calls = 0, host_failing_call = calls; }
extern "C" __attribute__((used)) inline void host_reverse(int reverse) { host_backwards = reverse != 0; }
extern "C" __attribute__((used)) inline long host_allocations() { return (long)host_memory.size(); }

inline bool host_fails() { return host_calls++ == host_failing_call; }

// ---- memory --------------------------------------------------------------------------------------

inline cudaError_t cudaMalloc(void **out, size_t bytes)
{
  if (host_fails()) return cudaErrorMemoryAllocation;
  const size_t page = 4096, rounded = (bytes + page - 1) / page * page;
  char *mapping = (char *)mmap(nullptr, rounded + page, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapping == MAP_FAILED) return cudaErrorMemoryAllocation;
  memset(mapping, 0xa5, rounded);
  mprotect(mapping + rounded, page, PROT_NONE);
  *out = mapping + (rounded - bytes) / 16 * 16;
  host_memory[*out] = {mapping, rounded + page};
  return cudaSuccess;
}

inline cudaError_t cudaFree(void *memory)
{
  if (!memory) return cudaSuccess;
  const auto entry = host_memory.find(memory);
  if (entry == host_memory.end()) return cudaErrorInvalidValue;
  munmap(entry->second.first, entry->second.second);
  host_memory.erase(entry);
  return host_fails() ? cudaErrorInvalidValue : cudaSuccess;
}

inline cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, cudaMemcpyKind)
{
  if (host_fails()) return cudaErrorInvalidValue;
  memcpy(to, from, bytes);
  return cudaSuccess;
}

inline cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind,
                                   cudaStream_t)
{
  return cudaMemcpy(to, from, bytes, kind);
}

inline cudaError_t cudaMallocHost(void **out, size_t bytes) { return cudaMalloc(out, bytes); }

inline cudaError_t cudaFreeHost(void *memory) { return cudaFree(memory); }

inline const char *cudaGetErrorString(cudaError_t) { return "an error of the host"; }

inline cudaError_t cudaMemset(void *at, int value, size_t bytes)
{
  if (host_fails()) return cudaErrorInvalidValue;
  memset(at, value, bytes);
  return cudaSuccess;
}

inline cudaError_t cudaStreamSynchronize(cudaStream_t)
{
  return host_fails() ? cudaErrorInvalidValue : cudaSuccess;
}

// ---- time and attributes -------------------------------------------------------------------------

typedef timespec *cudaEvent_t;

inline cudaError_t cudaEventCreate(cudaEvent_t *event)
{
  *event = new timespec();
  return cudaSuccess;
}

inline cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t)
{
  clock_gettime(CLOCK_MONOTONIC, event);
  return cudaSuccess;
}

inline cudaError_t cudaEventSynchronize(cudaEvent_t) { return cudaSuccess; }

inline cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t begin, cudaEvent_t end)
{
  *milliseconds = (end->tv_sec - begin->tv_sec) * 1e3f + (end->tv_nsec - begin->tv_nsec) * 1e-6f;
  return cudaSuccess;
}

inline cudaError_t cudaEventDestroy(cudaEvent_t event)
{
  delete event;
  return cudaSuccess;
}

inline cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int)
{
  *value = 1000 + attribute;
  return cudaSuccess;
}

// ---- device functions ----------------------------------------------------------------------------

template <class T>
inline T __ldg(const T *at) { return *at; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline unsigned min(unsigned a, unsigned b) { return a < b ? a : b; }

// ---- threads -------------------------------------------------------------------------------------

// One thread of a block with its stack, reused for thread after thread. ucontext gives it the stack,
// and setjmp switches, because swapcontext would make two system calls each time.
struct HostThread {
  static const size_t STACK = 64 << 10;
  char *stack = (char *)malloc(STACK);
  ucontext_t context;
  jmp_buf resume;
  bool started = false, done = true;
  dim3 index;
};

HOST_STATE std::vector<HostThread *> host_threads;
HOST_STATE HostThread *host_current;
HOST_STATE jmp_buf host_scheduler;
HOST_STATE void (*host_body)(void *);
HOST_STATE void *host_arguments;

__attribute__((noinline)) inline void host_yield()
{
  if (_setjmp(host_current->resume) == 0) _longjmp(host_scheduler, 1);
}

inline void __syncthreads() { host_yield(); }

inline void host_main()
{
  for (;;) {
    host_body(host_arguments);
    host_current->done = true;
    host_yield();
  }
}

// Runs `thread` until its next barrier or its end.
__attribute__((noinline)) inline void host_advance(HostThread *thread)
{
  host_current = thread;
  threadIdx = thread->index;
  if (_setjmp(host_scheduler) != 0) return;
  if (thread->started) _longjmp(thread->resume, 1);
  thread->started = true;
  getcontext(&thread->context);
  thread->context.uc_stack.ss_sp = thread->stack;
  thread->context.uc_stack.ss_size = HostThread::STACK;
  makecontext(&thread->context, host_main, 0);
  setcontext(&thread->context);
}

inline void host_run_block(unsigned count)
{
  while (host_threads.size() < count) host_threads.push_back(new HostThread);
  for (unsigned i = 0; i < count; ++i) {
    HostThread *thread = host_threads[i];
    const unsigned n = host_backwards ? count - 1 - i : i;
    thread->index = dim3(n % blockDim.x, n / blockDim.x % blockDim.y, n / blockDim.x / blockDim.y);
    thread->done = false;
  }
  for (bool running = true; running;) {
    running = false;
    for (unsigned i = 0; i < count; ++i) {
      if (host_threads[i]->done) continue;
      host_advance(host_threads[i]);
      running |= !host_threads[i]->done;
    }
  }
}

template <class Call>
inline void host_call(void *call) { (*(Call *)call)(); }

template <class Call>
inline cudaError_t host_launch(dim3 grid, dim3 block, Call call)
{
  const size_t threads = (size_t)block.x * block.y * block.z;
  if (host_fails() || grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.x > 0x7fffffffu ||
      grid.y > 65535 || grid.z > 65535 || threads == 0 || threads > 1024)
    return cudaErrorInvalidConfiguration;
  gridDim = grid, blockDim = block;
  host_body = host_call<Call>, host_arguments = &call;
  const size_t blocks = (size_t)grid.x * grid.y * grid.z;
  for (size_t i = 0; i < blocks; ++i) {
    const size_t b = host_backwards ? blocks - 1 - i : i;
    blockIdx = dim3(b % grid.x, b / grid.x % grid.y, b / grid.x / grid.y);
    host_run_block((unsigned)threads);
  }
  return cudaSuccess;
}

template <class... P, class... A>
inline cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t *config, void (*kernel)(P...),
                                      A... args)
{
  return host_launch(config->gridDim, config->blockDim,
                     [=] { kernel(static_cast<P>(args)...); });
}

// A launch by pointers to the arguments, as cuLaunchKernel takes them.
template <class... P, size_t... I>
inline int host_launch_pointers(void (*kernel)(P...), const unsigned *dims, void **args,
                                std::index_sequence<I...>)
{
  return host_launch(dim3(dims[0], dims[1], dims[2]), dim3(dims[3], dims[4], dims[5]),
                     [=] { kernel(*(P *)args[I]...); });
}

template <class... P>
inline int host_launch_pointers(void (*kernel)(P...), const unsigned *dims, void **args)
{
  return host_launch_pointers(kernel, dims, args, std::index_sequence_for<P...>());
}
