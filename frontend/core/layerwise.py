"""Lifting layer by layer, which all frontends of feed-forward models share.

A model is a list of entries, each with the type of a layer and its constructor arguments, beside a
state_dict. A frontend is a table from layer types to handlers. A live module is turned into the
same entries, so that modules and files are lifted by the same code.
"""

from __future__ import annotations

import warnings
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lgir.errors import GraphError, LgirError, LiftError, shown, unknown_name
from lgir.frontend.core.checkpoint import Source
from lgir.frontend.core.stack import LayerStack
from lgir.ir.graph import Graph
from lgir.ir.types import Shape

Entry = dict[str, Any]

_REQUIRED: Final = object()

_NO_OPS: Final = ("Identity", "Dropout", "DummyBinarization")

_NO_TENSORS: Final = (
    *_NO_OPS,
    "Flatten",
    "GroupSum",
    "OrPooling2d",
    "OrPooling3d",
    "PoolLogicLayer",
)
"""Layers without tensors in a state_dict."""

_TRAINING_ONLY: Final = ("torch.nn.modules.loss", "torchmetrics.")
"""Modules of the losses and metrics that a LightningModule keeps beside its network."""


_MOST_PARTS: Final = 32
"""Parts of a key that are read as a path; what is behind them is one name."""

_MOST_DIGITS: Final = 9
"""Digits of the largest number of a module."""

_KINDS: Final = {"f": ("f", "floats"), "i": ("iu", "integers"), "n": ("fiu", "numbers")}
"""The kinds of dtype that a letter accepts, and their name in messages."""


class LayerEntry:
    """One entry and its tensors; errors name the layer.

    Attributes:
        entry: type and constructor arguments.
        type: name of the layer's class.
        key: the prefix of the layer's tensors in the state_dict.
        where: name of the layer in errors.
    """

    def __init__(self, label: str, entry: Entry, state: Mapping[str, Any]) -> None:
        self.entry, self._state = entry, state
        self.type = str(entry.get("type"))
        self.key = str(entry.get("key", ""))
        self.where = f"{label}: {self.type} {self.key!r}" if self.key else f"{label}: {self.type}"

    def name(self, tensor: str) -> str:
        """Return the key of a tensor of this layer in the state_dict."""
        return f"{self.key}.{tensor}" if self.key else tensor

    def has(self, tensor: str) -> bool:
        """Return whether the state_dict holds this tensor of the layer."""
        return isinstance(self._state.get(self.name(tensor)), np.ndarray)

    def ndim(self, tensor: str) -> int:
        """Return the number of axes of a tensor, 0 if it is missing."""
        value = self._state.get(self.name(tensor))
        return value.ndim if isinstance(value, np.ndarray) else 0

    def tensor(self, name: str, kind: str, shape: Sequence[int | None]) -> npt.NDArray[Any]:
        """Return a tensor of the layer.

        Args:
            name: its name within the layer.
            kind: "f" for floats, "i" for integers, "n" for either.
            shape: the expected shape; None fits any length.

        Raises:
            LiftError: the tensor is missing, or has another dtype or shape.
        """
        if not self.has(name):
            first = ", ".join(islice(self._state, 3))
            raise LiftError(
                f"{self.where}: lacks the tensor {self.name(name)} (there are {first} ...; the "
                "architecture's key is what stands before a layer's tensors)"
            )
        array: npt.NDArray[Any] = self._state[self.name(name)]
        fits = array.ndim == len(shape) and all(
            want in (None, have) for want, have in zip(shape, array.shape, strict=True)
        )
        kinds, kind_name = _KINDS[kind]
        if not fits or array.dtype.kind not in kinds:
            want = ", ".join("?" if n is None else str(n) for n in shape)
            raise LiftError(
                f"{self.where}: {self.name(name)} is {array.dtype}{list(array.shape)}, expected "
                f"{kind_name} [{want}]"
            )
        return array

    def get(self, name: str, default: Any = _REQUIRED) -> Any:
        """Return a constructor argument; raise LiftError if it is missing and has no default."""
        value = self.entry.get(name, default)
        if value is _REQUIRED or (
            value is None and name in self.entry
        ):  # null is a blank in a drafted description
            raise LiftError(f"{self.where}: the architecture must give {name}")
        return value

    def integer(self, name: str, default: Any = _REQUIRED) -> int:
        """Return an argument that is a non-negative integer."""
        return self.integers(name, 1, default)[0]

    def integers(self, name: str, count: int, default: Any = _REQUIRED) -> Shape:
        """Return an argument of `count` non-negative integers; a single one stands for all."""
        value = self.get(name, default)
        numbers = tuple(value) if isinstance(value, list | tuple) else (value,) * count
        whole = all(isinstance(n, int | np.integer) and n >= 0 for n in numbers)
        if len(numbers) != count or not whole:
            what = "a whole number" if count == 1 else f"{count} whole numbers"
            raise LiftError(f"{self.where}: {name}={shown(value)} must be {what}")
        return tuple(int(n) for n in numbers)

    def number(self, name: str, default: Any = _REQUIRED) -> float:
        """Return an argument that is a number."""
        value = self.get(name, default)
        try:
            return float(value)
        except (OverflowError, TypeError, ValueError):
            raise LiftError(f"{self.where}: {name}={shown(value)} must be a number") from None


def check_inputs(stack: LayerStack, layer: LayerEntry, argument: str = "in_dim") -> None:
    """Raise LiftError if the layer was built for another width than it reads here.

    The indices of its wiring may fit nevertheless, since they need not use the last input.
    """
    width = layer.get(argument, stack.value.size)
    if width is not None and layer.integer(argument, width) != stack.value.size:
        raise LiftError(
            f"{layer.where}: {argument} is {layer.integer(argument)}, the layer before gives "
            f"{stack.value.type}"
        )


Handler = Callable[[LayerStack, LayerEntry], None]


def lift_layers(
    source: Source,
    entries: Sequence[Entry],
    state: Mapping[str, Any],
    handlers: Mapping[str, Handler],
    *,
    framework: str,
    name: str,
    shape: Sequence[int] | int,
    dtype: str = "bit",
) -> Graph:
    """Build the graph of `entries` in order; a LiftError names the layer that does not fit."""
    label, known = source.label, {**COMMON_HANDLERS, **handlers}
    metadata = {"source": framework, **{f"training.{k}": v for k, v in source.notes.items()}}
    stack = LayerStack(name, shape, dtype, metadata, flattens=source.module is not None)
    for entry in entries:
        layer = LayerEntry(label, entry, state)
        if layer.type in _NO_OPS:
            continue
        if layer.type not in known:
            raise LiftError(f"{label}: {unknown_name('layer', layer.type, known)}")
        try:
            known[layer.type](stack, layer)
        except GraphError as error:
            raise LiftError(f"{layer.where}: {error}") from error
        except (LgirError, Warning):
            raise
        except Exception as error:
            raise LiftError(f"{layer.where}: damaged ({type(error).__name__}: {error})") from error
    return stack.build()


def has_axes(value: Any) -> bool:
    """Return whether a value of a state_dict is an array of two or more axes.

    Weights of gates have so many. Counters of averaged models and the class weights of losses have
    fewer, which tells them from layers.
    """
    return isinstance(value, np.ndarray) and value.ndim >= 2


def unwrapped(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return `state` without the path that wrappers put before the numbers of an nn.Sequential.

    Lightning, torch.compile and DataParallel turn `0.weights` into `model.network.0.weights`. If
    the weights do not all share one path, the keys stay as they are; what is outside of it, such
    as the `n_averaged` of an averaged model, is left out.
    """
    wrappers = {_wrapper_of(key) for key, value in state.items() if has_axes(value)}
    wrapper = wrappers.pop() if len(wrappers) == 1 else None
    if wrapper is None:
        return dict(state)
    return {key[len(wrapper) :]: value for key, value in state.items() if key.startswith(wrapper)}


def _wrapper_of(key: str) -> str | None:
    """Return what stands before the first number on the path of a key; None if there is none."""
    *parts, _ = key.split(".", _MOST_PARTS)
    for place, part in enumerate(parts):
        if is_number(part):
            return "".join(f"{p}." for p in parts[:place])
    return None


def placed(state: Mapping[str, Any], entries: Sequence[Entry], label: str) -> dict[str, Any]:
    """Return the part of `state` that holds the tensors of an architecture's layers.

    A checkpoint may hold more than the network, for example `loss.weight` beside `net.0.weight`.
    Raises LiftError if the layers fit two paths.
    """
    keys = dict.fromkeys(
        f"{e['key']}." for e in entries if e["type"] not in _NO_TENSORS and e["key"]
    )
    if not keys:
        return unwrapped(state)
    names = sorted(state)
    fitting = [
        prefix
        for prefix in _prefixes_before(next(iter(keys)), state)
        if all(_has_name(names, prefix + key) for key in keys)
    ]
    if not fitting:
        return unwrapped(state)
    if len(fitting) > 1 and "" not in fitting:
        raise LiftError(
            f"{label}: the layers could be those under {fitting[0]!r} or {fitting[1]!r}; put that "
            'before each "key" of the architecture'
        )
    prefix = "" if "" in fitting else fitting[0]
    under = {name[len(prefix) :]: x for name, x in state.items() if name.startswith(prefix)}
    _warn_of_siblings(under, keys, label)
    return under


def _prefixes_before(key: str, names: Iterable[str]) -> list[str]:
    """Return the paths "", "a.", "a.b." that lead to `key` in any of `names`."""
    prefixes: dict[str, None] = {}
    for name in names:
        start = 0
        for _ in range(_MOST_PARTS):
            if name.startswith(key, start):
                prefixes[name[:start]] = None
            start = name.find(".", start) + 1
            if not start:
                break
    return list(prefixes)


def _has_name(names: Sequence[str], prefix: str) -> bool:
    """Return whether one of the sorted `names` starts with `prefix`."""
    place = bisect_left(names, prefix)
    return place < len(names) and names[place].startswith(prefix)


def _warn_of_siblings(names: Iterable[str], keys: Iterable[str], label: str) -> None:
    """Warn if numbered modules beside those of `keys` have tensors, since one may be missing."""
    layers = {key[:-1] for key in keys}
    parents = {layer.rpartition(".")[0] for layer in layers}
    unused = []
    for name in names:
        path, beside = "", False
        for part in name.split(".", _MOST_PARTS)[:-1]:
            beside |= path in parents and is_number(part)
            path = f"{path}.{part}" if path else part
            if path in layers:
                break
        else:
            if beside:
                unused.append(name)
    if unused:
        warnings.warn(
            f"{label}: the architecture has no layer for {', '.join(sorted(unused)[:3])}; is one "
            "missing?",
            stacklevel=5,
        )


def in_order(keys: Iterable[str]) -> list[str]:
    """Sort the keys of layers by the numbers in them, since safetensors sorts "10" before "2".

    Names keep the order in which they first appear, so that "features.0" stays before
    "classifier.0".
    """
    paths = [key.split(".", _MOST_PARTS) for key in keys]
    first: dict[str, int] = {}
    for part in (part for path in paths for part in path):
        first.setdefault(part, len(first))

    def places(path: list[str]) -> list[tuple[bool, int]]:
        return [(False, int(p)) if is_number(p) else (True, first[p]) for p in path]

    return [".".join(path) for path in sorted(paths, key=places)]


def is_number(part: str) -> bool:
    """Return whether a part of a key is the number of a module."""
    return part.isascii() and part.isdigit() and len(part) <= _MOST_DIGITS


def numbered(state: Mapping[str, Any], suffix: str) -> list[str]:
    """Return the prefixes of the keys `<prefix>.<suffix>`, in the order of their numbers."""
    return in_order(k.removesuffix(f".{suffix}") for k in state if k.endswith(f".{suffix}"))


def class_names(module: Any) -> list[str]:
    """Return the names of the module's class and of its base classes."""
    return [kind.__name__ for kind in type(module).__mro__]


def walk(module: Any, label: str, known: Iterable[str]) -> list[tuple[str, str, Any]]:
    """Return (key, layer type, module) of the layers inside `module`, in order of registration.

    The forward method of a container is not read; `lgir.lift` compares the module with the graph. A
    subclass of a layer counts as that layer; losses and metrics are left out. Raises LiftError at a
    module without children that is no layer of gates.
    """
    names = {*known, *COMMON_HANDLERS, *_NO_OPS}
    layers: list[tuple[str, str, Any]] = []
    pending = [("", module)]
    while pending:
        key, current = pending.pop()
        kind = next((name for name in class_names(current) if name in names), None)
        # named_children() would list a module that is registered twice only once.
        children = [(n, m) for n, m in current._modules.items() if m is not None]
        if kind is not None:
            layers.append((key, kind, current))
        elif type(current).__module__.startswith(_TRAINING_ONLY):
            continue
        elif children:
            prefix = f"{key}." if key else ""
            pending += [(prefix + name, child) for name, child in reversed(children)]
        else:
            raise LiftError(
                f"{label}: a {type(current).__name__} is no layer of gates and cannot be lifted "
                f"(at {key!r}); lift the part of the model that is gates, such as "
                "nn.Sequential(*model[:n]), and run the rest in torch"
            )
    return layers


def entry_of(key: str, kind: str, module: Any, arguments: Iterable[str]) -> Entry:
    """Return the entry of a live layer: its type, and those of `arguments` that it has."""
    entry: Entry = {"type": kind, "key": key}
    for name in (*arguments, *_COMMON_ARGUMENTS.get(kind, ())):
        if hasattr(module, name):
            entry[name] = getattr(module, name)
    return entry


def _flatten(stack: LayerStack, layer: LayerEntry) -> None:
    if (layer.get("start_dim", 1), layer.get("end_dim", -1)) != (1, -1):
        raise LiftError(f"{layer.where}: only Flatten(1, -1) can be lifted")
    stack.flatten()


def _group_sum(stack: LayerStack, layer: LayerEntry) -> None:
    k, tau, beta = layer.integer("k"), layer.number("tau", 1.0), layer.number("beta", 0.0)
    stack.group_sum(k, tau, beta, layer.where)


COMMON_HANDLERS: Final[dict[str, Handler]] = {"Flatten": _flatten, "GroupSum": _group_sum}

_COMMON_ARGUMENTS: Final = {
    "Flatten": ("start_dim", "end_dim"),
    "GroupSum": ("k", "tau", "beta"),
}
