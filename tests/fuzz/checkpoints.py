"""Doors of checkpoints: files of PyTorch and safetensors, state_dicts, descriptions, options."""

from __future__ import annotations

import functools
import io
import json
import struct
from random import Random

import lgir
from fuzz.door import Case, door, mutated, written

OPTIONS = {"indices": [([0, 1, 0, 1], [1, 0, 1, 2])], "groups": 2}
"""What lifting the files of `_torch_file` and `_safetensors_file` needs."""


@functools.cache
def _torch_file(legacy: bool) -> bytes:
    import torch

    buffer = io.BytesIO()
    state = {"0.weights": torch.randn(4, 16, generator=torch.Generator().manual_seed(0))}
    torch.save(state, buffer, _use_new_zipfile_serialization=not legacy)
    return buffer.getvalue()


@functools.cache
def _safetensors_file() -> bytes:
    tensor = {"dtype": "F32", "shape": [4, 16], "data_offsets": [0, 256]}
    header = json.dumps({"0.weights": tensor}).encode()
    return struct.pack("<Q", len(header)) + header + struct.pack("<64f", *range(64))


@door("torch-file")
def torch_file(rng: Random) -> Case:
    """Draw a damaged .pt file, in the form of a zip archive or in the legacy form."""
    legacy = rng.random() < 0.5
    data = mutated(_torch_file(legacy), rng)
    path = written(data, "net.pt")
    return f".pt of {len(data)} bytes, legacy={legacy}", lambda: lgir.lift(path, **OPTIONS)


@door("safetensors-file")
def safetensors_file(rng: Random) -> Case:
    """Draw a damaged .safetensors file."""
    data = mutated(_safetensors_file(), rng)
    path = written(data, "net.safetensors")
    return f".safetensors of {data[:200]!r}", lambda: lgir.lift(path, **OPTIONS)
