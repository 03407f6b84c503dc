"""Which unit of A each FFN unit of B came from, and which came from none: over whole FFNs, in a common frame.

A unit is *carried* where what opens it, what it multiplies and what it writes all point to one unit of A: independent models agree so in
one unit of a hundred, copies in nearly all. The experts of a layer are looked up among all FFNs of the layer that theirs came from, so
that an expert may hold any part of a dense FFN, in any order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from homolog.align.matching import unit_rows
from homolog.checkpoint.base import Array
from homolog.derivation.blocks import Place, WholeBlock

__all__ = ["BlockOrigin", "look_up", "turn_parts"]

Indices = npt.NDArray[np.intp]

_APART = 0.15
"""A unit whose parts do not all name one partner is carried all the same if it is that much more like one unit than like any other.
Units of no origin in lineages a and q are 0.12 nearer to one than to the next at most."""

_STEPS, _IN_ORDER = 4, 0.9


@dataclass(frozen=True, slots=True)
class BlockOrigin:
    """Where the units of one FFN came from."""

    place: Place
    sources: tuple[Place, ...]
    """The FFNs of the other model among which its units were looked up."""
    sizes: tuple[int, ...]
    """How many units each of those has."""
    block: Indices
    """(n,): for every unit the FFN that its partner is in, a place in ``sources``; -1 for a unit that came from none."""
    unit: Indices
    """(n,): the index of the partner there (of several that share a gate the first); -1 for none."""
    split: int = 0
    """Units that share the gate of another, so that together they are one."""

    def __len__(self) -> int:
        return len(self.block)

    @property
    def carried(self) -> int:
        """Units that have a partner."""
        return int((self.block >= 0).sum())

    @property
    def copied(self) -> int:
        """Carried units whose partner another unit of this FFN has already."""
        known = self.block >= 0
        return int(known.sum()) - len(set(zip(self.block[known].tolist(), self.unit[known].tolist(), strict=True)))

    def shares(self) -> list[tuple[Place, int]]:
        """The FFNs that its units came from, with how many, most first."""
        counts = np.bincount(self.block[self.block >= 0], minlength=len(self.sources))
        order = np.argsort(-counts, kind="stable")
        return [(self.sources[i], int(counts[i])) for i in order.tolist() if counts[i]]

    @property
    def order(self) -> str:
        """``kept`` where partners stand in the order of the units, FFN by FFN; ``permuted``; ``none`` where too few have one."""
        found = [self.unit[self.block == source] for source in range(len(self.sources))]
        steps = [np.diff(units) for units in found if len(units) > 1]
        if sum(map(len, steps)) < _STEPS:
            return "none"
        return "kept" if float(np.mean(np.concatenate(steps) >= 0)) > _IN_ORDER else "permuted"


def turn_parts(block: WholeBlock, basis: Array) -> list[Array]:
    """Gate, up and down (or what a plain unit reads and writes) as unit rows (m, t) in the frame that ``basis`` (d, t) leads to."""
    return [unit_rows(part @ basis) for part in block.units.parts]


def look_up(
    wanted: WholeBlock, parts: Sequence[Array], among: Mapping[Place, tuple[WholeBlock, list[Array]]]
) -> BlockOrigin:
    """The units of ``wanted`` looked up among the FFNs ``among``; ``parts`` and theirs are what `turn_parts` gives. Nothing random."""
    m = len(wanted.units)
    best, second = (np.full(m, -np.inf, dtype=np.float32) for _ in range(2))
    block, unit = (np.full(m, -1, dtype=np.intp) for _ in range(2))
    sure = np.zeros(m, dtype=bool)
    for number, (source, theirs) in enumerate(among.values()):
        if len(theirs) != len(parts) or not m or not len(source.units):
            continue
        whole, partner, agreed = _partners(parts, theirs)
        rows = np.arange(m)
        score = whole[rows, partner]
        whole[rows, partner] = -np.inf
        next_best = whole.max(axis=1)
        better = score > best
        second = np.where(better, np.maximum(next_best, second), second)
        best, block, unit = (
            np.where(better, score, best),
            np.where(better, number, block),
            np.where(better, partner, unit),
        )
        sure = np.where(better, agreed, sure)
    carried = sure | (best - second > _APART)
    block = np.where(carried, block, -1)
    first = [_first_members(source) for source, _ in among.values()]
    unit = np.array(
        [first[b][u] if b >= 0 else -1 for b, u in zip(block.tolist(), unit.tolist(), strict=True)], dtype=np.intp
    )
    alive = wanted.member_of >= 0
    spread = [np.where(alive, x[wanted.member_of], -1) if m else np.full(len(wanted), -1) for x in (block, unit)]
    sizes = tuple(len(source) for source, _ in among.values())
    return BlockOrigin(wanted.place, tuple(among), sizes, spread[0], spread[1], wanted.split)


def _partners(parts: Sequence[Array], theirs: Sequence[Array]) -> tuple[Array, Indices, npt.NDArray[np.bool_]]:
    """Likeness (m, n) over all parts, the likest unit of each, and whether all its parts name it. Up and down may flip sign jointly."""
    cosines = [mine @ other.T for mine, other in zip(parts, theirs, strict=True)]
    gated = len(parts) == 3
    whole = (cosines[0] + np.abs(cosines[1] + cosines[2])) / 3 if gated else (cosines[0] + cosines[1]) / 2
    partner = whole.argmax(axis=1)
    agreed = np.ones(len(partner), dtype=bool)
    for place, cosine in enumerate(cosines):
        agreed &= (np.abs(cosine) if gated and place else cosine).argmax(axis=1) == partner
    return np.asarray(whole, dtype=np.float32), partner, agreed


def _first_members(block: WholeBlock) -> list[int]:
    """For every merged unit the first index of the file that went into it."""
    first = np.zeros(len(block.units), dtype=np.intp)
    alive = np.flatnonzero(block.member_of >= 0)[::-1]
    first[block.member_of[alive]] = alive
    found: list[int] = first.tolist()
    return found
