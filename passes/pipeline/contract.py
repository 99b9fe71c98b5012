"""The contract of passes, which the runner enforces after each pass.

A pass returns a Graph, and the same object if it changed nothing. It keeps the graph's signature
(types of inputs and outputs, and the names of outputs), the IR's structural rules, and what the
graph computes. Every error names the pass.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from lgir.equivalence.simplification import simplify_counterexample
from lgir.equivalence.simulation import Simulation, check_signature
from lgir.equivalence.verdict import Verdict
from lgir.equivalence.verification import METHODS, verify_graphs
from lgir.errors import GraphError, PassError, unknown_name
from lgir.ir.graph import Graph
from lgir.passes.pipeline.grammar import Step

_SIMPLIFY_SECONDS: Final = 1.0
"""Seconds that an error may take to show a simpler sample."""


def apply_pass(step: Step, before: Graph) -> Graph:
    """Return the graph that a pass makes of `before`, which is `before` itself if they are equal.

    Raises:
        PassError: the pass raised, broke the IR, or returned something other than a Graph.
    """
    try:
        after = step.run(before, **step.options)
    except GraphError as error:
        raise PassError(f"pass {step.name!r} broke the IR: {error}") from error
    except PassError:
        raise
    except Exception as error:
        kind = type(error).__name__
        raise PassError(f"pass {step.name!r} failed with {kind}: {error}") from error
    if not isinstance(after, Graph):
        raise PassError(
            f"pass {step.name!r} returned {type(after).__name__}; a pass returns a Graph "
            "(the one it was given, if nothing changed)"
        )
    return before if after == before else after


class ContractChecker:
    """Compares the graphs after passes with the graphs before them.

    "sim" compares each graph with the original on the same random samples, which are simulated
    once, before the first comparison. Other methods compare it with the graph before the pass.
    """

    def __init__(
        self, original: Graph, verify: str | None, *, samples: int | None = None, seed: int = 0
    ) -> None:
        if verify is not None and verify not in METHODS:
            raise unknown_name("verification method", verify, METHODS)
        self._original = original
        self._verify = verify
        self._samples, self._seed = samples, seed
        self._simulation: Simulation | None = None

    def check(self, pass_name: str, before: Graph, after: Graph) -> Verdict | None:
        """Return the verdict on a changed graph, None if passes are trusted.

        Raises:
            PassError: the pass changed the signature or what the graph computes.
        """
        try:
            check_signature(before, after)
        except GraphError as error:
            raise PassError(f"pass {pass_name!r} changed the graph's signature: {error}") from error
        if before.outputs != after.outputs:
            raise PassError(
                f"pass {pass_name!r} renamed the outputs {', '.join(before.outputs)} to "
                f"{', '.join(after.outputs)}; keep their names"
            )
        if self._verify is None:
            return None
        verdict = self._verdict(self._verify, before, after)
        if verdict.counterexample is not None:
            example = simplify_counterexample(
                before, after, verdict.counterexample, seconds=_SIMPLIFY_SECONDS
            )
            verdict = replace(verdict, counterexample=example)
            raise PassError(f"pass {pass_name!r} changed what the graph computes: {verdict}")
        return verdict

    def _verdict(self, method: str, before: Graph, after: Graph) -> Verdict:
        if method != "sim":
            return verify_graphs(before, after, method, seed=self._seed)
        if self._simulation is None:
            self._simulation = Simulation(self._original, samples=self._samples, seed=self._seed)
        return self._simulation.compare(after)
