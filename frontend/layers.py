"""Trainable layers of differentiable logic gate networks, and the container that saves them whole.

After Petersen et al., NeurIPS 2022 (dense) and 2024 (tree convolutions, OR pooling, residual
initialization). In training mode a gate is the expectation over its 16 operations; in eval mode it
is the likeliest one, on hard bits. Tensors are batch first; memory is laid out batch last, so that
consecutive layers exchange views. `LogicNet.state_dict()` alone is enough for `lgir.lift`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from lgir.errors import LgirError, LiftError, unknown_name
from lgir.frontend.frameworks.native import ARCHITECTURE_VERSION
from lgir.frontend.kernels import multilinear
from lgir.random_wiring import even_wiring, random_leaves

PASS_FIRST: Final = 3
"""The operation that passes a gate's first input on, in difflogic's numbering."""

RESIDUAL_LOGIT: Final = 5.0
"""Initial logit of pass-through: its probability is then 91 %."""

Pair = int | tuple[int, int]


def _pair(x: Pair) -> tuple[int, int]:
    return (x, x) if isinstance(x, int) else (x[0], x[1])


def _rng(seed: int | None) -> np.random.Generator:
    """Return numpy's generator; without a seed, it follows `torch.manual_seed`."""
    return np.random.default_rng(int(torch.randint(2**31, ())) if seed is None else seed)


def _residual(*shape: int) -> nn.Parameter:
    weight = torch.zeros(*shape, 16)
    weight[..., PASS_FIRST] = RESIDUAL_LOGIT
    return nn.Parameter(weight)


class Layer(nn.Module):
    """A layer that can describe itself: `config()` holds its constructor's arguments."""

    def config(self) -> dict[str, Any]:
        raise NotImplementedError

    def extra_repr(self) -> str:
        return ", ".join(f"{key}={value}" for key, value in self.config().items())


class _Gates(Layer):
    """Base of layers with gates, whose logits are `weight` (..., 16)."""

    weight: nn.Parameter

    straight_through = False
    """While training, evaluate each gate as its likeliest operation, as in eval mode, and pass
    gradients to the logits as if it were the expectation (Bengio et al. 2013).
    """

    def _coefficients(self) -> Tensor:
        if not self.training:
            return multilinear.hard_coefficients(self.weight)
        soft = multilinear.soft_coefficients(self.weight)
        if not self.straight_through:
            return soft
        return soft + (multilinear.hard_coefficients(self.weight) - soft).detach()


class LogicDense(_Gates):
    """`out_features` gates on fixed random pairs of inputs.

    (N, in_features) -> (N, out_features). Every input is used equally often, give or take one.
    State: `weight` (out_features, 16) float32, `indices` (2, out_features) int32.
    """

    indices: Tensor

    def __init__(self, in_features: int, out_features: int, *, seed: int | None = None) -> None:
        super().__init__()
        if in_features < 2 or out_features < 1:
            raise ValueError(
                f"LogicDense needs at least 2 inputs and 1 gate, not {in_features} and "
                f"{out_features}"
            )
        self.in_features, self.out_features = in_features, out_features
        pairs = even_wiring(in_features, out_features, _rng(seed))
        self.register_buffer("indices", torch.from_numpy(pairs.T.astype(np.int32).copy()))
        self.weight = _residual(out_features)

    def config(self) -> dict[str, Any]:
        return {"in_features": self.in_features, "out_features": self.out_features}

    def forward(self, x: Tensor) -> Tensor:
        rows = x.to(self.weight.dtype).t().contiguous()
        coefficients = self._coefficients().unsqueeze(1)
        origin = torch.zeros(1, dtype=torch.int32, device=x.device)  # one position, no offset
        return multilinear.tree_gates(rows, self.indices.t(), origin, coefficients)[:, 0].t()


class LogicTreeConv2d(_Gates):
    """Kernels that are complete binary trees of gates over cells of their receptive field.

    (N, in_channels, H, W) -> (N, out_channels, H', W'), zero padding, sizes as in nn.Conv2d. Each
    tree reads `channels_per_tree` channels of its group. State: `weight`
    (out_channels, 2**depth - 1, 16) float32, level by level from the leaves; `leaves`
    (out_channels, 2**depth, 3) int32 rows (channel, y, x) within the window.
    """

    leaves: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        depth: int = 3,
        receptive_field: Pair = 3,
        stride: Pair = 1,
        padding: Pair = 0,
        groups: int = 1,
        channels_per_tree: int = 2,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        self.in_channels, self.out_channels, self.depth = in_channels, out_channels, depth
        self.receptive_field, self.stride = _pair(receptive_field), _pair(stride)
        self.padding, self.groups = _pair(padding), groups
        self.channels_per_tree = channels_per_tree
        if depth < 1 or min(in_channels, out_channels, groups, channels_per_tree) < 1:
            raise ValueError("LogicTreeConv2d needs depth, channels and groups of at least 1")
        if in_channels % groups or out_channels % groups:
            raise ValueError(f"{in_channels} and {out_channels} channels do not split in {groups}")
        leaves = random_leaves(
            in_channels,
            out_channels,
            depth=depth,
            window=self.receptive_field,
            groups=groups,
            channels_per_tree=channels_per_tree,
            rng=_rng(seed),
        )
        self.register_buffer("leaves", torch.from_numpy(leaves.astype(np.int32)))
        self.weight = _residual(out_channels, (1 << depth) - 1)

    def config(self) -> dict[str, Any]:
        names = ("in_channels", "out_channels", "depth", "receptive_field", "stride", "padding")
        return {name: getattr(self, name) for name in (*names, "groups", "channels_per_tree")}

    def forward(self, x: Tensor) -> Tensor:
        return self.fused(x)

    def fused(
        self,
        x: Tensor,
        pool: OrPool2d | None = None,
        margin: tuple[int, int] = (0, 0),
        padded: bool = False,
    ) -> Tensor:
        """Apply the kernels and what surrounds them as one kernel, without maps in between.

        Args:
            x: as `forward` takes it; if `padded`, with the padding around it.
            pool: is applied to the result.
            margin: rows and columns of zeros to put around the result.
            padded: whether x has this layer's padding.
        """
        planes = x.to(self.weight.dtype).movedim(0, -1)
        (ph, pw), (sh, sw) = self.padding, self.stride
        if not padded and (ph or pw):
            planes = nn.functional.pad(planes, (0, 0, pw, pw, ph, ph))
        planes = planes.contiguous()
        channels, height, width, batch = planes.shape
        space = _windows((height, width), self.receptive_field, self.stride)
        if channels != self.in_channels or min(space) < 1:
            raise ValueError(
                f"LogicTreeConv2d({self.extra_repr()}) cannot read an input of {tuple(x.shape[1:])}"
            )
        channel, y, column = self.leaves.unbind(-1)
        rows = channel * (height * width) + y * width + column
        grid = _grid(space, (sh * width, sw), x.device)
        if pool is None:
            places = grid.reshape(-1, 1)
        else:
            space = _windows(space, pool.kernel_size, pool.stride)
            (kh, kw), (dh, dw) = pool.kernel_size, pool.stride
            places = grid.unfold(0, kh, dh).unfold(1, kw, dw).reshape(-1, kh * kw)
        framed = [size + 2 * border for size, border in zip(space, margin, strict=True)]
        target = _grid(space, (framed[1], 1), x.device) + (margin[0] * framed[1] + margin[1])
        frame = multilinear.Frame(target.flatten(), framed[0] * framed[1])
        flat = planes.view(-1, batch)
        out = multilinear.tree_gates(flat, rows, places, self._coefficients(), frame)
        return out.view(self.out_channels, *framed, batch).movedim(-1, 0)


def _grid(size: Sequence[int], strides: tuple[int, int], device: torch.device) -> Tensor:
    """Return y * strides[0] + x * strides[1] for each cell, (height, width) int32."""
    y, x = (torch.arange(n, dtype=torch.int32, device=device) for n in size)
    return y[:, None] * strides[0] + x * strides[1]


def _windows(size: Sequence[int], window: Sequence[int], stride: Sequence[int]) -> list[int]:
    """Return the number of whole windows along each axis."""
    return [(s - w) // step + 1 for s, w, step in zip(size, window, stride, strict=True)]


class OrPool2d(Layer):
    """A logical OR over windows, (N, C, H, W) -> (N, C, h, w).

    It is the maximum, so that gradients go to the winning cell of each window.
    """

    def __init__(self, kernel_size: Pair = 2, stride: Pair | None = None) -> None:
        super().__init__()
        self.kernel_size = _pair(kernel_size)
        self.stride = _pair(self.kernel_size if stride is None else stride)

    def config(self) -> dict[str, Any]:
        return {"kernel_size": self.kernel_size, "stride": self.stride}

    def forward(self, x: Tensor) -> Tensor:
        return multilinear.or_pool(x.movedim(0, -1), self.kernel_size, self.stride).movedim(-1, 0)


class GroupSum(Layer):
    """Class scores (count + beta) / tau over k contiguous groups of inputs, (N, F) -> (N, k)."""

    def __init__(self, k: int, tau: float = 1.0, beta: float = 0.0) -> None:
        super().__init__()
        if tau == 0:
            raise ValueError("GroupSum divides by tau, which must not be 0")
        self.k, self.tau, self.beta = k, float(tau), float(beta)

    def config(self) -> dict[str, Any]:
        return {"k": self.k, "tau": self.tau, "beta": self.beta}

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[1] % self.k:
            raise ValueError(f"{x.shape[1]} inputs do not split into {self.k} equal groups")
        counts = x.t().unflatten(0, (self.k, -1)).sum(1).t()  # memory is batch last
        return (counts + self.beta) / self.tau


class Thermometer(Layer):
    """Bits `x > t` for fixed thresholds, (N, C, ...) -> (N, C*L, ...), in channel c*L + l.

    `levels` are (L,) for all channels, or (C, L) per channel. They are a buffer.
    """

    levels: Tensor

    def __init__(self, levels: Sequence[float] | np.ndarray[Any, Any] | Tensor) -> None:
        super().__init__()
        tensor = torch.as_tensor(levels, dtype=torch.float32)
        if tensor.ndim not in (1, 2) or tensor.numel() == 0:
            raise ValueError(f"levels must be (L,) or (C, L), not {tuple(tensor.shape)}")
        self.register_buffer("levels", tensor.clone())

    @staticmethod
    def even(count: int, low: float = 0.0, high: float = 255.0) -> Thermometer:
        """Return a layer of `count` thresholds that cut low..high into equal parts."""
        return Thermometer(np.linspace(low, high, count + 2)[1:-1])

    def config(self) -> dict[str, Any]:
        return {"levels": self.levels.tolist()}

    def extra_repr(self) -> str:
        return f"levels={tuple(self.levels.shape)}"

    def forward(self, x: Tensor) -> Tensor:
        planes = x.to(torch.float32).movedim(0, -1).contiguous().unsqueeze(1)
        lead = self.levels if self.levels.ndim == 2 else self.levels.unsqueeze(0)
        levels = lead.view(*lead.shape, *(1,) * (planes.ndim - 2))
        return (planes > levels).float().flatten(0, 1).movedim(-1, 0)


class LogicNet(nn.Sequential):
    """An nn.Sequential of these layers (and nn.Flatten) whose state_dict carries its architecture.

    Args:
        layers: the layers in order.
        input_shape: the shape of one sample, without the batch axis.
        input_dtype: the dtype that a lifted graph takes: "bit", or "u8" or "f32" if the first
            layer is a Thermometer.

    The architecture is JSON in a uint8 tensor under `_extra_state`. So the state_dict remains an
    ordinary one, which `weights_only=True` reads, safetensors stores and strict loading accepts.
    """

    def __init__(
        self, *layers: nn.Module, input_shape: Sequence[int], input_dtype: str = "bit"
    ) -> None:
        super().__init__(*layers)
        if input_dtype not in ("bit", "u8", "f32"):
            raise ValueError(f"input_dtype is bit, u8 or f32, not {input_dtype!r}")
        self.input_shape, self.input_dtype = tuple(input_shape), input_dtype
        self.architecture()

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layers; a tree convolution, its pool and the next one's padding are fused."""
        layers, padded = list(self), False
        while layers:
            layer = layers.pop(0)
            if not isinstance(layer, LogicTreeConv2d):
                x, padded = layer(x), False
                continue
            pool = layers.pop(0) if layers and isinstance(layers[0], OrPool2d) else None
            assert pool is None or isinstance(pool, OrPool2d)
            following = layers[0] if layers else None
            margin = following.padding if isinstance(following, LogicTreeConv2d) else (0, 0)
            x = layer.fused(x, pool, margin, padded)
            padded = margin != (0, 0)
        return x

    def train_straight_through(self, on: bool = True) -> None:
        """Train gates as they will be compiled if `on`; see `LogicDense.straight_through`."""
        for layer in self:
            if isinstance(layer, _Gates):
                layer.straight_through = on

    def architecture(self) -> dict[str, Any]:
        """Return the network without its weights and wiring, as `build_model` reads it."""
        return {
            "lgir_architecture": ARCHITECTURE_VERSION,
            "input": {"shape": list(self.input_shape), "dtype": self.input_dtype},
            "layers": [_describe(layer) for layer in self],
        }

    @property
    def trains_straight_through(self) -> bool:
        """Whether a layer trains its gates as they will be compiled."""
        return any(layer.straight_through for layer in self if isinstance(layer, _Gates))

    def get_extra_state(self) -> Tensor:
        text = json.dumps(self.architecture(), separators=(",", ":"))
        return torch.from_numpy(np.frombuffer(text.encode(), np.uint8).copy())

    def set_extra_state(self, state: Tensor) -> None:
        saved = json.loads(bytes(state.cpu().numpy()))
        # This network's makes the same round trip, since JSON turns tuples into lists.
        if saved != json.loads(json.dumps(self.architecture())):
            raise LiftError(
                "this state_dict is of another architecture; build_model(saved architecture) makes "
                "the network that fits it"
            )


def _describe(layer: nn.Module) -> dict[str, Any]:
    if isinstance(layer, Layer):
        config = layer.config()
        if isinstance(layer, Thermometer):  # the values are a buffer; the shape is enough
            config = {"shape": list(layer.levels.shape)}
        return {"type": type(layer).__name__, **config}
    if isinstance(layer, nn.Flatten) and (layer.start_dim, layer.end_dim) == (1, -1):
        return {"type": "Flatten"}
    raise LiftError(
        f"LogicNet holds {', '.join(LAYERS)}; {type(layer).__name__} cannot become gates"
    )


LAYERS: Final[dict[str, Any]] = {
    "LogicDense": LogicDense,
    "LogicTreeConv2d": LogicTreeConv2d,
    "OrPool2d": OrPool2d,
    "GroupSum": GroupSum,
    "Thermometer": Thermometer,
    "Flatten": nn.Flatten,
}


def build_model(architecture: Mapping[str, Any]) -> LogicNet:
    """Build a network of this architecture, with fresh wiring and weights.

    Load a state_dict into it to restore a trained network. `lgir.frontend.architecture_of(path)`
    reads the architecture of a checkpoint.

    Raises:
        LiftError: `architecture` is not one.
        UnknownNameError: a layer is unknown.
    """
    try:
        layers = [_build_layer(entry) for entry in architecture["layers"]]
        samples = architecture["input"]
        return LogicNet(*layers, input_shape=samples["shape"], input_dtype=samples["dtype"])
    except LgirError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise LiftError(f"not an lgir architecture: {error!r}") from error


def _build_layer(entry: Mapping[str, Any]) -> nn.Module:
    arguments: dict[str, Any] = {
        k: tuple(v) if isinstance(v, list) else v for k, v in entry.items()
    }
    kind = arguments.pop("type")
    if kind not in LAYERS:
        raise unknown_name("layer", kind, LAYERS)
    if kind == "Thermometer":
        arguments = {"levels": np.zeros(arguments["shape"])}
    layer: nn.Module = LAYERS[kind](**arguments)
    return layer
