"""Many small trainings that share nothing but their recipe: what the bank's null distributions are measured on.

A class is one shape and one schedule, trained from many seeds on the same text in the same order: as alike as models can be that
have no common descent. One TOML file a class, in ``micro/``.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from homolog.errors import UsageError
from homolog.lab.recipe import Recipe, load_recipe
from homolog.lab.zoo import Report, make_model

__all__ = ["CLASSES", "HELD_OUT", "IN_ZOO", "build_class", "list_classes", "load_class"]

CLASSES = Path(__file__).parent / "micro"
IN_ZOO = 3
"""So many of every class are part of the zoo."""
HELD_OUT = 2
"""This one of every class is in no bank, and no threshold may be chosen on it."""


def list_classes() -> list[str]:
    """Names of the classes in the package: teachers before their students."""
    classes = {path.stem: load_recipe(path) for path in sorted(CLASSES.glob("*.toml"))}
    return sorted(classes, key=lambda name: (bool(classes[name].train.teacher), name))


def load_class(name: str) -> list[Recipe]:
    """The recipes of a class, one for each of its seeds.

    Raises ``UsageError`` for a class that is not there, is off, or has no models.
    """
    path = CLASSES / f"{name}.toml"
    shared = load_recipe(path)
    if shared.models < 1:
        raise UsageError(f"{path}: models is {shared.models}; a class has at least one")
    return [
        replace(shared, name=f"{name}-{i:02d}", seed=shared.seed + i, models=1, held_out=i == HELD_OUT)
        for i in range(shared.models)
    ]


def build_class(name: str, *, out: Path, cache: Path, report: Report = lambda text: None) -> list[dict[str, Any]]:
    """Make every model of a class below ``out``; finished ones are taken as they are. Returns their truth records."""
    return [make_model(recipe, out=out, cache=cache, report=report) for recipe in load_class(name)]
