"""AIGER and Verilog: the same functions in other tools' formats."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

import lgir
from lgir.cli import main
from lgir.errors import FormatError
from lgir.formats.aiger import dump_aiger, parse_aiger, read_aiger, write_aiger
from lgir.formats.blif import parse_blif, write_blif
from lgir.formats.verilog import dumps_verilog, write_verilog
from lgir.ir.builder import GraphBuilder
from lgir.ir.graph import Graph
from lgir.ir.input_space import InputSpace
from lgir.ir.simulate import evaluate_body, unpack_planes
from lgir.ir.unrolling import unroll_graph
from random_graphs import random_graph

ABC = shutil.which("berkeley-abc") or shutil.which("abc")
IVERILOG = shutil.which("iverilog")


def bits_only(seed: int) -> Graph:
    """A graph with one output, of bits."""
    graph = random_graph(seed, rank=0, max_input_bits=9)
    return (
        replace(graph, outputs=(graph.producer(graph.outputs[0]).inputs[0],))
        if (graph.values[graph.outputs[0]].dtype == "f32")
        else replace(graph, outputs=graph.outputs[:1])
    )


def test_aiger_reads_back_equal():
    for seed in range(60):
        graph = bits_only(seed)
        parsed = parse_aiger(dump_aiger(graph))
        assert lgir.verify(graph, parsed, method="exhaustive").equivalent is True, seed


def test_aiger_of_a_small_net_is_as_the_format_says():
    b = GraphBuilder("tiny")
    x = b.input("x", "bit", (2,))
    graph = b.build(b.dense(x, [0, 0], [1, 1], [1, 14]))  # and, nand
    assert dump_aiger(graph) == b"aig 3 2 0 2 1\n6\n7\n\x02\x02"


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"", "not an AIGER file"),
        (b"aag 1 1 0 1 0\n2\n", "'' is not an output's literal"),
        (b"aag 1 1 0 1 0\n3\n2\n", "literal 3 is odd, 0 or defined twice"),
        (b"aag 2 2 0 1 0\n2\n2\n2\n", "literal 2 is odd, 0 or defined twice"),
        (b"aag 2 1 0 1 1\n2\n4\n2 4 2\n", "literal 2 is defined twice"),
        (b"aag 2 1 0 1 1\n2\n4\n4 4 2\n", "literal 4 depends on itself"),
        (b"aag 3 1 0 1 1\n2\n4\n4 6 2\n", "literal 6 is read and never defined"),
        (b"aag 3 1 0 1 0\n2\n6\n", "literal 6 is read and never defined"),
        (b"aag 2 1 0 1 1\n2\n4\n4 9 2\n", "the greatest literal is 5"),
        (b"aig 268435456 268435456 0 1 0\n0\n", "268,435,456 inputs; more than 1,048,576"),
        (b"aig 1 1 0 100000000 0\n0\n", "promises more than the file has"),
        (b"aig 100000001 1 0 1 100000000\n0\n", "promises more than the file has"),
        (b"aig " + b"9" * 5000 + b" 0 0 0 0\n", "not an AIGER file"),
        (b"aig 1 1 0 1 0\n" + b"9" * 5000 + b"\n", "is not an output's literal"),
        (b"aig 1 1 0 1 0\n2\ni0 \xff\nc\n", "is not UTF-8"),
        (b"aig 1 1 0 1 0\n2\ni0 a\ni0 b\n", "names what has a name already"),
        (b"aig 1 1 0 1 0\n2\ni1 a\n", "is no symbol"),
        (b"aig 2 1 1 1 0\n2\n", "holds latches"),
        (b"aig 9 1 0 1 0\n2\n", "is not consistent"),
        (b"aig 1 1 0 1 0\n9\n", "is not an output's literal"),
        (b"aig 3 2 0 1 1\n6\n\x02", "truncated or corrupt at 0 of 1"),
        (b"aig 3 2 0 1 1\n6\n\x00\x00", "gate 0 reads a later one"),
        (b"aig 3 2 0 1 1\n6\n\x09\x00", "gate 0 reads a later one"),
        (b"aig 3 2 0 1 1\n6\n" + b"\xff" * 9, "truncated or corrupt"),
    ],
)
def test_bad_aiger_says_what_is_wrong(data, match):
    with pytest.raises(FormatError, match=match):
        parse_aiger(data)


def test_a_missing_file(tmp_path):
    with pytest.raises(FormatError, match="No such file"):
        read_aiger(tmp_path / "none.aig")


NAND = b"""\
aag 3 2 0 1 1
2
4
7
6 4 2
i0 a
i1 b
o0 y
c
any bytes: \xff\x00
"""


def test_the_ascii_form():
    graph = parse_aiger(NAND)
    scores = lgir.compile(graph, "reference")(np.array([[0, 0], [0, 1], [1, 0], [1, 1]]))
    assert scores.astype(int).ravel().tolist() == [1, 1, 1, 0]
    assert graph.metadata["names.x"] == "a\nb"
    assert graph.metadata["names.y"] == "y"
    back = dump_aiger(graph)
    assert back == b"aig 3 2 0 1 1\n7\n\x02\x02i0 a\ni1 b\no0 y\n"
    assert parse_aiger(back) == graph


def test_the_ascii_form_has_ands_in_any_order_and_gaps_between_variables():
    text = b"aag 90 2 0 2 2\r\n20\r\n4\r\n7\r\n60\r\n60 6  20\r\n6\t4 21\r\n"
    scores = lgir.compile(parse_aiger(text), "reference")(
        np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    )
    assert scores.astype(int).tolist() == [[1, 0], [0, 0], [1, 0], [1, 0]]


def test_unnamed_inputs_beside_named_ones_have_the_format_s_own_names():
    graph = parse_aiger(b"aig 2 2 0 1 0\n2\ni1 b c\n")
    assert graph.metadata["names.x"] == "i0\nb c"
    assert "names.y" not in graph.metadata


def test_many_inputs_are_read_if_the_caller_allows_them():
    data = b"aig 2000000 2000000 0 1 0\n2\n"
    with pytest.raises(FormatError, match="max_inputs="):
        parse_aiger(data)
    assert parse_aiger(data, max_inputs=2_000_000).inputs[0].size == 2_000_000


def test_reading_aiger_is_linear():
    """A reader that copied the rest of the file for each line would take minutes here."""
    n = 400_000
    graph = parse_aiger(b"aig 1 1 0 %d 0\n" % n + b"2\n" * n)
    assert graph.values["y"].size == n


@given(st.binary(max_size=40), st.integers(0, 60))
def test_damaged_aiger_never_crashes(noise, position):
    data = bytearray(dump_aiger(bits_only(3)))
    data[position : position + len(noise)] = noise
    try:
        graph = parse_aiger(bytes(data))
    except FormatError:
        return
    assert isinstance(graph, Graph)


@pytest.mark.skipif(ABC is None, reason="ABC is not installed")
def test_abc_finds_aiger_and_blif_equivalent(tmp_path):
    for seed in range(8):
        graph = random_graph(seed, dtype="bit")
        write_blif(graph, tmp_path / "a.blif")
        write_aiger(lgir.optimize(graph, "O3", verify=None)[0], tmp_path / "b.aig")
        answer = subprocess.run(
            [ABC, "-c", f"cec -n {tmp_path / 'a.blif'} {tmp_path / 'b.aig'}"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert "Networks are equivalent" in answer.stdout, (seed, answer.stdout)


@pytest.mark.parametrize("ending", ["blif", "aig"])
def test_netlists_go_out_and_come_in_on_the_command_line(ending, tmp_path):
    graph = bits_only(5)
    lgir.save(graph, tmp_path / "net.onnx")
    netlist, reread = tmp_path / f"net.{ending}", tmp_path / "back.onnx"
    run = CliRunner().invoke
    assert run(main, ["export", str(tmp_path / "net.onnx"), "-o", str(netlist)]).exit_code == 0
    assert run(main, ["opt", str(netlist), "-o", str(reread)]).exit_code == 0
    assert lgir.verify(graph, lgir.load(reread), method="exhaustive").equivalent is True


def test_netlists_on_stdout():
    run = CliRunner().invoke
    shown = run(main, ["export", "--net", "dense-1x400", "--format", "v"])
    assert shown.output.startswith("module dense_1x400(")
    plain, guarded = (
        run(main, ["export", "--net", "logictreenet-8-t3", "--format", "blif", *flag]).output
        for flag in ([], ["--guarded"])
    )
    assert plain.startswith(".model logictreenet-8")
    assert guarded.count(".names") == plain.count(".names") + 2 * 3 * 32 * 32
    failed = run(main, ["export", "--net", "dense-1x400", "--format", "aig"])
    assert failed.exit_code == 2
    assert "format 'aig' is not text; write it to a file with -o" in failed.stderr


def test_verilog_of_a_small_net():
    b = GraphBuilder("my-net 1")
    x = b.input("x", "bit", (3,))
    graph = b.build(b.dense(x, [0, 1], [1, 2], [6, 14]))
    assert dumps_verilog(graph) == (
        "module my_net_1(input wire [2:0] x, output wire [1:0] y);\n"
        "  wire g0 = x[0] ^ x[1];\n"
        "  wire g1 = ~(x[1] & x[2]);\n"
        "  assign y[0] = g0;\n"
        "  assign y[1] = g1;\n"
        "endmodule\n"
    )


def interpreted(text: str, x: list[int]) -> list[int]:
    """The outputs of a module, each assignment read as Python."""
    names: dict[str, object] = {}
    y: dict[int, int] = {}

    def value(expression: str) -> int:
        expression = re.sub(r"1'b([01])", r"\1", expression)
        expression = re.sub(r"x\[(\d+)\]", lambda m: str(x[int(m[1])]), expression)
        table = re.fullmatch(r"(T\w+)\[\{(.*)\}\]", expression)
        if table:
            bits = "".join(str(value(part)) for part in table[2].split(", "))
            return names[table[1]] >> int(bits, 2) & 1
        return eval(expression, {}, names) & 1

    for line in text.splitlines()[1:-1]:
        if match := re.fullmatch(r"  localparam \[\d+:0\] (\w+) = \d+'h(\w+);", line):
            names[match[1]] = int(match[2], 16)
        elif match := re.fullmatch(r"  wire (\w+) = (.*);", line):
            names[match[1]] = value(match[2])
        else:
            match = re.fullmatch(r"  assign y\[(\d+)\] = (.*);", line)
            y[int(match[1])] = value(match[2])
    return [y[i] for i in range(len(y))]


def test_verilog_computes_what_the_graph_does(tmp_path):
    for seed in range(25):
        graph = bits_only(seed)
        write_verilog(graph, tmp_path / "net.v")
        text = (tmp_path / "net.v").read_text()
        space = InputSpace([graph])
        body = unroll_graph(graph, space).body
        x = np.random.default_rng(seed).random((5, space.num_variables)) < 0.5
        nets = evaluate_body(body, space.planes([x.reshape(5, *graph.inputs[0].shape)]))
        expected = unpack_planes(nets[body.outputs], 5)
        for sample, bits in zip(x.astype(int).tolist(), expected.tolist(), strict=True):
            assert interpreted(text, sample) == bits, seed


@pytest.mark.parametrize(
    ("name", "identifier"),
    [
        ("small", "m_small"),
        ("table", "m_table"),
        ("final", "m_final"),
        ("module", "m_module"),
        ("wire", "m_wire"),
        ("1net", "m_1net"),
        ("_", "m__"),
        ("a */ // b\n`define", "a_______b__define"),
        ("é", "m__"),
        ("x", "x"),
        ("n" * 5000, "n" * 200),
    ],
)
def test_names_of_verilog_modules(name, identifier, tmp_path):
    graph = parse_blif(".inputs a b\n.outputs y\n.names a b y\n11 1\n.end\n")
    write_verilog(replace(graph, name=name), tmp_path / "out.v")
    text = (tmp_path / "out.v").read_text()
    assert text.startswith(f"module {identifier}(input wire [1:0] x, output wire [0:0] y);\n")
    if IVERILOG is not None:
        command = [IVERILOG, "-g2012", "-o", tmp_path / "out.vvp", tmp_path / "out.v"]
        subprocess.run(command, check=True)


@pytest.mark.skipif(ABC is None, reason="ABC is not installed")
def test_abc_matches_signals_of_aiger_by_name(tmp_path):
    names = ".inputs clk_en d[0] g7\n.outputs q[0] y1\n"
    text = f".model a\n{names}.names clk_en d[0] q[0]\n11 1\n.names g7 d[0] y1\n0- 1\n.end\n"
    (tmp_path / "a.blif").write_text(text)
    write_aiger(parse_blif(text), tmp_path / "b.aig")
    answer = subprocess.run(
        [ABC, "-c", f"cec {tmp_path / 'a.blif'} {tmp_path / 'b.aig'}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Networks are equivalent" in answer.stdout, answer.stdout
