"""How much to read: decided from shapes alone, before any weight is seen, so that every test can be counted beforehand."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from homolog.roles.role import Anatomy

__all__ = ["ReadingPlan", "plan_reading"]

SMALL = 128 * 2**20
"""Checkpoints up to this many bytes are read whole."""

_FULL_UNITS = 256
_MOST_BLOCKS = 128
_SLAB = 128
_WIDEST_RATIO = 4


@dataclass(frozen=True, slots=True)
class ReadingPlan:
    """What to read of one side of a comparison."""

    units: int
    """Leading units of every FFN; 0 for all."""
    experts: int
    """Leading routed experts of every layer."""
    slab: int | None
    """Leading residual channels where units are stored as columns; ``None`` for all."""
    whole: bool
    """Whether whole matrices are read (down projections, column norms, all heads)."""
    hold: bool = False
    """Whether the tensors of one layer may be held in memory, so that each is read once."""


def plan_reading(a: Anatomy, b: Anatomy, nbytes: int, units: int, full: bool) -> tuple[ReadingPlan, ReadingPlan]:
    """Plan for A and for B; ``nbytes`` is the size of the larger checkpoint.

    Small pairs are read whole; ``full`` reads the whole matrices of large ones too and keeps 256 units of every FFN. Otherwise
    ``units`` leading units of every FFN are read, and more of the wider model (up to four times as many), because a pruned or widened
    copy keeps the order of its units but not their positions.
    """
    experts = max(1, _MOST_BLOCKS // max(a.dims.layers, b.dims.layers, 1))
    if nbytes <= SMALL:
        plan = ReadingPlan(units=0, experts=experts, slab=None, whole=True, hold=True)
        return plan, plan
    units = max(units, _FULL_UNITS) if full else units
    ratio = max(a.dims.ffn, 1) / max(b.dims.ffn, 1)
    units_a = ceil(units * min(max(ratio, 1.0), _WIDEST_RATIO))
    units_b = ceil(units * min(max(1.0 / ratio, 1.0), _WIDEST_RATIO))
    slab = None if full else _SLAB
    return (
        ReadingPlan(units=units_a, experts=experts, slab=slab, whole=full),
        ReadingPlan(units=units_b, experts=experts, slab=slab, whole=full),
    )
