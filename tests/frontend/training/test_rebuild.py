"""rebuild is the inverse of lift: the torch network computes what the graph does."""

import numpy as np
import pytest
import torch

import lgir
from lgir.benchmarking.checks import random_samples
from lgir.errors import LiftError
from lgir.frontend.digits import demo_checkpoint
from lgir.frontend.training.rebuild import rebuild
from lgir.ir.builder import GraphBuilder, dense_body
from lgir.zoo import build_net


@pytest.mark.parametrize("name", ["dense-3x400-op16", "logictreenet-8", "digits"])
def test_lifting_a_rebuilt_network_gives_the_same_scores(name: str):
    graph = lgir.lift(demo_checkpoint()) if name == "digits" else build_net(name)
    net = rebuild(graph)
    (x,) = random_samples(graph, 40)
    x = x % 17 if name == "digits" else x
    with torch.no_grad():
        scores = net(torch.from_numpy(x)).numpy()
    assert np.array_equal(scores, lgir.compile(graph, "reference")(x))
    assert np.array_equal(scores, lgir.compile(lgir.lift(net), "reference")(x))


def test_a_loaded_graph_is_rebuilt_without_a_warning(tmp_path):
    lgir.save(build_net("logictreenet-8"), tmp_path / "net.onnx")
    torch.set_warn_always(True)
    try:
        rebuild(lgir.load(tmp_path / "net.onnx"))
    finally:
        torch.set_warn_always(False)


def test_what_no_layer_is_gets_an_error_that_names_the_node():
    b = GraphBuilder("wide")
    x = b.input("x", "bit", (3,))
    y = b.logic([x], dense_body(3, np.array([[0, 1, 2]]), np.array([0b10010110])), name="wide")
    with pytest.raises(LiftError, match=r"node %wide \(Logic\)"):
        rebuild(b.build(b.group_sum(y, 1)))


def test_a_graph_that_is_no_chain_is_refused():
    b = GraphBuilder("two")
    x, y = (b.input(name, "bit", (2,)) for name in "xy")
    with pytest.raises(LiftError, match="no chain"):
        rebuild(b.build(b.logic([x, y], dense_body(2, np.array([[0, 1]]), np.array([8])))))
