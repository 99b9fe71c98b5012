"""The C functions of an exported network: their declarations, what they mean, and a header.

Names follow `lgir.backends.c.interface`, so that one program can hold both a network's CPU library
and its kernels for the GPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from lgir.backends.c.interface import Interface
from lgir.backends.c.text import comment
from lgir.backends.cuda.kernels import listed
from lgir.backends.cuda.program import Program
from lgir.ir.graph import Graph
from lgir.ir.types import Value

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


def prototypes(prefix: str) -> dict[str, str]:
    """The functions' prototypes, without semicolons, by what follows the prefix."""
    network = f"{prefix}_network *network"
    run = [network, "const void *const *inputs", "void *const *outputs", "size_t samples"]
    parameters = {
        "create": [f"{prefix}_network **network", "size_t batch"],
        "run": [*run, "cudaStream_t stream"],
        "run_packed": [*run, "cudaStream_t stream"],
        "destroy": [network],
    }
    return {
        name: listed(f"cudaError_t {prefix}_{name}(", words) for name, words in parameters.items()
    }


def declarations(prefix: str) -> list[str]:
    """Lines that declare the functions."""
    lines = [f"typedef struct {prefix}_network {prefix}_network;"]
    for prototype in prototypes(prefix).values():
        lines += f"{prototype};".splitlines()
    return lines


def title(program: Program) -> str:
    """What the network is and by whom it was compiled."""
    name = plain(program.plan.graph.name)
    return f"{name}: a logic gate network, compiled to CUDA by lgir {_version()}."


def arrays(program: Program) -> list[str]:
    """A line for each input and output: its number, name, type and shape."""
    graph = program.plan.graph
    inputs = zip(graph.inputs, program.packed_planes, strict=True)
    return [
        *(f"input {i}   {_input(value, packed)}" for i, (value, packed) in enumerate(inputs)),
        *(f"output {i}  {_output(graph, name)}" for i, name in enumerate(graph.outputs)),
    ]


def _input(value: Value, packed: int) -> str:
    kind = {"bit": "uint8", "u8": "uint8", "f32": "float32"}[value.dtype]
    return f"%{plain(value.name)}: {kind} {_shape(value)}, or {packed:,} packed planes"


def _output(graph: Graph, name: str) -> str:
    value = graph.values[name]
    kind = "uint8 (0 or 1)" if value.dtype == "bit" else "float32"
    return f"%{plain(name)}: {kind} {_shape(value)}"


def _shape(value: Value) -> str:
    return f"({', '.join(['n', *map(str, value.shape)])})"


def plain(name: str) -> str:
    """A name that stays inside a comment, whatever a file has called it."""
    kept = "".join(c if c.isascii() and c.isprintable() and c not in "\\*" else "?" for c in name)
    return kept[:100]


def _version() -> str:
    try:
        return version("lgir")
    except PackageNotFoundError:
        return "(not installed)"


def _sizes(names: Interface, role: str, own: list[str], values: Sequence[Value]) -> list[str]:
    """Elements of a sample: `<PREFIX>_INPUT_ELEMENTS`, with names where there are several."""
    words = [f"{role}_ELEMENTS"] if len(own) == 1 else [f"{role}_{n}_ELEMENTS" for n in own]
    return [
        f"#define {names.macro(word)} {value.size} /* {value.type} */"
        for word, value in zip(words, values, strict=True)
    ]


def header(program: Program, prefix: str | None) -> str:
    """A C header of the functions in the source, with the sizes of the arrays."""
    names = Interface(program.plan.graph, prefix)
    guard = names.macro("CUDA_H")
    graph = program.plan.graph
    results = [graph.values[name] for name in graph.outputs]
    sizes = [
        *_sizes(names, "INPUT", names.input_names, graph.inputs),
        *_sizes(names, "OUTPUT", names.output_names, results),
    ]
    return "\n".join(
        [
            comment(
                "\n".join([title(program), "", *arrays(program), *(f"\n{text}" for text in MANUAL)])
            ),
            f"#ifndef {guard}",
            f"#define {guard}",
            "",
            "#include <cuda_runtime_api.h>",
            "#include <stddef.h>",
            "",
            *sizes,
            "",
            "#ifdef __cplusplus",
            'extern "C" {',
            "#endif",
            "",
            *declarations(names.prefix),
            "",
            "#ifdef __cplusplus",
            "}",
            "#endif",
            "",
            f"#endif /* {guard} */",
            "",
        ]
    )
