"""The `convlogic` frontend (lkorinek/convlogic): its modules and Lightning checkpoints.

A ConvLogicLayer holds `selection` (C, 8), with each leaf packed as channel<<16 | row<<8 | column,
and `weights`: (C, 7, 16) for a complete tree with its 2x2 pool, or (C, 4, 16) for the first level
alone. A LogicLayer holds its wiring in `indices_0` and `indices_1`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from lgir.errors import LiftError
from lgir.frontend.core.architecture import Description, file_layers
from lgir.frontend.core.checkpoint import Source
from lgir.frontend.core.decode import raw_tables
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
from lgir.frontend.core.stack import LayerStack
from lgir.ir.graph import Graph
from lgir.registry import register_frontend

_NO_SIZES: Final = (
    "a convlogic checkpoint does not hold kernel, stride and padding of its ConvLogicLayers, nor "
    "GroupSum; pass architecture=[...] (lgir.frontend.describe drafts it) and input_shape"
)


@register_frontend("convlogic")
class ConvlogicFrontend(Frontend):
    """Lift ConvLogicLayer, TreeLogicLayer, PoolLogicLayer, LogicLayer, GroupSum and Flatten."""

    def recognize(self, source: Source) -> bool:
        if source.module is not None:
            return any(
                type(m).__name__ == "ConvLogicLayer" or hasattr(m, "indices_0")
                for m in source.module.modules()
            )
        return any(k.endswith((".selection", ".indices_0")) for k in source.state)

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
        """Build the graph of a convlogic network.

        Args:
            source: a module, a state_dict, or a .ckpt file with one.
            architecture: the facts that a state_dict lacks; a dense network needs only `groups` and
                `tau`.
            input_shape: (channels, height, width), needed before a convolution.
            groups: classes of the final GroupSum if no architecture is given; None outputs bits.
            tau: divisor of the GroupSum, 1 if None.
            name: name of the graph.
        """
        if source.module is not None:
            state = dict(source.state)
            layers = walk(source.module, source.label, _HANDLERS)
            entries = [entry_of(*layer, _ARGUMENTS) for layer in layers]
        else:
            if architecture is None and any(k.endswith(".selection") for k in source.state):
                raise LiftError(f"{source.label}: {_NO_SIZES}")
            network, state = file_layers(
                source, "LogicLayer", "indices_0", architecture, input_shape, groups, tau
            )
            entries, input_shape = network.layers, network.input_shape
        _check_bits(entries, source.label)
        return lift_layers(
            source,
            entries,
            state,
            _HANDLERS,
            framework="convlogic",
            name=name,
            shape=_width(entries, state, source.label) if input_shape is None else input_shape,
        )


def describe_layer(
    draft: ArchitectureDraft, key: str, tensors: Mapping[str, Any], state: Mapping[str, Any]
) -> None:
    """Add a layer of convlogic to a draft."""
    if "selection" in tensors:
        _describe_conv(draft, key, tensors["selection"], tensors["weights"])
    elif "indices_0" in tensors:
        wires = [state[f"{key}.indices_{i}" if key else f"indices_{i}"] for i in range(2)]
        known = draft.before_dense(key, int(max(w.max() for w in wires)) + 1)
        draft.add_dense("LogicLayer", key, len(tensors["weights"]), **known)
    else:
        draft.add("TreeLogicLayer", key, draft.shape)


def _describe_conv(draft: ArchitectureDraft, key: str, selection: Any, weights: Any) -> None:
    window = (int((selection >> 8 & 0xFF).max()) + 1, int((selection & 0xFF).max()) + 1)
    padding = [1 if n == 3 else 0 for n in window]
    complete = weights.shape[1] == 7
    draft.check.append(
        f"layer {key!r}: stride 1 and padding {padding} are guesses; the window is the smallest "
        "that holds its leaves"
    )
    sizes = zip(draft.shape[1:], padding, window, strict=False)
    space = [n + 2 * p - w + 1 for n, p, w in sizes]
    pooled = [n // 2 for n in space] if complete else space
    shape = (len(selection), *pooled) if len(pooled) == 2 else ()
    draft.add(
        "ConvLogicLayer",
        key,
        shape,
        kernel=list(window),
        stride=[1, 1],
        padding=padding,
        complete=complete,
    )


def _check_bits(entries: Sequence[Entry], label: str) -> None:
    """Raise LiftError unless TreeLogicLayers join the 4 bits per channel of a first-level layer."""
    bits = 1
    for entry in entries:
        if entry["type"] == "TreeLogicLayer":
            bits //= 2
        elif bits != 1:
            raise LiftError(
                f"{label}: {entry['type']} {entry['key']!r} reads {bits} bits per channel; "
                "TreeLogicLayers must come before it"
            )
        if entry["type"] == "ConvLogicLayer" and not entry.get("complete", False):
            bits = 4


def _width(entries: Sequence[Entry], state: Mapping[str, Any], label: str) -> int:
    first = next((e for e in entries if e["type"] in _HANDLERS), None)
    if first is None or first["type"] != "LogicLayer":
        raise LiftError(f"{label}: input_shape=(channels, height, width) is needed")
    layer = LayerEntry(label, first, state)
    wires = [layer.tensor(f"indices_{i}", "i", (None,)) for i in range(2)]
    return int(first.get("in_dim") or np.max(wires) + 1)


def _conv(stack: LayerStack, layer: LayerEntry) -> None:
    selection = layer.tensor("selection", "i", (None, 8))
    gates = 7 if layer.get("complete", False) else 4
    weights = layer.tensor("weights", "f", (len(selection), gates, 16))
    table = raw_tables(weights, layer.name("weights"))
    leaves = np.stack([selection >> 16 & 0xFFFF, selection >> 8 & 0xFF, selection & 0xFF], axis=-1)
    kernel = layer.integers("kernel", 2, 3)
    if (leaves[..., 1:] >= kernel).any():
        raise LiftError(
            f"{layer.where}: its leaves reach cell {leaves[..., 1:].max(axis=(0, 1)).tolist()}, "
            f"outside kernel={list(kernel)}; check the architecture"
        )
    if gates == 4:  # four gates per channel, side by side
        leaves, table = leaves.reshape(-1, 2, 3), table.reshape(-1, 1)
    stack.conv(
        leaves,
        table,
        window=kernel,
        stride=layer.integers("stride", 2, 1),
        padding=layer.integers("padding", 2, 1),
        where=layer.where,
    )
    if gates == 7:
        stack.or_pool((2, 2), (2, 2), (0, 0), layer.where)


def _tree(stack: LayerStack, layer: LayerEntry) -> None:
    weights = layer.tensor("weights", "f", (None, None, 16))
    table = raw_tables(weights, layer.name("weights")).reshape(-1, 1)
    leaves = np.zeros((len(table), 2, 3), np.int64)
    leaves[..., 0] = np.arange(2 * len(table)).reshape(-1, 2)
    stack.conv(leaves, table, window=(1, 1), stride=(1, 1), padding=(0, 0), where=layer.where)


def _pool(stack: LayerStack, layer: LayerEntry) -> None:
    kernel, stride = layer.integers("kernel", 2, 2), layer.integers("stride", 2, 2)
    stack.or_pool(kernel, stride, (0, 0), layer.where)


def _dense(stack: LayerStack, layer: LayerEntry) -> None:
    check_inputs(stack, layer)
    weights = layer.tensor("weights", "f", (None, 16))
    wires = [layer.tensor(f"indices_{i}", "i", (len(weights),)) for i in range(2)]
    stack.dense(np.stack(wires, axis=1), raw_tables(weights, layer.name("weights")), layer.where)


_ARGUMENTS: Final = ("in_dim", "kernel", "stride", "padding", "complete")
_HANDLERS: Final = {
    "ConvLogicLayer": _conv,
    "TreeLogicLayer": _tree,
    "PoolLogicLayer": _pool,
    "LogicLayer": _dense,
}
