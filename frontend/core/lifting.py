"""`lift_model`: find the frontend of a model, build the graph, and compare it with the module."""

from __future__ import annotations

import abc
import inspect
import warnings
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt

from lgir.errors import LiftError, shown, unknown_name
from lgir.frontend.core.arguments import MOST_ELEMENTS, only_lgir_errors
from lgir.frontend.core.checkpoint import Source, source_of
from lgir.frontend.core.stack import with_thresholds
from lgir.ir.graph import Graph
from lgir.ir.nodes import Threshold
from lgir.ir.simulate import interpret
from lgir.registry import FRONTENDS

_CHECK_SAMPLES: Final = 32

_ANY_MODULE: Final = "trace"
"""The frontend of modules that no other one knows."""


class Frontend(abc.ABC):
    """A framework that lgir can lift from. Subclass it, and register the class by name:

    @lgir.register_frontend("my-framework")
    class MyFrontend(Frontend): ...
    """

    compares: ClassVar[bool] = False
    """Whether `lift` itself compares the graph with a live module."""

    @abc.abstractmethod
    def recognize(self, source: Source) -> bool:
        """Return whether the module or the keys of the state_dict are of this framework."""

    @abc.abstractmethod
    def lift(self, source: Source, *args: Any, **options: Any) -> Graph:
        """Build the graph.

        The options of a frontend are keyword-only parameters of its own `lift`. Raises LiftError
        that says what the source lacks.
        """


def lift_model(
    model: Any | str | Path,
    *,
    framework: str | None = None,
    thresholds: npt.ArrayLike | None = None,
    threshold_dtype: str = "u8",
    check: bool = True,
    allow_pickle: bool = False,
    **options: Any,
) -> Graph:
    """Turn a trained model into a graph.

    Args:
        model, framework, thresholds, threshold_dtype, check, allow_pickle: see `lgir.lift`.
        options: options of the frontend; see the `lift` method of each.

    Raises:
        FormatError: the file cannot be read.
        LiftError: the model is not understood, lacks what lifting needs, or computes something else
            than its layers in order; or the frontend has no such option.
        UnknownNameError: no frontend has the name `framework`.
    """
    for switch, value in (("check", check), ("allow_pickle", allow_pickle)):
        if not isinstance(value, bool):  # any other word would be taken for True
            raise LiftError(f"{switch}={shown(value)} must be True or False")
    with only_lgir_errors("the model"):
        source = source_of(model, allow_pickle=allow_pickle)
        name = _recognize(source) if framework is None else framework
    with only_lgir_errors(f"{source.label}, or an option"):
        try:
            graph = _lift_by(name, source, options, check)
        except LiftError as error:
            # Layers that a frontend knows, in a forward that it does not: tracing sees all of it.
            if framework is not None or not _can_trace(source, options):
                raise
            graph = _traced_instead(source, options, error)
        if thresholds is not None:
            graph = with_thresholds(graph, thresholds, threshold_dtype)
    return graph


def _lift_by(name: str, source: Source, options: Mapping[str, Any], check: bool) -> Graph:
    """Lift with one frontend, and compare a live module with the graph."""
    frontend: Frontend = FRONTENDS.get(name)()
    known = _options_of(frontend)
    for option in options:
        if option not in known:
            raise LiftError(str(unknown_name(f"option of the {name} frontend", option, known)))
    graph = frontend.lift(source, **options)
    if check and source.module is not None and not frontend.compares:
        _check_against_module(graph, source)
    return graph


def _traced_instead(source: Source, options: Mapping[str, Any], reason: LiftError) -> Graph:
    """Trace a module that another frontend refuses; raise its reason if that fails too."""
    try:
        return _lift_by(_ANY_MODULE, source, options, check=True)
    except LiftError:
        raise reason from None


def _options_of(frontend: Frontend) -> list[str]:
    return [
        p.name
        for p in inspect.signature(frontend.lift).parameters.values()
        if p.kind is inspect.Parameter.KEYWORD_ONLY
    ]


def _can_trace(source: Source, options: Mapping[str, Any]) -> bool:
    """Return whether there is a live module, and the options that tracing needs."""
    known = _options_of(FRONTENDS.get(_ANY_MODULE)())
    return source.module is not None and "input_shape" in options and set(options) <= set(known)


def _recognize(source: Source) -> str:
    if source.module is not None and not hasattr(source.module, "modules"):
        return _ANY_MODULE  # a function, an exported program, an ONNX model
    matches = [name for name, frontend in FRONTENDS.items() if frontend().recognize(source)]
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise LiftError(
            f"{source.label}: could be of {' or '.join(matches)}; say which with framework=..."
        )
    if source.module is not None:
        return _ANY_MODULE
    keys = ", ".join(islice(source.state, 4)) or "none"
    raise LiftError(
        f"{source.label}: no frontend knows this model (state_dict keys: {keys}); say which with "
        f"framework=... ({', '.join(FRONTENDS.names())}), or give its arrays to "
        "lgir.frontend.from_arrays"
    )


def _check_against_module(graph: Graph, source: Source) -> None:
    """Raise LiftError if module and graph differ; warn if the module cannot be run."""
    import torch

    module = source.module
    rng = np.random.default_rng(0)
    (value,) = graph.inputs
    count = max(1, min(_CHECK_SAMPLES, MOST_ELEMENTS // value.size))
    samples = rng.integers(0, 2, (count, *value.shape)).astype(np.float32)
    for _, op in graph.of_type(Threshold):  # numbers on both sides of every finite threshold
        levels = op.levels[np.isfinite(op.levels)].astype(np.float64)
        low, high = (levels.min() - 2, levels.max() + 2) if levels.size else (-2.0, 2.0)
        limit = np.finfo(np.float32).max
        samples = rng.uniform(low, high, samples.shape).clip(-limit, limit).astype(np.float32)
    if value.dtype == "u8":
        samples = samples.clip(0, 255).round()
    (expected,) = interpret(graph, [samples])
    place = next((p.device for p in module.parameters()), None)
    was_training = bool(module.training)
    module.eval()
    try:
        with torch.no_grad():
            out = module(torch.from_numpy(samples).to(place)).cpu()
    except NotImplementedError:  # a bare container of layers has no forward
        return
    except Exception as error:
        warnings.warn(
            f"{source.label}: lifted, but its forward failed on {value.type} "
            f"({type(error).__name__}: {error}), so the two were not compared; check input_shape",
            stacklevel=4,
        )
        return
    finally:
        module.train(was_training)
    scores = out.float().numpy()
    # Half precision and GPUs may round a division otherwise; a wrong gate changes scores far more.
    tolerance = 4 * torch.finfo(out.dtype).eps if out.is_floating_point() else 0.0
    wrong = (
        np.flatnonzero(~np.isclose(scores, expected, rtol=tolerance).reshape(count, -1).all(axis=1))
        if scores.shape == expected.shape
        else np.arange(count)
    )
    if len(wrong):
        raise LiftError(
            f"{source.label}: on {len(wrong)} of {count} random samples its eval mode "
            "differs from its layers run in order; its forward does more than they show. Lift the "
            f"part that is a chain of layers, or pass check=False{_bfloat16_hint(module)}"
        )


def _bfloat16_hint(module: Any) -> str:
    kinds = {str(parameter.dtype) for parameter in module.parameters()}
    return "; or its bfloat16 rounds: lift model.float()" if "torch.bfloat16" in kinds else ""
