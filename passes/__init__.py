"""Passes: each maps a Graph to a Graph. Importing this package registers them."""

from lgir.passes import (
    dce,
    fuse_pool,
    lut_map,
    merge,
    reassociate,
    rewrite,
    simplify,
    sweep,
    thermometer,
    unroll,
)

__all__ = [
    "dce",
    "fuse_pool",
    "lut_map",
    "merge",
    "reassociate",
    "rewrite",
    "simplify",
    "sweep",
    "thermometer",
    "unroll",
]
