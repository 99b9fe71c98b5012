"""Doors of checkpoints and lifting: files, state_dicts, descriptions, arrays and options."""

from __future__ import annotations

import functools
import io
import json
import pickle
import struct
import warnings
import zipfile
from collections import OrderedDict, defaultdict
from random import Random
from types import SimpleNamespace
from typing import Any

import numpy as np

import lgir
from fuzz.door import Case, door, mutated, written
from lgir.frontend import Dense, Flatten, OrPool, TreeConv, describe, from_arrays

WIRES = [([0, 1, 0, 1], [1, 0, 1, 2])]
OPTIONS = {"indices": WIRES, "groups": 2}
"""What lifting a state_dict of one layer of four gates needs."""


def hostile_values(rng: Random) -> Any:
    """Draw a value that no option, size or tensor should be."""
    return rng.choice(_HOSTILE)(rng)


def _self_containing(rng: Random) -> Any:
    value: dict[str, Any] = {}
    value[rng.choice(("a", "model", "state_dict", "layers"))] = value
    return value


def _deep(rng: Random) -> Any:
    value: Any = []
    for _ in range(rng.choice((10, 100, 2000))):
        value = [value]
    return value


_HOSTILE = (
    lambda rng: None,
    lambda rng: rng.choice((-1, 0, 1, 2, 3, 2**31 - 1, 2**31, 2**40, 2**63, 2**64, 10**400)),
    lambda rng: 10**5000,
    lambda rng: rng.choice((0.5, 1.5, -0.0, 1e300, float("inf"), float("-inf"), float("nan"))),
    lambda rng: rng.choice((True, False, 1j, b"x", "", "x", "a\0b", "\ud800", "a\nb\x1b[2J")),
    lambda rng: "9" * 5000,
    lambda rng: rng.choice(([], [1], [1, 2, 3], (2, 2), [None], [[0, 1]], {}, {"type": "Flatten"})),
    lambda rng: [2**31 - 1] * 3,
    lambda rng: np.array(rng.choice((1.0, "x", None))),
    lambda rng: np.zeros(rng.choice(((0,), (1,), (3,), (2, 2), (4, 16), (0, 16)))),
    lambda rng: np.full(4, np.nan),
    lambda rng: np.arange(4, dtype=rng.choice((np.int8, np.uint64, object))),
    lambda rng: SimpleNamespace(state_dict=print, detach=print, modules=print),
    lambda rng: object(),
    _self_containing,
    _deep,
)


@functools.cache
def _torch_files() -> list[bytes]:
    """Return files of both forms, of several protocols, with other values beside the weights."""
    import torch

    weights = torch.randn(4, 16, generator=torch.Generator().manual_seed(0))
    beside = {
        "numbers": np.arange(3.0),
        "history": defaultdict(list, a=[1]),
        "order": OrderedDict(a=np.float32(1)),
    }
    files = []
    for content in (
        {"0.weights": weights},
        {"model": {"0.weights": weights}, **beside},
        {"0.weights": weights.bfloat16().T.contiguous().T},
        {"0.weights": weights.to_sparse()},
    ):
        for options in (
            {},
            {"pickle_protocol": 4},
            {"_use_new_zipfile_serialization": False},
        ):
            buffer = io.BytesIO()
            torch.save(content, buffer, **options)
            files.append(buffer.getvalue())
    return files


@functools.cache
def _safetensors_file() -> bytes:
    tensor = {"dtype": "F32", "shape": [4, 16], "data_offsets": [0, 256]}
    header = json.dumps({"0.weights": tensor}).encode()
    return struct.pack("<Q", len(header)) + header + struct.pack("<64f", *range(64))


@door("torch-file")
def torch_file(rng: Random) -> Case:
    """Draw a damaged .pt file."""
    number = rng.randrange(len(_torch_files()))
    data = mutated(_torch_files()[number], rng)
    path = written(data, "net.pt")
    return f".pt number {number} of {len(data)} bytes", lambda: lgir.lift(path, **OPTIONS)


@door("safetensors-file")
def safetensors_file(rng: Random) -> Case:
    """Draw a damaged .safetensors file."""
    data = mutated(_safetensors_file(), rng)
    path = written(data, "net.safetensors")
    return f".safetensors of {data[:200]!r}", lambda: lgir.lift(path, **OPTIONS)


_OPCODES = b"(.0123NRabcdehjlopqrstu}]){QGJKMUX" + bytes(range(0x80, 0x99))

_NAMES = (
    b"collections OrderedDict", b"collections defaultdict", b"torch._utils _rebuild_tensor_v2",
    b"torch FloatStorage", b"numpy._core.multiarray _reconstruct", b"numpy ndarray", b"os system",
    b"numpy dtype", b"numpy._core.multiarray scalar", b"torch._utils _rebuild_sparse_tensor",
    b"builtins bytearray", b"torch._tensor _rebuild_from_type_v2", b"argparse Namespace",
    b"torch.serialization _get_layout", b"_codecs encode", b"builtins eval",
)  # fmt: skip


@door("pickle")
def pickle_program(rng: Random) -> Case:
    """Draw a .pt archive whose pickle is a random program."""
    program = bytearray(b"\x80\x02")
    for _ in range(rng.randint(1, 60)):
        kind = rng.random()
        if kind < 0.2:
            program += b"c" + rng.choice(_NAMES).replace(b" ", b"\n") + b"\n"
        elif kind < 0.5:
            plain = rng.choice(
                (1, 2**40, "0", "f4", (2, 2), (), {}, [], None, 1.5, "latin1", b"ab")
            )
            program += pickle.dumps(plain, 2)[2:-1]
        else:
            program.append(rng.choice(_OPCODES))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("net/data.pkl", bytes(program) + b".")
        archive.writestr("net/data/0", bytes(64))
    path = written(buffer.getvalue(), "net.pt")
    return f"pickle {bytes(program)!r}", lambda: lgir.lift(path, **OPTIONS)


_KEYS = ("0.weights", "1.weights", "model.0.weights", "0.weight", "0.luts", "0.mapping",
    "0.selection", "0.indices_0", "0.indices_1", "0.connections.indices",
    "0.connections._indices_L0",
    "0.tree_weights.0", "0.thresholds", "0.raw_diffs", "_extra_state", "n_averaged", "model",
    "state_dict", "hyper_parameters", "0" * 50 + ".weights", "." * 40,
    "\ud800", "²3.weights", "net.²3.luts",
)  # fmt: skip


def _tensor(rng: Random) -> Any:
    import torch

    shape = rng.choice(
        ((4, 16), (4, 4), (2, 4), (4,), (8, 8), (2, 3, 4, 2, 3), (1, 4, 16), (0, 16))
    )
    tensor = torch.randint(-3, 3, shape, generator=torch.Generator().manual_seed(rng.randrange(99)))
    make = rng.choice(
        (
            lambda: tensor,
            lambda: tensor.float(),
            lambda: tensor.float().to_sparse(),
            lambda: tensor.half(),
            lambda: tensor.bfloat16(),
            lambda: tensor.to(torch.complex64).conj(),
            lambda: torch.quantize_per_tensor(tensor.float(), 0.1, 0, torch.qint8),
            lambda: torch.nested.nested_tensor([torch.zeros(1), torch.zeros(2)]),
            lambda: tensor.float().to("meta"),
            lambda: torch.nn.Parameter(tensor.float()),
            lambda: torch.nn.UninitializedParameter(),
            lambda: tensor.float().numpy(),
            lambda: tensor.float().unsqueeze(0).expand(3, *tensor.shape),
            lambda: tensor.float() * 1e38 * 1e38,
        )
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some kinds of tensors are deprecated
        return make()


@door("state-dict")
def state_dict(rng: Random) -> Case:
    """Draw a state_dict of odd keys and values, to be lifted or described."""
    state: Any = {}
    for _ in range(rng.randint(1, 5)):
        key = rng.choice(_KEYS) if rng.random() < 0.9 else rng.choice((3, None, 10**5000, ("a",)))
        state[key] = _tensor(rng) if rng.random() < 0.8 else hostile_values(rng)
    if rng.random() < 0.3:
        state = {rng.choice(("model", "net", "state_dict")): state, "epoch": hostile_values(rng)}
    if rng.random() < 0.3:
        return "describe a state_dict", lambda: describe(state, rng.choice((None, (1, 4, 4))))
    framework = rng.choice((None, "difflogic", "torchlogix", "convlogic", "torch-dwn", "lgir"))
    options = {"framework": framework} if framework else {}
    if rng.random() < 0.5:
        options["input_shape"] = rng.choice(((4,), (1, 4, 4)))
    return f"state_dict for {framework}", lambda: lgir.lift(state, **options)


@door("lift-options")
def lift_options(rng: Random) -> Case:
    """Draw options of `lgir.lift` that are of wrong kinds and sizes."""
    names = (
        "framework", "thresholds", "threshold_dtype", "check", "allow_pickle", "indices", "groups",
        "tau", "seed", "connections", "seed_device", "architecture", "input_shape", "name", "model",
        "input_dtype",
    )  # fmt: skip
    options: dict[str, Any] = dict(OPTIONS)
    for name in rng.sample(names, rng.randint(1, 3)):
        options[name] = hostile_values(rng)
    model = options.pop("model", {"0.weights": np.eye(4, 16)})
    if rng.random() < 0.3 and "indices" in options:
        options["seed"], options["input_shape"] = rng.choice((3, 10**400, 1.5)), (4,)
    return f"options {sorted(options)}", lambda: lgir.lift(model, **options)


_TYPES = (
    "LogicDense", "LogicConv2d", "LogicConv3d", "LogicConvTranspose2d", "OrPooling2d", "GroupSum",
    "Flatten", "FixedBinarization", "LearnableBinarization", "LogicLayer", "ConvLogicLayer",
    "TreeLogicLayer", "PoolLogicLayer", "LUTLayer", "Identity",
)  # fmt: skip
_ARGUMENTS = (
    "key", "in_dim", "k", "tau", "beta", "padding", "stride", "kernel_size", "kernel",
    "feature_dim", "receptive_field_size", "channels", "parametrization", "complete",
    "start_dim", "input_size",
)  # fmt: skip


@door("architecture")
def architecture(rng: Random) -> Case:
    """Draw a description, as JSON or as a dict, beside a state_dict that fits some of it."""
    layers: list[Any] = []
    for _ in range(rng.randint(1, 4)):
        entry: dict[str, Any] = {"type": rng.choice(_TYPES)}
        for name in rng.sample(_ARGUMENTS, rng.randint(0, 4)):
            entry[name] = rng.choice((0, 1, 2, 10, "0", [2, 2])) if rng.random() < 0.6 else None
            if entry[name] is None:
                entry[name] = hostile_values(rng)
        inside = rng.choice(("", "2", "2, 2", "9" * 5000, "(" * 300, "a=1", "-" * 999))
        call = f"{entry['type']}({inside})"
        layers.append(call if rng.random() < 0.2 else entry)
    described: Any = {"layers": layers, "input": {"shape": rng.choice(([4], [1, 8, 8], None))}}
    if rng.random() < 0.2:
        described["input"] = hostile_values(rng)
    if rng.random() < 0.4:
        text = json.dumps(described, default=repr) if not _cyclic(described) else '{"layers":[' * 9
        described = written(mutated(text.encode(), rng), "net.json")
    state = {rng.choice(_KEYS): _tensor(rng) for _ in range(3)}
    framework = rng.choice(("difflogic", "torchlogix", "convlogic", "torch-dwn"))
    options: dict[str, Any] = {"indices": WIRES} if framework == "difflogic" else {}
    return f"architecture for {framework}", lambda: lgir.lift(
        state, framework=framework, architecture=described, **options
    )


def _cyclic(value: Any) -> bool:
    try:
        json.dumps(value, default=repr)
    except (ValueError, RecursionError):
        return True
    return False


@door("arrays")
def arrays(rng: Random) -> Case:
    """Draw layers of `from_arrays` with arguments of wrong kinds and sizes."""

    def some(good: Any) -> Any:
        return good if rng.random() < 0.7 else hostile_values(rng)

    def layer() -> Any:
        return rng.choice(
            (
                lambda: Dense(indices=some([[0, 1], [2, 3]]), ops=some([1, 2])),
                lambda: Dense(indices=some([[0, 1]]), truth=some([[0, 1, 1, 0]])),
                lambda: Dense(indices=some([[0, 1]]), tables=some([8]), first_input=some("least")),
                lambda: Dense(indices=some([[0, 1]]), logits=some(np.eye(1, 16))),
                lambda: TreeConv(
                    leaves=some(np.zeros((1, 2, 3), int)), ops=some([[1]]), window=some((2, 2)),
                    stride=some((1, 1)), padding=some((0, 0)), fanin=some(2),
                ),
                lambda: OrPool(some((2, 2)), some((2, 2)), some((0, 0))),
                Flatten,
                lambda: hostile_values(rng),
            )
        )()  # fmt: skip

    layers = some([layer() for _ in range(rng.randint(1, 3))])
    options: dict[str, Any] = {"input_shape": some(rng.choice(((4,), (1, 4, 4))))}
    for name in rng.sample(
        ("groups", "tau", "beta", "thresholds", "threshold_dtype", "name", "metadata"), 2
    ):
        options[name] = hostile_values(rng) if rng.random() < 0.5 else 1
    return f"layers {type(layers)!s}", lambda: from_arrays(layers, **options)
