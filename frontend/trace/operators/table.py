"""The dispatch table of operators: ATen name -> what it does to symbolic tensors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from lgir.frontend.trace.context import Context


@dataclass(frozen=True)
class Call:
    """One call of an operator.

    Attributes:
        name: without overload, such as "add".
        target: the torch operator, for running it on tables and indices.
        args, kwargs: with symbolic tensors in them.
        result: a tensor of torch's meta device, or a tuple, with shape and dtype of the result.
    """

    name: str
    target: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    result: Any

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(int(n) for n in self.result.shape)

    def argument(self, place: int, name: str, default: Any = None) -> Any:
        return self.args[place] if len(self.args) > place else self.kwargs.get(name, default)


Handler = Callable[[Context, Call], Any]

HANDLERS: Final[dict[str, Handler]] = {}


def handles(*names: str) -> Callable[[Handler], Handler]:
    """Decorator: the function is what the operators of these names do."""

    def add(handler: Handler) -> Handler:
        HANDLERS.update(dict.fromkeys(names, handler))
        return handler

    return add
