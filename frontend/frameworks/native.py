"""The `lgir` frontend: networks of `lgir.frontend.layers`, from their state_dict alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from lgir.errors import LiftError, shown
from lgir.frontend.core.checkpoint import Source, source_of
from lgir.frontend.core.decode import raw_tables
from lgir.frontend.core.layerwise import LayerEntry, lift_layers
from lgir.frontend.core.lifting import Frontend
from lgir.frontend.core.stack import LayerStack
from lgir.ir.graph import Graph
from lgir.registry import register_frontend

ARCHITECTURE_VERSION: Final = 1

_KEY: Final = "_extra_state"
_MAGIC: Final = b'{"lgir_architecture":'


@register_frontend("lgir")
class LgirFrontend(Frontend):
    """Lift LogicNet modules and their checkpoints."""

    def recognize(self, source: Source) -> bool:
        layers = (type(m).__module__ == "lgir.frontend.layers" for m in _modules(source))
        return _architecture_key(source.state) is not None or any(layers)

    def lift(self, source: Source, *, name: str = "model") -> Graph:
        """Build the graph of a LogicNet.

        Args:
            source: a module, or a state_dict, which holds the architecture.
            name: name of the graph.
        """
        key = _architecture_key(source.state)
        if key is None:
            raise LiftError(
                f"{source.label}: holds no architecture; wrap the layers in "
                "lgir.frontend.layers.LogicNet(*layers, input_shape=...) and save its state_dict"
            )
        architecture = _decode(source.state[key], source.label)
        prefix = key.removesuffix(_KEY)
        try:
            shape, dtype = architecture["input"]["shape"], architecture["input"]["dtype"]
            entries = [{"key": f"{prefix}{i}", **e} for i, e in enumerate(architecture["layers"])]
        except (KeyError, TypeError, ValueError) as error:
            raise LiftError(
                f"{source.label}: its architecture is damaged ({type(error).__name__}: {error})"
            ) from error
        return lift_layers(
            source,
            entries,
            source.state,
            _HANDLERS,
            framework="lgir",
            name=name,
            shape=shape,
            dtype=dtype,
        )


def architecture_of(model: Any | str | Path) -> dict[str, Any]:
    """Return the architecture in the checkpoint of a LogicNet, for `layers.build_model`.

    Raises LiftError if there is none, and FormatError if the file cannot be read.
    """
    source = source_of(model)
    key = _architecture_key(source.state)
    if key is None:
        raise LiftError(f"{source.label}: holds no lgir architecture")
    return _decode(source.state[key], source.label)


def _modules(source: Source) -> list[Any]:
    return list(source.module.modules()) if hasattr(source.module, "modules") else []


def _architecture_key(state: Mapping[str, Any]) -> str | None:
    """Return the key of the outermost LogicNet's architecture, with the prefix of wrappers."""
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
            f"{label}: its architecture has version {shown(version)}, this lgir reads "
            f"{ARCHITECTURE_VERSION}; install a newer lgir"
        )
    return architecture


def _dense(stack: LayerStack, layer: LayerEntry) -> None:
    gates = layer.integer("out_features")
    weight = layer.tensor("weight", "f", (gates, 16))
    indices = layer.tensor("indices", "i", (2, gates))
    stack.dense(indices.T, raw_tables(weight, layer.name("weight")), layer.where)


def _conv(stack: LayerStack, layer: LayerEntry) -> None:
    kernels, leaves = layer.integer("out_channels"), 1 << min(layer.integer("depth"), 32)
    weight = layer.tensor("weight", "f", (kernels, leaves - 1, 16))
    stack.conv(
        layer.tensor("leaves", "i", (kernels, leaves, 3)),
        raw_tables(weight, layer.name("weight")),
        window=layer.integers("receptive_field", 2),
        stride=layer.integers("stride", 2),
        padding=layer.integers("padding", 2),
        where=layer.where,
    )


def _or_pool(stack: LayerStack, layer: LayerEntry) -> None:
    kernel, stride = layer.integers("kernel_size", 2), layer.integers("stride", 2)
    stack.or_pool(kernel, stride, (0, 0), layer.where)


def _thermometer(stack: LayerStack, layer: LayerEntry) -> None:
    stack.threshold(layer.tensor("levels", "f", layer.get("shape")), layer.where)


_HANDLERS: Final = {
    "LogicDense": _dense,
    "LogicTreeConv2d": _conv,
    "OrPool2d": _or_pool,
    "Thermometer": _thermometer,
}
