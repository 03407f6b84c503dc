"""Mutual nearest neighbours between two sets of units.

Everything here is *label-free*: it treats a unit's index as a name and never as evidence, so that under the null hypothesis of
exchangeable units the indices of the matched pairs are uniformly random whatever the values are.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from homolog.checkpoint.base import Array

__all__ = ["Matches", "cosines", "distances", "distinct_rows", "match_mutually", "normal_scores", "unit_rows"]

_JITTER = 1e-6
_DUPLICATE = 1.0 - 1e-6


@dataclass(frozen=True, slots=True)
class Matches:
    """Pairs ``(a[i], b[i])`` of positions, each the other's nearest neighbour, by ascending ``a``."""

    a: npt.NDArray[np.intp]
    b: npt.NDArray[np.intp]
    similarity: Array

    def __len__(self) -> int:
        return len(self.a)


def unit_rows(x: Array) -> Array:
    """Rows of ``x`` (n, d) scaled to length 1; zero rows stay zero."""
    norms = np.sqrt(np.einsum("ij,ij->i", x, x))[:, None]
    norms[norms == 0.0] = 1.0
    return np.asarray(x / norms, dtype=np.float32)


def cosines(x: Array, y: Array) -> Array:
    """Cosines between the rows of ``x`` (n, d) and of ``y`` (m, d), shape (n, m); 0 where a row is zero."""
    return unit_rows(x) @ unit_rows(y).T


def distances(x: Array, y: Array) -> Array:
    """Negative squared Euclidean distances between rows, shape (n, m): larger is more alike."""
    squares = np.einsum("ij,ij->i", x, x)[:, None] + np.einsum("ij,ij->i", y, y)[None, :]
    return np.asarray(2.0 * (x @ y.T) - squares, dtype=np.float32)


def match_mutually(similarity: Array, rng: np.random.Generator) -> Matches:
    """Mutual nearest neighbours of a similarity matrix (n, m).

    Ties, and differences as small as the rounding of a dot product (which may depend on a row's position in memory, that is on its
    index), are broken by jitter drawn from ``rng`` independently of the indices.
    """
    if min(similarity.shape) == 0:
        none = np.empty(0, dtype=np.intp)
        return Matches(none, none, np.empty(0, dtype=np.float32))
    spread = float(np.abs(similarity).max()) or 1.0
    jittered = similarity + (_JITTER * spread) * rng.random(similarity.shape, dtype=np.float32)
    best_b = jittered.argmax(axis=1)
    best_a = jittered.argmax(axis=0)
    a = np.flatnonzero(best_a[best_b] == np.arange(len(best_b)))
    b = best_b[a]
    return Matches(a, b, similarity[a, b])


def distinct_rows(x: Array, rng: np.random.Generator) -> npt.NDArray[np.intp]:
    """Positions of rows fit for matching, ascending: finite, not zero, and one row, drawn at random, of every set of duplicates.

    Which of several duplicates stays is decided by ``rng``, never by position: keeping the first of each set in both models would
    match equal indices by convention.
    """
    kept = np.flatnonzero(np.isfinite(x).all(axis=1) & x.any(axis=1))
    if len(kept) < 2:
        return kept
    unit = unit_rows(x[kept])
    # Duplicates have equal coordinates along any direction: sort by one random projection and compare within runs of equal values.
    projection = unit @ rng.standard_normal(unit.shape[1], dtype=np.float32)
    order = np.argsort(projection, kind="stable")
    sorted_projection = projection[order]
    priority = rng.permutation(len(kept))
    dropped = np.zeros(len(kept), dtype=bool)
    begin = 0
    for end in range(1, len(order) + 1):
        if end < len(order) and sorted_projection[end] - sorted_projection[end - 1] < 1e-5:
            continue
        if end - begin > 1:
            _drop_duplicates(unit, order[begin:end], priority, dropped)
        begin = end
    return kept[~dropped]


def normal_scores(x: Array) -> Array:
    """Each column of ``x`` (n, f) replaced by the normal scores of its ranks; ties share their mean score, so a constant column is all 0.

    Ranks make the features of two models comparable without a common scale, and tame outlier channels.
    """
    scores = np.empty(x.shape, dtype=np.float32)
    quantiles = _normal_quantiles(len(x))
    for j, column in enumerate(x.T):
        scores[:, j] = _mean_over_ties(column, quantiles)
    return scores


def _drop_duplicates(unit: Array, run: Any, priority: Any, dropped: Any) -> None:
    ranked = run[np.argsort(priority[run])]
    for position, row in enumerate(ranked):
        if dropped[row]:
            continue
        rest = ranked[position + 1 :]
        dropped[rest[unit[rest] @ unit[row] > _DUPLICATE]] = True


@lru_cache(maxsize=8)
def _normal_quantiles(n: int) -> Array:
    inverse = NormalDist().inv_cdf
    return np.array([inverse((i + 0.5) / n) for i in range(n)], dtype=np.float32)


def _mean_over_ties(column: Array, quantiles: Array) -> Array:
    _, group, counts = np.unique(column, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    sums = np.add.reduceat(quantiles, ends - counts)
    return np.asarray((sums / counts)[group], dtype=np.float32)
