"""Which gain of a norm feeds which block: a matrix that reads through a norm makes of each channel what the gain leaves of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from homolog.checkpoint.base import Array
from homolog.roles.anonymous.statistics import assign, log_norms, profile_match, swap_margins

__all__ = ["match_gains", "split_gains"]

_POSITIVE = 0.95
"""Share of positive entries from which on a vector is a gain: biases have both signs."""
_ALIKE = 0.7
"""Score (see `profile_match`) of a reader with its gain, at least; right ones in the zoo have 0.8 or more, save one in fifty."""
_AHEAD = 0.2
"""What a swap must cost. On the zoo all gains before an FFN are right at any cost; of norms behind the blocks one in six comes this far."""
_MOST = 0.75
"""Share of the blocks whose gain must be clear: where norms stand behind the blocks, a few match by chance."""


def split_gains(vectors: Mapping[str, Array], width: int) -> tuple[dict[str, Array], list[str]]:
    """Gains over the residual channels, and the names of all other vectors."""
    gains = {
        name: values
        for name, values in vectors.items()
        if len(values) == width and float((values > 0).mean()) >= _POSITIVE
    }
    return gains, [name for name in vectors if name not in gains]


def match_gains(readers: Sequence[Sequence[Array]], gains: Mapping[str, Array]) -> dict[int, str]:
    """For each block the gain that feeds it, where that is clear; ``readers`` are the matrices of each block, units as rows."""
    if len(readers) < 2 or len(gains) < len(readers):
        return {}
    made = np.stack([log_norms(np.concatenate(list(block)).T) for block in readers])
    scores = profile_match(made, list(gains.values()))
    columns, _ = assign(scores)
    margins = swap_margins(scores, columns)
    names = list(gains)
    clear = {
        row: names[column]
        for row, column in enumerate(columns)
        if scores[row, column] >= _ALIKE and margins[row] >= _AHEAD
    }
    return clear if len(clear) >= _MOST * len(readers) else {}
