"""``homolog inspect M``."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["inspect"]


def inspect(
    m: Annotated[str, typer.Argument(metavar="M", help="The model: a folder or a weight file.", show_default=False)],
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of the summary.")] = False,
    values: Annotated[
        bool, typer.Option("--values", help="Read every tensor and look for NaN, infinities and zeroed layers.")
    ] = False,
) -> int:
    """Say what a checkpoint is: format, architecture, roles, parameters, dtypes, warnings."""
    raise NotImplementedError
