"""bisect names the pass that breaks a property."""

from __future__ import annotations

from dataclasses import replace

import pytest

import lgir
from lgir.ir.body import Body
from lgir.ir.graph import Graph
from lgir.ir.nodes import Logic
from lgir.passes.bisect import bisect
from lgir.registry import PASSES
from lgir.zoo import build_net


@pytest.fixture
def planted():
    """Register a pass with a bug for one test: it forgets that one gate was a NAND."""

    def nand_is_and(graph: Graph) -> Graph:
        node = next(n for n, _ in graph.of_type(Logic))
        body = node.op.body
        nands = (body.table == 0b0111).nonzero()[0][:1]
        if not len(nands):
            return graph
        table = body.table.copy()
        table[nands] = 0b1000
        new = Body.build(body.taps, body.fanin, table, body.outputs)
        return graph.with_nodes(
            replace(n, op=replace(n.op, body=new)) if n is node else n for n in graph.nodes
        )

    PASSES.register("nand-is-and")(nand_is_and)


@pytest.mark.parametrize("method", ["sim", "sat"])
def test_the_planted_pass_is_named(planted, method):
    if method == "sat":
        pytest.importorskip("pysat")
    graph = build_net("dense-2x400-op16")
    culprit = bisect(graph, "fold,cse,nand-is-and,fix(fold,cse,dce)", method=method)
    assert (culprit.name, culprit.position) == ("nand-is-and", 3)
    assert str(culprit) == "pass 'nand-is-and', number 3 to run, breaks it"
    assert lgir.verify(graph, culprit.before).equivalent is True
    assert lgir.verify(graph, culprit.after).equivalent is False


def test_sound_passes_have_no_culprit():
    assert bisect(build_net("dense-2x400-op16")) is None


def test_any_property_can_be_asked():
    graph = build_net("dense-4x400-op16")

    def has_four_layers(candidate: Graph) -> bool:
        return len(list(candidate.of_type(Logic))) == 4

    assert bisect(graph, "fold,dce,cse,merge,fold", has_four_layers).name == "merge"
