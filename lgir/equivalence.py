"""Do two graphs compute the same? Verdicts, and the checks by simulation.

Random simulation is the check after every pass; where inputs are few, every sample is tried, and
`lgir.proof` proves the rest. Random samples are drawn where networks are sensitive: sparse, dense
and uniform bits, all zeros and all ones (which show what padding reads), and numbers on and beside
the thresholds that read them. Outputs are compared bit for bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lgir.errors import GraphError, unknown_name
from lgir.graph import Graph, Logic, Threshold, Value
from lgir.simulate import evaluate, pack, unpack

Array = npt.NDArray[Any]

METHODS: Final = ("sim", "exhaustive", "sat")

MIN_SAMPLES: Final = 64
MAX_SAMPLES: Final = 1024
MAX_CASES: Final = 1 << 22
_DRAWN: Final = 1 << 14  # bits of an input that are drawn at a time
_WORK: Final = 1 << 22  # gate evaluations (of 64 samples) that one simulation may cost


@dataclass(frozen=True)
class Counterexample:
    """A sample on which two graphs differ.

    Attributes:
        inputs: one array per graph input, of its shape: bool, uint8 or float32.
        output: name of the first graph's output that differs; `index` is the element in it.
        left, right: what the two graphs give there.
    """

    inputs: tuple[Array, ...]
    output: str
    index: tuple[int, ...]
    left: float | bool
    right: float | bool

    def __str__(self) -> str:
        at = ",".join(map(str, self.index))
        return f"%{self.output}[{at}] is {self.left} in one and {self.right} in the other"


@dataclass(frozen=True)
class Verdict:
    """The answer of a check: `equivalent` is True, False, or None where it is not known.

    `note` says why it is not known.
    """

    equivalent: bool | None
    method: str
    samples: int = 0
    counterexample: Counterexample | None = None
    note: str = ""

    def __str__(self) -> str:
        if self.equivalent is None:
            return f"unknown: {self.note}"
        if self.counterexample is not None:
            return f"different: {self.counterexample} on the sample {self._shown_sample()}"
        if self.method == "sim":
            return f"equal on {self.samples:,} simulated samples (not a proof)"
        if self.method == "exhaustive":
            return f"equivalent: all {self.samples:,} cases tried"
        return "equivalent: proved by SAT"

    def _shown_sample(self) -> str:
        assert self.counterexample is not None
        arrays = [x.astype(int) if x.dtype == bool else x for x in self.counterexample.inputs]
        if sum(x.size for x in arrays) > 64:
            return "in verdict.counterexample.inputs"
        return "; ".join(str(x.tolist()) for x in arrays)


def verify_graphs(
    a: Graph,
    b: Graph,
    method: str = "sim",
    *,
    samples: int | None = None,
    seed: int = 0,
    seconds: float = 120.0,
) -> Verdict:
    """Compare the outputs of two graphs.

    Args:
        method: "sim" simulates random samples: quick, and it can only refute. "exhaustive" tries
            every sample that thresholds can tell apart, up to 2**22 of them. "sat" proves.
        samples: how many "sim" draws; by default 64 to 1,024 by the size of the graphs.
        seed: of the samples.
        seconds: time limit of "sat", after which the verdict is None.

    Raises:
        GraphError: the graphs differ in the number or types of inputs or outputs.
        LgirError: "sat" without python-sat installed.
        UnknownNameError: no such method.
    """
    if method not in METHODS:
        raise unknown_name("verification method", method, METHODS)
    check_signature(a, b)
    if method == "exhaustive":
        return _try_all(a, b)
    if method == "sat":
        from lgir.proof import prove

        return prove(a, b, seconds=seconds, seed=seed)
    count = samples if samples is not None else min(default_samples(a), default_samples(b))
    return Simulation(a, samples=count, seed=seed).compare(b)


def _try_all(a: Graph, b: Graph) -> Verdict:
    from lgir.unroll import InputSpace, count_cases

    space = InputSpace([a, b])
    total = count_cases(space)
    if total > MAX_CASES:
        many = f"{total:,}" if total < 10**15 else f"about 10**{len(str(total)) - 1}"
        return Verdict(
            None, "exhaustive", note=f"{many} cases are more than {MAX_CASES:,}; use method 'sat'"
        )
    choices = space.choices()
    step = 64 * default_samples(a)
    for start in range(0, total, step):
        number = np.arange(start, min(start + step, total))
        picks = np.empty((len(number), len(choices)), np.int64)
        for i, count in enumerate(choices.tolist()):
            number, picks[:, i] = np.divmod(number, count)
        verdict = Simulation(a, inputs=space.samples(space.cases(picks))).compare(b)
        if verdict.equivalent is False:
            return Verdict(False, "exhaustive", start + len(picks), verdict.counterexample)
    return Verdict(True, "exhaustive", total)


def check_signature(a: Graph, b: Graph) -> None:
    """Raises GraphError where inputs (name and type) or outputs (type, in order) differ."""
    if a.inputs != b.inputs:
        ours, theirs = (", ".join(map(str, g.inputs)) for g in (a, b))
        raise GraphError(f"the graphs differ in inputs: {ours} against {theirs}")
    left, right = ([g.values[name].type for name in g.outputs] for g in (a, b))
    if left != right:
        raise GraphError(
            f"the graphs differ in outputs: {', '.join(left)} against {', '.join(right)}"
        )


def default_samples(graph: Graph) -> int:
    """As many samples as cost little: a multiple of 64 from 64 to 1,024."""
    work = sum(
        op.body.num_gates * op.positions * max(1, (1 << op.body.k) // 4)
        for _, op in graph.of_type(Logic)
    )
    words = _WORK // max(work, 1)
    return int(min(max(64 * words, MIN_SAMPLES), MAX_SAMPLES))


class Simulation:
    """The outputs of one graph on some samples, to hold other graphs against.

    Samples are `inputs`, one array (n, *shape) per graph input, or `samples` drawn ones.
    """

    def __init__(
        self,
        graph: Graph,
        *,
        samples: int | None = None,
        seed: int = 0,
        inputs: list[Array] | None = None,
    ) -> None:
        self.graph = graph
        if inputs is None:
            count = default_samples(graph) if samples is None else samples
            if count < 1:
                raise GraphError(f"samples={samples} is not a positive number")
            rng = np.random.default_rng(seed)
            self._inputs = {v.name: _draw(graph, v, count, rng) for v in graph.inputs}
            self.samples = count
        else:
            self._inputs = {
                v.name: pack(x) if v.dtype == "bit" else x
                for v, x in zip(graph.inputs, inputs, strict=True)
            }
            self.samples = len(inputs[0])
        self._expected = self._outputs(graph)

    def compare(self, other: Graph) -> Verdict:
        """A verdict on `other`; its counterexample is the first differing sample."""
        check_signature(self.graph, other)
        found = self._outputs(other)
        for name, left, right in zip(self.graph.outputs, self._expected, found, strict=True):
            if not np.array_equal(_bits(left), _bits(right)):
                if self.graph.values[name].dtype == "bit":
                    left, right = unpack(left, self.samples), unpack(right, self.samples)
                sample, *index = (int(i) for i in np.argwhere(_bits(left) != _bits(right))[0])
                at = (sample, *index)
                example = Counterexample(
                    self._sample(sample), name, tuple(index), left[at].item(), right[at].item()
                )
                return Verdict(False, "sim", self.samples, example)
        return Verdict(True, "sim", self.samples)

    def _sample(self, i: int) -> tuple[Array, ...]:
        """Sample `i` of each input, as it was drawn."""
        bit = np.uint64(i % 64)
        return tuple(
            (x[..., i // 64] >> bit & np.uint64(1)).astype(bool)
            if v.dtype == "bit"
            else x[i].copy()
            for v, x in zip(self.graph.inputs, self._inputs.values(), strict=True)
        )

    def _outputs(self, graph: Graph) -> list[Array]:
        """Each output: scores (n, groups), or packed bits, zeros after the last sample."""
        values = evaluate(graph, self._inputs, self.samples)
        rest = np.uint64((1 << 64) - 1 >> -self.samples % 64)
        found = []
        for name in graph.outputs:
            value = values[name]
            if graph.values[name].dtype == "bit" and self.samples % 64:
                value = value.copy()
                value[..., -1] &= rest
            found.append(value)
        return found


def _bits(values: Array) -> Array:
    """What to compare for bit equality, so that 0.0 differs from -0.0 and NaN equals itself."""
    return values.view(np.uint32) if values.dtype == np.float32 else values


def draw_samples(graph: Graph, n: int, seed: int = 0) -> list[Array]:
    """`n` samples of each input: bool (n, *shape) for bit, uint8 for u8, float32 for f32."""
    rng = np.random.default_rng(seed)
    drawn = [_draw(graph, value, n, rng) for value in graph.inputs]
    return [
        unpack(x, n) if v.dtype == "bit" else x for v, x in zip(graph.inputs, drawn, strict=True)
    ]


def _draw(graph: Graph, value: Value, n: int, rng: np.random.Generator) -> Array:
    """`n` samples of one input, bits packed as `lgir.simulate` has them."""
    shape = (n, *value.shape)
    if value.dtype == "bit":
        density = rng.choice([0.5, 0.5, 0.1, 0.9], size=(n, 1))
        density[:1], density[1:2] = 0.0, 1.0
        parts = range(0, value.size, _DRAWN)
        sizes = [min(_DRAWN, value.size - start) for start in parts]
        words = [pack(rng.random((n, m), dtype=np.float32) < density) for m in sizes]
        return np.concatenate(words).reshape(*value.shape, -1)
    found = [op.levels for node, op in graph.of_type(Threshold) if value.name in node.inputs]
    levels = np.concatenate([np.ravel(x) for x in found] or [np.zeros(1, np.float32)])
    levels = np.unique(levels[np.isfinite(levels)])
    if not len(levels):
        levels = np.zeros(1, np.float32)
    near: Array = levels[rng.integers(len(levels), size=shape)]
    if value.dtype == "f32":
        towards = np.where(rng.random(shape) < 0.5, np.float32(-np.inf), np.float32(np.inf))
        near = np.where(rng.random(shape) < 0.5, near, np.nextafter(near, towards))
        spread = max(float(levels[-1] - levels[0]), 1.0)
        far = rng.uniform(float(levels[0]) - spread, float(levels[-1]) + spread, size=shape)
        return np.where(rng.random(shape) < 0.5, near, far).astype(np.float32)
    low, high = (0, 255) if value.dtype == "u8" else (-(1 << 20), 1 << 20)
    near = np.clip(np.floor(near) + rng.integers(0, 2, size=shape), low, high)
    other: Array = rng.integers(low, high + 1, size=shape)
    x = np.where(rng.random(shape) < 0.5, near, other)
    x[:1], x[1:2] = low, high
    return x.astype(np.uint8 if value.dtype == "u8" else np.int32)
