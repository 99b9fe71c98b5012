"""Minimal stand-ins for other frameworks' modules: their documented state_dict layout, and an eval
mode written plainly and apart from lgir's own code.
"""

import itertools

import torch
from torch import nn


def lut(table, inputs):
    """table (..., 2**r) bool, inputs r of (B, ...) bool, the first most significant."""
    index = torch.zeros_like(inputs[0], dtype=torch.long)
    for x in inputs:
        index = 2 * index + x.long()
    return torch.take_along_dim(table.expand(*index.shape, -1), index[..., None], -1)[..., 0]


def truth(weight, rank, parametrization):
    """(..., W) weights -> (..., 2**rank) bool, as torchlogix decides in eval mode."""
    if parametrization == "raw":
        op = weight.argmax(-1, keepdim=True)
        return (op >> torch.tensor([3, 2, 1, 0]) & 1).bool()
    if parametrization == "light":
        return weight > 0
    entries = []
    for case in itertools.product((0, 1), repeat=rank):
        total = torch.zeros(weight.shape[:-1], dtype=weight.dtype)  # term by term, as it rounds
        for k, mask in enumerate(itertools.product((0, 1), repeat=rank)):
            sign = (-1) ** sum(c * m for c, m in zip(case, mask, strict=True))
            total = total + sign * weight[..., k]
        entries.append(total < 0)
    return torch.stack(entries, -1)


class _Connections(nn.Module):
    pass


def _width(rank, parametrization):
    return 16 if parametrization == "raw" else 2**rank


class LogicDense(nn.Module):
    def __init__(
        self, in_dim, out_dim, lut_rank=2, parametrization="raw", connections="fixed", candidates=3
    ):
        super().__init__()
        self.in_dim, self.lut_rank, self.parametrization = in_dim, lut_rank, parametrization
        self.weight = nn.Parameter(torch.randn(out_dim, _width(lut_rank, parametrization)))
        self.connections = _Connections()
        if connections == "fixed":
            indices = torch.randint(0, in_dim, (lut_rank, out_dim))
        else:
            indices = torch.randint(0, in_dim, (candidates, lut_rank, out_dim))
            self.connections.weights = nn.Parameter(torch.rand(indices.shape))
        self.connections.register_buffer("indices", indices)

    def wires(self):
        if not hasattr(self.connections, "weights"):
            return self.connections.indices
        best = self.connections.weights.argmax(0, keepdim=True)
        return self.connections.indices.gather(0, best)[0]

    def forward(self, x):
        table = truth(self.weight, self.lut_rank, self.parametrization)
        return lut(table, [x[:, w].bool() for w in self.wires()]).float()


def _tuple(x, n):
    return x if isinstance(x, tuple) else (x,) * n


class _Conv(nn.Module):
    axes = 2

    def __init__(
        self,
        in_dim,
        channels,
        num_kernels,
        tree_depth,
        receptive_field_size,
        stride=1,
        padding=0,
        lut_rank=2,
        parametrization="raw",
        groups=1,
    ):
        super().__init__()
        self.in_dim, self.channels = _tuple(in_dim, self.axes), channels
        self.receptive_field_size = _tuple(receptive_field_size, self.axes)
        self.stride, self.padding = stride, padding
        self.num_kernels, self.tree_depth = num_kernels, tree_depth
        self.lut_rank, self.parametrization = lut_rank, parametrization
        self.groups = groups
        r = lut_rank
        self.tree_weights = nn.ParameterList(
            torch.randn(r**level, num_kernels, _width(r, parametrization))
            for level in reversed(range(tree_depth))
        )
        self.connections = _Connections()
        self.connections.register_buffer("_indices_L0", self.first_level())
        for level in range(1, tree_depth):
            width = r ** (tree_depth - level)
            children = torch.arange(width).view(-1, r).t().contiguous()
            self.connections.register_buffer(f"_indices_L{level}", children)

    def steps(self):
        return self.stride, self.padding, self.in_dim

    def space(self):
        stride, padding, size = self.steps()
        return [
            (n + 2 * padding - f) // stride + 1
            for n, f in zip(size, self.receptive_field_size, strict=True)
        ]

    def first_level(self):
        nodes = self.lut_rank ** (self.tree_depth - 1)
        shape = (self.lut_rank, self.num_kernels, 1, nodes)
        cell = [torch.randint(0, f, shape) for f in self.receptive_field_size]
        per_group = self.channels // self.groups
        group = torch.arange(self.num_kernels) * self.groups // self.num_kernels
        channel = torch.randint(0, per_group, shape) + (group * per_group)[None, :, None, None]
        positions = torch.cartesian_prod(*[torch.arange(n) * self.steps()[0] for n in self.space()])
        moved = [c + a.view(1, 1, -1, 1) for c, a in zip(cell, positions.t(), strict=True)]
        moved.append(channel.expand_as(moved[0]))
        return torch.stack(moved, -1)

    def padded(self, x):
        return nn.functional.pad(x, (self.padding,) * (2 * self.axes))

    def forward(self, x):
        x = self.padded(x).bool()
        index = self.connections._indices_L0
        nets = x[(slice(None), index[..., -1], *index[..., :-1].unbind(-1))]  # (B, r, K, P, n)
        for level, weight in enumerate(self.tree_weights):
            if level:
                wires = getattr(self.connections, f"_indices_L{level}")
                nets = nets[..., wires].movedim(-2, 1)
            table = truth(weight, self.lut_rank, self.parametrization).movedim(0, 1)[:, None]
            nets = lut(table, nets.unbind(1))
        return nets[..., 0].float().unflatten(-1, self.space())


class LogicConv2d(_Conv):
    pass


class LogicConv3d(_Conv):
    axes = 3


class LogicConvTranspose2d(_Conv):
    """A stride-1 convolution over the input spread out by its stride."""

    def __init__(self, *args, output_padding=0, **kwargs):
        self.output_padding = output_padding
        super().__init__(*args, **kwargs)

    def steps(self):
        size = [(n - 1) * self.stride + 1 + self.output_padding for n in self.in_dim]
        return 1, self.receptive_field_size[0] - 1 - self.padding, size

    def padded(self, x):
        _, padding, size = self.steps()
        spread = torch.zeros(*x.shape[:2], *size)
        spread[..., :: self.stride, :: self.stride][..., : x.shape[2], : x.shape[3]] = x
        return nn.functional.pad(spread, (padding,) * 4)


class OrPooling2d(nn.Module):
    def __init__(self, kernel_size, stride, padding=0):
        super().__init__()
        self.kernel_size, self.stride, self.padding = kernel_size, stride, padding

    def forward(self, x):
        return nn.functional.max_pool2d(x, self.kernel_size, self.stride, self.padding)


class OrPooling3d(OrPooling2d):
    def forward(self, x):
        return nn.functional.max_pool3d(x, self.kernel_size, self.stride, self.padding)


class GroupSum(nn.Module):
    def __init__(self, k, tau=1.0, beta=0.0):
        super().__init__()
        self.k, self.tau, self.beta = k, tau, beta

    def forward(self, x):
        return (x.unflatten(-1, (self.k, -1)).sum(-1) + self.beta) / self.tau


class FixedBinarization(nn.Module):
    def __init__(self, thresholds, feature_dim=-2):
        super().__init__()
        self.register_buffer("thresholds", thresholds)
        self.feature_dim = feature_dim

    def get_thresholds(self):
        return self.thresholds

    def forward(self, x):
        t = self.get_thresholds()
        if t.ndim == 2 and x.ndim == 4:
            t = t.view(1, -1, 1, 1, t.shape[1])
        bits = (x[..., None] > t).float()
        axis = self.feature_dim % bits.ndim
        return bits.movedim(-1, axis + 1).flatten(axis, axis + 1)


class SoftBinarization(FixedBinarization):
    pass


class LearnableBinarization(FixedBinarization):
    def __init__(self, thresholds, feature_dim=-2, temperature_softplus=0.1):
        super().__init__(thresholds, feature_dim)
        self.temperature_softplus = temperature_softplus
        self.raw_diffs = nn.Parameter(torch.randn(thresholds.shape))

    def get_thresholds(self):
        scale = self.temperature_softplus + 1e-6
        rest = scale * nn.functional.softplus(self.raw_diffs[..., 1:] / scale)
        return torch.cat([self.raw_diffs[..., :1], rest], -1).cumsum(-1)


class DummyBinarization(nn.Module):
    def forward(self, x):
        return x.float()


class ConvLogicLayer(nn.Module):
    """convlogic: four gates on eight packed leaves, or seven and the pool."""

    def __init__(
        self, channels, kernels, kernel=(3, 3), stride=(1, 1), padding=(1, 1), complete=True
    ):
        super().__init__()
        self.kernel, self.stride, self.padding, self.complete = kernel, stride, padding, complete
        self.weights = nn.Parameter(torch.randn(kernels, 7 if complete else 4, 16))
        packed = torch.randint(0, channels, (kernels, 8)) << 16
        packed |= torch.randint(0, kernel[0], (kernels, 8)) << 8
        packed |= torch.randint(0, kernel[1], (kernels, 8))
        self.register_buffer("selection", packed.int())

    def forward(self, x):
        (ph, pw), (sh, sw) = self.padding, self.stride
        x = nn.functional.pad(x, (pw, pw, ph, ph)).bool()
        height = (x.shape[2] - self.kernel[0]) // sh + 1
        width = (x.shape[3] - self.kernel[1]) // sw + 1
        table = truth(self.weights, 2, "raw")
        out = torch.zeros(len(x), len(self.selection), height, width, self.weights.shape[1]).bool()
        for k, row in enumerate(self.selection.tolist()):
            nets = []
            for leaf in row:
                channel, y, column = leaf >> 16, leaf >> 8 & 255, leaf & 255
                rows, columns = y + sh * torch.arange(height), column + sw * torch.arange(width)
                nets.append(x[:, channel][:, rows][:, :, columns])
            for gate in range(self.weights.shape[1]):
                a, b = nets[2 * gate], nets[2 * gate + 1]
                nets.append(lut(table[k, gate], [a, b]))
                out[:, k, :, :, gate] = nets[-1]
        if not self.complete:
            return out.float()
        return nn.functional.max_pool2d(out[..., 6].float(), 2, 2)


class TreeLogicLayer(nn.Module):
    def __init__(self, channels, input_bits):
        super().__init__()
        self.weights = nn.Parameter(torch.randn(channels, input_bits // 2, 16))

    def forward(self, x):
        table = truth(self.weights, 2, "raw")[:, None, None]
        return lut(table, [x[..., 0::2].bool(), x[..., 1::2].bool()]).float()


class PoolLogicLayer(nn.Module):
    def __init__(self, kernel=(2, 2), stride=(2, 2)):
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, x):
        return nn.functional.max_pool2d(x[..., 0], self.kernel, self.stride)


class LogicLayer(nn.Module):
    """difflogic's layer as convlogic keeps it: wiring in buffers."""

    def __init__(self, in_dim, out_dim):
        super().__init__()
        self.in_dim = in_dim
        self.weights = nn.Parameter(torch.randn(out_dim, 16))
        for i in range(2):
            self.register_buffer(f"indices_{i}", torch.randint(0, in_dim, (out_dim,)))

    def forward(self, x):
        inputs = [x[:, self.indices_0].bool(), x[:, self.indices_1].bool()]
        return lut(truth(self.weights, 2, "raw"), inputs).float()


class LUTLayer(nn.Module):
    """torch-dwn: tables of n inputs, the first least significant."""

    def __init__(self, input_size, output_size, n, learnable=False):
        super().__init__()
        self.input_size, self.n, self.ste = input_size, n, True
        self.luts = nn.Parameter(torch.rand(output_size, 2**n) * 2 - 1)
        if learnable:
            self.mapping = _Connections()
            self.mapping.weights = nn.Parameter(torch.rand(input_size, output_size * n))
        else:
            wires = torch.randint(0, input_size, (output_size, n), dtype=torch.int32)
            self.mapping = nn.Parameter(wires, requires_grad=False)

    def forward(self, x):
        wires = self.mapping
        if isinstance(wires, nn.Module):
            wires = wires.weights.argmax(0).view(-1, self.n)
        bits = [x[:, wires[:, i].long()].bool() for i in range(self.n)]
        return lut(self.luts > 0, bits[::-1]).float()


class DwnGroupSum(nn.Module):
    """torch-dwn's: shuffles where asked, pads with zeros to equal groups."""

    def __init__(self, k, tau=1.0, randperm=None):
        super().__init__()
        self.k, self.tau, self.randperm = k, tau, randperm

    def forward(self, x):
        if self.randperm is not None:
            x = x[:, self.randperm]
        x = nn.functional.pad(x, (0, -x.shape[1] % self.k))
        return x.unflatten(-1, (self.k, -1)).sum(-1) / self.tau


DwnGroupSum.__name__ = "GroupSum"
