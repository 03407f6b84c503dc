"""A recipe: what a model is made from, which operations are done to it, how it is trained. One TOML file a model."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from homolog.errors import UsageError
from homolog.lab.shape import Shape

__all__ = ["RECIPES", "Recipe", "Schedule", "load_recipe"]

RECIPES = Path(__file__).parent / "recipes"


@dataclass(frozen=True, slots=True)
class Schedule:
    """One run of training: AdamW, linear warmup, cosine to a tenth of the peak."""

    mixture: dict[str, float]
    """Stream → share of the windows."""
    steps: int
    part: str = "a"
    order: int = 1
    """Seed of the windows' permutation; the set of windows depends on mixture, part and number alone."""
    batch: int = 8
    context: int = 64
    lr: float = 3e-3
    warmup: int = 200
    decay: float = 0.1
    """Weight decay, on matrices only."""
    frozen: str = ""
    """``inherited`` freezes every tensor that came from the parent as a whole."""
    teacher: str = ""
    """A finished model whose predictions are learned in place of the text's next tokens: distillation."""
    keep: tuple[int, ...] = ()
    """Steps whose weights are kept beside the run, to look at trajectories."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """A base (``seed``, no parent) or a model made from a parent."""

    name: str
    kind: str
    """What the model is for, in the terms of DESIGN: ``base``, ``shared_initialisation``, ``continued_training`` …"""
    train: Schedule
    parent: str | None = None
    seed: int = 0
    """Of the initialisation; 0 for a model with a parent."""
    std: float = 0.02
    models: int = 1
    """How many models a class of micro-trainings has, of the seeds ``seed``, ``seed + 1`` …"""
    shape: Shape = field(default_factory=Shape)
    operations: tuple[dict[str, Any], ...] = ()


def load_recipe(path: Path) -> Recipe:
    """Read one recipe.

    Raises ``UsageError`` for a file that is not TOML, an unknown key, or a recipe that has both a parent and a seed.
    """
    try:
        body = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"{path}: no such recipe") from None
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path}: not TOML: {error}") from error
    train = _check(path, "train", body.pop("train", {}), Schedule)
    shape = _check(path, "shape", body.pop("shape", {}), Shape)
    if "keep" in train:
        train["keep"] = tuple(train["keep"])
    body["operations"] = tuple(body.get("operations", ()))
    body = _check(path, "the top", {"name": path.stem, **body}, Recipe)
    missing = {"kind"} - body.keys() or {"mixture", "steps"} - train.keys()
    if missing:
        raise UsageError(f"{path}: {', '.join(sorted(missing))} is missing")
    if ("parent" in body) == ("seed" in body):
        raise UsageError(f"{path}: a recipe has either a parent or a seed")
    return Recipe(**body, train=Schedule(**train), shape=Shape(**shape))


def _check(path: Path, place: str, body: dict[str, Any], kind: type) -> dict[str, Any]:
    unknown = body.keys() - {item.name for item in fields(kind)}
    if unknown:
        raise UsageError(f"{path}: unknown key in {place}: {', '.join(sorted(unknown))}")
    return body
