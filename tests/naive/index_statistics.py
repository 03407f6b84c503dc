"""Slow and obvious twins of the statistics: every permutation counted, every number a fraction where it can be one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import combinations, pairwise, permutations, product
from math import comb, factorial, log10
from statistics import NormalDist


def log10_of(fraction: Fraction) -> float:
    return log10(fraction.numerator) - log10(fraction.denominator)


def fixed_points(matched: int, of: int) -> Iterator[int]:
    """Equal labels among ``matched`` pairs, under every relabelling of one side."""
    for labels in permutations(range(of)):
        yield sum(labels[i] == i for i in range(matched))


def fixed_points_within(groups: Sequence[tuple[int, int]]) -> Iterator[int]:
    """The same summed over groups (matched, of), each with a relabelling of its own."""
    for counts in product(*(list(fixed_points(matched, of)) for matched, of in groups)):
        yield sum(counts)


def fixed_points_of_permuted_groups(groups: int, matched: int, of: int) -> Iterator[int]:
    """Fixed points under the whole wreath product: groups change places too, and then no label of theirs is equal."""
    inside = list(fixed_points(matched, of))
    elsewhere = [0] * len(inside)
    for places in permutations(range(groups)):
        for counts in product(*(inside if places[group] == group else elsewhere for group in range(groups))):
            yield sum(counts)


def increasing_lengths(matched: int) -> Iterator[int]:
    """Length of the longest increasing subsequence of every permutation."""
    for order in permutations(range(matched)):
        yield longest_increasing(order)


def longest_increasing(values: Sequence[int]) -> int:
    """By trying every subsequence, longest first."""
    for length in range(len(values), 0, -1):
        for chosen in combinations(values, length):
            if all(x < y for x, y in pairwise(chosen)):
                return length
    return 0


def tail(values: Sequence[int], k: int) -> Fraction:
    """Share of ``values`` that are at least ``k``."""
    return Fraction(sum(value >= k for value in values), len(values))


def factorial_moment(values: Sequence[int], k: int) -> Fraction:
    """Mean of C(value, k)."""
    return Fraction(sum(comb(value, k) for value in values), len(values))


def fixed_point_moment(k: int, matched: int, of: int) -> Fraction:
    """The bound as it stands in the docs: C(m, k) (s-k)!/s!."""
    return Fraction(comb(matched, k) * factorial(of - k), factorial(of))


def mutual_matches(similarity: Sequence[Sequence[float]]) -> list[tuple[int, int]]:
    """Pairs that are each other's best, by looking at every row and column; ties are not expected."""
    pairs = []
    for i, row in enumerate(similarity):
        for j, value in enumerate(row):
            best_of_row = all(value >= other for other in row)
            best_of_column = all(value >= other[j] for other in similarity)
            if best_of_row and best_of_column:
                pairs.append((i, j))
    return pairs


def duplicate_sets(rows: Sequence[Sequence[float]]) -> list[set[int]]:
    """Positions of non-zero rows that are positive multiples of each other, compared as fractions."""
    sets: list[tuple[tuple[Fraction, ...], set[int]]] = []
    for position, row in enumerate(rows):
        exact = [Fraction(value) for value in row]
        largest = max(abs(value) for value in exact)
        if largest == 0:
            continue
        direction = tuple(value / largest for value in exact)
        for known, members in sets:
            if known == direction:
                members.add(position)
                break
        else:
            sets.append((direction, {position}))
    return [members for _, members in sets]


def normal_scores(column: Sequence[float]) -> list[float]:
    """The normal quantile of every value's rank; equal values share the mean of theirs."""
    quantile = [NormalDist().inv_cdf((rank + 0.5) / len(column)) for rank in range(len(column))]
    ordered = sorted(column)
    scores = []
    for value in column:
        shared = [quantile[rank] for rank, other in enumerate(ordered) if other == value]
        scores.append(sum(shared) / len(shared))
    return scores


def rank_correlation(column: Sequence[float]) -> float:
    """Spearman's correlation of a column with its index, mid-ranks for ties."""
    ranks = [sum(x < value for x in column) + (sum(x == value for x in column) - 1) / 2 for value in column]
    n = len(column)
    centre = (n - 1) / 2
    top = sum((rank - centre) * (i - centre) for i, rank in enumerate(ranks))
    size = sum((rank - centre) ** 2 for rank in ranks) * sum((i - centre) ** 2 for i in range(n))
    return float(top / size**0.5)
