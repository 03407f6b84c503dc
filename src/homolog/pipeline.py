"""Comparing two checkpoints: open, resolve, plan, read, probe, decide."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import numpy as np

from homolog.checkpoint.adapters import LoneAdapter, is_adapter
from homolog.checkpoint.address import show_address
from homolog.checkpoint.base import Checkpoint
from homolog.checkpoint.session import Session
from homolog.comparison import Comparison, ModelRecord
from homolog.errors import UsageError
from homolog.examination.alone import look_at_pair
from homolog.examination.conclusion import conclude
from homolog.examination.examined import Examined
from homolog.examination.second_look import look_again
from homolog.examination.stages import examine, examine_sketches
from homolog.examination.whole import add_given, add_parents, draw
from homolog.provenance import Provenance, Stopwatch
from homolog.roles.role import Anatomy
from homolog.sketch.make import digest_read
from homolog.sketch.opened import SketchFile, anatomy_of, open_model
from homolog.sketch.plan import SMALL, Plans, plan_stages
from homolog.sketch.reading import Reading
from homolog.sketch.stream import Progress

__all__ = ["compare"]


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
    have been merged from together with ``a``; ``given`` is a model that both may descend from. ``progress`` is called with what is
    being done, the steps done and the steps in all, ``announce`` with what is about to be fetched, in words.

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
                examined = add_parents(examined, (inputs[0], *map(show_address, also)), (first, *others))
            if given is not None:
                third = opened.enter_context(_open(given, session))
                examined = add_given(examined, models, anatomies, third, show_address(given), study)
        stages = () if _sketched(models) else _stages(models, anatomies, units=units, deep=deep, full=full)
        large = full and stages and max(model.nbytes for model in models) > SMALL
        alone = look_at_pair(examined, stages, models if large else (), anatomies)
        records = tuple(
            replace(_record(name, model, anatomy, examined.unread[side]), alone=alone[side])
            for side, (name, model, anatomy) in enumerate(zip(inputs, models, anatomies, strict=True))
        )
    fetched = {"fetched_bytes": session.budget.spent, "fetched_requests": session.budget.requests}
    return conclude(examined, records, provenance, replace(watch.read(), **fetched))


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
) -> Examined:
    """Read two open models in stages, test them, align their bodies if need be, and draw the map."""
    stages = _stages(models, anatomies, units=units, deep=deep, full=full)
    reading = Reading(models, anatomies, stages, session, progress, announce)
    sketched = _sketched(models)
    examined = (examine_sketches if sketched else examine)(reading, seed=seed, full=full)
    if not sketched:
        examined = look_again(examined, reading, deep=deep or full)
    return draw(examined, reading, full=full)


def _stages(
    models: tuple[Checkpoint, Checkpoint], anatomies: tuple[Anatomy, Anatomy], *, units: int, deep: bool, full: bool
) -> tuple[Plans, ...]:
    return plan_stages(*anatomies, max(model.nbytes for model in models), units=units, deep=deep, full=full)


def _sketched(models: tuple[Checkpoint, Checkpoint]) -> bool:
    return any(isinstance(model, SketchFile) for model in models)


def _open(path: str | os.PathLike[str], session: Session) -> Checkpoint:
    return LoneAdapter(Path(path)) if is_adapter(path) else open_model(path, session)


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
