"""Which of two related models came first, from facts that hold in one order only; and whether the elder is the other's own ancestor.

That one order is excluded does not make the other true: both may descend from a third model. So a direction is named only by facts that
speak of all of the elder's own numbers, and only where the elder has nothing that the younger lacks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from homolog.checkpoint.base import Array
from homolog.derivation.few_bits import find_few_bits
from homolog.derivation.follows import find_following
from homolog.derivation.mapping import ModelMap
from homolog.derivation.rounding import Follows, compare_rows, find_step, round_to
from homolog.derivation.tensors import judge_tensor, ulp
from homolog.derivation.whole import TensorPair, Wholes
from homolog.probes.pair import Pair
from homolog.roles.role import Space
from homolog.sketch.sketch import Sketch

__all__ = ["Direction", "Fact", "find_direction"]

_FORKED = 0.25
"""Cosine of how two experts that are copies of one FFN differ from it: 0.12 to 0.19 where it is A's, 0.29 and more where A left it too
(lineage q)."""

_BETWEEN = 0.95
"""A layer lies between its two copies if it is nearer to both than they are to each other."""

_SCATTERED, _FEW, _OVERLAP = 8, 0.05, 0.9

_STEPS, _SURE = 0.08, 10.0
"""How much more often numbers must overstep half a step of the finer grid one way than the other way, and by how many standard errors."""

_ROUNDED, _HALF = 0.98, (0.3, 0.7)
_ROWS_OF_LATTICE, _SMALLEST = 64, 16


@dataclass(frozen=True, slots=True)
class Fact:
    """Something that holds in one order only."""

    kind: str
    direction: str
    """``a_to_b`` or ``b_to_a``: the only order in which it could have come about, if one of the two is the other's ancestor."""
    text: str

    def to_json(self) -> dict[str, Any]:
        """As the document has it."""
        return {"kind": self.kind, "direction": self.direction, "text": self.text}


@dataclass(frozen=True, slots=True)
class Direction:
    """What the facts come to."""

    relation: str = "undirected"
    facts: tuple[Fact, ...] = ()
    why: str = "no fact was found that holds in one order only"
    """Why no direction is named; empty if one is."""
    rows: Follows | None = None

    def with_fact(self, fact: Fact | None, whole: ModelMap) -> Direction:
        """What it comes to with one more fact about the elder's own numbers."""
        if fact is None:
            return self
        facts = (*self.facts, fact)
        if any(other.direction != fact.direction for other in self.facts):
            return replace(self, relation="undirected", facts=facts, why=_CONTRADICTED)
        if not _holds_all(whole, fact.direction):
            return replace(self, facts=facts, why=_GROWN)
        return replace(self, relation=fact.direction, facts=facts, why="")

    def to_json(self) -> dict[str, Any]:
        """As the document has it."""
        rows = self.rows
        return {
            "relation": self.relation,
            "facts": [fact.to_json() for fact in self.facts],
            "why": self.why,
            "rows": None
            if rows is None
            else {
                "table": rows.table,
                "rows": rows.rows,
                "numbers": rows.numbers,
                "factor": rows.factor,
                "forward": rows.forward,
                "backward": rows.backward,
            },
        }


def find_direction(whole: ModelMap, pair: Pair) -> Direction:
    """The facts, and the direction that they come to. Without whole tensors only doubled layers that are still the same are seen.

    Raises CheckpointError where a file cannot be read.
    """
    wholes = whole.wholes
    copied = tuple(_layers_copied(pair, whole))
    if wholes is None:
        return Direction(facts=copied, why=f"whole tensors were not compared: {whole.absent}")
    rows = compare_rows(wholes.pairs())
    facts = [
        *copied,
        *_numbers_rounded(wholes),
        *_rows_decayed(rows),
        *_layers_doubled(wholes),
        *(scattered := list(_units_scattered(whole))),
        *(_nothing_else(wholes, fact) for fact in scattered if _is_nothing_else(wholes, fact.direction)),
        *_updated_by_low_rank(whole, wholes),
        *_put_on_levels(wholes, (pair.a.lattice, pair.b.lattice)),
        *_experts_forked(wholes),
        *_numbers_follow(wholes),
    ]
    orders = {fact.direction for fact in facts}
    if len(orders) != 1:
        why = _CONTRADICTED if orders else Direction().why
        return Direction(facts=tuple(facts), rows=rows, why=why)
    order = orders.pop()
    if not any(fact.kind in OF_THE_WHOLE for fact in facts):
        why = _SHARED_TABLE if rows is not None and (rows.from_a or rows.from_b) else _EXCLUDED
    else:
        why = "" if _holds_all(whole, order) else _GROWN
    return Direction("undirected" if why else order, tuple(facts), why, rows)


OF_THE_WHOLE = (
    "low_rank_rounded",
    "lattice_rounded",
    "merged",
    "layers_copied",
    "numbers_rounded",
    "numbers_follow",
    "only_pruned",
)
"""Facts that speak of the elder's own numbers, not of a table that it may have from an ancestor."""

_EXCLUDED = "the other order is excluded, but both may descend from a third model"
_SHARED_TABLE = (
    "the other order is excluded: the elder is an ancestor of the younger, or both descend from a third model whose token table "
    "it left as it was"
)
_CONTRADICTED = "facts speak for both orders"
_GROWN = "the other order is excluded, but the elder has parts that the younger lacks: they may have been grown around a third model"


def _numbers_rounded(wholes: Wholes) -> Iterator[Fact]:
    """All numbers of one model are those of the other rounded to 16 bits, which the other's are not."""
    coarser: set[int] = set()
    for pair in wholes.pairs():
        if pair.source is None or np.array_equal(pair.a, pair.b):
            continue
        kinds = [find_step(values, dtype) for values, dtype in zip((pair.a, pair.b), pair.dtypes, strict=True)]
        sides = [
            side
            for side, (fine, coarse) in enumerate(((pair.b, pair.a), (pair.a, pair.b)))
            if (kind := kinds[side]) is not None and np.array_equal(round_to(fine, kind), coarse)
        ]
        if len(sides) != 1:
            return
        coarser.update(sides)
    if len(coarser) == 1:
        younger, elder, order = ("A", "B", "b_to_a") if coarser == {0} else ("B", "A", "a_to_b")
        text = f"every number of {younger} is the one of {elder} rounded to 16 bits, and those of {elder} are finer"
        yield Fact("numbers_rounded", order, text)


def _numbers_follow(wholes: Wholes) -> Iterator[Fact]:
    """All numbers of one model are what a change that keeps the function makes of the other's, rounded, which the other's are not."""
    found = find_following(wholes)
    if found is None:
        return
    elder, younger = ("A", "B") if found.order == "a_to_b" else ("B", "A")
    text = (
        f"every number of {younger} follows from those of {elder} by a change that keeps what a model computes, to within half a step of "
        f"{younger} ({found.forward:.1%} of them are off by more); the other way round {found.backward:.1%} of {found.numbers} numbers of "
        f"{elder} are"
    )
    yield Fact("numbers_follow", found.order, text)


def _rows_decayed(rows: Follows | None) -> Iterator[Fact]:
    if rows is None or not (rows.from_a or rows.from_b):
        return
    elder, younger, order = ("A", "B", "a_to_b") if rows.from_a else ("B", "A", "b_to_a")
    factor = rows.factor if rows.from_a else 1.0 / rows.factor
    most, least = max(rows.forward, rows.backward), min(rows.forward, rows.backward)
    text = (
        f"{rows.rows} rows of the token table of {younger} are those of {elder} times {factor:.4f}, rounded once more "
        f"({most:.1%} of {rows.numbers} numbers follow, {least:.1%} the other way round): rows that no text "
        "reaches decay in training and do not grow back"
    )
    yield Fact("rows_decayed", order, text)


def _layers_copied(pair: Pair, whole: ModelMap) -> Iterator[Fact]:
    """One model repeats layers of the other, all of which are different, and everything that was read of both is the same, bit for bit."""
    prints = [_fingerprints(sketch) for sketch in (pair.a, pair.b)]
    if not all(prints) or set(prints[0]) != set(prints[1]) or not _same_tables(pair):
        return
    if whole.wholes is not None and any(state.state not in ("frozen", "new") for state in whole.tensors.states):
        return
    counts = [Counter(layers) for layers in prints]
    for order, elder, younger in (("a_to_b", 0, 1), ("b_to_a", 1, 0)):
        if max(counts[elder].values()) == 1 and max(counts[younger].values()) > 1:
            names = "AB"[elder], "AB"[younger]
            repeated = sum(count > 1 for count in counts[younger].values())
            text = (
                f"{repeated} layers of {names[0]}, whose layers are all different, stand more than once in {names[1]}, and what "
                "was read of both is the same bit for bit"
            )
            yield Fact("layers_copied", order, text)


def _fingerprints(sketch: Sketch) -> list[tuple[bytes, ...]]:
    """Of every layer the digests of all that was sampled of its FFNs and its value rows; empty where not every layer was read."""
    if sketch.layers_read is not None or sketch.frame:
        return []
    found: dict[int, list[bytes]] = {layer: [] for layer in range(sketch.anatomy.dims.layers)}
    for block in sketch.units:
        found.setdefault(block.layer, []).append(block.digest)
    for values in sketch.values:
        found.setdefault(values.layer, []).append(values.rows.tobytes())
    return [tuple(digests) for _, digests in sorted(found.items())] if all(found.values()) else []


def _same_tables(pair: Pair) -> bool:
    for key, rows in pair.a.tokens.items():
        other = pair.b.tokens.get(key)
        if other is None or not np.array_equal(rows.ordinary, other.ordinary):
            return False
    return pair.a.tokens.keys() == pair.b.tokens.keys()


def _layers_doubled(wholes: Wholes) -> Iterator[Fact]:
    """Layers of A that lie between their two copies in B."""
    sources = Counter(source for source in wholes.layers.values() if source is not None)
    doubled = {source for source, count in sources.items() if count > 1}
    if not doubled:
        return
    seen: dict[tuple[int, str], list[TensorPair]] = {}
    between: dict[int, list[bool]] = {}
    for pair in wholes.pairs():
        if pair.source is None or pair.source.layer not in doubled or pair.role.part != "weight" or pair.b.ndim != 2:
            continue
        for other in seen.setdefault((pair.source.layer, str(pair.source)), []):
            if np.array_equal(other.a, pair.a):
                apart = float(np.linalg.norm(other.b - pair.b))
                far = max(float(np.linalg.norm(x.b - x.a)) for x in (other, pair))
                between.setdefault(pair.source.layer, []).append(apart > 0 and far < _BETWEEN * apart)
        seen[pair.source.layer, str(pair.source)].append(pair)
    layers = sorted(layer for layer, found in between.items() if np.mean(found) > 0.5)
    if layers and len(layers) == len(between):
        shown = ", ".join(map(str, layers))
        text = f"layer{'s' if len(layers) > 1 else ''} {shown} of A stand twice in B, and A's lies between the two"
        yield Fact("layers_duplicated", "a_to_b", text)


def _units_scattered(whole: ModelMap) -> Iterator[Fact]:
    """Units of one model that the other lacks, at places that differ from layer to layer: pruning does that, growing does not."""
    assert whole.wholes is not None
    missing = {"a_to_b": _missing_units(whole.wholes), "b_to_a": _new_units(whole.wholes)}
    for order, layers in missing.items():
        wide, narrow = ("A", "B") if order == "a_to_b" else ("B", "A")
        if _are_scattered(list(layers.values())):
            count = sum(map(len, layers.values()))
            text = (
                f"{count} FFN units of {wide} are not in {narrow}, at places that differ from layer to layer, and the rest kept their "
                "order: pruning does that, while units that are added stand in the same places everywhere"
            )
            yield Fact("units_pruned", order, text)


def _is_nothing_else(wholes: Wholes, order: str) -> bool:
    """Whether both hold the same numbers but for units of dense FFNs that the younger lacks."""
    dims = [replace(anatomy.dims, ffn=0) for anatomy in wholes.anatomies]
    if dims[0] != dims[1] or any(a != b for b, a in wholes.layers.items()):
        return False
    for pair in wholes.pairs():
        if pair.source is None or pair.fitted:
            return False
        same = pair.a == pair.b
        view = wholes.anatomies[0].views[pair.source]
        if order == "b_to_a" and Space.FFN in view.axes:
            units = view.shape[view.axes.index(Space.FFN)]
            if int(same.reshape(len(same), -1).all(axis=1).sum()) < units:
                return False
        elif pair.covered < 1.0 or not same.all():
            return False
    return True


def _nothing_else(wholes: Wholes, fact: Fact) -> Fact:
    elder, younger = ("A", "B") if fact.direction == "a_to_b" else ("B", "A")
    size = sum(int(np.prod(view.shape)) for view in wholes.anatomies["AB".index(younger)].views.values())
    text = (
        f"all {size} numbers of {younger} are those of {elder}, bit for bit: nothing but those units sets the two apart"
    )
    return Fact("only_pruned", fact.direction, text)


def _missing_units(wholes: Wholes) -> dict[int, set[int]]:
    """Layer of A → the units of its dense FFN that no unit of B's carries, where B's carry the others in order."""
    found: dict[int, set[int]] = {}
    for place, origin in wholes.origins.items():
        if place.expert < 0 and not place.shared and len(origin.sources) == 1 and origin.order == "kept":
            lost = set(range(origin.sizes[0])) - set(origin.unit[origin.block >= 0].tolist())
            known = found.get(origin.sources[0].layer)
            found[origin.sources[0].layer] = lost if known is None else known & lost
    return found


def _new_units(wholes: Wholes) -> dict[int, set[int]]:
    return {
        place.layer: set(np.flatnonzero(origin.block < 0).tolist())
        for place, origin in wholes.origins.items()
        if place.expert < 0 and not place.shared and len(origin.sources) == 1 and origin.order == "kept"
    }


def _are_scattered(layers: Sequence[set[int]]) -> bool:
    many = [units for units in layers if len(units) >= _SCATTERED]
    if len(many) < 2 or len(many) < len(layers):
        return False
    runs = [sum(unit - 1 not in units for unit in units) for units in many]
    overlaps = [len(x & y) / len(x | y) for i, x in enumerate(many) for y in many[:i]]
    return min(runs) >= _SCATTERED // 2 and max(overlaps) < _OVERLAP


def _updated_by_low_rank(whole: ModelMap, wholes: Wholes) -> Iterator[Fact]:
    """B = A + update, rounded to B's grid: what is left over is as large as a step of B's also where A's is finer, not the other way."""
    ranks = {found.role: found.rank for found in whole.tensors.low_rank}
    if len(ranks) < 2 or whole.tensors.count("changed") > len(ranks):
        return
    over, trials = np.zeros(2), np.zeros(2)
    for pair in wholes.pairs():
        if pair.role not in ranks or any(
            find_step(x, d) is None for x, d in zip((pair.a, pair.b), pair.dtypes, strict=True)
        ):
            continue
        a, b = pair.a.astype(np.float64), pair.b.astype(np.float64)
        u, s, vt = np.linalg.svd(b - a, full_matrices=False)
        rank = ranks[pair.role]
        left = np.abs(b - a - (u[:, :rank] * s[:rank]) @ vt[:rank])
        steps = [
            ulp(x, "BF16" if find_step(x, d) == "BF16" else "F16")
            for x, d in zip((pair.a, pair.b), pair.dtypes, strict=True)
        ]
        for side, finer in enumerate((steps[0] < steps[1], steps[1] < steps[0])):
            over[side] += float((left[finer] > 0.505 * steps[side][finer]).sum())
            trials[side] += float(finer.sum())
    if trials.min() < 100:
        return
    shares = over / trials
    error = float(np.sqrt((shares * (1 - shares) / trials).sum()))
    difference = float(shares[0] - shares[1])
    if abs(difference) < max(_STEPS, _SURE * error):
        return
    elder, younger, order = ("A", "B", "a_to_b") if difference > 0 else ("B", "A", "b_to_a")
    text = (
        f"{younger} is {elder} plus matrices of low rank, rounded to the steps of {younger}: what is left over oversteps half a step of "
        f"{elder} in {max(shares):.0%} of the numbers where that is finer, and half one of {younger} in {min(shares):.0%} where that is"
    )
    yield Fact("low_rank_rounded", order, text)


def _put_on_lattice(wholes: Wholes, lattices: tuple[str, str]) -> Iterator[Fact]:
    """One model's numbers are the other's moved to the nearest level, and spread evenly between levels before."""
    if bool(lattices[0]) == bool(lattices[1]):
        return
    order = "b_to_a" if lattices[0] else "a_to_b"
    size = _group(lattices[0] or lattices[1])
    near, spread = [], []
    for pair in wholes.pairs():
        if pair.source is None or not pair.b.size or np.array_equal(pair.a, pair.b):
            continue
        if pair.b.ndim != 2 or min(pair.b.shape) < _SMALLEST:
            if judge_tensor(pair).state != "near_frozen":
                return  # a sibling may have learned what is not quantised
            continue
        if pair.covered < 1.0:
            return
        full, few = (pair.b, pair.a) if lattices[0] else (pair.a, pair.b)
        if pair.role.kind in ("ffn.down", "attn.o"):  # these are read input by input
            full, few = full.T, few.T
        length = size if size and few.shape[1] % size == 0 else few.shape[1]
        found = _levels(full[:_ROWS_OF_LATTICE].reshape(-1, length), few[:_ROWS_OF_LATTICE].reshape(-1, length))
        if found is not None:
            near.append(found[0])
            spread.append(found[1])
    if near and min(near) >= _ROUNDED and _HALF[0] <= float(np.median(spread)) <= _HALF[1]:
        elder, younger = ("B", "A") if lattices[0] else ("A", "B")
        text = (
            f"the numbers of {younger} are the levels nearest to those of {elder} ({np.mean(near):.1%} of them), which lie "
            "evenly between levels: rounding does that, and cannot be undone"
        )
        yield Fact("lattice_rounded", order, text)


def _put_on_levels(wholes: Wholes, lattices: tuple[str, str]) -> Iterator[Fact]:
    """One model's matrices are the other's through few bits, and all else is the same."""
    found = find_few_bits(wholes.pairs())
    if found is None:
        yield from _put_on_lattice(wholes, lattices)
        return
    elder, younger = ("A", "B") if found[0] == "a_to_b" else ("B", "A")
    text = (
        f"the matrices of {younger} are those of {elder} rounded to few bits ({found[1]}) and written out again, and all else is the "
        f"same bit for bit: the numbers of {elder} lie between those levels"
    )
    yield Fact("lattice_rounded", found[0], text)


def _group(lattice: str) -> int:
    """Numbers that share a scale, as far as the words for a lattice say."""
    words = lattice.replace(",", " ").split()
    return next((int(word) for before, word in pairwise(words) if before == "every" and word.isdigit()), 0)


def _levels(full: Array, few: Array) -> tuple[float, float] | None:
    """Share of the numbers of ``few`` that are the level nearest to that of ``full``, and how far they moved, in half steps on average."""
    near, moved, count = 0.0, 0.0, 0
    for x, y in zip(full.astype(np.float64), few.astype(np.float64), strict=True):
        levels = np.unique(y)
        if len(levels) < 3 or not np.isfinite(x).all():
            continue
        middles = (levels[1:] + levels[:-1]) / 2
        at = np.searchsorted(levels, y)
        slack = np.abs(y) * 2.0**-8
        low = np.concatenate([[-np.inf], middles])[at] - slack
        high = np.concatenate([middles, [np.inf]])[at] + slack
        half = (
            np.minimum(np.concatenate([[np.inf], np.diff(levels)])[at], np.concatenate([np.diff(levels), [np.inf]])[at])
            / 2
        )
        near += float(((x >= low) & (x <= high)).sum())
        moved += float(np.minimum(np.abs(x - y) / half, 2.0).sum())
        count += len(y)
    return (near / count, moved / count) if count else None


def _experts_forked(wholes: Wholes) -> Iterator[Fact]:
    """Experts of B that are copies of one FFN of A, and that went ways of their own from there and from nowhere else."""
    copies: dict[tuple[int, str], list[TensorPair]] = {}
    for pair in wholes.pairs():
        routed = pair.role.expert >= 0 and pair.source is not None and pair.source.expert < 0
        if routed and pair.role.kind in ("ffn.gate", "ffn.up") and pair.role.part == "weight" and pair.covered >= 0.9:
            copies.setdefault((pair.role.layer, str(pair.source)), []).append(pair)
    layers: dict[int, list[float]] = {}
    for (layer, _), found in copies.items():
        ways = [
            _own_way(pair) for pair in found if pair.a.shape == found[0].a.shape and np.array_equal(pair.a, found[0].a)
        ]
        if len(ways) >= 2:
            layers.setdefault(layer, []).extend(abs(_cosine(x, y)) for i, x in enumerate(ways) for y in ways[:i])
    if layers and all(float(np.median(cosines)) <= _FORKED for cosines in layers.values()):
        text = (
            f"the experts of {len(layers)} layers of B are copies of one FFN of A each, and what sets them apart from it has nothing in "
            f"common (cosine {max(float(np.median(x)) for x in layers.values()):.2f} at most): A's is where they parted"
        )
        yield Fact("experts_forked", "a_to_b", text)


def _own_way(pair: TensorPair) -> Array:
    """B − A, row by row without what lies along A's row."""
    along = np.einsum("ij,ij->i", pair.a, pair.b) / np.maximum(np.einsum("ij,ij->i", pair.a, pair.a), 1e-30)
    return np.asarray(pair.b - along[:, None] * pair.a, dtype=np.float32)


def _cosine(a: Array, b: Array) -> float:
    whole = float(np.linalg.norm(a)) * float(np.linalg.norm(b))
    return float(np.vdot(a, b)) / whole if whole else 1.0


def _holds_all(whole: ModelMap, order: str) -> bool:
    """Whether the younger holds all that the elder has, but for units that were pruned here and there; fewer heads are not all."""
    assert whole.wholes is not None
    wholes = whole.wholes
    if wholes.anatomies[0].dims == wholes.anatomies[1].dims and all(a == b for b, a in wholes.layers.items()):
        return True
    heights = [anatomy.dims.vocab for anatomy in wholes.anatomies]
    elder = 0 if order == "a_to_b" else 1
    if heights[elder] > heights[1 - elder] and heights[elder] > whole.vocabulary.joined:
        return False
    if wholes.anatomies[elder].dims.heads > wholes.anatomies[1 - elder].dims.heads:
        return False
    widths = [anatomy.dims.width for anatomy in wholes.anatomies]
    if order == "a_to_b":
        sources = {source for source in wholes.layers.values() if source is not None}
        complete = sources >= set(range(wholes.anatomies[0].dims.layers)) and widths[0] <= widths[1]
        lost = {layer: (units.pruned, units.a) for layer, units in whole.units.items()}
        scattered = _are_scattered(list(_missing_units(wholes).values()))
    else:
        complete = all(source is not None for source in wholes.layers.values()) and widths[1] <= widths[0]
        complete = complete and len(set(wholes.layers.values())) == wholes.anatomies[1].dims.layers  # none stands twice
        lost = {layer: (units.new, units.b) for layer, units in whole.units.items()}
        scattered = _are_scattered(list(_new_units(wholes).values()))
    return complete and (scattered or all(missing <= _FEW * of for missing, of in lost.values()))
