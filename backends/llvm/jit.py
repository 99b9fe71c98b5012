"""From LLVM text to callable addresses, through llvmlite: targets, code generation, MCJIT.

LLVM's middle-end passes are not run: kernels are written as they should be, and the passes took
more than half of the compile time to change no measurable speed.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import llvmlite
import llvmlite.binding as llvm

from lgir.backends.llvm.cache import ObjectCache
from lgir.errors import BackendError, unknown_name

_X86_TARGETS: Final = {
    "generic": "x86-64",
    "avx2": "x86-64-v3",
    "avx512": "x86-64-v4",
}
TARGETS: Final = ("native", *_X86_TARGETS)
_OPT_LEVEL: Final = 2
_AVX512_NEEDS: Final = (
    "sse3", "ssse3", "sse4.1", "sse4.2", "avx", "avx2", "f16c", "fma", "avx512f", "avx512bw",
)  # fmt: skip
"""Features without which LLVM drops AVX-512."""
_BASIC: Final = ("-sse", "-sse2", "-64bit", "+soft-float")
"""Flags that leave x86-64 without its floats or itself: LLVM ends the process, or rounds twice."""


@dataclass(frozen=True)
class Target:
    """A CPU to generate code for: LLVM's cpu name and feature string."""

    cpu: str
    features: str

    @property
    def ternary(self) -> bool:
        """Whether it has AVX-512 (`vpternlog`, mask registers)."""
        flags = set(self.features.split(","))
        if flags & {f"-{name}" for name in _AVX512_NEEDS}:
            return False
        return self.cpu == "x86-64-v4" or {"+avx512f", "+avx512bw"} <= flags

    @property
    def vector_bits(self) -> int:
        """Bits of its widest registers."""
        if self.ternary:
            return 512
        flags = self.features.split(",")
        wide = self.cpu in ("x86-64-v3", "x86-64-v4") or "+avx2" in flags
        return 256 if wide and not {"-avx", "-avx2"} & set(flags) else 128

    @property
    def permutes(self) -> int:
        """Bits of the lanes that an instruction permutes between two 512-bit registers, 8 or 16; 0
        where there is none.
        """
        if not self.ternary:
            return 0
        return 8 if "+avx512vbmi" in self.features.split(",") else 16


@cache
def _initialise() -> None:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()


def resolve_target(name: str, features: str = "") -> Target:
    """The target called `name`, with LLVM features such as "-avx512f" appended.

    Raises UnknownNameError for another name and BackendError where this machine cannot run it or
    `check_features` refuses a feature.
    """
    check_features(features)
    _initialise()
    if name not in TARGETS:
        raise unknown_name("target", name, TARGETS)
    host = llvm.get_host_cpu_features()
    if name == "native":
        base = Target(llvm.get_host_cpu_name(), host.flatten())
    else:
        needs = {"avx512": "avx512vl", "avx2": "avx2"}.get(name)
        if not llvm.get_process_triple().startswith("x86_64") or (needs and not host.get(needs)):
            raise BackendError(
                f"target {name!r} needs an x86-64 CPU{f' with {needs}' if needs else ''}, which "
                "this machine is not; use target='native'"
            )
        base = Target(_X86_TARGETS[name], "")
    joined = ",".join(filter(None, [base.features, features]))
    # A later flag wins in LLVM, and takes with it what depends on it.
    flags: dict[str, str] = {}
    for flag in filter(None, joined.split(",")):
        flags.pop(flag[1:], None)
        flags[flag[1:]] = flag[0]
    return Target(base.cpu, ",".join(sign + flag for flag, sign in flags.items()))


def check_features(features: str) -> None:
    """BackendError for flags that end the process in LLVM: without a sign, or of `_BASIC`."""
    for flag in filter(None, features.split(",")):
        if not re.fullmatch(r"[+-][\w.-]+", flag):
            raise BackendError(
                f"feature {flag!r} must be a name after + (with it) or - (without it); flags are "
                "separated by commas alone, as '-avx512f,+gfni'"
            )
        if flag in _BASIC:
            raise BackendError(f"feature {flag!r} takes away what every x86-64 CPU has")


class Functions:
    """Compiled functions; keep it alive as long as their addresses are used.

    Each is object code by itself, from the cache or compiled and put there. Compiling in threads
    does not pay: llvmlite holds a lock during every call.

    Args:
        modules: LLVM text by the name of the function that it defines.

    Attributes:
        compiled: names of those that the cache did not have.
    """

    def __init__(
        self, modules: Mapping[str, str], target: Target, cache: ObjectCache | None = None
    ) -> None:
        machine = _machine(target)
        self.compiled: list[str] = []
        self._engine: Any = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
        for name, text in modules.items():
            key = _key(text, target)
            code = cache.get(key) if cache else None
            if code is None:
                code = bytes(machine.emit_object(_parse(text, machine)))
                self.compiled.append(name)
                if cache:
                    cache.put(key, code)
            self._engine.add_object_file(llvm.ObjectFileRef.from_data(code))
        self._engine.finalize_object()

    def address(self, name: str) -> int:
        return int(self._engine.get_function_address(name))


def assembly(text: str, target: Target) -> str:
    """The machine's text of a module."""
    machine = _machine(target)
    return str(machine.emit_assembly(_parse(text, machine)))


def _machine(target: Target) -> Any:
    _initialise()
    return llvm.Target.from_triple(llvm.get_process_triple()).create_target_machine(
        cpu=target.cpu, features=target.features, opt=_OPT_LEVEL, jit=True
    )


def _parse(text: str, machine: Any) -> Any:
    try:
        module = llvm.parse_assembly(text)
        module.verify()
    except RuntimeError as error:
        raise BackendError(f"LLVM rejects the generated code: {error}") from error
    module.triple = machine.triple
    module.data_layout = str(machine.target_data)
    return module


def _key(text: str, target: Target) -> str:
    """A hash of all that object code depends on."""
    from lgir.version import __version__

    parts = [
        __version__,
        llvmlite.__version__,
        ".".join(map(str, llvm.llvm_version_info)),
        llvm.get_process_triple(),
        str(_OPT_LEVEL),
        target.cpu,
        target.features,
        text,
    ]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
