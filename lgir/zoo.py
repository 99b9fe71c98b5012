"""Networks by name: trained ones that are shipped, and random ones for benchmarks and tests.

`pretrained` loads the trained ones: graphs as they were lifted from their checkpoints, in the
container's format, compressed by xz. docs/models has a card for each.

`dense-6x8000` is the dense network of Petersen et al. 2022 (784 bits in, 10 classes);
`logictreenet-32` the CIFAR-10 LogicTreeNet of Petersen et al. 2024 with k = 32. Gates are random
two-input functions that depend on both inputs; the suffix `-op16` draws from all 16 operations, as
an untrained difflogic layer would, of which optimizers remove most.
"""

from __future__ import annotations

import hashlib
import lzma
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from lgir.errors import FormatError, UnknownNameError, unknown_name
from lgir.formats import container
from lgir.ir.body import Body
from lgir.ir.builder import GraphBuilder, dense_body, tree_body
from lgir.ir.graph import Graph
from lgir.ir.truth_tables import OP_TABLES
from lgir.ir.types import Value
from lgir.random_wiring import even_wiring, random_leaves

TWO_INPUT_OPS: Final = np.array([1, 2, 4, 6, 7, 8, 9, 11, 13, 14])
ALL_OPS: Final = np.arange(16)


@dataclass(frozen=True)
class Pretrained:
    """A trained network that is shipped.

    Attributes:
        images: name of the file of test images in a data folder, as `lgir demo --data` reads it.
        labels: name of the file of their labels.
    """

    images: str
    labels: str


PRETRAINED: Final[Mapping[str, Pretrained]] = {
    "digits": Pretrained("", ""),
    "mnist-s": Pretrained("mnist_x_test", "mnist_y_test"),
    "cifar10-s": Pretrained("cifar10_q5_x_test", "cifar10_y_test"),
}
"""The trained networks by name. The images of `digits` are scikit-learn's."""

EXAMPLES: Final = (
    "dense-6x8000",
    "dense-6x8000-op16",
    "dense-4x64000",
    "logictreenet-32",
    *PRETRAINED,
)

_DENSE = re.compile(r"dense-(\d+)x(\d+)(-op16)?")
_TREE = re.compile(r"logictreenet-(\d+)(?:-t(\d+))?(-op16)?")

_CIFAR_TAU: Final = {32: 20.0, 256: 40.0, 512: 280.0, 1024: 340.0, 2048: 450.0}


def pretrained(name: str) -> Graph:
    """Return the trained network called `name`, as it was lifted: no pass has changed it.

    Its metadata has the task, the steps of training and the test accuracy. Raises UnknownNameError
    for another name, FormatError if the file's SHA-256 checksum is not that of `SHA256SUMS`.
    """
    if name not in PRETRAINED:
        raise unknown_name("trained network", name, PRETRAINED)
    path = pretrained_file(name)
    try:
        data, sums = path.read_bytes(), path.with_name("SHA256SUMS").read_text(encoding="ascii")
    except OSError as error:
        reason = f"cannot be read ({error.strerror})"
        raise FormatError(f"{path}: {reason}; install lgir anew") from None
    checksum = hashlib.sha256(data).hexdigest()
    if f"{checksum}  {path.name}" not in sums.splitlines():
        raise FormatError(
            f"{path}: is not the file that lgir ships (its SHA-256 is {checksum[:16]}...); "
            "install lgir anew"
        )
    return container.from_bytes(lzma.decompress(data), name)


def pretrained_file(name: str) -> Path:
    """Return the path of a trained network's file."""
    return Path(__file__).with_name("pretrained") / f"{name}.onnx.xz"


def build_net(name: str, seed: int = 0) -> Graph:
    """Return the network called `name`, trained or random.

    Names are those of `PRETRAINED`, `dense-<layers>x<width>` and
    `logictreenet-<k>[-t<thresholds>]` (k a multiple of 8; 3 thresholds per color channel unless
    stated otherwise), each with an optional `-op16`. Raises UnknownNameError for any other. `seed`
    is that of random wiring and gates.
    """
    if name in PRETRAINED:
        return pretrained(name)
    if match := _DENSE.fullmatch(name):
        layers, width = int(match[1]), int(match[2])
        if layers and width and width % 10 == 0 and 2 * width >= 784:
            return dense_net(layers, width, ops=ALL_OPS if match[3] else TWO_INPUT_OPS, seed=seed)
    if match := _TREE.fullmatch(name):
        k, levels = int(match[1]), int(match[2] or 3)
        # The head ends in 320k gates for 10 classes, so every multiple of 8 divides evenly.
        if k and k % 8 == 0 and 1 <= levels <= 255:
            ops = ALL_OPS if match[3] else TWO_INPUT_OPS
            return logictreenet(k, levels, ops=ops, seed=seed)
    raise _unknown(name)


def _unknown(name: str) -> UnknownNameError:
    error = unknown_name("net", name, EXAMPLES)
    return UnknownNameError(
        f"{error}; any dense-<layers>x<width> of width 400, 410, ... and logictreenet-<k> of k 8, "
        "16, ... will do"
    )


def other_widths(name: str) -> dict[int, str]:
    """Return, by width, the names of networks like `name` of an eighth to four times its width.

    The width of a logictreenet is its k. Widths for which there is no network are left out. Raises
    UnknownNameError as `build_net`.
    """
    prefix, width, suffix = _split_width(name)
    least, of = (392, 10) if name.startswith("dense") else (8, 8)
    fitting = [w for w in swept_widths(name) if w == width or (w >= least and w % of == 0)]
    return {w: f"{prefix}{w}{suffix}" for w in fitting}


def swept_widths(name: str) -> list[int]:
    """Return an eighth, a quarter, half, one, two and four times the width of a network.

    Raises UnknownNameError as `build_net`.
    """
    _, width, _ = _split_width(name)
    return [width * eighths // 8 for eighths in (1, 2, 4, 8, 16, 32)]


def _split_width(name: str) -> tuple[str, int, str]:
    match = re.fullmatch(r"(dense-\d+x|logictreenet-)(\d+)(.*)", name)
    if match is None:
        raise _unknown(name)
    return match[1], int(match[2]), match[3]


def dense_net(
    layers: int,
    width: int,
    *,
    inputs: int = 784,
    classes: int = 10,
    tau: float = 10.0,
    ops: npt.NDArray[np.integer] = TWO_INPUT_OPS,
    seed: int = 0,
) -> Graph:
    """Return `layers` dense layers of `width` gates, summed into `classes` groups."""
    rng = np.random.default_rng(seed)
    b = GraphBuilder(f"dense-{layers}x{width}", {"source": "lgir.zoo", "seed": str(seed)})
    x = b.input("x", "bit", (inputs,))
    for i in range(layers):
        x = _random_dense(b, x, width, ops, rng, f"layer{i + 1}")
    return b.build(b.group_sum(x, classes, tau, name="score"))


def logictreenet(
    k: int,
    levels: int = 3,
    *,
    ops: npt.NDArray[np.integer] = TWO_INPUT_OPS,
    seed: int = 0,
) -> Graph:
    """Return the CIFAR-10 network of Petersen et al. 2024, with random gates and wiring.

    It has four pooled tree convolutions to k, 4k, 16k and 32k channels, dense layers of 1280k, 640k
    and 320k gates, and ten classes.
    """
    rng = np.random.default_rng(seed)
    b = GraphBuilder(f"logictreenet-{k}", {"source": "lgir.zoo", "seed": str(seed)})
    image = b.input("image", "u8", (3, 32, 32))
    thresholds = np.ceil(256 * np.arange(1, levels + 1) / (levels + 1)) - 1
    x = b.threshold(image, thresholds, name="bits")
    for i, channels in enumerate((k, 4 * k, 16 * k, 32 * k)):
        groups = 1 if i == 0 else k // 8
        body = random_tree_body(x.shape[0], channels, groups=groups, ops=ops, rng=rng)
        x = b.logic([x], body, x.shape[1:], name=f"conv{i + 1}")
        x = b.or_pool(x, (2, 2), name=f"pool{i + 1}")
    x = b.flatten(x)
    for i, width in enumerate((1280 * k, 640 * k, 320 * k)):
        x = _random_dense(b, x, width, ops, rng, f"dense{i + 1}")
    return b.build(b.group_sum(x, 10, _CIFAR_TAU.get(k, 20.0), name="score"))


def random_tree_body(
    in_channels: int,
    kernels: int,
    *,
    padding: int = 1,
    groups: int = 1,
    ops: npt.NDArray[np.integer] = TWO_INPUT_OPS,
    rng: np.random.Generator,
) -> Body:
    """Return kernels that are depth-3 trees of random gates over random cells of 3x3 windows."""
    leaves = random_leaves(in_channels, kernels, groups=groups, rng=rng)
    taps = np.concatenate([np.zeros_like(leaves[..., :1]), leaves], axis=-1)
    taps[..., 2:] -= padding
    return tree_body(taps, OP_TABLES[rng.choice(ops, size=(kernels, leaves.shape[1] - 1))])


def _random_dense(
    b: GraphBuilder,
    x: Value,
    width: int,
    ops: npt.NDArray[np.integer],
    rng: np.random.Generator,
    name: str,
) -> Value:
    table = OP_TABLES[rng.choice(ops, size=width)]
    return b.logic([x], dense_body(x.size, even_wiring(x.size, width, rng), table), name=name)
