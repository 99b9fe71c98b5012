"""ONNX of standard operators: a plain runtime gives the reference's outputs, bit for bit."""

import numpy as np
import onnx
import pytest

import lgir
from lgir.equivalence.sampling import draw_samples
from lgir.frontend.digits import demo_checkpoint
from lgir.ir.body import Body
from lgir.ir.builder import GraphBuilder
from lgir.zoo import build_net
from paths import ROOT, SHARED
from random_graphs import random_graph

onnxruntime = pytest.importorskip("onnxruntime")


def run(graph, path, count=100):
    """(outputs of onnxruntime, outputs of the reference, the model)."""
    lgir.export(graph, path, format="onnx")
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    samples = draw_samples(graph, count, seed=5)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    results = session.run(None, {v.name: x for v, x in zip(graph.inputs, samples, strict=True)})
    expected = lgir.compile(graph, backend="reference")(*samples)
    return results, expected if isinstance(expected, tuple) else (expected,), model


def check_equal(graph, path):
    results, expected, model = run(graph, path)
    for left, right in zip(results, expected, strict=True):
        assert left.dtype == right.dtype
        assert np.array_equal(left, right)
    return model


@pytest.mark.parametrize("seed", range(30))
def test_random_graphs_are_equal_in_onnxruntime(seed, tmp_path):
    check_equal(random_graph(seed), tmp_path / "model.onnx")


@pytest.mark.parametrize("passes", [None, "default", "default,lut-map"])
def test_the_digits_are_equal_in_onnxruntime(passes, tmp_path):
    graph = lgir.lift(demo_checkpoint())
    if passes is not None:
        graph, _ = lgir.optimize(graph, passes)
    check_equal(graph, tmp_path / "model.onnx")


def test_only_standard_operators_are_written(tmp_path):
    model = check_equal(build_net("dense-2x400"), tmp_path / "model.onnx")
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 17)]
    assert {node.domain for node in model.graph.node} == {""}


def test_convolutions_stay_rolled(tmp_path):
    """The model of an image four times as large is hardly larger."""

    def model_of(size):
        b = GraphBuilder("conv")
        x = b.input("x", "bit", (1, size, size))
        body = Body.build(
            taps=[[0, 0, -1, 0], [0, 0, 1, 1]], fanin=[[2, 3]], table=[6], outputs=[4]
        )
        y = b.or_pool(b.logic([x], body, (size, size)), (2, 2))
        return check_equal(b.build(b.flatten(y)), tmp_path / f"{size}.onnx")

    small, large = model_of(8), model_of(16)
    assert len(small.graph.node) == len(large.graph.node)
    assert large.ByteSize() < small.ByteSize() + 64


def test_an_input_that_is_an_output_and_constants_are_written(tmp_path):
    b = GraphBuilder("edges")
    x = b.input("x", "bit", (3,))
    body = Body.build(np.zeros((0, 2)), np.zeros((0, 1)), [], outputs=[0, 1])
    model = check_equal(b.build(b.logic([x], body), x), tmp_path / "model.onnx")
    assert [info.name for info in model.graph.output] == ["logic1", "x_out"]


CHECKPOINTS = SHARED / "checkpoints"
DIFFLOGIC, TORCHLOGIX = CHECKPOINTS / "difflogic_mnist", CHECKPOINTS / "torchlogix_conv_mnist"
TRAINED = {
    DIFFLOGIC / "state_dict.pt": {
        "indices": DIFFLOGIC / "indices.pt", "groups": 10, "tau": 20, "input_shape": 784,
        "thresholds": 127,
    },
    TORCHLOGIX / "state_dict.pt": {"architecture": TORCHLOGIX / "model.json", "thresholds": 127},
    CHECKPOINTS / "lgir_cifar10_s" / "cifar10_s_short.pt": {},
    ROOT / "examples" / "mnist.pt": {},
}  # fmt: skip


@pytest.mark.parametrize("path", TRAINED, ids=lambda path: path.parent.name)
@pytest.mark.parametrize("optimized", [False, True])
def test_trained_networks_are_equal_in_onnxruntime(path, optimized, tmp_path):
    pytest.importorskip("torch")
    if not path.exists():
        pytest.skip("the trained checkpoint is not here")
    graph = lgir.lift(path, **TRAINED[path])
    if optimized:
        graph, _ = lgir.optimize(graph, verify=None)
    check_equal(graph, tmp_path / "model.onnx")
