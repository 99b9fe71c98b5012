"""What tracing recovers: layers by the module's names, convolutions, pools, thresholds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import lgir
from lgir.frontend.layers import GroupSum as GroupSumLayer
from lgir.frontend.layers import LogicDense, LogicNet, LogicTreeConv2d, OrPool2d, Thermometer
from lgir.ir.nodes import GroupSum, Logic, Threshold


class Opaque(nn.Module):
    """A network whose class no frontend knows."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.inner = net

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x)


def conv_net() -> LogicNet:
    net = LogicNet(
        Thermometer([40.0, 120.0, 200.0]),
        LogicTreeConv2d(3, 8, padding=1, seed=1),
        OrPool2d(2),
        LogicTreeConv2d(8, 16, padding=1, groups=2, seed=2),
        OrPool2d(2),
        nn.Flatten(),
        LogicDense(16 * 4 * 4, 200, seed=3),
        GroupSumLayer(10, 7.0),
        input_shape=(1, 16, 16),
        input_dtype="u8",
    )
    generator = torch.Generator().manual_seed(0)
    for weight in net.parameters():
        weight.data = torch.randn(weight.shape, generator=generator)
    return net.eval()


def gates(graph: lgir.Graph) -> int:
    return sum(op.body.num_gates for _, op in graph.of_type(Logic))


def test_an_opaque_convolutional_network_becomes_the_named_lifts_graph() -> None:
    net = conv_net()
    named = lgir.lift(net)
    traced = lgir.lift(Opaque(net), framework="trace", input_shape=(1, 16, 16), input_dtype="u8")
    spaces = [op.space for _, op in traced.of_type(Logic)]
    assert spaces == [(16, 16), (8, 8), (8, 8), (4, 4), ()]
    assert all(node.output.startswith("inner") for node, _ in traced.of_type(Logic))
    assert np.array_equal(
        next(traced.of_type(Threshold))[1].levels, next(named.of_type(Threshold))[1].levels
    )
    small, reference = lgir.optimize(traced)[0], lgir.optimize(named)[0]
    assert gates(small) == gates(reference)
    assert lgir.verify(small, reference, method="sat").equivalent


def test_a_flat_input_that_is_viewed_as_an_image_is_rolled() -> None:
    def forward(x: torch.Tensor) -> torch.Tensor:
        image = x.view(-1, 1, 12, 12) > 0.5
        both = image[:, :, 1:, 1:] & ~image[:, :, :-1, :-1]
        return F.max_pool2d(both.float(), 2, ceil_mode=False).flatten(1)

    graph = lgir.lift(forward, input_shape=(144,), input_dtype="f32")
    assert [op.space for _, op in graph.of_type(Logic)][:2] == [(11, 11), (5, 5)]


def test_scores_become_a_group_sum_with_the_modules_scale() -> None:
    class Scaled(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (x.view(-1, 4, 8).sum(-1) - 3.5) / 1.3

    graph = lgir.lift(Scaled(), input_shape=(32,))
    (node,) = graph.nodes
    assert node.op == GroupSum(4, tau=float(np.float32(1.3)), beta=-3.5)


@pytest.mark.parametrize("dtype", ["u8", "f32"])
def test_thresholds_are_exact_in_the_modules_float_arithmetic(dtype: str) -> None:
    def forward(x: torch.Tensor) -> torch.Tensor:
        return ((x / 255 - 0.4914) / 0.247 > 0.3).float()

    graph = lgir.lift(forward, input_shape=(4,), input_dtype=dtype)
    level = float(next(graph.of_type(Threshold))[1].levels.ravel()[0])
    below = np.float32(level)
    above = np.float32(level + 1) if dtype == "u8" else np.nextafter(below, np.float32(np.inf))
    kind = torch.uint8 if dtype == "u8" else torch.float32
    values = torch.tensor([float(below), float(above)]).to(kind)
    assert forward(values).tolist() == [0.0, 1.0]


def test_samples_that_are_given_are_compared_too() -> None:
    hidden = torch.zeros(30)
    hidden[::3] = 1

    class Trap(nn.Module):
        """Counts its calls, so that what it gives later is not what was traced."""

        calls = 0

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if not torch.compiler.is_compiling() and x.shape[0] == 1:
                return 1 - x
            return x.clone()

    with pytest.raises(lgir.LgirError, match=r"differs|depends"):
        lgir.lift(Trap(), input_shape=(30,), samples=hidden[None].numpy())


@pytest.mark.parametrize("kind", [torch.bool, torch.int64, torch.float64])
def test_the_dtype_of_tensors_is_found_that_the_module_takes(kind: torch.dtype) -> None:
    class Typed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.eye(4).to(kind), requires_grad=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if kind.is_floating_point:
                return (x[:, :4] @ self.weight).float()
            return (x[:, :4] & ~x[:, 4:]) & 1

    module = Typed().eval()
    graph = lgir.lift(module, input_shape=(8,))
    x = (torch.arange(256)[:, None] >> torch.arange(8)) & 1
    scores = lgir.compile(graph, backend="reference")(x.numpy())
    assert np.array_equal(scores, module(x.to(kind)).numpy())
