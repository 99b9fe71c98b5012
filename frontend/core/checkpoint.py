"""Reading checkpoint files, and the one form every frontend sees: a `Source`.

PyTorch files are read with `weights_only=True` and safetensors by their own reader, so that no
file runs code; a pickled module is loaded only on request. Tensors become numpy arrays here, so
that the frontends need no torch.
"""

from __future__ import annotations

import pickle
import re
import warnings
from argparse import Namespace
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from typing import Any, Final

import numpy as np

from lgir.errors import FormatError, LgirError, LiftError

_NESTED: Final = ("state_dict", "model_state_dict", "model")
"""Where training scripts and Lightning keep the state_dict within a checkpoint."""

_SCALARS: Final = (str, int, float, np.number, np.bool_)

_TORCHSCRIPT: Final = (
    "TorchScript does not keep the layers' arguments; lift the module that was scripted, or its "
    "state_dict with an architecture"
)

_BAD_GLOBAL: Final = re.compile(r"(?:GLOBAL|global:?) (?:GLOBAL )?([\w]+\.[\w.]+)")


@dataclass(frozen=True)
class Source:
    """What a frontend lifts.

    Attributes:
        label: how messages call it: a file's name or a module's class.
        module: the live module, where there is one.
        state: state_dict key -> numpy array (anything that is no tensor stays as it is).
        notes: the checkpoint's other scalars (epoch, accuracy, hyper-parameters), as text.
    """

    label: str
    module: Any = None
    state: Mapping[str, Any] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)


def source_of(model: Any, *, allow_pickle: bool = False) -> Source:
    """A module, a state_dict, or the path of a checkpoint file as a `Source`.

    Raises FormatError for a file that cannot be read, LiftError for any other kind of object.
    """
    if isinstance(model, str | Path):
        path = Path(model)
        return _source(read_checkpoint(path, allow_pickle=allow_pickle), path.name)
    return _source(model, "state_dict" if isinstance(model, Mapping) else type(model).__name__)


def _source(loaded: Any, label: str) -> Source:
    loaded = getattr(loaded, "_orig_mod", loaded)  # what torch.compile wraps
    if callable(getattr(loaded, "state_dict", None)):
        if any("ScriptModule" in kind.__name__ for kind in type(loaded).__mro__):
            raise LiftError(f"{label}: {_TORCHSCRIPT}")
        return Source(label, module=loaded, state=to_numpy(loaded.state_dict()))
    if callable(loaded):
        return Source(getattr(loaded, "__name__", label), module=loaded)
    if not isinstance(loaded, Mapping):
        raise LiftError(
            f"{label}: a {type(loaded).__name__} is no model; give a torch module, a state_dict "
            "or the path of a checkpoint"
        )
    key = _network_key(loaded, label)
    if key is None:
        return Source(label, state=to_numpy(loaded))
    inner = _source(loaded[key], label)
    return replace(inner, notes={**_notes(loaded), **inner.notes})


def _network_key(checkpoint: Mapping[Any, Any], label: str) -> Any | None:
    """Where in a training script's checkpoint the network is; None: the checkpoint is it."""
    inner = {
        key: value
        for key, value in checkpoint.items()
        if callable(getattr(value, "state_dict", None)) or isinstance(value, Mapping)
    }
    for key in _NESTED:
        if key in inner:
            return key
    states = [
        key
        for key, value in inner.items()
        if not isinstance(value, Mapping) or (value and all(map(_is_tensor, value.values())))
    ]
    if len(states) > 1:
        raise LiftError(
            f"{label}: holds several state_dicts ({', '.join(map(str, states))}); give one of "
            f"them, such as torch.load(...)[{states[0]!r}]"
        )
    return states[0] if states else None


def _is_tensor(value: Any) -> bool:
    return isinstance(value, np.ndarray) or callable(getattr(value, "detach", None))


def _notes(checkpoint: Mapping[str, Any]) -> dict[str, str]:
    settings = checkpoint.get("hyper_parameters")
    scalars = {**checkpoint, **(settings if isinstance(settings, Mapping) else {})}
    return {str(k): str(v) for k, v in scalars.items() if isinstance(v, _SCALARS)}


def to_numpy(state: Mapping[Any, Any]) -> dict[str, Any]:
    """Tensors as numpy arrays; other values unchanged."""
    return {str(key): array_of(value) for key, value in state.items()}


def array_of(value: Any) -> Any:
    """A torch tensor as a numpy array; anything else as it is.

    Precision is kept, for near ties; bfloat16 and 8-bit floats, which numpy lacks, become float32.
    """
    if not callable(getattr(value, "detach", None)):
        return value
    if value.is_meta:
        raise LiftError("the model is on torch's meta device and has no weights; load them first")
    tensor = value.detach().cpu()
    if tensor.is_floating_point() and tensor.dtype.itemsize not in (4, 8):
        tensor = tensor.half() if str(tensor.dtype) == "torch.float16" else tensor.float()
    return np.asarray(tensor.numpy())


def read_checkpoint(path: Path, *, allow_pickle: bool = False) -> Any:
    """Whatever a .pt, .pth, .ckpt or .safetensors file holds; told apart by content.

    Raises FormatError where the file is missing, truncated, corrupt, of another format, or would
    run code when loaded.
    """
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except OSError as error:
        raise FormatError(f"{path}: cannot be read ({error.strerror})") from error
    if head[8:9] == b"{":
        return _read_safetensors(path)
    if head[:4] == b"PK\x03\x04" or head[:1] == b"\x80":
        return _read_torch(path, allow_pickle)
    if not head:
        raise FormatError(f"{path}: the file is empty")
    hint = "; read it with lgir.load" if path.suffix == ".onnx" else ""
    raise FormatError(f"{path}: not a PyTorch (.pt, .pth, .ckpt) or safetensors checkpoint{hint}")


def _read_safetensors(path: Path) -> Any:
    try:
        from safetensors import SafetensorError
        from safetensors.numpy import load_file
    except ImportError as error:
        raise FormatError(f"{path}: needs the safetensors package; pip install safetensors") from (
            error
        )
    try:
        return _bfloat16_file(path) or load_file(path)
    except (SafetensorError, KeyError, ValueError, TypeError, OSError) as error:
        raise FormatError(f"{path}: truncated or corrupt safetensors file ({error})") from error


def _bfloat16_file(path: Path) -> Any | None:
    """The tensors of a file that holds bfloat16, which numpy lacks and torch has; else None."""
    from safetensors import safe_open

    with safe_open(path, framework="np") as file:
        kinds = {file.get_slice(key).get_dtype() for key in file.keys()}  # noqa: SIM118
    if kinds.isdisjoint(("BF16", "F8_E4M3", "F8_E5M2")):
        return None
    try:
        from safetensors.torch import load_file
    except ImportError as error:
        raise FormatError(
            f"{path}: holds {', '.join(sorted(kinds))}, and reading that needs torch; save the "
            "tensors as float32"
        ) from error
    return load_file(path)


def _read_torch(path: Path, allow_pickle: bool) -> Any:
    try:
        import torch
    except ImportError as error:
        raise FormatError(
            f"{path}: reading a PyTorch checkpoint needs torch; pip install 'lgir[torch]', or "
            "save the state_dict as safetensors"
        ) from error
    try:
        with _harmless_classes(torch):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        refused = error
    except Exception as error:  # torch raises any kind on a damaged file
        if "TorchScript" in str(error):
            raise FormatError(f"{path}: {_TORCHSCRIPT}") from error
        raise FormatError(
            f"{path}: truncated or corrupt PyTorch file ({_first_sentence(error)}); save it again"
        ) from error
    if not allow_pickle:
        found = _BAD_GLOBAL.search(str(refused))
        what = f"a pickled {found[1]}" if found else "pickled objects"
        raise FormatError(
            f"{path}: holds {what}, and unpickling runs code that the file chooses; save "
            "model.state_dict() instead, or pass allow_pickle=True if you trust where it is from"
        ) from refused
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


def _harmless_classes(torch: Any) -> AbstractContextManager[None]:
    """Lets `weights_only` read what scripts keep beside the weights and what runs no code: numpy
    numbers as accuracies, paths, and parsed arguments.
    """
    if not hasattr(torch.serialization, "safe_globals"):  # before torch 2.5
        return nullcontext()
    scalar = np.float64(0).__reduce__()[0]
    names = [(scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]
    kinds = [type(np.dtype(kind)) for kind in "?bBhHiIlLqQefd"]
    found: AbstractContextManager[None] = torch.serialization.safe_globals(
        [*names, np.dtype, *dict.fromkeys(kinds), Namespace, type(Path()), type(PurePath())]
    )
    return found


def _first_sentence(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].split(". ")[0].rstrip(".")
