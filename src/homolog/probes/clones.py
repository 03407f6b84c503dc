"""Blocks that began as copies of each other share one labelling of their units, and so must count as one.

torch's ``nn.TransformerEncoder`` deep-copies its layer; depth-extended models repeat layers; upcycled experts repeat an FFN. Found by
testing the blocks of one model against each other, without looking at the pair.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import comb, log10

from homolog.align.layers import map_by_cosine
from homolog.probes.bounds import log10_fixed_points
from homolog.sketch.sketch import UnitBlock

__all__ = ["find_clones"]

_SUSPICIOUS = -3.0
"""log10 p, corrected over the pairs: calling two fresh blocks clones costs a little support, missing clones would inflate it."""

_UNITS = 256


def find_clones(blocks: Sequence[UnitBlock]) -> dict[str, str]:
    """For each block of one model, by name, the name of the first block that its units share their labels with (itself if none).

    Null, for every pair of blocks: their units were labelled independently.
    """
    usable = [block for block in blocks if block.flaw is None]
    first = {block.name: block.name for block in blocks}
    if len(usable) < 2:
        return first
    parts = [[block.up] if block.gate is None else [block.gate, block.up] for block in usable]
    table = map_by_cosine(parts, parts, units=_UNITS)
    correction = log10(comb(len(usable), 2))
    for later in range(1, len(usable)):
        for earlier in range(later):
            k, m = int(table.equal[later, earlier]), int(table.matched[later, earlier])
            if log10_fixed_points(k, m, max(table.units, m)) + correction <= _SUSPICIOUS:
                first[usable[later].name] = first[usable[earlier].name]
                break
    return first
