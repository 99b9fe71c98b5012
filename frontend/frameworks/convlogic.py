"""The `convlogic` frontend (lkorinek/convlogic): its modules and Lightning checkpoints.

A ConvLogicLayer keeps `selection` (C, 8), each leaf packed as channel<<16 | row<<8 | column, and
`weights` (C, 7, 16) for a complete tree with its 2x2 pool, or (C, 4, 16) for the first level alone;
a LogicLayer keeps its wiring in `indices_0` and `indices_1`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from lgir.errors import LiftError
from lgir.frontend.core.architecture import Description, complete
from lgir.frontend.core.checkpoint import Source
from lgir.frontend.core.decode import raw_tables
from lgir.frontend.core.layerwise import (
    Entry,
    Layer,
    check_inputs,
    entry_of,
    lift_layers,
    numbered,
    placed,
    unwrapped,
    walk,
)
from lgir.frontend.core.lifting import Frontend
from lgir.frontend.core.stack import Stack
from lgir.ir.graph import Graph
from lgir.registry import register_frontend

_NO_SIZES: Final = (
    "a convlogic checkpoint does not hold kernel, stride and padding of its ConvLogicLayers, nor "
    "GroupSum; pass architecture=[...] (lgir.frontend.describe drafts it) and input_shape"
)


@register_frontend("convlogic")
class ConvlogicFrontend(Frontend):
    """ConvLogicLayer, TreeLogicLayer, PoolLogicLayer, LogicLayer, GroupSum, Flatten."""

    def recognise(self, source: Source) -> bool:
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
        """The graph of a convlogic network.

        Args:
            source: a module, or a state_dict or .ckpt with one.
            architecture: what these leave out; a dense network needs just `groups` and `tau`.
            input_shape: (channels, height, width), needed before a convolution.
            groups: classes of the final GroupSum, where no architecture tells. None: bits out.
            tau: GroupSum's divisor, 1 where None.
            name: the graph's name.
        """
        if source.module is not None:
            state = dict(source.state)
            layers = walk(source.module, source.label, _HANDLERS)
            entries = [entry_of(*layer, _ARGUMENTS) for layer in layers]
        else:
            state = unwrapped(source.state)
            if architecture is None and any(k.endswith(".selection") for k in state):
                raise LiftError(f"{source.label}: {_NO_SIZES}")
            drafted = [{"type": "LogicLayer", "key": k} for k in numbered(state, "indices_0")]
            network = complete(architecture, drafted, input_shape, groups, tau)
            entries, input_shape = network.layers, network.input_shape
            state = placed(source.state, entries, source.label)
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


def _check_bits(entries: Sequence[Entry], label: str) -> None:
    """An incomplete convolution gives 4 bits a channel; TreeLogicLayers must join them first."""
    bits = 1
    for entry in entries:
        if entry["type"] == "TreeLogicLayer":
            bits //= 2
        elif bits != 1:
            raise LiftError(
                f"{label}: {entry['type']} {entry['key']!r} reads {bits} bits a channel; "
                "TreeLogicLayers must come before it"
            )
        if entry["type"] == "ConvLogicLayer" and not entry.get("complete", False):
            bits = 4


def _width(entries: Sequence[Entry], state: Mapping[str, Any], label: str) -> int:
    first = next((e for e in entries if e["type"] in _HANDLERS), None)
    if first is None or first["type"] != "LogicLayer":
        raise LiftError(f"{label}: input_shape=(channels, height, width) is needed")
    layer = Layer(label, first, state)
    wires = [layer.tensor(f"indices_{i}", "i", (None,)) for i in range(2)]
    return int(first.get("in_dim") or np.max(wires) + 1)


def _conv(stack: Stack, layer: Layer) -> None:
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
    if gates == 4:  # four gates a channel side by side
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


def _tree(stack: Stack, layer: Layer) -> None:
    weights = layer.tensor("weights", "f", (None, None, 16))
    table = raw_tables(weights, layer.name("weights")).reshape(-1, 1)
    leaves = np.zeros((len(table), 2, 3), np.int64)
    leaves[..., 0] = np.arange(2 * len(table)).reshape(-1, 2)
    stack.conv(leaves, table, window=(1, 1), stride=(1, 1), padding=(0, 0), where=layer.where)


def _pool(stack: Stack, layer: Layer) -> None:
    kernel, stride = layer.integers("kernel", 2, 2), layer.integers("stride", 2, 2)
    stack.or_pool(kernel, stride, (0, 0), layer.where)


def _dense(stack: Stack, layer: Layer) -> None:
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
