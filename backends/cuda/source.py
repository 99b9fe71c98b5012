"""A program as one CUDA source file: kernels, tables as constant data, and a small C interface.

The file needs nothing but the CUDA runtime. With `LGIR_KERNELS_ONLY`, which NVRTC implies, only the
kernels remain, under their plain names, for a process that launches them itself.
"""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from string import Template
from typing import Final

import numpy as np

from lgir.backends.cuda.kernels import HELPERS, POSITIONS, THREADS
from lgir.backends.cuda.program import (
    LANES,
    WORD_BITS,
    Arg,
    Count,
    Launch,
    Packed,
    Pitch,
    Program,
    Results,
    Samples,
    Table,
    View,
)
from lgir.backends.plan import make_plan
from lgir.backends.steps import ONE_PLANE
from lgir.errors import BackendError
from lgir.graph import Graph, Value

DEFAULT_WORKSPACE: Final = 32 << 20
"""Bytes of planes: what the L2 cache of a data-centre GPU holds beside the tables."""
_LINE: Final = 24  # numbers on a line of a table, about


def emit_cuda(graph: Graph, *, prefix: str = "lgir", workspace: int = DEFAULT_WORKSPACE) -> str:
    """`graph` as the text of a .cu file.

    Args:
        prefix: what the C functions' names begin with, `<prefix>_create` and so on: different
            where several networks go into one program.
        workspace: bytes of GPU memory for planes; a batch that needs more is split. At least 32
            words a plane are taken.

    Raises:
        BackendError: the graph cannot be lowered, or `prefix` is not a C name.
    """
    return source(Program(make_plan(graph)), prefix, workspace)


def source(program: Program, prefix: str = "lgir", workspace: int = DEFAULT_WORKSPACE) -> str:
    """The text of `program`; see `emit_cuda`."""
    if not prefix.isidentifier() or not prefix.isascii():
        raise BackendError(f"prefix {prefix!r} is not a C name; use letters, digits and _")
    kernels = "\n".join(kernel.text for kernel in program.kernels.values())
    trees = "\n".join(tree.text for tree in program.trees.values())
    parts = [
        _header(program, prefix),
        _ENVIRONMENT,
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
    return max(LANES, min(fit, addressable) // LANES * LANES)


_INDEX_TYPES: Final = {2: "uint16_t", 4: "uint32_t"}

_ENVIRONMENT: Final = """\
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


def _header(program: Program, prefix: str) -> str:
    graph, plan = program.plan.graph, program.plan
    launches = len(program.launches)
    bytes_ = sum(t.data.nbytes for t in program.tables)
    lines = [
        f"{_plain(graph.name)}: a logic gate network, compiled to CUDA by lgir {_version()}.",
        "",
        *_arrays(program),
        f"{plan.gates:,} gates a sample; {launches} launches a chunk of the batch; "
        f"{plan.num_planes:,} planes, {bytes_:,} bytes of tables.",
        "",
        "A library:  nvcc -O3 -arch=sm_90 -shared -Xcompiler -fPIC -o model.so model.cu",
        "An object:  nvcc -O3 -arch=sm_90 -c model.cu",
        "",
        "Your program declares:",
        "",
        *(f"  {line}" for line in _declarations(prefix)),
        "",
        *_MANUAL.splitlines(),
    ]
    return "\n".join(f"// {line}".rstrip() for line in lines) + "\n"


_DECLARATIONS: Final = """\
typedef struct lgir_network lgir_network;
cudaError_t lgir_create(lgir_network **network, size_t batch);
cudaError_t lgir_run(lgir_network *network, const void *const *inputs, void *const *outputs,
                     size_t samples, cudaStream_t stream);
cudaError_t lgir_run_packed(lgir_network *network, const void *const *inputs,
                            void *const *outputs, size_t samples, cudaStream_t stream);
cudaError_t lgir_destroy(lgir_network *network);
"""

_MANUAL: Final = """\
create puts the tables and a workspace for `batch` samples at a time on the current device; 0 takes
what is fast. Longer batches are split.

run queues the network on `stream` and returns: nothing waits for the GPU, so that a CUDA graph can
capture it. inputs[i] and outputs[i] are device pointers, sample after sample. A bit is a byte, true
where not 0; NaN is above no threshold.

run_packed does the same from planes, words [planes][(samples + 31) / 32] of which bit s % 32 of
word s / 32 is sample s. Bit (level l, element e) of an input is plane l * elements + e; an input
that several nodes threshold has their planes one after the other.

The workspace serves one stream at a time: create one network for each. Every call returns the first
error it meets."""


def header(program: Program, prefix: str) -> str:
    """A C header of the functions in the source."""
    guard = f"{prefix.upper()}_CUDA_H"
    arrays = "\n".join(_arrays(program))
    return "\n".join(
        [
            f"/* {_plain(program.plan.graph.name)}: a logic gate network compiled to CUDA by lgir "
            f"{_version()}.\n",
            f"{arrays}\n",
            f"{_MANUAL} */",
            f"#ifndef {guard}",
            f"#define {guard}",
            "",
            "#include <cuda_runtime_api.h>",
            "#include <stddef.h>",
            "",
            "#ifdef __cplusplus",
            'extern "C" {',
            "#endif",
            "",
            *_declarations(prefix),
            "",
            "#ifdef __cplusplus",
            "}",
            "#endif",
            "",
            f"#endif /* {guard} */",
            "",
        ]
    )


def _declarations(prefix: str) -> list[str]:
    return _DECLARATIONS.replace("lgir_", f"{prefix}_").splitlines()


def _arrays(program: Program) -> list[str]:
    graph = program.plan.graph
    inputs = zip(graph.inputs, program.packed_planes, strict=True)
    return [
        *(f"input {i}   {_input(value, packed)}" for i, (value, packed) in enumerate(inputs)),
        *(f"output {i}  {_output(graph, name)}" for i, name in enumerate(graph.outputs)),
    ]


def _input(value: Value, packed: int) -> str:
    kind = {"bit": "uint8", "u8": "uint8", "f32": "float32"}[value.dtype]
    return f"%{_plain(value.name)}: {kind} {_shape(value)}, or {packed:,} packed planes"


def _output(graph: Graph, name: str) -> str:
    value = graph.values[name]
    kind = "uint8 (0 or 1)" if value.dtype == "bit" else "float32"
    return f"%{_plain(name)}: {kind} {_shape(value)}"


def _shape(value: Value) -> str:
    return f"({', '.join(['n', *map(str, value.shape)])})"


def _plain(name: str) -> str:
    """A name that stays inside a comment, whatever a file has called it."""
    kept = "".join(c if c.isascii() and c.isprintable() and c not in "\\*" else "?" for c in name)
    return kept[:100]


def _version() -> str:
    try:
        return version("lgir")
    except PackageNotFoundError:
        return "(not installed)"


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
    shapes = _needed(_SHAPES, steps)
    tables = program.tables
    return (
        Template(_HOST)
        .substitute(
            prefix=prefix,
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
    args = textwrap.fill(
        ", ".join(map(_argument, launch.args)),
        width=100,
        initial_indent=" " * 6,
        subsequent_indent=" " * 6,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return f"{head}\n{args})"


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


_SHAPES: Final = {
    "lanes": """\
// Threads along x, each on its word: a warp where there are as many words, fewer in a small batch,
// which leaves threads for more rows.
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
"""How threads meet the work: host functions that give a launch its shape."""

_HOST: Final = """\
enum TableNumber {
$enum
  NUM_TABLES
};

const struct { const void *data; size_t bytes; } TABLES[] = {
$entries
};

const size_t NUM_PLANES = $planes;
const size_t MAX_WORDS = $words;  // of a plane, each 32 samples: longer batches are split

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

// A stretch of the batch that the workspace holds at once.
struct Chunk {
  word *planes;
  const void *const *table;
  unsigned stride, words, samples;
  size_t first, pitch;  // the stretch's first sample; words of a whole packed plane
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

// Every step of the network, for one chunk.
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

extern "C" cudaError_t ${prefix}_destroy(${prefix}_network *net)
{
  if (!net) return cudaSuccess;
  const cudaError_t planes = cudaFree(net->planes), tables = cudaFree(net->tables);
  delete net;
  return planes != cudaSuccess ? planes : tables;
}

extern "C" cudaError_t ${prefix}_create(${prefix}_network **network, size_t batch)
{
  if (!network) return cudaErrorInvalidValue;
  *network = nullptr;
  const bool whole = batch == 0 || batch > MAX_WORDS * $word_bits;
  ${prefix}_network *net = new (std::nothrow) ${prefix}_network();
  if (!net) return cudaErrorMemoryAllocation;
  const cudaError_t error = fill(net, whole ? MAX_WORDS : ceil_div(batch, $word_bits));
  if (error != cudaSuccess) {
    (void)${prefix}_destroy(net);  // the first error is the one to tell
    return error;
  }
  *network = net;
  return cudaSuccess;
}

extern "C" cudaError_t ${prefix}_run(${prefix}_network *net, const void *const *inputs,
                                     void *const *outputs, size_t samples, cudaStream_t stream)
{
  return run(net, inputs, false, outputs, samples, stream);
}

extern "C" cudaError_t ${prefix}_run_packed(${prefix}_network *net, const void *const *inputs,
                                            void *const *outputs, size_t samples,
                                            cudaStream_t stream)
{
  return run(net, inputs, true, outputs, samples, stream);
}
"""
