"""Thresholds of the binarization layers of torchlogix, and the bits that they make.

Fixed, soft and learnable binarizations store their thresholds differently. Each is lifted to
comparisons x > t in float32, which decide every sample as the layer does in eval mode.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from lgir.errors import LiftError
from lgir.frontend.core.arguments import check_elements
from lgir.frontend.core.layerwise import LayerEntry
from lgir.frontend.core.stack import LayerStack


def binarize(stack: LayerStack, layer: LayerEntry) -> None:
    """Add the bits x > t, merged into axis `feature_dim` of (batch, *shape)."""
    levels, shape = thresholds_of(layer), stack.value.shape
    feature = int(layer.number("feature_dim", -2))
    axis = feature - 1 if feature >= 0 else len(shape) + 1 + feature
    if levels.ndim == 2 and len(shape) == 3:  # torchlogix has a row per channel of an image
        full = levels.reshape(-1, 1, 1, levels.shape[1])
    else:
        full = levels
    check_elements(math.prod(shape) * levels.shape[-1], layer.where)
    try:
        full = np.broadcast_to(full, (*shape, levels.shape[-1]))
    except ValueError:
        raise LiftError(
            f"{layer.where}: thresholds {levels.shape} do not fit an input of {list(shape)}"
        ) from None
    if not 0 <= axis < len(shape):
        raise LiftError(
            f"{layer.where}: feature_dim={feature} is no axis of {list(shape)} after the batch; "
            "check input_shape"
        )
    if axis == 0:
        stack.threshold(_shortest(full), layer.where)
        return
    # Put the bits of each element side by side, then move them behind the axis that grows.
    bits = full.shape[-1]
    stack.flatten()
    stack.threshold(_shortest(full.reshape(-1, bits)), layer.where)
    if axis < len(shape) - 1:
        order = np.arange(full.size).reshape(full.shape)
        stack.select(np.moveaxis(order, -1, axis + 1).ravel(), layer.where)
    stack.reshape((*shape[:axis], shape[axis] * bits, *shape[axis + 1 :]))


def thresholds_of(layer: LayerEntry) -> npt.NDArray[np.float32]:
    """Return the thresholds in effect, (L,) or (features, L)."""
    if layer.type != "LearnableBinarization":
        name = "thresholds"
    elif layer.has("effective_thresholds"):
        name = "effective_thresholds"
    else:
        return _float32_below(_learned_levels(layer))
    return _float32_below(layer.tensor(name, "n", (None,) * layer.ndim(name)))


def _float32_below(levels: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Return the largest float32 not above each threshold, which compares alike with float32 x."""
    with np.errstate(over="ignore"):
        nearest = levels.astype(np.float32)
    above = nearest.astype(np.float64) > levels
    return np.atleast_1d(np.where(above, np.nextafter(nearest, np.float32(-np.inf)), nearest))


def _learned_levels(layer: LayerEntry) -> npt.NDArray[Any]:
    """Return thresholds from their raw differences; the `thresholds` buffer is stale."""
    raw = layer.tensor("raw_diffs", "f", (None,) * layer.ndim("raw_diffs"))
    steps = raw[..., 1:]
    if layer.get("softplus", True):
        if layer.entry.get("temperature_softplus") is None:
            raise LiftError(
                f"{layer.where}: its `thresholds` are those from before training, and the learned "
                "ones depend on temperature_softplus, which no state_dict holds; the architecture "
                'must give it (the default is 0.1), or "softplus": false for torchlogix 0.2.1, '
                "which sums the differences as they are"
            )
        scale = raw.dtype.type(layer.number("temperature_softplus") + 1e-6)
        steps = scale * _softplus(steps / scale)
    ordered = np.concatenate([raw[..., :1], steps], axis=-1)
    # torch sums in double precision and rounds the result.
    return np.cumsum(ordered, axis=-1, dtype=np.float64).astype(raw.dtype)


def _softplus(x: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return log(1 + exp(x)); torch, if installed, rounds its last bit as the layer does."""
    try:
        import torch
    except ImportError:
        plain: npt.NDArray[Any] = np.logaddexp(0, x.astype(np.float64)).astype(x.dtype)
        return plain
    softened: npt.NDArray[Any] = torch.nn.functional.softplus(torch.from_numpy(x)).numpy()
    return softened


def _shortest(levels: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return thresholds (*shape, L) without trailing axes on which they do not depend."""
    while levels.ndim > 1 and (levels == levels[..., :1, :]).all():
        levels = levels[..., 0, :]
    return np.ascontiguousarray(levels)
