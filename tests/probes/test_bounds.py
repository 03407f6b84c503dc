"""The bounds against exhaustive counts: at least the exact tail, and equal to the moment that they are."""

from __future__ import annotations

from fractions import Fraction
from math import comb, factorial, log10

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.naive import index_statistics as naive

from homolog.probes.bounds import (
    combine_planned,
    log10_fixed_points,
    log10_fixed_points_within,
    log10_longest_increasing,
    log10_total,
    longest_increasing,
)

_SMALL = [(m, s) for s in range(1, 8) for m in range(s + 1)]
_GROUPS = [
    [(3, 3)],
    [(2, 3), (3, 3)],
    [(4, 4), (3, 4)],
    [(1, 2), (2, 2), (3, 3)],
    [(3, 3), (3, 3), (2, 2)],
    [(0, 3), (2, 2)],
]


@pytest.mark.parametrize(("matched", "of"), _SMALL)
def test_fixed_points_are_bounded_by_their_factorial_moment(matched: int, of: int) -> None:
    counts = list(naive.fixed_points(matched, of))
    for k in range(matched + 1):
        moment = naive.factorial_moment(counts, k)
        assert moment == naive.fixed_point_moment(k, matched, of)
        assert naive.tail(counts, k) <= moment
        assert log10_fixed_points(k, matched, of) == pytest.approx(min(0.0, naive.log10_of(moment)), abs=1e-9)


@pytest.mark.parametrize("of", [13, 64, 512, 4096])
def test_all_of_all_is_one_in_the_number_of_orders(of: int) -> None:
    assert log10_fixed_points(of, of, of) == pytest.approx(-sum(log10(i) for i in range(2, of + 1)), rel=1e-9)


@given(st.integers(0, 300), st.data())
def test_a_larger_count_is_never_likelier(of: int, data: st.DataObject) -> None:
    matched = data.draw(st.integers(0, of))
    values = [log10_fixed_points(k, matched, of) for k in range(matched + 1)]
    assert values == sorted(values, reverse=True)
    assert values[0] == 0.0


@pytest.mark.parametrize(("k", "matched", "of"), [(3, 2, 5), (1, 6, 5), (-1, 2, 5)])
def test_impossible_counts_are_misuse(k: int, matched: int, of: int) -> None:
    with pytest.raises(ValueError, match="does not hold"):
        log10_fixed_points(k, matched, of)


@pytest.mark.parametrize("groups", _GROUPS)
def test_fixed_points_of_several_groups(groups: list[tuple[int, int]]) -> None:
    counts = list(naive.fixed_points_within(groups))
    rate = sum(m / s for m, s in groups)
    for k in range(max(counts) + 1):
        exact = naive.tail(counts, k)
        assert float(exact) <= 10 ** log10_fixed_points_within(k, rate) * (1 + 1e-9)
        assert float(exact) <= 10 ** log10_total(k, rate) * (1 + 1e-9)
        assert float(naive.factorial_moment(counts, k)) <= rate**k / factorial(k) * (1 + 1e-9)


@pytest.mark.parametrize(("groups", "matched", "of"), [(2, 3, 3), (3, 2, 3), (3, 3, 3), (2, 4, 4)])
def test_groups_that_change_places_too(groups: int, matched: int, of: int) -> None:
    counts = list(naive.fixed_points_of_permuted_groups(groups, matched, of))
    rate = groups * matched / of
    for k in range(max(counts) + 1):
        assert float(naive.tail(counts, k)) <= 10 ** log10_fixed_points_within(k, rate) * (1 + 1e-9)


@given(st.floats(0.01, 200), st.integers(0, 400))
def test_several_groups_and_total_fall_with_the_count(rate: float, k: int) -> None:
    for bound in (log10_fixed_points_within, log10_total):
        assert bound(k + 1, rate) <= bound(k, rate) <= 0.0


@pytest.mark.parametrize("matched", range(8))
def test_longest_increasing_is_bounded(matched: int) -> None:
    lengths = list(naive.increasing_lengths(matched))
    for length in range(matched + 1):
        bound = log10_longest_increasing(length, matched)
        assert float(naive.tail(lengths, length)) <= 10**bound * (1 + 1e-9)
        expected = Fraction(comb(matched, length), factorial(length))
        assert bound == pytest.approx(min(0.0, naive.log10_of(expected)), abs=1e-9)


@given(st.integers(0, 2000), st.data())
def test_a_longer_run_is_never_likelier(matched: int, data: st.DataObject) -> None:
    length = data.draw(st.integers(0, matched))
    assert log10_longest_increasing(matched, matched) <= log10_longest_increasing(length, matched) <= 0.0


def test_impossible_lengths_are_misuse() -> None:
    with pytest.raises(ValueError, match="does not hold"):
        log10_longest_increasing(3, 2)


@given(st.lists(st.integers(-5, 12), max_size=9))
def test_longest_increasing_against_every_subsequence(values: list[int]) -> None:
    assert longest_increasing(np.array(values, dtype=np.intp)) == naive.longest_increasing(values)


@given(st.floats(-400, 0), st.integers(0, 10_000))
def test_planned_tests_multiply_and_never_pass_one(smallest: float, planned: int) -> None:
    assert combine_planned(smallest, planned) == pytest.approx(min(0.0, smallest + log10(max(planned, 1))))
