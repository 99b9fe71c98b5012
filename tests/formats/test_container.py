"""The ONNX container: round trips, the structure ONNX tools want, and files that are not good."""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

import lgir
from lgir.errors import FormatError, GraphError
from lgir.formats.container import from_bytes, to_bytes
from lgir.ir.body import Body
from lgir.zoo import dense_net
from random_graphs import random_graph


def small_graph() -> lgir.Graph:
    b = lgir.GraphBuilder("small", {"source": "a test"})
    image = b.input("image", "u8", (1, 4, 4))
    bits = b.threshold(image, [63, 127], name="bits")
    body = Body.build([[0, 0, 0, 1], [0, 1, 1, 0]], [[2, 3], [4, 2]], [0b1000, 0b0110], [5, 4])
    conv = b.logic([bits], body, (2, 2), (2, 2), name="conv")
    return b.build(b.group_sum(b.flatten(conv), 2, tau=0.1, name="score"))


@pytest.mark.parametrize("seed", range(100))
def test_round_trip_of_random_graphs(seed: int, tmp_path: Path) -> None:
    graph, path = random_graph(seed), tmp_path / "graph.onnx"
    lgir.save(graph, path)
    loaded = lgir.load(path)
    assert loaded == graph
    assert loaded.values == graph.values
    assert path.read_bytes() == to_bytes(loaded)


def test_equal_graphs_give_equal_bytes_and_text() -> None:
    graph = small_graph()
    conv = graph.node("conv")
    padded = lgir.Logic(conv.op.body.widened(6), conv.op.space, conv.op.stride)
    nodes = [replace(n, op=padded) if n is conv else n for n in graph.nodes]
    a = replace(graph.with_nodes(nodes), metadata={"a": "1", "b": "2"})
    b = replace(graph, metadata={"b": "2", "a": "1"})
    assert a == b
    assert to_bytes(a) == to_bytes(b)
    assert lgir.dumps(a) == lgir.dumps(b)


def test_float64_parameters_survive() -> None:
    op = from_bytes(to_bytes(small_graph())).node("score").op
    assert op == lgir.GroupSum(2, tau=0.1, beta=0.0)


def test_odd_names_metadata_and_outputs_survive() -> None:
    b = lgir.GraphBuilder("größe \n", {"": "", "k\0ey": 'a "b"\n'})
    x = b.input("x y/z:0", "bit", (2,))
    graph = b.build(b.group_sum(x, 1, name="%s"), x, x)
    assert from_bytes(to_bytes(graph)) == graph


@pytest.mark.parametrize("seed", range(30))
def test_onnx_checker_accepts_the_file(seed: int, tmp_path: Path) -> None:
    path = tmp_path / "graph.onnx"
    lgir.save(random_graph(seed), path)
    onnx.checker.check_model(os.fspath(path), full_check=True)


def test_every_value_states_its_type_with_a_batch_axis() -> None:
    model = onnx.load_from_string(to_bytes(small_graph()))
    infos = [*model.graph.input, *model.graph.value_info, *model.graph.output]
    stated = {
        info.name: (
            info.type.tensor_type.elem_type,
            [dim.dim_param or dim.dim_value for dim in info.type.tensor_type.shape.dim],
        )
        for info in infos
    }
    assert stated == {
        "image": (TensorProto.UINT8, ["N", 1, 4, 4]),
        "bits": (TensorProto.BOOL, ["N", 2, 4, 4]),
        "conv": (TensorProto.BOOL, ["N", 2, 2, 2]),
        "reshape1": (TensorProto.BOOL, ["N", 8]),
        "score": (TensorProto.FLOAT, ["N", 2]),
    }
    assert [(o.domain, o.version) for o in model.opset_import] == [("lgir", 1)]
    assert [(n.domain, n.op_type) for n in model.graph.node] == [
        ("lgir", op) for op in ("Threshold", "Logic", "Reshape", "GroupSum")
    ]


def test_gates_cost_nine_bytes_each() -> None:
    per_gate = (len(to_bytes(dense_net(1, 8000))) - 784 * 8 - 8000 * 4) / 8000
    assert 9 <= per_gate < 9.2


# Files that cannot be read or written


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"cannot read .*no\.onnx: No such file or directory"):
        lgir.load(tmp_path / "no.onnx")


def test_directory(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="it is not a regular file"):
        lgir.load(tmp_path)
    with pytest.raises(FormatError, match=r"cannot write .* it exists and is not a regular file"):
        lgir.save(small_graph(), tmp_path)
    with pytest.raises(FormatError, match=r"cannot write .*No such file or directory"):
        lgir.save(small_graph(), tmp_path / "no" / "x.onnx")
    assert list(tmp_path.iterdir()) == []


def test_nul_in_the_path() -> None:
    with pytest.raises(FormatError, match="cannot read"):
        lgir.load("a\0b")
    with pytest.raises(FormatError, match="cannot write"):
        lgir.save(small_graph(), "a\0b")


def test_a_device_is_not_replaced() -> None:
    with pytest.raises(FormatError, match="not a regular file"):
        lgir.save(small_graph(), os.devnull)
    assert not Path(os.devnull).is_file()


def test_save_keeps_a_link_and_the_file_mode_of_its_folder(tmp_path: Path) -> None:
    target, link, plain = (tmp_path / name for name in ("target", "link", "plain"))
    target.write_bytes(b"old")
    plain.write_bytes(b"")
    link.symlink_to(target)
    lgir.save(small_graph(), link)
    assert link.is_symlink()
    assert lgir.load(target) == small_graph()
    assert target.stat().st_mode == plain.stat().st_mode


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.onnx"
    lgir.save(small_graph(), path)
    before = path.read_bytes()

    def no_space(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", no_space)
    with pytest.raises(FormatError, match=r"cannot write .*x\.onnx: No space left on device"):
        lgir.save(random_graph(1), path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["x.onnx"]


def test_a_graph_of_more_than_2_gb_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lgir.formats.container.MAX_BYTES", 50)
    with pytest.raises(FormatError, match=r"graph 'small' holds .* bytes of arrays"):
        to_bytes(small_graph())


def test_a_file_of_more_than_2_gb_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.onnx"
    with path.open("wb") as file:
        file.truncate(2**31 + 1)  # sparse
    with pytest.raises(FormatError, match="it has 2,147,483,649 bytes, more than 2,147,483,647"):
        lgir.load(path)


# Files that hold something else


def test_empty_file(tmp_path: Path) -> None:
    (tmp_path / "e.onnx").touch()
    with pytest.raises(FormatError, match=r"e\.onnx: the file is empty"):
        lgir.load(tmp_path / "e.onnx")


@pytest.mark.parametrize("cut", [1, 10, 100, 300])
def test_truncated_file(cut: int) -> None:
    data = to_bytes(small_graph())
    with pytest.raises(FormatError, match=r"^x.onnx: "):
        from_bytes(data[:-cut], "x.onnx")
    with pytest.raises(FormatError, match=r"^x.onnx: "):
        from_bytes(data[:cut], "x.onnx")


def test_foreign_onnx_model() -> None:
    info = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3])
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "relu", [info], [])
    model = helper.make_model(graph, producer_name="pytorch")
    with pytest.raises(FormatError, match=r"not an lgir graph: .*written by pytorch.*lgir.lift"):
        from_bytes(model.SerializeToString(), "relu.onnx")


@pytest.mark.parametrize(
    "data", [b"PK\x03\x04" + bytes(100), b"\x89HDF\r\n", b"lgir 1\ngraph", b"\0" * 64, b"\xff" * 64]
)
def test_file_of_another_kind(data: bytes) -> None:
    with pytest.raises(FormatError, match=r"^x.onnx: not an lgir graph"):
        from_bytes(data, "x.onnx")


# A good file, one thing of it wrong


def _attribute(model: onnx.ModelProto, node: int, name: str) -> onnx.AttributeProto:
    return next(a for a in model.graph.node[node].attribute if a.name == name)


def _array(node: int, name: str, array: np.ndarray) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        _attribute(model, node, name).t.CopyFrom(onnx.numpy_helper.from_array(array))

    return change


def _clear(node: int, name: str) -> Callable[[onnx.ModelProto], None]:
    return lambda m: m.graph.node[node].attribute.remove(_attribute(m, node, name))


def _set(target: Callable[[onnx.ModelProto], object], **fields: object) -> Callable[..., None]:
    def change(model: onnx.ModelProto) -> None:
        for key, value in fields.items():
            setattr(target(model), key, value)

    return change


i32, u8 = np.int32, np.uint8
BITS, CONV, SCORE = 0, 1, 3

FAULTS: dict[str, tuple[Callable[[onnx.ModelProto], object], str]] = {
    "version": (_set(lambda m: m.opset_import[0], version=2), "format version 2; this lgir reads"),
    "version-0": (_set(lambda m: m.opset_import[0], version=0), "format version 0"),
    "no-domain": (lambda m: m.opset_import.pop(), "not an lgir graph: no node domain"),
    "two-domains": (lambda m: m.opset_import.add(domain="lgir", version=9), "format version 9"),
    "op": (_set(lambda m: m.graph.node[1], op_type="Conv"), r"node %conv \(Conv\) of domain"),
    "domain": (_set(lambda m: m.graph.node[1], domain=""), r"node %conv \(Logic\) of domain ''"),
    "no-output": (lambda m: m.graph.node[1].output.pop(), r"\(Logic\) has 0 outputs, not 1"),
    "two-outputs": (lambda m: m.graph.node[1].output.append("b"), r"%conv .* has 2 outputs, not 1"),
    "no-graph-output": (lambda m: m.graph.output.pop(), "graph 'small' has no output"),
    "cycle": (lambda m: m.graph.node[0].input.__setitem__(0, "conv"), "reads %conv, .*a cycle"),
    "self": (lambda m: m.graph.node[1].input.__setitem__(0, "conv"), "reads %conv, .*a cycle"),
    "twice": (lambda m: m.graph.node.append(m.graph.node[1]), "%conv is defined twice"),
    "initializer": (lambda m: m.graph.initializer.add(name="w"), "holds no initializers"),
    "metadata": (lambda m: m.metadata_props.add(key="source"), "a metadata key is given twice"),
    "value-type": (
        _set(lambda m: m.graph.input[0].type.tensor_type, elem_type=TensorProto.DOUBLE),
        "value %image has ONNX element type 11",
    ),
    "value-size": (
        _set(lambda m: m.graph.input[0].type.tensor_type.shape.dim[1], dim_value=0),
        r"input %image has shape \[0, 4, 4\]",
    ),
    "value-huge": (
        _set(lambda m: m.graph.input[0].type.tensor_type.shape.dim[1], dim_value=2**62),
        "input %image has shape",
    ),
    "stated": (
        _set(lambda m: m.graph.output[0].type.tensor_type.shape.dim[1], dim_value=3),
        r"the file states %score : f32\[3\], the nodes give %score : f32\[2\]",
    ),
    "no-name": (_set(lambda m: m.graph, name=""), "'' cannot name a graph"),
    "no-attribute": (_clear(CONV, "taps"), r"node %conv \(Logic\): attribute 'taps' is missing"),
    "attribute-twice": (
        lambda m: m.graph.node[1].attribute.append(m.graph.node[1].attribute[0]),
        r"node %conv \(Logic\): an attribute is given twice",
    ),
    "attribute-unknown": (
        lambda m: m.graph.node[1].attribute.add(name="x", type=1),
        r"node %conv \(Logic\): unknown attribute 'x'",
    ),
    "attribute-type": (
        _set(lambda m: _attribute(m, CONV, "space"), type=2),
        r"node %conv \(Logic\): attribute 'space' is missing or of a wrong type",
    ),
    "dtype": (
        _array(CONV, "fanin", np.zeros((2, 2))),
        "tensor 'fanin' is of ONNX type 11, not int32",
    ),
    "axes": (
        _array(CONV, "fanin", np.zeros(2, i32)),
        r"tensor 'fanin' has shape \[2\], not 2 axes",
    ),
    "fan-in-7": (_array(CONV, "fanin", np.zeros((2, 7), i32)), "gates have 7 inputs; 1 to 6"),
    "fan-in-0": (_array(CONV, "fanin", np.zeros((2, 0), i32)), "gates have 0 inputs; 1 to 6"),
    "no-gates": (_array(CONV, "fanin", np.zeros((0, 2), i32)), r"table has shape \(2,\), expected"),
    "tap-columns": (_array(CONV, "taps", np.zeros((2, 1), i32)), "taps have 1 columns"),
    "tap-rank": (_array(CONV, "taps", np.zeros((2, 3), i32)), "taps have 1 offsets, .* 2 axes"),
    "tap-channel": (
        _array(CONV, "taps", np.full((2, 4), 9, i32)),
        r"tap 0 \(net 2\) reads input 9",
    ),
    "tap-minus": (
        _array(CONV, "taps", np.full((2, 4), -1, i32)),
        r"tap 0 \(net 2\) reads input -1",
    ),
    "gate-cycle": (
        _array(CONV, "fanin", np.array([[2, 5], [4, 2]], i32)),
        r"gate 0 \(net 4\) reads",
    ),
    "gate-minus": (_array(CONV, "fanin", np.array([[2, -1], [4, 2]], i32)), "gate 0 .* reads nets"),
    "table-size": (_array(CONV, "table", np.zeros(3, u8)), r"table has shape \(3,\), expected"),
    "table-wide": (
        _array(CONV, "table", np.zeros(2, np.uint16)),
        "'table' is of ONNX type 4, not u",
    ),
    "table-bits": (
        _array(CONV, "table", np.array([8, 16], u8)),
        "gate 1 has table 0x10, more than 4",
    ),
    "output-id": (
        _array(CONV, "outputs", np.array([6, 5], i32)),
        "output 0 is net 6; nets are 0..5",
    ),
    "output-none": (_array(CONV, "outputs", np.zeros(0, i32)), "has no output channel"),
    "bytes": (
        _set(lambda m: _attribute(m, CONV, "taps").t, raw_data=b"1234"),
        r"node %conv \(Logic\): tensor 'taps' has 4 bytes, which is not its shape \[2, 4\]",
    ),
    "dims-huge": (
        lambda m: _attribute(m, CONV, "taps").t.dims.__setitem__(0, 2**62),
        "tensor 'taps' has 32 bytes, which is not its shape",
    ),
    "dims-minus": (
        lambda m: _attribute(m, CONV, "taps").t.dims.extend([-1, -1]),
        r"tensor 'taps' has shape \[2, 4, -1, -1\]",
    ),
    "dims-zero": (
        lambda m: _attribute(m, BITS, "levels").t.CopyFrom(
            TensorProto(data_type=1, dims=[0, 2**62])
        ),
        "tensor 'levels' has shape",
    ),
    "external": (
        lambda m: _attribute(m, CONV, "taps").t.external_data.add(key="location", value="passwd"),
        "tensor 'taps' lies outside the file",
    ),
    "levels-nan": (_array(BITS, "levels", np.full(2, np.nan, np.float32)), "levels hold NaN"),
    "levels-none": (_array(BITS, "levels", np.zeros(0, np.float32)), r"node %bits .* L >= 1"),
    "levels-0d": (_array(BITS, "levels", np.zeros((), np.float32)), r"node %bits .* L >= 1"),
    "tau": (_array(SCORE, "tau", np.array(np.inf)), "node %score .*must be finite"),
    "groups": (_set(lambda m: _attribute(m, SCORE, "groups"), i=3), "node %score .*8 bits do not"),
    "groups-minus": (_set(lambda m: _attribute(m, SCORE, "groups"), i=-2), "node %score .*into -2"),
    "space": (lambda m: _attribute(m, CONV, "space").ints.pop(), "node %conv .* differ in length"),
    "stride": (
        lambda m: _attribute(m, CONV, "stride").ints.__setitem__(0, 0),
        "node %conv .* must be of 1 to 2147483647",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_is_named_with_file_and_node(fault: str) -> None:
    change, message = FAULTS[fault]
    model = onnx.load_from_string(to_bytes(small_graph()))
    change(model)
    with pytest.raises(FormatError, match=f"^x.onnx: .*{message}") as caught:
        from_bytes(model.SerializeToString(), "x.onnx")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_names_that_are_not_utf8() -> None:
    data = to_bytes(small_graph())
    with pytest.raises(FormatError, match=r"^x.onnx: "):
        from_bytes(data.replace(b"image", b"\xff\xfe\xfd\xfc\xfb"), "x.onnx")


def test_nothing_but_text_is_saved_as_a_name() -> None:
    with pytest.raises(GraphError, match="lone surrogate"):
        lgir.Graph("\ud800", (), (), ("x",))


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    data = bytearray(to_bytes(random_graph(draw(st.integers(0, 20)))))
    for _ in range(draw(st.integers(1, 4))):
        position = draw(st.integers(0, len(data)))
        match draw(st.integers(0, 3)):
            case 0:
                data[position : position + 1] = bytes([draw(st.integers(0, 255))])
            case 1:
                del data[position : position + draw(st.integers(1, 8))]
            case 2:
                data[position:position] = draw(st.binary(max_size=8))
            case _:
                data[position : position + 4] = struct.pack(
                    "<i", draw(st.integers(-(2**31), 2**31 - 1))
                )
    return bytes(data)


@settings(max_examples=300)
@given(mutated())
def test_mutated_files_load_or_raise_format_errors_only(data: bytes) -> None:
    with contextlib.suppress(FormatError):
        graph = from_bytes(data)
        assert from_bytes(to_bytes(graph)) == graph


@given(st.binary())
def test_any_bytes_raise_format_errors_only(data: bytes) -> None:
    with pytest.raises(FormatError):
        from_bytes(data)
