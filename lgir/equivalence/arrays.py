"""The array types of this package, with one meaning each."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Index = npt.NDArray[np.int64]
"""Positions in other arrays, or numbers of nets, gates or elements."""

Mask = npt.NDArray[np.bool_]

Literals = npt.NDArray[np.int32]
"""Literals over nets: 2 * net + complement; 0 is False and 1 is True."""

ElementLiterals = npt.NDArray[np.int64]
"""Literals over the elements of a `ValueMap`: 2 * element + complement; 0 is False, 1 is True."""
