"""Read checkpoint files into the one form that every frontend sees: a `Source`.

PyTorch and safetensors files are read as data, by readers of this package that call nothing which a
file names; a pickled module is loaded only on request. Tensors become numpy arrays here, so that
the frontends need no torch.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from lgir.errors import FormatError, LgirError, LiftError
from lgir.files import read_file
from lgir.frontend.core.pickles import UnknownGlobalError
from lgir.frontend.core.programs import read_onnx, read_program
from lgir.frontend.core.safetensors_file import read_safetensors
from lgir.frontend.core.torch_file import TORCHSCRIPT, read_torch_file

MOST_BYTES: Final = 1 << 36
"""Bytes of the largest checkpoint that is read. All of it is held in memory."""

_NESTED: Final = ("state_dict", "model_state_dict", "model")
"""Where training scripts and Lightning keep the state_dict within a checkpoint."""

_MOST_NESTED: Final = 8
"""Checkpoints within checkpoints; a dict may contain itself."""

_SCALARS: Final = (str, int, float, np.number, np.bool_)

_LONGEST_INTEGER: Final = 256
"""Bits of the largest integer that is kept as a note; longer ones take long to print."""

_MOST_DENSE: Final = 1 << 31
"""Elements of the largest sparse tensor that is made dense."""


@dataclass(frozen=True)
class Source:
    """Hold what a frontend lifts.

    Attributes:
        label: its name in messages: that of a file, or of a module's class.
        module: the live module, or None.
        state: state_dict key -> numpy array; what is no tensor stays as it is.
        notes: the checkpoint's other scalars (epoch, accuracy, hyper-parameters), as text.
    """

    label: str
    module: Any = None
    state: Mapping[str, Any] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)


def source_of(model: Any, *, allow_pickle: bool = False) -> Source:
    """Return a module, a state_dict, or the content of a checkpoint file as a `Source`.

    Raises:
        FormatError: the file cannot be read.
        LiftError: the object is of another kind, or its tensors hold no numbers.
    """
    if isinstance(model, str | Path):
        path = Path(model)
        return _source(read_checkpoint(path, allow_pickle=allow_pickle), path.name)
    return _source(model, "state_dict" if isinstance(model, Mapping) else type(model).__name__)


def _source(loaded: Any, label: str) -> Source:
    notes: dict[str, str] = {}
    for _ in range(_MOST_NESTED):
        if _is_module(loaded):
            return _source_of_module(loaded, label, notes)
        if callable(loaded) or type(loaded).__name__ in ("ExportedProgram", "ModelProto"):
            return Source(getattr(loaded, "__name__", label), module=loaded, notes=notes)
        if not isinstance(loaded, Mapping):
            raise LiftError(
                f"{label}: a {type(loaded).__name__} is no model; give a torch module, a "
                "state_dict or the path of a checkpoint"
            )
        key = _network_key(loaded, label)
        if key is None:
            return Source(label, state=to_numpy(loaded), notes=notes)
        notes |= _notes(loaded)
        loaded = loaded[key]
    raise LiftError(f"{label}: nests checkpoints more than {_MOST_NESTED} deep")


def _source_of_module(module: Any, label: str, notes: Mapping[str, str]) -> Source:
    module = getattr(module, "_orig_mod", module)  # what torch.compile wraps
    if any("ScriptModule" in kind.__name__ for kind in type(module).__mro__):
        raise LiftError(f"{label}: {TORCHSCRIPT}")
    try:
        state = module.state_dict()
    except Exception as error:  # hooks of the module may raise any kind
        raise LiftError(
            f"{label}: its state_dict() fails ({type(error).__name__}: {error})"
        ) from error
    return Source(label, module=module, state=to_numpy(state), notes=notes)


def _network_key(checkpoint: Mapping[Any, Any], label: str) -> Any | None:
    """Return the key of the network in a training script's checkpoint; None if it is the network.

    Raises LiftError if several of its values could be the network.
    """
    inner = {
        key: value
        for key, value in checkpoint.items()
        if _is_module(value) or isinstance(value, Mapping)
    }
    for key in _NESTED:
        if key in inner:
            return key
    states = [
        key
        for key, value in inner.items()
        if _is_module(value) or (value and all(map(_is_tensor, value.values())))
    ]
    if len(states) > 1:
        raise LiftError(
            f"{label}: holds several state_dicts ({', '.join(map(str, states[:9]))}); give one of "
            f"them, such as torch.load(...)[{states[0]!r}]"
        )
    return states[0] if states else None


def _is_module(value: Any) -> bool:
    # By its class alone: the attributes of an object from a file may be anything.
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.nn.Module)


def _is_torch_tensor(value: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def _is_tensor(value: Any) -> bool:
    return isinstance(value, np.ndarray) or _is_torch_tensor(value)


def _notes(checkpoint: Mapping[Any, Any]) -> dict[str, str]:
    settings = checkpoint.get("hyper_parameters")
    scalars = {**checkpoint, **(settings if isinstance(settings, Mapping) else {})}
    return {
        _text(key): _text(value)
        for key, value in scalars.items()
        if isinstance(key, str) and isinstance(value, _SCALARS) and not _is_long(value)
    }


def _is_long(value: Any) -> bool:
    return isinstance(value, int) and value.bit_length() > _LONGEST_INTEGER


def _text(value: Any) -> str:
    """Return text that can be written to any file; lone surrogates become question marks."""
    return str(value).encode("utf-8", "replace").decode()


def to_numpy(state: Mapping[Any, Any]) -> dict[str, Any]:
    """Return a state_dict with its tensors as numpy arrays; entries without a name are left out."""
    return {key: array_of(value) for key, value in state.items() if isinstance(key, str)}


def array_of(value: Any) -> Any:
    """Return a tensor as a numpy array, and anything else as it is.

    Precision is kept, for near ties. Bfloat16 and 8-bit floats, which numpy lacks, become float32;
    sparse tensors become dense, and quantized ones the numbers that they stand for.

    Raises:
        LiftError: the tensor holds no numbers, or they have no array.
    """
    if isinstance(value, np.ndarray):
        return np.asarray(value)
    if not _is_torch_tensor(value):
        return value
    try:
        return _array_of_tensor(value)
    except LiftError:
        raise
    except Exception as error:  # torch raises any kind for kinds of tensors without data
        raise LiftError(
            f"a {type(value).__name__} of the model cannot be read ({type(error).__name__}: "
            f"{_first_sentence(error)}); give ordinary tensors"
        ) from error


def _array_of_tensor(value: Any) -> np.ndarray[Any, Any]:
    if value.is_meta:
        raise LiftError("the model is on torch's meta device and has no weights; load them first")
    if value.is_nested:
        raise LiftError("the model holds nested tensors, which are no weights; give ordinary ones")
    tensor = value.detach().cpu()
    if tensor.is_quantized:
        tensor = tensor.dequantize()
    if str(tensor.layout) != "torch.strided":
        if tensor.numel() > _MOST_DENSE:
            raise LiftError(
                f"a sparse tensor of {tuple(tensor.shape)} is too large to be made dense"
            )
        tensor = tensor.to_dense()
    tensor = tensor.resolve_conj().resolve_neg()
    if tensor.is_floating_point() and tensor.dtype.itemsize not in (4, 8):
        tensor = tensor.half() if str(tensor.dtype) == "torch.float16" else tensor.float()
    return np.asarray(tensor.numpy())


def read_checkpoint(path: Path, *, allow_pickle: bool = False) -> Any:
    """Return what a .pt, .pth, .ckpt or .safetensors file holds, with tensors as numpy arrays.

    Kinds of files are told apart by their content.

    Raises:
        FormatError: the file is missing, truncated, corrupt, of another format, or would run code
            when it is loaded.
    """
    if path.suffix == ".pt2":
        return read_program(path, allow_pickle=allow_pickle)
    data = read_file(path, MOST_BYTES)
    if path.suffix == ".onnx" and data:
        return read_onnx(data, str(path))
    if data[8:9] == b"{":
        return read_safetensors(data, str(path))
    if data[:4] == b"PK\x03\x04" or data[:1] == b"\x80":
        try:
            return read_torch_file(data, str(path))
        except UnknownGlobalError as error:
            return _unpickled(path, error, allow_pickle)
    if not data:
        raise FormatError(f"{path}: the file is empty")
    if data[257:262] == b"ustar":
        raise FormatError(
            f"{path}: a tar archive, as torch wrote before 0.2; load it with torch and save the "
            "state_dict again"
        )
    raise FormatError(f"{path}: not a PyTorch (.pt, .pth, .ckpt) or safetensors checkpoint")


def _unpickled(path: Path, refused: UnknownGlobalError, allow_pickle: bool) -> Any:
    """Return what torch unpickles, if the user allows that the file runs code."""
    if not allow_pickle:
        raise FormatError(
            f"{path}: holds a pickled {refused.name}, and unpickling runs code that the file "
            "chooses; save model.state_dict() instead, or pass allow_pickle=True if you trust "
            "where it is from"
        ) from refused
    try:
        import torch
    except ImportError as error:
        raise FormatError(
            f"{path}: holds a pickled {refused.name}, and loading that needs torch; pip install "
            "'lgir[torch]'"
        ) from error
    warnings.warn(
        f"{path}: unpickling runs code that the file chooses (allow_pickle=True)", stacklevel=2
    )
    try:
        return torch.load(path, map_location="cpu", weights_only=False)
    except LgirError:
        raise
    except Exception as error:  # whatever the pickled classes raise
        raise FormatError(
            f"{path}: cannot be unpickled ({_first_sentence(error)}); the packages that define the "
            "module must be installed"
        ) from error


def _first_sentence(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].split(". ")[0].rstrip(".")
