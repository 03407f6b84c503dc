"""Whole tensors: the map of a relation, what B holds of several parents, and how a third model stands to both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from homolog.checkpoint.base import Checkpoint
from homolog.derivation.direction import Direction, find_direction
from homolog.derivation.given import GivenModel, weigh_given
from homolog.derivation.mapping import ModelMap, draw_map
from homolog.derivation.merges import Merge, Parent, fit_merge
from homolog.derivation.stream import Stream, keep_stream, read_stream
from homolog.errors import BudgetExceeded
from homolog.examination.examined import NO_RELATION, Examined
from homolog.examination.second_look import find_frame
from homolog.roles.role import Anatomy
from homolog.sketch.opened import SketchFile, anatomy_of
from homolog.sketch.plan import SMALL
from homolog.sketch.reading import Reading
from homolog.verdict import Evidence, decide

__all__ = ["add_given", "add_parents", "draw"]

_LARGEST_MAP = 2**31
"""Bytes of a model up to which whole tensors are compared if asked: the units of a layer are held, and every two of them compared."""


def draw(examined: Examined, reading: Reading, *, full: bool) -> Examined:
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


def add_parents(examined: Examined, names: Sequence[str], models: Sequence[Checkpoint]) -> Examined:
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


def add_given(
    examined: Examined,
    models: tuple[Checkpoint, Checkpoint],
    anatomies: tuple[Anatomy, Anatomy],
    third: Checkpoint,
    name: str,
    study: Callable[..., Examined],
) -> Examined:
    """How A and B stand to each other, given a third model C."""
    if examined.map.wholes is None:
        return replace(examined, given=GivenModel(name, absent=f"A and B: {examined.map.absent}"))
    anatomy = anatomy_of(third)
    met = [study((third, model), (anatomy, known)).map for model, known in zip(models, anatomies, strict=True)]
    sides = [whole.wholes or whole.absent or NO_RELATION for whole in met]
    try:
        return replace(examined, given=weigh_given(name, examined.map.wholes, sides[0], sides[1]))
    except BudgetExceeded:
        return replace(examined, given=GivenModel(name, absent="the budget does not allow it"))


def _without_map(examined: Examined, reason: str) -> Examined:
    whole = ModelMap.missing(reason)
    direction = find_direction(whole, examined.pair) if examined.pair else Direction()
    return replace(examined, map=whole, direction=direction)


def _why_no_map(examined: Examined, models: Sequence[Checkpoint], *, full: bool) -> str | None:
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


def _find_stream(examined: Examined, evidence: Evidence) -> Stream | None:
    """The frame of both residual streams, and what it does with channels; ``None`` if there is none."""
    assert examined.pair is not None
    widths = [sketch.anatomy.dims.width for sketch in (examined.pair.a, examined.pair.b)]
    moved, stored = find_frame(examined, evidence)
    if stored and widths[0] == widths[1]:
        return keep_stream(widths[0])
    if moved is None or [len(moved.a), len(moved.b)] != widths:
        return None
    stream = read_stream(moved)
    return keep_stream(widths[0]) if stream.in_place else stream
