"""``homolog sketch M``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

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
    quiet: Annotated[bool, typer.Option("--quiet", help="Print nothing, and no progress.")] = False,
) -> int:
    """Write what a comparison needs of M to a small file.

    The file can be compared in place of the weights, and given to others without them. A --full run that was stopped
    goes on where it stopped.
    """
    from homolog.checkpoint.budget import parse_bytes
    from homolog.cli import output
    from homolog.cli.progress import Progress
    from homolog.provenance import Provenance, Stopwatch
    from homolog.sketch.make import make_sketch

    watch = Stopwatch()
    options: dict[str, object] = {"full": full, "seed": seed, "units": units, "dimensions": dimensions}
    defaults: dict[str, object] = {"full": False, "seed": 0, "units": 64, "dimensions": 96}
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
            announce=None if quiet else output.note,
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

    document = stored.to_json()
    made, kept, dims = document["made_from"], document["kept"], document["made_from"]["dims"]
    rebuilt = "can be rebuilt" if kept["rows_can_be_rebuilt"] else "cannot be rebuilt"
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in (
        ("sketch", f"{path.name}, {path.stat().st_size:,} bytes, version {document['version']}"),
        ("of", f"{made['architecture']}, {made['parameters']:,} parameters in {made['tensors']} tensors"),
        ("sizes", f"{dims['layers']} layers, width {dims['width']}, {dims['ffn']} FFN units, {dims['vocab']} tokens"),
        ("files", ", ".join(file["name"] for file in made["files"][:8])),
        ("read", f"{made['read']['bytes']:,} of {made['read']['of']:,} bytes"),
        ("bound to", made["digest"]),
        ("all tensors", made["full_digest"] or "not read: made without --full"),
        ("sketch's own", f"sha256:{document['sha256']}"),
        ("as they were", f"{kept['verbatim_numbers']:,} numbers ({kept['verbatim_share']:.3%} of the model)"),
        (
            "projected",
            f"{kept['rows']:,} rows, {kept['numbers_a_row']} numbers of {kept['row_width']} each: they {rebuilt}",
        ),
        *(("note", text) for text in stored.limits),
    ):
        table.add_row(name, printable(str(value)), style="yellow" if name == "note" else None)
    console.print(table, markup=False)
