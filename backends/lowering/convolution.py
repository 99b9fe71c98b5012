"""Lower a body that is evaluated at many positions to the cones of its templates."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from lgir.backends.lowering.cone_cutter import ConeCutter
from lgir.backends.lowering.cones import ConeGroup
from lgir.backends.lowering.layouts import ValueLayout, Walk, three_axes
from lgir.backends.lowering.plane_allocator import RangeAllocator
from lgir.backends.lowering.steps import ONE_PLANE, ZERO_PLANE, ConeStep, Planes, Step, copy_steps
from lgir.ir.body import Body
from lgir.ir.nodes import Logic
from lgir.ir.types import FIRST_TAP


def lower_convolution(
    op: Logic,
    sources: Sequence[ValueLayout],
    out: ValueLayout,
    planes: RangeAllocator,
    stages: Iterator[int],
) -> list[Step]:
    """Return the steps that evaluate `op` at every position.

    Args:
        sources: the layouts of the inputs, all with a walk of the same strides.
        out: the layout of the output, with a walk.
        planes: where cones that are no outputs take planes for the time of these steps.
        stages: numbers for stages of cones that do not depend on each other.
    """
    body = op.body
    walk_in, walk_out = _walk_of(sources[0]), _walk_of(out)
    groups = ConeCutter(body).groups()
    plane = np.zeros(body.num_nets, np.int64)
    plane[:FIRST_TAP] = ZERO_PLANE, ONE_PLANE
    plane[FIRST_TAP : body.first_gate] = _tap_planes(body, sources)
    inner = _place_outputs(body, groups, out, plane)
    # Channels of inner cones are laid out as the output's, halo included.
    halo = walk_out.halo
    channel_planes = walk_out.strides[0] * (op.space[0] + halo.between[0])
    count = len(inner) * channel_planes
    scratch = planes.take(count) if count else 0
    plane[inner] = scratch + np.arange(len(inner)) * channel_planes
    strides_in = np.array(walk_in.strides, np.int64)
    space = three_axes(op.space, 1)
    in_step = three_axes((strides_in * np.array(op.stride)).tolist(), 0)
    out_step = three_axes(walk_out.strides, 0)
    steps: list[Step] = []
    by_level = itertools.groupby(sorted(groups, key=_level), key=_level)
    for (_, independent), stage in zip(by_level, stages, strict=False):
        steps += [
            ConeStep(
                group.expr,
                plane[group.leaves],
                group.masks,
                plane[group.roots],
                space,
                in_step,
                out_step,
                group.shifts @ strides_in,
                stage,
            )
            for group in independent
        ]
    steps += _copied_channels(op, walk_in, out, plane)
    if count:
        planes.give(scratch, count)
    return steps


def _place_outputs(
    body: Body, groups: Sequence[ConeGroup], out: ValueLayout, plane: Planes
) -> Planes:
    """Fill in the `plane` of roots that are outputs, and return the other roots.

    A root that is an output of several channels is computed in the place of the first one.
    """
    roots = np.concatenate([group.roots for group in groups]) if groups else np.zeros(0, np.int64)
    nets, first_channel = np.unique(body.outputs, return_index=True)
    is_output = np.isin(roots, nets)
    channel = first_channel[np.searchsorted(nets, roots[is_output])]
    plane[roots[is_output]] = out.first_cells()[channel]
    return roots[~is_output]


def _copied_channels(op: Logic, walk: Walk, out: ValueLayout, plane: Planes) -> list[Step]:
    """Return the steps for output channels that are a tap or a constant, or repeat another one."""
    outputs = op.body.outputs
    planes = out.planes.reshape(len(outputs), -1)
    nets, first = np.unique(outputs, return_index=True)
    plain = first[nets < op.body.first_gate]
    positions = np.indices(op.space).reshape(len(op.space), -1).T * np.array(op.stride)
    advance = positions @ np.array(walk.strides, np.int64)
    is_tap = outputs[plain, None] >= FIRST_TAP  # A constant is the same at every position.
    steps = copy_steps(plane[outputs[plain], None] + np.where(is_tap, advance, 0), planes[plain])
    original = first[np.searchsorted(nets, outputs)]
    repeats = np.flatnonzero(original != np.arange(len(outputs)))
    return steps + copy_steps(planes[original[repeats]], planes[repeats])


def _tap_planes(body: Body, sources: Sequence[ValueLayout]) -> Planes:
    """Return the plane that each tap reads at position 0, (taps,); it may lie in the halo."""
    taps = body.taps.astype(np.int64)
    planes = np.zeros(len(taps), np.int64)
    for i, source in enumerate(sources):
        reads = taps[:, 0] == i
        offset = taps[reads, 2:] @ np.array(_walk_of(source).strides, np.int64)
        planes[reads] = source.first_cells()[taps[reads, 1]] + offset
    return planes


def _walk_of(layout: ValueLayout) -> Walk:
    assert layout.walk is not None
    return layout.walk


def _level(group: ConeGroup) -> int:
    return group.level
