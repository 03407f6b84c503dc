"""A recipe: what a model is made from, which operations are done to it, how it is trained. One TOML file a model."""

from __future__ import annotations

import math
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from homolog.errors import UsageError
from homolog.lab.shape import Shape

__all__ = [
    "RECIPES",
    "Recipe",
    "Schedule",
    "find_recipe",
    "list_recipes",
    "load_recipe",
    "read_comment",
    "sort_by_need",
]

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
    thaw: int = 0
    """Step from which frozen tensors are trained too; 0 for never."""
    random_tokens: float = 0.0
    """Share of the windows whose tokens are drawn uniformly from the whole vocabulary: washing."""
    shuffled_labels: float = 0.0
    """Share of the windows whose targets are shuffled within the window: washing."""
    teacher: str = ""
    """A finished model whose predictions are learned in place of the text's next tokens: distillation."""
    keep: tuple[int, ...] = ()
    """Steps whose weights are kept beside the run, to look at trajectories."""

    def __post_init__(self) -> None:
        for name, least in (
            ("steps", 0),
            ("batch", 1),
            ("context", 1),
            ("warmup", 0),
            ("thaw", 0),
            ("order", 0),
            ("decay", 0.0),
        ):
            if not least <= getattr(self, name) < math.inf:
                raise UsageError(f"{name} {getattr(self, name)}: expected a finite number of at least {least}")
        if not 0 < self.lr < math.inf:
            raise UsageError(f"lr {self.lr}: expected a finite number above 0")
        if self.part not in ("a", "b"):
            raise UsageError(f"part {self.part!r}: expected 'a' or 'b'; 'val' is for measuring")
        if self.frozen not in ("", "inherited"):
            raise UsageError(f"frozen {self.frozen!r}: expected 'inherited' or nothing")
        shares = self.mixture.values()
        if not all(share >= 0 for share in shares) or not math.isclose(sum(shares), 1, abs_tol=1e-6):
            raise UsageError(f"mixture {self.mixture}: expected shares that add up to 1")
        dirt = (self.random_tokens, self.shuffled_labels)
        if not all(share >= 0 for share in dirt) or not sum(dirt) <= 1:
            raise UsageError(f"random_tokens, shuffled_labels {dirt}: expected shares that add up to 1 at most")


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
    held_out: bool | None = None
    """Of a base: whether no threshold may be chosen on what descends from it."""
    models: int = 1
    """How many models a class of micro-trainings has, of the seeds ``seed``, ``seed + 1`` …"""
    shape: Shape = field(default_factory=Shape)
    operations: tuple[dict[str, Any], ...] = ()

    def __post_init__(self) -> None:
        if self.seed < 0 or not 0 <= self.std < math.inf:
            raise UsageError(f"seed {self.seed}, std {self.std}: expected 0 or more, and finite")

    @property
    def needs(self) -> tuple[str, ...]:
        """The models that must be finished before: the parent, those merged in and the base of the merge, the teacher."""
        merges = [step for step in self.operations if step.get("kind") == "merge"]
        merged = [name for step in merges for name in [step.get("base"), *_strings(step.get("models"))]]
        return tuple(dict.fromkeys(name for name in (self.parent, *merged, self.train.teacher) if name))


def list_recipes() -> list[str]:
    """Names of the recipes in the package."""
    return sorted(path.stem for path in RECIPES.glob("*.toml"))


def find_recipe(name: str) -> Path:
    """The file of a recipe: one of the package by its name, or any by its path, which ends in ``.toml``.

    Raises ``UsageError`` if there is none.
    """
    path = Path(name) if name.endswith(".toml") else RECIPES / f"{name}.toml"
    if not path.is_file():
        raise UsageError(f"{name}: no such recipe; `homolog lab recipes` lists them, a path to one ends in .toml")
    return path


def read_comment(path: Path) -> str:
    """What the comment at the head of a recipe says."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return " ".join(line.removeprefix("#").strip() for line in lines if line.startswith("#"))


def sort_by_need(recipes: list[Recipe]) -> list[Recipe]:
    """The recipes in their order, except that each comes after those that it needs."""
    waiting, done = {recipe.name: recipe for recipe in recipes}, dict[str, Recipe]()

    def visit(recipe: Recipe, on_the_way: tuple[str, ...]) -> None:
        if recipe.name in on_the_way:
            raise UsageError(f"{' → '.join([*on_the_way, recipe.name])}: recipes that need each other")
        for name in recipe.needs:
            if name in waiting and name not in done:
                visit(waiting[name], (*on_the_way, recipe.name))
        done.setdefault(recipe.name, recipe)

    for recipe in recipes:
        visit(recipe, ())
    return list(done.values())


def _strings(value: Any) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def load_recipe(path: Path) -> Recipe:
    """Read one recipe.

    Raises ``UsageError`` for a file that cannot be read or is not TOML, an unknown key, a value of another type, a shape or a schedule that
    cannot be, or a recipe that has both a parent and a seed.
    """
    try:
        body = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"{path}: no such recipe") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not TOML: {error}") from error
    train = _check(path, "train", body.pop("train", {}), Schedule)
    shape = _check(path, "shape", body.pop("shape", {}), Shape)
    body = _check(path, "the top", {"name": path.stem, **body}, Recipe)
    missing = {"kind"} - body.keys() or {"mixture", "steps"} - train.keys()
    if missing:
        raise UsageError(f"{path}: {', '.join(sorted(missing))} is missing")
    if ("parent" in body) == ("seed" in body):
        raise UsageError(f"{path}: a recipe has either a parent or a seed")
    if shape and "parent" in body:
        raise UsageError(f"{path}: a shape, though the model has its parent's")
    try:
        return Recipe(**body, train=Schedule(**train), shape=Shape(**shape))
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None


def _check(path: Path, place: str, body: Any, kind: type) -> dict[str, Any]:
    """The entries of one table, in the types that ``kind`` wants; lists become tuples."""
    if not isinstance(body, dict):
        raise UsageError(f"{path}: {place} is {body!r}, expected a table")
    hints = get_type_hints(kind)
    unknown = body.keys() - hints.keys()
    if unknown:
        raise UsageError(f"{path}: unknown key in {place}: {', '.join(sorted(unknown))}")
    wrong = [name for name, value in body.items() if not _fits(value, hints[name])]
    if wrong:
        name = wrong[0]
        raise UsageError(f"{path}: {name} in {place} is {body[name]!r}, expected {_spell(hints[name])}")
    return {name: tuple(value) if isinstance(value, list) else value for name, value in body.items()}


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value out of a TOML file has the type of a field."""
    inner, outer = get_args(hint), get_origin(hint)
    if outer is tuple:
        return isinstance(value, list) and all(_fits(item, inner[0]) for item in value)
    if outer is dict:
        return isinstance(value, dict) and (inner[1] is Any or all(_fits(item, inner[1]) for item in value.values()))
    if inner:
        return any(_fits(value, choice) for choice in inner)
    if hint is float:
        return type(value) in (int, float)
    return type(value) is hint


def _spell(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) and not get_args(hint) else str(hint).replace("typing.", "")
