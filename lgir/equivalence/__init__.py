"""Equivalence of graphs: by simulation, by trying every sample, and by SAT proof."""

from lgir.equivalence.verdict import Counterexample, Verdict
from lgir.equivalence.verification import METHODS, verify_graphs

__all__ = ["METHODS", "Counterexample", "Verdict", "verify_graphs"]
