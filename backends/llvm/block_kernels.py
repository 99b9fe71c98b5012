"""The kernels of a program: LLVM functions by name, written when a step first needs them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lgir.backends.llvm.llvm_text import module_text


class BlockKernels:
    """LLVM text of functions that do not call each other.

    A name is written as LLVM's text has it, some in quotes.
    """

    def __init__(self, *, ternary: bool) -> None:
        self._ternary = ternary
        self._functions: dict[str, str] = {}

    def add(self, name: str, text: str) -> None:
        """Add the function `name`, whose definition is `text`."""
        self._functions[name] = text

    def use(self, name: str, write: Callable[..., str], *args: Any) -> str:
        """Return `name`, whose text is `write(name, *args, ternary=...)`.

        The text is written once, so equal names must mean equal arguments.
        """
        if name not in self._functions:
            self._functions[name] = write(name, *args, ternary=self._ternary)
        return name

    @property
    def names(self) -> list[str]:
        """The names of all functions, in the order in which they were needed."""
        return list(self._functions)

    @property
    def text(self) -> str:
        """The text of one module with all functions."""
        return self.text_with()

    def text_with(self, attributes: str = "") -> str:
        """Return the text of one module with all functions, which have further `attributes`."""
        functions = list(self._functions.values())
        return module_text(functions, ternary=self._ternary, attributes=attributes)

    def module(self, name: str) -> str:
        """Return the text of a module with that function alone."""
        return module_text([self._functions[name]], ternary=self._ternary)
