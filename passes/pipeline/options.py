"""Options of passes: typed by the pass's signature, and listed with their defaults.

The options of a pass are the parameters after the graph. Text spells them with hyphens,
`max-size=4` for `max_size`. Their types are int, float, bool or str.
"""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from lgir.errors import ParseError
from lgir.registry import PASSES

_LONGEST_NUMBER: Final = 40  # characters
_TYPES: Final[dict[str, type]] = {"int": int, "float": float, "bool": bool, "str": str}


@dataclass(frozen=True)
class PassOption:
    """One option of a pass.

    Attributes:
        name: the name of the parameter.
        kind: int, float, bool or str.
        required: whether the option has no default.
        default: the default, None if the option is required.
    """

    name: str
    kind: type
    required: bool
    default: Any

    @property
    def spelling(self) -> str:
        """The name as text spells it."""
        return self.name.replace("_", "-")

    def __str__(self) -> str:
        kind = self.kind.__name__
        return kind if self.required else f"{kind} = {spell_value(self.default)}"


@dataclass(frozen=True)
class PassInfo:
    """A pass as `lgir passes` lists it: its one-line doc and its options with their defaults."""

    name: str
    doc: str
    options: Mapping[str, str]


def list_passes() -> list[PassInfo]:
    """Return every registered pass, in the order of their names."""
    return [
        PassInfo(
            name,
            _summary(name, function),
            {option.spelling: str(option) for option in pass_options(function).values()},
        )
        for name, function in PASSES.items()
    ]


def _summary(name: str, function: Callable[..., Any]) -> str:
    aliases = [other for other, item in PASSES.items() if item is function]
    own_name = getattr(function, "__name__", "").replace("_", "-")
    if name != own_name and own_name in aliases:
        return f"Another name of {own_name}."
    return (inspect.getdoc(function) or "").partition("\n")[0]


def pass_options(function: Callable[..., Any]) -> dict[str, PassOption]:
    """Return the options of a pass by the names of their parameters."""
    try:
        signature = inspect.signature(function, eval_str=True)
    except NameError:  # An annotation may name what is imported for type checkers only.
        signature = inspect.signature(function)
    keywords = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {
        name: _option(parameter)
        for name, parameter in list(signature.parameters.items())[1:]
        if parameter.kind in keywords
    }


def _option(parameter: inspect.Parameter) -> PassOption:
    required = parameter.default is parameter.empty
    default = None if required else parameter.default
    annotation = _TYPES.get(parameter.annotation, parameter.annotation)
    kind = next((kind for kind in (annotation, type(default)) if kind in _TYPES.values()), str)
    return PassOption(parameter.name, kind, required, default)


def read_options(
    pass_name: str, function: Callable[..., Any], texts: Iterable[tuple[str, str]]
) -> dict[str, Any]:
    """Return a pass's options from pairs of name and value as text spells them.

    Raises:
        ParseError: an option is unknown, has a value of another type, or is missing.
    """
    known = pass_options(function)
    values: dict[str, Any] = {}
    for name, text in texts:
        option = known.get(name.replace("-", "_"))
        if option is None:
            raise _unknown_option(pass_name, name, [o.spelling for o in known.values()])
        values[option.name] = _read_value(pass_name, name, text, option.kind)
    for option in known.values():
        if option.required and option.name not in values:
            raise ParseError(f"pass {pass_name!r} needs the option {option.spelling}")
    return values


def _unknown_option(pass_name: str, name: str, spellings: list[str]) -> ParseError:
    near = difflib.get_close_matches(name, spellings, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    listed = ", ".join(spellings) or "none"
    return ParseError(f"pass {pass_name!r} has no option {name!r}{hint} (options: {listed})")


def _read_value(pass_name: str, name: str, text: str, kind: type) -> Any:
    try:
        if kind is bool:
            return {"true": True, "false": False}[text.lower()]
        if kind is str:
            return text.strip('"')
        if len(text) > _LONGEST_NUMBER:  # Python refuses to read thousands of digits
            raise ValueError
        return kind(text)
    except (ValueError, KeyError):
        expected = "true or false" if kind is bool else f"of type {kind.__name__}"
        raise ParseError(f"pass {pass_name!r}: option {name}={text} must be {expected}") from None


def spell_value(value: Any) -> str:
    """Return a value as text spells it; `read_options` reads it back."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return value if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9-]*", value) else f'"{value}"'
    return str(value)
