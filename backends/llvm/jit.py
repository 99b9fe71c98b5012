"""From LLVM text to callable addresses, through llvmlite: code generation and MCJIT.

LLVM's middle-end passes are not run; docs/design/llvm.md says why.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final

import llvmlite
import llvmlite.binding as llvm

from lgir.backends.llvm.object_cache import ObjectCache
from lgir.backends.llvm.target import Target, initialize_native
from lgir.errors import BackendError
from lgir.version import __version__

_OPT_LEVEL: Final = 2


class CompiledFunctions:
    """Compiled functions. Their addresses are valid as long as this object lives.

    Each function is object code by itself, taken from the cache or compiled and put there.
    Compiling in threads does not pay, since llvmlite holds a lock during every call.

    Args:
        modules: LLVM text by the name of the function that it defines.

    Attributes:
        compiled: the names of functions that the cache did not have.

    Raises:
        BackendError: LLVM rejects the text.
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
        """Return the address of a function, by its name without quotes."""
        return int(self._engine.get_function_address(name))


def assembly(text: str, target: Target) -> str:
    """Return the assembly text of a module."""
    machine = _machine(target)
    return str(machine.emit_assembly(_parse(text, machine)))


def _machine(target: Target) -> Any:
    initialize_native()
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
    """Return a hash of all that object code depends on."""
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
