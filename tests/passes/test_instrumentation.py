"""Instrumentation of pipelines: what is printed before and after passes, and what is dumped."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

import lgir
from lgir.errors import FormatError, PassError, UnknownNameError
from lgir.ir.graph import Graph
from lgir.passes.pipeline import Instrumentation, PassEvent, PassStart
from lgir.passes.pipeline.instrumentation import NodeFilter, PrintChanges, PrintGraphs
from lgir.registry import PASSES
from lgir.zoo import build_net


@pytest.fixture
def graph() -> Graph:
    return build_net("dense-2x400-op16")


def printed(graph: Graph, passes: str, **options) -> str:
    out = io.StringIO()
    lgir.optimize(graph, passes, instrumentation=[PrintGraphs(**options, stream=out)])
    return out.getvalue()


def test_instrumentation_is_told_before_a_pass_before_its_check_and_after_it(graph):
    calls: list[tuple[str, int, str]] = []

    class Record(Instrumentation):
        def before_pass(self, start: PassStart) -> None:
            calls.append(("before", start.number, start.name))

        def before_check(self, start: PassStart) -> None:
            calls.append(("check", start.number, start.name))

        def after_pass(self, event: PassEvent) -> None:
            calls.append(("after", event.number, event.name))

    lgir.optimize(graph, "fold,fold", instrumentation=[Record()])
    first = [("before", 1, "fold"), ("check", 1, "fold"), ("after", 1, "fold")]
    assert calls == [*first, ("before", 2, "fold"), ("after", 2, "fold")]


def test_graphs_are_printed_before_and_after_the_passes_that_are_named(graph):
    folded, _ = lgir.optimize(graph, "fold")
    after, _ = lgir.optimize(folded, "cse")
    text = printed(graph, "fold,cse,dce", before=["cse"], after=["cse"])
    assert text == f"; before cse (pass 2)\n{folded}\n; after cse (pass 2)\n{after}\n"


def test_a_graph_is_not_printed_twice_in_a_row(graph):
    text = printed(graph, "fold,fold", before=["all"], after=["all"])
    titles = [line for line in text.splitlines() if line.startswith(";")]
    assert titles == [
        "; before fold (pass 1)",
        "; after fold (pass 1)",
        "; before fold (pass 2): as printed above",
        "; after fold (pass 2): as printed above",
    ]


def test_one_node_can_be_printed_alone_and_in_full(graph):
    nodes = NodeFilter(["layer2"], full=True)
    text = printed(graph, "fold", after=["all"], nodes=nodes)
    assert text.startswith("; after fold (pass 1)\n  %layer2 = logic(%layer1) {")
    assert "elided" not in text
    assert "%layer1 =" not in text
    nodes.check_names()


def test_a_node_that_no_graph_has_is_an_error_that_suggests_one(graph):
    nodes = NodeFilter(["layer3"])
    assert "; no node %layer3" in printed(graph, "fold", after=["all"], nodes=nodes)
    with pytest.raises(UnknownNameError, match="unknown node 'layer3'; did you mean 'layer2'"):
        nodes.check_names()


def test_a_pass_to_print_must_be_registered(graph):
    with pytest.raises(UnknownNameError, match="did you mean 'fold'"):
        PrintGraphs(before=["flod"])


def test_only_changes_are_printed_node_by_node(graph):
    out = io.StringIO()
    lgir.optimize(graph, "merge,merge,fold", instrumentation=[PrintChanges(stream=out)])
    text = out.getvalue()
    assert "; merge (pass 1): 2 of 3 nodes differ; gates 800, depth 2\n  - layer1: Logic" in text
    assert "(pass 2)" not in text
    assert "; fold (pass 3): 1 of 2 nodes differ" in text
    assert "score" not in text
    assert all(len(line) <= 100 for line in text.splitlines())


def test_a_folder_gets_a_numbered_file_per_pass_that_changes_the_graph(graph, tmp_path: Path):
    folder = tmp_path / "new" / "dumps"
    after, report = lgir.optimize(graph, "fold,fold,dce", dump_dir=folder)
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["000-input.lgir", "001-fold.lgir", "003-dce.lgir"]
    read = [lgir.parse((folder / name).read_text()) for name in names]
    assert (read[0], read[-1]) == (graph, after)
    assert report.other_seconds > 0
    (folder / "notes.txt").write_text("kept")
    lgir.optimize(graph, "fold", dump_dir=folder)
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["000-input.lgir", "001-fold.lgir", "notes.txt"]


def test_a_folder_that_cannot_be_made_is_an_error(graph, tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FormatError, match=r"cannot write to .*file"):
        lgir.optimize(graph, "fold", dump_dir=tmp_path / "file")


def test_a_failed_check_shows_a_short_sample():
    graph = build_net("dense-2x400")

    def complement_an_output(graph: Graph) -> Graph:
        from dataclasses import replace

        node = graph.node("layer2")
        table = node.op.body.table.copy()
        table[7] ^= 0b1111
        op = replace(node.op, body=replace(node.op.body, table=table))
        return graph.with_nodes(replace(n, op=op) if n is node else n for n in graph.nodes)

    PASSES.register("complement-an-output")(complement_an_output)
    with pytest.raises(PassError, match=r"changed what .*%score\[0\] is .* sample of zeros$"):
        lgir.optimize(graph, "complement-an-output")
