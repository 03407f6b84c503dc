"""``homolog bank build`` and ``homolog bank show``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["bank"]

bank = typer.Typer(
    help="The bank of independent models, against which evidence without an exact p is measured.",
    rich_markup_mode=None,
    no_args_is_help=True,
)


@bank.command()
def build(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL", help="Folders of models trained independently of each other.", show_default=False
        ),
    ],
    *,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="Where the bank goes.", show_default=False)],
    extend: Annotated[
        str, typer.Option(metavar="FILE", help="A bank whose models are kept; 'package' for homolog's own.")
    ] = "",
    force: Annotated[bool, typer.Option("--force", help="Overwrite FILE if it exists.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Seed of everything that is drawn.")] = 0,
) -> int:
    """Compare independent models pair by pair and keep what was measured.

    Only you know that they are independent; a pair whose indices agree is refused. A stopped run goes on where it was.
    """
    from homolog.bank.storage import load_bank
    from homolog.calibration.build import build_bank
    from homolog.cli import output
    from homolog.cli.progress import Progress

    output.check_target(out, force=force)
    base = None if not extend else load_bank(None if extend == "package" else Path(extend))
    with Progress() as progress:
        made = build_bank([Path(model) for model in models], out, extend=base, seed=seed, progress=progress)
    output.note(f"{len(made.models)} models, {len(made.pairs)} pairs: written to {out}")
    return 0


@bank.command()
def show(
    file: Annotated[
        Path | None,
        typer.Argument(metavar="[FILE]", help="A bank; homolog's own if none is named.", show_default=False),
    ] = None,
    *,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of the table.")] = False,
) -> int:
    """Show what a bank holds: its models by group, and how every statistic moves with their size."""
    from homolog.bank.storage import load_bank
    from homolog.cli import output

    held = load_bank(file)
    rows = {name: held.by_size(name) for name in sorted(held.statistics)}
    if json:
        document = {
            "schema": "homolog.bank.summary/1",
            "models": len(held.models),
            "pairs": len(held.pairs),
            "sizes": {name: asdict(sizes) for name, sizes in held.sizes.items()},
            "statistics": {
                name: {"text": held.texts[name], "by_group": [asdict(row) for row in by_group]}
                for name, by_group in rows.items()
            },
        }
        output.print_json(document)
        return 0
    output.note(f"{len(held.models)} independent models, {len(held.pairs)} pairs")
    header = ("statistic", "group", "width", "layers", "units", "models", "pairs", "median", "99 %", "most")
    body = [
        (name, row.group, *map(str, (row.width, row.layers, row.units, row.models, row.pairs)), *_figures(row))
        for name, by_group in rows.items()
        for row in by_group
    ]
    output.print_columns([header, *body], header)
    return 0


def _figures(row: object) -> tuple[str, str, str]:
    median, high, most = (f"{getattr(row, name):.3g}" for name in ("median", "high", "most"))
    return median, high, most
