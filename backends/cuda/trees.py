"""Kernels of convolutions: trees at every position, their windows' ORs where they are pooled.

A tree is a template of `lgir.backends.lowering.cones`; which gate each of its nodes is comes as
masks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from lgir.backends.cuda.kernels import Kernel
from lgir.backends.lowering.cones import ConeExpr
from lgir.backends.lowering.pools import MAX_LEAVES

CONE_SIZES: Final = {8: 4, 16: 2, MAX_LEAVES: 2}
"""Most leaves of a tree, by kernel -> blocks resident: 64 registers hold the loads of a small
tree's copies, fewer spill; 128 hold any tree of two-input gates.
"""


@dataclass(frozen=True)
class Tree:
    """A cone template with its number."""

    number: int
    expr: ConeExpr

    @property
    def text(self) -> str:
        """A struct for `walk`: rows are (leaf planes..., output plane); mask words hold the tree's
        masks and then the root's inversion, lowest bits first.
        """
        leaves, masks = len(self.expr.leaves()), self.expr.num_masks()
        statements, root = _tree(self.expr)
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


def cone_kernel_name(leaves: int, copies: int) -> str:
    """Kernels hold trees of like size, since the largest decides the registers of all."""
    return f"cones{_cone_size(leaves)}" + (f"_pool{copies}" if copies > 1 else "")


def _cone_size(leaves: int) -> int:
    return next(limit for limit in CONE_SIZES if leaves <= limit)


def cone_kernel(name: str, copies: int, trees: Sequence[Tree]) -> Kernel:
    """Trees at every position, for pools an OR of copies shifted over the window."""
    size = max(_cone_size(len(t.expr.leaves())) for t in trees)
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
        *(f"case {t.number}: walk<Tree{t.number}>({args}); break;" for t in trees),
        "}",
    ]
    params = "const Cone *cones, const plane_t *rows, const uint32_t *masks, "
    params += "const Position *positions, unsigned count"
    if copies > 1:
        params += "".join(f", unsigned shift{i}" for i in range(copies))
    pooled = f", each an OR of {copies} copies shifted over a pool's window" if copies > 1 else ""
    return Kernel(
        name,
        f"Trees at every position{pooled}.\nThe branch on the tree is uniform in a block.",
        params,
        "\n".join(lines),
        CONE_SIZES[size],
    )


def _tree(root: ConeExpr) -> tuple[list[str], str]:
    """Statements that evaluate a tree, and the expression of its root; see `ConeExpr.num_masks`."""
    lines: list[str] = []
    leaves = masks = values = 0

    def let(expression: str) -> str:
        nonlocal values
        lines.append(f"const word v{values} = {expression};")
        values += 1
        return f"v{values - 1}"

    def take_mask() -> str:
        nonlocal masks
        masks += 1
        return f"m[{masks - 1}]"

    def walk(expr: ConeExpr) -> str:
        nonlocal leaves
        if not expr.args:
            leaves += 1
            return let(f"load(planes, x[{leaves - 1}] + {expr.kind})")
        inputs = [walk(a) for a in expr.args]
        if expr.kind == "xor":
            return let(f"{inputs[0]} ^ {inputs[1]}")
        if expr.kind == "and":
            a, b = inputs
            m, n = take_mask(), take_mask()
            return let(f"gate({a}, {b}, {m}, {n})")
        layer = [take_mask() for _ in range(1 << len(inputs))]
        for x in reversed(inputs):
            layer = [
                let(f"lop3<0xca>({x}, {layer[i + 1]}, {layer[i]})") for i in range(0, len(layer), 2)
            ]
        return layer[0]

    return lines, walk(root)
