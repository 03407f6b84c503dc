"""Never-trained rows that were replaced: those of trained tokens go together in the two models, and those that nothing moves do not.

Such rows say nothing of descent, for it or against it. A copy keeps them best of all, as no gradient reaches them: where trained rows were
carried and these were not, somebody drew them anew, noise has drowned them, or they came from elsewhere. They are cheap to overwrite.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from homolog.align.matching import unit_rows
from homolog.align.residual import fit_embedding_frame
from homolog.checkpoint.base import Array
from homolog.probes.finding import Finding
from homolog.probes.pair import Pair

__all__ = ["carried", "withhold_overwritten"]

CARRIED, CARRIED_IF_RELATED = 0.90, 0.50
"""Median cosine of trained rows, in a frame that was fitted to others, from which their table was carried: alone, and where the models are
known to be related by their bodies. On the lineages that this was developed on independent embeddings reach 0.83 (in narrow streams), and
copies begin at 0.84, or at 0.54 after training for three times as long; a table that was drawn anew reaches 0.13 in a copy."""

_AGREES = -3.0
"""log10 p of a group up to which its rows were kept well enough to be seen."""

_FEWEST = 13
_TITLES = {"embed": "embedding", "unembed": "unembedding"}


def withhold_overwritten(pair: Pair, finding: Finding, *, related: bool) -> tuple[Finding, tuple[str, ...]]:
    """The finding without tables whose never-trained rows were replaced, and a warning for each.

    ``related`` says whether the bodies show that the models have common descent. Withholding what does not agree anyhow makes no p-value
    smaller; it keeps the pair from being cleared by rows that cannot testify.
    """
    warnings, kept, left_out = [], finding.groups, dict(finding.absent_groups)
    for key, title in _TITLES.items():
        groups = [group for group in kept if group.group == title]
        if (
            not groups
            or min(group.log10_p for group in groups) <= _AGREES
            or max(group.of for group in groups) < _FEWEST
        ):
            continue
        cosine = carried(pair, key if related else "embed")
        if cosine is None or cosine < (CARRIED_IF_RELATED if related else CARRIED):
            continue
        reason = (
            f"rows of trained tokens go together in both models (cosine {cosine:.2f}) and those of never-trained ones do not: "
            "these were replaced, drowned in noise or never shared"
        )
        kept = tuple(group for group in kept if group.group != title)
        left_out[title] = reason
        warnings.append(f"The never-trained rows of the {title} testify to nothing: {reason}")
    if not warnings:
        return finding, ()
    if kept:
        return replace(finding, groups=kept, absent_groups=left_out), tuple(warnings)
    return Finding.conclude(finding.probe, finding.null, finding.tests, (), left_out), tuple(warnings)


def carried(pair: Pair, key: str) -> float | None:
    """Median cosine of trained rows of a table: half of them give the frame, the other half are asked, both ways; ``None`` if too few."""
    first, second = (pair.turned or pair).tables(key)
    if first is None or second is None or first.flaw or second.flaw or len(first.ordinary) != len(second.ordinary):
        return None
    x, y = (rows.ordinary - rows.ordinary.mean(axis=0) for rows in (first, second))
    found: list[Array] = []
    for fitted in (0, 1):
        frame = fit_embedding_frame(x[fitted::2], y[fitted::2]) if len(x) else None
        if frame is None:
            return None
        asked = unit_rows(x[1 - fitted :: 2] @ frame.a), unit_rows(y[1 - fitted :: 2] @ frame.b)
        found.append(np.einsum("ij,ij->i", *asked))
    return float(np.median(np.concatenate(found)))
