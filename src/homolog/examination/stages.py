"""Reading in stages: a few layers first, then all, then more units, until the question is decided or the budget ends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from homolog.checkpoint.adapters import match_base
from homolog.checkpoint.base import Checkpoint
from homolog.derivation.bodies import SecondLook
from homolog.derivation.identical import digests_agree, same_numbers
from homolog.errors import BudgetExceeded
from homolog.examination.examined import Examined
from homolog.examination.pair import examine_pair
from homolog.probes.agreement import BodyFinding
from homolog.probes.finding import Finding
from homolog.probes.pair import Pair
from homolog.roles.role import Anatomy
from homolog.sketch.anchors import choose_anchors
from homolog.sketch.opened import read_pair
from homolog.sketch.plan import SMALL, Plans, count_blocks
from homolog.sketch.reading import Reading
from homolog.sketch.token_table import vocabularies_of
from homolog.verdict import decide

__all__ = ["examine", "examine_sketches"]

_IDENTITY_CHECK = 2**30
"""Pairs up to this many bytes are compared in full where every sampled number is equal; larger ones only if asked."""


def examine(reading: Reading, *, seed: int, full: bool) -> Examined:
    """Stage by stage, until one decides, or the budget ends; what was decided before that counts."""
    models, anatomies = reading.models, reading.anatomies
    if unresolved := _find_unresolved(models, anatomies):
        return Examined(unresolved=unresolved)
    reading.bring_tokenizers()
    anchors = choose_anchors(*vocabularies_of(*models), anatomies[0].dims.vocab, anatomies[1].dims.vocab)
    count = partial(_count_stages, stages=len(reading.stages), tests=_largest_tests(anatomies, reading.stages[-1]))
    examined: Examined | None = None
    for plans in reading.ordered():
        try:
            a, b = reading.read(plans, anchors)
        except BudgetExceeded as stopped:
            return _end_of_budget(examined, stopped)
        pair = Pair(a, b, seed)
        identical = partial(_identical, models, anatomies, full=full)
        examined = replace(examine_pair(pair, anchors, identical, count), unread=reading.describe_unread((a, b)))
        if _is_decided(examined):
            return examined
    assert examined is not None
    if reading.thinned:
        return _end_of_budget(examined, None)
    return examined


def examine_sketches(reading: Reading, *, seed: int, full: bool) -> Examined:
    """In one stage: a sketch holds what it holds, and a checkpoint beside it is sketched alike."""
    models, anatomies = reading.models, reading.anatomies
    if unresolved := _find_unresolved(models, anatomies):
        return Examined(unresolved=unresolved)
    try:
        a, b, anchors = read_pair(models, anatomies, reading.progress, reading.announce)
    except BudgetExceeded as stopped:
        return _end_of_budget(None, stopped)

    def identical(pair: Pair) -> bool:
        return _is_sample_equal(pair) and digests_agree(models, anatomies, full=full)

    examined = examine_pair(Pair(a, b, seed), anchors, identical, lambda finding: finding)
    return replace(examined, look=SecondLook(BodyFinding.missing("a sketch holds no bodies to align")))


def _find_unresolved(models: tuple[Checkpoint, Checkpoint], anatomies: tuple[Anatomy, Anatomy]) -> str | None:
    """Why the roles of one model cannot be known, in words."""
    if said := match_base(models):
        return said
    for name, anatomy in zip("AB", anatomies, strict=True):
        if anatomy.reason:
            return f"the architecture of {name} is not recognised: {anatomy.reason}"
        if anatomy.missing:
            return f"{name} lacks {', '.join(anatomy.missing[:3])}"
    return None


def _is_decided(examined: Examined) -> bool:
    """Whether more reading could change the answer.

    Few layers suffice for descent where each of them is found in its own place; everything else asks for all of them. All layers are
    answered by more units only where the headline is neither here nor there.
    """
    pair = examined.pair
    assert pair is not None
    verdict = decide(examined.evidence).verdict
    if pair.b.layers_read is not None:
        in_place = all(origin.a == origin.b for origin in examined.origins)
        return verdict == "identical" or (verdict == "related" and bool(examined.origins) and in_place)
    headline = examined.evidence.headline()
    return verdict != "inconclusive" or headline is None or examined.initialisation.verdict == "undecided"


def _end_of_budget(examined: Examined | None, stopped: BudgetExceeded | None) -> Examined:
    """What was found keeps its verdict; that nothing was found says nothing where not all was read."""
    why = f" ({stopped.found}, {stopped.expected})" if stopped is not None else ""
    if examined is None:
        return Examined(unresolved=f"the budget allows no test at all{why}")
    if decide(examined.evidence).found:
        return examined
    reason = f"the budget ended before every layer could be read{why}, and what was read shows no relation"
    return replace(examined, unresolved=reason)


def _largest_tests(anatomies: tuple[Anatomy, Anatomy], plans: Plans) -> dict[str, int]:
    """How many tests the probes plan in the last stage, where that depends on how much is read."""
    blocks = count_blocks(anatomies[0], plans[0]) * count_blocks(anatomies[1], plans[1])
    routers = sum(role.kind == "ffn.router" and role.part == "weight" for role in anatomies[1].views)
    return {"ffn.rows": blocks, "ffn.rows.aligned": 2 * blocks, "ffn.profiles": blocks, "experts.rows": routers}


def _count_stages(finding: Finding, *, stages: int, tests: Mapping[str, int]) -> Finding:
    """A headline is valid however many stages it takes to reach it only if the tests of all of them are counted."""
    return replace(finding, tests=stages * max(finding.tests, tests.get(finding.probe, 0)))


def _is_sample_equal(pair: Pair) -> bool:
    """Whether every FFN row that was read is the same in both."""
    sampled = [[block.digest for block in sketch.units] for sketch in (pair.a, pair.b)]
    return sampled[0] == sampled[1]


def _identical(
    models: tuple[Checkpoint, Checkpoint], anatomies: tuple[Anatomy, Anatomy], pair: Pair, *, full: bool
) -> bool:
    """Whether the two hold the same numbers; looked into only where every sampled FFN row is the same."""
    if not _is_sample_equal(pair):
        return False
    remotes = [model.meter.remote for model in models]
    if remotes[0] is not None and remotes[1] is not None and remotes[0].holds_the_same_as(remotes[1]):
        return True
    most = _IDENTITY_CHECK if remotes == [None, None] else SMALL
    return (full or max(model.nbytes for model in models) <= most) and same_numbers(*models, *anatomies)
