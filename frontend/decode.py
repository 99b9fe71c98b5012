"""From trained parameters to truth tables: the decision each framework takes in eval mode."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from lgir.errors import LiftError
from lgir.ops import OP_TABLES

Tables = npt.NDArray[np.unsignedinteger]


def raw_tables(weight: npt.NDArray[Any], where: str) -> Tables:
    """(..., 16) logits over difflogic's operations -> (...) tables of the likeliest, first on ties.

    Raises LiftError for another shape or NaN, naming `where`.
    """
    if weight.ndim < 1 or weight.shape[-1] != 16:
        raise LiftError(f"{where} has shape {weight.shape}; expected 16 logits a gate")
    check_finite(weight, where)
    tables: Tables = OP_TABLES[weight.argmax(axis=-1)]
    return tables


def check_finite(weight: npt.NDArray[Any], where: str) -> None:
    """Raises LiftError where training diverged: no decision can be read off NaN."""
    if np.isnan(weight).any():
        at = np.argwhere(np.isnan(weight))[0].tolist()
        raise LiftError(f"{where} holds NaN at {at}; training diverged, use an earlier checkpoint")
