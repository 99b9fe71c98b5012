"""DAG-aware rewriting of a body's two-input gates: the kernel of `rewrite`.

For each gate in order of level, and each of its cuts of up to four leaves, the smallest structures
of the cut's function are tried. Gates of a structure that exist already and stay cost nothing. This
is DAG-aware rewriting (Mishchenko, Chatterjee, Brayton, "DAG-aware AIG rewriting", DAC 2006) on all
two-input operations. A gate is replaced at its own net, so every net keeps its function and no cut
has to be computed again.

To price a structure, the root's cone is dereferenced: the gates without readers are what would go.
Then it is referenced again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from lgir.ir.body import Body
from lgir.ir.truth_tables import widen_table
from lgir.passes.kernels.compiled import compiled
from lgir.passes.kernels.cuts import small_cuts
from lgir.passes.kernels.structures import structure_library

_BUFFER: Final = 0b1100
"""The two-input table that equals its first input."""
_PRIMES: Final = np.array([0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D], np.int64)


@dataclass(frozen=True)
class ResynthesisParams:
    """Parameters of rewriting: the cuts kept per net, and the structures tried per function."""

    cuts: int = 8
    structures: int = 16


def resynthesize(body: Body, params: ResynthesisParams = ResynthesisParams()) -> Body:
    """Return the body with fewer gates of two inputs; the same object if no cut saves any.

    Gates of other widths stay as they are. The body must be in the normal form that `cse` leaves.
    """
    first, nets, k = body.first_gate, body.num_nets, body.k
    pairs = body.arity() == 2
    if not pairs.any():
        return body
    rows = 2 * nets + 64  # Gates that replacements add follow the body's own.
    binary = np.zeros(rows, bool)
    binary[first:nets] = pairs
    fanin, table = np.zeros((rows, 2), np.int32), np.zeros(rows, np.uint8)
    fanin[first:nets] = body.fanin[:, :2]
    for i in range(4):  # Each bit stands 2**(k - 2) times.
        table[first:nets] |= (body.table >> (i << (k - 2)) & 1).astype(np.uint8) << i
    readers = np.zeros(rows, np.int32)
    for read in (*body.fanin.T, body.outputs):
        readers[:nets] += np.bincount(read, minlength=nets).astype(np.int32)
    # Gates are visited, and stand in the end, by level: a structure may use what came before.
    order = np.argsort(body.levels(), kind="stable").astype(np.int32)
    place = np.zeros(rows, np.int32)
    place[order] = np.arange(nets, dtype=np.int32)
    cuts = small_cuts(fanin, table, binary, nets, params.cuts)
    end = _replace_all(
        fanin, table, binary, readers, order, place, *cuts, *structure_library(params.structures)
    )
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
    """Replace gates if that saves some, and return the end of the rows in use.

    The result is 0 if nothing was saved.
    """
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
            freed = _dereference(root, fanin, binary, readers, stack)
            if freed > 1 + best_gain:
                _read_leaves(literal, leaves[root, cut], wiring[function], phases[function])
                for form in range(start[kind[function]], start[kind[function] + 1]):
                    limit = freed - best_gain  # Only a cost below this is an improvement.
                    cost = _cost(
                        gates[form], length[form], limit, literal, names, fanin, table, binary,
                        readers, place, root,
                    )  # fmt: skip
                    if cost < limit:
                        best_cut, best_form, best_gain = cut, form, freed - cost
            _reference(root, fanin, binary, readers, stack)
            for j in range(size[root, cut]):
                readers[leaves[root, cut, j]] -= 1
        if best_cut < 0 or filled + 8 > slots // 4 * 3 or end + 8 > len(fanin):
            continue
        chosen = leaves[root, best_cut]
        function = np.int64(functions[root, best_cut])
        _protect(chosen, size[root, best_cut], binary, readers)
        _dereference(root, fanin, binary, readers, stack)
        _read_leaves(literal, chosen, wiring[function], phases[function])
        new_end = _build(
            gates[best_form], length[best_form], phases[function] >> 4, literal, names, fanin,
            table, binary, readers, place, root, end,
        )  # fmt: skip
        filled += new_end - end + 1
        end = new_end
        _reference(root, fanin, binary, readers, stack)
        for j in range(size[root, best_cut]):
            leaf = chosen[j]
            readers[leaf] -= 1
            if readers[leaf] == 0 and binary[leaf]:
                _dereference(leaf, fanin, binary, readers, stack)
        saved += best_gain
    return end if saved else 0


@compiled
def _protect(leaves, size, binary, readers):  # type: ignore[no-untyped-def]
    """Count one more reader of each leaf, so that dereferencing the root stops there.

    The result is False, and nothing is counted, if a leaf is a gate that is gone.
    """
    for j in range(size):
        if binary[leaves[j]] and readers[leaves[j]] == 0:
            return False
    for j in range(size):
        readers[leaves[j]] += 1
    return True


@compiled
def _dereference(root, fanin, binary, readers, stack):  # type: ignore[no-untyped-def]
    """Dereference the root's cone, and return the number of gates that go, the root included."""
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
def _reference(root, fanin, binary, readers, stack):  # type: ignore[no-untyped-def]
    """Reference the root's cone: undo `_dereference`."""
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
    """Write the literals that the inputs of a class's representative stand for."""
    for j in range(4):
        literal[j] = 2 * np.int64(leaves[wiring[j]]) + (phases >> j & 1)


@compiled
def _cost(  # type: ignore[no-untyped-def]
    form, length, limit, literal, names, fanin, table, binary, readers, place, root
):
    """Return the gates that a structure adds to those that stay, at most `limit`."""
    cost = 0
    for i in range(length):
        a, b = literal[form[i, 0]], literal[form[i, 1]]
        known = np.int64(-1)
        if a >= 0 and b >= 0:
            known = _find(a, b, form[i, 2], names, fanin, table, binary, place, root)
        literal[4 + i] = known
        if known < 0 or (binary[known >> 1] and readers[known >> 1] == 0):
            cost += 1
            if cost == limit:
                return limit
    return cost


@compiled
def _build(  # type: ignore[no-untyped-def]
    form, length, complement, literal, names, fanin, table, binary, readers, place, root, end
):
    """Make the gates of a structure that do not exist, the last at the root's net.

    The result is the new end of the rows in use.
    """
    binary[root] = False
    for i in range(length):
        a, b, f = literal[form[i, 0]], literal[form[i, 1]], form[i, 2]
        known = _find(a, b, f, names, fanin, table, binary, place, root)
        last = i == length - 1
        if known < 0 or (last and binary[known >> 1] and readers[known >> 1] == 0):
            net = root if last else end
            f = _absorb(f, a & 1, b & 1)
            a, b = a >> 1, b >> 1
            if a > b:
                a, b = b, a
                f = (f & 9) | (f & 2) << 1 | (f & 4) >> 1
            fanin[net, 0], fanin[net, 1] = a, b
            if last:
                table[net] = f ^ (15 if complement else 0)
                binary[net] = True
                _enter(names, fanin, table, net)
                return end
            table[net], binary[net], place[net] = f, True, place[root]
            _enter(names, fanin, table, net)
            known = 2 * np.int64(net)
            end += 1
        literal[4 + i] = known
    # A net with this function exists: the root becomes a buffer or an inverter of it.
    result = literal[3 + length] if length else literal[form[0, 0]]
    result ^= complement
    fanin[root, 0], fanin[root, 1] = result >> 1, 0
    table[root] = _BUFFER ^ (15 if result & 1 else 0)
    return end


@compiled
def _absorb(f, complemented_a, complemented_b):  # type: ignore[no-untyped-def]
    """Return a two-input table with inputs complemented."""
    if complemented_a:
        f = (f & 12) >> 2 | (f & 3) << 2
    if complemented_b:
        f = (f & 10) >> 1 | (f & 5) << 1
    return f


@compiled
def _find(a, b, f, names, fanin, table, binary, place, root):  # type: ignore[no-untyped-def]
    """Return the literal of a net that stands before `root` and equals a gate on literals a, b.

    The result is -1 if there is none.
    """
    f = _absorb(f, a & 1, b & 1)
    a, b = a >> 1, b >> 1
    if a > b:
        a, b = b, a
        f = (f & 9) | (f & 2) << 1 | (f & 4) >> 1
    if a == 0 or a == b:  # A constant, or one net twice: a function of b alone.
        zero, one = f & 1, (f >> 1 & 1) if a == 0 else f >> 3
        if zero == one or b == 0:
            return np.int64(zero)
        return 2 * b + zero
    complement = f & 1
    if complement:
        f ^= 15
    mask = len(names) - 1
    slot = (a * _PRIMES[0] ^ b * _PRIMES[1] ^ f * _PRIMES[2]) >> 7 & mask
    while names[slot]:
        net = np.int64(names[slot])
        if fanin[net, 0] == a and fanin[net, 1] == b and binary[net]:
            inverted = table[net] & 1
            if (
                (table[net] ^ (15 if inverted else 0)) == f
                and place[net] <= place[root]
                and net != root
            ):
                return 2 * net + (inverted ^ complement)
        slot = (slot + 1) & mask
    return np.int64(-1)


@compiled
def _enter(names, fanin, table, net):  # type: ignore[no-untyped-def]
    """Put a gate into the hash table of gates by what they compute.

    Rows that change leave an entry behind, which `_find` passes over.
    """
    f = np.int64(table[net])
    if f & 1:
        f ^= 15
    mask = len(names) - 1
    a, b = np.int64(fanin[net, 0]), np.int64(fanin[net, 1])
    slot = (a * _PRIMES[0] ^ b * _PRIMES[1] ^ f * _PRIMES[2]) >> 7 & mask
    while names[slot]:
        slot = (slot + 1) & mask
    names[slot] = net
