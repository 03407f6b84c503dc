"""Blocks of one model whose units are the same under other names: experts that were permuted apart, or that share a part of an FFN.

Where units lost their indices no exact test is left. What copies keep is that gate, up and down of one unit all point to one unit of the
other block. How often that happens by itself was measured on models without copies (`python -m benchmarks.alone`): calibrated, not exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np

from homolog.align.matching import unit_rows
from homolog.checkpoint.base import Array
from homolog.probes.alone.gathered import gather, name_kind
from homolog.probes.finding import Null
from homolog.sketch.sketch import UnitBlock

__all__ = ["FEWEST", "SHARES", "Alike", "AlikeGroup", "count_partners", "find_alike"]

SHARES = {"gated": 0.125, "plain": 0.25}
"""Share of the smaller block's units that must have a partner: three times what any two blocks of the zoo's development lineages reach that
are no copies of each other (0.042 gated, 0.078 plain, where only two vectors have to agree)."""

FEWEST = 8
"""Units that must have a partner: of very small experts a few agree by luck."""

_CHANNELS = 256
"""Random directions that wide rows are projected on: strangers' cosines then scatter by 0.06, and copies keep theirs."""

_ASKED, _WORK = 128, 2**38
"""Units of a block that are looked up in the other, evenly over its width, and multiplications that may be spent on all pairs."""

NULL = Null(
    "blocks-of-models-without-copies",
    "The two blocks hold no copies of each other's units. How many units then have one partner that all their vectors point to was "
    "measured on small models without copies; it is calibrated, not exact.",
)


@dataclass(frozen=True, slots=True)
class AlikeGroup:
    """Blocks that share units."""

    kind: str
    """As of `Group`."""
    blocks: tuple[str, ...]
    layers: tuple[int, ...]
    least: float
    """Share of units with a partner, over the weakest link of the chain that joins the blocks."""
    most: float
    """The largest share of two of them."""

    def to_json(self) -> dict[str, Any]:
        """As the document has it."""
        return {
            "kind": self.kind,
            "blocks": list(self.blocks),
            "layers": list(self.layers),
            "least": self.least,
            "most": self.most,
        }


@dataclass(frozen=True, slots=True)
class Alike:
    """Which blocks of one model share units that have other names; calibrated."""

    groups: tuple[AlikeGroup, ...] = ()
    """Only what equal indices had not joined before."""
    most: float | None = None
    """The largest share of any two blocks that are in no group together, nor joined by equal indices."""
    threshold: float | None = None
    pairs: int = 0
    absent: str | None = None
    absent_blocks: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As the document has it."""
        return {
            "tier": 2,
            "null": {"id": NULL.id, "text": NULL.text},
            "pairs": self.pairs,
            "threshold": self.threshold,
            "most_elsewhere": self.most,
            "groups": [group.to_json() for group in self.groups],
            "absent": self.absent,
            "absent_blocks": dict(self.absent_blocks),
        }


def find_alike(
    blocks: Sequence[UnitBlock], known: Sequence[Sequence[str]], *, centred: bool, rng: np.random.Generator
) -> Alike:
    """Which blocks share units. ``known`` are groups, by name, that equal indices joined already; ``centred`` says whether the norm
    takes the mean over channels away, so that nothing along it is read.

    Needs the units whole: gate, up and down, all of them. ``rng`` draws the directions that wide rows are projected on.
    """
    usable = [block for block in blocks if not block.flaw]
    if len(usable) < 2:
        return Alike(absent="there are not two FFNs that could be compared")
    whole = [block for block in usable if block.down is not None and len(block.up) == block.width]
    if len(whole) < 2:
        return Alike(absent="the units were read in part: what they write, and all of them, are needed")
    gated = all(block.gate is not None for block in whole)
    left_out = {block.name: "fewer than 16 units" for block in whole if block.width < 2 * FEWEST}
    fit = [block for block in whole if block.name not in left_out]
    if len(fit) < 2:
        return Alike(absent="the blocks have fewer than 16 units", absent_blocks=left_out)
    parts = _prepare(fit, gated=gated, centred=centred, rng=rng)
    sizes = [len(block.up) for block in fit]
    if _ASKED * sum(sizes) * len(sizes) * parts[0][0].shape[1] * len(parts[0]) > _WORK:
        return Alike(absent="there are too many units to compare every two", absent_blocks=left_out)
    threshold = SHARES["gated" if gated else "plain"]
    found: list[tuple[float, int, int]] = []
    others: list[float] = []
    group_of = {name: number for number, names in enumerate(known) for name in names}
    pairs = list(combinations(range(len(fit)), 2))
    for i, j in pairs:
        first, second = (group_of.get(fit[k].name, -1 - k) for k in (i, j))
        if first == second:
            continue
        small, large = (i, j) if sizes[i] <= sizes[j] else (j, i)
        count, asked = count_partners(parts[small], parts[large])
        share = count / asked
        if count >= FEWEST and share >= threshold:
            found.append((share, i, j))
        else:
            others.append(share)
    found.sort(key=lambda item: (-item[0], item[1:]))
    return Alike(_group(fit, found), max(others, default=None), threshold, len(pairs), None, left_out)


def count_partners(x: Sequence[Array], y: Sequence[Array]) -> tuple[int, int]:
    """How many units of ``x`` have one partner in ``y`` that all their vectors point to and that point back, and of how many.

    ``x`` and ``y`` are gate, up and down, or up and down of a plain FFN, rows of length one. The sign of up and down is free jointly in
    a gated FFN, so that they count by their absolute cosines.
    """
    asked = np.unique(np.linspace(0, len(x[0]) - 1, min(_ASKED, len(x[0]))).round().astype(np.intp))
    left, partner = asked, (x[0][asked] @ y[0].T).argmax(axis=1)
    for number, (mine, theirs) in enumerate(zip(x, y, strict=True)):
        signless = number > 0 and len(x) == 3
        forth, back = mine[left] @ theirs.T, theirs[partner] @ mine.T
        forth, back = (np.abs(cosine) if signless else cosine for cosine in (forth, back))
        agrees = (forth.argmax(axis=1) == partner) & (back.argmax(axis=1) == left)
        left, partner = left[agrees], partner[agrees]
    return len(left), len(asked)


def _prepare(
    blocks: Sequence[UnitBlock], *, gated: bool, centred: bool, rng: np.random.Generator
) -> list[tuple[Array, ...]]:
    width = blocks[0].up.shape[1]
    onto = None
    if width > _CHANNELS:
        onto = rng.standard_normal((width, _CHANNELS), dtype=np.float32)
    prepared = []
    for block in blocks:
        rows = [part for part in (block.gate if gated else None, block.up, block.down) if part is not None]
        rows = [part - part.mean(axis=1, keepdims=True) for part in rows] if centred else rows
        prepared.append(tuple(unit_rows(part if onto is None else part @ onto) for part in rows))
    return prepared


def _group(blocks: Sequence[UnitBlock], found: Sequence[tuple[float, int, int]]) -> tuple[AlikeGroup, ...]:
    dense = [block.name for block in blocks if block.expert < 0 and not block.shared]
    groups = []
    for members, chain in gather(len(blocks), [(i, j) for _, i, j in found]):
        together = [blocks[i] for i in members]
        shares = [share for share, i, j in found if i in members and j in members]
        groups.append(
            AlikeGroup(
                name_kind(together, dense),
                tuple(block.name for block in together),
                tuple(dict.fromkeys(block.layer for block in together)),
                min(found[i][0] for i in chain),
                max(shares),
            )
        )
    return tuple(groups)
