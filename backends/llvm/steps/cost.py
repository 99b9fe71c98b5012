"""What the costs of all kinds of steps are counted in.

Costs are counted from the kernels as written, in instructions on planes and in lines. Scalar work,
such as reading rows, is left out, since a bound is to be reached and not to be beaten.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from lgir.backends.lowering.steps import Planes
from lgir.ir.sets import distinct
from lgir.roofline import LINE

TILE_EXCHANGES: Final = 8 * 3 * 4
"""Exchanges between pairs of vectors that transpose the bytes of a tile in words: eight groups of
vectors, three distances, four pairs. As many shuffles of pairs transpose the words.
"""


@dataclass(frozen=True)
class CostTarget:
    """What the costs depend on besides the step.

    Attributes:
        ternary: whether the target has an instruction for any function of three planes.
        tree_code: whether trees of convolutions have machine code of their own.
    """

    ternary: bool
    tree_code: bool = False

    @property
    def three_inputs(self) -> int:
        """Instructions of a three-input function such as a & (b ^ c)."""
        return 1 if self.ternary else 2


def footprint(*planes: Planes) -> int:
    """Return the bytes of the distinct planes."""
    return LINE * len(distinct(np.concatenate([p.ravel() for p in planes])))
