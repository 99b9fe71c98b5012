"""Logic networks as people write them: each in a style of its own, with random weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def _pairs(inputs: int, gates: int) -> Tensor:
    return torch.randint(0, inputs, (2, gates))


def _votes(x: Tensor, classes: int) -> Tensor:
    return x.reshape(x.shape[0], classes, -1).sum(-1)


class BitOperators(nn.Module):
    """Index and bit operators on booleans."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("first", _pairs(12, 32))
        self.register_buffer("second", _pairs(32, 40))

    def forward(self, x: Tensor) -> Tensor:
        x = x.bool()
        a, b = x[:, self.first[0]], x[:, self.first[1]]
        x = torch.cat([a & b, (a ^ b)[:, :8], ~(a | b)[:, 8:]], dim=1)[:, :32]
        a, b = x[:, self.second[0]], x[:, self.second[1]]
        x = torch.logical_and(a, torch.logical_not(b)) | (a & b)
        return _votes(x.float(), 4) / 5


class SixteenOperations(nn.Module):
    """All sixteen operations, weighted by a hardened softmax."""

    class Layer(nn.Module):
        def __init__(self, inputs: int, gates: int) -> None:
            super().__init__()
            self.weights = nn.Parameter(torch.randn(gates, 16))
            self.indices = _pairs(inputs, gates)

        def forward(self, x: Tensor) -> Tensor:
            a, b = x[..., self.indices[0]], x[..., self.indices[1]]
            if self.training:
                w = F.softmax(self.weights, dim=-1)
            else:
                w = F.one_hot(self.weights.argmax(-1), 16).to(x.dtype)
            r = torch.zeros_like(a)
            ab = a * b
            values = [
                torch.zeros_like(a), ab, a - ab, a, b - ab, b, a + b - 2 * ab, a + b - ab,
                1 - (a + b - ab), 1 - (a + b - 2 * ab), 1 - b, 1 - b + ab, 1 - a, 1 - a + ab,
                1 - ab, torch.ones_like(a),
            ]  # fmt: skip
            for i, value in enumerate(values):
                r = r + w[..., i] * value
            return r

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(self.Layer(20, 60), self.Layer(60, 60), self.Layer(60, 30))

    def forward(self, x: Tensor) -> Tensor:
        return _votes(self.features(x), 3) / 1.7


class Multilinear(nn.Module):
    """Four coefficients per gate, of the rounded tables."""

    def __init__(self) -> None:
        super().__init__()
        self.wires = [_pairs(16, 50), _pairs(50, 50), _pairs(50, 40)]
        self.logits = nn.ParameterList(nn.Parameter(torch.randn(n, 4)) for n in (50, 50, 40))

    def forward(self, x: Tensor) -> Tensor:
        for (a, b), logit in zip(self.wires, self.logits, strict=True):
            t = torch.sigmoid(logit)
            if not self.training:
                t = torch.round(t)
            u, v = x[:, a], x[:, b]
            x = (
                t[:, 0] * (1 - u) * (1 - v) + t[:, 1] * (1 - u) * v + t[:, 2] * u * (1 - v)
                + t[:, 3] * u * v
            )  # fmt: skip
        return _votes(x, 5)


class LutGather(nn.Module):
    """Tables of four inputs, looked up by index."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("wires", torch.randint(0, 24, (60, 4)))
        self.register_buffer("tables", torch.randint(0, 2, (60, 16)))
        self.register_buffer("wires2", torch.randint(0, 60, (30, 6)))
        self.register_buffer("tables2", torch.rand(30, 64))

    def forward(self, x: Tensor) -> Tensor:
        bits = x[:, self.wires].long()
        index = (bits * torch.tensor([8, 4, 2, 1])).sum(-1)
        y = torch.gather(self.tables.expand(len(x), -1, -1), 2, index.unsqueeze(-1)).squeeze(-1)
        bits = y[:, self.wires2]
        index = (bits << torch.arange(6)).sum(dim=-1)
        y = (self.tables2[torch.arange(30), index] > 0.5).float()
        return y.view(-1, 3, 10).sum(2)


class UnfoldConvolution(nn.Module):
    """unfold, then gathers of cells of the window, with a pool."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("leaves", torch.randint(0, 2 * 9, (8, 4)))
        self.register_buffer("tables", torch.randint(0, 16, (8, 3)))
        self.register_buffer("pairs", _pairs(8 * 4 * 4, 60))

    @staticmethod
    def gate(a: Tensor, b: Tensor, table: Tensor) -> Tensor:
        index = (2 * a + b).long()
        return (table.unsqueeze(-1) >> index) & 1

    def forward(self, x: Tensor) -> Tensor:
        n = x.shape[0]
        columns = F.unfold(x, 3, padding=1)  # (n, 18, 64)
        leaf = columns[:, self.leaves].long()  # (n, 8, 4, 64)
        left = self.gate(leaf[:, :, 0], leaf[:, :, 1], self.tables[:, 0])
        right = self.gate(leaf[:, :, 2], leaf[:, :, 3], self.tables[:, 1])
        y = self.gate(left, right, self.tables[:, 2]).float().view(n, 8, 8, 8)
        y = F.max_pool2d(y, 2).flatten(1)
        a, b = y[:, self.pairs[0]], y[:, self.pairs[1]]
        return _votes(a + b - 2 * a * b, 6) * 0.5


class OneHotKernels(nn.Module):
    """conv2d whose kernels pick one cell each."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = (nn.Conv2d(3, 12, 3, padding=1, bias=False) for _ in range(2))
        self.head = nn.Linear(12 * 5 * 5, 30, bias=False)
        with torch.no_grad():
            for weight in (self.a.weight, self.b.weight):
                flat = torch.zeros(12, 27)
                flat[torch.arange(12), torch.randint(0, 27, (12,))] = 1
                weight.copy_(flat.view_as(weight))
            self.head.weight.copy_(F.one_hot(torch.randint(0, 300, (30,)), 300).float())

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.a(x), self.b(x)
        y = a * b + (1 - a) * (1 - b)
        y = nn.functional.max_pool2d(y, kernel_size=2, stride=2)
        return _votes(self.head(y.flatten(1)), 3)


class OrPool(nn.Module):
    """Residual gates of shifted images and max_pool as OR, padded."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("perm", torch.randperm(4))

    def forward(self, x: Tensor) -> Tensor:
        shifted = F.pad(x, (1, 0, 0, 1))[:, :, 1:, :-1]
        y = x * shifted[:, self.perm]
        y = torch.cat([y, 1 - x], dim=1)
        y = F.max_pool2d(y, 3, stride=2, padding=1)
        return y.amax(dim=(2, 3)) + y.sum(dim=(2, 3))


class PackedIntegers(nn.Module):
    """32 gates in an integer, evaluated by bitwise operators."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("wires", torch.randint(0, 64, (4, 32)))
        self.register_buffer("shifts", torch.arange(32))

    def pack(self, x: Tensor) -> Tensor:
        return (x.long() << self.shifts).sum(-1)

    def forward(self, x: Tensor) -> Tensor:
        a, b, c, d = (self.pack(x[:, w]) for w in self.wires)
        y = (a & ~b) ^ (c | d)
        z = ((y >> 3) & 0xFF) | (a & 0xFF00)
        bits = (torch.stack([y, z], 1).unsqueeze(-1) >> self.shifts) & 1
        return bits.float().sum(-1)


class Residual(nn.Module):
    """Skip connections: a layer's result xor its input, and concatenation."""

    class Block(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.register_buffer("wires", torch.stack([torch.randperm(width) for _ in range(2)]))

        def forward(self, x: Tensor) -> Tensor:
            a, b = x[:, self.wires[0]], x[:, self.wires[1]]
            y = torch.minimum(a, 1 - b)
            return (x - y).abs()

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([self.Block(40) for _ in range(3)])

    def forward(self, x: Tensor) -> Tensor:
        parts = [x]
        for block in self.blocks:
            x = block(x)
            parts.append(x)
        return _votes(torch.cat(parts, dim=-1), 4)


class TwoInputs(nn.Module):
    """Two inputs, two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("left", torch.randint(0, 10, (24,)))
        self.register_buffer("right", torch.randint(0, 14, (24,)))

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        a, b = x[:, self.left] > 0.5, y[:, self.right] > 0.5
        both, either = a & b, a | b
        return _votes(both.float(), 3), either.float()


class FloatThresholds(nn.Module):
    """uint8 pixels normalized in float arithmetic, then compared."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor([0.4914, 0.4822, 0.4465]).view(3, 1, 1))
        self.register_buffer("std", torch.tensor([0.247, 0.2435, 0.2616]).view(3, 1, 1))
        self.register_buffer("levels", torch.tensor([-0.9, 0.1, 1.3]))
        self.register_buffer("wires", _pairs(9 * 36, 50))

    def forward(self, x: Tensor) -> Tensor:
        x = (x / 255 - self.mean) / self.std
        bits = (x.unsqueeze(2) > self.levels.view(3, 1, 1)).flatten(1).float()
        a, b = bits[:, self.wires[0]], bits[:, self.wires[1]]
        return _votes(a + b - a * b, 5)


class ArgmaxHead(nn.Module):
    """Labels, not scores, of float inputs that are binarized by rounding."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("wires", _pairs(30, 60))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.sigmoid(3 * x - 1).round()
        a, b = x.index_select(1, self.wires[0]), x.index_select(1, self.wires[1])
        return torch.where(a > 0, b, 1 - b).view(-1, 6, 10).sum(-1).argmax(dim=1)


class SignedBits(nn.Module):
    """Bits as -1 and +1: products are exclusive or, sums are majorities."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("wires", torch.randint(0, 20, (3, 45)))

    def forward(self, x: Tensor) -> Tensor:
        s = 2 * x - 1
        a, b, c = (s[:, w] for w in self.wires)
        y = torch.sign(a + b + c) * a * c
        y = torch.where(y > 0, 1.0, 0.0)
        return y.view(-1, 5, 9).mean(-1)


class Walsh(nn.Module):
    """WARP: real Walsh coefficients, and the sign of their sum."""

    def __init__(self) -> None:
        super().__init__()
        self.coefficients = nn.Parameter(torch.randn(48, 4))
        self.register_buffer("wires", _pairs(16, 48))

    def forward(self, x: Tensor) -> Tensor:
        a, b = 1 - 2 * x[:, self.wires[0]], 1 - 2 * x[:, self.wires[1]]
        basis = torch.stack([torch.ones_like(a), a, b, a * b], dim=-1)
        y = (basis * self.coefficients).sum(-1)
        y = (y > 0).float() if not self.training else torch.sigmoid(y)
        return _votes(y, 4)


class EinsumWiring(nn.Module):
    """Wiring by one-hot matrices, chosen by argmax of learned weights."""

    def __init__(self) -> None:
        super().__init__()
        self.choice = nn.Parameter(torch.randn(2, 40, 18))
        self.kind = nn.Parameter(torch.randn(40, 4))

    def forward(self, x: Tensor) -> Tensor:
        hard = F.one_hot(self.choice.argmax(-1), 18).to(x.dtype)
        a, b = torch.einsum("bi,kgi->kbg", x, hard).unbind(0)
        pick = F.one_hot(self.kind.argmax(-1), 4).to(x.dtype)
        results = torch.stack([a * b, a + b - a * b, a + b - 2 * a * b, 1 - a * b])
        return _votes(torch.einsum("kbg,gk->bg", results, pick), 4) + 2.0


class ChannelsLast(nn.Module):
    """Images with channels last, windows by slicing and stacking."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("channel", torch.randint(0, 3, (2, 10)))

    def forward(self, x: Tensor) -> Tensor:
        y = torch.zeros(x.shape[0], 9, 9, 3)
        y[:, 1:-1, 1:-1] = x
        a = y[:, :-1, 1:, self.channel[0]]
        b = y[:, 1:, :-1, self.channel[1]]
        z = torch.logical_xor(a > 0, b > 0)
        z = z.reshape(-1, 4, 2, 4, 2, 10).any(dim=4).any(dim=2)
        return z.flatten(1).float().reshape(-1, 5, 32).sum(-1)


class Sequence(nn.Module):
    """One-dimensional convolution by Tensor.unfold with stride and dilation by roll."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("taps", torch.randint(0, 4, (6, 2)))

    def forward(self, x: Tensor) -> Tensor:
        windows = x.unsqueeze(1).unfold(2, 4, 2)  # (n, 1, 31, 4)
        w = windows[:, 0][:, :, self.taps]  # (n, 31, 6, 2)
        y = w.prod(-1)
        y = torch.maximum(y, torch.roll(y, 1, dims=1) * (1 - y))
        return y.sum(1)


class Volume(nn.Module):
    """Three-dimensional windows."""

    def forward(self, x: Tensor) -> Tensor:
        y = F.max_pool3d(x, 2)
        z = y[:, :, 1:, :, :] * y[:, :, :-1, :, :]
        return z.flatten(2).sum(-1)


class Majority(nn.Module):
    """Binary neurons: more than six inputs, compared with a threshold."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(20, 12)
        with torch.no_grad():
            self.fc.weight.copy_(torch.randint(-1, 2, (12, 20)).float())
            self.fc.bias.copy_(torch.randint(-3, 3, (12,)).float() + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        y = (self.fc(x) > 0).float()
        return _votes(y, 3)


class BitPlanes(nn.Module):
    """Bits of a byte by shifts, and gates over broadcast leading axes."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("wires", _pairs(8, 16))

    def forward(self, x: Tensor) -> Tensor:
        planes = (x.unsqueeze(-1).int() >> torch.arange(8)) & 1  # (n, 5, 8)
        a, b = planes[..., self.wires[0]], planes[..., self.wires[1]]
        y = (a ^ b).float()
        return y.permute(0, 2, 1).flatten(1).view(-1, 8, 10).sum(-1) / 10


class TreeConvolution(nn.Module):
    """A tree convolution with groups of channels, written feature first as index arithmetic."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("leaves", torch.randint(0, 4 * 100, (6, 4)) // 100)
        self.register_buffer("dy", torch.randint(0, 3, (6, 4)))
        self.register_buffer("dx", torch.randint(0, 3, (6, 4)))
        self.logits = nn.ParameterList(nn.Parameter(torch.randn(6, n, 16)) for n in (2, 1))

    def forward(self, x: Tensor) -> Tensor:
        planes = F.pad(x, (1, 1, 1, 1)).movedim(0, -1)
        rows = torch.arange(0, 8, 2).view(-1, 1, 1, 1)
        columns = torch.arange(8).view(1, -1, 1, 1)
        nets = planes[self.leaves, rows + self.dy, columns + self.dx]  # (4, 8, 6, 4, n)
        for logit in self.logits:
            a, b = nets[:, :, :, 0::2], nets[:, :, :, 1::2]
            number = logit.argmax(-1)[..., None]  # the bits f(11) f(10) f(01) f(00)
            f = [(number >> s & 1).to(x.dtype) for s in (3, 2, 1, 0)]
            ca, cb = f[2] - f[0], f[1] - f[0]
            nets = f[0] + ca * a + cb * b + (f[3] - f[2] - f[1] + f[0]) * a * b
        y = nets[:, :, :, 0].movedim(-1, 0)
        return y.flatten(1, 2).sum(1)


class NormalizedThermometer(nn.Module):
    """Batch normalization of pixels before thresholds, and an average over positions."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.norm.running_mean.copy_(torch.tensor([0.4, 0.5, 0.6]))
        self.norm.running_var.copy_(torch.tensor([0.1, 0.2, 0.3]))
        self.register_buffer("levels", torch.linspace(-1, 1, 5))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x.float() / 255)
        bits = (y[:, :, None] > self.levels[:, None, None]).flatten(1, 2).float()
        bits = F.max_pool2d(F.pad(bits, (1, 1, 1, 1)), 3, stride=1)
        return bits.flatten(2).sum(-1) / 64


class Buckets(nn.Module):
    """Thermometers by bucketize."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("levels", torch.tensor([-1.0, 0.0, 0.5, 2.0]))
        self.register_buffer("wires", _pairs(64, 40))

    def forward(self, x: Tensor) -> Tensor:
        bits = (torch.bucketize(x, self.levels)[..., None] > torch.arange(4)).float().flatten(1)
        return _votes(bits[:, self.wires[0]] * bits[:, self.wires[1]], 4)


class WideLookups(nn.Module):
    """Tables of eight inputs, indexed by a product with powers of two."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("wires", torch.stack([torch.randperm(10)[:8] for _ in range(6)]))
        self.register_buffer("tables", torch.randint(0, 2, (6, 256)))

    def forward(self, x: Tensor) -> Tensor:
        index = (x[:, self.wires] @ (2.0 ** torch.arange(8))).long()
        return torch.stack([self.tables[k][index[:, k]] for k in range(6)], 1).float()


class WeightedVotes(nn.Module):
    """Integer weights of bits, negative ones too, and a bias of each class."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weights", torch.randint(-2, 3, (3, 16)).float())
        self.register_buffer("bias", torch.tensor([1.0, 0.0, -2.0]))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weights, self.bias)


class Automaton(nn.Module):
    """Conway's rule on a torus, and the median of three."""

    def forward(self, x: Tensor) -> Tensor:
        places = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1) if i or j]
        count = sum(torch.roll(x, place, (1, 2)) for place in places)
        alive = ((count == 3) | ((count == 2) & (x == 1))).float()
        return alive.reshape(-1, 12, 3).median(-1).values * 0.1


MODULES: dict[str, tuple[Callable[[], nn.Module], Any, Any]] = {
    "bit operators": (BitOperators, (12,), "bit"),
    "sixteen operations": (SixteenOperations, (20,), "bit"),
    "multilinear": (Multilinear, (16,), "bit"),
    "lut gather": (LutGather, (24,), "bit"),
    "unfold convolution": (UnfoldConvolution, (2, 8, 8), "bit"),
    "one-hot kernels": (OneHotKernels, (3, 10, 10), "bit"),
    "or pool": (OrPool, (4, 9, 9), "bit"),
    "packed integers": (PackedIntegers, (64,), "bit"),
    "residual": (Residual, (40,), "bit"),
    "two inputs": (TwoInputs, [(10,), (14,)], "bit"),
    "float thresholds": (FloatThresholds, (3, 6, 6), "u8"),
    "argmax head": (ArgmaxHead, (30,), "f32"),
    "signed bits": (SignedBits, (20,), "bit"),
    "walsh": (Walsh, (16,), "bit"),
    "einsum wiring": (EinsumWiring, (18,), "bit"),
    "channels last": (ChannelsLast, (7, 7, 3), "bit"),
    "sequence": (Sequence, (64,), "bit"),
    "volume": (Volume, (2, 6, 6, 6), "bit"),
    "majority": (Majority, (20,), "bit"),
    "bit planes": (BitPlanes, (5,), "u8"),
    "tree convolution": (TreeConvolution, (4, 8, 8), "bit"),
    "normalized thermometer": (NormalizedThermometer, (3, 8, 8), "u8"),
    "buckets": (Buckets, (16,), "f32"),
    "wide lookups": (WideLookups, (10,), "bit"),
    "weighted votes": (WeightedVotes, (16,), "bit"),
    "automaton": (Automaton, (6, 6), "bit"),
}
"""Name -> (class, input shape or shapes, input dtype)."""
