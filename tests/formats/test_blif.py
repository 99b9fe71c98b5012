"""BLIF: written netlists read back equal, outside tools agree, bad files are refused."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace

import pytest

import lgir
from lgir.errors import FormatError
from lgir.formats.blif import dumps_blif, parse_blif, read_blif, write_blif
from lgir.ir.builder import GraphBuilder
from lgir.ir.graph import Graph
from random_graphs import random_graph

ABC = shutil.which("berkeley-abc") or shutil.which("abc")

MUX = """\
.model mux  # a comment
.inputs a \\
  b s
.outputs y
.names s a b y
01- 1
1-1 1
.end
"""


def plain(graph: Graph) -> Graph:
    """The bits of a graph's single bit input and output under the names that reading gives."""
    after, _ = lgir.optimize(graph, "default", verify=None)
    return after


def test_a_small_model():
    graph = parse_blif(MUX)
    body = graph.nodes[0].op.body
    assert graph.name == "mux"
    assert body.fanin.tolist() == [[4, 2, 3]]
    assert body.table.tolist() == [0b10101100]


def test_written_netlists_read_back_equal():
    for seed in range(80):
        graph = random_graph(seed, rank=0, max_input_bits=9)
        (name, *_) = graph.outputs
        if graph.values[name].dtype != "bit":
            continue
        graph = replace(graph, outputs=(name,))
        parsed = parse_blif(dumps_blif(graph))
        assert parsed.inputs == graph.inputs
        assert lgir.verify(graph, parsed, method="exhaustive").equivalent is True, seed


def test_constants_and_buffers_as_outputs():
    text = ".inputs a b\n.outputs one zero a nb\n.names one\n1\n.names zero\n.names b nb\n0 1\n"
    body = parse_blif(text).nodes[0].op.body
    folded = plain(parse_blif(text)).nodes[0].op.body
    assert body.num_gates == 3
    assert folded.outputs[:3].tolist() == [1, 0, 2]


def test_off_sets_and_any_order_of_definitions():
    text = ".inputs a b\n.outputs y\n.names t y\n0 1\n.names a b t\n11 0\n"
    graph = plain(parse_blif(text))
    assert graph.nodes[0].op.body.table.tolist() == [0b1000]


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "needs .inputs and .outputs"),
        (".inputs a\n.outputs y\n", "y is read and never defined"),
        (".inputs a\n.outputs y\n.names y y\n1 1\n", "y depends on itself"),
        (".inputs a\n.outputs y\n.names t y\n1 1\n.names y t\n1 1\n", "depends on itself"),
        (".inputs a\n.outputs y\n.names a y\n11 1\n", "has the row '11 1'"),
        (".inputs a\n.outputs y\n.names a y\n2 1\n", "has the row '2 1'"),
        (".inputs a\n.outputs y\n.names a a\n1 1\n", "defines no new signal"),
        (".inputs a\n1 1\n", ":2: '1 1' stands outside"),
        (".inputs a\n.latch a y\n", ":2: .latch is not supported"),
        (".inputs a b c d e f g\n.outputs y\n.names a b c d e f g y\n", "y has 7 inputs"),
    ],
)
def test_bad_models_say_what_is_wrong(text, match):
    with pytest.raises(FormatError, match=match):
        parse_blif(text)


def test_bad_files(tmp_path):
    with pytest.raises(FormatError, match="no such file"):
        read_blif(tmp_path / "none.blif")
    (tmp_path / "binary.blif").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(FormatError, match="cannot be read as BLIF"):
        read_blif(tmp_path / "binary.blif")


@pytest.mark.skipif(ABC is None, reason="ABC is not installed")
def test_abc_finds_optimised_graphs_equivalent(tmp_path):
    for seed in range(12):
        graph = random_graph(seed, dtype="bit")
        after, _ = lgir.optimize(graph, verify=None)
        write_blif(graph, tmp_path / "a.blif")
        write_blif(after, tmp_path / "b.blif")
        answer = subprocess.run(
            [ABC, "-c", f"cec {tmp_path / 'a.blif'} {tmp_path / 'b.blif'}"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert "Networks are equivalent" in answer.stdout, (seed, answer.stdout)


def test_a_graph_with_thresholds_is_written_over_its_variables():
    b = GraphBuilder("levels")
    bits = b.threshold(b.input("x", "u8", (2,)), [1.0, 2.0, 255.0])
    text = dumps_blif(b.build(b.group_sum(bits, 2)))
    assert ".inputs \\\n x0 x1 x2 x3\n" in text
    assert ".names zero y2\n" in text
    guarded = dumps_blif(b.build(b.group_sum(bits, 2)), guarded=True)
    assert ".names x1 x0 v1\n11 1\n" in guarded
    assert ".names v1 y1\n" in guarded
