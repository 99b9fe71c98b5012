"""Body: the gates of one Logic node, as arrays.

Net ids are integers: 0 is False and 1 is True, as in amaranth's netlists. The ids of the taps
follow, then those of the gates in topological order, so an operand's id is always below its gate's
own and no walk ever recurses. Inverters need no marks, since truth tables absorb them. Arrays take
9 to 32 bytes per gate; an object per gate would take 400 and more.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lgir.errors import GraphError
from lgir.ir.truth_tables import (
    MAX_FANIN,
    depends_on,
    full_mask,
    narrow_table,
    table_dtype,
    widen_table,
)
from lgir.ir.types import FALSE, FIRST_TAP, TRUE
from lgir.ir.views import GateViews, TapViews, users_by_net

IntArray = npt.NDArray[np.int32]
Mask = npt.NDArray[np.bool_]
Rows = slice | IntArray

_CHUNK: Final = 1 << 16
_LEVEL_CHUNK: Final = 4096
_LEVEL_SWEEPS: Final = 32


@dataclass(frozen=True, eq=False)
class Body:
    """Gates over taps, evaluated once at every position of the node's iteration space.

    `Body.build` is the constructor to use: it converts dtypes, drops trailing columns of `fanin`
    that no gate uses, and makes the arrays read-only. A pass builds a new body.

    Attributes:
        taps: (T, 2 + rank) int32; a row is (input, channel, offset along each space axis).
        fanin: (G, K) int32 net ids, 1 <= K <= 6. Trailing inputs that a table ignores are 0.
        table: (G,) unsigned, 2**K bits each (see `lgir.ir.truth_tables`).
        outputs: (C,) int32 net ids, one per output channel.
    """

    taps: IntArray
    fanin: IntArray
    table: npt.NDArray[np.unsignedinteger]
    outputs: IntArray

    @staticmethod
    def build(
        taps: npt.ArrayLike,
        fanin: npt.ArrayLike,
        table: npt.ArrayLike,
        outputs: npt.ArrayLike,
        *,
        rank: int = 0,
        copy: bool = True,
    ) -> Body:
        """Return a body from anything array-like.

        Args:
            taps, fanin, table, outputs: the arrays of the body, see `Body`.
            rank: number of axes of the iteration space, used if there are no taps.
            copy: whether the caller's arrays are copied. Otherwise those of the right dtype are
                taken over and become read-only.

        Raises:
            GraphError: shapes disagree, or a number does not fit its array. `lgir.ir.verifier`
                checks ids and tables.
        """
        taps_ = _int32("taps", taps, copy)
        if taps_.size == 0:
            taps_ = taps_.reshape(0, taps_.shape[1] if taps_.ndim == 2 else 2 + rank)
        fanin_ = _int32("fanin", fanin, copy)
        if fanin_.size == 0:
            fanin_ = np.zeros((0, 1), np.int32)
        outputs_ = _int32("outputs", outputs, copy)
        table_ = _integers("table", table, copy)
        if taps_.ndim != 2 or fanin_.ndim != 2 or outputs_.ndim != 1:
            raise GraphError(
                f"body arrays must be taps (T, 2+rank), fanin (G, K), outputs (C,); got "
                f"{taps_.shape}, {fanin_.shape}, {outputs_.shape}"
            )
        if table_.shape != (len(fanin_),):
            raise GraphError(f"table has shape {table_.shape}, expected ({len(fanin_)},)")
        k = fanin_.shape[1]
        if not 1 <= k <= MAX_FANIN:
            raise GraphError(f"a gate has 1 to {MAX_FANIN} inputs; fanin has {k} columns")
        if table_.dtype != table_dtype(k):
            if table_.size and not (table_.min() >= 0 and int(table_.max()) <= full_mask(k)):
                raise GraphError(
                    f"a table of {k} inputs has {1 << k} bits; {int(table_.min())}.."
                    f"{int(table_.max())} given"
                )
            table_ = table_.astype(table_dtype(k))
        while k > 1 and not fanin_[:, -1].any() and not depends_on(table_, k, k - 1).any():
            table_ = narrow_table(table_, k, k - 1)
            fanin_, k = np.ascontiguousarray(fanin_[:, :-1]), k - 1
        for array in (taps_, fanin_, table_, outputs_):
            array.flags.writeable = False
        return Body(taps_, fanin_, table_, outputs_)

    @property
    def rank(self) -> int:
        """Return the number of axes of the iteration space: 0 dense, 2 images, 3 volumes."""
        return int(self.taps.shape[1]) - 2

    @property
    def num_taps(self) -> int:
        """Return the number of taps."""
        return len(self.taps)

    @property
    def num_gates(self) -> int:
        """Return the number of gates."""
        return len(self.fanin)

    @property
    def k(self) -> int:
        """Return the widest fan-in, which is the number of columns of `fanin`."""
        return int(self.fanin.shape[1])

    @property
    def first_gate(self) -> int:
        """Return the net id of gate 0."""
        return FIRST_TAP + len(self.taps)

    @property
    def num_nets(self) -> int:
        """Return the number of nets: two constants, the taps and the gates."""
        return FIRST_TAP + len(self.taps) + len(self.fanin)

    def arity(self) -> npt.NDArray[np.uint8]:
        """Return the number of inputs of each gate that are wired or matter, uint8 (G,).

        Inputs before the last one of these count as well.
        """
        arity = np.zeros(self.num_gates, np.uint8)
        for column in range(self.k):
            used = (self.fanin[:, column] != FALSE) | depends_on(self.table, self.k, column)
            arity[used] = column + 1
        return arity

    def levels(self) -> IntArray:
        """Return the level of each net, int32 (num_nets,).

        It is 0 for constants and taps, and otherwise 1 + the level of the deepest operand. Gates
        are relaxed in chunks by a few vectorized sweeps, which suffice for the shallow bodies of
        real networks; a chunk that does not settle soon (a long chain) is walked gate by gate.
        """
        level = np.zeros(self.num_nets, np.int32)
        for start in range(0, self.num_gates, _LEVEL_CHUNK):
            fanin = self.fanin[start : start + _LEVEL_CHUNK]
            first = self.first_gate + start
            chunk_level = level[first : first + len(fanin)]
            columns = np.ascontiguousarray(fanin.T)
            for _ in range(_LEVEL_SWEEPS):
                new = 1 + reduce(np.maximum, [level[column] for column in columns])
                if np.array_equal(new, chunk_level):
                    break
                chunk_level[:] = new
            else:
                before_chunk = np.where(fanin < first, level[fanin], 0).max(axis=1).tolist()
                walked: list[int] = []
                for deepest, operands in zip(before_chunk, (fanin - first).tolist(), strict=True):
                    walked.append(1 + max([deepest, *(walked[x] for x in operands if x >= 0)]))
                chunk_level[:] = walked
        return level

    def gates_by_level(self) -> list[npt.NDArray[np.int64]]:
        """Return the gate numbers of each level, shallowest first, ascending in a level."""
        number = np.arange(self.num_gates)
        return [number[rows] for _, rows in self.level_runs()]

    def level_runs(self, most: int | None = None) -> Iterator[tuple[int, Rows]]:
        """Yield (level, gates) from the shallowest level on, ascending in a level.

        At most `most` gates are yielded at a time, by default a whole level. Gates that lie beside
        each other come as a slice, so that indexing with them copies nothing.
        """
        level = self.levels()[self.first_gate :]
        order: IntArray | None = None
        if (level[1:] < level[:-1]).any():
            narrow = level.astype(np.uint16) if int(level.max()) < 1 << 16 else level
            order = np.argsort(narrow, kind="stable").astype(np.int32)
            level = level[order]
        run_ends = [*(np.flatnonzero(level[1:] != level[:-1]) + 1).tolist(), len(level)]
        del level
        start = 0
        for depth, end in enumerate(run_ends if self.num_gates else (), start=1):
            while start < end:
                stop = end if most is None else min(start + most, end)
                yield depth, slice(start, stop) if order is None else order[start:stop]
                start = stop

    def restricted(self, keep: Mask, outputs: IntArray | None = None) -> Body:
        """Return the body without the taps and gates that `keep`, bool (num_nets,), leaves out.

        What stays must not read what goes. `outputs` are nets of this body; by default they stay.
        """
        new_id = np.cumsum(keep, dtype=np.int32)
        new_id += np.int32(FIRST_TAP - 1 - int(keep[:FIRST_TAP].sum()))
        new_id[:FIRST_TAP] = (FALSE, TRUE)
        gates = keep[self.first_gate :]
        fanin = np.empty((int(np.count_nonzero(gates)), self.k), np.int32)
        end = 0
        for start in range(0, self.num_gates, _CHUNK):
            part = slice(start, start + _CHUNK)
            rows = self.fanin[part][gates[part]]
            fanin[end : end + len(rows)] = new_id[rows]
            end += len(rows)
        outputs = new_id[self.outputs if outputs is None else outputs]
        taps = self.taps[keep[FIRST_TAP : self.first_gate]]
        return Body.build(taps, fanin, self.table[gates], outputs, copy=False)

    def widened(self, k: int) -> Body:
        """Return the same body with `fanin` padded to `k` columns, for arithmetic on tables."""
        if k <= self.k:
            return self
        fanin = np.zeros((self.num_gates, k), np.int32)
        fanin[:, : self.k] = self.fanin
        return Body(self.taps, fanin, widen_table(self.table, self.k, k), self.outputs)

    def gates(self) -> GateViews:
        """Return the gates as small objects, for people and tests; see `lgir.ir.views`."""
        return GateViews(self)

    def tap_views(self) -> TapViews:
        """Return the taps as small objects, for people and tests; see `lgir.ir.views`."""
        return TapViews(self)

    def users(self) -> dict[int, list[int]]:
        """Return the ids of the gates that read each net, ascending; outputs do not count."""
        return users_by_net(self)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Body):
            return NotImplemented
        k = max(self.k, other.k)  # columns of padding do not tell two bodies apart
        left, right = self.widened(k), other.widened(k)
        return all(
            np.array_equal(getattr(left, f), getattr(right, f))
            for f in ("taps", "fanin", "table", "outputs")
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return (
            f"Body({self.num_taps} taps, {self.num_gates} gates, k={self.k}, "
            f"{len(self.outputs)} outputs)"
        )


def _integers(name: str, values: npt.ArrayLike, copy: bool) -> npt.NDArray[Any]:
    """Return `values` as an array of integers, of uint64 if Python's integers need it."""
    try:
        array = np.asarray(values)
    except ValueError:
        raise GraphError(f"body array {name} has rows of different lengths") from None
    if array.dtype.kind in "iu":
        # The caller may go on to change the array, and must not find it read-only.
        return array.copy() if copy and array is values and array.flags.writeable else array
    if array.size == 0:
        return array.astype(np.int64)
    # From integers that straddle int64 and uint64 numpy makes floats or objects.
    exact = np.array(values, dtype=object)
    if array.dtype == bool or not all(isinstance(v, int | np.integer) for v in exact.flat):
        raise GraphError(f"body array {name} must hold integers, not {array.dtype}")
    try:
        return exact.astype(np.uint64)
    except OverflowError:
        raise GraphError(f"body array {name} holds integers outside 0..2**64-1") from None


def _int32(name: str, values: npt.ArrayLike, copy: bool) -> IntArray:
    """Return `values` as an array of int32; GraphError if a value does not fit."""
    array = _integers(name, values, copy)
    limits = np.iinfo(np.int32)
    if array.size and not (limits.min <= array.min() and array.max() <= limits.max):
        raise GraphError(f"body array {name} holds {array.min()}..{array.max()}, not 32-bit ids")
    return array.astype(np.int32, copy=False)
