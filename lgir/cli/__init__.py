"""The command line: `lgir COMMAND`, with one module per family of commands.

Results go to stdout, diagnostics to stderr. An error that a user can act on is one line on stderr
with exit code 2; `--debug` shows the traceback behind it.
"""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from lgir.cli import bench, compare, deploy, execute, models, optimize, plugins
from lgir.errors import LgirError, unknown_name


class OneLineErrors(click.Group):
    """A group of commands that prints every error as one line and suggests similar commands."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        words = list(sys.argv[1:] if args is None else args)
        debug = "--debug" in words  # accepted anywhere, so that it can be added to a failed line
        words = [word for word in words if word != "--debug"]
        if not standalone_mode or debug:
            return super().main(words, prog_name, complete_var, standalone_mode, **extra)
        try:
            with warnings.catch_warnings():
                warnings.showwarning = _show_warning
                code = super().main(words, prog_name, complete_var, False, **extra)
            sys.exit(code if isinstance(code, int) else 0)
        except click.UsageError as error:
            help_ = f" (see '{error.ctx.command_path} --help')" if error.ctx else ""
            _fail(error.format_message().rstrip(".") + help_)
        except click.ClickException as error:
            _fail(error.format_message())
        except click.Abort:
            _fail("interrupted", 130)
        except LgirError as error:
            _fail(str(error))
        except BrokenPipeError:  # `lgir dump model.onnx | head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(1)
        except OSError as error:
            _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))
        except Exception as error:
            frame = traceback.extract_tb(error.__traceback__)[-1]
            _fail(
                f"{type(error).__name__}: {error} (at {os.path.basename(frame.filename)}:"
                f"{frame.lineno}; a bug in lgir or in a plug-in: --debug shows the traceback)",
                1,
            )

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and args[0] not in self.commands:
            raise unknown_name("command", args[0], self.commands)
        return super().resolve_command(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)  # in the order of use, not of the alphabet


def _fail(message: str, code: int = 2) -> NoReturn:
    click.echo(f"error: {' '.join(message.split())}", err=True)
    sys.exit(code)


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    click.echo(f"warning: {' '.join(str(message).split())}", err=True)


@click.group(
    cls=OneLineErrors,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="""\b
    MODEL is a checkpoint, an .onnx container, text IR (.lgir, or - for stdin), or --net NAME for a
    random network of known architecture.

    \b
    Try:  lgir demo
          lgir lift model.pt -o model.onnx
          lgir opt model.onnx -p default -o small.onnx
          lgir run small.onnx samples.npy --labels
          lgir bench --net dense-6x8000

    \b
    Tab completion (or zsh_source, fish_source):
          eval "$(_LGIR_COMPLETE=bash_source lgir)"
    """,
)
@click.version_option(package_name="lgir", message="lgir %(version)s")
@click.option(
    "--debug", is_flag=True, expose_value=False, help="Show the traceback behind an error."
)
@click.pass_context
def main(ctx: click.Context) -> None:
    """Compile trained logic gate networks to bit-packed machine code.

    A network is lifted from a checkpoint into a gate-level IR, optimized by passes that are each
    verified, and lowered by a backend.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


for _command in (
    execute.demo,
    models.describe,
    models.lift,
    models.dump,
    optimize.opt,
    compare.verify,
    compare.diff,
    compare.bisect,
    models.compile_,
    deploy.export,
    execute.run,
    bench.bench,
    plugins.passes,
    plugins.backends,
    plugins.frontends,
):
    main.add_command(_command)
