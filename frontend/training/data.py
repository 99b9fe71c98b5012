"""The data that networks are trained on: files of arrays, tensors of images, random changes."""

from __future__ import annotations

import io
import lzma
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lgir.errors import FormatError


@dataclass(frozen=True)
class Dataset:
    """Images uint8 (N, C, H, W) and labels int64 (N,)."""

    x: Tensor
    y: Tensor

    def __len__(self) -> int:
        return len(self.y)


def load_array(folder: str | Path, name: str) -> npt.NDArray[Any]:
    """Read `<name>.npy`, `<name>.npy.xz`, or the parts `<name>_0.npy.xz`, `<name>_1...` joined.

    Raises FormatError if there is none, or one cannot be read.
    """
    folder = Path(folder)
    for suffix in (".npy", ".npy.xz"):
        whole = folder / f"{name}{suffix}"
        parts = [whole] if whole.exists() else []
        while not whole.exists() and (part := folder / f"{name}_{len(parts)}{suffix}").exists():
            parts.append(part)
        if parts:
            return np.concatenate([_read_array(part) for part in parts])
    raise FormatError(f"{folder}: has no {name}.npy, {name}.npy.xz or {name}_0.npy.xz")


def _read_array(path: Path) -> npt.NDArray[Any]:
    try:
        data = path.read_bytes()
        if path.suffix == ".xz":
            data = lzma.decompress(data)
        array: npt.NDArray[Any] = np.load(io.BytesIO(data), allow_pickle=False)
    except (OSError, ValueError, EOFError, lzma.LZMAError) as error:
        raise FormatError(f"{path}: cannot be read ({error})") from error
    return array


def dataset(x: npt.NDArray[Any], y: npt.NDArray[Any]) -> Dataset:
    """Return images (N, H, W) or (N, H, W, C) uint8 as tensors (N, C, H, W), labels as int64."""
    images = x[:, None] if x.ndim == 3 else np.moveaxis(x, -1, 1)
    return Dataset(
        torch.from_numpy(np.ascontiguousarray(images)), torch.from_numpy(y.astype(np.int64))
    )


def augmented(images: Tensor, shift: int, flip: bool, generator: torch.Generator) -> Tensor:
    """Return the images (N, C, H, W), each moved and mirrored at random as `Recipe` says."""
    if flip:
        mirrored = torch.rand(len(images), generator=generator) < 0.5
        images = torch.where(mirrored[:, None, None, None], images.flip(3), images)
    if shift:
        height, width = images.shape[2:]
        padded = torch.nn.functional.pad(images, (shift,) * 4)
        top, left = torch.randint(2 * shift + 1, (2, len(images), 1, 1, 1), generator=generator)
        rows = (top + torch.arange(height)[:, None]).expand(-1, images.shape[1], -1, 1)
        moved = padded.gather(2, rows.expand(-1, -1, -1, padded.shape[3]))
        columns = (left + torch.arange(width)).expand(-1, images.shape[1], height, -1)
        images = moved.gather(3, columns)
    return images
