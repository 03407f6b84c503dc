"""Logarithms of p-values against exact sums, scipy, and simulation."""

from __future__ import annotations

from itertools import permutations
from math import exp, factorial, lgamma, log, log10

import numpy as np
import pytest
from scipy import stats

from homolog.arena.methods.pvalues import log10_fisher, log10_permutation, log10_polar_trace


def test_the_identity_is_as_rare_as_one_permutation_and_its_mirror() -> None:
    correlation, log10_p = log10_permutation(np.arange(20))
    assert correlation == 1.0
    assert log10_p == pytest.approx(log10(2 / factorial(20)))
    assert log10_permutation(np.arange(20)[::-1]) == pytest.approx((-1.0, log10_p))
    assert log10_permutation(np.array([1, 0])) == (0.0, 0.0)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("kept", [0, 5, 25])
def test_spearman_is_scipys(seed: int, kept: int) -> None:
    order = np.arange(30)
    order[kept:] = np.random.default_rng(seed).permutation(order[kept:])
    expected = stats.spearmanr(np.arange(30), order)
    correlation, log10_p = log10_permutation(order)
    assert correlation == pytest.approx(expected.statistic)
    assert log10_p == pytest.approx(max(log10(expected.pvalue), log10(2) - lgamma(31) / log(10)), abs=1e-6)


def test_the_far_tail_stays_finite_and_monotone() -> None:
    swapped = []
    for swaps in (1, 4, 16, 64):
        order = np.arange(2000)
        order[: 2 * swaps] = order[: 2 * swaps].reshape(-1, 2)[:, ::-1].ravel()
        swapped.append(log10_permutation(order)[1])
    assert swapped == sorted(swapped)
    assert all(-6000 < value < -300 for value in swapped)


def test_p_values_of_all_small_permutations_are_about_uniform() -> None:
    p = np.array([10 ** log10_permutation(np.array(order))[1] for order in permutations(range(7))])
    for level in (0.5, 0.2, 0.1):
        assert (p <= level).mean() <= 1.25 * level


@pytest.mark.parametrize("p", [[0.3], [0.5, 0.01], [1e-3, 0.2, 0.9, 0.04]])
def test_fisher_is_scipys(p: list[float]) -> None:
    expected = stats.combine_pvalues(p, method="fisher").pvalue
    assert 10 ** log10_fisher([log10(x) for x in p]) == pytest.approx(expected)


def test_fisher_of_the_impossible_is_finite_and_of_ones_is_one() -> None:
    # one layer: Fisher changes nothing, however small p is
    assert log10_fisher([-5000.0]) == pytest.approx(-5000.0)
    assert log10_fisher([0.0, 0.0]) == 0.0


def test_the_rate_of_a_trace_by_hand() -> None:
    # up to half of the size: n! exp(-n² x² / 2); half as much again by the logarithmic branch, which meets it there
    assert log10_polar_trace(30, 100) == pytest.approx(min(0.0, (lgamma(101) - 450) / log(10)))
    assert log10_polar_trace(50, 100) == pytest.approx((lgamma(101) - 1250) / log(10))
    assert log10_polar_trace(50.001, 100) == pytest.approx(log10_polar_trace(50, 100), rel=1e-3)
    assert log10_polar_trace(90, 100) == pytest.approx((lgamma(101) - 10000 * (0.125 - 0.25 * log(0.2))) / log(10))
    assert log10_polar_trace(-3, 100) == 0.0
    assert log10_polar_trace(100, 100) < -5000


def test_the_estimate_for_one_permutation_holds_in_simulation() -> None:
    rng, size, bound = np.random.default_rng(1), 8, 0.3
    draws = np.linalg.qr(rng.standard_normal((4000, size, size)))
    turns = draws[0] * np.sign(np.diagonal(draws[1], axis1=1, axis2=2))[:, None, :]
    seen = (np.trace(turns, axis1=1, axis2=2) >= size * bound).mean()
    assert seen <= exp(-(size**2) * bound**2 / 2)
