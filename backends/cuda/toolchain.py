"""Device code from CUDA source, by NVRTC if the package cuda-bindings is installed, or by nvcc.

Neither needs a GPU or a driver. Only the kernels are compiled, under their plain names.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import Any, Final, Literal

from lgir.errors import BackendError
from lgir.files import temporary_folder, write_atomically

CodeStage = Literal["ptx", "cubin"]

_ARCH_NAME: Final = re.compile(r"sm_\d+[af]?")
_OLDEST_ARCH: Final = 80
_MOST_MESSAGE_CHARACTERS: Final = 500


def check_arch(arch: str) -> str:
    """Return `arch`.

    Raises:
        BackendError: `arch` names no architecture that the kernels are written for.
    """
    if not _ARCH_NAME.fullmatch(arch) or int(re.sub(r"\D", "", arch)) < _OLDEST_ARCH:
        raise BackendError(f"arch {arch!r} must be sm_80 or newer, for example sm_90")
    return arch


def compile_kernels(source: str, arch: str, stage: CodeStage) -> bytes:
    """Return the kernels of `source` as PTX text that ends in a zero byte, or as a cubin.

    Args:
        arch: the architecture, such as "sm_90".

    Raises:
        BackendError: there is no compiler, or it refuses the source or the architecture.
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
    """Return the module cuda.bindings.nvrtc, or None if it cannot be used."""
    try:
        from cuda.bindings import nvrtc

        nvrtc.nvrtcVersion()
    except (ImportError, RuntimeError, OSError):  # the package or NVRTC's library is missing
        return None
    return nvrtc


def _with_nvrtc(nvrtc: Any, source: str, arch: str, stage: CodeStage) -> bytes:
    def check(outcome: tuple[Any, ...], program: Any = None) -> Any:
        """Return the result of a call, or raise its error with the program's log."""
        error, *results = outcome
        if error != nvrtc.nvrtcResult.NVRTC_SUCCESS:
            _, name = nvrtc.nvrtcGetErrorString(error)
            log = "" if program is None else f" ({_nvrtc_log(nvrtc, program)})"
            raise BackendError(f"NVRTC cannot compile for {arch}: {name.decode()}{log}")
        return results[0] if results else None

    target = arch if stage == "cubin" else arch.replace("sm_", "compute_")
    options = [f"--gpu-architecture={target}".encode(), b"--std=c++17"]
    program = check(nvrtc.nvrtcCreateProgram(source.encode(), b"model.cu", 0, [], []))
    try:
        check(nvrtc.nvrtcCompileProgram(program, len(options), options), program)
        if stage == "cubin":
            code = bytes(check(nvrtc.nvrtcGetCUBINSize(program)))
            check(nvrtc.nvrtcGetCUBIN(program, code))
        else:
            code = bytes(check(nvrtc.nvrtcGetPTXSize(program)))
            check(nvrtc.nvrtcGetPTX(program, code))
        return code  # the bindings have written into it
    finally:
        nvrtc.nvrtcDestroyProgram(program)


def _nvrtc_log(nvrtc: Any, program: Any) -> str:
    _, size = nvrtc.nvrtcGetProgramLogSize(program)
    text = bytes(size)  # the bindings write into it
    nvrtc.nvrtcGetProgramLog(program, text)
    return _one_line(text.rstrip(b"\0").decode())


def _one_line(messages: str) -> str:
    return " ".join(messages.split())[:_MOST_MESSAGE_CHARACTERS]


def _with_nvcc(nvcc: str, source: str, arch: str, stage: CodeStage) -> bytes:
    with temporary_folder() as folder:
        path, result = folder / "model.cu", folder / "model.out"
        write_atomically(path, source.encode())
        command = [nvcc, f"-{stage}", f"-arch={arch}", "-std=c++17", "-O3", "-DLGIR_KERNELS_ONLY"]
        process = subprocess.run(
            [*command, "-o", str(result), str(path)], capture_output=True, text=True, check=False
        )
        if process.returncode != 0:
            reason = _one_line(process.stderr or process.stdout)
            raise BackendError(f"nvcc cannot compile for {arch}: {reason}")
        return result.read_bytes()
