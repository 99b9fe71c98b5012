"""The `lgir` frontend: networks trained with `lgir.frontend.layers`, from the state_dict alone."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from lgir.errors import LgirError, LiftError, unknown_name
from lgir.frontend.checkpoint import Source, source_of
from lgir.frontend.decode import raw_tables
from lgir.frontend.lifting import Frontend
from lgir.frontend.stack import Stack, plain_metadata
from lgir.graph import Graph
from lgir.registry import register_frontend

ARCHITECTURE_VERSION: Final = 1

_KEY: Final = "_extra_state"
_MAGIC: Final = b'{"lgir_architecture":'


@register_frontend("lgir")
class LgirFrontend(Frontend):
    """LogicNet modules and their checkpoints."""

    def recognise(self, source: Source) -> bool:
        own_layers = (type(m).__module__ == "lgir.frontend.layers" for m in _modules(source))
        return _architecture_key(source.state) is not None or any(own_layers)

    def lift(self, source: Source, *, name: str = "model") -> Graph:
        """The graph of a LogicNet; `name` becomes the graph's name."""
        key = _architecture_key(source.state)
        if key is None:
            raise LiftError(
                f"{source.label}: holds no architecture; wrap the layers in "
                "lgir.frontend.layers.LogicNet(*layers, input_shape=...) and save its state_dict"
            )
        architecture = _decode(source.state[key], source.label)
        prefix = key.removesuffix(_KEY)
        try:
            given = architecture["input"]
            stack = Stack(
                name,
                given["shape"],
                dtype=given["dtype"],
                metadata=plain_metadata("lgir", source.notes),
            )
            for i, layer in enumerate(architecture["layers"]):
                _LAYERS.get(layer["type"], _unknown)(stack, layer, _Tensors(source, f"{prefix}{i}"))
            return stack.build()
        except LgirError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise LiftError(
                f"{source.label}: its architecture is damaged ({type(error).__name__}: {error})"
            ) from error


def architecture_of(model: Any | str | Path) -> dict[str, Any]:
    """The architecture stored in a LogicNet's checkpoint, for `layers.build_model`.

    Raises LiftError where there is none, FormatError where the file cannot be read.
    """
    source = source_of(model)
    key = _architecture_key(source.state)
    if key is None:
        raise LiftError(f"{source.label}: holds no lgir architecture")
    return _decode(source.state[key], source.label)


def _modules(source: Source) -> list[Any]:
    return list(source.module.modules()) if hasattr(source.module, "modules") else []


def _architecture_key(state: Mapping[str, Any]) -> str | None:
    """The key of the outermost LogicNet's architecture; wrappers may have put a prefix there."""
    for key, value in state.items():
        tensor = isinstance(value, np.ndarray) and value.dtype == np.uint8
        if tensor and key.endswith(_KEY) and value.tobytes().startswith(_MAGIC):
            return key
    return None


def _decode(array: np.ndarray[Any, Any], label: str) -> dict[str, Any]:
    try:
        architecture: dict[str, Any] = json.loads(array.tobytes())
    except (ValueError, RecursionError) as error:
        raise LiftError(f"{label}: its architecture is damaged ({error})") from error
    version = architecture["lgir_architecture"]
    if version != ARCHITECTURE_VERSION:
        raise LiftError(
            f"{label}: its architecture has version {version}, this lgir reads "
            f"{ARCHITECTURE_VERSION}; install a newer lgir"
        )
    return architecture


class _Tensors:
    """The tensors of one layer, by short name, with shapes checked."""

    def __init__(self, source: Source, layer: str) -> None:
        self._source, self.layer = source, layer

    def __call__(self, name: str, shape: Sequence[int], kind: str) -> Any:
        """A tensor of this shape whose dtype is of `kind` ("f" or "i")."""
        key = f"{self.layer}.{name}"
        array = self._source.state.get(key)
        if not isinstance(array, np.ndarray):
            raise LiftError(f"{self._source.label}: lacks the tensor {key}")
        if array.shape != tuple(shape) or array.dtype.kind != kind:
            raise LiftError(
                f"{self._source.label}: {key} is {array.dtype}{list(array.shape)}, its "
                f"architecture says {list(shape)}"
            )
        return array


def _dense(stack: Stack, layer: Mapping[str, Any], tensors: _Tensors) -> None:
    gates = layer["out_features"]
    table = raw_tables(tensors("weight", (gates, 16), "f"), f"{tensors.layer}.weight")
    stack.dense(tensors("indices", (2, gates), "i").T, table, f"layer {tensors.layer}")


def _conv(stack: Stack, layer: Mapping[str, Any], tensors: _Tensors) -> None:
    kernels, leaves = layer["out_channels"], 1 << layer["depth"]
    weight = tensors("weight", (kernels, leaves - 1, 16), "f")
    stack.conv(
        tensors("leaves", (kernels, leaves, 3), "i"),
        raw_tables(weight, f"{tensors.layer}.weight"),
        window=tuple(layer["receptive_field"]),
        stride=tuple(layer["stride"]),
        padding=tuple(layer["padding"]),
        where=f"layer {tensors.layer}",
    )


def _or_pool(stack: Stack, layer: Mapping[str, Any], tensors: _Tensors) -> None:
    kernel, stride = tuple(layer["kernel_size"]), tuple(layer["stride"])
    stack.or_pool(kernel, stride, (0, 0), f"layer {tensors.layer}")


def _group_sum(stack: Stack, layer: Mapping[str, Any], tensors: _Tensors) -> None:
    stack.group_sum(layer["k"], layer["tau"], layer["beta"], f"layer {tensors.layer}")


def _thermometer(stack: Stack, layer: Mapping[str, Any], tensors: _Tensors) -> None:
    stack.threshold(tensors("levels", layer["shape"], "f"))


def _flatten(stack: Stack, layer: Mapping[str, Any], tensors: _Tensors) -> None:
    stack.flatten()


def _unknown(stack: Stack, layer: Mapping[str, Any], tensors: _Tensors) -> None:
    raise unknown_name("layer", layer["type"], _LAYERS)


_LAYERS: Final = {
    "LogicDense": _dense,
    "LogicTreeConv2d": _conv,
    "OrPool2d": _or_pool,
    "GroupSum": _group_sum,
    "Thermometer": _thermometer,
    "Flatten": _flatten,
}
