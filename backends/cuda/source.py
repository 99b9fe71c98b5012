"""A program as one CUDA source file: kernels, tables as constant data, and a small C interface.

The file needs nothing but the CUDA runtime. With `LGIR_KERNELS_ONLY`, which NVRTC implies, only the
kernels remain, under their plain names, for a process that launches them itself.
"""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Mapping
from string import Template
from typing import Final

import numpy as np

from lgir.backends.c.interface import Interface
from lgir.backends.cuda.host_text import ENVIRONMENT, HOST, SHAPES
from lgir.backends.cuda.interface import MANUAL, arrays, declarations, prototypes, title
from lgir.backends.cuda.kernels import HELPERS, POSITIONS, THREADS, listed
from lgir.backends.cuda.launch import (
    LANES,
    WORD_BITS,
    Arg,
    Count,
    Launch,
    Packed,
    Pitch,
    Results,
    Samples,
    Table,
    View,
)
from lgir.backends.cuda.program import LOWERING_OPTIONS, Program
from lgir.backends.lowering.plan import make_plan
from lgir.backends.lowering.steps import ONE_PLANE
from lgir.ir.graph import Graph

DEFAULT_WORKSPACE: Final = 32 << 20
"""Bytes of planes: what the L2 cache of a data-centre GPU holds beside the tables."""
_MAX_WORDS: Final = 1 << 18
"""Grids have 65,535 blocks at most along z, of eight words at least."""
_LINE: Final = 24  # numbers on a line of a table, about


def emit_cuda(
    graph: Graph, *, prefix: str | None = None, workspace: int = DEFAULT_WORKSPACE
) -> str:
    """`graph` as the text of a .cu file.

    Args:
        prefix: what the C functions' names begin with, `<prefix>_create` and so on; from the
            graph's name where None.
        workspace: bytes of GPU memory for planes; a batch that needs more is split. At least 32
            words a plane are taken.

    Raises:
        BackendError: the graph cannot be lowered, or `prefix` is not a C name.
    """
    return source(Program(make_plan(graph, LOWERING_OPTIONS)), prefix, workspace)


def source(program: Program, prefix: str | None = None, workspace: int = DEFAULT_WORKSPACE) -> str:
    """The text of `program`; see `emit_cuda`."""
    prefix = Interface(program.plan.graph, prefix).prefix
    kernels = "\n".join(kernel.text for kernel in program.kernels.values())
    trees = "\n".join(tree.text for tree in program.trees.values())
    parts = [
        _header(program, prefix),
        ENVIRONMENT,
        f"typedef {_INDEX_TYPES[program.index_dtype.itemsize]} plane_t;  // the number of a plane",
        *_needed(HELPERS, trees + kernels),
        trees,
        "// ---- kernels " + "-" * 86,
        kernels,
        "#ifndef LGIR_KERNELS_ONLY",
        "// ---- tables " + "-" * 87,
        *map(table_text, program.tables),
        "// ---- host " + "-" * 89,
        _host(program, prefix, workspace),
        "#endif  // LGIR_KERNELS_ONLY",
    ]
    return "\n".join(parts) + "\n"


def _needed(pieces: Mapping[str, str], text: str) -> list[str]:
    """The pieces whose names occur in `text` or in another needed piece: compilers warn of what
    nothing uses. Pieces come in the order in which they must be declared.
    """
    found: dict[str, str] = {}
    for name, piece in reversed(list(pieces.items())):
        if re.search(rf"\b{name}\b", text):
            found[name] = piece
            text += piece
    return list(found.values())[::-1]


def max_words(program: Program, workspace: int) -> int:
    """Words of a plane that `workspace` bytes allow: whole warps, and at least one."""
    fit = workspace // (4 * program.plan.num_planes)
    addressable = ((1 << 32) - 1) // program.plan.num_planes
    return max(LANES, min(fit, addressable, _MAX_WORDS) // LANES * LANES)


_INDEX_TYPES: Final = {2: "uint16_t", 4: "uint32_t"}


def _header(program: Program, prefix: str) -> str:
    plan, launches = program.plan, len(program.launches)
    bytes_ = sum(t.data.nbytes for t in program.tables)
    lines = [
        title(program),
        "",
        *arrays(program),
        f"{plan.gates:,} gates a sample; {launches} launches a chunk of the batch; "
        f"{plan.num_planes:,} planes, {bytes_:,} bytes of tables.",
        "",
        "A library:  nvcc -O3 -arch=sm_90 -shared -Xcompiler -fPIC -o model.so model.cu",
        "An object:  nvcc -O3 -arch=sm_90 -c model.cu",
        "",
        "Your program declares:",
        "",
        *(f"  {line}" for line in declarations(prefix)),
        *(line for text in MANUAL for line in ["", *textwrap.wrap(text, 94)]),
    ]
    return "\n".join(f"// {line}".rstrip() for line in lines) + "\n"


# -- tables --------------------------------------------------------------------------------------


def table_text(table: Table) -> str:
    """A table as a constant array, whole rows to a line."""
    columns = table.data.shape[1]
    step = columns * max(1, _LINE // columns)
    numbers = _numbers(table)
    lines = [",".join(numbers[i : i + step]) for i in range(0, len(numbers), step)]
    about = f"  // [{len(table.data)}][{columns}]" if columns > 1 else ""
    body = ",\n".join(lines)
    return f"const {table.kind} {table.name}[] = {{{about}\n{body}}};\n"


def _numbers(table: Table) -> list[str]:
    values = table.data.ravel().tolist()
    if table.kind == "float":
        return [float_text(x) for x in values]
    if table.kind == "uint64_t":
        return [f"0x{x:x}ull" for x in values]
    if table.name.endswith("_masks"):
        return [f"0x{x:x}" for x in values]
    return list(map(str, values))


def float_text(x: float) -> str:
    """A C literal of exactly this float32."""
    if math.isinf(x):
        return "HUGE_VALF" if x > 0 else "-HUGE_VALF"
    text = f"{np.float32(x):.9g}"
    return text + ("f" if "." in text or "e" in text else ".0f")


# -- host ----------------------------------------------------------------------------------------


def _host(program: Program, prefix: str, workspace: int) -> str:
    steps = "\n".join(_step(launch) for launch in program.launches)
    shapes = _needed(SHAPES, steps)
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
            shapes=Template("\n".join(shapes)).substitute(threads=THREADS, per_thread=POSITIONS),
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
    size = f"{launch.size}, {launch.positions}" if launch.shape == "positions" else launch.size
    head = f"launch(c, {launch.kernel}, over_{launch.shape}(c, {size}),"
    return f"{head}\n{listed('      ', list(map(_argument, launch.args)))}"


def _argument(arg: Arg) -> str:
    if isinstance(arg, View):
        return f"c.table[{arg.table.name.upper()}]"
    if isinstance(arg, Samples):
        return f"(const {arg.kind} *)c.inputs[{arg.input}] + c.first * {arg.width}"
    if isinstance(arg, Packed):
        first = f" + {arg.first} * c.pitch" if arg.first else ""
        return f"(const word *)c.inputs[{arg.input}]{first} + c.first / {WORD_BITS}"
    if isinstance(arg, Pitch):
        return "c.pitch"
    if isinstance(arg, Results):
        return f"({arg.kind} *)c.outputs[{arg.output}] + c.first * {arg.width}"
    if isinstance(arg, Count):
        return "c.samples"
    return float_text(arg) if isinstance(arg, float) else f"{arg}u"
