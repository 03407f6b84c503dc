"""Comparing two checkpoints: open, resolve, plan, read, probe, decide."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from homolog.align.layers import BlockMap
from homolog.align.residual import Frame, fit_embedding_frame, identity_frame
from homolog.checkpoint.adapters import LoneAdapter, is_adapter, match_base
from homolog.checkpoint.address import show_address
from homolog.checkpoint.base import Checkpoint
from homolog.checkpoint.session import Session
from homolog.comparison import Comparison, ModelRecord
from homolog.derivation.bodies import SecondLook, align_bodies, trace_by_bodies
from homolog.derivation.direction import Direction, find_direction
from homolog.derivation.disguises import name_disguises
from homolog.derivation.given import GivenModel, weigh_given
from homolog.derivation.identical import digests_agree, same_numbers
from homolog.derivation.layers import LayerOrigin, count_inherited, map_layers
from homolog.derivation.mapping import ModelMap, draw_map
from homolog.derivation.merges import Merge, Parent, fit_merge
from homolog.derivation.operations import Operation, add_low_rank, add_merge, read_operations
from homolog.derivation.stream import Stream, keep_stream, read_stream
from homolog.errors import BudgetExceeded, UsageError
from homolog.probes.agreement import BodyFinding
from homolog.probes.channels import find_shared_table, probe_channel_profiles, probe_columns
from homolog.probes.clones import find_clones
from homolog.probes.exhibits import background, gain_cosines, std_curves
from homolog.probes.experts import probe_experts
from homolog.probes.ffn import FfnResult, probe_aligned_rows, probe_profiles, probe_rows, usable_blocks
from homolog.probes.finding import NOT_ALIGNED, Finding
from homolog.probes.initialisation import Initialisation, weigh_initialisation
from homolog.probes.pair import Pair
from homolog.probes.untrained import probe_untrained
from homolog.probes.values import probe_values
from homolog.provenance import Provenance, Run, Stopwatch
from homolog.roles.role import Anatomy
from homolog.sketch.anchors import Anchors, choose_anchors
from homolog.sketch.make import digest_read
from homolog.sketch.opened import SketchFile, anatomy_of, open_model, read_pair
from homolog.sketch.plan import SMALL, Plans, count_blocks, plan_stages
from homolog.sketch.reading import Reading
from homolog.sketch.stream import Progress
from homolog.sketch.token_table import vocabularies_of
from homolog.verdict import RELATED, Evidence, decide

__all__ = ["compare"]

_WIDE = 1024
"""Residual channels from which on fitting a frame takes longer than everything else."""

_IDENTITY_CHECK = 2**30
"""Pairs up to this many bytes are compared in full where every sampled number is equal; larger ones only if asked."""

_LARGEST_MAP = 2**31
"""Bytes of a model up to which whole tensors are compared if asked: the units of a layer are held, and every two of them compared."""


def compare(
    a: str | os.PathLike[str],
    b: str | os.PathLike[str],
    *,
    seed: int = 0,
    units: int = 64,
    deep: bool = False,
    full: bool = False,
    budget: int | None = None,
    offline: bool = False,
    also: Sequence[str | os.PathLike[str]] = (),
    given: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
    announce: Callable[[str], None] | None = None,
) -> Comparison:
    """Say whether the weights of ``b`` and ``a`` support common descent.

    ``a`` (the reference) and ``b`` (the suspect) are folders, weight files or addresses (see `open_checkpoint`). ``seed`` settles
    everything random. Of large checkpoints ``units`` units of every FFN are read, of a few layers first where they come over a network,
    then of every layer, then more units, until the question is decided; ``deep`` starts with the last of these stages and ``full`` reads
    whole matrices. ``budget`` is how many bytes may be fetched, ``offline`` allows none. ``also`` are further models that ``b`` may
    have been merged from together with ``a``; ``given`` is a model that both may descend from. ``progress`` is called with what is being
    done,
    the steps done and the steps in all, ``announce`` with what is about to be fetched, in words.

    Raises CheckpointError for a checkpoint that cannot be read and UsageError for options out of range.
    """
    if units < 8 or seed < 0 or (budget is not None and budget < 0):
        raise UsageError(
            f"units is {units}, seed {seed} and budget {budget}; units must be at least 8, the others at least 0"
        )
    watch = Stopwatch()
    inputs = (show_address(a), show_address(b))
    defaults: dict[str, object] = {"seed": 0, "units": 64, "deep": False, "full": False, "budget": None}
    chosen: dict[str, object] = {"seed": seed, "units": units, "deep": deep, "full": full, "budget": budget}
    chosen |= {"also": [show_address(path) for path in also]} if also else {}
    chosen |= {"given": show_address(given)} if given is not None else {}
    provenance = Provenance.of("compare", inputs, chosen, defaults)
    session = Session(budget=budget, offline=offline)
    study = partial(
        _study,
        session=session,
        seed=seed,
        units=units,
        deep=deep,
        full=full,
        progress=progress or _silent,
        announce=announce or _unheard,
    )
    with ExitStack() as opened:
        first, second = (opened.enter_context(_open(path, session)) for path in (a, b))
        models = (first, second)
        anatomies = (anatomy_of(first), anatomy_of(second))
        with np.errstate(all="ignore"):  # NaN and Inf of a broken checkpoint are reported by name, not by warning
            examined = study(models, anatomies)
            if also:
                others = [opened.enter_context(_open(path, session)) for path in also]
                examined = _add_parents(examined, (inputs[0], *map(show_address, also)), (first, *others))
            if given is not None:
                third = opened.enter_context(_open(given, session))
                examined = _add_given(examined, models, anatomies, third, show_address(given), study)
        records = tuple(
            _record(name, model, anatomy, examined.unread[side])
            for side, (name, model, anatomy) in enumerate(zip(inputs, models, anatomies, strict=True))
        )
    fetched = {"fetched_bytes": session.budget.spent, "fetched_requests": session.budget.requests}
    return _conclude(examined, records, provenance, replace(watch.read(), **fetched))


def _study(
    models: tuple[Checkpoint, Checkpoint],
    anatomies: tuple[Anatomy, Anatomy],
    *,
    session: Session,
    seed: int,
    units: int,
    deep: bool,
    full: bool,
    progress: Progress,
    announce: Callable[[str], None],
) -> _Examined:
    """Read two open models in stages, test them, align their bodies if need be, and draw the map."""
    stages = plan_stages(*anatomies, max(model.nbytes for model in models), units=units, deep=deep, full=full)
    reading = Reading(models, anatomies, stages, session, progress, announce)
    sketched = any(isinstance(model, SketchFile) for model in models)
    examined = (_examine_sketches if sketched else _examine)(reading, seed=seed, full=full)
    if not sketched:
        examined = _look_again(examined, reading, deep=deep or full)
    return _draw(examined, reading, full=full)


@dataclass(frozen=True, slots=True)
class _Examined:
    """All that the reading stages found."""

    findings: tuple[Finding, ...] = ()
    initialisation: Initialisation = field(default_factory=Initialisation.not_asked)
    identical: bool = False
    unresolved: str | None = None
    pair: Pair | None = None
    layers: Mapping[int, int] | None = None
    blocks: BlockMap | None = None
    origins: tuple[LayerOrigin, ...] = ()
    unread: tuple[str, str] = ("", "")
    """For A and for B, which layers were not read and why, in words."""
    again: Callable[[Frame | str], _Examined] | None = None
    """The same pair examined with a body frame."""
    embedding: Frame | None = None
    look: SecondLook = field(default_factory=SecondLook)
    map: ModelMap = field(default_factory=lambda: ModelMap.missing(_NO_RELATION))
    direction: Direction = field(default_factory=Direction)
    merge: Merge | None = None
    given: GivenModel | None = None

    @property
    def evidence(self) -> Evidence:
        """All that the verdict rests on."""
        return Evidence(
            self.findings,
            self.initialisation,
            count_inherited(self.origins),
            self.identical,
            self.unresolved,
            self.look.finding,
        )


_NO_RELATION = "no relation was found"


def _examine(reading: Reading, *, seed: int, full: bool) -> _Examined:
    """Stage by stage, until one decides, or the budget ends; what was decided before that counts."""
    models, anatomies = reading.models, reading.anatomies
    if unresolved := _find_unresolved(models, anatomies):
        return _Examined(unresolved=unresolved)
    reading.bring_tokenizers()
    anchors = choose_anchors(*vocabularies_of(*models), anatomies[0].dims.vocab, anatomies[1].dims.vocab)
    count = partial(_count_stages, stages=len(reading.stages), tests=_largest_tests(anatomies, reading.stages[-1]))
    examined: _Examined | None = None
    for plans in reading.ordered():
        try:
            a, b = reading.read(plans, anchors)
        except BudgetExceeded as stopped:
            return _end_of_budget(examined, stopped)
        pair = Pair(a, b, seed)
        identical = partial(_identical, models, anatomies, full=full)
        examined = replace(_examine_pair(pair, anchors, identical, count), unread=reading.describe_unread((a, b)))
        if _is_decided(examined):
            return examined
    assert examined is not None
    if reading.thinned:
        return _end_of_budget(examined, None)
    return examined


def _examine_sketches(reading: Reading, *, seed: int, full: bool) -> _Examined:
    """In one stage: a sketch holds what it holds, and a checkpoint beside it is sketched alike."""
    models, anatomies = reading.models, reading.anatomies
    if unresolved := _find_unresolved(models, anatomies):
        return _Examined(unresolved=unresolved)
    try:
        a, b, anchors = read_pair(models, anatomies, reading.progress, reading.announce)
    except BudgetExceeded as stopped:
        return _end_of_budget(None, stopped)

    def identical(pair: Pair) -> bool:
        sampled = [[block.digest for block in sketch.units] for sketch in (pair.a, pair.b)]
        return sampled[0] == sampled[1] and digests_agree(models, anatomies, full=full)

    examined = _examine_pair(Pair(a, b, seed), anchors, identical, lambda finding: finding)
    return replace(examined, look=SecondLook(BodyFinding.missing("a sketch holds no bodies to align")))


def _open(path: str | os.PathLike[str], session: Session) -> Checkpoint:
    return LoneAdapter(Path(path)) if is_adapter(path) else open_model(path, session)


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


def _is_decided(examined: _Examined) -> bool:
    """Whether more reading could change the answer.

    Few layers suffice for descent where each of them is found in its own place; everything else asks for all of them. All layers are
    answered by more units only where the headline is neither here nor there.
    """
    pair = examined.pair
    assert pair is not None
    evidence = Evidence(
        examined.findings, examined.initialisation, count_inherited(examined.origins), examined.identical
    )
    verdict = decide(evidence).verdict
    if pair.b.layers_read is not None:
        in_place = all(origin.a == origin.b for origin in examined.origins)
        return verdict == "identical" or (verdict == "related" and bool(examined.origins) and in_place)
    headline = evidence.headline()
    return verdict != "inconclusive" or headline is None or examined.initialisation.verdict == "undecided"


def _look_again(examined: _Examined, reading: Reading, *, deep: bool) -> _Examined:
    """Align the bodies where that can change the answer or its map: small models always, large ones if asked.

    Tests in the body frame are planned and counted whether this is done or not.
    """
    pair, models = examined.pair, reading.models
    if pair is None or examined.again is None or examined.unresolved or examined.identical:
        return examined
    evidence = _evidence(examined.findings)
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
    origins = known.origins
    if look.finding.related and not _evidence(known.findings).ffn_agrees:
        origins = trace_by_bodies(look)
    return replace(known, origins=origins, initialisation=look.finding.settle(known.initialisation))


def _draw(examined: _Examined, reading: Reading, *, full: bool) -> _Examined:
    """The map of whole tensors, where a relation was found and reading them costs little, or was asked for."""
    evidence, models = examined.evidence, reading.models
    if not decide(evidence).found or examined.pair is None:
        return examined
    missing = _why_no_map(examined, models, full=full)
    stream = None if missing else _find_stream(examined, evidence)
    if stream is None:
        reason = missing or "the two residual streams have no frame in common that was found"
        return _without_map(examined, reason)
    try:
        whole = draw_map(models, reading.anatomies, examined.origins, stream)
        return replace(examined, map=whole, direction=find_direction(whole, examined.pair))
    except BudgetExceeded:
        return _without_map(examined, "the budget does not allow it")


def _add_parents(examined: _Examined, names: Sequence[str], models: Sequence[Checkpoint]) -> _Examined:
    """What B holds of A and of further given models."""
    keys = ("a", *(f"p{number}" for number in range(2, len(models) + 1)))
    wholes = examined.map.wholes
    absent = None if wholes is not None else examined.map.absent
    parents = []
    for key, name, model in zip(keys, names, models, strict=True):
        anatomy = anatomy_of(model)
        parents.append(Parent(key, name, model, anatomy))
        if isinstance(model, SketchFile):
            absent = absent or f"{key.upper()} is a sketch, which holds no whole tensors"
        elif anatomy.reason:
            absent = absent or f"the architecture of {key.upper()} is not recognised: {anatomy.reason}"
        elif model.nbytes > _LARGEST_MAP:
            absent = absent or f"{key.upper()} is too large for its tensors to be held"
    if absent or wholes is None:
        return replace(examined, merge=Merge(tuple(zip(keys, names, strict=True)), absent=absent))
    try:
        merge = fit_merge(wholes, parents)
    except BudgetExceeded:
        return replace(
            examined, merge=Merge(tuple(zip(keys, names, strict=True)), absent="the budget does not allow it")
        )
    return replace(examined, merge=merge, direction=examined.direction.with_fact(merge.fact, examined.map))


def _add_given(
    examined: _Examined,
    models: tuple[Checkpoint, Checkpoint],
    anatomies: tuple[Anatomy, Anatomy],
    third: Checkpoint,
    name: str,
    study: Callable[..., _Examined],
) -> _Examined:
    """How A and B stand to each other, given a third model C."""
    if examined.map.wholes is None:
        return replace(examined, given=GivenModel(name, absent=f"A and B: {examined.map.absent}"))
    anatomy = anatomy_of(third)
    met = [study((third, model), (anatomy, known)).map for model, known in zip(models, anatomies, strict=True)]
    sides = [whole.wholes or whole.absent or _NO_RELATION for whole in met]
    try:
        return replace(examined, given=weigh_given(name, examined.map.wholes, sides[0], sides[1]))
    except BudgetExceeded:
        return replace(examined, given=GivenModel(name, absent="the budget does not allow it"))


def _without_map(examined: _Examined, reason: str) -> _Examined:
    whole = ModelMap.missing(reason)
    direction = find_direction(whole, examined.pair) if examined.pair else Direction()
    return replace(examined, map=whole, direction=direction)


def _why_no_map(examined: _Examined, models: Sequence[Checkpoint], *, full: bool) -> str | None:
    if examined.identical:
        return "both hold the same numbers"
    if any(isinstance(model, SketchFile) for model in models):
        return "a sketch holds no whole tensors"
    if not full and any(model.meter.remote is not None for model in models):
        return "of a remote model only what a verdict needs is read: --full reads all of it"
    largest = max(model.nbytes for model in models)
    if largest > SMALL and not full:
        return "the models are large: --full reads whole tensors"
    return "the models are too large for their tensors to be held" if largest > _LARGEST_MAP else None


def _find_stream(examined: _Examined, evidence: Evidence) -> Stream | None:
    """The frame of both residual streams, and what it does with channels; ``None`` if there is none."""
    assert examined.pair is not None
    widths = [sketch.anatomy.dims.width for sketch in (examined.pair.a, examined.pair.b)]
    moved, stored = _find_frame(examined, evidence)
    if stored and widths[0] == widths[1]:
        return keep_stream(widths[0])
    if moved is None or [len(moved.a), len(moved.b)] != widths:
        return None
    stream = read_stream(moved)
    return keep_stream(widths[0]) if stream.in_place else stream


def _find_frame(examined: _Examined, evidence: Evidence) -> tuple[Frame | None, bool]:
    """The frame that carries A's stream to B's where it is known that the files' own does not, and whether that one does."""
    look = examined.look
    if evidence.agrees(("ffn.rows", "values.rows")):
        return None, True
    fitted = look.finding.agreement.frame if look.finding.related else examined.embedding
    return (fitted if look.finding.related or evidence.agrees(_IN_FRAMES) else None), False


def _end_of_budget(examined: _Examined | None, stopped: BudgetExceeded | None) -> _Examined:
    """What was found keeps its verdict; that nothing was found says nothing where not all was read."""
    why = f" ({stopped.found}, {stopped.expected})" if stopped is not None else ""
    if examined is None:
        return _Examined(unresolved=f"the budget allows no test at all{why}")
    evidence = Evidence(
        examined.findings, examined.initialisation, count_inherited(examined.origins), examined.identical
    )
    if decide(evidence).found:
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


def _examine_pair(
    pair: Pair, anchors: Anchors, identical: Callable[[Pair], bool], count: Callable[[Finding], Finding]
) -> _Examined:
    """All probes of one pair of sketches; ``identical`` is asked only where the indices agree, ``count`` counts the planned tests."""
    clones = (find_clones(pair.a.units), find_clones(pair.b.units))
    shared_table = find_shared_table(pair)
    rows = probe_rows(pair, clones)
    profiles = probe_profiles(pair, clones)
    turned = pair.turned
    frame, no_frame = _fit_frame(turned, rows.finding, shared_table)

    def in_frames(body: Frame | str) -> tuple[FfnResult, Finding]:
        return (
            probe_aligned_rows(turned or pair, clones, frame, no_frame, body=body),
            probe_untrained(pair, anchors, frame, no_frame, shared_table, body=body),
        )

    aligned, untrained = in_frames(NOT_ALIGNED)
    mapped = _choose_map(rows, aligned, profiles)
    layers = mapped.layers(pair)
    tests = (
        rows.finding,
        aligned.finding,
        profiles.finding,
        probe_columns(pair, shared_table),
        probe_channel_profiles(pair, _layers_for_channels(pair, profiles), shared_table),
        probe_values(pair, layers),
        probe_experts(pair),
        untrained,
    )

    def conclude(tests: Sequence[Finding]) -> _Examined:
        findings = tuple(count(finding) for finding in tests)
        origins = map_layers(pair, _on_ffn(findings))
        agrees = _evidence(findings).agrees()
        return _Examined(
            findings=findings,
            initialisation=_weigh(pair, findings, origins, layers) if agrees else Initialisation.not_asked(),
            identical=agrees and identical(pair),
            pair=pair,
            layers=layers,
            blocks=mapped.blocks,
            origins=origins,
            embedding=frame,
        )

    def again(body: Frame | str) -> _Examined:
        aligned, untrained = in_frames(body)
        return conclude((tests[0], aligned.finding, *tests[2:-1], untrained))

    return replace(conclude(tests), again=again)


def _choose_map(rows: FfnResult, aligned: FfnResult, profiles: FfnResult) -> FfnResult:
    """The map of layers by the frame in which the indices of FFN rows agree, or else in which rows are more alike.

    Where a stream was turned, the frame of the files tells nothing.
    """
    mapped = [result for result in (rows, aligned) if result.blocks is not None]
    agreeing = next((result for result in mapped if _evidence((result.finding,)).agrees()), None)
    if agreeing is not None:
        return agreeing
    return max(mapped, key=FfnResult.likeness, default=profiles if profiles.blocks is not None else rows)


def _layers_for_channels(pair: Pair, profiles: FfnResult) -> Mapping[int, int]:
    """A map that does not depend on which channel is which: layer by layer at equal depth, else by unit profiles over whole rows."""
    depths = {sketch.anatomy.dims.layers for sketch in (pair.a, pair.b)}
    whole = all(block.up.shape[1] == sketch.anatomy.dims.width for sketch in (pair.a, pair.b) for block in sketch.units)
    if len(depths) > 1 and whole:
        return profiles.layers(pair)
    return {layer: layer for layer in range(min(depths))}


def _evidence(findings: tuple[Finding, ...]) -> Evidence:
    return Evidence(findings, Initialisation.not_asked(), None, identical=False)


def _weigh(
    pair: Pair, findings: tuple[Finding, ...], origins: Sequence[LayerOrigin], layers: Mapping[int, int]
) -> Initialisation:
    """Over the layers of B whose origin was found, if any was: what new layers hold says nothing of how the old ones were trained."""
    profiles = next(finding for finding in findings if finding.probe == "ffn.profiles")
    stored = _evidence(findings).agrees(("ffn.rows", "channels.columns", "channels.profiles", "values.rows"))
    recognised = {origin.b: origin.a for origin in origins if origin.a is not None}
    return weigh_initialisation(pair, recognised or layers, profiles, channels_agree=stored)


def _on_ffn(findings: Sequence[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.probe.startswith("ffn.")]


def _conclude(examined: _Examined, records: Sequence[ModelRecord], provenance: Provenance, run: Run) -> Comparison:
    pair = examined.pair
    origins = examined.origins
    evidence = examined.evidence
    inherited = evidence.inherited
    verdict = decide(evidence)
    direction = examined.direction
    return Comparison(
        a=records[0],
        b=records[1],
        verdict=verdict,
        relation=direction.relation if verdict.found else None,
        findings=examined.findings,
        planned=evidence.planned,
        initialisation=examined.initialisation,
        inherited=inherited if verdict.found and (evidence.ffn_agrees or evidence.body.related) else None,
        origins=origins,
        operations=_operations(examined, evidence) if pair and verdict.found and verdict.verdict != "identical" else (),
        direction=direction,
        layer_matrix=_layer_matrix(examined),
        exhibits=_exhibits(pair, examined.layers or {}) if pair else {},
        warnings=_warnings(pair),
        provenance=provenance,
        run=run,
        agreement=examined.look.finding,
        map=examined.map,
        merge=examined.merge,
        given=examined.given,
    )


def _operations(examined: _Examined, evidence: Evidence) -> tuple[Operation, ...]:
    """Disguises first, then what else was done."""
    pair, look = examined.pair, examined.look
    assert pair is not None
    moved, _ = _find_frame(examined, evidence)
    disguises = name_disguises(pair, examined.origins, look, moved, indices_agree=evidence.ffn_agrees)
    others = read_operations(pair, examined.origins, _on_ffn(examined.findings))
    named = {step.kind for step in disguises}
    if named & {"units_split", "gates_flipped"}:
        named.add("ffn_widened")
    if not evidence.ffn_agrees and look.finding.agreement.fit >= _UNTRAINED:
        named.add("continued_training")
    if named & _OF_THE_BASIS and _are_rows_kept(examined.findings):
        named.add("continued_training")
    steps = (*disguises, *(step for step in others if step.kind not in named))
    return add_merge(add_low_rank(steps, examined.map.tensors), examined.merge)


def _are_rows_kept(findings: Sequence[Finding]) -> bool:
    """Whether the FFN rows of the median block point where they did, in the frame of the files or in that of the embeddings."""
    alike: dict[str, list[float]] = {}
    for finding in findings:
        if finding.probe in ("ffn.rows", "ffn.rows.aligned"):
            for group in finding.groups:
                alike.setdefault(group.frame, []).append(group.median_similarity)
    return any(float(np.median(found)) >= _UNMOVED for found in alike.values())


def _fit_frame(pair: Pair | None, rows: Finding, shared_table: str | None) -> tuple[Frame | None, str]:
    """The frame of the embeddings, or why there is none. It costs a decomposition, so large pairs do without where none is needed."""
    if shared_table:
        return None, shared_table
    if pair is None:
        return None, "a sketch without a token embedding holds no directions to fit a frame to"
    large = any(block.up.shape[1] > _WIDE for block in pair.a.units)
    if large and rows.log10_p is not None and rows.log10_p <= 2 * RELATED:
        return None, "not needed: the frame of the files already decides"
    for key in ("embed", "unembed"):
        a, b = pair.tables(key)
        if a is not None and b is not None and not a.flaw and not b.flaw:
            frame = fit_embedding_frame(a.ordinary, b.ordinary)
            return frame, "too few shared tokens for a frame"
    return None, "no token embedding to fit a frame to"


_IN_FRAMES = ("ffn.rows.aligned", "tokens.untrained")
"""Probes that see through a change of the residual stream's basis."""

_OF_THE_BASIS = frozenset({"residual_permuted", "residual_rotated", "rescaled"})

_UNMOVED = 0.9999
"""|Cosine| of partners' rows from which a change of basis or of scale, rounded to sixteen bits, is all that happened to them."""

_UNTRAINED = 0.98
"""Mean squared cosine of partners' gates from which disguises explain all the difference there is."""


def _identical(
    models: tuple[Checkpoint, Checkpoint], anatomies: tuple[Anatomy, Anatomy], pair: Pair, *, full: bool
) -> bool:
    """Whether the two hold the same numbers; looked into only where every sampled FFN row is the same."""
    sampled = [[block.digest for block in sketch.units] for sketch in (pair.a, pair.b)]
    if sampled[0] != sampled[1]:
        return False
    remotes = [model.meter.remote for model in models]
    if remotes[0] is not None and remotes[1] is not None and remotes[0].holds_the_same_as(remotes[1]):
        return True
    most = _IDENTITY_CHECK if remotes == [None, None] else SMALL
    return (full or max(model.nbytes for model in models) <= most) and same_numbers(*models, *anatomies)


def _layer_matrix(examined: _Examined) -> dict[str, Any]:
    pair, blocks = examined.pair, examined.blocks
    if pair is None or blocks is None or pair.a.layers_read is not None or pair.b.layers_read is not None:
        return {}
    rows, columns = usable_blocks(pair.b), usable_blocks(pair.a)
    counts = np.zeros((pair.b.anatomy.dims.layers, pair.a.anatomy.dims.layers), dtype=np.int64)
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            counts[row.layer, column.layer] = max(counts[row.layer, column.layer], blocks.equal[i, j])
    return {
        "statistic": "index matches among sampled FFN units",
        "of": blocks.units,
        "expected": 1.0,
        "rows": "layers of B",
        "columns": "layers of A",
        "counts": counts.tolist(),
    }


def _exhibits(pair: Pair, layers: Mapping[int, int]) -> dict[str, Any]:
    return {
        "std_curves": {**std_curves(pair), "background": background("std_curves")},
        "norm_gains": {"cosine": gain_cosines(pair, layers), "background": background("norm_gains")},
    }


def _warnings(pair: Pair | None) -> tuple[str, ...]:
    if pair is None:
        return ()
    return tuple(f"{name}: {text}" for name, sketch in (("A", pair.a), ("B", pair.b)) for text in sketch.warnings)


def _record(name: str, model: Checkpoint, anatomy: Anatomy, unread: str) -> ModelRecord:
    if isinstance(model, SketchFile):
        return ModelRecord.of_sketch(name, model.path, model.stored)
    dtypes: Counter[str] = Counter()
    for info in model.tensors.values():
        dtypes[info.dtype] += info.size
    return ModelRecord(
        id=name,
        format=model.format,
        architecture=anatomy.architecture,
        parameters=model.parameters,
        digest=digest_read(model),
        dims=asdict(anatomy.dims),
        dtypes=dict(sorted(dtypes.items())),
        files=tuple({"name": path.name, "bytes": model.meter.sizes[path]} for path in model.files),
        read_bytes=model.meter.bytes,
        distinct_bytes=model.meter.count_distinct(path.name for path in model.files),
        of_bytes=sum(model.meter.sizes[path] for path in model.files),
        requests=model.meter.requests,
        notes=(*model.notes, *anatomy.notes, *([unread] if unread else [])),
    )


def _silent(_: str, __: int, ___: int) -> None:
    """No progress is shown."""


def _unheard(_: str) -> None:
    """Nothing is announced."""
