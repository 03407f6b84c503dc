"""homolog itself: its verdict, and the exact test of Tier 1 alone.

``homolog`` is what `homolog.compare` concludes: related if it says so at any tier. Its value is -log10 p of the headline; 0 where it calls
the likeness a shared initialisation; and no less than its threshold where it says related by the agreement of the bodies, whose p-value
cannot be smaller than one over the size of the bank. ``homolog-tier1`` is the headline before that is weighed: the p-value of index
identity, which a shared initialisation is meant to reject as well.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from homolog.arena.methods.base import Method, Model, NotApplicable, Opinion
from homolog.comparison import Comparison
from homolog.pipeline import compare
from homolog.probes.bounds import combine_planned
from homolog.verdict import RELATED

__all__ = ["TIER_1", "VERDICT"]


_CODE = (
    "align",
    "bank",
    "checkpoint",
    "comparison.py",
    "derivation",
    "pipeline.py",
    "probes",
    "roles",
    "sketch",
    "verdict.py",
    "arena/methods/ours.py",
)


@lru_cache(maxsize=1)
def _compared(a: Path, b: Path, _: object) -> Comparison:
    """Both methods look at one comparison; the last argument tells models apart that lay at one path one after the other."""
    return compare(a, b)


def _comparison(a: Model, b: Model) -> Comparison:
    return _compared(a.path, b.path, b.checkpoint)


def _tier_1(a: Model, b: Model) -> Opinion:
    comparison = _comparison(a, b)
    best = [finding.best.log10_p for finding in comparison.findings if finding.tier == 1 and finding.best]
    if not best:
        raise NotApplicable(comparison.verdict.reason or "no exact test could be carried out")
    headline = combine_planned(min(best), comparison.planned)
    return Opinion(-headline, headline <= RELATED, comparison.run.seconds)


def _verdict(a: Model, b: Model) -> Opinion:
    comparison = _comparison(a, b)
    verdict = comparison.verdict
    if verdict.log10_p is None and not verdict.found:
        raise NotApplicable(verdict.reason or "inconclusive")
    value = 0.0 if verdict.verdict == "shared_initialisation" else -(verdict.log10_p or 0.0)
    if verdict.found:
        value = max(value, -RELATED)
    return Opinion(value, verdict.found, comparison.run.seconds)


VERDICT = Method(
    name="homolog",
    citation="this package, docs/statistics.md",
    access="weights and tokenizer",
    statistic="-log10 p of the headline, 0 if called a shared initialisation, at least 9 if called related",
    compute=_verdict,
    own_threshold=-RELATED,
    threshold_source="the rule of docs/statistics.md",
    code=_CODE,
    needs_roles=False,
)
TIER_1 = Method(
    name="homolog-tier1",
    citation="this package, docs/statistics.md",
    access="weights and tokenizer",
    statistic="-log10 p of the headline",
    compute=_tier_1,
    own_threshold=-RELATED,
    threshold_source="the rule of docs/statistics.md",
    is_p_value=True,
    code=_CODE,
    needs_roles=False,
)
