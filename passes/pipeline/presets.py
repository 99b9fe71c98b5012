"""The named pipelines. A name may stand wherever a pass may.

docs/design/passes.md says why the passes of each stand in this order.
"""

from __future__ import annotations

from typing import Final

_SIMPLIFY: Final = "fix(merge,fold,cse,dce)"
_CHAINS: Final = "fix(thermometer,reassociate,fold,cse,dce)"
_DONT_CARES: Final = "fix(thermometer,fold,cse,dce)"
# `cancel` keeps scores but not the bits that outside tools compare, so only "size" has it.
_CANCEL: Final = "cancel,fix(fold,cse,dce)"
# No pass that merges gates may follow `fuse-pool`: backends rely on the layout that it promises.
_FUSE: Final = "fuse-pool,fix(fold,dce)"

PIPELINES: Final[dict[str, str]] = {
    "default": f"{_SIMPLIFY},{_FUSE}",
    "none": "",
    "O0": "",
    "O1": _SIMPLIFY,
    "O2": f"{_SIMPLIFY},{_FUSE}",
    "O3": f"{_SIMPLIFY},{_CHAINS},rewrite,lut-map{{k=3}},{_FUSE}",
    "O4": f"{_SIMPLIFY},{_CHAINS},sweep,rewrite,lut-map{{k=3}},{_FUSE}",
    "size": f"{_SIMPLIFY},{_CANCEL},{_CHAINS},rewrite,lut-map{{k=6}}",
    "latency": f"{_SIMPLIFY},lut-map{{k=6,goal=depth}},{_FUSE}",
    "hardware": f"{_SIMPLIFY},{_DONT_CARES},rewrite,lut-map{{k=6,goal=depth}}",
    "throughput": f"{_SIMPLIFY},{_FUSE}",
}
"""Name -> text of each named pipeline.

- O0 and "none" change nothing.
- O1 keeps the nodes of convolutions and pools apart.
- O2, the default, fuses convolutions and pools.
- O3 also rewrites, and covers the gates with as few three-input tables as it can, for targets on
  which such a table is one instruction or one cell.
- O4 also merges equal nets (`sweep`). It needs a SAT solver (python-sat) and raises PassError if
  none is installed.
- "size" aims at few distinct tables, "latency" at few levels. Both use tables of up to six inputs.
- "hardware" aims at few levels of look-up tables of six inputs, and at few tables for that depth.
  It keeps convolutions and pools apart; `unroll,hardware` is for netlists. For cells of four
  inputs, let `lut-map{k=4,goal=depth}` take the place of its last pass.
- "throughput" is what was measured to run fastest on the LLVM backend: O2, since more kinds of
  table cost that backend more than fewer tables save.
"""
