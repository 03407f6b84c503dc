"""Every layer of B against every layer of A, as the files store them and in the frame that was fitted: a picture, not a statistic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from homolog.align.body import Block, Body, spread
from homolog.align.matching import unit_rows
from homolog.align.residual import Frame
from homolog.checkpoint.base import Array

__all__ = ["Heat", "measure_heat"]

_BLOCKS = 32
"""FFNs of a side that are looked at, at most: of deeper models layers spread evenly over the depth."""

_WORK = 2e10
"""Multiplications that comparing units may cost in one frame, about a second."""

_FEWEST, _MOST = 8, 128
"""Units of an FFN of B that are looked up."""


@dataclass(frozen=True, slots=True)
class Heat:
    """Share of units of a layer of B whose gate, up and down all point to the same unit of a layer of A."""

    a: tuple[int, ...]
    """Layers of A: the columns."""
    b: tuple[int, ...]
    """Layers of B: the rows."""
    units: int
    """Units looked up in every FFN of B, at most."""
    stored: tuple[tuple[float, ...], ...] | None
    """In the frame of the files; ``None`` where the residual streams differ in width."""
    fitted: tuple[tuple[float, ...], ...]
    """In the body frame."""

    def to_json(self) -> dict[str, Any]:
        """As the document has it, under ``agreement.heat``."""
        grids = {
            name: None if grid is None else [[round(share, 4) for share in row] for row in grid]
            for name, grid in (("stored", self.stored), ("fitted", self.fitted))
        }
        return {"a": list(self.a), "b": list(self.b), "units": self.units, **grids}


def measure_heat(a: Body, b: Body, frame: Frame) -> Heat | None:
    """Shares over all pairs of layers; of several FFNs of a layer the best pair counts. ``None`` where one layer holds too many FFNs.

    ``frame`` is that of the two bodies. Deterministic.
    """
    of_a, of_b = _thin(a), _thin(b)
    if not of_a or not of_b:
        return None
    each = len(of_b) * sum(block.units.gate.size for block in of_a) * (3 if a.gated else 2)
    most = int(np.clip(_WORK / max(each, 1), _FEWEST, _MOST))
    signless = a.signless or b.signless
    stored = _shares(of_a, of_b, None, most, signless=signless) if a.width == b.width else None
    layers = [tuple(sorted({block.layer for block in blocks})) for blocks in (of_a, of_b)]
    return Heat(layers[0], layers[1], most, stored, _shares(of_a, of_b, frame, most, signless=signless))


def _thin(body: Body) -> list[Block]:
    """All FFNs of as many layers as may be looked at, from the first to the last."""
    layers = sorted({block.layer for block in body.blocks})
    for count in range(len(layers), 0, -1):
        kept = set(spread(layers, count))
        blocks = [block for block in body.blocks if block.layer in kept]
        if len(blocks) <= _BLOCKS:
            return blocks
    return []


def _shares(
    a: Sequence[Block], b: Sequence[Block], frame: Frame | None, most: int, *, signless: bool
) -> tuple[tuple[float, ...], ...]:
    """In ``frame``, or as the files store both."""
    rows, columns = (
        {layer: i for i, layer in enumerate(sorted({block.layer for block in blocks}))} for blocks in (b, a)
    )
    shares = np.zeros((len(rows), len(columns)))
    # Where the frame keeps all directions of A it turns only the few units of B that are asked, into A's own basis.
    whole = frame is not None and frame.a.shape[0] == frame.rank
    turn_a = None if frame is None or whole else frame.a
    turn_b = None if frame is None else frame.b @ frame.a.T if whole else frame.b
    known = [_turn(block.units.parts, turn_a) for block in a]
    for block in b:
        # Of a truncated FFN only the stronger half is sure to be among those that the other side kept.
        asked = block.units.take(block.units.strongest(min(most, len(block.units) // 2 if block.cut else most)))
        parts = _turn(asked.parts, turn_b)
        for other, theirs in zip(a, known, strict=True):
            cell = rows[block.layer], columns[other.layer]
            shares[cell] = max(shares[cell], float(_agreeing(parts, theirs, signless=signless).mean()))
    return tuple(tuple(float(share) for share in row) for row in shares)


def _turn(parts: Sequence[Array], basis: Array | None) -> list[Array]:
    return [unit_rows(part if basis is None else part @ basis) for part in parts]


def _agreeing(parts: Sequence[Array], theirs: Sequence[Array], *, signless: bool) -> npt.NDArray[np.bool_]:
    gates = parts[0] @ theirs[0].T
    partner = (np.abs(gates) if signless else gates).argmax(axis=1)
    same = np.ones(len(partner), dtype=bool)
    for mine, other in zip(parts[1:], theirs[1:], strict=True):
        cosine = mine @ other.T
        # In a gated FFN the sign of up and down is free jointly.
        same &= (np.abs(cosine) if len(parts) == 3 else cosine).argmax(axis=1) == partner
    return same
