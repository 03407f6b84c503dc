"""How right the map is, on models whose making is known: the figures of docs/statistics.md on layers, units, experts, merges and direction.

    python benchmarks/derivation.py [PART]... [--more FOLDER] [--side SIDE] [--lines]

PART is ``map`` (layers, new and pruned units, expert origins), ``heads``, ``merges``, ``direction``, ``made`` (direction of what was made
without training) or ``given``; all without one.
Development and held-out lineages are counted apart; no threshold was chosen on the latter. Every trained descendant of the zoo meets its
parent; recipes of the arena are applied to the bases and their heirs, and what they say that they did is the truth. ``--more`` names a
folder of further trained models (`homolog lab build benchmarks/chains/*.toml --out FOLDER`, with the zoo's models in the same folder):
children of children, which the zoo lacks. ``--lines`` prints every pair that was wrong.
"""

from __future__ import annotations

import argparse
import itertools
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from homolog.align.agreement import measure_agreement
from homolog.align.body import read_body
from homolog.align.head_map import CARRIED, compare_heads
from homolog.align.heads import Attention, list_attention, read_attention
from homolog.arena.recipes import Step, list_recipes
from homolog.arena.zoo import Zoo, read_zoo
from homolog.checkpoint.open import open_checkpoint
from homolog.lab.merges import apply_merge
from homolog.lab.operations import apply_operation
from homolog.lab.shape import Shape, Weights
from homolog.lab.store import load_model, save_weights
from homolog.pipeline import compare
from homolog.roles.resolve import resolve
from homolog.sketch.vocabulary import read_vocabulary

ZOO = Path(__file__).parent.parent / "tests" / "zoo"
SIDES = ("development", "held out")

Facts = list[dict[str, Any]]


@dataclass
class Tally:
    """Right and all, for the development lineages and for those held out."""

    right: dict[str, list[int]] = field(default_factory=lambda: {side: [0, 0] for side in SIDES})

    def add(self, side: str, right: int, of: int) -> None:
        """Count ``right`` out of ``of``."""
        self.right[side][0] += right
        self.right[side][1] += of

    def show(self, name: str) -> None:
        """One line a side."""
        for side in SIDES:
            right, of = self.right[side]
            if of:
                print(f"{name:48s} {side:12s} {right} of {of} ({right / of:.1%})", flush=True)


@dataclass
class Truth:
    """What a derived model holds of its parent, as its operations say."""

    layers: list[int | None]
    new: set[int] = field(default_factory=set)
    """New units, the same in every layer."""
    kept: list[list[int]] | None = None
    """For every layer of B the units of the parent that were kept, in order."""
    experts: list[list[list[int]]] | None = None
    """For every layer of B and expert by expert (the shared one last) the parent's units, -1 for new ones."""
    copies: bool = False
    """Whether every expert is the whole FFN."""
    order: list[int | None] | None = None
    """For every expert the parent's expert."""
    silent: bool = False
    """Whether units were split or reordered, so that their counts say nothing."""


def read_truth(depth: int, operations: Facts) -> Truth:
    """The truth from a model's operations and their facts."""
    truth = Truth(list(range(depth)))
    for step in operations:
        facts, kind = step.get("facts") or {}, step["kind"]
        if "sources" in facts:
            truth.layers = [None if i is None else truth.layers[i] for i in facts["sources"]]
            truth.kept = truth.kept and [[] if i is None else truth.kept[i] for i in facts["sources"]]
            truth.experts = truth.experts and [[] if i is None else truth.experts[i] for i in facts["sources"]]
        if "new_units" in facts:
            truth.new = set(facts["new_units"])
        if "kept_units" in facts:
            truth.kept = facts["kept_units"]
        if kind == "upcycle":
            truth.experts, truth.copies = facts.get("units"), "units" not in facts
        if kind == "grow_experts" and not facts.get("copied"):
            truth.order = facts["experts"]
        if kind in ("split_units", "permute_units", "permute_experts"):
            truth.silent = True
        if kind == "permute_experts" and "order" in facts:
            truth.order = facts["order"]
    return truth


def check_map(
    side: str, name: str, comparison: Any, truth: Truth, tallies: Mapping[str, Tally], *, lines: bool
) -> None:
    """Set a comparison's map beside the truth."""
    found = [origin.a for origin in comparison.origins]
    right = sum(x == y for x, y in itertools.zip_longest(found, truth.layers))
    tallies["layers"].add(side, right, len(truth.layers))
    if lines and right < len(truth.layers):
        print(f"  layers: {name}: {found} for {truth.layers}")
    whole = comparison.map
    if truth.silent:
        return
    for place, origin in whole.origins.items():
        source = truth.layers[place.layer] if place.layer < len(truth.layers) else None
        if source is None:
            continue
        if place.expert < 0 and not place.shared and truth.experts is None and truth.order is None:
            _check_units(side, name, origin, truth, place.layer, tallies, lines=lines)
        elif (truth.experts is not None or truth.copies) and source < len(truth.layers):
            _check_expert(side, name, place, origin, truth, source, tallies, lines=lines)
    for layer, source in enumerate(truth.layers):
        units = whole.units.get(layer)
        if source is None and units is not None:
            tallies["new units"].add(side, units.new, units.b)


def _check_units(
    side: str, name: str, origin: Any, truth: Truth, layer: int, tallies: Mapping[str, Tally], *, lines: bool
) -> None:
    new = {i for i, block in enumerate(origin.block.tolist()) if block < 0}
    if truth.new:
        tallies["new units"].add(side, len(new & truth.new), len(truth.new))
    old = [i for i in range(len(origin)) if i not in truth.new]
    expected = truth.kept[layer] if truth.kept else list(range(len(old)))
    right = sum(int(origin.unit[i]) == unit for i, unit in zip(old, expected, strict=False))
    tallies["carried units"].add(side, right, len(old))
    if truth.kept:
        lost = set(range(origin.sizes[0])) - set(truth.kept[layer])
        said = set(range(origin.sizes[0])) - set(origin.unit[origin.block >= 0].tolist())
        tallies["pruned units"].add(side, len(lost & said), len(lost))
    if lines and right < len(old):
        print(f"  units: {name}: {origin.place.name}: {right} of {len(old)}")


def _check_expert(
    side: str,
    name: str,
    place: Any,
    origin: Any,
    truth: Truth,
    source: int,
    tallies: Mapping[str, Tally],
    *,
    lines: bool,
) -> None:
    """The FFN that most units came from, and every unit."""
    shares = origin.shares()
    right = bool(shares) and shares[0][0].layer == source and shares[0][0].expert < 0
    tallies["expert origins"].add(side, int(right), 1)
    expected = list(range(len(origin)))
    if truth.experts is not None:
        units = truth.experts[place.layer]
        expected = units[-1] if place.shared else units[place.expert]
    new = [i for i, unit in enumerate(expected) if unit < 0]
    tallies["new units"].add(side, sum(int(origin.block[i]) < 0 for i in new), len(new))
    old = [(i, unit) for i, unit in enumerate(expected) if unit >= 0]
    same = sum(int(origin.unit[i]) == unit for i, unit in old)
    tallies["units of experts"].add(side, same, len(old))
    if lines and (not right or same < len(old)):
        print(f"  experts: {name}: {place.name}: {[(p.name, n) for p, n in shares]}, {same} of {len(old)} units")


@contextmanager
def derived(zoo: Zoo, name: str, steps: Sequence[Step]) -> Iterator[tuple[Path, Facts]]:
    """A model made from one of the zoo's by steps, with what they say that they did."""
    shape, weights = load_model(zoo.records[name].folder)
    facts: Facts = []
    for step in steps:
        outcome = apply_operation(shape, weights, dict(step))
        shape, weights = outcome.shape, outcome.weights
        facts.append({**step, "facts": outcome.facts or {}})
    with saved(zoo, name, shape, weights) as folder:
        yield folder, facts


@contextmanager
def saved(zoo: Zoo, name: str, shape: Shape, weights: Weights) -> Iterator[Path]:
    """Weights in a folder with the tokenizer of ``name``, for as long as they are looked at."""
    with TemporaryDirectory(prefix="homolog-map-") as made:
        folder = Path(made)
        save_weights(folder, shape, weights)
        shutil.copy(zoo.records[name].folder / "tokenizer.json", folder / "tokenizer.json")
        yield folder


def list_derivations(shape: Shape) -> dict[str, tuple[Step, ...]]:
    """Derivations with a truth on layers, units or experts, of several seeds."""
    every, half, middle = list(range(shape.layers)), shape.ffn // 2, shape.layers // 2
    permuted = [{"kind": "permute_units", "seed": 5}, {"kind": "rotate_residual", "seed": 5}]
    found: dict[str, tuple[Step, ...]] = {
        "dropped": ({"kind": "keep_layers", "layers": [i for i in every if i != middle]},),
        "doubled": ({"kind": "keep_layers", "layers": [*every[:-1], *every[1:]]},),
        "reversed": ({"kind": "keep_layers", "layers": every[::-1]},),
    }
    if shape.family == "gpt2":
        return found
    found["inserted"] = ({"kind": "insert_layers", "before": [middle, shape.layers], "seed": 5},)
    found["doubled and disguised"] = (*found["doubled"], *permuted)
    if shape.experts:
        return found
    found |= {
        "pruned": ({"kind": "prune_ffn", "units": half},),
        "widened": ({"kind": "widen_ffn", "units": half, "seed": 5},),
        "widened here and there": ({"kind": "widen_ffn", "units": half, "interleave": True, "seed": 6},),
    }
    if shape.family in ("llama", "qwen2"):
        base: dict[str, Any] = {"kind": "upcycle", "chosen": 2}
        found |= {
            "upcycled": ({**base, "experts": 4, "seed": 5, "noise": 0.1},),
            "upcycled, a part drawn anew": ({**base, "experts": 4, "seed": 6, "drop": 0.5, "noise": 0.1},),
            "cut into experts": (
                {**base, "experts": 4, "seed": 7, "mode": "partitions", "shared": shape.ffn // 4 * 2},
            ),
            "subsets as experts": (
                {
                    **base,
                    "experts": 6,
                    "seed": 8,
                    "mode": "subsets",
                    "shared": half,
                    "units": shape.ffn // 4,
                    "noise": 0.1,
                },
            ),
        }
    return found


def measure_map(zoo: Zoo, *, lines: bool) -> None:
    """Layers, units and experts: trained children beside their parents, and derivations of bases and heirs."""
    names = ("layers", "carried units", "new units", "pruned units", "expert origins", "units of experts")
    trained, made = ({name: Tally() for name in names} for _ in range(2))
    for name, record in zoo.records.items():
        parent = str(record.truth.get("parent"))
        if parent not in zoo.records:
            continue
        depth = zoo.records[parent].truth["shape"]["layers"]
        comparison = compare(zoo.records[parent].folder, record.folder)
        check_map(
            _side(zoo, name), name, comparison, read_truth(depth, record.truth["operations"]), trained, lines=lines
        )
    for name in _sources(zoo):
        shape, _ = load_model(zoo.records[name].folder)
        root = zoo.records[name].root
        for operation, steps in list_derivations(shape).items():
            with derived(zoo, name, steps) as (folder, facts):
                comparison = compare(zoo.records[root].folder, folder)
            check_map(
                _side(zoo, name), f"{name} {operation}", comparison, read_truth(shape.layers, facts), made, lines=lines
            )
    for name, tally in trained.items():
        tally.show(f"trained: {name}")
    for name, tally in made.items():
        tally.show(f"recomputed: {name}")


def measure_heads(zoo: Zoo, *, lines: bool) -> None:
    """Heads of trained children and of bases beside their parents, as they are and disguised; and of independent models in body frames."""
    names = ("heads", "values", "permutations named")
    tallies: dict[str, Tally] = {}
    for name, record in zoo.records.items():
        parent = str(record.truth.get("parent") or name)
        if parent not in zoo.records or (parent == name and not _heirs(zoo, name)):
            continue
        shape, _ = load_model(record.folder)
        layers = read_truth(zoo.records[parent].truth["shape"]["layers"], record.truth.get("operations") or []).layers
        for disguise, steps in _list_head_changes(shape).items():
            if parent == name and not steps:
                continue  # the same numbers
            with derived(zoo, name, steps) as (folder, facts):
                comparison = compare(zoo.records[parent].folder, folder)
            for part in names:
                tallies.setdefault(f"{disguise}: {part}", Tally())
            _check_heads(zoo, name, disguise, comparison, shape, layers, facts, tallies, lines=lines)
    for part in sorted(tallies, key=lambda part: names.index(part.rpartition(": ")[2])):
        tallies[part].show(part)
    _measure_strangers(zoo)


def _list_head_changes(shape: Shape) -> dict[str, tuple[Step, ...]]:
    permuted: Step = {"kind": "permute_heads", "seed": 5}
    mixed: Step = {"kind": "mix_values", "seed": 5}
    turned = "permute_residual" if shape.family in ("gpt2", "pangu") else "rotate_residual"
    hidden: tuple[Step, ...] = tuple({"kind": kind, "seed": 5} for kind in ("rescale", "permute_units", turned))
    found: dict[str, tuple[Step, ...]] = {
        "as they are": (),
        "heads permuted": (permuted,),
        "values mixed": (mixed,),
        "fully disguised": (permuted, mixed, *hidden),
    }
    if shape.family != "gpt2" and shape.kv_heads > 1:
        found["pruned"] = ({"kind": "prune_heads", "groups": shape.kv_heads // 2},)
        found["pruned and fully disguised"] = (*found["pruned"], mixed, *hidden)
    return found


def _check_heads(
    zoo: Zoo,
    name: str,
    disguise: str,
    comparison: Any,
    shape: Shape,
    layers: Sequence[int | None],
    facts: Facts,
    tallies: Mapping[str, Tally],
    *,
    lines: bool,
) -> None:
    side, found = _side(zoo, name), comparison.map.heads
    orders = next((step["facts"]["heads"] for step in facts if "heads" in step["facts"]), None)
    mixed = any(step["kind"] == "mix_values" for step in facts)
    for layer, source in enumerate(layers):
        if source is None:
            continue
        expected = orders[layer] if orders else list(range(shape.heads))
        sources = found[layer].sources if layer in found else ()
        right = sum(x == y for x, y in itertools.zip_longest(sources, expected))
        tallies[f"{disguise}: heads"].add(side, right, len(expected))
        values = found[layer].values if layer in found else "none"
        tallies[f"{disguise}: values"].add(side, int(values == ("mixed" if mixed else "kept")), 1)
        if lines and right < len(expected):
            print(f"  heads: {name} {disguise}: layer {layer}: {sources} for {expected}")
    named = any(step.kind == "heads_permuted" for step in comparison.operations)
    moved = any(order != sorted(order) for order in orders or ())
    tallies[f"{disguise}: permutations named"].add(side, int(named == moved), 1)
    if lines and named != moved:
        print(f"  named: {name} {disguise}: {[step.kind for step in comparison.operations]}")


def _measure_strangers(zoo: Zoo) -> None:
    """The most that a head of one base resembles any head of another in their body frame."""
    bases = [name for name, record in zoo.records.items() if not record.truth["ancestors"]]
    most: dict[str, list[float]] = {side: [] for side in SIDES}
    opened: dict[str, tuple[Any, Any, list[Attention]]] = {}
    for name in bases:
        with open_checkpoint(zoo.records[name].folder) as checkpoint:
            anatomy = resolve(checkpoint)
            heads = [read_attention(checkpoint, anatomy, layer) for layer in list_attention(anatomy)]
            known = [found for found in heads if isinstance(found, Attention)]
            opened[name] = read_body(checkpoint, anatomy), anatomy, known
    for first, second in itertools.combinations(bases, 2):
        frame = measure_agreement(opened[first][0], opened[second][0]).frame
        if frame is None:
            continue
        held_out = {_side(zoo, first), _side(zoo, second)} == {SIDES[1]}
        mine, theirs = (
            [found.turn(basis) for found in opened[name][2]] for name, basis in ((first, frame.a), (second, frame.b))
        )
        likeness = max(float(compare_heads(x, y).max()) for x in mine for y in theirs)
        most[SIDES[held_out]].append(likeness)
    for side, found in most.items():
        if found:
            found.sort()
            above = sum(value >= CARRIED for value in found)
            print(
                f"{'independent bases: likest two heads of a pair':48s} {side:12s} median {found[len(found) // 2]:.3f}, "
                f"largest {found[-1]:.3f}, {above} of {len(found)} pairs at {CARRIED} or above"
            )


def _sources(zoo: Zoo) -> list[str]:
    """Bases with descendants, and of each the first heir of its shape."""
    found = []
    for base in sorted({record.root for record in zoo.records.values() if record.truth["ancestors"]}):
        found += [base, *_heirs(zoo, base)[:1]]
    return found


def _heirs(zoo: Zoo, base: str) -> list[str]:
    """The descendants of a base that have its shape."""
    shapes = {name: Shape(**record.truth["shape"]) for name, record in zoo.records.items()}
    return [
        name for name in sorted(shapes) if base in zoo.records[name].truth["ancestors"] and shapes[name] == shapes[base]
    ]


def measure_merges(zoo: Zoo, *, lines: bool) -> None:
    """Merges of two heirs of a base, with the base and without: the largest error of a coefficient, in all and in any layer."""
    worst: dict[tuple[str, str], list[float]] = {}
    for base in sorted({record.root for record in zoo.records.values()}):
        heirs = _heirs(zoo, base)
        if not heirs:
            continue
        pairs = [(base, heirs[0]), *itertools.combinations(heirs, 2)][:6]
        for first, second in pairs:
            for kind, sources, arguments, expected in _list_merges(base, first, second):
                models = [load_model(zoo.records[n].folder) for n in sources]
                weights = apply_merge(kind, [w for _, w in models], **arguments)
                with saved(zoo, sources[0], models[0][0], weights) as folder:
                    others = [zoo.records[n].folder for n in sources[1:]]
                    comparison = compare(zoo.records[sources[0]].folder, folder, also=others)
                merge = comparison.merge
                if merge is None or merge.total is None:
                    print(f"  no coefficients: {kind} of {sources}: {merge and merge.absent}")
                    continue
                layers = [layer.coefficients for layer in merge.layers if not layer.collinear]
                rows = [merge.total.coefficients, *layers]
                errors = [max(abs(x - y) for x, y in zip(row, expected, strict=True)) for row in rows]
                key = (kind, _side(zoo, base))
                worst.setdefault(key, []).append(errors[0])
                worst.setdefault((f"{kind}, any layer", key[1]), []).append(max(errors))
                if lines and errors[0] > 0.02:
                    print(f"  {kind} of {sources}: {merge.text}")
    for (kind, side), errors in sorted(worst.items()):
        inside = sum(error <= 0.02 for error in errors)
        print(f"merges: {kind:39s} {side:12s} largest error {max(errors):.4f}, {inside} of {len(errors)} within 0.02")


def _list_merges(base: str, first: str, second: str) -> Iterator[tuple[str, list[str], dict[str, Any], list[float]]]:
    for share in (0.5, 0.8):
        yield "linear", [first, second], {"coefficients": [share, 1 - share]}, [share, 1 - share]
        yield "slerp", [first, second], {"t": 1 - share}, [share, 1 - share]
    if base not in (first, second):
        for scale in (0.3, 0.5):
            yield "task_arithmetic", [base, first, second], {"scale": scale}, [1 - 2 * scale, scale, scale]
        yield "dare", [base, first, second], {"drop": 0.5, "seed": 1}, [0.0, 0.5, 0.5]


def measure_direction(zoo: Zoo, *, lines: bool) -> None:
    """Every two related models of a lineage, both ways round."""
    parents, descents, siblings, orders = Tally(), Tally(), Tally(), Tally()
    wrong = Tally()
    for first, second in _related(zoo):
        side = _side(zoo, first)
        for a, b in ((first, second), (second, first)):
            truth = _order(zoo, a, b)
            comparison = compare(zoo.records[a].folder, zoo.records[b].folder)
            relation = comparison.relation
            named = relation in ("a_to_b", "b_to_a")
            known = {fact.direction for fact in comparison.direction.facts}
            is_wrong = (named and relation != truth) or bool(truth and known - {truth})
            wrong.add(side, int(is_wrong), 1)
            if lines and (is_wrong or (truth and not named)):
                print(
                    f"  {'WRONG' if is_wrong else 'open'}: {a} | {b}: {relation} {sorted(known)} {comparison.direction.why}"
                )
            if truth is None:
                siblings.add(side, int(not named), 1)
                continue
            direct = a in (zoo.records[b].truth.get("parent"),) or b in (zoo.records[a].truth.get("parent"),)
            (parents if direct else descents).add(side, int(relation == truth), 1)
            orders.add(side, int(known == {truth}), 1)
    parents.show("direction: parent and child, directed")
    descents.show("direction: grandparents, directed")
    orders.show("direction: the other order excluded")
    siblings.show("direction: common ancestor, none named")
    wrong.show("direction: wrong")


_SAME = ("renamed",)
"""Recipes that leave every number as it was."""

_SIBLINGS = (
    "norms_folded",
    "residual_rotated",
    "rescaled",
    "values_mixed",
    "quantised_int8",
    "quantised_int4",
    "quantised_fp8",
    "quantised_nf4",
    "ffn_pruned",
    "layers_duplicated",
)
"""Recipes whose outcome is set beside trained heirs of the same base: siblings, of which none is the other's ancestor."""

_HEIRS = 6
"""Heirs of a base, the first by name, that are set beside such copies."""


def measure_made(zoo: Zoo, *, lines: bool) -> None:
    """Bases with heirs beside what every recipe of the arena makes of them without training, both ways round; and heirs beside copies."""
    named, siblings, wrong = Tally(), Tally(), Tally()
    kinds: dict[str, Tally] = {}
    for base in sorted({record.root for record in zoo.records.values() if record.truth["ancestors"]}):
        record, side = zoo.records[base], _side(zoo, base)
        heirs = [other for name, other in sorted(zoo.records.items()) if base in other.truth["ancestors"]][:_HEIRS]
        shape, _ = load_model(record.folder)
        vocabulary = read_vocabulary(record.folder)
        unused = [] if vocabulary is None else sorted(vocabulary.ids[token] for token in vocabulary.untrained)
        for recipe, steps in list_recipes(shape, unused).items():
            if recipe in _SAME:
                continue
            with derived(zoo, base, steps) as (folder, _):
                pairs = [(record.folder, folder, "a_to_b"), (folder, record.folder, "b_to_a")]
                if recipe in _SIBLINGS:
                    pairs += [pair for heir in heirs for pair in ((heir.folder, folder, ""), (folder, heir.folder, ""))]
                for a, b, truth in pairs:
                    found = compare(a, b).direction
                    facts = {fact.direction for fact in found.facts}
                    is_wrong = found.relation not in (truth, "undirected") or bool(truth and facts - {truth})
                    wrong.add(side, int(is_wrong), 1)
                    if truth:
                        for tally in (named, kinds.setdefault(recipe, Tally())):
                            tally.add(side, int(found.relation == truth), 1)
                    else:
                        siblings.add(side, int(found.relation == "undirected"), 1)
                    if lines and (is_wrong or (truth and found.relation != truth)):
                        print(f"  {'WRONG' if is_wrong else 'open'}: {a.name} | {b.name} ({recipe}): {found.why}")
    for recipe, tally in kinds.items():
        tally.show(f"made without training: {recipe}")
    named.show("made without training: directed")
    siblings.show("made without training: siblings, none named")
    wrong.show("made without training: wrong")


def _related(zoo: Zoo) -> Iterator[tuple[str, str]]:
    for first, second in itertools.combinations(sorted(zoo.records), 2):
        if zoo.records[first].family & zoo.records[second].family:
            yield first, second


def _order(zoo: Zoo, a: str, b: str) -> str | None:
    if a in zoo.records[b].truth["ancestors"]:
        return "a_to_b"
    return "b_to_a" if b in zoo.records[a].truth["ancestors"] else None


def measure_given(zoo: Zoo, *, lines: bool) -> None:
    """Every two descendants of a model, given that model."""
    named: dict[str, Tally] = {"siblings": Tally(), "chains": Tally()}
    wrong, between = Tally(), {"siblings": Tally(), "chains": Tally()}
    for c, record in zoo.records.items():
        heirs = sorted(name for name, other in zoo.records.items() if c in other.truth["ancestors"])
        for a, b in itertools.combinations(heirs, 2):
            order = _order(zoo, a, b)
            common = [n for n in [a, *zoo.records[a].truth["ancestors"]] if n in zoo.records[b].family]
            if order is None and common[0] != c:
                continue
            truth, middle = {"a_to_b": ("c_a_b", "a"), "b_to_a": ("c_b_a", "b"), None: ("sibling", "c")}[order]
            given = compare(zoo.records[a].folder, zoo.records[b].folder, given=record.folder).given
            assert given is not None
            side, kind = _side(zoo, c), "siblings" if order is None else "chains"
            named[kind].add(side, int(given.outcome == truth), 1)
            between[kind].add(side, int(given.between == middle), 1)
            is_wrong = given.outcome not in (truth, "undecided")
            wrong.add(side, int(is_wrong), 1)
            if lines and given.outcome != truth:
                print(
                    f"  {'WRONG' if is_wrong else 'open'}: {a} | {b} given {c}: {given.outcome}, {given.between}: {given.text}"
                )
    for kind, tally in named.items():
        tally.show(f"given: {kind}, named")
        between[kind].show(f"given: {kind}, the one between named")
    wrong.show("given: wrong")


def _side(zoo: Zoo, name: str) -> str:
    return SIDES[zoo.is_held_out(zoo.lineage(name))]


def main() -> None:
    """Measure what was asked for."""
    parts = {
        "map": measure_map,
        "heads": measure_heads,
        "merges": measure_merges,
        "direction": measure_direction,
        "made": measure_made,
        "given": measure_given,
    }
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(parts))
    parser.add_argument("--more", type=Path, default=ZOO, help="a folder with the zoo's models and further ones")
    parser.add_argument("--lines", action="store_true", help="print every pair that was wrong or left open")
    parser.add_argument("--side", choices=SIDES, help="only these lineages")
    given = parser.parse_args()
    zoo = read_zoo(given.more)
    if given.side:
        zoo = Zoo({name: record for name, record in zoo.records.items() if _side(zoo, name) == given.side})
    for part in given.parts or parts:
        parts[part](zoo, lines=given.lines)


if __name__ == "__main__":
    main()
