"""What commands share: consoles, model arguments, and output files that appear whole or not at all.

Rich is imported where it prints, so that `lgir --help` and pipes stay quick.
"""

from __future__ import annotations

import ast
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import wraps
from inspect import Parameter, signature
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from lgir.errors import BackendError, FormatError, LgirError

if TYPE_CHECKING:
    from rich.console import Console

    from lgir.executable import Executable
    from lgir.graph import Graph

PIPED_WIDTH = 160


def console(*, stderr: bool = False) -> Console:
    """A rich console on the current stdout or stderr; wide enough for any table when piped."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    return Console(file=stream, highlight=False, width=None if stream.isatty() else PIPED_WIDTH)


def note(message: str) -> None:
    """A diagnostic line on stderr."""
    click.echo(message, err=True)


@contextmanager
def status(message: str) -> Iterator[Callable[[str], None]]:
    """A spinner on stderr while something takes time, silent where stderr is not a terminal.

    Yields a function that changes the message.
    """
    if sys.stderr.isatty():
        with console(stderr=True).status(message) as spinner:
            yield spinner.update
    else:
        yield lambda message: None


def print_json(data: Any) -> None:
    click.echo(json.dumps(data, indent=2))


def json_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")(
        command
    )


def load_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--load FILE.py`: user code that registers passes, run before the command looks for them."""

    def load(ctx: click.Context, param: click.Parameter, paths: tuple[str, ...]) -> None:
        if ctx.resilient_parsing:
            return
        for path in paths:
            from lgir.passes.pipeline import load_passes

            load_passes(path)

    return click.option(
        "--load",
        "load",
        multiple=True,
        expose_value=False,
        callback=load,
        metavar="FILE.py",
        help="Run a Python file that registers passes (repeatable).",
    )(command)


@dataclass(frozen=True)
class ModelSource:
    """Where a command's models come from: `--net`, or the first of its positional arguments."""

    net: str | None = None
    seed: int = 0
    settings: dict[str, Any] = field(default_factory=dict)

    def open(self, files: Sequence[str], missing: str) -> tuple[Graph, list[str]]:
        """The model and the arguments after it. UsageError with `missing` if there is none."""
        if self.net is not None:
            from lgir.zoo import build_net

            return build_net(self.net, self.seed), list(files)
        if not files:
            raise click.UsageError(missing)
        return read_model(files[0], **self.settings), list(files[1:])


def model_source(command: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator: adds `--net`, `--seed`, `--set`, and hands them over as one `source`."""

    @click.option("--net", metavar="NAME", help="A random network, for example dense-6x8000.")
    @click.option("--seed", type=int, default=0, show_default=True, help="Seed of --net.")
    @click.option(
        "--set",
        "settings",
        multiple=True,
        metavar="KEY=VALUE",
        help="What a checkpoint does not say by itself, for example tau=10 (repeatable).",
    )
    @wraps(command)
    def with_source(*args: Any, net: str, seed: int, settings: tuple[str, ...], **kw: Any) -> Any:
        source = ModelSource(net, seed, dict(_parse_setting(s) for s in settings))
        return command(*args, source=source, **kw)

    return with_source


def _parse_setting(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise click.UsageError(f"--set takes KEY=VALUE, not {text!r}")
    try:
        return key, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return key, value  # a bare word is a string


def read_model(path: str, **settings: Any) -> Graph:
    """A graph from a .onnx container, text IR, stdin (`-`, text) or anything a frontend lifts.

    Raises FormatError, ParseError or LiftError where the content is not what it should be, and
    OSError where the file cannot be read.
    """
    import lgir

    if path == "-":
        return lgir.parse(sys.stdin.read())
    if path.endswith(".onnx"):
        return lgir.load(path)
    with open(path, "rb") as file:  # also: a missing file is an OSError, whoever lifts it
        head = file.read(64)
    if path.endswith(".lgir") or head.lstrip().startswith(b"lgir "):
        try:
            return lgir.parse(Path(path).read_text(encoding="utf-8"))
        except UnicodeDecodeError as error:
            raise FormatError(f"{path}: not text ({error.reason} at byte {error.start})") from None
    return lgir.lift(path, **settings)


def write_model(graph: Graph, path: str) -> None:
    """`graph` as a .onnx container, as .lgir text, or as text on stdout (`-`)."""
    import lgir

    if path == "-":
        click.echo(lgir.dumps(graph, full=True), nl=False)
    elif path.endswith(".onnx"):
        with atomic_path(path) as part:
            lgir.save(graph, part)
    elif path.endswith(".lgir"):
        with atomic_path(path) as part:
            part.write_text(lgir.dumps(graph, full=True), encoding="utf-8")
    else:
        raise LgirError(f"cannot tell the format of {path!r}; end it in .onnx or .lgir, or give -")


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A path to write to; what is there on success replaces `path` in one step.

    A killed or failing command so leaves the old file or none. Devices and pipes are written to
    directly.
    """
    target = Path(path)
    if target.exists() and not target.is_file():
        yield target
        return
    part = target.with_name(f".{os.getpid()}.{target.name}")  # the suffix stays: writers read it
    try:
        yield part
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def text_output(path: str | None) -> Iterator[IO[str]]:
    """A text stream to `path`, written atomically, or stdout where it is None or `-`."""
    if path is None or path == "-":
        yield sys.stdout
        return
    with atomic_path(path) as part, part.open("w", encoding="utf-8") as stream:
        yield stream


def compile_graph(graph: Graph, backend: str, **options: Any) -> Executable:
    """`lgir.compile` with the options that were given (not None), checked against the backend's."""
    import lgir
    from lgir.registry import BACKENDS

    given = {name: value for name, value in options.items() if value is not None}
    parameters = signature(BACKENDS.get(backend)).parameters.values()
    if not any(p.kind is Parameter.VAR_KEYWORD for p in parameters):
        for name in given.keys() - {p.name for p in parameters}:
            raise BackendError(f"backend {backend!r} has no option --{name}; leave it out")
    with status(f"compiling with {backend}"):
        return lgir.compile(graph, backend=backend, **given)
