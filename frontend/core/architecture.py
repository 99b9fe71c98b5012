"""Architecture descriptions: the facts that a state_dict lacks, as a small dict or JSON file.

    {"framework": "torchlogix",
     "input": {"shape": [1, 28, 28]},
     "layers": [{"type": "LogicConv2d", "key": "0", "padding": 1, "parametrization": "raw"},
                "OrPooling2d(2, 2, 0)", "Flatten()", "LogicDense(2592, 3000)",
                {"type": "GroupSum", "k": 10, "tau": 10.0}]}

A layer is a dict of constructor arguments, or the constructor call as text, which is parsed and
never run. `key` is the prefix of its tensors in the state_dict; by default it is the number of the
layer, as in nn.Sequential.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from lgir.errors import FormatError, LiftError, shown
from lgir.files import read_file
from lgir.frontend.core.arguments import sample_shape
from lgir.frontend.core.checkpoint import Source
from lgir.frontend.core.layerwise import Entry, numbered, placed, unwrapped

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
_BINARIZATION: Final = ("thresholds", "feature_dim")

_POSITIONAL: Final[Mapping[str, Sequence[str]]] = {
    "LogicLayer": ("in_dim", "out_dim"),
    "LogicDense": ("in_dim", "out_dim"),
    "LogicConv2d": _CONV,
    "LogicConv3d": _CONV,
    "LogicConvTranspose2d": _CONV,
    "LogicConvTranspose3d": _CONV,
    "OrPooling2d": _POOL,
    "OrPooling3d": _POOL,
    "FixedBinarization": _BINARIZATION,
    "SoftBinarization": ("thresholds", "temperature", "feature_dim"),
    "LearnableBinarization": _BINARIZATION,
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
"""Defaults of constructor calls written as text, for arguments that the state_dict lacks."""


MOST_BYTES: Final = 1 << 26
"""Bytes of the largest JSON file; parsed, it takes up to 50 times as many."""


@dataclass(frozen=True)
class Architecture:
    """A parsed description; `input_shape` and `input_dtype` are None if it lacks them."""

    framework: str | None
    layers: list[Entry]
    input_shape: tuple[int, ...] | None
    input_dtype: str | None


Description = Mapping[str, Any] | Sequence[Any] | str | Path
"""A dict, a list of layers, or the path of a JSON file."""


def complete(
    description: Description | None,
    drafted: list[Entry],
    input_shape: Sequence[int] | int | None,
    groups: int | None,
    tau: float | None,
) -> Architecture:
    """Return the layers of a state_dict: those of a description, or those drafted from its keys.

    Args:
        description: the architecture; None takes `drafted`.
        drafted: entries found in the keys of the state_dict.
        input_shape: shape of one sample; it replaces that of the description.
        groups: classes of a GroupSum that is added after the drafted layers; None adds none.
        tau: divisor of that GroupSum, 1 if None.

    Raises:
        LiftError: `groups` or `tau` would be ignored.
    """
    if description is not None:
        if groups is not None or tau is not None:
            raise LiftError("groups and tau are the architecture's GroupSum; leave them out")
        architecture = read_architecture(description)
    else:
        if groups is None and tau is not None:
            raise LiftError("tau divides the sums of classes; give groups, their number, as well")
        tau = 1.0 if tau is None else tau
        score = [] if groups is None else [{"type": "GroupSum", "k": groups, "tau": tau}]
        architecture = Architecture(None, [*drafted, *score], None, None)
    if input_shape is None:
        return architecture
    return replace(architecture, input_shape=sample_shape(input_shape))


def file_layers(
    source: Source,
    kind: str,
    tensor: str,
    architecture: Description | None,
    input_shape: Sequence[int] | int | None,
    groups: int | None,
    tau: float | None,
) -> tuple[Architecture, dict[str, Any]]:
    """Return the layers of a state_dict, and its tensors by their keys.

    Without a description, every key `<key>.<tensor>` is a layer of type `kind`. The other arguments
    and the errors are those of `complete`.
    """
    keys = numbered(unwrapped(source.state), tensor)
    drafted = [{"type": kind, "key": key} for key in keys]
    network = complete(architecture, drafted, input_shape, groups, tau)
    return network, placed(source.state, network.layers, source.label)


def read_architecture(source: Description) -> Architecture:
    """Parse a description from a dict, a list of layers, or the path of a JSON file.

    Raises FormatError if the file cannot be read, and LiftError if the description is wrong.
    """
    label = "architecture"
    if isinstance(source, str | Path):
        label = str(source)
        content = read_file(source, MOST_BYTES)
        try:
            source = json.loads(content.decode())
        except (ValueError, RecursionError) as error:
            raise FormatError(f"{label}: not JSON ({error})") from error
    description = source if isinstance(source, Mapping) else {"layers": source}
    layers = description.get("layers")
    if not isinstance(layers, Sequence) or isinstance(layers, str) or not layers:
        raise LiftError(f'{label}: needs "layers", a list of layers')
    entries = []
    for number, layer in enumerate(layers):
        entry = parse_call(layer, label) if isinstance(layer, str) else layer
        if not isinstance(entry, Mapping) or not isinstance(entry.get("type"), str):
            raise LiftError(f'{label}: layer {number} must be a dict with a "type", or a call')
        entries.append({"key": str(number), **entry})
        if not isinstance(entries[-1]["key"], str):
            raise LiftError(f'{label}: the "key" of layer {number} must be a string')
    # Files of other tools describe the input in words; only a dict is understood.
    data = description.get("input")
    data = data if isinstance(data, Mapping) else {}
    shape, dtype = data.get("shape"), data.get("dtype")
    framework = description.get("framework")
    return Architecture(
        framework if isinstance(framework, str) else None,
        entries,
        None if shape is None else sample_shape(shape, f"{label}: the input's shape"),
        dtype,
    )


_LONGEST_CALL: Final = 10_000
"""Characters of the longest call, since Python's parser takes much memory per character."""

_IN_STATE: Final = ("thresholds", "selection", "mapping", "device")
"""Arguments that need not be literals, since the state_dict holds them or they do not matter."""


def parse_call(text: str, label: str) -> Entry:
    """Parse a call such as `LogicDense(2592, 3000, parametrization="warp")`; nothing is run.

    Raises LiftError if the text is no call with literal arguments.
    """
    if len(text) > _LONGEST_CALL:
        raise LiftError(f"{label}: a layer is a call of {len(text):,} characters")
    try:
        call = ast.parse(text.strip(), mode="eval").body
        if not isinstance(call, ast.Call):
            raise ValueError("not a call")
        name = call.func.attr if isinstance(call.func, ast.Attribute) else call.func.id  # type: ignore[attr-defined]
        names = _POSITIONAL.get(name, ())
        if len(call.args) > len(names):
            raise LiftError(f"{label}: {shown(text)} has {len(call.args)} arguments; name them")
        arguments = dict(zip(names, call.args, strict=False))
        arguments |= {str(keyword.arg): keyword.value for keyword in call.keywords}
        entry = {key: _literal(key, value) for key, value in arguments.items()}
    except LiftError:
        raise
    except Exception as error:  # Python's parser raises many kinds
        raise LiftError(
            f"{label}: {shown(text)} is no constructor call with plain arguments ({error})"
        ) from error
    return {"type": name, **_DEFAULTS.get(name, {}), **entry}


def _literal(name: str, value: ast.expr) -> Any:
    try:
        return ast.literal_eval(value)
    except ValueError:
        if name in _IN_STATE:
            return None
        raise
