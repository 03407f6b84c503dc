"""The rule by itself, on findings made by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homolog.align.agreement import Agreement, DirectedAgreement
from homolog.align.residual import identity_frame
from homolog.derivation.layers import Inherited
from homolog.probes.agreement import BodyFinding
from homolog.probes.bounds import log10_fixed_points
from homolog.probes.finding import Finding, GroupResult, Null
from homolog.probes.initialisation import Initialisation
from homolog.verdict import RELATED, Evidence, decide

NULL = Null("null", "a null hypothesis")
TOGETHER = Initialisation("trained_together", {"gain_correlation": 0.9}, "The norm gains agree.")
APART = Initialisation("initialisation_only", {"gain_correlation": 0.2}, "The norm gains disagree.")
UNDECIDED = Initialisation("undecided", {}, "Nothing to go by.")
WHOLE = Inherited(768, 760, 0.97, 1.0)


def finding(probe: str, k: int, of: int = 256, tests: int = 3) -> Finding:
    group = GroupResult("layer 0", 0, 0, k, "fixed_points", of, of, 1.0, log10_fixed_points(k, of, of), "identity")
    return Finding.conclude(probe, NULL, tests, [group])


def evidence(
    *findings: Finding, initialisation: Initialisation = TOGETHER, inherited: Inherited | None = WHOLE
) -> Evidence:
    return Evidence(findings, initialisation, inherited, identical=False)


def test_the_headline_is_planned_bonferroni() -> None:
    pair = evidence(finding("ffn.rows", 20, tests=12), finding("ffn.profiles", 1, tests=12))
    assert pair.planned == 24
    assert pair.headline() == pytest.approx(log10_fixed_points(20, 256, 256) + 1.380211, abs=1e-6)


def test_planned_tests_that_were_left_out_still_count() -> None:
    alone = evidence(finding("ffn.rows", 20, tests=12))
    more = evidence(finding("ffn.rows", 20, tests=12), Finding.missing("tokens.untrained", NULL, "none", tests=88))
    assert more.headline() == pytest.approx((alone.headline() or 0) + 0.92082, abs=1e-5)


@given(k=st.integers(0, 256), tests=st.integers(1, 10_000))
def test_related_exactly_from_the_threshold_on(k: int, tests: int) -> None:
    pair = evidence(finding("ffn.rows", k, tests=tests))
    headline = pair.headline()
    assert headline is not None
    assert headline <= 0
    assert (decide(pair).verdict == "related") == (headline <= RELATED)


@given(k=st.integers(0, 60))
def test_between_clear_and_certain_it_says_so(k: int) -> None:
    pair = evidence(finding("ffn.rows", k))
    headline = pair.headline() or 0.0
    expected = "related" if headline <= -9 else "inconclusive" if headline <= -3 else "independent"
    assert decide(pair).verdict == expected


def test_shared_random_numbers_are_not_descent() -> None:
    verdict = decide(evidence(finding("ffn.rows", 200), initialisation=APART))
    assert verdict.verdict == "shared_initialisation"
    assert not verdict.found
    assert "merged_in_small_part" in verdict.not_ruled_out, "it keeps indices and loses gains as well"


def test_undecided_between_the_two_is_inconclusive() -> None:
    verdict = decide(evidence(finding("ffn.rows", 200), initialisation=UNDECIDED))
    assert verdict.verdict == "inconclusive"
    assert "shared random numbers" in (verdict.reason or "")


def test_less_than_half_of_the_units_is_partly_related() -> None:
    verdict = decide(evidence(finding("ffn.rows", 200), inherited=Inherited(768, 200, 0.2, 0.35)))
    assert verdict.verdict == "partly_related"


def test_embeddings_alone_are_named_as_such() -> None:
    borrowed = replace(APART, evidence={"gain_correlation": 0.0, "token_cosine": 0.9})
    pair = evidence(finding("ffn.rows", 1), finding("channels.columns", 256), initialisation=borrowed)
    verdict = decide(pair)
    assert verdict.verdict == "partly_related"
    assert "token embeddings, and of nothing else" in verdict.sentence


def test_embeddings_of_one_start_that_learned_the_same_are_not_borrowed() -> None:
    """Token rows of runs from one start reach a cosine of 0.77 by doing the same job, and their units may have been permuted."""
    alike = replace(APART, evidence={"gain_correlation": 0.36, "token_cosine": 0.77})
    pair = evidence(finding("ffn.rows", 1), finding("channels.columns", 256), initialisation=alike)
    assert decide(pair).verdict == "shared_initialisation"


def test_clearing_needs_an_ffn() -> None:
    assert decide(evidence(finding("channels.columns", 1))).verdict == "inconclusive"


def with_body(share: float, most: float | None) -> Evidence:
    """No FFN index could be tested, channels show nothing, and ``share`` of the units agree in all their vectors."""
    agreement = Agreement(b_in_a=DirectedAgreement({0: share}, {0: 0}), frame=identity_frame(8))
    body = BodyFinding(agreement, log10_p=-0.1, most=most, models=20, pairs=190, absent=None)
    return replace(evidence(finding("channels.columns", 1)), body=body)


def test_vectors_clear_where_no_index_of_an_ffn_can_be_tested() -> None:
    verdict = decide(with_body(0.0, most=0.02))
    assert (verdict.verdict, verdict.tier) == ("independent", 2)
    assert "calibrated and not exact" in verdict.sentence
    assert "retrained_until_lost" in verdict.not_ruled_out
    assert "units_permuted_and_residual_rotated" in [item.operation for item in verdict.ruled_out]


def test_vectors_clear_nobody_without_a_measured_null_or_beyond_it() -> None:
    assert decide(with_body(0.0, most=None)).verdict == "inconclusive"
    assert decide(with_body(0.2, most=0.02)).verdict == "inconclusive"
    assert decide(with_body(0.9, most=0.02)).verdict == "related"


def test_clearing_needs_power() -> None:
    assert decide(evidence(finding("ffn.rows", 0, of=8))).verdict == "inconclusive"


def test_what_was_ruled_out_is_what_would_have_been_found() -> None:
    pair = evidence(finding("ffn.rows", 1))
    verdict = decide(pair)
    trained_on = next(item for item in verdict.ruled_out if item.operation == "continued_training")
    k = round(trained_on.share * 256)
    assert evidence(finding("ffn.rows", k)).headline() <= RELATED  # type: ignore[operator]
    assert evidence(finding("ffn.rows", k - 1)).headline() > RELATED  # type: ignore[operator]


def test_rows_alone_rule_out_no_rotation() -> None:
    verdict = decide(evidence(finding("ffn.rows", 1)))
    assert "distilled" in verdict.not_ruled_out
    assert "residual_rotated" in verdict.not_ruled_out
    assert "units_permuted" in verdict.not_ruled_out
    assert set(verdict.why_not_ruled_out) == set(verdict.not_ruled_out)


def test_words_stop_where_the_assumptions_are_weaker_than_the_figure() -> None:
    assert "10^30" in decide(evidence(finding("ffn.rows", 256))).strength
    assert "10^10" in decide(evidence(finding("ffn.rows", 14, tests=2))).strength


def test_nobody_is_accused() -> None:
    for pair in (evidence(finding("ffn.rows", 256)), evidence(finding("ffn.rows", 0))):
        text = decide(pair).sentence.lower()
        assert not any(word in text for word in ("stolen", "theft", "copied", "guilty", "probability of being"))
