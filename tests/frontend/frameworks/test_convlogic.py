"""convlogic: packed selections, complete trees with the pool, split trees, Lightning files."""

import numpy as np
import pytest
import torch
from torch import nn

import lgir
import peer_modules as peer
from lgir.errors import LiftError
from lgir.frontend import describe

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def assert_lifts(model, shape, **options):
    graph = lgir.lift(model, **options)
    x = torch.randint(0, 2, (70, *shape)).float()
    scores = lgir.compile(graph, backend="reference")(x.numpy())
    np.testing.assert_array_equal(scores, model.eval()(x).detach().numpy())
    return graph


@pytest.mark.parametrize("stride", [(1, 1), (2, 1)])
@pytest.mark.parametrize("padding", [(0, 0), (1, 2)])
@pytest.mark.parametrize("kernel", [(3, 3), (5, 2)])
def test_complete_convolutions_lift_exactly(kernel, stride, padding):
    layer = peer.ConvLogicLayer(3, 5, kernel, stride, padding)
    assert_lifts(nn.Sequential(layer), (3, 11, 9), input_shape=(3, 11, 9))


def test_split_trees_lift_as_the_complete_one():
    whole = peer.ConvLogicLayer(3, 5)
    first = peer.ConvLogicLayer(3, 5, complete=False)
    trees = peer.TreeLogicLayer(5, 4), peer.TreeLogicLayer(5, 2)
    first.selection = whole.selection
    first.weights.data = whole.weights.data[:, :4]
    trees[0].weights.data, trees[1].weights.data = (
        whole.weights.data[:, 4:6],
        whole.weights.data[:, 6:],
    )
    split = nn.Sequential(first, *trees, peer.PoolLogicLayer())
    assert_lifts(split, (3, 8, 8), input_shape=(3, 8, 8))
    x = torch.randint(0, 2, (9, 3, 8, 8)).float()
    assert torch.equal(split(x), whole(x))


def network():
    return nn.Sequential(
        peer.ConvLogicLayer(1, 4, (5, 5), padding=(0, 0)),
        peer.ConvLogicLayer(4, 6),
        nn.Flatten(),
        peer.LogicLayer(54, 60),
        peer.LogicLayer(60, 40),
        peer.GroupSum(10, 6.5),
    )


ARCHITECTURE = [
    {"type": "ConvLogicLayer", "kernel": 5, "padding": 0, "complete": True},
    {"type": "ConvLogicLayer", "complete": True},
    "Flatten()",
    {"type": "LogicLayer"},
    {"type": "LogicLayer"},
    "GroupSum(10, tau=6.5)",
]


def test_a_module_and_its_lightning_checkpoint_lift_alike(tmp_path):
    model = network()
    graph = assert_lifts(model, (1, 16, 16), input_shape=(1, 16, 16))
    state = {f"model.network.{k}": v for k, v in model.state_dict().items()}
    checkpoint = {"state_dict": state, "epoch": 12, "pytorch-lightning_version": "2.4.0"}
    torch.save(checkpoint, tmp_path / "last.ckpt")
    lifted = lgir.lift(tmp_path / "last.ckpt", architecture=ARCHITECTURE, input_shape=(1, 16, 16))
    assert lifted.nodes == graph.nodes
    assert lifted.metadata["training.epoch"] == "12"


def test_a_draft_is_completed_and_lifts():
    model = network()
    draft = describe(model.state_dict(), input_shape=(1, 16, 16))
    assert [layer["type"] for layer in draft["layers"]] == [
        "ConvLogicLayer", "ConvLogicLayer", "Flatten", "LogicLayer", "LogicLayer", "GroupSum",
    ]  # fmt: skip
    draft["layers"][-1].update(k=10, tau=6.5)
    assert lgir.lift(model.state_dict(), architecture=draft) == lgir.lift(
        model, input_shape=(1, 16, 16)
    )


def test_a_dense_network_needs_no_architecture():
    model = nn.Sequential(peer.LogicLayer(20, 30), peer.LogicLayer(30, 20), peer.GroupSum(4, 2.0))
    graph = assert_lifts(model, (20,))
    assert lgir.lift(model.state_dict(), groups=4, tau=2.0, input_shape=(20,)) == graph


@pytest.mark.filterwarnings("ignore:.*has no layer for")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "does not hold kernel, stride and padding"),
        ({"architecture": ARCHITECTURE}, "input_shape"),
        (
            {"architecture": [{"type": "ConvLogicLayer", "complete": True}]},
            r"input_shape=\(channels",
        ),
    ],
)
def test_files_without_sizes_are_refused(options, message):
    with pytest.raises(LiftError, match=message):
        lgir.lift(network().state_dict(), **options)


@pytest.mark.parametrize(
    ("number", "change", "message"),
    [
        (0, {"kernel": 3}, r"outside kernel=\[3, 3\]"),
        (0, {"complete": False}, "reads 4 bits per channel"),
        (1, {"padding": 2}, "in_dim is 54, the layer before gives"),
        (2, {"type": "Identity"}, "a Flatten is missing"),
        (3, {"key": "8"}, r"lacks the tensor 8\.weights"),
    ],
)
def test_architectures_that_do_not_fit_are_refused(number, change, message):
    layers = [
        {"type": "ConvLogicLayer", "kernel": 5, "padding": 0, "complete": True},
        {"type": "ConvLogicLayer", "complete": True},
        {"type": "Flatten"},
        {"type": "LogicLayer", "in_dim": 54},
        {"type": "LogicLayer"},
    ]
    layers[number] = {**layers[number], **change}
    with pytest.raises(LiftError, match=message):
        lgir.lift(network().state_dict(), architecture=layers, input_shape=(1, 16, 16))
