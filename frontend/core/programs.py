"""Programs in files: what torch.export saves, and ONNX models of standard operators."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lgir.errors import FormatError


def read_program(path: Path, *, allow_pickle: bool) -> Any:
    """Return the torch.export.ExportedProgram in a .pt2 file, whose reader unpickles.

    Raises FormatError unless the caller allows that, or if the file is none.
    """
    if not allow_pickle:
        raise FormatError(
            f"{path}: an exported program (.pt2) keeps no layers, and reading it unpickles, which "
            "runs code that the file chooses; lift the module that was exported or its "
            "state_dict, or pass allow_pickle=True if you trust where the file is from"
        )
    try:
        import torch

        return torch.export.load(path)
    except Exception as error:  # torch raises any kind on a damaged file
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise FormatError(f"{path}: not a readable program of torch.export ({reason})") from error


def read_onnx(data: bytes, name: str) -> Any:
    """Return the onnx.ModelProto in a file, whose initializers must be in it.

    Raises FormatError if it is none, or has operators beside the standard ones.
    """
    from google.protobuf.message import DecodeError
    from onnx import ModelProto

    model = ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError:
        raise FormatError(f"{name}: truncated, corrupt or no ONNX file") from None
    if {entry.domain for entry in model.opset_import} - {"", "ai.onnx"} or not model.graph.node:
        raise FormatError(
            f"{name}: holds no model of standard operators; if lgir.save wrote it, read it with "
            "lgir.load"
        )
    if any(tensor.data_location for tensor in model.graph.initializer):
        raise FormatError(f"{name}: keeps its tensors in other files; save them in one")
    return model
