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
    bench: Annotated[
        bool, typer.Option("--bench", help="Hold the adversary's bench instead: what it costs not to be found.")
    ] = False,
    train: Annotated[
        bool,
        typer.Option("--train", help="With --bench: first train the attacks that need it; takes an hour and torch."),
    ] = False,
    cache: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="With --bench: where the lab's text and unfinished trainings lie.  [default: the user's cache]",
            show_default=False,
        ),
    ] = None,
) -> int:
    """Run every method over pairs whose ancestry is known.

    Prints a table and writes scores.csv, table.md and arena.html. Needs no torch.
    """
    if bench:
        return _hold_bench(zoo, out, cache, train=train)
    _refuse_without_bench(train=train, cache=cache)
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


def _refuse_without_bench(*, train: bool, cache: Path | None) -> None:
    from homolog.errors import UsageError

    if train or cache is not None:
        raise UsageError("homolog arena: --train and --cache belong to --bench")


def _hold_bench(zoo: Path, out: Path, cache: Path | None, *, train: bool) -> int:
    from homolog.arena.bench.hold import hold_bench
    from homolog.arena.bench.rows import list_figures
    from homolog.cli import output
    from homolog.cli.lab import default_cache, need_torch
    from homolog.cli.progress import Progress

    if train:
        need_torch("homolog arena --bench --train")
    with Progress() as progress:
        held = hold_bench(zoo, out, cache or default_cache(), train=train, progress=progress, report=output.note)
    rows = list_figures(held.rows)
    output.print_columns(
        rows, ("attack", "amount", "bases", "price in loss", "worth", "found hidden", "cleared hidden")
    )
    for text in (*held.notes, *(f"written: {path}" for path in held.files)):
        output.note(text)
    return 0
