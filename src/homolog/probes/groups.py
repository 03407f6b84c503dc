"""From an index test to a group result, in one place."""

from __future__ import annotations

from homolog.probes.finding import GroupResult
from homolog.probes.indices import IndexTest

__all__ = ["group_of"]


def group_of(name: str, test: IndexTest, *, frame: str = "none", b_layer: int = -1, a_layer: int = -1) -> GroupResult:
    """The outcome of ``test`` for the group called ``name``."""
    return GroupResult(
        group=name,
        b_layer=b_layer,
        a_layer=a_layer,
        statistic=test.statistic,
        kind=test.kind,
        matched=test.matched,
        of=test.of,
        expected=test.expected,
        log10_p=test.log10_p,
        frame=frame,
        median_similarity=test.median_similarity,
        parts=test.parts,
    )
