"""Summaries: counts by node and by operation, depth, and distinct against unrolled gates."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

import lgir
from lgir.ir.body import Body
from lgir.zoo import build_net
from random_graphs import random_graph


def graph() -> lgir.Graph:
    b = lgir.GraphBuilder("net [x]")
    image = b.input("image", "u8", (1, 4, 4))
    bits = b.threshold(image, [63, 127], name="bits")
    body = Body.build(
        taps=[[0, 0, 0, 0], [0, 1, 0, 1]],
        fanin=[[2, 3, 0], [4, 0, 0], [4, 3, 5]],
        table=[0b11000000, 0b00001111, 0x17],
        outputs=[6, 4],
    )
    conv = b.logic([bits], body, (4, 2), (1, 2), name="conv")
    pool = b.or_pool(conv, (2, 1), name="pool")
    flat = b.flatten(pool)
    skip = b.logic([flat], Body.build([[0, 0], [0, 7]], [[2, 3]], [0b0110], [4]), name="skip")
    return b.build(b.group_sum(flat, 4, tau=10.0, beta=0.5, name="score"), skip)


def test_gates_taps_and_depth_of_nodes() -> None:
    nodes = {n.name: n for n in lgir.summarize(graph()).nodes}
    conv, pool, skip, score = (nodes[name] for name in ("conv", "pool", "skip", "score"))
    assert (conv.gates, conv.positions, conv.unrolled_gates, conv.taps) == (3, 8, 24, 2)
    assert (conv.depth, conv.total_depth) == (3, 3)
    assert conv.operations == {"and": 1, "not": 1, "lut3": 1}
    assert (pool.gates, pool.positions, pool.unrolled_gates, pool.taps) == (2, 4, 8, 4)
    assert (pool.depth, pool.total_depth) == (1, 4)
    assert (skip.unrolled_gates, skip.total_depth) == (1, 5)
    assert (score.gates, score.positions, score.total_depth) == (0, 0, 4)
    assert score.parameters == {"groups": 4, "tau": 10.0, "beta": 0.5}
    assert score.type == "f32[4]"
    assert nodes["bits"].parameters == {"levels": 2}


def test_totals() -> None:
    summary = lgir.summarize(graph())
    assert (summary.gates, summary.unrolled_gates, summary.taps) == (6, 33, 8)
    assert summary.depth == 5
    assert summary.operations == {"or": 2, "and": 1, "not": 1, "lut3": 1, "xor": 1}
    assert summary.inputs == {"image": "u8[1,4,4]"}
    assert summary.outputs == {"score": "f32[4]", "skip": "bit[1]"}


def test_logictreenet_counts_are_those_of_its_architecture() -> None:
    summary = lgir.summarize(build_net("logictreenet-32"))
    k = 32
    trees = 7 * (k * 32**2 + 4 * k * 16**2 + 16 * k * 8**2 + 32 * k * 4**2)
    pools = 3 * (k * 16**2 + 4 * k * 8**2 + 16 * k * 4**2 + 32 * k * 2**2)
    assert summary.unrolled_gates == trees + pools + (1280 + 640 + 320) * k
    assert summary.depth == 4 * (3 + 2) + 3


@pytest.mark.parametrize("seed", range(20))
def test_random_graphs_add_up_and_go_to_json(seed: int) -> None:
    summary = lgir.summarize(random_graph(seed))
    assert sum(summary.operations.values()) == summary.gates
    decoded = json.loads(json.dumps(summary.to_dict()))
    assert [n["gates"] for n in decoded["nodes"]] == [n.gates for n in summary.nodes]
    assert decoded["nodes"][-1]["inputs"] == list(summary.nodes[-1].inputs)


def test_the_table_fits_80_columns_and_shows_the_figures() -> None:
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(lgir.summarize(graph()))
    text = console.export_text()
    assert "net [x] (%image : u8[1,4,4])" in text
    row = next(line for line in text.splitlines() if "conv" in line)
    assert [cell.strip() for cell in row.strip("│ ").split("│")] == [
        "conv", "Logic", "bit[2,4,2]", "3", "24", "2", "3"
    ]  # fmt: skip
    assert "gates by operation: or 2, and 1, not 1, lut3 1, xor 1" in text
