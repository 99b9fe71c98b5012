"""Literals: what passes know of nets, as arrays of integers.

A literal is 2 * net + complement. The constants are the literals 0 (False) and 1 (True), which both
name net 0, FALSE, so complementing a literal is an exclusive or with 1 in every case.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Literals = npt.NDArray[np.int32]
Index = npt.NDArray[np.int64]
"""Numbers of gates, nets, channels or rows."""
