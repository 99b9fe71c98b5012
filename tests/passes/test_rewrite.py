"""rewrite: fewer two-input gates, the same function; and the structures that it puts in."""

from __future__ import annotations

import numpy as np
import pytest

import lgir
from bodies import flat, gates, same_outputs
from lgir.ir.body import Body
from lgir.ir.builder import GraphBuilder
from lgir.ir.graph import Graph
from lgir.ir.nodes import Logic
from lgir.ir.truth_tables import AND, NAME_TO_TABLE, OR
from lgir.passes.kernels import compiled
from lgir.passes.kernels.structures import structure_library
from lgir.passes.pipeline import Pipeline
from lgir.passes.rules import parse_term
from random_graphs import random_graph, random_inputs


def rewritten(graph: Graph) -> Graph:
    after, _ = lgir.optimize(graph, "rewrite", verify=None)
    assert lgir.verify(graph, after, method="exhaustive").equivalent is True
    return after


@pytest.mark.parametrize(
    ("term", "least"),
    [
        ("(and ?x (and ?x ?y))", 1),
        ("(and ?x (and (not ?x) ?y))", 0),
        ("(and ?x (or ?x ?y))", 0),
        ("(and ?x (or (not ?x) ?y))", 1),
        ("(and ?x (xor ?x ?y))", 1),
        ("(xor ?x (and ?x ?y))", 1),
        ("(and (and ?x ?y) (and (not ?x) ?z))", 0),
        ("(and (and ?x ?y) (or ?x ?z))", 1),
        ("(or (and ?x ?y) (and ?x ?z))", 2),
        ("(or (and ?x ?y) (and (not ?x) ?y))", 0),
        ("(xor (and ?x ?y) (and ?x ?z))", 2),
        ("(xor (xor ?x ?y) (xor ?x ?z))", 1),
        ("(xor (and ?x ?y) (or ?x ?y))", 1),
        ("(or (and ?x (not ?y)) (and (not ?x) ?y))", 1),
        ("(or (and ?s ?x) (and (not ?s) ?y))", 3),
        ("(or (or (and ?a ?b) (and ?b ?c)) (and ?a ?c))", 4),
    ],
)
def test_identities_are_found(term, least):
    pattern = parse_term(term)
    nets = {name: 2 + i for i, name in enumerate(sorted(pattern.variables))}
    fanin, table = [], []

    def build(term) -> int:
        if term.head.startswith("?"):
            return nets[term.head]
        operands = [build(arg) for arg in term.args]
        if term.head == "not":
            operands, value = [operands[0], 0], 0b0011
        else:
            value = term.table
        fanin.append(operands)
        table.append(value)
        return 1 + len(nets) + len(fanin)

    root = build(pattern)
    assert gates(rewritten(flat(fanin, table, [root], len(nets)))) == least


def test_a_gate_that_is_there_already_costs_nothing():
    # (a and b) and c, where b and c is an output: the latter serves both
    graph = flat([[2, 3], [5, 4], [3, 4]], [AND, AND, AND], [6, 7], 3)
    assert gates(rewritten(graph)) == 2
    # but not where others read what would go
    kept = flat([[2, 3], [4, 5], [3, 4]], [AND, AND, AND], [5, 6, 7], 3)
    assert lgir.optimize(kept, "rewrite")[0] is kept


def test_any_function_of_four_inputs_takes_its_least_gates():
    rng = np.random.default_rng(1)
    lib = structure_library()
    for _ in range(40):
        function = int(rng.integers(1 << 16))
        # Shannon's tree over inputs 2..5, input 5 least significant, three gates a multiplexer
        layer = [function >> i & 1 for i in range(16)]
        b = GraphBuilder("shannon")
        x = b.input("x", "bit", (4,))
        fanin, table = [], []
        for select in (5, 4, 3, 2):
            pairs = list(zip(layer[1::2], layer[::2], strict=True))
            layer = []
            for one, zero in pairs:
                both, low = len(fanin) + 6, len(fanin) + 7
                fanin += [[select, one], [select, zero], [both, low]]
                table += [AND, NAME_TO_TABLE["lt"], OR]
                layer.append(low + 1)
        body = Body.build([[0, c] for c in range(4)], fanin, table, layer)
        graph = b.build(b.logic([x], body))
        # input 0 of a table of the library is the least significant, net 5 here
        form = lib.start[lib.kind[function]]
        assert gates(rewritten(graph)) <= max(int(lib.length[form]), 1), hex(function)


def test_deep_random_bodies_collapse():
    before = after = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        nets = 10 + np.arange(150)
        fanin = rng.integers(np.maximum(2, nets - 14), nets, size=(2, 150)).T
        operations = [NAME_TO_TABLE[name] for name in ("and", "or", "xor", "nand", "gt", "le")]
        graph = flat(fanin, rng.choice(operations, 150), nets[-12:], 8)
        graph, _ = lgir.optimize(graph, "fix(fold,cse,dce)", verify=None)
        before += gates(graph)
        after += gates(rewritten(graph))
    assert after < before / 3


@pytest.mark.parametrize("start", range(0, 240, 60))
def test_outputs_stay_equal_and_a_second_run_changes_nothing(start):
    for seed in range(start, start + 60):
        graph = random_graph(seed, max_fanin=2 if seed % 3 else 6, max_gates=80)
        before, _ = lgir.optimize(graph, "fix(fold,cse,dce)", verify=None)
        after, report = lgir.optimize(before, "rewrite", verify=None)
        assert report.after.unrolled <= report.before.unrolled
        assert same_outputs(graph, after, random_inputs(graph, 130)), seed
        assert Pipeline.parse("rewrite").run(after, verify=None)[0] is after


def test_a_rolled_convolution_stays_rolled():
    b = GraphBuilder("conv")
    x = b.input("x", "bit", (1, 6, 6))
    taps = [[0, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]]
    # (x and y) or (x and z)
    body = Body.build(taps, [[2, 3], [2, 4], [5, 6]], [AND, AND, OR], [7])
    graph = b.build(b.logic([x], body, (6, 6)))
    after, _ = lgir.optimize(graph, "rewrite")
    (op,) = (op for _, op in after.of_type(Logic))
    assert (op.space, op.body.num_gates) == ((6, 6), 2)


def test_wider_gates_are_left_alone():
    majority = 0b11101000
    fanin = [[2, 3, 0], [2, 4, 0], [5, 6, 0], [2, 3, 4], [7, 8, 0]]
    widened = [0b11000000, 0b11000000, 0b11111100, majority, 0b00111100]
    after = rewritten(flat(fanin, widened, [9], 3))
    (op,) = (op for _, op in after.of_type(Logic))
    assert op.body.num_gates == 4
    assert (op.body.arity() == 3).sum() == 1


def test_structures_are_right_and_classes_as_many_as_knuth_counts():
    lib = structure_library()
    least = lib.length[lib.start[:-1]]
    assert np.bincount(least).tolist() == [2, 2, 5, 20, 34, 75, 72, 12]
    assert (lib.length == least.repeat(np.diff(lib.start))).all()
    inputs = (0xAAAA, 0xCCCC, 0xF0F0, 0xFF00)
    for function in np.random.default_rng(0).integers(1 << 16, size=300).tolist():
        kind, phases = lib.kind[function], int(lib.phases[function])
        cases = [
            inputs[w] ^ (0xFFFF if phases >> j & 1 else 0)
            for j, w in enumerate(lib.wiring[function].tolist())
        ]
        for form in range(lib.start[kind], lib.start[kind + 1]):
            gates = lib.gates[form, : max(int(lib.length[form]), 1)].tolist()
            nets = [*cases, *(0 for _ in range(8))]
            result = nets[gates[0][0]]
            for i, (a, b, table) in enumerate(gates[: lib.length[form]]):
                x, y = nets[a], nets[b]
                rows = (~x & ~y, ~x & y, x & ~y, x & y)
                result = nets[4 + i] = sum(r for j, r in enumerate(rows) if table >> j & 1)
            assert (result ^ (0xFFFF if phases >> 4 else 0)) & 0xFFFF == function


def test_kernels_are_compiled_where_nothing_can_be_kept(monkeypatch):
    def njit(cache=False, **options):
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return lambda function: function

    monkeypatch.setattr(compiled, "njit", njit)
    assert compiled.compiled(len) is len
