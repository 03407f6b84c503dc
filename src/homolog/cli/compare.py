"""``homolog compare A B``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from homolog.cli.languages import Lang

__all__ = ["compare"]


def compare(
    a: Annotated[
        str,
        typer.Argument(metavar="A", help="The known model: a folder, a weight file or an address.", show_default=False),
    ],
    b: Annotated[str, typer.Argument(metavar="B", help="The model in question.", show_default=False)],
    *,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of the summary.")] = False,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write an HTML report to FILE.", show_default=False)
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the report if it exists.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Seed of everything that is drawn.")] = 0,
    units: Annotated[int, typer.Option(min=8, help="Units read of each layer.")] = 64,
    deep: Annotated[
        bool, typer.Option("--deep", help="Read 256 units of every layer, whatever fewer already show.")
    ] = False,
    full: Annotated[
        bool, typer.Option("--full", help="Read every tensor, not just the ranges a verdict needs.")
    ] = False,
    budget: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE", help="Fetch no more than SIZE over the network, such as 200MB.", show_default=False
        ),
    ] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Fetch nothing: read what earlier runs fetched.")] = False,
    lang: Lang = None,
    also: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODEL", help="Another model that B may be merged from; repeat for more.", show_default=False
        ),
    ] = None,
    given: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="A model that both A and B may descend from.", show_default=False),
    ] = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", help="Print the verdict's sentence alone, and no progress.")
    ] = False,
) -> int:
    """Say whether B and A share descent, with a p-value.

    Exits with 1 if a relation was found, 0 if none was, 3 if the weights cannot tell.
    """
    from homolog.checkpoint.budget import parse_bytes
    from homolog.cli import output
    from homolog.cli.languages import announce, spoken
    from homolog.cli.progress import Progress

    if report:
        output.check_target(report, force=force)
    allowed = None if budget is None else parse_bytes(budget)
    with spoken(lang) as language:
        from homolog.pipeline import compare as compare_models

        with Progress(quiet=quiet) as progress:
            comparison = compare_models(
                a,
                b,
                seed=seed,
                units=units,
                deep=deep,
                full=full,
                budget=allowed,
                offline=offline,
                also=also or (),
                given=given,
                progress=progress,
                announce=None if quiet else announce,
            )
        document = output.canonical(comparison.to_json())
        if report:
            from homolog.report.html import write_report

            write_report(document, report, overwrite=force, lang=language)
        _show(document, json=json, quiet=quiet)
        if report and not quiet:
            from homolog.report.language import t

            output.note(t("report written to {path}", path=report))
    return comparison.exit_code


def _show(document: dict[str, Any], *, json: bool, quiet: bool) -> None:
    from homolog.cli import output

    if json:
        output.print_json(document)
    elif quiet:
        from homolog.report.language import translate

        typer.echo(translate(document["sentence"]))
    else:
        from homolog.report.terminal import print_comparison

        print_comparison(document, output.console())
