"""The CUDA backend: bit-packed inference on NVIDIA GPUs, as source a person can read and build.

`program` turns the plan into launches over tables, `kernels`, `trees` and `ends` write the kernels'
text, `source` puts all into one .cu file; `toolchain` compiles it, `runtime` runs it on a GPU.
"""

from __future__ import annotations

from lgir.backends.cuda.driver import Device
from lgir.backends.cuda.executable import CudaExecutable
from lgir.backends.cuda.interface import header
from lgir.backends.cuda.program import LOWERING_OPTIONS, Program
from lgir.backends.cuda.source import DEFAULT_WORKSPACE, emit_cuda, source
from lgir.backends.cuda.toolchain import check_arch
from lgir.backends.lowering.plan import make_plan
from lgir.formats.exporter import Export
from lgir.ir.graph import Graph
from lgir.registry import register_backend, register_exporter


@register_backend("cuda")
def compile_cuda(
    graph: Graph, *, arch: str | None = None, workspace: int = DEFAULT_WORKSPACE
) -> CudaExecutable:
    """Kernels for the current GPU, or device 0.

    Args:
        arch: architecture to compile for, sm_80 or newer; the device's own where None.
        workspace: bytes of GPU memory for planes; a batch that needs more is split.

    Raises:
        BackendError: no GPU, driver or compiler (`emit_cuda` works without any), or a graph that
            cannot be lowered.
    """
    if arch is not None:
        check_arch(arch)
    return CudaExecutable(graph, Device(), arch, workspace)


@register_exporter("cu")
@register_exporter("cuda")
def export_cuda(
    graph: Graph, *, prefix: str | None = None, workspace: int = DEFAULT_WORKSPACE
) -> Export:
    """CUDA source of kernels, tables and C functions; see `emit_cuda`."""
    program = Program(make_plan(graph, LOWERING_OPTIONS))
    return Export(source(program, prefix, workspace).encode(), header(program, prefix))


__all__ = ["CudaExecutable", "compile_cuda", "emit_cuda", "export_cuda"]
