"""Matching units: against naive twins, and unmoved by what it claims to be unmoved by."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from tests.naive import index_statistics as naive

from homolog.align.matching import cosines, distances, distinct_rows, match_mutually, normal_scores, unit_rows

_SEEDS = st.integers(0, 2**32 - 1)
_LATTICE = arrays.arrays(
    np.float32,
    st.tuples(st.integers(1, 12), st.integers(1, 3)),
    elements=st.integers(-2, 2).map(float),
)


@given(_SEEDS, st.integers(1, 12), st.integers(1, 12))
def test_mutual_matches_against_the_naive_twin(seed: int, n: int, m: int) -> None:
    rng = np.random.default_rng(seed)
    similarity = (rng.permutation(n * m).reshape(n, m) / (n * m)).astype(np.float32)  # far more apart than jitter moves
    matches = match_mutually(similarity, rng)
    assert list(zip(matches.a.tolist(), matches.b.tolist(), strict=True)) == naive.mutual_matches(similarity.tolist())


@given(_SEEDS)
def test_matches_are_one_to_one_and_ascend_whatever_ties(seed: int) -> None:
    rng = np.random.default_rng(seed)
    matches = match_mutually(rng.integers(0, 2, (9, 7)).astype(np.float32), rng)
    assert len(set(matches.b.tolist())) == len(matches)
    assert (np.diff(matches.a) > 0).all()
    assert len(matches) >= 1


def test_nothing_has_no_match() -> None:
    assert len(match_mutually(np.zeros((0, 4), dtype=np.float32), np.random.default_rng(0))) == 0


@given(_LATTICE, _SEEDS)
def test_distinct_rows_against_the_naive_twin(x: np.ndarray, seed: int) -> None:
    kept = distinct_rows(x, np.random.default_rng(seed)).tolist()
    sets = naive.duplicate_sets(x.tolist())
    assert len(kept) == len(sets)
    assert all(len(members & set(kept)) == 1 for members in sets)
    assert kept == sorted(kept)


def test_which_duplicate_stays_is_drawn() -> None:
    x = np.ones((6, 3), dtype=np.float32)
    kept = {int(distinct_rows(x, np.random.default_rng(seed))[0]) for seed in range(100)}
    assert kept == set(range(6))


def test_rows_without_finite_numbers_are_left_out() -> None:
    x = np.eye(4, dtype=np.float32)
    x[1, 2], x[3, 0] = np.nan, np.inf
    assert distinct_rows(x, np.random.default_rng(0)).tolist() == [0, 2]


@given(_SEEDS)
def test_cosines_heed_directions_only(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((5, 4), dtype=np.float32), rng.standard_normal((6, 4), dtype=np.float32)
    scale = np.exp(3 * rng.standard_normal((5, 1))).astype(np.float32)
    expected = [[float(u @ v / np.linalg.norm(u) / np.linalg.norm(v)) for v in y] for u in x]
    np.testing.assert_allclose(cosines(x, y), expected, atol=1e-5)
    np.testing.assert_allclose(cosines(x * scale, y), cosines(x, y), atol=1e-5)
    turn, _ = np.linalg.qr(rng.standard_normal((4, 4)))
    turned = [(z @ turn).astype(np.float32) for z in (x, y)]
    np.testing.assert_allclose(cosines(*turned), cosines(x, y), atol=1e-5)


def test_a_zero_row_is_like_nothing() -> None:
    x = np.zeros((2, 3), dtype=np.float32)
    assert not unit_rows(x).any()
    assert not cosines(x, np.ones((2, 3), dtype=np.float32)).any()


@given(_SEEDS)
def test_distances_are_negative_squares(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((5, 4), dtype=np.float32), rng.standard_normal((6, 4), dtype=np.float32)
    expected = [[-float(((u - v) ** 2).sum()) for v in y] for u in x]
    np.testing.assert_allclose(distances(x, y), expected, atol=1e-4)


@given(_LATTICE)
def test_normal_scores_against_the_naive_twin(x: np.ndarray) -> None:
    expected = [naive.normal_scores(column.tolist()) for column in x.T]
    np.testing.assert_allclose(normal_scores(x), np.array(expected, dtype=float).reshape(-1, len(x)).T, atol=1e-5)


@given(_SEEDS)
def test_normal_scores_heed_ranks_only(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((11, 2), dtype=np.float32)
    names = rng.permutation(11)
    np.testing.assert_array_equal(normal_scores(np.exp(x)), normal_scores(x))
    np.testing.assert_array_equal(normal_scores(x[names]), normal_scores(x)[names])
