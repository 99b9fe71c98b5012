"""The `difflogic` frontend: dense networks of Petersen et al. 2022, without importing difflogic.

A state_dict of theirs holds `<i>.weights` (out, 16) and nothing else: the wiring is a plain
attribute of each LogicLayer, and GroupSum leaves no trace. What the file lacks must be given.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lgir.errors import LiftError
from lgir.frontend.checkpoint import Source, array_of, read_checkpoint
from lgir.frontend.decode import raw_tables
from lgir.frontend.lifting import Frontend
from lgir.frontend.stack import Stack, plain_metadata
from lgir.graph import Graph
from lgir.registry import register_frontend

_WEIGHTS: Final = re.compile(r"(?:.*\.)?(\d+)\.weights")

_NO_WIRING: Final = (
    "difflogic keeps the wiring outside the state_dict, so these weights alone are no network; "
    "lift the module itself, or save [layer.indices for each LogicLayer] beside it and pass "
    "indices=[(a, b), ...] or the path of that file"
)


@register_frontend("difflogic")
class DifflogicFrontend(Frontend):
    """LogicLayer, GroupSum and Flatten; modules, or state_dicts with `indices`."""

    def recognise(self, source: Source) -> bool:
        if source.module is not None:
            return any(_is_logic_layer(m) for m in source.module.modules())
        return bool(_weight_keys(source)) and len(_weight_keys(source)) == len(source.state)

    def lift(
        self,
        source: Source,
        *,
        indices: Sequence[Any] | str | Path | None = None,
        input_shape: Sequence[int] | int | None = None,
        groups: int | None = None,
        tau: float = 1.0,
        thresholds: npt.ArrayLike | None = None,
        name: str = "model",
    ) -> Graph:
        """The graph of a difflogic network.

        Args:
            source: a module needs no further options.
            indices: a pair (a, b) of (out,) input numbers per LogicLayer, or a file of them.
            input_shape: of one sample; the highest input in use decides where None.
            groups: classes of the final GroupSum; a state_dict does not tell. None: bits out.
            tau: GroupSum's divisor.
            thresholds: numbers t: the graph takes uint8 samples and computes bits x > t.
            name: the graph's name.
        """
        if source.module is not None:
            layers = _layers_of(source.module, source.label)
        else:
            layers = _layers_of_state(source, indices)
            if groups is not None:
                layers.append(("group_sum", (groups, tau)))
        first = next(data for kind, data in layers if kind == "dense")
        shape = _shape(input_shape, first, source)
        metadata = plain_metadata("difflogic", source.notes)
        stack = Stack(name, shape, thresholds=thresholds, metadata=metadata)
        for i, (kind, data) in enumerate(layers):
            where = f"{source.label}: layer {i}"
            if kind == "dense":
                weights, wiring = data[:2]
                stack.dense(wiring, raw_tables(weights, f"{where} weights"), where)
            elif kind == "group_sum":
                stack.group_sum(data[0], data[1], 0.0, where)
            else:
                stack.flatten()
        return stack.build()


def _is_logic_layer(module: Any) -> bool:
    return type(module).__name__ == "LogicLayer" and hasattr(module, "weights")


def _layers_of(module: Any, label: str) -> list[tuple[str, Any]]:
    """(kind, data) of the leaf modules in order: dense (weights, wiring, in_dim), group_sum."""
    layers: list[tuple[str, Any]] = []
    for leaf in module.modules():
        kind = type(leaf).__name__
        if _is_logic_layer(leaf):
            wiring = _pair(getattr(leaf, "indices", None), f"{label}: layer {len(layers)}")
            layers.append(("dense", (array_of(leaf.weights), wiring, int(leaf.in_dim))))
        elif kind == "GroupSum":
            layers.append(("group_sum", (int(leaf.k), float(leaf.tau))))
        elif kind == "Flatten":
            layers.append(("flatten", ()))
        elif not list(leaf.children()) and kind not in ("Dropout", "Identity"):
            raise LiftError(f"{label}: a {kind} is no layer of gates and cannot be lifted")
    return layers


def _weight_keys(source: Source) -> list[str]:
    keys = [key for key in source.state if _WEIGHTS.fullmatch(key)]
    # By layer number: stores such as safetensors sort keys as text, "10" before "2".
    return sorted(keys, key=lambda key: int(_WEIGHTS.fullmatch(key)[1]))  # type: ignore[index]


def _layers_of_state(
    source: Source, indices: Sequence[Any] | str | Path | None
) -> list[tuple[str, Any]]:
    keys = _weight_keys(source)
    if not keys:
        raise LiftError(f"{source.label}: has no tensor '<i>.weights', as difflogic names them")
    if indices is None:
        raise LiftError(f"{source.label}: {_NO_WIRING}")
    pairs = read_checkpoint(Path(indices)) if isinstance(indices, str | Path) else indices
    if not isinstance(pairs, Sequence) or len(pairs) != len(keys):
        count = len(pairs) if isinstance(pairs, Sequence) else f"a {type(pairs).__name__}"
        raise LiftError(
            f"{source.label}: indices hold {count}, the state_dict has {len(keys)} layers "
            f"({', '.join(keys)}); give one pair (a, b) a layer"
        )
    return [
        ("dense", (source.state[key], _pair(pair, f"indices of {key}"), None))
        for key, pair in zip(keys, pairs, strict=True)
    ]


def _pair(pair: Any, where: str) -> npt.NDArray[np.integer]:
    """(out, 2) input numbers from a pair of equally long integer vectors."""
    if pair is None:
        raise LiftError(f"{where}: has no indices")
    try:
        a, b = (np.asarray(array_of(x)) for x in pair)
    except (TypeError, ValueError) as error:
        raise LiftError(f"{where}: not a pair (a, b) of integer vectors") from error
    if a.shape != b.shape or a.ndim != 1 or a.dtype.kind not in "iu" or b.dtype.kind not in "iu":
        raise LiftError(
            f"{where}: a is {a.dtype}{list(a.shape)}, b is {b.dtype}{list(b.shape)}; expected two "
            "integer vectors, one entry a gate"
        )
    return np.stack([a, b], axis=1)


def _shape(given: Sequence[int] | int | None, first: Any, source: Source) -> tuple[int, ...]:
    _, wiring, in_dim = first
    if given is not None:
        return (given,) if isinstance(given, int) else tuple(given)
    return (in_dim if in_dim is not None else int(wiring.max()) + 1,)
