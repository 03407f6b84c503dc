"""``homolog arena``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["arena"]


def arena(
    *,
    zoo: Annotated[Path, typer.Option(metavar="DIR", help="Folder of trained models with truth records.")] = Path(
        "tests/zoo"
    ),
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the results go, and where a stopped run goes on.")] = (
        Path("arena")
    ),
    methods: Annotated[
        str,
        typer.Option(metavar="NAMES", help="Methods by name, with commas between.  [default: all]", show_default=False),
    ] = "",
    quick: Annotated[bool, typer.Option("--quick", help="Take three pairs of every kind, not all.")] = False,
    jobs: Annotated[int, typer.Option(min=1, metavar="N", help="Processes that share the work.")] = 1,
) -> int:
    """Run every method over pairs whose ancestry is known.

    Prints a table and writes scores.csv, table.md and arena.html. Needs no torch.
    """
    from homolog.arena.hold import hold_arena
    from homolog.arena.table import list_figures
    from homolog.cli import output
    from homolog.cli.progress import Progress

    names = [name.strip() for name in methods.split(",") if name.strip()]
    with Progress() as progress:
        held = hold_arena(zoo, out, names, quick=quick, jobs=jobs, progress=progress)
    output.print_columns(
        list_figures(held.table), ("method", "AUC", "found at no false accusation", "falsely accused", "seconds")
    )
    for path in held.files:
        output.note(f"written: {path}")
    return 0
