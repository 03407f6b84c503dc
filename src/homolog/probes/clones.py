"""Blocks that began as copies of each other share one labelling of their units, and so must count as one.

torch's ``nn.TransformerEncoder`` deep-copies its layer; depth-extended models repeat layers; upcycled experts repeat an FFN. Found by
testing the blocks of one model against each other, without looking at the pair.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import comb, log10

import numpy as np

from homolog.align.layers import map_by_cosine
from homolog.checkpoint.base import Array
from homolog.probes.bounds import log10_fixed_points
from homolog.sketch.sketch import UnitBlock

__all__ = ["find_clones", "find_own_heads"]

_SUSPICIOUS = -3.0
"""log10 p, corrected over the pairs: calling two fresh blocks clones costs a little support, missing clones would inflate it."""

_UNITS, _CHANNELS = 256, 256

_ALIKE = 4.5
"""z of one pair of heads."""

_SHIFTS, _HEAD_CHANNELS = 4, 512


def find_clones(blocks: Sequence[UnitBlock]) -> dict[str, str]:
    """For each block of one model, by name, the name of the first block that its units share their labels with (itself if none).

    Null, for every pair of blocks: their units were labelled independently.
    """
    usable = [block for block in blocks if block.flaw is None]
    first = {block.name: block.name for block in blocks}
    if len(usable) < 2:
        return first
    # Wide models are judged by fewer units and channels: any fixed choice is as valid, and a clone shows in all of them.
    units = _UNITS if usable[0].up.shape[1] <= _CHANNELS else _UNITS // 8
    parts = [[block.up[:, :_CHANNELS]] for block in usable]
    table = map_by_cosine(parts, parts, units=units)
    correction = log10(comb(len(usable), 2))
    for later in range(1, len(usable)):
        for earlier in range(later):
            k, m = int(table.equal[later, earlier]), int(table.matched[later, earlier])
            if log10_fixed_points(k, m, max(table.units, m)) + correction <= _SUSPICIOUS:
                first[usable[later].name] = first[usable[earlier].name]
                break
    return first


def find_own_heads(rows: Array) -> list[int]:
    """Heads of one layer, given as (heads, dim, r), whose dimensions are labelled on their own: the first of every set of clones.

    Grouped-query attention written out head by head repeats each value head, and so do checkpoints cut for tensor parallelism. Null, for
    every pair of heads: their dimensions were labelled independently, so that dimensions of equal index are no more alike than others.
    """
    heads, dim, _ = rows.shape
    own = list(range(heads))
    if heads < 2 or dim < 2:
        return own
    x = rows[:, :, :_HEAD_CHANNELS].transpose(1, 0, 2)
    norms = np.sqrt(np.einsum("ijk,ijk->ij", x, x))[:, :, None]
    x = np.divide(x, norms, out=np.zeros_like(x), where=norms > 0)
    equal = np.abs(x @ x.transpose(0, 2, 1))
    others = np.concatenate(
        [np.abs(x @ np.roll(x, -shift, axis=0).transpose(0, 2, 1)) for shift in range(1, min(_SHIFTS + 1, dim))]
    )
    excess = equal.mean(axis=0) - others.mean(axis=0)
    alike = excess * np.sqrt(dim) > _ALIKE * np.maximum(others.std(axis=0), 1e-6)
    return [head for head in own if not alike[head, :head].any()]
