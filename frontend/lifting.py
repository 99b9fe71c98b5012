"""lift_model: find the frontend that knows a model, and let it build the graph."""

from __future__ import annotations

import abc
import inspect
from pathlib import Path
from typing import Any

from lgir.errors import LiftError, unknown_name
from lgir.frontend.checkpoint import Source, source_of
from lgir.graph import Graph
from lgir.registry import FRONTENDS


class Frontend(abc.ABC):
    """A framework lgir can lift from. Subclass it, and register the class by name:

    @lgir.register_frontend("my-framework")
    class MyFrontend(Frontend): ...
    """

    @abc.abstractmethod
    def recognise(self, source: Source) -> bool:
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
    allow_pickle: bool = False,
    **options: Any,
) -> Graph:
    """Turn a trained model into a graph.

    Args:
        model: a torch module, a state_dict, or the path of a .pt, .pth, .ckpt or .safetensors
            file. Files never run code.
        framework: the frontend's name; found from the model where None.
        allow_pickle: load pickled modules too, which runs code that the file chooses.
        options: go to the frontend; see the `lift` method of each.

    Raises:
        FormatError: the file cannot be read. LiftError: the model is not understood, lacks what
        lifting needs, or the frontend has no such option. UnknownNameError: no such framework.
    """
    source = source_of(model, allow_pickle=allow_pickle)
    name = framework or _recognise(source)
    frontend: Frontend = FRONTENDS.get(name)()
    known = [
        p.name
        for p in inspect.signature(frontend.lift).parameters.values()
        if p.kind is inspect.Parameter.KEYWORD_ONLY
    ]
    for option in options:
        if option not in known:
            raise LiftError(str(unknown_name(f"option of the {name} frontend", option, known)))
    return frontend.lift(source, **options)


def _recognise(source: Source) -> str:
    found = [name for name, frontend in FRONTENDS.items() if frontend().recognise(source)]
    if len(found) == 1:
        return found[0]
    if found:
        raise LiftError(
            f"{source.label}: could be of {' or '.join(found)}; say which with framework=..."
        )
    keys = ", ".join(list(source.state)[:4]) or "none"
    raise LiftError(
        f"{source.label}: no frontend knows this model (state_dict keys: {keys}); say which with "
        f"framework=... ({', '.join(FRONTENDS.names())}), or build the graph from arrays"
    )
