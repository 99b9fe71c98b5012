"""An ONNX model of standard operators as a torch module, so that it is traced like any other.

Each operator is a few lines of torch. onnx's own reference evaluator is what the lifted graph is
compared with, so that a mistake here cannot pass.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lgir.errors import LiftError

_TYPES: Final = {
    1: torch.float32, 2: torch.uint8, 3: torch.int8, 5: torch.int16, 6: torch.int32,
    7: torch.int64, 9: torch.bool, 10: torch.float16, 11: torch.float64, 16: torch.bfloat16,
}  # fmt: skip
"""ONNX's TensorProto.DataType, numbers fixed by the standard, as torch has them."""

Array = npt.NDArray[Any]
Operator = Callable[..., Any]


class OnnxModule(nn.Module):
    """Evaluates an ONNX graph, node by node.

    Attributes:
        shapes: of the inputs without their batch axis.
        kinds: torch dtypes of the inputs.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        from onnx import numpy_helper

        self.model = model
        graph = model.graph
        standard = [e.version for e in model.opset_import if e.domain in ("", "ai.onnx")]
        domains = {node.domain for node in graph.node} - {"", "ai.onnx"}
        if domains or not standard:
            raise LiftError(
                f"the ONNX model has operators of the domain {', '.join(sorted(domains)) or '?'}; "
                "only standard ones can be traced"
            )
        self.known: list[str] = []
        self.constants: dict[str, Array] = {}
        for tensor in graph.initializer:
            self._keep(tensor.name, numpy_helper.to_array(tensor))
        fixed = set(self.known)
        given = [value for value in graph.input if value.name not in fixed]
        self.names = [value.name for value in given]
        self.outputs = [value.name for value in graph.output]
        self.kinds = [_TYPES[value.type.tensor_type.elem_type] for value in given]
        self.shapes: list[tuple[int, ...]] = []
        for value in given:
            sizes = [d.dim_value for d in value.type.tensor_type.shape.dim]
            if len(sizes) < 2 or any(n < 1 for n in sizes[1:]) or sizes[0] > 1:
                raise LiftError(
                    f"input {value.name!r} of the ONNX model has shape {sizes} (0 is unknown); its "
                    "first axis must be a free batch axis or 1, and the others fixed"
                )
            self.shapes.append(tuple(sizes[1:]))
        self.fixed_batch = any(
            value.type.tensor_type.shape.dim[0].dim_value == 1 for value in given
        )
        self.nodes = []
        for node in graph.node:
            if node.op_type == "Constant":
                self._keep(node.output[0], _constant(_attributes(node)))
            else:
                self.nodes.append((node, _attributes(node)))
        for node, _ in self.nodes:
            if node.op_type not in _OPERATORS and node.op_type != "Shape":
                raise LiftError(f"the ONNX operator {node.op_type} ({node.name}) is not traced")

    def _keep(self, name: str, array: Array) -> None:
        self.register_buffer(f"tensor{len(self.known)}", torch.from_numpy(np.array(array)))
        self.known.append(name)
        self.constants[name] = array

    def forward(self, *inputs: Tensor) -> Any:
        values: dict[str, Any] = dict(zip(self.names, inputs, strict=True))
        values[""] = None
        for i, name in enumerate(self.known):
            values[name] = getattr(self, f"tensor{i}")
        constants = dict(self.constants)
        for node, attributes in self.nodes:
            folded = _folded(node, attributes, constants, values)
            if folded is not None:  # sizes, which export must know as numbers
                constants[node.output[0]] = folded
                values[node.output[0]] = torch.from_numpy(folded)
                continue
            sizes = _SIZES.get(node.op_type, ())
            operands = [
                constants[name] if place in sizes and name in constants else values[name]
                for place, name in enumerate(node.input)
            ]
            found = _OPERATORS[node.op_type](operands, attributes, len(node.output))
            results = found if isinstance(found, tuple | list) else (found,)
            values.update(zip(node.output, results, strict=False))
        outputs = [values[name] for name in self.outputs]
        return outputs[0] if len(outputs) == 1 else tuple(outputs)

    def reference(self, samples: list[Array]) -> list[Array]:
        """What onnx's reference evaluator gives."""
        from onnx.reference import ReferenceEvaluator

        found = ReferenceEvaluator(self.model).run(
            None, dict(zip(self.names, samples, strict=True))
        )
        return [np.asarray(x) for x in found]


def _attributes(node: Any) -> dict[str, Any]:
    from onnx import helper

    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


def _constant(attributes: dict[str, Any]) -> Array:
    from onnx import numpy_helper

    if "value" in attributes:
        return np.array(numpy_helper.to_array(attributes["value"]))
    (value,) = attributes.values()
    return np.array(value, np.float32 if isinstance(np.asarray(value).flat[0], float) else None)


def _folded(
    node: Any, attributes: dict[str, Any], constants: dict[str, Array], values: dict[str, Any]
) -> Array | None:
    """The value of a node that computes sizes from sizes, as numbers; None for any other."""
    if node.op_type == "Shape":
        return np.array(list(values[node.input[0]].shape), np.int64)
    if node.op_type not in _FOLDS or not all(name in constants for name in node.input if name):
        return None
    operands = [constants[name] for name in node.input if name]
    if any(x.size > 64 or x.dtype.kind != "i" for x in operands):
        return None
    return np.asarray(_FOLDS[node.op_type](operands, attributes))


def _ints(x: Any) -> list[int]:
    """The numbers of a constant array, or of an attribute."""
    return [int(n) for n in np.asarray(x).reshape(-1)]


def _axes(v: list[Any], a: dict[str, Any], default: Any = None) -> Any:
    if len(v) > 1 and v[1] is not None:
        return _ints(v[1])
    return a.get("axes", default)


def _reduce(function: Operator) -> Operator:
    def run(v: list[Any], a: dict[str, Any], n: int) -> Tensor:
        axes = _axes(v, a)
        if axes is None:
            axes = list(range(v[0].ndim))
        result: Tensor = function(v[0], axes, bool(a.get("keepdims", 1)))
        return result

    return run


def _pads(a: dict[str, Any], x: Tensor, kernel: Any) -> tuple[list[int], list[int]]:
    """(before, after) of each axis of space."""
    rank = x.ndim - 2
    if a.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
        raise LiftError("auto_pad of an ONNX operator; write its pads")
    pads = list(a.get("pads", [0] * (2 * rank)))
    return pads[:rank], pads[rank:]


def _padded(x: Tensor, before: list[int], after: list[int], value: float = 0) -> Tensor:
    if not any(before) and not any(after):
        return x
    pairs = [n for b, e in reversed(list(zip(before, after, strict=True))) for n in (b, e)]
    return F.pad(x, pairs, value=value)


def _conv(v: list[Any], a: dict[str, Any], n: int) -> Tensor:
    x, w = v[:2]
    before, after = _pads(a, x, w.shape[2:])
    function = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}[x.ndim - 2]
    rank = x.ndim - 2
    return function(
        _padded(x, before, after), w, v[2] if len(v) > 2 else None,
        tuple(a.get("strides", [1] * rank)), 0, tuple(a.get("dilations", [1] * rank)),
        a.get("group", 1),
    )  # fmt: skip


def _max_pool(v: list[Any], a: dict[str, Any], n: int) -> Tensor:
    x = v[0]
    kernel = list(a["kernel_shape"])
    before, after = _pads(a, x, kernel)
    function = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}[x.ndim - 2]
    rank = x.ndim - 2
    if before == after and all(2 * b <= k for b, k in zip(before, kernel, strict=True)):
        padding = tuple(before)
    else:  # pads count as the least value, which is 0 for bits
        x, padding = _padded(x, before, after), (0,) * rank
    result: Tensor = function(
        x, tuple(kernel), tuple(a.get("strides", [1] * rank)), padding,
        tuple(a.get("dilations", [1] * rank)), bool(a.get("ceil_mode", 0)),
    )  # fmt: skip
    return result


def _average_pool(v: list[Any], a: dict[str, Any], n: int) -> Tensor:
    x = v[0]
    kernel = list(a["kernel_shape"])
    before, after = _pads(a, x, kernel)
    if (any(before) or any(after)) and not a.get("count_include_pad", 0):
        raise LiftError("AveragePool with pads that do not count")
    function = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}[x.ndim - 2]
    strides = tuple(a.get("strides", [1] * (x.ndim - 2)))
    result: Tensor = function(_padded(x, before, after), tuple(kernel), strides)
    return result


def _slice(v: list[Any], a: dict[str, Any], n: int) -> Tensor:
    x = v[0]
    starts = _ints(v[1]) if len(v) > 1 else list(a["starts"])
    ends = _ints(v[2]) if len(v) > 2 else list(a["ends"])
    axes = _ints(v[3]) if len(v) > 3 and v[3] is not None else a.get("axes", range(len(starts)))
    steps = _ints(v[4]) if len(v) > 4 and v[4] is not None else [1] * len(starts)
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        at = range(x.shape[axis])[start:end:step]
        if step < 0:
            x = x.index_select(axis, torch.tensor(list(at)))
        else:
            place = [slice(None)] * x.ndim
            place[axis] = slice(at.start, max(at.stop, at.start), step)
            x = x[tuple(place)]
    return x


def _pad(v: list[Any], a: dict[str, Any], n: int) -> Tensor:
    x = v[0]
    pads = _ints(v[1]) if len(v) > 1 else list(a["pads"])
    value = v[2].item() if len(v) > 2 and v[2] is not None else a.get("value", 0)
    axes = _ints(v[3]) if len(v) > 3 else list(range(x.ndim))
    before, after = [0] * x.ndim, [0] * x.ndim
    for i, axis in enumerate(axes):
        before[axis], after[axis] = pads[i], pads[i + len(axes)]
    if a.get("mode", b"constant") != b"constant":
        raise LiftError("Pad in another mode than constant")
    if x.dtype == torch.bool:
        return _padded(x.to(torch.uint8), before, after, int(value)).bool()
    return _padded(x, before, after, value)


def _reshape(v: list[Any], a: dict[str, Any], n: int) -> Tensor:
    shape = _ints(v[1]) if len(v) > 1 else list(a["shape"])
    if not a.get("allowzero", 0):
        shape = [v[0].shape[i] if size == 0 else size for i, size in enumerate(shape)]
    result: Tensor = v[0].reshape(shape)
    return result


def _gather(v: list[Any], a: dict[str, Any], n: int) -> Tensor:
    x, index = v[0], v[1].long()
    axis = a.get("axis", 0) % x.ndim
    index = torch.where(index < 0, index + x.shape[axis], index)
    result: Tensor = x[(slice(None),) * axis + (index,)]
    return result


def _split(v: list[Any], a: dict[str, Any], n: int) -> Any:
    axis = a.get("axis", 0)
    given = _ints(v[1]) if len(v) > 1 and v[1] is not None else a.get("split")
    return v[0].split(given or -(-v[0].shape[axis] // n), dim=axis)


def _batch_norm(v: list[Any], a: dict[str, Any], n: int) -> Tensor:
    return F.batch_norm(v[0], v[3], v[4], v[1], v[2], False, 0.0, a.get("epsilon", 1e-5))


def _gemm(v: list[Any], a: dict[str, Any], n: int) -> Tensor:
    left = v[0].transpose(0, 1) if a.get("transA") else v[0]
    right = v[1].transpose(0, 1) if a.get("transB") else v[1]
    result = left @ right
    if a.get("alpha", 1.0) != 1:
        result = result * a["alpha"]
    if len(v) > 2 and v[2] is not None:
        result = result + v[2] * a.get("beta", 1.0)
    return result


def _argmax(v: list[Any], a: dict[str, Any], n: int) -> Tensor:
    return torch.argmax(v[0], a.get("axis", 0), bool(a.get("keepdims", 1)))


def _squeeze(v: list[Any], a: dict[str, Any], n: int) -> Tensor:
    axes = _axes(v, a)
    return v[0].squeeze() if axes is None else v[0].squeeze(tuple(axes))


def _unsqueeze(v: list[Any], a: dict[str, Any], n: int) -> Tensor:
    x, axes = v[0], _axes(v, a)
    for axis in sorted(axis % (x.ndim + len(axes)) for axis in axes):
        x = x.unsqueeze(axis)
    return x


def _expand(v: list[Any], a: dict[str, Any], n: int) -> Tensor:
    return v[0].expand(torch.broadcast_shapes(tuple(v[0].shape), tuple(_ints(v[1]))))


def _clip(v: list[Any], a: dict[str, Any], n: int) -> Tensor:
    ends = [*v[1:], None, None][:2]
    low, high = (None if end is None else np.asarray(end).item() for end in ends)
    return torch.clamp(v[0], a.get("min") if low is None else low,
                       a.get("max") if high is None else high)  # fmt: skip


def _fold(function: Operator) -> Operator:
    def run(v: list[Any], a: dict[str, Any], n: int) -> Any:
        result = v[0]
        for x in v[1:]:
            result = function(result, x)
        return result

    return run


def _divide(v: list[Any], a: dict[str, Any], n: int) -> Tensor:
    if v[0].dtype.is_floating_point:
        return v[0] / v[1]
    return torch.div(v[0], v[1], rounding_mode="trunc")


def _flatten(v: list[Any], a: dict[str, Any], n: int) -> Tensor:
    axis = a.get("axis", 1) % (v[0].ndim + 1)
    lead = int(np.prod(v[0].shape[:axis], dtype=np.int64))
    result: Tensor = v[0].reshape(lead, -1)
    return result


def _cast(v: list[Any], a: dict[str, Any], n: int) -> Tensor:
    if a["to"] not in _TYPES:
        raise LiftError(f"a Cast to ONNX's type {a['to']}, which torch lacks")
    return v[0].to(_TYPES[a["to"]])


def _shift(v: list[Any], a: dict[str, Any], n: int) -> Tensor:
    left = a["direction"] == b"LEFT"
    return torch.bitwise_left_shift(*v) if left else torch.bitwise_right_shift(*v)


def _filled(v: list[Any], a: dict[str, Any], n: int) -> Tensor:
    value = torch.from_numpy(_constant(a)) if a else torch.zeros(1)
    return value.reshape(()).expand(_ints(v[0]))


def _plain(function: Operator) -> Operator:
    return lambda v, a, n: function(*v)


_OPERATORS: Final[dict[str, Operator]] = {
    "Add": _plain(torch.add), "Sub": _plain(torch.sub), "Mul": _plain(torch.mul), "Div": _divide,
    "Pow": _plain(torch.pow), "Neg": _plain(torch.neg), "Abs": _plain(torch.abs),
    "Sign": _plain(torch.sign), "Floor": _plain(torch.floor), "Ceil": _plain(torch.ceil),
    "Round": _plain(torch.round), "Sqrt": _plain(torch.sqrt), "Exp": _plain(torch.exp),
    "Log": _plain(torch.log), "Sigmoid": _plain(torch.sigmoid), "Tanh": _plain(torch.tanh),
    "Relu": _plain(torch.relu), "Reciprocal": _plain(torch.reciprocal),
    "Min": _fold(torch.minimum), "Max": _fold(torch.maximum), "Sum": _fold(torch.add),
    "Mod": _plain(torch.remainder), "Clip": _clip, "Greater": _plain(torch.gt),
    "GreaterOrEqual": _plain(torch.ge), "Less": _plain(torch.lt),
    "LessOrEqual": _plain(torch.le), "Equal": _plain(torch.eq), "And": _plain(torch.logical_and),
    "Or": _plain(torch.logical_or), "Xor": _plain(torch.logical_xor),
    "Not": _plain(torch.logical_not), "BitwiseAnd": _plain(torch.bitwise_and),
    "BitwiseOr": _plain(torch.bitwise_or), "BitwiseXor": _plain(torch.bitwise_xor),
    "BitwiseNot": _plain(torch.bitwise_not), "BitShift": _shift, "Where": _plain(torch.where),
    "Cast": _cast, "Identity": lambda v, a, n: v[0].clone(), "Dropout": lambda v, a, n: v[0],
    "Gather": _gather, "Slice": _slice, "Pad": _pad, "Reshape": _reshape, "Split": _split,
    "GatherElements": lambda v, a, n: torch.gather(v[0], a.get("axis", 0), v[1].long()),
    "Concat": lambda v, a, n: torch.cat(v, a["axis"]), "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze, "Flatten": _flatten, "Expand": _expand,
    "Transpose": lambda v, a, n: v[0].permute(a.get("perm", range(v[0].ndim)[::-1])),
    "Tile": lambda v, a, n: v[0].repeat(_ints(v[1])),
    "ConstantOfShape": _filled,
    "MatMul": _plain(torch.matmul), "Gemm": _gemm, "Conv": _conv, "MaxPool": _max_pool,
    "AveragePool": _average_pool, "BatchNormalization": _batch_norm,
    "GlobalMaxPool": lambda v, a, n: v[0].amax(tuple(range(2, v[0].ndim)), keepdim=True),
    "GlobalAveragePool": lambda v, a, n: v[0].mean(tuple(range(2, v[0].ndim)), keepdim=True),
    "ReduceSum": _reduce(torch.sum), "ReduceMean": _reduce(torch.mean),
    "ReduceMax": _reduce(torch.amax), "ReduceMin": _reduce(torch.amin), "ArgMax": _argmax,
    "Softmax": lambda v, a, n: torch.softmax(v[0], a.get("axis", -1)),
    "LogSoftmax": lambda v, a, n: torch.log_softmax(v[0], a.get("axis", -1)),
}  # fmt: skip

_SIZES: Final = {
    "Reshape": (1,), "Slice": (1, 2, 3, 4), "Squeeze": (1,), "Unsqueeze": (1,), "Pad": (1, 2, 3),
    "Expand": (1,), "Tile": (1,), "Split": (1,), "ConstantOfShape": (0,), "ReduceSum": (1,),
    "ReduceMean": (1,), "ReduceMax": (1,), "ReduceMin": (1,), "Clip": (1, 2),
}  # fmt: skip
"""Operands that are sizes, axes or limits, which torch takes as numbers."""

_FOLDS: Final[dict[str, Callable[[list[Array], dict[str, Any]], Any]]] = {
    "Gather": lambda v, a: np.take(v[0], v[1], axis=a.get("axis", 0)),
    "Concat": lambda v, a: np.concatenate(v, axis=a["axis"]),
    "Unsqueeze": lambda v, a: np.expand_dims(v[0], tuple(_ints(v[1] if len(v) > 1 else a["axes"]))),
    "Squeeze": lambda v, a: np.squeeze(v[0]),
    "Slice": lambda v, a: v[0][int(v[1][0]) : int(v[2][0])],
    "Cast": lambda v, a: v[0], "Identity": lambda v, a: v[0],
    "Mul": lambda v, a: v[0] * v[1], "Add": lambda v, a: v[0] + v[1],
    "Sub": lambda v, a: v[0] - v[1], "Div": lambda v, a: v[0] // v[1],
}  # fmt: skip
