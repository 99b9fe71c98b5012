"""The CUDA backend: bit-packed inference on NVIDIA GPUs, as source a person can read and build."""

from lgir.backends.cuda.source import emit_cuda

__all__ = ["emit_cuda"]
