"""`from_arrays`: a graph from plain arrays, for models trained in JAX, numpy or anything else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lgir.errors import GraphError, LiftError, shown
from lgir.frontend.core.arguments import only_lgir_errors, whole_numbers
from lgir.frontend.core.decode import Tables, pack_tables, raw_tables
from lgir.frontend.core.stack import LayerStack, with_thresholds
from lgir.ir.graph import Graph
from lgir.ir.truth_tables import MAX_FANIN, OP_TABLES, operation_numbers


@dataclass(frozen=True, kw_only=True)
class Gates:
    """The functions of gates, given in one of four ways; G is (N,) or (kernels, gates).

    Attributes:
        ops: (*G) int, operation numbers 0..15 of difflogic, or names such as "xor", for two inputs;
            docs/design/ir.md has the table.
        logits: (*G, 16) float; the largest chooses the operation, and the first one wins a tie.
        truth: (*G, 2**k) bool, entry i = f(i).
        tables: (*G) unsigned, bit i = f(i).
        first_input: the order of inputs in i, for `truth` and `tables`: "most" if the first input
            is the most significant, as in lgir and difflogic, or "least", as in weightless
            networks.
    """

    ops: npt.ArrayLike | None = None
    logits: npt.ArrayLike | None = None
    truth: npt.ArrayLike | None = None
    tables: npt.ArrayLike | None = None
    first_input: str = "most"


@dataclass(frozen=True, kw_only=True)
class Dense(Gates):
    """N gates on a flat input: `indices` (N, k) are input numbers."""

    indices: npt.ArrayLike


@dataclass(frozen=True, kw_only=True)
class TreeConv(Gates):
    """Kernels that are complete trees of k-input gates over cells of a window.

    `leaves` (kernels, k**depth, 1 + axes) are rows (channel, offsets within the window). Gates are
    given as (kernels, gates), level by level from the leaves; gate j of a level reads nets j*k to
    j*k + k-1 of the level below.
    """

    leaves: npt.ArrayLike
    window: tuple[int, ...]
    stride: tuple[int, ...] | None = None
    padding: tuple[int, ...] | None = None
    fanin: int = 2


@dataclass(frozen=True)
class OrPool:
    """A logical OR over windows; a stride of None is the size of the window."""

    window: tuple[int, ...]
    stride: tuple[int, ...] | None = None
    padding: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Flatten:
    """A reshape to one axis in row-major order."""


ArrayLayer = Dense | TreeConv | OrPool | Flatten


def from_arrays(
    layers: Sequence[ArrayLayer],
    *,
    input_shape: Sequence[int] | int,
    groups: int | None = None,
    tau: float = 1.0,
    beta: float = 0.0,
    thresholds: npt.ArrayLike | None = None,
    threshold_dtype: str = "u8",
    name: str = "model",
    metadata: Mapping[str, str] | None = None,
) -> Graph:
    """Build a graph from arrays.

    >>> xor = Dense(indices=[[0, 1]], ops=["xor"])  # or [6]
    >>> graph = from_arrays([xor], input_shape=(2,))

    Args:
        layers: the layers in order.
        input_shape: shape of the bits of one sample: (N,) or N, or (channels, height, width).
        groups: classes of a final GroupSum, score = (count + beta) / tau; None outputs bits.
        tau, beta: numbers of the GroupSum.
        thresholds: (L,) or (C, L); the graph then takes numbers and computes the bits x > t.
        threshold_dtype: dtype of these numbers, "u8" or "f32".
        name, metadata: name and metadata of the graph.

    Raises:
        LiftError: an array has a wrong shape, a wire is out of range, a layer does not fit, or tau
            or beta is given without groups.
    """
    with only_lgir_errors("the layers or an option"):
        return _graph(
            layers, input_shape, groups, tau, beta, thresholds, threshold_dtype, name, metadata
        )


def _graph(
    layers: Sequence[ArrayLayer],
    input_shape: Sequence[int] | int,
    groups: int | None,
    tau: float,
    beta: float,
    thresholds: npt.ArrayLike | None,
    threshold_dtype: str,
    name: str,
    metadata: Mapping[str, str] | None,
) -> Graph:
    if groups is None and (tau, beta) != (1.0, 0.0):
        raise LiftError(
            "tau and beta belong to a GroupSum; give groups, how many classes it counts"
        )
    stack = LayerStack(name, input_shape, "bit", {"source": "arrays", **(metadata or {})})
    for number, layer in enumerate(layers):
        where = f"layer {number} ({type(layer).__name__})"
        try:
            with only_lgir_errors(where):
                _add(stack, layer, where)
        except GraphError as error:
            raise LiftError(f"{where}: {error}") from error
    if groups is not None:
        stack.group_sum(groups, tau, beta, "groups")
    graph = stack.build()
    return graph if thresholds is None else with_thresholds(graph, thresholds, threshold_dtype)


def _add(stack: LayerStack, layer: ArrayLayer, where: str) -> None:
    if isinstance(layer, Dense):
        indices = _integers(layer.indices, f"{where}: indices", 2)
        table = _tables(layer, indices.shape[1], 1, where)
        order = slice(None, None, -1 if layer.first_input == "least" else 1)
        stack.dense(indices[:, order], table, where)
    elif isinstance(layer, TreeConv):
        if layer.first_input == "least":
            raise LiftError(f"{where}: give tables of a tree most significant input first")
        leaves = _integers(layer.leaves, f"{where}: leaves", 3)
        unit = (1,) * len(whole_numbers(layer.window, where))
        stack.conv(
            leaves,
            _tables(layer, layer.fanin, 2, where),
            window=layer.window,
            stride=layer.stride or unit,
            padding=layer.padding or (0,) * len(unit),
            fanin=layer.fanin,
            where=where,
        )
    elif isinstance(layer, OrPool):
        padding = layer.padding or (0,) * len(whole_numbers(layer.window, where))
        stack.or_pool(layer.window, layer.stride or layer.window, padding, where)
    elif isinstance(layer, Flatten):
        stack.flatten()
    else:
        raise LiftError(f"{where}: give Dense, TreeConv, OrPool or Flatten")


def _integers(array: npt.ArrayLike, what: str, ndim: int) -> npt.NDArray[np.integer]:
    values = np.asarray(array)
    if values.ndim != ndim or values.dtype.kind not in "iu":
        raise LiftError(
            f"{what} are {values.dtype}{list(values.shape)}; expected integers of {ndim} axes"
        )
    return values


def _tables(gates: Gates, fanin: int, ndim: int, where: str) -> Tables:
    """Return truth tables (N,) or (kernels, gates) of `fanin` inputs."""
    if not isinstance(fanin, int) or not 1 <= fanin <= MAX_FANIN:
        raise LiftError(f"{where}: gates have 1 to {MAX_FANIN} inputs, not {shown(fanin)}")
    ways = ("ops", "logits", "truth", "tables")
    chosen = [way for way in ways if getattr(gates, way) is not None]
    if len(chosen) != 1 or gates.first_input not in ("most", "least"):
        raise LiftError(f"{where}: give one of {', '.join(ways)}, and first_input as most or least")
    if chosen[0] in ("ops", "logits") and (fanin != 2 or gates.first_input == "least"):
        raise LiftError(f"{where}: {chosen[0]} are of two inputs, the first most significant")
    table: Tables
    if gates.ops is not None:
        ops = _integers(operation_numbers(gates.ops), f"{where}: ops", ndim)
        if ops.size and (ops.min() < 0 or ops.max() > 15):
            raise LiftError(f"{where}: ops are numbers 0..15, not {ops.min()}..{ops.max()}")
        table = OP_TABLES[ops]
    elif gates.logits is not None:
        table = raw_tables(np.asarray(gates.logits), f"{where}: logits")
    elif gates.truth is not None:
        truth = np.asarray(gates.truth)
        if truth.shape[-1:] != (1 << fanin,):
            raise LiftError(
                f"{where}: truth has shape {truth.shape}; gates of {fanin} inputs have "
                f"{1 << fanin} entries"
            )
        table = pack_tables(truth.astype(bool))
    else:
        table = _integers(np.asarray(gates.tables), f"{where}: tables", ndim).astype(np.uint64)
    if table.ndim != ndim:
        raise LiftError(f"{where}: {chosen[0]} must have {ndim} axes of gates, not {table.ndim}")
    return table
