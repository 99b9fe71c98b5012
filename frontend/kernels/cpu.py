"""The kernels of trainable gates on CPUs: torch's functions around numba's loops.

Blocks of batch columns run on as many threads as torch uses. The number of threads decides the
blocks, so gradients are the same to the bit if it is.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lgir.frontend.kernels import compiled

_COLUMNS: Final = 128
"""Most batch columns of a block: a depth-3 tree's nets and their gradients are then 11 KiB."""


class TreeGates(torch.autograd.Function):
    """Evaluate trees as `multilinear.tree_gates` does, of CPU tensors outside of torch.compile.

    Offsets are (positions, places), and rows and size are those of a frame.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, leaves: Tensor, offsets: Tensor, coef: Tensor, rows: Tensor, size: int
    ) -> Tensor:
        leaves, offsets, coef = leaves.contiguous(), offsets.contiguous(), coef.contiguous()
        places = offsets.shape[1]
        out = x.new_empty(len(leaves), size, x.shape[1])
        dtype = torch.uint8 if places < 256 else torch.int32
        won = (len(leaves), len(offsets), x.shape[1]) if places > 1 else (0, 0, 0)
        winner = torch.empty(won, dtype=dtype)
        ctx.save_for_backward(x, leaves, offsets, coef, rows, winner)
        steps, targets = tree_steps(leaves.shape[1]), rows.numpy().astype(np.uint64)
        blank = np.setdiff1d(np.arange(size, dtype=np.uint64), targets)
        arrays = [a.detach().numpy() for a in (x, leaves, offsets, coef, out, winner)]
        args = *arrays[:3], steps, arrays[3], targets, blank, *arrays[4:]

        def block(i: int, low: int, high: int) -> None:
            nets = _scratch(x, int(steps[-1, 3]) + 1, high - low)
            best, place = _scratch(x, 2, high - low)
            compiled.forward_trees(*args, nets, best, place, low, high)

        _each_block(x.shape[1], block)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, None, None, Tensor, None, None]:
        x, leaves, offsets, coef, rows, winner = ctx.saved_tensors
        wanted = ctx.needs_input_grad[0]
        grad_x = torch.empty_like(x) if wanted else x.new_empty(0, x.shape[1])
        parts = coef.new_zeros(len(_blocks(x.shape[1])), *coef.shape)
        wiring = *(a.detach().numpy() for a in (x, leaves, offsets)), rows.numpy().astype(np.uint64)
        coefficients, sums = coef.detach().numpy(), parts.numpy()
        into = grads[0].contiguous().numpy(), grad_x.numpy()
        steps = tree_steps(leaves.shape[1])

        def gates(i: int, low: int, high: int) -> None:
            touched, both = np.zeros(len(grad_x), np.bool_), _scratch(x, 2, high - low)
            compiled.backward_gates(*wiring, coefficients, *into, sums[i], both, touched, low, high)

        def trees(i: int, low: int, high: int) -> None:
            sizes = int(steps[-1, 3]) + 1, int(steps[-1, 3]) + 1, offsets.shape[1]
            scratch = [_scratch(x, size, high - low) for size in sizes]
            inner = steps, coefficients, winner.numpy()
            compiled.backward_trees(*wiring, *inner, *into, sums[i], *scratch, low, high)

        single = leaves.shape[1] == 2 and offsets.shape[1] == 1
        _each_block(x.shape[1], gates if single else trees)
        grad_coef = parts.sum(0) if len(parts) > 1 else parts[0]
        return grad_x if wanted else None, None, None, grad_coef, None, None


class OrPool(torch.autograd.Function):
    """Pool as `multilinear.or_pool` does, of CPU tensors outside of torch.compile."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: tuple[int, int], stride: tuple[int, int]) -> Tensor:
        x = x.contiguous()
        space = [(x.shape[i + 1] - kernel[i]) // stride[i] + 1 for i in range(2)]
        out = x.new_empty(x.shape[0], *space, x.shape[3])
        ctx.save_for_backward(x, out)
        ctx.window = kernel, stride
        arrays = x.detach().numpy(), kernel, stride, out.numpy()
        _each_block(x.shape[3], lambda i, low, high: compiled.forward_pool(*arrays, low, high))
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        x, out = ctx.saved_tensors
        grad_x = torch.zeros_like(x)
        grad = grads[0].contiguous()
        arrays = (x.numpy(), *ctx.window, out.numpy(), grad.numpy(), grad_x.numpy())
        _each_block(
            x.shape[3],
            lambda i, low, high: compiled.backward_pool(
                *arrays, _scratch(x, 1, high - low)[0], low, high
            ),
        )
        return grad_x, None, None


def _scratch(x: Tensor, rows: int, columns: int) -> npt.NDArray[Any]:
    return np.empty((rows, columns), x.detach().numpy().dtype)


def _blocks(columns: int) -> list[tuple[int, int]]:
    """Return the bounds of the blocks of columns: at least one per thread, if all can have 16."""
    each = -(-columns // torch.get_num_threads())
    step = min(_COLUMNS, -(-each // 16) * 16)
    return [(low, min(low + step, columns)) for low in range(0, columns, step)]


def _each_block(columns: int, work: Callable[[int, int, int], Any]) -> None:
    """Call work(number, low, high) for all blocks of columns, on as many threads as torch uses."""
    blocks = [(i, *bounds) for i, bounds in enumerate(_blocks(columns))]
    threads = min(torch.get_num_threads(), len(blocks))
    if threads <= 1:
        for block in blocks:
            work(*block)
        return
    with ThreadPoolExecutor(threads) as pool:
        for done in [pool.submit(work, *block) for block in blocks]:
            done.result()


@functools.cache
def tree_steps(leaves: int) -> npt.NDArray[np.uint64]:
    """Return the plan of a tree: rows (first gate, inputs, first input net, first output net).

    A step reduces its inputs four to one by two levels of gates; the last step of a tree of odd
    depth reduces two to one by one gate. Nets 0 to `leaves` are the leaves; the last one is the
    root. Gates are numbered level by level.
    """
    rows, gate, net, width = [], 0, 0, leaves
    while width > 1:
        rows.append((gate, width, net, net + width))
        net += width
        gate += width // 2 + (width // 4)
        width = max(1, width // 4)
    return np.array(rows, np.uint64)
