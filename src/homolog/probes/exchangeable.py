"""Is the index of a unit a mere name? Tests of one model alone, made before the pair is looked at.

The exact tests need the indices of at least one model to be exchangeable. Units sorted by importance, random numbers repeated across
shards, or an axis with a meaning of its own betray themselves by a relation between a unit and its index or its neighbours. A group is
left out when *both* models show one.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from homolog.align.matching import unit_rows
from homolog.checkpoint.base import Array

__all__ = ["find_order", "ordered_on_both_sides"]

_THRESHOLD = 4.75
"""Two-sided normal p of 2e-6 for each of some thirty statistics: of 30,000 fair groups of 64 units 2 failed (of 13 units: 7, as the
approximation is coarser there). A group is lost only if both models fail. See docs/statistics.md."""

_PAIRS, _CHANNELS = 1024, 512
"""Random pairs of units that neighbours are compared with, and leading channels of the rows that are looked at."""


def find_order(rows: Array, features: Array, rng: np.random.Generator, groups: int = 1) -> str | None:
    """Why the units of one model are not exchangeable, in words; ``None`` if nothing speaks against it.

    ``rows`` (n, r) are the units' vectors and ``features`` (n, f) numbers that describe each unit, in index order. Zero rows and
    duplicates should be left out beforehand: padding stands at the end in every model that has it. With ``groups > 1``
    the n units are that many runs of equal length, each with an order of its own (value dimensions inside heads).

    Null: the units of every run are in uniformly random order. Rank correlations with the index are approximately normal after
    Fisher's transformation (Fieller, Hartley and Pearson 1957), rank autocorrelations with variance 1/n; neighbour cosines are
    compared with those of randomly paired units.
    """
    n = len(rows)
    length = n // groups
    if length < 6:
        return None
    index = np.arange(length) - (length - 1) / 2
    for column in features.T:
        ranks = _ranks(column).reshape(groups, length)
        ranks = ranks - ranks.mean(axis=1, keepdims=True)
        scale = np.sqrt((ranks**2).sum(axis=1) * (index**2).sum())
        if not scale.all():
            continue
        z = _rank_z((ranks @ index) / scale, length)
        if abs(z) > _THRESHOLD:
            return f"a unit's size follows its index (z = {z:.1f})"
        if groups == 1:
            for lag in _lags(n):
                z = float((ranks[0, :-lag] * ranks[0, lag:]).sum() / (ranks[0] ** 2).mean()) / np.sqrt(n - lag)
                if abs(z) > _THRESHOLD:
                    return f"units at distance {lag} are of like size (z = {z:.1f})"
    if groups == 1:
        return _like_neighbours(rows, rng)
    return None


def ordered_on_both_sides(what: str, find: Callable[[str], str | None]) -> str | None:
    """Why a group must be left out, in words, if ``find`` sees an order for side ``A`` and for side ``B``: one fair side is enough."""
    in_a = find("A")
    in_b = find("B") if in_a else None
    return f"the {what} may not be exchangeable in either model: in A {in_a}, in B {in_b}" if in_b else None


def _rank_z(correlations: npt.NDArray[np.float64], length: int) -> float:
    """A standard normal, nearly, from the rank correlations of runs of ``length`` units: a dozen units in perfect order must stand out."""
    capped = np.clip(correlations, -1 + 1e-9, 1 - 1e-9)
    return float(np.arctanh(capped).sum() * np.sqrt((length - 3) / (1.06 * len(correlations))))


def _like_neighbours(rows: Array, rng: np.random.Generator) -> str | None:
    n = len(rows)
    unit = unit_rows(rows[:, :_CHANNELS])
    unit = unit - unit.mean(axis=0)
    first = rng.integers(0, n, size=_PAIRS)
    second = (first + rng.integers(1, n, size=_PAIRS)) % n
    background = np.einsum("ij,ij->i", unit[first], unit[second])
    spread = float(background.std()) or 1.0
    for lag in _lags(n):
        cosines = np.einsum("ij,ij->i", unit[:-lag], unit[lag:])
        z = float((cosines.mean() - background.mean()) / spread) * np.sqrt(n - lag)
        # A handful of strongly alike pairs (duplicates) makes the mean heavy-tailed; shard repetition moves all pairs.
        share = float((cosines > background.mean() + 3 * spread).mean())
        if z > 2 * _THRESHOLD and share > 0.1:
            return f"units at distance {lag} point the same way (z = {z:.1f})"
    return None


def _lags(n: int) -> list[int]:
    return sorted({lag for lag in (1, 64, n // 8, n // 4, n // 2) if 1 <= lag <= n - 6})


def _ranks(column: Array) -> npt.NDArray[np.float64]:
    _, group, counts = np.unique(column, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return np.asarray((ends - (counts + 1) / 2)[group], dtype=np.float64)
