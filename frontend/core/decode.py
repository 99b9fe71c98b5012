"""Decode trained parameters to truth tables, by the decision of each framework in eval mode."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from lgir.errors import LiftError
from lgir.ir.truth_tables import MAX_FANIN, OP_TABLES, table_dtype

Tables = npt.NDArray[np.unsignedinteger]


def raw_tables(weight: npt.NDArray[Any], where: str) -> Tables:
    """Return the table of the likeliest operation of each gate; the first one wins a tie.

    Args:
        weight: (..., 16) logits over difflogic's operations.
        where: name of the tensor in errors.

    Returns:
        (...) truth tables of two inputs.

    Raises:
        LiftError: `weight` has another shape or holds NaN.
    """
    if weight.ndim < 1 or weight.shape[-1] != 16:
        raise LiftError(f"{where} has shape {weight.shape}; expected 16 logits per gate")
    check_finite(weight, where)
    tables: Tables = OP_TABLES[weight.argmax(axis=-1)]
    return tables


def lut_tables(
    weight: npt.NDArray[Any], rank: int, parametrization: str | None, where: str
) -> Tables:
    """Return truth tables of `rank` inputs from weights in a parametrization of torchlogix.

    "raw" is decoded by `raw_tables`. "light" holds the entries of the truth table, which are True
    if positive. "warp" holds Walsh-Hadamard coefficients; an entry is True if the transform is
    negative. The transform is summed term by term in the precision of the weights, as torchlogix
    does, since rounding decides near ties.

    Args:
        weight: (..., W) weights.
        rank: inputs of each gate.
        parametrization: "raw", "warp" or "light"; None takes the only one that W fits.
        where: name of the tensor in errors.

    Raises:
        LiftError: W fits no parametrization, or fits several and `parametrization` is None.
    """
    if rank > MAX_FANIN:
        raise LiftError(f"{where}: gates of {rank} inputs; at most {MAX_FANIN} can be lifted")
    width = weight.shape[-1] if weight.ndim else 0
    fits = ["raw"] if width == 16 and rank == 2 else []
    fits += ["warp", "light"] if width == 1 << rank else []
    if parametrization is None:
        if len(fits) > 1:
            raise LiftError(
                f"{where} has {width} weights per gate of {rank} inputs, as both warp and light "
                "have; the architecture must give parametrization"
            )
        parametrization = fits[0] if fits else None
    if parametrization not in fits:
        raise LiftError(
            f"{where} has {width} weights per gate of {rank} inputs, which no "
            f"{parametrization or 'known'} parametrization has (raw: 16 and 2; warp, light: 2**r)"
        )
    check_finite(weight, where)
    if parametrization == "raw":
        return raw_tables(weight, where)
    if parametrization == "light":
        return pack_tables(weight > 0)
    signs = _hadamard(rank).astype(weight.dtype)
    total = np.zeros_like(weight)
    with np.errstate(
        invalid="ignore", over="ignore"
    ):  # sums of infinities may be NaN, which is not below 0
        for term in range(width):
            total += weight[..., term, None] * signs[term]
    return pack_tables(total < 0)


def pack_tables(entries: npt.NDArray[np.bool_]) -> Tables:
    """Pack truth tables (..., 2**k) bool, entry i being f(i), into integers of 2**k bits."""
    rank = entries.shape[-1].bit_length() - 1
    bits = np.uint64(1) << np.arange(entries.shape[-1], dtype=np.uint64)
    tables: Tables = (entries * bits).sum(axis=-1, dtype=np.uint64).astype(table_dtype(rank))
    return tables


def _hadamard(rank: int) -> npt.NDArray[np.float64]:
    """Return the Hadamard matrix of order 2**rank by Sylvester's construction."""
    matrix = np.ones((1, 1))
    for _ in range(rank):
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    return matrix


def check_finite(weight: npt.NDArray[Any], where: str) -> None:
    """Raise LiftError if weights are NaN, which means that training diverged."""
    if np.isnan(weight).any():
        first = np.argwhere(np.isnan(weight))[0].tolist()
        raise LiftError(
            f"{where} holds NaN at {first}; training diverged, use an earlier checkpoint"
        )
