"""The `torch-dwn` frontend: differentiable weightless networks (Bacellar et al., ICML 2024).

A LUTLayer holds `mapping` (out, n) int32, or `mapping.weights` (in, out*n) whose columns choose by
argmax, and `luts` (out, 2**n). A bit is True if its entry is positive. The first input is the least
significant bit of the number of the entry.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from lgir.errors import LiftError, shown
from lgir.frontend.core.architecture import Description, file_layers
from lgir.frontend.core.checkpoint import Source, array_of
from lgir.frontend.core.decode import check_finite, pack_tables
from lgir.frontend.core.draft import ArchitectureDraft
from lgir.frontend.core.layerwise import (
    Entry,
    LayerEntry,
    check_inputs,
    entry_of,
    lift_layers,
    walk,
)
from lgir.frontend.core.lifting import Frontend
from lgir.frontend.core.stack import Indices, LayerStack
from lgir.ir.graph import Graph
from lgir.ir.truth_tables import MAX_FANIN
from lgir.registry import register_frontend


@register_frontend("torch-dwn")
class TorchDwnFrontend(Frontend):
    """Lift LUTLayer and GroupSum of torch-dwn."""

    def recognize(self, source: Source) -> bool:
        if source.module is not None:
            return any(type(m).__name__ == "LUTLayer" for m in source.module.modules())
        return any(k.endswith(".luts") for k in source.state)

    def lift(
        self,
        source: Source,
        *,
        architecture: Description | None = None,
        input_shape: Sequence[int] | int | None = None,
        groups: int | None = None,
        tau: float | None = None,
        name: str = "model",
    ) -> Graph:
        """Build the graph of a weightless network.

        Args:
            source: a module, or a state_dict of LUTLayers in order.
            architecture: the layers in order; the next three options can replace it.
            input_shape: shape of one sample; None takes the width or the highest wire of the first
                layer.
            groups: classes of the final GroupSum, which a state_dict lacks; None outputs bits.
            tau: divisor of the GroupSum, 1 if None.
            name: name of the graph.
        """
        if source.module is not None:
            state = dict(source.state)
            layers = walk(source.module, source.label, _HANDLERS)
            entries = [_entry(*layer, state) for layer in layers]
        else:
            network, state = file_layers(
                source, "LUTLayer", "luts", architecture, input_shape, groups, tau
            )
            entries, input_shape = network.layers, network.input_shape
        return lift_layers(
            source,
            entries,
            state,
            _HANDLERS,
            framework="torch-dwn",
            name=name,
            shape=_width(entries, state, source.label) if input_shape is None else input_shape,
        )


def describe_layer(
    draft: ArchitectureDraft, key: str, tensors: Mapping[str, Any], state: Mapping[str, Any]
) -> None:
    """Add a layer of torch-dwn to a draft."""
    draft.add_dense("LUTLayer", key, len(tensors["luts"]))


def _entry(key: str, kind: str, module: Any, state: dict[str, Any]) -> Entry:
    entry = entry_of(key, kind, module, ("input_size", "ste"))
    order = getattr(module, "randperm", None)
    if entry["type"] == "GroupSum" and order is not None:
        state[f"{key}.randperm"] = array_of(order)
    return entry


def _width(entries: Sequence[Entry], state: Mapping[str, Any], label: str) -> int:
    first = next((e for e in entries if e["type"] == "LUTLayer"), None)
    if first is None:
        raise LiftError(f"{label}: has no LUTLayer")
    layer = LayerEntry(label, first, state)
    if layer.has("mapping.weights"):
        return len(layer.tensor("mapping.weights", "f", (None, None)))
    known = first.get("input_size")
    return int(known or layer.tensor("mapping", "i", (None, None)).max() + 1)


def _mapping(layer: LayerEntry, gates: int, inputs: int) -> Indices:
    if not layer.has("mapping.weights"):
        return layer.tensor("mapping", "i", (gates, inputs))
    weights = layer.tensor("mapping.weights", "f", (None, gates * inputs))
    check_finite(weights, layer.name("mapping.weights"))
    chosen: Indices = weights.argmax(axis=0).reshape(gates, inputs)
    return chosen


def _lut_layer(stack: LayerStack, layer: LayerEntry) -> None:
    check_inputs(stack, layer, "input_size")
    luts = layer.tensor("luts", "f", (None, None))
    inputs = luts.shape[1].bit_length() - 1
    if luts.shape[1] != 1 << inputs or not 1 <= inputs <= MAX_FANIN:
        raise LiftError(
            f"{layer.where}: {layer.name('luts')} has {luts.shape[1]} entries per table; 2 to "
            f"{1 << MAX_FANIN}, a power of two, can be lifted"
        )
    if not layer.get("ste", True):
        raise LiftError(f"{layer.where}: ste=False gives real numbers, which are not bits")
    check_finite(luts, layer.name("luts"))
    mapping = _mapping(layer, len(luts), inputs)
    # The last column becomes the first, most significant input.
    stack.dense(mapping[:, ::-1], pack_tables(luts > 0), layer.where)


def _group_sum(stack: LayerStack, layer: LayerEntry) -> None:
    """Lift a GroupSum that may shuffle its inputs and pads them with zeros to equal groups."""
    k, size = layer.integer("k"), stack.value.size
    order = np.arange(size)
    if layer.has("randperm"):
        order = layer.tensor("randperm", "i", (size,))
    if not 0 < k <= size:
        raise LiftError(f"{layer.where}: k={shown(k)} classes of {size} bits")
    missing = -size % k
    if layer.has("randperm") or missing:
        stack.select(np.concatenate([order, np.full(missing, -1)]), layer.where)
    stack.group_sum(k, layer.number("tau", 1.0), 0.0, layer.where)


_HANDLERS: Final = {"LUTLayer": _lut_layer, "GroupSum": _group_sum}
