"""Blocks of one model that began as one: experts upcycled from an FFN, layers that stand twice, layers that all began alike.

No second model is needed, and no frame: all blocks of a model read one residual stream. What is tested is the index. Two blocks that were
initialised independently give their units independent names; blocks that began as copies keep theirs however far they are trained apart.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations
from math import comb
from typing import Any

import numpy as np

from homolog.align.matching import distances, distinct_rows, normal_scores, unit_rows
from homolog.checkpoint.base import Array
from homolog.probes.alone.gathered import gather, name_kind
from homolog.probes.bounds import combine_planned, log10_fixed_points, log10_longest_increasing, longest_increasing
from homolog.probes.exchangeable import find_order
from homolog.probes.finding import Null
from homolog.probes.indices import Rngs
from homolog.sketch.profile import unit_profile
from homolog.sketch.sketch import UnitBlock

__all__ = ["AS_ONE", "CHANNELS", "Copies", "Group", "find_copies", "plan_tests"]

AS_ONE = -9.0
"""Headline log10 p from which two blocks are said to have begun as one: as between two models."""

STATISTICS = ("rows", "profiles")
"""What units are matched by; both are planned for every pair of blocks, whether they can be had or not."""

CHANNELS = 256
"""Leading residual channels that are looked at: any fixed choice is as valid, and a copy shows in all of them."""

_UNITS, _FEWEST_UNITS, _ROWS = 256, 24, 1024
"""Leading units of a block, fewer of many blocks: 24 that keep their index are one chance in 10^23."""

NULL = Null(
    "independently-initialised-blocks",
    "The blocks of the model were initialised independently of each other, the units of each alike, and trained by a rule that treats "
    "the units of each alike. Then which index a unit has within its block is uniformly random, whatever the other blocks hold.",
)


@dataclass(frozen=True, slots=True)
class Group:
    """Blocks that began as one."""

    kind: str
    """``experts`` of one layer; ``layers``; ``every_layer``, where no dense layer is left out; ``blocks`` where none of these fits."""
    blocks: tuple[str, ...]
    """By name, in reading order."""
    layers: tuple[int, ...]
    statistic: int
    """Over the weakest link of the chain that joins them: units that most resemble the one at the same place."""
    of: int
    log10_p: float
    """Of that link, corrected over all planned tests."""
    identical: bool
    """Whether all of them hold the same numbers, as far as they were read."""

    def to_json(self) -> dict[str, Any]:
        """As the document has it."""
        return {
            "kind": self.kind,
            "blocks": list(self.blocks),
            "layers": list(self.layers),
            "statistic": self.statistic,
            "of": self.of,
            "log10_p": self.log10_p,
            "identical": self.identical,
        }


@dataclass(frozen=True, slots=True)
class Copies:
    """What the blocks of one model say of each other; exact."""

    groups: tuple[Group, ...] = ()
    blocks: int = 0
    tests: int = 0
    """Planned: pairs of blocks times statistics, times the stages of reading."""
    log10_p: float | None = None
    """The smallest of all pairs, corrected."""
    absent: str | None = None
    absent_blocks: dict[str, str] = field(default_factory=dict)
    """Blocks, or pairs of them, that were left out, each with its reason."""

    def to_json(self) -> dict[str, Any]:
        """As the document has it."""
        return {
            "tier": 1,
            "null": {"id": NULL.id, "text": NULL.text},
            "blocks": self.blocks,
            "tests": self.tests,
            "log10_p": self.log10_p,
            "threshold_log10_p": AS_ONE,
            "groups": [group.to_json() for group in self.groups],
            "absent": self.absent,
            "absent_blocks": dict(self.absent_blocks),
        }


@dataclass(frozen=True, slots=True)
class _Link:
    """The better of the statistics of one pair of blocks."""

    log10_p: float
    first: int
    second: int
    statistic: int
    of: int


@dataclass(frozen=True, slots=True)
class _Side:
    """One block, its units in random order: what they are matched by, and the labels that travel along."""

    labels: np.ndarray
    parts: tuple[Array, ...]
    """Rows of length one, or one array of normal scores."""


def plan_tests(blocks: int) -> int:
    """Tests that so many blocks ask for: every pair, by every statistic."""
    return len(STATISTICS) * comb(blocks, 2)


def find_copies(
    blocks: Sequence[UnitBlock], rngs: Callable[..., Rngs], *, ordered: str | None = None, tests: int | None = None
) -> Copies:
    """Which blocks of one model began as one.

    ``blocks`` are all that were planned, ``rngs`` gives generators for a purpose, ``ordered`` says why the axis of the units has an
    order by design, if it has, and ``tests`` how many were planned where reading goes by stages.

    Null (`NULL`): given all other blocks, the labels of a block's units are a uniformly random permutation. For one pair of blocks and
    one statistic, P(K >= k) <= C(m, k) (s-k)!/s! for K mutual matches of equal index among m (of unequal widths P(LIS >= l) <=
    C(m, l)/l!), as between two models; the union bound over all pairs and statistics makes it hold for whatever is said of the model.
    Blocks that a file keeps once and uses twice are one block. A pair whose two blocks both show an order is left out.
    """
    planned = max(tests or 0, plan_tests(len(blocks)))
    missing = partial(Copies, blocks=len(blocks), tests=planned)
    if not blocks:
        return missing(absent="no FFN was found")
    if len(blocks) == 1:
        return missing(absent="there is one FFN only, and nothing in the model to set it beside")
    if ordered:
        return missing(absent=ordered)
    left_out = {block.name: block.flaw for block in blocks if block.flaw}
    usable = [block for block in blocks if not block.flaw]
    most = min(_UNITS, max(_FEWEST_UNITS, _ROWS // max(len(usable), 1)))
    best: dict[tuple[int, int], _Link] = {}
    for kind in STATISTICS:
        sides = _prepare(usable, kind, most, rngs)
        for first, second in combinations(range(len(usable)), 2):
            x, y = sides[first], sides[second]
            if x is None or y is None:
                continue
            link = _link(
                x, y, first, second, same_axis=usable[first].width == usable[second].width, rows=kind == "rows"
            )
            known = best.get((first, second))
            if link is not None and (known is None or link.log10_p < known.log10_p):
                best[first, second] = link
    if not best:
        reasons = sorted(set(left_out.values())) or ["all units of a block are alike"]
        return missing(absent="; ".join(reasons), absent_blocks=left_out)
    corrected = [_correct(link, planned) for link in best.values()]
    order = partial(_find_order, usable, rngs, {})
    links = []
    for link in sorted((link for link in corrected if link.log10_p <= AS_ONE), key=lambda link: link.log10_p):
        if reason := order(link):
            left_out[f"{usable[link.first].name}, {usable[link.second].name}"] = reason
        else:
            links.append(link)
    answered = [link.log10_p for link in (*links, *corrected) if link in links or link.log10_p > AS_ONE]
    if not answered:
        return missing(absent="; ".join(sorted(set(left_out.values()))), absent_blocks=left_out)
    return Copies(_group(usable, links), len(blocks), planned, min(answered), None, left_out)


def _prepare(blocks: Sequence[UnitBlock], kind: str, most: int, rngs: Callable[..., Rngs]) -> list[_Side | None]:
    """Every block on its own: units shuffled, those that cannot be told apart left out; ``None`` where fewer than two are left."""
    channels = min(CHANNELS, *(block.up.shape[1] for block in blocks)) if blocks else 0
    gated = all(block.gate is not None for block in blocks)
    with_down = all(block.knows_down for block in blocks)
    biased = all(block.bias is not None for block in blocks) or all(block.bias is None for block in blocks)
    sides: list[_Side | None] = []
    for number, block in enumerate(blocks):
        rng = rngs("alone", kind, number)("order")
        rows = [part[:most, :channels] for part in (block.gate if gated else None, block.up) if part is not None]
        order = rng.permutation(len(rows[0]))
        kept = order[distinct_rows(np.concatenate(rows, axis=1)[order], rng)]
        if kind == "profiles" and not biased:
            sides.append(None)
            continue
        if kind == "rows":
            parts = tuple(unit_rows(part[kept]) for part in rows)
        else:
            profile = unit_profile(block, channels=channels, with_down=with_down)[:most]
            kept = kept[np.isfinite(profile[kept]).all(axis=1)]
            parts = (_scores(profile[kept]),)
        sides.append(_Side(kept, parts) if len(kept) >= 2 else None)
    return sides


def _scores(profile: Array) -> Array:
    """Normal scores within the block; a feature that does not vary is all zero."""
    return normal_scores(profile) if len(profile) else profile


def _link(x: _Side, y: _Side, first: int, second: int, *, same_axis: bool, rows: bool) -> _Link | None:
    """Mutual matches of two blocks, and what the indices of their units say."""
    if same_axis and not np.array_equal(np.sort(x.labels), np.sort(y.labels)):
        x, y = _only(x, y.labels), _only(y, x.labels)
        if min(len(x.labels), len(y.labels)) < 2:
            return None
    if rows:
        similarity = np.abs(x.parts[0] @ y.parts[0].T)
        for mine, theirs in zip(x.parts[1:], y.parts[1:], strict=True):
            similarity += np.abs(mine @ theirs.T)
    else:
        mine, theirs = x.parts[0], y.parts[0]
        varies = mine.any(axis=0) & theirs.any(axis=0)
        if not varies.any():
            return None
        similarity = distances(mine[:, varies], theirs[:, varies])
    partner = similarity.argmax(axis=1)
    mutual = np.flatnonzero(similarity.argmax(axis=0)[partner] == np.arange(len(partner)))
    a, b = x.labels[mutual], y.labels[partner[mutual]]
    if same_axis:
        k, of = int((a == b).sum()), len(x.labels)
        return _Link(log10_fixed_points(k, len(mutual), of), first, second, k, of)
    length = longest_increasing(b[np.argsort(a)])
    of = min(len(x.labels), len(y.labels))
    return _Link(log10_longest_increasing(length, len(mutual)), first, second, length, of)


def _only(side: _Side, labels: np.ndarray) -> _Side:
    kept = np.isin(side.labels, labels)
    return _Side(side.labels[kept], tuple(part[kept] for part in side.parts))


def _correct(link: _Link, planned: int) -> _Link:
    return _Link(combine_planned(link.log10_p, planned), link.first, link.second, link.statistic, link.of)


def _find_order(
    blocks: Sequence[UnitBlock], rngs: Callable[..., Rngs], known: dict[int, str | None], link: _Link
) -> str | None:
    """Why the indices of a pair mean nothing: both blocks are in an order. Asked only where it matters, which can but withhold a test."""
    for number in (link.first, link.second):
        if number not in known:
            block = blocks[number]
            rng = rngs("alone", "order", number)("order")
            kept = distinct_rows(block.up, rng)
            profile = unit_profile(block, channels=block.up.shape[1], with_down=True)
            known[number] = find_order(block.up[kept], profile[kept], rng)
    first, second = known[link.first], known[link.second]
    return f"the units of both may not be exchangeable: {first}; {second}" if first and second else None


def _group(blocks: Sequence[UnitBlock], links: Sequence[_Link]) -> tuple[Group, ...]:
    """Blocks joined by links, the strongest first, so that each group is held together by the best chain there is."""
    dense = [block.name for block in blocks if block.expert < 0 and not block.shared]
    groups = []
    for members, chain in gather(len(blocks), [(link.first, link.second) for link in links]):
        found = [blocks[i] for i in members]
        weakest = max((links[i] for i in chain), key=lambda link: link.log10_p)
        groups.append(
            Group(
                name_kind(found, dense),
                tuple(block.name for block in found),
                tuple(dict.fromkeys(block.layer for block in found)),
                weakest.statistic,
                weakest.of,
                weakest.log10_p,
                len({block.digest for block in found}) == 1,
            )
        )
    return tuple(groups)
