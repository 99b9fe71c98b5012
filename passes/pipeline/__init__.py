"""Pipelines of passes: text such as "fix(fold,cse,dce),lut-map{k=3}", read, run and checked.

grammar          reads the text into steps
options          types a pass's options by its signature, and lists the registered passes
presets          holds the named pipelines: default, O0 to O4, size, latency, hardware,
                 throughput
contract         holds what every pass must keep, and checks it after each pass
instrumentation  is told of every pass: callbacks, dumps, diffs
runner           runs the steps, times them, and tells the instrumentation of each pass
"""

from lgir.passes.pipeline.grammar import Fix, Step
from lgir.passes.pipeline.instrumentation import Instrumentation, PassEvent, PassStart
from lgir.passes.pipeline.options import PassInfo, list_passes
from lgir.passes.pipeline.presets import PIPELINES
from lgir.passes.pipeline.runner import Pipeline

__all__ = [
    "PIPELINES",
    "Fix",
    "Instrumentation",
    "PassEvent",
    "PassInfo",
    "PassStart",
    "Pipeline",
    "Step",
    "list_passes",
]
