"""Pipelines: parsing, the contract of passes, reports, hooks, custom passes."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace

import numpy as np
import pytest

import lgir
from lgir.errors import LgirError, ParseError, PassError, UnknownNameError
from lgir.ir.body import Body
from lgir.ir.graph import Graph
from lgir.ir.nodes import Logic
from lgir.passes.loader import load_passes
from lgir.passes.pipeline import PIPELINES, PassEvent, Pipeline, list_passes
from lgir.registry import PASSES
from lgir.zoo import build_net


@pytest.fixture
def graph() -> Graph:
    return build_net("dense-2x400-op16")


@pytest.fixture
def scratch():
    """Return a function that registers a pass for one test: scratch("name", function)."""
    return lambda name, function: PASSES.register(name)(function)


def flip_gate(graph: Graph, gate: int = -1) -> Graph:
    """The graph with one gate of its last layer complemented."""
    (*_, (node, op)) = graph.of_type(Logic)
    table = op.body.table.copy()
    table[gate] ^= (1 << (1 << op.body.k)) - 1
    body = Body.build(op.body.taps, op.body.fanin, table, op.body.outputs)
    changed = replace(node, op=replace(op, body=body))
    return graph.with_nodes(changed if n is node else n for n in graph.nodes)


def test_text_of_a_pipeline_parses_to_an_equal_pipeline(scratch):
    scratch("with-options", lambda graph, k=6, name="a", fast=False: graph)
    for text in (
        "fold",
        "fold,cse,dce",
        "fix(fold,fix(cse,dce)),fuse-pool",
        "with-options{k=3,name=b,fast=true}",
        'fold,with-options{name="x, y"}',
        "",
    ):
        pipeline = Pipeline.parse(text)
        assert str(pipeline) == text
        assert Pipeline.parse(str(pipeline)) == pipeline


def test_blanks_and_named_pipelines_are_read():
    assert str(Pipeline.parse(" fix( fold , cse ) ,dce ")) == "fix(fold,cse),dce"
    assert str(Pipeline.parse("default,dce")) == f"{PIPELINES['default']},dce"


def test_options_are_typed_by_the_signature(scratch):
    seen = {}

    def pass_with_options(graph, k: int, rate: float = 0.5, fast: bool = False, tag="x"):
        seen.update(k=k, rate=rate, fast=fast, tag=tag)
        return graph

    scratch("typed", pass_with_options)
    graph = build_net("dense-1x400")
    Pipeline.parse("typed{k=3, rate=2, fast=true, tag=y}").run(graph)
    assert seen == {"k": 3, "rate": 2.0, "fast": True, "tag": "y"}
    assert isinstance(seen["rate"], float)


@pytest.mark.parametrize(
    ("text", "error", "match"),
    [
        ("flod", UnknownNameError, "unknown pass 'flod'; did you mean 'fold'"),
        ("defalt", UnknownNameError, "did you mean 'default'"),
        ("fold,", ParseError, "expected the name of a pass, found the end"),
        ("fold cse", ParseError, "expected a comma or the end, found 'cse'"),
        ("fix(fold", ParseError, r"expected '\)', found the end"),
        ("fix fold", ParseError, r"expected '\(', found 'fold'"),
        ("fold{k=3}", ParseError, r"'fold' has no option 'k' \(options: none\)"),
        ("default{k=3}", ParseError, "takes no options"),
        ("fold)", ParseError, r"found '\)'"),
        ('fold,"', ParseError, "cannot read"),
    ],
)
def test_bad_pipelines_say_what_is_wrong(text, error, match):
    with pytest.raises(error, match=match):
        Pipeline.parse(text)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ("{k=x}", "option k=x must be of type int"),
        ("{k=3,fast=maybe}", "option fast=maybe must be true or false"),
        ("{k=3,slow=true}", r"no option 'slow' \(options: k, fast\)"),
        ("{k=3,fats=true}", r"no option 'fats'; did you mean 'fast'\? \(options: k, fast\)"),
        ("{k}", "expected '='"),
        ("{k=}", "expected a value"),
        ("{=3}", "expected an option's name"),
        ("{k=3", "expected an option's name, found the end"),
        ("", "needs the option k"),
    ],
)
def test_bad_options_say_what_is_wrong(scratch, options, match):
    def pass_with_options(graph: Graph, k: int, fast: bool = False) -> Graph:
        return graph

    scratch("opt", pass_with_options)
    with pytest.raises(ParseError, match=match):
        Pipeline.parse("opt" + options)


def test_report_has_a_row_per_pass_and_is_json(graph):
    after, report = lgir.optimize(graph, "fold,cse,dce")
    assert [row.name for row in report.rows] == ["fold", "cse", "dce"]
    assert report.rows[0].before.gates == 800
    assert report.after.gates == sum(op.body.num_gates for _, op in after.of_type(Logic))
    assert report.after.gates < 600
    assert all(row.verified.startswith("sim ") for row in report.rows)
    loaded = json.loads(json.dumps(report.to_dict()))
    assert loaded["rows"][2]["gates_out"] == report.after.gates
    assert loaded["pipeline"] == "fold,cse,dce"
    lines = str(report).splitlines()
    assert len(lines) == 5
    assert lines[1].split()[:3] == ["fold", "800", f"{report.rows[0].after.gates}"]


def test_report_counts_gates_at_every_position():
    _, report = lgir.optimize(build_net("logictreenet-8"), "fold", verify=None)
    assert report.before.unrolled > 10 * report.before.gates


def test_a_settled_graph_comes_back_as_the_same_object(graph):
    once, _ = lgir.optimize(graph)
    twice, report = lgir.optimize(once)
    assert twice is once
    assert {row.verified for row in report.rows} == {"unchanged"}


def test_an_equal_copy_counts_as_unchanged(graph, scratch):
    scratch("copy", lambda graph: replace(graph))
    after, report = lgir.optimize(graph, "fix(copy)")
    assert after is graph
    assert len(report.rows) == 1


def test_no_verification_is_recorded_as_none(graph):
    _, report = lgir.optimize(graph, "fold", verify=None)
    assert report.rows[0].verified == ""


def test_the_hook_sees_every_pass_with_its_verdict(graph):
    events: list[PassEvent] = []
    after, _ = lgir.optimize(graph, "fold,fold", on_pass=events.append)
    assert [e.name for e in events] == ["fold", "fold"]
    assert events[0].before is graph
    assert events[0].verdict.equivalent is True
    assert events[1].after is events[1].before is after
    assert events[1].verdict is None


def test_the_report_separates_passes_from_verification_and_adds_up(graph):
    _, report = lgir.optimize(graph)
    parts = report.pass_seconds, report.verify_seconds, report.other_seconds
    assert sum(parts) == pytest.approx(report.seconds)
    assert report.pass_seconds == sum(row.seconds for row in report.rows)
    assert all((row.verify_seconds == 0) == (row.verified == "unchanged") for row in report.rows)
    figures = [float(x) for x in re.findall(r"[\d.]+(?= (?:ms|in|between))", report.times())]
    assert figures[0] == pytest.approx(sum(figures[1:]), abs=0.11)
    total = str(report).splitlines()[-1].split()
    assert total[-2:] == [f"{1e3 * seconds:,.1f}" for seconds in parts[:2]]


def test_events_have_the_number_and_the_text_of_their_pass(graph):
    events: list[PassEvent] = []
    lgir.optimize(graph, "fold,lut-map{k=3},fold", on_pass=events.append)
    assert [(e.number, e.text) for e in events] == [(1, "fold"), (2, "lut-map{k=3}"), (3, "fold")]
    assert [e.changed for e in events] == [e.after is not e.before for e in events]
    assert events[0].verify_seconds > 0


def test_stop_after_ends_the_pipeline(graph):
    _, report = lgir.optimize(graph, "fix(fold,cse,dce)", stop_after="cse")
    assert [row.name for row in report.rows] == ["fold", "cse"]


def test_dumps_go_where_they_are_sent(graph):
    out = io.StringIO()
    after, _ = lgir.optimize(graph, "fold,cse", dump_after="cse", dump_to=out)
    assert out.getvalue() == f"; after cse (pass 2)\n{after}\n"
    with pytest.raises(UnknownNameError, match="did you mean 'fold'"):
        lgir.optimize(graph, "cse", dump_after=["foldd"])


def test_unknown_verification_method(graph):
    with pytest.raises(UnknownNameError, match="unknown verification method 'simm'"):
        lgir.optimize(graph, verify="simm")


def test_a_pass_that_changes_the_function_is_caught_and_named(graph, scratch):
    scratch("break-it", flip_gate)
    with pytest.raises(PassError, match=r"pass 'break-it' changed what the graph computes: diff"):
        lgir.optimize(graph, "fold,break-it")
    after, _ = lgir.optimize(graph, "break-it", verify=None)
    assert after is not graph


def test_broken_contracts_name_the_pass(graph, scratch):
    def breaks_ir(graph):
        node = graph.nodes[-1]
        return graph.with_nodes([*graph.nodes[:-1], replace(node, inputs=("nowhere",))])

    def renames_output(graph):
        node = replace(graph.nodes[-1], output="other")
        return graph.with_nodes([*graph.nodes[:-1], node], ["other"])

    scratch("returns-none", lambda graph: None)
    scratch("breaks-ir", breaks_ir)
    scratch("raises", lambda graph: 1 // 0)
    scratch("retypes", lambda graph: graph.with_nodes(graph.nodes, [graph.nodes[0].output]))
    scratch("renames", renames_output)
    for name, match in [
        ("returns-none", "pass 'returns-none' returned NoneType; a pass returns a Graph"),
        ("breaks-ir", "pass 'breaks-ir' broke the IR: .*%nowhere"),
        ("raises", "pass 'raises' failed with ZeroDivisionError"),
        ("retypes", "pass 'retypes' changed the graph's signature: .* differ in outputs"),
        ("renames", "pass 'renames' renamed the outputs score to other"),
    ]:
        with pytest.raises(PassError, match=match):
            lgir.optimize(graph, name)


def test_a_fixpoint_that_never_settles_is_an_error(graph, scratch):
    scratch("flip", flip_gate)
    with pytest.raises(PassError, match=r"fix\(flip\) still changes the graph after 64 rounds"):
        lgir.optimize(graph, "fix(flip)", verify=None)


def test_every_pass_has_a_one_line_doc():
    infos = {info.name: info for info in list_passes()}
    assert {"fold", "cse", "dce", "merge", "fuse-pool"} <= infos.keys()
    assert all(info.doc.endswith((".", ";")) and len(info.doc) < 120 for info in infos.values())


def test_an_alias_is_listed_as_one_and_runs_the_same_pass():
    infos = {info.name: info for info in list_passes()}
    assert infos["fraig"].doc == "Another name of sweep."
    assert infos["fraig"].options == infos["sweep"].options
    (alias,), (step,) = Pipeline.parse("fraig").steps, Pipeline.parse("sweep").steps
    assert alias.run is step.run


def test_listing_shows_options_with_types_and_defaults(scratch):
    def opt(graph: Graph, max_size: int = 4, name: str = "x y") -> Graph:
        """One line.

        More lines.
        """
        return graph

    scratch("opt", opt)
    info = next(info for info in list_passes() if info.name == "opt")
    assert info.doc == "One line."
    assert info.options == {"max-size": "int = 4", "name": 'str = "x y"'}


def test_passes_load_from_a_file_and_reload(tmp_path, graph, scratch):
    file = tmp_path / "my_passes.py"
    file.write_text(
        "import lgir\n"
        '@lgir.register_pass("rename")\n'
        "def rename(graph, to='x'):\n"
        "    from dataclasses import replace\n"
        "    return replace(graph, name=to)\n"
    )
    assert load_passes(file) == ["rename"]
    assert load_passes(file) == ["rename"]
    after, _ = lgir.optimize(graph, "rename{to=tiny}")
    assert after.name == "tiny"


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("x = 1\n", "registers nothing; decorate a pass"),
        ("x = 1\n1 / 0\n", r"passes_file\.py failed at line 2 with ZeroDivisionError"),
        (
            "import lgir\nlgir.register_pass('fold')(print)\n",
            r"passes_file\.py: pass 'fold' is registered already",
        ),
        (
            "import lgir\nlgir.register_backend('llvm')(print)\n",
            r"passes_file\.py: backend 'llvm' is registered already",
        ),
        ("def (:\n", "failed with SyntaxError"),
    ],
)
def test_files_of_passes_that_cannot_be_used(tmp_path, text, match):
    file = tmp_path / "passes_file.py"
    file.write_text(text)
    with pytest.raises(LgirError, match=match):
        load_passes(file)
    with pytest.raises(LgirError, match="no such file"):
        load_passes(tmp_path / "missing.py")


def test_verification_can_be_given_its_samples(graph):
    _, report = lgir.optimize(graph, "fold", samples=70, seed=3)
    assert report.rows[0].verified == "sim 70"
    assert np.isfinite(report.seconds)


def test_endless_pipelines_are_refused():
    with pytest.raises(ParseError, match="nested deeper than 16"):
        Pipeline.parse("fix(" * 100_000 + "fold" + ")" * 100_000)
    with pytest.raises(ParseError, match="must be of type int"):
        Pipeline.parse("lut-map{k=" + "9" * 5000 + "}")
