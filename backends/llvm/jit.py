"""From LLVM text to callable addresses, through llvmlite: targets, code generation, MCJIT.

LLVM's middle-end passes are not run: kernels are written as they should be, and the passes took
more than half of the compile time to change no measurable speed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import llvmlite.binding as llvm

from lgir.errors import BackendError, unknown_name

_X86_TARGETS: Final = {
    "generic": "x86-64",
    "avx2": "x86-64-v3",
    "avx512": "x86-64-v4",
}
TARGETS: Final = ("native", *_X86_TARGETS)


@dataclass(frozen=True)
class Target:
    """A CPU to generate code for: LLVM's cpu name and feature string."""

    cpu: str
    features: str

    @property
    def ternary(self) -> bool:
        """Whether it has AVX-512 (`vpternlog`, mask registers)."""
        if self.cpu == "x86-64-v4":
            return "-avx512f" not in self.features
        return "+avx512f" in self.features and "+avx512bw" in self.features


@cache
def _initialise() -> None:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()


def resolve_target(name: str, features: str = "") -> Target:
    """The target called `name`, with LLVM features such as "-avx512f" appended.

    Raises UnknownNameError for another name and BackendError where this machine cannot run it.
    """
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


class Module:
    """Compiled functions; keep it alive as long as their addresses are used."""

    def __init__(self, text: str, target: Target, opt_level: int = 2) -> None:
        _initialise()
        self.target = target
        try:
            module = llvm.parse_assembly(text)
            module.verify()
        except RuntimeError as error:
            raise BackendError(f"LLVM rejects the generated code: {error}") from error
        machine = llvm.Target.from_triple(llvm.get_process_triple()).create_target_machine(
            cpu=target.cpu, features=target.features, opt=opt_level, jit=True
        )
        module.triple = machine.triple
        self._module, self._machine = module, machine
        self._engine: Any = llvm.create_mcjit_compiler(module, machine)
        self._engine.finalize_object()

    def address(self, name: str) -> int:
        return int(self._engine.get_function_address(name))

    def assembly(self) -> str:
        return str(self._machine.emit_assembly(self._module))
