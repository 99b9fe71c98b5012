"""Options that several commands share, as decorators, and the values that they stand for."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import wraps
from inspect import signature
from os import PathLike
from typing import TYPE_CHECKING, Any

import click

import lgir
from lgir.cli.files import read_model, unknown_ending
from lgir.cli.output import status
from lgir.errors import BackendError
from lgir.files import check_writable
from lgir.registry import BACKENDS, PASSES
from lgir.zoo import EXAMPLES, build_net

if TYPE_CHECKING:
    from lgir.executable import Executable
    from lgir.ir.graph import Graph
    from lgir.passes.report import Report


def complete(names: Callable[[], Iterable[str]]) -> Callable[..., list[str]]:
    """Return a tab completion of one of `names()`."""
    return lambda ctx, param, typed: [name for name in names() if name.startswith(typed)]


def passes_option(help_: str, default: str | None = None) -> Callable[..., Any]:
    """Return the decorator of option -p, with tab completion of its last pass."""

    def ending(ctx: click.Context, param: click.Parameter, typed: str) -> list[str]:
        from lgir.passes.pipeline import PIPELINES

        before, comma, last = typed.rpartition(",")
        names = sorted({*PASSES.names(), *PIPELINES})
        return [before + comma + name for name in names if name.startswith(last)]

    return click.option(
        "-p",
        "--passes",
        default=default,
        show_default=True,
        metavar="PIPELINE",
        shell_complete=ending,
        help=help_,
    )


pipeline_option = passes_option(
    "Passes in order, for example 'fold,cse,dce' ('lgir passes' lists them).", "default"
)

node_option = click.option(
    "--node",
    "nodes",
    multiple=True,
    metavar="NAME",
    help="Show this node alone (repeatable).",
)

optimize_first = passes_option("Optimize first with these passes.")


def backend_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "-b",
        "--backend",
        default="llvm",
        show_default=True,
        shell_complete=complete(BACKENDS.names),
        help="See 'lgir backends'.",
    )(command)


class OutputPath(click.Path):
    """A file to write, or `-`.

    A file that cannot be written, or whose ending is not one of `endings`, is refused at once, not
    after minutes of work.
    """

    def __init__(self, *endings: str) -> None:
        super().__init__()
        self.endings = endings

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> str | bytes | PathLike[str]:
        if not value:
            self.fail("the name is empty", param, ctx)
        if value != "-":
            if self.endings and not value.endswith(self.endings):
                raise unknown_ending(value, self.endings)
            check_writable(value)
        return super().convert(value, param, ctx)


def output_option(*endings: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return click.option(
        "-o",
        "--output",
        type=OutputPath(*endings),
        metavar="FILE",
        help="Where to write; the old file is replaced in one step.",
    )


def json_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")(
        command
    )


def load_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--load FILE.py`: user code that registers passes or backends, run before their use."""

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
        help="Run a Python file that registers passes, backends or formats (repeatable).",
    )(command)


@dataclass(frozen=True)
class ModelSource:
    """The source of a command's model: `--net`, or the first of its positional arguments."""

    net: str | None = None
    seed: int = 0
    settings: dict[str, Any] = field(default_factory=dict)

    def open(self, files: Sequence[str], missing: str) -> tuple[Graph, list[str]]:
        """Return the model and the other arguments; raise UsageError(`missing`) without one."""
        if self.net is not None:
            with status(f"building {self.net}"):
                return build_net(self.net, self.seed), list(files)
        if not files:
            raise click.UsageError(missing)
        return self.read(files[0]), list(files[1:])

    def read(self, path: str) -> Graph:
        """Return the model of a file."""
        with status(f"reading {'stdin' if path == '-' else path}"):
            return read_model(path, **self.settings)

    def open_one(self, files: Sequence[str], missing: str) -> Graph:
        """Return the model of a command that takes no other argument."""
        graph, rest = self.open(files, missing)
        if rest:
            raise click.UsageError(f"unexpected argument {rest[0]!r}; one model is enough")
        return graph


def model_source(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--net`, `--seed` and `--set`; the command receives them as one `source`."""

    @click.option(
        "--net",
        metavar="NAME",
        shell_complete=complete(lambda: EXAMPLES),
        help="A random network, as dense-6x8000, or a trained one, as cifar10-s.",
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
    value = {"true": "True", "false": "False"}.get(value, value)
    try:
        return key, ast.literal_eval(value)
    except (MemoryError, RecursionError, SyntaxError, TypeError, ValueError):
        return key, value  # a bare word is a string


def backend_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of backends; the command receives those that were given as `options`."""

    @click.option(
        "--target",
        help="CPU: native, avx512, avx2, generic (llvm). Libraries (-o net.so): portable by "
        "default, which has code for all levels of x86-64; see 'lgir export --help'.",
    )
    @click.option("--features", metavar="FLAGS", help="LLVM features, as -avx512f,+gfni (llvm).")
    @click.option(
        "--cache-dir",
        type=click.Path(file_okay=False),
        metavar="FOLDER",
        help="Keep object code there (llvm).  [default: the user's cache folder]",
    )
    @click.option("--no-cache", is_flag=True, help="Neither look for nor keep object code (llvm).")
    @wraps(command)
    def with_options(
        *args: Any,
        target: str | None,
        features: str | None,
        cache_dir: str | None,
        no_cache: bool,
        **kw: Any,
    ) -> Any:
        if no_cache and cache_dir is not None:
            raise click.UsageError("give --cache-dir or --no-cache, not both")
        cache = False if no_cache else None if cache_dir is None else True
        values = {"target": target, "features": features, "cache": cache, "cache_dir": cache_dir}
        options = {name: value for name, value in values.items() if value is not None}
        return command(*args, options=options, **kw)

    return with_options


def options_for(backends: Sequence[str], options: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the `options` that each backend takes; BackendError for one that no backend takes."""
    takes = {name: signature(BACKENDS.get(name)).parameters for name in backends}
    for option in options:
        if not any(option in parameters for parameters in takes.values()):
            names = " and ".join(map(repr, backends))
            flag = {"cache": "no-cache", "cache_dir": "cache-dir"}.get(option, option)
            raise BackendError(f"backend {names} has no option --{flag}; leave it out")
    return {
        name: {key: value for key, value in options.items() if key in parameters}
        for name, parameters in takes.items()
    }


def optimize_graph(
    graph: Graph, passes: str, *, shown: bool = True, **options: Any
) -> tuple[Graph, Report]:
    """Run passes, and show on a terminal which one runs; `options` are those of `lgir.optimize`."""
    from lgir.cli.progress import PassProgress

    with status("optimizing", shown=shown) as update:
        watchers = [*options.pop("instrumentation", ()), PassProgress(update)]
        return lgir.optimize(graph, passes, instrumentation=watchers, **options)


def compile_graph(graph: Graph, backend: str, options: Mapping[str, Any]) -> Executable:
    """Compile `graph`; raise BackendError for an option that the backend does not take."""
    accepted = options_for([backend], options)[backend]
    with status(f"compiling with {backend}"):
        return lgir.compile(graph, backend=backend, **accepted)
