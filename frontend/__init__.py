"""Frontends: each turns a trained model or checkpoint of one framework into a Graph.

Importing this package registers them and needs no torch; `lgir.frontend.layers`, the trainable
layers, does.
"""

from lgir.frontend import difflogic, native, torchlogix
from lgir.frontend.checkpoint import Source
from lgir.frontend.lifting import Frontend, lift_model
from lgir.frontend.native import architecture_of

__all__ = [
    "Frontend",
    "Source",
    "architecture_of",
    "difflogic",
    "lift_model",
    "native",
    "torchlogix",
]
