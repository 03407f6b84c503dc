"""One checkpoint on its own: what `inspect` says, and what its blocks say of each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING
from zlib import crc32

import numpy as np

from homolog.checkpoint.base import Array, Checkpoint
from homolog.checkpoint.budget import show_bytes
from homolog.errors import BudgetExceeded, NotCached
from homolog.probes.alone.copies import CHANNELS, plan_tests
from homolog.probes.alone.found import Alone, look_alone, look_at_sketch, norm_gains
from homolog.probes.indices import Rngs
from homolog.roles.inspect import Inspection
from homolog.roles.inspect import inspect as inspect_roles
from homolog.roles.role import Anatomy, Role
from homolog.sketch.plan import SMALL, Plans, ReadingPlan, count_blocks, spaced_layers
from homolog.sketch.sketch import UnitBlock
from homolog.sketch.stream import read_blocks, read_channels

if TYPE_CHECKING:
    from homolog.align.body import Body
    from homolog.examination.examined import Examined

__all__ = ["generators", "inspect", "look_at_checkpoint", "look_at_pair"]

_UNITS, _FEW_UNITS = 64, 32
"""Leading units read of every FFN: of small models, and of large ones, of which 32 that keep their index are one chance in 10^35."""

_SLAB = 128
_MOST_BLOCKS = 128
_LARGEST_WHOLE = 2**30
"""Bytes of a model up to which the FFNs are held whole if all numbers are looked at anyway."""
_LOUDNESS_LAYERS = 8
_MOST_FETCHED = 16 * 2**20
"""Bytes that are fetched of a model that lies elsewhere, at most."""


def inspect(
    checkpoint: Checkpoint, *, values: bool = False, announce: Callable[[str], None] = lambda text: None
) -> Inspection:
    """Say what a checkpoint is, and whether parts of it began as copies of each other.

    ``values`` reads every number to find NaN, infinities and zeroed or constant tensors, and compares whole FFNs; without it some rows of
    each tensor are sampled. ``announce`` is called with what is about to be fetched of a checkpoint that lies elsewhere, in words. Raises
    `MalformedCheckpoint` where config.json contradicts the shapes.
    """
    meter, names = checkpoint.meter, [file.name for file in checkpoint.files]
    start, requests = meter.count_distinct(names), meter.requests
    found = inspect_roles(checkpoint, values=values, announce=announce)
    alone = look_at_checkpoint(checkpoint, found.anatomy, values=values, announce=announce)
    warning = () if alone.basis.warning is None else (alone.basis.warning,)
    # rows that both looks read count once
    read = {
        "bytes": meter.count_distinct(names) - start,
        "of": checkpoint.nbytes,
        "requests": meter.requests - requests,
    }
    return replace(found, alone=alone.to_json(), warnings=(*found.warnings, *warning), read=read)


def look_at_checkpoint(
    checkpoint: Checkpoint,
    anatomy: Anatomy,
    *,
    values: bool = False,
    seed: int = 0,
    announce: Callable[[str], None] = lambda text: None,
) -> Alone:
    """Compare the blocks of one model with each other, reading some leading units of each; with ``values`` whole FFNs too, if they fit.

    Of a model that lies elsewhere little is fetched for it; where that is not enough, the reason says so. Raises CheckpointError where
    the file cannot be read.
    """
    if anatomy.reason:
        return Alone.missing("the architecture is not recognised")
    if anatomy.missing:
        return Alone.missing("tensors that the architecture needs are missing")
    whole = values and checkpoint.nbytes <= _LARGEST_WHOLE
    units = 0 if whole else _UNITS if checkpoint.nbytes <= SMALL else _FEW_UNITS
    experts = max(1, _MOST_BLOCKS // max(anatomy.dims.layers, 1))
    plan = ReadingPlan(units=units, experts=experts, slab=None if whole else _SLAB, whole=whole)

    def read() -> tuple[dict[Role, Array], list[UnitBlock]]:
        channels = read_channels(checkpoint, anatomy, plan)
        return channels, list(read_blocks(checkpoint, anatomy, plan, channels))

    with np.errstate(all="ignore"):  # NaN and Inf of a broken checkpoint are reported by name, not by warning
        if reason := _bring(checkpoint, read, announce):
            return Alone.missing(reason)
        channels, blocks = read()
        if not whole:
            # of wide models the leading channels are enough, and so much less is held
            blocks = [
                replace(
                    block,
                    up=block.up[:, :CHANNELS].copy(),
                    gate=None if block.gate is None else block.gate[:, :CHANNELS].copy(),
                )
                for block in blocks
            ]

        def rows() -> list[Array]:
            layers = spaced_layers(anatomy.dims.layers, _LOUDNESS_LAYERS)
            some = ReadingPlan(units=4 * _UNITS, experts=1, slab=None, whole=False, layers=layers)
            if _bring(checkpoint, lambda: list(read_blocks(checkpoint, anatomy, some, channels)), announce):
                return []
            found = [block for block in read_blocks(checkpoint, anatomy, some, channels) if not block.flaw]
            return [part for block in found for part in (block.gate, block.up) if part is not None]

        gains, rngs = norm_gains(channels, anatomy.dims.width), generators(seed)
        body = _read_body(checkpoint, anatomy) if values and not whole else None
        why = None if values else "not asked for: --values compares whole FFNs"
        return look_alone(anatomy, blocks, gains, rows, rngs, alike=why, body=body)


def _read_body(checkpoint: Checkpoint, anatomy: Anatomy) -> Body:
    from homolog.align.body import read_body  # noqa: PLC0415 - who only inspects does not wait for it

    return read_body(checkpoint, anatomy)


def _bring(checkpoint: Checkpoint, read: Callable[[], object], announce: Callable[[str], None]) -> str | None:
    """Fetch what ``read`` asks for of a model that lies elsewhere; in words, why not, if that is too much or not allowed."""
    remote = checkpoint.meter.remote
    if remote is None:
        return None
    with remote.rehearse() as wanted:
        read()
    plan = remote.plan(wanted)
    if not plan.pieces:
        return None
    if plan.bytes > _MOST_FETCHED:
        return f"{show_bytes(plan.bytes)} would have to be fetched for it: --values fetches the whole model"
    try:
        remote.require(plan.pieces)
    except (BudgetExceeded, NotCached):
        return "what it takes is not in the cache, and may not be fetched"
    announce(plan.describe(checkpoint.path, sum(checkpoint.meter.sizes[file] for file in checkpoint.files)))
    remote.fetch(plan, lambda _: None)
    return None


def look_at_pair(
    examined: Examined, plans: Sequence[Plans], models: Sequence[Checkpoint] = (), anatomies: Sequence[Anatomy] = ()
) -> tuple[Alone, Alone]:
    """Both models of a comparison, each by itself, from what was read of them.

    ``plans`` are the stages that reading may go through: the tests of all of them count, as it depends on the pair where it ends.
    ``models`` are large ones of which whole FFNs may be read for it. Raises CheckpointError where a file cannot be read.
    """
    pair = examined.pair
    if pair is None:
        missing = Alone.missing(examined.unresolved or "nothing of it was read")
        return missing, missing
    bodies: Sequence[Body | None] = examined.look.bodies or (None, None)
    if models and examined.look.bodies is None:
        with suppress(BudgetExceeded):
            bodies = [_read_body(model, anatomy) for model, anatomy in zip(models, anatomies, strict=True)]
    rngs = generators(pair.seed)
    a, b = (
        look_at_sketch(
            sketch,
            rngs,
            tests=sum(plan_tests(count_blocks(sketch.anatomy, plan[side])) for plan in plans),
            body=bodies[side] if models else None,
        )
        for side, sketch in enumerate((pair.a, pair.b))
    )
    return a, b


def generators(seed: int) -> Callable[..., Rngs]:
    """Generators for every purpose of one model."""

    def rngs(*purpose: object) -> Rngs:
        return lambda role: np.random.default_rng([seed, crc32(repr((*purpose, role)).encode())])

    return rngs
