"""A block program in this process: kernels are compiled and records linked as calls need them."""

from __future__ import annotations

from lgir.backends.llvm.avx512.executable_memory import ExecutableMemory
from lgir.backends.llvm.block_program import BlockProgram
from lgir.backends.llvm.jit import CompiledFunctions
from lgir.backends.llvm.object_cache import ObjectCache
from lgir.backends.llvm.records import RecordArray, StepRecord, link_records
from lgir.backends.llvm.run_loop import RunLoop
from lgir.backends.llvm.steps.step_kind import CallForm
from lgir.backends.llvm.target import Target


class LinkedProgram:
    """Compiled kernels and linked records; safe to use from many threads.

    Args:
        first: the form of a call whose kernels are compiled at once.

    Attributes:
        program: what was compiled.
        run_loop: the function that runs linked records.
    """

    def __init__(
        self, program: BlockProgram, target: Target, cache: ObjectCache | None, first: CallForm
    ) -> None:
        self.program = program
        self._target = target
        self._cache = cache
        self._memory = ExecutableMemory(program.code) if len(program.code) else None
        self._functions: list[CompiledFunctions] = []
        self._addresses: dict[str, int] = {}
        self._linked: dict[CallForm, RecordArray] = {}
        self.records(first)
        self.run_loop = RunLoop(self._addresses["lgir_run"])

    @property
    def compiled_kernels(self) -> int:
        """The number of kernels so far that the cache did not have."""
        return sum(len(functions.compiled) for functions in self._functions)

    def records(self, call: CallForm) -> RecordArray:
        """Return the linked records of a call."""
        if call not in self._linked:
            self._linked.setdefault(call, self.link(self.program.sequence(call)))
        return self._linked[call]

    def link(self, steps: list[StepRecord]) -> RecordArray:
        """Return linked records of steps, which must outlive them; compile kernels that are new."""
        kernels = self.program.kernels
        missing = [name for name in kernels.names if name not in self._addresses]
        if missing:
            modules = {name: kernels.module(name) for name in missing}
            functions = CompiledFunctions(modules, self._target, self._cache)
            self._functions.append(functions)  # which holds the code
            self._addresses |= {name: functions.address(name.strip('"')) for name in missing}
        code = self._memory.address if self._memory else 0
        return link_records(steps, self._addresses, code)
