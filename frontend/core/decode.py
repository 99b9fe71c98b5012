"""From trained parameters to truth tables: the decision each framework takes in eval mode."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from lgir.errors import LiftError
from lgir.ir.truth_tables import OP_TABLES, table_dtype

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


def lut_tables(
    weight: npt.NDArray[Any], rank: int, parametrization: str | None, where: str
) -> Tables:
    """torchlogix's parametrizations: (..., W) weights -> (...) tables of `rank` inputs.

    "raw" is `raw_tables`; "light" holds the truth table's entries, true where positive; "warp"
    their Walsh-Hadamard coefficients, true where the transform is negative, summed term by term
    in the weights' own precision as torchlogix does, since rounding decides near ties. Raises
    LiftError where the width fits none, or fits several and `parametrization` is None.
    """
    width = weight.shape[-1] if weight.ndim else 0
    fits = ["raw"] if width == 16 and rank == 2 else []
    fits += ["warp", "light"] if width == 1 << rank else []
    if parametrization is None:
        if len(fits) > 1:
            raise LiftError(
                f"{where} has {width} weights a gate of {rank} inputs, as both warp and light "
                "have; the architecture must give parametrization"
            )
        parametrization = fits[0] if fits else None
    if parametrization not in fits:
        raise LiftError(
            f"{where} has {width} weights a gate of {rank} inputs, which no "
            f"{parametrization or 'known'} parametrization has (raw: 16 and 2; warp, light: 2**r)"
        )
    check_finite(weight, where)
    if parametrization == "raw":
        return raw_tables(weight, where)
    if parametrization == "light":
        return pack_tables(weight > 0)
    signs = _hadamard(rank).astype(weight.dtype)
    total = np.zeros_like(weight)
    with np.errstate(invalid="ignore", over="ignore"):  # of infinities; NaN is not below 0
        for term in range(width):
            total += weight[..., term, None] * signs[term]
    return pack_tables(total < 0)


def pack_tables(entries: npt.NDArray[np.bool_]) -> Tables:
    """(..., 2**k) bool truth tables, entry i = f(i), as integers of 2**k bits."""
    rank = entries.shape[-1].bit_length() - 1
    bits = np.uint64(1) << np.arange(entries.shape[-1], dtype=np.uint64)
    tables: Tables = (entries * bits).sum(axis=-1, dtype=np.uint64).astype(table_dtype(rank))
    return tables


def _hadamard(rank: int) -> npt.NDArray[np.float64]:
    """Sylvester's matrix of order 2**rank."""
    matrix = np.ones((1, 1))
    for _ in range(rank):
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    return matrix


def check_finite(weight: npt.NDArray[Any], where: str) -> None:
    """Raises LiftError where training diverged: no decision can be read off NaN."""
    if np.isnan(weight).any():
        at = np.argwhere(np.isnan(weight))[0].tolist()
        raise LiftError(f"{where} holds NaN at {at}; training diverged, use an earlier checkpoint")
