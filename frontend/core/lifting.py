"""lift_model: find the frontend that knows a model, let it build the graph, and check the graph
against the module where there is one.
"""

from __future__ import annotations

import abc
import inspect
import warnings
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lgir.errors import LiftError, unknown_name
from lgir.frontend.core.checkpoint import Source, source_of
from lgir.frontend.core.stack import with_thresholds
from lgir.ir.graph import Graph
from lgir.ir.nodes import Threshold
from lgir.registry import BACKENDS, FRONTENDS

_CHECK_SAMPLES: Final = 32


class Frontend(abc.ABC):
    """A framework lgir can lift from. Subclass it, and register the class by name:

    @lgir.register_frontend("my-framework")
    class MyFrontend(Frontend): ...
    """

    @abc.abstractmethod
    def recognize(self, source: Source) -> bool:
        """Whether the module or the state_dict's keys are of this framework, complete or not."""

    @abc.abstractmethod
    def lift(self, source: Source, *args: Any, **options: Any) -> Graph:
        """The graph. A frontend's options are keyword-only parameters of its own `lift`; raises
        LiftError saying what the source lacks.
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
        model: a torch module, a state_dict, or the path of a .pt, .pth, .ckpt or .safetensors
            file. Files never run code.
        framework: the frontend's name; found from the model where None.
        thresholds: numbers t, (L,) or one row a channel, for a model that was trained on bits
            x > t: the graph then takes the numbers and computes the bits.
        threshold_dtype: what it takes then, "u8" or "f32".
        check: run a live module in eval mode on random samples and compare every score, since its
            forward may do more than its layers show.
        allow_pickle: load pickled modules too, which runs code that the file chooses.
        options: go to the frontend; see the `lift` method of each.

    Raises:
        FormatError: the file cannot be read. LiftError: the model is not understood, lacks what
        lifting needs, or computes something else than its layers in order; or the frontend has no
        such option. UnknownNameError: no such framework.
    """
    for switch, value in (("check", check), ("allow_pickle", allow_pickle)):
        if not isinstance(value, bool):  # any other word would be taken for True
            raise LiftError(f"{switch}={value!r} must be True or False")
    source = source_of(model, allow_pickle=allow_pickle)
    name = framework or _recognize(source)
    frontend: Frontend = FRONTENDS.get(name)()
    known = [
        p.name
        for p in inspect.signature(frontend.lift).parameters.values()
        if p.kind is inspect.Parameter.KEYWORD_ONLY
    ]
    for option in options:
        if option not in known:
            raise LiftError(str(unknown_name(f"option of the {name} frontend", option, known)))
    graph = frontend.lift(source, **options)
    if check and source.module is not None:
        _check_against_module(graph, source)
    return graph if thresholds is None else with_thresholds(graph, thresholds, threshold_dtype)


def _recognize(source: Source) -> str:
    found = [name for name, frontend in FRONTENDS.items() if frontend().recognize(source)]
    if len(found) == 1:
        return found[0]
    if found:
        raise LiftError(
            f"{source.label}: could be of {' or '.join(found)}; say which with framework=..."
        )
    keys = ", ".join(list(source.state)[:4]) or "none"
    raise LiftError(
        f"{source.label}: no frontend knows this model (state_dict keys: {keys}); say which with "
        f"framework=... ({', '.join(FRONTENDS.names())}), or give its arrays to "
        "lgir.frontend.from_arrays"
    )


def _check_against_module(graph: Graph, source: Source) -> None:
    """Raises LiftError where module and graph differ; warns where the module cannot be run."""
    import torch

    module = source.module
    rng = np.random.default_rng(0)
    (given,) = graph.inputs
    samples = rng.integers(0, 2, (_CHECK_SAMPLES, *given.shape)).astype(np.float32)
    for _, op in graph.of_type(Threshold):  # numbers on both sides of every threshold
        low, high = op.levels.min() - 2, op.levels.max() + 2
        samples = rng.uniform(low, high, samples.shape).astype(np.float32)
    if given.dtype == "u8":
        samples = samples.clip(0, 255).round()
    expected = BACKENDS.get("reference")(graph)(
        samples.astype(np.uint8) if given.dtype == "u8" else samples
    )
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
            f"{source.label}: lifted, but its forward failed on {given.type} "
            f"({type(error).__name__}: {error}), so the two were not compared; check input_shape",
            stacklevel=4,
        )
        return
    finally:
        module.train(was_training)
    scores = out.float().numpy()
    # Half precision and GPUs round a division otherwise; a wrong gate shows far above that.
    tolerance = 4 * torch.finfo(out.dtype).eps if out.is_floating_point() else 0.0
    wrong = (
        np.flatnonzero(
            ~np.isclose(scores, expected, rtol=tolerance).reshape(_CHECK_SAMPLES, -1).all(axis=1)
        )
        if scores.shape == expected.shape
        else np.arange(_CHECK_SAMPLES)
    )
    if len(wrong):
        raise LiftError(
            f"{source.label}: on {len(wrong)} of {_CHECK_SAMPLES} random samples its eval mode "
            "differs from its layers run in order; its forward does more than they show. Lift the "
            f"part that is a chain of layers, or pass check=False{_bfloat16_hint(module)}"
        )


def _bfloat16_hint(module: Any) -> str:
    kinds = {str(parameter.dtype) for parameter in module.parameters()}
    return "; or its bfloat16 rounds: lift model.float()" if "torch.bfloat16" in kinds else ""
