"""Stack: build a graph layer upon layer, as feed-forward models are written.

The helper all frontends share: it turns (indices, tables) into bodies, inserts the reshapes that
frameworks leave implicit, names the nodes, and reports a misfit with the layer's own name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lgir.builder import GraphBuilder, dense_body, tree_body
from lgir.errors import GraphError, LiftError
from lgir.frontend.decode import Tables
from lgir.graph import Graph, Shape

Indices = npt.NDArray[np.integer]

_INPUT_NAMES: Final = {"bit": "x", "u8": "image", "f32": "x"}


class Stack:
    """A chain of layers over one input; `value` is the last layer's output.

    `thresholds` (L,) or (C, L), where given, put a thermometer in front of a network that was
    trained on bits: the graph then takes numbers (u8 unless `dtype` says f32).
    """

    def __init__(
        self,
        name: str,
        shape: Sequence[int],
        *,
        dtype: str | None = None,
        thresholds: npt.ArrayLike | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        if not shape or any(int(n) != n or n < 1 for n in shape):
            raise LiftError(f"input_shape {tuple(shape)} must hold positive integers")
        dtype = dtype or ("bit" if thresholds is None else "u8")
        if dtype not in _INPUT_NAMES:
            raise LiftError(f"input dtype {dtype!r} is not one of {', '.join(_INPUT_NAMES)}")
        self._builder = GraphBuilder(name, metadata)
        self.value = self._builder.input(_INPUT_NAMES[dtype], dtype, tuple(map(int, shape)))
        self._counts: dict[str, int] = {}
        if thresholds is not None:
            self.threshold(np.atleast_1d(np.asarray(thresholds, np.float32)))

    def _name(self, kind: str) -> str:
        self._counts[kind] = self._counts.get(kind, 0) + 1
        return f"{kind}{self._counts[kind]}"

    def threshold(self, levels: npt.ArrayLike) -> None:
        """Thermometer bits, feature major."""
        if self.value.dtype == "bit":
            raise LiftError(
                f"thresholds apply to numbers, and the layer before gives {self.value.type}; a "
                "model that starts with thresholds has input dtype u8 or f32"
            )
        name = "bits" if "bits" not in self._counts else self._name("bits")
        self._counts.setdefault("bits", 1)
        self.value = self._builder.threshold(self.value, levels, name)

    def dense(self, indices: Indices, table: Tables, where: str) -> None:
        """Gates on a flat input: indices (N, k), table (N,). Flattens what comes before."""
        if indices.ndim != 2 or len(indices) != len(table):
            raise LiftError(
                f"{where}: {len(table)} gates, but wiring of shape {indices.shape}; expected one "
                "row of input numbers a gate"
            )
        self.flatten()
        self._check_range(indices, self.value.size, "input", where)
        body = dense_body(self.value.size, indices, table)
        self.value = self._builder.logic([self.value], body, name=self._name("dense"))

    def conv(
        self,
        leaves: Indices,
        table: Tables,
        *,
        window: Shape,
        stride: Shape,
        padding: Shape,
        fanin: int = 2,
        where: str,
    ) -> None:
        """Tree convolution, any number of axes.

        leaves (kernels, fanin**depth, 1 + rank) rows (channel, offsets within the window), table
        (kernels, gates) level by level from the leaves.
        """
        space = self._space(window, stride, padding, where)
        self._check_range(leaves[..., 0], self.value.shape[0], "channel", where)
        taps = np.zeros((*leaves.shape[:2], leaves.shape[2] + 1), np.int64)
        taps[..., 1:] = leaves
        taps[..., 2:] -= np.asarray(padding)
        body = tree_body(taps, table, fanin)
        self.value = self._builder.logic([self.value], body, space, stride, name=self._name("conv"))

    def or_pool(self, kernel: Shape, stride: Shape, padding: Shape, where: str) -> None:
        """Logical OR over windows, False outside."""
        self._space(kernel, stride, padding, where)
        self.value = self._builder.or_pool(
            self.value, kernel, stride, padding, name=self._name("pool")
        )

    def flatten(self) -> None:
        self.value = self._builder.flatten(self.value)

    def reshape(self, shape: Shape) -> None:
        self.value = self._builder.reshape(self.value, shape)

    def group_sum(self, groups: int, tau: float, beta: float, where: str) -> None:
        self.flatten()
        try:
            self.value = self._builder.group_sum(self.value, groups, tau, beta, name="score")
        except GraphError as error:
            raise LiftError(f"{where}: {error}") from error

    def build(self) -> Graph:
        return self._builder.build(self.value)

    def _space(self, window: Shape, stride: Shape, padding: Shape, where: str) -> Shape:
        axes = self.value.shape[1:]
        if len(axes) != len(window):
            raise LiftError(
                f"{where}: windows of {len(window)} axes over {self.value.type}; check input_shape"
            )
        space = tuple(
            (size + 2 * p - w) // s + 1
            for size, w, s, p in zip(axes, window, stride, padding, strict=True)
        )
        if min(space) < 1:
            raise LiftError(
                f"{where}: a window of {list(window)} does not fit {self.value.type} with padding "
                f"{list(padding)}; check input_shape"
            )
        return space

    def _check_range(self, index: Indices, limit: int, what: str, where: str) -> None:
        bad = (index < 0) | (index >= limit)
        if bad.any():
            at = np.argwhere(bad)[0]
            raise LiftError(
                f"{where}: gate {int(at[0])} is wired to {what} {int(index[tuple(at)])}; the "
                f"layer before gives {self.value.type}: {what}s 0..{limit - 1}"
            )


def plain_metadata(framework: str, notes: Mapping[str, Any]) -> dict[str, str]:
    """A graph's metadata: the framework it is from, and the checkpoint's own notes."""
    return {"source": framework, **{f"training.{k}": str(v) for k, v in notes.items()}}
