"""Settling: when a tensor of two-valued functions becomes a layer of gates.

Arithmetic such as a + b - a * b stays a table while it is computed. Where elements are picked,
joined or counted, what they compute is made a net for each. A gate reads what its table reads; an
and, or, or exclusive or of more than two nets, as chains of maxima give, becomes a tree of
two-input gates, as pools of frameworks are.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lgir.frontend.trace.functions import Functions, apply_pointwise, tokens, widened
from lgir.frontend.trace.netlist import Netlist, table_words
from lgir.frontend.trace.rows import Ints, number_wide_rows

_AND: Final = 0
_OR: Final = 1
_XOR: Final = 2


def settle(functions: Functions, netlist: Netlist) -> Functions:
    """Make gates of a tensor of two-valued functions, so that each element depends on one net.

    A tensor is left as it is if no element reads two nets, or if some element takes more than two
    values. All elements get nets then, also those that are one net or a constant.
    """
    if functions.width < 2:
        return functions
    if functions.settled is None:
        functions.settled = _settled(functions, netlist)
    return functions.settled


def levels_of(tables: Tensor) -> tuple[Tensor, Tensor, npt.NDArray[np.bool_]]:
    """(low, high, two) of each table: its extreme values, and whether it takes only these."""
    low, high = tables.amin(dim=1), tables.amax(dim=1)
    two = ((tables == low[:, None]) | (tables == high[:, None])).all(dim=1)
    return low, high, two.numpy()


def _settled(functions: Functions, netlist: Netlist) -> Functions:
    low, high, two = levels_of(functions.tables)
    if not two.all():
        return functions
    varying = (low != high).numpy()
    pairs = torch.stack([low, high], dim=1)
    kinds = torch.unique(pairs[torch.from_numpy(varying)], dim=0)
    constant = ~varying
    if len(kinds) == 1:
        # Constants that are one of the two values are nets too: a gate may be constant at an edge.
        same = (low[:, None] == kinds[0]).any(dim=1)
        pairs[same] = kinds[0]
        constant &= ~same.numpy()
    bits = ((functions.tables == pairs[:, 1:]) & (pairs[:, :1] != pairs[:, 1:])).numpy()
    boolean = Functions(
        functions.shape, functions.nets, functions.number, torch.from_numpy(bits), functions.origin
    )
    kind = _associative_kinds(bits, functions.width)
    if functions.width > 2 and kind is not None:
        nets = _tree(boolean, kind, netlist)
    else:
        words = table_words(bits)[functions.number]
        layer = netlist.add_gates(functions.shape, functions.nets, words, functions.origin)
        nets = layer.all_nets.reshape(-1, 1)
    if constant.any():
        nets = np.where(constant[functions.number][:, None], 0, nets)
    ids, first = number_wide_rows(tokens(pairs))
    return Functions(
        functions.shape, nets, ids[functions.number], pairs[torch.from_numpy(first)],
        functions.origin,
    )  # fmt: skip


def _associative_kinds(bits: npt.NDArray[np.bool_], width: int) -> npt.NDArray[np.int64] | None:
    """Whether each table is an and, or, or exclusive or of literals; None if one is neither.

    Tables of one or two inputs are all of these but for constants, which count as an or.
    """
    kinds = np.full(len(bits), _OR)
    parity = np.zeros(1 << width, bool)
    for column in range(width):
        parity ^= (np.arange(1 << width) >> column & 1).astype(bool)
    for row, table in enumerate(bits):
        used = [c for c in range(width) if _depends(table, c)]
        ones = int(table.sum()) >> (width - len(used))
        if ones == 1 and used:
            kinds[row] = _AND
        elif ones in (0, (1 << len(used)) - 1, 1 << len(used)):
            continue
        else:
            linear = np.zeros(1 << width, bool)
            for column in used:
                linear ^= (np.arange(1 << width) >> column & 1).astype(bool)
            if not (np.array_equal(table, linear) or np.array_equal(table, ~linear)):
                return None
            kinds[row] = _XOR
    return kinds


def _depends(table: npt.NDArray[np.bool_], column: int) -> bool:
    halves = table.reshape(-1, 2, 1 << column)
    return bool((halves[:, 0] != halves[:, 1]).any())


def _tree(x: Functions, kinds: npt.NDArray[np.int64], netlist: Netlist) -> Ints:
    """Nets (n, 1) of ands, ors and exclusive ors, by balanced trees of two-input gates."""
    bits = x.tables.numpy()
    neutral = kinds == _AND
    # In an and, literal j is whether bit j is as in the one entry that is set; in an or, whether it
    # is not as in the one that is clear; in an exclusive or, the bit, the first perhaps inverted.
    special = np.where(kinds == _AND, bits.argmax(axis=1), bits.argmin(axis=1))
    literals = []
    for column in range(x.width):
        reads = np.array([_depends(table, column) for table in bits])
        wanted = special >> column & 1
        positive = np.where(kinds == _AND, wanted == 1, wanted == 0)
        positive = np.where(kinds == _XOR, (column > 0) | ~bits[:, 0], positive)
        tables = np.stack([~positive, positive], axis=1)
        tables = np.where(reads[:, None], tables, neutral[:, None])
        used = reads[x.number] & (x.nets[:, column] != 0)
        nets = np.where(used, x.nets[:, column], 0)[:, None]
        literals.append(Functions(x.shape, nets, x.number, torch.from_numpy(tables), x.origin))
    kind = Functions(
        x.shape, np.zeros((x.size, 0), np.int64), x.number,
        torch.from_numpy(kinds)[:, None], x.origin,
    )  # fmt: skip

    def evaluate(v: list[Tensor]) -> Tensor:
        other = torch.where(v[2] == _OR, v[0] | v[1], v[0] ^ v[1])
        return torch.where(v[2] == _AND, v[0] & v[1], other)

    while len(literals) > 1:
        paired = []
        for left, right in zip(literals[::2], literals[1::2], strict=False):
            both = apply_pointwise([left, right, kind], evaluate, x.shape, x.origin)
            assert both is not None
            paired.append(_as_gates(both, netlist))
        literals = paired + ([literals[-1]] if len(literals) % 2 else [])
    return literals[0].nets


def _as_gates(x: Functions, netlist: Netlist) -> Functions:
    """A net for each element of a tensor of bits, whatever it is."""
    width = max(1, x.width)
    nets = x.nets if x.width else np.zeros((x.size, 1), np.int64)
    words = table_words(widened(x.tables, x.width, width).numpy())
    layer = netlist.add_gates(x.shape, nets, words[x.number], x.origin)
    return Functions.of_nets(x.shape, layer.all_nets, torch.bool, x.origin)
