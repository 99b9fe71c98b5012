"""DAG-aware rewriting of a body's two-input gates: the kernel of `rewrite`.

For each gate in order, and each of its cuts of up to four leaves, the smallest structures of the
cut's function are tried; what a structure finds among the gates that stay costs nothing
(Mishchenko, Chatterjee, Brayton, "DAG-aware AIG rewriting", DAC 2006, here on all two-input
operations). A gate is replaced in its place, so every net keeps its function and no cut has to be
computed again.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from lgir.ir.body import Body
from lgir.ir.truth_tables import widen_table
from lgir.passes.kernels.compiled import compiled
from lgir.passes.kernels.cuts import small_cuts
from lgir.passes.kernels.structures import library

CUTS: Final = 8

_BUFFER: Final = 0b1100  # of the first operand
_PRIMES: Final = np.array([0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D], np.int64)


def resynthesize(body: Body) -> Body:
    """The body with fewer gates of two inputs; the same object where no cut saves any.

    Gates of other widths stay as they are. The body is in the normal form that `cse` leaves.
    """
    first, nets, k = body.first_gate, body.num_nets, body.k
    pairs = body.arity() == 2
    if not pairs.any():
        return body
    rows = 2 * nets + 64  # what replacements add follows the body's own
    binary = np.zeros(rows, bool)
    binary[first:nets] = pairs
    fanin, table = np.zeros((rows, 2), np.int32), np.zeros(rows, np.uint8)
    fanin[first:nets] = body.fanin[:, :2]
    for i in range(4):  # a table over the first two of k inputs repeats each bit 2**(k - 2) times
        table[first:nets] |= (body.table >> (i << (k - 2)) & 1).astype(np.uint8) << i
    readers = np.zeros(rows, np.int32)
    for read in (*body.fanin.T, body.outputs):
        readers[:nets] += np.bincount(read, minlength=nets).astype(np.int32)
    # Gates are visited, and stand in the end, by level: a structure finds what came before.
    order = np.argsort(body.levels(), kind="stable").astype(np.int32)
    place = np.zeros(rows, np.int32)
    place[order] = np.arange(nets, dtype=np.int32)
    cuts = small_cuts(fanin, table, binary, nets, CUTS)
    end = _replace_all(fanin, table, binary, readers, order, place, *cuts, *library())
    if end == 0:
        return body
    # New gates stand before the gate whose replacement they are part of.
    kept = np.flatnonzero(~binary[first:end] | (readers[first:end] > 0)) + first
    kept = kept[np.lexsort((kept < nets, place[kept]))]
    new_id = np.arange(end, dtype=np.int32)
    new_id[kept] = np.arange(first, first + len(kept), dtype=np.int32)
    wide, tables = np.zeros((len(kept), k), np.int32), widen_table(table[kept], 2, k)
    wide[:, :2] = new_id[fanin[kept]]
    other = np.flatnonzero(kept < nets)
    other = other[~pairs[kept[other] - first]]
    wide[other] = new_id[body.fanin[kept[other] - first]]
    tables[other] = body.table[kept[other] - first]
    return Body.build(body.taps, wide, tables, new_id[body.outputs], copy=False)


@compiled
def _replace_all(  # type: ignore[no-untyped-def]
    fanin, table, binary, readers, order, place, leaves, size, functions, count,
    kind, wiring, phases, start, length, gates,
):  # fmt: skip
    """Replace gates where that saves some; the end of the rows in use, 0 where nothing is saved."""
    nets = len(leaves)
    end = nets
    slots = 64
    while slots < 4 * nets:
        slots *= 2
    names = np.zeros(slots, np.int32)
    filled = 0
    for net in range(nets):
        if binary[net]:
            _enter(names, fanin, table, net)
            filled += 1
    stack = np.empty(len(fanin), np.int32)
    literal = np.empty(12, np.int64)
    literal[11] = 0
    saved = 0
    for root in order:
        if not binary[root] or readers[root] == 0:
            continue
        best_cut, best_form, best_gain = -1, -1, 0
        for cut in range(count[root]):
            function = np.int64(functions[root, cut])
            if not _protect(leaves[root, cut], size[root, cut], binary, readers):
                continue
            freed = _release(root, fanin, binary, readers, stack)
            if freed > 1 + best_gain:
                _read_leaves(literal, leaves[root, cut], wiring[function], phases[function])
                for form in range(start[kind[function]], start[kind[function] + 1]):
                    limit = freed - best_gain  # a cost below this is better
                    cost = _cost(
                        gates[form], length[form], limit, literal, names, fanin, table, binary,
                        readers, place, root,
                    )  # fmt: skip
                    if cost < limit:
                        best_cut, best_form, best_gain = cut, form, freed - cost
            _claim(root, fanin, binary, readers, stack)
            for j in range(size[root, cut]):
                readers[leaves[root, cut, j]] -= 1
        if best_cut < 0 or filled + 8 > slots // 4 * 3 or end + 8 > len(fanin):
            continue
        chosen = leaves[root, best_cut]
        function = np.int64(functions[root, best_cut])
        _protect(chosen, size[root, best_cut], binary, readers)
        _release(root, fanin, binary, readers, stack)
        _read_leaves(literal, chosen, wiring[function], phases[function])
        new_end = _build(
            gates[best_form], length[best_form], phases[function] >> 4, literal, names, fanin,
            table, binary, readers, place, root, end,
        )  # fmt: skip
        filled += new_end - end + 1
        end = new_end
        _claim(root, fanin, binary, readers, stack)
        for j in range(size[root, best_cut]):
            leaf = chosen[j]
            readers[leaf] -= 1
            if readers[leaf] == 0 and binary[leaf]:
                _release(leaf, fanin, binary, readers, stack)
        saved += best_gain
    return end if saved else 0


@compiled
def _protect(leaves, size, binary, readers):  # type: ignore[no-untyped-def]
    """Count one more reader of each leaf, unless one of them is a gate that is gone."""
    for j in range(size):
        if binary[leaves[j]] and readers[leaves[j]] == 0:
            return False
    for j in range(size):
        readers[leaves[j]] += 1
    return True


@compiled
def _release(root, fanin, binary, readers, stack):  # type: ignore[no-untyped-def]
    """Take the root's reads back; the gates that go with it, itself counted."""
    stack[0] = root
    top, freed = 1, 1
    while top:
        top -= 1
        gate = stack[top]
        for j in range(2):
            net = fanin[gate, j]
            readers[net] -= 1
            if readers[net] == 0 and binary[net]:
                stack[top] = net
                top += 1
                freed += 1
    return freed


@compiled
def _claim(root, fanin, binary, readers, stack):  # type: ignore[no-untyped-def]
    """Undo `_release`."""
    stack[0] = root
    top = 1
    while top:
        top -= 1
        gate = stack[top]
        for j in range(2):
            net = fanin[gate, j]
            if readers[net] == 0 and binary[net]:
                stack[top] = net
                top += 1
            readers[net] += 1


@compiled
def _read_leaves(literal, leaves, wiring, phases):  # type: ignore[no-untyped-def]
    """The literals that the leaves of a class's representative stand for."""
    for j in range(4):
        literal[j] = 2 * np.int64(leaves[wiring[j]]) + (phases >> j & 1)


@compiled
def _cost(  # type: ignore[no-untyped-def]
    form, length, limit, literal, names, fanin, table, binary, readers, place, root
):
    """Gates that a structure adds to those that stay, or `limit` where it adds as many."""
    cost = 0
    for i in range(length):
        a, b = literal[form[i, 0]], literal[form[i, 1]]
        own = np.int64(-1)
        if a >= 0 and b >= 0:
            own = _find(a, b, form[i, 2], names, fanin, table, binary, place, root)
        literal[4 + i] = own
        if own < 0 or (binary[own >> 1] and readers[own >> 1] == 0):
            cost += 1
            if cost == limit:
                return limit
    return cost


@compiled
def _build(  # type: ignore[no-untyped-def]
    form, length, odd, literal, names, fanin, table, binary, readers, place, root, end
):
    """Make the structure's gates that are not there, the last in the root's place."""
    binary[root] = False
    for i in range(length):
        a, b, f = literal[form[i, 0]], literal[form[i, 1]], form[i, 2]
        own = _find(a, b, f, names, fanin, table, binary, place, root)
        last = i == length - 1
        if own < 0 or (last and binary[own >> 1] and readers[own >> 1] == 0):
            net = root if last else end
            f = _absorb(f, a & 1, b & 1)
            a, b = a >> 1, b >> 1
            if a > b:
                a, b = b, a
                f = (f & 9) | (f & 2) << 1 | (f & 4) >> 1
            fanin[net, 0], fanin[net, 1] = a, b
            if last:
                table[net] = f ^ (15 if odd else 0)
                binary[net] = True
                _enter(names, fanin, table, net)
                return end
            table[net], binary[net], place[net] = f, True, place[root]
            _enter(names, fanin, table, net)
            own = 2 * np.int64(net)
            end += 1
        literal[4 + i] = own
    # The function is that of a net which is there: the root only hands it on.
    result = literal[3 + length] if length else literal[form[0, 0]]
    result ^= odd
    fanin[root, 0], fanin[root, 1] = result >> 1, 0
    table[root] = _BUFFER ^ (15 if result & 1 else 0)
    return end


@compiled
def _absorb(f, odd_a, odd_b):  # type: ignore[no-untyped-def]
    """A two-input table with complemented inputs."""
    if odd_a:
        f = (f & 12) >> 2 | (f & 3) << 2
    if odd_b:
        f = (f & 10) >> 1 | (f & 5) << 1
    return f


@compiled
def _find(a, b, f, names, fanin, table, binary, place, root):  # type: ignore[no-untyped-def]
    """The literal that a gate on literals a and b equals, found before `root`; -1 for none."""
    f = _absorb(f, a & 1, b & 1)
    a, b = a >> 1, b >> 1
    if a > b:
        a, b = b, a
        f = (f & 9) | (f & 2) << 1 | (f & 4) >> 1
    if a == 0 or a == b:  # a constant, or the same net twice: a function of b alone
        zero, one = f & 1, (f >> 1 & 1) if a == 0 else f >> 3
        if zero == one or b == 0:
            return np.int64(zero)
        return 2 * b + zero
    odd = f & 1
    if odd:
        f ^= 15
    mask = len(names) - 1
    at = (a * _PRIMES[0] ^ b * _PRIMES[1] ^ f * _PRIMES[2]) >> 7 & mask
    while names[at]:
        net = np.int64(names[at])
        if fanin[net, 0] == a and fanin[net, 1] == b and binary[net]:
            own = table[net] & 1
            if (table[net] ^ (15 if own else 0)) == f and place[net] <= place[root] and net != root:
                return 2 * net + (own ^ odd)
        at = (at + 1) & mask
    return np.int64(-1)


@compiled
def _enter(names, fanin, table, net):  # type: ignore[no-untyped-def]
    """Put a gate into the hash table of gates by what they compute. Rows that change leave an
    entry behind, which `_find` passes over.
    """
    f = np.int64(table[net])
    if f & 1:
        f ^= 15
    mask = len(names) - 1
    a, b = np.int64(fanin[net, 0]), np.int64(fanin[net, 1])
    at = (a * _PRIMES[0] ^ b * _PRIMES[1] ^ f * _PRIMES[2]) >> 7 & mask
    while names[at]:
        at = (at + 1) & mask
    names[at] = net
