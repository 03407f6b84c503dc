"""Aligning bodies, where that can change the answer, and the frame that joins both streams."""

from __future__ import annotations

from dataclasses import replace

from homolog.align.residual import Frame, identity_frame
from homolog.derivation.bodies import SecondLook, align_bodies, trace_by_bodies
from homolog.errors import BudgetExceeded
from homolog.examination.examined import Examined, evidence_of
from homolog.probes.agreement import BodyFinding
from homolog.probes.overwritten import withhold_overwritten
from homolog.sketch.plan import SMALL
from homolog.sketch.reading import Reading
from homolog.verdict import Evidence

__all__ = ["find_frame", "look_again"]

_IN_FRAMES = ("ffn.rows.aligned", "tokens.untrained")
"""Probes that see through a change of the residual stream's basis."""


def look_again(examined: Examined, reading: Reading, *, deep: bool) -> Examined:
    """Align the bodies where that can change the answer or its map: small models always, large ones if asked.

    Tests in the body frame are planned and counted whether this is done or not.
    """
    pair, models = examined.pair, reading.models
    if pair is None or examined.again is None or examined.unresolved or examined.identical:
        return examined
    evidence = evidence_of(examined.findings)
    if evidence.agrees() and evidence.ffn_agrees and examined.initialisation.verdict != "undecided":
        return replace(examined, look=SecondLook(BodyFinding.missing("not needed: indices decide")))
    if not deep and max(model.nbytes for model in models) > SMALL:
        return replace(examined, look=SecondLook(BodyFinding.missing("the models are large: --deep compares them")))
    try:
        stored = evidence.agrees(("ffn.rows",))
        given = identity_frame(pair.a.anatomy.dims.width) if stored else examined.embedding
        look = align_bodies(models, reading.anatomies, pair, given)
    except BudgetExceeded:
        return replace(examined, look=SecondLook(BodyFinding.missing("the budget does not allow it")))
    known = replace(examined.again(look.frame), unread=examined.unread, look=look)
    if look.finding.related:
        untrained, warnings = withhold_overwritten(pair, known.findings[-1], related=True)
        known = replace(known, findings=(*known.findings[:-1], untrained), warnings=(*known.warnings, *warnings))
    origins = known.origins
    if look.finding.related and not evidence_of(known.findings).ffn_agrees:
        origins = trace_by_bodies(look)
    return replace(known, origins=origins, initialisation=look.finding.settle(known.initialisation))


def find_frame(examined: Examined, evidence: Evidence) -> tuple[Frame | None, bool]:
    """The frame that carries A's stream to B's where it is known that the files' own does not, and whether that one does."""
    look = examined.look
    if evidence.agrees(("ffn.rows", "values.rows")):
        return None, True
    body = look.finding
    if body.related or body.layer_agrees:
        return body.agreement.frame, False
    return (examined.embedding if evidence.agrees(_IN_FRAMES) else None), False
