"""The `difflogic` frontend: dense networks of Petersen et al. 2022, without importing difflogic.

A state_dict of difflogic holds `<i>.weights` (out, 16) and nothing else: the wiring is a plain
attribute of each LogicLayer, and GroupSum has no tensors. The caller must give what the file lacks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lgir.errors import LiftError, shown
from lgir.frontend.core.architecture import Description, file_layers
from lgir.frontend.core.arguments import sample_shape
from lgir.frontend.core.checkpoint import Source, array_of, read_checkpoint
from lgir.frontend.core.decode import raw_tables
from lgir.frontend.core.draft import ArchitectureDraft
from lgir.frontend.core.layerwise import (
    Entry,
    LayerEntry,
    check_inputs,
    class_names,
    entry_of,
    has_axes,
    lift_layers,
    walk,
)
from lgir.frontend.core.lifting import Frontend
from lgir.frontend.core.stack import LayerStack
from lgir.ir.graph import Graph
from lgir.registry import register_frontend

_NO_WIRING: Final = (
    "difflogic keeps the wiring outside the state_dict, so these weights alone are no network; "
    "lift the module itself, or save [layer.indices for each LogicLayer] beside it and pass "
    "indices=[(a, b), ...] or the path of that file, or the seed that the layers were made from"
)

Wiring = npt.NDArray[np.integer]


@register_frontend("difflogic")
class DifflogicFrontend(Frontend):
    """Lift LogicLayer, GroupSum and Flatten, from modules or from state_dicts with `indices`."""

    def recognize(self, source: Source) -> bool:
        if source.module is not None:
            return any(_is_logic_layer(m) for m in source.module.modules())
        # "light" variants add a grad_mask; wiring beside the weights is of other frameworks.
        is_weights = [key.endswith(".weights") for key in source.state]
        foreign = any(
            key.endswith((".indices_0", ".selection"))
            or (has_axes(value) and not key.endswith((".weights", ".grad_mask")))
            for key, value in source.state.items()
        )
        return any(is_weights) and not foreign

    def lift(
        self,
        source: Source,
        *,
        indices: Sequence[Any] | str | Path | None = None,
        seed: int | None = None,
        connections: str = "random",
        seed_device: str = "cpu",
        architecture: Description | None = None,
        input_shape: Sequence[int] | int | None = None,
        groups: int | None = None,
        tau: float | None = None,
        name: str = "model",
    ) -> Graph:
        """Build the graph of a difflogic network.

        Args:
            source: a module, which needs no options, or a state_dict.
            indices: a pair (a, b) of (out,) input numbers per LogicLayer, or a file of them.
            seed: the argument of `torch.manual_seed` right before the layers were constructed.
                It replaces `indices` and needs `input_shape`. A wrong seed cannot be detected, so
                check the accuracy.
            connections: how the layers of that seed were wired, "random" or "unique".
            seed_device: where they were constructed; "cuda" draws weights from another generator.
            architecture: the layers of the network (see `lgir.frontend.core.architecture`); the
                next three options can replace it.
            input_shape: shape of one sample; None takes the width or the highest wire of the first
                layer.
            groups: classes of the final GroupSum, which a state_dict lacks; None outputs bits.
            tau: divisor of the GroupSum, 1 if None.
            name: name of the graph.
        """
        if source.module is not None:
            state = dict(source.state)
            entries = _entries_of_module(source, state)
        else:
            network, state = file_layers(
                source, "LogicLayer", "weights", architecture, input_shape, groups, tau
            )
            entries, input_shape = network.layers, network.input_shape
            if seed is not None:
                indices = _seeded(
                    source, state, entries, input_shape, seed, connections, seed_device
                )
            _add_wiring(state, entries, source, indices)
        return lift_layers(
            source,
            entries,
            state,
            {"LogicLayer": _logic_layer},
            framework="difflogic",
            name=name,
            shape=_width(entries, state) if input_shape is None else input_shape,
        )


def describe_layer(
    draft: ArchitectureDraft, key: str, tensors: Mapping[str, Any], state: Mapping[str, Any]
) -> None:
    """Add a layer of difflogic to a draft."""
    if not draft.layers:
        draft.check.append("the wiring: pass indices=[(a, b), ...], one pair per LogicLayer")
    draft.before_dense(key, 0)
    draft.add_dense("LogicLayer", key, len(tensors["weights"]))


def _is_logic_layer(module: Any) -> bool:
    # The layer of the same name in convlogic holds its wiring in buffers.
    has_name = "LogicLayer" in class_names(module) and hasattr(module, "weights")
    return has_name and not hasattr(module, "indices_0")


def _entries_of_module(source: Source, state: dict[str, Any]) -> list[Entry]:
    entries = []
    for key, kind, module in walk(source.module, source.label, ["LogicLayer"]):
        entries.append(entry_of(key, kind, module, ["in_dim"]))
        if _is_logic_layer(module):
            where = f"{source.label}: LogicLayer {key!r}"
            prefix = f"{key}." if key else ""
            state[f"{prefix}indices"] = _pair(getattr(module, "indices", None), where)
    return entries


def _seeded(
    source: Source,
    state: Mapping[str, Any],
    entries: Sequence[Entry],
    input_shape: Sequence[int] | int | None,
    seed: int,
    connections: str,
    seed_device: str,
) -> list[tuple[Any, Any]]:
    """Return the wiring that difflogic draws after `torch.manual_seed(seed)`, layer by layer."""
    try:
        import torch
    except ImportError as error:
        raise LiftError(f"{source.label}: seed needs torch's random numbers") from error
    if input_shape is None:
        raise LiftError(f"{source.label}: seed needs input_shape, the width of the first layer")
    if connections not in ("random", "unique") or seed_device not in ("cpu", "cuda"):
        raise LiftError(
            f"{source.label}: connections is random or unique, seed_device cpu or cuda, not "
            f"{shown(connections)} and {shown(seed_device)}"
        )
    if not isinstance(seed, int) or not -(1 << 63) <= seed < 1 << 64:
        raise LiftError(f"{source.label}: seed {shown(seed)} must be an integer of 64 bits")
    generator = torch.Generator().manual_seed(seed)
    inputs = math.prod(sample_shape(input_shape))
    pairs = []
    for key in (e["key"] for e in entries if e["type"] == "LogicLayer"):
        outputs = len(state.get(f"{key}.weights", ()))
        if 2 * outputs < inputs:
            raise LiftError(
                f"{source.label}: LogicLayer {key!r} has {outputs} gates; difflogic builds none "
                f"for {inputs} inputs, check input_shape"
            )
        if seed_device == "cpu":
            torch.randn(outputs, 16, generator=generator)  # the initial weights come first
        if connections == "random":
            wires = torch.randperm(2 * outputs, generator=generator) % inputs
            a, b = torch.randperm(inputs, generator=generator)[wires].view(2, outputs)
        else:
            a, b = _unique_pairs(inputs, outputs, source.label)
            order = torch.randperm(outputs, generator=generator)
            a, b = a[order], b[order]
        pairs.append((a, b))
        inputs = outputs
    return pairs


def _unique_pairs(inputs: int, outputs: int, label: str) -> tuple[Any, Any]:
    """Return distinct pairs of inputs in the order in which difflogic enumerates them.

    They are (0, 1), (2, 3), ...; (1, 2), (3, 4), ...; then all pairs at distance 2, 3 and so on,
    until there are `outputs` pairs.
    """
    import torch

    all_ = torch.arange(inputs)
    even = inputs // 2
    # difflogic cuts its two lists to one length, so an odd count loses the last start.
    a, b = [all_[0 : 2 * even : 2]], [all_[1 : 2 * even : 2]]
    if even < outputs:
        half = (inputs - 1) // 2
        a.append(all_[1 : 2 * half : 2])
        b.append(all_[2 : 2 * half + 1 : 2])
    count, distance = sum(map(len, a)), 2
    while outputs > count > distance:
        a.append(all_[:-distance])
        b.append(all_[distance:])
        count += inputs - distance
        distance += 1
    if count < outputs:
        raise LiftError(f"{label}: {inputs} inputs have no {outputs} unique pairs")
    return torch.cat(a)[:outputs], torch.cat(b)[:outputs]


def _add_wiring(
    state: dict[str, Any],
    entries: Sequence[Entry],
    source: Source,
    indices: Sequence[Any] | str | Path | None,
) -> None:
    keys = [e["key"] for e in entries if e["type"] == "LogicLayer"]
    if not keys:
        raise LiftError(f"{source.label}: has no tensor '<i>.weights', as difflogic names them")
    if indices is None:
        raise LiftError(f"{source.label}: {_NO_WIRING}")
    pairs: Any = read_checkpoint(Path(indices)) if isinstance(indices, str | Path) else indices
    if not isinstance(pairs, Sequence) or len(pairs) != len(keys):
        count = len(pairs) if isinstance(pairs, Sequence) else f"a {type(pairs).__name__}"
        raise LiftError(
            f"{source.label}: indices hold {count}, the network has {len(keys)} LogicLayers "
            f"({', '.join(keys)}); give one pair (a, b) per layer"
        )
    for key, pair in zip(keys, pairs, strict=True):
        state[f"{key}.indices"] = _pair(pair, f"{source.label}: indices of layer {key!r}")


def _pair(pair: Any, where: str) -> Wiring:
    """Return (out, 2) input numbers from a pair of integer vectors of equal length."""
    if pair is None:
        raise LiftError(f"{where}: has no indices")
    try:
        a, b = (np.asarray(array_of(x)) for x in pair)
    except (TypeError, ValueError) as error:
        raise LiftError(f"{where}: not a pair (a, b) of integer vectors") from error
    if a.shape != b.shape or a.ndim != 1 or a.dtype.kind not in "iu" or b.dtype.kind not in "iu":
        raise LiftError(
            f"{where}: a is {a.dtype}{list(a.shape)}, b is {b.dtype}{list(b.shape)}; expected two "
            "integer vectors, one entry per gate"
        )
    return np.stack([a, b], axis=1)


def _logic_layer(stack: LayerStack, layer: LayerEntry) -> None:
    check_inputs(stack, layer)
    weights = layer.tensor("weights", "f", (None, None))
    if weights.shape[1] == 4:
        raise LiftError(
            f"{layer.where}: has four weights per gate, as the input-wise layers of "
            "difflogic-iwp, whose activation decides; give lgir.frontend.from_arrays the truth "
            "tables, such as Dense(indices=..., truth=weights > 0) for the sigmoid"
        )
    indices = layer.tensor("indices", "i", (None, 2))
    stack.dense(indices, raw_tables(weights, layer.where), layer.where)


def _width(entries: Sequence[Entry], state: Mapping[str, Any]) -> int:
    """Return the width of the first layer, or its highest wire plus one if the width is unknown."""
    first = next(e for e in entries if e["type"] == "LogicLayer")
    key = f"{first['key']}.indices" if first["key"] else "indices"
    return int(first.get("in_dim") or state[key].max() + 1)
