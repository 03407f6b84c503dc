"""From findings to a verdict: the rule, in one place, with what it rules out and what it cannot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import log10

from homolog.derivation.layers import Inherited
from homolog.probes.agreement import ENOUGH, BodyFinding
from homolog.probes.bounds import (
    combine_planned,
    log10_fixed_points,
    log10_fixed_points_within,
    log10_longest_increasing,
)
from homolog.probes.finding import Finding, GroupResult
from homolog.probes.initialisation import TABLES, Initialisation

__all__ = ["RELATED", "Evidence", "RuledOut", "Verdict", "decide"]

RELATED = -9.0
"""Headline log10 p at which indices agree beyond dispute."""

_WEAK = -3.0
"""Between this and `RELATED` the tests neither accuse nor clear."""

_WORDS_END = -30.0

_BODY = ("ffn.rows", "ffn.rows.aligned", "ffn.profiles", "values.rows", "experts.rows")
_FFN = _BODY[:3]

_SEEN_BY: dict[str, tuple[str, ...]] = {
    "continued_training": (
        "ffn.rows",
        "ffn.rows.aligned",
        "ffn.profiles",
        "values.rows",
        "channels.columns",
        "channels.profiles",
    ),
    "layers_added": _FFN,
    "layers_dropped": _FFN,
    "frozen_core": _FFN,
    "rescaled": ("ffn.rows", "ffn.rows.aligned", "values.rows", "channels.columns"),
    "residual_permuted": ("ffn.rows.aligned", "ffn.profiles", "tokens.untrained"),
    "residual_rotated": ("ffn.rows.aligned", "ffn.profiles", "tokens.untrained"),
    "units_permuted": ("channels.columns", "channels.profiles", "values.rows", "tokens.untrained"),
}
"""For each operation the probes that see a copy through it."""

_WHY_NOT = {
    "distilled": "A student trained on another model's outputs has weights of its own: no test of weights sees it.",
    "merged_in_small_part": "A merge in which A has a small coefficient may keep too little of A's indices, or of what training wrote "
    "into its gains.",
    "retrained_until_lost": "Training long and hard enough to move every unit off its origin leaves no index to find.",
    "units_split": "Neurons split in two and mixed are not recognised by the tests that were run.",
    "residual_permuted": "No test that was run survives a permutation of the residual channels.",
    "residual_rotated": "No test that was run survives a rotation of the residual stream.",
    "units_permuted": "No test that was run survives a permutation of the FFN units.",
    "units_permuted_and_residual_rotated": "Only never-trained tokens see through both at once, and their rows are cheap to overwrite.",
    "rescaled": "No test that was run survives a rescaling of rows.",
    "continued_training": "No test that was run had the power to see it.",
    "layers_added": "No test that was run maps layers.",
    "layers_dropped": "No test that was run maps layers.",
    "frozen_core": "No test that was run maps layers.",
}

_SEEN_BY_BODY = (
    "units_split",
    "residual_permuted",
    "residual_rotated",
    "units_permuted",
    "units_permuted_and_residual_rotated",
    "rescaled",
    "layers_added",
    "layers_dropped",
    "frozen_core",
)
"""What a copy could have been through, any of it together, and still agree in most layers."""

_ALWAYS_OPEN = (
    "distilled",
    "merged_in_small_part",
    "retrained_until_lost",
    "units_split",
    "units_permuted_and_residual_rotated",
)


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything that the rule looks at."""

    findings: tuple[Finding, ...]
    initialisation: Initialisation
    inherited: Inherited | None
    identical: bool
    unresolved: str | None = None
    """Why the roles of one model could not be found."""
    body: BodyFinding = field(default_factory=BodyFinding)
    """Tier 2: how far the bodies agree, beside independent models."""

    @property
    def planned(self) -> int:
        """Number of tests planned, carried out or not."""
        return sum(finding.tests for finding in self.findings)

    def headline(self, probes: Sequence[str] = ()) -> float | None:
        """log10 of min(1, planned × smallest p), over all probes or those named; ``None`` if none of them gave an answer."""
        best = [f.best.log10_p for f in self.findings if f.best is not None and (not probes or f.probe in probes)]
        return combine_planned(min(best), self.planned) if best else None

    def agrees(self, probes: Sequence[str] = ()) -> bool:
        """Whether indices agree beyond dispute, over all probes or those named."""
        headline = self.headline(probes)
        return headline is not None and headline <= RELATED

    @property
    def ffn_agrees(self) -> bool:
        """Whether the indices of FFN units do."""
        return self.agrees(_FFN)


@dataclass(frozen=True, slots=True)
class RuledOut:
    """An operation that would have been found had at least ``share`` of the units of one tested group kept their index."""

    operation: str
    share: float
    tier: int = 1

    @property
    def text(self) -> str:
        """In plain words."""
        if self.tier == 2:
            kept = f"{self.share:.0%} of the units of most layers kept their vectors"
            return f"would have been found had {kept}, at any index and in any basis"
        return f"would have been found had at least {self.share:.0%} of the units of one tested group kept their index"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the weights support, in one word and in one sentence."""

    verdict: str
    """``identical``, ``related``, ``partly_related``, ``shared_initialisation``, ``independent`` or ``inconclusive``."""
    sentence: str
    strength: str
    log10_p: float | None
    tier: int | None
    reason: str | None = None
    """Why it is inconclusive."""
    ruled_out: tuple[RuledOut, ...] = ()
    not_ruled_out: tuple[str, ...] = ()

    @property
    def found(self) -> bool:
        """Whether a relation was found."""
        return self.verdict in ("identical", "related", "partly_related")

    @property
    def why_not_ruled_out(self) -> dict[str, str]:
        """For each operation that is not ruled out, why."""
        return {operation: _WHY_NOT[operation] for operation in self.not_ruled_out}


def decide(evidence: Evidence) -> Verdict:
    """Apply the rule of docs/statistics.md.

    Indices agree if the headline reaches `RELATED`. Then what training alone writes tells descent from shared random numbers. If they do
    not agree, the pair is independent as far as the tests had the power to see, and inconclusive where they had none.
    """
    if evidence.unresolved:
        return _inconclusive(evidence, evidence.unresolved)
    if evidence.identical:
        sentence = "A and B hold the same numbers: every tensor of B equals its counterpart in A bit for bit."
        return Verdict("identical", sentence, "no statistics are needed for equality", evidence.headline(), 1)
    headline = evidence.headline()
    if headline is not None and headline <= RELATED:
        return _agreeing(evidence, headline)
    if evidence.body.related:
        return _related_by_body(evidence)
    if evidence.body.layer_agrees:
        return _related_in_part(evidence)
    if headline is None:
        return _inconclusive(evidence, "no exact test could be carried out on this pair")
    if headline <= _WEAK:
        return _inconclusive(
            evidence, f"indices agree more than chance explains (p = 10^{headline:.1f}), but not beyond dispute"
        )
    if evidence.body.remarkable:
        return _inconclusive(evidence, _beyond_the_bank(evidence.body))
    by_index = any(f.groups for f in evidence.findings if f.probe in _FFN)
    if not by_index and not evidence.body.clears:
        return _inconclusive(evidence, "no FFN could be compared, and the other tests alone do not clear a model")
    ruled_out, open_ = _weigh_power(evidence)
    if not any(item.operation == "continued_training" for item in ruled_out):
        return _inconclusive(evidence, "there are too few units for any outcome to be decisive")
    if not by_index:
        return _cleared_by_body(evidence, headline, ruled_out, open_)
    sentence = (
        "Nothing in the weights supports common descent: units that resemble each other carry equal indices no more often than "
        f"chance makes them ({evidence.planned} planned tests, corrected p = {_power_of_ten(headline)})."
    )
    strength = "what independent training gives"
    return Verdict("independent", sentence, strength, headline, 1, None, ruled_out, open_)


def _cleared_by_body(
    evidence: Evidence, headline: float, ruled_out: tuple[RuledOut, ...], open_: tuple[str, ...]
) -> Verdict:
    """Tier 2, where the indices of FFN units say nothing: units sorted in both models, for one, agree in their order by themselves."""
    body = evidence.body
    sentence = (
        "Nothing in the weights supports common descent. The indices of FFN units could not be tested, so their vectors were, on "
        f"calibrated and not exact evidence: {body.agreement.body:.1%} of the units of the median layer agree in all of them, where "
        f"{body.pairs} pairs of independent models reach {body.most:.1%} at most; and the indices of what else could be tested agree no "
        f"more often than chance makes them (corrected p = {_power_of_ten(headline)})."
    )
    strength = f"what {body.pairs} pairs of {body.models} independent models give"
    return Verdict("independent", sentence, strength, body.log10_p, 2, None, ruled_out, open_)


def _agreeing(evidence: Evidence, headline: float) -> Verdict:
    initialisation = evidence.initialisation
    seen = _most_telling(evidence)
    strength = _strength(headline)
    if initialisation.verdict == "undecided":
        reason = f"indices agree ({seen}), but shared training cannot be told from shared random numbers. {initialisation.text}"
        return _inconclusive(evidence, reason)
    if initialisation.verdict == "initialisation_only":
        if not evidence.agrees(_BODY) and initialisation.evidence.get("token_cosine", 0.0) >= TABLES:
            sentence = (
                f"The weights support common descent of the token embeddings, and of nothing else: {seen}, and the rows of trained "
                "tokens point the same way, while no layer of B is recognised in A."
            )
            return Verdict("partly_related", sentence, strength, headline, 1, None, (), ("distilled",))
        sentence = f"The weights support a shared initialisation and not descent: {seen}. {initialisation.text}"
        return Verdict(
            "shared_initialisation",
            sentence,
            strength,
            headline,
            1,
            None,
            (),
            ("distilled", "retrained_until_lost", "merged_in_small_part"),
        )
    inherited = evidence.inherited
    if inherited is not None and evidence.ffn_agrees and inherited.high < 0.5:
        sentence = f"The weights support common descent for part of B ({inherited.share:.0%} of the FFN units that were compared): {seen}."
        return Verdict("partly_related", sentence, strength, headline, 1, None, (), ("distilled",))
    sentence = (
        f"The weights support common descent: {seen}, where independent training gives about {_expected(evidence)}."
    )
    return Verdict("related", sentence, strength, headline, 1, None, (), ())


def _related_by_body(evidence: Evidence) -> Verdict:
    """Tier 2. Models of one start that were trained apart do not reach it, so no question of initialisation is left."""
    body = evidence.body
    share = body.agreement.body
    sentence = (
        f"The weights support common descent, on calibrated and not exact evidence: {share:.0%} of the FFN units of the median layer "
        "have one partner in the other model that all their vectors point to, whatever the order of units and the basis of the residual "
        f"stream; {body.pairs} pairs of independent models reach {body.most:.1%} at most."
    )
    sentence += _other_sizes(body)
    strength = _calibrated(body.pairs, body.models)
    inherited = evidence.inherited
    if inherited is not None and inherited.high < 0.5 and body.agreement.a_in_b.median < 0.5:
        return Verdict("partly_related", sentence, strength, body.log10_p, 2, None, (), ("distilled",))
    return Verdict("related", sentence, strength, body.log10_p, 2)


def _related_in_part(evidence: Evidence) -> Verdict:
    """Tier 2, where most units of some layers agree and those of most layers do not."""
    body = evidence.body
    sentence = (
        f"The weights support common descent for part of B, on calibrated and not exact evidence: {body.agreement.best_layer:.0%} of "
        "the FFN units of one layer have one partner in the other model that all their vectors point to, where no layer of "
        f"{body.pairs} pairs of independent models exceeds {body.layer_most:.1%}; in the median layer it is {body.agreement.body:.1%}."
    )
    strength = _calibrated(body.pairs, body.models)
    return Verdict("partly_related", sentence + _other_sizes(body), strength, None, 2, None, (), ("distilled",))


def _other_sizes(body: BodyFinding) -> str:
    return f" That was measured on models of other sizes: these have {', '.join(body.outside)}." if body.outside else ""


def _calibrated(pairs: int, models: int) -> str:
    return f"beyond all {pairs} pairs of {models} independent models; calibrated, so that no figure below 1 in {models + 1} can be given"


def _beyond_the_bank(body: BodyFinding) -> str:
    if not body.heads.asks_as_usual:
        return (
            f"heads that read and write alike also ask alike (cosine {body.heads.agreement.value:.2f} in the median layer, where "
            f"{body.heads.pairs} pairs of independent models reach {body.heads.most:.2f} at most): copies do, and so does a student that "
            "learned another model's predictions for long"
        )
    if not body.heads.ordinary:
        return (
            f"{body.heads.units:.1%} of the FFN units of the median layer agree in all their vectors in the frame that attention gives, "
            f"where {body.heads.pairs} pairs of independent models reach {body.heads.units_most:.1%} at most"
        )
    agreeing = f"{body.agreement.body:.1%} of the FFN units of the median layer agree in all their vectors"
    if body.most is None:
        return f"{agreeing}, and there is nothing to set that beside: {body.absent}"
    beside = f"{body.pairs} pairs of independent models reach {body.most:.1%} at most"
    return f"{agreeing}, where {beside}: too much for chance, too little for descent"


def _most_telling(evidence: Evidence) -> str:
    finding, group = _best(evidence)
    unit = {
        "ffn": "FFN units",
        "cha": "residual channels",
        "val": "value dimensions",
        "exp": "experts",
        "tok": "never-trained tokens",
    }
    what = unit[finding.probe[:3]]
    place = f" of {group.group}" if group.b_layer >= 0 else f" in the {group.group}"
    if group.kind == "lis":
        return f"{group.statistic} of {group.of} {what}{place} stand in the same order as those of A that they resemble most"
    return f"{group.statistic} of {group.of} {what}{place} most resemble the one of A with the same index"


def _expected(evidence: Evidence) -> str:
    return str(max(1, round(_best(evidence)[1].expected)))


def _best(evidence: Evidence) -> tuple[Finding, GroupResult]:
    candidates = [(finding, finding.best) for finding in evidence.findings if finding.best is not None]
    return min(candidates, key=lambda pair: pair[1].log10_p)


def _inconclusive(evidence: Evidence, reason: str) -> Verdict:
    _, open_ = _weigh_power(evidence)
    sentence = f"The weights do not settle the question: {reason}."
    headline = evidence.headline()
    return Verdict("inconclusive", sentence.replace("..", "."), "none", headline, None, reason, (), open_)


def _weigh_power(evidence: Evidence) -> tuple[tuple[RuledOut, ...], tuple[str, ...]]:
    """Operations that the tests would have seen, with the smallest share of kept indices that they needed; and the others."""
    ruled_out, open_ = [], list(_ALWAYS_OPEN)
    for operation, probes in _SEEN_BY.items():
        groups = [group for finding in evidence.findings if finding.probe in probes for group in finding.groups]
        if operation.startswith("residual"):
            groups = [group for group in groups if group.frame != "identity"]
        shares = [share for group in groups if (share := _needed_share(group, evidence.planned)) is not None]
        if shares:
            ruled_out.append(RuledOut(operation, min(shares)))
        else:
            open_.append(operation)
    if evidence.body.clears:
        seen = [operation for operation in open_ if operation in _SEEN_BY_BODY]
        ruled_out += [RuledOut(operation, ENOUGH, tier=2) for operation in seen]
        open_ = [operation for operation in open_ if operation not in seen]
    return tuple(ruled_out), tuple(open_)


def _needed_share(group: GroupResult, planned: int) -> float | None:
    """Smallest share of equal indices in this group that would have reached the threshold; ``None`` if not even all of them."""
    for k in range(1, group.of + 1):
        if group.kind == "lis":
            p = log10_longest_increasing(k, group.of)
        elif group.kind == "fixed_points":
            p = log10_fixed_points(k, group.of, group.of)
        else:
            p = log10_fixed_points_within(k, float(group.parts))  # in a copy every unit is matched
        if p + log10(max(planned, 1)) <= RELATED:
            return k / group.of
    return None


def _strength(headline: float) -> str:
    if headline <= _WORDS_END:
        return (
            "chance would do this less than once in 10^30; smaller figures are not put into words, because beyond that the assumptions "
            "are the weaker link"
        )
    return f"chance would do this at most once in 10^{int(-headline)}"


def _power_of_ten(exponent: float) -> str:
    return f"{10**exponent:.2g}" if exponent > -4 else f"10^{exponent:.1f}"
