"""Names from files reach terminals, tables and errors as text, and nothing else."""

from __future__ import annotations

import pickle

import pytest
from click.testing import CliRunner
from rich.console import Console

import lgir
from lgir.cli import main
from lgir.errors import (
    LONGEST_MESSAGE,
    FormatError,
    LgirError,
    UnknownNameError,
    did_you_mean,
)
from lgir.printable import escape_markup, printable

NAMES = ["[/]", "[red]x[/red]", "a\x1b[2Jb", "\u202eabc", "a\nb", "a\\", "\x00", "%s {x}"]


def named(name: str) -> lgir.Graph:
    b = lgir.GraphBuilder(name)
    x = b.input(f"x{name}", "bit", (4,))
    return b.build(b.add(lgir.GroupSum(2), [x], name=name))


@pytest.mark.parametrize("name", NAMES)
def test_commands_show_names_as_text(name, tmp_path):
    path = str(tmp_path / "net.onnx")
    lgir.save(named(name), path)
    for words in (["dump", "--summary"], ["dump"], ["verify", path], ["bench", "-b", "reference"]):
        extra = ["--no-torch", "--samples", "64", "--repeats", "1"] if words[0] == "bench" else []
        result = CliRunner().invoke(main, [*words, path, *extra])
        assert result.exit_code == 0, result.output
        assert not {"\x1b", "\u202e", "\x00"} & set(result.output)


@pytest.mark.parametrize("name", [name for name in NAMES if not name.endswith("\\")])
def test_markup_stands_for_itself(name):
    console = Console(width=80, color_system=None)
    with console.capture() as text:
        console.print(escape_markup(name))
    assert text.get() == f"{printable(name)}\n"


def test_errors_are_one_line_that_fits_a_screen():
    error = FormatError("a\n  b\x1b[2J\u202ec")
    assert str(error) == "a b\\x1b[2J\\u202ec"
    long = FormatError(f"begin {'x' * 1_000_000} end")
    assert len(str(long)) <= LONGEST_MESSAGE
    assert str(long).startswith("begin xxx")
    assert " ... " in str(long)
    assert str(long).endswith("xxx end")
    assert str(LgirError(str(long))) == str(long)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    assert str(UnknownNameError("a\tb")) == "a b"
    assert did_you_mean("x" * 10_000_000, ["x" * 1000]) == ""
