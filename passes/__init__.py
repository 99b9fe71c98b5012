"""Passes: registered functions from a Graph to a Graph. Importing this package registers them.

The contract of a pass, which the pipeline's runner enforces and `tests/passes/test_contract.py`
holds for every pass of the project:

- It takes a graph and options with defaults, and returns a graph that computes the same outputs.
- It returns the *same object* if it changed nothing: `fix(...)` and the report rely on identity.
- It keeps the graph's inputs, the names and types of its outputs, and its name.
- It is deterministic, and never changes the graph that it is given.
- Repeated, it settles: sooner or later it finds nothing to change.
- It raises PassError if an option is out of range or something that it needs is not installed.

Every pass is written once for dense layers and convolutions, since both are bodies of gates. What
a pass does inside a body therefore holds at every position of its iteration space.

    simplify.py      fold, cse: constants, buffers, inverters, equal gates, channels and nodes
    dce.py           dce: what no output depends on
    merge.py         merge: chains of dense nodes become one node
    fuse_pool.py     fuse-pool: pools become part of the convolutions that they read
    thermometer.py   thermometer: thresholds of one number imply each other
    reassociate.py   reassociate: trees of one operation become chains
    rewrite.py       rewrite: cones of up to four leaves become minimal structures
    sweep.py         sweep, or fraig: nets that are proved equal are merged
    lut_map.py       lut-map: gates become tables of k inputs, as few or as shallow as possible
    cancel.py        cancel: complements that one class counts become constants
    unroll.py        unroll: convolutions become dense nodes
    kernels/         what they share: normalization, facts, cuts, covers, structures, resynthesis
    rules/           rewrite rules of one's own
    pipeline/        runs passes; report.py tells what they did, bisect.py which one broke the graph

docs/design/passes.md explains the algorithms and the order of the named pipelines.
"""

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
