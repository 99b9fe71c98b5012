"""`describe`: draft the architecture description that a state_dict needs beside it.

Keys and shapes tell most of a network; wiring tells windows, strides and, with the size of what
comes before, padding and pools. What nothing tells is written as null and listed under "check".
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lgir.errors import LiftError
from lgir.frontend.core.checkpoint import source_of
from lgir.frontend.core.layerwise import Entry, in_order, unwrapped
from lgir.frontend.frameworks.torchlogix import is_state, lattice

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
        LiftError: the keys are of no framework that needs a description, or a size is below 1.
    """
    if input_shape is not None and (not input_shape or min(input_shape) < 1):
        raise LiftError(f"input_shape {list(input_shape)} must be sizes of at least 1")
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
    draft.finish({"beta": 0.0} if framework == "torchlogix" else {})
    parts = {layer["key"].rpartition(".")[0] for layer in draft.layers if layer["key"]}
    if len(parts) > 2:  # the GroupSum's is ""
        draft.check.append("the order of layers is the file's, and safetensors sorts names")
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
        self.gap: int | None = 0  # modules without tensors since the last layer, where known
        self.binarised: tuple[Entry, int] | None = None  # one that waits for the layer it feeds

    def bridge(self, key: str) -> None:
        """Count the nn.Sequential numbers between the last layer with tensors and this one."""
        parent, _, number = key.rpartition(".")
        last = self.layers[-1]["key"] if self.layers else f"{parent}.-1".lstrip(".")
        before = last.rpartition(".")
        known = number.isdigit() and before[2].lstrip("-").isdigit() and before[0] == parent
        self.gap = max(0, int(number) - int(before[2]) - 1) if known else None

    def torchlogix(self, key: str, tensors: Mapping[str, Any]) -> None:
        if "connections._indices_L0" in tensors:
            self._torchlogix_conv(key, tensors["connections._indices_L0"])
        elif "thresholds" in tensors or "raw_diffs" in tensors:
            self._binarisation(key, tensors)
        elif "connections.indices" in tensors and "weight" in tensors:
            indices, width = tensors["connections.indices"], tensors["weight"].shape[1]
            rank, gates = indices.shape[-2:]
            known = self._before_dense(key, int(indices.max()) + 1)
            name = "raw" if (rank, width) == (2, 16) else None
            self._ask_parametrization(key, name)
            self._dense("LogicDense", key, gates, **known, lut_rank=rank, parametrization=name)
        else:
            raise LiftError(
                f"layer {key!r} has no connections.indices; torchlogix 0.1 saved no wiring, so "
                "this state_dict cannot be lifted; lift the module that it is from"
            )

    def _torchlogix_conv(self, key: str, indices: Any) -> None:
        rank, kernels, positions, nodes, columns = indices.shape
        axes = columns - 1
        coords = indices.transpose(1, 2, 3, 0, 4).reshape(kernels, positions, -1, columns)
        found = lattice(coords)
        if found is None:
            raise LiftError(f"layer {key!r} is wired differently at each position; lift the module")
        space, stride = found
        reach = tuple(int(n) + 1 for n in coords[:, 0, :, :axes].max(axis=(0, 1)))
        channels = int(coords[..., axes].max()) + 1
        window, padding = self._before_conv(key, channels, space, stride, reach)
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
            self.check.append(
                f"layer {key!r}: temperature_softplus is not saved (default 0.1); of torchlogix "
                '0.2.1, give "softplus": false instead'
            )
        given = self.shape
        self._add(kind, key, (), feature_dim=None, **extra)
        self.shape = given
        bits = tensors["raw_diffs" if extra else "thresholds"].shape[-1:]
        self.binarised = (self.layers[-1], int(math.prod(bits)))

    def _settle(self, feature_dim: int | None) -> int:
        """Bits a number of the binarisation before, whose feature_dim its reader tells."""
        if self.binarised is None:
            return 1
        (entry, bits), self.binarised = self.binarised, None
        entry["feature_dim"] = feature_dim
        if feature_dim is None:
            self.check.append(
                f"layer {entry['key']!r}: feature_dim orders the bits: 1 by channels, -2 (its "
                "default) by elements"
            )
        if self.shape:
            self.shape = (self.shape[0] * bits, *self.shape[1:])
        return bits

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
            wires = [self.state[f"{key}.indices_{i}" if key else f"indices_{i}"] for i in range(2)]
            known = self._before_dense(key, int(max(w.max() for w in wires)) + 1)
            self._dense("LogicLayer", key, len(tensors["weights"]), **known)
        else:
            self._add("TreeLogicLayer", key, self.shape)

    def torch_dwn(self, key: str, tensors: Mapping[str, Any]) -> None:
        self._dense("LUTLayer", key, len(tensors["luts"]))

    def difflogic(self, key: str, tensors: Mapping[str, Any]) -> None:
        if not self.layers:
            self.check.append("the wiring: pass indices=[(a, b), ...], one pair a LogicLayer")
        self._before_dense(key, 0)
        self._dense("LogicLayer", key, len(tensors["weights"]))

    def finish(self, unsaved: Entry) -> None:
        self._settle(None)
        if len(self.shape) > 1:
            last = self.layers[-1]["key"]
            self.check.append(
                f"after layer {last!r}: a pool would leave no trace; add it if missing"
            )
            self._add("Flatten", "", (math.prod(self.shape),))
        self._add("GroupSum", str(len(self.layers)), (), k=None, tau=None, **unsaved)
        names = ", ".join(["k classes", "tau", *unsaved])
        self.check.append(f"GroupSum: {names} are not saved; take it out if there is none")

    def _add(self, kind: str, key: str, shape: Sequence[int], **arguments: Any) -> None:
        self.layers.append({"type": kind, "key": key, **arguments})
        self.shape = tuple(int(n) for n in shape)

    def _dense(self, kind: str, key: str, gates: int, **arguments: Any) -> None:
        self._add(kind, key, (gates,), out_dim=int(gates), **arguments)

    def _before_conv(
        self,
        key: str,
        channels: int,
        space: tuple[int, ...],
        stride: tuple[int, ...],
        reach: tuple[int, ...],
    ) -> tuple[tuple[int, ...], int | None]:
        """(window, padding) of a convolution that has these positions and reads `reach` cells from
        each, after a pool where that alone fits.
        """
        bits = self._settle(1)
        if not self.shape:
            if self.input_shape is None and len(self.layers) == (bits > 1):
                size = tuple((n - 1) * s + w for n, s, w in zip(space, stride, reach, strict=True))
                self.input_shape = (channels // bits, *size)
                self.check.append(
                    f"input shape {list(self.input_shape)}: assumes that layer {key!r} does not pad"
                )
                return reach, 0
            self.check.append(f"layer {key!r}: padding is not known; give input_shape to describe")
            return reach, None
        fits = [
            (window, padding, pool)
            for pool in self._pools(len(space))
            for window, padding in _windows(_pooled(self.shape, pool)[1:], space, stride, reach)
        ]
        if fits:
            window, padding, pool = min(fits, key=lambda fit: (fit[0], fit[1]))
            self._pool(key, pool)
            self.check.append(
                f"layer {key!r}: window {list(window)} and padding {padding} fit an input of "
                f"{list(self.shape[1:])}"
            )
            return window, padding
        self.check.append(
            f"layer {key!r}: no padding makes {list(space)} positions of {list(self.shape[1:])}; "
            "what is before it, such as a pool, must be added"
        )
        return reach, None

    def _before_dense(self, key: str, inputs: int) -> Entry:
        """What is known of the layer's width; `inputs` is its highest wire plus one, 0 where the
        wiring is not at hand.
        """
        images = len(self.shape) > 1
        self._settle(None if images or (not self.shape and self.gap != 0) else -2)
        if not images:
            if not self.shape and self.gap and inputs:
                self._add("Flatten", "", ())
            if self.shape or not inputs or any("in_dim" in layer for layer in self.layers):
                return {}
            self.check.append(f"layer {key!r}: in_dim {inputs} is its highest wire plus one")
            return {"in_dim": inputs}
        known: Entry = {}
        for pool in self._pools(len(self.shape) - 1, others=1):  # the Flatten
            if inputs and math.prod(_pooled(self.shape, pool)) == inputs:
                self._pool(key, pool)
                known = {"in_dim": inputs}
                break
        else:
            if inputs:
                known = {"in_dim": None}
                self.check.append(
                    f"layer {key!r}: reads {inputs} inputs or more, and {list(self.shape)} is "
                    "before it; in_dim, or what is missing between them, such as a pool"
                )
        self._add("Flatten", "", (math.prod(self.shape),))
        return known

    def _pools(self, axes: int, others: int = 0) -> list[tuple[int, int, int] | None]:
        """(kernel, stride, padding) of pools that may be in the gap before this layer, where there
        is room beside `others`, and None.
        """
        before = self.layers[-1]["type"] if self.layers else ""
        gates = before.startswith(("LogicConv", "ConvLogic", "TreeLogic"))
        if not gates or axes < 2 or (self.gap is not None and self.gap <= others):
            return [None]
        return [*_POOLS, None]

    def _pool(self, key: str, pool: tuple[int, int, int] | None) -> None:
        if pool is None:
            return
        kernel, stride, padding = pool
        self.check.append(
            f"before layer {key!r}: an OR pool of {kernel} with stride {stride} and padding "
            f"{padding} is a guess"
        )
        arguments = {"kernel_size": kernel, "stride": stride, "padding": padding}
        shape = _pooled(self.shape, pool)
        self._add(f"OrPooling{len(shape) - 1}d", "", shape, **arguments)


_POOLS = ((2, 2, 0), (2, 2, 1), (3, 2, 1), (3, 2, 0), (3, 3, 0), (4, 4, 0), (2, 1, 0), (3, 1, 1))


def _pooled(shape: tuple[int, ...], pool: tuple[int, int, int] | None) -> tuple[int, ...]:
    if pool is None:
        return shape
    kernel, stride, padding = pool
    return (shape[0], *((n + 2 * padding - kernel) // stride + 1 for n in shape[1:]))


def _windows(
    size: tuple[int, ...], space: tuple[int, ...], stride: tuple[int, ...], reach: tuple[int, ...]
) -> Iterator[tuple[tuple[int, ...], int]]:
    """Windows from `reach` on, and paddings, that give `space` positions over `size`."""
    square = max(reach)
    for window in (reach, (square,) * len(reach), (square + 1,) * len(reach)):
        for padding in range(square):
            if all(
                n + 2 * padding >= w and (n + 2 * padding - w) // s + 1 == count
                for n, w, s, count in zip(size, window, stride, space, strict=True)
            ):
                yield window, padding
