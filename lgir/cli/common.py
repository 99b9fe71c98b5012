"""What commands share: consoles, and models and files as arguments.

Rich is imported where it prints, so that `lgir --help` and pipes stay quick.
"""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import wraps
from inspect import signature
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

import lgir
from lgir.container import from_bytes
from lgir.errors import BackendError, FormatError, GraphError, LgirError, ParseError
from lgir.files import write_atomically
from lgir.registry import BACKENDS
from lgir.zoo import EXAMPLES, build_net

if TYPE_CHECKING:
    from rich.console import Console

    from lgir.executable import Array, Executable
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


def complete(names: Callable[[], Iterable[str]]) -> Callable[..., list[str]]:
    """Tab completion of one of `names()`."""
    return lambda ctx, param, typed: [name for name in names() if name.startswith(typed)]


def backend_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "-b",
        "--backend",
        default="llvm",
        show_default=True,
        shell_complete=complete(BACKENDS.names),
        help="See 'lgir backends'.",
    )(command)


output_option = click.option(
    "-o",
    "--output",
    type=click.Path(),
    metavar="FILE",
    help="Where to write; the old file is replaced in one step.",
)


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
            from lgir.passes.loader import load_passes

            load_passes(path)

    return click.option(
        "--load",
        "load",
        multiple=True,
        type=click.Path(),
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
            return build_net(self.net, self.seed), list(files)
        if not files:
            raise click.UsageError(missing)
        return read_model(files[0], **self.settings), list(files[1:])

    def open_one(self, files: Sequence[str], missing: str) -> Graph:
        """The model of a command that takes nothing else."""
        graph, rest = self.open(files, missing)
        if rest:
            raise click.UsageError(f"unexpected argument {rest[0]!r}; one model is enough")
        return graph


def model_source(command: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator: adds `--net`, `--seed`, `--set`, and hands them over as one `source`."""

    @click.option(
        "--net",
        metavar="NAME",
        shell_complete=complete(lambda: EXAMPLES),
        help="A random network, for example dense-6x8000.",
    )
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
    """A graph from a .onnx container, text IR, stdin (`-`, either), or what a frontend can lift.

    Raises FormatError, ParseError or LiftError where the content is not what it should be, and
    OSError where the file cannot be read.
    """
    if path == "-":
        data = sys.stdin.buffer.read()
        return _parse(data, "stdin") if _is_text(data) else from_bytes(data, "stdin")
    if path.endswith(".onnx"):
        return lgir.load(path)
    with open(path, "rb") as file:  # also: a missing file is an OSError, whoever lifts it
        if path.endswith(".lgir") or _is_text(file.read(64)):
            file.seek(0)
            return _parse(file.read(), path)
    graph = lgir.lift(path, **settings)
    return graph if "name" in settings else replace(graph, name=Path(path).stem)


def _is_text(head: bytes) -> bool:
    return head.lstrip().startswith((b"lgir ", b";"))


def _parse(data: bytes, name: str) -> Graph:
    try:
        return lgir.parse(data.decode())
    except UnicodeDecodeError as error:
        raise FormatError(f"{name}: not text ({error.reason} at byte {error.start})") from None
    except (ParseError, GraphError) as error:
        raise type(error)(f"{name}: {error}") from None


def write_model(graph: Graph, path: str) -> None:
    """`graph` as a .onnx container, as .lgir text, or as text on stdout (`-`)."""
    if path.endswith(".onnx"):
        lgir.save(graph, path)
    elif path.endswith(".lgir") or path == "-":
        write_text(lgir.dumps(graph, full=True), path)
    else:
        raise LgirError(f"cannot tell the format of {path!r}; end it in .onnx or .lgir, or give -")


def write_text(text: str, path: str | None) -> None:
    """Text to a file, written whole or not at all, or to stdout where `path` is None or `-`."""
    if path is None or path == "-":
        click.echo(text, nl=False)
    else:
        write_atomically(path, text.encode())


def write_arrays(names: Sequence[str], arrays: Sequence[Array], output: str | None) -> None:
    """Arrays to a .npy (one), .npz or .csv file; without `output`, a line a sample on stdout."""
    buffer = BytesIO()
    if output is not None and output.endswith(".npz"):
        np.savez(buffer, allow_pickle=False, **dict(zip(names, arrays, strict=True)))
        write_atomically(output, buffer.getvalue())
        return
    if len(arrays) != 1:
        raise LgirError(
            f"the model has {len(arrays)} outputs ({', '.join(names)}); write them with -o FILE.npz"
        )
    (array,) = arrays
    if output is not None and output.endswith(".npy"):
        np.save(buffer, array)
        write_atomically(output, buffer.getvalue())
    elif output is None or output == "-" or output.endswith(".csv"):
        rows = array.reshape(len(array), -1) if array.size else array.reshape(len(array), 0)
        lines = (",".join(f"{x:.9g}" for x in row) + "\n" for row in rows.tolist())
        write_text("".join(lines), output)
    else:
        raise LgirError(f"cannot tell the format of {output!r}; end it in .npy, .npz or .csv")


def backend_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator: adds what backends can be told, and hands over what was given as `options`."""

    @click.option("--target", help="Instruction set: native, avx512, avx2, generic (llvm).")
    @click.option("--features", metavar="FLAGS", help="LLVM features, as -avx512f,+gfni (llvm).")
    @wraps(command)
    def with_options(*args: Any, target: str | None, features: str | None, **kw: Any) -> Any:
        given = {"target": target, "features": features}
        options = {name: value for name, value in given.items() if value is not None}
        return command(*args, options=options, **kw)

    return with_options


def options_for(backends: Sequence[str], options: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """For each backend those of `options` that it takes; BackendError for one that none takes."""
    takes = {name: signature(BACKENDS.get(name)).parameters for name in backends}
    for option in options:
        if not any(option in parameters for parameters in takes.values()):
            names = " and ".join(map(repr, backends))
            raise BackendError(f"backend {names} has no option --{option}; leave it out")
    return {
        name: {key: value for key, value in options.items() if key in parameters}
        for name, parameters in takes.items()
    }


def compile_graph(graph: Graph, backend: str, options: Mapping[str, Any]) -> Executable:
    """`lgir.compile` with options that the backend must have."""
    given = options_for([backend], options)[backend]
    with status(f"compiling with {backend}"):
        return lgir.compile(graph, backend=backend, **given)
