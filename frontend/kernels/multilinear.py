"""Differentiable logic gates for torch in their multilinear form.

A gate's expected output under softmax(w) over the 16 operations (Petersen et al. 2022) is a
polynomial c0 + ca*a + cb*b + cab*a*b whose four coefficients do not depend on the batch, so the 16
results are never formed. Activations are laid out feature first, batch last: gathers copy whole
rows. Trees keep only their input; the backward pass computes the levels again, block by block.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor

from lgir.ir.truth_tables import OP_TABLES

_BLOCK_FLOATS: Final = (
    1 << 18
)  # measured on a CPU: 1 MiB a block amortises torch's dispatch and stays in cache


def _basis() -> Tensor:
    """(16, 4) float32: coefficients (c0, ca, cb, cab) of each operation on 0/1 inputs."""
    tables = torch.from_numpy(OP_TABLES.astype("int64"))
    f00, f01, f10, f11 = ((tables >> i & 1).float() for i in range(4))
    return torch.stack([f00, f10 - f00, f01 - f00, f11 - f10 - f01 + f00], dim=1)


BASIS: Final = _basis()


def soft_coefficients(weight: Tensor) -> Tensor:
    """(..., 16) logits over difflogic's operations -> (..., 4) expected coefficients."""
    return weight.softmax(dim=-1) @ BASIS.to(weight)


def hard_coefficients(weight: Tensor) -> Tensor:
    """(..., 16) logits -> (..., 4) coefficients of the likeliest operation, the first on ties."""
    return BASIS.to(weight)[weight.argmax(dim=-1)]


class Frame(NamedTuple):
    """Where trees write their positions: `rows` (positions,) int of `size` rows; others are 0."""

    rows: Tensor
    size: int


def tree_gates(
    x: Tensor, leaves: Tensor, offsets: Tensor, coefficients: Tensor, frame: Frame | None = None
) -> Tensor:
    """Evaluate trees of gates over rows of `x`, pooled or not.

    Args:
        x: (rows, batch) activations.
        leaves: (trees, 2**depth) int row numbers; depth 1 is a plain gate.
        offsets: int, added to `leaves`: the places where a kernel is applied. (positions,), or
            (positions, places) if each position is the maximum over several places (an OR pool).
        coefficients: (trees, 2**depth - 1, 4), level by level from the leaves.
        frame: where the positions are put in the result, such as inside a border of zeros; without
            it the result's rows are the positions.

    Returns:
        (trees, positions or frame.size, batch): the root of every tree at every position. The
        gradient of a maximum goes to one of the places that have it.
    """
    if offsets.ndim == 1:
        offsets = offsets[:, None]
    trees = _implementation(x).trees
    if trees is not _TreeGates:
        frame = frame or Frame(torch.arange(len(offsets)), len(offsets))
        framed: Tensor = trees.apply(x, leaves, offsets, coefficients, *frame)
        return framed
    every: Tensor = trees.apply(x, leaves, offsets.flatten(), coefficients)
    pooled = every.unflatten(1, offsets.shape).max(2).values if offsets.shape[1] > 1 else every
    if frame is None:
        return pooled
    return pooled.new_zeros(len(leaves), frame.size, x.shape[1]).index_copy(
        1, frame.rows.long(), pooled
    )


class _TreeGates(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, leaves: Tensor, offsets: Tensor, coef: Tensor) -> Tensor:
        ctx.save_for_backward(x, leaves, offsets, coef)
        out = x.new_empty(len(leaves), len(offsets), x.shape[1])
        for block in _blocks(x, leaves, offsets):
            out[block] = _levels(x, leaves[block], offsets, coef[block])[-1][:, 0]
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, Tensor]:
        x, leaves, offsets, coef = ctx.saved_tensors
        grad = grads[0].contiguous()
        grad_x, grad_coef = torch.zeros_like(x), torch.empty_like(coef)
        for block in _blocks(x, leaves, offsets):
            levels = _levels(x, leaves[block], offsets, coef[block])
            g, end = grad[block].unsqueeze(1), coef.shape[1]
            for nets in reversed(levels[:-1]):
                gates = nets.shape[1] // 2
                part = (block, slice(end - gates, end))
                end -= gates
                g, grad_coef[part] = _gate_backward(nets, coef[part], g)
            rows = _rows(leaves[block], offsets)
            grad_x.index_add_(0, rows, g.reshape(len(rows), -1))
        return grad_x, None, None, grad_coef


def _blocks(x: Tensor, leaves: Tensor, offsets: Tensor) -> Iterator[slice]:
    """Slices of trees whose leaves together fill about one block; on a GPU 256 times that."""
    floats = _BLOCK_FLOATS << (8 if x.is_cuda else 0)
    step = max(1, floats // (leaves.shape[1] * len(offsets) * max(1, x.shape[1])))
    return (slice(start, start + step) for start in range(0, len(leaves), step))


def _rows(leaves: Tensor, offsets: Tensor) -> Tensor:
    return (leaves[:, :, None] + offsets).flatten()


def _levels(x: Tensor, leaves: Tensor, offsets: Tensor, coef: Tensor) -> list[Tensor]:
    """The nets (trees, 2**l, positions, batch) of every level, from the leaves to the root."""
    nets = x.index_select(0, _rows(leaves, offsets)).view(*leaves.shape, len(offsets), x.shape[1])
    levels, start = [nets], 0
    while nets.shape[1] > 1:
        gates = nets.shape[1] // 2
        a, b = nets[:, 0::2], nets[:, 1::2]
        c0, ca, cb, cab = _columns(coef[:, start : start + gates])
        # (cab*a + cb)*b + (ca*a + c0): two temporaries; addcmul is slower where it broadcasts.
        nets = (cab * a).add_(cb).mul_(b).add_((ca * a).add_(c0))
        levels.append(nets)
        start += gates
    return levels


def _gate_backward(nets: Tensor, coef: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of a level's inputs, laid out as `nets`, and of its coefficients."""
    a, b = nets[:, 0::2], nets[:, 1::2]
    _, ca, cb, cab = _columns(coef)
    ga = g * a
    products = (g, ga, g * b, ga * b)
    grad_coef = torch.stack([p.sum((2, 3)) for p in products], dim=-1)
    grad_a, grad_b = (cab * b).add_(ca).mul_(g), (cab * a).add_(cb).mul_(g)
    grad_nets = torch.stack([grad_a, grad_b], dim=2).flatten(1, 2)
    return grad_nets, grad_coef


def _columns(coef: Tensor) -> list[Tensor]:
    """The four coefficients, each (trees, gates, 1, 1) to spread over positions and batch."""
    return [c[..., None, None] for c in coef.unbind(-1)]


def or_pool(x: Tensor, kernel: tuple[int, int], stride: tuple[int, int]) -> Tensor:
    """Maximum over windows of (channels, height, width, batch); gradients go to the first one."""
    result: Tensor = _implementation(x).pool.apply(x, kernel, stride)
    return result


class _OrPool(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: tuple[int, int], stride: tuple[int, int]) -> Tensor:
        first, *rest = _windows(x, kernel, stride)
        out = first.clone(memory_format=torch.contiguous_format)
        for cell in rest:
            torch.maximum(out, cell, out=out)
        ctx.save_for_backward(x, out)
        ctx.window = kernel, stride
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        x, out = ctx.saved_tensors
        grad_x = torch.zeros_like(x)
        left = grads[0].clone()
        cells = zip(_windows(x, *ctx.window), _windows(grad_x, *ctx.window), strict=True)
        for cell, grad_cell in cells:
            share = left * (cell == out)
            grad_cell += share
            left -= share
        return grad_x, None, None


def _windows(x: Tensor, kernel: tuple[int, int], stride: tuple[int, int]) -> list[Tensor]:
    """One strided view of `x` per cell of the window."""
    height, width = ((x.shape[i + 1] - kernel[i]) // stride[i] + 1 for i in range(2))
    return [
        x[:, y : y + stride[0] * (height - 1) + 1 : stride[0],
          w : w + stride[1] * (width - 1) + 1 : stride[1]]
        for y in range(kernel[0])
        for w in range(kernel[1])
    ]  # fmt: skip


class _Kernels(NamedTuple):
    """Classes of torch.autograd.Function."""

    trees: Any
    pool: Any


def _implementation(x: Tensor) -> _Kernels:
    """On a CPU the kernels that numba compiles; torch's on other devices, in half precision, and
    where torch.compile traces them.
    """
    if x.device.type != "cpu" or x.dtype.itemsize < 4 or torch.compiler.is_compiling():
        return _torch_kernels()
    return _cpu_kernels()


def _torch_kernels() -> _Kernels:
    return _Kernels(_TreeGates, _OrPool)


@functools.cache
def _cpu_kernels() -> _Kernels:
    from lgir.frontend.kernels import cpu  # numba takes a second to import

    return _Kernels(cpu.TreeGates, cpu.OrPool)
