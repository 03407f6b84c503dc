"""A sketch as it is kept in a file: rows as coordinates of a few bits, a handful of numbers as they were, and no row of a model whole.

`condense` makes one out of rows as read; `Condensed.unfold` gives back what the probes look at. A checkpoint that meets a sketch is
condensed too, so that both sides of a comparison went through the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from homolog.checkpoint.base import Array
from homolog.roles.role import Anatomy, Role
from homolog.sketch.kept_tokens import MOST_ORDINARY
from homolog.sketch.profile import unit_profile
from homolog.sketch.projection import Projection, Wide, fit_token_directions
from homolog.sketch.sketch import Sketch, TokenRows, UnitBlock, ValueBlock

__all__ = ["EXPERTS", "FLAWS", "PROJECT", "Block", "Condensed", "Coordinates", "Heads", "Router", "Table", "condense"]

FLAWS = (None, "contains NaN or Inf", "all zero", "cannot be used")
"""Why a block cannot be used, by the number that stands for it in a file."""

CHANNELS, COLUMNS = 512, 128
"""Leading residual channels of which norm gains, biases and norms are kept, and columns of the token tables."""
_HEADS, _DIMENSIONS = 4, 32
EXPERTS = 32
"""Leading rows of routers."""

PROJECT = "project"
"""The table that has input features for rows, not tokens."""

Picked = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Coordinates:
    """Rows of numbers of 8 or 16 bits, each row with its own scale."""

    numbers: npt.NDArray[np.int8] | npt.NDArray[np.int16]
    """(n, k)."""
    scale: Array
    """(n,); NaN for a row that holds NaN or Inf."""

    @classmethod
    def encode(cls, rows: Wide, kind: type[np.int8] | type[np.int16]) -> Coordinates:
        """Round to the nearest multiple of the row's largest number over 127, or over 32,767."""
        finite: npt.NDArray[np.bool_] = np.asarray(np.isfinite(rows).all(axis=1))
        safe = np.where(finite[:, None], rows, 0.0)
        limit = np.iinfo(kind).max
        scale = (np.abs(safe).max(axis=1, initial=0.0) / limit).astype(np.float32)
        # what is smaller than any float32 is nothing
        steps = np.where(scale > 0, scale.astype(np.float64), np.inf)
        numbers: Any = np.clip(np.rint(safe / steps[:, None]), -limit, limit).astype(kind)
        return cls(numbers, np.where(finite & np.isfinite(scale), scale, np.float32(np.nan)))

    def decode(self) -> Array:
        """The rows as float32; NaN where a row held NaN or Inf."""
        with np.errstate(all="ignore"):  # what a made-up scale makes infinite is a flaw, not a warning
            return np.asarray(self.numbers.astype(np.float32) * self.scale[:, None], dtype=np.float32)


@dataclass(frozen=True, slots=True)
class Block:
    """One FFN or expert: which it is and how many of the rows are its own."""

    layer: int
    expert: int
    shared: bool
    width: int
    count: int
    flaw: int


@dataclass(frozen=True, slots=True)
class Heads:
    """The value projection of one layer: ``heads`` in all, of which ``kept`` with ``dimensions`` rows each."""

    layer: int
    heads: int
    kept: int
    dimensions: int
    flaw: int


@dataclass(frozen=True, slots=True)
class Router:
    """The router of one layer: rows of its first ``kept`` experts."""

    layer: int
    experts: int
    kept: int


@dataclass(frozen=True, slots=True)
class Table:
    """A token table, by the kept tokens."""

    columns: Array
    """(t, c): the leading residual channels of ordinary tokens, as stored; of an input projection, of its leading features."""
    untrained: Coordinates
    """(u, k)."""
    ordinary_turned: Coordinates | None
    """(t, m): in the directions of the model's own tokens; of the table that these were found in."""
    untrained_turned: Coordinates | None
    precision: float
    flaw: int


@dataclass(frozen=True, slots=True)
class Condensed:
    """What is kept of one model."""

    projection: Projection
    blocks: tuple[Block, ...]
    up: Coordinates
    """(n, k), the rows of all blocks one after the other; so are the next four."""
    gate: Coordinates | None
    up_turned: Coordinates | None
    gate_turned: Coordinates | None
    profile: Array
    """(n, f): see `homolog.sketch.profile.unit_profile`."""
    profile_with_down: Array | None
    digests: npt.NDArray[np.uint8]
    """(blocks, 16)."""
    heads: tuple[Heads, ...]
    values: Coordinates
    routers: tuple[Router, ...]
    experts: Coordinates
    channels: Mapping[Role, Array]
    norms: Mapping[Role, Array]
    tables: Mapping[str, Table]
    spreads: Mapping[str, tuple[float, ...]]
    warnings: tuple[str, ...] = ()
    lattice: str = ""
    """How the FFN matrices are quantised; empty if they are not."""

    def unfold(self, anatomy: Anatomy, ordinary: Picked, untrained: Picked) -> Sketch:
        """What the probes look at, with the token rows at these positions among the kept ones."""
        frame = self.projection.frame(anatomy.dims.width)
        sketch = Sketch(
            anatomy=anatomy,
            units=tuple(self._units(self.up, self.gate)),
            values=tuple(self._values()),
            routers=dict(self._routers()),
            channels=self.channels,
            column_norms=self.norms,
            tokens={
                key: TokenRows(
                    rows := table.columns[ordinary] if key != PROJECT else table.columns,
                    table.untrained.decode()[untrained if key != PROJECT else slice(0)],
                    table.precision,
                    FLAWS[table.flaw] or _find_flaw(rows),
                )
                for key, table in self.tables.items()
            },
            spreads=self.spreads,
            warnings=self.warnings,
            frame=frame,
            lattice=self.lattice,
        )
        if self.up_turned is None:
            return sketch
        tokens = {
            key: TokenRows(
                first := table.ordinary_turned.decode()[ordinary] if table.ordinary_turned else rest[:0],
                rest,
                table.precision,
                FLAWS[table.flaw] or _find_flaw(first),
            )
            for key, table in self.tables.items()
            if table.untrained_turned is not None
            for rest in [table.untrained_turned.decode()[untrained]]
        }
        units = tuple(self._units(self.up_turned, self.gate_turned))
        return replace(sketch, turned=replace(sketch, units=units, tokens=tokens, frame="tokens"))

    def _units(self, up: Coordinates, gate: Coordinates | None) -> Iterator[UnitBlock]:
        rows, gates = up.decode(), gate.decode() if gate is not None else None
        names = 3 if gate is not None else 1
        start = 0
        for block, digest in zip(self.blocks, self.digests, strict=True):
            own = slice(start, start + block.count)
            start += block.count
            profile = self.profile[own]
            down = self.profile_with_down[own] if self.profile_with_down is not None else None
            first, second = rows[own], gates[own] if gates is not None else None
            yield UnitBlock(
                layer=block.layer,
                expert=block.expert,
                shared=block.shared,
                width=block.width,
                up=first,
                gate=second,
                down=None,
                bias=profile[:, names:] if profile.shape[1] > names else None,
                digest=digest.tobytes(),
                flaw=FLAWS[block.flaw] or _find_flaw(first, second, profile, down, zero_of=first),
                profiles=(profile, down),
            )

    def _values(self) -> Iterator[ValueBlock]:
        rows, start = self.values.decode(), 0
        for value in self.heads:
            stop = start + value.kept * value.dimensions
            own = rows[start:stop].reshape(value.kept, value.dimensions, -1)
            start = stop
            yield ValueBlock(value.layer, value.heads, own, FLAWS[value.flaw] or _find_flaw(own, zero_of=own))

    def _routers(self) -> Iterator[tuple[int, Array]]:
        rows, start = self.experts.decode(), 0
        for router in self.routers:
            yield router.layer, rows[start : start + router.kept]
            start += router.kept


def condense(sketch: Sketch, projection: Projection) -> Condensed:
    """Rows as read become coordinates; vectors over the residual channels keep their leading entries."""
    width = sketch.anatomy.dims.width
    length = min(width, projection.dimensions)
    base, directions = _find_directions(sketch.tokens)
    blocks = _alike(sketch.units)
    gated = bool(blocks) and blocks[0].gate is not None

    def project(part: str) -> Coordinates:
        return _encode([projection.apply(getattr(block, part)) for block in blocks], length)

    def turn(part: str) -> Coordinates | None:
        if directions is None:
            return None
        return _encode([getattr(block, part).astype(np.float64) @ directions for block in blocks], 0)

    values = [
        (value, rows := value.rows[:_HEADS, :_DIMENSIONS], projection.apply(rows.reshape(-1, rows.shape[2])))
        for value in sketch.values
    ]
    experts = sketch.anatomy.dims.experts
    routers = [(layer, rows[:EXPERTS], max(len(rows), experts)) for layer, rows in sketch.routers.items()]
    full = all(block.down is not None for block in blocks)
    return Condensed(
        projection=projection,
        blocks=tuple(Block(b.layer, b.expert, b.shared, b.width, len(b.up), _number_of(b.flaw)) for b in blocks),
        up=project("up"),
        gate=project("gate") if gated else None,
        up_turned=turn("up"),
        gate_turned=turn("gate") if gated else None,
        profile=_stack([unit_profile(b, channels=width, with_down=False) for b in blocks]),
        profile_with_down=_stack([unit_profile(b, channels=width, with_down=True) for b in blocks]) if full else None,
        digests=np.frombuffer(b"".join(b.digest for b in blocks), dtype=np.uint8).reshape(-1, 16),
        heads=tuple(Heads(v.layer, v.heads, rows.shape[0], rows.shape[1], _number_of(v.flaw)) for v, rows, _ in values),
        values=_encode([rows for _, _, rows in values], length),
        routers=tuple(Router(layer, count, len(rows)) for layer, rows, count in routers),
        experts=_encode([projection.apply(rows) for _, rows, _ in routers], length),
        channels={role: vector[:CHANNELS] for role, vector in sketch.channels.items()},
        norms={role: vector[:CHANNELS] for role, vector in sketch.column_norms.items()},
        tables={
            key: _condense_table(
                table,
                projection,
                ordinary=directions if key == base else None,
                untrained=directions if key != PROJECT else None,
            )
            for key, table in sketch.tokens.items()
        },
        spreads=sketch.spreads,
        warnings=sketch.warnings,
        lattice=sketch.lattice,
    )


def _condense_table(
    table: TokenRows, projection: Projection, *, ordinary: Wide | None, untrained: Wide | None
) -> Table:
    def turn(rows: Array, directions: Wide | None) -> Coordinates | None:
        return Coordinates.encode(rows.astype(np.float64) @ directions, np.int16) if directions is not None else None

    return Table(
        columns=table.ordinary[:MOST_ORDINARY, :COLUMNS],
        untrained=Coordinates.encode(projection.apply(table.untrained), np.int16),
        ordinary_turned=turn(table.ordinary, ordinary),
        untrained_turned=turn(table.untrained, untrained),
        precision=max(table.precision, 2.0**-14),
        flaw=_number_of(table.flaw),
    )


def _find_directions(tokens: Mapping[str, TokenRows]) -> tuple[str, Wide | None]:
    """The first usable table, and the directions of its tokens."""
    for key in ("embed", "unembed"):
        if key in tokens and tokens[key].flaw is None:
            return key, fit_token_directions(tokens[key])
    return "", None


def _alike(blocks: Sequence[UnitBlock]) -> list[UnitBlock]:
    """The blocks with the parts that all of them have: tests compare blocks of one kind only."""
    gated = all(block.gate is not None for block in blocks)
    biases = {block.bias.shape[1] if block.bias is not None else 0 for block in blocks}
    return [
        replace(block, gate=block.gate if gated else None, bias=block.bias if len(biases) == 1 else None)
        for block in blocks
    ]


def _encode(parts: Sequence[Wide], length: int) -> Coordinates:
    return Coordinates.encode(np.concatenate(parts) if parts else np.empty((0, length)), np.int8)


def _stack(parts: Sequence[Array]) -> Array:
    return np.concatenate(parts) if parts else np.empty((0, 0), dtype=np.float32)


def _number_of(flaw: str | None) -> int:
    return FLAWS.index(flaw) if flaw in FLAWS else len(FLAWS) - 1


def _find_flaw(*arrays: Array | None, zero_of: Array | None = None) -> str | None:
    if any(array is not None and not np.isfinite(array).all() for array in arrays):
        return FLAWS[1]
    return FLAWS[2] if zero_of is not None and zero_of.size and not zero_of.any() else None
