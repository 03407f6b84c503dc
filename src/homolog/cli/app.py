"""The verbs under one name. Nothing heavy is imported here: every verb imports what it calls when it runs."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from homolog.cli.arena import arena
from homolog.cli.bank import bank
from homolog.cli.compare import compare
from homolog.cli.demo import demo
from homolog.cli.inspect import inspect
from homolog.cli.lab import lab
from homolog.cli.sketch import sketch
from homolog.version import __version__

__all__ = ["app", "run"]

# rich's help costs more than all the rest of `--help` together
app = typer.Typer(
    name="homolog",
    help="Read the weights of language models and say whether one descends from another.",
    epilog="Exit codes: 0 nothing found, 1 relation found, 2 usage or input error, 3 inconclusive, 101 internal error.",
    rich_markup_mode=None,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command()(inspect)
app.command()(compare)
app.command()(sketch)
app.command()(arena)
app.add_typer(lab, name="lab")
app.command()(demo)
app.add_typer(bank, name="bank")

# Newer Typers carry a Click of their own, older ones use the installed one; this is the base of either's complaints
_CommandLineError: type[typer.BadParameter] = typer.BadParameter.__mro__[2]


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"homolog {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Read the weights of language models and say whether one descends from another."""


def run() -> int:
    """Parse the command line and run the verb; returns its exit code, lets errors through."""
    command = typer.main.get_command(app)
    try:
        # not command.main(), which takes closed pipes and interrupts for itself and ends both with 1: "a relation found"
        with command.make_context("homolog", sys.argv[1:]) as context:
            return int(command.invoke(context) or 0)
    except typer.Exit as end:
        return int(end.exit_code)
    except _CommandLineError as error:
        error.show()
        return int(error.exit_code)
