"""`rewrite`: the built-in rules, each of which saves a gate wherever it matches."""

from __future__ import annotations

from typing import Final

from lgir.graph import Graph
from lgir.passes.rules import Rule, apply_rules, rule
from lgir.registry import register_pass

RULES: Final[tuple[Rule, ...]] = (
    # A gate that reads what its operand reads. Complements and De Morgan come for free.
    rule("(and ?x (and ?x ?y))", "(and ?x ?y)"),
    rule("(and ?x (and (not ?x) ?y))", "0"),
    rule("(and ?x (or ?x ?y))", "?x"),
    rule("(and ?x (or (not ?x) ?y))", "(and ?x ?y)"),
    rule("(and ?x (xor ?x ?y))", "(and ?x (not ?y))"),
    rule("(xor ?x (xor ?x ?y))", "?y"),
    rule("(xor ?x (and ?x ?y))", "(and ?x (not ?y))"),
    # Two operands that share one of theirs.
    rule("(and (and ?x ?y) (and (not ?x) ?z))", "0"),
    rule("(and (and ?x ?y) (or ?x ?z))", "(and ?x ?y)"),
    rule("(or (and ?x ?y) (and ?x ?z))", "(and ?x (or ?y ?z))"),
    rule("(or (and ?x ?y) (and (not ?x) ?y))", "?y"),
    rule("(xor (and ?x ?y) (and ?x ?z))", "(and ?x (xor ?y ?z))"),
    rule("(xor (xor ?x ?y) (xor ?x ?z))", "(xor ?y ?z)"),
    rule("(xor (and ?x ?y) (or ?x ?y))", "(xor ?x ?y)"),
    rule("(or (and ?x (not ?y)) (and (not ?x) ?y))", "(xor ?x ?y)"),
)


@register_pass("rewrite")
def rewrite(graph: Graph) -> Graph:
    """Apply the built-in rules on pairs and triples of gates wherever they save a gate."""
    return apply_rules(graph, RULES)
