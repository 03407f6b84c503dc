"""P-values under the null: over 100,000 draws each they must not fall below any level more often than the level says.

The band is simultaneous over a hundred levels, 99 % in all: see `benchmarks.null_draws`.
"""

from __future__ import annotations

import numpy as np
import pytest
from benchmarks.null_draws import STATISTICS, draw, exceedances, largest_allowed
from benchmarks.null_pairs import Labels, Weights, draw_headlines, draw_totals, probe_pair, sketch_of

from homolog.probes.finding import Finding
from homolog.probes.initialisation import Initialisation
from homolog.probes.pair import Pair
from homolog.verdict import Evidence

_INDEX_TESTS = list(STATISTICS)[:4]
_COMBINATIONS = list(STATISTICS)[4:]


def _check(name: str, draws: int) -> None:
    pooled = []
    for world, log10_p in draw(name, draws, seed=2):
        assert not exceedances(log10_p), (name, world)
        pooled.append(log10_p)
    together = np.concatenate(pooled)
    assert len(together) >= draws
    assert not exceedances(together), name
    assert together.min() < -1.5  # the test has draws to say something about


@pytest.mark.nulls
@pytest.mark.parametrize("statistic", _INDEX_TESTS)
def test_an_index_test_is_conservative(statistic: str) -> None:
    _check(statistic, 100_000)


@pytest.mark.nulls
@pytest.mark.parametrize("statistic", _COMBINATIONS)
def test_a_combination_of_index_tests_is_conservative(statistic: str) -> None:
    _check(statistic, 10_000)


@pytest.mark.nulls
def test_the_headline_of_whole_pairs_is_conservative() -> None:
    assert not exceedances(draw_headlines(500, seed=3))


@pytest.mark.nulls
def test_the_total_of_whole_pairs_is_conservative_although_their_layers_are_clones() -> None:
    assert not exceedances(draw_totals(1000, seed=3))


def test_the_band_is_the_binomial_one() -> None:
    rng = np.random.default_rng(0)
    assert not exceedances(np.log10(rng.random(100_000)))
    assert exceedances(np.log10(rng.random(100_000) * 0.9))
    assert 500 < largest_allowed(10_000, 0.05) < 600


def _probe(noise: float, labels: Labels) -> dict[str, Finding]:
    rng = np.random.default_rng(7)
    weights = Weights.drawn(rng)
    pair = Pair(sketch_of(weights, Labels.identity()), sketch_of(weights.moved(rng, noise), labels), 0)
    return {finding.probe: finding for finding in probe_pair(pair)}


def test_a_noisy_copy_is_found_by_every_probe_and_its_twin_by_none() -> None:
    floors = {
        "ffn.rows": -20,
        "ffn.rows.aligned": -20,
        "ffn.profiles": -10,
        "channels.columns": -7,
        "channels.profiles": -7,
        "values.rows": -4,
        "tokens.untrained": -3,
    }
    copy = _probe(0.05, Labels.identity())
    twin = _probe(0.05, Labels.drawn(np.random.default_rng(8)))
    for probe, floor in floors.items():
        found, cleared = copy[probe].log10_p, twin[probe].log10_p
        assert found is not None, probe
        assert found < floor, probe
        assert cleared is not None, probe
        assert cleared > -2, probe
    headline = Evidence(tuple(copy.values()), Initialisation.not_asked(), None, identical=False).headline()
    assert headline is not None
    assert headline < -20
