"""Building models from their recipes: parent, operations, training, truth record."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from subprocess import CalledProcessError
from typing import Any

from homolog.errors import UsageError
from homolog.lab.adapters import is_adapter, merge_adapters, name_adapter
from homolog.lab.bpe import Tokenizer
from homolog.lab.corpus import Corpus, load_corpus
from homolog.lab.operations import apply_operation
from homolog.lab.recipe import RECIPES, Recipe, Schedule, load_recipe
from homolog.lab.shape import Shape, Weights, initialise
from homolog.lab.store import load_model, load_truth, round_weights, save_model
from homolog.lab.train import measure_loss, train

__all__ = ["build_model", "make_model", "open_corpus"]

Report = Callable[[str], None]


def build_model(name: str, *, out: Path, cache: Path, report: Report = lambda text: None) -> dict[str, Any]:
    """Make the model that a recipe of the package describes, as `make_model` does."""
    return make_model(load_recipe(RECIPES / f"{name}.toml"), out=out, cache=cache, report=report)


def make_model(
    recipe: Recipe,
    *,
    out: Path,
    cache: Path,
    corpus: Corpus | None = None,
    save_every: int | None = None,
    threads: int = 1,
    report: Report = lambda text: None,
) -> dict[str, Any]:
    """Make one model below ``out``, or take it as it is if it is finished, and return its truth record.

    It reads the lab's own text unless another ``corpus`` is given; every ``save_every`` steps its state is kept.

    Raises ``UsageError`` where the recipe is off, a model that it needs is not built, or something cannot be written, as on a full disk;
    what was finished earlier stays untouched, and the next call goes on from the last state that was kept.
    """
    name = recipe.name
    if (out / name / "truth.json").exists():
        return load_truth(out / name)
    shape, weights, lineage = _start(recipe, out)
    facts: list[dict[str, Any]] = []
    fresh: frozenset[str] = frozenset()
    for step in recipe.operations:
        try:
            outcome = apply_operation(shape, weights, step, find=lambda other: load_model(out / other))
        except UsageError as error:
            raise UsageError(f"{name}: {error}") from None
        shape, weights, fresh = outcome.shape, outcome.weights, fresh | outcome.fresh
        facts.append({**step, "facts": outcome.facts or {}})
    frozen = _choose_frozen(recipe.train, weights, fresh)
    _check_context(recipe, shape)
    corpus = corpus or open_corpus(cache, shape.vocab, _find_tokenizer(recipe, out, shape.vocab))
    before = merge_adapters({n: w.copy() for n, w in weights.items()})
    work = cache / "runs" / name
    try:
        trained, curve = train(
            shape,
            weights,
            recipe.train,
            corpus,
            frozen=frozen,
            teacher=load_model(out / recipe.train.teacher) if recipe.train.teacher else None,
            work=work,
            save_every=save_every,
            threads=threads,
            progress=lambda step, loss: report(f"{name}: step {step} of {recipe.train.steps}, loss {loss:.3f}"),
        )
    except OSError as error:
        raise UsageError(f"{work}: not written: {error.strerror or error}; the next call goes on from there") from error
    trained = round_weights(merge_adapters(trained))
    truth = _record(recipe, shape=shape, corpus=corpus, lineage=lineage, facts=facts, curve=curve, weights=trained)
    truth["moved"] = {
        "from": "parent after operations" if recipe.parent else "initialisation",
        **_moved(before, trained),
    }
    adapted = {matrix for matrix in before if name_adapter(matrix)[0] in weights}
    truth["frozen"] = [] if recipe.train.thaw else sorted(frozen - adapted)
    if recipe.held_out is not None:
        truth["held_out"] = recipe.held_out
    save_model(out / name, shape, trained, corpus.tokenizer, truth)
    return truth


def _start(recipe: Recipe, out: Path) -> tuple[Shape, Weights, dict[str, Any]]:
    if recipe.parent is None:
        weights = initialise(recipe.shape, seed=recipe.seed, std=recipe.std)
        return recipe.shape, weights, {"parent": None, "ancestors": [], "seed": recipe.seed, "std": recipe.std}
    parent = load_truth(out / recipe.parent)
    if parent["name"] != recipe.parent:
        raise UsageError(f"{out / recipe.parent}: holds {parent['name']!r}, not {recipe.parent!r}")
    shape, weights = load_model(out / recipe.parent)
    merged = [name for name in recipe.needs if name not in (recipe.parent, recipe.train.teacher)]
    ancestors = _join_ancestors([recipe.parent, *parent["ancestors"]], merged, out)
    return (
        shape,
        weights,
        {"parent": recipe.parent, "ancestors": ancestors, "seed": parent["seed"], "std": parent["std"]},
    )


def _find_tokenizer(recipe: Recipe, out: Path, vocabulary: int) -> Tokenizer | None:
    """That of the models which this one is made from.

    Packages move on, and a tokenizer learned from newer text gives other ids to the same words: a child would be trained on scrambled text.
    """
    known = [out / name for name in recipe.needs if (out / name / "tokenizer.json").is_file()]
    return next((found for found in map(Tokenizer.load, known) if found.size == vocabulary), None)


def open_corpus(cache: Path, vocabulary: int, tokenizer: Tokenizer | None = None) -> Corpus:
    """The text in ids of ``tokenizer``, or of one that is learned from it. Raises ``UsageError`` where the packages cannot be had."""
    try:
        return load_corpus(cache, vocabulary=vocabulary, tokenizer=tokenizer)
    except CalledProcessError as error:
        said = (error.stderr or b"").decode(errors="replace").strip().splitlines()
        raise UsageError(
            f"{' '.join(error.cmd)}: {said[-1] if said else error}; the corpus comes from Debian packages"
        ) from error
    except OSError as error:
        raise UsageError(f"{cache}: the corpus cannot be made: {error}") from error


def _choose_frozen(plan: Schedule, weights: Weights, fresh: frozenset[str]) -> frozenset[str]:
    """What training must not move: all but the adapters if there are any, all that the parent gave if the recipe says so."""
    if any(map(is_adapter, weights)):
        return frozenset(name for name in weights if not is_adapter(name))
    return frozenset(weights) - fresh if plan.frozen == "inherited" else frozenset()


def _check_context(recipe: Recipe, shape: Shape) -> None:
    if shape.family == "gpt2" and recipe.train.context > shape.positions:
        raise UsageError(f"{recipe.name}: context {recipe.train.context} of a model with {shape.positions} positions")


def _join_ancestors(own: list[str], merged: list[str], out: Path) -> list[str]:
    """The parent's line, with what was merged in before its last ancestor: the base of the line stays last."""
    more = dict.fromkeys(ancestor for name in merged for ancestor in [name, *load_truth(out / name)["ancestors"]])
    return [own[0], *(name for name in more if name not in own), *own[1:]]


def _record(
    recipe: Recipe,
    *,
    shape: Shape,
    corpus: Corpus,
    lineage: dict[str, Any],
    facts: list[dict[str, Any]],
    curve: list[tuple[int, float]],
    weights: Weights,
) -> dict[str, Any]:
    plan = recipe.train
    streams = tuple(sorted(plan.mixture))
    return {
        "name": recipe.name,
        "kind": recipe.kind,
        **lineage,
        "shape": shape.to_dict(),
        "parameters": sum(weight.size for weight in weights.values()),
        "operations": facts,
        "data": {"mixture": plan.mixture, "part": plan.part, "digest": corpus.digest(streams, plan.part)},
        "order_seed": plan.order,
        "steps": plan.steps,
        "tokens": plan.steps * plan.batch * plan.context,
        "recipe": asdict(plan),
        "curve": curve,
        "val_loss": {stream: round(measure_loss(shape, weights, corpus, stream), 4) for stream in ("en", "zh", "code")},
    }


def _moved(before: Weights, after: Weights) -> dict[str, float]:
    """How far training went: |after − before| relative to |before|, over all matrices, and their cosine."""
    names = [name for name in before if before[name].ndim > 1]
    change = sum(float(((after[name] - before[name]) ** 2).sum()) for name in names)
    start = sum(float((before[name] ** 2).sum()) for name in names)
    end = sum(float((after[name] ** 2).sum()) for name in names)
    dot = sum(float((after[name] * before[name]).sum()) for name in names)
    return {"relative_change": round((change / start) ** 0.5, 4), "cosine": round(dot / (start * end) ** 0.5, 4)}
