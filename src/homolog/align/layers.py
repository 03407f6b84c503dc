"""Which block of A each block of B resembles most, by label-free scores: never by the number of equal indices.

A block is given by its components (for a gated FFN: gate rows and up rows), all (s, r). The score of a pair of blocks is the total
similarity of their mutual matches per unit; it does not change when the units of any block are relabelled.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from homolog.align.matching import distances, unit_rows
from homolog.checkpoint.base import Array

__all__ = ["BlockMap", "map_by_cosine", "map_by_profile"]

_UNITS, _CHANNELS = 64, 256
"""Leading units and channels that a map looks at: enough to tell blocks apart at a fraction of the cost."""


@dataclass(frozen=True, slots=True)
class BlockMap:
    """Scores and index matches of every pair of blocks."""

    scores: Array
    """(blocks of B, blocks of A)."""
    equal: npt.NDArray[np.int32]
    """(blocks of B, blocks of A): mutual matches with equal index among the first units; for display and for clone tests."""
    matched: npt.NDArray[np.int32]
    units: int
    """How many leading units were compared."""

    def best(self, b: int) -> int:
        """The block of A that block ``b`` of B resembles most."""
        return int(self.scores[b].argmax())


def map_by_cosine(a: Sequence[Sequence[Array]], b: Sequence[Sequence[Array]], *, units: int = _UNITS) -> BlockMap:
    """Blocks by the mean absolute cosine of their components; components are truncated to the leading channels that both have."""
    parts = min(len(block) for block in (*a, *b))
    widths = [min(_CHANNELS, *(block[c].shape[1] for block in (*a, *b))) for c in range(parts)]
    stacked_a = [unit_rows(np.concatenate([block[c][:units, : widths[c]] for block in a])) for c in range(parts)]

    def similarity(y: Sequence[Array]) -> Array:
        total = np.zeros((len(y[0][:units]), len(stacked_a[0])), dtype=np.float32)
        for c in range(parts):
            total += np.abs(unit_rows(y[c][:units, : widths[c]]) @ stacked_a[c].T)
        return np.asarray(total / np.float32(parts))

    return _map(similarity, [len(block[0][:units]) for block in a], b)


def map_by_profile(a: Sequence[Array], b: Sequence[Array]) -> BlockMap:
    """Blocks by the closeness of their unit profiles (normal scores, see `normal_scores`)."""
    stacked = np.concatenate([block[:_UNITS] for block in a])

    def similarity(y: Sequence[Array]) -> Array:
        # 1/(1 + d²): a few close pairs count for more than many middling ones.
        return np.asarray(1.0 / (1.0 - np.minimum(distances(y[0][:_UNITS], stacked), 0.0)), dtype=np.float32)

    return _map(similarity, [len(block[:_UNITS]) for block in a], [[block] for block in b])


def _map(
    similarity: Callable[[Sequence[Array]], Array], lengths: Sequence[int], b: Sequence[Sequence[Array]]
) -> BlockMap:
    starts = np.concatenate([[0], np.cumsum(lengths)])
    shape = (len(b), len(lengths))
    scores = np.zeros(shape, dtype=np.float32)
    equal = np.zeros(shape, dtype=np.int32)
    matched = np.zeros(shape, dtype=np.int32)
    for row, block in enumerate(b):
        whole = similarity(block)
        for column, (start, stop) in enumerate(pairwise(starts.tolist())):
            part = whole[:, start:stop]
            if not part.size:
                continue
            best_a = part.argmax(axis=1)
            mutual = np.flatnonzero(part.argmax(axis=0)[best_a] == np.arange(len(part)))
            partners = best_a[mutual]
            scores[row, column] = part[mutual, partners].sum() / len(part)
            equal[row, column] = int((partners == mutual).sum())
            matched[row, column] = len(mutual)
    return BlockMap(scores, equal, matched, max([*lengths, 0]))
