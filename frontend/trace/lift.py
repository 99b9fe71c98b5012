"""The frontend `trace`: any module whose eval mode is a Boolean function, then class counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from lgir.errors import LiftError
from lgir.frontend.core.checkpoint import Source
from lgir.frontend.core.lifting import Frontend
from lgir.ir.graph import Graph
from lgir.registry import register_frontend

_DTYPES: Final = ("bit", "u8", "f32")


@register_frontend("trace")
class Trace(Frontend):
    """Lift any live module by tracing it; also functions, .pt2 programs and ONNX models."""

    compares = True

    def recognize(self, source: Source) -> bool:
        """Never: it serves modules that no other frontend knows."""
        return False

    def lift(
        self,
        source: Source,
        *,
        input_shape: Any = None,
        input_dtype: Any = None,
        samples: Any = None,
        name: str | None = None,
    ) -> Graph:
        """Trace the module, and compare the graph with it on samples.

        Args:
            source: a module; a state_dict alone computes nothing.
            input_shape: of one sample, without the batch axis; a list of shapes for several inputs.
                An ExportedProgram and an ONNX model say it themselves.
            input_dtype: "bit", "u8" or "f32" for all inputs, or a list; "bit" by default, or what
                an ExportedProgram or ONNX model says, whose floats are numbers if they are
                compared with thresholds and bits otherwise.
            samples: arrays (N, *input_shape), one per input, on which graph and module are compared
                besides random ones.
            name: of the graph.

        Raises:
            LiftError: part of the module is not Boolean, or the graph differs from it.
        """
        if source.module is None:
            raise LiftError(
                f"{source.label}: has weights and no forward; give the module itself to trace it"
            )
        from lgir.frontend.trace.target import target_of
        from lgir.frontend.trace.tracing import trace_module

        target = target_of(source.module, source.label)
        if input_shape is None and target.shapes is not None:
            input_shape = list(target.shapes)
        shapes = _shapes(input_shape, source.label)
        told = target.dtypes()
        if input_dtype is None and told is not None and "f32" in told:
            # Floats may be numbers to threshold or bits; only numbers can be refused for that.
            try:
                return trace_module(target, shapes, told, source.label, samples, name)
            except LiftError:
                told = ["bit" if dtype == "f32" else dtype for dtype in told]
        dtypes = _dtypes(input_dtype or told or "bit", len(shapes))
        return trace_module(target, shapes, dtypes, source.label, samples, name)


def _shapes(given: Any, label: str) -> list[tuple[int, ...]]:
    if given is None:
        raise LiftError(
            f"{label}: no frontend knows this model, so it is traced, which needs input_shape, "
            "the shape of one sample such as (1, 28, 28), and input_dtype: 'bit', 'u8' or 'f32'"
        )
    if isinstance(given, int | np.integer):
        given = (given,)
    several = isinstance(given, list | tuple) and any(isinstance(s, list | tuple) for s in given)
    shapes: Sequence[Any] = given if several else [given]
    found = []
    for shape in shapes:
        if not isinstance(shape, list | tuple) or not shape or any(
            not isinstance(n, int | np.integer) or n < 1 for n in shape
        ):  # fmt: skip
            raise LiftError(f"input_shape {given!r} must hold positive integers")
        found.append(tuple(int(n) for n in shape))
    return found


def _dtypes(given: Any, count: int) -> list[str]:
    names = [given] * count if isinstance(given, str) else list(given)
    for name in names:
        if name not in _DTYPES:
            raise LiftError(f"input_dtype {name!r} is not one of {', '.join(_DTYPES)}")
    if len(names) != count:
        raise LiftError(f"{count} input shapes, and {len(names)} dtypes")
    return names
