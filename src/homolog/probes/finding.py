"""The answer of a probe: a statistic with its null hypothesis and log10 p, or the reason why there is none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["Finding", "GroupResult", "Null"]


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
    """``fixed_points`` or ``lis``."""
    matched: int
    """Mutual matches: what the statistic is counted among."""
    of: int
    """Indices that both sides could share: the size of the group that was read."""
    expected: float
    """Expectation of the statistic (for LIS: of an upper bound) under the null."""
    log10_p: float
    frame: str = "none"
    """``identity``, ``embedding``, or ``none`` for statistics that need no frame."""
    median_similarity: float = 0.0
    """Median similarity of the matched pairs, for information."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One question, answered over all its groups; ``log10_p`` is Bonferroni-corrected over them."""

    probe: str
    tier: int
    null: Null
    statistic: float | None = None
    """Of the best group."""
    of: float | None = None
    log10_p: float | None = None
    tests: int = 0
    """How many tests of the plan this probe accounts for."""
    groups: tuple[GroupResult, ...] = ()
    absent: str | None = None
    """Why there is no answer; then statistic, of and log10_p are ``None``."""
    absent_groups: Mapping[str, str] = field(default_factory=dict)
    """Groups that were left out, each with its reason."""
    total: Mapping[str, float] = field(default_factory=dict)
    """Support only, never in the headline: ``statistic``, ``of``, ``expected``, ``log10_p`` over groups that share no labels."""
    effect: Mapping[str, float] = field(default_factory=dict)
