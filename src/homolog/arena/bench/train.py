"""Training what the attacks need to have trained: resumable, the cheapest first, so that a stopped run has the most to show."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from homolog.arena.bench.attacks import ATTACKS, GROUPS, Attack, Target, make_recipe
from homolog.arena.zoo import Zoo
from homolog.errors import UsageError
from homolog.lab.recipe import Recipe
from homolog.lab.shape import Shape
from homolog.sketch.vocabulary import read_vocabulary

__all__ = ["find_targets", "plan_recipes", "train_attacks"]


def find_targets(zoo: Zoo) -> dict[str, Target]:
    """The bases that are attacked, as far as the zoo has them."""
    targets = {}
    for group in GROUPS:
        for name in group:
            if name not in zoo.records:
                continue
            record = zoo.records[name]
            vocabulary = read_vocabulary(record.folder)
            if vocabulary is None:
                raise UsageError(f"{record.folder}: no tokenizer beside the weights")
            known = Shape.__dataclass_fields__.keys()
            shape = Shape(**{key: value for key, value in record.truth["shape"].items() if key in known})
            unused = sorted(vocabulary.ids[token] for token in vocabulary.untrained)
            targets[name] = Target(name, shape, int(record.truth["steps"]), unused, _find_other(zoo, group, name))
    if not targets:
        raise UsageError(f"none of {', '.join(name for group in GROUPS for name in group)} is in the zoo")
    return targets


def plan_recipes(targets: Mapping[str, Target]) -> Iterator[tuple[Attack, Target, float, Recipe]]:
    """Every model that has to be trained, by ascending cost."""
    planned = [
        (attack, target, amount, make_recipe(attack, target, amount))
        for attack in ATTACKS
        if attack.tokens is not None
        for target in targets.values()
        for amount in attack.amounts_for(target.name)
    ]
    yield from sorted(planned, key=lambda plan: plan[3].train.steps * plan[1].shape.width ** 2 * plan[1].shape.layers)


def train_attacks(zoo: Zoo, models: Path, cache: Path, report: Callable[[str], None] = lambda text: None) -> None:
    """Train what is missing in ``models``, into which the bases are copied. Needs torch.

    Raises ``UsageError`` where the text cannot be had or something cannot be written; the next call goes on from there.
    """
    from homolog.lab.bpe import Tokenizer  # noqa: PLC0415
    from homolog.lab.zoo import make_model, open_corpus  # noqa: PLC0415 - torch

    targets = find_targets(zoo)
    for name in {name for target in targets.values() for name in (target.name, target.other)}:
        if not (models / name).exists():
            shutil.copytree(zoo.records[name].folder, models / name)
    plans = list(plan_recipes(targets))
    for done, (_, target, _, recipe) in enumerate(plans):
        if (models / recipe.name / "truth.json").exists():
            continue
        report(f"{recipe.name}: {done + 1} of {len(plans)}, {recipe.train.steps} steps")
        corpus = open_corpus(cache, target.shape.vocab, Tokenizer.load(zoo.records[target.name].folder))
        make_model(recipe, out=models, cache=cache, corpus=corpus, report=report)


def _find_other(zoo: Zoo, group: tuple[str, ...], name: str) -> str:
    """A trained model of the same shape that nothing else here is compared with; of a small group the next of it."""
    if "b" in zoo.records and name in GROUPS[0]:
        return "b"
    return group[(group.index(name) + 1) % len(group)]
