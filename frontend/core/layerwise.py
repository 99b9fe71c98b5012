"""Layer by layer: what all frontends of feed-forward models share.

A model is a list of entries (a layer's type and constructor arguments, as a dict) beside a
state_dict. A frontend is a table from type to handler; a live module is walked into the same
entries, so that modules and files take one path.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lgir.errors import GraphError, LgirError, LiftError, unknown_name
from lgir.frontend.core.checkpoint import Source
from lgir.frontend.core.stack import Stack
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
"""Layers that leave no trace in a state_dict."""

_TRAINING_ONLY: Final = ("torch.nn.modules.loss", "torchmetrics.")
"""Where classes come from that a LightningModule keeps beside its network."""


_KINDS: Final = {"f": ("f", "floats"), "i": ("iu", "integers"), "n": ("fiu", "numbers")}
"""numpy's kinds of dtype, and what messages call them."""


class Layer:
    """One entry and its tensors, with errors that name the layer."""

    def __init__(self, label: str, entry: Entry, state: Mapping[str, Any]) -> None:
        self.entry, self._state = entry, state
        self.type = str(entry.get("type"))
        self.key = str(entry.get("key", ""))
        self.where = f"{label}: {self.type} {self.key!r}" if self.key else f"{label}: {self.type}"

    def name(self, tensor: str) -> str:
        return f"{self.key}.{tensor}" if self.key else tensor

    def has(self, tensor: str) -> bool:
        return isinstance(self._state.get(self.name(tensor)), np.ndarray)

    def ndim(self, tensor: str) -> int:
        value = self._state.get(self.name(tensor))
        return value.ndim if isinstance(value, np.ndarray) else 0

    def tensor(self, name: str, kind: str, shape: Sequence[int | None]) -> npt.NDArray[Any]:
        """The layer's tensor, of this shape (None fits any length).

        kind is "f" for floats, "i" for integers, "n" for either.
        """
        if not self.has(name):
            first = ", ".join(list(self._state)[:3])
            raise LiftError(
                f"{self.where}: lacks the tensor {self.name(name)} (there are {first} ...; the "
                "architecture's key is what stands before a layer's tensors)"
            )
        array: npt.NDArray[Any] = self._state[self.name(name)]
        fits = array.ndim == len(shape) and all(
            want in (None, have) for want, have in zip(shape, array.shape, strict=True)
        )
        kinds, called = _KINDS[kind]
        if not fits or array.dtype.kind not in kinds:
            want = ", ".join("?" if n is None else str(n) for n in shape)
            raise LiftError(
                f"{self.where}: {self.name(name)} is {array.dtype}{list(array.shape)}, expected "
                f"{called} [{want}]"
            )
        return array

    def get(self, name: str, default: Any = _REQUIRED) -> Any:
        """A constructor argument; LiftError where it is needed and absent."""
        value = self.entry.get(name, default)
        if value is _REQUIRED or (value is None and name in self.entry):  # null: a draft's blank
            raise LiftError(f"{self.where}: the architecture must give {name}")
        return value

    def integer(self, name: str, default: Any = _REQUIRED) -> int:
        return self.integers(name, 1, default)[0]

    def integers(self, name: str, count: int, default: Any = _REQUIRED) -> Shape:
        """`count` non-negative integers; one stands for all."""
        value = self.get(name, default)
        many = tuple(value) if isinstance(value, list | tuple) else (value,) * count
        whole = all(isinstance(n, int | np.integer) and n >= 0 for n in many)
        if len(many) != count or not whole:
            what = "a whole number" if count == 1 else f"{count} whole numbers"
            raise LiftError(f"{self.where}: {name}={value!r} must be {what}")
        return tuple(int(n) for n in many)

    def number(self, name: str, default: Any = _REQUIRED) -> float:
        value = self.get(name, default)
        try:
            return float(value)
        except (TypeError, ValueError):
            raise LiftError(f"{self.where}: {name}={value!r} must be a number") from None


def check_inputs(stack: Stack, layer: Layer, argument: str = "in_dim") -> None:
    """Raises LiftError where the layer was made for another width than it now reads.

    Its wires may fit all the same, since they need not use the highest input.
    """
    given = layer.get(argument, stack.value.size)
    if given is not None and layer.integer(argument, given) != stack.value.size:
        raise LiftError(
            f"{layer.where}: {argument} is {layer.integer(argument)}, the layer before gives "
            f"{stack.value.type}"
        )


Handler = Callable[[Stack, Layer], None]


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
    """The graph of these layers in order. Raises LiftError naming the one that does not fit."""
    label, known = source.label, {**COMMON_HANDLERS, **handlers}
    metadata = {"source": framework, **{f"training.{k}": v for k, v in source.notes.items()}}
    stack = Stack(name, (shape,) if isinstance(shape, int) else shape, dtype, metadata)
    for entry in entries:
        layer = Layer(label, entry, state)
        if layer.type in _NO_OPS:
            continue
        if layer.type not in known:
            raise LiftError(f"{label}: {unknown_name('layer', layer.type, known)}")
        try:
            known[layer.type](stack, layer)
        except GraphError as error:
            raise LiftError(f"{layer.where}: {error}") from error
        except LgirError:
            raise
        except (TypeError, ValueError, KeyError, AttributeError, ArithmeticError) as error:
            raise LiftError(f"{layer.where}: damaged ({type(error).__name__}: {error})") from error
    return stack.build()


def unwrapped(state: Mapping[str, Any]) -> dict[str, Any]:
    """`state` without the path that wrappers put before an nn.Sequential's numbers.

    Lightning, torch.compile and DataParallel make `model.network.0.weights` of `0.weights`.
    Anything else, and keys that do not all share one path, stay as they are.
    """
    paths = [key.split(".") for key in state]
    depth = 0
    while paths and all(len(p) > depth + 1 and p[depth] == paths[0][depth] for p in paths):
        if all(p[depth].isdigit() for p in paths):
            break
        depth += 1
    if not all(p[depth].isdigit() for p in paths):
        return dict(state)
    return {".".join(key.split(".")[depth:]): value for key, value in state.items()}


def placed(state: Mapping[str, Any], entries: Sequence[Entry], label: str) -> dict[str, Any]:
    """`state` under the one path where an architecture's layers have their tensors.

    Beside the network a checkpoint may hold more: `loss.weight` beside `net.0.weight`. Raises
    LiftError where two paths fit alike.
    """
    keys = [f"{e['key']}." for e in entries if e["type"] not in _NO_TENSORS and e["key"]]
    if not keys:
        return unwrapped(state)
    heads = dict.fromkeys(head for name in state for head in _heads(name))
    under = {h: {name[len(h) :] for name in state if name.startswith(h)} for h in heads}
    fitting = [
        head
        for head, names in under.items()
        if all(any(name.startswith(key) for name in names) for key in keys)
    ]
    if not fitting:
        return unwrapped(state)
    if len(fitting) > 1 and "" not in fitting:
        raise LiftError(
            f"{label}: the layers could be those under {fitting[0]!r} or {fitting[1]!r}; put that "
            'before each "key" of the architecture'
        )
    head = "" if "" in fitting else fitting[0]
    _warn_of_siblings(under[head], keys, label)
    return {name[len(head) :]: value for name, value in state.items() if name.startswith(head)}


def _warn_of_siblings(names: Iterable[str], keys: Sequence[str], label: str) -> None:
    """Warns where numbered modules beside those of `keys` have tensors, for one may be missing."""
    parents = {key[:-1].rpartition(".")[0] for key in keys}
    left = [
        name
        for name in names
        if not name.startswith(tuple(keys))
        for parent in parents
        if name.startswith(parent) and name[len(parent) :].lstrip(".").split(".")[0].isdigit()
    ]
    if left:
        warnings.warn(
            f"{label}: the architecture has no layer for {', '.join(sorted(left)[:3])}; is one "
            "missing?",
            stacklevel=5,
        )


def _heads(name: str) -> list[str]:
    """The paths "", "a.", "a.b." that `a.b.weight` lies under."""
    return ["", *(name[: at + 1] for at, letter in enumerate(name) if letter == ".")]


def in_order(keys: Iterable[str]) -> list[str]:
    """Layer keys by the numbers in them: stores such as safetensors sort "10" before "2".

    Names stand where they first appear, for "features.0" comes before "classifier.0".
    """
    paths = [key.split(".") for key in keys]
    first: dict[str, int] = {}
    for part in (part for path in paths for part in path):
        first.setdefault(part, len(first))

    def places(path: list[str]) -> list[tuple[bool, int]]:
        return [(not p.isdigit(), int(p) if p.isdigit() else first[p]) for p in path]

    return [".".join(path) for path in sorted(paths, key=places)]


def numbered(state: Mapping[str, Any], suffix: str) -> list[str]:
    """Prefixes of the keys `<prefix>.<suffix>`, in order."""
    return in_order(k.removesuffix(f".{suffix}") for k in state if k.endswith(f".{suffix}"))


def class_names(module: Any) -> list[str]:
    """The module's class and those that it derives from."""
    return [kind.__name__ for kind in type(module).__mro__]


def walk(module: Any, label: str, known: Iterable[str]) -> list[tuple[str, str, Any]]:
    """(key, layer type, module) of the layers inside `module`, in order of registration.

    A container's forward is not read: `lgir.lift` runs module and graph against each other.
    A subclass of a layer counts as that layer, losses and metrics as nothing. Raises LiftError at
    a leaf that is no layer of gates.
    """
    names = {*known, *COMMON_HANDLERS, *_NO_OPS}
    found: list[tuple[str, str, Any]] = []
    pending = [("", module)]
    while pending:
        key, current = pending.pop()
        kind = next((name for name in class_names(current) if name in names), None)
        # Not named_children(), which tells a module that stands in two places only once.
        children = [(n, m) for n, m in current._modules.items() if m is not None]
        if kind is not None:
            found.append((key, kind, current))
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
    return found


def entry_of(key: str, kind: str, module: Any, arguments: Iterable[str]) -> Entry:
    """The entry of a live layer: its type and those of `arguments` it has as attributes."""
    entry: Entry = {"type": kind, "key": key}
    for name in (*arguments, *_COMMON_ARGUMENTS.get(kind, ())):
        if hasattr(module, name):
            entry[name] = getattr(module, name)
    return entry


def _flatten(stack: Stack, layer: Layer) -> None:
    if (layer.get("start_dim", 1), layer.get("end_dim", -1)) != (1, -1):
        raise LiftError(f"{layer.where}: only Flatten(1, -1) can be lifted")
    stack.flatten()


def _group_sum(stack: Stack, layer: Layer) -> None:
    k, tau, beta = layer.integer("k"), layer.number("tau", 1.0), layer.number("beta", 0.0)
    stack.group_sum(k, tau, beta, layer.where)


COMMON_HANDLERS: Final[dict[str, Handler]] = {"Flatten": _flatten, "GroupSum": _group_sum}

_COMMON_ARGUMENTS: Final = {
    "Flatten": ("start_dim", "end_dim"),
    "GroupSum": ("k", "tau", "beta"),
}
