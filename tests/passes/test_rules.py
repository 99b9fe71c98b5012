"""Rewrite rules: reading, proving, matching up to permutation and complement, and replacing."""

from __future__ import annotations

import pytest

import lgir
from bodies import body_of, flat, gates
from lgir.errors import ParseError, UnknownNameError
from lgir.ir.graph import Graph
from lgir.ir.truth_tables import AND, NAND, NOR, OR, XNOR, XOR
from lgir.passes.rules import apply_rules, find, parse_term, rule

DISTRIBUTE = rule("(or (and ?x ?y) (and ?x ?z))", "(and ?x (or ?y ?z))")


def clean(graph: Graph) -> Graph:
    return lgir.optimize(graph, "fix(fold,cse,dce)", verify=None)[0]


def applied(graph: Graph, *rules) -> Graph:
    after = clean(apply_rules(clean(graph), rules))
    assert lgir.verify(graph, after, method="exhaustive").equivalent is True
    return after


@pytest.mark.parametrize(
    ("tables", "result"),
    [
        ([AND, AND, OR], 2),
        ([OR, OR, AND], 2),  # De Morgan: complements of all inputs and of the output
        ([NAND, NAND, NAND], 2),
        ([NOR, NOR, NOR], 2),
        ([AND, OR, OR], 3),  # no common factor
        ([AND, AND, XOR], 3),
    ],
)
def test_a_pattern_matches_up_to_complements(tables, result):
    graph = flat([[2, 3], [4, 2], [5, 6]], tables, [7], 3)
    assert gates(applied(graph, DISTRIBUTE)) == result


def test_operands_may_stand_in_any_order():
    for fanin in ([[2, 3], [2, 4]], [[3, 2], [2, 4]], [[2, 3], [4, 2]], [[3, 4], [2, 4]]):
        graph = flat([*fanin, [6, 5]], [AND, AND, OR], [7], 3)
        assert gates(applied(graph, DISTRIBUTE)) == 2


def test_inner_gates_that_others_read_are_not_counted_as_saved():
    graph = flat([[2, 3], [2, 4], [5, 6]], [AND, AND, OR], [7, 5, 6], 3)
    assert gates(applied(graph, DISTRIBUTE)) == 3


def test_variables_bind_complements():
    graph = flat([[2, 3], [2, 4], [5, 6]], [0b0010, 0b0010, OR], [7], 3)  # not x and y, ...
    assert gates(applied(graph, DISTRIBUTE)) == 2
    opposite = flat([[2, 3], [2, 4], [5, 6]], [AND, 0b0010, OR], [7], 3)
    assert gates(applied(opposite, DISTRIBUTE)) == 3


def test_results_may_be_constants_and_variables():
    graph = flat([[2, 3], [2, 4]], [AND, 0b0010], [5], 2)
    assert body_of(applied(graph, rule("(and ?x (and (not ?x) ?y))", "0"))).outputs.tolist() == [0]
    graph = flat([[2, 3], [2, 4]], [XOR, XNOR], [5], 2)
    body = body_of(applied(graph, rule("(xor ?x (xor ?x ?y))", "?y")))
    assert body.table.tolist() == [0b01]  # x xnor (x xor y) is not y


def test_patterns_of_wider_tables():
    assert rule("(lut 0xca ?s ?a (not ?a))", "(xnor ?s ?a)").pattern.size == 1
    majority = rule("(lut 0xe8 ?a ?b ?c)", "(or (and ?a ?b) (and ?c (or ?a ?b)))")
    tree = rule("(or (and ?a ?b) (and ?c (or ?a ?b)))", "(lut 0xe8 ?a ?b ?c)")
    split = flat([[2, 3], [2, 3], [4, 6], [5, 7]], [AND, OR, AND, OR], [8], 3)
    body = body_of(applied(split, tree))
    assert (body.num_gates, body.table.tolist()) == (1, [0xE8])
    assert apply_rules(split, [majority]) is split  # it would add gates


def test_find_gives_arrays():
    body = body_of(flat([[2, 3], [2, 4], [5, 6]], [AND, AND, OR], [7], 3))
    matches = find(body, DISTRIBUTE.pattern)
    assert len(matches) == 2  # the two products may be taken either way round
    assert matches.root.tolist() == [14, 14]
    assert sorted(matches.bound["?y"].tolist()) == [6, 8]
    assert matches.bound["?x"].tolist() == [4, 4]
    assert len(find(body, parse_term("(xor ?a ?b)"))) == 0


def test_overlapping_matches_are_applied_one_after_the_other():
    # a chain where each gate could be root and inner of a match
    fanin = [[2, 3]] + [[2, 4 + i] for i in range(6)]
    graph = flat(fanin, [AND] * 7, [10], 2)
    after = applied(graph, rule("(and ?x (and ?x ?y))", "(and ?x ?y)"))
    assert gates(after) == 1


@pytest.mark.parametrize(
    ("pattern", "result", "match"),
    [
        ("(and ?x ?y)", "(or ?x ?y)", r"the sides differ for \?x=0, \?y=1"),
        ("?x", "?x", "the pattern must be a gate"),
        ("(and ?x ?x)", "(and ?x ?y)", r"\?y does not occur in the pattern"),
        ("(and ?x ?y", "?x", "a parenthesis is not closed"),
        ("(and ?x ?y) ?z", "?x", r"'\?z' after the end"),
        ("(and ?x)", "?x", "and takes two operands, 1 given"),
        ("(not ?x ?y)", "?x", "not takes one operand, 2 given"),
        ("(and ?x y)", "?x", "'y' is not a .variable, 0 or 1"),
        ("(lut ?x ?y)", "?x", "lut needs a table"),
        ("(lut 0x1ff ?x ?y ?z)", "?x", "table 0x1ff does not fit 3 operands"),
        ("", "?x", "ends too early"),
        ("(", "?x", "ends too early"),
    ],
)
def test_bad_rules_say_what_is_wrong(pattern, result, match):
    with pytest.raises(ParseError, match=match):
        rule(pattern, result)


def test_unknown_operations():
    with pytest.raises(UnknownNameError, match="unknown operation 'nxor'; did you mean"):
        rule("(nxor ?x ?y)", "?x")


@pytest.mark.parametrize(
    "text",
    ["(" * 100_000, "(not " * 5000 + "?x" + ")" * 5000, "(and " + "?x " * 100_000, "?x" * 10**6],
)
def test_endless_expressions_are_refused(text):
    with pytest.raises(ParseError, match="at most 400 words"):
        parse_term(text)


@pytest.mark.parametrize("table", ["9" * 5000, "0x" + "f" * 5000, "1_0", "٣", "007", "-1"])
def test_tables_are_short_numbers(table):
    with pytest.raises(ParseError, match="lut needs a table"):
        parse_term(f"(lut {table} ?x)")


def test_rules_of_many_variables_are_proved_at_once():
    names = [f"?v{i}" for i in range(16)]
    chain = names[0]
    for name in names[1:]:
        chain = f"(xor {chain} {name})"
    back = names[-1]
    for name in reversed(names[:-1]):
        back = f"(xor {name} {back})"
    assert rule(chain, back).pattern.size == 15
    with pytest.raises(ParseError, match=r"the sides differ for \?v0=0, \?v1=0"):
        rule(chain, back.replace("?v15", "(not ?v15)").replace("?v14", "(and ?v14 ?v15)"))
