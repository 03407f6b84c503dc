"""Figures from results, by hand and against naive counts."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from homolog.arena.methods.base import MethodScore
from homolog.arena.run import Result
from homolog.arena.scores import curve, is_found, summarise, weighted_auc

_VALUES = st.lists(st.integers(0, 5).map(float), min_size=1, max_size=8)


def result(
    value: float | None,
    label: str,
    *lineages: str,
    own: float | None = 0.5,
    operation: str = "x",
    held_out: bool = False,
) -> Result:
    says = None if own is None or value is None else value >= own
    score = MethodScore(value, own, says, None if value is not None else "no", 0.25, 1000)
    return Result("a", "b", label, operation, lineages, held_out, False, "m", score)


@given(_VALUES, _VALUES)
def test_auc_is_the_share_of_pairs_in_order(positive: list[float], negative: list[float]) -> None:
    naive = np.mean([(p > n) + 0.5 * (p == n) for p in positive for n in negative])
    assert weighted_auc(np.array(positive), np.array(negative)) == pytest.approx(naive)


@given(_VALUES, _VALUES, st.integers(0, 99))
def test_a_weight_is_a_repetition(positive: list[float], negative: list[float], seed: int) -> None:
    rng = np.random.default_rng(seed)
    weights = [rng.integers(0, 3, len(side)) + (np.arange(len(side)) == 0) for side in (positive, negative)]
    first, second = [np.repeat(side, w) for side, w in zip((positive, negative), weights, strict=True)]
    weighted = weighted_auc(np.array(positive), np.array(negative), [w.astype(float) for w in weights])
    assert weighted == pytest.approx(weighted_auc(first, second))


RESULTS = [
    result(0.9, "related", "a"),
    result(0.6, "related", "a", operation="y"),
    result(0.2, "related", "b"),
    result(None, "related", "b", operation="y"),
    result(0.4, "independent", "a", "b"),
    result(0.7, "independent", "a", "c", operation="y"),
    result(0.1, "independent", "b", "c"),
    result(0.8, "shared_initialisation", "a"),
    result(0.95, "related", "h", held_out=True),
    result(0.65, "related", "h", held_out=True),
    result(0.99, "independent", "a", "h", held_out=True),
]


def test_a_summary_by_hand() -> None:
    summary = summarise("m", RESULTS)
    assert (summary.pairs, summary.answered) == (11, 10)
    assert summary.threshold == 0.7, "the highest independent value, held-out lineages aside"
    assert summary.detected is not None
    assert summary.detected.value == 0.25
    assert summary.held_out_detected == 0.5
    assert summary.held_out_accused == 1.0
    assert summary.own_detected == pytest.approx(4 / 6)
    assert summary.own_accused is not None
    assert summary.own_accused.value == pytest.approx(2 / 4)
    assert summary.shared_accused == 1.0
    assert summary.missed == (), "half of each operation is found"
    assert summary.accused == ("x", "y")
    assert (summary.seconds, summary.peak_bytes) == (0.25, 1000)
    # of 24 pairs of a related and an independent value: .9 and .95 lie above 3, .65 and .6 above 2, .2 above 1, none above none
    assert summary.auc is not None
    assert summary.auc.value == pytest.approx((3 + 3 + 2 + 2 + 1 + 0) / 24)


def test_a_method_without_a_threshold_is_judged_at_no_false_accusation() -> None:
    rows = [
        result(0.9, "related", "a", own=None),
        result(0.3, "related", "b", own=None),
        result(0.4, "independent", "a", "b", own=None),
    ]
    summary = summarise("m", rows)
    assert (summary.own_detected, summary.own_accused, summary.shared_accused) == (None, None, None)
    assert summary.missed == ()
    assert [is_found(row, summary.threshold) for row in rows] == [True, False, False]


def test_intervals_count_lineages_not_pairs() -> None:
    few = [result(1.0, "related", x) for x in "ab"] + [result(0.0, "independent", "a", "b")]
    one, many = summarise("m", few), summarise("m", few * 50)
    assert one.own_accused == many.own_accused
    assert one.own_accused is not None
    assert one.own_accused.value == 0.0
    assert one.own_accused.high == pytest.approx(1 - 0.05 ** (1 / 2))
    lineages = [f"l{i}" for i in range(20)]
    split = [result(float(i % 2), "related", x) for i, x in enumerate(lineages)]
    split += [result(0.0, "independent", x, y) for x, y in pairwise(lineages)]
    detected = summarise("m", split).detected
    assert detected is not None
    assert detected.value == 0.5
    assert 0.2 < detected.low < 0.4
    assert 0.6 < detected.high < 0.8


def test_a_method_that_answers_nothing_says_why() -> None:
    rows = [result(None, label, "a") for label in ("related", "independent")]
    summary = summarise("m", rows)
    assert (summary.answered, summary.auc, summary.reason) == (0, None, "no")
    assert summary.unanswered == (("no", 2),)


def test_the_curve_rises_from_nothing_to_everything() -> None:
    points = curve([r for r in RESULTS if not r.held_out])
    assert points[0] == (0.0, 0.0)
    assert points[-1] == (1.0, 1.0)
    assert (0.0, 0.25) in points
    assert points == sorted(points)
