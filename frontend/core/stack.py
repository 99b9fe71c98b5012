"""LayerStack: build a graph layer by layer, in the order of a feed-forward model.

All frontends share it. It turns wiring and truth tables into bodies, inserts the reshapes that
frameworks leave implicit, names the nodes, and reports a layer that does not fit by its name.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
import numpy.typing as npt

from lgir.errors import LiftError, shown
from lgir.frontend.core.arguments import check_elements, sample_shape, whole_numbers
from lgir.frontend.core.decode import Tables
from lgir.ir.body import Body
from lgir.ir.builder import GraphBuilder, dense_body, tree_body
from lgir.ir.graph import Graph
from lgir.ir.nodes import Node, Threshold
from lgir.ir.types import FALSE, FIRST_TAP, TRUE, Shape, Value

Indices = npt.NDArray[np.integer]

_INPUT_NAMES: Final = {"bit": "x", "u8": "image", "f32": "x"}


class LayerStack:
    """A chain of layers over one input.

    Each method that adds a layer takes `where`, the name of the layer in errors, and raises
    LiftError if the layer does not fit the output of the layer before it.

    Attributes:
        value: the output of the last layer, or the input of the graph. It has at most
            `MOST_ELEMENTS` elements per sample.
    """

    def __init__(
        self,
        name: str,
        shape: Sequence[int] | int,
        dtype: str = "bit",
        metadata: Mapping[str, str] | None = None,
        *,
        flattens: bool = False,
    ) -> None:
        """Begin with the input of a graph.

        Args:
            name: name of the graph.
            shape: shape of one sample.
            dtype: "bit", "u8" or "f32".
            metadata: notes that the graph keeps.
            flattens: whether a layer on a flat input may follow one with axes; the forward of a
                module may flatten by a function, which leaves no layer.
        """
        if dtype not in tuple(_INPUT_NAMES):  # a tuple, since `dtype` may be unhashable
            names = ", ".join(_INPUT_NAMES)
            raise LiftError(f"input_dtype {shown(dtype)} is not one of {names}")
        self._builder = GraphBuilder(name, metadata)
        self._flattens = flattens
        self.value = self._builder.input(_INPUT_NAMES[dtype], dtype, sample_shape(shape))
        self._counts: dict[str, int] = {}

    @property
    def value(self) -> Value:
        return self._value

    @value.setter
    def value(self, value: Value) -> None:
        check_elements(value.size, value.name)
        self._value = value

    def _name(self, kind: str) -> str:
        self._counts[kind] = self._counts.get(kind, 0) + 1
        return f"{kind}{self._counts[kind]}"

    def threshold(self, levels: npt.ArrayLike, where: str) -> None:
        """Compare numbers with `levels`, (L,) or (C, L); the bits are feature-major."""
        if self.value.dtype == "bit":
            raise LiftError(
                f"{where}: thresholds read numbers, and the layer before gives {self.value.type}; "
                "a model that starts with thresholds has input dtype u8 or f32"
            )
        self.value = self._builder.threshold(self.value, levels, "bits")

    def dense(self, indices: Indices, table: Tables, where: str) -> None:
        """Add N gates on a flat input: input numbers `indices` (N, k) and truth tables (N,)."""
        if indices.ndim != 2 or len(indices) != len(table):
            raise LiftError(
                f"{where}: {len(table)} gates, but wiring of shape {indices.shape}; expected one "
                "row of input numbers per gate"
            )
        self._check_flat(where)
        self.check_range(indices, self.value.size, "input", where)
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
        """Add a convolution whose kernels are trees of gates, over any number of axes.

        Args:
            leaves: (kernels, fanin**depth, 1 + rank) rows (channel, offsets within the window).
            table: (kernels, gates) truth tables, level by level from the leaves.
            window, stride, padding: one number per axis.
            fanin: inputs of each gate.
            where: name of the layer in errors.
        """
        space = self._space(window, stride, padding, where)
        taps = leaves.astype(np.int64)
        taps[..., 1:] -= np.asarray(padding)
        self.trees(taps, table, space, stride, fanin=fanin, where=where)

    def trees(
        self,
        taps: Indices,
        table: Tables,
        space: Shape,
        stride: Shape,
        *,
        fanin: int = 2,
        where: str,
    ) -> None:
        """Add trees at given positions; the offsets of `taps` count from position times stride."""
        self.check_range(taps[..., 0], self.value.shape[0], "channel", where)
        rows = np.concatenate([np.zeros_like(taps[..., :1]), taps], axis=-1)
        body = tree_body(rows, table, fanin)
        self.value = self._builder.logic([self.value], body, space, stride, name=self._name("conv"))

    def unrolled(
        self, index: Indices, table: Tables, space: Shape, *, fanin: int = 2, where: str
    ) -> None:
        """Add trees whose leaves differ from position to position, as one flat layer.

        Args:
            index: (kernels, positions, fanin**depth) element numbers of the input; -1 is False.
            table: (kernels, gates) truth tables as in `conv`.
            space: shape of the positions; the output has shape (kernels, *space).
            fanin: inputs of each gate.
            where: name of the layer in errors.
        """
        kernels, positions, width = index.shape
        self.flatten()
        inputs = self.value.size
        self.check_range(np.maximum(index, 0), inputs, "input", where)
        trees = tree_body(
            np.zeros((kernels * positions, width, 2), np.int64),
            np.repeat(table, positions, axis=0),
            fanin,
        )
        # Replace the taps of the trees by taps of the input, each read once, or by False.
        channels = np.arange(inputs)
        taps = np.stack([np.zeros_like(channels), channels], axis=1)
        read = np.where(index.ravel() < 0, FALSE, FIRST_TAP + index.ravel())
        gates = FIRST_TAP + inputs + np.arange(trees.num_gates)
        net = np.concatenate([[FALSE, TRUE], read, gates])
        body = Body.build(taps, net[trees.fanin], trees.table, net[trees.outputs])
        self.value = self._builder.logic([self.value], body, name=self._name("conv"))
        self.reshape((kernels, *space))

    def select(self, index: Indices, where: str) -> None:
        """Reorder the bits of a flat input: `index` holds their numbers, -1 for False."""
        self._check_flat(where)
        self.check_range(np.maximum(index, 0)[:, None], self.value.size, "input", where)
        channels = np.arange(self.value.size)
        taps = np.stack([np.zeros_like(channels), channels], axis=1)
        outputs = np.where(index < 0, FALSE, FIRST_TAP + index)
        body = Body.build(taps, np.zeros((0, 1)), np.zeros(0, np.uint8), outputs)
        self.value = self._builder.logic([self.value], body, name=self._name("select"))

    def or_pool(self, kernel: Shape, stride: Shape, padding: Shape, where: str) -> None:
        """Add a logical OR over windows; cells outside the input are False."""
        self._space(kernel, stride, padding, where)
        self.value = self._builder.or_pool(
            self.value, kernel, stride, padding, name=self._name("pool")
        )

    def flatten(self) -> None:
        """Reshape the value to one axis, in row-major order."""
        self.value = self._builder.flatten(self.value)

    def reshape(self, shape: Shape) -> None:
        """Give the value another shape with as many elements."""
        self.value = self._builder.reshape(self.value, shape)

    def group_sum(self, groups: int, tau: float, beta: float, where: str) -> None:
        """Add class scores (count + beta) / tau over contiguous groups of a flat input."""
        self._check_flat(where)
        self.value = self._builder.group_sum(self.value, groups, tau, beta, name="score")

    def build(self) -> Graph:
        """Return the graph whose output is the last layer's."""
        return self._builder.build(self.value)

    def check_range(self, index: Indices, limit: int, what: str, where: str) -> None:
        """Raise LiftError if an index is outside 0 <= index < limit; `what` is what it counts."""
        outside = (index < 0) | (index >= limit)
        if outside.any():
            first = np.argwhere(outside)[0]
            raise LiftError(
                f"{where}: gate {int(first[0])} is wired to {what} {int(index[tuple(first)])}; the "
                f"layer before gives {self.value.type}: {what}s 0..{limit - 1}"
            )

    def _check_flat(self, where: str) -> None:
        if self._flattens:
            self.flatten()
        if len(self.value.shape) != 1:
            raise LiftError(
                f"{where}: reads a flat input, and the layer before gives {self.value.type}; a "
                "Flatten is missing between them"
            )

    def _space(self, window: Shape, stride: Shape, padding: Shape, where: str) -> Shape:
        axes = self.value.shape[1:]
        sizes = (whole_numbers(numbers, where) for numbers in (window, stride, padding))
        window, stride, padding = sizes
        if len(axes) != len(window) or len(axes) != len(stride) or len(axes) != len(padding):
            raise LiftError(
                f"{where}: windows of {len(window)} axes over {self.value.type}; check input_shape"
            )
        space = tuple(
            (size + 2 * p - w) // max(s, 1) + 1
            for size, w, s, p in zip(axes, window, stride, padding, strict=True)
        )
        check_elements(math.prod(window) * self.value.shape[0], where)
        check_elements(math.prod(space), where)
        if min(space) < 1:
            raise LiftError(
                f"{where}: a window of {list(window)} does not fit {self.value.type} with padding "
                f"{list(padding)}; check input_shape"
            )
        return space


def with_thresholds(graph: Graph, thresholds: npt.ArrayLike, dtype: str = "u8") -> Graph:
    """Put thresholds before a graph of bits, so that it takes numbers of `dtype`.

    Args:
        graph: a graph with one input, bit[C*L, ...], which becomes [C, ...].
        thresholds: (L,) for all channels, or (C, L).
        dtype: "u8" or "f32".

    Raises:
        LiftError: the bits do not split into channels and thresholds, or the graph takes numbers.
    """
    if len(graph.inputs) != 1 or graph.inputs[0].dtype != "bit":
        raise LiftError("thresholds go before bits, and this model takes numbers already")
    if dtype not in ("u8", "f32"):
        raise LiftError(f"input_dtype is u8 or f32 if thresholds are given, not {shown(dtype)}")
    try:
        levels = np.atleast_1d(np.asarray(thresholds, np.float32))
    except (ArithmeticError, RecursionError, TypeError, ValueError):
        raise LiftError(
            f"thresholds are numbers, (L,) or (C, L), not {shown(thresholds)}"
        ) from None
    if levels.size == 0:
        raise LiftError("thresholds are empty; leave them out if the model takes bits")
    (bits,) = graph.inputs
    channels, rest = divmod(bits.shape[0], levels.shape[-1])
    if rest or levels.ndim > 2 or (levels.ndim == 2 and len(levels) != channels):
        raise LiftError(
            f"{levels.shape} thresholds do not divide the {bits.shape[0]} channels of {bits.type}; "
            "give (L,) or (C, L) with C*L channels"
        )
    name = next(n for n in ("image", "sample", "samples") if n not in graph.values)
    threshold = Node(Threshold(levels), (name,), bits.name)
    numbers = Value(name, dtype, (channels, *bits.shape[1:]))
    return replace(graph, inputs=(numbers,), nodes=(threshold, *graph.nodes))
