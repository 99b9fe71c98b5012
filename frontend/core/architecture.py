"""Architecture descriptions: what a state_dict leaves out, as a small dict or JSON file.

    {"framework": "torchlogix",
     "input": {"shape": [1, 28, 28]},
     "layers": [{"type": "LogicConv2d", "key": "0", "padding": 1, "parametrization": "raw"},
                "OrPooling2d(2, 2, 0)", "Flatten()", "LogicDense(2592, 3000)",
                {"type": "GroupSum", "k": 10, "tau": 10.0}]}

A layer is a dict of constructor arguments or the constructor call as text, which is read and never
run. `key` is its prefix in the state_dict; without one it is the layer's number, as in
nn.Sequential.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from lgir.errors import FormatError, LiftError
from lgir.frontend.core.layerwise import Entry

_CONV: Final = (
    "in_dim",
    "channels",
    "num_kernels",
    "tree_depth",
    "receptive_field_size",
    "stride",
    "padding",
)
_POOL: Final = ("kernel_size", "stride", "padding")
_BINARISATION: Final = ("thresholds", "feature_dim")

_POSITIONAL: Final[Mapping[str, Sequence[str]]] = {
    "LogicLayer": ("in_dim", "out_dim"),
    "LogicDense": ("in_dim", "out_dim"),
    "LogicConv2d": _CONV,
    "LogicConv3d": _CONV,
    "LogicConvTranspose2d": _CONV,
    "LogicConvTranspose3d": _CONV,
    "OrPooling2d": _POOL,
    "OrPooling3d": _POOL,
    "FixedBinarization": _BINARISATION,
    "SoftBinarization": ("thresholds", "temperature", "feature_dim"),
    "LearnableBinarization": _BINARISATION,
    "ConvLogicLayer": ("in_channels", "out_channels", "stride", "padding", "kernel", "groups"),
    "TreeLogicLayer": ("channels", "input_bits"),
    "PoolLogicLayer": ("kernel", "stride"),
    "LUTLayer": ("input_size", "output_size", "n", "mapping"),
    "GroupSum": ("k", "tau", "beta"),
    "Flatten": ("start_dim", "end_dim"),
}
"""Names of the arguments that constructors take by position."""

_GATES: Final[Entry] = {"lut_rank": 2, "parametrization": "raw"}

_DEFAULTS: Final[Mapping[str, Entry]] = {
    "LogicDense": _GATES,
    "LogicConv2d": _GATES,
    "LogicConv3d": _GATES,
    "LogicConvTranspose2d": _GATES,
    "LogicConvTranspose3d": _GATES,
    "LearnableBinarization": {"temperature_softplus": 0.1},
}
"""Defaults that a call written as text stands for, where the state_dict cannot tell."""


@dataclass(frozen=True)
class Architecture:
    """A description that was read: `input_shape` and `input_dtype` are None where not said."""

    framework: str | None
    layers: list[Entry]
    input_shape: tuple[int, ...] | None
    input_dtype: str | None


Description = Mapping[str, Any] | Sequence[Any] | str | Path
"""A dict, a list of layers, or the path of a JSON file."""


def complete(
    given: Description | None,
    drafted: list[Entry],
    input_shape: Sequence[int] | int | None,
    groups: int | None,
    tau: float | None,
) -> Architecture:
    """The layers of a state_dict: as a description gives them, else `drafted` from its keys with
    a GroupSum of `groups` and `tau` at the end. An input_shape of the caller's comes first.

    Raises LiftError where groups or tau would be ignored.
    """
    if given is not None:
        if groups is not None or tau is not None:
            raise LiftError("groups and tau are the architecture's GroupSum; leave them out")
        found = read_architecture(given)
    else:
        if groups is None and tau is not None:
            raise LiftError("tau divides the sums of classes; give groups, their number, as well")
        tau = 1.0 if tau is None else tau
        end = [] if groups is None else [{"type": "GroupSum", "k": groups, "tau": tau}]
        found = Architecture(None, [*drafted, *end], None, None)
    if input_shape is None:
        return found
    shape = (input_shape,) if isinstance(input_shape, int) else tuple(input_shape)
    return replace(found, input_shape=shape)


def read_architecture(given: Description) -> Architecture:
    """A description from a dict, a list of layers, or the path of a JSON file.

    Raises FormatError where the file cannot be read, LiftError where the description is wrong.
    """
    label = "architecture"
    if isinstance(given, str | Path):
        label = str(given)
        try:
            given = json.loads(Path(given).read_text(encoding="utf-8"))
        except OSError as error:
            raise FormatError(f"{label}: cannot be read ({error.strerror})") from error
        except (ValueError, RecursionError) as error:
            raise FormatError(f"{label}: not JSON ({error})") from error
    description = given if isinstance(given, Mapping) else {"layers": given}
    layers = description.get("layers")
    if not isinstance(layers, Sequence) or isinstance(layers, str) or not layers:
        raise LiftError(f'{label}: needs "layers", a list of layers')
    entries = []
    for number, layer in enumerate(layers):
        entry = parse_call(layer, label) if isinstance(layer, str) else layer
        if not isinstance(entry, Mapping) or not isinstance(entry.get("type"), str):
            raise LiftError(f'{label}: layer {number} must be a dict with a "type", or a call')
        entries.append({"key": str(number), **entry})
    # Files of other tools say in words what the input is; only a dict is understood.
    data = description.get("input")
    data = data if isinstance(data, Mapping) else {}
    shape, dtype = data.get("shape"), data.get("dtype")
    shape = [shape] if isinstance(shape, int) else shape
    if shape is not None and not isinstance(shape, list | tuple):
        raise LiftError(f"{label}: the input's shape {shape!r} must be a list of integers")
    framework = description.get("framework")
    return Architecture(
        framework if isinstance(framework, str) else None,
        entries,
        tuple(shape) if shape else None,
        dtype,
    )


_IN_STATE: Final = ("thresholds", "selection", "mapping", "device")
"""Arguments that need not be literals: the state_dict has them, or they do not matter."""


def parse_call(text: str, label: str) -> Entry:
    """`LogicDense(2592, 3000, parametrization="warp")` as an entry. Nothing is run.

    Raises LiftError where it is no call with literal arguments.
    """
    try:
        call = ast.parse(text.strip(), mode="eval").body
        if not isinstance(call, ast.Call):
            raise ValueError("not a call")
        name = call.func.attr if isinstance(call.func, ast.Attribute) else call.func.id  # type: ignore[attr-defined]
        names = _POSITIONAL.get(name, ())
        if len(call.args) > len(names):
            raise LiftError(f"{label}: {text!r} has {len(call.args)} arguments; name them")
        given = dict(zip(names, call.args, strict=False))
        given |= {str(keyword.arg): keyword.value for keyword in call.keywords}
        entry = {key: _literal(key, value) for key, value in given.items()}
    except LiftError:
        raise
    except (SyntaxError, ValueError, AttributeError, RecursionError) as error:
        raise LiftError(
            f"{label}: {text!r} is no constructor call with plain arguments ({error})"
        ) from error
    return {"type": name, **_DEFAULTS.get(name, {}), **entry}


def _literal(name: str, value: ast.expr) -> Any:
    try:
        return ast.literal_eval(value)
    except ValueError:
        if name in _IN_STATE:
            return None
        raise
