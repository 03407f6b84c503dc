"""What goes where: data to stdout, notes to stderr, and never over a file that exists."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from homolog.errors import UsageError
from homolog.provenance import round_floats

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["canonical", "check_target", "console", "note", "print_columns", "print_json", "printable"]

_PIPED_WIDTH = 100


def canonical(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document as it is shown everywhere, on the screen, in JSON and in the report: floats to six digits, no NaN."""
    return {key: round_floats(value) for key, value in document.items()}


def check_target(path: Path, *, force: bool) -> None:
    """Refuse an output before any work is done that could not be written, or not without loss.

    Raises ``UsageError``.
    """
    if path.is_dir():
        raise UsageError(f"{path}: is a folder, expected the name of a file to write")
    if path.exists() and not force:
        raise UsageError(f"{path}: exists already; --force overwrites it")
    if not path.parent.is_dir():
        raise UsageError(f"{path.parent}: no such folder to write the report into")


def console() -> Console:
    """A console on stdout: colours only on a terminal, and never against ``NO_COLOR``."""
    from rich.console import Console

    on_terminal = Console(highlight=False)
    if on_terminal.is_terminal or "COLUMNS" in os.environ:
        return on_terminal
    return Console(highlight=False, width=_PIPED_WIDTH)


def note(text: str) -> None:
    """Tell the user something that is not the result."""
    sys.stderr.write(text + "\n")


def printable(text: str) -> str:
    """A name from a file that anyone may have written, without what could move the cursor or hide a line."""
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def print_columns(rows: Sequence[Sequence[str]], columns: Sequence[str]) -> None:
    """Print some columns of a table whose first row names them."""
    from rich import box
    from rich.table import Table

    header, *body = rows
    places = [header.index(column) for column in columns]
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in body:
        table.add_row(*(row[place] for place in places))
    console().print(table, markup=False)


def print_json(document: Mapping[str, Any]) -> None:
    """Print one JSON object, keys in the order of the contract; the same document gives the same bytes."""
    # where stdout cannot hold every letter, JSON can escape them and lose nothing
    escaped = not (sys.stdout.encoding or "utf-8").lower().startswith("utf")
    text = json.dumps(canonical(document), indent=2, allow_nan=False, ensure_ascii=escaped)
    sys.stdout.write(text + "\n")
