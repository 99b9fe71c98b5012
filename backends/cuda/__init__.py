"""The CUDA backend: bit-packed inference on NVIDIA GPUs, as readable source code.

`program` lowers a plan to launches of kernels over tables, one kind of step per module (`packing`,
`gates`, `trees`, `scoring`). `source` writes them as one .cu file. `toolchain` compiles it, and
`runtime` queues the launches on a device. `cost_model` predicts rates.
"""

from __future__ import annotations

from lgir.backends.cuda.device import CudaDevice
from lgir.backends.cuda.executable import CudaExecutable
from lgir.backends.cuda.interface import header
from lgir.backends.cuda.program import build_program
from lgir.backends.cuda.source import DEFAULT_WORKSPACE, emit_cuda, program_text
from lgir.backends.cuda.toolchain import check_arch
from lgir.formats.exporter import Export
from lgir.ir.graph import Graph
from lgir.registry import register_backend, register_exporter


@register_backend("cuda")
def compile_cuda(
    graph: Graph, *, arch: str | None = None, workspace: int = DEFAULT_WORKSPACE
) -> CudaExecutable:
    """Compile kernels for the current GPU, or for device 0.

    Args:
        arch: the architecture to compile for, sm_80 or newer. None takes the device's own.
        workspace: bytes of GPU memory for planes. A batch that needs more is split.

    Raises:
        BackendError: there is no GPU, driver or compiler (`emit_cuda` needs none), or the graph
            cannot be lowered.
    """
    if arch is not None:
        check_arch(arch)
    return CudaExecutable(graph, CudaDevice(), arch, workspace)


@register_exporter("cu")
@register_exporter("cuda")
def export_cuda(
    graph: Graph, *, prefix: str | None = None, workspace: int = DEFAULT_WORKSPACE
) -> Export:
    """Export CUDA source of kernels, tables and C functions.

    The arguments and errors are those of `emit_cuda`.
    """
    program = build_program(graph)
    return Export(program_text(program, prefix, workspace).encode(), header(program, prefix))


__all__ = ["CudaExecutable", "compile_cuda", "emit_cuda", "export_cuda"]
