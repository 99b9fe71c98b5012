"""The kernels of trainable gates, compiled for CPUs by numba.

A tree's gates are evaluated over a block of batch columns that stays in the first-level cache, and
its backward pass computes them again there, so that memory sees inputs, results and gradients only.
Blocks are the same whatever the number of threads, and so are the sums that gradients add up to.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import numpy as np
import torch
from numba import njit
from torch import Tensor

_COLUMNS: Final = 128
"""Batch columns of a block: a depth-3 tree's nets and their gradients are then 7 KiB."""

_compile: Final[Callable[[Any], Any]] = njit(
    cache=True, nogil=True, fastmath=True, error_model="numpy"
)
# Indices are made unsigned: numba would look for negative ones in the inner loops.


@_compile
def _tree(x, leaves, at, coef, t, nets, low, n):  # type: ignore[no-untyped-def]
    """nets[g, :n] of tree t's gates g, level by level from the leaves, on columns low + (0..n)."""
    half, gates = np.uint64(leaves.shape[1] // 2), np.uint64(coef.shape[1])
    for g in range(half):
        a, b = np.uint64(leaves[t, 2 * g] + at), np.uint64(leaves[t, 2 * g + 1] + at)
        c0, ca, cb, cab = coef[t, g, 0], coef[t, g, 1], coef[t, g, 2], coef[t, g, 3]
        for j in range(n):
            u, v = x[a, low + j], x[b, low + j]
            nets[g, j] = (cab * u + cb) * v + (ca * u + c0)
    for g in range(half, gates):
        a = np.uint64(2 * (g - half))
        b = np.uint64(a + 1)
        c0, ca, cb, cab = coef[t, g, 0], coef[t, g, 1], coef[t, g, 2], coef[t, g, 3]
        for j in range(n):
            u, v = nets[a, j], nets[b, j]
            nets[g, j] = (cab * u + cb) * v + (ca * u + c0)


@_compile
def _forward(x, leaves, offsets, coef, out, low, high):  # type: ignore[no-untyped-def]
    low, n = np.uint64(low), np.uint64(high - low)
    nets = np.empty((coef.shape[1], n), x.dtype)
    root = np.uint64(coef.shape[1] - 1)
    for t in range(np.uint64(len(leaves))):
        for p in range(np.uint64(len(offsets))):
            _tree(x, leaves, offsets[p], coef, t, nets, low, n)
            for j in range(n):
                out[t, p, low + j] = nets[root, j]


@_compile
def _backward(x, leaves, offsets, coef, grad, grad_x, grad_coef, low, high):  # type: ignore[no-untyped-def]
    """Adds to grad_x and grad_coef (trees, gates, 4) what columns low..high of grad contribute."""
    low, n = np.uint64(low), np.uint64(high - low)
    half, gates = np.uint64(leaves.shape[1] // 2), np.uint64(coef.shape[1])
    nets = np.empty((coef.shape[1], n), x.dtype)
    grads = np.empty((coef.shape[1], n), x.dtype)
    root = np.uint64(gates - np.uint64(1))
    for t in range(np.uint64(len(leaves))):
        for p in range(np.uint64(len(offsets))):
            at = offsets[p]
            if half > 1:
                _tree(x, leaves, at, coef, t, nets, low, n)
            for j in range(n):
                grads[root, j] = grad[t, p, low + j]
            for below in range(np.uint64(gates - half)):
                g = np.uint64(root - below)
                a = np.uint64(2 * (g - half))
                b = np.uint64(a + 1)
                ca, cb, cab = coef[t, g, 1], coef[t, g, 2], coef[t, g, 3]
                sum_0 = sum_a = sum_b = sum_ab = x.dtype.type(0)
                for j in range(n):
                    d, u, v = grads[g, j], nets[a, j], nets[b, j]
                    du, dv = d * u, d * v
                    grads[a, j] = cab * dv + ca * d
                    grads[b, j] = cab * du + cb * d
                    sum_0, sum_a, sum_b, sum_ab = sum_0 + d, sum_a + du, sum_b + dv, sum_ab + du * v
                grad_coef[t, g, 0] += sum_0
                grad_coef[t, g, 1] += sum_a
                grad_coef[t, g, 2] += sum_b
                grad_coef[t, g, 3] += sum_ab
            for above in range(half):
                g = np.uint64(above)
                a, b = np.uint64(leaves[t, 2 * g] + at), np.uint64(leaves[t, 2 * g + 1] + at)
                ca, cb, cab = coef[t, g, 1], coef[t, g, 2], coef[t, g, 3]
                sum_0 = sum_a = sum_b = sum_ab = x.dtype.type(0)
                for j in range(n):
                    d, u, v = grads[g, j], x[a, low + j], x[b, low + j]
                    du, dv = d * u, d * v
                    grad_x[a, low + j] += cab * dv + ca * d
                    grad_x[b, low + j] += cab * du + cb * d
                    sum_0, sum_a, sum_b, sum_ab = sum_0 + d, sum_a + du, sum_b + dv, sum_ab + du * v
                grad_coef[t, g, 0] += sum_0
                grad_coef[t, g, 1] += sum_a
                grad_coef[t, g, 2] += sum_b
                grad_coef[t, g, 3] += sum_ab


@_compile
def _pool(x, kernel, stride, out, low, high):  # type: ignore[no-untyped-def]
    low, n = np.uint64(low), np.uint64(high - low)
    for c in range(np.uint64(out.shape[0])):
        for y in range(np.uint64(out.shape[1])):
            for z in range(np.uint64(out.shape[2])):
                for cell in range(np.uint64(kernel[0] * kernel[1])):
                    dy, dz = np.uint64(cell // kernel[1]), np.uint64(cell % kernel[1])
                    iy, iz = np.uint64(stride[0] * y + dy), np.uint64(stride[1] * z + dz)
                    for j in range(n):
                        value = x[c, iy, iz, low + j]
                        best = out[c, y, z, low + j]
                        out[c, y, z, low + j] = value if cell == 0 or value > best else best


@_compile
def _pool_backward(x, kernel, stride, out, grad, grad_x, low, high):  # type: ignore[no-untyped-def]
    low, n = np.uint64(low), np.uint64(high - low)
    left = np.empty(n, x.dtype)
    for c in range(np.uint64(out.shape[0])):
        for y in range(np.uint64(out.shape[1])):
            for z in range(np.uint64(out.shape[2])):
                for j in range(n):
                    left[j] = grad[c, y, z, low + j]
                for cell in range(np.uint64(kernel[0] * kernel[1])):
                    dy, dz = np.uint64(cell // kernel[1]), np.uint64(cell % kernel[1])
                    iy, iz = np.uint64(stride[0] * y + dy), np.uint64(stride[1] * z + dz)
                    for j in range(n):
                        won = x[c, iy, iz, low + j] == out[c, y, z, low + j]
                        share = left[j] if won else x.dtype.type(0)
                        grad_x[c, iy, iz, low + j] += share
                        left[j] -= share


class TreeGates(torch.autograd.Function):
    """As `kernels.tree_gates`, for CPU tensors outside of torch.compile."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, leaves: Tensor, offsets: Tensor, coef: Tensor) -> Tensor:
        leaves, coef = leaves.contiguous(), coef.contiguous()
        ctx.save_for_backward(x, leaves, offsets, coef)
        out = x.new_empty(len(leaves), len(offsets), x.shape[1])
        arrays = [a.detach().numpy() for a in (x, leaves, offsets, coef, out)]
        _each_block(x.shape[1], lambda i, low, high: _forward(*arrays, low, high))
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, Tensor]:
        x, leaves, offsets, coef = ctx.saved_tensors
        grad_x = torch.zeros_like(x)
        parts = coef.new_zeros(-(-x.shape[1] // _COLUMNS), *coef.shape)
        tensors = (x, leaves, offsets, coef, grads[0].contiguous(), grad_x)
        arrays = [a.detach().numpy() for a in tensors]
        sums = parts.numpy()
        _each_block(x.shape[1], lambda i, low, high: _backward(*arrays, sums[i], low, high))
        return grad_x, None, None, parts.sum(0)


class OrPool(torch.autograd.Function):
    """As `kernels.or_pool`, for CPU tensors outside of torch.compile."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: tuple[int, int], stride: tuple[int, int]) -> Tensor:
        x = x.contiguous()
        space = [(x.shape[i + 1] - kernel[i]) // stride[i] + 1 for i in range(2)]
        out = x.new_empty(x.shape[0], *space, x.shape[3])
        ctx.save_for_backward(x, out)
        ctx.window = kernel, stride
        arrays = x.detach().numpy(), kernel, stride, out.numpy()
        _each_block(x.shape[3], lambda i, low, high: _pool(*arrays, low, high))
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        x, out = ctx.saved_tensors
        grad_x = torch.zeros_like(x)
        grad = grads[0].contiguous()
        arrays = (x.numpy(), *ctx.window, out.numpy(), grad.numpy(), grad_x.numpy())
        _each_block(x.shape[3], lambda i, low, high: _pool_backward(*arrays, low, high))
        return grad_x, None, None


def _each_block(columns: int, work: Callable[[int, int, int], Any]) -> None:
    """Calls work(number, low, high) for all blocks of columns, on as many threads as torch uses."""
    lows = range(0, columns, _COLUMNS)
    blocks = [(i, low, min(low + _COLUMNS, columns)) for i, low in enumerate(lows)]
    threads = min(torch.get_num_threads(), len(blocks))
    if threads <= 1:
        for block in blocks:
            work(*block)
        return
    with ThreadPoolExecutor(threads) as pool:
        for done in [pool.submit(work, *block) for block in blocks]:
            done.result()
