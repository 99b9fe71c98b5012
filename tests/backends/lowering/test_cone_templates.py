"""Templates of cones: the order of their leaves and masks."""

from __future__ import annotations

from lgir.backends.lowering.cones import ConeExpr


def test_a_fold_numbers_leaves_and_masks_children_first() -> None:
    tap, cut = ConeExpr("tap"), ConeExpr("cut")
    expr = ConeExpr("and", (ConeExpr("lut", (tap, cut, tap)), ConeExpr("xor", (tap, tap))))
    text = expr.fold(
        lambda number, leaf: f"{leaf.kind}{number}",
        lambda node, operands, masks: f"{node.kind}{list(masks)}({' '.join(operands)})",
    )
    assert text == f"and[8, 9](lut{list(range(8))}(tap0 cut1 tap2) xor[](tap3 tap4))"
    assert expr.num_masks() == 10
