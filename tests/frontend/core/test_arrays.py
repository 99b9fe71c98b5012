"""torch-dwn's tables, and graphs from plain arrays."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

import lgir
import peer_modules as peer
from lgir.errors import LiftError
from lgir.frontend import Dense, Flatten, OrPool, TreeConv, from_arrays

torch.set_num_threads(1)


@pytest.fixture
def rng():
    torch.manual_seed(0)
    return np.random.default_rng(0)


def run(graph, x):
    return lgir.compile(graph, backend="reference")(x)


# torch-dwn


def assert_lifts(model, width, **options):
    graph = lgir.lift(model, **options)
    x = torch.randint(0, 2, (70, width)).float()
    np.testing.assert_array_equal(run(graph, x.numpy()), model.eval()(x).numpy())
    return graph


@pytest.mark.parametrize("learnable", [False, True])
@pytest.mark.parametrize("inputs", [1, 2, 3, 4, 5, 6])
def test_weightless_layers_lift_exactly(rng, inputs, learnable):
    first = peer.LUTLayer(30, 50, inputs, learnable)
    model = nn.Sequential(first, peer.LUTLayer(50, 40, inputs), peer.DwnGroupSum(10, 1 / 0.3))
    graph = assert_lifts(model, 30)
    state = model.state_dict()
    assert lgir.lift(state, groups=10, tau=1 / 0.3, input_shape=30) == graph


def test_group_sums_that_shuffle_and_pad_lift_exactly(rng):
    model = nn.Sequential(peer.LUTLayer(30, 47, 3), peer.DwnGroupSum(10, 2.0, torch.randperm(47)))
    assert_lifts(model, 30)
    assert_lifts(nn.Sequential(peer.LUTLayer(30, 47, 3), peer.DwnGroupSum(10)), 30)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: setattr(m[0], "ste", False), "ste=False"),
        (lambda m: m[0].luts.data.fill_(float("nan")), "holds NaN"),
        (lambda m: m[0].mapping.data.fill_(99), "gate 0 is wired to input 99"),
        (lambda m: setattr(m[0], "luts", nn.Parameter(torch.rand(20, 128))), "128 entries"),
        (lambda m: setattr(m[0], "luts", nn.Parameter(torch.rand(20, 7))), "7 entries"),
    ],
)
def test_weightless_layers_that_are_no_gates_are_refused(rng, change, message):
    model = nn.Sequential(peer.LUTLayer(20, 20, 3))
    change(model)
    with pytest.raises(LiftError, match=message):
        lgir.lift(model)


# Arrays


def every_input(k):
    return np.array(list(itertools.product((0, 1), repeat=k)), dtype=bool)


@pytest.mark.parametrize("k", [1, 2, 3, 6])
def test_truth_and_tables_say_the_same(rng, k):
    truth = rng.random((9, 1 << k)) > 0.5
    tables = (truth * (np.uint64(1) << np.arange(1 << k, dtype=np.uint64))).sum(1, dtype=np.uint64)
    indices = np.tile(np.arange(k), (9, 1))
    graph = from_arrays([Dense(indices=indices, truth=truth)], input_shape=(k,))
    assert graph == from_arrays([Dense(indices=indices, tables=tables)], input_shape=(k,))
    np.testing.assert_array_equal(run(graph, every_input(k)), truth.T)
    least = from_arrays(
        [Dense(indices=indices, truth=truth, first_input="least")], input_shape=(k,)
    )
    np.testing.assert_array_equal(run(least, every_input(k)[:, ::-1]), truth.T)


def test_operations_and_logits_say_the_same(rng):
    ops = np.arange(16)
    logits = rng.random((16, 16))
    logits[ops, ops] = 2
    indices = np.tile([0, 1], (16, 1))
    graph = from_arrays([Dense(indices=indices, ops=ops)], input_shape=(2,))
    assert graph == from_arrays([Dense(indices=indices, logits=logits)], input_shape=(2,))
    expected = [[op >> (3 - case) & 1 for op in ops] for case in range(4)]
    np.testing.assert_array_equal(run(graph, every_input(2)), np.array(expected, bool))


def test_a_convolutional_network_from_arrays_equals_the_layers(rng):
    from lgir.frontend.layers import GroupSum, LogicDense, LogicNet, LogicTreeConv2d, OrPool2d

    net = LogicNet(
        LogicTreeConv2d(2, 6, depth=2, padding=1, stride=(1, 2)), OrPool2d(2), nn.Flatten(),
        LogicDense(48, 40), GroupSum(4, 3.0, 0.5), input_shape=(2, 8, 8),
    )  # fmt: skip
    for parameter in net.parameters():
        nn.init.normal_(parameter)
    conv, dense = net[0], net[3]
    graph = from_arrays(
        [
            TreeConv(
                leaves=conv.leaves.numpy(), logits=conv.weight.detach().numpy(),
                window=(3, 3), stride=(1, 2), padding=(1, 1),
            ),
            OrPool((2, 2)),
            Flatten(),
            Dense(indices=dense.indices.numpy().T, logits=dense.weight.detach().numpy()),
        ],
        input_shape=(2, 8, 8), groups=4, tau=3.0, beta=0.5, metadata={"source": "lgir"},
    )  # fmt: skip
    assert graph == lgir.lift(net)


def test_thresholds_make_numbers_the_input(rng):
    graph = from_arrays(
        [Dense(indices=[[0, 3]], ops=[6])], input_shape=(4,), thresholds=[0.5, 1.5],
        threshold_dtype="f32",
    )  # fmt: skip
    assert graph.inputs[0].type == "f32[2]"
    x = np.array([[0, 0], [1, 1], [1, 2], [0, 2]], np.float32)
    np.testing.assert_array_equal(run(graph, x)[:, 0], [False, True, False, True])


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (Dense(indices=[[0, 1]]), "give one of ops, logits, truth, tables"),
        (Dense(indices=[[0, 1]], ops=[1], tables=[8]), "give one of"),
        (Dense(indices=[[0, 1]], ops=[16]), "ops are numbers 0..15"),
        (Dense(indices=[[0, 1, 2]], ops=[1]), "ops are of two inputs"),
        (Dense(indices=[[0, 1]], ops=[1], first_input="least"), "the first most significant"),
        (Dense(indices=[[0, 1]], tables=[8], first_input="last"), "most or least"),
        (Dense(indices=[0, 1], ops=[1]), "expected integers of 2 axes"),
        (Dense(indices=[[0.0, 1.0]], ops=[1]), "float64"),
        (Dense(indices=[[0, 4]], ops=[1]), "gate 0 is wired to input 4"),
        (Dense(indices=[[0, 1]], ops=[1, 2]), "2 gates, but wiring"),
        (Dense(indices=[[0, 1]], truth=[[0, 1]]), "have 4 entries"),
        (Dense(indices=[[0, 1]], tables=[16]), "4 bits"),
        (Dense(indices=[[0] * 7], tables=[1]), "1 to 6 inputs"),
        (TreeConv(leaves=np.zeros((1, 2, 3), int), ops=[[1]], window=(3, 3)), "windows of 2 axes"),
        (OrPool((2, 2)), "windows of 2 axes"),
        ("dense", "give Dense, TreeConv"),
    ],
)
def test_wrong_arrays_are_refused_with_the_layer(layer, message):
    with pytest.raises(LiftError, match=message):
        from_arrays([layer], input_shape=(4,))


def test_incomplete_trees_are_refused():
    leaves = np.zeros((1, 3, 3), int)
    layer = TreeConv(leaves=leaves, ops=[[1, 1]], window=(2, 2))
    with pytest.raises(LiftError, match="no complete tree"):
        from_arrays([layer], input_shape=(1, 4, 4))


def test_a_tau_without_groups_is_refused():
    xor = Dense(indices=[[0, 1]], ops=[6])
    assert from_arrays([xor], input_shape=2).inputs[0].shape == (2,)
    for option in ({"tau": 2.0}, {"beta": 1.0}):
        with pytest.raises(LiftError, match="belong to a GroupSum; give groups"):
            from_arrays([xor], input_shape=(2,), **option)
