"""Rewrite rules: patterns over gates, matched on whole bodies at once.

    rule("(or (and ?x ?y) (and ?x ?z))", "(and ?x (or ?y ?z))")

A pattern matches in any order of operands and wherever inverters have been absorbed: gates are
compared up to permutation and complement of their inputs and output. This follows tinygrad's
pattern matcher in form, and vectorizes it: a match is a row of arrays.

    terms         reads expressions and proves that the two sides of a rule are equal
    matching      finds all matches of a pattern in a body
    application   replaces matches that save gates
"""

from lgir.passes.rules.application import apply_rules, rewrite_body
from lgir.passes.rules.matching import Matches, find
from lgir.passes.rules.terms import Rule, Term, parse_term, rule

__all__ = ["Matches", "Rule", "Term", "apply_rules", "find", "parse_term", "rewrite_body", "rule"]
