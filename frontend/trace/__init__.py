"""Lift any module: trace it, evaluate it on tables instead of tensors, recover its layers.

Importing this package needs no torch; tracing does.
"""

from lgir.frontend.trace.lift import Trace

__all__ = ["Trace"]
