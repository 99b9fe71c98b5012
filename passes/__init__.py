"""Passes: each maps a Graph to a Graph. Importing this package registers them."""

from lgir.passes import (
    cancel,
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
    "cancel",
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
