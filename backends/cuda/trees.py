"""Trees of convolutions, evaluated at every position: their kernels, rows and launches.

A tree is a template of `lgir.backends.lowering.cones`. Which gates its nodes are comes as masks. If
the convolution is pooled, the copies of a tree in the pool's window are ORed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from lgir.backends.cuda.builder import ProgramBuilder
from lgir.backends.cuda.dependences import position_offsets
from lgir.backends.cuda.kernel import CudaKernel
from lgir.backends.cuda.launch import WORD_BITS, LaunchArgument, LaunchShape
from lgir.backends.lowering.cones import ConeExpr
from lgir.backends.lowering.pools import MAX_LEAVES
from lgir.backends.lowering.steps import ConeStep

RESIDENT_BLOCKS: Final = {8: 4, 16: 2, MAX_LEAVES: 2}
"""Resident blocks by the most leaves of a kernel's trees.

With four blocks a thread has 64 registers, which hold the loads of all copies of a small tree; with
two it has 128, which hold any tree of two-input gates.
"""


@dataclass(frozen=True)
class TreeShape:
    """A shape of trees with its number in the program."""

    number: int
    expr: ConeExpr

    @property
    def text(self) -> str:
        """Return a structure that the device function `walk` takes.

        A row holds the planes of the leaves and of the result. Mask words hold the masks of the
        tree and then the inversion of its root, lowest bits first.
        """
        leaves, masks = len(self.expr.leaves()), self.expr.num_masks()
        statements, root = _tree_statements(self.expr)
        lines = [
            f"struct Tree{self.number} {{  // {self.expr}",
            f"  static const unsigned LEAVES = {leaves}, MASKS = {masks};",
            "  static __device__ __forceinline__ word at(const word *planes, "
            f"const unsigned (&x)[{leaves}],",
            f"                                            const word (&m)[{masks + 1}], "
            "unsigned tap, unsigned cut)",
            "  {",
            *(f"    {line}" for line in statements),
            f"    return {root};",
            "  }",
            "};",
        ]
        return "\n".join(lines) + "\n"


class TreeLowering:
    """Lower tree steps to launches of `builder`.

    Args:
        steps: all tree steps of the program, whose shapes the kernels distinguish.

    Attributes:
        shapes: the shapes, numbered in order of first use.
    """

    def __init__(self, builder: ProgramBuilder, steps: Sequence[ConeStep]) -> None:
        self._builder = builder
        self.shapes: dict[ConeExpr, TreeShape] = {}
        self._by_kernel: dict[str, dict[ConeExpr, TreeShape]] = {}
        for step in steps:
            shape = TreeShape(len(self.shapes), step.expr)
            shape = self.shapes.setdefault(step.expr, shape)
            self._by_kernel.setdefault(_kernel_name(step), {})[step.expr] = shape

    def add(self, steps: Sequence[ConeStep]) -> None:
        """Append the launches of independent steps over the same positions."""
        calls: dict[tuple[str, bytes], list[ConeStep]] = {}
        for step in steps:
            calls.setdefault((_kernel_name(step), step.shifts.tobytes()), []).append(step)
        for (kernel, _), same_shifts in calls.items():
            self._add_launch(kernel, same_shifts)

    def _add_launch(self, name: str, steps: Sequence[ConeStep]) -> None:
        shifts = steps[0].shifts
        heads, rows, masks = [], [], []
        first_plane = first_mask = 0
        for step in steps:
            planes, words = np.column_stack([step.leaves, step.out]), _mask_words(step.masks)
            index = np.arange(len(planes))[:, None]
            number = np.full((len(index), 1), self.shapes[step.expr].number)
            starts = (first_plane + index * planes.shape[1], first_mask + index * words.shape[1])
            heads.append(np.concatenate([number, *starts, 0 * index], axis=1))
            rows.append(planes.ravel())
            masks.append(words.ravel())
            first_plane, first_mask = first_plane + planes.size, first_mask + words.size
        table = self._builder.table
        offsets = table("positions", "uint32_t", position_offsets(steps[0]), seen_as="Position")
        positions, trees = len(offsets.table.data), sum(map(len, heads))
        args: list[LaunchArgument] = [
            table("cones", "uint32_t", np.concatenate(heads), seen_as="Cone"),
            table("cone_rows", "plane_t", np.concatenate(rows)),
            table("masks", "uint32_t", np.concatenate(masks)),
            offsets,
            positions,
        ]
        note = f"{trees:,} trees of {len(steps)} shapes at {positions:,} positions"
        if len(shifts) > 1:
            args += [int(shift) & 0xFFFF_FFFF for shift in shifts]
            note += f", pooled over {len(shifts)}"
        kernel = position_tree_kernel(name, len(shifts), list(self._by_kernel[name].values()))
        self._builder.launch(
            kernel, LaunchShape.POSITIONS, trees, tuple(args), note, positions=positions
        )


def _mask_words(masks: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint32]:
    """Return masks (n, M) as words (n, ceil(M / 32)), the first mask in the lowest bit."""
    padded = np.zeros((len(masks), -(-masks.shape[1] // WORD_BITS) * WORD_BITS), bool)
    padded[:, : masks.shape[1]] = masks
    words: npt.NDArray[np.uint32] = np.packbits(padded, axis=1, bitorder="little").view(np.uint32)
    return words


def _kernel_name(step: ConeStep) -> str:
    """Return the kernel for the step: its trees are of like size, which decides its registers."""
    copies = len(step.shifts)
    return f"cones{_size_class(step.expr)}" + (f"_pool{copies}" if copies > 1 else "")


def _size_class(expr: ConeExpr) -> int:
    leaves = len(expr.leaves())
    return next(limit for limit in RESIDENT_BLOCKS if leaves <= limit)


def position_tree_kernel(name: str, copies: int, shapes: Sequence[TreeShape]) -> CudaKernel:
    """Return the kernel that evaluates trees at every position.

    Args:
        copies: copies of a tree in a pool's window, or 1.
        shapes: the shapes that it distinguishes.
    """
    size = max(_size_class(t.expr) for t in shapes)
    shifts = ", ".join(f"shift{i}" for i in range(copies)) if copies > 1 else "0u"
    args = "planes, stride, w, row, bits, positions, count, shift"
    lines = [
        "const unsigned w = blockIdx.z * blockDim.x + threadIdx.x;",
        "if (w >= words) return;",
        "const Cone cone = cones[blockIdx.x];",
        "const plane_t *row = rows + cone.planes;",
        "const word *bits = masks + cone.masks;",
        f"const unsigned shift[] = {{{shifts}}};",
        "switch (cone.tree) {",
        *(f"case {t.number}: walk<Tree{t.number}>({args}); break;" for t in shapes),
        "}",
    ]
    parameters = "const Cone *cones, const plane_t *rows, const uint32_t *masks, "
    parameters += "const Position *positions, unsigned count"
    if copies > 1:
        parameters += "".join(f", unsigned shift{i}" for i in range(copies))
    pooled = f", each an OR of {copies} copies in a pool's window" if copies > 1 else ""
    return CudaKernel(
        name,
        f"Evaluates trees at every position{pooled}.\n"
        "The branch on the shape is uniform in a block.",
        parameters,
        "\n".join(lines),
        RESIDENT_BLOCKS[size],
    )


def _tree_statements(root: ConeExpr) -> tuple[list[str], str]:
    """Return statements that evaluate a tree, and the variable of its root."""
    lines: list[str] = []

    def let(expression: str) -> str:
        name = f"v{len(lines)}"
        lines.append(f"const word {name} = {expression};")
        return name

    def leaf(number: int, expr: ConeExpr) -> str:
        return let(f"load(planes, x[{number}] + {expr.kind})")

    def gate(expr: ConeExpr, operands: list[str], masks: range) -> str:
        if expr.kind == "xor":
            return let(" ^ ".join(operands))
        if expr.kind == "and":
            a, b = operands
            m, n = masks
            return let(f"gate({a}, {b}, m[{m}], m[{n}])")
        layer = [f"m[{i}]" for i in masks]
        for x in reversed(operands):
            layer = [
                let(f"lop3<0xca>({x}, {layer[i + 1]}, {layer[i]})") for i in range(0, len(layer), 2)
            ]
        return layer[0]

    root_variable = root.fold(leaf, gate)
    return lines, root_variable
