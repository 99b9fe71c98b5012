"""The container: the binary form of a graph, an ONNX ModelProto with nodes of the domain `lgir`.

Netron draws such a file and `onnx.checker` accepts its structure. Loading runs no code and opens no
other file; everything is checked before it is built. The schema of version 1:

    model       ir_version 8, domain "lgir", opset_import [domain "lgir", version 1],
                metadata_props: the graph's metadata, sorted by key
    values      elem_type 9 (bit), 2 (u8), 1 (f32) or 6 (i32); the first axis is the batch, "N"
    node        domain "lgir", name and output: the value that it defines; attributes by op_type:
    Threshold   levels   tensor float32 (L,) or (*lead, L)
    Logic       space, stride   ints, one per axis of the iteration space
                taps     tensor int32 (T, 2 + rank), rows (input, channel, offset per axis)
                fanin    tensor int32 (G, K), net ids
                table    tensor (G,) of uint8, uint16 (K = 4), uint32 (K = 5) or uint64 (K = 6)
                outputs  tensor int32 (C,), net ids
    GroupSum    groups   int;  tau, beta   tensors float64 ()
    Reshape     shape    ints

Tensors hold raw little-endian bytes. A file with an unknown attribute, an initializer, a function,
external data or a later version is refused, and so is one that states other types than its nodes
give. A change that a reader of version 1 would misread raises the version.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any, Final, NoReturn

import numpy as np
import numpy.typing as npt

from lgir.errors import FormatError, LgirError
from lgir.files import read_file, write_atomically
from lgir.ir.body import Body
from lgir.ir.graph import Graph
from lgir.ir.nodes import GroupSum, Logic, Node, Op, Reshape, Threshold
from lgir.ir.truth_tables import MAX_FANIN, table_dtype
from lgir.ir.types import Shape, Value
from lgir.ir.verifier import MAX_AXES

if TYPE_CHECKING:
    from onnx import AttributeProto, ModelProto, NodeProto, TensorProto, ValueInfoProto

DOMAIN: Final = "lgir"
VERSION: Final = 1
"""Version of the domain `lgir`, the opset version that a file states for it."""

MAX_BYTES: Final = 2**31 - 1
"""Largest file that is read or written: protobuf's own limit on a message."""

_ONNX_IR_VERSION: Final = 8

# ONNX TensorProto.DataType and AttributeProto.AttributeType, numbers fixed by the standard.
_ELEMENT: Final = {"bit": 9, "u8": 2, "f32": 1, "i32": 6}
_DTYPE: Final = {number: name for name, number in _ELEMENT.items()}
_DATA_TYPE: Final = {
    "float32": 1, "uint8": 2, "uint16": 4, "int32": 6, "float64": 11, "uint32": 12, "uint64": 13,
}  # fmt: skip
_INT, _TENSOR, _INTS = 2, 4, 7


def save(graph: Graph, path: str | PathLike[str]) -> None:
    """Write `graph` to `path`, whole or not at all. Equal graphs give equal bytes.

    Raises FormatError if the file cannot be written or would exceed protobuf's limit of 2 GB (some
    200 million gates).
    """
    write_atomically(path, to_bytes(graph))


def load(path: str | PathLike[str]) -> Graph:
    """Return the graph in a file that `save` wrote.

    Raises FormatError, naming the file and the node, for anything else: a file that is missing,
    truncated or corrupt, an ONNX model of another domain, a later version of lgir's, a graph that
    breaks a rule of the IR.
    """
    return from_bytes(read_file(path, MAX_BYTES), str(path))


def to_bytes(graph: Graph) -> bytes:
    """Return the content of the file that `save` writes. Raises FormatError above 2 GB."""
    size = sum(
        value.nbytes
        for node in graph.nodes
        for value in _arrays(node.op).values()
        if isinstance(value, np.ndarray)
    )
    if size > MAX_BYTES * 0.99:  # the rest is names and shapes
        raise FormatError(
            f"graph {graph.name!r} holds {size:,} bytes of arrays and an ONNX file at most "
            f"{MAX_BYTES:,}; optimize it first, or write lgir.dumps(graph, full=True) instead"
        )
    data: bytes = _encode(graph).SerializeToString(deterministic=True)
    return data


def from_bytes(data: bytes, name: str = "<bytes>") -> Graph:
    """Return the graph of which `to_bytes` gives `data`; `name` names the file in errors.

    Raises FormatError as `load`.
    """
    from google.protobuf.message import DecodeError
    from onnx import ModelProto

    model = ModelProto()
    try:
        if not data:
            raise FormatError("the file is empty")
        model.ParseFromString(data)
        return _decode(model)
    except DecodeError:
        raise FormatError(
            f"{name}: not an lgir graph (truncated, corrupt or no ONNX file)"
        ) from None
    except UnicodeDecodeError:
        raise FormatError(f"{name}: corrupt, a name in it is not valid UTF-8") from None
    except LgirError as error:
        raise FormatError(f"{name}: {error}") from None


def _arrays(op: Op) -> dict[str, Any]:
    """Return the operator's attributes as the file has them: arrays, tuples of ints, or ints."""
    if isinstance(op, Logic):
        body = op.body
        body = Body.build(body.taps, body.fanin, body.table, body.outputs)  # without padding
        return {
            "space": op.space, "stride": op.stride, "taps": body.taps, "fanin": body.fanin,
            "table": body.table, "outputs": body.outputs,
        }  # fmt: skip
    if isinstance(op, Threshold):
        return {"levels": op.levels}
    if isinstance(op, GroupSum):
        # Doubles in tensors: a float attribute of ONNX is a float32, which would change tau = 0.1.
        return {
            "groups": op.groups, "tau": np.array(op.tau, np.float64),
            "beta": np.array(op.beta, np.float64),
        }  # fmt: skip
    assert isinstance(op, Reshape)
    return {"shape": op.shape}


def _encode(graph: Graph) -> ModelProto:
    from onnx import ModelProto

    from lgir.version import __version__

    model = ModelProto(
        ir_version=_ONNX_IR_VERSION,
        domain=DOMAIN,
        producer_name="lgir",
        producer_version=__version__,
    )
    model.opset_import.add(domain=DOMAIN, version=VERSION)
    for key, text in sorted(graph.metadata.items()):
        model.metadata_props.add(key=key, value=text)
    model.graph.name = graph.name
    inner = [n.output for n in graph.nodes if n.output not in graph.outputs]
    for proto, names in (
        (model.graph.input, [v.name for v in graph.inputs]),
        (model.graph.output, graph.outputs),
        (model.graph.value_info, inner),
    ):
        for name in names:
            _encode_value(graph.values[name], proto.add())
    for node in graph.nodes:
        out = model.graph.node.add(
            op_type=node.op_type,
            domain=DOMAIN,
            name=node.output,
            input=node.inputs,
            output=node.outputs,
        )
        for key, value in _arrays(node.op).items():
            _encode_attribute(key, value, out.attribute.add())
    return model


def _encode_value(value: Value, proto: ValueInfoProto) -> None:
    proto.name = value.name
    tensor = proto.type.tensor_type
    tensor.elem_type = _ELEMENT[value.dtype]
    tensor.shape.dim.add(dim_param="N")
    for size in value.shape:
        tensor.shape.dim.add(dim_value=size)


def _encode_attribute(name: str, value: Any, proto: AttributeProto) -> None:
    proto.name = name
    if isinstance(value, np.ndarray):
        proto.type = _TENSOR
        proto.t.data_type = _DATA_TYPE[value.dtype.name]
        proto.t.dims.extend(value.shape)
        proto.t.raw_data = value.astype(value.dtype.newbyteorder("<"), copy=False).tobytes()
    elif isinstance(value, tuple):
        proto.type = _INTS
        proto.ints.extend(value)
    else:
        proto.type = _INT
        proto.i = value


def _decode(model: ModelProto) -> Graph:
    versions = [entry.version for entry in model.opset_import if entry.domain == DOMAIN]
    if not versions:
        maker = f" (it was written by {model.producer_name})" if model.producer_name else ""
        raise FormatError(
            f"not an lgir graph: no node domain {DOMAIN!r}{maker}; lgir.load reads what lgir.save "
            "wrote, lgir.lift reads checkpoints"
        )
    if versions != [VERSION]:
        raise FormatError(
            f"format version {max(versions)}; this lgir reads version {VERSION}, so a newer lgir "
            "is needed"
        )
    proto = model.graph
    if proto.initializer or proto.sparse_initializer or model.functions:
        raise FormatError("an lgir graph holds no initializers and no functions")
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    if len(metadata) != len(model.metadata_props):
        raise FormatError("a metadata key is given twice")
    graph = Graph(
        proto.name,
        tuple(map(_decode_value, proto.input)),
        tuple(map(_decode_node, proto.node)),
        tuple(info.name for info in proto.output),
        metadata,
    )
    for info in (*proto.output, *proto.value_info):
        stated, value = _decode_value(info), graph.values.get(info.name)
        if stated != value:
            raise FormatError(f"the file states {stated}, the nodes give {value}")
    return graph


def _decode_value(proto: ValueInfoProto) -> Value:
    tensor = proto.type.tensor_type
    if tensor.elem_type not in _DTYPE:
        raise FormatError(f"value %{proto.name} has ONNX element type {tensor.elem_type}")
    sizes = tuple(dim.dim_value for dim in tensor.shape.dim)
    return Value(proto.name, _DTYPE[tensor.elem_type], sizes[1:])  # sizes[0] is the batch


def _decode_node(proto: NodeProto) -> Node:
    where = f"node %{proto.output[0] if len(proto.output) else proto.name} ({proto.op_type})"
    if proto.domain != DOMAIN or proto.op_type not in _DECODERS:
        raise FormatError(
            f"{where} of domain {proto.domain!r} is no lgir node; known: {', '.join(_DECODERS)}"
        )
    if len(proto.output) != 1:
        raise FormatError(f"{where} has {len(proto.output)} outputs, not 1")
    try:
        attributes = _Attributes(proto.attribute)
        op = _DECODERS[proto.op_type](attributes)
        attributes.end()
    except FormatError as error:
        raise FormatError(f"{where}: {error}") from None
    return Node(op, tuple(proto.input), proto.output[0])


class _Attributes:
    """Typed access to a node's attributes, each of which is taken exactly once."""

    def __init__(self, protos: Sequence[AttributeProto]) -> None:
        self.left = {a.name: a for a in protos}
        if len(self.left) != len(protos):
            raise FormatError("an attribute is given twice")

    def end(self) -> None:
        """Raise FormatError if an attribute was not taken."""
        if self.left:
            raise FormatError(f"unknown attribute {min(self.left)!r}")

    def _take(self, name: str, kind: int) -> AttributeProto:
        attribute = self.left.pop(name, None)
        if attribute is None or attribute.type != kind:
            raise FormatError(f"attribute {name!r} is missing or of a wrong type")
        return attribute

    def integer(self, name: str) -> int:
        return int(self._take(name, _INT).i)

    def integers(self, name: str) -> Shape:
        return tuple(self._take(name, _INTS).ints)

    def array(self, name: str, dtype: npt.DTypeLike, ndim: int | None) -> npt.NDArray[Any]:
        """Return a tensor of this dtype and number of axes (None: any), whose bytes are checked."""
        tensor: TensorProto = self._take(name, _TENSOR).t
        dtype = np.dtype(dtype)
        dims = tuple(tensor.dims)

        def fail(message: str) -> NoReturn:
            raise FormatError(f"tensor {name!r} {message}")

        if tensor.data_type != _DATA_TYPE[dtype.name]:
            fail(f"is of ONNX type {tensor.data_type}, not {dtype.name}")
        if tensor.data_location or tensor.external_data:
            fail("lies outside the file; lgir reads no external data")
        if (
            (ndim is not None and len(dims) != ndim)
            or len(dims) > MAX_AXES
            or any(d < 0 for d in dims)
        ):
            fail(f"has shape {list(dims)}" + (f", not {ndim} axes" if ndim is not None else ""))
        if len(tensor.raw_data) != math.prod(dims) * dtype.itemsize:
            fail(f"has {len(tensor.raw_data):,} bytes, which is not its shape {list(dims)}")
        array = np.frombuffer(tensor.raw_data, dtype.newbyteorder("<"))
        if 0 in dims and max(dims) > 2**31:
            fail(f"has shape {list(dims)}")
        return array.astype(dtype, copy=False).reshape(dims)


def _decode_logic(a: _Attributes) -> Op:
    space, stride = a.integers("space"), a.integers("stride")
    taps = a.array("taps", np.int32, 2)
    fanin = a.array("fanin", np.int32, 2)
    if not 1 <= fanin.shape[1] <= MAX_FANIN:
        raise FormatError(f"gates have {fanin.shape[1]} inputs; 1 to {MAX_FANIN} are supported")
    if taps.shape[1] < 2:
        raise FormatError(f"taps have {taps.shape[1]} columns; at least 2 are needed")
    table = a.array("table", table_dtype(fanin.shape[1]), 1)
    return Logic(Body.build(taps, fanin, table, a.array("outputs", np.int32, 1)), space, stride)


def _decode_group_sum(a: _Attributes) -> Op:
    tau, beta = a.array("tau", np.float64, 0), a.array("beta", np.float64, 0)
    return GroupSum(a.integer("groups"), float(tau), float(beta))


_DECODERS: Final[dict[str, Callable[[_Attributes], Op]]] = {
    "Threshold": lambda a: Threshold(a.array("levels", np.float32, None)),
    "Logic": _decode_logic,
    "GroupSum": _decode_group_sum,
    "Reshape": lambda a: Reshape(a.integers("shape")),
}
