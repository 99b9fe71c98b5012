"""The C functions of an exported network: their declarations, what they mean, and a header.

Names follow `lgir.backends.c.interface`, so that one program can hold both the library of a network
for CPUs and its kernels for GPUs.
"""

from __future__ import annotations

from typing import Final

from lgir.backends.c.interface import Interface
from lgir.backends.c.text import header_file, parenthesized
from lgir.backends.cuda.kernel import COLUMNS
from lgir.backends.cuda.program import LaunchProgram
from lgir.ir.types import Value
from lgir.version import __version__

MANUAL: Final = (
    "create puts the tables and a workspace for `batch` samples at a time on the current device; 0 "
    "takes what is fast. Longer batches are split.",
    "run queues the network on `stream` and returns: nothing waits for the GPU, so that a CUDA "
    "graph can capture it. inputs[i] and outputs[i] are device pointers, sample after sample. A "
    "bit is a byte, true where not 0; NaN is above no threshold.",
    "run_packed does the same from planes, words [planes][(samples + 31) / 32] of which bit s % 32 "
    "of word s / 32 is sample s. Bit (level l, element e) of an input is plane l * elements + e; "
    "an input that several nodes threshold has their planes one after the other.",
    "The workspace serves one stream at a time: create one network for each. Every call returns "
    "the first error it meets.",
)
"""What the functions do, in paragraphs."""

_MOST_NAME_CHARACTERS: Final = 100


def prototypes(prefix: str) -> dict[str, str]:
    """Return the prototypes of the functions, without semicolons, by what follows the prefix."""
    network = f"{prefix}_network *network"
    run = [network, "const void *const *inputs", "void *const *outputs", "size_t samples"]
    parameters = {
        "create": [f"{prefix}_network **network", "size_t batch"],
        "run": [*run, "cudaStream_t stream"],
        "run_packed": [*run, "cudaStream_t stream"],
        "destroy": [network],
    }
    return {
        name: parenthesized(f"cudaError_t {prefix}_{name}(", words, COLUMNS)
        for name, words in parameters.items()
    }


def function_declarations(prefix: str) -> list[str]:
    """Return the lines that declare the functions."""
    lines = [f"typedef struct {prefix}_network {prefix}_network;"]
    for prototype in prototypes(prefix).values():
        lines += f"{prototype};".splitlines()
    return lines


def title(program: LaunchProgram) -> str:
    """Return a line that says what the network is and what compiled it."""
    name = inside_comment(program.plan.graph.name)
    return f"{name}: a logic gate network, compiled to CUDA by lgir {__version__}."


def array_descriptions(program: LaunchProgram) -> list[str]:
    """Return a line per input and output: its number, name, type and shape."""
    graph = program.plan.graph
    inputs = zip(graph.inputs, program.packed_planes, strict=True)
    outputs = [graph.values[name] for name in graph.outputs]
    return [
        *(
            f"input {i}   {_describe(value, 'uint8')}, or {packed:,} packed planes"
            for i, (value, packed) in enumerate(inputs)
        ),
        *(f"output {i}  {_describe(value, 'uint8 (0 or 1)')}" for i, value in enumerate(outputs)),
    ]


def _describe(value: Value, bit_type: str) -> str:
    element = {"bit": bit_type, "u8": "uint8"}.get(value.dtype, "float32")
    shape = ", ".join(["n", *map(str, value.shape)])
    return f"%{inside_comment(value.name)}: {element} ({shape})"


def inside_comment(name: str) -> str:
    """Return a name in which nothing can end a comment or continue its line, cut if it is long."""
    safe = "".join(c if c.isascii() and c.isprintable() and c not in "\\*" else "?" for c in name)
    return safe[:_MOST_NAME_CHARACTERS]


def header(program: LaunchProgram, prefix: str | None) -> str:
    """Return a C header of the functions in the source, with the sizes of the arrays."""
    interface = Interface(program.plan.graph, prefix)
    about = [title(program), "", *array_descriptions(program), *(f"\n{text}" for text in MANUAL)]
    includes = ["#include <cuda_runtime_api.h>", "#include <stddef.h>"]
    return header_file(
        "\n".join(about),
        interface.macro("CUDA_H"),
        [*includes, "", *interface.size_macros()],
        function_declarations(interface.prefix),
    )
