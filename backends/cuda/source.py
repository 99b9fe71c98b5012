"""A program as one CUDA source file: kernels, tables as constant data, and a small C interface.

The file needs nothing but the CUDA runtime. With `LGIR_KERNELS_ONLY`, which NVRTC implies, only the
kernels remain, under their plain names, for a process that launches them itself.
"""

from __future__ import annotations

import textwrap
from string import Template
from typing import Final

from lgir.backends.c.interface import Interface
from lgir.backends.c.text import float_literal, needed_pieces, parenthesized
from lgir.backends.cuda.host_templates import ENVIRONMENT, HOST, SHAPE_FUNCTIONS
from lgir.backends.cuda.interface import (
    MANUAL,
    array_descriptions,
    function_declarations,
    prototypes,
    title,
)
from lgir.backends.cuda.kernel import COLUMNS, DEVICE_HELPERS, POSITIONS_PER_THREAD, THREADS
from lgir.backends.cuda.launch import (
    WARP_LANES,
    WORD_BITS,
    ChunkSize,
    ConstantTable,
    Launch,
    LaunchArgument,
    LaunchShape,
    PackedSamplesArgument,
    ResultsArgument,
    SamplesArgument,
    TableArgument,
)
from lgir.backends.cuda.program import LaunchProgram, build_program
from lgir.backends.lowering.steps import ONE_PLANE
from lgir.ir.graph import Graph

DEFAULT_WORKSPACE: Final = 32 << 20
"""Bytes of planes that the L2 cache of a data-center GPU holds beside the tables."""
_MAX_WORDS: Final = 1 << 18
"""A grid has at most 65,535 blocks along z, and a block works on at least eight words."""
_NUMBERS_PER_LINE: Final = 24
_COMMENT_COLUMNS: Final = 94
_PLANE_TYPES: Final = {2: "uint16_t", 4: "uint32_t"}


def emit_cuda(
    graph: Graph, *, prefix: str | None = None, workspace: int = DEFAULT_WORKSPACE
) -> str:
    """Return `graph` as the text of a .cu file.

    Args:
        prefix: what the C functions' names begin with, `<prefix>_create` and so on. None derives it
            from the graph's name.
        workspace: bytes of GPU memory for planes. A batch that needs more is split, but not into
            chunks of fewer than 32 words per plane.

    Raises:
        BackendError: the graph cannot be lowered, or `prefix` is not a C name.
    """
    return program_text(build_program(graph), prefix, workspace)


def program_text(
    program: LaunchProgram, prefix: str | None = None, workspace: int = DEFAULT_WORKSPACE
) -> str:
    """Return the .cu file of `program`; the other arguments and errors are those of `emit_cuda`."""
    prefix = Interface(program.plan.graph, prefix).prefix
    kernels = "\n".join(kernel.text for kernel in program.kernels)
    trees = "\n".join(tree.text for tree in program.trees)
    parts = [
        _opening_comment(program, prefix),
        ENVIRONMENT,
        f"typedef {_PLANE_TYPES[program.plane_dtype.itemsize]} plane_t;  // the number of a plane",
        *needed_pieces(DEVICE_HELPERS, trees + kernels),
        trees,
        "// ---- kernels " + "-" * 86,
        kernels,
        "#ifndef LGIR_KERNELS_ONLY",
        "// ---- tables " + "-" * 87,
        *map(table_text, program.tables),
        "// ---- host " + "-" * 89,
        _host_text(program, prefix, workspace),
        "#endif  // LGIR_KERNELS_ONLY",
    ]
    return "\n".join(parts) + "\n"


def max_words(program: LaunchProgram, workspace: int) -> int:
    """Return the words per plane that `workspace` bytes allow: whole warps, and at least one."""
    num_planes = program.plan.num_planes
    fitting = workspace // (4 * num_planes)
    addressable = ((1 << 32) - 1) // num_planes
    return max(WARP_LANES, min(fitting, addressable, _MAX_WORDS) // WARP_LANES * WARP_LANES)


def _opening_comment(program: LaunchProgram, prefix: str) -> str:
    plan, launches = program.plan, len(program.launches)
    table_bytes = sum(t.data.nbytes for t in program.tables)
    lines = [
        title(program),
        "",
        *array_descriptions(program),
        f"{plan.gates:,} gates per sample; {launches} launches per chunk of the batch; "
        f"{plan.num_planes:,} planes, {table_bytes:,} bytes of tables.",
        "",
        "A library:  nvcc -O3 -arch=sm_90 -shared -Xcompiler -fPIC -o model.so model.cu",
        "An object:  nvcc -O3 -arch=sm_90 -c model.cu",
        "",
        "Your program declares:",
        "",
        *(f"  {line}" for line in function_declarations(prefix)),
        *(line for text in MANUAL for line in ["", *textwrap.wrap(text, _COMMENT_COLUMNS)]),
    ]
    return "\n".join(f"// {line}".rstrip() for line in lines) + "\n"


# -- tables --------------------------------------------------------------------------------------


def table_text(table: ConstantTable) -> str:
    """Return a table as a constant array, with whole rows on a line."""
    columns = table.data.shape[1]
    per_line = columns * max(1, _NUMBERS_PER_LINE // columns)
    numbers = _literals(table)
    lines = [",".join(numbers[i : i + per_line]) for i in range(0, len(numbers), per_line)]
    shape = f"  // [{len(table.data)}][{columns}]" if columns > 1 else ""
    body = ",\n".join(lines)
    return f"const {table.c_type} {table.name}[] = {{{shape}\n{body}}};\n"


def _literals(table: ConstantTable) -> list[str]:
    values = table.data.ravel().tolist()
    if table.c_type == "float":
        return [float_literal(x) for x in values]
    if table.c_type == "uint64_t":
        return [f"0x{x:x}ull" for x in values]
    if table.name.endswith("_masks"):
        return [f"0x{x:x}" for x in values]
    return list(map(str, values))


# -- host ----------------------------------------------------------------------------------------


def _host_text(program: LaunchProgram, prefix: str, workspace: int) -> str:
    steps = "\n".join(map(_step, program.launches))
    shapes = Template("\n".join(needed_pieces(SHAPE_FUNCTIONS, steps)))
    tables = program.tables
    return (
        Template(HOST)
        .substitute(
            prefix=prefix,
            **prototypes(prefix),
            enum="\n".join(f"  {t.name.upper()}," for t in tables),
            entries="\n".join(f"  {{{t.name}, sizeof {t.name}}}," for t in tables),
            planes=program.plan.num_planes,
            words=max_words(program, workspace),
            word_bits=WORD_BITS,
            one=ONE_PLANE,
            steps=steps,
            shapes=shapes.substitute(threads=THREADS, per_thread=POSITIONS_PER_THREAD),
        )
        .replace("\n\n\n", "\n\n")
    )


def _step(launch: Launch) -> str:
    call = _call(launch)
    if launch.packed is not None:
        packed = _call(launch.packed)
        return f"  // {launch.note}\n  LGIR_TRY(c.packed\n    ? {packed}\n    : {call});"
    return f"  // {launch.note}\n  LGIR_TRY({call});"


def _call(launch: Launch) -> str:
    size = str(launch.size)
    if launch.shape is LaunchShape.POSITIONS:
        size += f", {launch.positions}"
    head = f"launch(c, {launch.kernel}, over_{launch.shape.value}(c, {size}),"
    return f"{head}\n{parenthesized('      ', list(map(_argument, launch.args)), COLUMNS)}"


def _argument(arg: LaunchArgument) -> str:
    if isinstance(arg, TableArgument):
        return f"c.table[{arg.table.name.upper()}]"
    if isinstance(arg, SamplesArgument):
        return f"(const {arg.c_type} *)c.inputs[{arg.input}] + c.first * {arg.width}"
    if isinstance(arg, PackedSamplesArgument):
        plane = f" + {arg.first} * c.pitch" if arg.first else ""
        return f"(const word *)c.inputs[{arg.input}]{plane} + c.first / {WORD_BITS}"
    if isinstance(arg, ResultsArgument):
        return f"({arg.c_type} *)c.outputs[{arg.output}] + c.first * {arg.width}"
    if isinstance(arg, ChunkSize):
        return "c.samples" if arg is ChunkSize.SAMPLES else "c.pitch"
    return float_literal(arg) if isinstance(arg, float) else f"{arg}u"
