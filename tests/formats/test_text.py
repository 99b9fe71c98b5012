"""The text form: golden dumps, and that `parse` inverts `dumps`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lgir
from lgir.errors import GraphError, ParseError
from lgir.formats.container import from_bytes, to_bytes
from lgir.ir.body import Body
from lgir.zoo import build_net, dense_net
from random_graphs import random_graph

Golden = Callable[[str, str], None]


def dense_graph() -> lgir.Graph:
    b = lgir.GraphBuilder("dense", {"source": "a test", "note": 'two\nlines and a "quote"'})
    x = b.input("x", "bit", (4,))
    hidden = b.dense(x, a=[0, 2, 3, 0], b=[1, 3, 1, 0], ops=[6, 7, 14, 12], name="hidden")
    return b.build(b.group_sum(hidden, groups=2, tau=0.3, beta=-1.5, name="score"))


def conv_graph() -> lgir.Graph:
    b = lgir.GraphBuilder("conv")
    image = b.input("image", "u8", (2, 6, 6))
    bits = b.threshold(image, [[63, 127.5], [0.1, np.inf]], name="bits")
    body = Body.build(
        taps=[[0, 0, -1, 0], [0, 3, 1, 1], [0, 2, 0, 0]],
        fanin=[[2, 3], [5, 4]],
        table=[0b1000, 0b0110],
        outputs=[6, 2],
    )
    conv = b.logic([bits], body, space=(3, 3), stride=(2, 2), name="conv1")
    pool = b.or_pool(conv, (2, 2), padding=(1, 1), name="pool")
    return b.build(b.group_sum(b.flatten(pool), groups=8, name="score"))


def mixed_graph() -> lgir.Graph:
    """Fan-in 0 to 6, constants as operands and outputs, two inputs, names that need quotes."""
    b = lgir.GraphBuilder("mixed %1 \u2028 fan-in")
    x, y = b.input("x;y", "bit", (3,)), b.input("größe", "bit", (2,))
    body = Body.build(
        taps=[[0, 0], [0, 2], [1, 1]],
        fanin=[
            [0, 0, 0, 0, 0, 0],
            [2, 0, 0, 0, 0, 0],
            [1, 3, 0, 0, 0, 0],
            [2, 3, 4, 0, 0, 0],
            [2, 0, 4, 5, 0, 0],
            [2, 3, 4, 5, 6, 0],
            [2, 3, 4, 5, 6, 9],
        ],
        table=[
            2**64 - 1,
            0x0000_0000_FFFF_FFFF,
            0xFFFF_0000_0000_0000,
            0xFF00_FF00_FF00_00FF,
            0xF00F_F00F_F00F_0FF0,
            0xC3C3_C3C3_3C3C_C3C3,
            0x0123_4567_89AB_CDEF,
        ],
        outputs=[11, 11, 0, 1, 2, 5, 8],
    )
    return b.build(b.logic([x, y], body, name='out"put'), x)


@pytest.mark.parametrize("make", [dense_graph, conv_graph, mixed_graph])
def test_golden_dump(make: Callable[[], lgir.Graph], golden: Golden) -> None:
    graph = make()
    golden(f"{graph.name.split()[0]}.lgir", lgir.dumps(graph))
    assert lgir.parse(lgir.dumps(graph)) == graph
    assert str(graph) == lgir.dumps(graph)


def test_golden_elided_dump(golden: Golden) -> None:
    golden("elided.lgir", lgir.dumps(dense_net(2, 40, inputs=40)))


@pytest.mark.parametrize("seed", range(150))
def test_round_trip_of_random_graphs(seed: int) -> None:
    graph = random_graph(seed)
    text = lgir.dumps(graph, full=True)
    parsed = lgir.parse(text)
    assert parsed == graph
    assert parsed.values == graph.values
    assert lgir.dumps(parsed, full=True) == text


def test_bodies_that_differ_only_in_padding_are_equal_and_print_the_same() -> None:
    graph = mixed_graph()
    node = graph.node('out"put')
    narrow = Body.build([[0, 0]], [[2, 1]], [0b0110], [3])
    padded = narrow.widened(5)
    assert padded.k == 5
    assert padded == narrow
    a, b = (
        replace(
            graph,
            nodes=(replace(node, op=lgir.Logic(body), inputs=("x;y",)),),
            outputs=('out"put',),
        )
        for body in (narrow, padded)
    )
    assert lgir.dumps(a) == lgir.dumps(b)
    assert lgir.parse(lgir.dumps(a)) == b


@given(st.text(min_size=1), st.text(min_size=1), st.dictionaries(st.text(), st.text(), max_size=3))
def test_any_names_and_metadata_round_trip(name: str, value: str, metadata: dict[str, str]) -> None:
    b = lgir.GraphBuilder(name, metadata)
    x = b.input(value, "bit", (2,))
    graph = b.build(b.group_sum(x, 2, name=value + "'"))
    text = lgir.dumps(graph)
    assert lgir.parse(text) == graph
    assert len(text.split("\n")) == 7 + len(metadata)


@given(st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=40))
def test_levels_round_trip_bit_by_bit(levels: list[float]) -> None:
    b = lgir.GraphBuilder("levels")
    graph = b.build(b.threshold(b.input("x", "f32", (1,)), levels, name="bits"))
    parsed = lgir.parse(lgir.dumps(graph, full=True)).node("bits").op
    assert isinstance(parsed, lgir.Threshold)
    assert parsed.levels.tobytes() == np.array(levels, np.float32).tobytes()


def test_level_whose_shortest_text_reads_as_another_float32() -> None:
    """7.038531e-26 rounds to a neighbor of the float32 it denotes when read as a double first."""
    level = np.array([0x15AE43FD], np.uint32).view(np.float32)
    assert np.float32(float(str(level[0]))) != level[0]
    b = lgir.GraphBuilder("levels")
    graph = b.build(b.threshold(b.input("x", "f32", (1,)), level))
    assert lgir.parse(lgir.dumps(graph)) == graph


@given(
    st.floats(allow_nan=False, allow_infinity=False, width=32).filter(bool),
    st.floats(allow_nan=False, allow_infinity=False, width=32),
)
def test_tau_and_beta_round_trip(tau: float, beta: float) -> None:
    b = lgir.GraphBuilder("sum")
    graph = b.build(b.group_sum(b.input("x", "bit", (2,)), 2, tau, beta))
    assert lgir.parse(lgir.dumps(graph)) == graph


def test_hand_written_text_may_use_other_labels_spaces_and_comments() -> None:
    graph = lgir.parse(
        """
        ; a comment
        lgir 1\r
        graph "g" {
          input %x : bit[2]   ; two bits

          %y = logic ( %x ) {
            %left=tap 0 [ 0 ]
            %right = tap 0[1] ; the other

            %sum = xor %left ,%right;
            yield %sum , true
          } : bit [ 2 ]
          output %y
          output %x
        } ; end
        """
    )
    body = Body.build([[0, 0], [0, 1]], [[2, 3]], [0b0110], [4, 1])
    assert graph.node("y").op == lgir.Logic(body)
    assert graph.outputs == ("y", "x")


def test_an_elided_dump_is_short_and_refuses_to_be_parsed() -> None:
    graph = build_net("dense-6x8000")
    text = lgir.dumps(graph)
    assert len(text) < 10_000
    assert "... 7,992 gates elided (lgir dump --full) ..." in text
    with pytest.raises(ParseError, match=r"line 15: this dump is elided .* --full"):
        lgir.parse(text)


@pytest.mark.parametrize(
    "levels", [np.zeros((3, 40)), np.zeros(33), np.zeros((3, 2, 2, 5))], ids=str
)
def test_long_levels_are_elided_and_refuse_to_be_parsed(levels: np.ndarray) -> None:
    b = lgir.GraphBuilder("levels")
    graph = b.build(b.threshold(b.input("x", "f32", (3, 2, 2)), levels))
    text = lgir.dumps(graph)
    assert f"... {levels.size} levels elided (lgir dump --full) ..." in text
    with pytest.raises(ParseError, match="line 4: this dump is elided"):
        lgir.parse(text)
    assert lgir.parse(lgir.dumps(graph, full=True)) == graph


def test_a_chain_of_100_000_gates_does_not_recurse() -> None:
    n = 100_000
    fanin = np.arange(n)[:, None] + np.array([1, 2])
    body = Body.build([[0, 0]], fanin, np.full(n, 0b0111), [n + 2])
    b = lgir.GraphBuilder("chain")
    graph = b.build(b.logic([b.input("x", "bit", (1,))], body))
    assert lgir.parse(lgir.dumps(graph, full=True)) == graph


@pytest.mark.parametrize("offset", [-(2**31), 2**31 - 1])
def test_the_text_holds_every_offset_that_the_container_holds(offset):
    b = lgir.GraphBuilder("far")
    x = b.input("x", "bit", (1, 4))
    body = Body.build([[0, 0, offset], [0, 0, 1]], [[2, 3]], [0b1110], [4])
    graph = b.build(b.logic([x], body, space=(4,)))
    assert lgir.parse(lgir.dumps(graph, full=True)) == graph
    assert from_bytes(to_bytes(graph)) == graph
    folded, _ = lgir.optimize(graph)
    for backend, same in (("reference", graph), ("reference", folded), ("llvm", folded)):
        exe = lgir.compile(same, backend)
        assert exe(np.eye(4, dtype=bool)[:, None]).astype(int).tolist() == [
            [[0, 0, 0, 0]], [[1, 0, 0, 0]], [[0, 1, 0, 0]], [[0, 0, 1, 0]]
        ]  # fmt: skip


@pytest.mark.parametrize(
    ("shape", "match"),
    [
        ((2**31 - 1,) * 3, "elements per sample; at most 2,147,483,647"),
        ((65536, 32768), "elements per sample; at most 2,147,483,647"),
        ((1,) * 9, "has 9 axes; at most 8"),
    ],
)
def test_values_beyond_the_limits_are_refused(shape, match):
    with pytest.raises(GraphError, match=match):
        lgir.parse(f'lgir 1\ngraph "h" {{\n  input %x : bit{list(shape)}\n  output %x\n}}\n')
    with pytest.raises(GraphError, match=match):
        lgir.GraphBuilder("h").input("x", "bit", shape)


def test_inner_values_beyond_the_limits_are_refused():
    b = lgir.GraphBuilder("h")
    x = b.input("x", "u8", (2**30,))
    with pytest.raises(GraphError, match="elements per sample; at most 2,147,483,647"):
        b.threshold(x, [1.0, 2.0])


def test_graphs_of_huge_values_are_not_simulated():
    text = 'lgir 1\ngraph "h" {\n  input %x : bit[65536,32767]\n  output %x\n}\n'
    graph = lgir.parse(text)
    with pytest.raises(GraphError, match="GiB of values for 64 samples; at most 1 GiB"):
        lgir.verify(graph, graph)


def test_long_metadata_is_elided_unless_the_dump_is_full():
    b = lgir.GraphBuilder("net", {"names.x": "\n".join(map(str, range(1000)))})
    graph = b.build(b.input("x", "bit", (1000,)))
    assert '"names.x" = ... 3,889 characters elided' in lgir.dumps(graph)
    with pytest.raises(ParseError, match="this dump is elided"):
        lgir.parse(lgir.dumps(graph))
    assert lgir.parse(lgir.dumps(graph, full=True)) == graph
