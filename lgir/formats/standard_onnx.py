"""Write a graph as an ONNX model of standard operators, which any ONNX runtime evaluates.

Bits are booleans. A level of gates is a few operators on whole tensors, as `onnx_logic` says, and a
convolution stays one. Scores are `ReduceSum`, `Add` and `Div` in float32, as the IR defines them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from lgir.errors import BackendError
from lgir.formats.exporter import Export
from lgir.formats.onnx_logic import write_logic
from lgir.formats.onnx_operators import OperatorWriter
from lgir.ir.graph import Graph
from lgir.ir.nodes import GroupSum, Logic, Node, Reshape, Threshold
from lgir.ir.types import Value
from lgir.registry import register_exporter
from lgir.version import __version__

if TYPE_CHECKING:
    from onnx import ModelProto

OPSET: Final = 17
_IR_VERSION: Final = 8
_MAX_BYTES: Final = 2**31 - 1
_FLOAT: Final = 1  # onnx.TensorProto.FLOAT


@register_exporter("onnx")
def export_onnx(graph: Graph) -> Export:
    """Write ONNX of standard operators (opset 17), for runtimes that do not know lgir's own."""
    model = to_model(graph)
    if model.ByteSize() > _MAX_BYTES * 0.99:
        raise BackendError(
            f"the ONNX model of {graph.name!r} passes protobuf's 2 GB; optimize the graph first"
        )
    return Export(model.SerializeToString(deterministic=True), text=False)


def to_model(graph: Graph) -> ModelProto:
    """Return the model of `graph`. Its inputs and outputs keep their names, with N samples."""
    from onnx import helper

    writer = OperatorWriter()
    for node in graph.nodes:
        _write_node(writer, graph, node)
    outputs = []
    for name in dict.fromkeys(graph.outputs):
        if any(name == value.name for value in graph.inputs):  # an output must be a node's
            writer.add("Identity", [name], f"{name}_out")
            outputs.append(_value_info(graph.values[name], f"{name}_out"))
        else:
            outputs.append(_value_info(graph.values[name], name))
    proto = helper.make_graph(
        writer.nodes,
        graph.name,
        [_value_info(value, value.name) for value in graph.inputs],
        outputs,
        writer.initializers,
    )
    model = helper.make_model(
        proto,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=_IR_VERSION,
        producer_name="lgir",
        producer_version=__version__,
    )
    for key, text in sorted(graph.metadata.items()):
        model.metadata_props.add(key=key, value=text)
    return model


def _value_info(value: Value, name: str) -> Any:
    from onnx import TensorProto, helper

    kinds = {
        "bit": TensorProto.BOOL,
        "u8": TensorProto.UINT8,
        "f32": TensorProto.FLOAT,
        "i32": TensorProto.INT32,
    }
    return helper.make_tensor_value_info(name, kinds[value.dtype], ["N", *value.shape])


def _write_node(writer: OperatorWriter, graph: Graph, node: Node) -> None:
    """Append the operators that compute one node."""
    inputs = [graph.values[name] for name in node.inputs]
    if isinstance(node.op, Logic):
        write_logic(writer, node.op, inputs, node.output)
    elif isinstance(node.op, Threshold):
        _write_threshold(writer, node.op, inputs[0], graph.values[node.output])
    elif isinstance(node.op, GroupSum):
        _write_group_sum(writer, node.op, inputs[0], node.output)
    else:
        assert isinstance(node.op, Reshape)
        writer.reshape(inputs[0].name, node.op.shape, node.output)


def _write_threshold(writer: OperatorWriter, op: Threshold, x: Value, result: Value) -> None:
    """Append a comparison of each number with each of its levels."""
    lead = op.levels.ndim - 1
    rest = len(x.shape) - lead
    # Levels (*lead, L) against numbers (N, channels, 1, ...): L comes after the channels.
    levels = op.levels.reshape(*op.levels.shape[:lead], *(1,) * rest, op.num_levels)
    levels = np.moveaxis(levels, -1, 1)
    numbers = writer.add("Cast", [x.name], to=_FLOAT) if x.dtype != "f32" else x.name
    numbers = writer.add("Unsqueeze", [numbers, writer.constant([2])])
    bits = writer.add("Greater", [numbers, writer.constant(levels[None], np.float32)])
    writer.reshape(bits, result.shape, result.name)


def _write_group_sum(writer: OperatorWriter, op: GroupSum, x: Value, output: str) -> None:
    """Append the count of each group, and its score in float32."""
    ones = writer.add("Cast", [x.name], to=_FLOAT)
    grouped = writer.reshape(ones, (op.groups, x.size // op.groups))
    count = writer.add("ReduceSum", [grouped, writer.constant([2])], keepdims=0)
    count = writer.add("Add", [count, writer.constant(op.beta, np.float32)])
    writer.add("Div", [count, writer.constant(op.tau, np.float32)], output)
