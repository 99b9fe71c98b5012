"""ArchitectureDraft: the description of a state_dict's layers, as far as its tensors tell it.

Keys and shapes tell most of a network. Wiring tells windows and strides and, together with the
size of the value before a layer, padding and pools. A fact that nothing tells is None, and is
listed under `check`, as is every guess.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, Final

from lgir.frontend.core.layerwise import Entry, is_number

_MOST_PADDING: Final = 64
"""Paddings of windows that are tried; wiring may reach any number of cells."""

Pool = tuple[int, int, int]
"""Kernel size, stride and padding of an OR pool."""

_POOLS: Final[tuple[Pool, ...]] = (
    (2, 2, 0), (2, 2, 1), (3, 2, 1), (3, 2, 0), (3, 3, 0), (4, 4, 0), (2, 1, 0), (3, 1, 1),
)  # fmt: skip
"""Pools that are tried between two layers, the commonest first."""


class ArchitectureDraft:
    """The layers that are described so far.

    Attributes:
        layers: their entries.
        check: sentences that say what was guessed and what is missing.
        input_shape: shape of one sample; None if it is unknown.
        shape: shape of the last layer's output; () if it is unknown.
    """

    def __init__(self, input_shape: tuple[int, ...] | None) -> None:
        self.input_shape = input_shape
        self.layers: list[Entry] = []
        self.check: list[str] = []
        self.shape: tuple[int, ...] = input_shape or ()
        # Number of modules without tensors since the last layer; None if it is unknown.
        self._gap: int | None = 0
        # A binarization whose feature_dim the next layer decides, and its bits per number.
        self._open_binarization: tuple[Entry, int] | None = None

    def bridge(self, key: str) -> None:
        """Count the nn.Sequential numbers between the last layer with tensors and this one."""
        parent, _, number = key.rpartition(".")
        last = self.layers[-1]["key"] if self.layers else f"{parent}.-1".lstrip(".")
        before = last.rpartition(".")
        known = is_number(number) and is_number(before[2].lstrip("-")) and before[0] == parent
        self._gap = max(0, int(number) - int(before[2]) - 1) if known else None

    def add(self, kind: str, key: str, shape: Sequence[int], **arguments: Any) -> None:
        """Add a layer whose output has this shape, () if it is unknown."""
        self.layers.append({"type": kind, "key": key, **arguments})
        self.shape = tuple(int(n) for n in shape)

    def add_dense(self, kind: str, key: str, gates: int, **arguments: Any) -> None:
        """Add a layer of gates on a flat input."""
        self.add(kind, key, (gates,), out_dim=int(gates), **arguments)

    def add_binarization(self, kind: str, key: str, bits: int, **arguments: Any) -> None:
        """Add thresholds that make `bits` bits of each number; the next layer tells their order."""
        shape = self.shape
        self.add(kind, key, (), feature_dim=None, **arguments)
        self.shape = shape
        self._open_binarization = (self.layers[-1], bits)

    def before_conv(
        self,
        key: str,
        channels: int,
        space: tuple[int, ...],
        stride: tuple[int, ...],
        reach: tuple[int, ...],
    ) -> tuple[tuple[int, ...], int | None]:
        """Return the window and the padding of a convolution, and add a pool before it if needed.

        Args:
            key: the key of the convolution.
            channels: the highest channel that it reads, plus one.
            space: number of positions per axis.
            stride: stride per axis.
            reach: number of cells per axis that it reads from each position on.
        """
        bits = self._close_binarization(1)
        if not self.shape:
            if self.input_shape is None and len(self.layers) == (bits > 1):
                size = tuple((n - 1) * s + w for n, s, w in zip(space, stride, reach, strict=True))
                self.input_shape = (channels // bits, *size)
                self.check.append(
                    f"input shape {list(self.input_shape)}: assumes that layer {key!r} does not pad"
                )
                return reach, 0
            self.check.append(f"layer {key!r}: padding is not known; give input_shape to describe")
            return reach, None
        fits = [
            (window, padding, pool)
            for pool in self._possible_pools(len(space))
            for window, padding in _windows(_pooled(self.shape, pool)[1:], space, stride, reach)
        ]
        if fits:
            window, padding, pool = min(fits, key=lambda fit: (fit[0], fit[1]))
            self._add_pool(key, pool)
            self.check.append(
                f"layer {key!r}: window {list(window)} and padding {padding} fit an input of "
                f"{list(self.shape[1:])}"
            )
            return window, padding
        self.check.append(
            f"layer {key!r}: no padding makes {list(space)} positions of {list(self.shape[1:])}; "
            "what is before it, such as a pool, must be added"
        )
        return reach, None

    def before_dense(self, key: str, inputs: int) -> Entry:
        """Return what is known of a dense layer's width, and add what must be before the layer.

        `inputs` is the highest input that the layer reads plus one, or 0 if its wiring is not at
        hand.
        """
        images = len(self.shape) > 1
        self._close_binarization(None if images or (not self.shape and self._gap != 0) else -2)
        if not images:
            if not self.shape and self._gap and inputs:
                self.add("Flatten", "", ())
            if self.shape or not inputs or any("in_dim" in layer for layer in self.layers):
                return {}
            self.check.append(f"layer {key!r}: in_dim {inputs} is its highest wire plus one")
            return {"in_dim": inputs}
        known: Entry = {}
        for pool in self._possible_pools(len(self.shape) - 1, others=1):  # the Flatten
            if inputs and math.prod(_pooled(self.shape, pool)) == inputs:
                self._add_pool(key, pool)
                known = {"in_dim": inputs}
                break
        else:
            if inputs:
                known = {"in_dim": None}
                self.check.append(
                    f"layer {key!r}: reads {inputs} inputs or more, and {list(self.shape)} is "
                    "before it; in_dim, or what is missing between them, such as a pool"
                )
        self.add("Flatten", "", (math.prod(self.shape),))
        return known

    def finish(self, unsaved: Entry) -> None:
        """Add the Flatten and the GroupSum at the end; `unsaved` are further arguments of it."""
        self._close_binarization(None)
        if len(self.shape) > 1:
            last = self.layers[-1]["key"]
            self.check.append(
                f"after layer {last!r}: a pool would leave no trace; add it if missing"
            )
            self.add("Flatten", "", (math.prod(self.shape),))
        self.add("GroupSum", str(len(self.layers)), (), k=None, tau=None, **unsaved)
        names = ", ".join(["k classes", "tau", *unsaved])
        self.check.append(f"GroupSum: {names} are not saved; take it out if there is none")
        parents = {layer["key"].rpartition(".")[0] for layer in self.layers if layer["key"]}
        if len(parents) > 2:  # that of the GroupSum is ""
            self.check.append("the order of layers is the file's, and safetensors sorts names")

    def _close_binarization(self, feature_dim: int | None) -> int:
        """Set the feature_dim of an open binarization; return its bits per number, 1 if none."""
        if self._open_binarization is None:
            return 1
        (entry, bits), self._open_binarization = self._open_binarization, None
        entry["feature_dim"] = feature_dim
        if feature_dim is None:
            self.check.append(
                f"layer {entry['key']!r}: feature_dim orders the bits: 1 by channels, -2 (its "
                "default) by elements"
            )
        if self.shape:
            self.shape = (self.shape[0] * bits, *self.shape[1:])
        return bits

    def _possible_pools(self, axes: int, others: int = 0) -> list[Pool | None]:
        """Return the pools that may be in the gap before this layer, and None for no pool.

        `others` is the number of other modules that must be in the gap.
        """
        before = self.layers[-1]["type"] if self.layers else ""
        gates = before.startswith(("LogicConv", "ConvLogic", "TreeLogic"))
        if not gates or axes < 2 or (self._gap is not None and self._gap <= others):
            return [None]
        return [*_POOLS, None]

    def _add_pool(self, key: str, pool: Pool | None) -> None:
        if pool is None:
            return
        kernel, stride, padding = pool
        self.check.append(
            f"before layer {key!r}: an OR pool of {kernel} with stride {stride} and padding "
            f"{padding} is a guess"
        )
        arguments = {"kernel_size": kernel, "stride": stride, "padding": padding}
        shape = _pooled(self.shape, pool)
        self.add(f"OrPooling{len(shape) - 1}d", "", shape, **arguments)


def _pooled(shape: tuple[int, ...], pool: Pool | None) -> tuple[int, ...]:
    """Return the shape of a value (channels, *axes) behind a pool."""
    if pool is None:
        return shape
    kernel, stride, padding = pool
    return (shape[0], *((n + 2 * padding - kernel) // stride + 1 for n in shape[1:]))


def _windows(
    size: tuple[int, ...], space: tuple[int, ...], stride: tuple[int, ...], reach: tuple[int, ...]
) -> Iterator[tuple[tuple[int, ...], int]]:
    """Yield windows of at least `reach` cells, and paddings, that give `space` positions."""
    square = max(reach)
    for window in (reach, (square,) * len(reach), (square + 1,) * len(reach)):
        for padding in range(min(square, _MOST_PADDING)):
            if all(
                n + 2 * padding >= w and (n + 2 * padding - w) // s + 1 == count
                for n, w, s, count in zip(size, window, stride, space, strict=True)
            ):
                yield window, padding
