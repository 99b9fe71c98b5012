"""The `torchlogix` frontend (0.2.x), without importing torchlogix.

Dense and convolutional gates of 2, 4 or 6 inputs in the raw, warp and light parametrizations,
pools, binarisation. A module says all; a state_dict lacks strides, padding, pools and
parametrizations, and needs an architecture (`lgir.frontend.core.architecture`, drafted by
`describe`).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lgir.errors import LiftError
from lgir.frontend.core.architecture import Description, complete
from lgir.frontend.core.checkpoint import Source, array_of
from lgir.frontend.core.decode import Tables, lut_tables
from lgir.frontend.core.layerwise import (
    Entry,
    Layer,
    check_inputs,
    class_names,
    entry_of,
    lift_layers,
    placed,
    walk,
)
from lgir.frontend.core.lifting import Frontend
from lgir.frontend.core.stack import Indices, Stack
from lgir.frontend.frameworks.binarization import binarise, levels_of
from lgir.ir.graph import Graph
from lgir.ir.types import Shape
from lgir.registry import register_frontend

_NO_ARCHITECTURE: Final = (
    "a torchlogix state_dict leaves out parametrization, stride, padding, pooling, tau and beta; "
    "lift the module itself, or pass architecture={...} (lgir.frontend.describe drafts it)"
)
_NO_WIRING: Final = (
    "has weights but no connections.indices: torchlogix 0.1 saved no wiring, so the network "
    "cannot be told from this file, and loading it into a new model gives that other wiring; lift "
    "the module itself where it still lives or was pickled (allow_pickle=True), or made again "
    "after the same torch.manual_seed"
)


@register_frontend("torchlogix")
class TorchlogixFrontend(Frontend):
    """LogicDense, LogicConv2d/3d, LogicConvTranspose2d, OrPooling, GroupSum, binarisation."""

    def recognise(self, source: Source) -> bool:
        if source.module is not None:
            return any(_is_torchlogix(m) for m in source.module.modules())
        return is_state(source.state)

    def lift(
        self,
        source: Source,
        *,
        architecture: Description | None = None,
        input_shape: Sequence[int] | int | None = None,
        input_dtype: str | None = None,
        name: str = "model",
    ) -> Graph:
        """The graph of a torchlogix network.

        Args:
            source: a module needs no further options.
            architecture: what a state_dict leaves out; a dict, a list of layers, or a JSON file.
            input_shape: of one sample; found from the first layer where None.
            input_dtype: what a network that starts with a binarisation takes, "f32" or "u8".
            name: the graph's name.
        """
        if source.module is not None:
            state = dict(source.state)
            entries = _entries_of_module(source, state)
        elif architecture is not None:
            network = complete(architecture, [], input_shape, None, None)
            entries, input_shape = network.layers, network.input_shape
            state = placed(source.state, entries, source.label)
            input_dtype = input_dtype or network.input_dtype
        else:
            _refuse_without_wiring(source)
            raise LiftError(f"{source.label}: {_NO_ARCHITECTURE}")
        layers = [Layer(source.label, entry, state) for entry in entries]
        binarised = any(layer.type in _BINARISATIONS for layer in layers)
        return lift_layers(
            source,
            entries,
            state,
            _HANDLERS,
            framework="torchlogix",
            name=name,
            shape=_input_shape(layers, source.label) if input_shape is None else input_shape,
            dtype=input_dtype or ("f32" if binarised else "bit"),
        )


# Modules and shapes


def is_state(state: Mapping[str, Any]) -> bool:
    """Whether these keys are torchlogix's; of 0.1 too, to say why they cannot be lifted."""
    last = {key.rpartition(".")[2] for key in state}
    marked = any(".connections." in f".{key}" or ".tree_weights." in f".{key}" for key in state)
    bare = last <= {"weight", "thresholds"} and any(map(_is_lut_weight, state, state.values()))
    return marked or "raw_diffs" in last or bare


def _is_torchlogix(module: Any) -> bool:
    names = class_names(module)
    gates = not _GATES.keys().isdisjoint(names) and hasattr(module, "connections")
    return gates or (not _BINARISATIONS.keys().isdisjoint(names) and hasattr(module, "thresholds"))


def _is_lut_weight(key: str, value: Any) -> bool:
    shaped = isinstance(value, np.ndarray) and value.ndim == 2 and value.shape[1] in (4, 16, 64)
    return shaped and key.endswith("weight")


def _entries_of_module(source: Source, state: dict[str, Any]) -> list[Entry]:
    entries = []
    for key, kind, module in walk(source.module, source.label, _HANDLERS):
        entry = entry_of(key, kind, module, _ARGUMENTS)
        if "parametrization" in entry:
            entry["parametrization"] = _parametrization(entry["parametrization"], source.label)
        prefix = f"{key}." if key else ""
        if kind in _GATES:
            _add_unsaved_wiring(state, prefix, module.connections)
        if kind == "LearnableBinarization":
            # The module's own sum: bit for bit what it compares with. 0.2.1's depends on the mode.
            was_training = module.training
            module.eval()
            state[f"{prefix}effective_thresholds"] = array_of(module.get_thresholds())
            module.train(was_training)
        entries.append(entry)
    return entries


def _add_unsaved_wiring(state: dict[str, Any], prefix: str, connections: Any) -> None:
    """The wiring that torchlogix 0.1 keeps in plain attributes, under 0.2's names."""
    wiring = getattr(connections, "indices", None)
    if isinstance(wiring, list | tuple):  # a convolution's, level by level
        found = {f"_indices_L{level}": array_of(part) for level, part in enumerate(wiring)}
    else:
        found = {"indices": array_of(wiring)}
    for name, array in found.items():
        state.setdefault(f"{prefix}connections.{name}", array)


def _parametrization(given: Any, label: str) -> str:
    """The name of a parametrization object such as WarpLUTParametrization, or the name itself."""
    name = given if isinstance(given, str) else type(given).__name__.lower()
    for known in ("raw", "warp", "light"):
        if name.startswith(known):
            return known
    raise LiftError(f"{label}: parametrization {name!r} is not one of raw, warp, light")


def _refuse_without_wiring(source: Source) -> None:
    for key, value in source.state.items():
        stem, _, last = key.rpartition(".")
        prefix = f"{stem}." if stem else ""
        if (
            last == "weight"
            and _is_lut_weight(key, value)
            and (f"{prefix}connections.indices" not in source.state)
        ):
            raise LiftError(f"{source.label}: layer {stem!r} {_NO_WIRING}")


def _input_shape(layers: Sequence[Layer], label: str) -> Shape:
    """The input's shape as the first gates tell it, through a binarisation before them."""
    bits, flattened, by_shape = 1, False, False
    levels: npt.NDArray[Any] = np.zeros(1)
    for layer in layers:
        if layer.type in _BINARISATIONS:
            levels = levels_of(layer)
            bits = levels.shape[-1]
            by_shape = bits > 1 and int(layer.number("feature_dim", -2)) != -2
        elif layer.type == "Flatten":
            flattened = True
        elif layer.type in _GATES and layer.entry.get("in_dim") is not None:
            if layer.type == "LogicDense":
                features = layer.integer("in_dim") // bits
                by_shape |= levels.ndim > 2 or levels[..., 0].size not in (1, features)
                if flattened and by_shape:
                    raise LiftError(
                        f"{label}: input_shape is needed, such as (3, 32, 32): the order of the "
                        "bits before Flatten depends on it"
                    )
                return (features,)
            rank = 3 if layer.type.endswith("3d") else 2
            return (layer.integer("channels", 1) // bits, *layer.integers("in_dim", rank))
        elif layer.type in _GATES:
            break
    raise LiftError(f"{label}: input_shape is needed, such as (1, 28, 28)")


# Gates


def _tables(layer: Layer, weight: npt.NDArray[Any], rank: int, name: str) -> Tables:
    parametrization = layer.get("parametrization", None)
    return lut_tables(weight, rank, parametrization, f"{layer.where}: {layer.name(name)}")


def _dense(stack: Stack, layer: Layer) -> None:
    weight = layer.tensor("weight", "f", (None, None))
    indices = _dense_wiring(layer, len(weight))
    check_inputs(stack, layer)
    stack.dense(indices.T, _tables(layer, weight, len(indices), "weight"), layer.where)


def _dense_wiring(layer: Layer, gates: int) -> Indices:
    """(rank, gates) input numbers; learnable connections settle on their likeliest candidate."""
    if not layer.has("connections.indices"):
        raise LiftError(f"{layer.where}: {_NO_WIRING}")
    if not layer.has("connections.weights"):
        return layer.tensor("connections.indices", "i", (None, gates))
    weights = layer.tensor("connections.weights", "f", (None, None, gates))
    indices = layer.tensor("connections.indices", "i", weights.shape)
    if np.isnan(weights).any():
        raise LiftError(f"{layer.where}: {layer.name('connections.weights')} holds NaN")
    chosen: Indices = np.take_along_axis(indices, weights.argmax(axis=0)[None], axis=0)[0]
    return chosen


def _conv(stack: Stack, layer: Layer) -> None:
    coords, table, fanin = _trees(layer)
    axes = coords.shape[-1] - 1
    padding, size = layer.integers("padding", axes, 0), _size(stack, layer, axes)
    padded = tuple(n + 2 * p for n, p in zip(size, padding, strict=True))
    if (coords[..., :axes] < 0).any() or (coords[..., :axes] >= padded).any():
        raise LiftError(
            f"{layer.where}: its wiring reaches {coords[..., :axes].max(axis=(0, 1, 2)).tolist()}, "
            f"outside the padded input {list(padded)}; check padding and input_shape"
        )
    found = lattice(coords)
    if found is None:
        warnings.warn(
            f"{layer.where}: its wiring differs between positions, so it becomes one layer of "
            "every position's own gates",
            stacklevel=2,
        )
        stride, window = (
            layer.integers("stride", axes, 1),
            layer.integers("receptive_field_size", axes),
        )
        space = _positions(padded, window, stride)
        _unroll(stack, layer, coords - (*padding, 0), table, space, fanin)
        return
    space, stride = found
    _check_positions(layer, padded, space, stride)
    stack.trees(_taps(coords, padding), table, space, stride, fanin=fanin, where=layer.where)


def _conv_transpose(stack: Stack, layer: Layer) -> None:
    """A stride-1 convolution over an input with stride-1 zeros between its elements.

    Which leaves meet a zero depends on the position's phase, so no body serves every position,
    unless the stride is 1.
    """
    coords, table, fanin = _trees(layer)
    axes = coords.shape[-1] - 1
    _size(stack, layer, axes)
    field = layer.integers("receptive_field_size", axes)
    step = layer.integer("stride", 1)
    # torchlogix takes the first axis's field for all.
    padding = (field[0] - 1 - layer.integer("padding", 0),) * axes
    found = lattice(coords)
    if min(padding) < 0 or step < 1 or found is None:
        raise LiftError(f"{layer.where}: its wiring is no transposed convolution's")
    space, _ = found
    if step == 1:
        stack.trees(
            _taps(coords, padding), table, space, (1,) * axes, fanin=fanin, where=layer.where
        )
        return
    dilated = coords - (*padding, 0)
    place, phase = np.divmod(dilated[..., :axes], step)
    # A read between two elements is one of a zero, as is any outside the input.
    place = np.where((phase == 0).all(axis=-1, keepdims=True), place, -1)
    coords = np.concatenate([place, coords[..., axes:]], axis=-1)
    _unroll(stack, layer, coords, table, space, fanin)


def _trees(layer: Layer) -> tuple[Indices, Tables, int]:
    """Leaves (kernels, positions, leaves, axes + 1) in padded coordinates, channel last; tables
    (kernels, gates) level by level from the leaves; and the gates' fan-in.
    """
    axes = 3 if layer.type.endswith("3d") else 2
    depth = sum(layer.has(f"tree_weights.{level}") for level in range(64))
    if not depth:
        raise LiftError(f"{layer.where}: lacks the tensor {layer.name('tree_weights.0')}")
    if not layer.has("connections._indices_L0"):
        raise LiftError(f"{layer.where}: {_NO_WIRING.replace('indices:', '_indices_L0:')}")
    indices = layer.tensor("connections._indices_L0", "i", (None, None, None, None, axes + 1))
    fanin, kernels, positions, nodes, _ = indices.shape
    tables = []
    for level in range(depth):
        width = fanin ** (depth - 1 - level)
        weight = layer.tensor(f"tree_weights.{level}", "f", (width, kernels, None))
        tables.append(_tables(layer, weight, fanin, f"tree_weights.{level}").T)
        if level == 0:
            continue
        children = layer.tensor(f"connections._indices_L{level}", "i", (fanin, width))
        if not np.array_equal(children.T.ravel(), np.arange(fanin * width)):
            raise LiftError(
                f"{layer.where}: {layer.name(f'connections._indices_L{level}')} is no complete "
                "tree, where node j reads nodes j*r ... j*r + r-1"
            )
    if nodes != fanin ** (depth - 1):
        raise LiftError(f"{layer.where}: {nodes} first-level nodes do not make {depth} levels")
    leaves = indices.transpose(1, 2, 3, 0, 4).reshape(kernels, positions, nodes * fanin, axes + 1)
    return leaves.astype(np.int64), np.concatenate(tables, axis=1), fanin


def lattice(coords: Indices) -> tuple[Shape, Shape] | None:
    """(space, stride) where every tree moves along one row-major grid of positions, else None."""
    axes = coords.shape[-1] - 1
    moves = coords - coords[:, :1]
    grid = moves[0, :, 0]
    if (moves != grid[:, None]).any() or grid[:, axes].any():
        return None
    values = [np.unique(grid[:, axis]) for axis in range(axes)]
    space = tuple(len(v) for v in values)
    stride = tuple(int(v[1] - v[0]) if len(v) > 1 else 1 for v in values)
    expected = np.indices(space).reshape(axes, -1).T * stride
    return (space, stride) if np.array_equal(grid[:, :axes], expected) else None


def _taps(coords: Indices, padding: Shape) -> Indices:
    """Tap rows (channel, offsets) of each tree at position 0, which starts at padded 0."""
    first = coords[:, 0] - (*padding, 0)
    return np.concatenate([first[..., -1:], first[..., :-1]], axis=-1)


def _unroll(
    stack: Stack, layer: Layer, coords: Indices, table: Tables, space: Shape, fanin: int
) -> None:
    """Trees at places of their own, in input coordinates; outside is False."""
    shape = stack.value.shape
    axes = len(shape) - 1
    if coords.shape[1] != math.prod(space):
        raise LiftError(
            f"{layer.where}: wired for {coords.shape[1]} positions, but its sizes make "
            f"{list(space)}; check stride, padding and input_shape"
        )
    stack.check_range(coords[..., axes], shape[0], "channel", layer.where)
    place = coords[..., :axes]
    inside = ((place >= 0) & (place < shape[1:])).all(axis=-1)
    flat = coords[..., axes]
    for axis, length in enumerate(shape[1:]):
        flat = flat * length + place[..., axis]
    stack.unrolled(np.where(inside, flat, -1), table, space, fanin=fanin, where=layer.where)


def _size(stack: Stack, layer: Layer, axes: int) -> Shape:
    """The input's spatial shape, checked against what the layer was made for."""
    size = stack.value.shape[1:]
    if len(size) != axes:
        raise LiftError(f"{layer.where}: reads images of {axes} axes, not {stack.value.type}")
    if layer.entry.get("in_dim") is not None and layer.integers("in_dim", axes) != size:
        raise LiftError(
            f"{layer.where}: in_dim is {list(layer.integers('in_dim', axes))}, the layer before "
            f"gives {stack.value.type}"
        )
    return size


def _positions(padded: Shape, window: Shape, stride: Shape) -> Shape:
    return tuple((n - w) // max(s, 1) + 1 for n, w, s in zip(padded, window, stride, strict=True))


def _check_positions(layer: Layer, padded: Shape, space: Shape, stride: Shape) -> None:
    """Raises LiftError where the wiring disagrees with the sizes that the architecture gives."""
    axes = len(space)
    given = layer.integers("stride", axes, stride)
    moving = [n > 1 for n in space]
    if any(g != s for g, s, moves in zip(given, stride, moving, strict=True) if moves):
        raise LiftError(
            f"{layer.where}: stride is {list(given)}, its wiring moves by {list(stride)}"
        )
    if layer.entry.get("receptive_field_size") is not None:
        window = layer.integers("receptive_field_size", axes)
        if _positions(padded, window, given) != space:
            raise LiftError(
                f"{layer.where}: wired for {list(space)} positions, but a window of "
                f"{list(window)} over the padded input {list(padded)} has "
                f"{list(_positions(padded, window, given))}; check padding, stride and input_shape"
            )


def _or_pool(stack: Stack, layer: Layer) -> None:
    axes = 3 if layer.type.endswith("3d") else 2
    kernel = layer.integers("kernel_size", axes)
    stride, padding = layer.integers("stride", axes, kernel), layer.integers("padding", axes, 0)
    stack.or_pool(kernel, stride, padding, layer.where)


_GATES: Final = {
    "LogicDense": _dense,
    "LogicConv2d": _conv,
    "LogicConv3d": _conv,
    "LogicConvTranspose2d": _conv_transpose,
    "LogicConvTranspose3d": _conv_transpose,
}
_BINARISATIONS: Final = {
    "FixedBinarization": binarise,
    "SoftBinarization": binarise,
    "LearnableBinarization": binarise,
}
_HANDLERS: Final = {
    **_GATES,
    **_BINARISATIONS,
    "OrPooling2d": _or_pool,
    "OrPooling3d": _or_pool,
}
_ARGUMENTS: Final = (
    "in_dim",
    "channels",
    "receptive_field_size",
    "stride",
    "padding",
    "output_padding",
    "parametrization",
    "kernel_size",
    "feature_dim",
)
