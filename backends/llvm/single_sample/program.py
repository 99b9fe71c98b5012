"""Lower a single-sample plan for a target: kernels as LLVM text, and the records of its steps.

There is one kernel per kind of step and template. Shapes, wiring and operations are data of the
records, so a dozen kernels serve every network.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lgir.backends.llvm.call_context import ContextWord
from lgir.backends.llvm.records import StepRecord, Tables, fields_of
from lgir.backends.llvm.single_sample.costs import ZEN4
from lgir.backends.llvm.single_sample.ends import (
    export_kernel,
    level_kernel,
    load_kernel,
    load_words_kernel,
    sum_kernel,
)
from lgir.backends.llvm.single_sample.kernels import (
    gather_kernel,
    move_kernel,
    permute_kernel,
    rows_kernel,
    trees_kernel,
)
from lgir.backends.llvm.single_sample.plan import (
    SingleSampleOptions,
    by_vector,
    plan_single_sample,
)
from lgir.backends.llvm.single_sample.records import Item, module, run_kernel
from lgir.backends.llvm.single_sample.shifted_nets import Bools, Ints
from lgir.backends.llvm.single_sample.steps import (
    LOOKUP_BITS,
    MOVED_CELLS,
    NUMBERS,
    CompareLevels,
    CountRanges,
    DenseTrees,
    ExportBits,
    GatherBytes,
    LoadSample,
    Lookup,
    MapTrees,
    MoveMaps,
    Step,
)
from lgir.backends.llvm.target import Target
from lgir.ir.graph import Graph

RUN_SAMPLES: Final = "lgir_run_samples"
"""The name of the loop over samples."""

INPUT_KINDS: Final = {"bit": ("u8", "f32", "bits"), "u8": ("u8",), "f32": ("f32",)}
"""The kinds of samples by the dtype of a graph input; "bits" are rows of 64-bit words."""

_CHECKS: Final = {"bit": "bits", "f32": "nan", "u8": ""}
"""What a load checks, by the dtype of the graph input."""

Fields = dict[int, int]


@dataclass(frozen=True)
class _InputRecords:
    """The records of a step that depends on the kind of samples of graph input `index`."""

    index: int
    by_kind: dict[str, StepRecord]


class SingleSampleProgram:
    """The kernels and records that evaluate `graph` for one sample at a time on `target`.

    Attributes:
        plan: the steps that the records hold.
        graph: the legalized graph.
        kernels: the LLVM text of functions by name. No name is one of the block program's.
        workspace: the bytes of the workspace; those of the range `ones` are 0xFF before the first
            sample, and all others 0.
        context_words: the words of a call's context: `ContextWord`, then a pointer and a stride per
            input, then a pointer per output.
        cycles: the estimated cycles per sample.

    Raises BackendError if the workspace exceeds the 4 GiB that 32-bit offsets address.
    """

    def __init__(self, graph: Graph, target: Target) -> None:
        self.plan = plan_single_sample(graph, SingleSampleOptions(target.permutes))
        self.graph = self.plan.graph
        self.target = target
        self.workspace, self.ones = self.plan.workspace, self.plan.ones
        self.context_words = self.output_slot(len(self.graph.outputs))
        self.kernels: dict[str, str] = {}
        self._use(RUN_SAMPLES, run_kernel)
        self._records = [self._lower(step) for step in self.plan.steps]
        cycles = (step.cycles(ZEN4, ternary=target.ternary) for step in self.plan.steps)
        self.cycles = sum((ZEN4.step + work for work in cycles), 0.0)

    @property
    def modules(self) -> dict[str, str]:
        """The text of each kernel's own module, by the kernel's name."""
        ternary = self.target.ternary
        return {name: module(text, ternary=ternary) for name, text in self.kernels.items()}

    def sequence(self, kinds: Sequence[str]) -> list[StepRecord]:
        """Return the records of a call, in order, for inputs of these kinds of samples."""
        return [
            record if isinstance(record, StepRecord) else record.by_kind[kinds[record.index]]
            for record in self._records
        ]

    def input_slot(self, index: int) -> int:
        """Return the word of the context that points to the samples of a graph input."""
        return ContextWord.FIRST_SLOT + 2 * index

    def output_slot(self, index: int) -> int:
        """Return the word of the context that points to the results of a graph output."""
        return self.input_slot(len(self.graph.inputs)) + index

    def _use(self, name: str, kernel: Callable[..., str], *args: Any) -> None:
        if name not in self.kernels:
            self.kernels[name] = kernel(name, *args, ternary=self.target.ternary)

    def _record(
        self,
        name: str,
        kernel: Callable[..., str],
        *args: Any,
        fields: Fields,
        tables: Tables | None = None,
    ) -> StepRecord:
        name = f"sample_{name}"
        self._use(name, kernel, *args)
        return StepRecord(name, fields_of(fields), tables or {})

    def _lower(self, step: Step) -> StepRecord | _InputRecords:
        match step:
            case LoadSample():
                kinds = INPUT_KINDS[step.dtype]
                return _InputRecords(step.index, {kind: self._load(step, kind) for kind in kinds})
            case CompareLevels():
                kinds = INPUT_KINDS[step.dtype]
                return _InputRecords(
                    step.index, {kind: self._compare(step, kind) for kind in kinds}
                )
            case GatherBytes():
                return self._gather(step)
            case DenseTrees():
                return self._dense_trees(step)
            case MapTrees():
                return self._map_trees(step)
            case MoveMaps():
                return self._move(step)
            case CountRanges():
                return self._count(step)
            case ExportBits():
                return self._export(step)

    # -- inputs ----------------------------------------------------------------------------------

    def _load(self, step: LoadSample, kind: str) -> StepRecord:
        fields: Fields = {
            Item.COUNT: step.size,
            Item.SLOT: self.input_slot(step.index),
            Item.OUT: step.out,
        }
        if kind == "bits":
            return self._record("load_words", load_words_kernel, fields=fields)
        check = _CHECKS[step.dtype]
        return self._record(f"load_{kind}_{check}", load_kernel, kind, check, fields=fields)

    def _compare(self, step: CompareLevels, kind: str) -> StepRecord:
        number = "u8" if kind == "bits" else kind
        channels, levels, rows = step.rows.shape
        tables: Tables = {Item.ROWS: _u32(step.rows), Item.VALID: _valid(step.width, NUMBERS)}
        is_bit = step.thresholds is None
        if step.thresholds is not None:
            tables[Item.LEVEL_TABLE] = _level_table(step.thresholds, number)
        fields: Fields = {
            Item.COUNT: channels,
            Item.LEVELS: levels,
            Item.ROWS_EACH: rows,
            Item.WIDTH: step.width,
            Item.NUMBERS: step.numbers,
        }
        name = f"{'bits' if is_bit else 'levels'}_{number}"
        return self._record(name, level_kernel, number, is_bit, fields=fields, tables=tables)

    # -- gates -----------------------------------------------------------------------------------

    def _gather(self, step: GatherBytes) -> StepRecord:
        fields: Fields = {Item.COUNT: len(step.sources), Item.OUT: step.out}
        lookup = step.lookup
        if lookup is None:
            tables: Tables = {Item.ROWS: _u32(step.sources)}
            return self._record("gather", gather_kernel, fields=fields, tables=tables)
        fields |= {
            Item.SOURCE: lookup.first,
            Item.ROUNDS: lookup.rounds,
            Item.BITS: lookup.scratch,
        }
        tables = {Item.ROWS: _lookup_table(step.sources, lookup)}
        bits = lookup.lane_bits
        return self._record(f"permute{bits}", permute_kernel, bits, fields=fields, tables=tables)

    def _dense_trees(self, step: DenseTrees) -> StepRecord:
        template = step.template
        fields: Fields = {
            Item.COUNT: step.vectors,
            Item.LEAVES: step.leaves,
            Item.OUT: step.out,
        }
        tables: Tables = {Item.ROWS: by_vector(-step.masks.astype(np.int8))}
        name = f"rows_{template.name}"
        return self._record(name, rows_kernel, template, fields=fields, tables=tables)

    def _map_trees(self, step: MapTrees) -> StepRecord:
        template = step.template
        words = [_u32(step.leaves), _u32(step.out[:, None]), _mask_words(step.masks)]
        fields: Fields = {Item.COUNT: len(step.out), Item.VECTORS: step.vectors}
        tables: Tables = {Item.ROWS: np.concatenate(words, axis=1)}
        name = f"maps_{template.name}"
        return self._record(name, trees_kernel, template, fields=fields, tables=tables)

    def _move(self, step: MoveMaps) -> StepRecord:
        fields: Fields = {Item.COUNT: len(step.out)}
        fields |= {Item.SPACE + i: size for i, size in enumerate(step.space)}
        fields |= {Item.IN_STEP + i: pitch for i, pitch in enumerate(step.source_pitch)}
        fields |= {Item.OUT_STEP + i: pitch for i, pitch in enumerate(step.out_pitch)}
        tables: Tables = {
            Item.ROWS: _u32(np.concatenate([step.out[:, None], step.sources], axis=1)),
            Item.VALID: _valid(step.space[2], MOVED_CELLS),
        }
        sources, narrow = step.sources.shape[1], step.vectors_per_row == 1
        name = f"move_{step.stride}_{sources}{'_narrow' if narrow else ''}"
        kind = step.stride, sources, narrow
        return self._record(name, move_kernel, *kind, fields=fields, tables=tables)

    # -- outputs ---------------------------------------------------------------------------------

    def _count(self, step: CountRanges) -> StepRecord:
        groups, ranges = step.ranges.shape[:2]
        tau, beta = np.array([step.tau, step.beta], np.float32).view(np.uint32).tolist()
        fields: Fields = {
            Item.COUNT: groups,
            Item.RANGES: ranges,
            Item.SLOT: self.output_slot(step.index),
            Item.TAU: tau,
            Item.BETA: beta,
        }
        tables: Tables = {Item.ROWS: _u32(step.ranges)}
        return self._record("sum", sum_kernel, fields=fields, tables=tables)

    def _export(self, step: ExportBits) -> StepRecord:
        fields: Fields = {
            Item.COUNT: step.size,
            Item.SOURCE: step.source,
            Item.SLOT: self.output_slot(step.index),
        }
        return self._record("export", export_kernel, fields=fields)


def _level_table(thresholds: npt.NDArray[np.float32], number: str) -> npt.NDArray[Any]:
    """Return the thresholds of each row for numbers of that kind, with NUMBERS more behind them.

    Bytes are compared with 16-bit integers, since a threshold may lie below or above all bytes.
    """
    table = np.concatenate([thresholds.ravel(), np.zeros(NUMBERS, np.float32)])
    return np.clip(np.floor(table), -1, 255).astype(np.int16) if number == "u8" else table


def _lookup_table(sources: Ints, lookup: Lookup) -> npt.NDArray[Any]:
    """Return what finds the bytes at `sources`, (vectors, 3, lanes).

    The three are the word that holds the bit, the round in which it is found, and the bit's mask.
    """
    bits = lookup.lane_bits
    offsets = sources - lookup.first
    within = offsets % LOOKUP_BITS
    parts = np.stack([within // bits, offsets // LOOKUP_BITS, 1 << within % bits], axis=1)
    return by_vector(parts.astype(np.uint8 if bits == 8 else np.uint16), 512 // bits)


def _valid(width: int, step: int) -> npt.NDArray[np.int8]:
    """Return -1 per cell of a row and 0 per cell behind it, up to a multiple of `step` cells."""
    mask = np.zeros(-(-width // step) * step, np.int8)
    mask[:width] = -1
    return mask


def _mask_words(masks: Bools) -> npt.NDArray[np.uint32]:
    return np.where(masks, np.uint32(0xFFFF_FFFF), np.uint32(0))


def _u32(offsets: Ints) -> npt.NDArray[np.uint32]:
    return np.ascontiguousarray(offsets, dtype=np.uint32)
