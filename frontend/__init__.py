"""Frontends: each turns a trained model or checkpoint of one framework into a Graph.

Importing this package registers them and needs no torch; `lgir.frontend.layers`, the trainable
layers, does.
"""

from lgir.frontend.arrays import Dense, Flatten, OrPool, TreeConv, from_arrays
from lgir.frontend.core.checkpoint import Source
from lgir.frontend.core.lifting import Frontend, lift_model
from lgir.frontend.describe import describe
from lgir.frontend.frameworks import convlogic, difflogic, native, torch_dwn, torchlogix
from lgir.frontend.frameworks.native import architecture_of
from lgir.frontend.trace import Trace

__all__ = [
    "Dense",
    "Flatten",
    "Frontend",
    "OrPool",
    "Source",
    "Trace",
    "TreeConv",
    "architecture_of",
    "convlogic",
    "describe",
    "difflogic",
    "from_arrays",
    "lift_model",
    "native",
    "torch_dwn",
    "torchlogix",
]
