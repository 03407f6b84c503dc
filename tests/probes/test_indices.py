"""The index tests: what they find, what leaves them unmoved, and that no index leaks into them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.naive import index_statistics as naive

from homolog.align.matching import cosines
from homolog.checkpoint.base import Array
from homolog.probes.bounds import log10_fixed_points
from homolog.probes.indices import IndexTest, Rngs, index_test, index_test_within, profile_test

_SEEDS = st.integers(0, 2**32 - 1)


def _rngs(seed: int) -> Rngs:
    return lambda role: np.random.default_rng([seed, *role.encode()])


def _pair(seed: int, units: int = 24, width: int = 6, noise: float = 0.4) -> tuple[Array, Array, np.random.Generator]:
    rng = np.random.default_rng(seed)
    a = rng.standard_normal((units, width), dtype=np.float32)
    b = a + np.float32(noise) * rng.standard_normal((units, width), dtype=np.float32)
    return a, b[rng.permutation(units)] if seed % 2 else b, rng


def _counts(test: IndexTest | None) -> tuple[int, int, int]:
    assert test is not None
    return test.statistic, test.matched, test.of


@given(_SEEDS)
def test_rows_against_the_naive_twin(seed: int) -> None:
    a, b, _ = _pair(seed, units=8, width=3)
    pairs = naive.mutual_matches(np.abs(cosines(a, b)).tolist())
    test = index_test([a], [b], same_axis=True, rngs=_rngs(seed))
    equal = sum(i == j for i, j in pairs)
    assert _counts(test) == (equal, len(pairs), 8)
    assert test.log10_p == log10_fixed_points(equal, len(pairs), 8)


@given(_SEEDS)
def test_order_against_the_naive_twin(seed: int) -> None:
    a, b, _ = _pair(seed, units=9, width=3)
    b = b[:7]
    pairs = naive.mutual_matches(np.abs(cosines(a, b)).tolist())
    test = index_test([a], [b], same_axis=False, rngs=_rngs(seed))
    assert _counts(test) == (naive.longest_increasing([j for _, j in sorted(pairs)]), len(pairs), 7)


@given(_SEEDS)
def test_naming_units_anew_in_both_models_alike_changes_nothing(seed: int) -> None:
    a, b, rng = _pair(seed)
    names = rng.permutation(len(a))
    for test in (index_test, lambda x, y, **rest: profile_test(x[0], y[0], **rest)):
        before = test([a], [b], same_axis=True, rngs=_rngs(1))
        after = test([a[names]], [b[names]], same_axis=True, rngs=_rngs(1))
        assert _counts(before) == _counts(after)


@given(_SEEDS)
def test_it_is_symmetric(seed: int) -> None:
    a, b, _ = _pair(seed)
    assert _counts(index_test([a], [b], same_axis=True, rngs=_rngs(1))) == _counts(
        index_test([b], [a], same_axis=True, rngs=_rngs(2))
    )
    assert _counts(profile_test(a, b, same_axis=True, rngs=_rngs(1))) == _counts(
        profile_test(b, a, same_axis=True, rngs=_rngs(2))
    )
    assert _counts(index_test([a], [b[:17]], same_axis=False, rngs=_rngs(1))) == _counts(
        index_test([b[:17]], [a], same_axis=False, rngs=_rngs(2))
    )


@given(_SEEDS)
def test_scale_sign_and_a_rotation_of_the_stream_change_nothing(seed: int) -> None:
    a, b, rng = _pair(seed)
    scale = np.exp(rng.standard_normal((len(b), 1))) * rng.choice([-1, 1], (len(b), 1))
    q, _ = np.linalg.qr(rng.standard_normal((a.shape[1], a.shape[1])))
    plain = _counts(index_test([a], [b], same_axis=True, rngs=_rngs(1)))
    assert plain == _counts(index_test([a], [(b * scale).astype(np.float32)], same_axis=True, rngs=_rngs(1)))
    turned = [(x @ q).astype(np.float32) for x in (a, b)]
    assert plain == _counts(index_test(turned[:1], turned[1:], same_axis=True, rngs=_rngs(1)))


@given(_SEEDS)
def test_profiles_heed_ranks_only(seed: int) -> None:
    a, b, _ = _pair(seed)
    plain = _counts(profile_test(a, b, same_axis=True, rngs=_rngs(1)))
    bent = np.column_stack([np.exp(b[:, 0]), 5 * b[:, 1] - 2, b[:, 2] ** 3, *b.T[3:]]).astype(np.float32)
    assert plain == _counts(profile_test(a, bent, same_axis=True, rngs=_rngs(1)))


@pytest.mark.parametrize("same_axis", [True, False])
def test_a_noisy_copy_is_found_and_a_twin_under_other_names_is_not(same_axis: bool) -> None:
    rng = np.random.default_rng(0)
    a = rng.standard_normal((64, 32), dtype=np.float32)
    copy = a + np.float32(0.7) * rng.standard_normal(a.shape, dtype=np.float32)
    if not same_axis:
        copy = copy[np.sort(rng.permutation(64)[:40])]
    twin = copy[rng.permutation(len(copy))]
    assert index_test([a], [copy], same_axis=same_axis, rngs=_rngs(0)).log10_p < -30
    assert index_test([a], [twin], same_axis=same_axis, rngs=_rngs(0)).log10_p > -2


def test_a_noisy_profile_is_found_and_a_twin_under_other_names_is_not() -> None:
    rng = np.random.default_rng(0)
    a = rng.standard_normal((64, 6), dtype=np.float32)
    copy = a + np.float32(0.1) * rng.standard_normal(a.shape, dtype=np.float32)
    found = profile_test(a, copy, same_axis=True, rngs=_rngs(0))
    cleared = profile_test(a, copy[rng.permutation(64)], same_axis=True, rngs=_rngs(0))
    assert found is not None
    assert found.log10_p < -30
    assert cleared is not None
    assert cleared.log10_p > -2


def test_classes_are_matched_each_within_itself() -> None:
    rng = np.random.default_rng(0)
    a = [rng.standard_normal((n, 16), dtype=np.float32) for n in (13, 20)]
    copy = [x + np.float32(0.3) * rng.standard_normal(x.shape, dtype=np.float32) for x in a]
    found = index_test_within(a, copy, rngs=_rngs(0))
    assert (found.statistic, found.of, found.kind) == (33, 33, "fixed_points_within")
    assert found.log10_p < -12
    assert index_test_within(a, [x[rng.permutation(len(x))] for x in copy], rngs=_rngs(0)).log10_p > -2
    assert index_test_within(a[:1], copy[:1], rngs=_rngs(0)).log10_p == log10_fixed_points(13, 13, 13)


def test_rows_that_are_all_equally_alike_do_not_meet_by_position() -> None:
    # All similarities are one number, so the tie-break alone decides. Were the first of several maxima taken in index order, low indices
    # would meet low indices and the mean would be one and a half times what chance gives.
    angle = np.arange(64, dtype=np.float32) * np.float32(0.05)
    small = np.float32(0.3) * np.column_stack([np.cos(angle), np.sin(angle)])
    nothing = np.zeros_like(small)
    one = np.ones((64, 1), dtype=np.float32)
    a, b = np.concatenate([one, small, nothing], axis=1), np.concatenate([one, nothing, small], axis=1)
    tests = [index_test([a], [b], same_axis=True, rngs=_rngs(seed)) for seed in range(2000)]
    excess = np.array([test.statistic - test.rate for test in tests])
    assert excess.mean() < 4 * excess.std() / np.sqrt(len(excess))


@pytest.mark.parametrize("same_axis", [True, False])
def test_nothing_to_match_is_no_evidence(same_axis: bool) -> None:
    for rows in (np.zeros((0, 4), np.float32), np.zeros((5, 4), np.float32), np.full((5, 4), np.nan, np.float32)):
        test = index_test([rows], [rows], same_axis=same_axis, rngs=_rngs(0))
        assert (test.statistic, test.log10_p) == (0, 0.0)
        assert profile_test(rows, rows, same_axis=same_axis, rngs=_rngs(0)) is None


def test_blocks_read_to_different_depths_share_the_leading_labels() -> None:
    rng = np.random.default_rng(0)
    a = rng.standard_normal((40, 8), dtype=np.float32)
    assert index_test([a], [a[:24]], same_axis=True, rngs=_rngs(0)).statistic == 24
    test = profile_test(a, a[:24], same_axis=True, rngs=_rngs(0))
    assert test is not None
    assert (test.statistic, test.of) == (24, 24)


def test_padding_and_repeats_at_the_same_places_are_left_out() -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((32, 8), dtype=np.float32) for _ in range(2))
    for rows in (a, b):
        rows[1:16:2] = rows[0:16:2]
        rows[24:] = 0
    of = [index_test([a], [b], same_axis=True, rngs=_rngs(seed)).of for seed in range(50)]
    assert max(of) <= 16
    assert (
        10 < np.mean(of) < 14
    )  # eight rows that stand once, and of eight doubled ones those where both sides drew the same place
