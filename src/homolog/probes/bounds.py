"""Tail bounds for matched indices, in log10. Each holds exactly, for every sample size: none is an approximation.

Setting: two models have units labelled 0 … s-1. A matching that never looks at the labels pairs m units of A with m units of B.
If the labels of one side are a uniformly random permutation, independent of everything else, then:

- the number K of pairs with equal labels has factorial moments ``E[C(K, k)] = C(m, k) (s-k)!/s!``, so ``P(K >= k)`` is at most that;
- the labels of B, read in the order of the labels of A, are a uniformly random permutation of m things, and the expected number of
  increasing subsequences of length l is ``C(m, l)/l!``, so the longest one reaches l with at most that probability.

docs/statistics.md has the proofs.
"""

from __future__ import annotations

from bisect import bisect_left
from math import lgamma, log, log10

import numpy as np
import numpy.typing as npt

__all__ = [
    "combine_planned",
    "log10_fixed_points",
    "log10_fixed_points_within",
    "log10_longest_increasing",
    "log10_total",
    "longest_increasing",
]

_LN10 = log(10.0)


def log10_fixed_points(k: int, matched: int, of: int) -> float:
    """log10 of a bound on P(K >= k) for ``matched`` pairs whose labels are drawn without replacement from ``of``.

    Raises ValueError unless ``0 <= k <= matched <= of``.
    """
    if not 0 <= k <= matched <= of:
        raise ValueError(f"fixed points {k} <= matched {matched} <= of {of} does not hold")
    ln = _ln_choose(matched, k) + lgamma(of - k + 1) - lgamma(of + 1)
    return min(0.0, ln / _LN10)


def log10_fixed_points_within(k: int, rate: float) -> float:
    """log10 of a bound on P(K >= k) for pairs in several groups, each with a label permutation of its own (value dimensions in heads).

    ``rate`` is the sum over groups of ``matched/of``. From ``E[C(K, k)] <= rate**k / k!`` and, for large rates, the moment
    generating function ``E[z**K] <= exp(rate (z-1))``, z >= 1; both hold whether or not the groups are also permuted as wholes.
    """
    if k <= 0 or rate <= 0.0:
        return 0.0
    moment = k * log(rate) - lgamma(k + 1)
    return min(0.0, moment / _LN10, log10_total(k, rate))


def log10_longest_increasing(length: int, matched: int) -> float:
    """log10 of a bound on P(longest increasing subsequence >= length) among ``matched`` pairs in random order."""
    if not 0 <= length <= matched:
        raise ValueError(f"length {length} <= matched {matched} does not hold")
    return min(0.0, (_ln_choose(matched, length) - lgamma(length + 1)) / _LN10)


def log10_total(k: int, rate: float) -> float:
    """log10 of the Chernoff bound on P(K >= k) for a sum of fixed points over groups that share no labels; 0 for k <= rate.

    Holds because ``E[z**K_g] <= exp(rate_g (z-1))`` for every group (its factorial moments are at most the Poisson's).
    """
    if rate <= 0.0 or k <= rate:
        return 0.0
    return (k - rate - k * log(k / rate)) / _LN10


def combine_planned(smallest: float, planned: int) -> float:
    """The headline: log10 of min(1, planned × p), valid under any dependence between the tests and any stopping among them."""
    return min(0.0, smallest + log10(max(planned, 1)))


def longest_increasing(values: npt.NDArray[np.intp]) -> int:
    """Length of the longest strictly increasing subsequence, in O(n log n)."""
    tails: list[int] = []
    for value in values.tolist():
        at = bisect_left(tails, value)
        if at == len(tails):
            tails.append(value)
        else:
            tails[at] = value
    return len(tails)


def _ln_choose(n: int, k: int) -> float:
    return lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)
