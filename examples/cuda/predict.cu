/* Scores of a model on the GPU: samples of bytes on stdin, a line of scores each on stdout.
 *
 *     lgir export model.onnx -p default -o model.cu --header model.h --prefix model
 *     nvcc -O3 -arch=native -o predict predict.cu model.cu
 *     ./predict < samples.u8
 */
#include <cuda_runtime.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "model.h"

enum { BATCH = 1 << 16, IN = MODEL_INPUT_ELEMENTS, OUT = MODEL_OUTPUT_ELEMENTS };

static void check(cudaError_t error, const char *what)
{
  if (error == cudaSuccess) return;
  fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(error));
  exit(EXIT_FAILURE);
}

int main(void)
{
  uint8_t *samples, *on_host;
  float *scores, *of_host;
  model_network *network;

  /* Pinned memory on the host, so that copies keep to the stream. */
  check(cudaMallocHost((void **)&on_host, (size_t)BATCH * IN), "host memory");
  check(cudaMallocHost((void **)&of_host, sizeof(float) * BATCH * OUT), "host memory");
  check(cudaMalloc((void **)&samples, (size_t)BATCH * IN), "device memory");
  check(cudaMalloc((void **)&scores, sizeof(float) * BATCH * OUT), "device memory");
  check(model_create(&network, 0), "model_create");

  const void *inputs[] = {samples};
  void *outputs[] = {scores};
  for (size_t n; (n = fread(on_host, IN, BATCH, stdin)) > 0;) {
    check(cudaMemcpyAsync(samples, on_host, n * IN, cudaMemcpyHostToDevice, 0), "copy in");
    check(model_run(network, inputs, outputs, n, 0), "model_run");
    check(cudaMemcpyAsync(of_host, scores, sizeof(float) * n * OUT, cudaMemcpyDeviceToHost, 0),
          "copy out");
    check(cudaStreamSynchronize(0), "the GPU");
    for (size_t i = 0; i < n * OUT; i++)
      printf("%.9g%c", of_host[i], (i + 1) % OUT ? ' ' : '\n');
  }

  check(model_destroy(network), "model_destroy");
  check(cudaFree(scores), "device memory");
  check(cudaFree(samples), "device memory");
  check(cudaFreeHost(of_host), "host memory");
  check(cudaFreeHost(on_host), "host memory");
  return EXIT_SUCCESS;
}
