"""The roofline of a network: the bound of each kind of step beside its measured time.

A backend measures the machine and states the costs of its steps (`StepMeter`); this module makes a
table of both. Outputs are compared with the reference interpreter before anything is shown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol, runtime_checkable

from lgir.benchmarking.checks import OutputChecker, random_samples
from lgir.benchmarking.environment import environment
from lgir.benchmarking.measuring import compile_cold, gate_evaluations
from lgir.benchmarking.rendering import facts_grid, plain_text, si, titled_table
from lgir.errors import BackendError, InputError
from lgir.ir.graph import Graph
from lgir.registry import BACKENDS
from lgir.roofline import BLOCK, LINE, Level, Machine, StepCost
from lgir.samples import Array

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

_SAMPLES: Final = 16 * BLOCK
_CHECK: Final = 1000


@dataclass(frozen=True)
class KindFigures:
    """The steps of one kind together, for 512 samples on one thread.

    Attributes:
        kind: name of the kind of step.
        rows: rows of the steps' tables, each one evaluation of a kernel's body.
        loads, stores: lines that all rows load and store.
        logic: logic instructions on planes of all rows.
        seconds: measured time of these steps, run alone.
        bound: sum of the bounds of the steps, in seconds.
        bound_by: name of the resource that most of the bound comes from.
        evaluates_gates: whether the time of these steps is part of the time in gates.
    """

    kind: str
    rows: int
    loads: float
    stores: float
    logic: float
    seconds: float
    bound: float
    bound_by: str
    evaluates_gates: bool = False

    @property
    def share(self) -> float:
        """The bound as a share of the measured time; 1 is the limit of the machine."""
        return self.bound / self.seconds

    @property
    def bytes(self) -> float:
        """Bytes that all rows load and store."""
        return LINE * (self.loads + self.stores)

    def to_dict(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "rows": self.rows,
            "seconds_per_512": self.seconds,
            "bytes": self.bytes,
            "lines_loaded_per_row": self.loads / self.rows,
            "lines_stored_per_row": self.stores / self.rows,
            "logic_per_row": self.logic / self.rows,
            "bound_seconds": self.bound,
            "bound_by": self.bound_by,
            "share_of_bound": self.share,
        }


def kind_figures(costs: list[StepCost], seconds: float, machine: Machine) -> KindFigures:
    """Add up the costs of steps of one kind that were measured together in `seconds`."""
    bounds: dict[str, float] = {}
    for cost in costs:
        bound, name = cost.bound(machine)
        bounds[name] = bounds.get(name, 0.0) + bound
    return KindFigures(
        costs[0].kind,
        rows=sum(c.rows for c in costs),
        loads=sum(c.traffic[0].loads for c in costs),
        stores=sum(c.traffic[0].stores for c in costs),
        logic=sum(c.logic for c in costs),
        seconds=seconds,
        bound=sum(bounds.values()),
        bound_by=max(bounds, key=lambda name: bounds[name]),
        evaluates_gates=costs[0].evaluates_gates,
    )


@dataclass(frozen=True)
class RooflineReport:
    """The result of `measure_roofline`: `print(report)` shows tables, `to_dict()` is for JSON.

    Attributes:
        name: name of the graph.
        backend: registered name of the backend.
        gates: gates evaluated per sample.
        machine: the measured roofs.
        kinds: figures by kind of step, in the order of their first step.
        seconds: time of all steps together, for 512 samples.
        sample_bytes: bytes of one sample, all inputs together.
        samples_in: the level of the memory hierarchy that held the samples.
        checked: number of samples whose outputs were compared with the reference, all equal.
        environment: the processor and the versions of packages.
    """

    name: str
    backend: str
    gates: int
    machine: Machine
    kinds: tuple[KindFigures, ...]
    seconds: float
    sample_bytes: int
    samples_in: Level
    checked: int
    environment: dict[str, str]

    @property
    def bound(self) -> float:
        """Sum of the bounds of all kinds, in seconds."""
        return sum(kind.bound for kind in self.kinds)

    @property
    def in_gates(self) -> KindFigures | None:
        """The kinds of steps that evaluate gates, added up; None without gates."""
        kinds = [kind for kind in self.kinds if kind.evaluates_gates]
        if not kinds or not self.gates:
            return None
        total = {
            name: sum(getattr(kind, name) for kind in kinds)
            for name in ("rows", "loads", "stores", "logic", "seconds", "bound")
        }
        return KindFigures(
            "gates", **total, bound_by=max(kinds, key=lambda kind: kind.bound).bound_by
        )

    def to_dict(self) -> dict[str, Any]:
        inside = self.in_gates
        return {
            "name": self.name,
            "backend": self.backend,
            "gates": self.gates,
            "outputs_equal": True,
            "samples_checked": self.checked,
            "machine": {
                "logic_per_second": self.machine.logic,
                "levels": [vars(level) for level in self.machine.levels],
            },
            "steps": [kind.to_dict() for kind in self.kinds],
            "bytes_per_gate": inside.bytes / self.gates if inside else None,
            "logic_per_gate": inside.logic / self.gates if inside else None,
            "seconds_per_512": self.seconds,
            "sample_bytes": self.sample_bytes,
            "samples_in": self.samples_in.name,
            "bound_seconds": self.bound,
            "share_of_bound": self.bound / self.seconds,
            "environment": dict(self.environment),
        }

    def __rich__(self) -> Group:
        from rich.console import Group

        packing = sum(kind.seconds for kind in self.kinds if kind.kind == "pack")
        facts = {
            "logic": f"{si(self.machine.logic)} instructions on 512 bits per second, in registers",
            "times": "medians of the CPU time of one thread, each kind of step run alone",
            "bound": "the slowest of L1 accesses, lines from the level that holds them, and logic",
        }
        if inside := self.in_gates:
            moved, logic = inside.bytes / self.gates, inside.logic / self.gates
            rates = (BLOCK * self.gates / x for x in (inside.seconds, inside.bound))
            facts["per gate"] = f"{moved:.0f} bytes and {logic:.2f} instructions for 512 samples"
            facts["in gates"] = "{} gate-evals/s, bound {}".format(*map(si, rates))
        if packing:
            speed = si(BLOCK * self.sample_bytes / packing)
            copy = f"copying in {self.samples_in.name} {si(self.samples_in.copy)}"
            facts["packing"] = f"{speed} bytes/s of samples; {copy}"
        facts["outputs"] = f"equal to the reference's on {self.checked:,} samples"
        facts |= self.environment
        return Group(self._machine_table(), self._kinds_table(), facts_grid(facts))

    def _machine_table(self) -> Table:
        table = titled_table("measured bandwidth, one thread, bytes/s")
        table.add_column(" level")
        for name in ("size", "read", "write", "copy"):
            table.add_column(name, justify="right")
        for level in self.machine.levels:
            size = "" if level.size is None else f"{level.size >> 10:,} KiB"
            speeds = [si(x) for x in (level.read, level.write, level.copy)]
            table.add_row(f" {level.name}", size, *speeds)
        return table

    def _kinds_table(self) -> Table:
        table = titled_table(f"{self.name}: {self.gates:,} gates per sample, by {self.backend}")
        table.add_column(" step")
        for name in ("rows", "loads\nper row", "stores\nper row", "logic\nper row", "bytes",
                     "us per\n512 samples", "bound\nus"):  # fmt: skip
            table.add_column(name, justify="right")
        table.add_column("by")
        table.add_column("of bound\nreached", justify="right")
        for kind in self.kinds:
            table.add_row(
                f" {kind.kind}",
                f"{kind.rows:,}",
                *(f"{x / kind.rows:.2f}" for x in (kind.loads, kind.stores, kind.logic)),
                si(kind.bytes),
                f"{1e6 * kind.seconds:,.2f}",
                f"{1e6 * kind.bound:,.2f}",
                kind.bound_by,
                f"{kind.share:.0%}",
            )
        table.add_section()
        total = f"{1e6 * self.seconds:,.2f}", f"{1e6 * self.bound:,.2f}"
        moved = si(sum(kind.bytes for kind in self.kinds))
        share = f"{self.bound / self.seconds:.0%}"
        table.add_row(" together", "", "", "", "", moved, *total, "", share)
        return table

    def __str__(self) -> str:
        return plain_text(self)


@runtime_checkable
class StepMeter(Protocol):
    """An executable that states the costs of its steps and measures them."""

    def measure_machine(self) -> Machine:
        """Measure the roofs of one thread."""
        ...

    def step_costs(self, samples: list[Array]) -> list[StepCost]:
        """Return the cost of every step for 512 of these samples, in order."""
        ...

    def time_steps(self, kind: str | None, samples: list[Array]) -> float:
        """Return the CPU seconds that all steps, or those of one kind, take for 512 samples."""
        ...


def measure_roofline(
    graph: Graph,
    backend: str = "llvm",
    *,
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
    progress: Callable[[str], None] = lambda step: None,
) -> RooflineReport:
    """Return the bounds and the measured times of the steps of `graph` on one thread.

    Args:
        graph: the graph to measure.
        backend: registered name of a backend whose executables are `StepMeter`s.
        seed: seed of the random samples.
        options: keyword options for compiling.
        progress: called with a description of each step before it begins.

    Raises:
        BackendError: outputs differ from those of the reference, or the backend does not state the
            costs of its steps.
        InputError: the graph has no inputs.
    """
    if not graph.inputs:
        raise InputError("a bench needs a graph with inputs")
    progress(f"{backend}: compiling")
    exe, _ = compile_cold(backend, graph, options or {})
    if not isinstance(exe, StepMeter):
        raise BackendError(f"backend {backend!r} does not state costs of steps; use -b llvm")
    samples = random_samples(graph, _SAMPLES, seed)
    progress("reference outputs")
    checked = [a[:_CHECK] for a in samples]
    checker = OutputChecker.of(BACKENDS.get("reference")(graph), checked, _CHECK)
    checker.check(backend, exe(*checked, threads=1), len(checked[0]))
    progress("bandwidth of caches and memory")
    machine = exe.measure_machine()
    by_kind: dict[str, list[StepCost]] = {}
    for cost in exe.step_costs(samples):
        by_kind.setdefault(cost.kind, []).append(cost)
    kinds = []
    for kind, costs in by_kind.items():
        progress(f"{kind} steps")
        kinds.append(kind_figures(costs, exe.time_steps(kind, samples), machine))
    progress("all steps")
    return RooflineReport(
        name=graph.name,
        backend=backend,
        gates=gate_evaluations(graph),
        machine=machine,
        kinds=tuple(kinds),
        seconds=exe.time_steps(None, samples),
        sample_bytes=sum(a.nbytes for a in samples) // _SAMPLES,
        samples_in=machine.level_of(max(a.nbytes for a in samples)),
        checked=checker.count_within(len(checked[0])),
        environment=environment(),
    )
