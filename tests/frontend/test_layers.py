"""The trainable layers: gradients, hard and soft modes, wiring, saving and loading."""

import io
import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn

from lgir.errors import LiftError, UnknownNameError
from lgir.frontend import architecture_of
from lgir.frontend.kernels import cpu as cpu_kernels
from lgir.frontend.kernels import multilinear as kernels
from lgir.frontend.layers import (
    GroupSum,
    LogicDense,
    LogicNet,
    LogicTreeConv2d,
    OrPool2d,
    Thermometer,
    build_model,
)

torch.set_num_threads(1)


def sixteen_ways(a, b):
    """(..., 16): each operation's real-valued form on a and b, as the 2022 paper's table has it."""
    one = torch.ones_like(a)
    ab = a * b
    return torch.stack(
        [
            0 * one, ab, a - ab, a, b - ab, b, a + b - 2 * ab, a + b - ab,
            1 - (a + b - ab), 1 - (a + b - 2 * ab), 1 - b, 1 - b + ab, 1 - a, 1 - a + ab,
            1 - ab, one,
        ],
        dim=-1,
    )  # fmt: skip


def randomize(module, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        nn.init.normal_(parameter, generator=generator)
    return module


def test_the_multilinear_basis_equals_all_sixteen_operations():
    a, b = torch.rand(2, 50, 1)
    c0, ca, cb, cab = kernels.BASIS.unbind(1)
    torch.testing.assert_close(c0 + ca * a + cb * b + cab * a * b, sixteen_ways(a[:, 0], b[:, 0]))


def test_soft_dense_is_the_expectation_over_operations():
    layer = randomize(LogicDense(12, 30, seed=1))
    x = torch.rand(7, 12)
    a, b = x[:, layer.indices[0]], x[:, layer.indices[1]]
    expected = (layer.weight.softmax(-1) * sixteen_ways(a, b)).sum(-1)
    torch.testing.assert_close(layer(x), expected)


def test_hard_dense_is_the_likeliest_operation():
    layer = randomize(LogicDense(12, 30, seed=1)).eval()
    x = torch.randint(0, 2, (20, 12)).float()
    a, b = x[:, layer.indices[0]], x[:, layer.indices[1]]
    pick = layer.weight.argmax(-1).expand(20, 30).unsqueeze(-1)
    assert torch.equal(layer(x), sixteen_ways(a, b).gather(-1, pick).squeeze(-1))


@pytest.mark.parametrize("block", [1, 40, 1 << 18])
def test_tree_gradients_match_finite_differences(monkeypatch, block):
    monkeypatch.setattr(kernels, "_BLOCK_FLOATS", block)
    monkeypatch.setattr(kernels, "_cpu_kernels", kernels._torch_kernels)
    torch.manual_seed(0)
    x = torch.rand(20, 3, dtype=torch.double, requires_grad=True)
    coefficients = torch.randn(5, 7, 4, dtype=torch.double, requires_grad=True)
    leaves, offsets = torch.randint(0, 16, (5, 8)), torch.tensor([0, 1, 3])
    assert torch.autograd.gradcheck(
        lambda x, c: kernels.tree_gates(x, leaves, offsets, c), (x, coefficients)
    )


def test_straight_through_computes_hard_gates_and_passes_soft_gradients():
    layer = randomize(LogicDense(12, 30, seed=1))
    x = torch.randint(0, 2, (20, 12)).float()
    soft = torch.autograd.grad(layer(x).sum(), layer.weight)[0]
    layer.straight_through = True
    out = layer(x)
    torch.testing.assert_close(out, layer.eval()(x))
    torch.testing.assert_close(torch.autograd.grad(out.sum(), layer.weight)[0], soft)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("places", [1, 2, 4, 300])
@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_compiled_tree_kernels_equal_the_ones_in_torch(monkeypatch, depth, places, threads):
    torch.manual_seed(0)
    x = torch.rand(40, 300, dtype=torch.double, requires_grad=True)
    coefficients = torch.randn(6, 2**depth - 1, 4, dtype=torch.double, requires_grad=True)
    leaves = torch.randint(0, 30, (6, 2**depth), dtype=torch.int32)
    offsets = torch.randint(0, 10, (3, places), dtype=torch.int32)
    results = []
    torch.set_num_threads(threads)
    try:
        for implementation in (kernels._torch_kernels(), kernels._cpu_kernels()):
            monkeypatch.setattr(kernels, "_implementation", lambda x, it=implementation: it)
            out = kernels.tree_gates(x, leaves, offsets, coefficients)
            results.append((out, *torch.autograd.grad(out.square().sum(), (x, coefficients))))
    finally:
        torch.set_num_threads(1)
    torch.testing.assert_close(*results)


@pytest.mark.parametrize(("kernel", "stride"), [((2, 2), (2, 2)), ((2, 3), (2, 1))])
def test_compiled_pool_kernels_equal_the_ones_in_torch(kernel, stride):
    torch.manual_seed(0)
    x = torch.randint(0, 3, (2, 5, 6, 150)).float().requires_grad_()
    weight = torch.rand(2, 2, (6 - kernel[1]) // stride[1] + 1, 150)
    results = []
    for function in (kernels._OrPool, cpu_kernels.OrPool):
        out = function.apply(x, kernel, stride)
        results.append((out, *torch.autograd.grad((out * weight).sum(), (x,))))
    torch.testing.assert_close(*results)


@pytest.mark.parametrize(("kernel", "stride"), [((2, 2), (2, 2)), ((2, 3), (2, 1))])
def test_pool_gradients_match_finite_differences(kernel, stride):
    torch.manual_seed(0)
    x = torch.rand(2, 5, 6, 3, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: kernels.or_pool(x, kernel, stride), (x,))


def test_pool_gradient_goes_to_one_of_equal_inputs():
    x = torch.ones(1, 1, 2, 2, requires_grad=True)
    OrPool2d(2)(x).sum().backward()
    assert x.grad.sum() == 1


def test_residual_initialization_passes_the_first_input_on():
    layer = LogicDense(16, 16, seed=0)
    probability = layer.weight.softmax(-1)[:, 3]
    assert torch.all((probability > 0.9) & (probability < 0.92))
    x = torch.randint(0, 2, (5, 16)).float()
    assert torch.equal(layer.eval()(x), x[:, layer.indices[0]])


def test_dense_wiring_is_even_and_never_pairs_an_input_with_itself():
    layer = LogicDense(100, 400, seed=3)
    uses = torch.bincount(layer.indices.flatten())
    assert uses.max() - uses.min() <= 1
    assert (layer.indices[0] != layer.indices[1]).all()


def test_trees_stay_in_their_group_and_window():
    layer = LogicTreeConv2d(16, 24, groups=4, receptive_field=(3, 5), channels_per_tree=2, seed=0)
    channel, y, x = layer.leaves.unbind(-1)
    group = torch.arange(24) // 6
    assert torch.equal(channel // 4, group[:, None].expand(-1, 8))
    assert max(len(set(row.tolist())) for row in channel) <= 2
    assert 0 <= y.min() <= y.max() == 2
    assert 0 <= x.min() <= x.max() == 4


def test_seeds_and_the_global_generator_decide_the_wiring():
    assert torch.equal(LogicDense(9, 9, seed=5).indices, LogicDense(9, 9, seed=5).indices)
    torch.manual_seed(1)
    first = LogicDense(50, 50).indices
    torch.manual_seed(1)
    assert torch.equal(first, LogicDense(50, 50).indices)


@pytest.mark.parametrize(
    ("depth", "stride", "padding"), list(itertools.product([1, 2, 3], [1, 2], [0, (1, 2)]))
)
def test_convolution_equals_gate_by_gate_evaluation(depth, stride, padding):
    layer = randomize(
        LogicTreeConv2d(
            4, 6, depth=depth, stride=stride, padding=padding, receptive_field=(3, 2), groups=2
        )
    ).eval()
    x = torch.randint(0, 2, (3, 4, 7, 5)).float()
    ph, pw = layer.padding
    padded = nn.functional.pad(x, (pw, pw, ph, ph))
    height, width = (7 + 2 * ph - 3) // stride + 1, (5 + 2 * pw - 2) // stride + 1
    out = layer(x)
    assert out.shape == (3, 6, height, width)
    for k, y, column in itertools.product(range(6), range(height), range(width)):
        nets = [
            padded[:, c, y * stride + dy, column * stride + dx] for c, dy, dx in layer.leaves[k]
        ]
        gate = 0
        while len(nets) > 1:
            pairs = list(zip(nets[::2], nets[1::2], strict=True))
            nets = []
            for a, b in pairs:
                nets.append(sixteen_ways(a, b)[:, layer.weight[k, gate].argmax()])
                gate += 1
        assert torch.equal(out[:, k, y, column], nets[0])


def test_thermometer_is_strict_and_feature_major():
    x = torch.tensor([[3, 8], [4, 7]], dtype=torch.uint8)
    assert Thermometer([3, 7])(x).tolist() == [[0, 0, 1, 1], [1, 0, 1, 0]]
    thermometer = Thermometer([[3, 7], [7, 100]])
    assert thermometer(x).tolist() == [[0, 0, 1, 0], [1, 0, 0, 0]]
    assert Thermometer.even(3).levels.tolist() == [63.75, 127.5, 191.25]


def test_group_sum_scores():
    x = torch.tensor([[1.0, 1, 0, 1, 0, 0]])
    assert GroupSum(2, tau=4, beta=1)(x).tolist() == [[0.75, 0.5]]


def test_consecutive_layers_exchange_views_without_copies():
    x = torch.rand(8, 3, 6, 6)
    out = LogicTreeConv2d(3, 8, padding=1)(x)
    assert out.movedim(0, -1).is_contiguous()
    dense = LogicDense(8 * 36, 20)(nn.Flatten()(out))
    assert dense.t().is_contiguous()


def tiny_net():
    return LogicNet(
        Thermometer([40, 90]),
        LogicTreeConv2d(2, 8, depth=2, padding=1),
        OrPool2d(2),
        nn.Flatten(),
        LogicDense(8 * 9, 40),
        GroupSum(4, tau=2.5, beta=0.5),
        input_shape=(1, 6, 6),
        input_dtype="u8",
    )


def test_state_dict_alone_rebuilds_the_network(tmp_path):
    model = randomize(tiny_net()).eval()
    torch.save(model.state_dict(), tmp_path / "net.pt")
    rebuilt = build_model(architecture_of(tmp_path / "net.pt"))
    rebuilt.load_state_dict(torch.load(tmp_path / "net.pt", weights_only=True), strict=True)
    x = torch.randint(0, 256, (9, 1, 6, 6), dtype=torch.uint8)
    assert torch.equal(rebuilt.eval()(x), model(x))


def test_loading_into_another_architecture_is_refused():
    state = tiny_net().state_dict()
    other = LogicNet(LogicDense(4, 4), input_shape=(4,))
    with pytest.raises(LiftError, match="another architecture"):
        other.load_state_dict(state, strict=False)


def test_state_survives_a_file_object_and_half_precision():
    buffer = io.BytesIO()
    model = tiny_net().half()
    torch.save(model.state_dict(), buffer)
    buffer.seek(0)
    model.load_state_dict(torch.load(buffer, weights_only=True))
    assert model[1].weight.dtype == torch.float16


@pytest.mark.parametrize(
    ("architecture", "error", "message"),
    [
        ({}, LiftError, "not an lgir architecture"),
        ({"layers": [{"type": "LogicDence"}]}, UnknownNameError, "did you mean 'LogicDense'"),
        ({"layers": [{"type": "LogicDense"}]}, LiftError, "in_features"),
        ({"layers": 3}, LiftError, "not an lgir architecture"),
    ],
)
def test_a_damaged_architecture_is_refused(architecture, error, message):
    with pytest.raises(error, match=message):
        build_model(architecture)


def test_a_layer_without_gates_is_refused():
    with pytest.raises(LiftError, match="Linear cannot become gates"):
        LogicNet(nn.Linear(3, 3), input_shape=(3,))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LogicDense(1, 4), "at least 2 inputs"),
        (lambda: LogicTreeConv2d(6, 8, groups=4), "do not split"),
        (lambda: LogicTreeConv2d(6, 8, depth=0), "depth"),
        (lambda: GroupSum(2, tau=0), "tau"),
        (lambda: Thermometer([[[1.0]]]), r"\(L,\) or \(C, L\)"),
        (lambda: LogicNet(LogicDense(2, 2), input_shape=(2,), input_dtype="i8"), "input_dtype"),
        (lambda: LogicTreeConv2d(3, 4)(torch.rand(1, 2, 5, 5)), "cannot read an input"),
        (lambda: LogicTreeConv2d(3, 4)(torch.rand(1, 3, 2, 5)), "cannot read an input"),
        (lambda: GroupSum(4)(torch.rand(1, 6)), "do not split"),
    ],
)
def test_wrong_arguments_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_training_lowers_the_loss():
    torch.manual_seed(0)
    model = LogicNet(LogicDense(16, 64), LogicDense(64, 32), GroupSum(2, 4), input_shape=(16,))
    x = torch.randint(0, 2, (256, 16)).float()
    y = (x[:, :3].sum(1) > 1).long()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    losses = []
    for _ in range(80):
        loss = nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert math.isfinite(losses[-1])
    assert losses[-1] < 0.5 * losses[0]
    assert np.isfinite(model[0].weight.detach().numpy()).all()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's tracer on its own classes
@pytest.mark.filterwarnings("ignore:Guards may run slower on Python 3.13.0:RuntimeWarning")
def test_torch_compile_traces_a_training_step_whole():
    torch.manual_seed(0)
    model = LogicNet(
        LogicTreeConv2d(1, 4, depth=2, padding=1), OrPool2d(2), nn.Flatten(), LogicDense(16, 20),
        GroupSum(4), input_shape=(1, 4, 4),
    )  # fmt: skip
    x = torch.rand(3, 1, 4, 4)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), model(x))
    model(x).square().sum().backward()
    expected = model[0].weight.grad.clone()
    model.zero_grad()
    compiled(x).square().sum().backward()
    torch.testing.assert_close(model[0].weight.grad, expected)
