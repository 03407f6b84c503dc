"""Agreement unit by unit and cosine by cosine, as `homolog.align.agreement` says it in words."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from homolog.align.body import Body
from homolog.align.residual import Frame
from homolog.checkpoint.base import Array

Vectors = npt.NDArray[np.float64]


def naive_agreement(wanted: Body, among: Body, frame: Frame) -> dict[int, float]:
    """Share of the units of each layer of ``wanted`` whose vectors all point to one unit; ``frame.a`` is the basis of ``wanted``."""
    hits: dict[int, list[bool]] = {}
    for block in wanted.blocks:
        mine = [_unit(part @ frame.a) for part in block.units.parts]
        layers = {other.layer: [o for o in among.blocks if o.layer == other.layer] for other in among.blocks}
        found = {
            layer: [
                _best(mine, unit, [[_unit(part @ frame.b) for part in o.units.parts] for o in blocks])
                for unit in range(len(mine[0]))
            ]
            for layer, blocks in layers.items()
        }
        source = max(found, key=lambda layer: float(np.mean([cosine for cosine, _ in found[layer]])))
        hits.setdefault(block.layer, []).extend(agrees for _, agrees in found[source])
    return {layer: float(np.mean(agreed)) for layer, agreed in hits.items()}


def _best(mine: list[Vectors], unit: int, ffns: list[list[Vectors]]) -> tuple[float, bool]:
    """The largest cosine of the unit's gate in a layer, and whether up and down point to the unit it belongs to within its FFN."""
    cosine, ffn, partner = max(
        (float(mine[0][unit] @ gate), ffn, place)
        for ffn, parts in enumerate(ffns)
        for place, gate in enumerate(parts[0])
    )
    free = len(mine) == 3
    agrees = True
    for own, theirs in zip(mine[1:], ffns[ffn][1:], strict=True):
        likeness = [float(own[unit] @ other) for other in theirs]
        agrees = agrees and int(np.argmax(np.abs(likeness) if free else likeness)) == partner
    return cosine, agrees


def _unit(rows: Array) -> Vectors:
    wide = rows.astype(np.float64)
    return np.asarray(wide / np.linalg.norm(wide, axis=1, keepdims=True))
