"""The builder, the verifier's rules, registries and the zoo."""

from __future__ import annotations

import operator
import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import EntryPoint

import numpy as np
import pytest

import lgir
from lgir.errors import GraphError, LgirError, UnknownNameError
from lgir.ir.body import Body
from lgir.ir.graph import Graph
from lgir.ir.nodes import GroupSum, Logic, Node, Reshape, Threshold
from lgir.ir.truth_tables import AND
from lgir.ir.types import Value
from lgir.registry import Registry
from lgir.zoo import build_net, dense_net
from random_graphs import random_graph

X = Value("x", "bit", (4,))
IMAGE = Value("image", "u8", (2, 3, 3))
PAIR = Body.build([[0, 0], [0, 3]], [[2, 3]], [AND], [4])


def graph_of(*nodes: Node, inputs: tuple[Value, ...] = (X, IMAGE), outputs: object = None) -> Graph:
    return Graph("g", inputs, nodes, outputs or (nodes[-1].output,))  # type: ignore[arg-type]


def test_values_are_inferred() -> None:
    b = lgir.GraphBuilder("g")
    image = b.input("image", "u8", (2, 6, 6))
    bits = b.threshold(image, [[1, 2, 3], [4, 5, 6]])
    assert bits == Value("threshold1", "bit", (6, 6, 6))
    assert bits.size == 216
    assert str(bits) == "%threshold1 : bit[6,6,6]"
    pool = b.or_pool(bits, (3, 2), stride=(1, 2), padding=(1, 0))
    assert pool == Value("logic1", "bit", (6, 6, 3))
    flat = b.flatten(pool)
    assert flat == Value("reshape1", "bit", (108,))
    assert b.flatten(flat) is flat
    assert b.group_sum(flat, 4) == Value("groupsum1", "f32", (4,))


def test_fresh_names_avoid_chosen_ones() -> None:
    b = lgir.GraphBuilder("g")
    x = b.input("logic1", "bit", (4,))
    assert b.dense(x, [0], [1], [6]).name == "logic2"
    assert b.dense(x, [0], [1], [6], name="logic3").name == "logic3"
    assert b.dense(x, [0], [1], [6]).name == "logic4"


def test_nodes_speak_onnx() -> None:
    node = Node(GroupSum(2, tau=3.0), ("x",), "y")
    assert (node.op_type, node.outputs) == ("GroupSum", ("y",))
    assert node.attributes == {"groups": 2, "tau": 3.0, "beta": 0.0}


def test_graphs_are_navigated_by_name() -> None:
    first, second = Node(Logic(PAIR), ("x",), "a"), Node(GroupSum(1), ("a",), "b")
    graph = graph_of(first, second, inputs=(X,))
    assert graph.producer("a") is first
    assert graph.producer("x") is None
    assert graph.users() == {"x": [first], "a": [second], "b": []}
    assert [node for node, _ in graph.of_type(Logic)] == [first]
    assert graph.with_nodes([first], ["a"]).outputs == ("a",)
    assert repr(graph) == "<Graph 'g': 2 nodes, 1 distinct gates>"


def test_graphs_keep_their_own_metadata() -> None:
    b = lgir.GraphBuilder("g", {"a": "1"})
    graph = b.build(b.input("x", "bit", (1,)))
    b.metadata["b"] = "2"
    assert graph.metadata == {"a": "1"}


def test_graphs_can_be_pickled() -> None:
    graph = build_net("logictreenet-8")
    assert pickle.loads(pickle.dumps(graph)) == graph


def test_operators_compare_arrays_by_content() -> None:
    assert Threshold(np.float32([1, 2])) == Threshold(np.float32([1, 2]))
    assert Threshold(np.float32([1, 2])) != Threshold(np.float32([1, 3]))
    assert Threshold(np.float32([1])) != GroupSum(1)


def levels(*values: object) -> Threshold:
    return Threshold(np.array(values, np.float32))


RULES: dict[str, tuple[Callable[[], object], str]] = {
    "dtype": (lambda: graph_of(inputs=(Value("x", "f64", (1,)),), outputs=("x",)), "dtype 'f64'"),
    "shape-0": (
        lambda: graph_of(inputs=(Value("x", "bit", (0,)),), outputs=("x",)),
        r"shape \[0\]",
    ),
    "shape-none": (
        lambda: graph_of(inputs=(Value("x", "bit", ()),), outputs=("x",)),
        r"shape \[\]",
    ),
    "shape-float": (
        lambda: graph_of(inputs=(Value("x", "bit", (2.5,)),), outputs=("x",)),  # type: ignore
        r"shape \[2.5\]; every axis must be an integer from 1",
    ),
    "shape-huge": (
        lambda: graph_of(inputs=(Value("x", "bit", (2**70,)),), outputs=("x",)),
        "every axis must be an integer from 1 to 2147483647",
    ),
    "name-empty": (lambda: graph_of(Node(GroupSum(1), ("x",), "")), "'' cannot name a value"),
    "name-type": (lambda: graph_of(Node(GroupSum(1), ("x",), 3)), "3 cannot name"),  # type: ignore
    "input-twice": (lambda: graph_of(inputs=(X, X), outputs=("x",)), "input %x is defined twice"),
    "node-twice": (lambda: graph_of(Node(GroupSum(1), ("x",), "x")), "%x is defined twice"),
    "undefined": (lambda: graph_of(Node(GroupSum(1), ("y",), "z")), "node %z reads %y, .*a cycle"),
    "cycle": (lambda: graph_of(Node(GroupSum(1), ("z",), "z")), "node %z reads %z, .*a cycle"),
    "no-output": (lambda: Graph("g", (X,), (), ()), "graph 'g' has no output"),
    "operator": (
        lambda: graph_of(Node("relu", ("x",), "y")),  # type: ignore[arg-type]
        "node %y .str.: is no operator; known: Threshold, Logic, GroupSum, Reshape",
    ),
    "output": (lambda: Graph("g", (X,), (), ("y",)), "output %y is not defined"),
    "metadata": (lambda: Graph("g", (X,), (), ("x",), {"a": 1}), "not .'a', 1."),  # type: ignore
    "two-inputs": (lambda: graph_of(Node(GroupSum(1), ("x", "x"), "y")), "takes one input, not 2"),
    "threshold-bit": (
        lambda: graph_of(Node(levels(1), ("x",), "y")),
        "thresholds apply to u8 or f",
    ),
    "threshold-none": (lambda: graph_of(Node(levels(), ("image",), "y")), "L >= 1"),
    "threshold-lead": (
        lambda: graph_of(Node(levels([1], [2], [3]), ("image",), "y")),
        r"levels \(3, 1\) do not match a prefix of the input's shape \(2, 3, 3\)",
    ),
    "threshold-nan": (lambda: graph_of(Node(levels(np.nan), ("image",), "y")), "levels hold NaN"),
    "threshold-f64": (
        lambda: graph_of(Node(Threshold(np.array([1.0])), ("image",), "y")),  # type: ignore
        "levels must be float32",
    ),
    "groupsum-image": (lambda: graph_of(Node(GroupSum(1), ("image",), "y")), "a flat bit vector"),
    "groupsum-split": (
        lambda: graph_of(Node(GroupSum(3), ("x",), "y")),
        "4 bits do not split into",
    ),
    "groupsum-0": (lambda: graph_of(Node(GroupSum(0), ("x",), "y")), "do not split into 0"),
    "tau-0": (lambda: graph_of(Node(GroupSum(1, 0.0), ("x",), "y")), "tau=0.0 must be finite and"),
    "tau-nan": (lambda: graph_of(Node(GroupSum(1, np.nan), ("x",), "y")), "must be finite"),
    "tau-big": (lambda: graph_of(Node(GroupSum(1, 1e300), ("x",), "y")), "not 0 in float32"),
    "tau-small": (lambda: graph_of(Node(GroupSum(1, 1e-300), ("x",), "y")), "not 0 in float32"),
    "beta-inf": (lambda: graph_of(Node(GroupSum(1, 1, np.inf), ("x",), "y")), "beta=inf finite"),
    "reshape": (lambda: graph_of(Node(Reshape((3,)), ("x",), "y")), r"reshape bit\[4\] to \[3\]"),
    "reshape-minus": (lambda: graph_of(Node(Reshape((-2, -2)), ("x",), "y")), "cannot reshape"),
    "logic-u8": (lambda: graph_of(Node(Logic(PAIR), ("image",), "y")), "is u8; gates read bits"),
    "logic-rank": (
        lambda: graph_of(Node(Logic(Body.build([], [], [], [0], rank=1), (2,), (1,)), ("x",), "y")),
        "an iteration space of 1 axes reads a channel axis and 1 more .insert a Reshape",
    ),
    "logic-rank-4": (
        lambda: graph_of(Node(Logic(PAIR, (1,) * 4, (1,) * 4), ("x",), "y")),
        "has 4 axes; at most 3",
    ),
    "logic-stride": (
        lambda: graph_of(Node(Logic(PAIR, (2,), ()), ("x",), "y")),
        "differ in length",
    ),
    "logic-space": (
        lambda: graph_of(Node(Logic(PAIR, (0,), (1,)), ("x",), "y")),
        "must be of 1 to",
    ),
    "logic-none": (lambda: graph_of(Node(Logic(PAIR), (), "y")), "reads no value; at least one"),
    "logic-offsets": (
        lambda: graph_of(
            Node(Logic(Body.build([], [], [], [0], rank=1)), ("x",), "y"),
        ),
        "taps have 1 offsets, the iteration space has 0 axes",
    ),
}


@pytest.mark.parametrize("rule", RULES)
def test_broken_rule_is_named(rule: str) -> None:
    make, message = RULES[rule]
    with pytest.raises(GraphError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (Body.build([[0, 4]], [], [], [0]), r"tap 0 \(net 2\) reads input 0 channel 4; .* \[4\]"),
        (Body.build([[1, 0]], [], [], [0]), r"tap 0 \(net 2\) reads input 1 channel 0"),
        (Body.build([[0, -1]], [], [], [0]), r"tap 0 \(net 2\) reads input 0 channel -1"),
        (Body.build([[-1, 0]], [], [], [0]), r"tap 0 \(net 2\) reads input -1"),
        (Body.build([[0, 0]], [[2, 3]], [8], [3]), r"gate 0 \(net 3\) reads nets \[2, 3\].*0..2"),
        (Body.build([[0, 0]], [[2, 4], [2, 2]], [8, 8], [3]), r"gate 0 \(net 3\) .*a cycle or"),
        (Body.build([[0, 0]], [[2, -1]], [8], [3]), r"gate 0 \(net 3\) reads nets \[2, -1\]"),
        (Body.build([[0, 0]], [], [], []), "has no output channel"),
        (Body.build([[0, 0]], [], [], [3]), "output 0 is net 3; nets are 0..2"),
        (Body.build([[0, 0]], [], [], [2, -1]), "output 1 is net -1"),
        (
            Body(
                np.zeros((1, 2), np.int32),
                np.full((1, 2), 2, np.int32),
                np.array([16], np.uint8),
                np.array([3], np.int32),
            ),
            "gate 0 has table 0x10, more than 4 bits",
        ),
        (
            Body(
                np.zeros((1, 2), np.int32),
                np.full((1, 2), 2, np.int64),  # type: ignore[arg-type]
                np.array([8], np.uint8),
                np.array([3], np.int32),
            ),
            r"fanin is int64, not int32 \(make bodies with Body.build\)",
        ),
        (
            Body(
                np.zeros((1, 2), np.int32),
                np.full((1, 2), 2, np.int32),
                np.array([8], np.uint16),
                np.array([3], np.int32),
            ),
            r"table is uint16\(1,\), not one 2-input table per gate",
        ),
    ],
)
def test_broken_body_is_named(body: Body, message: str) -> None:
    with pytest.raises(GraphError, match=rf"^node %y \(Logic\): .*{message}"):
        graph_of(Node(Logic(body), ("x",), "y"))


@pytest.mark.parametrize(
    ("a", "b", "ops", "message"),
    [
        ([0, 4], [1, 1], [6, 6], r"gate 1 \(net 7\) reads nets \[-1, 3\]"),
        ([0, -1], [1, 1], [6, 6], r"gate 1 \(net 7\) reads nets \[-1, 3\]"),
        ([0], [1], [16], r"difflogic's operations are 0\.\.15, not 16\.\.16"),
        ([0], [1], [-1], r"difflogic's operations are 0\.\.15, not -1\.\.-1"),
        ([0, 1], [1], [6], r"are \(N,\) each, not \(2,\), \(1,\), \(1,\)"),
        ([0.5], [1], [6], "hold integers"),
    ],
)
def test_dense_wiring_out_of_range_is_refused(
    a: list[int], b: list[int], ops: list[int], message: str
) -> None:
    builder = lgir.GraphBuilder("g")
    with pytest.raises(GraphError, match=message):
        builder.dense(builder.input("x", "bit", (4,)), a, b, ops)


@pytest.mark.parametrize(
    ("kernel", "stride", "padding"),
    [
        ((2,), None, None),
        ((2, 2), (2,), None),
        ((2, 2), (0, 1), None),
        ((2, 2), None, (1,)),
        ((0, 1), (1, 1), None),
    ],
)
def test_pooling_of_wrong_rank_or_size_is_refused(
    kernel: tuple[int, ...], stride: tuple[int, ...] | None, padding: tuple[int, ...] | None
) -> None:
    b = lgir.GraphBuilder("g")
    with pytest.raises(GraphError, match=r"pooling bit\[1,4,4\] takes 2 positive sizes each"):
        b.or_pool(b.input("x", "bit", (1, 4, 4)), kernel, stride, padding)


def test_pooling_over_more_than_there_is_is_refused() -> None:
    b = lgir.GraphBuilder("g")
    with pytest.raises(GraphError, match=r"iteration space \(0, 0\)"):
        b.or_pool(b.input("x", "bit", (1, 2, 2)), (3, 3))


@pytest.mark.parametrize("bad", [[[1, 2], [3]], ["x"], [None, {}]])
def test_levels_that_are_no_array_are_refused(bad: list[object]) -> None:
    b = lgir.GraphBuilder("g")
    with pytest.raises(GraphError, match="levels must be numbers"):
        b.threshold(b.input("x", "u8", (1,)), bad)  # type: ignore[arg-type]


def test_the_builder_copies_levels() -> None:
    b, array = lgir.GraphBuilder("g"), np.array([1, 2], np.float32)
    graph = b.build(b.threshold(b.input("x", "u8", (1,)), array, name="y"))
    array[:] = 0
    assert graph.node("y").op == levels(1, 2)


# Registries


def test_registry_suggests_a_near_name() -> None:
    with pytest.raises(UnknownNameError, match="unknown backend 'refrence'; did you mean 'referen"):
        lgir.compile(dense_net(1, 10, inputs=4, classes=2), backend="refrence")


def test_registry_refuses_odd_and_taken_names() -> None:
    registry: Registry[Callable[[], int]] = Registry("thing", "lgir.backends")

    def one() -> int:
        return 1

    def other() -> int:
        return 2

    assert registry.register("a-b")(one) is one
    registry.register("a-b")(one)
    with pytest.raises(LgirError, match="thing 'a-b' is registered already"):
        registry.register("a-b")(other)
    with pytest.raises(LgirError, match="thing name 'a b' must be of letters, digits and hyphens"):
        registry.register("a b")
    with pytest.raises(LgirError, match="thing name '' must be"):
        registry.register("")
    assert dict(registry.items()) == {"a-b": one}


def test_registry_takes_entry_points_and_names_a_broken_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    points = [
        EntryPoint("extra", "operator:add", "lgir.backends"),
        EntryPoint("broken", "no_such_module:x", "lgir.backends"),
        EntryPoint("module", "operator", "lgir.backends"),
    ]
    monkeypatch.setattr("lgir.registry.entry_points", lambda group: points)
    registry: Registry[Callable[..., object]] = Registry("thing", "lgir.backends")
    for _ in range(2):  # a failed load is tried again, not taken for done
        with pytest.raises(
            LgirError, match=r"entry point 'broken' of lgir\.backends .*No module named"
        ):
            registry.get("broken")
    assert registry.get("extra") is operator.add, "a broken one harms no other"
    assert registry.names() == ["broken", "extra", "module"]
    with pytest.raises(LgirError, match=r"entry point 'module' of .*write it as MODULE:NAME"):
        registry.get("module")


def run_in_a_new_process(code: str) -> None:
    """Runs `code` where nothing of lgir is loaded, with a network `net` to compile."""
    net = (
        "import sys, lgir\n"
        "from lgir.zoo import dense_net\n"
        "net = dense_net(1, 10, inputs=4, classes=2)\n"
    )
    subprocess.run([sys.executable, "-c", net + code], check=True)


def test_threads_may_ask_for_their_first_backend_at_once() -> None:
    code = (
        "import threading\n"
        "from concurrent.futures import ThreadPoolExecutor\n"
        "sys.setswitchinterval(1e-6)\n"
        "together = threading.Barrier(8)\n"
        "def compiled(_):\n"
        "    together.wait()\n"
        "    return lgir.compile(net, backend='reference').backend\n"
        "with ThreadPoolExecutor(8) as pool:\n"
        "    assert set(pool.map(compiled, range(8))) == {'reference'}\n"
    )
    run_in_a_new_process(code)


def test_a_name_is_imported_when_asked_for_and_never_taken_by_others() -> None:
    code = (
        "lgir.compile(net, backend='reference')\n"
        "assert not {'llvmlite', 'lgir.backends.llvm', 'lgir.backends.cuda'} & set(sys.modules)\n"
        "from lgir.registry import BACKENDS, EXPORTERS\n"
        "assert {'c-O1', 'cuda', 'llvm'} < set(BACKENDS.names())\n"
        "assert {'c', 'cu', 'so'} < set(EXPORTERS.names())\n"
        "assert 'lgir.backends.llvm' not in sys.modules\n"
        "try: lgir.register_backend('llvm')(print)\n"
        "except lgir.LgirError as error: assert 'registered already' in str(error)\n"
        "else: raise AssertionError\n"
        "assert lgir.compile(net).backend == 'llvm'\n"
        "assert 'lgir.backends.cuda' not in sys.modules\n"
    )
    run_in_a_new_process(code)


def test_a_built_in_name_taken_before_anything_is_loaded_is_told_about() -> None:
    registry: Registry[Callable[..., object]] = Registry("thing", "lgir.backends")
    registry.register("one")(print)
    with pytest.raises(LgirError, match="thing 'one' is registered already; choose another name"):
        registry.expect("lgir.somewhere", "one", "two")
    with pytest.raises(LgirError, match="thing 'two' is registered already"):
        registry.register("two")(print)


# Zoo


@pytest.mark.parametrize("name", ["dense-2x400", "dense-2x400-op16", "logictreenet-8-t1"])
def test_nets_are_named_and_seeded(name: str) -> None:
    graph = build_net(name, seed=3)
    assert graph.outputs == ("score",)
    assert graph.values["score"] == Value("score", "f32", (10,))
    assert build_net(name, seed=3) == graph
    assert build_net(name, seed=4) != graph


@pytest.mark.parametrize(
    "name", ["", "dense", "dense-0x8000", "dense-6x8001", "dense-6x10", "logictreenet-3", "mnist"]
)
def test_unknown_nets_are_refused(name: str) -> None:
    with pytest.raises(UnknownNameError, match=f"unknown net '{name}'"):
        build_net(name)


def test_dense_nets_use_every_input_evenly_and_never_twice_in_a_gate() -> None:
    body = next(dense_net(1, 400, seed=1).of_type(Logic))[1].body
    uses = np.bincount(body.fanin.ravel() - 2, minlength=784)
    assert set(uses) == {1, 2}
    assert (body.fanin[:, 0] != body.fanin[:, 1]).all()


def test_map_bodies_replaces_what_the_function_changes_and_nothing_else() -> None:
    graph = random_graph(3)
    assert graph.map_bodies(lambda body: body) is graph
    first = next(op.body for _, op in graph.of_type(Logic))

    def swap_outputs(body: Body) -> Body:
        return replace(body, outputs=body.outputs[::-1]) if body is first else body

    mapped = graph.map_bodies(swap_outputs)
    for before, after in zip(graph.nodes, mapped.nodes, strict=True):
        if isinstance(before.op, Logic) and before.op.body is first:
            assert isinstance(after.op, Logic)
            assert after.op.body.outputs.tolist() == first.outputs[::-1].tolist()
        else:
            assert after is before
