"""Which unit of A each FFN unit of B came from, and which came from none: over whole FFNs, in a common frame.

A unit is *carried* where what opens it, what it multiplies and what it writes all point to one unit of A. Independent models agree so in
one unit of a hundred, copies in nearly all. Experts of a mixture are looked up among all FFNs of the layer that theirs came from, so that
an expert may hold any part of a dense FFN, in any order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from homolog.align.matching import unit_rows
from homolog.checkpoint.base import Array
from homolog.derivation.blocks import Place, WholeBlock

__all__ = ["BlockOrigin", "look_up"]

Indices = npt.NDArray[np.intp]

_FAR = 0.9
"""A unit whose parts do not all name one partner is carried all the same if its whole likeness is this close to that of the units of its
block that do, and to one partner alone."""


@dataclass(frozen=True, slots=True)
class BlockOrigin:
    """Where the units of one FFN came from."""

    place: Place
    sources: tuple[Place, ...]
    """The FFNs of the other model among which its units were looked up."""
    block: Indices
    """(n,): for every unit the FFN that its partner is in, a place in ``sources``; -1 for a unit that came from none."""
    unit: Indices
    """(n,): the index of the partner there; for one of several units that share a gate, the first of them."""
    likeness: Array
    """(n,): mean cosine of the unit's parts with those of its partner."""
    split: int = 0
    """Units that share the gate of another, so that together they are one."""

    def __len__(self) -> int:
        return len(self.block)

    @property
    def carried(self) -> int:
        """Units that have a partner."""
        return int((self.block >= 0).sum())

    def shares(self) -> list[tuple[Place, int]]:
        """The FFNs that its units came from, with how many, most first."""
        counts = np.bincount(self.block[self.block >= 0], minlength=len(self.sources))
        order = np.argsort(-counts, kind="stable")
        return [(self.sources[i], int(counts[i])) for i in order.tolist() if counts[i]]

    def keeps_order(self) -> bool | None:
        """Whether the partners stand in the order of the units, FFN by FFN; ``None`` if too few have one."""
        steps = [
            np.diff(self.unit[self.block == source]) for source in range(len(self.sources)) if (self.block == source).sum() > 1
        ]
        if not steps or sum(map(len, steps)) < 4:
            return None
        return float(np.mean(np.concatenate(steps) >= 0)) > 0.9


def look_up(
    wanted: WholeBlock, among: Sequence[WholeBlock], basis: Array, other: Array, turned: Mapping[Place, list[Array]]
) -> BlockOrigin:
    """The units of one FFN looked up among others; ``basis`` (d, t) carries its stream into the common frame.

    ``turned`` holds the parts of ``among`` there, as `turn_parts` gives them.
    """
    n = len(wanted)
    parts = turn_parts(wanted, basis)
    best = np.full(len(wanted.units), -np.inf, dtype=np.float32)
    block = np.full(len(wanted.units), -1, dtype=np.intp)
    unit = np.full(len(wanted.units), -1, dtype=np.intp)
    sure = np.zeros(len(wanted.units), dtype=bool)
    for number, source in enumerate(among):
        theirs = turned[source.place]
        if len(theirs) != len(parts) or not len(source.units) or not len(wanted.units):
            continue
        cosines = [mine @ other.T for mine, other in zip(parts, theirs, strict=True)]
        whole = join_cosines(cosines)
        partner = whole.argmax(axis=1)
        rows = np.arange(len(partner))
        score = whole[rows, partner]
        agreed = np.ones(len(partner), dtype=bool)
        for place, cosine in enumerate(cosines):
            size = np.abs(cosine) if len(parts) == 3 and place else cosine
            agreed &= size.argmax(axis=1) == partner
        better = score > best
        best[better], block[better], unit[better], sure[better] = score[better], number, partner[better], agreed[better]
    return BlockOrigin(wanted.place, tuple(source.place for source in among), block, unit, best), sure


def turn_parts(block: WholeBlock, basis: Array) -> list[Array]:
    """Gate, up and down (or what a plain unit reads and writes) as unit rows in the common frame."""
    return [unit_rows(part @ basis) for part in block.units.parts]


def join_cosines(cosines: Sequence[Array]) -> Array:
    """Likeness of two units over all their parts; the sign of up and down is free jointly in a gated FFN."""
    if len(cosines) == 2:
        return (cosines[0] + cosines[1]) / 2
    return (cosines[0] + np.abs(cosines[1] + cosines[2])) / 3
