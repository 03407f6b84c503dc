"""Never-trained rows that were replaced: those of trained tokens go together in the two models, and those that nothing moves do not.

Such rows say nothing of descent, for it or against it. A copy keeps them best of all, as no gradient reaches them: where trained rows were
carried and these were not, somebody drew them anew, noise has drowned them, or they came from elsewhere. They are cheap to overwrite.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from homolog.align.matching import unit_rows
from homolog.align.residual import fit_embedding_frame
from homolog.probes.finding import Finding
from homolog.probes.pair import Pair

__all__ = ["carried", "withhold_overwritten"]

CARRIED, CARRIED_IF_RELATED = 0.95, 0.50
"""Share of trained rows that find their own token, in a frame that was fitted to others, from which their table was carried: alone, and
where the models are known to be related by their bodies. On the lineages that this was developed on independent embeddings reach 0.61, a
student beside its teacher 0.76; copies begin at 0.78, most have 0.96 and more, and a table that was drawn anew in a copy reaches 0.04."""

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
        share = carried(pair, key if related else "embed")
        if share is None or share < (CARRIED_IF_RELATED if related else CARRIED):
            continue
        reason = (
            f"{share:.0%} of the trained rows find their token in the other model, and those of never-trained tokens do not: "
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
    """Share of trained rows of B's table whose most alike row in A's is that of the same token; ``None`` if there are too few.

    Half of the rows give the frame and the other half are asked, both ways, so that a row never bears witness for itself. Unlike a cosine
    the share does not grow where streams are narrow or all rows have a large part in common.
    """
    first, second = (pair.turned or pair).tables(key)
    if first is None or second is None or first.flaw or second.flaw or len(first.ordinary) != len(second.ordinary):
        return None
    x, y = (rows.ordinary - rows.ordinary.mean(axis=0) for rows in (first, second))
    found: list[npt.NDArray[np.bool_]] = []
    for fitted in (0, 1):
        frame = fit_embedding_frame(x[fitted::2], y[fitted::2]) if len(x) else None
        if frame is None:
            return None
        cosine = unit_rows(y[1 - fitted :: 2] @ frame.b) @ unit_rows(x[1 - fitted :: 2] @ frame.a).T
        found.append(cosine.argmax(axis=1) == np.arange(len(cosine)))
    return float(np.concatenate(found).mean())
