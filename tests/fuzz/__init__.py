"""Seeded generators of bad input, one per door through which untrusted data enters lgir.

A module of this package is one group of doors. A new group is a module, and its name in the import
below. `benchmarks/fuzz.py` runs millions of inputs; `test_doors.py` runs a few per door.
"""

from fuzz import arguments, checkpoints, graphs, netlists
from fuzz.door import DOORS

__all__ = ["DOORS", "arguments", "checkpoints", "graphs", "netlists"]
