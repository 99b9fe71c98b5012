"""The `torchlogix` frontend (0.2.x), without importing torchlogix.

It lifts dense and convolutional gates of 2, 4 or 6 inputs in the raw, warp and light
parametrizations, pools, and binarization. A module holds all facts. A state_dict lacks strides,
padding, pools and parametrizations, and needs an architecture (`lgir.frontend.core.architecture`,
drafted by `describe`).
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
from lgir.frontend.core.draft import ArchitectureDraft
from lgir.frontend.core.layerwise import (
    Entry,
    LayerEntry,
    check_inputs,
    class_names,
    entry_of,
    has_axes,
    lift_layers,
    placed,
    walk,
)
from lgir.frontend.core.lifting import Frontend
from lgir.frontend.core.stack import Indices, LayerStack
from lgir.frontend.frameworks.torchlogix_binarization import binarize, thresholds_of
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
    """Lift LogicDense, LogicConv, LogicConvTranspose, OrPooling, GroupSum and binarization."""

    def recognize(self, source: Source) -> bool:
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
        """Build the graph of a torchlogix network.

        Args:
            source: a module, which needs no options, or a state_dict.
            architecture: the facts that a state_dict lacks: a dict, a list of layers, or a JSON
                file.
            input_shape: shape of one sample; None finds it from the first layer.
            input_dtype: dtype of the samples of a network that starts with a binarization, "f32"
                or "u8".
            name: name of the graph.
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
        layers = [LayerEntry(source.label, entry, state) for entry in entries]
        binarized = any(layer.type in _BINARIZATIONS for layer in layers)
        return lift_layers(
            source,
            entries,
            state,
            _HANDLERS,
            framework="torchlogix",
            name=name,
            shape=_input_shape(layers, source.label) if input_shape is None else input_shape,
            dtype=input_dtype or ("f32" if binarized else "bit"),
        )


# Descriptions


def describe_layer(
    draft: ArchitectureDraft, key: str, tensors: Mapping[str, Any], state: Mapping[str, Any]
) -> None:
    """Add a layer of torchlogix to a draft."""
    if "connections._indices_L0" in tensors:
        _describe_conv(draft, key, tensors["connections._indices_L0"], state)
    elif "thresholds" in tensors or "raw_diffs" in tensors:
        _describe_binarization(draft, key, tensors)
    elif "connections.indices" in tensors and "weight" in tensors:
        indices, width = tensors["connections.indices"], tensors["weight"].shape[1]
        rank, gates = indices.shape[-2:]
        known = draft.before_dense(key, int(indices.max()) + 1)
        name = _known_parametrization(draft, key, rank, width)
        draft.add_dense("LogicDense", key, gates, **known, lut_rank=rank, parametrization=name)
    else:
        raise LiftError(
            f"layer {key!r} has no connections.indices; torchlogix 0.1 saved no wiring, so this "
            "state_dict cannot be lifted; lift the module that it is from"
        )


def _describe_conv(
    draft: ArchitectureDraft, key: str, indices: Any, state: Mapping[str, Any]
) -> None:
    rank, kernels, positions, nodes, columns = indices.shape
    axes = columns - 1
    coords = indices.transpose(1, 2, 3, 0, 4).reshape(kernels, positions, -1, columns)
    grid = lattice(coords)
    if grid is None:
        raise LiftError(f"layer {key!r} is wired differently at each position; lift the module")
    space, stride = grid
    reach = tuple(int(n) + 1 for n in coords[:, 0, :, :axes].max(axis=(0, 1)))
    channels = int(coords[..., axes].max()) + 1
    window, padding = draft.before_conv(key, channels, space, stride, reach)
    width = state[f"{key}.tree_weights.0" if key else "tree_weights.0"].shape[-1]
    name = _known_parametrization(draft, key, rank, width)
    draft.add(
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


def _known_parametrization(draft: ArchitectureDraft, key: str, rank: int, width: int) -> str | None:
    """Return "raw" if the shape of the weights tells it, else None with an entry to check."""
    if (rank, width) == (2, 16):
        return "raw"
    draft.check.append(f"layer {key!r}: parametrization is warp or light, alike in shape")
    return None


def _describe_binarization(draft: ArchitectureDraft, key: str, tensors: Mapping[str, Any]) -> None:
    learned = "raw_diffs" in tensors
    if learned:
        draft.check.append(
            f"layer {key!r}: temperature_softplus is not saved (default 0.1); of torchlogix "
            '0.2.1, give "softplus": false instead'
        )
    bits = math.prod(tensors["raw_diffs" if learned else "thresholds"].shape[-1:])
    kind = "LearnableBinarization" if learned else "FixedBinarization"
    extra = {"temperature_softplus": None} if learned else {}
    draft.add_binarization(kind, key, int(bits), **extra)


# Modules and shapes


def is_state(state: Mapping[str, Any]) -> bool:
    """Return whether the keys are of torchlogix, of 0.1 too, which the frontend refuses by name."""
    last = {key.rpartition(".")[2] for key in state}
    marked = any(".connections." in f".{key}" or ".tree_weights." in f".{key}" for key in state)
    arrays = {key.rpartition(".")[2] for key, value in state.items() if has_axes(value)}
    bare = arrays <= {"weight", "thresholds"} and any(map(_is_lut_weight, state, state.values()))
    return marked or "raw_diffs" in last or bare


def _is_torchlogix(module: Any) -> bool:
    names = class_names(module)
    gates = not _GATES.keys().isdisjoint(names) and hasattr(module, "connections")
    return gates or (not _BINARIZATIONS.keys().isdisjoint(names) and hasattr(module, "thresholds"))


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
            # The sum of the module itself is exact; that of 0.2.1 depends on the mode.
            was_training = module.training
            module.eval()
            state[f"{prefix}effective_thresholds"] = array_of(module.get_thresholds())
            module.train(was_training)
        entries.append(entry)
    return entries


def _add_unsaved_wiring(state: dict[str, Any], prefix: str, connections: Any) -> None:
    """Add the wiring that torchlogix 0.1 holds in plain attributes, under the names of 0.2."""
    wiring = getattr(connections, "indices", None)
    if isinstance(wiring, list | tuple):  # that of a convolution, level by level
        arrays = {f"_indices_L{level}": array_of(part) for level, part in enumerate(wiring)}
    else:
        arrays = {"indices": array_of(wiring)}
    for name, array in arrays.items():
        state.setdefault(f"{prefix}connections.{name}", array)


def _parametrization(value: Any, label: str) -> str:
    """Return the name of a parametrization, given as a name or as an object such as WarpLUT..."""
    name = value if isinstance(value, str) else type(value).__name__.lower()
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


def _input_shape(layers: Sequence[LayerEntry], label: str) -> Shape:
    """Return the shape of the input by the first gates, through a binarization before them."""
    bits, flattened, by_shape = 1, False, False
    levels: npt.NDArray[Any] = np.zeros(1)
    for layer in layers:
        if layer.type in _BINARIZATIONS:
            levels = thresholds_of(layer)
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


def _tables(layer: LayerEntry, weight: npt.NDArray[Any], rank: int, name: str) -> Tables:
    parametrization = layer.get("parametrization", None)
    return lut_tables(weight, rank, parametrization, f"{layer.where}: {layer.name(name)}")


def _dense(stack: LayerStack, layer: LayerEntry) -> None:
    weight = layer.tensor("weight", "f", (None, None))
    indices = _dense_wiring(layer, len(weight))
    check_inputs(stack, layer)
    stack.dense(indices.T, _tables(layer, weight, len(indices), "weight"), layer.where)


def _dense_wiring(layer: LayerEntry, gates: int) -> Indices:
    """Return (rank, gates) input numbers; learnable connections take their likeliest candidate."""
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


def _conv(stack: LayerStack, layer: LayerEntry) -> None:
    coords, table, fanin = _trees(layer)
    axes = coords.shape[-1] - 1
    padding, size = layer.integers("padding", axes, 0), _size(stack, layer, axes)
    padded = tuple(n + 2 * p for n, p in zip(size, padding, strict=True))
    if (coords[..., :axes] < 0).any() or (coords[..., :axes] >= padded).any():
        raise LiftError(
            f"{layer.where}: its wiring reaches {coords[..., :axes].max(axis=(0, 1, 2)).tolist()}, "
            f"outside the padded input {list(padded)}; check padding and input_shape"
        )
    grid = lattice(coords)
    if grid is None:
        warnings.warn(
            f"{layer.where}: its wiring differs between positions, so it becomes one layer of "
            "separate gates per position",
            stacklevel=2,
        )
        stride, window = (
            layer.integers("stride", axes, 1),
            layer.integers("receptive_field_size", axes),
        )
        space = _positions(padded, window, stride)
        _unroll(stack, layer, coords - (*padding, 0), table, space, fanin)
        return
    space, stride = grid
    _check_positions(layer, padded, space, stride)
    stack.trees(_taps(coords, padding), table, space, stride, fanin=fanin, where=layer.where)


def _conv_transpose(stack: LayerStack, layer: LayerEntry) -> None:
    """Add a convolution of stride 1 over an input with `stride` - 1 zeros between its elements.

    Which leaves meet a zero depends on the position's phase, so no body serves every position,
    unless the stride is 1.
    """
    coords, table, fanin = _trees(layer)
    axes = coords.shape[-1] - 1
    _size(stack, layer, axes)
    field = layer.integers("receptive_field_size", axes)
    step = layer.integer("stride", 1)
    # torchlogix takes the field of the first axis for all axes.
    padding = (field[0] - 1 - layer.integer("padding", 0),) * axes
    grid = lattice(coords)
    if min(padding) < 0 or step < 1 or grid is None:
        raise LiftError(f"{layer.where}: its wiring is not that of a transposed convolution")
    space, _ = grid
    if step == 1:
        stack.trees(
            _taps(coords, padding), table, space, (1,) * axes, fanin=fanin, where=layer.where
        )
        return
    dilated = coords - (*padding, 0)
    place, phase = np.divmod(dilated[..., :axes], step)
    # A read between two elements gives zero, as does a read outside the input.
    place = np.where((phase == 0).all(axis=-1, keepdims=True), place, -1)
    coords = np.concatenate([place, coords[..., axes:]], axis=-1)
    _unroll(stack, layer, coords, table, space, fanin)


def _trees(layer: LayerEntry) -> tuple[Indices, Tables, int]:
    """Return the leaves, the truth tables and the fan-in of a convolution's trees.

    Leaves are (kernels, positions, leaves, axes + 1) in padded coordinates, with the channel last.
    Tables are (kernels, gates), level by level from the leaves.
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
                "tree, in which node j reads nodes j*r ... j*r + r-1"
            )
    if nodes != fanin ** (depth - 1):
        raise LiftError(f"{layer.where}: {nodes} first-level nodes do not make {depth} levels")
    leaves = indices.transpose(1, 2, 3, 0, 4).reshape(kernels, positions, nodes * fanin, axes + 1)
    return leaves.astype(np.int64), np.concatenate(tables, axis=1), fanin


def lattice(coords: Indices) -> tuple[Shape, Shape] | None:
    """Return (space, stride) if all trees move along one row-major grid of positions, else None."""
    axes = coords.shape[-1] - 1
    moves = coords - coords[:, :1]
    grid = moves[0, :, 0]
    if (moves != grid[:, None]).any() or grid[:, axes].any():
        return None
    values = [np.unique(grid[:, axis]) for axis in range(axes)]
    space = tuple(len(v) for v in values)
    if math.prod(space) != len(grid):
        return None
    stride = tuple(int(v[1] - v[0]) if len(v) > 1 else 1 for v in values)
    expected = np.indices(space).reshape(axes, -1).T * stride
    return (space, stride) if np.array_equal(grid[:, :axes], expected) else None


def _taps(coords: Indices, padding: Shape) -> Indices:
    """Return tap rows (channel, offsets) of each tree at position 0, at the padded origin."""
    first = coords[:, 0] - (*padding, 0)
    return np.concatenate([first[..., -1:], first[..., :-1]], axis=-1)


def _unroll(
    stack: LayerStack, layer: LayerEntry, coords: Indices, table: Tables, space: Shape, fanin: int
) -> None:
    """Add trees whose leaves differ between positions, in input coordinates; outside is False."""
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


def _size(stack: LayerStack, layer: LayerEntry, axes: int) -> Shape:
    """Return the spatial shape of the input; raise LiftError if the layer was built for another."""
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


def _check_positions(layer: LayerEntry, padded: Shape, space: Shape, stride: Shape) -> None:
    """Raise LiftError if the wiring disagrees with the sizes that the architecture gives."""
    axes = len(space)
    stated = layer.integers("stride", axes, stride)
    moving = [n > 1 for n in space]
    if any(a != b for a, b, moves in zip(stated, stride, moving, strict=True) if moves):
        raise LiftError(
            f"{layer.where}: stride is {list(stated)}, its wiring moves by {list(stride)}"
        )
    if layer.entry.get("receptive_field_size") is not None:
        window = layer.integers("receptive_field_size", axes)
        if _positions(padded, window, stated) != space:
            raise LiftError(
                f"{layer.where}: wired for {list(space)} positions, but a window of "
                f"{list(window)} over the padded input {list(padded)} has "
                f"{list(_positions(padded, window, stated))}; check padding, stride and input_shape"
            )


def _or_pool(stack: LayerStack, layer: LayerEntry) -> None:
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
_BINARIZATIONS: Final = {
    "FixedBinarization": binarize,
    "SoftBinarization": binarize,
    "LearnableBinarization": binarize,
}
_HANDLERS: Final = {
    **_GATES,
    **_BINARIZATIONS,
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
