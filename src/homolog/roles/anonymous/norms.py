"""Which gain of a norm feeds which block: a matrix that reads through a norm makes of each channel what the gain leaves of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from homolog.checkpoint.base import Array
from homolog.roles.anonymous.statistics import assign, profile_match

__all__ = ["match_gains", "split_gains"]

_POSITIVE = 0.95
"""Share of positive entries from which on a vector is a gain: biases have both signs."""
_ALIKE, _AHEAD = 0.35, 0.1
"""Correlation of a reader's profile with its gain, and how far it is ahead of any other, at least."""
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
    stacked = [np.concatenate(list(block)) for block in readers]
    scores = profile_match(stacked, list(gains.values()))
    columns, margins = assign(scores)
    names = list(gains)
    clear = {
        row: names[column]
        for row, column in enumerate(columns)
        if scores[row, column] >= _ALIKE and margins[row] >= _AHEAD
    }
    return clear if len(clear) >= _MOST * len(readers) else {}
