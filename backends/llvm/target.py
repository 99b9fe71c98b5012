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
X86_LEVELS: Final = ("x86-64", "x86-64-v3", "x86-64-v4")
_SYSTEMS: Final = {"macos": "apple-macosx11.0.0", "windows": "pc-windows-gnu"}
"""The other parts of a triple, by operating system."""
_AOT_CPUS: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    **{level: ("x86_64", (level,)) for level in X86_LEVELS},
    "aarch64": ("aarch64", ("generic",)),
}
"""Architecture and LLVM's names of the CPUs, by target."""
_PORTABLE_CPUS: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "x86-64": ("x86_64", X86_LEVELS),
    "aarch64": ("aarch64", ("generic",)),
}
_AOT_ALIASES: Final = {"generic": "x86-64", "avx2": "x86-64-v3", "avx512": "x86-64-v4"}
PORTABLE: Final = "portable"
AOT_TARGETS: Final = (
    PORTABLE,
    *TARGETS,
    *_AOT_CPUS,
    *(f"{machine}-{system}" for system in _SYSTEMS for machine in _PORTABLE_CPUS),
)
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


@dataclass(frozen=True)
class AotTarget:
    """What a library is compiled for.

    Attributes:
        triple: machine and system, as LLVM and C compilers name them.
        levels: the CPUs that there is code for, from the least to the best.
    """

    triple: str
    levels: tuple[Target, ...]

    @property
    def is_x86(self) -> bool:
        """Whether CPUID tells what a CPU has."""
        return self.triple.startswith("x86_64")

    @property
    def system(self) -> str:
        """The operating system: "macos", "windows", or "linux" for all that have ELF files."""
        for system, rest in _SYSTEMS.items():
            if rest.split("-")[1].rstrip(".0123456789") in self.triple:
                return system
        return "macos" if "darwin" in self.triple else "linux"


def resolve_aot_target(name: str, features: str = "") -> AotTarget:
    """Return the target called `name`, which may be another machine.

    "portable" is this machine's architecture, with all levels of x86-64 if it is that.

    Raises:
        UnknownNameError: there is no such target.
        BackendError: `check_features` refuses a feature.
    """
    host = llvm.get_process_triple()
    name = _AOT_ALIASES.get(name, name)
    machine = host.split("-")[0].replace("arm64", "aarch64")
    rest = "-".join(host.split("-")[1:])
    if name == "native" or (name == PORTABLE and machine not in ("x86_64", "aarch64")):
        return AotTarget(host, (resolve_target("native", features),))
    cpus = _AOT_CPUS
    if name == PORTABLE:
        name, cpus = machine.replace("_", "-"), _PORTABLE_CPUS
    elif name.endswith(tuple(f"-{system}" for system in _SYSTEMS)):
        machine, _, system = name.rpartition("-")
        if machine in _PORTABLE_CPUS:
            name, cpus, rest = machine, _PORTABLE_CPUS, _SYSTEMS[system]
    if name not in cpus:
        raise unknown_name("target", name, AOT_TARGETS)
    check_features(features)
    architecture, names = cpus[name]
    levels = tuple(Target(cpu, features) for cpu in names)
    return AotTarget("-".join([architecture, rest]), levels)
