"""Every published method's formula on cases small enough to be worked out by hand."""

from __future__ import annotations

from itertools import combinations, permutations
from math import log10, sqrt

import numpy as np
import pytest

from homolog.arena.methods.awm import align_channels, unbiased_cka
from homolog.arena.methods.base import NotApplicable
from homolog.arena.methods.huref import compare_terms, invariant_terms
from homolog.arena.methods.independence import assign_rows, match_layer
from homolog.arena.methods.norm_gains import cosine
from homolog.arena.methods.polar import largest_trace, polar_factor
from homolog.arena.methods.spectra import align_in_order, spectral_difference, spectrum
from homolog.arena.methods.std_curves import correlate_curves


def matrix(*rows: list[float]) -> np.ndarray:
    return np.array(rows, dtype=np.float32)


# std curves


def test_std_curves_take_the_mean_of_four_correlations() -> None:
    a = np.array([[1.0, 2, 3], [1, 2, 3], [1, 2, 3], [1, 3, 2]])
    b = np.array([[10.0, 20, 30], [3, 2, 1], [1, 3, 2], [1, 3, 2]])
    # the correlations are 1, -1, 1/2 and 1
    assert correlate_curves(a, b) == pytest.approx((1 - 1 + 0.5 + 1) / 4)


def test_std_curves_interpolate_the_deeper_model() -> None:
    a = np.tile([0.0, 1, 2, 3, 2], (4, 1))
    b = np.tile([5.0, 7, 7], (4, 1))
    # at depths 0, 1/2 and 1 the deeper curve has 0, 2 and 2
    assert correlate_curves(a, b) == pytest.approx(1.0)


def test_std_curves_need_three_layers_that_differ() -> None:
    with pytest.raises(NotApplicable):
        correlate_curves(np.ones((4, 2)), np.ones((4, 2)))
    with pytest.raises(NotApplicable):
        correlate_curves(np.ones((4, 3)), np.ones((4, 3)))


# cosines


def test_cosine_by_hand() -> None:
    assert cosine(matrix([1, 1, 1]), matrix([1, 2, 3])) == pytest.approx(6 / sqrt(3 * 14))
    assert cosine(matrix([0, 0]), matrix([1, 2])) == 0.0


# HuRef


def test_invariant_terms_by_hand() -> None:
    x, q, k = matrix([1, 0], [0, 2]), matrix([1, 2]), matrix([3, 4])
    v, o = matrix([1, 0], [0, 1]), matrix([0, 1], [1, 0])
    first, second = matrix([1, 1]), matrix([1, -1])
    qk, vo, ffn = invariant_terms(x, q, k, v, o, first, second)
    assert qk.tolist() == [[3, 8], [12, 32]]
    assert vo.tolist() == [[0, 2], [2, 0]]
    assert ffn.tolist() == [[1, -2], [2, -4]]


def test_terms_are_standardised_before_the_cosine() -> None:
    a, b = matrix([0, 1], [2, 3]), matrix([0, 1], [3, 2])
    # deviations from the mean: (-1.5, -.5, .5, 1.5) against (-1.5, -.5, 1.5, .5)
    assert compare_terms([a], [b]) == pytest.approx(4 / 5)
    assert compare_terms([a], [100 - 7 * b]) == pytest.approx(-4 / 5)


def test_terms_do_not_change_under_a_permutation_or_rotation_of_the_residual_stream() -> None:
    rng = np.random.default_rng(1)
    parts = [rng.standard_normal((n, 6)).astype(np.float32) for n in (5, 4, 4, 4, 4, 8, 8)]
    turn = np.linalg.qr(rng.standard_normal((6, 6)))[0].astype(np.float32)
    for before, after in zip(invariant_terms(*parts), invariant_terms(*(p @ turn for p in parts)), strict=True):
        np.testing.assert_allclose(before, after, atol=1e-4)


# spectra


def test_a_spectrum_is_that_of_the_whole_product() -> None:
    assert spectrum(matrix([3, 0], [0, 1]), matrix([2, 0], [0, 5])) == pytest.approx([6, 5])
    rng = np.random.default_rng(2)
    left, right = (rng.standard_normal((4, 9)).astype(np.float32) for _ in range(2))
    np.testing.assert_allclose(spectrum(left, right), np.linalg.svd(left.T @ right, compute_uv=False)[:4], rtol=1e-5)


def test_spectral_difference_by_hand() -> None:
    # truncated to two values and scaled to length 1: (.6, .8) and (.8, .6)
    assert spectral_difference(np.array([3.0, 4, 9]), np.array([8.0, 6])) == pytest.approx(0.04)
    assert spectral_difference(np.array([2.0, 1]), np.array([4.0, 2])) == pytest.approx(0.0)


@pytest.mark.parametrize("seed", range(10))
def test_layers_are_aligned_in_order_at_the_least_cost(seed: int) -> None:
    cost = np.random.default_rng(seed).random((3, 6))
    best = min(combinations(range(6), 3), key=lambda columns: sum(cost[i, j] for i, j in enumerate(columns)))
    assert align_in_order(cost) == list(enumerate(best))


# AWM


def naive_hsic(x: np.ndarray, y: np.ndarray) -> float:
    """The unbiased estimator as the sum over quadruples of different samples (Song et al. 2007, equation 4)."""
    k, l = (m @ m.T for m in (x.astype(float), y.astype(float)))  # noqa: E741 - the paper's letters
    n, total = len(k), 0.0
    for i, j, q, r in permutations(range(n), 4):
        total += k[i, j] * (l[i, j] + l[q, r] - 2 * l[i, q])
    return total / (n * (n - 1) * (n - 2) * (n - 3))


def test_unbiased_cka_is_the_sum_over_quadruples() -> None:
    rng = np.random.default_rng(3)
    x, y = rng.standard_normal((6, 3)).astype(np.float32), rng.standard_normal((6, 4)).astype(np.float32)
    expected = naive_hsic(x, y) / sqrt(naive_hsic(x, x) * naive_hsic(y, y))
    assert unbiased_cka(x, y) == pytest.approx(expected, rel=1e-4)
    turn = np.linalg.qr(rng.standard_normal((3, 3)))[0].astype(np.float32)
    assert unbiased_cka(x, 5 * x @ turn) == pytest.approx(1.0)
    assert unbiased_cka(x, np.zeros((6, 2), dtype=np.float32)) == 0.0


def test_channels_are_found_through_permutation_sign_and_pruning() -> None:
    wide = np.random.default_rng(4).standard_normal((40, 6)).astype(np.float32)
    order, signs = align_channels(wide, wide[:, [4, 0, 5, 2]] * matrix([1, -1, 1, -1]))
    assert order.tolist() == [4, 0, 5, 2]
    assert signs.tolist() == [1, -1, 1, -1]


# polar map


def test_the_polar_factor_of_a_turned_table_is_the_turn() -> None:
    rng = np.random.default_rng(5)
    a, turn = rng.standard_normal((30, 4)).astype(np.float32), np.linalg.qr(rng.standard_normal((4, 4)))[0]
    np.testing.assert_allclose(polar_factor(a, (a @ turn).astype(np.float32)), turn, atol=1e-5)
    # diag(2, -3) = diag(1, -1) · diag(2, 3)
    np.testing.assert_allclose(polar_factor(matrix([2, 0], [0, -3]), np.eye(2, dtype=np.float32)), np.diag([1, -1]))


def test_the_largest_trace_by_hand() -> None:
    assert largest_trace(np.array([[1.0, 4, 2], [3, 9, 1], [2, 5, 6]])) == 1 + 9 + 6
    assert largest_trace(np.array([[1.0, 4], [3, 9], [8, 2]])) == 8 + 9


# independence tests


def test_rows_are_assigned_by_cosine_not_by_length_or_sign() -> None:
    a = matrix([1, 0], [0, 1], [-1, 0])
    rows, columns = assign_rows(a, matrix([-9, 1], [5, 1], [0, 0.1]))
    assert (rows.tolist(), columns.tolist()) == ([0, 1, 2], [1, 2, 0])


def test_a_layer_matches_where_gate_and_up_name_the_same_partner() -> None:
    rng = np.random.default_rng(6)
    gate, up = (rng.standard_normal((12, 8)).astype(np.float32) for _ in range(2))
    order = rng.permutation(12)
    exact = log10(2) - sum(log10(i) for i in range(1, 13))
    assert match_layer((gate, up), (gate[order], up[order])) == pytest.approx(exact)
    # pruned to nine units the nine still name each other
    exact = log10(2) - sum(log10(i) for i in range(1, 10))
    assert match_layer((gate, up), (gate[order[:9]], up[order[:9]])) == pytest.approx(exact)
    assert match_layer((gate, up), (gate, up[order])) > -3
