"""How much to read: decided from shapes alone, before any weight is seen, so that every test can be counted beforehand."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil

from homolog.roles.role import Anatomy
from homolog.sketch.position_table import choose_positions, count_positions

__all__ = ["ReadingPlan", "count_blocks", "plan_reading", "plan_stages", "spaced_layers", "thin_out"]

SMALL = 128 * 2**20
"""Checkpoints up to this many bytes are read whole."""

_FULL_UNITS = 256
_MOST_BLOCKS = 128
_SLAB = 128
_WIDEST_RATIO = 4
_FEW_LAYERS = 8
"""Layers of the first stage: enough for the gains of their norms to be weighed, and for a chance match to be none."""


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
    layers: tuple[int, ...] | None = None
    """The layers to read; ``None`` for all."""
    routed: int | None = None
    """Leading rows of every router; ``None`` for all."""
    positions: tuple[int, ...] = ()
    """Rows of the table of learned positions."""

    def reads(self, layer: int) -> bool:
        """Whether a layer is read; what lies outside the layers always is."""
        return layer < 0 or self.layers is None or layer in self.layers


Plans = tuple[ReadingPlan, ReadingPlan]
"""For A and for B."""


def plan_stages(
    a: Anatomy, b: Anatomy, nbytes: int, *, units: int = 64, deep: bool = False, full: bool = False
) -> tuple[Plans, ...]:
    """What to read first, and what next if that does not decide: a few layers, every layer, more units of every layer.

    Small pairs, ``full`` (whole matrices) and ``deep`` (the last stage) leave nothing to escalate. A few layers come first only between
    models of equal depth: otherwise nobody knows which layers to compare.
    """
    everything = plan_reading(a, b, nbytes, units, full)
    if nbytes <= SMALL or full:
        return (everything,)
    more = plan_reading(a, b, nbytes, max(4 * units, _FULL_UNITS), False)
    if deep:
        return (more,)
    few = (thin_out(everything, a, b, _FEW_LAYERS),) if a.dims.layers == b.dims.layers > _FEW_LAYERS else ()
    return (*few, everything, more)


def thin_out(plans: Plans, a: Anatomy, b: Anatomy, layers: int) -> Plans:
    """The same of at most so many layers: evenly spaced at equal depth, else those next to the two ends."""
    plan_a, plan_b = plans
    if a.dims.layers == b.dims.layers:
        chosen = spaced_layers(a.dims.layers, layers)
        return replace(plan_a, layers=chosen), replace(plan_b, layers=chosen)
    return replace(plan_a, layers=_ends(a.dims.layers, layers)), replace(plan_b, layers=_ends(b.dims.layers, layers))


def spaced_layers(depth: int, count: int) -> tuple[int, ...]:
    """``count`` layers out of ``depth``, the first and the last among them."""
    if count >= depth:
        return tuple(range(depth))
    return tuple(round(i * (depth - 1) / max(count - 1, 1)) for i in range(count))


def _ends(depth: int, count: int) -> tuple[int, ...]:
    if count >= depth:
        return tuple(range(depth))
    first = (count + 1) // 2
    return (*range(first), *range(depth - (count - first), depth))


def count_blocks(anatomy: Anatomy, plan: ReadingPlan) -> int:
    """How many FFN blocks (an FFN, or an expert) a plan reads."""
    return sum(
        role.kind == "ffn.up" and role.part == "weight" and role.expert < plan.experts and plan.reads(role.layer)
        for role in anatomy.views
    )


def plan_reading(a: Anatomy, b: Anatomy, nbytes: int, units: int, full: bool) -> Plans:
    """Plan for A and for B; ``nbytes`` is the size of the larger checkpoint.

    Small pairs are read whole; ``full`` reads the whole matrices of large ones too and keeps 256 units of every FFN. Otherwise
    ``units`` leading units of every FFN are read, and more of the wider model (up to four times as many), because a pruned or widened
    copy keeps the order of its units but not their positions; of routers over equally many experts as many leading rows. Rows of tables of
    learned positions are read if both models have one.
    """
    experts = max(1, _MOST_BLOCKS // max(a.dims.layers, b.dims.layers, 1))
    positions = choose_positions(min(count_positions(a), count_positions(b)))
    if nbytes <= SMALL:
        plan = ReadingPlan(units=0, experts=experts, slab=None, whole=True, hold=True, positions=positions)
        return plan, plan
    units = max(units, _FULL_UNITS) if full else units
    ratio = max(a.dims.ffn, 1) / max(b.dims.ffn, 1)
    units_a = ceil(units * min(max(ratio, 1.0), _WIDEST_RATIO))
    units_b = ceil(units * min(max(1.0 / ratio, 1.0), _WIDEST_RATIO))
    slab = None if full else _SLAB
    # a router of 256 experts weighs as much as 64 units of four of them; where the counts differ all rows are needed to find the order
    routed = units if not full and a.dims.experts == b.dims.experts else None
    return (
        ReadingPlan(units_a, experts, slab, whole=full, routed=routed, positions=positions),
        ReadingPlan(units_b, experts, slab, whole=full, routed=routed, positions=positions),
    )
