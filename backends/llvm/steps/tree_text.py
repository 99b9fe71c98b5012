"""The text that evaluates one tree of gates, for the kernels of cones and of forests."""

from __future__ import annotations

from lgir.backends.llvm.llvm_text import AND_XOR, XOR_AND, FunctionWriter
from lgir.backends.lowering.cones import ConeExpr


def evaluate_tree(
    f: FunctionWriter,
    expr: ConeExpr,
    leaves: list[tuple[str, str]],
    masks: list[str],
    offsets: dict[str, str],
) -> str:
    """Write a tree and return the name of its value.

    Args:
        leaves: (kind, pointer) of each leaf, in the template's order; leaves are removed as they
            are read.
        masks: planes of masks, in the template's order, removed likewise; see `ConeExpr.num_masks`.
        offsets: bytes to add to the pointers of leaves, by their kind.
    """
    if not expr.args:
        kind, pointer = leaves.pop(0)
        return f.load_plane(pointer, offsets[kind])
    inputs = [evaluate_tree(f, a, leaves, masks, offsets) for a in expr.args]
    if expr.kind == "xor":
        return f.op("xor", *inputs)
    if expr.kind == "and":
        a, b = inputs
        m1, m2 = masks.pop(0), masks.pop(0)
        return f.ternary(f.ternary(a, b, m1, AND_XOR), b, m2, XOR_AND)
    layer = [masks.pop(0) for _ in range(1 << len(inputs))]
    for x in reversed(inputs):
        layer = [f.select(x, layer[i + 1], layer[i]) for i in range(0, len(layer), 2)]
    return layer[0]


def tree_instructions(expr: ConeExpr, three_inputs: int) -> int:
    """Return the instructions of a tree, if a function of three planes takes `three_inputs`."""
    if not expr.args:
        return 0
    gate = {"and": 2 * three_inputs, "xor": 1}.get(
        expr.kind, ((1 << len(expr.args)) - 1) * three_inputs
    )
    return gate + sum(tree_instructions(arg, three_inputs) for arg in expr.args)
