"""The inverse of lifting: a graph as a torch network of `lgir.frontend.layers`.

It takes graphs as they are lifted or built, with dense layers, tree convolutions and OR pools of
two-input gates; passes rearrange bodies into shapes that no layer has. Benchmarks use it to compare
compiled code with PyTorch, and training of a network from another framework can go on with it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from lgir.errors import LiftError
from lgir.frontend.layers import (
    GroupSum,
    LogicDense,
    LogicNet,
    LogicTreeConv2d,
    OrPool2d,
    Thermometer,
)
from lgir.ir.builder import or_pool_body, tree_body
from lgir.ir.graph import Graph
from lgir.ir.nodes import GroupSum as GroupSumOp
from lgir.ir.nodes import Logic, Node, Op, Reshape, Threshold
from lgir.ir.truth_tables import OP_TABLES
from lgir.ir.types import FIRST_TAP, Value

_LOGIT = 10.0  # logit of the operation of a rebuilt gate; the others are 0


def rebuild(graph: Graph) -> LogicNet:
    """Build a LogicNet in eval mode that computes the same scores as `graph`.

    Raises LiftError, which names the node, if a node is not a layer of `lgir.frontend.layers`.
    """
    values = [*graph.inputs, *(graph.values[node.output] for node in graph.nodes)]
    chain = [value.name for value in values]
    if len(graph.inputs) != 1 or graph.outputs != (chain[-1],):
        raise LiftError(f"graph {graph.name!r} is no chain of layers from one input to one output")
    layers = []
    for node, x in zip(graph.nodes, values, strict=False):
        if node.inputs != (x.name,):
            raise LiftError(f"node %{node.output} does not read just the layer before it")
        layers.append(_layer(node, x))
    (value,) = graph.inputs
    net = LogicNet(*layers, input_shape=value.shape, input_dtype=value.dtype)
    net.eval()
    return net


def _layer(node: Node, x: Value) -> nn.Module:
    op: Op = node.op
    if isinstance(op, GroupSumOp):
        return GroupSum(op.groups, op.tau, op.beta)
    if isinstance(op, Threshold) and op.levels.ndim <= 2:
        return Thermometer(op.levels.copy())  # torch warns of read-only arrays
    if isinstance(op, Reshape) and op.shape == (x.size,):
        return nn.Flatten()
    if isinstance(op, Logic) and op.body.k <= 2:
        layer = _dense(op, x) or _or_pool(op, x) or _tree_conv(op, x)
        if layer is not None:
            return layer
    raise LiftError(f"node %{node.output} ({node.op_type}) is no layer that torch can be given")


def _dense(op: Logic, x: Value) -> LogicDense | None:
    body = op.body
    gates = np.arange(body.first_gate, body.num_nets)
    if op.space or not np.array_equal(body.outputs, gates) or len(gates) == 0:
        return None
    if (body.fanin < FIRST_TAP).any() or (body.fanin >= body.first_gate).any() or body.k != 2:
        return None
    layer = LogicDense(x.size, body.num_gates)
    layer.indices = torch.from_numpy(body.taps[:, 1][body.fanin - FIRST_TAP].T.copy())
    layer.weight = _weight(body.table)
    return layer


def _or_pool(op: Logic, x: Value) -> OrPool2d | None:
    window = op.body.num_taps // max(1, x.shape[0])
    side = round(window**0.5)
    if len(op.space) != 2 or side * side != window:
        return None
    if op.body != or_pool_body(x.shape[0], (side, side), (0, 0)):
        return None
    layer = OrPool2d(side, (op.stride[0], op.stride[1]))
    return layer if _fits(op, x, (side, side), (0, 0)) else None


def _tree_conv(op: Logic, x: Value) -> LogicTreeConv2d | None:
    body, kernels = op.body, len(op.body.outputs)
    leaves = body.num_taps // kernels
    if (
        len(op.space) != 2
        or leaves * kernels != body.num_taps
        or body.num_gates != (kernels * (leaves - 1))
    ):
        return None
    taps = body.taps.reshape(kernels, leaves, 4)
    table = body.table.reshape(kernels, leaves - 1)
    if leaves < 2 or leaves & (leaves - 1) or body != tree_body(taps, table):
        return None
    low, high = taps[..., 2:].min(axis=(0, 1)), taps[..., 2:].max(axis=(0, 1))
    padding = (max(0, -int(low[0])), max(0, -int(low[1])))
    field = (int(high[0]) + padding[0] + 1, int(high[1]) + padding[1] + 1)
    if not _fits(op, x, field, padding):
        return None
    layer = LogicTreeConv2d(
        x.shape[0],
        kernels,
        depth=leaves.bit_length() - 1,
        receptive_field=field,
        stride=(op.stride[0], op.stride[1]),
        padding=padding,
    )
    cells = taps[..., 1:].copy()
    cells[..., 1:] += np.array(padding, np.int32)
    layer.leaves = torch.from_numpy(cells)
    layer.weight = _weight(table)
    return layer


def _fits(op: Logic, x: Value, field: tuple[int, int], padding: tuple[int, int]) -> bool:
    """Return whether a torch layer would have exactly the positions of `op`."""
    return op.space == tuple(
        (size + 2 * p - f) // s + 1
        for size, f, s, p in zip(x.shape[1:], field, op.stride, padding, strict=True)
    )


def _weight(table: npt.NDArray[np.unsignedinteger]) -> nn.Parameter:
    """Return (..., 16) logits that choose the operation of each two-input table."""
    operation = torch.from_numpy(
        OP_TABLES[table].astype(np.int64)
    )  # the mapping is its own inverse
    return nn.Parameter(_LOGIT * nn.functional.one_hot(operation, 16).float())
