"""Few samples, one after another: their bits in lanes, where the block path has samples there.

A `LatencyPlan` compiled and linked for this process. It takes over below the batch size at which,
by estimate, a block of 512 costs no more.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from lgir.backends.llvm.cache import ObjectCache
from lgir.backends.llvm.jit import Functions, Target
from lgir.backends.llvm.records import Context, Record, RunLoop, link
from lgir.backends.llvm.single_sample.plan import RUN, LatencyPlan
from lgir.executable import Array
from lgir.ir.graph import Graph
from lgir.ir.nodes import Logic, Reshape
from lgir.ir.types import Value

MOST: Final = 16
"""Samples of a call at most."""

# Cycles of the block path, whatever the number of samples.
_CALL: Final = 20_000
"""A call takes, beyond what few samples take."""
_PYTHON: Final = 60_000
"""A call from Python takes as well: arrays for a block and for what it packs."""
_GATE: Final = 1.5
"""A two-input gate at a position."""
_GATE_OWN: Final = 0.9
"""The same where trees have code of their own."""
_GATE_ONCE: Final = 2.5
"""A gate of a dense layer, which moves lines between caches."""
_BIT: Final = 8
"""A bit packed, or counted."""
_SLOWER: Final = {512: 1.0, 256: 1.8, 128: 3.2}
"""As many times as long all that takes, by the bits of registers."""
_EXPORTED: Final = 100
"""A bit that is an output."""


class Latency:
    """Machine code that evaluates `graph` sample by sample; safe to call from many threads.

    Attributes:
        plan: what it runs.
        most: the largest batch that it evaluates faster than the block path, 0 to MOST.

    Raises BackendError where the network is too large.
    """

    def __init__(self, graph: Graph, target: Target, cache: ObjectCache | None) -> None:
        self.plan = LatencyPlan(graph, target)
        self.most = crossover(graph, self.plan, _PYTHON)
        self._functions = Functions(self.plan.modules, target, cache)
        self._address = {name: self._functions.address(name) for name in self.plan.modules}
        self._run = RunLoop(self._address[RUN])
        self._linked: dict[tuple[str, ...], Record] = {}
        self._idle: dict[tuple[str, ...], list[_Call]] = {}

    def __call__(self, samples: Sequence[Array], n: int) -> list[Array] | None:
        """Outputs of `n` <= MOST samples, bool, uint8 or float32 as checked, or uint64 words; None
        where a bit is neither 0 nor 1 or a float is NaN.
        """
        kinds = tuple([sample_kind(a) for a in samples])
        idle = self._idle.setdefault(kinds, [])
        try:
            call = idle.pop()
        except IndexError:
            call = self._call(kinds)
        for room, array in zip(call.samples, samples, strict=True):
            room[:n] = array
        call.context[_ERROR] = 0
        self._run(*call.addresses, 0, n)
        sound = not call.context[_ERROR]
        results = [room[:n].copy() for room in call.results]
        idle.append(call)
        return results if sound else None

    def _call(self, kinds: tuple[str, ...]) -> _Call:
        if kinds not in self._linked:
            # Threads may do this side by side, and a call keeps no more than the records' address.
            self._linked.setdefault(kinds, link(self.plan.sequence(kinds), self._address))
        return _Call(self.plan, kinds, self._linked[kinds])


_ERROR: Final = int(Context.ERROR)


class _Call:
    """What a call in progress writes to: room for samples and results, and a workspace. That all is
    in one place from call to call spares asking numpy for addresses, a microsecond each.
    """

    def __init__(self, plan: LatencyPlan, kinds: tuple[str, ...], records: Record) -> None:
        graph = plan.graph
        self.samples = [_room(v, k) for v, k in zip(graph.inputs, kinds, strict=True)]
        outputs = [graph.values[name] for name in graph.outputs]
        self.results: list[Array] = [
            np.zeros((MOST, *value.shape), np.bool_ if value.dtype == "bit" else np.float32)
            for value in outputs
        ]
        self.context = np.zeros(plan.context_words, np.int64)
        slots = [x for a in self.samples for x in (a.ctypes.data, a.strides[0])]
        self.context[Context.SLOTS :] = slots + [a.ctypes.data for a in self.results]
        self._workspace: npt.NDArray[np.uint8] = np.zeros(plan.workspace, np.uint8)
        self._workspace[slice(*plan.ones)] = 0xFF
        self.addresses = (
            records.ctypes.data,
            len(records),
            self.context.ctypes.data,
            self._workspace.ctypes.data,
        )


def sample_kind(array: Array) -> str:
    """Of checked samples, as `lgir.backends.llvm.program.Program` names kinds."""
    if array.dtype == np.float32:
        return "f32"
    return "bits" if array.dtype == np.uint64 else "u8"


def _room(value: Value, kind: str) -> Array:
    """For samples of an input."""
    if kind == "bits":
        return np.zeros((MOST, -(-value.size // 64)), np.uint64)
    return np.zeros((MOST, *value.shape), np.float32 if kind == "f32" else np.uint8)


def crossover(graph: Graph, plan: LatencyPlan, call: float = 0) -> int:
    """The largest batch that `plan` evaluates faster than the block path does, 0 to MOST, where a
    call takes that `call` cycles more than from C.
    """
    return min(MOST, int((_CALL + call + _block_cycles(graph, plan.target)) / plan.cycles))


def _block_cycles(graph: Graph, target: Target) -> float:
    """What a block takes, of however few samples; as measured, roughly."""
    cycles = 0.0
    gate = _GATE_OWN if target.ternary else _GATE
    for node in graph.nodes:
        if isinstance(node.op, Logic):
            gates = (1 << node.op.body.arity().astype(np.int64)).sum() / 4  # of two inputs
            cycles += gates * (gate * node.op.positions if node.op.positions > 1 else _GATE_ONCE)
        elif not isinstance(node.op, Reshape):
            cycles += _BIT * graph.values[node.inputs[0]].size
    outputs = (graph.values[name] for name in graph.outputs)
    cycles += _EXPORTED * sum(value.size for value in outputs if value.dtype == "bit")
    return _SLOWER[target.vector_bits] * cycles
