"""The answer of a probe: a statistic with its null hypothesis and log10 p, or the reason why there is none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from homolog.probes.bounds import combine_planned

__all__ = ["NOT_ALIGNED", "Finding", "GroupResult", "Null"]

NOT_ALIGNED = "the bodies were not aligned"
"""Why there is nothing in the body frame unless it is asked for."""


@dataclass(frozen=True, slots=True)
class Null:
    """A null hypothesis, by name and in words."""

    id: str
    text: str


@dataclass(frozen=True, slots=True)
class GroupResult:
    """One test of one group of exchangeable units, for example the FFN units of one layer of B against one layer of A."""

    group: str
    """In words: ``layer 3``, ``layer 2 expert 5``, ``embedding``."""
    b_layer: int
    """-1 where the group belongs to no layer."""
    a_layer: int
    statistic: int
    """Matches with equal index (fixed points), or the length of the longest increasing run (LIS)."""
    kind: str
    """``fixed_points``; ``fixed_points_within`` (several label permutations at once); or ``lis``."""
    matched: int
    """Mutual matches: what the statistic is counted among."""
    of: int
    """Indices that both sides could share: the size of the group that was read."""
    expected: float
    """Expectation of the statistic under the null (for LIS: its large-sample limit)."""
    log10_p: float
    frame: str = "none"
    """``identity``, ``embedding``, ``body``, or ``none`` for statistics that need no frame."""
    median_similarity: float = 0.0
    """Median similarity of the matched pairs, for information."""
    parts: int = 1
    """Label permutations at work: several for ``fixed_points_within``."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One question, answered over all its groups; ``log10_p`` is Bonferroni-corrected over the probe's own planned tests."""

    probe: str
    tier: int
    null: Null
    tests: int = 0
    """How many tests of the plan this probe accounts for, carried out or not."""
    groups: tuple[GroupResult, ...] = ()
    absent: str | None = None
    """Why there is no answer; then there are no groups."""
    absent_groups: Mapping[str, str] = field(default_factory=dict)
    """Groups that were left out, each with its reason."""
    total: Mapping[str, float] = field(default_factory=dict)
    """Support only, never in the headline: ``statistic``, ``of``, ``expected``, ``log10_p`` over groups that share no labels."""

    @classmethod
    def conclude(
        cls,
        probe: str,
        null: Null,
        tests: int,
        groups: Sequence[GroupResult],
        absent_groups: Mapping[str, str] | None = None,
        total: Mapping[str, float] | None = None,
    ) -> Finding:
        """A finding from its groups; absent, with their reasons summed up, if every group was left out."""
        left_out = dict(absent_groups or {})
        if not groups:
            return cls.missing(probe, null, _sum_up(left_out), tests=tests, absent_groups=left_out)
        return cls(probe, 1, null, tests, tuple(groups), None, left_out, dict(total or {}))

    @classmethod
    def missing(
        cls, probe: str, null: Null, reason: str, *, tests: int = 0, absent_groups: Mapping[str, str] | None = None
    ) -> Finding:
        """No answer, with the reason."""
        return cls(probe, 1, null, tests, (), reason, dict(absent_groups or {}))

    @property
    def best(self) -> GroupResult | None:
        """The group with the smallest p; the first of several."""
        return min(self.groups, key=lambda group: group.log10_p, default=None)

    @property
    def log10_p(self) -> float | None:
        """Smallest p of the groups times the probe's planned tests."""
        return combine_planned(self.best.log10_p, self.tests) if self.best else None


def _sum_up(reasons: Mapping[str, str]) -> str:
    distinct = sorted(set(reasons.values()))
    if not distinct:
        return "nothing to test"
    return distinct[0] if len(distinct) == 1 else f"every group was left out: {'; '.join(distinct[:3])}"
