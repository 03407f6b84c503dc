"""Order tests and clone tests: what they must see, and what they must leave alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from benchmarks.null_pairs import CHANNELS, CLASSES, Labels, Weights, probe_pair, sketch_of
from benchmarks.nulls import count_ordered
from hypothesis import given
from hypothesis import strategies as st
from tests.naive import index_statistics as naive

from homolog.checkpoint.base import Array
from homolog.probes.clones import find_clones, find_own_heads
from homolog.probes.exchangeable import find_order
from homolog.probes.finding import Finding
from homolog.probes.pair import Pair
from homolog.sketch.sketch import UnitBlock


def _rows(seed: int, n: int, r: int = 16) -> tuple[Array, np.random.Generator]:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, r), dtype=np.float32), rng


def _size(rows: Array) -> Array:
    return np.asarray((rows**2).sum(axis=1, keepdims=True), dtype=np.float32)


def _block(layer: int, up: Array) -> UnitBlock:
    return UnitBlock(layer, -1, False, len(up), up, None, None, None, b"")


@pytest.mark.parametrize("n", [13, 24, 64, 512])
@pytest.mark.parametrize("direction", [1, -1])
def test_units_sorted_by_size_are_ordered(n: int, direction: int) -> None:
    rows, rng = _rows(0, n)
    rows = rows[np.argsort(_size(rows)[:, 0])[::direction]]
    reason = find_order(rows, _size(rows), rng)
    assert reason is not None
    assert reason.startswith("a unit's size follows its index")


def test_the_rank_correlation_is_spearmans() -> None:
    # The threshold in terms of the correlation that the naive twin computes: just below passes, just above does not.
    rng = np.random.default_rng(2)
    seen = []
    for strength in np.linspace(0.3, 3.0, 60):
        column = (strength * np.linspace(-1, 1, 64) + rng.standard_normal(64)).astype(np.float32)
        rows = rng.standard_normal((64, 16), dtype=np.float32)
        reason = find_order(rows, column[:, None], rng)
        z = abs(np.arctanh(naive.rank_correlation(column.tolist()))) * np.sqrt(61 / 1.06)
        if reason is None or "follows" in reason:
            seen.append((z, reason is not None))
    assert all(found == (z > 4.75) for z, found in seen)
    assert {found for _, found in seen} == {True, False}


@pytest.mark.parametrize("lag", [1, 64, 128])
def test_random_numbers_repeated_across_shards_are_ordered(lag: int) -> None:
    rows, rng = _rows(1, lag if lag > 1 else 128)
    repeated = np.repeat(rows, 2, axis=0) if lag == 1 else np.concatenate([rows, rows])
    trained = repeated + np.float32(0.3) * rng.standard_normal(repeated.shape, dtype=np.float32)
    assert find_order(trained, _size(trained), rng) is not None


def test_order_inside_heads_adds_up_over_heads() -> None:
    rng = np.random.default_rng(0)
    heads = [np.sort(np.exp(rng.standard_normal(8)))[:, None] * np.ones((1, 4)) for _ in range(12)]
    rows = np.concatenate(heads).astype(np.float32)
    assert find_order(rows, _size(rows), rng, groups=12) is not None
    shuffled = np.concatenate([head[rng.permutation(8)] for head in heads]).astype(np.float32)
    assert find_order(shuffled, _size(shuffled), rng, groups=12) is None


def test_fair_units_are_left_alone() -> None:
    assert count_ordered(64, 2000, 0, lambda size: np.arange(len(size))) <= 1


@given(st.integers(0, 2**32 - 1), st.integers(0, 5))
def test_constant_and_few_units_are_no_order(seed: int, n: int) -> None:
    rows, rng = _rows(seed, n)
    assert find_order(rows, _size(rows), rng) is None
    assert find_order(np.ones((64, 4), dtype=np.float32), np.ones((64, 1), dtype=np.float32), rng) is None


def _sorted_labels(rng: np.random.Generator, weights: Weights) -> Labels:
    """Names by size: what a model has whose units were sorted by importance."""
    names = Labels.drawn(rng)
    return Labels(np.argsort((weights.gate[0] ** 2).sum(axis=1)), names.channels, names.dims, names.tokens)


def _sorted_pair(both: bool) -> Finding:
    rng = np.random.default_rng(5)
    weights = Weights.drawn(rng)
    spread = np.exp(np.linspace(-2, 2, weights.gate.shape[1]))[rng.permutation(weights.gate.shape[1])]
    gate, up, down = (
        (part * spread[None, :, None]).astype(np.float32) for part in (weights.gate, weights.up, weights.down)
    )
    weights = replace(weights, gate=gate, up=up, down=down)
    other = weights.moved(rng, 0.01)
    names = _sorted_labels(rng, other) if both else Labels.drawn(rng)
    pair = Pair(sketch_of(weights, _sorted_labels(rng, weights)), sketch_of(other, names), 0)
    return next(finding for finding in probe_pair(pair) if finding.probe == "ffn.profiles")


def test_units_sorted_on_both_sides_leave_the_group_out_and_on_one_side_do_not() -> None:
    both, one = _sorted_pair(both=True), _sorted_pair(both=False)
    assert both.absent is not None
    assert "in A a unit's size follows its index" in both.absent
    assert one.absent is None
    assert one.log10_p is not None
    assert one.log10_p > -2


def test_layers_that_began_as_copies_are_clones_and_fresh_layers_are_not() -> None:
    first, rng = _rows(0, 64)
    drifted = first + rng.standard_normal(first.shape, dtype=np.float32)
    fresh = rng.standard_normal(first.shape, dtype=np.float32)
    renamed = drifted[rng.permutation(64)]
    blocks = [_block(layer, rows) for layer, rows in enumerate((first, fresh, drifted, renamed))]
    found = find_clones(blocks)
    assert found == {"layer 0": "layer 0", "layer 1": "layer 1", "layer 2": "layer 0", "layer 3": "layer 3"}


def test_heads_that_began_as_copies_count_once() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.standard_normal((2, 16, 64), dtype=np.float32)
    heads = np.stack([first, second, first, second])
    heads = heads + np.float32(0.8) * rng.standard_normal(heads.shape, dtype=np.float32)
    assert find_own_heads(heads) == [0, 1]
    assert find_own_heads(heads[:, rng.permutation(16)]) == [0, 1]
    assert find_own_heads(np.stack([head[rng.permutation(16)] for head in heads])) == [0, 1, 2, 3]
    assert find_own_heads(heads[:1]) == [0]
    assert find_own_heads(np.zeros((3, 8, 4), dtype=np.float32)) == [0, 1, 2]


def test_value_heads_repeated_in_both_models_are_one_head_of_evidence() -> None:
    rng = np.random.default_rng(0)
    weights = Weights.drawn(rng)
    one = rng.standard_normal((1, 1, *weights.values.shape[2:]), dtype=np.float32)
    noise = np.float32(0.05) * rng.standard_normal(weights.values.shape, dtype=np.float32)
    cloned = replace(weights, values=one + noise)
    pair = Pair(sketch_of(cloned, Labels.identity()), sketch_of(cloned.moved(rng, 0.05), Labels.identity()), 0)
    values = next(finding for finding in probe_pair(pair) if finding.probe == "values.rows")
    assert {group.of for group in values.groups} == {weights.values.shape[2]}


def _with_tokens(weights: Weights, ordinary: Array, untrained: Array) -> Weights:
    return replace(weights, ordinary=ordinary, untrained=untrained)


def test_a_table_that_both_models_share_shows_nothing() -> None:
    rng = np.random.default_rng(0)
    first, second = Weights.drawn(rng), Weights.drawn(rng)
    table = rng.standard_normal(first.ordinary.shape, dtype=np.float32)
    tokens = rng.standard_normal(first.untrained.shape, dtype=np.float32)
    pair = Pair(
        sketch_of(_with_tokens(first, table, tokens), Labels.identity()),
        sketch_of(_with_tokens(second, table, tokens), Labels.identity()),
        0,
    )
    findings = {finding.probe: finding for finding in probe_pair(pair)}
    for probe in ("channels.columns", "channels.profiles", "tokens.untrained"):
        assert findings[probe].absent is not None
        assert "the same in both models" in str(findings[probe].absent)
    assert findings["ffn.rows"].log10_p is not None
    assert findings["ffn.rows"].log10_p > -3


def test_never_trained_rows_that_collapsed_are_absent_and_not_clearing() -> None:
    rng = np.random.default_rng(0)
    weights = Weights.drawn(rng)
    flat = np.repeat(rng.standard_normal((1, CHANNELS), dtype=np.float32), sum(CLASSES), axis=0)
    pair = Pair(
        sketch_of(_with_tokens(weights, weights.ordinary, flat), Labels.identity()),
        sketch_of(weights.moved(rng, 0.05), Labels.identity()),
        0,
    )
    tokens = {finding.probe: finding for finding in probe_pair(pair)}["tokens.untrained"]
    assert tokens.absent is not None
    assert "distinct at the precision of the file" in tokens.absent
