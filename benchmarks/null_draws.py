"""Synthetic pairs for which the null hypothesis holds, made as awkward as the null allows, and the p-values they get.

A *world* gives the rows of two sets of units. At least one side carries its indices by chance alone; everything else may be
structured: the two sides may hold the same units under other names, one side may be sorted, rows may repeat.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache

import numpy as np

from homolog.checkpoint.base import Array
from homolog.probes.bounds import combine_planned, log10_total
from homolog.probes.indices import index_test, index_test_within, profile_test

__all__ = ["STATISTICS", "WORLDS", "Generator", "World", "draw", "exceedances", "largest_allowed"]

Generator = np.random.Generator
World = Callable[[Generator, int, int], tuple[Array, Array]]

LEVELS = 10.0 ** -np.arange(0.05, 5.01, 0.05)
"""Levels alpha at which P(p <= alpha) <= alpha is checked, all at once."""

_CONFIDENCE = 0.99


def _normal(rng: Generator, *shape: int) -> Array:
    return rng.standard_normal(shape, dtype=np.float32)


def _relabelled(rng: Generator, a: Array, noise: float = 0.3) -> Array:
    """The same units, learned anew: alike in every way, under names of their own."""
    return a[rng.permutation(len(a))] + np.float32(noise) * _normal(rng, *a.shape)


def independent(rng: Generator, units: int, width: int) -> tuple[Array, Array]:
    """Nothing in common."""
    return _normal(rng, units, width), _normal(rng, units, width)


def lookalikes(rng: Generator, units: int, width: int) -> tuple[Array, Array]:
    """Both learned the same units, as two trainings on the same data do."""
    a = _normal(rng, units, width)
    return a, _relabelled(rng, a)


def sorted_side(rng: Generator, units: int, width: int) -> tuple[Array, Array]:
    """One side is sorted by size."""
    a = _normal(rng, units, width)
    a = a[np.argsort((a**2).sum(axis=1))]
    return a, _relabelled(rng, a)


def fixed_table(rng: Generator, units: int, width: int) -> tuple[Array, Array]:
    """One side is a table written by hand, a smooth function of the index."""
    a = np.cos(np.arange(units)[:, None] * 2.0 ** -np.arange(width)[None, :]).astype(np.float32)
    return a, _relabelled(rng, a, 0.1)


def families(rng: Generator, units: int, width: int) -> tuple[Array, Array]:
    """Units come in families of like neighbours on one side."""
    a = np.repeat(_normal(rng, -(-units // 3), width), 3, axis=0)[:units] + np.float32(0.3) * _normal(rng, units, width)
    return a, _relabelled(rng, a, 0.2)


def repeated_alike(rng: Generator, units: int, width: int) -> tuple[Array, Array]:
    """The first units stand twice in a row, at the same places on both sides."""
    a = _normal(rng, units, width)
    b = _relabelled(rng, a)
    doubled = 2 * (units // 4)
    for rows in (a, b):
        rows[1:doubled:2] = rows[0:doubled:2]
    return a, b


def padded_alike(rng: Generator, units: int, width: int) -> tuple[Array, Array]:
    """The last quarter is zero on both sides."""
    a, b = lookalikes(rng, units - units // 4, width)
    padding = np.zeros((units // 4, width), dtype=np.float32)
    return np.concatenate([a, padding]), np.concatenate([b, padding])


def quantised(rng: Generator, units: int, width: int) -> tuple[Array, Array]:
    """Numbers on a coarse lattice: similarities tie and rows repeat."""
    a = np.round(_normal(rng, units, width))
    return a, np.round(_relabelled(rng, a))


def collapsed(rng: Generator, units: int, width: int) -> tuple[Array, Array]:
    """All rows nearly one row: similarities tie but for rounding."""
    a, b = independent(rng, units, width)
    return np.float32(1) + np.float32(2e-3) * a, np.float32(1) + np.float32(2e-3) * b


WORLDS: Mapping[str, World] = {
    world.__name__.replace("_", " "): world
    for world in (
        independent,
        lookalikes,
        sorted_side,
        fixed_table,
        families,
        repeated_alike,
        padded_alike,
        quantised,
        collapsed,
    )
}


def _rows(rng: Generator, world: World) -> float:
    a, b = _either_way(rng, world, 12, 4)
    return index_test([a], [b], same_axis=True, rngs=lambda _: rng).log10_p


def _order(rng: Generator, world: World) -> float:
    """Axes of 14 and of another number of units, of which the leading ten and eight were read."""
    a, b = _either_way(rng, world, 14, 4)
    return index_test([a[:10]], [b[:8]], same_axis=False, rngs=lambda _: rng).log10_p


def _profiles(rng: Generator, world: World) -> float:
    a, b = (
        np.where(np.any(rows != 0, axis=1, keepdims=True), rows, np.float32(np.nan))
        for rows in _either_way(rng, world, 12, 2)
    )
    test = profile_test(a, b, same_axis=True, rngs=lambda _: rng)
    return test.log10_p if test else 0.0


def _within(rng: Generator, world: World) -> float:
    """Two classes of unequal number and scale, as those of the never-trained tokens."""
    pairs = [_either_way(rng, world, units, 4) for units in (9, 5)]
    return index_test_within(
        [a * np.float32(scale) for (a, _), scale in zip(pairs, (1, 30), strict=True)],
        [b for _, b in pairs],
        rngs=lambda _: rng,
    ).log10_p


def _cloned_layers(rng: Generator, world: World) -> float:
    """Two layers that began as one share its labelling on both sides: the smaller p, times two."""
    a, b = world(rng, 12, 4)
    noise = np.float32(0.05)
    tests = [
        index_test(
            [a + noise * _normal(rng, *a.shape) * (a != 0)],
            [b + noise * _normal(rng, *b.shape) * (b != 0)],
            same_axis=True,
            rngs=lambda _: rng,
        ).log10_p
        for _ in range(2)
    ]
    return combine_planned(min(tests), 2)


def _total(rng: Generator, world: World) -> float:
    """Fixed points summed over two layers that share no labels."""
    tests = []
    for _ in range(2):
        a, b = _either_way(rng, world, 10, 4)
        tests.append(index_test([a], [b], same_axis=True, rngs=lambda _: rng))
    return log10_total(sum(test.statistic for test in tests), sum(test.rate for test in tests))


STATISTICS: Mapping[str, Callable[[Generator, World], float]] = {
    "rows: equal indices": _rows,
    "rows: longest increasing run": _order,
    "profiles: equal indices": _profiles,
    "several classes at once": _within,
    "cloned layers, best of two": _cloned_layers,
    "total over layers (support)": _total,
}

_BOTH_PLACES = ("repeated alike",)
"""Worlds that cloned layers cannot have: the noise between the clones undoes the repetition."""


def worlds_of(statistic: str) -> Mapping[str, World]:
    """The worlds whose null is that of the statistic."""
    if statistic != "cloned layers, best of two":
        return WORLDS
    return {name: world for name, world in WORLDS.items() if name not in _BOTH_PLACES}


def draw(statistic: str, draws: int, seed: int) -> Iterator[tuple[str, np.ndarray]]:
    """log10 p of ``draws`` pairs in all, in equal shares of every world."""
    worlds = worlds_of(statistic)
    share = -(-draws // len(worlds))
    for number, (name, world) in enumerate(worlds.items()):
        rng = np.random.default_rng([seed, number])
        yield name, np.array([STATISTICS[statistic](rng, world) for _ in range(share)])


def exceedances(log10_p: np.ndarray) -> list[tuple[float, int, int]]:
    """Levels at which more draws fall below alpha than the 99 % band allows: (alpha, count, largest allowed)."""
    counts = [int((log10_p <= np.log10(alpha) + 1e-9).sum()) for alpha in LEVELS]
    allowed = [largest_allowed(len(log10_p), float(alpha)) for alpha in LEVELS]
    return [(float(x), n, m) for x, n, m in zip(LEVELS, counts, allowed, strict=True) if n > m]


@cache
def largest_allowed(draws: int, alpha: float) -> int:
    """Draws below alpha that a true p-value exceeds at some level with probability 1 % at most (exact binomial, Bonferroni over levels)."""
    factorials = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, draws + 1)))])
    k = np.arange(draws + 1)
    log_mass = factorials[-1] - factorials - factorials[::-1] + k * np.log(alpha) + (draws - k) * np.log1p(-alpha)
    above = np.cumsum(np.exp(log_mass)[::-1])[::-1]  # P(X >= k)
    return int(np.flatnonzero(above > (1 - _CONFIDENCE) / len(LEVELS))[-1])


def _either_way(rng: Generator, world: World, units: int, width: int) -> tuple[Array, Array]:
    a, b = world(rng, units, width)
    return (a, b) if rng.random() < 0.5 else (b, a)
