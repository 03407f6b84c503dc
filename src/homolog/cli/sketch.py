"""``homolog sketch M``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from homolog.cli.languages import Lang

if TYPE_CHECKING:
    from rich.console import Console

    from homolog.sketch.stored import Stored

__all__ = ["describe", "print_sketch", "sketch"]


def sketch(
    m: Annotated[
        str, typer.Argument(metavar="M", help="The model: a folder, a weight file or an address.", show_default=False)
    ],
    *,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE", help="Where to write the sketch.", show_default=False)
    ],
    full: Annotated[
        bool, typer.Option("--full", help="Read the whole model and add a digest of every tensor.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the sketch if it exists.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the projections.")] = 0,
    units: Annotated[int, typer.Option(min=8, help="Units kept of each layer.")] = 64,
    dimensions: Annotated[int, typer.Option(min=8, max=4096, help="Numbers kept of each row.")] = 96,
    budget: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE", help="Fetch no more than SIZE over the network, such as 200MB.", show_default=False
        ),
    ] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Fetch nothing: read what earlier runs fetched.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of the summary.")] = False,
    lang: Lang = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print nothing, and no progress.")] = False,
) -> int:
    """Write what a comparison needs of M to a small file.

    The file can be compared in place of the weights, and given to others without them. A --full run that was stopped
    goes on where it stopped.
    """
    from homolog.checkpoint.budget import parse_bytes
    from homolog.cli import output
    from homolog.cli.languages import announce, spoken
    from homolog.cli.progress import Progress
    from homolog.provenance import Provenance, Stopwatch
    from homolog.sketch.make import make_sketch

    watch = Stopwatch()
    options: dict[str, object] = {"full": full, "seed": seed, "units": units, "dimensions": dimensions}
    defaults: dict[str, object] = {"full": False, "seed": 0, "units": 64, "dimensions": 96}
    with spoken(lang):
        with Progress(quiet=quiet) as progress:
            stored = make_sketch(
                m,
                out,
                full=full,
                force=force,
                seed=seed,
                units=units,
                dimensions=dimensions,
                budget=None if budget is None else parse_bytes(budget),
                offline=offline,
                progress=progress,
                announce=None if quiet else announce,
            )
        if json:
            made = Provenance.of("sketch", (m, "-o", str(out)), options, defaults)
            document = describe(stored, out)
            output.print_json({**document, "provenance": made.to_json(), "run": watch.read().to_json()})
        elif not quiet:
            print_sketch(stored, out, output.console())
    return 0


def describe(stored: Stored, path: Path) -> dict[str, Any]:
    """The document of a sketch: the same for the same file."""
    return {
        "schema": "homolog.sketch/1",
        "id": path.name,
        "bytes": path.stat().st_size,
        "sketch": stored.to_json(),
        "cannot": list(stored.limits),
    }


def print_sketch(stored: Stored, path: Path, console: Console) -> None:
    """Print what a sketch is of, what it keeps, and what it cannot do."""
    from rich.table import Table

    from homolog.cli.output import printable
    from homolog.report.language import t, translate

    document = stored.to_json()
    made, kept, dims = document["made_from"], document["kept"], document["made_from"]["dims"]
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    rows = {"n": f"{kept['rows']:,}", "numbers": kept["numbers_a_row"], "of": kept["row_width"]}
    for name, value in (
        (
            t("sketch"),
            t(
                "{name}, {size} bytes, version {version}",
                name=path.name,
                size=f"{path.stat().st_size:,}",
                version=document["version"],
            ),
        ),
        (
            t("made from"),
            t(
                "{architecture}, {n} parameters in {tensors} tensors",
                architecture=made["architecture"],
                n=f"{made['parameters']:,}",
                tensors=made["tensors"],
            ),
        ),
        (
            t("sizes"),
            t(
                "{layers} layers, width {width}, {ffn} FFN units, {vocab} tokens",
                layers=dims["layers"],
                width=dims["width"],
                ffn=dims["ffn"],
                vocab=dims["vocab"],
            ),
        ),
        (t("files"), t(", ").join(file["name"] for file in made["files"][:8])),
        (
            t("read"),
            t("{part} of {whole} bytes", part=f"{made['read']['bytes']:,}", whole=f"{made['read']['of']:,}"),
        ),
        (t("bound to"), made["digest"]),
        (t("all tensors"), made["full_digest"] or t("not read: made without --full")),
        (t("sketch's own"), f"sha256:{document['sha256']}"),
        (
            t("as they were"),
            t(
                "{n} numbers ({share} of the model)",
                n=f"{kept['verbatim_numbers']:,}",
                share=f"{kept['verbatim_share']:.3%}",
            ),
        ),
        (
            t("projected"),
            t("{n} rows, {numbers} numbers of {of} each: they can be rebuilt", **rows)
            if kept["rows_can_be_rebuilt"]
            else t("{n} rows, {numbers} numbers of {of} each: they cannot be rebuilt", **rows),
        ),
    ):
        table.add_row(name, printable(str(value)))
    for text in stored.limits:
        table.add_row(t("note"), printable(translate(text)), style="yellow")
    console.print(table, markup=False)
