"""``python -m homolog.lab build [NAME …] --out DIR``: make models of the zoo, resuming where a killed run stopped."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import platformdirs
import typer

from homolog.errors import HomologError
from homolog.lab.zoo import build_model, list_recipes

app = typer.Typer(add_completion=False)
CACHE = Path(platformdirs.user_cache_dir("homolog")) / "lab"


@app.callback()
def lab() -> None:
    """Ground truth by real training."""


@app.command()
def build(
    names: Annotated[list[str] | None, typer.Argument(help="Recipes; all of them if none is named.")] = None,
    out: Annotated[Path, typer.Option(help="Where the models go.")] = Path("tests/zoo"),
    cache: Annotated[Path, typer.Option(help="Where packages, tokenised text and unfinished runs lie.")] = CACHE,
) -> None:
    """Build models in the order given; finished ones are left as they are."""
    try:
        for name in names or list_recipes():
            truth = build_model(name, out=out, cache=cache, report=typer.echo)
            typer.echo(f"{name}: finished, val loss {truth['val_loss']}, moved {truth['moved']}")
    except HomologError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    app()
