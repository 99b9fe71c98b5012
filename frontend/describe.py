"""`describe`: draft the architecture description that a state_dict needs beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from lgir.errors import LgirError, LiftError
from lgir.frontend.core.arguments import only_lgir_errors, sample_shape
from lgir.frontend.core.checkpoint import source_of
from lgir.frontend.core.draft import ArchitectureDraft
from lgir.frontend.core.layerwise import Entry, in_order, is_number, unwrapped
from lgir.frontend.frameworks import convlogic, difflogic, torch_dwn, torchlogix

_TENSORS: Final = (
    "connections.indices",
    "connections.weights",
    "connections._indices_L0",
    "tree_weights.0",
    "weight",
    "weights",
    "selection",
    "indices_0",
    "luts",
    "mapping",
    "mapping.weights",
    "raw_diffs",
    "thresholds",
)
"""Names of tensors that mark a layer; the key of the layer is what stands before one."""

DescribeLayer = Callable[[ArchitectureDraft, str, Mapping[str, Any], Mapping[str, Any]], None]
"""Add a layer to a draft, given its key, its tensors, and the whole state_dict."""

_DESCRIBERS: Final[Mapping[str, tuple[DescribeLayer, Entry]]] = {
    "torchlogix": (torchlogix.describe_layer, {"beta": 0.0}),
    "convlogic": (convlogic.describe_layer, {}),
    "torch-dwn": (torch_dwn.describe_layer, {}),
    "difflogic": (difflogic.describe_layer, {}),
}
"""The describer of each framework, and further arguments of its GroupSum that are not saved."""


def describe(
    model: Any | str | Path, input_shape: Sequence[int] | int | None = None
) -> dict[str, Any]:
    """Draft a description for `lgir.lift(model, architecture=...)`, to be read and completed.

    Args:
        model: a state_dict or the path of a checkpoint, of torchlogix, convlogic, difflogic or
            torch-dwn.
        input_shape: shape of one sample; it makes paddings exact.

    Returns:
        {"framework", "input", "layers", "check"}, ready for JSON; "check" says what was guessed and
        what is left as null.

    Raises:
        LiftError: the keys are of no framework that needs a description, or a size is below 1.
    """
    shape = None if input_shape is None else sample_shape(input_shape)
    with only_lgir_errors("the model"):
        source = source_of(model)
    state = unwrapped(source.state)
    framework = _framework_of(state)
    if framework is None:
        raise LiftError(f"{source.label}: its keys are of no framework that can be described")
    describe_layer, unsaved = _DESCRIBERS[framework]
    draft = ArchitectureDraft(shape)
    try:
        for key, tensors in _layers(state):
            draft.bridge(key)
            describe_layer(draft, key, tensors, state)
    except (LgirError, Warning):
        raise
    except Exception as error:
        raise LiftError(
            f"{source.label}: its tensors are not shaped as {framework}'s "
            f"({type(error).__name__}: {error})"
        ) from error
    draft.finish(unsaved)
    return {
        "framework": framework,
        "input": {"shape": list(draft.input_shape) if draft.input_shape else None},
        "layers": draft.layers,
        "check": draft.check,
    }


def _framework_of(state: Mapping[str, Any]) -> str | None:
    """Return the framework of a state_dict by its keys; None if it needs no description."""
    if torchlogix.is_state(state):
        return "torchlogix"
    if any(key.endswith((".selection", ".indices_0")) for key in state):
        return "convlogic"
    if any(key.endswith(".luts") for key in state):
        return "torch-dwn"
    if any(key.endswith(".weights") for key in state):
        return "difflogic"
    return None


def _layers(state: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Return the key and the tensors of each layer, in order of the numbers in the keys."""
    layers: dict[str, dict[str, Any]] = {}
    for name, value in state.items():
        for tensor in _TENSORS:
            if name == tensor or name.endswith(f".{tensor}"):
                key = name[: len(name) - len(tensor)].rstrip(".")
                if not key.endswith((".connections", ".mapping")):
                    layers.setdefault(key, {})[tensor] = value
                    break
    if all(is_number(key.rpartition(".")[2]) for key in layers):
        return [(key, layers[key]) for key in in_order(layers)]
    return list(layers.items())
