"""BLIF: written netlists read back equal, outside tools agree, bad files are refused."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace

import numpy as np
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
        (".inputs a\n.outputs y\n.names a a\n1 1\n", "a is defined twice"),
        (".inputs a\n1 1\n", ":2: '1 1' stands outside"),
        (".inputs a\n.latch a y\n", ":2: .latch is not supported"),
        (".inputs a\n.subckt f x=a y=y\n", ":2: .subckt is not supported; flatten"),
        (".inputs a a\n", ":1: a is listed twice"),
        (".inputs a\n.outputs y y\n", ":2: y is listed twice"),
        (".names a\n.inputs a\n", ":2: a is defined twice .first by line 1"),
        (".inputs a\n.names a y\n1 1\n.names a y\n1 1\n", ":4: y is defined twice"),
        (".inputs a b\n.names a b y\n11 1\n00 0\n", ":4: the rows of y end in 0 and in 1"),
        (".inputs a\n.names y\n1\n0\n", ":4: the rows of y end in 0 and in 1"),
        (".inputs a\n.names\n", ":2: .names defines no signal"),
        (".inputs a\n.conn a\n", ":2: .conn takes two signals"),
        (".inputs a\n.names a y\n1\n", ":3: y has the row '1'"),
    ],
)
def test_bad_models_say_what_is_wrong(text, match):
    with pytest.raises(FormatError, match=match):
        parse_blif(text)


def test_bad_files(tmp_path):
    with pytest.raises(FormatError, match="No such file"):
        read_blif(tmp_path / "none.blif")
    (tmp_path / "binary.blif").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(FormatError, match=r"binary.blif:1: .* stands outside a .names"):
        read_blif(tmp_path / "binary.blif")
    for name in (tmp_path, "a\0b"):
        with pytest.raises(FormatError, match="cannot read"):
            read_blif(name)
    (tmp_path / "long.blif").write_bytes(b"#" * 1000)
    with pytest.raises(FormatError, match="1,000 bytes, more than 999"):
        read_blif(tmp_path / "long.blif", max_bytes=999)


@pytest.mark.skipif(ABC is None, reason="ABC is not installed")
def test_abc_finds_optimized_graphs_equivalent(tmp_path):
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


def rows(text: str | bytes) -> list[str]:
    """The outputs of a model for all inputs, in the order of binary numbers."""
    graph = parse_blif(text)
    n = graph.inputs[0].size
    x = np.arange(1 << n)[:, None] >> np.arange(n)[::-1] & 1
    y = lgir.compile(graph, "reference")(x)
    return ["".join(map(str, bits)) for bits in y.astype(int).tolist()]


def test_timing_says_nothing_about_logic():
    head = """\
.model timing
.inputs a b
.outputs y
.default_input_arrival 0.00 0.00
.default_output_required 0.00 0.00
.default_input_drive 1.00 1.00
.default_output_load 0.10
.default_max_input_load 9.00
.wire_load_slope 0.00
.wire 1 2
.input_arrival a 0 0
.area 3.0
.delay a INV 1 2 3 4 5 6
"""
    assert rows(head + ".names a b y\n11 0\n.end\n") == ["1", "1", "1", "0"]


@pytest.mark.parametrize("row", ["11 1", "11\t1", "1 1 1", " 11   1 ", "11 1\r", "1\t1\v1"])
def test_any_white_space_splits_columns(row):
    text = f".model tabs\n.inputs\ta b\n.outputs y\n.names a\tb  y\n{row}\n.end\n"
    assert rows(text) == ["0", "0", "0", "1"]


def test_extensions_of_yosys():
    text = """\
.model cell
.inputs a b
.outputs y z
.names $false
.names $true
1
.names a b y
10 1
.cname u1
.attr src "top.v:3"
.param INIT 0100
.conn y z
.end
"""
    assert rows(text) == ["00", "00", "11", "00"]


@pytest.mark.parametrize("end", [".end", ".model second", ".exdc"])
def test_a_model_ends_with_the_next_one(end):
    text = f"""\
.model first
.inputs a b
.outputs y
.names a b y
11 1
{end}
.inputs p q
.outputs r
.names p q r
1- 1
-1 1
.latch
"""
    assert parse_blif(text).name == "first"
    assert rows(text) == ["0", "0", "0", "1"]


def test_comments_hold_any_bytes():
    text = b"# \xff\x00\r\xe9 .latch\n.inputs a # \xfe\\\n.outputs y\n.names a y\n0 1 #\xff\n.end"
    assert rows(text) == ["1", "0"]


def test_names_that_are_not_utf8_are_refused():
    with pytest.raises(FormatError, match=r"the name b'\\xff' is not UTF-8"):
        parse_blif(b".inputs \xff\n.outputs y\n.names y\n")


def test_lines_that_go_on():
    text = ".inputs a \\\n\\\n b \\\n\n.outputs y\n.names \\\na b y\n1\\\n1 \\\n1\n.end \\"
    assert rows(text) == ["0", "0", "0", "1"]


@pytest.mark.parametrize("value", [0, 1])
def test_wide_covers_become_trees(value):
    rng = np.random.default_rng(value)
    cubes = rng.choice(list("01-"), size=(5, 9), p=[0.25, 0.25, 0.5])
    signals = [f"i{j}" for j in range(9)]
    cover = "".join(f"{''.join(cube)} {value}\n" for cube in cubes.tolist())
    text = f".inputs {' '.join(signals)}\n.outputs y\n.names {' '.join(signals)} y\n{cover}.end\n"
    graph = parse_blif(text)
    assert graph.nodes[0].op.body.k == 2
    for i, bit in enumerate(rows(text)):
        held = any(
            all(c in ("-", x) for c, x in zip(cube, f"{i:09b}", strict=True))
            for cube in cubes.tolist()
        )
        assert int(bit) == (held if value else not held)


@pytest.mark.parametrize(
    ("cover", "bit"), [("", "0"), ("--------- 1\n", "1"), ("--------- 0\n", "0")]
)
def test_wide_covers_of_constants(cover, bit):
    signals = " ".join(f"i{j}" for j in range(9))
    text = f".inputs {signals}\n.outputs y\n.names {signals} y\n{cover}.end\n"
    assert set(rows(text)) == {bit}


NAMES = """\
.model names
.inputs clk_en data[0] $x x1 g7 one
.outputs q[0] y1 clk_en g8_
.names clk_en data[0] q[0]
11 1
.names $x x1 g7 y1
1-- 1
-11 1
.names one g8_
0 1
.end
"""


def test_names_survive():
    for passes in (None, "O1"):
        graph = parse_blif(NAMES)
        if passes:
            graph, _ = lgir.optimize(graph, passes)
        back = parse_blif(dumps_blif(lgir.parse(lgir.dumps(graph, full=True))))
        assert back.metadata["names.x"].split() == ["clk_en", "data[0]", "$x", "x1", "g7", "one"]
        assert back.metadata["names.y"].split() == ["q[0]", "y1", "clk_en", "g8_"]
        assert rows(dumps_blif(graph)) == rows(NAMES)


def test_names_that_blif_cannot_hold_are_replaced():
    b = GraphBuilder("odd", {"names.x": "a\u202eb\na#b\n.c", "names.y": "p\np\na_b"})
    x = b.input("x", "bit", (3,))
    text = dumps_blif(b.build(b.dense(x, [0, 1, 2], [1, 2, 0], [1, 6, 7], name="y")))
    assert ".inputs \\\n a_b x1 _.c\n" in text
    assert ".outputs \\\n p y1 y2\n" in text


@pytest.mark.skipif(ABC is None, reason="ABC is not installed")
def test_abc_matches_signals_by_name(tmp_path):
    (tmp_path / "a.blif").write_text(NAMES)
    graph, _ = lgir.optimize(read_blif(tmp_path / "a.blif"))
    write_blif(graph, tmp_path / "b.blif")
    answer = subprocess.run(
        [ABC, "-c", f"cec {tmp_path / 'a.blif'} {tmp_path / 'b.blif'}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Networks are equivalent" in answer.stdout, answer.stdout


def test_reading_is_linear():
    """A reader that searched lists would take minutes here."""
    n = 20_000
    signals = [f"i{j}" for j in range(n)]
    outputs = [f"o{j}" for j in range(n)]
    covers = "".join(f".names {a} {b}\n1 1\n" for a, b in zip(signals, outputs, strict=True))
    text = f".inputs {' '.join(signals)}\n.outputs {' '.join(outputs)}\n{covers}.end\n"
    assert parse_blif(text).inputs[0].size == n
    chained = parse_blif(".inputs a\n.outputs y\n.names a \\\n" + "\\\n" * n + "y\n1 1\n")
    assert chained.nodes[0].op.body.num_gates == 1
