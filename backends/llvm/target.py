"""Targets: the CPUs to generate code for, as LLVM names them and their features."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Final

import llvmlite.binding as llvm

from lgir.errors import BackendError, unknown_name

_X86_TARGETS: Final = {
    "generic": "x86-64",
    "avx2": "x86-64-v3",
    "avx512": "x86-64-v4",
}
TARGETS: Final = ("native", *_X86_TARGETS)
_AOT_CPUS: Final = {
    "x86-64": ("x86_64", "x86-64"),
    "x86-64-v3": ("x86_64", "x86-64-v3"),
    "x86-64-v4": ("x86_64", "x86-64-v4"),
    "aarch64": ("aarch64", "generic"),
}
"""Architecture and LLVM's name of the CPU, by target."""
_AOT_ALIASES: Final = {"generic": "x86-64", "avx2": "x86-64-v3", "avx512": "x86-64-v4"}
AOT_TARGETS: Final = (*TARGETS, *_AOT_CPUS)
_AVX512_NEEDS: Final = (
    "sse3", "ssse3", "sse4.1", "sse4.2", "avx", "avx2", "f16c", "fma", "avx512f", "avx512bw",
)  # fmt: skip
"""Features without which LLVM drops AVX-512."""
_BASE_FEATURE_FLAGS: Final = ("-sse", "-sse2", "-64bit", "+soft-float")
"""Flags that take floats or 64 bits from x86-64: LLVM then ends the process, or rounds twice."""


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
        """The bits of its widest registers."""
        if self.ternary:
            return 512
        flags = self.features.split(",")
        wide = self.cpu in ("x86-64-v3", "x86-64-v4") or "+avx2" in flags
        return 256 if wide and not {"-avx", "-avx2"} & set(flags) else 128

    @property
    def permutes(self) -> int:
        """The bits of lanes that an instruction permutes between two 512-bit registers.

        They are 8 or 16, or 0 if there is no such instruction.
        """
        if not self.ternary:
            return 0
        return 8 if "+avx512vbmi" in self.features.split(",") else 16


@cache
def initialize_native() -> None:
    """Initialize LLVM's code generation for this machine, once."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()


def resolve_target(name: str, features: str = "") -> Target:
    """Return the target called `name`, with LLVM features such as "-avx512f" appended.

    Raises:
        UnknownNameError: there is no such target.
        BackendError: this machine cannot run it, or `check_features` refuses a feature.
    """
    check_features(features)
    initialize_native()
    if name not in TARGETS:
        raise unknown_name("target", name, TARGETS)
    host = llvm.get_host_cpu_features()
    if name == "native":
        base = Target(llvm.get_host_cpu_name(), host.flatten())
    else:
        needed = {"avx512": "avx512vl", "avx2": "avx2"}.get(name)
        if not llvm.get_process_triple().startswith("x86_64") or (needed and not host.get(needed)):
            raise BackendError(
                f"target {name!r} needs an x86-64 CPU{f' with {needed}' if needed else ''}, which "
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
    """Refuse feature flags that would end the process in LLVM.

    Raises:
        BackendError: a flag has no sign, or takes away what every x86-64 CPU has.
    """
    for flag in filter(None, features.split(",")):
        if not re.fullmatch(r"[+-][\w.-]+", flag):
            raise BackendError(
                f"feature {flag!r} must be a name after + (with it) or - (without it); flags are "
                "separated by commas alone, as '-avx512f,+gfni'"
            )
        if flag in _BASE_FEATURE_FLAGS:
            raise BackendError(f"feature {flag!r} takes away what every x86-64 CPU has")


def resolve_aot_target(name: str, features: str = "") -> tuple[str, Target]:
    """Return the triple and the target called `name`, which may be another machine.

    Raises:
        UnknownNameError: there is no such target.
        BackendError: `check_features` refuses a feature.
    """
    host = llvm.get_process_triple()
    name = _AOT_ALIASES.get(name, name)
    if name == "native":
        return host, resolve_target(name, features)
    if name not in _AOT_CPUS:
        raise unknown_name("target", name, AOT_TARGETS)
    check_features(features)
    architecture, cpu = _AOT_CPUS[name]
    return "-".join([architecture, *host.split("-")[1:]]), Target(cpu, features)
