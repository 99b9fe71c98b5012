"""Pipelines of passes: text such as "fix(fold,cse,dce),lut-map{k=3}", read, run and checked.

grammar    reads the text into steps
options    types a pass's options by its signature, and lists the registered passes
presets    holds the named pipelines: default, O0 to O4, size, latency, throughput
contract   holds what every pass must keep, and checks it after each pass
runner     runs the steps, times them, and tells one hook of each pass
"""

from lgir.passes.pipeline.grammar import Fix, Step
from lgir.passes.pipeline.options import PassInfo, list_passes
from lgir.passes.pipeline.presets import PIPELINES
from lgir.passes.pipeline.runner import PassEvent, Pipeline

__all__ = ["PIPELINES", "Fix", "PassEvent", "PassInfo", "Pipeline", "Step", "list_passes"]
