"""The index test: do units that resemble each other carry the same index more often than chance allows?

The units of each side are shuffled by a permutation of its own before anything is computed, and their indices travel along as labels.
So nothing that depends on a unit's place in memory (the rounding of a dot product, the first of several maxima) can depend on its label.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
import numpy.typing as npt

from homolog.align.matching import Matches, cosines, distances, distinct_rows, match_mutually, normal_scores
from homolog.checkpoint.base import Array
from homolog.probes.bounds import (
    log10_fixed_points,
    log10_fixed_points_within,
    log10_longest_increasing,
    longest_increasing,
)

__all__ = ["IndexTest", "Rngs", "index_test", "index_test_within", "profile_test"]

Labels = npt.NDArray[np.intp]

Rngs = Callable[[str], np.random.Generator]
"""Gives an independent generator for each purpose: ``a`` and ``b`` for the two sides, ``pair`` for breaking ties."""


@dataclass(frozen=True, slots=True)
class IndexTest:
    """The outcome of one index test."""

    statistic: int
    kind: str
    matched: int
    of: int
    expected: float
    log10_p: float
    median_similarity: float
    rate: float
    """Expected fixed points under the null; 0 for LIS."""
    parts: int = 1
    """Label permutations at work: several for value dimensions (one a head) and classes of tokens."""


def index_test(a: Sequence[Array], b: Sequence[Array], *, same_axis: bool, rngs: Rngs) -> IndexTest:
    """Match units by the mean absolute cosine of their components and test their indices.

    ``a`` and ``b`` are lists of components (for a gated FFN: gate rows and up rows), each (s, r) in index order. With ``same_axis`` the
    two axes are equally long and the statistic is the number of fixed points, else the longest increasing subsequence.

    Null: the labels of the units of at least one side are a uniformly random permutation, independent of the other side. Zero rows,
    rows with NaN or Inf and all but one of duplicate rows are left out by rules that do not look at labels; with ``same_axis`` what
    remains is restricted to labels present on both sides, given which the labels are still uniform.
    """
    labels_a, labels_b = _distinct_labels(_joined(a), rngs("a")), _distinct_labels(_joined(b), rngs("b"))
    if same_axis:
        labels_a, labels_b = _common(labels_a, labels_b)
    similarity = np.zeros((len(labels_a), len(labels_b)), dtype=np.float32)
    for p, q in zip(a, b, strict=True):
        width = min(p.shape[1], q.shape[1])
        similarity += np.abs(cosines(p[labels_a, :width], q[labels_b, :width])) / np.float32(len(a))
    return _test(match_mutually(similarity, rngs("pair")), labels_a, labels_b, same_axis)


def profile_test(a: Array, b: Array, *, same_axis: bool, rngs: Rngs) -> IndexTest | None:
    """As `index_test`, matching feature vectors (s, f) by the distance of their normal scores; ``None`` if no feature varies in both.

    The scores are ranks within each model, so a common scale, and any monotone change of a feature, is of no account. Rows with NaN or
    Inf and all but one of equal rows are left out, as in `index_test`.
    """
    labels_a, labels_b = _unrepeated_labels(a, rngs("a")), _unrepeated_labels(b, rngs("b"))
    if same_axis:
        labels_a, labels_b = _common(labels_a, labels_b)
    if min(len(labels_a), len(labels_b)) < 2:
        return None
    x, y = a[labels_a], b[labels_b]
    varies = (np.ptp(x, axis=0) > 0) & (np.ptp(y, axis=0) > 0)
    if not varies.any():
        return None
    x, y = normal_scores(x[:, varies]), normal_scores(y[:, varies])
    return _test(match_mutually(distances(x, y), rngs("pair")), labels_a, labels_b, same_axis)


def index_test_within(a: Sequence[Array], b: Sequence[Array], *, rngs: Rngs) -> IndexTest:
    """Fixed points in several groups at once: arrays (s_g, r), group g of A matched with group g of B.

    Null: within every group the labels of one side are a uniformly random permutation, independent between groups.
    """
    statistic, matched, of, rate = 0, 0, 0, 0.0
    similarity = []
    for g, (x, y) in enumerate(zip(a, b, strict=True)):
        labels_a, labels_b = _common(_distinct_labels(x, rngs(f"a{g}")), _distinct_labels(y, rngs(f"b{g}")))
        matches = match_mutually(np.abs(cosines(x[labels_a], y[labels_b])), rngs(f"pair{g}"))
        statistic += int((labels_a[matches.a] == labels_b[matches.b]).sum())
        matched += len(matches)
        of += len(labels_a)
        rate += len(matches) / max(len(labels_a), 1)
        similarity.append(matches.similarity)
    median = _median(np.concatenate(similarity))
    if len(a) == 1:
        return IndexTest(
            statistic, "fixed_points", matched, of, rate, log10_fixed_points(statistic, matched, of), median, rate
        )
    log10_p = log10_fixed_points_within(statistic, rate)
    return IndexTest(statistic, "fixed_points_within", matched, of, rate, log10_p, median, rate, len(a))


def _test(matches: Matches, labels_a: Labels, labels_b: Labels, same_axis: bool) -> IndexTest:
    a, b = labels_a[matches.a], labels_b[matches.b]
    m = len(matches)
    median = _median(matches.similarity)
    if same_axis:
        of = len(labels_a)
        k = int((a == b).sum())
        rate = m / max(of, 1)
        return IndexTest(k, "fixed_points", m, of, rate, log10_fixed_points(k, m, of), median, rate)
    of = min(len(labels_a), len(labels_b))
    length = longest_increasing(b[np.argsort(a)])
    return IndexTest(length, "lis", m, of, 2 * sqrt(m), log10_longest_increasing(length, m), median, 0.0)


def _distinct_labels(x: Array, rng: np.random.Generator) -> Labels:
    """Labels of the rows that `distinct_rows` keeps, in an order drawn by ``rng``."""
    order = rng.permutation(len(x))
    return np.asarray(order[distinct_rows(x[order], rng)], dtype=np.intp)


def _unrepeated_labels(x: Array, rng: np.random.Generator) -> Labels:
    """Labels of finite rows in an order drawn by ``rng``; of several equal rows, the one that the draw puts first."""
    order = rng.permutation(np.flatnonzero(np.isfinite(x).all(axis=1)))
    _, first = np.unique(x[order], axis=0, return_index=True)
    return np.asarray(order[np.sort(first)], dtype=np.intp)


def _common(a: Labels, b: Labels) -> tuple[Labels, Labels]:
    """The labels that both sides have, each side in its own order."""
    return a[np.isin(a, b)], b[np.isin(b, a)]


def _joined(parts: Sequence[Array]) -> Array:
    return parts[0] if len(parts) == 1 else np.concatenate(list(parts), axis=1)


def _median(values: Array) -> float:
    return float(np.median(values)) if len(values) else 0.0
