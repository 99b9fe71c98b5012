"""Device code from CUDA source: NVRTC where the cuda-bindings package is installed, otherwise nvcc.

Neither needs a GPU or a driver. Only the kernels are compiled, under their plain names.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Final, Literal

from lgir.errors import BackendError

Stage = Literal["ptx", "cubin"]

_ARCH: Final = re.compile(r"sm_\d+[af]?")
_OLDEST: Final = 80


def check_arch(arch: str) -> str:
    """`arch` if it names an architecture that the kernels are written for; else BackendError."""
    if not _ARCH.fullmatch(arch) or int(re.sub(r"\D", "", arch)) < _OLDEST:
        raise BackendError(f"arch {arch!r} must be sm_80 or newer, for example sm_90")
    return arch


def compile_kernels(source: str, arch: str, stage: Stage) -> bytes:
    """The kernels of `source` as PTX text or as a cubin for `arch`, such as "sm_90".

    Raises:
        BackendError: no compiler is at hand, or it refuses the source or the architecture.
    """
    check_arch(arch)
    nvrtc = _nvrtc()
    if nvrtc is not None:
        return _with_nvrtc(nvrtc, source, arch, stage)
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        raise BackendError(
            f"no compiler for {stage}: pip install 'lgir[cuda]' (NVRTC), or put nvcc on the PATH"
        )
    return _with_nvcc(nvcc, source, arch, stage)


def _nvrtc() -> Any:
    """cuda.bindings.nvrtc if it can be used, otherwise None."""
    try:
        from cuda.bindings import nvrtc

        nvrtc.nvrtcVersion()
    except (ImportError, RuntimeError, OSError):  # not installed, or without its library
        return None
    return nvrtc


def _with_nvrtc(nvrtc: Any, source: str, arch: str, stage: Stage) -> bytes:
    def call(function: Any, *args: Any) -> Any:
        error, *results = function(*args)
        if error != nvrtc.nvrtcResult.NVRTC_SUCCESS:
            _, name = nvrtc.nvrtcGetErrorString(error)
            raise BackendError(f"NVRTC cannot compile for {arch}: {name.decode()}{log()}")
        return results[0] if results else None

    def log() -> str:
        if program is None:
            return ""
        _, size = nvrtc.nvrtcGetProgramLogSize(program)
        text = bytes(size)  # the bindings write into it
        nvrtc.nvrtcGetProgramLog(program, text)
        words = text.rstrip(b"\0").decode().split()
        return f" ({' '.join(words)[:500]})"

    program = None
    program = call(nvrtc.nvrtcCreateProgram, source.encode(), b"model.cu", 0, [], [])
    try:
        target = arch if stage == "cubin" else arch.replace("sm_", "compute_")
        options = [f"--gpu-architecture={target}".encode(), b"--std=c++17"]
        call(nvrtc.nvrtcCompileProgram, program, len(options), options)
        size_of, get = (
            (nvrtc.nvrtcGetCUBINSize, nvrtc.nvrtcGetCUBIN)
            if stage == "cubin"
            else (nvrtc.nvrtcGetPTXSize, nvrtc.nvrtcGetPTX)
        )
        code = bytes(call(size_of, program))  # the bindings write into it
        call(get, program, code)
        return code
    finally:
        nvrtc.nvrtcDestroyProgram(program)


def _with_nvcc(nvcc: str, source: str, arch: str, stage: Stage) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path, result = Path(folder) / "model.cu", Path(folder) / "model.out"
        path.write_text(source, encoding="utf-8")
        command = [nvcc, f"-{stage}", f"-arch={arch}", "-std=c++17", "-O3", "-DLGIR_KERNELS_ONLY"]
        done = subprocess.run(
            [*command, "-o", str(result), str(path)], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            reason = " ".join((done.stderr or done.stdout).split())[:500]
            raise BackendError(f"nvcc cannot compile for {arch}: {reason}")
        return result.read_bytes()
