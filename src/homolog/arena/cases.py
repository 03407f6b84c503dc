"""Cases and pairs: trained models, models derived from them by a recipe, and what is true of every two of them."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory

from homolog.arena.recipes import MERGE_RECIPES, Step, list_recipes
from homolog.arena.zoo import Zoo
from homolog.errors import UsageError
from homolog.lab.merges import apply_merge
from homolog.lab.operations import apply_operation
from homolog.lab.shape import Shape, initialise
from homolog.lab.store import load_model, round_weights, save_weights
from homolog.sketch.vocabulary import read_vocabulary

__all__ = ["Case", "Pair", "open_case", "plan_pairs", "sample_pairs"]

INDEPENDENT, RELATED, SHARED = "independent", "related", "shared_initialisation"
_SIDE_FILES = ("tokenizer.json", "tokenizer_config.json")
_UNTRAINED = 990_001
"""Seed of models that nobody trained; no base of the zoo began from it."""
_STD = 0.02
_GROWN = frozenset({"layers_duplicated", "upcycled"})
"""What repeats a model inside itself, and so agrees with itself: such a model meets every base that it has nothing of."""


@dataclass(frozen=True, slots=True)
class Case:
    """A trained model of the zoo (one source, no steps), or one made from it; with ``merge`` made of several.

    With ``drawn`` it has the shape and the tokenizer of its source and none of its numbers: the seed of an initialisation never trained.
    """

    name: str
    sources: tuple[str, ...]
    steps: tuple[Step, ...] = ()
    merge: Step | None = None
    drawn: int | None = None

    @property
    def is_trained(self) -> bool:
        """Whether it lies in the zoo as it is."""
        return not self.steps and self.merge is None and self.drawn is None


@dataclass(frozen=True, slots=True)
class Pair:
    """A known model and one in question, with the truth about them."""

    a: Case
    b: Case
    label: str
    """``related``, ``independent`` or ``shared_initialisation``."""
    operation: str
    """What stands between them: a kind of training, or the recipe that made B."""
    lineages: tuple[str, ...]
    """The lineages of both, without repetition, sorted."""
    held_out: bool
    """Whether one of them is held out: no threshold is chosen on such a pair."""

    @property
    def name(self) -> str:
        """``a | b``."""
        return f"{self.a.name} | {self.b.name}"

    def digest(self, zoo: Zoo) -> str:
        """Changes whenever a source or a recipe does."""
        parts = [
            [[zoo.records[source].digest for source in case.sources], list(case.steps), case.merge]
            + ([] if case.drawn is None else [case.drawn])
            for case in (self.a, self.b)
        ]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def plan_pairs(zoo: Zoo) -> list[Pair]:
    """Pairs of trained models, every derived model against its base and against independent ones, and bases against random numbers."""
    return [*_trained_pairs(zoo), *_derived_pairs(zoo), *_sorted_pairs(zoo), *_untrained_pairs(zoo)]


def sample_pairs(pairs: Sequence[Pair], most: int) -> list[Pair]:
    """``most`` pairs of every truth and operation, evenly over the plan, so that they come from as many lineages as may be."""
    kinds: dict[tuple[str, str], list[int]] = {}
    for place, pair in enumerate(pairs):
        kinds.setdefault((pair.label, pair.operation), []).append(place)
    chosen = {places[i * len(places) // most] for places in kinds.values() for i in range(most)}
    return [pairs[place] for place in sorted(chosen)]


@contextmanager
def open_case(case: Case, zoo: Zoo) -> Iterator[Path]:
    """The folder of a case; one that has to be made lies in a temporary folder, and is gone afterwards."""
    if case.is_trained:
        yield zoo.records[case.sources[0]].folder
        return
    models = [load_model(zoo.records[source].folder) for source in case.sources]
    shape, weights = models[0]
    if case.merge is not None:
        arguments = dict(case.merge)
        weights = apply_merge(arguments.pop("kind"), [model for _, model in models], **arguments)
    if case.drawn is not None:
        weights = round_weights(
            initialise(shape, seed=case.drawn, std=float(zoo.records[case.sources[0]].truth["std"] or _STD))
        )
    for step in case.steps:
        outcome = apply_operation(shape, weights, dict(step))
        shape, weights = outcome.shape, outcome.weights
    with TemporaryDirectory(prefix="homolog-arena-") as made:
        folder = Path(made)
        save_weights(folder, shape, weights)
        for name in _SIDE_FILES:
            if (side := zoo.records[case.sources[0]].folder / name).is_file():
                shutil.copy(side, folder / name)
        yield folder


def _trained(name: str) -> Case:
    return Case(name, (name,))


def _pair(zoo: Zoo, a: Case, b: Case, operation: str | None = None) -> Pair:
    families = [frozenset().union(*(zoo.records[source].family for source in case.sources)) for case in (a, b)]
    lineages = [{zoo.lineage(source) for source in case.sources} for case in (a, b)]
    label = RELATED if families[0] & families[1] else SHARED if lineages[0] & lineages[1] else INDEPENDENT
    between = tuple(sorted(lineages[0] | lineages[1]))
    if a.drawn is not None or b.drawn is not None:
        label = INDEPENDENT
    if operation is None:
        descends = a.sources[0] in families[1]
        kind = zoo.records[b.sources[0]].kind if descends else "siblings"
        operation = kind if label == RELATED else label if label == SHARED else _strangers(zoo, a.name, b.name)
    return Pair(a, b, label, operation, between, any(map(zoo.is_held_out, between)))


def _strangers(zoo: Zoo, a: str, b: str) -> str:
    """What kind of strangers two independent trained models are: the harder kinds have rows of their own."""
    one, other = zoo.records[a], zoo.records[b]
    if one.teacher in other.family or other.teacher in one.family or (one.teacher and one.teacher == other.teacher):
        return "distilled"
    if grown := sorted(_GROWN & {one.kind, other.kind}):
        return grown[0]
    return "other_seed" if _shape(zoo, a) == _shape(zoo, b) else "other_shape"


def _shape(zoo: Zoo, name: str) -> Shape:
    """As a shape: records differ in the keys they leave to their defaults."""
    return Shape(**zoo.records[name].truth["shape"])


def _elder_first(zoo: Zoo, a: Case, b: Case) -> tuple[Case, Case]:
    """The one that the other descends from, if it does, is the known model."""
    return (b, a) if b.name in zoo.records[a.name].family else (a, b)


def _trained_pairs(zoo: Zoo) -> list[Pair]:
    """Every two models of a lineage, every two lineages by their first models, every student with its teacher.

    Each of the other models meets the first of the next lineage besides; one that was upcycled or doubled meets all bases.
    """
    firsts = _firsts(zoo)
    lineages: dict[str, list[str]] = {first: [] for first in firsts}
    for name in sorted(zoo.records):
        lineages.setdefault(zoo.lineage(name), []).append(name)
    names = {pair for members in lineages.values() for pair in combinations(members, 2)}
    names |= set(combinations(firsts, 2))
    for place, first in enumerate(firsts):
        stranger = firsts[(place + 1) % len(firsts)]
        names |= {(stranger, name) for name in lineages[first] if stranger != first}
    for name, record in zoo.records.items():
        if record.kind in _GROWN:
            names |= {(base, name) for base in _bases(zoo) if base != zoo.lineage(name)}
        if record.teacher in zoo.records:
            names.add((record.teacher, name))
    planned = {frozenset(pair): pair for pair in sorted(names)}
    return [_pair(zoo, *_elder_first(zoo, _trained(a), _trained(b))) for a, b in planned.values()]


def _firsts(zoo: Zoo) -> list[str]:
    """The first model of every lineage."""
    return sorted({zoo.lineage(name) for name in zoo.records} & zoo.records.keys())


def _bases(zoo: Zoo) -> list[str]:
    """The first models of the lineages that have others."""
    sizes = Counter(zoo.lineage(name) for name in zoo.records)
    return [name for name in _firsts(zoo) if sizes[name] > 1]


def _derived_pairs(zoo: Zoo) -> list[Pair]:
    """For every recipe B is made from a descendant of the base, or the base itself, and compared with the base and with another base.

    One that is upcycled or doubled is compared with all other bases.
    """
    pairs, bases = [], _bases(zoo)
    for place, base in enumerate(bases):
        others = [*bases[place + 1 :], *bases[:place]]
        for operation, case in _derive(zoo, base):
            known = [base, *(others if operation in _GROWN else others[:1])]
            pairs += [_pair(zoo, _trained(name), case, operation) for name in known]
    return pairs


def _derive(zoo: Zoo, base: str) -> Iterator[tuple[str, Case]]:
    heirs = [
        record.name
        for record in zoo.records.values()
        if base in record.truth["ancestors"] and _shape(zoo, record.name) == _shape(zoo, base)
    ]
    source = next((name for name in heirs if zoo.records[name].kind == "continued_training"), base)
    shape, _ = load_model(zoo.records[source].folder)
    for operation, steps in list_recipes(shape, _unused_rows(zoo, source)).items():
        yield operation, Case(f"{source} + {operation}", (source,), steps)
    if len(heirs) >= 2:
        for operation, merge in MERGE_RECIPES.items():
            plain = operation in ("merged_linear", "merged_slerp")
            sources = (*heirs[:2],) if plain else (base, *heirs[:2])
            yield operation, Case(f"{' + '.join(sources)}: {operation}", sources, (), merge)


def _sorted_pairs(zoo: Zoo) -> list[Pair]:
    """Independent bases whose units were both sorted by importance: equal indices without descent."""
    cases = {base: Case(f"{base} + units_sorted", (base,), ({"kind": "sort_units"},)) for base in _bases(zoo)}
    return [_pair(zoo, cases[a], cases[b], "units_sorted") for a, b in combinations(cases, 2)]


def _untrained_pairs(zoo: Zoo) -> list[Pair]:
    """Every first model of a lineage against random numbers in its shape that nobody trained."""
    drawn = [Case(f"{first} untrained", (first,), drawn=_UNTRAINED) for first in _firsts(zoo)]
    return [_pair(zoo, _trained(case.sources[0]), case, "untrained") for case in drawn]


def _unused_rows(zoo: Zoo, name: str) -> Sequence[int]:
    vocabulary = read_vocabulary(zoo.records[name].folder)
    if vocabulary is None:
        raise UsageError(f"{zoo.records[name].folder}: no tokenizer beside the weights")
    return sorted(vocabulary.ids[token] for token in vocabulary.untrained)
