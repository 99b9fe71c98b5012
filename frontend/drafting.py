"""`describe`: draft the architecture description that a state_dict needs beside it.

Keys and shapes tell most of a network; wiring tells windows, strides and, with the size of what
comes before, padding and pools. What nothing tells is written as null and listed under "check".
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lgir.errors import LiftError
from lgir.frontend.checkpoint import source_of
from lgir.frontend.layerwise import Entry, in_order, unwrapped
from lgir.frontend.torchlogix import is_state, lattice

_TENSORS = (
    "connections.indices",
    "connections.weights",
    "connections._indices_L0",
    "tree_weights.0",
    "weight",
    "weights",
    "selection",
    "indices_0",
    "luts",
    "mapping",
    "mapping.weights",
    "raw_diffs",
    "thresholds",
)
"""Names that mark a layer; what comes before one in a key is the layer's own key."""


def describe(model: Any | str | Path, input_shape: Sequence[int] | None = None) -> dict[str, Any]:
    """A draft for `lgir.lift(model, architecture=...)`, to be read and completed.

    Args:
        model: a state_dict or the path of a checkpoint, of torchlogix, convlogic, difflogic or
            torch-dwn.
        input_shape: of one sample; makes paddings exact.

    Returns:
        {"framework", "input", "layers", "check"}: JSON-ready; "check" says what was guessed and
        what is left as null.

    Raises:
        LiftError: the keys are of no framework that needs a description.
    """
    source = source_of(model)
    state = unwrapped(source.state)
    draft = _Draft(state, tuple(input_shape) if input_shape else None)
    if is_state(state):
        framework, add = "torchlogix", draft.torchlogix
    elif any(k.endswith((".selection", ".indices_0")) for k in state):
        framework, add = "convlogic", draft.convlogic
    elif any(k.endswith(".luts") for k in state):
        framework, add = "torch-dwn", draft.torch_dwn
    elif any(k.endswith(".weights") for k in state):
        framework, add = "difflogic", draft.difflogic
    else:
        raise LiftError(f"{source.label}: its keys are of no framework that can be described")
    try:
        for key, tensors in _layers(state):
            draft.bridge(key)
            add(key, tensors)
    except LiftError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise LiftError(
            f"{source.label}: its tensors are not shaped as {framework}'s "
            f"({type(error).__name__}: {error})"
        ) from error
    draft.finish()
    shape = draft.input_shape
    return {
        "framework": framework,
        "input": {"shape": list(shape) if shape else None},
        "layers": draft.layers,
        "check": draft.check,
    }


def _layers(state: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """(key, its tensors) of each layer, in order of the numbers in the keys."""
    found: dict[str, dict[str, Any]] = {}
    for name, value in state.items():
        for tensor in _TENSORS:
            if name == tensor or name.endswith(f".{tensor}"):
                key = name[: len(name) - len(tensor)].rstrip(".")
                if not key.endswith((".connections", ".mapping")):
                    found.setdefault(key, {})[tensor] = value
                    break
    if all(key.split(".")[-1].isdigit() for key in found):
        return [(key, found[key]) for key in in_order(found)]
    return list(found.items())


class _Draft:
    """Layers so far, and the shape that the last one gives, () where it is not known."""

    def __init__(self, state: Mapping[str, Any], input_shape: tuple[int, ...] | None) -> None:
        self.state, self.input_shape = state, input_shape
        self.layers: list[Entry] = []
        self.check: list[str] = []
        self.shape: tuple[int, ...] = input_shape or ()
        self.gap = 0  # modules without tensors since the last layer

    def bridge(self, key: str) -> None:
        """Count the nn.Sequential numbers between the last layer with tensors and this one."""
        number = key.rpartition(".")[2]
        before = self.layers[-1]["key"].rpartition(".")[2] if self.layers else "-1"
        known = number.isdigit() and before.lstrip("-").isdigit()
        self.gap = max(0, int(number) - int(before) - 1) if known else 0

    def torchlogix(self, key: str, tensors: Mapping[str, Any]) -> None:
        if "connections._indices_L0" in tensors:
            self._torchlogix_conv(key, tensors["connections._indices_L0"])
        elif "thresholds" in tensors or "raw_diffs" in tensors:
            self._binarisation(key, tensors)
        elif "connections.indices" in tensors and "weight" in tensors:
            indices, width = tensors["connections.indices"], tensors["weight"].shape[1]
            rank, gates = indices.shape[-2:]
            self._before_dense(key, int(indices.max()) + 1)
            name = "raw" if (rank, width) == (2, 16) else None
            self._ask_parametrization(key, name)
            self._dense("LogicDense", key, gates, lut_rank=rank, parametrization=name)
        else:
            raise LiftError(
                f"layer {key!r} has no connections.indices; torchlogix 0.1 saved no wiring, so "
                "this state_dict cannot be lifted"
            )

    def _torchlogix_conv(self, key: str, indices: Any) -> None:
        rank, kernels, positions, nodes, columns = indices.shape
        axes = columns - 1
        coords = indices.transpose(1, 2, 3, 0, 4).reshape(kernels, positions, -1, columns)
        found = lattice(coords)
        if found is None:
            raise LiftError(f"layer {key!r} is wired differently at each position; lift the module")
        space, stride = found
        window = tuple(int(n) + 1 for n in coords[:, 0, :, :axes].max(axis=(0, 1)))
        padded = tuple((n - 1) * s + w for n, s, w in zip(space, stride, window, strict=True))
        padding = self._before_conv(key, int(coords[..., axes].max()) + 1, padded)
        width = self.state[f"{key}.tree_weights.0" if key else "tree_weights.0"].shape[-1]
        name = "raw" if (rank, width) == (2, 16) else None
        self._ask_parametrization(key, name)
        self._add(
            f"LogicConv{axes}d",
            key,
            (kernels, *space),
            num_kernels=kernels,
            tree_depth=round(math.log(nodes * rank, rank)),
            receptive_field_size=list(window),
            stride=list(stride),
            padding=padding,
            lut_rank=rank,
            parametrization=name,
        )

    def _ask_parametrization(self, key: str, name: str | None) -> None:
        if name is None:
            self.check.append(f"layer {key!r}: parametrization is warp or light, alike in shape")

    def _binarisation(self, key: str, tensors: Mapping[str, Any]) -> None:
        kind = "LearnableBinarization" if "raw_diffs" in tensors else "FixedBinarization"
        extra = {"temperature_softplus": None} if "raw_diffs" in tensors else {}
        if extra:
            self.check.append(f"layer {key!r}: temperature_softplus is not saved (default 0.1)")
        self.check.append(f"layer {key!r}: feature_dim, -2 by default, and 1 before convolutions")
        self._add(kind, key, (), feature_dim=-2, **extra)

    def convlogic(self, key: str, tensors: Mapping[str, Any]) -> None:
        if "selection" in tensors:
            selection, weights = tensors["selection"], tensors["weights"]
            window = (int((selection >> 8 & 0xFF).max()) + 1, int((selection & 0xFF).max()) + 1)
            padding = [1 if n == 3 else 0 for n in window]
            complete = weights.shape[1] == 7
            self.check.append(
                f"layer {key!r}: stride 1 and padding {padding} are guesses; the window is the "
                "smallest that holds its leaves"
            )
            space = [n + 2 * p - w + 1 for n, p, w in zip(self.shape[1:], padding, window,
                                                         strict=False)]  # fmt: skip
            out = [n // 2 for n in space] if complete else space
            shape = (len(selection), *out) if len(out) == 2 else ()
            self._add("ConvLogicLayer", key, shape, kernel=list(window), stride=[1, 1],
                      padding=padding, complete=complete)  # fmt: skip
        elif "indices_0" in tensors:
            self._before_dense(key, 0)
            self._dense("LogicLayer", key, len(tensors["weights"]))
        else:
            self._add("TreeLogicLayer", key, self.shape)

    def torch_dwn(self, key: str, tensors: Mapping[str, Any]) -> None:
        self._dense("LUTLayer", key, len(tensors["luts"]))

    def difflogic(self, key: str, tensors: Mapping[str, Any]) -> None:
        if not self.layers:
            self.check.append("the wiring: pass indices=[(a, b), ...], one pair a LogicLayer")
        self._before_dense(key, 0)
        self._dense("LogicLayer", key, len(tensors["weights"]))

    def finish(self) -> None:
        self._add("GroupSum", str(len(self.layers)), (), k=None, tau=None)
        self.check.append("GroupSum: k classes and tau are not saved; take it out if there is none")

    def _add(self, kind: str, key: str, shape: Sequence[int], **arguments: Any) -> None:
        self.layers.append({"type": kind, "key": key, **arguments})
        self.shape = tuple(int(n) for n in shape)

    def _dense(self, kind: str, key: str, gates: int, **arguments: Any) -> None:
        self._add(kind, key, (gates,), out_dim=int(gates), **arguments)

    def _before_conv(self, key: str, channels: int, padded: tuple[int, ...]) -> list[int] | None:
        """Padding of a convolution that sees `padded` sizes, after a pool where one is missing."""
        if not self.shape:
            if self.input_shape is None and not self.layers:
                self.input_shape = (channels, *padded)
                self.check.append(
                    f"input shape {list(self.input_shape)}: assumes that layer {key!r} does not pad"
                )
                return [0] * len(padded)
            self.check.append(f"layer {key!r}: padding is not known; give input_shape to describe")
            return None
        size = self.shape[1:]
        if self.gap and self.layers:
            self._pool(key, len(padded))
            size = self.shape[1:]
        padding = [max(0, -(-(want - have) // 2)) for want, have in zip(padded, size, strict=True)]
        self.check.append(f"layer {key!r}: padding {padding} fits an input of {list(size)}")
        return padding

    def _before_dense(self, key: str, inputs: int) -> None:
        if len(self.shape) > 1:
            halved = self.shape[0] * math.prod(n // 2 for n in self.shape[1:])
            if self.gap > 1 and (not inputs or halved >= inputs):
                self._pool(key, len(self.shape) - 1)
            self._add("Flatten", "", (math.prod(self.shape),))
        elif self.gap and not self.shape:
            self._add("Flatten", "", ())

    def _pool(self, key: str, axes: int) -> None:
        self.check.append(f"before layer {key!r}: an OR pool of 2 with stride 2 is a guess")
        shape = (self.shape[0], *(n // 2 for n in self.shape[1:]))
        pool = {"kernel_size": 2, "stride": 2, "padding": 0}
        self._add(f"OrPooling{axes}d", "", shape, **pool)
