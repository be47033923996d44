"""The program `qkv` and how it ends: 0 done, 2 a mistake to mend (one red sentence), 130 and 143 interrupted."""

from __future__ import annotations

import os
import sys
from typing import Any

import typer
from typer.core import TyperGroup

from qkv import __version__
from qkv.cli import ask, chat, data, evaluate, explain, lab, predict, scope, train
from qkv.cli.console import complain
from qkv.errors import UserError


class Program(TyperGroup):
    """The group of commands; the one place where a UserError becomes a sentence."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """--debug may stand anywhere before `--`, not only before the command."""
        end = args.index("--") if "--" in args else len(args)
        if "--debug" in args[:end]:
            args.remove("--debug")
            args.insert(0, "--debug")
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except UserError as error:
            if ctx.params.get("debug"):
                raise
            complain(str(error))
            raise typer.Exit(error.exit_code) from error
        except Exception as error:
            code = getattr(error, "exit_code", None)
            if type(error).__name__ != "Interrupted" or code is None:
                raise
            complain(str(error))
            raise typer.Exit(code) from error
        except KeyboardInterrupt as error:
            complain("interrupted")
            raise typer.Exit(130) from error
        except BrokenPipeError as error:
            # Whoever read our output has gone (`| head`): nothing to say, and nothing to flush at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(141) from error


app = typer.Typer(
    cls=Program, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich"
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"qkv {__version__}")
        raise typer.Exit


@app.callback()
def program(
    debug: bool = typer.Option(False, "--debug", help="Show the traceback of an error."),
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    """The Transformer, built and proven: train one, measure it, use it, see what it attends to."""


app.command("train")(train.train)
app.command("evaluate")(evaluate.evaluate)
app.command("predict")(predict.predict)
app.command("explain")(explain.explain)
app.command("chat")(chat.chat)
app.command("scope")(scope.scope)
app.command("ask")(ask.ask)
app.add_typer(data.app, name="data")
app.add_typer(lab.app, name="lab")


def main() -> None:
    """The entry point of the script `qkv` and of `python -m qkv`."""
    app(prog_name="qkv")
