"""The loops of trainable gates, compiled for CPUs by numba.

Trees are evaluated over a block of batch columns that stays in the first-level cache, two levels of
gates per loop, so that the nets between the two are registers. A pooled tree keeps the index of the
place that won, and its backward pass computes and differentiates the copy at that place alone:
of the copies in a pooling window only one has a gradient.

A tree's plan `steps` has rows (first gate, inputs, first input net, first output net), as
`lgir.frontend.kernels.cpu.tree_steps` makes it. Arrays of scratch rows are as wide as the block.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numba import njit

_compile: Final[Callable[[Any], Any]] = njit(
    cache=True, nogil=True, fastmath=True, error_model="numpy", _nrt=False
)
_inline: Final[Callable[[Any], Any]] = njit(
    nogil=True, fastmath=True, error_model="numpy", _nrt=False, forceinline=True
)
# Without numba's runtime arrays are not counted by reference: the atomic counting around every
# helper took a quarter of a training step. So kernels allocate nothing; scratch rows are arguments.
# Indices are made unsigned: numba would look for negative ones in the inner loops.


@_inline
def _gate(x, a, b, low, coef, t, g, nets, o, n):  # type: ignore[no-untyped-def]
    """nets[o] = gate g of tree t on columns low.. of rows a and b of x."""
    c0, ca, cb, cab = coef[t, g, 0], coef[t, g, 1], coef[t, g, 2], coef[t, g, 3]
    for j in range(n):
        u, v = x[a, low + j], x[b, low + j]
        nets[o, j] = (cab * u + cb) * v + (ca * u + c0)


@_inline
def _two_levels(x, a, b, c, d, low, coef, t, g, top, nets, o, n):  # type: ignore[no-untyped-def]
    """nets[o] = gate `top` on the gates g (of rows a and b) and g + 1 (of rows c and d) of x."""
    h = g + np.uint64(1)
    c0, ca, cb, cab = coef[t, g, 0], coef[t, g, 1], coef[t, g, 2], coef[t, g, 3]
    d0, da, db, dab = coef[t, h, 0], coef[t, h, 1], coef[t, h, 2], coef[t, h, 3]
    e0, ea, eb, eab = coef[t, top, 0], coef[t, top, 1], coef[t, top, 2], coef[t, top, 3]
    for j in range(n):
        u, v = x[a, low + j], x[b, low + j]
        left = (cab * u + cb) * v + (ca * u + c0)
        u, v = x[c, low + j], x[d, low + j]
        right = (dab * u + db) * v + (da * u + d0)
        nets[o, j] = (eab * left + eb) * right + (ea * left + e0)


@_inline
def _inner(nets, steps, first, end, coef, t, n):  # type: ignore[no-untyped-def]
    """Compute the nets of the steps first..end of tree t from those before."""
    zero, one = np.uint64(0), np.uint64(1)
    for s in range(first, end):
        g, width, i, o = steps[s, 0], steps[s, 1], steps[s, 2], steps[s, 3]
        if width == 2:
            _gate(nets, i, i + one, zero, coef, t, g, nets, o, n)
        else:
            for q in range(width // np.uint64(4)):
                a = i + np.uint64(4) * q
                _two_levels(
                    nets, a, a + np.uint64(1), a + np.uint64(2), a + np.uint64(3), zero, coef, t,
                    g + np.uint64(2) * q, g + width // np.uint64(2) + q, nets, o + q, n,
                )  # fmt: skip


@_inline
def _tree(x, leaves, at, steps, coef, t, nets, low, n):  # type: ignore[no-untyped-def]
    """The nets of tree t's steps at offset `at`, on columns low + (0..n); leaves are not copied."""
    width, o = steps[0, 1], steps[0, 3]
    if width == 2:
        a, b = np.uint64(leaves[t, 0] + at), np.uint64(leaves[t, 1] + at)
        _gate(x, a, b, low, coef, t, np.uint64(0), nets, o, n)
        return
    for q in range(width // np.uint64(4)):
        a, b = np.uint64(leaves[t, 4 * q] + at), np.uint64(leaves[t, 4 * q + 1] + at)
        c, d = np.uint64(leaves[t, 4 * q + 2] + at), np.uint64(leaves[t, 4 * q + 3] + at)
        top = width // np.uint64(2) + q
        _two_levels(x, a, b, c, d, low, coef, t, np.uint64(2) * q, top, nets, o + q, n)
    _inner(nets, steps, np.uint64(1), np.uint64(len(steps)), coef, t, n)


@_compile
def forward_trees(  # type: ignore[no-untyped-def]
    x, leaves, offsets, steps, coef, rows, blank, out, winner, nets, best, place, low, high
):
    low, n = np.uint64(low), np.uint64(high - low)
    root = steps[len(steps) - 1, 3]
    for t in range(np.uint64(len(leaves))):
        for p in range(np.uint64(len(blank))):
            row = blank[p]
            for j in range(n):
                out[t, row, low + j] = 0
        for p in range(np.uint64(offsets.shape[0])):
            row = rows[p]
            _tree(x, leaves, offsets[p, 0], steps, coef, t, nets, low, n)
            if offsets.shape[1] == 1:
                for j in range(n):
                    out[t, row, low + j] = nets[root, j]
                continue
            for j in range(n):
                best[j], place[j] = nets[root, j], 0
            for w in range(np.uint64(1), np.uint64(offsets.shape[1])):
                _tree(x, leaves, offsets[p, w], steps, coef, t, nets, low, n)
                number = x.dtype.type(w)
                for j in range(n):
                    new, old = nets[root, j], best[j]
                    best[j] = new if new > old else old
                    place[j] = number if new > old else place[j]
            for j in range(n):
                out[t, row, low + j] = best[j]
            for j in range(n):
                winner[t, p, low + j] = winner.dtype.type(place[j])


@_inline
def _gate_backward(nets, grads, a, o, coef, t, g, grad_coef, n):  # type: ignore[no-untyped-def]
    """Gradients of nets a and a + 1 and of gate g's coefficients, from that of its output o."""
    b = a + np.uint64(1)
    ca, cb, cab = coef[t, g, 1], coef[t, g, 2], coef[t, g, 3]
    sum_0 = sum_a = sum_b = sum_ab = nets.dtype.type(0)
    for j in range(n):
        d, u, v = grads[o, j], nets[a, j], nets[b, j]
        du, dv = d * u, d * v
        grads[a, j] = cab * dv + ca * d
        grads[b, j] = cab * du + cb * d
        sum_0, sum_a, sum_b, sum_ab = sum_0 + d, sum_a + du, sum_b + dv, sum_ab + du * v
    grad_coef[t, g, 0] += sum_0
    grad_coef[t, g, 1] += sum_a
    grad_coef[t, g, 2] += sum_b
    grad_coef[t, g, 3] += sum_ab


@_inline
def _two_levels_backward(nets, grads, i, o, coef, t, g, top, grad_coef, n):  # type: ignore[no-untyped-def]
    """Gradients of nets i to i + 3 and of the coefficients of gates g, g + 1 and `top`."""
    h = g + np.uint64(1)
    i1, i2, i3 = i + np.uint64(1), i + np.uint64(2), i + np.uint64(3)
    c0, ca, cb, cab = coef[t, g, 0], coef[t, g, 1], coef[t, g, 2], coef[t, g, 3]
    d0, da, db, dab = coef[t, h, 0], coef[t, h, 1], coef[t, h, 2], coef[t, h, 3]
    ea, eb, eab = coef[t, top, 1], coef[t, top, 2], coef[t, top, 3]
    left_0 = left_a = left_b = left_ab = nets.dtype.type(0)
    right_0 = right_a = right_b = right_ab = nets.dtype.type(0)
    top_0 = top_a = top_b = top_ab = nets.dtype.type(0)
    for j in range(n):
        d, a, b, c, e = grads[o, j], nets[i, j], nets[i1, j], nets[i2, j], nets[i3, j]
        u = (cab * a + cb) * b + (ca * a + c0)
        v = (dab * c + db) * e + (da * c + d0)
        du, dv = d * u, d * v
        top_0, top_a, top_b, top_ab = top_0 + d, top_a + du, top_b + dv, top_ab + du * v
        left, right = eab * dv + ea * d, eab * du + eb * d
        la, lb, rc, re = left * a, left * b, right * c, right * e
        left_0, left_a, left_b, left_ab = left_0 + left, left_a + la, left_b + lb, left_ab + la * b
        right_0, right_a, right_b = right_0 + right, right_a + rc, right_b + re
        right_ab = right_ab + rc * e
        grads[i, j], grads[i1, j] = cab * lb + ca * left, cab * la + cb * left
        grads[i2, j], grads[i3, j] = dab * re + da * right, dab * rc + db * right
    grad_coef[t, g, 0] += left_0
    grad_coef[t, g, 1] += left_a
    grad_coef[t, g, 2] += left_b
    grad_coef[t, g, 3] += left_ab
    grad_coef[t, h, 0] += right_0
    grad_coef[t, h, 1] += right_a
    grad_coef[t, h, 2] += right_b
    grad_coef[t, h, 3] += right_ab
    grad_coef[t, top, 0] += top_0
    grad_coef[t, top, 1] += top_a
    grad_coef[t, top, 2] += top_b
    grad_coef[t, top, 3] += top_ab


@_inline
def _read(x, row, offsets, p, won, nets, leaf, low, n):  # type: ignore[no-untyped-def]
    """nets[leaf] = each column's leaf at the place that won it; won is (places, n) of 0 and 1."""
    if offsets.shape[1] == 1:
        a = np.uint64(row + offsets[p, 0])
        for j in range(n):
            nets[leaf, j] = x[a, low + j]
    elif offsets.shape[1] == 4:
        a, b = np.uint64(row + offsets[p, 0]), np.uint64(row + offsets[p, 1])
        c, d = np.uint64(row + offsets[p, 2]), np.uint64(row + offsets[p, 3])
        for j in range(n):
            i = low + j
            upper = won[0, j] * x[a, i] + won[1, j] * x[b, i]
            nets[leaf, j] = upper + (won[2, j] * x[c, i] + won[3, j] * x[d, i])
    else:
        for j in range(n):
            nets[leaf, j] = 0
        for w in range(np.uint64(offsets.shape[1])):
            a = np.uint64(row + offsets[p, w])
            for j in range(n):
                nets[leaf, j] += won[w, j] * x[a, low + j]


@_inline
def _add(grads, i, grad_x, a, touched, low, n):  # type: ignore[no-untyped-def]
    """Add grads[i] to row a of grad_x, whose untouched rows hold nothing yet."""
    if touched[a]:
        for j in range(n):
            grad_x[a, low + j] += grads[i, j]
    else:
        touched[a] = True
        for j in range(n):
            grad_x[a, low + j] = grads[i, j]


@_compile
def backward_trees(  # type: ignore[no-untyped-def]
    x,
    leaves,
    offsets,
    rows,
    steps,
    coef,
    winner,
    grad,
    grad_x,
    grad_coef,
    nets,
    grads,
    won,
    low,
    high,
):
    """Write columns low..high of grad_x, and add their part of grad_coef (trees, gates, 4).

    An empty grad_x is left as it is.
    """
    low, n = np.uint64(low), np.uint64(high - low)
    places, root = np.uint64(offsets.shape[1]), steps[len(steps) - 1, 3]
    one, zero = x.dtype.type(1), x.dtype.type(0)
    for row in range(np.uint64(len(grad_x))):
        for j in range(n):
            grad_x[row, low + j] = 0
    for j in range(n):
        won[0, j] = 1
    for t in range(np.uint64(len(leaves))):
        for p in range(np.uint64(offsets.shape[0])):
            for w in range(places if places > 1 else np.uint64(0)):
                number = winner.dtype.type(w)
                for j in range(n):
                    won[w, j] = one if winner[t, p, low + j] == number else zero
            for leaf in range(np.uint64(leaves.shape[1])):
                _read(x, leaves[t, leaf], offsets, p, won, nets, leaf, low, n)
            _inner(nets, steps, np.uint64(0), np.uint64(len(steps) - 1), coef, t, n)
            row = rows[p]
            for j in range(n):
                grads[root, j] = grad[t, row, low + j]
            for below in range(np.uint64(len(steps))):
                s = np.uint64(len(steps)) - np.uint64(1) - below
                g, width, i, o = steps[s, 0], steps[s, 1], steps[s, 2], steps[s, 3]
                if width == 2:
                    _gate_backward(nets, grads, i, o, coef, t, g, grad_coef, n)
                else:
                    for q in range(width // np.uint64(4)):
                        _two_levels_backward(
                            nets, grads, i + np.uint64(4) * q, o + q, coef, t,
                            g + np.uint64(2) * q, g + width // np.uint64(2) + q, grad_coef, n,
                        )  # fmt: skip
            if len(grad_x) == 0:
                continue
            for leaf in range(np.uint64(leaves.shape[1])):
                for w in range(places):
                    a = np.uint64(leaves[t, leaf] + offsets[p, w])
                    for j in range(n):
                        grad_x[a, low + j] += won[w, j] * grads[leaf, j]


@_compile
def backward_gates(  # type: ignore[no-untyped-def]
    x, leaves, offsets, rows, coef, grad, grad_x, grad_coef, grads, touched, low, high
):
    """As `backward_trees`, for trees of one gate at one place per position."""
    low, n = np.uint64(low), np.uint64(high - low)
    zero, one = np.uint64(0), np.uint64(1)
    for t in range(np.uint64(len(leaves))):
        ca, cb, cab = coef[t, 0, 1], coef[t, 0, 2], coef[t, 0, 3]
        for p in range(np.uint64(offsets.shape[0])):
            a = np.uint64(leaves[t, 0] + offsets[p, 0])
            b = np.uint64(leaves[t, 1] + offsets[p, 0])
            row = rows[p]
            sum_0 = sum_a = sum_b = sum_ab = x.dtype.type(0)
            for j in range(n):
                d, u, v = grad[t, row, low + j], x[a, low + j], x[b, low + j]
                du, dv = d * u, d * v
                grads[0, j] = cab * dv + ca * d
                grads[1, j] = cab * du + cb * d
                sum_0, sum_a, sum_b, sum_ab = sum_0 + d, sum_a + du, sum_b + dv, sum_ab + du * v
            grad_coef[t, 0, 0] += sum_0
            grad_coef[t, 0, 1] += sum_a
            grad_coef[t, 0, 2] += sum_b
            grad_coef[t, 0, 3] += sum_ab
            if len(grad_x) > 0:
                _add(grads, zero, grad_x, a, touched, low, n)
                _add(grads, one, grad_x, b, touched, low, n)
    for row in range(np.uint64(len(grad_x))):
        if not touched[row]:
            for j in range(n):
                grad_x[row, low + j] = 0


@_compile
def forward_pool(x, kernel, stride, out, low, high):  # type: ignore[no-untyped-def]
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
def backward_pool(x, kernel, stride, out, grad, grad_x, left, low, high):  # type: ignore[no-untyped-def]
    low, n = np.uint64(low), np.uint64(high - low)
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
